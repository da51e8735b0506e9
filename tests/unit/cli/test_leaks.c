/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The table of leaks against counts: all layouts of a small kernel, one by one, and layouts that the library draws; and
 * cell by cell, for a kernel whose fixed code suffices for a chain and one whose does not.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <riffle/layout.h>

#include "cli/commands/leaks.h"

#define KIB 1024u
#define MIB (1024u * KIB)

enum { TEXT, RODATA, DATA, INIT, BSS, BRK, BLOCKS };

/* Block by block, where leaks and places are. */
static const unsigned leak_block[LEAKS] = {
    [LEAK_FIXED] = TEXT, [LEAK_RODATA] = RODATA, [LEAK_DATA] = DATA, [LEAK_BSS] = BSS, [LEAK_BRK] = BRK};
static const unsigned place_block[LEAK_PLACES] = {TEXT, RODATA, DATA, BSS, BRK};

static const struct leak_limits plain = {.slots = 512, .chunks = 1u << 15, .region_bytes = 4 * 2 * MIB};

static const struct leak_left *left_of(const struct leak_limits *l, enum leak_mode mode, enum leak leak)
{
	static struct leak_limits last;
	static struct leak_table table;
	struct riffle_error error;

	if (memcmp(&last, l, sizeof last))
		assert_int_equal(leak_table_make(&table, l, &error), 0);
	memcpy(&last, l, sizeof last);
	assert_true(table.has[mode]);
	return &table.left[mode][leak];
}

static void near(double found, double expected, double within, const char *what, unsigned i, unsigned k)
{
	if (fabs(found - expected) > within)
		fail_msg("%s %u, %u: %g, expected %g", what, i, k, found, expected);
}

/* --- without slides, cell by cell --- */

static void expect(const struct leak_limits *l, enum leak_mode mode, enum leak leak, double base, double function,
		   double reuse)
{
	const struct leak_left *left = left_of(l, mode, leak);

	for (unsigned i = 0; i < LEAK_PLACES; i++)
		near(left->place[i], base, 0.01, leak_name(leak), mode, i);
	near(left->function, function, 0.01, leak_name(leak), mode, 100);
	near(left->function_reuse, reuse, 0.01, leak_name(leak), mode, 101);
}

static void test_not_shuffled(void **state)
{
	struct leak_limits l = plain;
	struct leak_table table;
	struct riffle_error error;

	(void)state;
	for (unsigned i = 0; i < LEAKS; i++) {
		double base = i == LEAK_NONE ? 9 : 0;

		expect(&plain, LEAK_MODE_OFF, i, 0, 0, 0);
		expect(&plain, LEAK_MODE_KASLR, i, base, base, base);
	}
	l.chunks = 0;
	assert_int_equal(leak_table_make(&table, &l, &error), 0);
	assert_true(table.has[LEAK_MODE_OFF] && table.has[LEAK_MODE_KASLR]);
	assert_false(table.has[LEAK_MODE_FGKASLR] || table.has[LEAK_MODE_KASLR_SLIDE] ||
		     table.has[LEAK_MODE_FGKASLR_SLIDE]);
	/* the virtual base of this one cannot change */
	l.slots = 1;
	assert_int_equal(leak_table_make(&table, &l, &error), 0);
	assert_true(table.has[LEAK_MODE_OFF] && !table.has[LEAK_MODE_KASLR]);
}

static void test_shuffled(void **state)
{
	struct leak_limits kit = plain;

	(void)state;
	kit.kit = true;
	/* an address of a function is one of 4 bases' and 2^15 places; a region of 4 slots leaves 4 bases, or fewer at
	 * the ends of the window */
	expect(&plain, LEAK_MODE_FGKASLR, LEAK_NONE, 9, 22, 22);
	expect(&plain, LEAK_MODE_FGKASLR, LEAK_FUNCTION, 2 - log2(515. / 512), 15, 15);
	expect(&plain, LEAK_MODE_FGKASLR, LEAK_FIXED, 0, 15, 15);
	expect(&plain, LEAK_MODE_FGKASLR, LEAK_RODATA, 0, 15, 15);
	expect(&plain, LEAK_MODE_FGKASLR, LEAK_DATA, 0, 15, 15);
	expect(&plain, LEAK_MODE_FGKASLR, LEAK_READS, 0, 0, 0);
	expect(&kit, LEAK_MODE_FGKASLR, LEAK_NONE, 9, 22, 9);
	expect(&kit, LEAK_MODE_FGKASLR, LEAK_FUNCTION, 2 - log2(515. / 512), 15, 2 - log2(515. / 512));
	expect(&kit, LEAK_MODE_FGKASLR, LEAK_FIXED, 0, 15, 0);
	expect(&kit, LEAK_MODE_FGKASLR, LEAK_RODATA, 0, 15, 0);
	expect(&kit, LEAK_MODE_FGKASLR, LEAK_DATA, 0, 15, 0);
	expect(&kit, LEAK_MODE_FGKASLR, LEAK_READS, 0, 0, 0);
	assert_int_equal(left_of(&kit, LEAK_MODE_FGKASLR, LEAK_FUNCTION)->bases, 4);
	assert_int_equal(left_of(&kit, LEAK_MODE_FGKASLR, LEAK_DATA)->bases, 1);
}

/* --- with slides, by counting --- */

/* Where everything is in one layout: its blocks, and a function that moves. */
struct sample {
	uint32_t block[BLOCKS], function;
};

struct samples {
	struct sample *sample;
	uint32_t count;
};

struct pair {
	uint32_t known, asked;
};

static int by_pair(const void *a, const void *b)
{
	const struct pair *x = a, *y = b;

	return x->known != y->known ? (x->known > y->known ? 1 : -1) : (x->asked > y->asked) - (x->asked < y->asked);
}

/*
 * What the best guess is worth, by counting: for each value that is known the value asked for that it comes with most
 * often. `bases` is the most values that one comes with.
 */
static double count_bits(struct pair *pair, uint32_t count, uint64_t *bases)
{
	uint64_t right = 0;

	qsort(pair, count, sizeof *pair, by_pair);
	*bases = 0;
	for (uint32_t i = 0; i < count;) {
		uint32_t most = 0, known = pair[i].known;
		uint64_t values = 0;

		while (i < count && pair[i].known == known) {
			uint32_t run = i;

			while (i < count && !by_pair(&pair[i], &pair[run]))
				i++;
			if (i - run > most)
				most = i - run;
			values++;
		}
		right += most;
		if (values > *bases)
			*bases = values;
	}
	return log2((double)count / (double)right);
}

static uint32_t known_of(const struct sample *s, enum leak leak)
{
	return leak == LEAK_NONE ? 0 : leak == LEAK_FUNCTION ? s->function : s->block[leak_block[leak]];
}

static void compare(const struct samples *all, const struct leak_limits *limits, enum leak_mode mode, enum leak leak,
		    double within)
{
	const struct leak_left *left = left_of(limits, mode, leak);
	struct pair *pair = calloc(all->count, sizeof *pair);
	uint64_t bases;

	for (unsigned place = 0; place < LEAK_PLACES; place++) {
		for (uint32_t i = 0; i < all->count; i++)
			pair[i] =
			    (struct pair){known_of(&all->sample[i], leak), all->sample[i].block[place_block[place]]};
		near(left->place[place], count_bits(pair, all->count, &bases), within, leak_name(leak), mode, place);
		if (place == LEAK_PLACE_BASE)
			assert_int_equal(left->bases, bases);
	}
	free(pair);
}

static const struct riffle_block small_blocks[BLOCKS] = {
    [TEXT] = {0, 2 * MIB, 1, RIFFLE_BLOCK_TEXT},         [RODATA] = {4 * MIB, 1 * MIB, 5, RIFFLE_BLOCK_RODATA},
    [DATA] = {8 * MIB, 512 * KIB, 6, RIFFLE_BLOCK_DATA}, [INIT] = {12 * MIB, 8 * KIB, 4, RIFFLE_BLOCK_INIT},
    [BSS] = {16 * MIB, 4 * KIB, 8, RIFFLE_BLOCK_BSS},    [BRK] = {20 * MIB, 4 * KIB, 3, RIFFLE_BLOCK_BRK},
};
/* The gap before read-only data moves nothing else: another, before a block that is nothing to attackers, complements
 * it. */
static const struct riffle_block paired_blocks[BLOCKS + 1] = {
    {0, 2 * MIB, 1, RIFFLE_BLOCK_TEXT},
    {4 * MIB, 256 * KIB, 9, RIFFLE_BLOCK_RODATA},
    {6 * MIB, 256 * KIB, 0, RIFFLE_BLOCK_RODATA_END},
    {8 * MIB, 512 * KIB, 6, RIFFLE_BLOCK_DATA},
    {12 * MIB, 8 * KIB, 4, RIFFLE_BLOCK_INIT},
    {16 * MIB, 4 * KIB, 8, RIFFLE_BLOCK_BSS},
    {20 * MIB, 4 * KIB, 3, RIFFLE_BLOCK_BRK},
};
/* The same where the sum is no multiple of a slot, and so a pointer to read-only data leaves more bases. */
static const struct riffle_block wide_pair[BLOCKS + 1] = {
    {0, 2 * MIB, 1, RIFFLE_BLOCK_TEXT},
    {4 * MIB, 512 * KIB, 12, RIFFLE_BLOCK_RODATA},
    {6 * MIB, 512 * KIB, 0, RIFFLE_BLOCK_RODATA_END},
    {8 * MIB, 512 * KIB, 6, RIFFLE_BLOCK_DATA},
    {12 * MIB, 8 * KIB, 4, RIFFLE_BLOCK_INIT},
    {16 * MIB, 4 * KIB, 8, RIFFLE_BLOCK_BSS},
    {20 * MIB, 4 * KIB, 3, RIFFLE_BLOCK_BRK},
};
/* Fewer gaps, for more places of a function. */
static const struct riffle_block smaller_blocks[BLOCKS] = {
    [TEXT] = {0, 2 * MIB, 1, RIFFLE_BLOCK_TEXT},         [RODATA] = {4 * MIB, 512 * KIB, 5, RIFFLE_BLOCK_RODATA},
    [DATA] = {8 * MIB, 512 * KIB, 3, RIFFLE_BLOCK_DATA}, [INIT] = {12 * MIB, 8 * KIB, 2, RIFFLE_BLOCK_INIT},
    [BSS] = {16 * MIB, 4 * KIB, 3, RIFFLE_BLOCK_BSS},    [BRK] = {20 * MIB, 4 * KIB, 2, RIFFLE_BLOCK_BRK},
};
#define SMALL_SLOTS 4u
#define SMALL_PAGES 700u /* of the region that functions move in */

/* Adds all gaps of the blocks from `block` on to each sample's. */
static struct samples with_gaps(struct samples before, const struct riffle_block *blocks, unsigned block)
{
	const struct riffle_block *b = &blocks[block];
	struct samples all = {calloc((size_t)before.count * b->gaps, sizeof *all.sample), 0};

	for (uint32_t i = 0; i < before.count; i++)
		for (uint32_t gap = 0; gap < b->gaps; gap++) {
			struct sample *s = &all.sample[all.count++];

			*s = before.sample[i];
			s->block[block] = s->block[block - 1] + gap * b->align;
		}
	free(before.sample);
	return all;
}

static struct samples all_layouts(uint32_t places)
{
	struct samples all = {calloc((size_t)SMALL_SLOTS * places, sizeof *all.sample), 0};

	for (uint32_t slot = 0; slot < SMALL_SLOTS; slot++)
		for (uint32_t place = 0; place < places; place++)
			all.sample[all.count++] = (struct sample){{slot * 2 * MIB}, slot * 2 * MIB + 4 * KIB * place};
	return all;
}

static const struct leak_limits small_limits = {.slots = SMALL_SLOTS + 3,
						.slots_slid = SMALL_SLOTS,
						.block = small_blocks,
						.block_count = BLOCKS,
						.chunks = 1000,
						.region_bytes = SMALL_PAGES * 4 * KIB};

static void test_all_layouts_of_a_small_kernel(void **state)
{
	struct samples all = all_layouts(1);

	(void)state;
	for (unsigned i = RODATA; i < BLOCKS; i++)
		all = with_gaps(all, small_blocks, i);
	for (unsigned mode = LEAK_MODE_KASLR_SLIDE; mode <= LEAK_MODE_FGKASLR_SLIDE; mode++) {
		compare(&all, &small_limits, mode, LEAK_NONE, 1e-9);
		for (unsigned leak = LEAK_FIXED; leak < LEAK_READS; leak++)
			compare(&all, &small_limits, mode, leak, 1e-9);
	}
	compare(&all, &small_limits, LEAK_MODE_KASLR_SLIDE, LEAK_FUNCTION,
		1e-9); /* not shuffled: known with the base */
	free(all.sample);
}

/* The last block moves with the base: its gap is the rest of a sum. */
static void test_a_balance_moves_with_the_base(void **state)
{
	struct samples all = all_layouts(1);
	struct riffle_block balanced[BLOCKS];
	struct leak_limits limits = small_limits;

	(void)state;
	memcpy(balanced, small_blocks, sizeof balanced);
	balanced[BRK].gaps = 0;
	limits.block = balanced;
	limits.balanced = true;
	for (unsigned i = RODATA; i < BRK; i++)
		all = with_gaps(all, small_blocks, i);
	for (uint32_t i = 0; i < all.count; i++)
		all.sample[i].block[BRK] = all.sample[i].block[TEXT] + 7 * MIB;
	for (unsigned leak = LEAK_NONE; leak < LEAK_READS; leak++)
		compare(&all, &limits, LEAK_MODE_KASLR_SLIDE, leak, 1e-9);
	free(all.sample);
}

/* Read-only data by itself, everything else as far from text as by all the other gaps. */
static struct samples all_of_pair(const struct riffle_block *paired, uint32_t places)
{
	const struct riffle_block *rodata = &paired[RODATA];
	struct samples before = all_layouts(places),
		       all = {calloc((size_t)before.count * rodata->gaps * paired[RODATA + 2].gaps, sizeof *all.sample),
			      0};

	for (uint32_t i = 0; i < before.count; i++)
		for (uint32_t gap = 0; gap < rodata->gaps; gap++)
			for (uint32_t data = 0; data < paired[RODATA + 2].gaps; data++) {
				struct sample *s = &all.sample[all.count++];

				*s = before.sample[i];
				s->block[RODATA] = s->block[TEXT] + gap * rodata->align;
				s->block[DATA] = s->block[TEXT] + (rodata->gaps - 1) * rodata->align +
						 data * paired[RODATA + 2].align;
			}
	free(before.sample);
	return all;
}

static void test_a_pair_moves_one_block(void **state)
{
	static const struct riffle_block *const paired[] = {paired_blocks, wide_pair};

	(void)state;
	for (unsigned p = 0; p < 2; p++) {
		struct samples all = all_of_pair(paired[p], 1);
		struct leak_limits limits = small_limits;

		limits.block = paired[p];
		limits.block_count = BLOCKS + 1;
		for (unsigned i = INIT; i < BLOCKS; i++)
			all = with_gaps(all, small_blocks, i);
		for (unsigned leak = LEAK_NONE; leak < LEAK_READS; leak++)
			compare(&all, &limits, LEAK_MODE_KASLR_SLIDE, leak, 1e-9);
		free(all.sample);
		all = all_of_pair(paired[p], SMALL_PAGES);
		/* blocks that there are not count as text */
		for (uint32_t i = 0; i < all.count; i++)
			for (unsigned b = INIT; b < BLOCKS; b++)
				all.sample[i].block[b] = all.sample[i].block[TEXT];
		limits.block_count = RODATA + 3;
		compare(&all, &limits, LEAK_MODE_FGKASLR_SLIDE, LEAK_FUNCTION, 1e-9);
		free(all.sample);
	}
}

static void test_a_function_leaks(void **state)
{
	struct samples all = all_layouts(SMALL_PAGES);
	struct leak_limits limits = small_limits;

	(void)state;
	for (unsigned i = RODATA; i < BLOCKS; i++)
		all = with_gaps(all, smaller_blocks, i);
	limits.block = smaller_blocks;
	compare(&all, &limits, LEAK_MODE_FGKASLR_SLIDE, LEAK_FUNCTION, 1e-9);
	free(all.sample);
}

/* --- with slides, as drawn --- */

/* A stock kernel's blocks, but for a smaller gap before .bss. */
static const struct riffle_block stock_blocks[BLOCKS] = {
    [TEXT] = {0, 2 * MIB, 1, RIFFLE_BLOCK_TEXT},           [RODATA] = {16 * MIB, 16 * KIB, 512, RIFFLE_BLOCK_RODATA},
    [DATA] = {26 * MIB, 16 * KIB, 512, RIFFLE_BLOCK_DATA}, [INIT] = {32 * MIB, 8 * KIB, 256, RIFFLE_BLOCK_INIT},
    [BSS] = {34 * MIB, 4 * KIB, 512, RIFFLE_BLOCK_BSS},    [BRK] = {40 * MIB, 4 * KIB, 512, RIFFLE_BLOCK_BRK},
};
#define CHUNKS 500u
#define DRAWS 200000u

/* A stock kernel's blocks and window; its functions are fewer, so that orders are drawn in little time. */
static struct riffle_plan *make_plan(struct riffle_header *header, struct riffle_region *region,
				     struct riffle_chunk *chunk)
{
	static struct riffle_plan plan;
	uint32_t at = 0;

	*header = (struct riffle_header){.link_phys = 16 * MIB,
					 .link_virt = UINT64_C(0xffffffff81000000),
					 .window_bytes = 1024 * MIB,
					 .image_bytes = 44 * MIB,
					 .flags = RIFFLE_KERNEL_RELOCATABLE};
	for (uint32_t i = 0; i < CHUNKS; i++) {
		chunk[i] = (struct riffle_chunk){.image_offset = at, .units = (uint16_t)(1 + i * i % 2500)};
		at += riffle_chunk_bytes(&chunk[i]);
	}
	*region = (struct riffle_region){0, at, 0, CHUNKS};
	plan = (struct riffle_plan){.size = sizeof plan,
				    .header = header,
				    .regions = region,
				    .region_count = 1,
				    .chunks = chunk,
				    .chunk_count = CHUNKS,
				    .blocks = stock_blocks,
				    .block_count = BLOCKS};
	for (unsigned i = 0; i < BLOCKS; i++)
		plan.slide_max += (stock_blocks[i].gaps - 1) * stock_blocks[i].align;
	return &plan;
}

/* Where the chunk in the middle lies in a layout's order. */
static uint32_t place_in(const struct riffle_layout *layout, const struct riffle_plan *plan)
{
	uint32_t at = 0;

	for (uint32_t i = 0; layout->order[i] != CHUNKS / 2; i++)
		at += riffle_chunk_bytes(&plan->chunks[layout->order[i]]);
	return at;
}

/* Whoever guesses the likeliest, by the numbers of each gap alone, is right as often as the table says. */
static const struct guess {
	enum leak leak;
	enum leak_place place;
	uint32_t below; /* the guess: the address known minus this; the multiple of step nearest to that */
	int step;       /* 0: exactly; otherwise the address's alignment */
} guesses[] = {
    {LEAK_RODATA, LEAK_PLACE_BASE, 4 * MIB, 2 * MIB},
    {LEAK_DATA, LEAK_PLACE_BASE, 8 * MIB - 16 * KIB, 2 * MIB},
    {LEAK_BSS, LEAK_PLACE_BASE, 10 * MIB - 20 * KIB, 2 * MIB},
    {LEAK_DATA, LEAK_PLACE_RODATA, 4 * MIB, 0},
    {LEAK_BSS, LEAK_PLACE_DATA, 2 * MIB - 6 * KIB, 16 * KIB},
    {LEAK_BRK, LEAK_PLACE_BSS, 1 * MIB, 0},
    {LEAK_FUNCTION, LEAK_PLACE_BASE, 0, 2 * MIB},
};

static void test_guesses_are_right_as_often(void **state)
{
	static struct riffle_chunk chunk[CHUNKS];
	static uint16_t order[CHUNKS];
	struct riffle_header header;
	struct riffle_region region;
	const struct riffle_plan *plan = make_plan(&header, &region, chunk);
	struct riffle_ram ram = {.bytes = 256 * MIB};
	struct riffle_memory memory = {.ram = &ram, .ram_count = 1};
	struct riffle_random random;
	struct riffle_seeded seeded;
	struct riffle_slots slots;
	struct riffle_error error;
	struct leak_limits limits = {
	    .slots = 482, .block = stock_blocks, .block_count = BLOCKS, .chunks = CHUNKS, .region_bytes = region.bytes};
	uint64_t right[sizeof guesses / sizeof *guesses] = {0};
	uint32_t draws = 0;

	(void)state;
	assert_int_equal(riffle_layout_slots_slid(&slots, plan, &memory, RIFFLE_MODE_FGKASLR, &error), 0);
	limits.slots_slid = slots.virtual_;
	riffle_random_from_seed(&random, &seeded, (const uint8_t[32]){1, 2, 3});
	for (; draws < DRAWS; draws++) {
		struct riffle_layout layout = {.order = order, .order_count = CHUNKS, .slide_count = BLOCKS};
		enum riffle_mode mode = draws % 20 ? RIFFLE_MODE_KASLR : RIFFLE_MODE_FGKASLR;

		assert_int_equal(riffle_layout_draw(&layout, plan, &memory, mode, &random, &error), 0);
		for (unsigned i = 0; i < sizeof guesses / sizeof *guesses; i++) {
			const struct guess *g = &guesses[i];
			uint32_t base = (uint32_t)(layout.virtual_base - header.link_virt);
			uint32_t is = base + layout.slide[place_block[g->place]], known, guess;

			if (g->leak == LEAK_FUNCTION) {
				if (mode != RIFFLE_MODE_FGKASLR)
					continue;
				known = base + place_in(&layout, plan);
			} else {
				known = base + layout.slide[leak_block[g->leak]];
			}
			guess = known - g->below;
			if (g->step && known >= g->below)
				guess = (guess + (g->leak == LEAK_FUNCTION ? 0 : (uint32_t)g->step / 2)) /
					(uint32_t)g->step * (uint32_t)g->step;
			right[i] += guess == is;
		}
	}
	for (unsigned i = 0; i < sizeof guesses / sizeof *guesses; i++) {
		double tries = guesses[i].leak == LEAK_FUNCTION ? draws / 20. : draws;
		double bits = left_of(&limits, LEAK_MODE_FGKASLR_SLIDE, guesses[i].leak)->place[guesses[i].place];
		double expected = tries * exp2(-bits);

		/* five standard deviations, and the ends of the window where another guess would be better */
		if (fabs((double)right[i] - expected) > 5 * sqrt(expected) + 0.02 * expected)
			fail_msg("guess %u: right %u times of %g, expected %g", i, (unsigned)right[i], tries, expected);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_not_shuffled),
	    cmocka_unit_test(test_shuffled),
	    cmocka_unit_test(test_all_layouts_of_a_small_kernel),
	    cmocka_unit_test(test_a_function_leaks),
	    cmocka_unit_test(test_a_balance_moves_with_the_base),
	    cmocka_unit_test(test_a_pair_moves_one_block),
	    cmocka_unit_test(test_guesses_are_right_as_often),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
