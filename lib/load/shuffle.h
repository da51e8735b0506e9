/* SPDX-License-Identifier: Apache-2.0 */
/* A shuffled load in progress: the workspace divided, and the jobs it has. */
#ifndef RIFFLE_LOAD_SHUFFLE_H
#define RIFFLE_LOAD_SHUFFLE_H

#include "load/internal.h"

#define FEED_BYTES (64u << 10)          /* tables are read so much at a time, at most two at once */
#define SCRATCH_PAD 64u                 /* a field at the very end of what a group's offsets reach is whole */
#define SCRATCH_HALF (RIFFLE_GROUP_BYTES_MAX + SCRATCH_PAD)
#define SCRATCH_BYTES (2 * SCRATCH_HALF) /* a group and its map of shifts; or two feeds */
#define SCRATCHES 8u

/* Where a chunk's entries begin in each table, in the new order. */
struct place {
	uint32_t orc, mcount, symbols, names;
};

/* Where a group's chunks and references begin. */
struct group_start {
	uint32_t chunk, pc_step, pc_target, own_step, abs32_ref, abs64_ref;
};

struct shuffle_load {
	struct load load;
	int32_t *shift;                 /* chunk_count + 1 */
	struct place *place;            /* chunk_count */
	uint32_t *exception_place;      /* chunk_count; only of chunks that have exceptions */
	struct group_start *group;      /* group_count */
	uint32_t *symbol_place;         /* kallsyms->symbols */
	uint8_t *scratch;               /* SCRATCHES times SCRATCH_BYTES */
	uint32_t scratch_taken;         /* atomic: a bit for each */
};

/* A scratch buffer for this job alone; given back by its number. */
uint8_t *riffle_shuffle_scratch(struct shuffle_load *s, unsigned *number);
void riffle_shuffle_scratch_back(struct shuffle_load *s, unsigned number);

/* From the order: how far each chunk moves, and where its entries go in each table. */
void riffle_shuffle_places(struct shuffle_load *s);
/* Writes one table about code: a sorted one in its new order. */
int riffle_shuffle_table(struct shuffle_load *s, uint32_t index, uint8_t *scratch, struct riffle_error *error);
/* Writes kallsyms' offsets, names, markers and by-name sequence. */
int riffle_shuffle_kallsyms(struct shuffle_load *s, uint8_t *scratch, struct riffle_error *error);

#endif
