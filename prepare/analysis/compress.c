/* SPDX-License-Identifier: Apache-2.0 */
/* Compresses frames and plans, favouring size over speed: compression is done once, decompression at every boot. */
#include "frames.h"

#include <stdlib.h>
#include <string.h>

#include <lz4hc.h>
#include <zstd.h>

#include "common/fail.h"

#define ZSTD_LEVEL 15 /* level 16 and above make a kernel's frames 1 % smaller, but take twice as long */

struct compressor {
	enum riffle_compression method;
	ZSTD_CCtx *zstd; /* NULL for LZ4 */
};

static int begin(struct compressor *c, enum riffle_compression method, struct riffle_error *error)
{
	*c = (struct compressor){.method = method};
	if (method == RIFFLE_COMPRESSION_LZ4)
		return RIFFLE_OK;
	if (method != RIFFLE_COMPRESSION_ZSTD)
		return riffle_fail_found(error, RIFFLE_ERR_UNSUPPORTED, "storage", "is not a compression for frames",
					 (uint64_t)method);
	c->zstd = ZSTD_createCCtx();
	if (c->zstd && !ZSTD_isError(ZSTD_CCtx_setParameter(c->zstd, ZSTD_c_compressionLevel, ZSTD_LEVEL)))
		return RIFFLE_OK;
	ZSTD_freeCCtx(c->zstd);
	return riffle_fail(error, RIFFLE_ERR_MEMORY, "frames", "no memory to compress them");
}

/* Compresses into at most `room` bytes; 0 if they do not fit. */
static size_t compress(const struct compressor *c, const uint8_t *from, size_t bytes, uint8_t *to, size_t room)
{
	size_t made;

	if (!c->zstd) {
		int n = LZ4_compress_HC((const char *)from, (char *)to, (int)bytes, (int)room, LZ4HC_CLEVEL_MAX);

		return n > 0 ? (size_t)n : 0;
	}
	made = ZSTD_compress2(c->zstd, to, room, from, bytes);
	return ZSTD_isError(made) ? 0 : made;
}

/*
 * Data that does not become shorter is stored uncompressed, which its length shows. `to` has room for `bytes`. LZ4 is
 * for files that are read fast, where data that it shortens by less than a quarter is read faster than decompressed.
 */
static uint32_t store(const struct compressor *c, const uint8_t *from, size_t bytes, uint8_t *to)
{
	size_t most = c->zstd ? bytes - 1 : bytes - bytes / 4 - 1;
	size_t stored = bytes > 1 ? compress(c, from, bytes, to, most) : 0;

	if (stored)
		return (uint32_t)stored;
	memcpy(to, from, bytes);
	return (uint32_t)bytes;
}

static void compress_all(struct stored_frames *frames, const struct riffle_image *image, const struct compressor *c)
{
	const struct image_segment *segment = image->segment;

	for (uint32_t i = 0; i < frames->count; i++) {
		struct riffle_frame *frame = &frames->frame[i];

		while (frame->image_offset >= analysis_segment_offset(image, segment) + segment->file_bytes)
			segment++;
		frame->stored_bytes =
		    store(c, segment->bytes + (frame->image_offset - analysis_segment_offset(image, segment)),
			  frame->bytes, frames->bytes + frames->total);
		frame->stored_offset = (uint32_t)frames->total;
		frames->total += frame->stored_bytes;
	}
}

int frames_compress(struct stored_frames *frames, const struct riffle_image *image, enum riffle_compression method,
		    struct riffle_error *error)
{
	struct compressor c;
	uint64_t bytes = 1;
	int status = begin(&c, method, error);

	if (status)
		return status;
	for (uint32_t i = 0; i < frames->count; i++)
		bytes += frames->frame[i].bytes;
	frames->bytes = malloc(bytes);
	if (frames->bytes)
		compress_all(frames, image, &c);
	else
		status = riffle_fail(error, RIFFLE_ERR_MEMORY, "frames", "no memory to compress them");
	ZSTD_freeCCtx(c.zstd);
	return status;
}

int frames_store_plan(uint8_t **stored, uint64_t *stored_bytes, const uint8_t *plan, uint64_t plan_bytes,
		      enum riffle_compression method, struct riffle_error *error)
{
	const uint64_t pieces = (plan_bytes + RIFFLE_FRAME_BYTES_MAX - 1) / RIFFLE_FRAME_BYTES_MAX;
	uint64_t at = pieces * sizeof(uint32_t);
	struct compressor c;
	int status = begin(&c, method, error);

	if (status)
		return status;
	*stored = malloc(at + plan_bytes);
	if (!*stored)
		status = riffle_fail(error, RIFFLE_ERR_MEMORY, "plan", "no memory to compress it");
	for (uint64_t i = 0; !status && i < pieces; i++) {
		uint64_t done = i * RIFFLE_FRAME_BYTES_MAX, left = plan_bytes - done;
		uint32_t n =
		    store(&c, plan + done, left < RIFFLE_FRAME_BYTES_MAX ? left : RIFFLE_FRAME_BYTES_MAX, *stored + at);

		memcpy(*stored + i * sizeof n, &n, sizeof n);
		at += n;
	}
	*stored_bytes = at;
	ZSTD_freeCCtx(c.zstd);
	return status;
}
