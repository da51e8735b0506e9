/* SPDX-License-Identifier: Apache-2.0 */
/* Loads a kernel with its functions in another order: chunks are put right in source order, then copied to place. */
#include "load/shuffle.h"
#include "load/vector.h"

#define ALIGN 64u
#define AHEAD 4u          /* chunks */
#define AHEAD_BYTES 512u

static size_t aligned(size_t bytes)
{
	return (bytes + ALIGN - 1) & ~(size_t)(ALIGN - 1);
}

/* Divides the workspace, or with none only tells how long it is. */
static size_t divide(struct shuffle_load *s, const struct riffle_plan *plan, uint8_t *workspace)
{
	const struct riffle_kallsyms *k = plan->kallsyms;
	size_t bytes[] = {
		aligned((plan->chunk_count + 1) * sizeof *s->shift),
		aligned(plan->chunk_count * sizeof *s->place),
		aligned(plan->chunk_count * sizeof *s->exception_place),
		aligned(plan->group_count * sizeof *s->group),
		aligned(k && k->seqs ? k->symbols * sizeof *s->symbol_place : 0),
		SCRATCHES * aligned(SCRATCH_BYTES),
	};
	size_t at[7] = {0};

	for (unsigned i = 0; i < 6; i++)
		at[i + 1] = at[i] + bytes[i];
	if (workspace) {
		s->shift = (void *)(workspace + at[0]);
		s->place = (void *)(workspace + at[1]);
		s->exception_place = (void *)(workspace + at[2]);
		s->group = (void *)(workspace + at[3]);
		s->symbol_place = (void *)(workspace + at[4]);
		s->scratch = workspace + at[5];
	}
	return at[6];
}

size_t riffle_load_workspace(const struct riffle_plan *plan)
{
	return plan->chunk_count ? divide(NULL, plan, NULL) : 0;
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

static void start_groups(struct shuffle_load *s)
{
	const struct riffle_plan *plan = s->load.plan;
	struct group_start at = {0};

	for (uint32_t i = 0; i < plan->group_count; i++) {
		const struct riffle_group *g = &plan->groups[i];

		s->group[i] = at;
		at.chunk += g->chunk_count;
		at.pc_step += g->pc_steps;
		at.pc_target += g->pc_targets;
		at.own_step += g->own_steps;
		at.abs32_ref += g->abs32_refs;
		at.abs64_ref += g->abs64_refs;
	}
}

/* A group in scratch memory: its bytes, and for each 16 of them how far their chunk moves. */
struct patch {
	uint8_t *bytes;
	uint32_t *own;
};

static void map_shifts(const struct shuffle_load *s, const struct patch *p, uint32_t first, uint32_t count)
{
	const struct riffle_chunk *chunk = &s->load.plan->chunks[first];
	uint32_t *own = p->own;

	for (uint32_t i = 0; i < count; i++) {
		uint32_t shift = (uint32_t)s->shift[first + i];
		uint32_t *end = own + chunk[i].units;

		/* four at a time: those too many are the next chunk's, and become it, or lie in the padding */
		for (; own < end; own += 4)
			own[0] = own[1] = own[2] = own[3] = shift;
		own = end;
	}
}

/*
 * The PC-relative fields that a list of steps leads to: each loses what its own chunk moves by, and gains what its target
 * does, where there are targets. Returns the end of the last field, UINT32_MAX if one lies where no group reaches.
 */
HOT uint32_t patch_steps(const struct patch *p, const uint8_t *step, uint32_t steps, const uint16_t *target,
			 const int32_t *shift)
{
	uint32_t end = 0, field_at = 0;

	for (uint32_t i = 0; i < steps; i++) {
		uint8_t *field;

		field_at += step[i];
		if (step[i] == RIFFLE_STEP_FAR)
			continue;
		if (field_at >= RIFFLE_GROUP_BYTES_MAX)
			return UINT32_MAX;
		field = p->bytes + field_at;
		riffle_put32(field, riffle_get32(field) + (target ? (uint32_t)shift[*target++] : 0) - p->own[field_at / 16]);
		end = field_at + 4;
	}
	return end;
}

/*
 * Puts a group's references right where it lies. A field's offset has 16 bits, or is held against the group's end, and the
 * scratch is longer than 16 bits reach, so that none leads out of it. Returns the end of the farthest field.
 */
static uint32_t patch_refs(const struct shuffle_load *s, const struct patch *p, const struct riffle_group *g,
			   const struct group_start *at)
{
	const struct riffle_plan *plan = s->load.plan;
	const struct riffle_ref *ref;
	const int32_t *shift = s->shift;
	uint32_t farthest = patch_steps(p, plan->pc_steps + at->pc_step, g->pc_steps, plan->pc_targets + at->pc_target,
					shift);
	uint32_t end = patch_steps(p, plan->own_steps + at->own_step, g->own_steps, NULL, NULL);

	farthest = end > farthest ? end : farthest;
	ref = plan->abs32_refs + at->abs32_ref;
	for (uint32_t i = 0; i < g->abs32_refs; i++) {
		uint8_t *field = p->bytes + ref[i].field;

		riffle_put32(field, riffle_get32(field) + (uint32_t)shift[ref[i].target]);
		farthest = ref[i].field + 4u > farthest ? ref[i].field + 4u : farthest;
	}
	ref = plan->abs64_refs + at->abs64_ref;
	for (uint32_t i = 0; i < g->abs64_refs; i++) {
		uint8_t *field = p->bytes + ref[i].field;

		riffle_put64(field, riffle_get64(field) + (uint64_t)(int64_t)shift[ref[i].target]);
		farthest = ref[i].field + 8u > farthest ? ref[i].field + 8u : farthest;
	}
	return farthest;
}

/*
 * Copies a group's chunks to their places. These are all over the region: asking for a coming one's lines ahead hides
 * most of what fetching them costs.
 */
static void copy_group(const struct shuffle_load *s, uint32_t first, uint32_t count, const uint8_t *bytes)
{
	const struct riffle_chunk *c = &s->load.plan->chunks[first];
	const int32_t *shift = s->shift + first;
	uint8_t *image = s->load.image;

	for (uint32_t i = 0; i < count; i++) {
		uint32_t length = riffle_chunk_bytes(&c[i]);

		if (i + AHEAD < count) {
			const uint8_t *soon = image + c[i + AHEAD].image_offset + shift[i + AHEAD];
			uint32_t soon_bytes = riffle_chunk_bytes(&c[i + AHEAD]);

			for (uint32_t line = 0; line < soon_bytes && line < AHEAD_BYTES; line += 64)
				__builtin_prefetch(soon + line, 1);
		}
		riffle_copy_short(image + c[i].image_offset + shift[i], bytes, length);
		bytes += length;
	}
}

static int shuffle_group(struct shuffle_load *s, uint32_t index, uint8_t *scratch, uint64_t *patch_ticks,
			 struct riffle_error *error)
{
	const struct riffle_plan *plan = s->load.plan;
	const struct riffle_group *g = &plan->groups[index];
	const struct group_start *at = &s->group[index];
	const struct riffle_chunk *last = &plan->chunks[at->chunk + g->chunk_count - 1];
	struct patch patch = {scratch, (uint32_t *)(void *)(scratch + SCRATCH_HALF)};
	uint32_t start = plan->chunks[at->chunk].image_offset;
	uint32_t bytes = last->image_offset + riffle_chunk_bytes(last) - start;
	uint64_t before;
	int status = load_read(&s->load, start, scratch, bytes, error);

	if (status)
		return status;
	before = __builtin_ia32_rdtsc();
	map_shifts(s, &patch, at->chunk, g->chunk_count);
	riffle_load_relocate(&s->load, scratch, start, start + bytes);
	if (patch_refs(s, &patch, g, at) > bytes)
		return riffle_fail_found(error, RIFFLE_ERR_FORMAT, "references", "have a field outside its group",
					 index);
	*patch_ticks = __builtin_ia32_rdtsc() - before;
	copy_group(s, at->chunk, g->chunk_count, scratch);
	return RIFFLE_OK;
}

struct shuffle_jobs {
	struct shuffle_load *s;
	uint32_t tables, groups, blocks;
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
		status = shuffle_group(s, index - jobs->tables, scratch, &patch_ticks, &error);
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

static int check_request(const struct riffle_plan *plan, const struct riffle_layout *layout, const void *workspace, size_t workspace_bytes, struct riffle_error *error)
{
	if (layout->mode > RIFFLE_MODE_FGKASLR)
		return riffle_fail_found(error, RIFFLE_ERR_ARGUMENT, "mode", "is not known", (uint64_t)layout->mode);
	if (!plan->chunk_count)
		return riffle_fail(error, RIFFLE_ERR_UNSUPPORTED, "chunks",
				   "there are none in this plan, so the kernel's functions cannot be shuffled");
	if (!workspace)
		return riffle_fail(error, RIFFLE_ERR_ARGUMENT, "workspace", "is missing");
	if ((uintptr_t)workspace % ALIGN)
		return riffle_fail_expected(error, RIFFLE_ERR_ARGUMENT, "workspace",
					    "is not aligned (remainder of its address)", (uintptr_t)workspace % ALIGN,
					    0);
	if (workspace_bytes < riffle_load_workspace(plan))
		return riffle_fail_expected(error, RIFFLE_ERR_ARGUMENT, "workspace", "is too small", workspace_bytes,
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

	if (options & ~(RIFFLE_LOAD_CLEAR | RIFFLE_LOAD_LAZY_TABLES))
		return riffle_fail_found(error, RIFFLE_ERR_ARGUMENT, "options", "hold an unknown bit", options);
	if (layout->mode < RIFFLE_MODE_FGKASLR)
		return riffle_load(loaded, plan, payload, layout, memory, options & RIFFLE_LOAD_CLEAR, workers, error);
	status = check_request(plan, layout, workspace, workspace_bytes, error);
	if (!status && workers)
		status = RIFFLE_CHECK_ZERO(workers->reserved_zero, "workers", error);
	if (!status)
		status = riffle_load_begin(&s.load, plan, payload, layout, memory, options, error);
	if (!status)
		status = riffle_layout_check_order(layout, plan, error);
	if (status)
		return status;
	divide(&s, plan, workspace);
	s.scratch_taken = 0;
	s.load.order = layout->order;
	s.load.shift = s.shift;
	riffle_plan_areas_of(&s.load.areas, plan, options & RIFFLE_LOAD_LAZY_TABLES);
	riffle_shuffle_places(&s);
	start_groups(&s);

	jobs.tables = 1 + plan->table_count;
	jobs.groups = plan->group_count;
	jobs.blocks = riffle_load_blocks(&s.load);
	if (workers)
		workers->run(workers->opaque, shuffled_job, &jobs, jobs.tables + jobs.groups + jobs.blocks);
	else
		for (uint32_t i = 0; i < jobs.tables + jobs.groups + jobs.blocks; i++)
			shuffled_job(&jobs, i);
	status = riffle_load_end(loaded, &s.load, layout);
	if (!status)
		loaded->relocations += (uint64_t)plan->pc_target_count + plan->own_step_count + plan->abs32_ref_count +
				       plan->abs64_ref_count + plan->fixed32_count + plan->fixed64_count;
	return status;
}
