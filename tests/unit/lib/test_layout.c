/* SPDX-License-Identifier: Apache-2.0 */
/* Layouts are uniform over all that fit, independent, replayable, and never overlap anything. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <sys/random.h>

#include <cmocka.h>

#include <riffle/layout.h>

#include "prepared_builder.h"

#define MIB (UINT64_C(1) << 20)
#define DRAWS 1000000

static struct riffle_plan plan_of(struct builder *b, uint64_t image_mib)
{
	struct riffle_plan plan = RIFFLE_PLAN_INIT;

	builder_start(b, image_mib * MIB, MIB);
	builder_extent(b, 0, 4096);
	builder_seal(b);
	assert_int_equal(riffle_plan_check(&plan, &b->header, b->plan, b->plan_bytes, b->header.file_bytes, NULL),
			 RIFFLE_OK);
	return plan;
}

/* The seed of a statistical test: new each time, printed, and to be set again by RIFFLE_TEST_SEED. */
static void test_seed(uint8_t seed[32])
{
	const char *given = getenv("RIFFLE_TEST_SEED");

	memset(seed, 0, 32);
	if (given)
		for (unsigned i = 0; i < 32 && sscanf(given + 2 * i, "%2hhx", &seed[i]) == 1; i++)
			;
	else
		assert_int_equal(getrandom(seed, 32, 0), 32);
	printf("RIFFLE_TEST_SEED=");
	for (unsigned i = 0; i < 32; i++)
		printf("%02x", seed[i]);
	printf("\n");
}

/* Upper tail of chi-square by Wilson and Hilferty's cube root, good to a few percent of log p for 10 degrees up. */
static double chi_square_p(const uint32_t *count, unsigned bins, double draws)
{
	double expected = draws / bins, x = 0, k = bins - 1, z;

	for (unsigned i = 0; i < bins; i++)
		x += (count[i] - expected) * (count[i] - expected) / expected;
	z = (cbrt(x / k) - (1 - 2 / (9 * k))) / sqrt(2 / (9 * k));
	return erfc(z / sqrt(2)) / 2;
}

/* Every physical slot by brute force, as an independent model of what fits. */
static unsigned all_slots(uint64_t *slot, const struct riffle_memory *m, uint64_t image_bytes)
{
	unsigned count = 0;

	for (size_t i = 0; i < m->ram_count; i++)
		for (uint64_t at = 16 * MIB; at + image_bytes <= m->ram[i].address + m->ram[i].bytes; at += 2 * MIB) {
			bool free = at >= m->ram[i].address;

			for (size_t r = 0; r < m->reserved_count; r++)
				if (m->reserved[r].bytes && at < m->reserved[r].address + m->reserved[r].bytes &&
				    m->reserved[r].address < at + image_bytes)
					free = false;
			if (free)
				slot[count++] = at;
		}
	return count;
}

static const struct riffle_ram one_ram[] = {{0, 512 * MIB, NULL}};
static const struct riffle_ram two_ram[] = {{0x100000000, 300 * MIB, NULL}, {0, 3072 * MIB, NULL}};
static const struct riffle_ram odd_ram[] = {{0, 100 * MIB + 4096, NULL}, {200 * MIB + 4096, 131 * MIB, NULL}};
static const struct riffle_range low_only[] = {{0x7000, 4096}, {0x9000, 16 * 4096}};
static const struct riffle_range holes[] = {
    {450 * MIB + 4096, 30 * MIB}, {0, MIB}, {100 * MIB, 1}, {100 * MIB, 3 * MIB}, {101 * MIB, 40 * MIB}, {300 * MIB, 0},
};
static const struct {
	const char *name;
	struct riffle_memory memory;
	uint64_t image_mib;
} guests[] = {
    {"512 MiB", {one_ram, 1, low_only, 2}, 48},
    {"512 MiB with holes", {one_ram, 1, holes, 6}, 30},
    {"3.3 GiB above and below the 32-bit hole", {two_ram, 2, holes, 6}, 40},
    {"odd stretches", {odd_ram, 2, low_only, 2}, 31},
};

static void slots_are_counted_right(void **state)
{
	static uint64_t slot[4096];

	(void)state;
	for (size_t g = 0; g < sizeof guests / sizeof *guests; g++) {
		struct riffle_slots slots;
		struct riffle_error error;
		struct builder b;
		struct riffle_plan plan = plan_of(&b, guests[g].image_mib);

		assert_int_equal(riffle_layout_slots(&slots, &plan, &guests[g].memory, RIFFLE_MODE_KASLR, &error), 0);
		assert_int_equal(slots.physical, all_slots(slot, &guests[g].memory, plan.header->image_bytes));
		assert_int_equal(slots.virtual_, 1 + (1024 - 16 - guests[g].image_mib) / 2);
		builder_end(&b);
	}
}

/* Both slots are uniform and uncorrelated; the same test detects a generator that never gives the last slot. */
static void draws_are_uniform(void **state)
{
	static uint32_t physical[4096], virtual_[512], cheat[512], cheat_physical[4096];
	static uint64_t slot[4096];

	(void)state;
	for (size_t g = 0; g < sizeof guests / sizeof *guests; g++) {
		double p_physical, p_virtual, sx = 0, sy = 0, sxx = 0, syy = 0, sxy = 0, correlation;
		struct riffle_seeded seeded;
		struct riffle_random random;
		struct riffle_slots slots;
		struct riffle_error error;
		uint8_t seed[32];
		struct builder b;
		struct riffle_plan plan = plan_of(&b, guests[g].image_mib);
		unsigned count = all_slots(slot, &guests[g].memory, plan.header->image_bytes);

		test_seed(seed);
		riffle_random_from_seed(&random, &seeded, seed);
		assert_int_equal(riffle_layout_slots(&slots, &plan, &guests[g].memory, RIFFLE_MODE_KASLR, &error), 0);
		memset(physical, 0, sizeof physical);
		memset(virtual_, 0, sizeof virtual_);
		memset(cheat, 0, sizeof cheat);
		memset(cheat_physical, 0, sizeof cheat_physical);
		for (unsigned i = 0; i < DRAWS; i++) {
			struct riffle_layout layout = RIFFLE_LAYOUT_INIT;
			uint64_t v;
			unsigned p;

			assert_int_equal(
			    riffle_layout_draw(&layout, &plan, &guests[g].memory, RIFFLE_MODE_KASLR, &random, &error),
			    0);
			assert_int_equal(riffle_layout_check(&layout, &plan, &guests[g].memory, &error), 0);
			for (p = 0; p < count && slot[p] != layout.physical_base; p++)
				;
			assert_true(p < count);
			v = (layout.virtual_base - plan.header->link_virt) / (2 * MIB);
			assert_true(v < slots.virtual_ && layout.virtual_base % (2 * MIB) == 0);
			physical[p]++;
			virtual_[v]++;
			cheat[v % (slots.virtual_ - 1)]++;
			cheat_physical[p % (count - 1)]++;
			sx += p, sy += v, sxx += (double)p * p, syy += (double)v * v, sxy += (double)p * v;
		}
		p_physical = chi_square_p(physical, count, DRAWS);
		p_virtual = chi_square_p(virtual_, (unsigned)slots.virtual_, DRAWS);
		correlation = (DRAWS * sxy - sx * sy) / sqrt((DRAWS * sxx - sx * sx) * (DRAWS * syy - sy * sy));
		printf("%s: %u draws, %u physical slots p=%.3g, %u virtual slots p=%.3g, correlation %.4f\n",
		       guests[g].name, DRAWS, count, p_physical, (unsigned)slots.virtual_, p_virtual, correlation);
		assert_true(p_physical >= 1e-6);
		assert_true(p_virtual >= 1e-6);
		assert_true(fabs(correlation) * sqrt(DRAWS) < 5);
		assert_true(chi_square_p(cheat, (unsigned)slots.virtual_, DRAWS) < 1e-6);
		assert_true(chi_square_p(cheat_physical, count, DRAWS) < 1e-6);
		builder_end(&b);
	}
}

/* Physical and virtual slot together: a coarse table of both, tested as one. */
static void slots_are_independent(void **state)
{
	static uint32_t joint[64];
	struct riffle_seeded seeded;
	struct riffle_random random;
	struct riffle_error error;
	uint8_t seed[32];
	struct builder b;
	/* 496 virtual slots and 248 physical ones: both divide by 8, so that the table's cells are equally likely */
	struct riffle_plan plan = plan_of(&b, 18);
	struct riffle_ram ram = {0, (16 + 18 + 2 * 247) * MIB, NULL};
	struct riffle_memory memory = {&ram, 1, NULL, 0};
	double p;

	(void)state;
	test_seed(seed);
	riffle_random_from_seed(&random, &seeded, seed);
	for (unsigned i = 0; i < DRAWS; i++) {
		struct riffle_layout layout = RIFFLE_LAYOUT_INIT;

		assert_int_equal(riffle_layout_draw(&layout, &plan, &memory, RIFFLE_MODE_KASLR, &random, &error), 0);
		joint[(layout.physical_base - 16 * MIB) / (2 * MIB) / 31 * 8 +
		      (layout.virtual_base - plan.header->link_virt) / (2 * MIB) / 62]++;
	}
	p = chi_square_p(joint, 64, DRAWS);
	printf("joint table of 64 cells: p=%.3g\n", p);
	assert_true(p >= 1e-6);
	builder_end(&b);
}

static void modes_include_each_other(void **state)
{
	struct riffle_memory memory = {one_ram, 1, NULL, 0};
	struct riffle_layout layout = RIFFLE_LAYOUT_INIT;
	struct riffle_slots slots;
	struct riffle_error error;
	struct builder b;
	struct riffle_plan plan = plan_of(&b, 48);
	unsigned moved = 0;

	(void)state;
	for (unsigned i = 0; i < 50; i++) {
		assert_int_equal(riffle_layout_draw(&layout, &plan, &memory, RIFFLE_MODE_PHYSICAL, NULL, &error), 0);
		assert_int_equal(layout.virtual_base, b.header.link_virt);
		moved += layout.physical_base != b.header.link_phys;
	}
	assert_true(moved > 10);
	assert_int_equal(riffle_layout_draw(&layout, &plan, &memory, RIFFLE_MODE_OFF, NULL, &error), 0);
	assert_int_equal(layout.physical_base, 16 * MIB);
	assert_int_equal(layout.virtual_base, b.header.link_virt);

	b.header.flags = 0;
	assert_int_equal(riffle_layout_slots(&slots, &plan, &memory, RIFFLE_MODE_KASLR, &error),
			 RIFFLE_ERR_UNSUPPORTED);
	assert_int_equal(riffle_layout_draw(&layout, &plan, &memory, RIFFLE_MODE_PHYSICAL, NULL, &error), 0);
	builder_end(&b);
}

static void what_does_not_fit_is_refused(void **state)
{
	struct riffle_ram ram = {0, 64 * MIB, NULL};
	struct riffle_range middle = {32 * MIB, 1};
	struct riffle_memory memory = {&ram, 1, &middle, 1};
	struct riffle_layout layout = RIFFLE_LAYOUT_INIT;
	struct riffle_error error;
	struct builder b;
	struct riffle_plan plan = plan_of(&b, 48);

	(void)state;
	assert_int_equal(riffle_layout_draw(&layout, &plan, &memory, RIFFLE_MODE_KASLR, NULL, &error),
			 RIFFLE_ERR_SPACE);
	memory.reserved_count = 0;
	assert_int_equal(riffle_layout_draw(&layout, &plan, &memory, RIFFLE_MODE_KASLR, NULL, &error), RIFFLE_OK);
	assert_int_equal(layout.physical_base, 16 * MIB);
	ram.bytes -= 4096;
	assert_int_equal(riffle_layout_draw(&layout, &plan, &memory, RIFFLE_MODE_KASLR, NULL, &error),
			 RIFFLE_ERR_SPACE);
	ram.bytes = UINT64_MAX - 4095;
	ram.address = 1 << 20;
	assert_int_equal(riffle_layout_draw(&layout, &plan, &memory, RIFFLE_MODE_KASLR, NULL, &error),
			 RIFFLE_ERR_ARGUMENT);
	builder_end(&b);
}

static void replayed_layouts_are_checked(void **state)
{
	struct riffle_memory memory = {one_ram, 1, low_only, 2};
	struct builder b;
	struct riffle_plan plan = plan_of(&b, 48);
	const struct {
		struct riffle_layout layout;
		int status;
	} rows[] = {
	    {{RIFFLE_MODE_KASLR, 16 * MIB, 0xffffffff81000000}, RIFFLE_OK},
	    {{RIFFLE_MODE_KASLR, 464 * MIB, 0xffffffffbd000000}, RIFFLE_OK},
	    {{RIFFLE_MODE_KASLR, 466 * MIB, 0xffffffff81000000}, RIFFLE_ERR_SPACE},
	    {{RIFFLE_MODE_KASLR, 14 * MIB, 0xffffffff81000000}, RIFFLE_ERR_SPACE},
	    {{RIFFLE_MODE_KASLR, 17 * MIB, 0xffffffff81000000}, RIFFLE_ERR_SPACE},
	    {{RIFFLE_MODE_KASLR, 16 * MIB, 0xffffffffbd200000}, RIFFLE_ERR_SPACE},
	    {{RIFFLE_MODE_KASLR, 16 * MIB, 0xffffffff80e00000}, RIFFLE_ERR_SPACE},
	    {{RIFFLE_MODE_KASLR, 16 * MIB, 0xffffffff81001000}, RIFFLE_ERR_SPACE},
	    {{RIFFLE_MODE_PHYSICAL, 18 * MIB, 0xffffffff81000000}, RIFFLE_OK},
	    {{RIFFLE_MODE_PHYSICAL, 18 * MIB, 0xffffffff81200000}, RIFFLE_ERR_SPACE},
	    {{RIFFLE_MODE_OFF, 18 * MIB, 0xffffffff81000000}, RIFFLE_ERR_SPACE},
	    {{(enum riffle_mode)9, 16 * MIB, 0xffffffff81000000}, RIFFLE_ERR_ARGUMENT},
	};

	(void)state;
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		struct riffle_error error;

		if (riffle_layout_check(&rows[i].layout, &plan, &memory, &error) != (int)rows[i].status)
			fail_msg("row %zu", i);
	}
	builder_end(&b);
}

static int no_randomness(void *opaque, void *buffer, size_t bytes)
{
	(void)opaque;
	(void)buffer;
	(void)bytes;
	return -1;
}

static void failing_randomness_is_an_error(void **state)
{
	struct riffle_random random = {no_randomness, NULL};
	struct riffle_memory memory = {one_ram, 1, NULL, 0};
	struct riffle_layout layout = RIFFLE_LAYOUT_INIT;
	struct riffle_error error;
	struct builder b;
	struct riffle_plan plan = plan_of(&b, 48);

	(void)state;
	assert_int_equal(riffle_layout_draw(&layout, &plan, &memory, RIFFLE_MODE_KASLR, &random, &error),
			 RIFFLE_ERR_RANDOM);
	builder_end(&b);
}

/* RFC 8439 A.1, test vectors 1 and 2: key 0, counter 0 and 1; and vector 4's key with counter 2 through a state. */
static void seeded_source_is_chacha20(void **state)
{
	static const uint8_t first[16] = {0x76, 0xb8, 0xe0, 0xad, 0xa0, 0xf1, 0x3d, 0x90,
					  0x40, 0x5d, 0x6a, 0xe5, 0x53, 0x86, 0xbd, 0x28};
	static const uint8_t second[16] = {0x9f, 0x07, 0xe7, 0xbe, 0x55, 0x51, 0x38, 0x7a,
					   0x98, 0xba, 0x97, 0x7c, 0x73, 0x2d, 0x08, 0x0d};
	static const uint8_t third[16] = {0x72, 0xd5, 0x4d, 0xfb, 0xf1, 0x2e, 0xc4, 0x4b,
					  0x36, 0x26, 0x92, 0xdf, 0x94, 0x13, 0x7f, 0x32};
	uint8_t seed[32] = {0}, out[192];
	struct riffle_seeded seeded;
	struct riffle_random random;

	(void)state;
	riffle_random_from_seed(&random, &seeded, seed);
	assert_int_equal(random.fill(random.opaque, out, 5), 0);
	assert_int_equal(random.fill(random.opaque, out + 5, 123), 0);
	assert_memory_equal(out, first, 16);
	assert_memory_equal(out + 64, second, 16);
	seed[1] = 0xff;
	riffle_random_from_seed(&random, &seeded, seed);
	assert_int_equal(random.fill(random.opaque, out, 192), 0);
	assert_memory_equal(out + 128, third, 16);
}

/*
 * The RFC's 32-bit counter continues into the nonce's first word; expected values are from a model in another language.
 */
static void the_key_streams_counter_has_64_bits(void **state)
{
	static const struct {
		uint64_t block;
		uint8_t bytes[16];
	} at[] = {
	    {UINT32_MAX,
	     {0xac, 0xe4, 0xcd, 0x09, 0xe2, 0x94, 0xd1, 0x91, 0x2d, 0x4a, 0xd2, 0x05, 0xd0, 0x6f, 0x95, 0xd9}},
	    {UINT64_C(1) << 32,
	     {0x3d, 0xb4, 0x1d, 0x3a, 0xa0, 0xd3, 0x29, 0x28, 0x5d, 0xe6, 0xf2, 0x25, 0xe6, 0xe2, 0x4b, 0xd5}},
	    {UINT64_C(1) << 33,
	     {0x34, 0x32, 0xb7, 0xf8, 0x9b, 0x93, 0xff, 0xc5, 0x23, 0xdd, 0x37, 0x44, 0x3b, 0x93, 0xf6, 0x9e}},
	};
	uint8_t seed[32] = {0}, out[16];
	struct riffle_seeded seeded;
	struct riffle_random random;

	(void)state;
	for (size_t i = 0; i < sizeof at / sizeof *at; i++) {
		/* by each of the places of the four blocks that are made at once */
		for (uint64_t before = 0; before < 4; before++) {
			riffle_random_from_seed(&random, &seeded, seed);
			seeded.block = at[i].block - before;
			for (uint64_t k = 0; k < 4 * before; k++)
				assert_int_equal(random.fill(random.opaque, out, sizeof out), 0);
			assert_int_equal(random.fill(random.opaque, out, sizeof out), 0);
			assert_memory_equal(out, at[i].bytes, sizeof out);
		}
	}
}

/* A source whose first number would bias the result, so that another must be drawn. */
static int two_numbers(void *opaque, void *buffer, size_t bytes)
{
	uint64_t *next = opaque, number = (*next)++ ? 12345 : 0;

	assert_int_equal(bytes, 8);
	memcpy(buffer, &number, 8);
	return 0;
}

static void biased_draws_are_rejected(void **state)
{
	uint64_t calls = 0, number;
	struct riffle_random random = {two_numbers, &calls};
	struct riffle_error error;

	(void)state;
	assert_int_equal(riffle_random_below(&number, 1000, &random, &error), 0);
	assert_int_equal(calls, 2);
	assert_int_equal(number, 345);
	calls = 0;
	assert_int_equal(riffle_random_below(&number, 1024, &random, &error), 0); /* divides 2^64: nothing to reject */
	assert_int_equal(calls, 1);
	assert_int_equal(riffle_random_below(&number, 0, &random, &error), RIFFLE_ERR_ARGUMENT);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(slots_are_counted_right),
	    cmocka_unit_test(draws_are_uniform),
	    cmocka_unit_test(slots_are_independent),
	    cmocka_unit_test(modes_include_each_other),
	    cmocka_unit_test(what_does_not_fit_is_refused),
	    cmocka_unit_test(replayed_layouts_are_checked),
	    cmocka_unit_test(failing_randomness_is_an_error),
	    cmocka_unit_test(seeded_source_is_chacha20),
	    cmocka_unit_test(the_key_streams_counter_has_64_bits),
	    cmocka_unit_test(biased_draws_are_rejected),
	};
	return cmocka_run_group_tests_name("layout", tests, NULL, NULL);
}
