/* SPDX-License-Identifier: Apache-2.0 */
/* The areas of an image that a shuffled load writes itself: regions of chunks and sorted tables. */
#ifndef RIFFLE_PLAN_AREAS_H
#define RIFFLE_PLAN_AREAS_H

#include "common/plan_shape.h"

/* Where a chunk's region ends, and the gaps of a sorted table: one more than there are regions. */
static inline uint32_t plan_gap_count(const struct riffle_plan *plan)
{
	return plan->region_count + 1;
}

/* The chunk that an image offset lies in, or chunk_count. */
uint32_t riffle_plan_chunk_at(const struct riffle_plan *plan, uint64_t image_offset);

#endif
