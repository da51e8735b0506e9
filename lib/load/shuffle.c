/* SPDX-License-Identifier: Apache-2.0 */
/* Loads a kernel with its functions permuted: chunks are patched in source order, then copied to their places.
 */
#include "load/shuffle.h"
#include "load/slides.h"

#define ALIGN 64u
#define SHIFT_UNSET INT32_MIN /* an image is shorter than 1 GiB */

static size_t aligned(size_t bytes)
{
	return (bytes + ALIGN - 1) & ~(size_t)(ALIGN - 1);
}

static const struct riffle_region *largest_region(const struct riffle_plan *plan)
{
	const struct riffle_region *largest = plan->regions;

	for (uint32_t i = 1; i < plan->region_count; i++)
		if (plan->regions[i].bytes > largest->bytes)
			largest = &plan->regions[i];
	return largest;
}

/*
 * Tables are staged where chunks are written later: returns how many fit there. If none does, the workspace has room
 * for one.
 */
static unsigned stages_in_image(const struct riffle_plan *plan)
{
	uint64_t bytes = riffle_shuffle_stage_bytes(plan), fit = 0;
	uint32_t region = largest_region(plan)->bytes;

	if (region > ALIGN)
		fit = (region - ALIGN) / bytes;
	return fit < SCRATCHES ? (unsigned)fit : SCRATCHES;
}

/* Divides the workspace, or without one only returns its size. Parts that only some loads use come last. */
static size_t divide(struct shuffle_load *s, const struct riffle_plan *plan, uint8_t *workspace)
{
	size_t batch = aligned(BATCH_BYTES) + aligned(MAP_BYTES);
	size_t numbers = aligned(((size_t)plan->chunk_count + plan->region_count) * sizeof(uint32_t));
	size_t scratch = batch > numbers ? batch : numbers;
	unsigned stages = stages_in_image(plan);
	size_t bytes[] = {
	    aligned((plan->chunk_count + 1) * sizeof *s->shift),
	    aligned(plan->group_count * sizeof *s->group),
	    aligned((plan->group_count + 1) * sizeof *s->batch),
	    stages ? 0 : riffle_shuffle_stage_bytes(plan),
	    SCRATCHES * scratch,
	};
	size_t at[6] = {0};

	for (unsigned i = 0; i < 5; i++)
		at[i + 1] = at[i] + bytes[i];
	if (workspace) {
		s->shift = (void *)(workspace + at[0]);
		s->group = (void *)(workspace + at[1]);
		s->batch = (void *)(workspace + at[2]);
		s->scratch = workspace + at[4];
		s->scratch_bytes = scratch;
		s->stage_bytes = riffle_shuffle_stage_bytes(plan);
		s->stage = stages ? s->load.image + aligned(largest_region(plan)->image_offset) : workspace + at[3];
		s->stages = stages ? stages : 1;
	}
	return at[5];
}

size_t riffle_load_workspace(const struct riffle_plan *plan)
{
	return plan->chunk_count ? divide(NULL, plan, NULL) : 0;
}

uint8_t *riffle_shuffle_scratch(struct shuffle_load *s, unsigned count, unsigned *number)
{
	for (;;) {
		uint32_t taken = __atomic_load_n(&s->scratch_taken, __ATOMIC_RELAXED);
		unsigned i = (unsigned)__builtin_ctz(~taken);

		if (i >= count) {
			/* more workers than buffers: one will be released soon */
			__builtin_ia32_pause();
			continue;
		}
		if (__atomic_compare_exchange_n(&s->scratch_taken, &taken, taken | 1u << i, false, __ATOMIC_ACQUIRE,
						__ATOMIC_RELAXED)) {
			__atomic_fetch_or(&s->scratch_used, 1u << i, __ATOMIC_RELAXED);
			*number = i;
			return s->scratch + i * s->scratch_bytes;
		}
	}
}

void riffle_shuffle_scratch_back(struct shuffle_load *s, unsigned number)
{
	__atomic_fetch_and(&s->scratch_taken, ~(1u << number), __ATOMIC_RELEASE);
}

/*
 * Computes from the order how far each chunk moves. An order that is not a permutation of each region's chunks is
 * refused.
 */
static int find_shifts(struct shuffle_load *s, struct riffle_error *error)
{
	const struct riffle_plan *plan = s->load.plan;
	int32_t *shift = s->shift;

	for (uint32_t i = 0; i < plan->chunk_count; i++)
		shift[i] = SHIFT_UNSET;
	shift[plan->chunk_count] = 0; /* for what does not move; riffle_plan_check() has refused higher numbers */
	for (uint32_t i = 0; i < plan->region_count; i++) {
		const struct riffle_region *r = &plan->regions[i];
		const uint16_t *order = s->load.order + r->first_chunk;
		uint32_t at = r->image_offset;

		for (uint32_t n = 0; n < r->chunk_count; n++) {
			uint32_t chunk = order[n];

			if (chunk - r->first_chunk >= r->chunk_count || shift[chunk] != SHIFT_UNSET)
				return riffle_fail_found(error, RIFFLE_ERR_FORMAT, "order",
							 "is not a permutation of a region's chunks (place)",
							 r->first_chunk + n);
			if (n + 16 < r->chunk_count)
				__builtin_prefetch(&plan->chunks[order[n + 16]]);
			shift[chunk] = (int32_t)(at - plan->chunks[chunk].image_offset);
			at += riffle_chunk_bytes(&plan->chunks[chunk]);
		}
	}
	return RIFFLE_OK;
}

/* Determines where each group starts in the plan's lists, and which groups are read together. */
static void start_groups(struct shuffle_load *s)
{
	const struct riffle_plan *plan = s->load.plan;
	struct group_start at = {0};
	uint64_t start = 0, end = 0;

	s->batch_count = 0;
	for (uint32_t i = 0; i < plan->group_count; i++) {
		const struct riffle_group *g = &plan->groups[i];
		const struct riffle_chunk *first = &plan->chunks[at.chunk], *last = first + g->chunk_count - 1;
		uint64_t group_end = (uint64_t)last->image_offset + riffle_chunk_bytes(last);

		if (!i || first->image_offset != end || group_end - start > BATCH_BYTES) {
			s->batch[s->batch_count++] = i;
			start = first->image_offset;
		}
		end = group_end;
		s->group[i] = at;
		at.chunk += g->chunk_count;
		at.pc_step += g->pc_steps;
		at.pc_target += g->pc_targets;
		at.own_step += g->own_steps;
		at.abs32_ref += g->abs32_refs;
		at.abs64_ref += g->abs64_refs;
	}
	s->batch[s->batch_count] = plan->group_count;
}

/* A group in scratch memory: its bytes, and for each 16 of them how far their chunk moves. */
struct patch {
	uint8_t *bytes;
	uint32_t length; /* at most RIFFLE_GROUP_BYTES_MAX */
	uint32_t *own;
};

/*
 * Sixteen words at a time, which is enough for most chunks: the excess is overwritten by the next chunk, or lies in the
 * padding.
 */
static void map_shifts(const struct shuffle_load *s, const struct patch *p, uint32_t first, uint32_t count)
{
	const struct riffle_chunk *chunk = &s->load.plan->chunks[first];
	uint32_t *own = p->own;

	for (uint32_t i = 0; i < count; i++) {
		uint32_t shift = (uint32_t)s->shift[first + i];
		uint32_t *end = own + chunk[i].units;

		do {
			for (unsigned k = 0; k < 16; k++)
				own[k] = shift;
			own += 16;
		} while (own < end);
		own = end;
	}
}

/*
 * Fixes up the PC-relative fields given by a list of steps: subtracts the shift of the field's own chunk and adds that
 * of its target, if there are targets. False if a field does not lie in the group.
 */
HOT bool patch_steps(const struct patch *p, const uint8_t *step, uint32_t steps, const uint16_t *target,
		     const int32_t *shift)
{
	uint32_t at = 0;

	for (uint32_t i = 0; i < steps; i++) {
		uint8_t *field;

		at += step[i];
		if (step[i] == RIFFLE_STEP_FAR)
			continue;
		if (at + 4 > p->length)
			return false;
		field = p->bytes + at;
		riffle_put32(field, riffle_get32(field) + (target ? (uint32_t)shift[*target++] : 0) - p->own[at / 16]);
	}
	return true;
}

/* Patches a group's references in place; false if one has a field outside the group. */
static bool patch_refs(const struct shuffle_load *s, const struct patch *p, const struct riffle_group *g,
		       const struct group_start *at)
{
	const struct riffle_plan *plan = s->load.plan;
	const struct riffle_ref *ref;
	const int32_t *shift = s->shift;

	if (!patch_steps(p, plan->pc_steps + at->pc_step, g->pc_steps, plan->pc_targets + at->pc_target, shift) ||
	    !patch_steps(p, plan->own_steps + at->own_step, g->own_steps, NULL, NULL))
		return false;
	ref = plan->abs32_refs + at->abs32_ref;
	for (uint32_t i = 0; i < g->abs32_refs; i++) {
		uint8_t *field = p->bytes + ref[i].field;

		if (ref[i].field + 4u > p->length)
			return false;
		riffle_put32(field, riffle_get32(field) + (uint32_t)shift[ref[i].target]);
	}
	ref = plan->abs64_refs + at->abs64_ref;
	for (uint32_t i = 0; i < g->abs64_refs; i++) {
		uint8_t *field = p->bytes + ref[i].field;

		if (ref[i].field + 8u > p->length)
			return false;
		riffle_put64(field, riffle_get64(field) + (uint64_t)(int64_t)shift[ref[i].target]);
	}
	return true;
}

static int patch_group(const struct shuffle_load *s, uint32_t index, uint8_t *bytes, uint32_t *own,
		       struct riffle_error *error)
{
	const struct riffle_plan *plan = s->load.plan;
	const struct riffle_group *g = &plan->groups[index];
	const struct group_start *at = &s->group[index];
	const struct riffle_chunk *first = &plan->chunks[at->chunk], *last = first + g->chunk_count - 1;
	const struct patch patch = {bytes, last->image_offset + riffle_chunk_bytes(last) - first->image_offset, own};

	map_shifts(s, &patch, at->chunk, g->chunk_count);
	if (!patch_refs(s, &patch, g, at))
		return riffle_fail_found(error, RIFFLE_ERR_FORMAT, "references", "have a field outside its group",
					 index);
	return RIFFLE_OK;
}

/* Adjacent groups: read together, patched one by one, and scattered. */
static int shuffle_batch(struct shuffle_load *s, uint32_t index, uint8_t *scratch, uint64_t *patch_ticks,
			 struct riffle_error *error)
{
	const struct riffle_plan *plan = s->load.plan;
	uint32_t group = s->batch[index], end_group = s->batch[index + 1];
	uint32_t first = s->group[group].chunk;
	uint32_t end = s->group[end_group - 1].chunk + plan->groups[end_group - 1].chunk_count;
	uint32_t start = plan->chunks[first].image_offset;
	uint32_t bytes = plan->chunks[end - 1].image_offset + riffle_chunk_bytes(&plan->chunks[end - 1]) - start;
	uint32_t *own = (uint32_t *)(void *)(scratch + aligned(BATCH_BYTES));
	uint64_t before;
	int status = load_read(&s->load, start, scratch, bytes, error);

	if (status)
		return status;
	before = __builtin_ia32_rdtsc();
	riffle_load_relocate(&s->load, scratch, start, start + bytes);
	for (; group < end_group; group++) {
		uint8_t *at = scratch + (plan->chunks[s->group[group].chunk].image_offset - start);

		status = patch_group(s, group, at, own, error);
		if (status)
			return status;
	}
	*patch_ticks = __builtin_ia32_rdtsc() - before;
	riffle_shuffle_scatter(s, first, end - first, scratch);
	return RIFFLE_OK;
}

/*
 * All jobs in one round: tables, then everything that is simply copied, then chunks, which overwrite where tables were
 * staged. A round for each would have its threads wait for the slowest of them twice.
 */
struct shuffle_jobs {
	struct shuffle_load *s;
	uint32_t tables, blocks, batches;
	uint32_t taken, tables_done; /* atomic */
};

static void run_with_scratch(struct shuffle_jobs *jobs, uint32_t index)
{
	struct shuffle_load *s = jobs->s;
	uint64_t before = __builtin_ia32_rdtsc(), patch_ticks = 0;
	struct riffle_error error;
	unsigned number;
	uint8_t *scratch = riffle_shuffle_scratch(s, index < jobs->tables ? s->stages : SCRATCHES, &number);
	int status;

	if (index < jobs->tables)
		status = riffle_shuffle_table_job(s, index, scratch, s->stage + number * s->stage_bytes, &error);
	else
		status = shuffle_batch(s, index - jobs->tables - jobs->blocks, scratch, &patch_ticks, &error);
	riffle_shuffle_scratch_back(s, number);
	__atomic_fetch_add(&s->load.load_ticks, __builtin_ia32_rdtsc() - before, __ATOMIC_RELAXED);
	__atomic_fetch_add(&s->load.relocate_ticks, patch_ticks, __ATOMIC_RELAXED);
	if (status)
		riffle_load_fail(&s->load, status, &error);
}

/* Before a batch. Each table's job was taken before, by this or another thread, and waits for nobody. */
static void wait_for_tables(const struct shuffle_jobs *jobs)
{
	while (__atomic_load_n(&jobs->tables_done, __ATOMIC_ACQUIRE) < jobs->tables)
		__builtin_ia32_pause();
}

/* Jobs are taken in their own order, in whatever order workers run them; the long ones first. */
static void shuffled_job(void *argument, unsigned any)
{
	struct shuffle_jobs *jobs = argument;
	uint32_t index = __atomic_fetch_add(&jobs->taken, 1, __ATOMIC_RELAXED);
	bool failed = __atomic_load_n(&jobs->s->load.failed, __ATOMIC_RELAXED);

	(void)any;
	if (index < jobs->tables) {
		if (!failed)
			run_with_scratch(jobs, index);
		__atomic_fetch_add(&jobs->tables_done, 1, __ATOMIC_RELEASE);
	} else if (failed) {
		return;
	} else if (index < jobs->tables + jobs->blocks) {
		riffle_load_block_job(&jobs->s->load, index - jobs->tables);
	} else {
		wait_for_tables(jobs);
		run_with_scratch(jobs, index);
	}
}

static void run_jobs(struct shuffle_jobs *jobs, const struct riffle_workers *workers)
{
	uint32_t count = jobs->tables + jobs->blocks + jobs->batches;

	if (workers)
		workers->run(workers->opaque, shuffled_job, jobs, count);
	else
		for (uint32_t i = 0; i < count; i++)
			shuffled_job(jobs, i);
}

static int check_request(const struct riffle_plan *plan, const struct riffle_layout *layout, const void *workspace,
			 size_t workspace_bytes, struct riffle_error *error)
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

/*
 * The kernel creates /proc/kallsyms with a mode by which users cannot read the order of functions in it. When
 * everything has been loaded: what other parts of the plan make of these bytes shows then.
 */
static int close_kallsyms(const struct load *load, struct riffle_error *error)
{
	const struct riffle_header *h = load->plan->header;
	uint8_t *field;

	if (!(h->features & RIFFLE_FEATURE_KALLSYMS_MODE))
		return RIFFLE_OK;
	field = load_place(load, h->kallsyms_mode);
	if (riffle_get32(field) != RIFFLE_KALLSYMS_MODE_OPEN)
		return riffle_fail_expected(error, RIFFLE_ERR_FORMAT, "kallsyms_mode",
					    "leads to what is not the file's mode", riffle_get32(field),
					    RIFFLE_KALLSYMS_MODE_OPEN);
	riffle_put32(field, RIFFLE_KALLSYMS_MODE_CLOSED);
	return RIFFLE_OK;
}

int riffle_load_shuffled(struct riffle_loaded *loaded, const struct riffle_plan *plan,
			 const struct riffle_source *payload, const struct riffle_layout *layout,
			 const struct riffle_memory *memory, unsigned options, const struct riffle_workers *workers,
			 void *workspace, size_t workspace_bytes, struct riffle_error *error)
{
	struct shuffle_load s;
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
	if (status)
		return status;
	divide(&s, plan, workspace);
	s.scratch_taken = s.scratch_used = 0;
	s.load.order = layout->order;
	s.load.shift = s.shift;
	status = find_shifts(&s, error);
	if (status)
		return status;
	riffle_plan_areas_of(&s.load.areas, plan,
			     PLAN_AREAS_LOAD | (options & RIFFLE_LOAD_LAZY_TABLES ? PLAN_AREAS_LAZY : 0));
	riffle_shuffle_take_tails(&s);
	start_groups(&s);

	run_jobs(
	    &(struct shuffle_jobs){
		.s = &s, .tables = SHUFFLE_TABLE_JOBS, .blocks = riffle_load_blocks(&s.load), .batches = s.batch_count},
	    workers);
	status = riffle_load_end(loaded, &s.load, layout);
	if (!status)
		status = close_kallsyms(&s.load, error);
	if (!status)
		loaded->workspace_used = (size_t)(s.scratch - (uint8_t *)workspace) +
					 (32 - (unsigned)__builtin_clz(s.scratch_used | 1)) * s.scratch_bytes;
	if (!status)
		loaded->relocations += (uint64_t)plan->pc_target_count + plan->own_step_count + plan->abs32_ref_count +
				       plan->abs64_ref_count + plan->fixed32_count + plan->fixed64_count;
	return status;
}
