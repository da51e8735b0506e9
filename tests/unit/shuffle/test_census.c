/* SPDX-License-Identifier: Apache-2.0 */
/* An unknown table is detected wherever it is and whatever its form; random and regular data are not taken for one. */
#include "tables_builder.h"

static void fill_random(struct kernel *k)
{
	for (uint32_t at = DATA; at < IMAGE; at += 8)
		riffle_put64(k->work.bytes + at, random64(k));
}

/* `count` distances, a step apart, to different instructions of functions that move. */
static void put_table(struct kernel *k, uint32_t offset, uint32_t step, uint32_t count)
{
	for (uint32_t i = 0; i < count; i++)
		put_distance(k, offset + i * step, instruction(i * 29 + 3));
}

static void noticed(struct kernel *k, uint32_t offset)
{
	refused(k, census_take(&k->work, &k->error), "completeness", offset);
	forget(k);
}

static void not_noticed(struct kernel *k)
{
	good(k, census_take(&k->work, &k->error));
	forget(k);
}

/* random words lead to an instruction of this kernel about once in 680000: they are counted and let through */
static void test_random_data(void **state)
{
	struct kernel *k = make_kernel();
	uint64_t words = 0, chance = 0;

	(void)state;
	print_message("seed %llu\n", (unsigned long long)k->seed);
	for (unsigned round = 0; round < 20; round++) {
		fill_random(k);
		good(k, census_take(&k->work, &k->error));
		words += k->result.census.words_scanned;
		chance += k->result.census.words_chance;
		forget(k);
	}
	assert_true(words > 20 * (IMAGE - DATA) - 1000 && words <= 20 * (IMAGE - DATA));
	assert_true(chance < 60);
	end_kernel(k);
}

/* close to .text, of words like those that lead there: an instruction is hit by one in five */
static void test_near_words(void **state)
{
	struct kernel *k = make_kernel();

	(void)state;
	for (unsigned round = 0; round < 20; round++) {
		memset(k->work.bytes + DATA, 0, IMAGE - DATA);
		for (uint32_t at = DATA; at < DATA + 0x4000; at += 4)
			if (random64(k) % 8 == 0)
				put_distance(k, at, (uint32_t)(random64(k) % TEXT_BYTES));
		good(k, census_take(&k->work, &k->error));
		assert_true(k->result.census.words_chance > 50);
		forget(k);
	}
	end_kernel(k);
}

/* equal constants, as many as may be, of which every fifth leads to an instruction */
static void test_constants(void **state)
{
	struct kernel *k = make_kernel();

	(void)state;
	for (uint32_t i = 0; i < 2000; i++)
		riffle_put32(k->work.bytes + DATA + i * 4, 0xffff0100u);
	not_noticed(k);
	end_kernel(k);
}

/* a pattern of two words that repeats, both of which lead to instructions wherever they are: Linux 7.3 has one */
static void test_patterns(void **state)
{
	struct kernel *k = make_kernel();
	const uint32_t step = 2 * INSTRUCTION, words = 64;

	(void)state;
	for (uint32_t i = 0; i < words; i++)
		riffle_put32(k->work.bytes + DATA + i * step, instruction(i % 2 ? 40 : 900) - DATA);
	not_noticed(k);
	/* eight different ones are a table, however often each is there */
	for (uint32_t i = 0; i < words; i++)
		riffle_put32(k->work.bytes + DATA + i * step, instruction(i % 8 * 100) - DATA);
	noticed(k, DATA);
	end_kernel(k);
}

static void test_every_step(void **state)
{
	(void)state;
	for (uint32_t step = 4; step <= 64; step++)
		for (uint32_t shift = 0; shift < 4; shift++) {
			struct kernel *k = make_kernel();
			uint32_t offset = DATA + 0x3000 + shift;

			fill_random(k);
			put_table(k, offset, step, 8);
			noticed(k, offset);
			end_kernel(k);
		}
}

/* eight words are enough; those of a table that is known are none */
static void test_shortest_run(void **state)
{
	struct kernel *k = make_kernel();

	(void)state;
	fill_random(k);
	put_table(k, DATA + 0x5000, 12, 7);
	not_noticed(k);
	put_table(k, DATA + 0x5000, 12, 8);
	noticed(k, DATA + 0x5000);
	good(k, table_known(&k->work, "known", DATA + 0x5000, 96, &k->error));
	good(k, census_take(&k->work, &k->error));
	end_kernel(k);
}

/* distances only to fixed code do not matter; a single one to a chunk does */
static void test_fixed_targets(void **state)
{
	struct kernel *k = make_kernel();

	(void)state;
	for (uint32_t i = 0; i < 40; i++)
		put_distance(k, DATA + i * 4, i % 2 ? INIT + i * INSTRUCTION : i % 60 * INSTRUCTION);
	not_noticed(k);
	put_distance(k, DATA + 13 * 4, function(200));
	noticed(k, DATA);
	end_kernel(k);
}

/* addresses are no distances: what an absolute relocation covers is left alone */
static void test_relocated_fields(void **state)
{
	struct kernel *k = make_kernel();

	(void)state;
	put_table(k, DATA, 8, 20);
	for (uint32_t i = 0; i < 20; i++)
		k->reloc64[k->image.reloc64.count++] = DATA + i * 8;
	not_noticed(k);
	k->image.reloc64.count = 8;
	noticed(k, DATA + 64);
	end_kernel(k);
}

/* too short for a run, but between two symbols there is nothing else */
static void test_short_tables(void **state)
{
	struct kernel *k = make_kernel();

	(void)state;
	put_table(k, DATA + 0x100, 4, 3);
	name_place(k, "object", DATA + 0x100);
	not_noticed(k);
	name_place(k, "next", DATA + 0x10c);
	noticed(k, DATA + 0x100);
	k->work.symbol_count = 0;

	/* each entry has a symbol of its own, and symbols bracket them all */
	name_place(k, "__things_start", DATA + 0x100);
	name_place(k, "thing1", DATA + 0x104);
	name_place(k, "thing2", DATA + 0x108);
	not_noticed(k);
	name_place(k, "__things_end", DATA + 0x10c);
	noticed(k, DATA + 0x100);
	end_kernel(k);
}

/* a section of its own may refer into instructions */
static void test_section_of_operands(void **state)
{
	struct kernel *k = make_kernel();

	(void)state;
	for (uint32_t i = 0; i < 5; i++)
		put_distance(k, DATA + 0x200 + i * 4, instruction(i * 17) + 2);
	not_noticed(k);
	name_section(k, "patch_sites", DATA + 0x200, 20, 0);
	noticed(k, DATA + 0x200);
	end_kernel(k);

	/* three words are enough; one that is as short, but is not loaded, says nothing of the one before it */
	k = make_kernel();
	for (uint32_t i = 0; i < 3; i++)
		put_distance(k, DATA + 0x200 + i * 4, instruction(i * 17) + 2);
	name_section(k, "long", DATA + 0x200, 64, 0);
	name_section(k, "symbols", DATA, 12, 0);
	k->section[k->image.section_count - 1].address = 0;
	not_noticed(k);
	k->section[k->image.section_count - 2].bytes = 12;
	noticed(k, DATA + 0x200);
	end_kernel(k);
}

/* a compiler's jump table: distances from its start, so that most do not lead to instructions from their own places */
static void test_jump_table_of_code(void **state)
{
	struct kernel *k = make_kernel();

	(void)state;
	for (uint32_t i = 0; i < 12; i++)
		riffle_put32(k->work.bytes + DATA + 0x300 + i * 4, instruction(100 + i * 2) - (DATA + 0x300));
	noticed(k, DATA + 0x300);
	end_kernel(k);
}

/* padding is decoded as instructions, but no table leads there */
static void test_padding(void **state)
{
	struct kernel *k = make_kernel();

	(void)state;
	for (uint32_t at = function(100); at < function(200); at++) {
		k->work.bytes[at] = 0xcc;
		k->work.start[at / 8] |= (uint8_t)(1u << at % 8);
	}
	for (uint32_t i = 0; i < 9; i++)
		put_distance(k, DATA + i * 8, function(100) + i * 50);
	not_noticed(k);
	end_kernel(k);
}

/* each table is one that the census would find, were it not known */
static void test_tables_and_census(void **state)
{
	struct kernel *k = make_kernel();

	(void)state;
	name_section(k, ".retpoline_sites", DATA, 64, 0);
	put_table(k, DATA, 4, 16);
	good(k, tables_read(&k->work, &k->error));
	assert_int_equal(k->work.ref_count, 16);
	not_noticed(k);
	for (unsigned i = 0; i < table_count(); i++)
		if (!strcmp(table_name(i), ".retpoline_sites"))
			k->work.tables_ignored = UINT64_C(1) << i;
	assert_true(k->work.tables_ignored);
	good(k, tables_read(&k->work, &k->error));
	assert_int_equal(k->work.ref_count, 0);
	noticed(k, DATA);
	end_kernel(k);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_random_data),        cmocka_unit_test(test_near_words),
	    cmocka_unit_test(test_constants),          cmocka_unit_test(test_patterns),
	    cmocka_unit_test(test_every_step),         cmocka_unit_test(test_shortest_run),
	    cmocka_unit_test(test_fixed_targets),      cmocka_unit_test(test_relocated_fields),
	    cmocka_unit_test(test_short_tables),       cmocka_unit_test(test_section_of_operands),
	    cmocka_unit_test(test_jump_table_of_code), cmocka_unit_test(test_padding),
	    cmocka_unit_test(test_tables_and_census),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
