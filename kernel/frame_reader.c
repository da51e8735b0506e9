/* SPDX-License-Identifier: Apache-2.0 */
/* Reads a frame's stored bytes into memory of its own and decompresses them to where they belong. */
#include "kernel/frame_reader.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include <lz4.h>
#include <zstd.h>

#include "common/fail.h"

#define SLOTS 8u

/* What one thread works with; made when it is first needed and used again for the next frame. */
struct slot {
	ZSTD_DCtx *zstd;
	uint8_t *stored, *whole; /* RIFFLE_FRAME_BYTES_MAX each; `whole` for those asked for in part */
};

struct frame_reader {
	uint32_t taken;        /* atomic: a bit for each slot */
	uint64_t decompressed; /* atomic */
	struct slot slot[SLOTS];
};

static unsigned take(struct frame_reader *reader)
{
	for (;;) {
		uint32_t taken = __atomic_load_n(&reader->taken, __ATOMIC_RELAXED);
		unsigned i = (unsigned)__builtin_ctz(~taken);

		/* more threads than slots: one will be back soon */
		if (i >= SLOTS)
			__builtin_ia32_pause();
		else if (__atomic_compare_exchange_n(&reader->taken, &taken, taken | 1u << i, false, __ATOMIC_ACQUIRE,
						     __ATOMIC_RELAXED))
			return i;
	}
}

static void give_back(struct frame_reader *reader, unsigned i)
{
	__atomic_fetch_and(&reader->taken, ~(1u << i), __ATOMIC_RELEASE);
}

/* All memory that a frame of this kind takes, so that nothing can fail for want of it later. */
static int equip(struct slot *slot, const struct riffle_frame_read *frame, struct riffle_error *error)
{
	bool part = frame->want != frame->bytes;

	if (!slot->stored)
		slot->stored = malloc(RIFFLE_FRAME_BYTES_MAX);
	if (!slot->whole && part)
		slot->whole = malloc(RIFFLE_FRAME_BYTES_MAX);
	if (!slot->zstd && frame->method == RIFFLE_COMPRESSION_ZSTD)
		slot->zstd = ZSTD_createDCtx();
	if (!slot->stored || (part && !slot->whole) || (!slot->zstd && frame->method == RIFFLE_COMPRESSION_ZSTD))
		return riffle_fail(error, RIFFLE_ERR_MEMORY, "frame", "no memory to decompress it");
	return RIFFLE_OK;
}

static int decompress(struct slot *slot, const struct riffle_frame_read *frame, uint8_t *out,
		      struct riffle_error *error)
{
	size_t made;

	if (frame->method == RIFFLE_COMPRESSION_LZ4) {
		int n = LZ4_decompress_safe((const char *)slot->stored, (char *)out, (int)frame->stored_bytes,
					    (int)frame->bytes);

		if (n < 0)
			return riffle_fail_found(
			    error, RIFFLE_ERR_FORMAT, "frame",
			    "is not an LZ4 block, or one of more bytes than the plan says (file offset)",
			    frame->file_offset);
		made = (size_t)n;
	} else if (frame->method == RIFFLE_COMPRESSION_ZSTD) {
		made = ZSTD_decompressDCtx(slot->zstd, out, frame->bytes, slot->stored, frame->stored_bytes);
		if (ZSTD_isError(made))
			return riffle_fail_found(
			    error, RIFFLE_ERR_FORMAT, "frame",
			    "is not a Zstandard frame, or one of more bytes than the plan says (file offset)",
			    frame->file_offset);
	} else {
		return riffle_fail_found(error, RIFFLE_ERR_UNSUPPORTED, "storage",
					 "is compressed in a way unknown here", (uint64_t)frame->method);
	}
	if (made != frame->bytes)
		return riffle_fail_expected(error, RIFFLE_ERR_FORMAT, "frame",
					    "decompresses to fewer bytes than the plan says", made, frame->bytes);
	return RIFFLE_OK;
}

static int read_frame(const struct riffle_source *source, const struct riffle_frame_read *frame, void *buffer,
		      struct riffle_error *error)
{
	struct frame_reader *reader = source->frame_opaque;
	bool part = frame->want != frame->bytes;
	unsigned i = take(reader);
	struct slot *slot = &reader->slot[i];
	int status;

	status = equip(slot, frame, error);
	if (!status)
		status = source->read(source->opaque, frame->file_offset, slot->stored, frame->stored_bytes, error);
	if (!status)
		status = decompress(slot, frame, part ? slot->whole : buffer, error);
	if (!status && part)
		memcpy(buffer, slot->whole + frame->skip, frame->want);
	give_back(reader, i);
	__atomic_fetch_add(&reader->decompressed, frame->bytes, __ATOMIC_RELAXED);
	return status;
}

int frame_reader_begin(struct frame_reader **reader, struct riffle_source *source, struct riffle_error *error)
{
	*reader = calloc(1, sizeof **reader);
	if (!*reader)
		return riffle_fail(error, RIFFLE_ERR_MEMORY, "frame", "no memory to decompress it");
	source->read_frame = read_frame;
	source->frame_opaque = *reader;
	return RIFFLE_OK;
}

void frame_reader_end(struct frame_reader *reader)
{
	if (!reader)
		return;
	for (unsigned i = 0; i < SLOTS; i++) {
		ZSTD_freeDCtx(reader->slot[i].zstd);
		free(reader->slot[i].stored);
		free(reader->slot[i].whole);
	}
	free(reader);
}

uint64_t frame_reader_decompressed(const struct frame_reader *reader)
{
	return reader ? __atomic_load_n(&reader->decompressed, __ATOMIC_RELAXED) : 0;
}
