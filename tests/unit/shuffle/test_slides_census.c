/* SPDX-License-Identifier: Apache-2.0 */
/* An unknown table of distances between blocks is detected whatever its form; nops and chance are not taken for one. */
#include "prepare/shuffle/slides.h"
#include "tables_builder.h"

#define RODATA DATA
#define RWDATA 0x20000u
#define VARIABLES 100u
#define UNREAD function(20)

static struct kernel *make(void)
{
	static const uint32_t starts[] = {0, RODATA, RWDATA};
	struct kernel *k = make_kernel();

	k->result.slides.block_count = 3;
	for (unsigned i = 0; i < 3; i++)
		k->result.slides.block[i] = (struct riffle_block){.image_offset = starts[i], .align = 4096, .gaps = 2};
	for (unsigned i = 0; i < VARIABLES; i++)
		name_place(k, "variable", RWDATA + i * 64);
	name_place(k, "_end", IMAGE);
	return k;
}

static void put_leads(struct kernel *k, uint32_t at, uint32_t step, uint32_t count)
{
	for (uint32_t i = 0; i < count; i++)
		put_distance(k, at + i * step, RWDATA + (i * 7 + 1) % VARIABLES * 64);
}

/* Ends the kernel. */
static void expect(struct kernel *k, const char *what, uint32_t at)
{
	char found[256] = "";

	good(k, slides_census(&k->work, &k->error));
	if (what)
		snprintf(found, sizeof found, "an unknown table: %s at %llx lead to other sections", what,
			 (unsigned long long)(LINK + at));
	assert_string_equal(k->result.slides.none, found);
	assert_int_equal(k->result.slides.block_count, what ? 0 : 3);
	end_kernel(k);
}

static void test_runs(void **state)
{
	(void)state;
	for (uint32_t step = 1; step <= 68; step++) {
		struct kernel *k = make();

		if (step >= 4) {
			put_leads(k, RODATA + 0x100, step, step % 4 ? 8 : 6);
			expect(k, step <= 64 ? "words in a row" : NULL, RODATA + 0x100);
			k = make();
			put_leads(k, RODATA + 0x100, step, step % 4 ? 7 : 5);
			expect(k, NULL, 0);
			k = make();
			put_leads(k, RODATA + 0x102, step, 8);
			expect(k, step <= 64 ? "words in a row" : NULL, RODATA + 0x102);
			k = make();
			put_leads(k, RODATA + 0x101, step, 7);
		}
		expect(k, NULL, 0);
	}
}

/* Fields that count from the start of their entry, as in struct bug_entry up to 5.x; only aligned ones. */
static void test_start_of_entry(void **state)
{
	(void)state;
	for (uint32_t back = 0; back <= 16; back += 4)
		for (uint32_t odd = 0; odd < 2; odd++) {
			struct kernel *k = make();

			for (uint32_t i = 0; i < 9; i++) {
				uint32_t at = RODATA + 0x100 + odd + i * 20;

				put_distance(k, at, RWDATA + (i * 7 + 1) % VARIABLES * 64 + back);
			}
			/* 8 and 16 bytes on there may be a member */
			expect(k, odd && back % 8 ? NULL : "words in a row", RODATA + 0x100 + odd);
		}
}

/* Instructions that no shuffle moves are referred to as well; those that move are looked for by the shuffle's census.
 */
static void test_instructions(void **state)
{
	(void)state;
	for (uint32_t pin = 0; pin < 2; pin++) {
		struct kernel *k = make();

		for (uint32_t i = 0; i < 9; i++)
			put_distance(k, RODATA + 0x100 + i * 4, instruction(i * 17 + 1));
		if (pin)
			for (uint32_t i = 0; i < k->result.range_count; i++)
				k->result.range[i].pin = SHUFFLE_PIN_SECTION;
		expect(k, pin ? "words in a row" : NULL, RODATA + 0x100);
	}
}

/* The same word again and again is a constant. */
static void test_constant(void **state)
{
	struct kernel *k = make();

	(void)state;
	for (uint32_t i = 0; i < 60; i++)
		riffle_put32(k->work.bytes + RODATA + i * 64, 0x10040);
	expect(k, NULL, 0);
}

static void test_objects(void **state)
{
	(void)state;
	for (uint32_t count = 3; count <= 4; count++) {
		struct kernel *k = make();

		name_place(k, "object", RODATA + 0x80);
		name_place(k, "next", RODATA + 0x80 + count * 12);
		put_leads(k, RODATA + 0x80 + 4, 12, count);
		expect(k, count == 4 ? "an object's words" : NULL, RODATA + 0x84);
	}
}

static void test_sections(void **state)
{
	(void)state;
	for (uint32_t count = 2; count <= 3; count++) {
		struct kernel *k = make();

		name_section(k, ".table", RODATA + 0x80, 16, 0);
		put_leads(k, RODATA + 0x80, 4, count);
		expect(k, count == 3 ? "a section's words" : NULL, RODATA + 0x80);
	}
}

/* Numbers of 16 bits and less, which read a byte early lead to variables; the last one of 10 is `last`. */
static void put_numbers(struct kernel *k, uint32_t last)
{
	for (uint32_t i = 0; i < 10; i++) {
		uint32_t at = RODATA + 0x1c0 + 4 * i;

		name_place(k, "lead", at - 1 + ((0x110 + i) << 8));
		riffle_put32(k->work.bytes + at, 0x110 + i + (i == 8 ? last : 0));
	}
}

static void test_small_numbers(void **state)
{
	struct kernel *k = make();

	(void)state;
	put_numbers(k, 0);
	expect(k, NULL, 0);
	k = make();
	put_numbers(k, 0x10u << 24);
	expect(k, "words in a row", RODATA + 0x1bf);
}

/* Within a block, and what is known, is no lead. */
static void test_known(void **state)
{
	struct kernel *k = make();

	(void)state;
	put_leads(k, RWDATA + 0x8000, 4, 20);
	expect(k, NULL, 0);
	k = make();
	put_leads(k, RODATA + 0x100, 4, 20);
	k->result.slides.table_count = 1;
	k->result.slides.table[0] = (struct riffle_cross_table){RODATA + 0x100, 20, 4, RIFFLE_CROSS_DISTANCE32, 0, 0};
	expect(k, NULL, 0);
	/* one that is read short is found by the rest of it */
	k = make();
	put_leads(k, RODATA + 0x100, 4, 20);
	k->result.slides.table_count = 1;
	k->result.slides.table[0] = (struct riffle_cross_table){RODATA + 0x100, 14, 4, RIFFLE_CROSS_DISTANCE32, 0, 0};
	expect(k, "words in a row", RODATA + 0x100 + 14 * 4);
}

/* A description of types holds no leads, if it is one: its header alone, whose third word begins a run here. */
static void test_types(void **state)
{
	static const struct {
		uint32_t bytes, header_bytes, magic, string_bytes;
		bool known;
	} rows[] = {
	    {24, 24, 0x1eb9f, 0, true},  {23, 24, 0x1eb9f, 0, false}, {24, 25, 0x1eb9f, 0, false},
	    {24, 24, 0x1eb9e, 0, false}, {24, 24, 0x2eb9f, 0, false}, {24, 24, 0x1eb9f, 1, false},
	    {27, 24, 0x1eb9f, 3, true},  {27, 24, 0x1eb9f, 4, false},
	};

	(void)state;
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		struct kernel *k = make();
		const uint32_t at = RODATA + 0x100;

		name_section(k, ".BTF", at, rows[i].bytes, 0);
		riffle_put32(k->work.bytes + at, rows[i].magic);
		riffle_put32(k->work.bytes + at + 4, rows[i].header_bytes);
		riffle_put32(k->work.bytes + at + 20, rows[i].string_bytes);
		put_leads(k, at + 8, 24, 6);
		expect(k, rows[i].known ? NULL : "words in a row", at + 8);
	}
}

static void test_unread_code(void **state)
{
	struct kernel *k = make();

	(void)state;
	memset(k->work.bytes + UNREAD, 0xcc, FUNCTION);
	put_leads(k, UNREAD + 11, 4, 1);
	expect(k, NULL, 0); /* decoded */
	k = make();
	memset(k->work.bytes + UNREAD, 0xcc, FUNCTION);
	put_leads(k, UNREAD + 11, 4, 1);
	k->result.slides.unread[k->result.slides.unread_count++] = (struct shuffle_unread){UNREAD, FUNCTION};
	expect(k, "bytes of unknown code", UNREAD + 11);
}

/* Nops between jumps that are not understood: bytes 1f 84 00 00 of one would lead to a variable. */
static void test_nops(void **state)
{
	static const uint8_t nop[] = {0x66, 0x66, 0x2e, 0x0f, 0x1f, 0x84, 0, 0, 0, 0, 0};
	static const struct {
		uint32_t end; /* of the nop */
		bool spoilt, fills;
	} cases[] = {
	    {32, false, true}, {FUNCTION, false, true}, {31, false, false}, {33, false, false}, {32, true, false}};

	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		struct kernel *k = make();
		uint32_t at = UNREAD + cases[i].end - (uint32_t)sizeof nop;

		memset(k->work.bytes + UNREAD, 0xcc, FUNCTION);
		memcpy(k->work.bytes + at, nop, sizeof nop);
		if (cases[i].spoilt)
			k->work.bytes[at + sizeof nop - 1] = 1;
		name_place(k, "lead", at + 4 + 0x841f);
		k->work.symbol[0].type = 'd';
		k->result.slides.block[1].image_offset = UNREAD + FUNCTION;
		k->result.slides.unread[k->result.slides.unread_count++] = (struct shuffle_unread){UNREAD, FUNCTION};
		expect(k, cases[i].fills ? NULL : "bytes of unknown code", at + 4);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_runs),           cmocka_unit_test(test_constant),
	    cmocka_unit_test(test_objects),        cmocka_unit_test(test_sections),
	    cmocka_unit_test(test_known),          cmocka_unit_test(test_unread_code),
	    cmocka_unit_test(test_types),          cmocka_unit_test(test_nops),
	    cmocka_unit_test(test_start_of_entry), cmocka_unit_test(test_instructions),
	    cmocka_unit_test(test_small_numbers),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
