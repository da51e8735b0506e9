/* SPDX-License-Identifier: Apache-2.0 */
/* Tests of the disassembly: which fields become references or ties, how units end, and what is not taken for code. */
#include "work_builder.h"

#define F1 0x3000u
#define F2 0x3040u
#define F3 0x3080u
#define TEXT 0x4000u
#define REPLACEMENT TEXT
#define DATA (TEXT + 2 * OTHER_BYTES)

static struct builder *three_functions(void)
{
	struct builder *b = build(TEXT);

	add_symbol(b, F1, "first");
	add_symbol(b, F2, "second");
	add_symbol(b, F3, "third");
	CODE(b, F1, "\xc3");
	CODE(b, F2, "\xc3");
	CODE(b, F3, "\xc3");
	return b;
}

static const struct shuffle_ref *ref_at(const struct builder *b, uint32_t field)
{
	return find_ref(b->work.ref, b->work.ref_count, field);
}

static void assert_ref(const struct builder *b, uint32_t field, uint32_t target)
{
	const struct shuffle_ref *ref = ref_at(b, field);

	assert_non_null(ref);
	assert_int_equal(ref->target, target);
	assert_int_equal(ref->kind, SHUFFLE_PC32);
	assert_int_equal(ref->found_by, SHUFFLE_BY_CODE);
}

static void test_references(void **state)
{
	struct builder *b = three_functions();

	(void)state;
	REL32(b, F1, "\xe8", F2);                    /* call */
	REL32(b, F1 + 5, "\x0f\x84", F3);            /* je */
	REL32(b, F1 + 11, "\x48\x8d\x05", DATA + 8); /* lea DATA+8(%rip) */
	REL32(b, F1 + 18, "\xe8", F1);               /* to itself: no reference */
	REL32(b, F1 + 23, "\x83\x3d", DATA - 1);     /* cmpl $5, DATA(%rip): counts from behind the 5 */
	CODE(b, F1 + 29, "\x05");
	CODE(b, F1 + 30, "\xc3");
	REL32(b, F2, "\x48\xc7\x05", DATA + 16 - 4); /* movq $7, DATA+16(%rip) */
	CODE(b, F2 + 7, "\x07\x00\x00\x00\xc3");
	good(b, code_decode(&b->work, &b->error));
	assert_int_equal(b->work.ref_count, 5);
	assert_ref(b, F1 + 1, F2);
	assert_ref(b, F1 + 7, F3);
	assert_ref(b, F1 + 14, DATA + 8);
	assert_ref(b, F1 + 25, DATA);
	assert_ref(b, F2 + 3, DATA + 16);
	assert_int_equal(b->work.tie_count, 0);
	assert_int_equal(b->work.unit_count, 5); /* and the hole before the first */
	for (uint32_t i = 0; i < b->work.unit_count; i++)
		assert_false(b->work.unit[i].unexplained);
	assert_true(work_is_start(&b->work, F1 + 23));
	assert_false(work_is_start(&b->work, F1 + 24));
	assert_int_equal(b->result.census.branches, 3);
	assert_int_equal(b->result.census.rip_operands, 3);
	tear_down(b);
}

static void test_other_sections(void **state)
{
	struct builder *b = three_functions();

	(void)state;
	REL32(b, REPLACEMENT, "\xe8", F2);
	REL32(b, REPLACEMENT + 5, "\xe9", REPLACEMENT + 16);
	good(b, code_decode(&b->work, &b->error));
	assert_int_equal(b->work.ref_count, 1);
	assert_ref(b, REPLACEMENT + 1, F2);
	tear_down(b);
}

/* lld's filling between sections, up to a multiple of 16, where code without a name may follow */
static void test_holes(void **state)
{
	struct builder *b = three_functions();

	(void)state;
	memset(b->work.bytes + F1, 0xcc, F2 - F1);
	CODE(b, F1, "\x31\xc0\x48\x31\xc9\xc3\x00\x00\xcc\xcc\x00\x00\xcc\xcc\x00\x00");
	REL32(b, F1 + 16, "\x48\x8b\x0d", DATA + 16); /* out of step it would read as another instruction */
	CODE(b, F1 + 23, "\xc3\xcc\x00\x00\xcc");
	good(b, code_decode(&b->work, &b->error));
	assert_int_equal(b->work.ref_count, 1);
	assert_ref(b, F1 + 19, DATA + 16);
	assert_true(work_is_start(&b->work, F1 + 16));
	assert_false(work_is_start(&b->work, F1 + 6));
	assert_false(unit_of(b, F1)->unexplained);
	tear_down(b);

	/* zeros that end somewhere else are nothing that is known */
	b = three_functions();
	memset(b->work.bytes + F1, 0xcc, F2 - F1);
	CODE(b, F1, "\x31\xc0\xc3\x00\x00\x00\xc0\xc3");
	good(b, code_decode(&b->work, &b->error));
	assert_true(unit_of(b, F1)->unexplained);
	tear_down(b);

	/* a basic block may begin with an addition of bytes */
	b = three_functions();
	memset(b->work.bytes + F1, 0xcc, F2 - F1);
	CODE(b, F1, "\x74\x01\xc3\x00\xc1\xc3");
	good(b, code_decode(&b->work, &b->error));
	assert_true(work_is_start(&b->work, F1 + 3) && work_is_start(&b->work, F1 + 5));
	assert_false(unit_of(b, F1)->unexplained);
	tear_down(b);
}

static void test_short_branches(void **state)
{
	struct builder *b = three_functions();

	(void)state;
	CODE(b, F1, "\x74\x02\xc3\x90\xeb\x3a"); /* je within; at +4 jmp to F2 */
	good(b, code_decode(&b->work, &b->error));
	assert_int_equal(b->work.ref_count, 0);
	assert_int_equal(b->work.tie_count, 1);
	assert_int_equal(b->work.tie[0].a, F1 + 5);
	assert_int_equal(b->work.tie[0].b, F2);
	tear_down(b);
}

/*
 * Code that refers to another block by something else than 32 bits: no block may slide, and the reason tells how many
 * bits it has; 0 stands for a sum that an address-size prefix cuts.
 */
static void test_other_blocks(void **state)
{
	static const struct {
		const char *opcode;
		unsigned opcode_bytes, field_bytes;
		uint32_t at, target;
		unsigned crosses;
		const char *none;
	} rows[] = {
	    {"\x48\x8b\x05", 3, 4, F1, DATA, 1, ""},
	    {"\x67\x48\x8b\x05", 4, 4, F1, DATA, 0, "code at ffffffff81003004 refers to another section by 0 bits"},
	    {"\x67\x48\x8d\x05", 4, 4, F1, DATA, 0, "code at ffffffff81003004 refers to another section by 0 bits"},
	    {"\x67\x48\x8b\x05", 4, 4, F1, F1, 0, ""},
	    {"\xe9", 1, 4, F3, REPLACEMENT, 1, ""},
	    {"\xeb", 1, 1, F3 + 0xf00, F3 + 0xf7e, 0, ""},
	    {"\xeb", 1, 1, F3 + 0xf70, TEXT, 0, "code at ffffffff81003ff1 refers to another section by 8 bits"},
	};

	(void)state;
	for (unsigned i = 0; i < sizeof rows / sizeof *rows; i++) {
		struct builder *b = three_functions();
		struct shuffle_slides *slides = &b->result.slides;
		uint32_t field = rows[i].at + rows[i].opcode_bytes, end = field + rows[i].field_bytes;

		slides->block_count = 2;
		slides->block[0] = (struct riffle_block){.align = 4096, .gaps = 1};
		slides->block[1] = (struct riffle_block){.image_offset = TEXT, .align = 4096, .gaps = 2};
		put(b, rows[i].at, rows[i].opcode, rows[i].opcode_bytes);
		if (rows[i].field_bytes == 4)
			riffle_put32(b->work.bytes + field, rows[i].target - end);
		else
			b->work.bytes[field] = (uint8_t)(rows[i].target - end);
		CODE(b, end, "\xc3");
		good(b, code_decode(&b->work, &b->error));
		assert_string_equal(slides->none, rows[i].none);
		assert_int_equal(slides->block_count, *rows[i].none ? 0 : 2);
		assert_int_equal(slides->cross_count, rows[i].crosses);
		if (rows[i].crosses) {
			assert_int_equal(slides->cross[0].field, field);
			assert_int_equal(slides->cross[0].block, 1);
		}
		free(slides->cross);
		tear_down(b);
	}
}

static void test_ends(void **state)
{
	static const struct {
		const char *bytes;
		size_t count;
		enum work_end end;
		uint32_t code_bytes;
	} row[] = {
	    {"\xc3", 1, WORK_END_STOPS, 1},
	    {"\xf3\x0f\x1e\xfa\xc3\x0f\x1f\x00\x90", 9, WORK_END_STOPS, 5}, /* endbr64, ret, nops */
	    {"\x0f\x0b", 2, WORK_END_STOPS, 2},
	    {"\xf4", 1, WORK_END_STOPS, 1},
	    {"\xeb\xfe", 2, WORK_END_STOPS, 2},
	    {"\xff\xe0", 2, WORK_END_STOPS, 2},
	    {"\xff\xd0\x90", 3, WORK_END_CALLS, 2},
	    {"\x48\x89\xc3", 3, WORK_END_FALLS, 3},
	    {"\x74\xfe", 2, WORK_END_FALLS, 2},
	    {"\x90\x90\x66\x90", 4, WORK_END_FALLS, 0},
	    {"\xc3\x48\x89\xc3\xcc", 5, WORK_END_FALLS, 4}, /* runs into a trap: not trusted */
	};

	(void)state;
	for (unsigned i = 0; i < sizeof row / sizeof *row; i++) {
		struct builder *b = three_functions();

		put(b, F1, row[i].bytes, row[i].count);
		good(b, code_decode(&b->work, &b->error));
		assert_int_equal(unit_of(b, F1)->end, row[i].end);
		assert_int_equal(unit_of(b, F1)->code_bytes, row[i].code_bytes);
		assert_int_equal(unit_of(b, F1)->bytes, F2 - F1);
		assert_false(unit_of(b, F1)->unexplained);
		tear_down(b);
	}
}

/* Percpu variables linked at 0: outside the image, and right only where the kernel has an inverse relocation. */
static void test_percpu(void **state)
{
	struct builder *b = three_functions();

	(void)state;
	REL32(b, F1, "\x65\x48\x8b\x05", (uint32_t)(0x1000 - LINK)); /* mov %gs:0x1000(%rip), %rax */
	CODE(b, F1 + 8, "\xc3");
	REL32(b, F2, "\x65\x48\x8b\x05", (uint32_t)(0x1000 - LINK));
	CODE(b, F2 + 8, "\xc3");
	relocate(b, &b->image.reloc32_inverse, F1 + 4);
	good(b, code_decode(&b->work, &b->error));
	assert_int_equal(b->work.ref_count, 0);
	assert_false(unit_of(b, F1)->unexplained);
	assert_true(unit_of(b, F2)->unexplained);
	tear_down(b);
}

static void test_relocated_field_is_no_distance(void **state)
{
	struct builder *b = three_functions();

	(void)state;
	REL32(b, F1, "\x48\x8b\x05", DATA);
	CODE(b, F1 + 7, "\xc3");
	relocate(b, &b->image.reloc32, F1 + 3);
	good(b, code_decode(&b->work, &b->error));
	assert_int_equal(b->work.ref_count, 0);
	assert_true(unit_of(b, F1)->unexplained);
	tear_down(b);
}

static void test_odd_instructions(void **state)
{
	struct builder *b = three_functions();

	(void)state;
	CODE(b, F1, "\x0f\x0bxen\x0f\xa2\xc3");         /* ud2 xen, cpuid, ret */
	CODE(b, F2, "\xf2\x0f\x00\xf7\x0f\x0bkvm\xc3"); /* lkgs %di, ud2 kvm, ret */
	CODE(b, F3, "\x06\xc3");                        /* push %es: none in 64-bit code */
	good(b, code_decode(&b->work, &b->error));
	assert_false(unit_of(b, F1)->unexplained);
	assert_true(work_is_start(&b->work, F1 + 5));
	assert_false(work_is_start(&b->work, F1 + 2));
	assert_int_equal(unit_of(b, F1)->end, WORK_END_STOPS);
	assert_false(unit_of(b, F2)->unexplained);
	assert_true(work_is_start(&b->work, F2 + 9));
	assert_true(unit_of(b, F3)->unexplained);
	assert_int_equal(b->work.tie_count, 0);
	tear_down(b);
}

/* One instruction across a symbol, as in the return thunks: neither reading is trusted, and the two stay together. */
static void test_overlap(void **state)
{
	struct builder *b = build(TEXT);

	(void)state;
	add_symbol(b, F1, "outer");
	add_symbol(b, F1 + 2, "inner");
	add_symbol(b, F2, "next");
	CODE(b, F1, "\xc3\xf6\xc3\xcc\x0f\xae\xe8\xc3"); /* ret, then test $0xcc, %bl, or ret and int3 from +2 on */
	CODE(b, F2, "\xc3");
	good(b, code_decode(&b->work, &b->error));
	assert_true(unit_of(b, F1)->unexplained);
	assert_int_equal(unit_of(b, F1)->end, WORK_END_FALLS);
	assert_true(work_is_start(&b->work, F1 + 2));
	assert_false(unit_of(b, F2)->unexplained);
	tear_down(b);
}

static void test_branch_into_an_instruction(void **state)
{
	struct builder *b = three_functions();

	(void)state;
	REL32(b, F1, "\xe9", F2 + 1);
	CODE(b, F2, "\x48\x89\xc3\xc3");
	good(b, code_decode(&b->work, &b->error));
	assert_true(unit_of(b, F1)->unexplained);
	assert_true(unit_of(b, F2)->unexplained);
	assert_false(unit_of(b, F3)->unexplained);
	tear_down(b);
}

/* A branch to data, and code that reads code: a copy of it, or a constant that wants its alignment. */
static void test_code_and_data(void **state)
{
	struct builder *b = three_functions();

	(void)state;
	REL32(b, F1, "\xe9", DATA);
	REL32(b, F2, "\x48\x8b\x05", F3);
	CODE(b, F2 + 7, "\xc3");
	good(b, code_decode(&b->work, &b->error));
	assert_true(unit_of(b, F1)->unexplained);
	assert_false(unit_of(b, F2)->unexplained);
	assert_true(unit_of(b, F3)->unexplained);
	assert_ref(b, F2 + 3, F3);
	tear_down(b);
}

/* Any bytes and any symbols: no step goes out of bounds, and every unit is where the one before it ends. */
static void test_noise(void **state)
{
	const unsigned seed = 20260;
	struct builder *b = build(TEXT);
	uint32_t at = 0;

	(void)state;
	print_message("seed %u\n", seed);
	srand(seed);
	for (uint32_t i = 0; i < b->work.image_bytes; i++)
		b->work.bytes[i] = (uint8_t)rand();
	for (uint32_t offset = 1; offset < TEXT; offset += 1 + (uint32_t)rand() % 40)
		add_symbol(b, offset, "noise");
	good(b, code_decode(&b->work, &b->error));
	for (uint32_t i = 0; i < b->work.unit_count; i++) {
		const struct work_unit *unit = &b->work.unit[i];

		assert_int_equal(unit->offset, at);
		assert_true(unit->bytes && unit->code_bytes <= unit->bytes);
		assert_int_equal(work_unit_at(&b->work, at + unit->bytes - 1), i);
		at += unit->bytes;
	}
	assert_int_equal(at, TEXT);
	tear_down(b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_references),
	    cmocka_unit_test(test_other_sections),
	    cmocka_unit_test(test_short_branches),
	    cmocka_unit_test(test_holes),
	    cmocka_unit_test(test_other_blocks),
	    cmocka_unit_test(test_ends),
	    cmocka_unit_test(test_percpu),
	    cmocka_unit_test(test_relocated_field_is_no_distance),
	    cmocka_unit_test(test_odd_instructions),
	    cmocka_unit_test(test_overlap),
	    cmocka_unit_test(test_branch_into_an_instruction),
	    cmocka_unit_test(test_code_and_data),
	    cmocka_unit_test(test_noise),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
