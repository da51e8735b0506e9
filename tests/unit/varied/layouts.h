/* SPDX-License-Identifier: Apache-2.0 */
/* Layouts that leave little to compare. */
#ifndef RIFFLE_TESTS_VARIED_LAYOUTS_H
#define RIFFLE_TESTS_VARIED_LAYOUTS_H

#include <riffle/layout.h>

/* Gaps of no more than two steps. */
static inline void slide_little(struct riffle_layout *layout, const struct riffle_plan *plan)
{
	for (unsigned i = 1; i < layout->slide_count; i++)
		layout->slide[i] =
		    layout->slide[i - 1] + (plan->blocks[i].gaps > 2 ? 1 + i % 2 : 0) * plan->blocks[i].align;
}

#endif
