/* SPDX-License-Identifier: Apache-2.0 */
/* What a plan's chunks come to: sizes, references, and how much an attacker would have to guess. */
#ifndef RIFFLE_CLI_CHUNK_STATS_H
#define RIFFLE_CLI_CHUNK_STATS_H

#include <stdint.h>

#include <riffle/plan.h>

struct chunk_stats {
	uint32_t chunks, regions;
	uint32_t alone; /* chunks that share their region with no other: they stay where they are */
	uint64_t bytes;
	uint32_t size[5];                   /* least, median, 90 %, 99 %, most: so many chunks are no larger */
	uint64_t pc32, own32, abs32, abs64; /* in chunks: PC-relative to chunks and to what stays, absolute to chunks */
	uint64_t fixed32, fixed64;          /* references to chunks from what does not move */
	uint32_t largest_chunks;            /* of the region with the most of them */
	uint64_t largest_bytes;
	double order_bits; /* log2 of the number of orders: sum of log2(n!) over the regions */
	double place_bits; /* log2 of the places of one chunk, on average over the chunks */
};

/* Errors: MEMORY. A plan without chunks gives zeros. */
int chunk_stats(struct chunk_stats *stats, const struct riffle_plan *plan, struct riffle_error *error);

/* The same over one region of so many chunks. */
double order_bits(uint32_t chunks);

/*
 * From how many virtual bases a leaked pointer to a moved function leaves its reader to choose: the multiples of 2 MiB
 * for which the address lies in the largest region. Never more than `slots`.
 */
uint64_t bases_left(const struct chunk_stats *stats, uint64_t slots);

#endif
