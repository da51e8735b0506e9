/* SPDX-License-Identifier: Apache-2.0 */
/* Checks the part of a plan that permutes functions: chunks, references, sorted tables, kallsyms. */
#include "plan/areas.h"
#include "plan/check.h"

#include "common/bytes.h"
#include "common/fail.h"
#include "common/search.h"
#include "plan/scan.h"

/* counts of sections that must agree with others' */
struct counts {
	uint32_t fixed32_targets, fixed64_targets, gaps, site_targets, extable_targets;
};

/* The sums of the chunks' entries in the sorted tables: fewer than 65535 16-bit numbers each, so 32 bits hold a sum. */
struct sums {
	uint32_t orc, mcount, exceptions, symbols, name_bytes;
};

static inline __attribute__((always_inline)) void add_counts(struct sums *sums, const struct riffle_chunk *c)
{
	sums->orc += c->orc;
	sums->mcount += c->mcount;
	sums->exceptions += c->exceptions;
	sums->symbols += c->symbols;
	sums->name_bytes += c->name_bytes;
}

static int take_sections(struct riffle_plan *plan, const uint8_t *bytes, struct counts *counts,
			 struct riffle_error *error)
{
	uint32_t kallsyms_count = 0;
	const void *kallsyms = NULL;
	const struct plan_place places[] = {
#define PLACE(kind, member, counter) PLAN_PLACE(plan, kind, member, counter)
	    PLACE(REGIONS, regions, &plan->region_count),
	    PLACE(CHUNKS, chunks, &plan->chunk_count),
	    PLACE(GROUPS, groups, &plan->group_count),
	    PLACE(PC_STEPS, pc_steps, &plan->pc_step_count),
	    PLACE(PC_TARGETS, pc_targets, &plan->pc_target_count),
	    PLACE(OWN_STEPS, own_steps, &plan->own_step_count),
	    PLACE(ABS32_REFS, abs32_refs, &plan->abs32_ref_count),
	    PLACE(ABS64_REFS, abs64_refs, &plan->abs64_ref_count),
	    PLACE(FIXED32, fixed32, &plan->fixed32_count),
	    PLACE(FIXED32_TARGETS, fixed32_targets, &counts->fixed32_targets),
	    PLACE(FIXED64, fixed64, &plan->fixed64_count),
	    PLACE(FIXED64_TARGETS, fixed64_targets, &counts->fixed64_targets),
	    PLACE(TABLES, tables, &plan->table_count),
	    PLACE(GAPS, gaps, &counts->gaps),
	    PLACE(SITE_TARGETS, site_targets, &counts->site_targets),
	    PLACE(EXTABLE_TARGETS, extable_targets, &counts->extable_targets),
#undef PLACE
	    {RIFFLE_SECTION_KALLSYMS, "kallsyms", sizeof *plan->kallsyms, &kallsyms, &kallsyms_count},
	};

	int status = riffle_plan_take_sections(plan, bytes, places, sizeof places / sizeof *places, error);

	if (status)
		return status;
	if (kallsyms_count > 1)
		return riffle_fail_found(error, RIFFLE_ERR_FORMAT, "kallsyms", "is there more than once",
					 kallsyms_count);
	plan->kallsyms = kallsyms_count ? kallsyms : NULL;
	return RIFFLE_OK;
}

static int check_chunks(const struct riffle_plan *plan, struct sums *sums, struct riffle_error *error)
{
	uint64_t end = 0;
	uint32_t next = 0;

	if (!plan->chunk_count || plan->chunk_count >= RIFFLE_CHUNKS_MAX)
		return riffle_fail_expected(error, RIFFLE_ERR_FORMAT, "chunks", "are none or too many",
					    plan->chunk_count, RIFFLE_CHUNKS_MAX);
	if (plan->region_count > PLAN_REGIONS_MAX)
		return riffle_fail_expected(error, RIFFLE_ERR_FORMAT, "regions", "are too many", plan->region_count,
					    PLAN_REGIONS_MAX);
	for (uint32_t i = 0; i < plan->region_count; i++) {
		const struct riffle_region *r = &plan->regions[i];
		uint64_t at = r->image_offset;

		if (at % RIFFLE_CHUNK_ALIGN || at < end || r->first_chunk != next || !r->chunk_count ||
		    r->chunk_count > plan->chunk_count - next)
			return riffle_fail_found(error, RIFFLE_ERR_FORMAT, "region",
						 "overlaps, is unaligned, or has other chunks than its own", i);
		for (; next < r->first_chunk + r->chunk_count; next++) {
			const struct riffle_chunk *c = &plan->chunks[next];

			if (c->image_offset != at || c->units - 1u >= RIFFLE_CHUNK_BYTES_MAX / RIFFLE_CHUNK_ALIGN)
				return riffle_fail_found(error, RIFFLE_ERR_FORMAT, "chunk",
							 "leaves a gap, overlaps, or has a wrong size", next);
			at += riffle_chunk_bytes(c);
			add_counts(sums, c);
		}
		if (at != (uint64_t)r->image_offset + r->bytes)
			return riffle_fail_found(error, RIFFLE_ERR_FORMAT, "region", "is not filled by its chunks", i);
		end = at;
	}
	if (next != plan->chunk_count)
		return riffle_fail_expected(error, RIFFLE_ERR_FORMAT, "chunks", "lie in no region", plan->chunk_count,
					    next);
	return RIFFLE_OK;
}

/* A reader that does not know that the entry can move would enter the kernel at the wrong address. */
static int check_entry(const struct riffle_plan *plan, struct riffle_error *error)
{
	bool moves = riffle_plan_chunk_at(plan, plan->header->entry_offset) != plan->chunk_count;

	if (moves != !!(plan->header->features & RIFFLE_FEATURE_ENTRY_MOVES))
		return riffle_fail_found(error, RIFFLE_ERR_FORMAT, "entry_offset",
					 moves ? "lies in a chunk, and the features do not say so"
					       : "lies in no chunk, and the features say so",
					 plan->header->entry_offset);
	return RIFFLE_OK;
}

static int check_paged(const struct riffle_plan *plan, struct riffle_error *error)
{
	uint32_t chunk = plan->header->paged_chunk;

	if (!(plan->header->features & RIFFLE_FEATURE_PAGED))
		return chunk ? riffle_fail_found(error, RIFFLE_ERR_FORMAT, "paged_chunk",
						 "is given without its feature", chunk)
			     : RIFFLE_OK;
	if (chunk >= plan->chunk_count || plan->chunks[chunk].image_offset % RIFFLE_PAGE_BYTES)
		return riffle_fail_found(error, RIFFLE_ERR_FORMAT, "paged_chunk",
					 "is no chunk, or one that starts at no page", chunk);
	return RIFFLE_OK;
}

/*
 * Each group lies within one region and within reach of its fields' offsets; all chunks and references are in a group.
 */
static int check_groups(const struct riffle_plan *plan, struct riffle_error *error)
{
	uint64_t steps = 0, targets = 0, own = 0, abs32 = 0, abs64 = 0;
	uint32_t next = 0, region = 0;

	for (uint32_t i = 0; i < plan->group_count; i++) {
		const struct riffle_group *g = &plan->groups[i];
		const struct riffle_region *r;
		uint32_t start;
		uint64_t bytes;

		while (region < plan->region_count &&
		       next >= plan->regions[region].first_chunk + plan->regions[region].chunk_count)
			region++;
		if (region == plan->region_count)
			return riffle_fail_found(error, RIFFLE_ERR_FORMAT, "group", "has chunks that are not there", i);
		r = &plan->regions[region];
		if (!g->chunk_count || g->chunk_count > r->first_chunk + r->chunk_count - next)
			return riffle_fail_found(error, RIFFLE_ERR_FORMAT, "group",
						 "is empty or extends past its region", i);
		start = plan->chunks[next].image_offset;
		next += g->chunk_count;
		bytes = plan->chunks[next - 1].image_offset + riffle_chunk_bytes(&plan->chunks[next - 1]) - start;
		if (bytes > RIFFLE_GROUP_BYTES_MAX)
			return riffle_fail_expected(error, RIFFLE_ERR_FORMAT, "group", "is too long", bytes,
						    RIFFLE_GROUP_BYTES_MAX);
		/* also for the last group: its counts are used without further checks */
		if (g->pc_steps > plan->pc_step_count - steps)
			return riffle_fail_expected(error, RIFFLE_ERR_FORMAT, "pc_steps", "are more than there are",
						    g->pc_steps, plan->pc_step_count - steps);
		/* those that are not far name a field */
		if (g->pc_steps - riffle_scan_far(plan->pc_steps + steps, g->pc_steps) != g->pc_targets)
			return riffle_fail_found(error, RIFFLE_ERR_FORMAT, "pc_targets",
						 "are not as many as a group's fields", i);
		steps += g->pc_steps;
		targets += g->pc_targets;
		own += g->own_steps;
		abs32 += g->abs32_refs;
		abs64 += g->abs64_refs;
	}
	if (next != plan->chunk_count)
		return riffle_fail_expected(error, RIFFLE_ERR_FORMAT, "groups", "do not hold all chunks", next,
					    plan->chunk_count);
	if (steps != plan->pc_step_count || targets != plan->pc_target_count || own != plan->own_step_count ||
	    abs32 != plan->abs32_ref_count || abs64 != plan->abs64_ref_count)
		return riffle_fail(error, RIFFLE_ERR_FORMAT, "groups", "do not use all references");
	return RIFFLE_OK;
}

/* Chunk numbers up to and including the one that means "does not move". */
static int check_targets(const uint16_t *targets, uint32_t count, uint32_t stride, uint32_t chunk_count,
			 const char *name, struct riffle_error *error)
{
	uint16_t most = 0;

	if (stride == 1)
		most = riffle_scan_most(targets, count);
	else
		for (uint32_t i = 0; i < count; i++) {
			uint16_t target = targets[i * stride];

			most = target > most ? target : most;
		}
	if (most > chunk_count)
		return riffle_fail_expected(error, RIFFLE_ERR_FORMAT, name, "name a chunk that is not there", most,
					    chunk_count);
	return RIFFLE_OK;
}

/* Checks that a sorted table's gaps and the chunks' entries add up to the table's number of entries. */
static int check_gaps(const struct riffle_plan *plan, const struct counts *counts, uint32_t first, uint32_t *next_gap,
		      uint64_t chunks, uint64_t entries, const char *name, struct riffle_error *error)
{
	uint64_t sum = chunks;

	if (first != *next_gap || plan_gap_count(plan) > counts->gaps - *next_gap)
		return riffle_fail_found(error, RIFFLE_ERR_FORMAT, name, "has gaps that are not its own", first);
	for (uint32_t i = 0; i < plan_gap_count(plan); i++)
		sum += plan->gaps[first + i];
	if (sum != entries)
		return riffle_fail_expected(error, RIFFLE_ERR_FORMAT, name,
					    "has gaps and chunks' entries that do not add up to all entries", sum,
					    entries);
	*next_gap += plan_gap_count(plan);
	return RIFFLE_OK;
}

/* Known kinds, whole inside the image; entries that add up. */
static int check_tables(const struct riffle_plan *plan, const struct counts *counts, const struct sums *sums,
			uint32_t *next_gap, struct riffle_error *error)
{
	const uint64_t of_chunks[] = {[RIFFLE_TABLE_EXTABLE] = sums->exceptions,
				      [RIFFLE_TABLE_ORC] = sums->orc,
				      [RIFFLE_TABLE_MCOUNT] = sums->mcount};
	bool seen[RIFFLE_TABLE_SITES] = {false};
	uint64_t exceptions = 0, sites = 0;

	if (plan->table_count > PLAN_TABLES_MAX)
		return riffle_fail_expected(error, RIFFLE_ERR_FORMAT, "tables", "are too many", plan->table_count,
					    PLAN_TABLES_MAX);
	for (uint32_t i = 0; i < plan->table_count; i++) {
		const struct riffle_table *t = &plan->tables[i];
		int status;

		if (t->kind < RIFFLE_TABLE_EXTABLE || t->kind > RIFFLE_TABLE_SITES || t->reserved)
			return riffle_fail_found(error, RIFFLE_ERR_FORMAT, "table kind", "is not known", t->kind);
		if (!riffle_inside(t->image_offset, (uint64_t)t->entries * plan_table_entry_bytes(t->kind),
				   plan->header->image_bytes) ||
		    (t->kind == RIFFLE_TABLE_ORC &&
		     !riffle_inside(t->second_offset, (uint64_t)t->entries * PLAN_ORC_STATE_BYTES,
				    plan->header->image_bytes)))
			return riffle_fail_found(error, RIFFLE_ERR_FORMAT, "table entries", "lead outside the image",
						 t->entries);
		if (t->kind == RIFFLE_TABLE_SITES) {
			if (t->first != sites || t->entries > counts->site_targets - sites)
				return riffle_fail_found(error, RIFFLE_ERR_FORMAT, "site_targets",
							 "are not as many as the sites", i);
			sites += t->entries;
			continue;
		}
		if (seen[t->kind])
			return riffle_fail_found(error, RIFFLE_ERR_FORMAT, "table kind", "is there twice", t->kind);
		seen[t->kind] = true;
		status = check_gaps(plan, counts, t->first, next_gap, of_chunks[t->kind], t->entries, "table", error);
		if (status)
			return status;
		if (t->kind == RIFFLE_TABLE_EXTABLE)
			exceptions = t->entries;
	}
	for (unsigned kind = RIFFLE_TABLE_EXTABLE; kind < RIFFLE_TABLE_SITES; kind++)
		if (!seen[kind] && of_chunks[kind])
			return riffle_fail_found(error, RIFFLE_ERR_FORMAT, "chunks",
						 "have entries of a table that is not there", kind);
	if (sites != counts->site_targets || 2 * exceptions != counts->extable_targets)
		return riffle_fail(error, RIFFLE_ERR_FORMAT, "tables",
				   "do not use all site_targets and extable_targets");
	return RIFFLE_OK;
}

static int check_kallsyms(const struct riffle_plan *plan, const struct counts *counts, const struct sums *sums,
			  uint32_t *next_gap, struct riffle_error *error)
{
	const struct riffle_kallsyms *k = plan->kallsyms;
	uint64_t image = plan->header->image_bytes;
	int status;

	if (!k) {
		if (sums->symbols || sums->name_bytes)
			return riffle_fail(error, RIFFLE_ERR_FORMAT, "kallsyms",
					   "is missing, chunks' symbols are there");
		return RIFFLE_OK;
	}
	if (k->flags & ~(RIFFLE_KALLSYMS_SELF_RELATIVE | RIFFLE_KALLSYMS_ABSOLUTE_PERCPU))
		return riffle_fail_found(error, RIFFLE_ERR_FORMAT, "kallsyms flags", "hold unknown bits", k->flags);
	if (!riffle_inside(k->offsets, (uint64_t)k->symbols * 4, image) ||
	    !riffle_inside(k->names, k->names_bytes, image) ||
	    !riffle_inside(k->markers, ((uint64_t)k->symbols + 255) / 256 * 4, image) ||
	    (k->seqs && !riffle_inside(k->seqs, (uint64_t)k->symbols * 3, image)))
		return riffle_fail_found(error, RIFFLE_ERR_FORMAT, "kallsyms", "leads outside the image", k->symbols);
	status = check_gaps(plan, counts, k->first_gap, next_gap, sums->symbols, k->symbols, "kallsyms", error);
	if (!status)
		status = check_gaps(plan, counts, *next_gap, next_gap, sums->name_bytes, k->names_bytes,
				    "kallsyms names", error);
	return status;
}

static bool is_between(const uint32_t *list, uint32_t count, const struct plan_area *area)
{
	uint32_t i = riffle_first_at_least(list, count, area->start);

	return i < count && list[i] < area->end;
}

/* Tables except MCOUNT hold no relocated fields: a shuffled load would skip those. */
static bool has_relocs(const struct riffle_plan *plan, const struct plan_area *area)
{
	for (uint32_t i = 0; i < plan->region_count; i++)
		if (plan->regions[i].image_offset == area->start)
			return false;
	for (uint32_t i = 0; i < plan->table_count; i++)
		if (plan->tables[i].kind == RIFFLE_TABLE_MCOUNT && plan->tables[i].image_offset == area->start)
			return is_between(plan->reloc32, plan->reloc32_count, area) ||
			       is_between(plan->reloc32_inverse, plan->reloc32_inverse_count, area);
	return is_between(plan->reloc64, plan->reloc64_count, area) ||
	       is_between(plan->reloc32, plan->reloc32_count, area) ||
	       is_between(plan->reloc32_inverse, plan->reloc32_inverse_count, area);
}

/* Areas are disjoint, each inside one extent, and no field is partly in one; fixed references are in none. */
static int check_areas(const struct riffle_plan *plan, struct riffle_error *error)
{
	struct plan_areas areas;
	uint32_t extent = 0, end = 0;

	riffle_plan_areas_of(&areas, plan, PLAN_AREAS_ALL);
	for (unsigned i = 0; i < areas.count; i++) {
		const struct plan_area *a = &areas.area[i];

		if (a->start < end || a->end < a->start)
			return riffle_fail_found(error, RIFFLE_ERR_FORMAT, "area", "overlaps another (image offset)",
						 a->start);
		end = a->end;
		if (a->start == a->end)
			continue;
		while (extent < plan->extent_count &&
		       (uint64_t)plan->extents[extent].image_offset + plan->extents[extent].bytes <= a->start)
			extent++;
		if (extent == plan->extent_count || a->start < plan->extents[extent].image_offset ||
		    a->end - plan->extents[extent].image_offset > plan->extents[extent].bytes)
			return riffle_fail_found(error, RIFFLE_ERR_FORMAT, "area",
						 "does not lie in one extent (image offset)", a->start);
		for (unsigned k = 0; k < 2; k++) {
			uint32_t edge = k ? a->end : a->start;

			if (riffle_plan_has_field(plan, edge, edge))
				return riffle_fail_found(error, RIFFLE_ERR_FORMAT, "area",
							 "has a field across its edge (image offset)", edge);
		}
		if (is_between(plan->fixed32, plan->fixed32_count, a) ||
		    is_between(plan->fixed64, plan->fixed64_count, a))
			return riffle_fail_found(error, RIFFLE_ERR_FORMAT, "area",
						 "has a fixed reference in it (image offset)", a->start);
		if (has_relocs(plan, a))
			return riffle_fail_found(error, RIFFLE_ERR_FORMAT, "area",
						 "of a table has a relocation in it (image offset)", a->start);
	}
	return RIFFLE_OK;
}

int riffle_plan_check_shuffle(struct riffle_plan *plan, const uint8_t *bytes, struct riffle_error *error)
{
	struct counts counts = {0};
	struct sums sums = {0};
	uint32_t next_gap = 0;
	int status;

	if (!(plan->header->features & RIFFLE_FEATURE_SHUFFLE)) {
		for (unsigned i = RIFFLE_SECTION_REGIONS; i < RIFFLE_SECTION_SLOTS; i++)
			if (plan->header->section[i].count)
				return riffle_fail_found(error, RIFFLE_ERR_FORMAT, "features",
							 "deny a section that is there", i);
		if (plan->header->base_bytes != plan->header->plan_bytes)
			return riffle_fail_expected(error, RIFFLE_ERR_FORMAT, "base_bytes",
						    "is not all of a plan without chunks", plan->header->base_bytes,
						    plan->header->plan_bytes);
		return RIFFLE_OK;
	}
	if (riffle_scan_checksum(bytes + plan->header->base_bytes,
				 plan->header->plan_bytes - plan->header->base_bytes) != plan->header->shuffle_checksum)
		return riffle_fail(error, RIFFLE_ERR_CHECKSUM, "shuffle_checksum",
				   "differs from the bytes of the plan's part for shuffling");
	if (!(plan->header->flags & RIFFLE_KERNEL_RELOCATABLE))
		return riffle_fail(error, RIFFLE_ERR_FORMAT, "features",
				   "promise chunks for a kernel without relocations");
	if ((status = take_sections(plan, bytes, &counts, error)) || (status = check_chunks(plan, &sums, error)) ||
	    (status = check_entry(plan, error)) || (status = check_paged(plan, error)) ||
	    (status = check_groups(plan, error)))
		return status;
	if (counts.fixed32_targets != plan->fixed32_count || counts.fixed64_targets != plan->fixed64_count)
		return riffle_fail(error, RIFFLE_ERR_FORMAT, "fixed targets", "are not as many as the fields");
	if ((status =
		 check_targets(plan->pc_targets, plan->pc_target_count, 1, plan->chunk_count, "pc_targets", error)) ||
	    (status = check_targets((const uint16_t *)plan->abs32_refs + 1, plan->abs32_ref_count, 2, plan->chunk_count,
				    "abs32_refs", error)) ||
	    (status = check_targets((const uint16_t *)plan->abs64_refs + 1, plan->abs64_ref_count, 2, plan->chunk_count,
				    "abs64_refs", error)) ||
	    (status = check_targets(plan->fixed32_targets, plan->fixed32_count, 1, plan->chunk_count, "fixed32_targets",
				    error)) ||
	    (status = check_targets(plan->fixed64_targets, plan->fixed64_count, 1, plan->chunk_count, "fixed64_targets",
				    error)) ||
	    (status =
		 check_targets(plan->site_targets, counts.site_targets, 1, plan->chunk_count, "site_targets", error)) ||
	    (status = check_targets(plan->extable_targets, counts.extable_targets / 2, 2, plan->chunk_count,
				    "extable_targets", error)) ||
	    (status = riffle_plan_check_fields(plan, plan->fixed32, plan->fixed32_count, 4, "fixed32", error)) ||
	    (status = riffle_plan_check_fields(plan, plan->fixed64, plan->fixed64_count, 8, "fixed64", error)) ||
	    (status = check_tables(plan, &counts, &sums, &next_gap, error)) ||
	    (status = check_kallsyms(plan, &counts, &sums, &next_gap, error)))
		return status;
	if (next_gap != counts.gaps)
		return riffle_fail_expected(error, RIFFLE_ERR_FORMAT, "gaps", "are not all used", next_gap,
					    counts.gaps);
	return check_areas(plan, error);
}
