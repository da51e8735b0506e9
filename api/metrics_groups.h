/* SPDX-License-Identifier: Apache-2.0 */
/* The groups of a line of metrics, in its order, and the names in each. */
#ifndef RIFFLE_API_METRICS_GROUPS_H
#define RIFFLE_API_METRICS_GROUPS_H

#include "common/counter.h"

/*
 * How a name is printed: "name" as the increment since the last line; "=name" as it is; "*name" is a latency of three
 * counters, whose sum is an increment.
 */
struct metrics_group {
	const char *name;
	const char *const *fields; /* NULL at the end */
	int kind;                  /* an enum machine_counters, or METRICS_OWN */
	unsigned first;            /* for a group of the process itself: its first counter */
};

#define METRICS_OWN (-1)
#define METRICS_SLOTS_MAX 40u

extern const struct metrics_group metrics_groups[];
extern const unsigned metrics_group_count;

#endif
