/* SPDX-License-Identifier: Apache-2.0 */
/* The output of `riffle inspect` about a kernel's shuffle: a line or two, an object, or the details of its chunks. */
#ifndef RIFFLE_CLI_COMMANDS_INSPECT_SHUFFLE_H
#define RIFFLE_CLI_COMMANDS_INSPECT_SHUFFLE_H

#include <jansson.h>

#include "cli/commands/chunk_stats.h"
#include "prepare/shuffle/shuffle.h"

struct shuffle_account {
	const struct riffle_plan *plan;
	struct chunk_stats stats;
	const struct shuffle *shuffle; /* the analysis; NULL: only the plan's data is printed */
	uint64_t virtual_slots;        /* 0: not known */
	uint64_t virtual_slots_slid;   /* with slides; 0: none are possible, or not known */
};

/* What an attacker must guess about a shuffled kernel, in bits. */
struct shuffle_entropy {
	double place_bits;   /* of one function's place in the largest region */
	double base_bits;    /* of the virtual base */
	double address_bits; /* of its address, at least */
	uint64_t bases_left; /* if one function's address is known */
	double other_bits;   /* of another function's place, in that case */
};

struct shuffle_entropy shuffle_entropy(const struct shuffle_account *account);

/* Makes a symbol name safe to print: names come from an untrusted file. Returns `to`. */
const char *shuffle_plain(char *to, size_t bytes, const char *from);

void print_shuffle_summary(const struct shuffle_account *account);
/* With pinned ranges and all sums when `all`. */
json_t *shuffle_json(const struct shuffle_account *account, bool all);
void print_chunks(const struct shuffle_account *account);

#endif
