/* SPDX-License-Identifier: Apache-2.0 */
/* Steps of the analysis that find what slides; where anything is uncertain, nothing does, and there is a reason. */
#ifndef RIFFLE_PREPARE_SHUFFLE_SLIDES_H
#define RIFFLE_PREPARE_SHUFFLE_SLIDES_H

#include "prepare/shuffle/internal.h"

/* Gives up: this kernel's blocks cannot slide. The first reason counts. */
__attribute__((format(printf, 2, 3))) void slides_none(struct work *work, const char *format, ...);

/* After symbols and sections: where the blocks lie. */
int slides_find_blocks(struct work *work, struct riffle_error *error);
/* A field of code that is relative to its place, of `bits` bits; `address` is what it refers to. */
int slides_note(struct work *work, uint32_t field, uint64_t address, unsigned bits, struct riffle_error *error);
/* Code that does not decode: its bytes must not look like distances to another block, whatever they are. */
void slides_unread(struct work *work, uint32_t offset, uint32_t bytes);
/* A table that has been read: its distances, those to data too. */
void slides_note_table(struct work *work, const char *name, uint32_t offset, uint32_t bytes, uint32_t stride);
/* After everything else. */
int slides_finish(struct work *work, struct riffle_error *error);

/* slides_census.c: looks for distances between blocks in whatever is not code and no known table. */
int slides_census(struct work *work, struct riffle_error *error);

#define SLIDES_WHOLE UINT32_MAX /* as a column: all of its table */
static inline bool slides_is_column(const struct shuffle_column *column, const struct shuffle_column *of)
{
	return !strcmp(column->table, of->table) && (of->at == SLIDES_WHOLE || column->at == of->at);
}
/* For tests: the same as if a column, or a table, were not known. */
int slides_census_without(struct work *work, const struct shuffle_column *hidden, struct riffle_error *error);
/* slides_probe.c: that for each column and each table, and what comes of it to work->slides_tell; changes nothing. */
int slides_probe(struct work *work, struct riffle_error *error);

/* The number of the block that an offset lies in. */
uint32_t slides_block(const struct work *work, uint32_t offset);
/* Whether there is a symbol at exactly this offset. */
bool slides_has_symbol(const struct work *work, uint64_t offset);

#endif
