/* SPDX-License-Identifier: Apache-2.0 */
/* A shuffled load in progress: the workspace divided, and the jobs it has. */
#ifndef RIFFLE_LOAD_SHUFFLE_H
#define RIFFLE_LOAD_SHUFFLE_H

#include "load/internal.h"

#define GROUP_BYTES (128u << 10)        /* chunks that start in so much of a region are one job */
#define FEED_BYTES (64u << 10)          /* tables are read so much at a time */
/* what a job reads at once: a group, whose last chunk may reach behind it, and as much again as a hostile field could */
#define SCRATCH_BYTES (GROUP_BYTES + RIFFLE_CHUNK_BYTES_MAX + 65536u + 64u)
#define SCRATCHES 8u

struct shuffle_load {
	struct load load;
	int32_t *shift;                 /* chunk_count + 1 */
	uint32_t *place;                /* chunk_count + 1 for each table, twice that for kallsyms */
	uint32_t *symbol_place;         /* kallsyms->symbols */
	uint8_t *scratch;               /* SCRATCHES times SCRATCH_BYTES */
	uint32_t scratch_taken;         /* atomic: a bit for each */
};

/* A scratch buffer for this job alone; given back by its number. */
uint8_t *riffle_shuffle_scratch(struct shuffle_load *s, unsigned *number);
void riffle_shuffle_scratch_back(struct shuffle_load *s, unsigned number);

/* Writes one sorted table in its new order. */
int riffle_shuffle_table(struct shuffle_load *s, uint32_t index, uint8_t *scratch, struct riffle_error *error);
/* Writes kallsyms' offsets, names, markers and by-name sequence. */
int riffle_shuffle_kallsyms(struct shuffle_load *s, uint8_t *scratch, struct riffle_error *error);

#endif
