/* SPDX-License-Identifier: Apache-2.0 */
/* Statistics of a plan's chunks: sizes, references, and how much an attacker would have to guess. */
#ifndef RIFFLE_CLI_COMMANDS_CHUNK_STATS_H
#define RIFFLE_CLI_COMMANDS_CHUNK_STATS_H

#include <stdint.h>

#include <riffle/plan.h>

struct chunk_stats {
	uint32_t chunks, regions;
	uint32_t alone; /* chunks that are alone in their region, and so do not move */
	uint64_t bytes;
	uint32_t size[5]; /* minimum, median, 90th and 99th percentile, maximum */
	uint64_t pc32, own32, abs32,
	    abs64;                 /* in chunks: PC-relative to chunks and to fixed targets, absolute to chunks */
	uint64_t fixed32, fixed64; /* references to chunks from fixed code and data */
	uint32_t largest_chunks;   /* of the region with the most of them */
	uint64_t largest_bytes;
	double order_bits; /* log2 of the number of orders: sum of log2(n!) over the regions */
	double place_bits; /* log2 of the number of places of a chunk, averaged over the chunks */
};

/* Errors: MEMORY. A plan without chunks gives zeros. */
int chunk_stats(struct chunk_stats *stats, const struct riffle_plan *plan, struct riffle_error *error);

/* The same for one region of this many chunks. */
double order_bits(uint32_t chunks);

/*
 * How many virtual bases remain possible given a leaked pointer to a moved function: the multiples of 2 MiB for which
 * the address lies in the largest region. Never more than `slots`.
 */
uint64_t bases_left(const struct chunk_stats *stats, uint64_t slots);

#endif
