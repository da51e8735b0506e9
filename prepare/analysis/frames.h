/* SPDX-License-Identifier: Apache-2.0 */
/* The payload of a compressed prepared kernel, cut into separately compressed frames. */
#ifndef RIFFLE_PREPARE_FRAMES_H
#define RIFFLE_PREPARE_FRAMES_H

#include "analysis.h"
#include "encode.h"

struct stored_frames {
	struct riffle_frame *frame;
	uint32_t count;
	uint8_t *bytes; /* the stored frames, one after another */
	uint64_t total;
};

/*
 * Cuts the extents where a load's reads begin and end, given by `areas` and `shuffle`, which may be empty. Fills in
 * image_offset and bytes of each frame. Errors: MEMORY.
 */
int frames_cut(struct stored_frames *frames, const struct riffle_extent *extents, uint32_t extent_count,
	       const struct plan_areas *areas, const struct encoded *shuffle, struct riffle_error *error);

/*
 * Compresses each frame (`method` is RIFFLE_COMPRESSION_LZ4 or RIFFLE_COMPRESSION_ZSTD), but stores one that does not
 * become shorter uncompressed. Errors: MEMORY, UNSUPPORTED (another method).
 */
int frames_compress(struct stored_frames *frames, const struct riffle_image *image, enum riffle_compression method,
		    struct riffle_error *error);

/*
 * Encodes a stored plan: the list of its pieces, then the pieces. The caller frees *stored. Errors as above.
 */
int frames_store_plan(uint8_t **stored, uint64_t *stored_bytes, const uint8_t *plan, uint64_t plan_bytes,
		      enum riffle_compression method, struct riffle_error *error);

void frames_free(struct stored_frames *frames);

#endif
