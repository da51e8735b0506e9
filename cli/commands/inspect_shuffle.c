/* SPDX-License-Identifier: Apache-2.0 */
/* Puts a kernel's chunks into words and numbers. */
#include "cli/commands/inspect_shuffle.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "host/mode.h"

static const struct {
	const char *name, *meaning;
} pins[] = {
    [SHUFFLE_PIN_NONE] = {"", ""},
    [SHUFFLE_PIN_HEAD] = {"head", "the first bytes of the image, whose address is its own, and what is tied to them"},
    [SHUFFLE_PIN_SECTION] = {"section", "entry code, thunks, and holes that the linker left between such"},
    [SHUFFLE_PIN_UNEXPLAINED] = {"unexplained", "bytes whose role is not known"},
    [SHUFFLE_PIN_LARGE] = {"large", "what must stay together is more than a chunk may have"},
    [SHUFFLE_PIN_ALIGNED] = {"aligned", "begins or ends where no chunk can"},
    [SHUFFLE_PIN_PAGE] = {"page", "written, copied or mapped by page"},
    [SHUFFLE_PIN_ISLAND] = {"island", "few functions between pinned code, which is in too many places"},
};
#define PINS (sizeof pins / sizeof *pins)

static const char *table_name(uint32_t kind)
{
	switch (kind) {
	case RIFFLE_TABLE_EXTABLE:
		return "exceptions";
	case RIFFLE_TABLE_ORC:
		return "ORC";
	case RIFFLE_TABLE_MCOUNT:
		return "mcount";
	case RIFFLE_TABLE_SITES:
		return "code sites";
	}
	return "other";
}

const char *shuffle_plain(char *to, size_t bytes, const char *from)
{
	size_t i = 0;

	for (; i + 1 < bytes && from[i]; i++)
		to[i] = from[i] >= ' ' && from[i] <= '~' ? from[i] : '?';
	to[i] = 0;
	return to;
}

static double percent(uint64_t part, uint64_t whole)
{
	return whole ? 100 * (double)part / (double)whole : 0;
}

static double plan_share(const struct shuffle_account *a)
{
	return percent(a->plan->header->plan_bytes, a->plan->header->load_bytes);
}

static bool closes_kallsyms(const struct shuffle_account *a)
{
	return a->plan->header->features & RIFFLE_FEATURE_KALLSYMS_MODE;
}

void print_shuffle_summary(const struct shuffle_account *a)
{

	if (a->stats.chunks)
		printf("%-17s %" PRIu32 " chunks of functions, %" PRIu64 " bytes, in %" PRIu32 " region%s\n", "shuffle",
		       a->stats.chunks, a->stats.bytes, a->stats.regions, a->stats.regions == 1 ? "" : "s");
	else
		printf("%-17s impossible: %s\n", "shuffle", mode_no_shuffle(a->plan->header));
	if (a->stats.chunks)
		printf("%-17s %s\n", "/proc/kallsyms",
		       closes_kallsyms(a)
			   ? "closed to users by a shuffle: its lines are in the new order"
			   : "open to users, who read the new order there after a shuffle: where its mode is set is "
			     "not known");
	printf("%-17s %" PRIu64 " bytes, %.1f %% of the segments'\n", "plan", a->plan->header->plan_bytes,
	       plan_share(a));
}

/* --- JSON --- */

static json_t *pinned_json(const struct shuffle_account *a)
{
	json_t *array = json_array();
	char name[256];

	for (uint32_t i = 0; i < a->shuffle->range_count; i++) {
		const struct shuffle_range *r = &a->shuffle->range[i];

		if (!r->pin || r->pin >= PINS)
			continue;
		json_array_append_new(
		    array,
		    json_pack("{s:I, s:o, s:I, s:s, s:I, s:s}", "image_offset", (json_int_t)r->offset, "link_virtual",
			      json_sprintf("0x%" PRIx64, a->plan->header->link_virt + r->offset), "bytes",
			      (json_int_t)r->bytes, "reason", pins[r->pin].name, "functions", (json_int_t)r->functions,
			      "first_symbol", shuffle_plain(name, sizeof name, r->name)));
	}
	return array;
}

static json_t *tables_json(const struct riffle_plan *plan)
{
	json_t *array = json_array();

	for (uint32_t i = 0; i < plan->table_count; i++)
		json_array_append_new(array, json_pack("{s:s, s:I}", "kind", table_name(plan->tables[i].kind),
						       "entries", (json_int_t)plan->tables[i].entries));
	if (plan->kallsyms)
		json_array_append_new(
		    array, json_pack("{s:s, s:I}", "kind", "kallsyms", "entries", (json_int_t)plan->kallsyms->symbols));
	return array;
}

/*
 * No address of a chunk is likelier than one in n: it is the sum of the chunks before it, and a rank of its own is as
 * likely as any. Of the pairs of base and place that give one address, there are no more than bases_left().
 */
struct shuffle_entropy shuffle_entropy(const struct shuffle_account *a)
{
	const struct chunk_stats *s = &a->stats;
	struct shuffle_entropy e = {
	    .place_bits = s->largest_chunks ? log2(s->largest_chunks) : 0,
	    .base_bits = a->virtual_slots ? log2((double)a->virtual_slots) : 0,
	    .bases_left = bases_left(s, a->virtual_slots ? a->virtual_slots : 1),
	    .other_bits = s->largest_chunks > 1 ? log2(s->largest_chunks - 1.0) : 0,
	};

	e.address_bits = e.place_bits + e.base_bits - log2((double)e.bases_left);
	return e;
}

static void add_entropy(json_t *object, const struct shuffle_account *a)
{
	struct shuffle_entropy e = shuffle_entropy(a);

	json_object_set_new(object, "largest_region",
			    json_pack("{s:I, s:f, s:f}", "chunks", (json_int_t)a->stats.largest_chunks, "place_bits",
				      e.place_bits, "address_bits_least", e.address_bits));
	json_object_set_new(object, "leaked_function_pointer",
			    json_pack("{s:I, s:I, s:f, s:f}", "chunk_bytes_most", (json_int_t)a->stats.size[4],
				      "bases_left", (json_int_t)e.bases_left, "base_bits_left",
				      log2((double)e.bases_left), "place_bits_left", e.other_bits));
	json_object_set_new(object, "leaked_data_pointer", json_pack("{s:f}", "place_bits_left", e.place_bits));
}

static void add_account(json_t *object, const struct shuffle_account *a)
{
	const struct chunk_stats *s = &a->stats;

	json_object_set_new(object, "chunk_bytes",
			    json_pack("{s:I, s:I, s:I, s:I, s:I}", "least", (json_int_t)s->size[0], "median",
				      (json_int_t)s->size[1], "90%", (json_int_t)s->size[2], "99%",
				      (json_int_t)s->size[3], "most", (json_int_t)s->size[4]));
	json_object_set_new(object, "references",
			    json_pack("{s:I, s:I, s:I, s:I, s:I, s:I}", "pc32", (json_int_t)s->pc32, "own32",
				      (json_int_t)s->own32, "abs32", (json_int_t)s->abs32, "abs64",
				      (json_int_t)s->abs64, "fixed32", (json_int_t)s->fixed32, "fixed64",
				      (json_int_t)s->fixed64));
	json_object_set_new(object, "tables", tables_json(a->plan));
	add_entropy(object, a);
	if (!a->shuffle)
		return;
	json_object_set_new(object, "function_bytes", json_integer((json_int_t)a->shuffle->census.function_bytes));
	json_object_set_new(object, "function_bytes_that_move",
			    json_integer((json_int_t)a->shuffle->census.movable_bytes));
	json_object_set_new(object, "function_bytes_not_alone",
			    json_integer((json_int_t)a->shuffle->census.multi_function_bytes));
	json_object_set_new(object, "words_scanned", json_integer((json_int_t)a->shuffle->census.words_scanned));
	json_object_set_new(object, "words_chance", json_integer((json_int_t)a->shuffle->census.words_chance));
	json_object_set_new(object, "pinned", pinned_json(a));
}

json_t *shuffle_json(const struct shuffle_account *a, bool all)
{
	const struct chunk_stats *s = &a->stats;
	json_t *object = json_pack("{s:b, s:I, s:f}", "possible", s->chunks != 0, "plan_bytes",
				   (json_int_t)a->plan->header->plan_bytes, "plan_percent", plan_share(a));

	if (!s->chunks) {
		json_object_set_new(object, "reason", json_string(mode_no_shuffle(a->plan->header)));
		return object;
	}
	json_object_update_new(object,
			       json_pack("{s:b, s:I, s:I, s:I, s:I, s:f, s:f}", "closes_kallsyms", closes_kallsyms(a),
					 "chunks", (json_int_t)s->chunks, "regions", (json_int_t)s->regions, "alone",
					 (json_int_t)s->alone, "movable_bytes", (json_int_t)s->bytes, "order_bits",
					 s->order_bits, "place_bits", s->place_bits));
	if (all)
		add_account(object, a);
	return object;
}

/* --- text --- */

static void print_pinned(const struct shuffle_account *a)
{
	uint64_t bytes[PINS] = {0};
	uint32_t ranges[PINS] = {0};
	char name[80];

	puts("pinned:\n  offset      link address             bytes  functions  reason       first symbol");
	for (uint32_t i = 0; i < a->shuffle->range_count; i++) {
		const struct shuffle_range *r = &a->shuffle->range[i];

		if (!r->pin || r->pin >= PINS)
			continue;
		printf("  0x%08" PRIx32 "  0x%016" PRIx64 "  %8" PRIu32 "  %9" PRIu32 "  %-11s  %s\n", r->offset,
		       a->plan->header->link_virt + r->offset, r->bytes, r->functions, pins[r->pin].name,
		       shuffle_plain(name, sizeof name, r->name));
		bytes[r->pin] += r->bytes;
		ranges[r->pin]++;
	}
	puts("\nreasons:");
	for (unsigned i = 1; i < PINS; i++)
		if (ranges[i])
			printf("  %-11s  %8" PRIu64 " bytes in %" PRIu32 " range%s: %s\n", pins[i].name, bytes[i],
			       ranges[i], ranges[i] == 1 ? "" : "s", pins[i].meaning);
	putchar('\n');
}

static void print_census(const struct shuffle_census *c)
{
	printf("%-17s %" PRIu64 " bytes of ordinary C functions, of which %.2f %% move\n", "functions",
	       c->function_bytes, percent(c->movable_bytes, c->function_bytes));
	printf("%-17s %.2f %% of these lie in chunks of more than one function\n", "",
	       percent(c->multi_function_bytes, c->movable_bytes));
	printf("%-17s %" PRIu64 " words outside code and known tables tried, %" PRIu64
	       " read as references by chance\n",
	       "census", c->words_scanned, c->words_chance);
	if (c->rela_checked)
		printf("%-17s %" PRIu64 " relocations of the debug vmlinux, %" PRIu64 " of them found without it\n", "",
		       c->rela_checked, c->rela_agree);
}

static void print_tables(const struct riffle_plan *plan)
{
	const char *before = "";

	printf("%-17s", "tables");
	for (uint32_t kind = RIFFLE_TABLE_EXTABLE; kind <= RIFFLE_TABLE_SITES; kind++) {
		uint64_t entries = 0;
		uint32_t tables = 0;

		for (uint32_t i = 0; i < plan->table_count; i++) {
			if (plan->tables[i].kind != kind)
				continue;
			entries += plan->tables[i].entries;
			tables++;
		}
		if (!tables)
			continue;
		printf("%s %" PRIu64 " %s", before, entries, table_name(kind));
		if (tables > 1)
			printf(" (in %" PRIu32 " tables)", tables);
		before = ",";
	}
	if (plan->kallsyms)
		printf("%s %" PRIu32 " kallsyms", before, plan->kallsyms->symbols);
	puts(plan->table_count || plan->kallsyms ? "" : " none");
}

static void print_sums(const struct shuffle_account *a)
{
	const struct chunk_stats *s = &a->stats;

	print_shuffle_summary(a);
	if (s->alone)
		printf("%-17s %" PRIu32 " of the chunks: no other in their region, they stay\n", "", s->alone);
	printf("%-17s median %" PRIu32 ", 90 %% up to %" PRIu32 ", 99 %% up to %" PRIu32 ", largest %" PRIu32
	       " bytes\n",
	       "chunk sizes", s->size[1], s->size[2], s->size[3], s->size[4]);
	if (a->shuffle)
		print_census(&a->shuffle->census);
	printf("%-17s in chunks: %" PRIu64 " PC-relative to chunks, %" PRIu64 " to what stays; %" PRIu64
	       " absolute to chunks of 32 bits, %" PRIu64 " of 64\n",
	       "references", s->pc32, s->own32, s->abs32, s->abs64);
	printf("%-17s to chunks from elsewhere: %" PRIu64 " of 32 bits, %" PRIu64 " of 64\n", "", s->fixed32,
	       s->fixed64);
	print_tables(a->plan);
}

static void print_entropy(const struct shuffle_account *a)
{
	const struct chunk_stats *s = &a->stats;
	struct shuffle_entropy e = shuffle_entropy(a);

	puts("\nentropy:");
	printf("  the order: %.0f bits, log2 of the number of orders (drawn by a key of 256 bits)\n", s->order_bits);
	printf(
	    "  one function of the largest region: %.1f bits for its place when the base is known (on average of all\n"
	    "  %.1f): no guess is right more often than once in %" PRIu32
	    "; its address, base unknown: at least %.1f bits\n",
	    e.place_bits, s->place_bits, s->largest_chunks, e.address_bits);
	puts("\nwhat one leaked pointer gives away:");
	printf(
	    "  to a function that moves: that function and the rest of its chunk (%" PRIu32 " bytes at most), and the\n"
	    "    virtual base but for %" PRIu64 " candidate%s (%.1f of %.1f bits are left); of every other function\n"
	    "    that moves still about %.1f bits are unknown\n",
	    s->size[4], e.bases_left, e.bases_left == 1 ? "" : "s", log2((double)e.bases_left), e.base_bits,
	    e.other_bits);
	printf("  to pinned code, or without slides to data: the virtual base, and so all pinned code, and without "
	       "slides\n"
	       "    all data; of every function that moves still %.1f bits are unknown\n",
	       e.place_bits);
	puts("  without shuffle and slides either one gives away every address of the image");
	puts("  these numbers hold against guessing; whoever can run code that does not move, a piece at a time, may "
	     "need\n"
	     "    no guess (riffle inspect --strength tells), and whoever can read memory at will reads pointers to\n"
	     "    functions there, and needs none");
}

void print_chunks(const struct shuffle_account *a)
{
	if (a->stats.chunks && a->shuffle)
		print_pinned(a);
	else if (a->stats.chunks)
		puts("pinned: not told by a prepared kernel; ask the kernel that it was made from\n");
	if (!a->stats.chunks) {
		print_shuffle_summary(a);
		return;
	}
	print_sums(a);
	print_entropy(a);
}
