/* SPDX-License-Identifier: Apache-2.0 */
/* Compresses frames, slowly and well: it is done once, and each is decompressed at every boot. */
#include "frames.h"

#include <stdlib.h>
#include <string.h>

#include <lz4hc.h>
#include <zstd.h>

#include "common/fail.h"

#define ZSTD_LEVEL 15 /* from 16 on the frames of a kernel become 1 % shorter, and preparing takes twice as long */

/* Bytes that a frame's were compressed to, at most `room`; 0 when they do not fit. */
static size_t compress(ZSTD_CCtx *zstd, const uint8_t *from, size_t bytes, uint8_t *to, size_t room)
{
	size_t stored;

	if (!zstd) {
		int made = LZ4_compress_HC((const char *)from, (char *)to, (int)bytes, (int)room, LZ4HC_CLEVEL_MAX);

		return made > 0 ? (size_t)made : 0;
	}
	stored = ZSTD_compress2(zstd, to, room, from, bytes);
	return ZSTD_isError(stored) ? 0 : stored;
}

static void compress_all(struct stored_frames *frames, const struct riffle_image *image, ZSTD_CCtx *zstd)
{
	const struct image_segment *segment = image->segment;

	for (uint32_t i = 0; i < frames->count; i++) {
		struct riffle_frame *frame = &frames->frame[i];
		uint8_t *to = frames->bytes + frames->total;
		const uint8_t *from;
		size_t stored;

		while (frame->image_offset >= analysis_segment_offset(image, segment) + segment->file_bytes)
			segment++;
		from = segment->bytes + (frame->image_offset - analysis_segment_offset(image, segment));
		/* what does not become shorter is stored as it is: its length says so */
		stored = frame->bytes > 1 ? compress(zstd, from, frame->bytes, to, frame->bytes - 1) : 0;
		if (!stored) {
			memcpy(to, from, frame->bytes);
			stored = frame->bytes;
		}
		frame->stored_bytes = (uint32_t)stored;
		frame->stored_offset = (uint32_t)frames->total;
		frames->total += stored;
	}
}

int frames_compress(struct stored_frames *frames, const struct riffle_image *image, enum riffle_compression method,
		    struct riffle_error *error)
{
	uint64_t bytes = 1;
	ZSTD_CCtx *zstd = NULL;

	if (method != RIFFLE_COMPRESSION_LZ4 && method != RIFFLE_COMPRESSION_ZSTD)
		return riffle_fail_found(error, RIFFLE_ERR_UNSUPPORTED, "storage", "is no compression for frames",
					 (uint64_t)method);
	for (uint32_t i = 0; i < frames->count; i++)
		bytes += frames->frame[i].bytes;
	frames->bytes = malloc(bytes);
	if (method == RIFFLE_COMPRESSION_ZSTD)
		zstd = ZSTD_createCCtx();
	if (!frames->bytes || (method == RIFFLE_COMPRESSION_ZSTD && !zstd) ||
	    (zstd && ZSTD_isError(ZSTD_CCtx_setParameter(zstd, ZSTD_c_compressionLevel, ZSTD_LEVEL)))) {
		ZSTD_freeCCtx(zstd);
		return riffle_fail(error, RIFFLE_ERR_MEMORY, "frames", "no memory to compress them");
	}
	compress_all(frames, image, zstd);
	ZSTD_freeCCtx(zstd);
	return RIFFLE_OK;
}
