/* SPDX-License-Identifier: Apache-2.0 */
/* The references that verify knows of: tables by their formats, the kernel's own lists, and what is left of several. */
#include <elf.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "prepare/verify/internal.h"

enum { IMAGE = 0x4000, CODE = 0x1000, CODE_BYTES = 0x100, TABLE = 0x2000, DATA = 0x3000, ENTRIES = 5 };
static const uint64_t LINK = UINT64_C(0xffffffff81000000);

static struct riffle_image image;
static struct image_section section[4];
static struct symbol symbols[2];
static struct verify *v;
static struct riffle_error error;

static int set_up(void **state)
{
	(void)state;
	image = (struct riffle_image){
	    .link_phys = 0x1000000, .link_virt = LINK, .image_bytes = IMAGE, .section = section, .section_count = 1};
	memset(section, 0, sizeof section);
	section[0] = (struct image_section){".text", LINK + CODE, CODE_BYTES, SHF_ALLOC | SHF_EXECINSTR, SHT_PROGBITS};
	v = calloc(1, sizeof *v);
	if (!v)
		return -1;
	v->image = &image;
	v->link_virt = LINK;
	v->image_bytes = IMAGE;
	v->bytes = calloc(IMAGE + 8, 1);
	v->code[v->code_count++] = (struct code){".text", CODE, CODE_BYTES, LINK + CODE};
	return v->bytes ? 0 : -1;
}

static int tear_down(void **state)
{
	(void)state;
	v->symbol = NULL; /* the test's own */
	verify_close(v);
	return 0;
}

static void again(void **state)
{
	tear_down(state);
	set_up(state);
}

static void add_section(const char *name, uint32_t offset, uint64_t bytes)
{
	section[image.section_count++] = (struct image_section){name, LINK + offset, bytes, SHF_ALLOC, SHT_PROGBITS};
}

static void add_symbols(const char *start, uint32_t from, const char *stop, uint32_t to)
{
	symbols[0] = (struct symbol){from, 'D', start};
	symbols[1] = (struct symbol){to, 'D', stop};
	v->symbol = symbols;
	v->symbol_count = 2;
}

static void put_distance(uint32_t field, uint32_t target)
{
	riffle_put32(v->bytes + field, target - field);
}

static void expect_error(int status, enum riffle_status wanted, const char *field, uint64_t found)
{
	assert_int_equal(status, wanted);
	assert_string_equal(error.field, field);
	assert_true(error.has_found);
	assert_int_equal(error.found, found);
}

/* --- tables with a fixed order --- */

/* As the kernel's headers have them: an entry's bytes, and where in it the words stand that lead to code, or may. */
static const struct format {
	const char *name, *start, *stop;
	uint32_t stride;
	int code[3], other; /* -1: none */
} formats[] = {
    {".altinstructions", "__alt_instructions", "__alt_instructions_end", 12, {0, 4, -1}, -1},
    {".altinstructions", "__alt_instructions", "__alt_instructions_end", 13, {0, 4, -1}, -1},
    {".altinstructions", "__alt_instructions", "__alt_instructions_end", 14, {0, 4, -1}, -1},
    {"__bug_table", "__start___bug_table", "__stop___bug_table", 12, {0, -1, -1}, -1},
    {"__bug_table", "__start___bug_table", "__stop___bug_table", 8, {0, -1, -1}, -1},
    {"__bug_table", "__start___bug_table", "__stop___bug_table", 16, {0, -1, -1}, -1},
    {".smp_locks", "__smp_locks", "__smp_locks_end", 4, {-1, -1, -1}, 0},
    {".retpoline_sites", "__retpoline_sites", "__retpoline_sites_end", 4, {0, -1, -1}, -1},
    {".return_sites", "__return_sites", "__return_sites_end", 4, {0, -1, -1}, -1},
    {".call_sites", "__call_sites", "__call_sites_end", 4, {0, -1, -1}, -1},
    {".ibt_endbr_seal", "__ibt_endbr_seal", "__ibt_endbr_seal_end", 4, {0, -1, -1}, -1},
    {".cfi_sites", "__cfi_sites", "__cfi_sites_end", 4, {0, -1, -1}, -1},
    {"__kcfi_traps", "__start___kcfi_traps", "__stop___kcfi_traps", 4, {0, -1, -1}, -1},
    {"__ksymtab", "__start___ksymtab", "__stop___ksymtab", 12, {-1, -1, -1}, 4},
    {"__ksymtab", "__start___ksymtab", "__stop___ksymtab", 8, {-1, -1, -1}, 4},
    {"__ksymtab_gpl", "__start___ksymtab_gpl", "__stop___ksymtab_gpl", 12, {-1, -1, -1}, 4},
    {"__ksymtab_gpl", "__start___ksymtab_gpl", "__stop___ksymtab_gpl", 8, {-1, -1, -1}, 4},
    {"__jump_table", "__start___jump_table", "__stop___jump_table", 16, {0, 4, -1}, -1},
    {".static_call_sites", "__start_static_call_sites", "__stop_static_call_sites", 8, {0, -1, -1}, -1},
    {".static_call_tramp_key", "__start_static_call_tramp_key", "__stop_static_call_tramp_key", 8, {0, -1, -1}, -1},
    {".pci_fixup", "__start_pci_fixups_early", "__end_pci_fixups_suspend_late", 16, {12, -1, -1}, -1},
    {"initcalls", "__initcall_start", "__initcall_end", 4, {0, -1, -1}, -1},
    {"console-initcalls", "__con_initcall_start", "__con_initcall_end", 4, {0, -1, -1}, -1},
};

/* Every word leads to data but for those of code: of these the first to its first byte, the last right behind it. */
static void fill(const struct format *f)
{
	for (uint32_t i = 0; i < ENTRIES; i++) {
		uint32_t at = TABLE + i * f->stride;

		for (uint32_t word = 0; word + 4 <= f->stride; word += 4)
			put_distance(at + word, DATA + i);
		for (unsigned k = 0; f->code[k] >= 0; k++)
			put_distance(at + (uint32_t)f->code[k], CODE + i * CODE_BYTES / (ENTRIES - 1));
	}
}

static void check(const struct format *f)
{
	uint32_t words = 0, ref = 0;

	assert_int_equal(verify_read_tables(v, &error), 0);
	assert_int_equal(v->part_count, 1);
	assert_string_equal(v->part[0].name, f->name);
	assert_int_equal(v->part[0].offset, TABLE);
	assert_int_equal(v->part[0].bytes, ENTRIES * f->stride);
	assert_int_equal(v->part[0].stride, f->stride);
	for (uint32_t i = 0; i < ENTRIES; i++) {
		uint32_t at = TABLE + i * f->stride;

		for (uint32_t word = 0; word < f->stride; word++) {
			bool code = f->code[0] == (int)word || (f->code[0] >= 0 && f->code[1] == (int)word);

			if (!code && !(f->other >= 0 && word % 4 == 0 && (int)word <= f->other))
				continue;
			assert_true(ref < v->ref_count);
			assert_int_equal(v->ref[ref].field, at + word);
			assert_int_equal(v->ref[ref].target, code ? CODE + i * CODE_BYTES / (ENTRIES - 1) : DATA + i);
			assert_int_equal(v->ref[ref].kind, REF_PC32);
			assert_int_equal(v->ref[ref].rank, RANK_TABLE);
			assert_int_equal(v->ref[ref].part, 0);
			ref++, words++;
		}
	}
	assert_int_equal(v->ref_count, words);
	assert_int_equal(v->part[0].fields, words);
}

static void test_formats(void **state)
{
	for (unsigned i = 0; i < sizeof formats / sizeof *formats; i++) {
		const struct format *f = &formats[i];

		again(state);
		fill(f);
		add_section(f->name, TABLE, ENTRIES * f->stride);
		check(f);
		/* without section headers, by its symbols */
		again(state);
		fill(f);
		add_symbols(f->start, TABLE, f->stop, TABLE + ENTRIES * f->stride);
		check(f);
		/* a section without an address does not count */
		again(state);
		fill(f);
		add_section(f->name, TABLE, ENTRIES * f->stride);
		section[1].address = 0;
		assert_int_equal(verify_read_tables(v, &error), 0);
		assert_int_equal(v->part_count, 0);
	}
}

/* A word that must lead to code leads elsewhere: in any entry. */
static void test_words_that_lead_elsewhere(void **state)
{
	static const uint32_t elsewhere[] = {CODE - 1, CODE + CODE_BYTES + 1, DATA, 0x80000000};

	for (unsigned i = 0; i < sizeof formats / sizeof *formats; i++) {
		const struct format *f = &formats[i];

		for (unsigned k = 0; k < 3 && f->code[k] >= 0; k++)
			for (unsigned e = 0; e < 4; e++) {
				uint32_t entry = e % 2 ? ENTRIES - 1 : 0;

				again(state);
				fill(f);
				put_distance(TABLE + entry * f->stride + (uint32_t)f->code[k], elsewhere[e]);
				add_section(f->name, TABLE, ENTRIES * f->stride);
				expect_error(verify_read_tables(v, &error), RIFFLE_ERR_UNSUPPORTED, f->name,
					     LINK + TABLE);
			}
	}
}

static void test_places_of_tables(void **state)
{
	const struct format *f = &formats[8];

	(void)state;
	fill(f);
	add_section(f->name, TABLE, ENTRIES * f->stride + 2);
	expect_error(verify_read_tables(v, &error), RIFFLE_ERR_UNSUPPORTED, f->name, LINK + TABLE);
	section[1].address = LINK + IMAGE - 8;
	section[1].bytes = 12;
	expect_error(verify_read_tables(v, &error), RIFFLE_ERR_FORMAT, f->name, LINK + IMAGE - 8);
	section[1].address = LINK - 4;
	section[1].bytes = 4;
	expect_error(verify_read_tables(v, &error), RIFFLE_ERR_FORMAT, f->name, LINK - 4);
	image.section_count = 1;
	add_symbols(f->start, TABLE, f->stop, TABLE - 4);
	expect_error(verify_read_tables(v, &error), RIFFLE_ERR_FORMAT, f->start, LINK + TABLE);
	add_symbols(f->start, TABLE, f->stop, TABLE);
	assert_int_equal(verify_read_tables(v, &error), 0);
	v->symbol_count = 1; /* an end is missing */
	assert_int_equal(verify_read_tables(v, &error), 0);
	assert_int_equal(v->part_count, 0);
	/* up to the image's last byte */
	v->symbol_count = 0;
	for (uint32_t i = 0; i < 2; i++)
		put_distance(IMAGE - 8 + 4 * i, CODE);
	add_section(f->name, IMAGE - 8, 8);
	assert_int_equal(verify_read_tables(v, &error), 0);
	assert_int_equal(v->ref_count, 2);
}

/* Code in a section of data, which is copied before it runs, may be led to as well. */
static void test_code_in_data(void **state)
{
	const struct format *f = &formats[8];

	(void)state;
	fill(f);
	put_distance(TABLE, DATA + 7);
	add_section(f->name, TABLE, ENTRIES * f->stride);
	add_section(".data", DATA, 7);
	assert_int_equal(verify_read_tables(v, &error), RIFFLE_ERR_UNSUPPORTED);
	section[2].flags = SHF_ALLOC | SHF_WRITE | SHF_EXECINSTR;
	assert_int_equal(verify_read_tables(v, &error), 0);
}

/* What leads out of the image moves with it, but for a distance to a per-CPU variable. */
static void test_targets_outside(void **state)
{
	uint32_t inverse[] = {TABLE + 4};

	(void)state;
	image.reloc32_inverse = (struct image_relocs){inverse, 1};
	put_distance(TABLE, IMAGE);
	put_distance(TABLE + 4, IMAGE);
	put_distance(TABLE + 8, IMAGE - 1);
	put_distance(TABLE + 12, 0xffffffff);
	add_section(".smp_locks", TABLE, 16);
	assert_int_equal(verify_read_tables(v, &error), 0);
	assert_int_equal(v->ref_count, 4);
	assert_int_equal(v->ref[0].target, TARGET_IMAGE);
	assert_int_equal(v->ref[1].target, TARGET_STAYS);
	assert_int_equal(v->ref[2].target, IMAGE - 1);
	assert_int_equal(v->ref[3].target, TARGET_IMAGE);
}

static void test_runtime_constants(void **state)
{
	(void)state;
	for (uint32_t i = 0; i < 3; i++)
		put_distance(TABLE + 4 * i, CODE + 5 + i);
	add_section("runtime_shift_d_hash_shift", TABLE, 12);
	add_section("runtimes", TABLE, 12);
	assert_int_equal(verify_read_tables(v, &error), 0);
	assert_int_equal(v->part_count, 1);
	assert_string_equal(v->part[0].name, "runtime_shift_d_hash_shift");
	assert_int_equal(v->ref_count, 3);
	for (uint32_t i = 0; i < 3; i++) {
		assert_int_equal(v->ref[i].field, TABLE + 4 * i);
		assert_int_equal(v->ref[i].target, CODE + 5 + i);
	}
	section[1].address = LINK + IMAGE - 8;
	expect_error(verify_read_tables(v, &error), RIFFLE_ERR_FORMAT, "runtime_shift_d_hash_shift", LINK + IMAGE - 8);
	section[1].bytes = 10; /* no whole words: it is something else */
	assert_int_equal(verify_read_tables(v, &error), 0);
}

/* --- sorted tables --- */

static void test_exception_table(void **state)
{
	(void)state;
	for (uint32_t i = 0; i < 3; i++)
		for (uint32_t word = 0; word < 12; word += 4)
			put_distance(TABLE + 12 * i + word, CODE + 8 * i);
	add_section("__ex_table", TABLE, 36);
	assert_int_equal(verify_read_tables(v, &error), 0);
	assert_int_equal(v->extable.offset, TABLE);
	assert_int_equal(v->extable.entries, 3);
	assert_true(v->extable.handlers);
	assert_string_equal(v->part[v->extable.part].name, "__ex_table");
	assert_int_equal(v->part[v->extable.part].fields, 3);
	assert_int_equal(v->ref_count, 0);
	/* one number that is no distance to code, in any entry */
	for (uint32_t i = 0; i < 3; i++) {
		again(state);
		for (uint32_t k = 0; k < 3; k++)
			put_distance(TABLE + 12 * k + 8, CODE);
		riffle_put32(v->bytes + TABLE + 12 * i + 8, 1);
		add_section("__ex_table", TABLE, 36);
		assert_int_equal(verify_read_tables(v, &error), 0);
		assert_int_equal(v->extable.entries, 3);
		assert_false(v->extable.handlers);
	}
	section[1].bytes = 35;
	expect_error(verify_read_tables(v, &error), RIFFLE_ERR_FORMAT, "__ex_table", 35);
	again(state);
	assert_int_equal(verify_read_tables(v, &error), 0);
	assert_false(v->extable.handlers);
}

static void test_unwind_tables(void **state)
{
	(void)state;
	add_section(".orc_unwind_ip", TABLE, 20);
	add_section(".orc_unwind", TABLE + 0x100, 30);
	assert_int_equal(verify_read_tables(v, &error), 0);
	assert_int_equal(v->orc.offset, TABLE);
	assert_int_equal(v->orc.second, TABLE + 0x100);
	assert_int_equal(v->orc.entries, 5);
	assert_int_equal(v->part_count, 2);
	assert_string_equal(v->part[0].name, ".orc_unwind_ip");
	assert_string_equal(v->part[1].name, ".orc_unwind");
	assert_int_equal(v->part[1].offset, TABLE + 0x100);
	assert_int_equal(v->part[1].bytes, 30);
	assert_int_equal(v->part[0].fields, 5);
	assert_int_equal(v->part[1].fields, 5);
	section[2].bytes = 24;
	expect_error(verify_read_tables(v, &error), RIFFLE_ERR_FORMAT, ".orc_unwind", 4);
	assert_int_equal(error.expected, 5);
	section[2].bytes = 36;
	expect_error(verify_read_tables(v, &error), RIFFLE_ERR_FORMAT, ".orc_unwind", 6);
	section[1].bytes = 22;
	expect_error(verify_read_tables(v, &error), RIFFLE_ERR_FORMAT, ".orc_unwind_ip", 22);
}

static void test_mcount(void **state)
{
	(void)state;
	for (uint32_t i = 0; i < 3; i++)
		riffle_put64(v->bytes + TABLE + 8 * i, LINK + CODE + (i + 1) / 2 * 16);
	add_section("__mcount_loc", TABLE, 24);
	assert_int_equal(verify_read_tables(v, &error), 0);
	assert_int_equal(v->mcount.offset, TABLE);
	assert_int_equal(v->mcount.entries, 3);
	assert_int_equal(v->part[v->mcount.part].fields, 3);
	/* up to 5.16 the kernel sorts it: its order is no concern of a load */
	for (uint32_t i = 1; i < 3; i++) {
		again(state);
		for (uint32_t k = 0; k < 3; k++)
			riffle_put64(v->bytes + TABLE + 8 * k, LINK + CODE + (k == i ? 0 : 8));
		add_section("__mcount_loc", TABLE, 24);
		assert_int_equal(verify_read_tables(v, &error), 0);
		assert_int_equal(v->mcount.entries, 0);
		assert_int_equal(v->part_count, 0);
	}
}

static void test_fields_of_sorted_tables(void **state)
{
	(void)state;
	v->extable = (struct sorted){.offset = 0x2000, .entries = 2};
	v->orc = (struct sorted){.offset = 0x2100, .entries = 2};
	v->mcount = (struct sorted){.offset = 0x2200, .entries = 2};
	for (uint32_t at = 0; at < IMAGE; at++)
		assert_int_equal(verify_is_sorted(v, at), (at >= 0x2000 && at < 0x2018) ||
							      (at >= 0x2100 && at < 0x2108) ||
							      (at >= 0x2200 && at < 0x2210));
}

/* --- the kernel's own lists --- */

static void test_lists(void **state)
{
	uint32_t wide[] = {DATA, DATA + 8, DATA + 16, DATA + 24, DATA + 32, IMAGE - 8};
	uint32_t low[] = {DATA + 0x100, DATA + 0x104, IMAGE - 4};
	uint32_t inverse[] = {DATA + 0x200, DATA + 0x208};
	static const uint32_t targets[] = {0,    IMAGE - 1, TARGET_IMAGE, 0x10,         IMAGE - 1,   TARGET_IMAGE,
					   CODE, 0x20,      TARGET_IMAGE, TARGET_STAYS, TARGET_STAYS};

	(void)state;
	image.reloc64 = (struct image_relocs){wide, 6};
	image.reloc32 = (struct image_relocs){low, 3};
	image.reloc32_inverse = (struct image_relocs){inverse, 2};
	riffle_put64(v->bytes + DATA, LINK);
	riffle_put64(v->bytes + DATA + 8, LINK + IMAGE - 1);
	riffle_put64(v->bytes + DATA + 16, LINK + IMAGE);
	/* physical addresses, as of a kernel that lies where it was linked to */
	riffle_put64(v->bytes + DATA + 24, image.link_phys + 0x10);
	riffle_put64(v->bytes + DATA + 32, image.link_phys + IMAGE - 1);
	riffle_put64(v->bytes + IMAGE - 8, image.link_phys + IMAGE);
	riffle_put32(v->bytes + DATA + 0x100, (uint32_t)LINK + CODE);
	riffle_put32(v->bytes + DATA + 0x104, (uint32_t)image.link_phys + 0x20);
	assert_int_equal(verify_add_list(v, &error), 0);
	assert_int_equal(v->part_count, 3);
	assert_string_equal(v->part[0].name, "absolute64");
	assert_string_equal(v->part[1].name, "absolute32");
	assert_string_equal(v->part[2].name, "inverse32");
	assert_int_equal(v->ref_count, 11);
	for (unsigned i = 0; i < 11; i++) {
		assert_int_equal(v->ref[i].field, i < 6 ? wide[i] : i < 9 ? low[i - 6] : inverse[i - 9]);
		/* the last word of the image is the upper half of the address before it */
		if (i != 8)
			assert_int_equal(v->ref[i].target, targets[i]);
		assert_int_equal(v->ref[i].kind, i < 6 ? REF_ABS64 : i < 9 ? REF_ABS32 : REF_PC32);
		assert_int_equal(v->ref[i].part, i < 6 ? 0 : i < 9 ? 1 : 2);
		assert_int_equal(v->ref[i].rank, RANK_LIST);
	}
	for (unsigned i = 0; i < 3; i++) {
		struct image_relocs *list =
		    (struct image_relocs *[]){&image.reloc64, &image.reloc32, &image.reloc32_inverse}[i];

		list->offset[list->count - 1] = IMAGE - (i ? 3 : 7);
		expect_error(verify_add_list(v, &error), RIFFLE_ERR_FORMAT,
			     (const char *[]){"absolute64", "absolute32", "inverse32"}[i], IMAGE - (i ? 3 : 7));
		list->offset[list->count - 1] = DATA + 0x300;
	}
	assert_true(verify_is_inverse(v, DATA + 0x200));
	assert_true(verify_is_inverse(v, DATA + 0x300));
	assert_false(verify_is_inverse(v, DATA + 0x204));
	assert_false(verify_is_inverse(v, DATA));
	assert_false(verify_is_inverse(v, IMAGE));
}

/* --- several for one field --- */

static void add(uint32_t field, enum ref_kind kind, enum rank rank, uint32_t target)
{
	const struct ref ref = {.field = field, .target = target, .kind = (uint8_t)kind, .rank = (uint8_t)rank};

	v->part_count = 1;
	assert_int_equal(verify_add_ref(v, &ref, &error), 0);
}

static void test_merging(void **state)
{
	(void)state;
	add(0x300, REF_PC32, RANK_OBJDUMP, 0x10);
	add(0x100, REF_PC32, RANK_OBJDUMP, 0x20);
	add(0x100, REF_PC32, RANK_RELA, 0x24); /* the symbol counts, wherever symbol + addend is */
	add(0x200, REF_PC32, RANK_TABLE, 0x30);
	add(0x200, REF_PC32, RANK_RELA_SECTION, 0x34);
	add(0x204, REF_ABS64, RANK_LIST, 0x40);
	assert_int_equal(verify_merge_refs(v, &error), 0);
	assert_int_equal(v->ref_count, 4);
	assert_int_equal(v->ref[0].field, 0x100);
	assert_int_equal(v->ref[0].target, 0x24);
	assert_int_equal(v->ref[0].rank, RANK_RELA);
	assert_int_equal(v->ref[1].field, 0x200);
	assert_int_equal(v->ref[1].target, 0x30);
	assert_int_equal(v->ref[2].field, 0x204);
	assert_int_equal(v->ref[3].field, 0x300);
	assert_true(verify_has_ref(v, 0x100) && verify_has_ref(v, 0x204) && verify_has_ref(v, 0x300));
	assert_false(verify_has_ref(v, 0x0ff) || verify_has_ref(v, 0x101) || verify_has_ref(v, 0x301));
}

static void test_contradictions(void **state)
{
	(void)state;
	add(0x100, REF_PC32, RANK_OBJDUMP, 0x20);
	add(0x100, REF_PC32, RANK_TABLE, 0x21);
	expect_error(verify_merge_refs(v, &error), RIFFLE_ERR_FORMAT, "reference", LINK + 0x100);
	again(state);
	add(0x100, REF_PC32, RANK_TABLE, 0x20);
	add(0x100, REF_ABS32, RANK_LIST, 0x20);
	expect_error(verify_merge_refs(v, &error), RIFFLE_ERR_FORMAT, "reference", LINK + 0x100);
	/* what the kernel relocates is no jump, whatever objdump takes it for */
	again(state);
	add(0x100, REF_PC8, RANK_OBJDUMP, 0x20);
	add(0x100, REF_ABS64, RANK_LIST, 0x30);
	assert_int_equal(verify_merge_refs(v, &error), 0);
	assert_int_equal(v->ref_count, 1);
	assert_int_equal(v->ref[0].target, 0x30);
	assert_int_equal(v->data_in_code, 1);
}

/* Fields of 1, 4 and 8 bytes that overlap by one byte, or follow each other. */
static void test_overlaps(void **state)
{
	static const struct {
		enum ref_kind kind;
		uint32_t bytes;
	} kinds[] = {{REF_PC8, 1}, {REF_PC32, 4}, {REF_ABS32, 4}, {REF_ABS64, 8}};

	for (unsigned i = 0; i < 4; i++) {
		again(state);
		add(0x100, kinds[i].kind, i ? RANK_LIST : RANK_OBJDUMP, 0x20);
		add(0x100 + kinds[i].bytes, REF_PC32, RANK_TABLE, 0x30);
		assert_int_equal(verify_merge_refs(v, &error), 0);
		assert_int_equal(v->ref_count, 2);
		assert_int_equal(v->data_in_code, 0);
		if (kinds[i].bytes == 1)
			continue;
		again(state);
		add(0x100, kinds[i].kind, RANK_LIST, 0x20);
		add(0x100 + kinds[i].bytes - 1, REF_PC32, RANK_TABLE, 0x30);
		expect_error(verify_merge_refs(v, &error), RIFFLE_ERR_FORMAT, "reference",
			     LINK + 0x100 + kinds[i].bytes - 1);
		/* objdump gives way, before or after */
		again(state);
		add(0x100, kinds[i].kind, RANK_LIST, 0x20);
		add(0x100 + kinds[i].bytes - 1, REF_PC32, RANK_OBJDUMP, 0x30);
		assert_int_equal(verify_merge_refs(v, &error), 0);
		assert_int_equal(v->ref_count, 1);
		assert_int_equal(v->ref[0].field, 0x100);
		assert_int_equal(v->data_in_code, 1);
		again(state);
		add(0x200, REF_PC32, RANK_OBJDUMP, 0x20);
		add(0x203, kinds[i].kind, RANK_LIST, 0x30);
		assert_int_equal(verify_merge_refs(v, &error), 0);
		assert_int_equal(v->ref_count, 1);
		assert_int_equal(v->ref[0].field, 0x203);
		assert_int_equal(v->data_in_code, 1);
	}
}

static void add_rela(uint32_t field, enum rank rank, uint32_t leads, uint32_t target)
{
	const struct ref ref = {
	    .field = field, .target = target, .leads = leads, .kind = REF_PC32, .rank = (uint8_t)rank};

	v->part_count = 1;
	assert_int_equal(verify_add_ref(v, &ref, &error), 0);
}

/* How far .rela agrees: an instruction's distance counts from its end, which is 4 to 8 bytes after the field. */
static void test_agreement_of_rela(void **state)
{
	uint32_t at = 0x100;

	(void)state;
	for (uint32_t behind = 3; behind <= 9; behind++, at += 4) {
		add(at, REF_PC32, RANK_OBJDUMP, 0x800 + behind);
		add_rela(at, RANK_RELA, 0x800, 0x800);
	}
	add(at, REF_PC32, RANK_TABLE, 0x800);
	add_rela(at, RANK_RELA_SECTION, 0x800, 0x800);
	add(at + 4, REF_PC32, RANK_TABLE, TARGET_IMAGE);
	add_rela(at + 4, RANK_RELA, 0x800, 0x800);
	add(at + 8, REF_PC32, RANK_TABLE, 0x801);
	add_rela(at + 8, RANK_RELA, 0x800, 0x801);
	add_rela(at + 12, RANK_RELA, 0x800, CODE);
	add_rela(at + 16, RANK_RELA, 0x800, CODE - 1);
	add_rela(at + 20, RANK_RELA, 0x800, TARGET_STAYS);
	assert_int_equal(verify_merge_refs(v, &error), 0);
	assert_int_equal(v->rela.entries, 13);
	assert_int_equal(v->rela.agree, 5 + 2);
	assert_int_equal(v->rela.other_target, 2 + 1);
	assert_int_equal(v->rela.unseen, 3);
	assert_int_equal(v->rela.unseen_code, 1);
}

/* Absolute fields that only .rela knows of, as in notes, stay as they were linked. */
static void test_addresses_that_stay(void **state)
{
	struct ref ref = {.field = 0x100, .target = 0x20, .kind = REF_ABS64, .rank = RANK_RELA};

	(void)state;
	v->part_count = 1;
	assert_int_equal(verify_add_ref(v, &ref, &error), 0);
	ref = (struct ref){.field = 0x110, .target = 0x20, .kind = REF_ABS32, .rank = RANK_RELA};
	assert_int_equal(verify_add_ref(v, &ref, &error), 0);
	add(0x120, REF_ABS64, RANK_LIST, 0x20);
	ref = (struct ref){.field = 0x120, .target = 0x28, .kind = REF_ABS64, .rank = RANK_RELA};
	assert_int_equal(verify_add_ref(v, &ref, &error), 0);
	assert_int_equal(verify_merge_refs(v, &error), 0);
	assert_int_equal(v->ref_count, 1);
	assert_int_equal(v->ref[0].field, 0x120);
	assert_int_equal(v->ref[0].target, 0x28);
	assert_int_equal(v->rela.entries, 0);
}

static void test_most_parts(void **state)
{
	uint8_t part;

	(void)state;
	for (unsigned i = 0; i < PARTS_MAX; i++) {
		assert_int_equal(verify_new_part(v, "a\nb", i, 4, &part, &error), 0);
		assert_int_equal(part, i);
	}
	assert_string_equal(v->part[PARTS_MAX - 1].name, "a?b");
	assert_int_equal(verify_new_part(v, "one more", 0, 4, &part, &error), RIFFLE_ERR_UNSUPPORTED);
	assert_string_equal(error.field, "tables");
}

/* PFN_ALIGN(_text) is _text, unless something is there. */
static void test_what_is_meant(void **state)
{
	(void)state;
	v->code[0].offset = 0;
	add_symbols("_text", 0, "function", 4096);
	assert_int_equal(verify_meant(v, 4094), 4094);
	assert_int_equal(verify_meant(v, 4095), 0);
	assert_int_equal(verify_meant(v, 4096), 4096);
	symbols[1].offset = 4095;
	assert_int_equal(verify_meant(v, 4095), 4095);
	v->symbol_count = 0;
	assert_int_equal(verify_meant(v, 4095), 4095);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
	const struct CMUnitTest tests[] = {
	    TEST(test_formats),
	    TEST(test_words_that_lead_elsewhere),
	    TEST(test_places_of_tables),
	    TEST(test_code_in_data),
	    TEST(test_targets_outside),
	    TEST(test_runtime_constants),
	    TEST(test_exception_table),
	    TEST(test_unwind_tables),
	    TEST(test_mcount),
	    TEST(test_fields_of_sorted_tables),
	    TEST(test_lists),
	    TEST(test_merging),
	    TEST(test_contradictions),
	    TEST(test_overlaps),
	    TEST(test_agreement_of_rela),
	    TEST(test_addresses_that_stay),
	    TEST(test_most_parts),
	    TEST(test_what_is_meant),
	};
	return cmocka_run_group_tests_name("verify-references", tests, NULL, NULL);
}
