/* SPDX-License-Identifier: Apache-2.0 */
/* Loads whose blocks slide apart, judged by a model of its own; what is drawn; and plans that lie about it. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <sys/mman.h>

#include <cmocka.h>

#include <riffle/load.h>

#include "shuffled_kernel.h"

#define MIB (UINT64_C(1) << 20)
#define LINK UINT64_C(0xffffffff81000000)
#define RAM (96 * MIB)
#define OWN 0x308000u  /* fields of this test's own, in the second block */
#define WIDE 0x310000u /* distances of 64 bits */
#define OWNS 64u
#define EDGES 0x330000u /* distances to the edges of blocks, among others that lead into one block */
#define UP 0x338000u    /* offsets from a base to those edges */
#define DOWN 0x339000u  /* and down from one */
#define BASE_UP 0x1234u
#define BASE_DOWN 0xfedcbu
#define PAST 0x312000u /* distances to places outside the image */

static const struct sk_shape shapes[] = {
    {.seed = 11, .regions = 1, .absolute_percpu = 1, .seqs = 1},
    {.seed = 22, .regions = 2, .handlers = 1},
    {.seed = 33, .regions = 2, .self_relative = 1, .seqs = 1},
};

/*
 * kallsyms has symbols on both sides of the second block's start; the job of a load that loads it has a part in each.
 * No step is finer than those after it.
 */
static const struct riffle_block blocks[] = {
    {.align = 2 << 20, .gaps = 1, .kind = RIFFLE_BLOCK_TEXT},
    {.image_offset = 0x301000, .align = 64 << 10, .gaps = 64, .kind = RIFFLE_BLOCK_RODATA},
    {.image_offset = 0x3ff000, .align = 16384, .gaps = 512, .kind = RIFFLE_BLOCK_DATA},
    {.image_offset = 0x7ff000, .align = 4096, .gaps = 512, .kind = RIFFLE_BLOCK_BSS},
};
#define BLOCKS 4u

struct slid {
	struct shuffled_kernel *k;
	struct riffle_block block[BLOCKS];
	uint32_t cross[SK_REFS_MAX];
	uint8_t cross_block[SK_REFS_MAX];
	uint32_t crosses;
	struct riffle_cross_table table[11];
	uint32_t tables;
	struct sk_ref own[4 * OWNS];
	uint32_t owns;
	uint16_t order[SK_CHUNKS_MAX];
	int32_t shift[SK_CHUNKS_MAX + 1];
	struct riffle_layout layout;
	uint64_t end, entry;
};

static uint32_t block_of(uint32_t offset)
{
	uint32_t b = BLOCKS - 1;

	while (offset < blocks[b].image_offset)
		b--;
	return b;
}

static uint32_t slide_of(const struct slid *s, uint32_t offset)
{
	return s->layout.slide[block_of(offset)];
}

static void add_own(struct slid *s, uint32_t field, uint32_t target, enum sk_kind kind, uint64_t value)
{
	s->own[s->owns++] = (struct sk_ref){field, target, kind, value};
	sk_put(s->k, field, value, kind == SK_ABS64 ? 8 : 4);
}

static void insert(uint32_t **list, uint32_t *count, uint32_t field)
{
	*list = realloc(*list, (*count + 1) * sizeof **list);
	(*list)[(*count)++] = field;
	qsort(*list, *count, sizeof **list, sk_compare32);
}

/* Fields outside text, of every kind, to every block and to the image's end; physical addresses too. */
static void add_owns(struct slid *s)
{
	struct builder *b = &s->k->b;

	for (uint32_t i = 0; i < OWNS; i++) {
		uint32_t at = OWN + 32 * i, target = (uint32_t)(i * 0x1f357ull % SK_IMAGE);

		/* its end, and what rounding that up to a huge page adds */
		if (i == 7 || i == 8)
			target = SK_IMAGE + (i == 7 ? 0 : (2 << 20) - 1);
		else if (i % 3 == 0)
			target = blocks[i / 3 % BLOCKS].image_offset - (i % 2 && i / 3 % BLOCKS);
		add_own(s, at, target, SK_ABS64, i % 5 ? LINK + target : (16 << 20) + target);
		insert(&b->reloc64, &b->count64, at);
		add_own(s, at + 8, target, SK_ABS32, i % 5 ? LINK + target : (16 << 20) + target);
		insert(&b->reloc32, &b->count32, at + 8);
		add_own(s, at + 12, UINT32_MAX, SK_INVERSE, sk_value(at + 12, 0, SK_INVERSE, 0));
		insert(&b->inverse, &b->count_inverse, at + 12);
		if (target < SK_IMAGE)
			add_own(s, at + 16, target, SK_PC32, target - at - 20);
		sk_put(s->k, WIDE + 16 * i, (uint64_t)target - WIDE - 16 * i, 8);
	}
}

/* Names of places that are in no section, and per-CPU variables. */
static const int64_t outside[] = {SK_IMAGE,
				  SK_IMAGE + 0xffff,
				  SK_IMAGE + 0x10000,
				  SK_IMAGE + 0x1757d4,
				  (1 << 30) - 1,
				  1 << 30,
				  0x7f001000,
				  0x7fffffff - 8,
				  -1,
				  -16,
				  -(1 << 30),
				  -(1 << 30) - 1};
#define OUTSIDE (sizeof outside / sizeof *outside)

static void add_outside(struct slid *s)
{
	for (uint32_t i = 0; i < OUTSIDE; i++)
		sk_put(s->k, PAST + 4 * i, (uint64_t)outside[i] - PAST - 4 * i, 4);
}

static void add_table(struct slid *s, uint32_t at, uint32_t entries, uint32_t stride, uint32_t kind)
{
	s->table[s->tables++] = (struct riffle_cross_table){at, entries, stride, kind, 0, 0};
}

/* The first byte of a block, the last, and what is before and after these. */
static int64_t edge_of(uint32_t block, unsigned which)
{
	const int64_t start = blocks[block].image_offset;
	const int64_t stop = block + 1 < BLOCKS ? blocks[block + 1].image_offset : 1 << 30;

	return (const int64_t[]){start - 1, start, stop - 1, stop}[which];
}

/*
 * Loads take 64 distances at a time if all of them lead to the block that the one before led to. So there are runs of
 * such, each followed by one of which a single distance leads to an edge.
 */
static void add_edges(struct slid *s)
{
	uint32_t entries = 0, edges = 0;

	for (uint32_t b = 0; b < BLOCKS; b++)
		for (unsigned e = 0; e < 4; e++) {
			for (uint32_t i = 0; i < 128; i++, entries++) {
				const uint32_t at = EDGES + entries * 4, lane = 64 + 21 * e;
				const int64_t to = i == lane ? edge_of(b, e) : blocks[b].image_offset + 16 * i;

				sk_put(s->k, at, (uint64_t)to - at, 4);
			}
			sk_put(s->k, UP + 4 * edges, (uint64_t)edge_of(b, e) - BASE_UP, 4);
			sk_put(s->k, DOWN + 4 * edges, (uint64_t)BASE_DOWN - 1 - (uint64_t)edge_of(b, e), 4);
			edges++;
		}
	add_table(s, EDGES, entries, 4, RIFFLE_CROSS_DISTANCE32);
	add_table(s, UP, edges, 4, RIFFLE_CROSS_OFFSET32);
	s->table[s->tables - 1].base = BASE_UP;
	add_table(s, DOWN, edges, 4, RIFFLE_CROSS_COUNTDOWN32);
	s->table[s->tables - 1].base = BASE_DOWN;
}

/* The last calls of the function tracer are in code behind text: at the edges of blocks, the text's own end first. */
static void add_late_calls(struct slid *s)
{
	uint32_t i = s->k->mcounts - 3 * (BLOCKS - 1);

	for (uint32_t b = 1; b < BLOCKS; b++)
		for (uint32_t k = 0; k < 3; k++, i++)
			sk_put(s->k, s->k->table_at[2] + 8 * i, LINK + blocks[b].image_offset - 1 + k, 8);
}

static int compare_refs(const void *a, const void *b)
{
	return sk_compare_refs(a, b);
}

static struct slid *make(const struct sk_shape *shape)
{
	struct slid *s = calloc(1, sizeof *s);
	struct shuffled_kernel *k = s->k = sk_make(shape);
	struct sk_ref *all = malloc((SK_REFS_MAX + 4 * OWNS) * sizeof *all);
	struct builder *b = &k->b;
	uint32_t count;

	add_owns(s);
	add_outside(s);
	add_late_calls(s);
	memcpy(s->block, blocks, sizeof blocks);
	memcpy(all, k->ref, k->refs * sizeof *all);
	memcpy(all + k->refs, s->own, s->owns * sizeof *all);
	count = k->refs + s->owns;
	qsort(all, count, sizeof *all, compare_refs);
	for (uint32_t i = 0; i < count; i++)
		if (all[i].kind == SK_PC32 && block_of(all[i].field) != block_of(all[i].target)) {
			s->cross_block[s->crosses] = (uint8_t)block_of(all[i].target);
			s->cross[s->crosses++] = all[i].field;
		}
	free(all);
	assert_true(s->crosses > 100);
	for (uint32_t at = 0; at <= (shape->handlers ? 8u : 4u); at += 4)
		add_table(s, k->table_at[0] + at, k->exceptions, 12, RIFFLE_CROSS_DISTANCE32);
	add_table(s, k->table_at[1], k->orcs, 4, RIFFLE_CROSS_DISTANCE32);
	add_table(s, k->sites_at, k->sites, 4, RIFFLE_CROSS_DISTANCE32);
	add_edges(s);
	add_table(s, k->kallsyms.offsets, k->symbols, 4,
		  shape->self_relative     ? RIFFLE_CROSS_DISTANCE32
		  : shape->absolute_percpu ? RIFFLE_CROSS_COUNTDOWN32
					   : RIFFLE_CROSS_OFFSET32);
	add_table(s, PAST, OUTSIDE, 4, RIFFLE_CROSS_DISTANCE32);
	add_table(s, WIDE, OWNS, 16, RIFFLE_CROSS_DISTANCE64);
	b->header.features |= RIFFLE_FEATURE_SLIDES;
	sk_set_mode(k, SK_MODE, 0444);
	builder_extra(b, RIFFLE_SECTION_BLOCKS, s->block, BLOCKS, sizeof *s->block);
	builder_extra(b, RIFFLE_SECTION_CROSS32, s->cross, s->crosses, 4);
	builder_extra(b, RIFFLE_SECTION_CROSS32_BLOCKS, s->cross_block, s->crosses, 1);
	builder_extra(b, RIFFLE_SECTION_CROSS_TABLES, s->table, s->tables, sizeof *s->table);
	builder_seal(b);
	return s;
}

/* The gaps before the second and the third block are a pair, whose sum leaves the last one to begin on 2 MiB. */
#define PAIR_GAPS 513u
#define PAIR_BYTES ((PAIR_GAPS - 1) * 4096)

static void pair_up(struct slid *s)
{
	s->k->b.header.features |= RIFFLE_FEATURE_PAIRS;
	s->block[1].align = s->block[2].align = 4096;
	s->block[1].gaps = PAIR_GAPS;
	s->block[2].gaps = 0;
	s->block[3].align = 2 << 20;
	s->block[3].gaps = 9;
}

/* The last block's gap takes the rest of a sum: what the others come to at most. */
static void balance(struct slid *s)
{
	s->k->b.header.features |= RIFFLE_FEATURE_BALANCED;
	s->block[3].gaps = 0;
}
#define BALANCE_BYTES (63 * (64 << 10) + 511 * 16384)

static struct slid *make_balanced(const struct sk_shape *shape)
{
	struct slid *s = make(shape);

	balance(s);
	builder_seal(&s->k->b);
	return s;
}

static struct slid *make_paired(const struct sk_shape *shape)
{
	struct slid *s = make(shape);

	pair_up(s);
	builder_seal(&s->k->b);
	return s;
}

static void end(struct slid *s)
{
	sk_free(s->k);
	free(s);
}

static int check(const struct slid *s, struct riffle_plan *plan, struct riffle_error *error)
{
	*plan = (struct riffle_plan)RIFFLE_PLAN_INIT;
	return riffle_plan_check(plan, &s->k->b.header, s->k->b.plan, s->k->b.plan_bytes, s->k->b.header.file_bytes,
				 error);
}

static void draw(struct slid *s, enum riffle_mode mode, uint64_t seed)
{
	struct riffle_ram ram = {0, RAM, NULL};
	struct riffle_memory memory = {&ram, 1, NULL, 0};
	uint8_t key[32] = {(uint8_t)seed, (uint8_t)(seed >> 8)};
	struct riffle_seeded seeded;
	struct riffle_random random;
	struct riffle_error error;
	struct riffle_plan plan;

	riffle_random_from_seed(&random, &seeded, key);
	if (check(s, &plan, &error))
		fail_msg("%s: %s", error.field, error.problem);
	s->layout = (struct riffle_layout)RIFFLE_LAYOUT_INIT;
	s->layout.order = s->order;
	s->layout.order_count = s->k->chunks;
	s->layout.slide_count = plan.block_count;
	assert_int_equal(riffle_layout_draw(&s->layout, &plan, &memory, mode, &random, &error), 0);
	assert_int_equal(riffle_layout_check(&s->layout, &plan, &memory, &error), 0);
}

static void run_backwards(void *opaque, void (*job)(void *, unsigned), void *argument, unsigned jobs)
{
	(void)opaque;
	while (jobs--)
		job(argument, jobs);
}

/* Memory in huge pages: touching that much in small ones takes longer than the tests. */
static void *room(size_t bytes)
{
	void *memory = aligned_alloc(2 << 20, bytes);

	madvise(memory, bytes, MADV_HUGEPAGE);
	return memory;
}

/* Loads into memory that is full of `fill`; returns it from the physical base on, to the end of RAM. */
static uint8_t *load(struct slid *s, const struct riffle_layout *layout, int fill, bool backwards)
{
	struct riffle_ram ram = {0, RAM, room(RAM)};
	struct riffle_memory memory = {&ram, 1, NULL, 0};
	struct riffle_workers workers = {run_backwards, NULL};
	struct riffle_source_memory bytes;
	struct riffle_source source;
	struct riffle_loaded loaded;
	struct riffle_plan plan;
	struct riffle_error error;
	uint8_t *file = builder_file(&s->k->b), *image = room(RAM);
	void *workspace;
	size_t workspace_bytes;

	memset(ram.host, fill, RAM);
	riffle_source_from_bytes(&source, &bytes, file, s->k->b.header.file_bytes);
	assert_int_equal(check(s, &plan, &error), 0);
	workspace_bytes = riffle_load_workspace(&plan);
	workspace = aligned_alloc(64, workspace_bytes);
	assert_int_equal(riffle_load_shuffled(&loaded, &plan, &source, layout, &memory, fill ? RIFFLE_LOAD_CLEAR : 0,
					      backwards ? &workers : NULL, workspace, workspace_bytes, &error),
			 0);
	s->end = loaded.end - layout->physical_base;
	s->entry = loaded.entry - layout->physical_base;
	memcpy(image, (uint8_t *)ram.host + layout->physical_base, RAM - layout->physical_base);
	free(workspace);
	free(ram.host);
	free(file);
	return image;
}

static void place_chunks(struct slid *s)
{
	for (uint32_t i = 0; i <= s->k->chunks; i++)
		s->shift[i] = 0;
	for (unsigned r = 0; s->layout.mode == RIFFLE_MODE_FGKASLR && r < s->k->shape.regions; r++) {
		uint32_t at = s->k->region[r].image_offset, first = s->k->region[r].first_chunk;

		for (uint32_t i = first; i < first + s->k->region[r].chunk_count; i++) {
			s->shift[s->order[i]] = (int32_t)(at - s->k->chunk[s->order[i]].image_offset);
			at += riffle_chunk_bytes(&s->k->chunk[s->order[i]]);
		}
	}
}

/* Adds to a field of `bytes` bytes. */
static void add(uint8_t *field, uint64_t amount, unsigned bytes)
{
	uint64_t value = 0;

	memcpy(&value, field, bytes);
	value += amount;
	memcpy(field, &value, bytes);
}

static void expect_refs(const struct slid *s, uint8_t *expected, const struct sk_ref *ref, uint32_t count)
{
	for (uint32_t i = 0; i < count; i++) {
		uint32_t own = slide_of(s, ref[i].field),
			 of = ref[i].target == UINT32_MAX ? 0 : slide_of(s, ref[i].target);
		uint8_t *field = expected + ref[i].field + s->shift[sk_chunk_of(s->k, ref[i].field)] + own;

		switch (ref[i].kind) {
		case SK_PC32:
			add(field, (uint64_t)of - own, 4);
			break;
		case SK_ABS32:
			add(field, of, 4);
			break;
		case SK_ABS64:
			add(field, of, 8);
			break;
		default:
			add(field, -(uint64_t)own, 4);
		}
	}
}

/* Past the image, up to the window's end, goes with the last block; what is before it stays. */
static bool is_place(int64_t target)
{
	return target >= -(INT64_C(1) << 30) && target < INT64_C(1) << 30;
}

static uint64_t slide_of_place(const struct slid *s, int64_t target)
{
	return target < 0 ? 0 : slide_of(s, (uint32_t)target);
}

static void expect_tables(const struct slid *s, uint8_t *expected)
{
	for (uint32_t t = 0; t < s->tables; t++)
		for (uint32_t i = 0; i < s->table[t].entries; i++) {
			uint32_t at = s->table[t].image_offset + i * s->table[t].stride, own = slide_of(s, at);
			const int64_t base = s->table[t].base;
			int32_t word;

			memcpy(&word, expected + at + own, 4);
			switch (s->table[t].kind) {
			case RIFFLE_CROSS_DISTANCE32:
				if (is_place((int64_t)at + word))
					add(expected + at + own, slide_of_place(s, (int64_t)at + word) - own, 4);
				break;
			case RIFFLE_CROSS_DISTANCE64:
				add(expected + at + own, (uint64_t)slide_of(s, at + (uint32_t)word) - own, 8);
				break;
			case RIFFLE_CROSS_OFFSET32:
				if (is_place(base + (uint32_t)word))
					add(expected + at + own, slide_of_place(s, base + (uint32_t)word), 4);
				break;
			default:
				if (word < 0 && is_place(base - 1 - word))
					add(expected + at + own, -slide_of_place(s, base - 1 - word), 4);
			}
		}
}

static void expect_calls(const struct slid *s, uint8_t *expected)
{
	for (uint32_t i = 0; i < s->k->mcounts; i++) {
		uint32_t at = s->k->table_at[2] + 8 * i;
		uint8_t *field = expected + at + slide_of(s, at);
		uint64_t address;

		memcpy(&address, field, 8);
		add(field, slide_of(s, (uint32_t)(address - s->layout.virtual_base)), 8);
	}
}

/* From a load without slides, which other tests judge: blocks apart, and each field by what it is known to refer to. */
static uint8_t *expect(const struct slid *s, const uint8_t *unslid)
{
	uint8_t *expected = room(RAM);

	memset(expected, 0, RAM);
	for (uint32_t b = 0; b < BLOCKS; b++) {
		uint32_t from = blocks[b].image_offset, to = b + 1 < BLOCKS ? blocks[b + 1].image_offset : SK_IMAGE;

		memcpy(expected + from + s->layout.slide[b], unslid + from, to - from);
	}
	expect_refs(s, expected, s->k->ref, s->k->refs);
	expect_refs(s, expected, s->own, s->owns);
	expect_tables(s, expected);
	expect_calls(s, expected);
	return expected;
}

static void loads_to_the_byte(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
		for (unsigned seed = 0; seed < 6; seed++) {
			struct slid *s = seed == 3 || seed == 4   ? make_paired(&shapes[i])
					 : seed == 1 || seed == 2 ? make_balanced(&shapes[i])
								  : make(&shapes[i]);
			struct riffle_layout unslid;
			uint8_t *expected, *plain, *found;
			uint64_t span;

			draw(s, seed % 3 ? RIFFLE_MODE_FGKASLR : RIFFLE_MODE_KASLR, seed + 10 * i);
			if (seed == 5) /* slides alone */
				s->layout.virtual_base = LINK;
			place_chunks(s);
			unslid = s->layout;
			unslid.slide_count = 0;
			memset(unslid.slide, 0, sizeof unslid.slide);
			plain = load(s, &unslid, 0, false);
			assert_int_equal(s->end, SK_IMAGE);
			expected = expect(s, plain);
			found = load(s, &s->layout, seed & 1 ? 0xa5 : 0, seed & 2);
			span = SK_IMAGE + s->layout.slide[BLOCKS - 1];
			assert_int_equal(s->end, span);
			for (uint64_t at = 0; at < span; at++)
				if (found[at] != expected[at])
					fail_msg("%zu, %u: 0x%llx: found %02x, expected %02x (slides %x %x %x, tables "
						 "%x %x %x %x %x)",
						 i, seed, (unsigned long long)at, found[at], expected[at],
						 s->layout.slide[1], s->layout.slide[2], s->layout.slide[3],
						 s->k->table_at[0], s->k->table_at[1], s->k->table_at[2],
						 s->k->sites_at, s->k->kallsyms.offsets);
			assert_int_equal(found[span], seed & 1 ? 0xa5 : 0);
			assert_memory_equal(found + SK_MODE + s->layout.slide[1], &(uint32_t){seed % 3 ? 0400 : 0444},
					    4);
			free(plain);
			free(expected);
			free(found);
			end(s);
		}
}

/* With no gaps a load with slides is one without. */
static void no_gaps_are_no_slides(void **state)
{
	struct slid *s = make(&shapes[0]);
	struct riffle_layout unslid;
	uint8_t *plain, *found;

	(void)state;
	draw(s, RIFFLE_MODE_FGKASLR, 3);
	memset(s->layout.slide, 0, sizeof s->layout.slide);
	unslid = s->layout;
	unslid.slide_count = 0;
	plain = load(s, &unslid, 0, false);
	found = load(s, &s->layout, 0, false);
	assert_memory_equal(plain, found, SK_IMAGE);
	free(plain);
	free(found);
	end(s);
}

/* A kernel may be entered in any block: 7.3's entry is in .init.text. */
static void entry_goes_with_its_block(void **state)
{
	static const uint32_t entries[] = {0x10, 0x301000, 0x3fefff, 0x3ff000, 0x3ff010};

	(void)state;
	for (size_t i = 0; i < sizeof entries / sizeof *entries; i++)
		for (enum riffle_mode mode = RIFFLE_MODE_KASLR; mode <= RIFFLE_MODE_FGKASLR; mode++) {
			struct slid *s = make(&shapes[0]);

			s->k->b.header.entry_offset = entries[i];
			builder_seal(&s->k->b);
			draw(s, mode, 17);
			free(load(s, &s->layout, 0, false));
			assert_int_equal(s->entry, entries[i] + s->layout.slide[block_of(entries[i])]);
			end(s);
		}
}

/* Upper tail of chi-square, by Wilson and Hilferty's cube root. */
static double upper_tail(double sum, double df)
{
	double z = (cbrt(sum / df) - (1 - 2 / (9 * df))) / sqrt(2 / (9 * df));

	return erfc(z / sqrt(2)) / 2;
}

static double chi_square_p(const uint32_t *count, unsigned bins, double draws)
{
	double sum = 0, expected = draws / bins;

	for (unsigned i = 0; i < bins; i++)
		sum += (count[i] - expected) * (count[i] - expected) / expected;
	return upper_tail(sum, bins - 1.0);
}

#define DRAWS 40000u
#define PARTS 8u /* that each range is divided into, for pairs */

/* Whether the row says nothing about the column; what each is alone does not matter, nor that parts differ in size. */
static double independence_p(const uint32_t *count, double draws)
{
	double row[PARTS] = {0}, column[PARTS] = {0}, sum = 0;

	for (unsigned i = 0; i < PARTS * PARTS; i++) {
		row[i / PARTS] += count[i];
		column[i % PARTS] += count[i];
	}
	for (unsigned i = 0; i < PARTS * PARTS; i++) {
		double expected = row[i / PARTS] * column[i % PARTS] / draws;

		sum += (count[i] - expected) * (count[i] - expected) / expected;
	}
	return upper_tail(sum, (PARTS - 1.0) * (PARTS - 1.0));
}

/* Layouts drawn from a seed for a guest of 256 MiB. */
struct draws {
	struct riffle_ram ram;
	struct riffle_memory memory;
	struct riffle_plan plan;
	struct riffle_seeded seeded;
	struct riffle_random random;
	struct riffle_slots slots;
};

static void begin_draws(struct draws *d, const struct slid *s, uint8_t seed)
{
	uint8_t key[32] = {seed};
	struct riffle_error error;

	print_message("seed %u\n", seed);
	d->ram = (struct riffle_ram){0, 256 * MIB, NULL};
	d->memory = (struct riffle_memory){&d->ram, 1, NULL, 0};
	assert_int_equal(check(s, &d->plan, &error), 0);
	riffle_random_from_seed(&d->random, &d->seeded, key);
	assert_int_equal(riffle_layout_slots_slid(&d->slots, &d->plan, &d->memory, RIFFLE_MODE_KASLR, &error), 0);
}

static struct riffle_layout next_draw(struct draws *d)
{
	struct riffle_layout l = {.slide_count = BLOCKS};
	struct riffle_error error;

	assert_int_equal(riffle_layout_draw(&l, &d->plan, &d->memory, RIFFLE_MODE_KASLR, &d->random, &error), 0);
	assert_int_equal(l.slide[0], 0);
	return l;
}

static uint32_t virtual_slot(const struct riffle_layout *l)
{
	return (uint32_t)((l->virtual_base - LINK) / RIFFLE_SLOT_BYTES);
}

static uint32_t physical_slot(const struct draws *d, const struct riffle_layout *l)
{
	return (uint32_t)((l->physical_base - d->plan.header->link_phys) / RIFFLE_SLOT_BYTES);
}

#define VARIABLES_MAX 5u
#define VALUES_MAX 513u

/* How often each value of some variables was drawn, and each pair of parts of their ranges. */
struct tally {
	unsigned variables;
	uint32_t range[VARIABLES_MAX];
	uint32_t value[VARIABLES_MAX][VALUES_MAX], pair[VARIABLES_MAX][VARIABLES_MAX][PARTS * PARTS];
};

static void count_draw(struct tally *t, const uint32_t *drawn)
{
	for (unsigned v = 0; v < t->variables; v++) {
		assert_true(drawn[v] < t->range[v]);
		t->value[v][drawn[v]]++;
		for (unsigned w = 0; w < v; w++)
			t->pair[v][w][drawn[v] * PARTS / t->range[v] * PARTS + drawn[w] * PARTS / t->range[w]]++;
	}
}

/* Each variable is uniform, and each two are independent. */
static void check_tally(const struct tally *t)
{
	for (unsigned v = 0; v < t->variables; v++) {
		assert_true(t->range[v] <= VALUES_MAX);
		assert_true(chi_square_p(t->value[v], t->range[v], DRAWS) > 1e-4);
		for (unsigned w = 0; w < v; w++)
			assert_true(independence_p(t->pair[v][w], DRAWS) > 1e-4);
	}
}

/* What is drawn: the gaps before blocks 1 to 3, the virtual and the physical slot. */
static void gaps_are_uniform_and_independent(void **state)
{
	enum { VIRTUAL = BLOCKS - 1, PHYSICAL, DRAWN };
	struct slid *s = make(&shapes[0]);
	struct tally tally = {.variables = DRAWN};
	struct riffle_slots unslid;
	struct riffle_error error;
	struct draws d;

	(void)state;
	begin_draws(&d, s, 77);
	assert_int_equal(riffle_layout_slots(&unslid, &d.plan, &d.memory, RIFFLE_MODE_KASLR, &error), 0);
	/* gaps of up to 4 MiB - 64 KiB, 8 MiB - 16 KiB, 2 MiB - 4 KiB: they need 14 MiB less 84 KiB, and that is 7
	 * slots
	 */
	assert_int_equal(d.plan.slide_max, 14 * MIB - 84 * 1024);
	assert_int_equal(d.slots.virtual_, unslid.virtual_ - 7);
	assert_int_equal(d.slots.physical, unslid.physical - 7);
	for (uint32_t b = 1; b < BLOCKS; b++)
		tally.range[b - 1] = blocks[b].gaps;
	tally.range[VIRTUAL] = (uint32_t)d.slots.virtual_;
	tally.range[PHYSICAL] = (uint32_t)d.slots.physical;
	for (uint32_t i = 0; i < DRAWS; i++) {
		struct riffle_layout l = next_draw(&d);
		uint32_t drawn[DRAWN];

		for (uint32_t b = 1; b < BLOCKS; b++) {
			drawn[b - 1] = (l.slide[b] - l.slide[b - 1]) / blocks[b].align;
			assert_int_equal(l.slide[b], l.slide[b - 1] + drawn[b - 1] * blocks[b].align);
		}
		drawn[VIRTUAL] = virtual_slot(&l);
		drawn[PHYSICAL] = physical_slot(&d, &l);
		count_draw(&tally, drawn);
	}
	check_tally(&tally);
	end(s);
}

/* The first gap of a pair is as random as any other; the second is all that it lacks, and the last block stays aligned.
 */
static void pairs_have_one_sum(void **state)
{
	enum { FIRST, VIRTUAL, PHYSICAL, DRAWN, LAST_GAPS = 9 };
	struct slid *s = make_paired(&shapes[0]);
	struct tally tally = {.variables = DRAWN};
	uint32_t last[LAST_GAPS] = {0};
	struct draws d;

	(void)state;
	begin_draws(&d, s, 78);
	assert_int_equal(d.plan.slide_max, PAIR_BYTES + 16 * MIB);
	tally.range[FIRST] = PAIR_GAPS;
	tally.range[VIRTUAL] = (uint32_t)d.slots.virtual_;
	tally.range[PHYSICAL] = (uint32_t)d.slots.physical;
	for (uint32_t i = 0; i < DRAWS; i++) {
		struct riffle_layout l = next_draw(&d);
		const uint32_t drawn[DRAWN] = {l.slide[1] / 4096, virtual_slot(&l), physical_slot(&d, &l)};

		assert_int_equal(l.slide[1] % 4096, 0);
		assert_int_equal(l.slide[2], PAIR_BYTES);
		assert_int_equal(l.slide[3] % (2 * MIB), 0);
		assert_in_range(l.slide[3], PAIR_BYTES, PAIR_BYTES + (LAST_GAPS - 1) * 2 * MIB);
		count_draw(&tally, drawn);
		/* nine gaps do not fall into equal parts */
		last[(l.slide[3] - PAIR_BYTES) / (2 * MIB)]++;
	}
	check_tally(&tally);
	assert_true(chi_square_p(last, LAST_GAPS, DRAWS) > 1e-4);
	end(s);
}

/* All gaps have one sum, and all but the last are as random as without it. */
static void balanced_gaps_have_one_sum(void **state)
{
	struct slid *s = make_balanced(&shapes[0]);
	struct tally tally = {.variables = 2, .range = {64, 512}};
	struct draws d;

	(void)state;
	begin_draws(&d, s, 79);
	assert_int_equal(d.plan.slide_max, BALANCE_BYTES);
	for (uint32_t i = 0; i < DRAWS; i++) {
		struct riffle_layout l = next_draw(&d);
		const uint32_t drawn[] = {l.slide[1] / (64 << 10), (l.slide[2] - l.slide[1]) / 16384};

		assert_int_equal(l.slide[3], BALANCE_BYTES);
		count_draw(&tally, drawn);
	}
	check_tally(&tally);
	end(s);
}

static void another_sum_is_refused(void **state)
{
	static const uint32_t wrong[] = {0, BALANCE_BYTES - 4096, BALANCE_BYTES + 4096};
	struct slid *s = make_balanced(&shapes[0]);
	struct riffle_ram ram = {0, RAM, NULL};
	struct riffle_memory memory = {&ram, 1, NULL, 0};
	struct riffle_error error;
	struct riffle_plan plan;

	(void)state;
	assert_int_equal(check(s, &plan, &error), 0);
	draw(s, RIFFLE_MODE_KASLR, 4);
	assert_int_equal(riffle_layout_check(&s->layout, &plan, &memory, &error), 0);
	for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
		s->layout.slide[3] = wrong[i];
		assert_int_equal(riffle_layout_check(&s->layout, &plan, &memory, &error), RIFFLE_ERR_FORMAT);
		assert_string_equal(error.field, "slide");
		assert_int_equal(error.found, wrong[i]);
		assert_int_equal(error.expected, BALANCE_BYTES);
	}
	/* the least and the most that it leaves to its own gap */
	s->layout.slide[1] = s->layout.slide[2] = 0;
	s->layout.slide[3] = BALANCE_BYTES;
	assert_int_equal(riffle_layout_check(&s->layout, &plan, &memory, &error), 0);
	s->layout.slide[1] = 63 * (64 << 10);
	s->layout.slide[2] = BALANCE_BYTES;
	assert_int_equal(riffle_layout_check(&s->layout, &plan, &memory, &error), 0);
	end(s);
}

/* As a layout file may bring them. */
static void a_pair_with_another_sum_is_refused(void **state)
{
	static const uint32_t wrong[][3] = {
	    {0, 0, 2 << 20},                                /* none */
	    {4096, 4096, 2 << 20},                          /* the second is missing */
	    {4096, PAIR_BYTES - 4096, 2 << 20},             /* too little */
	    {4096, PAIR_BYTES + 4096, 4 << 20},             /* too much */
	    {PAIR_BYTES, PAIR_BYTES + 4096, 4 << 20},       /* the first is all */
	    {PAIR_BYTES + 4096, PAIR_BYTES, 4 << 20},       /* the first is more than all */
	    {PAIR_BYTES + 4096, PAIR_BYTES + 4096, 4 << 20} /* the same, with none that is less */
	};
	static const uint32_t right[][3] = {
	    {0, PAIR_BYTES, PAIR_BYTES},
	    {4096, PAIR_BYTES, PAIR_BYTES + (2 << 20)},
	    {PAIR_BYTES, PAIR_BYTES, PAIR_BYTES},
	};
	struct slid *s = make_paired(&shapes[0]);
	struct riffle_ram ram = {0, RAM, NULL};
	struct riffle_memory memory = {&ram, 1, NULL, 0};
	struct riffle_error error;
	struct riffle_plan plan;

	(void)state;
	assert_int_equal(check(s, &plan, &error), 0);
	draw(s, RIFFLE_MODE_KASLR, 4);
	for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
		memcpy(s->layout.slide + 1, wrong[i], sizeof wrong[i]);
		if (riffle_layout_check(&s->layout, &plan, &memory, &error) != RIFFLE_ERR_FORMAT)
			fail_msg("%zu", i);
		assert_string_equal(error.field, "slide");
	}
	for (size_t i = 0; i < sizeof right / sizeof *right; i++) {
		memcpy(s->layout.slide + 1, right[i], sizeof right[i]);
		assert_int_equal(riffle_layout_check(&s->layout, &plan, &memory, &error), 0);
	}
	end(s);
}

static void wrong_slides_are_refused(void **state)
{
	struct slid *s = make(&shapes[0]);
	struct riffle_ram ram = {0, RAM, NULL};
	struct riffle_memory memory = {&ram, 1, NULL, 0};
	struct riffle_error error;
	struct riffle_layout good;
	struct riffle_plan plan, base = RIFFLE_PLAN_INIT;
	struct riffle_slots slots;
	const uint32_t wrong[][3] = {
	    {32768, 32768, 32768},                /* no multiple */
	    {64 * 65536, 64 * 65536, 64 * 65536}, /* a gap too large */
	    {0, 512 * 16384, 512 * 16384},        /* the same of another block */
	    {0, 0, 512 * 4096},                   /* of the last */
	    {65536, 0, 65536},                    /* less than the one before */
	    {65536, 65536, 0},                    /* the last is */
	    {65536, 65536 + 8192, 65536 + 8192},  /* no multiple of this block's */
	    {65536, 65536, 65536 + 2048},         /* of the last block's */
	    {0, 0, UINT32_MAX - 4095},
	};

	(void)state;
	assert_int_equal(check(s, &plan, &error), 0);
	draw(s, RIFFLE_MODE_KASLR, 4);
	good = s->layout;
	for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
		memcpy(s->layout.slide + 1, wrong[i], sizeof wrong[i]);
		assert_int_equal(riffle_layout_check(&s->layout, &plan, &memory, &error), RIFFLE_ERR_FORMAT);
		assert_string_equal(error.field, "slide");
	}
	s->layout = good;
	s->layout.slide[0] = 4096;
	assert_int_equal(riffle_layout_check(&s->layout, &plan, &memory, &error), RIFFLE_ERR_FORMAT);
	s->layout = good;
	s->layout.slide_count = 3;
	assert_int_equal(riffle_layout_check(&s->layout, &plan, &memory, &error), RIFFLE_ERR_ARGUMENT);
	assert_string_equal(error.field, "slide_count");
	for (enum riffle_mode mode = RIFFLE_MODE_OFF; mode <= RIFFLE_MODE_PHYSICAL; mode++) {
		s->layout = good;
		assert_int_equal(riffle_layout_draw(&s->layout, &plan, &memory, mode, NULL, &error),
				 RIFFLE_ERR_ARGUMENT);
		assert_string_equal(error.field, "mode");
	}
	/* a plan that was opened without that part has no blocks */
	assert_int_equal(riffle_plan_check(&base, &s->k->b.header, s->k->b.plan, s->k->b.header.base_bytes,
					   s->k->b.header.file_bytes, &error),
			 0);
	assert_int_equal(base.block_count, 0);
	assert_int_equal(riffle_layout_slots_slid(&slots, &base, &memory, RIFFLE_MODE_KASLR, &error),
			 RIFFLE_ERR_UNSUPPORTED);
	/* room for the image, but not for its gaps */
	ram.bytes = 16 * MIB + SK_IMAGE + 6 * MIB;
	s->layout = good;
	assert_int_equal(riffle_layout_draw(&s->layout, &plan, &memory, RIFFLE_MODE_KASLR, NULL, &error),
			 RIFFLE_ERR_SPACE);
	s->layout.slide_count = 0;
	assert_int_equal(riffle_layout_draw(&s->layout, &plan, &memory, RIFFLE_MODE_KASLR, NULL, &error), 0);
	end(s);
}

/* A plan that lies about its blocks. */
struct lie {
	const char *what;
	void (*tell)(struct slid *s);
	const char *message;
};

#define LIE(name, ...)                                                                                                 \
	static void name(struct slid *s)                                                                               \
	{                                                                                                              \
		__VA_ARGS__;                                                                                           \
	}

LIE(lie_one, builder_extra(&s->k->b, RIFFLE_SECTION_BLOCKS, s->block, 1, sizeof *s->block))
LIE(lie_many, static struct riffle_block more[9]; builder_extra(&s->k->b, RIFFLE_SECTION_BLOCKS, more, 9, sizeof *more))
LIE(lie_none, builder_extra(&s->k->b, RIFFLE_SECTION_BLOCKS, NULL, 0, sizeof *s->block))
LIE(lie_first, s->block[0].image_offset = 4096)
LIE(lie_order, s->block[2].image_offset = s->block[1].image_offset)
LIE(lie_page, s->block[1].image_offset += 16)
LIE(lie_outside, s->block[3].image_offset = SK_IMAGE)
LIE(lie_align, s->block[2].align = 12288)
LIE(lie_fine, s->block[2].align = 2048)
LIE(lie_coarse, s->block[2].align = 4 << 20)
LIE(lie_finer, s->block[1].align = 8192)
LIE(lie_last_coarser, s->block[3].align = 32768)
LIE(lie_still_coarser, s->block[3].align = 32768; s->block[3].gaps = 1)
LIE(lie_first_finer, s->block[0].align = 32768)
LIE(lie_no_gaps, s->block[2].gaps = 0)
LIE(lie_unpaired, pair_up(s); s->k->b.header.features &= ~RIFFLE_FEATURE_PAIRS)
LIE(lie_pair_first, pair_up(s); s->block[1].gaps = 0)
LIE(lie_pair_text, pair_up(s); s->block[0].gaps = 0)
LIE(lie_pair_still, pair_up(s); s->block[1].gaps = 1)
LIE(lie_pair_of_pair, pair_up(s); s->block[3].gaps = 0)
LIE(lie_pair_align, pair_up(s); s->block[2].align = 8192)
LIE(lie_pair_sum, pair_up(s); s->block[1].gaps = 512)
LIE(lie_pair_large, pair_up(s); s->block[1].gaps = 16384 + 2)
LIE(lie_balance_alone, s->k->b.header.features = RIFFLE_FEATURE_SHUFFLE | RIFFLE_FEATURE_BALANCED)
LIE(lie_balance_denied, s->block[3].gaps = 0)
LIE(lie_balance_with_gaps, balance(s); s->block[3].gaps = 2)
LIE(lie_balance_unaligned, balance(s); s->block[3].align = 1 << 20)
LIE(lie_balance_large, balance(s); s->block[2].gaps = 4096 - 250)
LIE(lie_pairs_alone, s->k->b.header.features = RIFFLE_FEATURE_SHUFFLE | RIFFLE_FEATURE_PAIRS)
LIE(lie_first_gaps, s->block[0].gaps = 2)
LIE(lie_large, s->block[1].gaps = 864; s->block[3].gaps = 534)
LIE(lie_wrap, s->block[3].gaps = UINT32_MAX)
LIE(lie_cross_order, s->cross[4] = s->cross[3])
LIE(lie_cross_outside, s->cross[s->crosses - 1] = SK_IMAGE - 0x1000 - 3)
LIE(lie_cross_far, s->cross[s->crosses - 1] = UINT32_MAX)
LIE(lie_cross_edge, s->cross[s->crosses - 1] = 0x3ff000 - 3)
LIE(lie_cross_table, s->cross[s->crosses - 1] = s->k->table_at[1] + 8)
LIE(lie_cross_into, s->cross[s->crosses - 1] = s->k->table_at[1] - 2)
LIE(
    lie_cross_chunks, uint32_t at = s->k->region[0].image_offset + s->k->region[0].bytes - 2;
    for (uint32_t i = 0; i < s->crosses; i++) if (s->cross[i] + 4 > at) {
	    s->cross[i] = at;
	    break;
    })
LIE(lie_cross_block, s->cross_block[9] = BLOCKS)
LIE(lie_cross_count, builder_extra(&s->k->b, RIFFLE_SECTION_CROSS32_BLOCKS, s->cross_block, s->crosses - 1, 1))
LIE(lie_mode_cross, sk_set_mode(s->k, OWN + 16 + 3, 0444))
LIE(lie_mode_table, sk_set_mode(s->k, WIDE + 16 * OWNS - 9, 0444))
LIE(lie_mode_edge, sk_set_mode(s->k, 0x301000 - 2, 0444))
LIE(lie_kind, s->table[0].kind = 5)
LIE(lie_no_kind, s->table[0].kind = 0)
LIE(lie_reserved, s->table[0].reserved = 1)
LIE(lie_stride, s->table[0].stride = 3)
LIE(lie_wide_stride, s->table[s->tables - 1].stride = 4)
LIE(lie_long_stride, s->table[0].stride = 8192)
LIE(lie_empty, s->table[0].entries = 0)
LIE(lie_entries, s->table[0].entries = UINT32_MAX)
LIE(lie_table_outside, s->table[0].image_offset = SK_IMAGE - 16)
LIE(lie_table_edge, s->table[0].image_offset = 0x3ff000 - 16)
LIE(lie_base, s->table[0].base = 16)
LIE(lie_far_base, s->table[s->tables - 2].base = 0x301000)
LIE(lie_next_base, s->table[s->tables - 3].base = 0x301000)
LIE(lie_region, s->block[1].image_offset = (s->k->region[0].image_offset + s->k->region[0].bytes / 2) & ~4095u)
LIE(lie_text, s->block[1].image_offset = 0x100000)
LIE(lie_area, s->block[2].image_offset = (s->k->table_at[1] + 4096) & ~4095u)
LIE(lie_feature, s->k->b.header.features &= ~RIFFLE_FEATURE_SLIDES)
LIE(lie_shuffle, s->k->b.header.features = RIFFLE_FEATURE_SLIDES)
LIE(lie_reason, memcpy(s->k->b.header.no_slides, "\033]0;x", 6))
LIE(lie_tables, static struct riffle_cross_table more[RIFFLE_CROSS_TABLES_MAX + 1];
    builder_extra(&s->k->b, RIFFLE_SECTION_CROSS_TABLES, more, RIFFLE_CROSS_TABLES_MAX + 1, sizeof *more))

#define MODE_IN "kallsyms_mode: lies in what a load changes otherwise (image offset) "

static const struct lie lies[] = {
    {"a single block", lie_one, "blocks: are fewer than 2 or too many (found 1, expected 8)"},
    {"too many blocks", lie_many, "blocks: are fewer than 2 or too many (found 9, expected 8)"},
    {"no blocks", lie_none, "blocks: are fewer than 2 or too many (found 0, expected 8)"},
    {"first block not at 0", lie_first,
     "block image_offset: is out of order, outside the image, or not on a page (found 4096)"},
    {"an empty block", lie_order,
     "block image_offset: is out of order, outside the image, or not on a page (found 0x301000)"},
    {"a block inside a page", lie_page,
     "block image_offset: is out of order, outside the image, or not on a page (found 0x301010)"},
    {"a block outside", lie_outside,
     "block image_offset: is out of order, outside the image, or not on a page (found 0x800000)"},
    {"alignment that is no power of two", lie_align,
     "block align: is no power of two from 4 KiB to 2 MiB (found 12288)"},
    {"alignment below a page", lie_fine, "block align: is no power of two from 4 KiB to 2 MiB (found 2048)"},
    {"alignment above 2 MiB", lie_coarse, "block align: is no power of two from 4 KiB to 2 MiB (found 0x400000)"},
    {"gaps finer than those after them", lie_finer,
     "block align: is more than that of the block before (found 16384, expected 8192)"},
    {"gaps coarser than those before them", lie_last_coarser,
     "block align: is more than that of the block before (found 32768, expected 16384)"},
    {"a block without gaps that needs more than it is given", lie_still_coarser,
     "block align: is more than that of the block before (found 32768, expected 16384)"},
    {"gaps coarser than the base's", lie_first_finer,
     "block align: is more than that of the block before (found 0x10000, expected 32768)"},
    {"no gaps", lie_no_gaps, "block gaps: are none, and no gap before is one that they complement (block) (found 2)"},
    {"a pair that the features deny", lie_unpaired,
     "block gaps: are none, and no gap before is one that they complement (block) (found 2)"},
    {"a complement of the gap before text", lie_pair_first,
     "block gaps: are none, and no gap before is one that they complement (block) (found 1)"},
    {"a complement before text", lie_pair_text,
     "block gaps: are none, and no gap before is one that they complement (block) (found 0)"},
    {"a complement of no gap", lie_pair_still,
     "block gaps: are none, and no gap before is one that they complement (block) (found 2)"},
    {"a complement of a complement", lie_pair_of_pair,
     "block gaps: are none, and no gap before is one that they complement (block) (found 3)"},
    {"a pair of two alignments", lie_pair_align,
     "block align: is not that of the gap that its own complements (found 8192, expected 4096)"},
    {"a block that needs more than the sum of a pair gives", lie_pair_sum,
     "block align: is more than that of the block before (found 0x200000, expected 4096)"},
    {"a pair that is too large", lie_pair_large,
     "block gaps: are too large in all (found 0x4001000, expected 0x4000000)"},
    {"a balance without slides", lie_balance_alone, "features: have a sum of gaps without slides (found 65)"},
    {"a balance that the features deny", lie_balance_denied,
     "block gaps: are none, and no gap before is one that they complement (block) (found 3)"},
    {"a balance with gaps of its own", lie_balance_with_gaps,
     "block gaps: are some before the last, which balances the others, or those are unaligned (found 2)"},
    {"a balance that needs more than the sum gives", lie_balance_unaligned,
     "block gaps: are some before the last, which balances the others, or those are unaligned (found 0xbec000)"},
    {"a balance that is too large", lie_balance_large,
     "block gaps: are too large in all (found 0x4004000, expected 0x4000000)"},
    {"pairs without slides", lie_pairs_alone, "features: have pairs of gaps without slides (found 17)"},
    {"gaps before the first", lie_first_gaps, "block gaps: are some before the first (found 2)"},
    {"gaps too large in all", lie_large, "block gaps: are too large in all (found 0x4001000, expected 0x4000000)"},
    {"gaps that wrap", lie_wrap, "block gaps: are too large in all (found 0x100000bea000, expected 0x4000000)"},
    {"unsorted fields", lie_cross_order, "cross32: list is not strictly ascending (found 1)"},
    {"a field half outside", lie_cross_outside, "cross32: entry lies outside every extent (found 0x7feffd)"},
    {"a field far outside", lie_cross_far, "cross32: entry lies outside every extent (found 0xffffffff)"},
    {"a field across an edge", lie_cross_edge, "block: has a field across its edge (image offset) (found 0x3ff000)"},
    {"a field in a sorted table", lie_cross_table, "cross32: has a field in a table (image offset) (found 0x401780)"},
    {"a field half in a sorted table", lie_cross_into,
     "cross32: has a field across the edge of an area (image offset) (found 0x401778)"},
    {"a field half in a region", lie_cross_chunks,
     "cross32: has a field across the edge of an area (image offset) (found 0x1ba740)"},
    {"block of a field", lie_cross_block, "cross32_blocks: name a block that is not there (found 4, expected 4)"},
    {"count of blocks of fields", lie_cross_count,
     "cross32_blocks: are not as many as the fields (found 1960, expected 1961)"},
    {"a mode of kallsyms half in a field", lie_mode_cross, MODE_IN "(found 0x308013)"},
    {"a mode of kallsyms half in a table", lie_mode_table, MODE_IN "(found 0x3103f7)"},
    {"a mode of kallsyms across an edge", lie_mode_edge, MODE_IN "(found 0x300ffe)"},
    {"kind of table", lie_kind, "cross table kind: is not known (found 5)"},
    {"no kind of table", lie_no_kind, "cross table kind: is not known (found 0)"},
    {"reserved bytes", lie_reserved, "cross table kind: is not known (found 1)"},
    {"stride", lie_stride, "cross table stride: is too small or too large, or the table is empty (found 3)"},
    {"stride of wide fields", lie_wide_stride,
     "cross table stride: is too small or too large, or the table is empty (found 4)"},
    {"a stride too long", lie_long_stride,
     "cross table stride: is too small or too large, or the table is empty (found 8192)"},
    {"an empty table", lie_empty, "cross table stride: is too small or too large, or the table is empty (found 12)"},
    {"absurd count of entries", lie_entries, "cross table: does not lie in one extent (found 0x400000)"},
    {"a table outside", lie_table_outside, "cross table: does not lie in one extent (found 0x7ffff0)"},
    {"a table across an edge", lie_table_edge, "cross table: lies across two blocks (found 0x3feff0)"},
    {"a base that is not needed", lie_base, "cross table base: is not in the first block, or not needed (found 16)"},
    {"a base in another block", lie_far_base,
     "cross table base: is not in the first block, or not needed (found 0x301000)"},
    {"a base at the start of the second block", lie_next_base,
     "cross table base: is not in the first block, or not needed (found 0x301000)"},
    {"a region across an edge", lie_region, "block: has an area across its edge (image offset) (found 0x15e000)"},
    {"a region in the second block", lie_text, "region: is not in the first block (found 0)"},
    {"a table of the shuffle across an edge", lie_area, "cross table: lies across two blocks (found 0x401778)"},
    {"feature denied", lie_feature, "features: deny a section that is there (found 23)"},
    {"slides without a shuffle", lie_shuffle, "features: let blocks slide without a shuffle (found 8)"},
    {"a reason that speaks to the terminal", lie_reason, "no_slides: holds what is not printable ASCII (found 27)"},
    {"too many tables", lie_tables, "cross_tables: are too many (found 129, expected 128)"},
};

static void every_lie_is_refused(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof lies / sizeof *lies; i++) {
		struct slid *s = make(&shapes[1]);
		struct riffle_error error = {0};
		struct riffle_plan plan;
		int status;

		lies[i].tell(s);
		builder_seal(&s->k->b);
		status = check(s, &plan, &error);
		if (status != RIFFLE_ERR_FORMAT || strcmp(message_of(status, &error), lies[i].message))
			fail_msg("%s: status %d, %s", lies[i].what, status, message_of(status, &error));
		assert_int_equal(plan.block_count, 0);
		end(s);
	}
}

/* Where the slides' sections are said to lie. */
static void every_section_is_checked(void **state)
{
	static const struct {
		unsigned kind;
		const char *name;
	} section[] = {
	    {RIFFLE_SECTION_BLOCKS, "blocks"},
	    {RIFFLE_SECTION_CROSS32, "cross32"},
	    {RIFFLE_SECTION_CROSS32_BLOCKS, "cross32_blocks"},
	    {RIFFLE_SECTION_CROSS_TABLES, "cross_tables"},
	};
	struct slid *s = make(&shapes[1]);
	struct riffle_header *h = &s->k->b.header;
	struct riffle_error error;
	struct riffle_plan plan;

	(void)state;
	for (size_t i = 0; i < sizeof section / sizeof *section; i++) {
		struct riffle_section *it = &h->section[section[i].kind], good = *it;
		const struct riffle_section wrong[] = {
		    {good.offset + 4, good.count},           /* not aligned */
		    {0, good.count},                         /* in the part that every load reads */
		    {h->base_bytes - 8, good.count},         /* begins there */
		    {UINT64_MAX - 7, good.count},            /* wraps */
		    {h->plan_bytes, good.count},             /* behind the plan */
		    {good.offset, h->plan_bytes},            /* reaches out of it */
		    {good.offset, UINT64_C(1) << 62},        /* wraps in bytes */
		    {good.offset, good.count | 1ull << 32u}, /* in 32 bits */
		};

		for (size_t w = 0; w < sizeof wrong / sizeof *wrong; w++) {
			*it = wrong[w];
			builder_sums(&s->k->b);
			if (check(s, &plan, &error) != RIFFLE_ERR_FORMAT || strcmp(error.field, section[i].name))
				fail_msg("%s, %zu: field %s", section[i].name, w, error.field);
		}
		*it = good;
	}
	builder_sums(&s->k->b);
	assert_int_equal(check(s, &plan, &error), 0);
	end(s);
}

LIE(limit_slide, s->block[1].gaps = 864; s->block[3].gaps = 533)
LIE(limit_align, s->block[1].align = s->block[2].align = s->block[3].align = 32768)
LIE(limit_pages, s->block[1].align = s->block[2].align = s->block[3].align = 4096)
LIE(limit_coarse, s->block[1].align = 2 << 20; s->block[1].gaps = 3)
LIE(limit_still, s->block[1].gaps = s->block[2].gaps = s->block[3].gaps = 1)
LIE(limit_balance, balance(s))
LIE(limit_balance_aligned, balance(s); s->block[3].align = 16384)
LIE(limit_balance_pair, pair_up(s); balance(s))
LIE(limit_pair, pair_up(s))
LIE(limit_pair_half, pair_up(s); s->block[1].gaps = 257; s->block[3].align = 1 << 20)
LIE(limit_pair_coarse, pair_up(s); s->block[1].align = s->block[2].align = 64 << 10; s->block[1].gaps = 33)
LIE(limit_pair_large, pair_up(s); s->block[1].gaps = 16384 + 1; s->block[3].gaps = 1)
LIE(limit_pair_unused, s->k->b.header.features |= RIFFLE_FEATURE_PAIRS)
LIE(limit_kind, s->block[1].kind = s->block[3].kind = UINT32_MAX)
LIE(limit_table, s->table[0].image_offset = 0x3ff000 - 4; s->table[0].entries = 1; s->table[0].stride = 4096)
LIE(limit_base, s->table[s->tables - 3].base = 0x300fff)
LIE(limit_cross, s->cross[s->crosses - 1] = SK_IMAGE - 0x1000 - 4)

/* What is just within the limits. */
static void limits_are_accepted(void **state)
{
	static const struct lie limits[] = {
	    {"gaps of 64 MiB in all", limit_slide, NULL},
	    {"alignment that does not fall", limit_align, NULL},
	    {"pages", limit_pages, NULL},
	    {"the largest alignment", limit_coarse, NULL},
	    {"no gaps anywhere", limit_still, NULL},
	    {"a balance", limit_balance, NULL},
	    {"a balance with the alignment of the sum", limit_balance_aligned, NULL},
	    {"a balance and a pair", limit_balance_pair, NULL},
	    {"a pair, and after it the largest alignment", limit_pair, NULL},
	    {"the alignment of a pair's sum", limit_pair_half, NULL},
	    {"a pair with another alignment", limit_pair_coarse, NULL},
	    {"a pair of 64 MiB", limit_pair_large, NULL},
	    {"pairs that might be", limit_pair_unused, NULL},
	    {"kinds that nobody knows", limit_kind, NULL},
	    {"a table up to an edge, with the longest stride", limit_table, NULL},
	    {"a base at the end of the first block", limit_base, NULL},
	    {"the last field of all", limit_cross, NULL},
	};

	(void)state;
	for (size_t i = 0; i < sizeof limits / sizeof *limits; i++) {
		struct slid *s = make(&shapes[1]);
		struct riffle_error error = {0};
		struct riffle_plan plan;

		limits[i].tell(s);
		builder_seal(&s->k->b);
		if (check(s, &plan, &error))
			fail_msg("%s: %s %s", limits[i].what, error.field, error.problem);
		assert_int_equal(plan.block_count, BLOCKS);
		end(s);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(loads_to_the_byte),          cmocka_unit_test(no_gaps_are_no_slides),
	    cmocka_unit_test(entry_goes_with_its_block),  cmocka_unit_test(gaps_are_uniform_and_independent),
	    cmocka_unit_test(wrong_slides_are_refused),   cmocka_unit_test(every_lie_is_refused),
	    cmocka_unit_test(every_section_is_checked),   cmocka_unit_test(limits_are_accepted),
	    cmocka_unit_test(balanced_gaps_have_one_sum), cmocka_unit_test(another_sum_is_refused),
	    cmocka_unit_test(pairs_have_one_sum),         cmocka_unit_test(a_pair_with_another_sum_is_refused),
	};
	return cmocka_run_group_tests_name("slides", tests, NULL, NULL);
}
