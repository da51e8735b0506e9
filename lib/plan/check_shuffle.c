/* SPDX-License-Identifier: Apache-2.0 */
/* Checks the part of a plan that permutes functions: chunks, references, sorted tables, kallsyms. */
#include "plan/areas.h"

#include "common/bytes.h"
#include "common/fail.h"
#include "common/search.h"

struct section_place {
	enum riffle_section_kind kind;
	const char *name;
	size_t entry_bytes;
	const void **entries;
	uint32_t *count;
};

static int take_sections(struct riffle_plan *plan, const uint8_t *bytes, uint32_t counts[3],
			 struct riffle_error *error)
{
	const struct riffle_header *h = plan->header;
	uint32_t kallsyms_count = 0;
	const void *kallsyms = NULL;
	const struct section_place places[] = {
#define PLACE(kind, member, counter)                                                                                   \
	{RIFFLE_SECTION_##kind, #member, sizeof *plan->member, (const void **)&plan->member, counter}
		PLACE(REGIONS, regions, &plan->region_count),
		PLACE(CHUNKS, chunks, &plan->chunk_count),
		PLACE(CHUNK_REFS, chunk_refs, &plan->chunk_ref_count),
		PLACE(FIXED32, fixed32, &plan->fixed32_count),
		PLACE(FIXED32_TARGETS, fixed32_targets, &counts[0]),
		PLACE(FIXED64, fixed64, &plan->fixed64_count),
		PLACE(FIXED64_TARGETS, fixed64_targets, &counts[1]),
		PLACE(TABLES, tables, &plan->table_count),
		PLACE(RUNS, runs, &plan->run_count),
		PLACE(EXTABLE_TARGETS, extable_targets, &counts[2]),
		PLACE(KALLSYMS_RUNS, kallsyms_runs, &plan->kallsyms_run_count),
#undef PLACE
		{RIFFLE_SECTION_KALLSYMS, "kallsyms", sizeof *plan->kallsyms, &kallsyms, &kallsyms_count},
	};

	for (size_t i = 0; i < sizeof places / sizeof *places; i++) {
		const struct riffle_section *s = &h->section[places[i].kind];

		if (s->offset % 8 || s->count > UINT32_MAX / places[i].entry_bytes ||
		    !riffle_inside(s->offset, s->count * places[i].entry_bytes, h->plan_bytes))
			return riffle_fail_expected(error, RIFFLE_ERR_FORMAT, places[i].name,
						    "section reaches outside the plan", s->offset, h->plan_bytes);
		*places[i].entries = bytes + s->offset;
		*places[i].count = (uint32_t)s->count;
	}
	if (kallsyms_count > 1)
		return riffle_fail_found(error, RIFFLE_ERR_FORMAT, "kallsyms", "is there more than once",
					 kallsyms_count);
	plan->kallsyms = kallsyms_count ? kallsyms : NULL;
	return RIFFLE_OK;
}

static int check_chunks(const struct riffle_plan *plan, struct riffle_error *error)
{
	uint64_t refs = 0, end = 0;
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

			if (c->image_offset != at || !c->bytes || c->bytes % RIFFLE_CHUNK_ALIGN ||
			    c->bytes > RIFFLE_CHUNK_BYTES_MAX)
				return riffle_fail_found(error, RIFFLE_ERR_FORMAT, "chunk",
							 "leaves a gap, overlaps, or has a wrong size", next);
			at += c->bytes;
			refs += (uint64_t)c->pc32 + c->abs32 + c->abs64 + c->inverse32;
		}
		if (at != (uint64_t)r->image_offset + r->bytes)
			return riffle_fail_found(error, RIFFLE_ERR_FORMAT, "region", "is not filled by its chunks", i);
		end = at;
	}
	if (next != plan->chunk_count)
		return riffle_fail_expected(error, RIFFLE_ERR_FORMAT, "chunks", "lie in no region", plan->chunk_count,
					    next);
	if (refs != plan->chunk_ref_count)
		return riffle_fail_expected(error, RIFFLE_ERR_FORMAT, "chunk_refs",
					    "are not as many as the chunks say", plan->chunk_ref_count, refs);
	return RIFFLE_OK;
}

/* Chunk numbers up to and with the one that means "does not move"; no early exit, for vector code. */
static int check_targets(const uint16_t *targets, uint32_t count, uint32_t stride, uint32_t chunk_count,
			 const char *name, struct riffle_error *error)
{
	uint16_t most = 0;

	for (uint32_t i = 0; i < count; i++) {
		uint16_t target = targets[i * stride];

		most = target > most ? target : most;
	}
	if (most > chunk_count)
		return riffle_fail_expected(error, RIFFLE_ERR_FORMAT, name, "name a chunk that is not there", most,
					    chunk_count);
	return RIFFLE_OK;
}

/* Ascending, each field inside one extent. */
static int check_fixed(const struct riffle_plan *plan, const uint32_t *list, uint32_t count, uint32_t field_bytes,
		       const char *name, struct riffle_error *error)
{
	uint32_t descents = 0, done = 0;

	for (uint32_t i = 1; i < count; i++)
		descents += list[i] <= list[i - 1];
	if (descents)
		return riffle_fail_found(error, RIFFLE_ERR_FORMAT, name, "list is not strictly ascending", descents);
	for (uint32_t i = 0; i < plan->extent_count && done < count; i++) {
		const struct riffle_extent *e = &plan->extents[i];

		if (list[done] < e->image_offset)
			break;
		if (e->bytes >= field_bytes)
			done = riffle_first_at_least(list, count,
						     (uint64_t)e->image_offset + e->bytes - field_bytes + 1);
	}
	if (done < count)
		return riffle_fail_found(error, RIFFLE_ERR_FORMAT, name, "entry lies outside every extent", list[done]);
	return RIFFLE_OK;
}

/* Known kinds, whole inside the image; runs that add up. */
static int check_tables(const struct riffle_plan *plan, uint32_t extable_targets, struct riffle_error *error)
{
	uint64_t exceptions = 0, next_run = 0;

	if (plan->table_count > PLAN_TABLES_MAX)
		return riffle_fail_expected(error, RIFFLE_ERR_FORMAT, "tables", "are too many", plan->table_count,
					    PLAN_TABLES_MAX);
	for (uint32_t i = 0; i < plan->table_count; i++) {
		const struct riffle_table *t = &plan->tables[i];
		uint64_t entries = 0;
		uint32_t last = 0;

		if (t->kind < RIFFLE_TABLE_EXTABLE || t->kind > RIFFLE_TABLE_SITES)
			return riffle_fail_found(error, RIFFLE_ERR_FORMAT, "table kind", "is not known", t->kind);
		if (!riffle_inside(t->image_offset, (uint64_t)t->entries * plan_table_entry_bytes(t->kind),
				   plan->header->image_bytes) ||
		    (t->kind == RIFFLE_TABLE_ORC &&
		     !riffle_inside(t->second_offset, (uint64_t)t->entries * PLAN_ORC_STATE_BYTES,
				    plan->header->image_bytes)))
			return riffle_fail_found(error, RIFFLE_ERR_FORMAT, "table entries", "lead outside the image",
						 t->entries);
		if (t->first_run != next_run || t->run_count > plan->run_count - next_run)
			return riffle_fail_found(error, RIFFLE_ERR_FORMAT, "table runs", "are not its own",
						 t->first_run);
		for (uint32_t k = t->first_run; k < t->first_run + t->run_count; k++) {
			const struct riffle_run *run = &plan->runs[k];

			if (run->chunk > plan->chunk_count || !run->entries ||
			    (run->chunk < plan->chunk_count && run->chunk < last && t->kind != RIFFLE_TABLE_SITES))
				return riffle_fail_found(error, RIFFLE_ERR_FORMAT, "run",
							 "is empty, out of order, or of a chunk that is not there", k);
			if (run->chunk < plan->chunk_count)
				last = run->chunk + 1u;
			entries += run->entries;
		}
		if (entries != t->entries)
			return riffle_fail_expected(error, RIFFLE_ERR_FORMAT, "table runs",
						    "do not add up to its entries", entries, t->entries);
		next_run += t->run_count;
		if (t->kind == RIFFLE_TABLE_EXTABLE)
			exceptions += t->entries;
	}
	if (next_run != plan->run_count || 2 * exceptions != extable_targets)
		return riffle_fail(error, RIFFLE_ERR_FORMAT, "tables", "do not use all runs and extable_targets");
	return RIFFLE_OK;
}

static int check_kallsyms(const struct riffle_plan *plan, struct riffle_error *error)
{
	const struct riffle_kallsyms *k = plan->kallsyms;
	uint64_t image = plan->header->image_bytes, symbols = 0, name = 0;
	uint32_t last = 0;

	if (!k) {
		if (plan->kallsyms_run_count)
			return riffle_fail(error, RIFFLE_ERR_FORMAT, "kallsyms", "is missing, its runs are there");
		return RIFFLE_OK;
	}
	if (k->flags & ~(RIFFLE_KALLSYMS_SELF_RELATIVE | RIFFLE_KALLSYMS_ABSOLUTE_PERCPU) || k->reserved)
		return riffle_fail_found(error, RIFFLE_ERR_FORMAT, "kallsyms flags", "hold unknown bits", k->flags);
	if (!riffle_inside(k->offsets, (uint64_t)k->symbols * 4, image) ||
	    !riffle_inside(k->names, k->names_bytes, image) ||
	    !riffle_inside(k->markers, ((uint64_t)k->symbols + 255) / 256 * 4, image) ||
	    (k->seqs && !riffle_inside(k->seqs, (uint64_t)k->symbols * 3, image)))
		return riffle_fail_found(error, RIFFLE_ERR_FORMAT, "kallsyms", "leads outside the image", k->symbols);
	for (uint32_t i = 0; i < plan->kallsyms_run_count; i++) {
		const struct riffle_symbol_run *run = &plan->kallsyms_runs[i];

		if (run->chunk > plan->chunk_count || !run->symbols || run->name_offset < name ||
		    run->name_offset > k->names_bytes || (!i && run->name_offset) ||
		    (run->chunk < plan->chunk_count && run->chunk < last))
			return riffle_fail_found(error, RIFFLE_ERR_FORMAT, "kallsyms run",
						 "is empty, out of order, or leads outside the names", i);
		if (run->chunk < plan->chunk_count)
			last = run->chunk + 1u;
		name = run->name_offset;
		symbols += run->symbols;
	}
	if (symbols != k->symbols)
		return riffle_fail_expected(error, RIFFLE_ERR_FORMAT, "kallsyms runs", "do not add up to its symbols",
					    symbols, k->symbols);
	return RIFFLE_OK;
}

/* A list with no field across `edge`. */
static bool crosses(const uint32_t *list, uint32_t count, uint32_t field_bytes, uint32_t edge)
{
	uint32_t i = riffle_first_at_least(list, count, edge < field_bytes ? 0 : (uint64_t)edge - field_bytes + 1);

	return i < count && list[i] < edge;
}

static bool is_between(const uint32_t *list, uint32_t count, const struct plan_area *area)
{
	uint32_t i = riffle_first_at_least(list, count, area->start);

	return i < count && list[i] < area->end;
}

/* Tables but MCOUNT hold no relocated fields: a shuffled load would leave those out. */
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

/* Areas apart from each other, each inside one extent, and no field half in one; fixed references are in none. */
static int check_areas(const struct riffle_plan *plan, struct riffle_error *error)
{
	struct plan_areas areas;
	uint32_t extent = 0, end = 0;

	riffle_plan_areas_of(&areas, plan, 0);
	for (unsigned i = 0; i < areas.count; i++) {
		const struct plan_area *a = &areas.area[i];

		if (a->start < end || a->end < a->start)
			return riffle_fail_found(error, RIFFLE_ERR_FORMAT, "area", "overlaps another (image offset)",
						 a->start);
		end = a->end;
		if (a->start == a->end)
			continue;
		while (extent < plan->extent_count && (uint64_t)plan->extents[extent].image_offset +
								      plan->extents[extent].bytes <=
							      a->start)
			extent++;
		if (extent == plan->extent_count || a->start < plan->extents[extent].image_offset ||
		    a->end - plan->extents[extent].image_offset > plan->extents[extent].bytes)
			return riffle_fail_found(error, RIFFLE_ERR_FORMAT, "area",
						 "does not lie in one extent (image offset)", a->start);
		for (unsigned k = 0; k < 2; k++) {
			uint32_t edge = k ? a->end : a->start;

			if (crosses(plan->reloc64, plan->reloc64_count, 8, edge) ||
			    crosses(plan->reloc32, plan->reloc32_count, 4, edge) ||
			    crosses(plan->reloc32_inverse, plan->reloc32_inverse_count, 4, edge) ||
			    crosses(plan->fixed32, plan->fixed32_count, 4, edge) ||
			    crosses(plan->fixed64, plan->fixed64_count, 8, edge))
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
	uint32_t counts[3] = {0};
	int status;

	if (!(plan->header->features & RIFFLE_FEATURE_SHUFFLE)) {
		for (unsigned i = RIFFLE_SECTION_REGIONS; i < RIFFLE_SECTION_SLOTS; i++)
			if (plan->header->section[i].count && i != RIFFLE_SECTION_FRAMES)
				return riffle_fail_found(error, RIFFLE_ERR_FORMAT, "features",
							 "deny a section that is there", i);
		return RIFFLE_OK;
	}
	if (!(plan->header->flags & RIFFLE_KERNEL_RELOCATABLE))
		return riffle_fail(error, RIFFLE_ERR_FORMAT, "features",
				   "promise chunks for a kernel without relocations");
	if ((status = take_sections(plan, bytes, counts, error)) || (status = check_chunks(plan, error)))
		return status;
	if (counts[0] != plan->fixed32_count || counts[1] != plan->fixed64_count)
		return riffle_fail(error, RIFFLE_ERR_FORMAT, "fixed targets", "are not as many as the fields");
	if ((status = check_targets((const uint16_t *)plan->chunk_refs + 1, plan->chunk_ref_count, 2,
				    plan->chunk_count, "chunk_refs", error)) ||
	    (status = check_targets(plan->fixed32_targets, plan->fixed32_count, 1, plan->chunk_count,
				    "fixed32_targets", error)) ||
	    (status = check_targets(plan->fixed64_targets, plan->fixed64_count, 1, plan->chunk_count,
				    "fixed64_targets", error)) ||
	    (status = check_fixed(plan, plan->fixed32, plan->fixed32_count, 4, "fixed32", error)) ||
	    (status = check_fixed(plan, plan->fixed64, plan->fixed64_count, 8, "fixed64", error)) ||
	    (status = check_tables(plan, counts[2], error)) || (status = check_kallsyms(plan, error)))
		return status;
	return check_areas(plan, error);
}
