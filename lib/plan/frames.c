/* SPDX-License-Identifier: Apache-2.0 */
/* Reads the bytes of a kernel and of its plan however they are stored, and checks the frames of a compressed one. */
#include "plan/frames.h"

#include "common/bytes.h"

static int fail_unknown_storage(struct riffle_error *error, uint32_t storage)
{
	return riffle_fail_found(error, RIFFLE_ERR_UNSUPPORTED, "storage",
				 "is not a compression that this library knows for frames", storage);
}

static int check_frame(const struct riffle_frame *frame, uint64_t image_offset, uint64_t image_end,
		       uint64_t stored_offset, struct riffle_error *error)
{
	if (frame->image_offset != image_offset)
		return riffle_fail_expected(error, RIFFLE_ERR_FORMAT, "frame image_offset",
					    "is not where the frame before or a gap between extents ends",
					    frame->image_offset, image_offset);
	if (!frame->bytes || frame->bytes > RIFFLE_FRAME_BYTES_MAX)
		return riffle_fail_expected(error, RIFFLE_ERR_FORMAT, "frame bytes", "is 0 or too large", frame->bytes,
					    RIFFLE_FRAME_BYTES_MAX);
	if (frame->bytes > image_end - image_offset)
		return riffle_fail_expected(error, RIFFLE_ERR_FORMAT, "frame bytes", "reach past the end of an extent",
					    frame->bytes, image_end - image_offset);
	if (!frame->stored_bytes || frame->stored_bytes > frame->bytes)
		return riffle_fail_expected(error, RIFFLE_ERR_FORMAT, "frame stored_bytes",
					    "is 0 or more than it decompresses to", frame->stored_bytes, frame->bytes);
	if (frame->stored_offset != stored_offset)
		return riffle_fail_expected(error, RIFFLE_ERR_FORMAT, "frame stored_offset",
					    "is not where the one before ends", frame->stored_offset, stored_offset);
	return RIFFLE_OK;
}

/*
 * Extents are disjoint and end inside an image of less than 1 GiB, and no frame's stored size exceeds its size: every
 * sum here fits 32 bits.
 */
int riffle_plan_check_frames(const struct riffle_plan *plan, struct riffle_error *error)
{
	const struct riffle_header *h = plan->header;
	const struct riffle_frame *frame = plan->frames;
	uint32_t left = plan->frame_count;
	uint64_t stored = 0;

	if (!(h->features & RIFFLE_FEATURE_COMPRESSED)) {
		if (left || h->storage)
			return riffle_fail_found(error, RIFFLE_ERR_FORMAT, "features",
						 "deny the frames that are there, or their compression", left);
		return RIFFLE_OK;
	}
	if (h->storage != RIFFLE_COMPRESSION_LZ4 && h->storage != RIFFLE_COMPRESSION_ZSTD)
		return fail_unknown_storage(error, h->storage);
	for (uint32_t i = 0; i < plan->extent_count; i++) {
		const struct riffle_extent *e = &plan->extents[i];
		uint64_t at = e->image_offset, end = at + e->bytes;

		for (; at < end; frame++, left--) {
			int status;

			if (!left)
				return riffle_fail_found(error, RIFFLE_ERR_FORMAT, "frames",
							 "end before the extents do (image offset)", at);
			status = check_frame(frame, at, end, stored, error);
			if (status)
				return status;
			at += frame->bytes;
			stored += frame->stored_bytes;
		}
	}
	if (left)
		return riffle_fail_found(error, RIFFLE_ERR_FORMAT, "frames", "continue after the last extent", left);
	if (h->file_bytes - h->payload_offset != stored)
		return riffle_fail_expected(error, RIFFLE_ERR_FORMAT, "frames",
					    "do not fill the file from payload_offset to its end", stored,
					    h->file_bytes - h->payload_offset);
	return RIFFLE_OK;
}

#define PIECE RIFFLE_FRAME_BYTES_MAX
#define PIECES_MAX (RIFFLE_PLAN_MAX / PIECE)

/* Reads the pieces that hold the plan's first `bytes`, and of the last one no more than requested. */
static int fetch_pieces(const struct riffle_header *h, const struct riffle_source *source, const uint32_t *stored,
			uint64_t at, uint8_t *plan, uint64_t bytes, struct riffle_error *error)
{
	const uint64_t end = RIFFLE_HEADER_BYTES + h->plan_stored_bytes;

	for (uint64_t done = 0; done < bytes; done += PIECE, stored++) {
		struct riffle_frame_read read = {
		    .file_offset = at,
		    .stored_bytes = *stored,
		    .bytes = h->plan_bytes - done < PIECE ? (uint32_t)(h->plan_bytes - done) : PIECE,
		    .method = (enum riffle_compression)h->storage,
		};
		int status;

		read.want = bytes - done < read.bytes ? (uint32_t)(bytes - done) : read.bytes;
		if (!*stored || *stored > read.bytes || *stored > end - at)
			return riffle_fail_expected(error, RIFFLE_ERR_FORMAT, "plan piece",
						    "is stored in no bytes, in too many, or past the plan's end",
						    *stored, read.bytes);
		if (*stored == read.bytes)
			status = source->read(source->opaque, at, plan + done, read.want, error);
		else
			status = source->read_frame(source, &read, plan + done, error);
		if (status)
			return status;
		at += *stored;
	}
	if (bytes == h->plan_bytes && at != end)
		return riffle_fail_expected(error, RIFFLE_ERR_FORMAT, "plan_stored_bytes",
					    "is more than the plan's pieces take", end, at);
	return RIFFLE_OK;
}

int riffle_plan_fetch(const struct riffle_header *h, const struct riffle_source *source, uint8_t *plan, uint64_t bytes,
		      struct riffle_error *error)
{
	uint32_t stored[PIECES_MAX];
	uint64_t index = (h->plan_bytes + PIECE - 1) / PIECE * sizeof *stored;
	int status;

	if (!(h->features & RIFFLE_FEATURE_COMPRESSED))
		return source->read(source->opaque, RIFFLE_HEADER_BYTES, plan, bytes, error);
	status = riffle_plan_check_identity(h, error);
	if (status)
		return status;
	if (h->storage != RIFFLE_COMPRESSION_LZ4 && h->storage != RIFFLE_COMPRESSION_ZSTD)
		return fail_unknown_storage(error, h->storage);
	if (!source->read_frame)
		return riffle_fail_no_frames(error);
	if (h->plan_bytes > RIFFLE_PLAN_MAX || bytes > h->plan_bytes || h->plan_stored_bytes < index ||
	    !riffle_inside(RIFFLE_HEADER_BYTES, h->plan_stored_bytes, source->bytes))
		return riffle_fail_expected(error, RIFFLE_ERR_FORMAT, "plan_stored_bytes",
					    "is less than a list of its pieces, or reaches past the end of the file",
					    h->plan_stored_bytes, source->bytes);
	status = source->read(source->opaque, RIFFLE_HEADER_BYTES, stored, index, error);
	return status ? status : fetch_pieces(h, source, stored, RIFFLE_HEADER_BYTES + index, plan, bytes, error);
}

static int read_frames(const struct riffle_plan *plan, const struct riffle_source *source, uint64_t image_offset,
		       uint8_t *buffer, uint64_t bytes, struct riffle_error *error)
{
	for (uint32_t i = plan_frame_at(plan, image_offset); bytes; i++) {
		const struct riffle_frame *frame = &plan->frames[i];
		struct riffle_frame_read read;
		uint32_t skip;
		int status;

		if (i == plan->frame_count || image_offset < frame->image_offset)
			return riffle_fail_found(error, RIFFLE_ERR_ARGUMENT, "image_offset", "is in no frame",
						 image_offset);
		skip = (uint32_t)(image_offset - frame->image_offset);
		read = (struct riffle_frame_read){
		    .file_offset = plan->header->payload_offset + frame->stored_offset,
		    .stored_bytes = frame->stored_bytes,
		    .bytes = frame->bytes,
		    .skip = skip,
		    .want = bytes < frame->bytes - skip ? (uint32_t)bytes : frame->bytes - skip,
		    .method = (enum riffle_compression)plan->header->storage,
		};
		/* stored as it is: nothing to decompress */
		if (frame->stored_bytes == frame->bytes)
			status = source->read(source->opaque, read.file_offset + skip, buffer, read.want, error);
		else
			status = source->read_frame(source, &read, buffer, error);
		if (status)
			return status;
		buffer += read.want;
		image_offset += read.want;
		bytes -= read.want;
	}
	return RIFFLE_OK;
}

int riffle_plan_read(const struct riffle_plan *plan, const struct riffle_source *source, uint64_t image_offset,
		     void *buffer, size_t bytes, struct riffle_error *error)
{
	if (!riffle_inside(image_offset, bytes, plan->header->image_bytes))
		return riffle_fail_found(error, RIFFLE_ERR_ARGUMENT, "image_offset", "reaches past the image",
					 image_offset);
	if (!plan->frame_count)
		return source->read(source->opaque, plan->header->payload_offset + image_offset, buffer, bytes, error);
	if (!source->read_frame)
		return riffle_fail_no_frames(error);
	return read_frames(plan, source, image_offset, buffer, bytes, error);
}
