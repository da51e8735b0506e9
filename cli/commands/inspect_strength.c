/* SPDX-License-Identifier: Apache-2.0 */
/* Puts a kernel's strength against leaked pointers and code reuse into words and numbers. */
#include "cli/commands/inspect_strength.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/bytes.h"
#include "common/fail.h"

/* Names for the gadgets that are left; a kernel without kallsyms is measured all the same. */
static int read_symbols(struct strength_account *s, const struct riffle_image *image, struct riffle_error *error)
{
	uint8_t *flat = calloc(image->image_bytes, 1);
	struct riffle_error none;

	if (!flat)
		return riffle_fail(error, RIFFLE_ERR_MEMORY, "symbols", "out of memory");
	for (unsigned i = 0; i < image->segment_count; i++) {
		const struct image_segment *segment = &image->segment[i];
		uint64_t offset = segment->phys - image->link_phys;

		if (riffle_inside(offset, segment->file_bytes, image->image_bytes))
			memcpy(flat + offset, segment->bytes, segment->file_bytes);
	}
	symbols_init(&s->symbols, image->link_virt, image->link_virt + image->image_bytes);
	if (symbols_from_kallsyms(&s->symbols, flat, image->image_bytes, &none))
		symbols_free(&s->symbols);
	free(flat);
	return RIFFLE_OK;
}

static int make_leaks(struct strength_account *s, const struct shuffle_account *account, struct riffle_error *error)
{
	const struct leak_limits limits = {
	    .slots = account->virtual_slots,
	    .slots_slid = account->virtual_slots_slid,
	    .block = account->plan->blocks,
	    .block_count = account->plan->block_count,
	    .balanced = account->plan->header->features & RIFFLE_FEATURE_BALANCED,
	    .chunks = account->stats.largest_chunks,
	    .region_bytes = account->stats.largest_bytes,
	    .kit = s->strength.kit,
	};

	return leak_table_make(&s->leaks, &limits, error);
}

int strength_account_make(struct strength_account *s, const struct riffle_image *image,
			  const struct shuffle_account *account, struct riffle_error *error)
{
	int status;

	s->link_virt = image->link_virt;
	status = strength_measure(&s->strength, image, account->shuffle, error);
	if (!status)
		status = read_symbols(s, image, error);
	return status ? status : make_leaks(s, account, error);
}

void strength_account_end(struct strength_account *s)
{
	strength_free(&s->strength);
	symbols_free(&s->symbols);
}

/* The function that a gadget lies in; the table's name, or "" when there is none. */
static const char *function_of(const struct strength_account *s, const struct strength_gadget *g, uint64_t *offset)
{
	struct symbol_place place;

	*offset = 0;
	if (!s->symbols.count || !symbols_find(&place, &s->symbols, s->link_virt + g->offset))
		return "";
	*offset = place.offset;
	return place.name;
}

static bool shuffles(const struct strength_account *s)
{
	return s->leaks.has[LEAK_MODE_FGKASLR];
}

/* The gadgets that stay where they are in relation to the text base. */
static const struct strength_counts *fixed_in(const struct strength_account *s, enum leak_mode mode)
{
	return leak_mode_shuffles(mode) ? &s->strength.fixed : &s->strength.all;
}

/* What a distance to gadgets can be fixed from. */
static const enum leak anchors[] = {LEAK_FIXED, LEAK_DATA, LEAK_RODATA};
static const char *const anchor_names[] = {"from_text_base", "from_data", "from_read_only_data"};
#define ANCHORS (sizeof anchors / sizeof *anchors)

/* No gadget is at a fixed distance from what leaves more than one text base possible. */
static bool is_fixed_from(const struct strength_account *s, enum leak_mode mode, enum leak anchor)
{
	return s->leaks.left[mode][anchor].bases == 1;
}

/* --- JSON --- */

static json_t *counts_json(const struct strength_counts *counts)
{
	json_t *object = json_pack("{s:I}", "starts", (json_int_t)counts->starts);

	for (unsigned i = 0; i < STRENGTH_CLASSES; i++)
		json_object_set_new(object, strength_class_name(i), json_integer((json_int_t)counts->class[i]));
	return object;
}

static json_t *gadgets_json(const struct strength_account *s)
{
	json_t *array = json_array();

	for (uint32_t i = 0; i < s->strength.gadget_count; i++) {
		const struct strength_gadget *g = &s->strength.gadget[i];
		json_t *classes = json_array();
		uint64_t offset;
		char name[256];

		for (unsigned k = 0; k < STRENGTH_CLASSES; k++)
			if (g->classes >> k & 1)
				json_array_append_new(classes, json_string(strength_class_name(k)));
		shuffle_plain(name, sizeof name, function_of(s, g, &offset));
		json_array_append_new(array, json_pack("{s:o, s:s, s:I, s:o}", "link_virtual",
						       json_sprintf("0x%" PRIx64, s->link_virt + g->offset), "symbol",
						       name, "offset", (json_int_t)offset, "classes", classes));
	}
	return array;
}

static json_t *leak_json(const struct leak_left *left, enum leak_mode mode, enum leak leak)
{
	json_t *row = json_pack("{s:s, s:s}", "mode", leak_mode_name(mode), "pointer_to", leak_name(leak));
	char key[64];

	for (unsigned i = 0; i < LEAK_PLACES; i++) {
		snprintf(key, sizeof key, "%s_bits", leak_place_name(i));
		json_object_set_new(row, key, json_real(left->place[i]));
	}
	json_object_set_new(row, "function_bits", json_real(left->function));
	json_object_set_new(row, "function_bits_with_code_reuse", json_real(left->function_reuse));
	return row;
}

static json_t *leaks_json(const struct strength_account *s)
{
	json_t *array = json_array();

	for (unsigned mode = 0; mode < LEAK_MODES; mode++)
		for (unsigned leak = 0; s->leaks.has[mode] && leak < LEAKS; leak++)
			json_array_append_new(array, leak_json(&s->leaks.left[mode][leak], mode, leak));
	return array;
}

static json_t *fixed_json(const struct strength_account *s, enum leak_mode mode)
{
	static const struct strength_counts none;
	json_t *object = json_object();

	for (unsigned i = 0; i < ANCHORS; i++) {
		json_t *counts = counts_json(is_fixed_from(s, mode, anchors[i]) ? fixed_in(s, mode) : &none);

		json_object_set_new(counts, "bases", json_integer((json_int_t)s->leaks.left[mode][anchors[i]].bases));
		json_object_set_new(object, anchor_names[i], counts);
	}
	return object;
}

json_t *strength_json(const struct strength_account *s)
{
	json_t *modes = json_object();

	for (unsigned mode = 0; mode < LEAK_MODES; mode++)
		if (s->leaks.has[mode])
			json_object_set_new(modes, leak_mode_name(mode), fixed_json(s, mode));
	return json_pack("{s:i, s:I, s:I, s:o, s:o, s:b, s:o, s:o}", "instructions", (int)STRENGTH_INSTRUCTIONS,
			 "text_bytes", (json_int_t)s->strength.text_bytes, "fixed_bytes",
			 (json_int_t)s->strength.fixed_bytes, "gadgets", counts_json(&s->strength.all), "fixed", modes,
			 "fixed_code_suffices", s->strength.kit, "leaks", leaks_json(s), "useful_fixed",
			 shuffles(s) ? gadgets_json(s) : json_array());
}

/* --- text --- */

static void print_classes(const struct strength_account *s)
{
	const struct strength_counts *all = &s->strength.all, *fixed = &s->strength.fixed;

	printf("gadgets: up to %u instructions, the last one a return or an indirect jump or call; at a fixed distance "
	       "from\n"
	       "the text base, with or without slides\n"
	       "  %-12s  %10s  %10s  %10s\n",
	       STRENGTH_INSTRUCTIONS, "class", "all", "kaslr", shuffles(s) ? "fgkaslr" : "");
	for (int i = -1; i < STRENGTH_CLASSES; i++) {
		uint64_t of_all = i < 0 ? all->starts : all->class[i],
			 of_fixed = i < 0 ? fixed->starts : fixed->class[i];

		printf("  %-12s  %10" PRIu64 "  %10" PRIu64, i < 0 ? "starts" : strength_class_name(i), of_all, of_all);
		if (shuffles(s))
			printf("  %10" PRIu64 "  %6.3f %%", of_fixed,
			       of_all ? 100 * (double)of_fixed / (double)of_all : 0);
		putchar('\n');
	}
	if (shuffles(s))
		printf("code that does not move: %" PRIu64 " of %" PRIu64 " bytes\n", s->strength.fixed_bytes,
		       s->strength.text_bytes);
}

static void print_anchor(const struct strength_account *s, enum leak_mode mode, enum leak anchor)
{
	uint64_t bases = s->leaks.left[mode][anchor].bases;
	char text[64];

	if (is_fixed_from(s, mode, anchor))
		snprintf(text, sizeof text, "%" PRIu64, fixed_in(s, mode)->starts);
	else
		snprintf(text, sizeof text, "0 (%" PRIu64 " distances)", bases);
	printf("  %18s", text);
}

static void print_anchors(const struct strength_account *s)
{
	printf("\ngadget starts at a fixed distance from a pointer to\n  %-13s  %18s  %18s  %18s\n", "mode",
	       "the text base", "data", "read-only data");
	for (unsigned mode = LEAK_MODE_KASLR; mode < LEAK_MODES; mode++) {
		if (!s->leaks.has[mode])
			continue;
		printf("  %-13s", leak_mode_name(mode));
		for (unsigned i = 0; i < ANCHORS; i++)
			print_anchor(s, mode, anchors[i]);
		putchar('\n');
	}
}

static void print_leak(const struct leak_left *left, enum leak_mode mode, enum leak leak)
{
	static const int widths[LEAK_PLACES] = {4, 9, 4, 4, 4};

	printf("  %-13s  %-23s", leak_mode_name(mode), leak_words(leak));
	for (unsigned i = 0; i < LEAK_PLACES; i++)
		printf("  %*.1f", widths[i], left->place[i]);
	printf("  %8.1f  %12.1f\n", left->function, left->function_reuse);
}

static void print_leaks(const struct strength_account *s)
{
	puts("\nwhat is left to guess, in bits, of whoever has one leaked pointer to\n"
	     "  mode           pointer to               base  read-only  data  .bss  .brk  function  reusing code");
	for (unsigned mode = LEAK_MODE_KASLR; mode < LEAK_MODES; mode++)
		for (unsigned leak = 0; s->leaks.has[mode] && leak < LEAKS; leak++)
			print_leak(&s->leaks.left[mode][leak], mode, leak);
	if (s->no_slides[0])
		printf("\nno slides: %s\n", s->no_slides);
	puts("\nEach number holds against a single guess without reading memory.");
	if (!shuffles(s))
		return;
	puts("function: one that moves, other than the one that leaked.");
	if (s->strength.kit)
		puts("reusing code: the fixed code has what it takes to read a function's address out of the kernel's "
		     "tables\n"
		     "and to go there; whoever controls a stack or a pointer to a function needs no more than the "
		     "base, from\n"
		     "which text that can be read tells where all other blocks are.");
	else
		puts("reusing code: the fixed code lacks what it takes to read a function's address and to go there.");
}

/* Functions with useful gadgets that do not move, and which classes. */
static void print_useful(const struct strength_account *s)
{
	const char *last = NULL;
	uint32_t classes = 0, count = 0;
	uint64_t offset;
	char name[64];

	puts("\nfixed gadgets of use to a chain, by function:");
	for (uint32_t i = 0; i <= s->strength.gadget_count; i++) {
		const struct strength_gadget *g = &s->strength.gadget[i];
		const char *function = i < s->strength.gadget_count ? function_of(s, g, &offset) : NULL;

		if (last && function != last) {
			printf("  %6" PRIu32 "  %s:", count, shuffle_plain(name, sizeof name, last));
			for (unsigned k = 0; k < STRENGTH_CLASSES; k++)
				if (classes >> k & 1)
					printf(" %s", strength_class_name(k));
			putchar('\n');
			classes = count = 0;
		}
		if (function)
			classes |= g->classes;
		count++;
		last = function;
	}
}

void print_strength(const struct strength_account *s)
{
	print_classes(s);
	print_anchors(s);
	if (shuffles(s) && s->strength.gadget_count)
		print_useful(s);
	print_leaks(s);
}
