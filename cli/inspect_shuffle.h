/* SPDX-License-Identifier: Apache-2.0 */
/* What `riffle inspect` tells of a kernel's shuffle: a line or two, an object, or the whole account of its chunks. */
#ifndef RIFFLE_CLI_INSPECT_SHUFFLE_H
#define RIFFLE_CLI_INSPECT_SHUFFLE_H

#include <jansson.h>

#include "cli/chunk_stats.h"
#include "prepare/shuffle/shuffle.h"

struct shuffle_account {
	const struct riffle_plan *plan;
	struct chunk_stats stats;
	const struct shuffle *shuffle; /* the analysis; NULL: only what the plan has is told */
	uint64_t virtual_slots;        /* 0: not known */
};

void print_shuffle_summary(const struct shuffle_account *account);
/* With pinned ranges and all sums when `all`. */
json_t *shuffle_json(const struct shuffle_account *account, bool all);
void print_chunks(const struct shuffle_account *account);

#endif
