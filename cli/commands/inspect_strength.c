/* SPDX-License-Identifier: Apache-2.0 */
/* Puts a kernel's strength against leaked pointers and code reuse into words and numbers. */
#include "cli/commands/inspect_strength.h"

#include <inttypes.h>
#include <math.h>
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

static void set_limits(struct strength_account *s, const struct shuffle_account *account)
{
	struct shuffle_entropy e = shuffle_entropy(account);

	s->limits = (struct leak_limits){
	    .base_bits = e.base_bits,
	    .shuffles = account->stats.chunks != 0,
	    .place_bits = e.place_bits,
	    .address_bits = e.address_bits,
	    .other_bits = e.other_bits,
	    .bases_bits = log2((double)e.bases_left),
	    .kit = s->strength.kit,
	};
}

int strength_account_make(struct strength_account *s, const struct riffle_image *image,
			  const struct shuffle_account *account, struct riffle_error *error)
{
	int status;

	memset(s, 0, sizeof *s);
	s->link_virt = image->link_virt;
	status = strength_measure(&s->strength, image, account->shuffle, error);
	if (!status)
		status = read_symbols(s, image, error);
	if (!status)
		set_limits(s, account);
	return status;
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

/* The gadgets that stay at a fixed distance from each of base, data and read-only data, in a mode. */
static const struct strength_counts *fixed_in(const struct strength_account *s, enum leak_mode mode)
{
	return mode == LEAK_MODE_FGKASLR ? &s->strength.fixed : &s->strength.all;
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

static json_t *leaks_json(const struct strength_account *s)
{
	json_t *array = json_array();
	struct leak_left left;

	for (unsigned mode = 0; mode < LEAK_MODES; mode++)
		for (unsigned leak = 0; leak < LEAKS; leak++)
			if (leak_left(&left, &s->limits, mode, leak))
				json_array_append_new(
				    array, json_pack("{s:s, s:s, s:f, s:f, s:f, s:f, s:f}", "mode",
						     leak_mode_name(mode), "pointer_to", leak_name(leak), "base_bits",
						     left.base, "read_only_data_bits", left.rodata, "data_bits",
						     left.data, "function_bits", left.function,
						     "function_bits_with_code_reuse", left.function_reuse));
	return array;
}

json_t *strength_json(const struct strength_account *s)
{
	json_t *modes = json_object(), *all = counts_json(&s->strength.all);

	for (unsigned mode = 0; mode < LEAK_MODES; mode++)
		if (mode != LEAK_MODE_FGKASLR || s->limits.shuffles)
			json_object_set_new(modes, leak_mode_name(mode),
					    json_pack("{s:o, s:o, s:o}", "from_text_base",
						      counts_json(fixed_in(s, mode)), "from_data",
						      counts_json(fixed_in(s, mode)), "from_read_only_data",
						      counts_json(fixed_in(s, mode))));
	return json_pack("{s:i, s:I, s:I, s:o, s:o, s:b, s:o, s:o}", "instructions", (int)STRENGTH_INSTRUCTIONS,
			 "text_bytes", (json_int_t)s->strength.text_bytes, "fixed_bytes",
			 (json_int_t)s->strength.fixed_bytes, "gadgets", all, "fixed", modes, "fixed_code_suffices",
			 s->limits.kit, "leaks", leaks_json(s), "useful_fixed",
			 s->limits.shuffles ? gadgets_json(s) : json_array());
}

/* --- text --- */

static void print_classes(const struct strength_account *s)
{
	const struct strength_counts *all = &s->strength.all, *fixed = &s->strength.fixed;

	printf("gadgets: up to %u instructions, the last one a return or an indirect jump or call; at a fixed distance "
	       "from\n"
	       "text base, data and read-only data alike\n"
	       "  %-12s  %10s  %10s  %10s\n",
	       STRENGTH_INSTRUCTIONS, "class", "all", "kaslr", s->limits.shuffles ? "fgkaslr" : "");
	for (int i = -1; i < STRENGTH_CLASSES; i++) {
		uint64_t of_all = i < 0 ? all->starts : all->class[i],
			 of_fixed = i < 0 ? fixed->starts : fixed->class[i];

		printf("  %-12s  %10" PRIu64 "  %10" PRIu64, i < 0 ? "starts" : strength_class_name(i), of_all, of_all);
		if (s->limits.shuffles)
			printf("  %10" PRIu64 "  %6.3f %%", of_fixed,
			       of_all ? 100 * (double)of_fixed / (double)of_all : 0);
		putchar('\n');
	}
	if (s->limits.shuffles)
		printf("code that does not move: %" PRIu64 " of %" PRIu64 " bytes\n", s->strength.fixed_bytes,
		       s->strength.text_bytes);
}

static void print_leaks(const struct strength_account *s)
{
	struct leak_left left;

	puts("\nwhat is left to guess, in bits, of whoever has one leaked pointer to\n"
	     "  mode     pointer to                base  read-only data   data  function  function, reusing code");
	for (unsigned mode = 0; mode < LEAK_MODES; mode++)
		for (unsigned leak = 0; leak < LEAKS; leak++)
			if (leak_left(&left, &s->limits, mode, leak))
				printf("  %-7s  %-23s  %5.1f  %14.1f  %5.1f  %8.1f  %22.1f\n", leak_mode_name(mode),
				       leak_words(leak), left.base, left.rodata, left.data, left.function,
				       left.function_reuse);
	if (!s->limits.shuffles)
		return;
	puts("\nfunction: one that moves, other than the one that leaked.");
	if (s->limits.kit)
		puts("reusing code: the fixed code has what it takes to read a function's address out of the kernel's "
		     "tables\n"
		     "and to go there; whoever controls a stack or a pointer to a function needs no more than the "
		     "base.");
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
	if (s->limits.shuffles && s->strength.gadget_count)
		print_useful(s);
	print_leaks(s);
}
