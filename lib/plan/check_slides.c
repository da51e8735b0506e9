/* SPDX-License-Identifier: Apache-2.0 */
/* Checks the part of a plan that slides blocks apart: blocks, fields that cross from one to another, tables of such. */
#include "plan/areas.h"
#include "plan/check.h"

#include "common/bytes.h"
#include "common/fail.h"
#include "common/plan_shape.h"
#include "common/search.h"

#define PAGE 4096u
#define ALIGN_MAX (2u << 20)
#define STRIDE_MAX 4096u

static int take_sections(struct riffle_plan *plan, const uint8_t *bytes, struct riffle_error *error)
{
	uint32_t targets = 0;
	const struct plan_place places[] = {
#define PLACE(kind, member, counter) PLAN_PLACE(plan, kind, member, counter)
	    PLACE(BLOCKS, blocks, &plan->block_count),
	    PLACE(CROSS32, cross32, &plan->cross32_count),
	    PLACE(CROSS32_BLOCKS, cross32_blocks, &targets),
	    PLACE(CROSS_TABLES, cross_tables, &plan->cross_table_count),
#undef PLACE
	};

	int status = riffle_plan_take_sections(plan, bytes, places, sizeof places / sizeof *places, error);

	if (status)
		return status;
	if (targets != plan->cross32_count)
		return riffle_fail_expected(error, RIFFLE_ERR_FORMAT, "cross32_blocks", "are not as many as the fields",
					    targets, plan->cross32_count);
	return RIFFLE_OK;
}

/* The second block of a pair, whose gap is what the first's lacks of its largest. */
static int check_complement(const struct riffle_plan *plan, uint32_t i, struct riffle_error *error)
{
	const struct riffle_block *b = &plan->blocks[i];

	if (!(plan->header->features & RIFFLE_FEATURE_PAIRS) || i < 2 || b[-1].gaps < 2)
		return riffle_fail_found(error, RIFFLE_ERR_FORMAT, "block gaps",
					 "are none, and no gap before is one that they complement (block)", i);
	if (b->align != b[-1].align)
		return riffle_fail_expected(error, RIFFLE_ERR_FORMAT, "block align",
					    "is not that of the gap that its own complements", b->align, b[-1].align);
	return RIFFLE_OK;
}

/* The last block, whose gap is what all others lack of their largest; they come to `most`. */
static int check_balance(const struct riffle_plan *plan, uint64_t most, struct riffle_error *error)
{
	const struct riffle_block *last = &plan->blocks[plan->block_count - 1];

	if (last->gaps || most % last->align)
		return riffle_fail_found(error, RIFFLE_ERR_FORMAT, "block gaps",
					 "are some before the last, which balances the others, or those are unaligned",
					 last->gaps ? last->gaps : most);
	return RIFFLE_OK;
}

static int check_blocks(struct riffle_plan *plan, struct riffle_error *error)
{
	uint64_t most = 0, pair = 0;
	/* each block up to this one moves by a multiple of `step`; without the gap before it, of `before` */
	uint32_t step = ALIGN_MAX, before = ALIGN_MAX;

	if (plan->block_count < 2 || plan->block_count > RIFFLE_BLOCKS_MAX)
		return riffle_fail_expected(error, RIFFLE_ERR_FORMAT, "blocks", "are fewer than 2 or too many",
					    plan->block_count, RIFFLE_BLOCKS_MAX);
	for (uint32_t i = 0; i < plan->block_count; i++) {
		const struct riffle_block *b = &plan->blocks[i];

		if (b->image_offset % PAGE || b->image_offset >= plan->header->image_bytes ||
		    (i ? b->image_offset <= b[-1].image_offset : b->image_offset != 0))
			return riffle_fail_found(error, RIFFLE_ERR_FORMAT, "block image_offset",
						 "is out of order, outside the image, or not on a page",
						 b->image_offset);
		if (b->align < PAGE || b->align > ALIGN_MAX || b->align & (b->align - 1))
			return riffle_fail_found(error, RIFFLE_ERR_FORMAT, "block align",
						 "is no power of two from 4 KiB to 2 MiB", b->align);
		if (riffle_block_balances(plan, i)) {
			int status = check_balance(plan, most, error);

			if (status)
				return status;
			continue;
		}
		if (!b->gaps) {
			int status = check_complement(plan, i, error);

			if (status)
				return status;
			/* the block itself moves by a constant sum, and so do all that follow */
			step = before;
			while (pair % step)
				step /= 2;
			continue;
		}
		/* a block moves by all gaps up to its own, and must keep the alignment of its contents */
		if (b->align > step)
			return riffle_fail_expected(error, RIFFLE_ERR_FORMAT, "block align",
						    "is more than that of the block before", b->align, step);
		if (!i && b->gaps != 1)
			return riffle_fail_found(error, RIFFLE_ERR_FORMAT, "block gaps", "are some before the first",
						 b->gaps);
		before = step;
		step = b->align;
		pair = (uint64_t)(b->gaps - 1) * b->align;
		most += pair;
		if (most > RIFFLE_SLIDE_MAX)
			return riffle_fail_expected(error, RIFFLE_ERR_FORMAT, "block gaps", "are too large in all",
						    most, RIFFLE_SLIDE_MAX);
	}
	plan->slide_max = (uint32_t)most;
	return RIFFLE_OK;
}

/* Each field inside one extent; the blocks that the fields name exist. */
static int check_cross32(const struct riffle_plan *plan, struct riffle_error *error)
{
	int status = riffle_plan_check_fields(plan, plan->cross32, plan->cross32_count, 4, "cross32", error);

	if (status)
		return status;
	for (uint32_t i = 0; i < plan->cross32_count; i++)
		if (plan->cross32_blocks[i] >= plan->block_count)
			return riffle_fail_expected(error, RIFFLE_ERR_FORMAT, "cross32_blocks",
						    "name a block that is not there", plan->cross32_blocks[i],
						    plan->block_count);
	return RIFFLE_OK;
}

/* Inside one extent and one block. */
static int check_table(const struct riffle_plan *plan, const struct riffle_cross_table *t, struct riffle_error *error)
{
	uint32_t width = t->kind == RIFFLE_CROSS_DISTANCE64 ? 8 : 4;
	bool based = t->kind == RIFFLE_CROSS_OFFSET32 || t->kind == RIFFLE_CROSS_COUNTDOWN32;
	uint64_t end;

	if (t->kind < RIFFLE_CROSS_DISTANCE32 || t->kind > RIFFLE_CROSS_COUNTDOWN32 || t->reserved)
		return riffle_fail_found(error, RIFFLE_ERR_FORMAT, "cross table kind", "is not known", t->kind);
	if (t->stride < width || t->stride > STRIDE_MAX || !t->entries)
		return riffle_fail_found(error, RIFFLE_ERR_FORMAT, "cross table stride",
					 "is too small or too large, or the table is empty", t->stride);
	if (based ? t->base >= plan->blocks[1].image_offset : t->base != 0)
		return riffle_fail_found(error, RIFFLE_ERR_FORMAT, "cross table base",
					 "is not in the first block, or not needed", t->base);
	end = t->image_offset + (uint64_t)(t->entries - 1) * t->stride + width;
	for (uint32_t i = 0; i < plan->extent_count; i++) {
		const struct riffle_extent *e = &plan->extents[i];

		if (t->image_offset < e->image_offset || end > (uint64_t)e->image_offset + e->bytes)
			continue;
		for (uint32_t b = 1; b < plan->block_count; b++)
			if (t->image_offset < plan->blocks[b].image_offset && end > plan->blocks[b].image_offset)
				return riffle_fail_found(error, RIFFLE_ERR_FORMAT, "cross table",
							 "lies across two blocks", t->image_offset);
		return RIFFLE_OK;
	}
	return riffle_fail_found(error, RIFFLE_ERR_FORMAT, "cross table", "does not lie in one extent",
				 t->image_offset);
}

/*
 * Nothing that is written as a whole lies across two blocks, and whatever a shuffle moves is in the first.
 */
static int check_edges(const struct riffle_plan *plan, struct riffle_error *error)
{
	uint32_t text_end = plan->blocks[1].image_offset;
	struct plan_areas areas;

	riffle_plan_areas_of(&areas, plan, PLAN_AREAS_ALL);
	for (uint32_t b = 1; b < plan->block_count; b++) {
		uint32_t edge = plan->blocks[b].image_offset;

		if (riffle_plan_has_field(plan, edge, edge) ||
		    riffle_has_field(plan->cross32, plan->cross32_count, 4, edge, edge))
			return riffle_fail_found(error, RIFFLE_ERR_FORMAT, "block",
						 "has a field across its edge (image offset)", edge);
		for (unsigned i = 0; i < areas.count; i++)
			if (areas.area[i].start < edge && areas.area[i].end > edge)
				return riffle_fail_found(error, RIFFLE_ERR_FORMAT, "block",
							 "has an area across its edge (image offset)", edge);
	}
	for (uint32_t i = 0; i < plan->region_count; i++)
		if (plan->regions[i].image_offset >= text_end)
			return riffle_fail_found(error, RIFFLE_ERR_FORMAT, "region", "is not in the first block", i);
	/*
	 * No field is partly in what a shuffle writes by itself: nobody would have all its bytes. A table's fields are
	 * changed where the table is, which in a shuffle is not where they were.
	 */
	for (unsigned i = 0; i < areas.count; i++) {
		const struct plan_area *area = &areas.area[i];
		uint32_t first = riffle_first_at_least(plan->cross32, plan->cross32_count, area->start);

		for (unsigned k = 0; k < 2; k++) {
			uint32_t edge = k ? area->end : area->start;

			if (edge > 3 && riffle_has_field(plan->cross32, plan->cross32_count, 4, edge, edge))
				return riffle_fail_found(error, RIFFLE_ERR_FORMAT, "cross32",
							 "has a field across the edge of an area (image offset)", edge);
		}
		if (area->start >= text_end && first < plan->cross32_count && plan->cross32[first] < area->end)
			return riffle_fail_found(error, RIFFLE_ERR_FORMAT, "cross32",
						 "has a field in a table (image offset)", plan->cross32[first]);
	}
	return RIFFLE_OK;
}

int riffle_plan_check_slides(struct riffle_plan *plan, const uint8_t *bytes, struct riffle_error *error)
{
	int status;

	if (!(plan->header->features & RIFFLE_FEATURE_SLIDES)) {
		for (unsigned i = RIFFLE_SECTION_BLOCKS; i < RIFFLE_SECTION_COUNT; i++)
			if (plan->header->section[i].count)
				return riffle_fail_found(error, RIFFLE_ERR_FORMAT, "features",
							 "deny a section that is there", i);
		return RIFFLE_OK;
	}
	if ((status = take_sections(plan, bytes, error)) || (status = check_blocks(plan, error)) ||
	    (status = check_cross32(plan, error)))
		return status;
	if (plan->cross_table_count > RIFFLE_CROSS_TABLES_MAX)
		return riffle_fail_expected(error, RIFFLE_ERR_FORMAT, "cross_tables", "are too many",
					    plan->cross_table_count, RIFFLE_CROSS_TABLES_MAX);
	for (uint32_t i = 0; i < plan->cross_table_count; i++)
		if ((status = check_table(plan, &plan->cross_tables[i], error)))
			return status;
	return check_edges(plan, error);
}
