/* SPDX-License-Identifier: Apache-2.0 */
/* A shuffled load in progress: the divisions of the workspace, and the jobs. */
#ifndef RIFFLE_LOAD_SHUFFLE_H
#define RIFFLE_LOAD_SHUFFLE_H

#include "load/internal.h"
#include "load/vector.h"

#define BATCH_BYTES (12 * RIFFLE_GROUP_BYTES_MAX) /* adjacent groups are read in batches of this size */
#define MAP_BYTES (RIFFLE_GROUP_BYTES_MAX / RIFFLE_CHUNK_ALIGN * 4 + 64) /* a group's shifts: a word for 16 bytes */
#define SCRATCHES 3u
#define SHUFFLE_TABLE_JOBS 6u

/* Where a group's chunks and references begin. */
struct group_start {
	uint32_t chunk, pc_step, pc_target, own_step, abs32_ref, abs64_ref;
};

struct shuffle_load {
	struct load load;
	int32_t *shift;            /* chunk_count + 1 */
	struct group_start *group; /* group_count */
	uint32_t *batch;           /* each batch's first group; batch_count + 1 of them */
	uint32_t batch_count;
	uint8_t *scratch; /* SCRATCHES × scratch_bytes: a batch and a map, or a number for each chunk */
	size_t scratch_bytes;
	uint32_t scratch_taken; /* atomic: a bit for each */
	uint32_t scratch_used;  /* atomic: those that ever were */
	/*
	 * Staging buffers for tables as they are in the file, for as many jobs as there is space, at least one. This is
	 * guest memory that the largest region's chunks fill later: only bytes are copied from it, never an offset or a
	 * count.
	 */
	uint8_t *stage;
	size_t stage_bytes;
	unsigned stages;
	uint32_t tail[SHUFFLE_TABLE_JOBS]; /* bytes that follow a job's table and are read with it */
};

/* Takes one of the first `count` scratch buffers for this job alone; it is released by its number. */
uint8_t *riffle_shuffle_scratch(struct shuffle_load *s, unsigned count, unsigned *number);
void riffle_shuffle_scratch_back(struct shuffle_load *s, unsigned number);

/* Bytes of a stage. */
uint64_t riffle_shuffle_stage_bytes(const struct riffle_plan *plan);
/* Before any job: gives the tables' jobs the few plain bytes that follow some, which their areas then include. */
void riffle_shuffle_take_tails(struct shuffle_load *s);
/* One of SHUFFLE_TABLE_JOBS. All of them must run before the first batch of chunks. */
int riffle_shuffle_table_job(struct shuffle_load *s, uint32_t index, uint8_t *scratch, uint8_t *stage,
			     struct riffle_error *error);

/* Copies `count` chunks, whose bytes follow each other, to their places. */
void riffle_shuffle_scatter(const struct shuffle_load *s, uint32_t first, uint32_t count, const uint8_t *bytes);
/* the same with the vectors that every processor has */
void riffle_shuffle_scatter_plain(const struct shuffle_load *s, uint32_t first, uint32_t count, const uint8_t *bytes);

#endif
