/* SPDX-License-Identifier: Apache-2.0 */
/* Encodes the result of the shuffle analysis as the sections of a plan. */
#ifndef RIFFLE_PREPARE_ENCODE_H
#define RIFFLE_PREPARE_ENCODE_H

#include <riffle/error.h>
#include <riffle/format.h>

#include "prepare/shuffle/shuffle.h"

/* Sections from RIFFLE_SECTION_REGIONS on; the others stay empty. */
struct encoded {
	void *entries[RIFFLE_SECTION_COUNT];
	uint32_t count[RIFFLE_SECTION_COUNT];
};

/* Bytes of one entry of each section of a plan. */
extern const unsigned encoded_entry_bytes[RIFFLE_SECTION_COUNT];

/*
 * Encodes a shuffle of `image`. Also checks what a load assumes: every absolute field inside a chunk is among the
 * references, tables and kallsyms are sorted by address, a chunk's entries are adjacent. On success release it with
 * encoded_free(). Errors: UNSUPPORTED (with the link address), MEMORY.
 */
int encode_shuffle(struct encoded *encoded, const struct riffle_image *image, const struct shuffle *shuffle,
		   struct riffle_error *error);
void encoded_free(struct encoded *encoded);

#endif
