/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A shuffled load, checked by an independent model: every byte, reference and table entry is where the order puts it.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <sys/random.h>

#include <cmocka.h>

#include <riffle/load.h>

#include "shuffled_kernel.h"

#define MIB (UINT64_C(1) << 20)
#define BASE (16 * MIB)
#define LINK UINT64_C(0xffffffff81000000)

static const struct sk_shape shapes[] = {
    {.seed = 11, .regions = 1, .absolute_percpu = 1, .seqs = 1},
    {.seed = 22, .regions = 2, .handlers = 1},
    {.seed = 33, .regions = 2, .self_relative = 1, .seqs = 1},
    {.seed = 44, .regions = 1, .absolute_percpu = 1, .seqs = 1, .huge_fixed_run = 1},
    {.seed = 55, .regions = SK_REGIONS_MAX - 1, .absolute_percpu = 1, .seqs = 1},
};

struct loaded_kernel {
	struct shuffled_kernel *k;
	struct riffle_plan plan;
	struct riffle_layout layout;
	uint16_t order[SK_CHUNKS_MAX];
	int32_t shift[SK_CHUNKS_MAX + 1];
	uint8_t *guest, *expected;
	uint64_t entry;
	struct riffle_error error; /* of the load */
};

static void run_backwards(void *opaque, void (*job)(void *, unsigned), void *argument, unsigned jobs)
{
	(void)opaque;
	while (jobs--)
		job(argument, jobs);
}

/* Loads a kernel in a drawn order into fresh memory. */
static int load(struct loaded_kernel *l, unsigned options, bool backwards)
{
	struct riffle_ram ram = {0, 32 * MIB, aligned_alloc(4096, 32 * MIB)};
	struct riffle_memory memory = {&ram, 1, NULL, 0};
	struct riffle_workers workers = {run_backwards, NULL};
	struct riffle_source_memory bytes;
	struct riffle_source source;
	struct riffle_loaded loaded;
	struct riffle_error error;
	uint8_t *file = builder_file(&l->k->b);
	size_t workspace_bytes;
	void *workspace;
	int status;

	memset(ram.host, 0, 32 * MIB);
	riffle_source_from_bytes(&source, &bytes, file, l->k->b.header.file_bytes);
	l->plan = (struct riffle_plan)RIFFLE_PLAN_INIT;
	assert_int_equal(riffle_plan_check(&l->plan, &l->k->b.header, l->k->b.plan, l->k->b.plan_bytes,
					   l->k->b.header.file_bytes, &error),
			 0);
	workspace_bytes = riffle_load_workspace(&l->plan);
	workspace = aligned_alloc(64, workspace_bytes);
	memset(workspace, 0xee, workspace_bytes);
	status = riffle_load_shuffled(&loaded, &l->plan, &source, &l->layout, &memory, options,
				      backwards ? &workers : NULL, workspace, workspace_bytes, &l->error);
	l->entry = status ? 0 : loaded.entry;
	l->guest = malloc(SK_IMAGE);
	memcpy(l->guest, (uint8_t *)ram.host + l->layout.physical_base, SK_IMAGE);
	free(workspace);
	free(ram.host);
	free(file);
	return status;
}

static void draw(struct loaded_kernel *l, uint64_t seed)
{
	struct riffle_ram ram = {0, 32 * MIB, NULL};
	struct riffle_memory memory = {&ram, 1, NULL, 0};
	uint8_t key[32] = {(uint8_t)seed, (uint8_t)(seed >> 8)};
	struct riffle_seeded seeded;
	struct riffle_random random;
	struct riffle_error error;
	struct riffle_plan plan = RIFFLE_PLAN_INIT;

	riffle_random_from_seed(&random, &seeded, key);
	assert_int_equal(riffle_plan_check(&plan, &l->k->b.header, l->k->b.plan, l->k->b.plan_bytes,
					   l->k->b.header.file_bytes, &error),
			 0);
	l->layout.order = l->order;
	l->layout.order_count = l->k->chunks;
	assert_true(l->k->chunks < SK_CHUNKS_MAX);
	l->order[l->k->chunks] = 0xa5a5; /* the caller's, beyond the part lent to the library */
	assert_int_equal(riffle_layout_draw(&l->layout, &plan, &memory, RIFFLE_MODE_FGKASLR, &random, &error), 0);
	assert_int_equal(l->order[l->k->chunks], 0xa5a5);
	assert_int_equal(riffle_layout_check(&l->layout, &plan, &memory, &error), 0);
}

/* The model's computation of all places. */
static void place_chunks(struct loaded_kernel *l)
{
	for (unsigned r = 0; r < l->k->shape.regions; r++) {
		uint32_t at = l->k->region[r].image_offset, first = l->k->region[r].first_chunk;

		for (uint32_t i = first; i < first + l->k->region[r].chunk_count; i++) {
			l->shift[l->order[i]] = (int32_t)(at - l->k->chunk[l->order[i]].image_offset);
			at += riffle_chunk_bytes(&l->k->chunk[l->order[i]]);
		}
		assert_int_equal(at, l->k->region[r].image_offset + l->k->region[r].bytes);
	}
	l->shift[l->k->chunks] = 0;
}

static uint32_t moved(const struct loaded_kernel *l, uint32_t offset)
{
	return offset + (uint32_t)l->shift[sk_chunk_of(l->k, offset)];
}

static const struct loaded_kernel *sorting;

static int by_moved(const void *a, const void *b)
{
	uint32_t x = moved(sorting, *(const uint32_t *)a), y = moved(sorting, *(const uint32_t *)b);

	return (x > y) - (x < y);
}

/* symbols by new address, and at the same address by their old place, which `name` alone does not determine */
static int symbol_by_moved(const void *a, const void *b)
{
	const struct sk_symbol *x = *(const struct sk_symbol *const *)a, *y = *(const struct sk_symbol *const *)b;
	uint32_t p = moved(sorting, x->address), q = moved(sorting, y->address);

	return p != q ? (p > q) - (p < q) : (x > y) - (x < y);
}

static void expect_tables(struct loaded_kernel *l, uint64_t delta, bool lazy)
{
	struct shuffled_kernel *k = l->k;
	struct sk_exception *exceptions = malloc(sizeof k->exception);
	uint32_t *list = malloc(SK_LIST_MAX * sizeof *list), *was = malloc(SK_LIST_MAX * sizeof *was);
	uint8_t *states = malloc(SK_LIST_MAX * 6);

	sorting = l;
	memcpy(exceptions, k->exception, sizeof k->exception);
	qsort(exceptions, k->exceptions, sizeof *exceptions, by_moved);
	for (uint32_t i = 0; i < k->exceptions; i++) {
		const struct sk_exception *e = &exceptions[i];
		uint32_t at = k->table_at[0] + 12 * i;

		sk_encode_exception(l->expected + at, at, e, moved(l, e->insn), moved(l, e->fixup),
				    k->shape.handlers ? moved(l, e->data) - (at + 8) : e->data);
	}
	memcpy(list, k->mcount, k->mcounts * sizeof *list);
	qsort(list, k->mcounts, sizeof *list, by_moved);
	for (uint32_t i = 0; i < k->mcounts; i++) {
		uint64_t address = LINK + delta + moved(l, list[i]);
		memcpy(l->expected + k->table_at[2] + 8 * i, &address, 8);
	}
	if (!lazy) {
		memcpy(list, k->orc, k->orcs * sizeof *list);
		memcpy(states, l->expected + k->orc_states_at, k->orcs * 6);
		qsort(list, k->orcs, sizeof *list, by_moved);
		for (uint32_t i = 0; i < k->orcs; i++) {
			uint32_t at = k->table_at[1] + 4 * i, word = moved(l, list[i]) - at;
			const uint32_t *old = bsearch(&list[i], k->orc, k->orcs, 4, sk_compare32);

			memcpy(l->expected + at, &word, 4);
			memcpy(l->expected + k->orc_states_at + 6 * i, states + 6 * (old - k->orc), 6);
		}
	}
	for (uint32_t i = 0; i < k->sites; i++) {
		uint32_t at = k->sites_at + 4 * i, word;

		memcpy(&word, k->b.image + at, 4);
		word = moved(l, at + word) - at;
		memcpy(l->expected + at, &word, 4);
	}
	free(exceptions);
	free(list);
	free(was);
	free(states);
}

static void expect_kallsyms(struct loaded_kernel *l)
{
	struct shuffled_kernel *k = l->k;
	const struct sk_symbol **sorted = malloc(k->symbols * sizeof *sorted);
	uint32_t *place = malloc(k->symbols * sizeof *place), at = 0;

	for (uint32_t i = 0; i < k->symbols; i++)
		sorted[i] = &k->symbol[i];
	qsort(sorted, k->symbols, sizeof *sorted, symbol_by_moved);
	for (uint32_t i = 0; i < k->symbols; i++) {
		uint32_t word = sk_kallsyms_word(k, i, moved(l, sorted[i]->address));

		place[sorted[i] - k->symbol] = i;
		memcpy(l->expected + k->kallsyms.offsets + 4 * i, &word, 4);
		if (i % 256 == 0)
			memcpy(l->expected + k->kallsyms.markers + i / 256 * 4, &at, 4);
		memcpy(l->expected + k->kallsyms.names + at, sorted[i]->name, sorted[i]->bytes);
		at += sorted[i]->bytes;
	}
	for (uint32_t i = 0; k->shape.seqs && i < k->symbols; i++) {
		uint32_t seq = place[((uint64_t)i * 7919) % k->symbols];
		uint8_t *out = l->expected + k->kallsyms.seqs + 3 * i;

		out[0] = (uint8_t)(seq >> 16), out[1] = (uint8_t)(seq >> 8), out[2] = (uint8_t)seq;
	}
	free(sorted);
	free(place);
}

static void expect(struct loaded_kernel *l, bool lazy)
{
	struct shuffled_kernel *k = l->k;
	uint64_t delta = l->layout.virtual_base - LINK;

	l->expected = malloc(SK_IMAGE);
	memcpy(l->expected, k->b.image, SK_IMAGE);
	place_chunks(l);
	for (uint32_t i = 0; i < k->chunks; i++)
		memcpy(l->expected + k->chunk[i].image_offset + l->shift[i], k->b.image + k->chunk[i].image_offset,
		       riffle_chunk_bytes(&k->chunk[i]));
	for (uint32_t i = 0; i < k->refs; i++) {
		const struct sk_ref *r = &k->ref[i];
		uint32_t field = moved(l, r->field), target = r->target == UINT32_MAX ? 0 : moved(l, r->target);
		uint64_t value = sk_value(field, target, r->kind, delta);

		memcpy(l->expected + field, &value, r->kind == SK_ABS64 ? 8 : 4);
	}
	if (k->b.header.kallsyms_mode)
		memcpy(l->expected + k->b.header.kallsyms_mode, &(uint32_t){0400}, 4);
	expect_tables(l, delta, lazy);
	if (!lazy)
		expect_kallsyms(l);
}

static void assert_same(const struct loaded_kernel *l)
{
	for (uint32_t i = 0; i < SK_IMAGE; i++)
		if (l->guest[i] != l->expected[i])
			fail_msg("image offset 0x%x: found %02x, expected %02x (tables at %x %x %x, kallsyms %x)", i,
				 l->guest[i], l->expected[i], l->k->table_at[0], l->k->table_at[1], l->k->table_at[2],
				 l->k->kallsyms.offsets);
}

static void loads_to_the_byte(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
		for (unsigned seed = 1; seed <= 4; seed++) {
			struct loaded_kernel *l = calloc(1, sizeof *l);
			unsigned options = seed == 3 ? RIFFLE_LOAD_LAZY_TABLES : 0;

			l->k = sk_make(&shapes[i]);
			if (seed != 2)
				sk_set_mode(l->k, SK_MODE, 0444);
			builder_seal(&l->k->b);
			draw(l, seed + 10 * i);
			assert_int_equal(load(l, options, seed & 1), 0);
			expect(l, options);
			assert_same(l);
			sk_free(l->k);
			free(l->guest);
			free(l->expected);
			free(l);
		}
}

/* The entry moves with its chunk, and stays if the chunk stays. */
static void entry_moves(void **state)
{
	struct loaded_kernel *l = calloc(1, sizeof *l);
	const struct riffle_chunk *c;

	(void)state;
	l->k = sk_make(&shapes[1]);
	for (uint32_t i = 0; i < l->k->chunks; i += l->k->chunks / 7) {
		c = &l->k->chunk[i];
		for (uint32_t at = 0; at < riffle_chunk_bytes(c); at += riffle_chunk_bytes(c) - 1) {
			l->k->b.header.entry_offset = c->image_offset + at;
			l->k->b.header.features |= RIFFLE_FEATURE_ENTRY_MOVES;
			builder_seal(&l->k->b);
			draw(l, i + at);
			place_chunks(l);
			assert_int_equal(load(l, 0, false), 0);
			assert_int_equal(l->entry, l->layout.physical_base + c->image_offset + at +
						       (uint64_t)(int64_t)l->shift[i]);
			free(l->guest);
		}
	}
	l->k->b.header.entry_offset = l->k->region[0].image_offset - 1;
	l->k->b.header.features &= ~RIFFLE_FEATURE_ENTRY_MOVES;
	builder_seal(&l->k->b);
	draw(l, 3);
	assert_int_equal(load(l, 0, false), 0);
	assert_int_equal(l->entry, l->layout.physical_base + l->k->region[0].image_offset - 1);
	free(l->guest);
	sk_free(l->k);
	free(l);
}

/* Only what a shuffle changes is closed: without one the order is no secret. */
static void kallsyms_is_closed_by_a_shuffle_alone(void **state)
{
	static const enum riffle_mode modes[] = {RIFFLE_MODE_OFF, RIFFLE_MODE_PHYSICAL, RIFFLE_MODE_KASLR,
						 RIFFLE_MODE_FGKASLR};
	struct loaded_kernel *l = calloc(1, sizeof *l);

	(void)state;
	l->k = sk_make(&shapes[0]);
	sk_set_mode(l->k, SK_MODE, 0444);
	builder_seal(&l->k->b);
	for (size_t i = 0; i < sizeof modes / sizeof *modes; i++) {
		draw(l, 6);
		l->layout.mode = modes[i];
		if (modes[i] < RIFFLE_MODE_KASLR)
			l->layout.virtual_base = LINK;
		assert_int_equal(load(l, 0, false), 0);
		assert_memory_equal(l->guest + SK_MODE, &(uint32_t){modes[i] == RIFFLE_MODE_FGKASLR ? 0400 : 0444}, 4);
		free(l->guest);
	}
	sk_free(l->k);
	free(l);
}

/* What is there must be the mode, to the last bit. */
static void other_values_are_no_mode(void **state)
{
	static const uint32_t values[] = {0, 0400, 0444 | 1u << 31, 0445};
	struct loaded_kernel *l = calloc(1, sizeof *l);

	(void)state;
	l->k = sk_make(&shapes[0]);
	for (size_t i = 0; i < sizeof values / sizeof *values; i++) {
		sk_set_mode(l->k, SK_MODE, values[i]);
		builder_seal(&l->k->b);
		draw(l, 6);
		assert_int_equal(load(l, 0, false), RIFFLE_ERR_FORMAT);
		assert_string_equal(l->error.field, "kallsyms_mode");
		assert_string_equal(l->error.problem, "leads to what is not the file's mode");
		assert_int_equal(l->error.found, values[i]);
		assert_int_equal(l->error.expected, 0444);
		assert_memory_equal(l->guest + SK_MODE, &values[i], 4);
		free(l->guest);
		l->layout.mode = RIFFLE_MODE_KASLR;
		assert_int_equal(load(l, 0, false), 0);
		free(l->guest);
	}
	sk_free(l->k);
	free(l);
}

/* The identity order is plain KASLR: both loaders agree. */
static void identity_is_kaslr(void **state)
{
	struct loaded_kernel *l = calloc(1, sizeof *l);

	(void)state;
	l->k = sk_make(&shapes[0]);
	draw(l, 5);
	for (uint32_t i = 0; i < l->k->chunks; i++)
		l->order[i] = (uint16_t)i;
	assert_int_equal(load(l, 0, false), 0);
	l->expected = l->guest;
	l->layout.mode = RIFFLE_MODE_KASLR;
	assert_int_equal(load(l, 0, false), 0);
	assert_same(l);
	sk_free(l->k);
	free(l->guest);
	free(l->expected);
	free(l);
}

/* As many regions as a plan may have are loaded above; one more is refused. */
static void regions_are_limited(void **state)
{
	struct sk_shape shape = {.seed = 56, .regions = SK_REGIONS_MAX};
	struct shuffled_kernel *k = sk_make(&shape);
	struct riffle_error error;
	struct riffle_plan plan = RIFFLE_PLAN_INIT;

	(void)state;
	assert_int_equal(
	    riffle_plan_check(&plan, &k->b.header, k->b.plan, k->b.plan_bytes, k->b.header.file_bytes, &error),
	    RIFFLE_ERR_FORMAT);
	assert_string_equal(error.field, "regions");
	assert_int_equal(error.found, SK_REGIONS_MAX);
	assert_int_equal(error.expected, SK_REGIONS_MAX - 1);
	sk_free(k);
}

static void wrong_orders_are_refused(void **state)
{
	struct loaded_kernel *l = calloc(1, sizeof *l);
	uint16_t keep;

	(void)state;
	l->k = sk_make(&shapes[1]);
	draw(l, 6);
	keep = l->order[7];
	l->order[7] = l->order[8]; /* twice */
	assert_int_equal(load(l, 0, false), RIFFLE_ERR_FORMAT);
	free(l->guest);
	l->order[7] = 1600; /* of the other region */
	assert_int_equal(load(l, 0, false), RIFFLE_ERR_FORMAT);
	free(l->guest);
	l->order[7] = 65535;
	assert_int_equal(load(l, 0, false), RIFFLE_ERR_FORMAT);
	free(l->guest);
	l->order[7] = keep;
	l->layout.order_count--;
	assert_int_equal(load(l, 0, false), RIFFLE_ERR_ARGUMENT);
	free(l->guest);
	l->layout.order_count++;
	assert_int_equal(load(l, 0, false), RIFFLE_OK);
	free(l->guest);
	sk_free(l->k);
	free(l);
}

/* The places in an order at which the paged chunk, 0, could start at a page, and which of them it has. */
static uint32_t paged_places(const struct riffle_region *r, const struct riffle_chunk *chunk, const uint16_t *order,
			     uint32_t *taken)
{
	uint32_t at = r->image_offset, places = 0;

	*taken = UINT32_MAX;
	for (uint32_t i = 0; i <= r->chunk_count; i++) {
		if (i < r->chunk_count && order[i] == 0) {
			/* it comes before the next, wherever that is */
			*taken = at % 4096 ? UINT32_MAX - 1 : places;
			continue;
		}
		places += at % 4096 == 0;
		if (i < r->chunk_count)
			at += riffle_chunk_bytes(&chunk[order[i]]);
	}
	return places;
}

/* The chunk that the kernel maps by page starts at one in each order, at each possible place as often. */
static void paged_chunk_starts_at_a_page(void **state)
{
	struct loaded_kernel *l = calloc(1, sizeof *l);
	const unsigned draws = 3000;
	double expected = 0, variance = 0;
	unsigned first = 0, last = 0;
	struct riffle_error error;
	uint32_t k = 0;

	(void)state;
	l->k = sk_make(&shapes[0]);
	assert_int_equal(l->k->chunk[0].image_offset % 4096, 0);
	l->k->b.header.features |= RIFFLE_FEATURE_PAGED;
	builder_seal(&l->k->b);
	for (unsigned seed = 0; seed < draws; seed++) {
		uint32_t taken, places;

		draw(l, seed);
		places = paged_places(&l->k->region[0], l->k->chunk, l->order, &taken);
		if (taken >= places)
			fail_msg("seed %u: place %u of %u", seed, taken, places);
		first += taken == 0;
		last += taken == places - 1;
		expected += 1.0 / places;
		variance += 1.0 / places * (1 - 1.0 / places);
	}
	/* six standard deviations */
	if ((first - expected) * (first - expected) > 36 * variance ||
	    (last - expected) * (last - expected) > 36 * variance)
		fail_msg("seeds 0 to %u: first place %u times, last %u, expected %.1f", draws - 1, first, last,
			 expected);

	/* a layout that has it elsewhere is refused */
	assert_int_equal(load(l, 0, false), RIFFLE_OK);
	free(l->guest);
	assert_int_equal(riffle_layout_check_order(&l->layout, &l->plan, &error), RIFFLE_OK);
	while (l->order[k] != 0)
		k++;
	l->order[k] = l->order[k ? k - 1 : 1];
	l->order[k ? k - 1 : 1] = 0;
	assert_int_equal(riffle_layout_check_order(&l->layout, &l->plan, &error), RIFFLE_ERR_FORMAT);
	assert_string_equal(error.problem, "does not have the paged chunk at a page (image offset)");
	/* a plan opened without its shuffle's part has no chunks, and so none that is elsewhere */
	l->plan.regions = NULL;
	l->plan.region_count = l->plan.chunk_count = 0;
	assert_int_equal(riffle_layout_check_order(&l->layout, &l->plan, &error), RIFFLE_OK);
	sk_free(l->k);
	free(l);
}

/*
 * Few chunks, whose sizes are 1, 2, 4 … 128 units, of which four before the paged chunk make a page: one order in 70
 * has a place, and a region for which 256 draws give none stays as linked.
 */
static void paged_chunk_among_few(void **state)
{
	struct riffle_header header = {.features = RIFFLE_FEATURE_SHUFFLE | RIFFLE_FEATURE_PAGED,
				       .flags = RIFFLE_KERNEL_RELOCATABLE,
				       .link_phys = BASE,
				       .link_virt = LINK,
				       .image_bytes = 2 * MIB,
				       .window_bytes = 1024 * MIB,
				       .paged_chunk = 4};
	static const uint16_t units[] = {2, 8, 64, 128, 40, 1, 4, 16, 32};
	struct riffle_chunk chunk[9] = {{0}};
	struct riffle_region region = {.image_offset = 4096 - 202 * 16, .chunk_count = 9};
	struct riffle_plan plan = {.size = sizeof plan,
				   .header = &header,
				   .regions = &region,
				   .region_count = 1,
				   .chunks = chunk,
				   .chunk_count = 9};
	struct riffle_ram ram = {0, 32 * MIB, NULL};
	struct riffle_memory memory = {&ram, 1, NULL, 0};
	uint16_t order[9];
	struct riffle_layout layout = {.order = order, .order_count = 9};
	unsigned as_linked = 0;

	(void)state;
	for (uint32_t i = 0, at = region.image_offset; i < 9; i++) {
		chunk[i] = (struct riffle_chunk){.image_offset = at, .units = units[i]};
		at += units[i] * 16;
	}
	assert_int_equal(chunk[4].image_offset, 4096);
	for (unsigned seed = 0; seed < 2000; seed++) {
		uint8_t key[32] = {(uint8_t)seed, (uint8_t)(seed >> 8)};
		struct riffle_seeded seeded;
		struct riffle_random random;
		struct riffle_error error;
		uint32_t at = region.image_offset, linked = 0;

		riffle_random_from_seed(&random, &seeded, key);
		assert_int_equal(riffle_layout_draw(&layout, &plan, &memory, RIFFLE_MODE_FGKASLR, &random, &error), 0);
		for (uint32_t i = 0; order[i] != 4; i++)
			at += riffle_chunk_bytes(&chunk[order[i]]);
		assert_int_equal(at, 4096);
		for (uint32_t i = 0; i < 9; i++)
			linked += order[i] == i;
		as_linked += linked == 9;
	}
	/* (69/70)^256 of 2000 draws are 50; those that chance made are one in 576 */
	if (as_linked < 20 || as_linked > 100)
		fail_msg("seeds 0 to 1999: %u orders are as linked", as_linked);
}

/* The same chunks in the second region: the first one's order is free, and each step of the sum begins at the second.
 */
static void paged_chunk_in_the_second_region(void **state)
{
	struct riffle_header header = {.features = RIFFLE_FEATURE_SHUFFLE | RIFFLE_FEATURE_PAGED,
				       .flags = RIFFLE_KERNEL_RELOCATABLE,
				       .link_phys = BASE,
				       .link_virt = LINK,
				       .image_bytes = 2 * MIB,
				       .window_bytes = 1024 * MIB,
				       .paged_chunk = 7};
	static const uint16_t units[] = {1, 5, 3, 2, 8, 64, 128, 40, 1, 4, 16, 32};
	struct riffle_chunk chunk[12] = {{0}};
	struct riffle_region region[2] = {{.image_offset = 4096, .chunk_count = 3},
					  {.image_offset = 5 * 4096 - 202 * 16, .first_chunk = 3, .chunk_count = 9}};
	struct riffle_plan plan = {.size = sizeof plan,
				   .header = &header,
				   .regions = region,
				   .region_count = 2,
				   .chunks = chunk,
				   .chunk_count = 12};
	struct riffle_ram ram = {0, 32 * MIB, NULL};
	struct riffle_memory memory = {&ram, 1, NULL, 0};
	uint16_t order[12];
	struct riffle_layout layout = {.order = order, .order_count = 12};
	static const struct {
		uint16_t order[12];
		uint32_t at; /* of the paged chunk */
	} rows[] = {
	    {{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11}, 0x5000}, {{2, 1, 0, 6, 3, 5, 4, 7, 11, 9, 8, 10}, 0x5000},
	    {{0, 1, 2, 7, 3, 4, 5, 6, 8, 9, 10, 11}, 0x4360}, {{0, 1, 2, 3, 4, 5, 7, 6, 8, 9, 10, 11}, 0x4800},
	    {{2, 0, 1, 3, 4, 5, 6, 8, 7, 9, 10, 11}, 0x5010},
	};
	unsigned others = 0, as_linked = 0;

	(void)state;
	for (uint32_t r = 0; r < 2; r++)
		for (uint32_t i = 0, at = region[r].image_offset; i < region[r].chunk_count; i++) {
			chunk[region[r].first_chunk + i] =
			    (struct riffle_chunk){.image_offset = at, .units = units[region[r].first_chunk + i]};
			at += units[region[r].first_chunk + i] * 16;
		}
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		struct riffle_error error = {0};
		int status;

		memcpy(order, rows[i].order, sizeof order);
		status = riffle_layout_check_order(&layout, &plan, &error);
		assert_int_equal(status, rows[i].at % 4096 ? RIFFLE_ERR_FORMAT : RIFFLE_OK);
		if (!status)
			continue;
		assert_string_equal(error.problem, "does not have the paged chunk at a page (image offset)");
		assert_int_equal(error.found, rows[i].at);
	}
	for (unsigned seed = 0; seed < 600; seed++) {
		uint8_t key[32] = {(uint8_t)seed, (uint8_t)(seed >> 8)};
		struct riffle_seeded seeded;
		struct riffle_random random;
		struct riffle_error error;
		uint32_t at = region[1].image_offset, linked = 0;

		riffle_random_from_seed(&random, &seeded, key);
		assert_int_equal(riffle_layout_draw(&layout, &plan, &memory, RIFFLE_MODE_FGKASLR, &random, &error), 0);
		assert_int_equal(riffle_layout_check_order(&layout, &plan, &error), RIFFLE_OK);
		for (uint32_t i = 3; order[i] != 7; i++)
			at += riffle_chunk_bytes(&chunk[order[i]]);
		assert_int_equal(at, 0x5000);
		for (uint32_t i = 3; i < 12; i++)
			linked += order[i] == i;
		as_linked += linked == 9;
		others += order[0] != 0;
	}
	/* two of three, within six standard deviations */
	if (others < 330 || others > 470)
		fail_msg("seeds 0 to 599: another chunk comes first %u times", others);
	/* where 256 draws give no place: 15 are expected */
	if (as_linked < 3 || as_linked > 40)
		fail_msg("seeds 0 to 599: %u orders are as linked", as_linked);
}

/* A plan with invalid chunks: each is refused when the plan is checked, or by the load. */
struct lie {
	const char *what;
	void (*tell)(struct shuffled_kernel *k);
	const char *message;
};

#define LIE(name, ...)                                                                                                 \
	static void name(struct shuffled_kernel *k)                                                                    \
	{                                                                                                              \
		__VA_ARGS__;                                                                                           \
	}
LIE(lie_gap, k->chunk[5].image_offset += 16)
LIE(lie_overlap, k->chunk[5].units += 1)
LIE(lie_empty, k->chunk[5].units = 0)
LIE(lie_long, k->chunk[5].units = 4097)
LIE(lie_odd, k->region[0].image_offset += 8)
LIE(lie_region, k->region[0].bytes += 16)
LIE(lie_region_chunks, k->region[0].chunk_count--)
LIE(lie_region_many, k->region[0].chunk_count = UINT32_MAX)
LIE(lie_group_empty, k->group[3].chunk_count = 0)
LIE(lie_group_more, k->group[k->groups - 1].chunk_count++)
LIE(lie_group_many, k->group[0].chunk_count = UINT32_MAX)
LIE(lie_group_long, k->group[0].chunk_count += 2 * k->group[1].chunk_count)
LIE(lie_group_over_region, k->group[0].chunk_count = k->region[0].chunk_count + 1)
LIE(lie_groups_few, builder_extra(&k->b, RIFFLE_SECTION_GROUPS, k->group, k->groups - 1, sizeof *k->group))
LIE(lie_step_count, k->group[5].pc_steps++)
LIE(lie_step_wrap, k->group[5].pc_steps += UINT32_MAX)
/* the groups before it own all the steps, yet it claims some too */
LIE(lie_step_last, struct riffle_group *g = &k->group[k->groups - 1]; g[-1].pc_steps += g->pc_steps;
    g[-1].pc_targets += g->pc_targets; g[-1].own_steps += g->own_steps; g[-1].abs32_refs += g->abs32_refs;
    g[-1].abs64_refs += g->abs64_refs; g->pc_steps = 1; g->own_steps = g->abs32_refs = 1000000)
LIE(lie_step_far, k->pc_step[100] = k->pc_step[100] == 255 ? 0 : 255)
LIE(lie_target_count, k->group[5].pc_targets++; k->group[6].pc_targets--)
LIE(lie_own_count, k->group[5].own_steps--)
LIE(lie_target, k->pc_target[100] = (uint16_t)(k->chunks + 1))
LIE(lie_target32, k->abs32_ref[100].target = 65535)
LIE(lie_target64, k->abs64_ref[100].target = (uint16_t)(k->chunks + 1))
LIE(lie_fixed_target, k->fixed32_target[3] = 65535)
LIE(lie_fixed_order, k->fixed32[4] = k->fixed32[3])
LIE(lie_fixed_far, k->fixed64[k->fixed64s - 1] = SK_IMAGE - 4)
LIE(lie_fixed_inside, k->fixed32[k->fixed32s - 1] = k->table_at[1])
LIE(lie_fixed_count, builder_extra(&k->b, RIFFLE_SECTION_FIXED32_TARGETS, k->fixed32_target, k->fixed32s - 1, 2))
LIE(lie_table_kind, k->table[0].kind = 9)
LIE(lie_table_twice, k->table[2].kind = RIFFLE_TABLE_ORC)
LIE(lie_table_missing, k->table[1].kind = RIFFLE_TABLE_SITES; k->table[1].entries = 0; k->table[1].first = 0)
LIE(lie_table_entries, k->table[1].entries++)
LIE(lie_table_outside, k->table[2].image_offset = SK_IMAGE - 8)
LIE(lie_table_states, k->table[1].second_offset = UINT32_MAX)
LIE(lie_table_over_chunks, k->table[0].image_offset = SK_TEXT + 0x4000)
LIE(lie_gap_count, k->gap[k->table[1].first]++)
LIE(lie_gap_wrap, k->gap[k->table[1].first] += UINT32_MAX)
LIE(lie_gaps_first, k->table[1].first++)
LIE(lie_gaps_few, builder_extra(&k->b, RIFFLE_SECTION_GAPS, k->gap, k->gaps - 1, 4))
LIE(lie_gaps_many, builder_extra(&k->b, RIFFLE_SECTION_GAPS, k->gap, k->gaps + 1, 4))
LIE(lie_entries_of_chunk, k->chunk[9].orc++)
LIE(lie_mcounts_of_chunk, k->chunk[9].mcount = 65535)
LIE(lie_site_target, k->site_target[3] = 65535)
LIE(lie_sites_few, builder_extra(&k->b, RIFFLE_SECTION_SITE_TARGETS, k->site_target, k->sites - 1, 2))
/* The sites as two tables, of which the second has this many. */
static void two_site_tables(struct shuffled_kernel *k, uint32_t entries)
{
	static struct riffle_table table[5];
	const uint32_t first = 300;

	memcpy(table, k->table, 4 * sizeof *table);
	table[3].entries = first;
	table[4] = (struct riffle_table){
	    .kind = RIFFLE_TABLE_SITES, .image_offset = k->sites_at + 4 * first, .entries = entries, .first = first};
	builder_extra(&k->b, RIFFLE_SECTION_TABLES, table, 5, sizeof *table);
}

LIE(lie_sites_twice, two_site_tables(k, k->sites - 300 + 1))
LIE(lie_sites_missing, two_site_tables(k, k->sites - 300 - 1))
LIE(lie_sites_many, k->table[3].entries = UINT32_MAX / 4)
LIE(lie_kallsyms_outside, k->kallsyms.names = SK_IMAGE)
LIE(lie_kallsyms_count, k->kallsyms.symbols++)
LIE(lie_kallsyms_huge, k->kallsyms.symbols = UINT32_MAX)
LIE(lie_kallsyms_flags, k->kallsyms.flags |= 4)
LIE(lie_kallsyms_gap, k->kallsyms.first_gap = UINT32_MAX)
LIE(lie_names, k->chunk[9].name_bytes++)
LIE(lie_symbols, k->chunk[9].symbols++)
LIE(lie_no_kallsyms, builder_extra(&k->b, RIFFLE_SECTION_KALLSYMS, NULL, 0, sizeof k->kallsyms))
LIE(lie_feature, k->b.header.features = 0)
LIE(lie_no_relocs, k->b.header.flags = 0; k->b.count64 = k->b.count32 = k->b.count_inverse = 0)
LIE(lie_extable, builder_extra(&k->b, RIFFLE_SECTION_EXTABLE_TARGETS, k->extable_target, 2, 2))
LIE(lie_extable_target, k->extable_target[8] = (uint16_t)(k->chunks + 1))

LIE(lie_entry, k->b.header.entry_offset = k->chunk[3].image_offset + 1)
LIE(lie_entry_moves, k->b.header.features |= RIFFLE_FEATURE_ENTRY_MOVES)
LIE(lie_entry_behind, k->b.header.features |= RIFFLE_FEATURE_ENTRY_MOVES;
    k->b.header.entry_offset = k->region[0].image_offset + k->region[0].bytes)

LIE(lie_mode_denied, k->b.header.kallsyms_mode = SK_MODE)
LIE(lie_mode_outside, sk_set_mode(k, SK_IMAGE - 0x1000 - 3, 0444))
LIE(lie_mode_far, sk_set_mode(k, SK_MODE, 0444); k->b.header.kallsyms_mode = UINT32_MAX)
LIE(lie_mode_in_chunk, sk_set_mode(k, k->chunk[7].image_offset + 5, 0444))
LIE(lie_mode_before_chunk, sk_set_mode(k, k->region[0].image_offset - 3, 0444))
LIE(lie_mode_in_table, sk_set_mode(k, k->table_at[0] - 3, 0444))
LIE(lie_mode_in_sites, sk_set_mode(k, k->sites_at + 4 * k->sites - 1, 0444))
LIE(lie_mode_in_names, sk_set_mode(k, k->kallsyms.names + k->kallsyms.names_bytes - 1, 0444))
LIE(lie_mode_reloc64, sk_set_mode(k, k->b.reloc64[0] + 7, 0444))
LIE(lie_mode_reloc32, sk_set_mode(k, k->b.reloc32[0] - 3, 0444))
LIE(lie_mode_inverse, sk_set_mode(k, k->b.inverse[0] + 3, 0444))
LIE(lie_mode_fixed32, sk_set_mode(k, SK_MODE, 0444); k->fixed32[k->fixed32s - 1] = SK_MODE + 3)
LIE(lie_mode_fixed64, sk_set_mode(k, SK_MODE, 0444); k->fixed64[k->fixed64s - 1] = SK_MODE - 7)

LIE(lie_paged_denied, k->b.header.paged_chunk = 1)
LIE(lie_paged_behind, k->b.header.features |= RIFFLE_FEATURE_PAGED; k->b.header.paged_chunk = k->chunks)
LIE(lie_paged_unaligned, k->b.header.features |= RIFFLE_FEATURE_PAGED; k->b.header.paged_chunk = 5)

#define MODE_IN "kallsyms_mode: lies in what a load changes otherwise (image offset) "

static const struct lie lies[] = {
    {"a mode of kallsyms without the feature", lie_mode_denied,
     "kallsyms_mode: is given without its feature (found 0x320001)"},
    {"a mode half outside", lie_mode_outside, "kallsyms_mode: entry lies outside every extent (found 0x7feffd)"},
    {"a mode far outside", lie_mode_far, "kallsyms_mode: entry lies outside every extent (found 0xffffffff)"},
    {"a mode in a chunk", lie_mode_in_chunk, MODE_IN "(found 0x1056a5)"},
    {"a mode half in a region", lie_mode_before_chunk, MODE_IN "(found 0x102ffd)"},
    {"a mode half in a table", lie_mode_in_table, MODE_IN "(found 0x3ffffd)"},
    {"a mode half in a site", lie_mode_in_sites, MODE_IN "(found 0x700575)"},
    {"a mode half in the names", lie_mode_in_names, MODE_IN "(found 0x44dae6)"},
    {"a mode half in a field of 64 bits", lie_mode_reloc64, MODE_IN "(found 19235)"},
    {"a mode half in a field of 32 bits", lie_mode_reloc32, MODE_IN "(found 18266)"},
    {"a mode half in an inverse field", lie_mode_inverse, MODE_IN "(found 16495)"},
    {"a mode half in a reference of 32 bits", lie_mode_fixed32, MODE_IN "(found 0x320001)"},
    {"a mode half in a reference of 64 bits", lie_mode_fixed64, MODE_IN "(found 0x320001)"},
    {"a paged chunk without the feature", lie_paged_denied, "paged_chunk: is given without its feature (found 1)"},
    {"a paged chunk past the last", lie_paged_behind,
     "paged_chunk: is no chunk, or one that starts at no page (found 1500)"},
    {"a paged chunk that starts at no page", lie_paged_unaligned,
     "paged_chunk: is no chunk, or one that starts at no page (found 5)"},
    {"an entry that moves in silence", lie_entry,
     "entry_offset: lies in a chunk, and the features do not say so (found 0x105141)"},
    {"an entry that is said to move", lie_entry_moves,
     "entry_offset: lies in no chunk, and the features say so (found 256)"},
    {"an entry behind the chunks", lie_entry_behind,
     "entry_offset: lies in no chunk, and the features say so (found 0x1ba7a0)"},
    {"gap", lie_gap, "chunk: leaves a gap, overlaps, or has a wrong size (found 5)"},
    {"overlap", lie_overlap, "chunk: leaves a gap, overlaps, or has a wrong size (found 6)"},
    {"empty chunk", lie_empty, "chunk: leaves a gap, overlaps, or has a wrong size (found 5)"},
    {"long chunk", lie_long, "chunk: leaves a gap, overlaps, or has a wrong size (found 5)"},
    {"unaligned region", lie_odd, "region: overlaps, is unaligned, or has other chunks than its own (found 0)"},
    {"region's size", lie_region, "region: is not filled by its chunks (found 0)"},
    {"a chunk in no region", lie_region_chunks, "region: is not filled by its chunks (found 0)"},
    {"more chunks than there are", lie_region_many,
     "region: overlaps, is unaligned, or has other chunks than its own (found 0)"},
    {"empty group", lie_group_empty, "group: is empty or extends past its region (found 3)"},
    {"chunks that are not there", lie_group_more, "group: is empty or extends past its region (found 19)"},
    {"absurd count of chunks", lie_group_many, "group: is empty or extends past its region (found 0)"},
    {"group longer than offsets reach", lie_group_long, "group: is too long (found 0x1bdb0, expected 0x10000)"},
    {"group of two regions", lie_group_over_region, "group: is empty or extends past its region (found 0)"},
    {"chunks in no group", lie_groups_few, "groups: do not hold all chunks (found 1409, expected 1500)"},
    {"count of steps", lie_step_count, "pc_targets: are not as many as a group's fields (found 13)"},
    {"count of steps that wraps", lie_step_wrap, "pc_targets: are not as many as a group's fields (found 5)"},
    {"steps of the last group", lie_step_last, "pc_steps: are more than there are (found 1, expected 0)"},
    {"step that names a field or not", lie_step_far, "pc_targets: are not as many as a group's fields (found 0)"},
    {"count of a group's targets", lie_target_count, "pc_targets: are not as many as a group's fields (found 5)"},
    {"count of own fields", lie_own_count, "groups: do not use all references"},
    {"target", lie_target, "pc_targets: name a chunk that is not there (found 1501, expected 1500)"},
    {"target of an absolute field", lie_target32,
     "abs32_refs: name a chunk that is not there (found 65535, expected 1500)"},
    {"target of a wide field", lie_target64, "abs64_refs: name a chunk that is not there (found 1501, expected 1500)"},
    {"target of a fixed field", lie_fixed_target,
     "fixed32_targets: name a chunk that is not there (found 65535, expected 1500)"},
    {"unsorted fixed fields", lie_fixed_order, "fixed32: list is not strictly ascending (found 1)"},
    {"fixed field outside", lie_fixed_far, "fixed64: entry lies outside every extent (found 0x7ffffc)"},
    {"fixed field in a table", lie_fixed_inside, "area: has a fixed reference in it (image offset) (found 0x401778)"},
    {"count of fixed targets", lie_fixed_count, "fixed targets: are not as many as the fields"},
    {"kind of table", lie_table_kind, "table kind: is not known (found 9)"},
    {"two tables of a kind", lie_table_twice, "table kind: is there twice (found 2)"},
    {"table that is not there", lie_table_missing, "table: has gaps that are not its own (found 4)"},
    {"count of entries", lie_table_entries,
     "table: has gaps and chunks' entries that do not add up to all entries (found 19893, expected 19894)"},
    {"table outside", lie_table_outside, "table entries: lead outside the image (found 3000)"},
    {"second array outside", lie_table_states, "table entries: lead outside the image (found 19893)"},
    {"table over chunks", lie_table_over_chunks, "area: overlaps another (image offset) (found 0x104000)"},
    {"gap's count", lie_gap_count,
     "table: has gaps and chunks' entries that do not add up to all entries (found 19894, expected 19893)"},
    {"gap's count that wraps", lie_gap_wrap,
     "table: has gaps and chunks' entries that do not add up to all entries (found 19892, expected 19893)"},
    {"gaps of another table", lie_gaps_first, "table: has gaps that are not its own (found 3)"},
    {"too few gaps", lie_gaps_few, "kallsyms names: has gaps that are not its own (found 8)"},
    {"too many gaps", lie_gaps_many, "gaps: are not all used (found 10, expected 11)"},
    {"count of a chunk's entries", lie_entries_of_chunk,
     "table: has gaps and chunks' entries that do not add up to all entries (found 19894, expected 19893)"},
    {"absurd count of a chunk's entries", lie_mcounts_of_chunk,
     "table: has gaps and chunks' entries that do not add up to all entries (found 0x10bb7, expected 3000)"},
    {"target of a site", lie_site_target, "site_targets: name a chunk that is not there (found 65535, expected 1500)"},
    {"too few site targets", lie_sites_few, "site_targets: are not as many as the sites (found 3)"},
    {"too few site targets for two tables", lie_sites_twice, "site_targets: are not as many as the sites (found 4)"},
    {"too many site targets for two tables", lie_sites_missing,
     "tables: do not use all site_targets and extable_targets"},
    {"absurd count of sites", lie_sites_many, "table entries: lead outside the image (found 0x3fffffff)"},
    {"kallsyms outside", lie_kallsyms_outside, "kallsyms: leads outside the image (found 6800)"},
    {"count of symbols", lie_kallsyms_count,
     "kallsyms: has gaps and chunks' entries that do not add up to all entries (found 6800, expected 6801)"},
    {"absurd count of symbols", lie_kallsyms_huge, "kallsyms: leads outside the image (found 0xffffffff)"},
    {"flags of kallsyms", lie_kallsyms_flags, "kallsyms flags: hold unknown bits (found 6)"},
    {"gaps of kallsyms", lie_kallsyms_gap, "kallsyms: has gaps that are not its own (found 0xffffffff)"},
    {"bytes of names", lie_names,
     "kallsyms names: has gaps and chunks' entries that do not add up to all entries (found 61932, expected 61931)"},
    {"count of a chunk's symbols", lie_symbols,
     "kallsyms: has gaps and chunks' entries that do not add up to all entries (found 6801, expected 6800)"},
    {"symbols without kallsyms", lie_no_kallsyms, "kallsyms: is missing, chunks' symbols are there"},
    {"feature denied", lie_feature, "features: deny a section that is there (found 6)"},
    {"chunks without relocations", lie_no_relocs, "features: promise chunks for a kernel without relocations"},
    {"exception targets", lie_extable, "tables: do not use all site_targets and extable_targets"},
    {"target of an exception", lie_extable_target,
     "extable_targets: name a chunk that is not there (found 1501, expected 1500)"},
};

static void every_lie_is_refused(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof lies / sizeof *lies; i++) {
		struct shuffled_kernel *k = sk_make(&shapes[0]);
		struct riffle_error error = {0};
		struct riffle_plan plan = RIFFLE_PLAN_INIT;
		int status;

		lies[i].tell(k);
		builder_seal(&k->b);
		status =
		    riffle_plan_check(&plan, &k->b.header, k->b.plan, k->b.plan_bytes, k->b.header.file_bytes, &error);
		if (status != RIFFLE_ERR_FORMAT || strcmp(message_of(status, &error), lies[i].message))
			fail_msg("%s: status %d, %s", lies[i].what, status, message_of(status, &error));
		assert_int_equal(plan.chunk_count, 0);
		sk_free(k);
	}
}

/* Sites may be in any number of tables. */
static void sites_in_two_tables_are_taken(void **state)
{
	struct shuffled_kernel *k = sk_make(&shapes[0]);
	struct riffle_plan plan = RIFFLE_PLAN_INIT;
	struct riffle_error error = {0};

	(void)state;
	two_site_tables(k, k->sites - 300);
	builder_seal(&k->b);
	assert_int_equal(
	    riffle_plan_check(&plan, &k->b.header, k->b.plan, k->b.plan_bytes, k->b.header.file_bytes, &error), 0);
	assert_int_equal(plan.table_count, 5);
	sk_free(k);
}

/* The greatest index means "no chunk", so a plan may have one chunk fewer. */
static void the_most_chunks_are_taken(void **state)
{
	struct riffle_chunk *chunks = calloc(RIFFLE_CHUNKS_MAX, sizeof *chunks);

	(void)state;
	for (uint32_t count = RIFFLE_CHUNKS_MAX - 1; count <= RIFFLE_CHUNKS_MAX; count++) {
		struct shuffled_kernel *k = sk_make(&shapes[0]);
		struct riffle_plan plan = RIFFLE_PLAN_INIT;
		struct riffle_error error = {0};

		memcpy(chunks, k->chunk, k->chunks * sizeof *chunks);
		builder_extra(&k->b, RIFFLE_SECTION_CHUNKS, chunks, count, sizeof *chunks);
		builder_seal(&k->b);
		assert_int_equal(
		    riffle_plan_check(&plan, &k->b.header, k->b.plan, k->b.plan_bytes, k->b.header.file_bytes, &error),
		    RIFFLE_ERR_FORMAT);
		assert_string_equal(error.field, "chunks");
		assert_string_equal(error.problem,
				    count == RIFFLE_CHUNKS_MAX ? "are none or too many" : "lie in no region");
		sk_free(k);
	}
	free(chunks);
}

/* A field outside its group is detected by the load, which reads each reference anyway. */
static void fields_outside_groups_are_refused(void **state)
{
	(void)state;
	for (unsigned i = 0; i < 4; i++) {
		struct loaded_kernel *l = calloc(1, sizeof *l);
		struct shuffled_kernel *k = l->k = sk_make(&shapes[0]);
		uint32_t bytes = 0;

		draw(l, 7);
		for (uint32_t c = 0; c < k->group[0].chunk_count; c++)
			bytes += riffle_chunk_bytes(&k->chunk[c]);
		if (i == 0) {
			/* every field except the first as far from the one before as possible */
			for (uint32_t n = 1; n < k->group[0].pc_steps; n++)
				k->pc_step[n] = k->pc_step[n] == 255 ? 255 : 254;
		} else if (i == 1) {
			for (uint32_t n = 0; n + 1 < k->group[0].own_steps; n++)
				k->own_step[n] = 255;
			k->own_step[k->group[0].own_steps - 1] = 254;
		}
		if (i == 2)
			k->abs32_ref[0].field = (uint16_t)(bytes - 3);
		if (i == 3)
			k->abs64_ref[0].field = (uint16_t)(bytes - 7);
		builder_seal(&k->b);
		assert_int_equal(load(l, 0, false), RIFFLE_ERR_FORMAT);
		free(l->guest);
		sk_free(k);
		free(l);
	}
}

/* One change of a plan's groups or their counts; often one that keeps the sums. */
static void mutate(struct shuffled_kernel *k, uint64_t *s)
{
	uint32_t last = k->groups - 1;
	struct riffle_group *a = &k->group[sk_random(s) % 2 ? last : sk_random(s) % k->groups];
	struct riffle_group *b = a > k->group ? a - 1 : a + 1;
	uint32_t *from[] = {&a->pc_steps, &a->pc_targets, &a->own_steps, &a->abs32_refs, &a->abs64_refs};
	uint32_t *to[] = {&b->pc_steps, &b->pc_targets, &b->own_steps, &b->abs32_refs, &b->abs64_refs};
	uint64_t what = sk_random(s) >> 20, n = sk_random(s) >> 20;

	switch (what % 8) {
	case 0: /* move everything a group has to its neighbour, and perhaps let it claim some nevertheless */
		for (unsigned i = 0; i < 5; i++) {
			*to[i] += *from[i];
			*from[i] = 0;
		}
		if (n % 2)
			*from[what / 8 % 5] = (uint32_t)n;
		break;
	case 1:
	case 2: /* some, or more than there is */
		n = n % 2 ? n : n % (*from[what / 8 % 5] + 1);
		*to[what / 8 % 5] += (uint32_t)n;
		*from[what / 8 % 5] -= (uint32_t)n;
		break;
	case 3:
		*from[what / 8 % 5] = (uint32_t)n;
		break;
	case 4:
		k->pc_step[n % k->pc_steps] = (uint8_t)what;
		break;
	case 5:
		k->own_step[n % k->own_steps] = (uint8_t)what;
		break;
	case 6:
		k->abs32_ref[n % k->abs32_refs].field = (uint16_t)what;
		break;
	default:
		k->pc_target[n % k->pc_targets] = (uint16_t)(what % (k->chunks + 1));
	}
}

/* The groups before the last own all the steps, yet the last claims one; another group follows it. */
static void claim_behind(struct shuffled_kernel *k, uint64_t *s)
{
	struct riffle_group *last = &k->group[k->groups - 1];

	lie_step_last(k);
	last[0].own_steps = last[0].abs32_refs = 0;
	last[1] = (struct riffle_group){.chunk_count = 1 + (uint32_t)(sk_random(s) >> 20) % 64};
	builder_extra(&k->b, RIFFLE_SECTION_GROUPS, k->group, k->groups + 1, sizeof *k->group);
}

/* Every group was checked, whichever is last: their counts add up to the totals. */
static void assert_groups_add_up(const struct riffle_plan *plan)
{
	uint64_t sum[6] = {0};

	for (uint32_t i = 0; i < plan->group_count; i++) {
		const struct riffle_group *g = &plan->groups[i];
		const uint32_t counts[] = {g->chunk_count, g->pc_steps,   g->pc_targets,
					   g->own_steps,   g->abs32_refs, g->abs64_refs};

		for (unsigned k = 0; k < 6; k++)
			sum[k] += counts[k];
	}
	assert_int_equal(sum[0], plan->chunk_count);
	assert_int_equal(sum[1], plan->pc_step_count);
	assert_int_equal(sum[2], plan->pc_target_count);
	assert_int_equal(sum[3], plan->own_step_count);
	assert_int_equal(sum[4], plan->abs32_ref_count);
	assert_int_equal(sum[5], plan->abs64_ref_count);
}

/* A plan that passes the check loads, or is refused during the load; the sanitizers detect any other access. */
static void mutated_plans_stay_within_their_memory(void **state)
{
	unsigned taken = 0;

	(void)state;
	for (uint64_t seed = 1; seed <= 100; seed++) {
		struct loaded_kernel *l = calloc(1, sizeof *l);
		uint64_t s = seed * UINT64_C(0x9e3779b97f4a7c15);
		struct riffle_error error;
		struct riffle_plan plan = RIFFLE_PLAN_INIT;

		l->k = sk_make(&shapes[0]);
		if (seed % 10 == 0)
			claim_behind(l->k, &s);
		for (unsigned changes = seed % 10 ? 1 + seed % 4 : 0; changes; changes--)
			mutate(l->k, &s);
		builder_seal(&l->k->b);
		if (!riffle_plan_check(&plan, &l->k->b.header, l->k->b.plan, l->k->b.plan_bytes,
				       l->k->b.header.file_bytes, &error)) {
			assert_groups_add_up(&plan);
			draw(l, seed);
			load(l, 0, false);
			free(l->guest);
			taken++;
		}
		sk_free(l->k);
		free(l);
	}
	printf("%u of 100 plans were taken\n", taken);
	assert_true(taken > 15);
}

/*
 * Without its shuffle part a plan loads as usual, and has no chunks; damage to that part is only detected when it is
 * used.
 */
static void base_alone_is_a_plan(void **state)
{
	struct shuffled_kernel *k = sk_make(&shapes[0]);
	struct riffle_source_memory bytes;
	struct riffle_source source;
	struct riffle_error error;
	struct riffle_plan plan = RIFFLE_PLAN_INIT;
	uint8_t *file;

	(void)state;
	assert_true(k->b.header.base_bytes < k->b.plan_bytes / 2);
	((uint8_t *)k->b.plan)[k->b.header.base_bytes + 5] ^= 1;
	file = builder_file(&k->b);
	riffle_source_from_bytes(&source, &bytes, file, k->b.header.file_bytes);
	assert_int_equal(riffle_plan_open_base(&plan, &source, &error), 0);
	assert_int_equal(plan.chunk_count, 0);
	assert_true(plan.header->features & RIFFLE_FEATURE_SHUFFLE);
	assert_int_equal(plan.reloc64_count, k->b.count64);
	riffle_plan_close(&plan);
	assert_int_equal(riffle_plan_open(&plan, &source, &error), RIFFLE_ERR_CHECKSUM);
	assert_string_equal(error.field, "shuffle_checksum");
	/* and what both need is checked by both */
	file[k->b.header.plan_offset + 5] ^= 1;
	assert_int_equal(riffle_plan_open_base(&plan, &source, &error), RIFFLE_ERR_CHECKSUM);
	assert_string_equal(error.field, "plan_checksum");
	free(file);
	sk_free(k);
}

/* Names whose lengths exceed the table must not make a load exceed its memory. */
static void lying_names_are_harmless(void **state)
{
	struct loaded_kernel *l = calloc(1, sizeof *l);

	(void)state;
	l->k = sk_make(&shapes[2]);
	memset(l->k->b.image + l->k->kallsyms.names, 0xff, l->k->kallsyms.names_bytes);
	memset(l->k->b.image + l->k->kallsyms.seqs, 0xff, 3 * l->k->symbols);
	draw(l, 8);
	assert_int_equal(load(l, 0, false), 0);
	free(l->guest);
	sk_free(l->k);
	free(l);
}

static double chi_square_p(const uint32_t *count, unsigned bins, double draws)
{
	double expected = draws / bins, x = 0, k = bins - 1, z;

	for (unsigned i = 0; i < bins; i++)
		x += (count[i] - expected) * (count[i] - expected) / expected;
	z = (cbrt(x / k) - (1 - 2 / (9 * k))) / sqrt(2 / (9 * k));
	return erfc(z / sqrt(2)) / 2;
}

/*
 * Permutations are uniform: where single chunks go, and where pairs go together (64 places, so 4032 places of a pair).
 * The same test catches a shuffle that always draws from all places instead of the remaining ones (a classic mistake).
 */
static void permutations_are_uniform(void **state)
{
	enum { CHUNKS = 64, DRAWS = 300000 };
	static struct riffle_chunk chunk[CHUNKS];
	static uint32_t single[CHUNKS], pair[CHUNKS * CHUNKS], naive[CHUNKS];
	struct riffle_region region = {.image_offset = 0x1000, .bytes = CHUNKS * 16, .chunk_count = CHUNKS};
	struct riffle_group group = {.chunk_count = CHUNKS};
	struct riffle_ram ram = {0, 64 * MIB, NULL};
	struct riffle_memory memory = {&ram, 1, NULL, 0};
	struct riffle_seeded seeded;
	struct riffle_random random;
	struct riffle_error error;
	struct riffle_plan plan = RIFFLE_PLAN_INIT;
	uint16_t order[CHUNKS];
	struct riffle_layout layout = {.order = order, .order_count = CHUNKS};
	struct builder b;
	uint32_t pairs[CHUNKS * (CHUNKS - 1)];
	uint64_t s = 88172645463325252u;
	uint8_t seed[32];
	unsigned n = 0;
	double p_single, p_pair, p_naive;

	(void)state;
	assert_int_equal(getrandom(seed, 32, 0), 32);
	printf("seed ");
	for (unsigned i = 0; i < 32; i++)
		printf("%02x", seed[i]);
	riffle_random_from_seed(&random, &seeded, seed);
	builder_start(&b, MIB, 0);
	builder_extent(&b, 0, MIB);
	for (unsigned i = 0; i < CHUNKS; i++)
		chunk[i] = (struct riffle_chunk){.image_offset = 0x1000 + 16 * i, .units = 1};
	b.header.features = RIFFLE_FEATURE_SHUFFLE;
	builder_extra(&b, RIFFLE_SECTION_REGIONS, &region, 1, sizeof region);
	builder_extra(&b, RIFFLE_SECTION_CHUNKS, chunk, CHUNKS, sizeof *chunk);
	builder_extra(&b, RIFFLE_SECTION_GROUPS, &group, 1, sizeof group);
	builder_seal(&b);
	assert_int_equal(riffle_plan_check(&plan, &b.header, b.plan, b.plan_bytes, b.header.file_bytes, &error), 0);
	for (unsigned i = 0; i < DRAWS; i++) {
		unsigned a = 0, c = 0;

		assert_int_equal(riffle_layout_draw(&layout, &plan, &memory, RIFFLE_MODE_FGKASLR, &random, &error), 0);
		for (unsigned k = 0; k < CHUNKS; k++) {
			if (order[k] == 17)
				a = k;
			if (order[k] == 18)
				c = k;
		}
		single[a]++;
		pair[a * CHUNKS + c]++;
	}
	for (unsigned a = 0; a < CHUNKS; a++)
		for (unsigned c = 0; c < CHUNKS; c++)
			if (a != c)
				pairs[n++] = pair[a * CHUNKS + c];
	for (unsigned i = 0; i < DRAWS; i++) {
		unsigned at = 0, wrong[CHUNKS];

		for (unsigned k = 0; k < CHUNKS; k++)
			wrong[k] = k;
		for (unsigned k = 0; k < CHUNKS; k++) {
			unsigned other = (unsigned)(sk_random(&s) >> 11) % CHUNKS, keep = wrong[k];

			wrong[k] = wrong[other];
			wrong[other] = keep;
		}
		while (wrong[at] != 17)
			at++;
		naive[at]++;
	}
	p_single = chi_square_p(single, CHUNKS, DRAWS);
	p_pair = chi_square_p(pairs, n, DRAWS);
	p_naive = chi_square_p(naive, CHUNKS, DRAWS);
	printf(": %u draws, one chunk p=%.3g, a pair p=%.3g; naive shuffle p=%.3g\n", DRAWS, p_single, p_pair, p_naive);
	assert_true(p_single >= 1e-6);
	assert_true(p_pair >= 1e-6);
	assert_int_equal(pair[17 * CHUNKS + 17], 0);
	assert_true(p_naive < 1e-6);
	builder_end(&b);
}

/* A request that cannot be honoured says why, before anything is written. */
static void requests_are_checked(void **state)
{
	enum {
		AS_IT_IS,
		OPTION,
		MODE,
		NO_ROOM,
		ODD_ROOM,
		SMALL_ROOM,
		NO_ORDER,
		SHORT_ORDER,
		WORKERS,
		NO_CHUNKS,
		CASES
	};
	static const char *const messages[CASES] = {
	    [AS_IT_IS] = "taken",
	    [OPTION] = "options: hold an unknown bit (found 4)",
	    [MODE] = "mode: is not known (found 4)",
	    [NO_ROOM] = "workspace: is missing",
	    [ODD_ROOM] = "workspace: is not aligned (remainder of its address) (found 32, expected 0)",
	    [NO_ORDER] = "order: is missing or not as long as there are chunks (found 1500, expected 1500)",
	    [SHORT_ORDER] = "order: is missing or not as long as there are chunks (found 1499, expected 1500)",
	    [WORKERS] = "workers: has reserved bytes that are not 0: was it initialised? (found 9)",
	    [NO_CHUNKS] = "chunks: there are none in this plan, so the kernel's functions cannot be shuffled",
	};
	struct loaded_kernel *l = calloc(1, sizeof *l);
	struct riffle_source_memory bytes;
	struct riffle_source source;
	struct riffle_error error;
	struct riffle_plan plan = RIFFLE_PLAN_INIT, base = RIFFLE_PLAN_INIT;
	size_t room_bytes;
	uint8_t *file, *room, *host = calloc(1, 32 * MIB);

	(void)state;
	l->k = sk_make(&shapes[0]);
	draw(l, 5);
	file = builder_file(&l->k->b);
	riffle_source_from_bytes(&source, &bytes, file, l->k->b.header.file_bytes);
	assert_int_equal(riffle_plan_open(&plan, &source, &error), 0);
	assert_int_equal(riffle_plan_open_base(&base, &source, &error), 0);
	room_bytes = riffle_load_workspace(&plan);
	assert_int_equal(riffle_load_workspace(&base), 0);
	room = aligned_alloc(64, room_bytes + 64);
	for (unsigned i = 0; i < CASES; i++) {
		struct riffle_ram ram = {0, 32 * MIB, host};
		struct riffle_memory memory = {&ram, 1, NULL, 0};
		struct riffle_workers workers = {run_backwards, NULL};
		struct riffle_layout layout = l->layout;
		struct riffle_loaded loaded;
		char wanted[128];
		int status;

		if (i == MODE)
			layout.mode = RIFFLE_MODE_FGKASLR + 1;
		if (i == NO_ORDER)
			layout.order = NULL;
		if (i == SHORT_ORDER)
			layout.order_count--;
		if (i == WORKERS)
			*(uint8_t *)&workers.reserved_zero = 9;
		memset(host + layout.physical_base, 0, 64);
		status = riffle_load_shuffled(&loaded, i == NO_CHUNKS ? &base : &plan, &source, &layout, &memory,
					      i == OPTION ? 4 : 0, &workers,
					      i == NO_ROOM    ? NULL
					      : i == ODD_ROOM ? room + 32
							      : room,
					      room_bytes - (i == SMALL_ROOM), &error);
		snprintf(wanted, sizeof wanted, "workspace: is too small (found 0x%zx, expected 0x%zx)", room_bytes - 1,
			 room_bytes);
		assert_string_equal(message_of(status, &error), i == SMALL_ROOM ? wanted : messages[i]);
		assert_int_equal(memcmp(host + layout.physical_base, l->k->b.image, 64) == 0, i == AS_IT_IS);
		if (status)
			continue;
		assert_int_equal(loaded.relocations,
				 (layout.virtual_base == LINK
				      ? 0
				      : plan.reloc64_count + plan.reloc32_count + plan.reloc32_inverse_count) +
				     plan.pc_target_count + plan.own_step_count + plan.abs32_ref_count +
				     plan.abs64_ref_count + plan.fixed32_count + plan.fixed64_count);
		assert_true(loaded.workspace_used > 0 && loaded.workspace_used <= room_bytes);
		assert_true(loaded.relocate_ticks > 0 && loaded.relocate_ticks <= loaded.load_ticks);
		assert_int_equal(loaded.loadflags, 2);
	}
	riffle_plan_close(&plan);
	riffle_plan_close(&base);
	free(room);
	free(host);
	free(file);
	sk_free(l->k);
	free(l);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(loads_to_the_byte),
	    cmocka_unit_test(entry_moves),
	    cmocka_unit_test(kallsyms_is_closed_by_a_shuffle_alone),
	    cmocka_unit_test(other_values_are_no_mode),
	    cmocka_unit_test(paged_chunk_starts_at_a_page),
	    cmocka_unit_test(paged_chunk_among_few),
	    cmocka_unit_test(paged_chunk_in_the_second_region),
	    cmocka_unit_test(identity_is_kaslr),
	    cmocka_unit_test(regions_are_limited),
	    cmocka_unit_test(wrong_orders_are_refused),
	    cmocka_unit_test(requests_are_checked),
	    cmocka_unit_test(every_lie_is_refused),
	    cmocka_unit_test(sites_in_two_tables_are_taken),
	    cmocka_unit_test(the_most_chunks_are_taken),
	    cmocka_unit_test(fields_outside_groups_are_refused),
	    cmocka_unit_test(mutated_plans_stay_within_their_memory),
	    cmocka_unit_test(base_alone_is_a_plan),
	    cmocka_unit_test(lying_names_are_harmless),
	    cmocka_unit_test(permutations_are_uniform),
	};
	return cmocka_run_group_tests_name("shuffle", tests, NULL, NULL);
}
