/* SPDX-License-Identifier: Apache-2.0 */
/* What the analysis that writes a plan and the library that loads it have to agree on beyond the file format. */
#ifndef RIFFLE_COMMON_PLAN_SHAPE_H
#define RIFFLE_COMMON_PLAN_SHAPE_H

#include <stdbool.h>

#include <riffle/plan.h>

#define PLAN_REGIONS_MAX 1024u
#define PLAN_TABLES_MAX 24u
#define PLAN_AREAS_MAX (PLAN_REGIONS_MAX + 2 * PLAN_TABLES_MAX + 4)

/*
 * A value up to this far past the image means its end: rounding _end up to a huge page adds that less one, and tables
 * have a bias.
 */
#define PLAN_PAST_END (UINT64_C(2) << 20)

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

/* Bytes that the plan takes in the file. */
static inline uint64_t plan_stored_bytes(const struct riffle_header *h)
{
	return h->features & RIFFLE_FEATURE_COMPRESSED ? h->plan_stored_bytes : h->plan_bytes;
}

/* Whether this block's gap makes the sum of all gaps the same in each load. */
static inline bool riffle_block_balances(const struct riffle_plan *plan, uint32_t block)
{
	return plan->header->features & RIFFLE_FEATURE_BALANCED && block + 1 == plan->block_count;
}

#endif
