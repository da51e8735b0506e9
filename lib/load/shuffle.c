/* SPDX-License-Identifier: Apache-2.0 */
/* Loads a kernel with its functions in another order: chunks are patched in source order and copied to their places. */
#include "load/shuffle.h"

#define ALIGN 64u
#define AHEAD 3u          /* chunks */
#define AHEAD_BYTES 512u

static size_t aligned(size_t bytes)
{
	return (bytes + ALIGN - 1) & ~(size_t)(ALIGN - 1);
}

static size_t place_bytes(const struct riffle_plan *plan)
{
	return aligned((plan->table_count + 2) * ((size_t)plan->chunk_count + 1) * sizeof(uint32_t));
}

static uint32_t groups_of(const struct riffle_region *r)
{
	return (r->bytes + GROUP_BYTES - 1) / GROUP_BYTES;
}

static uint32_t all_groups(const struct riffle_plan *plan)
{
	uint32_t groups = 0;

	for (uint32_t i = 0; i < plan->region_count; i++)
		groups += groups_of(&plan->regions[i]);
	return groups;
}

static size_t group_bytes(const struct riffle_plan *plan)
{
	return aligned(all_groups(plan) * sizeof(const struct riffle_chunk_ref *));
}

static size_t symbol_bytes(const struct riffle_plan *plan)
{
	return plan->kallsyms && plan->kallsyms->seqs ? aligned(plan->kallsyms->symbols * sizeof(uint32_t)) : 0;
}

size_t riffle_load_workspace(const struct riffle_plan *plan)
{
	if (!plan->chunk_count)
		return 0;
	return aligned((plan->chunk_count + 1) * sizeof(int32_t)) + place_bytes(plan) + group_bytes(plan) +
	       symbol_bytes(plan) + SCRATCHES * (size_t)aligned(SCRATCH_BYTES);
}

uint8_t *riffle_shuffle_scratch(struct shuffle_load *s, unsigned *number)
{
	for (;;) {
		uint32_t taken = __atomic_load_n(&s->scratch_taken, __ATOMIC_RELAXED);
		unsigned i = (unsigned)__builtin_ctz(~taken);

		if (i >= SCRATCHES) {
			/* more workers than buffers: one will be back soon */
			__builtin_ia32_pause();
			continue;
		}
		if (__atomic_compare_exchange_n(&s->scratch_taken, &taken, taken | 1u << i, false, __ATOMIC_ACQUIRE,
						__ATOMIC_RELAXED)) {
			*number = i;
			return s->scratch + i * aligned(SCRATCH_BYTES);
		}
	}
}

void riffle_shuffle_scratch_back(struct shuffle_load *s, unsigned number)
{
	__atomic_fetch_and(&s->scratch_taken, ~(1u << number), __ATOMIC_RELEASE);
}

/* How far each chunk moves: its new place, from the order, minus the one it was linked at. */
static void compute_shifts(struct shuffle_load *s)
{
	const struct riffle_plan *plan = s->load.plan;

	s->shift[plan->chunk_count] = 0; /* what does not move; riffle_plan_check() let no higher number pass */
	for (uint32_t i = 0; i < plan->region_count; i++) {
		const struct riffle_region *r = &plan->regions[i];
		uint32_t at = r->image_offset;

		for (uint32_t k = r->first_chunk; k < r->first_chunk + r->chunk_count; k++) {
			const struct riffle_chunk *c = &plan->chunks[s->load.order[k]];

			s->shift[s->load.order[k]] = (int32_t)(at - c->image_offset);
			at += c->bytes;
		}
	}
}

/*
 * Puts a chunk's references right where it lies, in scratch memory that reaches 64 KiB behind it; false when one of
 * them was not inside the chunk.
 */
static bool patch(uint8_t *bytes, const struct riffle_chunk *chunk, const struct riffle_chunk_ref *ref,
		  const int32_t *shift, int32_t own, uint64_t delta)
{
	uint32_t farthest32 = 0, farthest64 = 0;

	for (unsigned i = 0; i < chunk->pc32; i++, ref++) {
		uint8_t *field = bytes + ref->field;
		riffle_put32(field, riffle_get32(field) + (uint32_t)shift[ref->target] - (uint32_t)own);
		farthest32 = ref->field > farthest32 ? ref->field : farthest32;
	}
	for (unsigned i = 0; i < chunk->abs32; i++, ref++) {
		uint8_t *field = bytes + ref->field;
		riffle_put32(field, riffle_get32(field) + (uint32_t)delta + (uint32_t)shift[ref->target]);
		farthest32 = ref->field > farthest32 ? ref->field : farthest32;
	}
	for (unsigned i = 0; i < chunk->abs64; i++, ref++) {
		uint8_t *field = bytes + ref->field;
		riffle_put64(field, riffle_get64(field) + delta + (uint64_t)(int64_t)shift[ref->target]);
		farthest64 = ref->field > farthest64 ? ref->field : farthest64;
	}
	for (unsigned i = 0; i < chunk->inverse32; i++, ref++) {
		uint8_t *field = bytes + ref->field;
		riffle_put32(field, riffle_get32(field) - (uint32_t)delta - (uint32_t)own);
		farthest32 = ref->field > farthest32 ? ref->field : farthest32;
	}
	return (!(chunk->pc32 | chunk->abs32 | chunk->inverse32) || farthest32 + 4 <= chunk->bytes) &&
	       (!chunk->abs64 || farthest64 + 8 <= chunk->bytes);
}

static unsigned refs_of(const struct riffle_chunk *c)
{
	return c->pc32 + c->abs32 + c->abs64 + c->inverse32;
}

/* A group: the chunks of a region that start in one stretch of GROUP_BYTES. Groups are counted region after region. */
struct group {
	uint32_t first, end;            /* chunks */
};

static uint32_t first_chunk_from(const struct riffle_plan *plan, const struct riffle_region *r, uint64_t offset)
{
	uint32_t low = r->first_chunk, high = r->first_chunk + r->chunk_count;

	while (low < high) {
		uint32_t middle = low + (high - low) / 2;

		if (plan->chunks[middle].image_offset < offset)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

static struct group group_at(const struct riffle_plan *plan, uint32_t index)
{
	const struct riffle_region *r = plan->regions;
	uint64_t start;

	while (index >= groups_of(r))
		index -= groups_of(r++);
	start = r->image_offset + (uint64_t)index * GROUP_BYTES;
	return (struct group){first_chunk_from(plan, r, start), first_chunk_from(plan, r, start + GROUP_BYTES)};
}

/* Puts the references of a group's chunks right, in scratch memory; `ref` is the first chunk's first. */
static int patch_group(const struct shuffle_load *s, struct group g, const struct riffle_chunk_ref *ref,
		       uint8_t *scratch, struct riffle_error *error)
{
	const struct riffle_chunk *chunks = s->load.plan->chunks;

	for (uint32_t i = g.first; i < g.end; i++) {
		const struct riffle_chunk *c = &chunks[i];

		if (!patch(scratch + (c->image_offset - chunks[g.first].image_offset), c, ref, s->shift, s->shift[i],
			   s->load.delta))
			return riffle_fail_found(error, RIFFLE_ERR_FORMAT, "chunk_refs",
						 "has a field outside its chunk", i);
		ref += refs_of(c);
	}
	return RIFFLE_OK;
}

/*
 * Copies a group's chunks to their places. These are all over the region: asking for a coming one's lines ahead hides
 * most of what fetching them costs.
 */
static void copy_group(const struct shuffle_load *s, struct group g, const uint8_t *scratch)
{
	const struct riffle_chunk *chunks = s->load.plan->chunks;
	uint8_t *image = s->load.image;

	for (uint32_t i = g.first; i < g.end; i++) {
		const struct riffle_chunk *c = &chunks[i];

		if (i + AHEAD < g.end) {
			const uint8_t *soon = image + c[AHEAD].image_offset + s->shift[i + AHEAD];

			for (uint32_t line = 0; line < c[AHEAD].bytes && line < AHEAD_BYTES; line += 64)
				__builtin_prefetch(soon + line, 1);
		}
		memcpy(image + c->image_offset + s->shift[i], scratch + (c->image_offset - chunks[g.first].image_offset),
		       c->bytes);
	}
}

static int shuffle_group(const struct shuffle_load *s, struct group g, const struct riffle_chunk_ref *ref,
			 uint8_t *scratch, uint64_t *patch_ticks, struct riffle_error *error)
{
	const struct riffle_chunk *chunks = s->load.plan->chunks;
	uint64_t before;
	int status;

	if (g.first == g.end)
		return RIFFLE_OK;
	status = load_read(&s->load, chunks[g.first].image_offset, scratch,
			   chunks[g.end - 1].image_offset + chunks[g.end - 1].bytes - chunks[g.first].image_offset,
			   error);
	if (status)
		return status;
	before = __builtin_ia32_rdtsc();
	status = patch_group(s, g, ref, scratch, error);
	*patch_ticks = __builtin_ia32_rdtsc() - before;
	if (!status)
		copy_group(s, g, scratch);
	return status;
}

struct shuffle_jobs {
	struct shuffle_load *s;
	uint32_t tables, groups, blocks;
	const struct riffle_chunk_ref **group_refs;     /* where each group's references begin */
};

static void run_with_scratch(struct shuffle_jobs *jobs, uint32_t index)
{
	struct shuffle_load *s = jobs->s;
	uint64_t before = __builtin_ia32_rdtsc(), patch_ticks = 0;
	struct riffle_error error;
	unsigned number;
	uint8_t *scratch = riffle_shuffle_scratch(s, &number);
	int status;

	if (!index)
		status = riffle_shuffle_kallsyms(s, scratch, &error);
	else if (index <= s->load.plan->table_count)
		status = riffle_shuffle_table(s, index - 1, scratch, &error);
	else
		status = shuffle_group(s, group_at(s->load.plan, index - jobs->tables),
				       jobs->group_refs[index - jobs->tables], scratch, &patch_ticks, &error);
	riffle_shuffle_scratch_back(s, number);
	__atomic_fetch_add(&s->load.load_ticks, __builtin_ia32_rdtsc() - before, __ATOMIC_RELAXED);
	__atomic_fetch_add(&s->load.relocate_ticks, patch_ticks, __ATOMIC_RELAXED);
	if (status)
		riffle_load_fail(&s->load, status, &error);
}

/* The long jobs first: kallsyms, tables, then groups of chunks, then blocks of everything else. */
static void shuffled_job(void *argument, unsigned index)
{
	struct shuffle_jobs *jobs = argument;

	if (__atomic_load_n(&jobs->s->load.failed, __ATOMIC_RELAXED))
		return;
	if (index < jobs->tables + jobs->groups)
		run_with_scratch(jobs, index);
	else
		riffle_load_block_job(&jobs->s->load, index - jobs->tables - jobs->groups);
}

static void find_group_refs(const struct riffle_plan *plan, const struct riffle_chunk_ref **group_refs)
{
	const struct riffle_chunk_ref *ref = plan->chunk_refs;
	uint32_t chunk = 0, group = 0;

	for (uint32_t i = 0; i < plan->region_count; i++)
		for (uint32_t k = 0; k < groups_of(&plan->regions[i]); k++, group++) {
			struct group g = group_at(plan, group);

			for (; chunk < g.first; chunk++)
				ref += refs_of(&plan->chunks[chunk]);
			group_refs[group] = ref;
		}
}

static int check_request(const struct riffle_plan *plan, const struct riffle_layout *layout, unsigned options,
			 const void *workspace, size_t workspace_bytes, struct riffle_error *error)
{
	if (options & ~(RIFFLE_LOAD_CLEAR | RIFFLE_LOAD_LAZY_TABLES))
		return riffle_fail_found(error, RIFFLE_ERR_ARGUMENT, "options", "hold an unknown bit", options);
	if (!plan->chunk_count)
		return riffle_fail(error, RIFFLE_ERR_UNSUPPORTED, "chunks",
				   "there are none in this plan, so the kernel's functions cannot be shuffled");
	if (!workspace || (uintptr_t)workspace % ALIGN || workspace_bytes < riffle_load_workspace(plan))
		return riffle_fail_expected(error, RIFFLE_ERR_ARGUMENT, "workspace",
					    "is missing, unaligned, or too small", workspace_bytes,
					    riffle_load_workspace(plan));
	if (!layout->order || layout->order_count != plan->chunk_count)
		return riffle_fail_expected(error, RIFFLE_ERR_ARGUMENT, "order",
					    "is missing or not as long as there are chunks", layout->order_count,
					    plan->chunk_count);
	return RIFFLE_OK;
}

int riffle_load_shuffled(struct riffle_loaded *loaded, const struct riffle_plan *plan,
			 const struct riffle_source *payload, const struct riffle_layout *layout,
			 const struct riffle_memory *memory, unsigned options, const struct riffle_workers *workers,
			 void *workspace, size_t workspace_bytes, struct riffle_error *error)
{
	struct shuffle_load s;
	struct shuffle_jobs jobs = {.s = &s};
	int status;

	if (layout->mode < RIFFLE_MODE_FGKASLR)
		return riffle_load(loaded, plan, payload, layout, memory, options & RIFFLE_LOAD_CLEAR, workers, error);
	status = check_request(plan, layout, options, workspace, workspace_bytes, error);
	if (!status)
		status = riffle_load_begin(&s.load, plan, payload, layout, memory, options, error);
	if (!status)
		status = riffle_layout_check_order(layout, plan, error);
	if (status)
		return status;
	s.shift = workspace;
	s.place = (void *)((uint8_t *)workspace + aligned((plan->chunk_count + 1) * sizeof(int32_t)));
	jobs.group_refs = (void *)((uint8_t *)s.place + place_bytes(plan));
	s.symbol_place = (void *)((uint8_t *)jobs.group_refs + group_bytes(plan));
	s.scratch = (uint8_t *)s.symbol_place + symbol_bytes(plan);
	s.scratch_taken = 0;
	s.load.order = layout->order;
	s.load.shift = s.shift;
	riffle_plan_areas_of(&s.load.areas, plan, options & RIFFLE_LOAD_LAZY_TABLES);
	compute_shifts(&s);

	jobs.tables = 1 + plan->table_count;
	jobs.groups = all_groups(plan);
	jobs.blocks = riffle_load_blocks(&s.load);
	find_group_refs(plan, jobs.group_refs);
	if (workers)
		workers->run(workers->opaque, shuffled_job, &jobs, jobs.tables + jobs.groups + jobs.blocks);
	else
		for (uint32_t i = 0; i < jobs.tables + jobs.groups + jobs.blocks; i++)
			shuffled_job(&jobs, i);
	status = riffle_load_end(loaded, &s.load, layout);
	if (!status)
		loaded->relocations += plan->chunk_ref_count + plan->fixed32_count + plan->fixed64_count;
	return status;
}
