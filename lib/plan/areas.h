/* SPDX-License-Identifier: Apache-2.0 */
/* The areas of an image that a shuffled load writes itself: regions of chunks and sorted tables. */
#ifndef RIFFLE_PLAN_AREAS_H
#define RIFFLE_PLAN_AREAS_H

#include <riffle/plan.h>

#define PLAN_REGIONS_MAX 1024u
#define PLAN_TABLES_MAX 24u
#define PLAN_AREAS_MAX (PLAN_REGIONS_MAX + 2 * PLAN_TABLES_MAX + 4)

struct plan_area {
	uint32_t start, end;
};

/* Ascending by start. */
struct plan_areas {
	struct plan_area area[PLAN_AREAS_MAX];
	unsigned count;
};

/*
 * Collects the areas of a plan; for a load, only those that are not simply copied. Sites stay in place and change
 * there; with LAZY the tables that a lazy load leaves unchanged count as plain bytes too. Counts of regions and tables
 * must have been checked against the maxima, ends against 32 bits.
 */
#define PLAN_AREAS_ALL 0u
#define PLAN_AREAS_LOAD 1u
#define PLAN_AREAS_LAZY 2u
void riffle_plan_areas_of(struct plan_areas *areas, const struct riffle_plan *plan, unsigned which);

/* Bytes of one entry of a table in its first and its second array. */
static inline uint32_t plan_table_entry_bytes(uint32_t kind)
{
	return kind == RIFFLE_TABLE_EXTABLE ? 12 : kind == RIFFLE_TABLE_MCOUNT ? 8 : 4;
}
#define PLAN_ORC_STATE_BYTES 6u

/* Where a chunk's region ends, and the gaps of a sorted table: one more than there are regions. */
static inline uint32_t plan_gap_count(const struct riffle_plan *plan)
{
	return plan->region_count + 1;
}

/* The plan's shuffle sections, after everything else has been checked. */
int riffle_plan_check_shuffle(struct riffle_plan *plan, const uint8_t *bytes, struct riffle_error *error);

/* The chunk that an image offset lies in, or chunk_count. */
uint32_t riffle_plan_chunk_at(const struct riffle_plan *plan, uint64_t image_offset);

#endif
