/* SPDX-License-Identifier: Apache-2.0 */
/* Decompresses the frames of a prepared kernel that is stored compressed, which libriffle leaves to its user. */
#ifndef RIFFLE_KERNEL_FRAME_READER_H
#define RIFFLE_KERNEL_FRAME_READER_H

#include <riffle/plan.h>

struct frame_reader;

/*
 * Makes a source read frames too; several threads may do so at the same time. On success release with
 * frame_reader_end(), after which the source must not be used. Errors: MEMORY.
 */
int frame_reader_begin(struct frame_reader **reader, struct riffle_source *source, struct riffle_error *error);

/* NULL is allowed. */
void frame_reader_end(struct frame_reader *reader);

/* Bytes decompressed so far: more than were read if only part of a frame was requested. */
uint64_t frame_reader_decompressed(const struct frame_reader *reader);

#endif
