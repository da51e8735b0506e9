/* SPDX-License-Identifier: Apache-2.0 */
/* Checks where a plan says that the mode of /proc/kallsyms is. */
#include "plan/check.h"

#include "common/fail.h"
#include "common/plan_shape.h"
#include "common/search.h"

#define MODE_BYTES 4u

static bool is_in(uint32_t mode, uint64_t start, uint64_t end)
{
	return mode < end && (uint64_t)mode + MODE_BYTES > start;
}

/* Whether some other part of a load changes the mode's bytes, or they do not stay together. */
static bool is_changed_elsewhere(const struct riffle_plan *plan, uint32_t mode)
{
	uint64_t mode_end = (uint64_t)mode + MODE_BYTES;
	struct plan_areas areas;

	if (riffle_plan_has_field(plan, mode, mode_end) ||
	    riffle_has_field(plan->cross32, plan->cross32_count, 4, mode, mode_end))
		return true;
	riffle_plan_areas_of(&areas, plan, PLAN_AREAS_ALL);
	for (unsigned i = 0; i < areas.count; i++)
		if (is_in(mode, areas.area[i].start, areas.area[i].end))
			return true;
	for (uint32_t i = 0; i < plan->cross_table_count; i++) {
		const struct riffle_cross_table *t = &plan->cross_tables[i];

		if (is_in(mode, t->image_offset, t->image_offset + (uint64_t)t->entries * t->stride))
			return true;
	}
	for (uint32_t i = 1; i < plan->block_count; i++)
		if (mode < plan->blocks[i].image_offset && mode_end > plan->blocks[i].image_offset)
			return true;
	return false;
}

int riffle_plan_check_kallsyms_mode(const struct riffle_plan *plan, struct riffle_error *error)
{
	uint32_t mode = plan->header->kallsyms_mode;
	int status;

	if (!(plan->header->features & RIFFLE_FEATURE_KALLSYMS_MODE))
		return mode ? riffle_fail_found(error, RIFFLE_ERR_FORMAT, "kallsyms_mode",
						"is given without its feature", mode)
			    : RIFFLE_OK;
	status = riffle_plan_check_fields(plan, &mode, 1, MODE_BYTES, "kallsyms_mode", error);
	if (status)
		return status;
	return is_changed_elsewhere(plan, mode)
		   ? riffle_fail_found(error, RIFFLE_ERR_FORMAT, "kallsyms_mode",
				       "lies in what a load changes otherwise (image offset)", mode)
		   : RIFFLE_OK;
}
