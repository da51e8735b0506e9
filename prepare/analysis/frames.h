/* SPDX-License-Identifier: Apache-2.0 */
/* The payload of a compressed prepared kernel: cut into frames, each compressed by itself. */
#ifndef RIFFLE_PREPARE_FRAMES_H
#define RIFFLE_PREPARE_FRAMES_H

#include "analysis.h"
#include "encode.h"

struct stored_frames {
	struct riffle_frame *frame;
	uint32_t count;
	uint8_t *bytes; /* what goes into the file, frame after frame */
	uint64_t total;
};

/*
 * Cuts the extents where loads begin and end to read: `areas` and `shuffle` say where that is, and may be empty. Fills
 * image_offset and bytes of each frame. Errors: MEMORY.
 */
int frames_cut(struct stored_frames *frames, const struct riffle_extent *extents, uint32_t extent_count,
	       const struct plan_areas *areas, const struct encoded *shuffle, struct riffle_error *error);

/*
 * Compresses each frame (`method` is RIFFLE_COMPRESSION_LZ4 or RIFFLE_COMPRESSION_ZSTD), but keeps the bytes of one
 * that does not become shorter. Errors: MEMORY, UNSUPPORTED (another method).
 */
int frames_compress(struct stored_frames *frames, const struct riffle_image *image, enum riffle_compression method,
		    struct riffle_error *error);

/*
 * Stores a plan as the format says: the list of its pieces, then the pieces. *stored is the caller's, to be freed.
 * Errors as above.
 */
int frames_store_plan(uint8_t **stored, uint64_t *stored_bytes, const uint8_t *plan, uint64_t plan_bytes,
		      enum riffle_compression method, struct riffle_error *error);

void frames_free(struct stored_frames *frames);

#endif
