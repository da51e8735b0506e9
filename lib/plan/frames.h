/* SPDX-License-Identifier: Apache-2.0 */
/* The frames of a kernel that is stored compressed: their check, and where one ends. */
#ifndef RIFFLE_PLAN_FRAMES_H
#define RIFFLE_PLAN_FRAMES_H

#include <riffle/plan.h>

#include "common/fail.h"
#include "common/plan_shape.h"
#include "common/search.h"

/* The plan's frames against its extents, which have been checked, and the file. */
int riffle_plan_check_frames(const struct riffle_plan *plan, struct riffle_error *error);

/* Empties *plan, except for its size, which is checked. Errors: ARGUMENT. */
int riffle_plan_clear(struct riffle_plan *plan, struct riffle_error *error);

/* Checks a header enough to read the plan by it: magic, version, features, checksum. */
int riffle_plan_check_identity(const struct riffle_header *h, struct riffle_error *error);

/*
 * Reads the first `bytes` of the plan, however it is stored. `bytes` is at most header->plan_bytes, which is at most
 * RIFFLE_PLAN_MAX; everything else in the header and the source may be wrong.
 */
int riffle_plan_fetch(const struct riffle_header *h, const struct riffle_source *source, uint8_t *plan, uint64_t bytes,
		      struct riffle_error *error);

/* Index of the first frame that ends after `image_offset`; frame_count if there is none. */
static inline uint32_t plan_frame_at(const struct riffle_plan *plan, uint64_t image_offset)
{
	const struct riffle_frame *f = plan->frames;
	uint32_t i;

	RIFFLE_FIRST_WHERE(i, plan->frame_count, (uint64_t)f[i].image_offset + f[i].bytes > image_offset);
	return i;
}

/* Where the frame that contains `image_offset` ends, or UINT64_MAX. */
static inline uint64_t plan_frame_end(const struct riffle_plan *plan, uint64_t image_offset)
{
	uint32_t i = plan_frame_at(plan, image_offset);

	return i < plan->frame_count ? (uint64_t)plan->frames[i].image_offset + plan->frames[i].bytes : UINT64_MAX;
}

static inline int riffle_fail_no_frames(struct riffle_error *error)
{
	return riffle_fail(error, RIFFLE_ERR_UNSUPPORTED, "storage",
			   "is compressed, and there is nothing here that decompresses (riffle_source.read_frame)");
}

#endif
