/* SPDX-License-Identifier: Apache-2.0 */
/* A prepared kernel without its holes: header, plan, then the extents' bytes one after another. */
#ifndef RIFFLE_STAGE_PACKAGE_H
#define RIFFLE_STAGE_PACKAGE_H

#include <stdbool.h>

#include <riffle/plan.h>

struct stage_package {
	const uint8_t *bytes;
	uint64_t count;
	const struct riffle_plan *plan;
};

/*
 * Checks the package, `count` bytes at `bytes`, which is 8-byte aligned, stays in place and does not change; fills
 * *plan with pointers into it, without the shuffle's part unless `shuffle`. Errors: those of riffle_plan_check(),
 * FORMAT.
 */
int stage_package_open(struct stage_package *package, struct riffle_plan *plan, const void *bytes, uint64_t count,
		       bool shuffle, struct riffle_error *error);

/* The package as the payload of its plan: offsets are those of the file that it was made from. */
struct riffle_source stage_package_source(struct stage_package *package);

#endif
