/* SPDX-License-Identifier: Apache-2.0 */
/* Adds up a plan's chunks. */
#include "cli/commands/chunk_stats.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include <riffle/layout.h>

#include "common/fail.h"

double order_bits(uint32_t chunks)
{
	int sign;

	return lgamma_r((double)chunks + 1, &sign) / log(2);
}

static int by_size(const void *a, const void *b)
{
	const uint32_t *x = a, *y = b;

	return (*x > *y) - (*x < *y);
}

static int take_sizes(struct chunk_stats *stats, const struct riffle_plan *plan, struct riffle_error *error)
{
	static const unsigned percent[] = {0, 50, 90, 99, 100};
	uint32_t *size = calloc(plan->chunk_count, sizeof *size);

	if (!size)
		return riffle_fail(error, RIFFLE_ERR_MEMORY, "chunks", "no memory for their sizes");
	for (uint32_t i = 0; i < plan->chunk_count; i++)
		size[i] = riffle_chunk_bytes(&plan->chunks[i]);
	qsort(size, plan->chunk_count, sizeof *size, by_size);
	for (unsigned i = 0; i < sizeof percent / sizeof *percent; i++)
		stats->size[i] = size[(uint64_t)(plan->chunk_count - 1) * percent[i] / 100];
	free(size);
	return RIFFLE_OK;
}

int chunk_stats(struct chunk_stats *stats, const struct riffle_plan *plan, struct riffle_error *error)
{
	memset(stats, 0, sizeof *stats);
	if (!plan->chunk_count)
		return RIFFLE_OK;
	stats->chunks = plan->chunk_count;
	stats->regions = plan->region_count;
	stats->fixed32 = plan->fixed32_count;
	stats->fixed64 = plan->fixed64_count;
	stats->pc32 = plan->pc_target_count;
	for (uint32_t i = 0; i < plan->own_step_count; i++)
		stats->own32 += plan->own_steps[i] != RIFFLE_STEP_FAR;
	stats->abs32 = plan->abs32_ref_count;
	stats->abs64 = plan->abs64_ref_count;
	for (uint32_t i = 0; i < plan->chunk_count; i++)
		stats->bytes += riffle_chunk_bytes(&plan->chunks[i]);
	for (uint32_t i = 0; i < plan->region_count; i++) {
		const struct riffle_region *r = &plan->regions[i];

		stats->alone += r->chunk_count == 1;
		stats->order_bits += order_bits(r->chunk_count);
		stats->place_bits += r->chunk_count * log2(r->chunk_count) / plan->chunk_count;
		if (r->chunk_count > stats->largest_chunks) {
			stats->largest_chunks = r->chunk_count;
			stats->largest_bytes = r->bytes;
		}
	}
	return take_sizes(stats, plan, error);
}

uint64_t bases_left(const struct chunk_stats *stats, uint64_t slots)
{
	uint64_t left = (stats->largest_bytes + RIFFLE_SLOT_BYTES - 1) / RIFFLE_SLOT_BYTES;

	return left < slots ? left : slots;
}
