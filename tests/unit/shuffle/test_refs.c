/* SPDX-License-Identifier: Apache-2.0 */
/* Tests of references: which a shuffle changes, how several sources of one are merged, what is a contradiction. */
#include "work_builder.h"

#define TEXT 0x4000u
#define A 0x3000u     /* a chunk */
#define B 0x3050u     /* another */
#define C 0x30a0u     /* and a third, to 0x30f0 */
#define FIXED 0x30f0u /* __entry_text_start, which is pinned */
#define DATA (TEXT + 2 * OTHER_BYTES)

static struct builder *three_chunks(void)
{
	struct builder *b = build(TEXT);

	add_symbol(b, A, "a");
	add_symbol(b, B, "b");
	add_symbol(b, C, "c");
	add_symbol(b, FIXED, "__entry_text_start");
	add_symbol(b, FIXED + 4, "__entry_text_end");
	for (uint32_t i = 1; i < b->work.symbol_count; i++)
		CODE(b, b->work.symbol[i].offset, "\xc3");
	good(b, code_decode(&b->work, &b->error));
	good(b, chunks_build(&b->work, &b->error));
	assert_int_equal(b->result.chunk_count, 3);
	return b;
}

static void add(struct builder *b, uint32_t field, uint32_t target, enum shuffle_field kind, enum shuffle_source by)
{
	good(b, work_add_ref(&b->work, field, target, kind, by, &b->error));
}

static const struct shuffle_ref *ref_at(const struct builder *b, uint32_t field)
{
	return find_ref(b->result.ref, b->result.ref_count, field);
}

static void assert_refused(struct builder *b, uint32_t field)
{
	assert_int_equal(refs_finish(&b->work, &b->error), RIFFLE_ERR_UNSUPPORTED);
	assert_int_equal(b->error.found, LINK + field);
	tear_down(b);
}

static void test_distances(void **state)
{
	struct builder *b = three_chunks();

	(void)state;
	add(b, C + 8, B, SHUFFLE_PC32, SHUFFLE_BY_CODE);         /* chunk to chunk */
	add(b, A + 8, DATA, SHUFFLE_PC32, SHUFFLE_BY_CODE);      /* chunk to fixed */
	add(b, DATA, A, SHUFFLE_PC32, SHUFFLE_BY_TABLE);         /* fixed to chunk */
	add(b, A + 16, A + 4, SHUFFLE_PC32, SHUFFLE_BY_CODE);    /* within one */
	add(b, DATA + 8, FIXED, SHUFFLE_PC32, SHUFFLE_BY_TABLE); /* fixed to fixed */
	add(b, FIXED + 8, 0x100, SHUFFLE_PC32, SHUFFLE_BY_CODE);
	good(b, refs_finish(&b->work, &b->error));
	assert_int_equal(b->result.ref_count, 3);
	assert_int_equal(ref_at(b, C + 8)->target, B);
	assert_non_null(ref_at(b, A + 8));
	assert_non_null(ref_at(b, DATA));
	for (uint32_t i = 1; i < b->result.ref_count; i++)
		assert_true(b->result.ref[i].field > b->result.ref[i - 1].field);
	tear_down(b);
}

static void put_abs32(struct builder *b, uint32_t field, uint64_t address)
{
	riffle_put32(b->work.bytes + field, (uint32_t)address);
	relocate(b, &b->image.reloc32, field);
}

static void put_abs64(struct builder *b, uint32_t field, uint64_t address)
{
	riffle_put64(b->work.bytes + field, address);
	relocate(b, &b->image.reloc64, field);
}

static void test_addresses(void **state)
{
	struct builder *b = three_chunks();

	(void)state;
	put_abs32(b, A + 8, LINK + B + 4);           /* in a chunk, into another */
	put_abs32(b, A + 16, LINK + A);              /* in a chunk, into the same: the address changes */
	put_abs32(b, A + 24, LINK + DATA);           /* in a chunk, to data: moves with the chunk */
	put_abs32(b, A + 32, LINK + A + 0x80000000); /* a physical address: leads nowhere */
	put_abs32(b, DATA, LINK + FIXED);
	put_abs64(b, DATA + 8, LINK + C);
	put_abs64(b, DATA + 16, LINK + DATA);
	put_abs64(b, DATA + 24, LINK + 4095); /* PFN_ALIGN(_text) */
	good(b, refs_finish(&b->work, &b->error));
	assert_int_equal(b->result.ref_count, 5);
	assert_int_equal(ref_at(b, A + 8)->target, B + 4);
	assert_int_equal(ref_at(b, A + 8)->kind, SHUFFLE_ABS32);
	assert_int_equal(ref_at(b, A + 16)->target, A);
	assert_int_equal(ref_at(b, A + 24)->target, DATA);
	assert_int_equal(ref_at(b, A + 32)->target, UINT32_MAX);
	assert_int_equal(ref_at(b, DATA + 8)->kind, SHUFFLE_ABS64);
	assert_int_equal(ref_at(b, DATA + 8)->found_by, SHUFFLE_BY_RELOC);
	tear_down(b);
}

/* __pa_symbol() of a function, which hibernation hands to another kernel; _text + 4095 where a symbol is. */
static void test_physical_and_folded(void **state)
{
	struct builder *b = three_chunks();

	(void)state;
	b->image.link_phys = 0x1000000;
	put_abs32(b, A + 8, 0x1000000 + B + 4);
	put_abs32(b, A + 16, 0x1000000 - 1);
	put_abs32(b, A + 24, 0x1000000 + b->work.image_bytes);
	put_abs32(b, A + 32, LINK + 4095);
	put_abs64(b, A + 40, LINK + 4095); /* an instruction that a table names */
	good(b, refs_finish(&b->work, &b->error));
	assert_int_equal(ref_at(b, A + 8)->target, B + 4);
	assert_int_equal(ref_at(b, A + 16)->target, UINT32_MAX);
	assert_int_equal(ref_at(b, A + 24)->target, UINT32_MAX);
	assert_int_equal(ref_at(b, A + 32)->target, 0);
	assert_int_equal(ref_at(b, A + 40)->target, 4095);
	assert_int_equal(work_meant(&b->work, 4094), 4094);
	assert_int_equal(work_meant(&b->work, 4095), 0);
	add_symbol(b, 4095, "odd");
	b->work.symbol[1] = (struct work_symbol){4095, 0, 't', "odd"};
	assert_int_equal(work_meant(&b->work, 4095), 4095);
	tear_down(b);
}

static void test_inverse(void **state)
{
	struct builder *b = three_chunks();

	(void)state;
	relocate(b, &b->image.reloc32_inverse, A + 8);
	relocate(b, &b->image.reloc32_inverse, FIXED + 8);
	relocate(b, &b->image.reloc32_inverse, DATA);
	good(b, refs_finish(&b->work, &b->error));
	assert_int_equal(b->result.ref_count, 1);
	assert_int_equal(ref_at(b, A + 8)->kind, SHUFFLE_INVERSE32);
	assert_int_equal(ref_at(b, A + 8)->target, UINT32_MAX);
	tear_down(b);
}

static void test_merge(void **state)
{
	struct builder *b = three_chunks();

	(void)state;
	add(b, A + 8, B, SHUFFLE_PC32, SHUFFLE_BY_RELA);
	add(b, A + 8, B + 4, SHUFFLE_PC32, SHUFFLE_BY_CODE);
	add(b, A + 8, B + 4, SHUFFLE_PC32, SHUFFLE_BY_TABLE);
	good(b, refs_finish(&b->work, &b->error));
	assert_int_equal(b->result.ref_count, 1);
	assert_int_equal(b->result.ref[0].found_by, SHUFFLE_BY_RELA | SHUFFLE_BY_CODE | SHUFFLE_BY_TABLE);
	assert_int_equal(b->result.ref[0].target, B);
	tear_down(b);
}

static void test_contradictions(void **state)
{
	struct builder *b = three_chunks();

	(void)state;
	add(b, A + 8, B, SHUFFLE_PC32, SHUFFLE_BY_CODE);
	add(b, A + 8, C, SHUFFLE_PC32, SHUFFLE_BY_RELA);
	assert_refused(b, A + 8);

	b = three_chunks();
	add(b, A + 8, B, SHUFFLE_PC32, SHUFFLE_BY_CODE);
	add(b, A + 8, DATA, SHUFFLE_PC32, SHUFFLE_BY_RELA);
	assert_refused(b, A + 8);

	b = three_chunks();
	put_abs32(b, A + 8, LINK + B);
	add(b, A + 8, B, SHUFFLE_PC32, SHUFFLE_BY_CODE);
	assert_refused(b, A + 8);
}

static void test_overlaps(void **state)
{
	struct builder *b = three_chunks();

	(void)state;
	add(b, A + 8, B, SHUFFLE_PC32, SHUFFLE_BY_CODE);
	add(b, A + 11, B, SHUFFLE_PC32, SHUFFLE_BY_CODE);
	assert_refused(b, A + 11);

	b = three_chunks();
	add(b, B - 2, C, SHUFFLE_PC32, SHUFFLE_BY_CODE);
	assert_refused(b, B - 2);

	b = three_chunks();
	put_abs64(b, A - 4, LINK + C);
	assert_refused(b, A - 4);
}

static void test_outside(void **state)
{
	struct builder *b = three_chunks();

	(void)state;
	relocate(b, &b->image.reloc64, b->work.image_bytes - 7);
	assert_int_equal(refs_finish(&b->work, &b->error), RIFFLE_ERR_FORMAT);
	tear_down(b);
}

static void test_sorted_tables(void **state)
{
	struct builder *b = three_chunks();

	(void)state;
	b->result.table[b->result.table_count++] = (struct shuffle_table){SHUFFLE_TABLE_MCOUNT, false, DATA, 0, 2};
	b->result.table[b->result.table_count++] =
	    (struct shuffle_table){SHUFFLE_TABLE_EXTABLE, false, DATA + 32, 0, 1};
	put_abs64(b, DATA, LINK + A);
	put_abs64(b, DATA + 8, LINK + B);
	put_abs64(b, DATA + 16, LINK + C);
	add(b, DATA + 36, A, SHUFFLE_PC32, SHUFFLE_BY_RELA);
	add(b, DATA + 44, A, SHUFFLE_PC32, SHUFFLE_BY_RELA);
	good(b, refs_finish(&b->work, &b->error));
	assert_int_equal(b->result.ref_count, 2);
	assert_non_null(ref_at(b, DATA + 16));
	assert_non_null(ref_at(b, DATA + 44));
	tear_down(b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_distances),
	    cmocka_unit_test(test_addresses),
	    cmocka_unit_test(test_physical_and_folded),
	    cmocka_unit_test(test_inverse),
	    cmocka_unit_test(test_merge),
	    cmocka_unit_test(test_contradictions),
	    cmocka_unit_test(test_overlaps),
	    cmocka_unit_test(test_outside),
	    cmocka_unit_test(test_sorted_tables),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
