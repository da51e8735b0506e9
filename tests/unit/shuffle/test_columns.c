/* SPDX-License-Identifier: Apache-2.0 */
/* The tables of distances that a load follows when sections slide: which columns of each, and what they must lead to.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "common/bytes.h"
#include "prepare/shuffle/slides.h"

enum { IMAGE = 0x10000, TABLE = 0x8000, ENTRIES = 5 };
static const uint64_t LINK = UINT64_C(0xffffffff81000000);

static uint8_t bytes[IMAGE];
static struct riffle_image image;
static struct shuffle result;
static struct work work;
static struct riffle_error error;

static int set_up(void **state)
{
	(void)state;
	memset(bytes, 0, sizeof bytes); /* each distance leads to its own field */
	image = (struct riffle_image){.link_virt = LINK, .image_bytes = IMAGE};
	memset(&result, 0, sizeof result);
	memset(&work, 0, sizeof work);
	work.image = &image;
	work.result = &result;
	work.bytes = bytes;
	work.image_bytes = IMAGE;
	work.link_virt = LINK;
	result.slides.block_count = 2;
	result.slides.block[1].image_offset = 0x4000;
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	free(result.slides.cross);
	return 0;
}

/* As the kernel's structs have them; at -1 the columns end. */
static const struct {
	const char *name;
	uint32_t stride;
	int at[4];
	int wide;
} tables[] = {
    {".altinstructions", 12, {0, 4, -1}, -1},
    {".altinstructions", 13, {0, 4, -1}, -1},
    {".altinstructions", 14, {0, 4, -1}, -1},
    {"__bug_table", 8, {0, -1}, -1},
    {"__bug_table", 12, {0, 4, -1}, -1},
    {"__bug_table", 16, {0, 4, 8, -1}, -1},
    {"__ksymtab", 8, {0, 4, -1}, -1},
    {"__ksymtab", 12, {0, 4, 8, -1}, -1},
    {"__ksymtab_gpl", 8, {0, 4, -1}, -1},
    {"__ksymtab_gpl", 12, {0, 4, 8, -1}, -1},
    {".pci_fixup", 16, {12, -1}, -1},
    {"__jump_table", 16, {0, 4, 8, -1}, 8},
    {".static_call_sites", 8, {0, 4, -1}, -1},
    {".static_call_tramp_key", 8, {0, 4, -1}, -1},
    {".smp_locks", 4, {0, -1}, -1},
    {".return_sites", 4, {0, -1}, -1},
};

static void note(unsigned i)
{
	slides_note_table(&work, tables[i].name, TABLE, ENTRIES * tables[i].stride, tables[i].stride);
}

static void test_columns(void **state)
{
	for (unsigned i = 0; i < sizeof tables / sizeof *tables; i++) {
		unsigned k;

		set_up(state);
		note(i);
		assert_string_equal(result.slides.none, "");
		for (k = 0; tables[i].at[k] >= 0; k++) {
			const struct riffle_cross_table *t = &result.slides.table[k];

			assert_true(k < result.slides.table_count);
			assert_int_equal(t->image_offset, TABLE + tables[i].at[k]);
			assert_int_equal(t->entries, ENTRIES);
			assert_int_equal(t->stride, tables[i].stride);
			assert_int_equal(t->kind, tables[i].at[k] == tables[i].wide ? RIFFLE_CROSS_DISTANCE64
										    : RIFFLE_CROSS_DISTANCE32);
			assert_int_equal(t->base, 0);
		}
		assert_int_equal(result.slides.table_count, k);
	}
}

/* A table whose entries have another size is not known to be one. */
static void test_unknown_strides(void **state)
{
	static const struct {
		const char *name;
		uint32_t stride;
	} rows[] = {{"__bug_table", 20}, {"__ksymtab", 16}, {"__jump_table", 12}, {".smp_locks", 8}, {"unknown", 12}};

	for (unsigned i = 0; i < sizeof rows / sizeof *rows; i++) {
		set_up(state);
		slides_note_table(&work, rows[i].name, TABLE, ENTRIES * rows[i].stride, rows[i].stride);
		assert_int_equal(result.slides.table_count, 0);
		assert_int_equal(result.slides.block_count, 0);
		assert_non_null(strstr(result.slides.none, rows[i].name));
	}
	/* the first reason stays */
	slides_none(&work, "%s", "another");
	assert_non_null(strstr(result.slides.none, "unknown"));
}

/* Every entry of every column, the first and the last, must lead into the image. */
static void test_entries_that_lead_outside(void **state)
{
	for (unsigned i = 0; i < sizeof tables / sizeof *tables; i++)
		for (unsigned k = 0; tables[i].at[k] >= 0; k++)
			for (unsigned e = 0; e < 4; e++) {
				const uint32_t at =
				    TABLE + (uint32_t)tables[i].at[k] + (e % 2 ? ENTRIES - 1 : 0) * tables[i].stride;
				const bool wide = tables[i].at[k] == tables[i].wide;
				/* one past the end, one before the start; and as far as is still inside */
				const int64_t out = e < 2 ? (int64_t)IMAGE - at : -(int64_t)at - 1;

				for (int inside = 0; inside < 2; inside++) {
					int64_t distance = inside ? out + (e < 2 ? -1 : 1) : out;

					set_up(state);
					if (wide)
						riffle_put64(bytes + at, (uint64_t)distance);
					else
						riffle_put32(bytes + at, (uint32_t)distance);
					note(i);
					assert_int_equal(result.slides.none[0] == 0, inside);
				}
			}
}

/* A distance to a per-CPU variable leads out of the image, and is among the inverse relocations. */
static void test_per_cpu_entries(void **state)
{
	uint32_t inverse[] = {TABLE + 8};

	(void)state;
	image.reloc32_inverse = (struct image_relocs){inverse, 1};
	riffle_put32(bytes + TABLE + 8, IMAGE);
	slides_note_table(&work, ".smp_locks", TABLE, 12, 4);
	assert_string_equal(result.slides.none, "");
	riffle_put32(bytes + TABLE + 4, IMAGE);
	slides_note_table(&work, ".smp_locks", TABLE, 12, 4);
	assert_string_not_equal(result.slides.none, "");
}

static void test_most_tables(void **state)
{
	(void)state;
	slides_note_table(&work, ".smp_locks", TABLE, 0, 4);
	assert_int_equal(result.slides.table_count, 0);
	for (unsigned i = 0; i < RIFFLE_CROSS_TABLES_MAX; i++)
		slides_note_table(&work, ".smp_locks", TABLE + 4 * i, 4, 4);
	assert_int_equal(result.slides.table_count, RIFFLE_CROSS_TABLES_MAX);
	assert_string_equal(result.slides.none, "");
	slides_note_table(&work, ".smp_locks", TABLE, 4, 4);
	assert_int_equal(result.slides.table_count, RIFFLE_CROSS_TABLES_MAX);
	assert_string_not_equal(result.slides.none, "");
}

/* Fields of code: only what leads to another block is kept, in 32 bits. */
static void test_fields_of_code(void **state)
{
	(void)state;
	assert_int_equal(slides_note(&work, 0x100, LINK + 0x3fff, 32, &error), 0);
	assert_int_equal(slides_note(&work, 0x4000, LINK + IMAGE, 8, &error), 0); /* the end is of the last block */
	assert_int_equal(result.slides.cross_count, 0);
	assert_int_equal(slides_note(&work, 0x104, LINK + 0x4000, 32, &error), 0);
	assert_int_equal(slides_note(&work, 0x4000, LINK, 32, &error), 0);
	assert_int_equal(result.slides.cross_count, 2);
	assert_int_equal(result.slides.cross[0].field, 0x104);
	assert_int_equal(result.slides.cross[0].block, 1);
	assert_int_equal(result.slides.cross[1].field, 0x4000);
	assert_int_equal(result.slides.cross[1].block, 0);
	assert_string_equal(result.slides.none, "");
	assert_int_equal(slides_note(&work, 0x3ffe, LINK + 0x4001, 8, &error), 0);
	assert_non_null(strstr(result.slides.none, "by 8 bits"));
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
	const struct CMUnitTest tests[] = {
	    TEST(test_columns),         TEST(test_unknown_strides), TEST(test_entries_that_lead_outside),
	    TEST(test_per_cpu_entries), TEST(test_most_tables),     TEST(test_fields_of_code),
	};
	return cmocka_run_group_tests_name("columns", tests, NULL, NULL);
}
