/* SPDX-License-Identifier: Apache-2.0 */
/* Layouts are uniform over all that fit, independent, replayable, and never overlap anything. */
#include <errno.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <sys/random.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cmocka.h>

#include <riffle/layout.h>

#include "layout/random.h"
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

/* A stretch of RAM around the size of the image, moved by pages: exactly the slots that fit, at either end and around
 * what is reserved. */
static void slots_fit_to_the_page(void **state)
{
	struct builder b;
	struct riffle_plan plan = plan_of(&b, 30);

	(void)state;
	for (uint64_t start = 14 * MIB; start <= 20 * MIB; start += start % (2 * MIB) ? 2 * MIB - 4096 : 4096)
		for (uint64_t end = 45 * MIB; end <= 51 * MIB; end += MIB / 2)
			for (unsigned kind = 0; kind < 5; kind++) {
				static uint64_t slot[64];
				const struct riffle_range reserved[] = {
				    {0, 0},      {start - 4096, 4096 + 1}, {end - 1, 4096},
				    {end, 4096}, {start + 2 * MIB - 1, 1},
				};
				struct riffle_ram ram = {start, end - start, NULL};
				struct riffle_memory memory = {&ram, 1, &reserved[kind], 1};
				struct riffle_slots slots;
				struct riffle_error error;
				unsigned count = all_slots(slot, &memory, plan.header->image_bytes);
				int status = riffle_layout_slots(&slots, &plan, &memory, RIFFLE_MODE_KASLR, &error);

				if (count ? status || slots.physical != count : status != RIFFLE_ERR_SPACE)
					fail_msg("RAM 0x%llx to 0x%llx, reserved %u: %u slots, not %llu",
						 (unsigned long long)start, (unsigned long long)end, kind, count,
						 status ? 0 : (unsigned long long)slots.physical);
				for (uint64_t at = 14 * MIB; at < 24 * MIB; at += MIB) {
					struct riffle_layout layout = {RIFFLE_MODE_PHYSICAL, at, b.header.link_virt};
					bool known = false;

					for (unsigned i = 0; i < count; i++)
						known |= slot[i] == at;
					assert_int_equal(
					    riffle_layout_check(&layout, &plan, &memory, &error) == RIFFLE_OK, known);
				}
			}
	builder_end(&b);
}

static void memory_is_checked(void **state)
{
	static const struct {
		struct riffle_ram ram[3]; /* the third one need not be there */
		struct riffle_range reserved;
		const char *message;
	} rows[] = {
	    {{{0, 64 * MIB, NULL}, {128 * MIB, 4096, NULL}, {64 * MIB, 64 * MIB, NULL}}, {0, 0}, "taken"},
	    {{{0, 64 * MIB, NULL}, {128 * MIB, 4096, NULL}, {64 * MIB, 64 * MIB + 4096, NULL}},
	     {0, 0},
	     "ram: overlaps another stretch (found 0x4000000)"},
	    {{{0, 64 * MIB, NULL}, {64 * MIB, 4096, NULL}}, {0, 0}, "taken"},
	    {{{64 * MIB, 4096, NULL}, {0, 64 * MIB, NULL}}, {0, 0}, "taken"},
	    {{{0, 64 * MIB, NULL}, {64 * MIB - 4096, 8192, NULL}},
	     {0, 0},
	     "ram: overlaps another stretch (found 0x3fff000)"},
	    {{{64 * MIB - 4096, 8192, NULL}, {0, 64 * MIB, NULL}}, {0, 0}, "ram: overlaps another stretch (found 0)"},
	    {{{0, 64 * MIB, NULL}, {4096, 4096, NULL}}, {0, 0}, "ram: overlaps another stretch (found 4096)"},
	    {{{0, 64 * MIB, NULL}, {128 * MIB, 0, NULL}},
	     {0, 0},
	     "ram: is empty, wraps, or is not in whole pages (found 0x8000000)"},
	    {{{0, 64 * MIB, NULL}, {128 * MIB + 2048, 4096, NULL}},
	     {0, 0},
	     "ram: is empty, wraps, or is not in whole pages (found 0x8000800)"},
	    {{{0, 64 * MIB, NULL}, {128 * MIB, 4096 + 2048, NULL}},
	     {0, 0},
	     "ram: is empty, wraps, or is not in whole pages (found 0x8000000)"},
	    {{{0, 64 * MIB, NULL}, {UINT64_MAX - 8191, 4096, NULL}}, {0, 0}, "taken"},
	    {{{0, 64 * MIB, NULL}, {UINT64_MAX - 8191, 8192, NULL}},
	     {0, 0},
	     "ram: is empty, wraps, or is not in whole pages (found 0xffffffffffffe000)"},
	    {{{0, 64 * MIB, NULL}, {64 * MIB, 4096, NULL}}, {UINT64_MAX - 4096, 4096}, "taken"},
	    {{{0, 64 * MIB, NULL}, {64 * MIB, 4096, NULL}},
	     {UINT64_MAX - 4096, 4097},
	     "reserved: range wraps (found 0xffffffffffffefff)"},
	};
	struct builder b;
	struct riffle_plan plan = plan_of(&b, 48);

	(void)state;
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		struct riffle_memory memory = {rows[i].ram, rows[i].ram[2].bytes ? 3 : 2, &rows[i].reserved, 1};
		struct riffle_slots slots;
		struct riffle_error error = {0};
		int status = riffle_layout_slots(&slots, &plan, &memory, RIFFLE_MODE_KASLR, &error);

		if (strcmp(message_of(status, &error), rows[i].message))
			fail_msg("row %zu: %s", i, message_of(status, &error));
		assert_true(!status || status == RIFFLE_ERR_ARGUMENT);
		/* a stretch at the very top has no slot, and none that has wrapped */
		if (!status)
			assert_int_equal(slots.physical, rows[i].ram[2].bytes ? 10 : 1);
	}
	builder_end(&b);
}

/* Why each mode may be impossible. */
static void impossible_modes_are_explained(void **state)
{
	static const struct {
		enum riffle_mode mode;
		bool slid;
		uint32_t flags;
		uint64_t ram_mib;
		int status;
		const char *message;
	} rows[] = {
	    {(enum riffle_mode) - 1, false, RIFFLE_KERNEL_RELOCATABLE, 64, RIFFLE_ERR_ARGUMENT,
	     "mode: is not known (found 0xffffffff)"},
	    {RIFFLE_MODE_FGKASLR + 1, false, RIFFLE_KERNEL_RELOCATABLE, 64, RIFFLE_ERR_ARGUMENT,
	     "mode: is not known (found 4)"},
	    {RIFFLE_MODE_KASLR, false, 0, 64, RIFFLE_ERR_UNSUPPORTED,
	     "relocations: there are none in this kernel, so its virtual base cannot be randomised"},
	    {RIFFLE_MODE_FGKASLR, false, RIFFLE_KERNEL_RELOCATABLE, 64, RIFFLE_ERR_UNSUPPORTED,
	     "chunks: there are none in this plan, so the kernel's functions cannot be shuffled"},
	    {RIFFLE_MODE_PHYSICAL, true, RIFFLE_KERNEL_RELOCATABLE, 64, RIFFLE_ERR_ARGUMENT,
	     "mode: has no slides (found 1)"},
	    {RIFFLE_MODE_KASLR, true, RIFFLE_KERNEL_RELOCATABLE, 64, RIFFLE_ERR_UNSUPPORTED,
	     "blocks: there are none in this plan, so the kernel's sections cannot slide"},
	    {RIFFLE_MODE_OFF, false, 0, 63, RIFFLE_ERR_SPACE,
	     "guest memory: does not hold the kernel at its link address (image bytes) (found 0x3000000)"},
	    {RIFFLE_MODE_PHYSICAL, false, 0, 63, RIFFLE_ERR_SPACE,
	     "guest memory: has no place for the kernel (image with .bss and .brk, in bytes) (found 0x3000000)"},
	    {RIFFLE_MODE_OFF, false, 0, 64, RIFFLE_OK, "taken"},
	    {RIFFLE_MODE_PHYSICAL, false, 0, 64, RIFFLE_OK, "taken"},
	    {RIFFLE_MODE_KASLR, false, RIFFLE_KERNEL_RELOCATABLE, 64, RIFFLE_OK, "taken"},
	};
	struct builder b;
	struct riffle_plan plan = plan_of(&b, 48);

	(void)state;
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		struct riffle_ram ram = {0, rows[i].ram_mib * MIB, NULL};
		struct riffle_memory memory = {&ram, 1, NULL, 0};
		struct riffle_slots slots;
		struct riffle_error error = {0};
		int status;

		b.header.flags = rows[i].flags;
		status = (rows[i].slid ? riffle_layout_slots_slid : riffle_layout_slots)(&slots, &plan, &memory,
											 rows[i].mode, &error);
		if (status != rows[i].status || strcmp(message_of(status, &error), rows[i].message))
			fail_msg("row %zu: status %d, %s", i, status, message_of(status, &error));
		if (!status) {
			assert_int_equal(slots.physical, 1);
			assert_int_equal(slots.virtual_, rows[i].mode == RIFFLE_MODE_KASLR ? 481 : 1);
		}
	}
	builder_end(&b);
}

/* Reserved words that are not 0 may mean something to a later version. */
static void reserved_words_must_be_zero(void **state)
{
	struct riffle_memory memory = {one_ram, 1, NULL, 0};
	struct riffle_layout layout = RIFFLE_LAYOUT_INIT;
	struct riffle_random random = riffle_random_system;
	struct riffle_error error;
	struct builder b;
	struct riffle_plan plan = plan_of(&b, 48);

	(void)state;
	assert_int_equal(riffle_layout_draw(&layout, &plan, &memory, RIFFLE_MODE_KASLR, &random, &error), RIFFLE_OK);
	*(uint8_t *)&layout.reserved_zero = 3;
	assert_int_equal(riffle_layout_draw(&layout, &plan, &memory, RIFFLE_MODE_OFF, &random, &error),
			 RIFFLE_ERR_ARGUMENT);
	assert_int_equal(layout.mode, RIFFLE_MODE_KASLR);
	assert_string_equal(message_of(1, &error),
			    "layout: has reserved bytes that are not 0: was it initialised? (found 3)");
	assert_int_equal(riffle_layout_check(&layout, &plan, &memory, &error), RIFFLE_ERR_ARGUMENT);
	*(uint8_t *)&layout.reserved_zero = 0;
	*(uint8_t *)&memory.reserved_zero = 4;
	assert_int_equal(riffle_layout_draw(&layout, &plan, &memory, RIFFLE_MODE_OFF, &random, &error),
			 RIFFLE_ERR_ARGUMENT);
	assert_string_equal(message_of(1, &error),
			    "memory: has reserved bytes that are not 0: was it initialised? (found 4)");
	*(uint8_t *)&memory.reserved_zero = 0;
	*(uint8_t *)&random.reserved_zero = 5;
	assert_int_equal(riffle_layout_draw(&layout, &plan, &memory, RIFFLE_MODE_KASLR, &random, &error),
			 RIFFLE_ERR_ARGUMENT);
	assert_string_equal(message_of(1, &error),
			    "random: has reserved bytes that are not 0: was it initialised? (found 5)");
	layout.slide_count = 1;
	assert_int_equal(riffle_layout_draw(&layout, &plan, &memory, RIFFLE_MODE_KASLR, NULL, &error),
			 RIFFLE_ERR_ARGUMENT);
	assert_string_equal(message_of(1, &error),
			    "slide_count: is neither 0 nor the number of blocks (found 1, expected 0)");
	builder_end(&b);
}

/*
 * A seed's order never changes, because layouts are replayed by their seed: a model with a division for each draw, over
 * so many draws that some are rejected.
 */
static void an_order_follows_from_its_key(void **state)
{
	enum { COUNT = 65535, KEYS = 24 };
	static uint16_t order[COUNT], expected[COUNT];
	unsigned rejected = 0;

	(void)state;
	for (unsigned n = 0; n < KEYS + 3; n++) {
		uint32_t count = n < KEYS ? COUNT : n - KEYS;
		uint8_t key[32] = {(uint8_t)n, 1}, stream[RIFFLE_CHACHA20_BYTES];
		uint64_t counter = n, model = n;
		unsigned used = sizeof stream;

		for (uint32_t i = 0; i < count; i++)
			order[i] = expected[i] = (uint16_t)i;
		for (uint32_t left = count; left > 1; left--) {
			uint16_t keep = expected[left - 1];
			uint64_t product;
			uint32_t number;

			for (;; rejected++) {
				if (used == sizeof stream) {
					riffle_chacha20(stream, key, model);
					model += 4;
					used = 0;
				}
				memcpy(&number, stream + used, 4);
				used += 4;
				product = (uint64_t)number * left;
				if (product % (UINT64_C(1) << 32) >= (UINT64_C(1) << 32) % left)
					break;
			}
			expected[left - 1] = expected[product >> 32];
			expected[product >> 32] = keep;
		}
		riffle_permute(order, count, key, &counter);
		assert_memory_equal(order, expected, count * sizeof *order);
		assert_int_equal(counter, model);
	}
	assert_true(rejected > 0);
}

/* Stands for the C library's: the next of these results, bytes or -errno, and then the system's. */
static int results[8];
static unsigned result_count;

ssize_t getrandom(void *buffer, size_t bytes, unsigned flags)
{
	int result;

	if (!result_count)
		return syscall(SYS_getrandom, buffer, bytes, flags);
	result = results[--result_count];
	if (result >= 0) {
		memset(buffer, 0xab, (size_t)result);
		return result;
	}
	errno = -result;
	return -1;
}

static void interrupted_and_short_randomness_is_completed(void **state)
{
	uint8_t bytes[10] = {0}, wanted[8];

	(void)state;
	memset(wanted, 0xab, sizeof wanted);
	/* the last comes first */
	memcpy(results, (int[]){5, -EINTR, 3, -EINTR}, 4 * sizeof *results);
	result_count = 4;
	assert_int_equal(riffle_random_system.fill(riffle_random_system.opaque, bytes + 1, 8), 0);
	assert_int_equal(result_count, 0);
	assert_memory_equal(bytes + 1, wanted, 8);
	assert_int_equal(bytes[0] | bytes[9], 0);
	for (unsigned i = 0; i < 2; i++) {
		memcpy(results, (int[]){5, i ? 0 : -ENOSYS, 3}, 3 * sizeof *results);
		result_count = 3;
		assert_int_equal(riffle_random_system.fill(riffle_random_system.opaque, bytes, 8), -1);
		assert_int_equal(result_count, 1);
	}
	result_count = 0;
}

/* All that is asked for, and no byte more. */
static void the_system_fills_what_it_is_given(void **state)
{
	uint8_t bytes[1000] = {0};
	unsigned zeros = 0;

	(void)state;
	for (unsigned i = 1; i < 998; i += 199) {
		memset(bytes, 0, sizeof bytes);
		assert_int_equal(riffle_random_system.fill(riffle_random_system.opaque, bytes + 1, i), 0);
		assert_int_equal(bytes[0], 0);
		for (unsigned k = i + 1; k < sizeof bytes; k++)
			assert_int_equal(bytes[k], 0);
		for (unsigned k = 1; k <= i; k++)
			zeros += !bytes[k];
	}
	assert_true(zeros < 100); /* 10 of 2494 */
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(slots_are_counted_right),
	    cmocka_unit_test(slots_fit_to_the_page),
	    cmocka_unit_test(memory_is_checked),
	    cmocka_unit_test(impossible_modes_are_explained),
	    cmocka_unit_test(reserved_words_must_be_zero),
	    cmocka_unit_test(an_order_follows_from_its_key),
	    cmocka_unit_test(the_system_fills_what_it_is_given),
	    cmocka_unit_test(interrupted_and_short_randomness_is_completed),
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
