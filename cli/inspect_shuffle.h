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

/* What an attacker has to guess, in bits, of a kernel that is shuffled. */
struct shuffle_entropy {
	double place_bits;   /* of one function's place in the largest region */
	double base_bits;    /* of the virtual base */
	double address_bits; /* of its address, at the least */
	uint64_t bases_left; /* when one address of a function is known */
	double other_bits;   /* of another function's place then */
};

struct shuffle_entropy shuffle_entropy(const struct shuffle_account *account);

/* Symbols' names are a file's: nothing in them may speak to the terminal. Returns `to`. */
const char *shuffle_plain(char *to, size_t bytes, const char *from);

void print_shuffle_summary(const struct shuffle_account *account);
/* With pinned ranges and all sums when `all`. */
json_t *shuffle_json(const struct shuffle_account *account, bool all);
void print_chunks(const struct shuffle_account *account);

#endif
