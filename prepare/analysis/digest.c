/* SPDX-License-Identifier: Apache-2.0 */
/* Checks that a prepared kernel still holds exactly what was written when it was made. */
#include "prepared.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include <nettle/sha2.h>

#include <riffle/plan.h>

#include "common/bytes.h"
#include "common/fail.h"
#include "common/plan_shape.h"

#define PIECE_BYTES (UINT64_C(1) << 20)

/* a walk over the file in pieces: `use` sees each of them in order */
struct walk {
	const struct riffle_source *source;
	uint8_t *piece; /* PIECE_BYTES, more than any frame has */
};

static int hash_range(const struct walk *walk, uint64_t offset, uint64_t bytes, struct sha256_ctx *digest,
		      struct riffle_error *error)
{
	while (bytes) {
		size_t now = bytes < PIECE_BYTES ? (size_t)bytes : (size_t)PIECE_BYTES;
		int status = walk->source->read(walk->source->opaque, offset, walk->piece, now, error);

		if (status)
			return status;
		sha256_update(digest, now, walk->piece);
		offset += now;
		bytes -= now;
	}
	return 0;
}

static int check_zero(const struct walk *walk, uint64_t offset, uint64_t bytes, struct riffle_error *error)
{
	while (bytes) {
		size_t now = bytes < PIECE_BYTES ? (size_t)bytes : (size_t)PIECE_BYTES;
		int status = walk->source->read(walk->source->opaque, offset, walk->piece, now, error);

		if (status)
			return status;
		for (size_t i = 0; i < now; i++)
			if (walk->piece[i])
				return riffle_fail_found(error, RIFFLE_ERR_CHECKSUM, "file",
							 "holds a byte that is not zero between its extents",
							 offset + i);
		offset += now;
		bytes -= now;
	}
	return 0;
}

/* A range that no extent covers must read as zero; for holes in the file that is known without reading. */
static int check_gap(const struct walk *walk, int fd, uint64_t start, uint64_t end, struct riffle_error *error)
{
	while (start < end) {
		off_t data = lseek(fd, (off_t)start, SEEK_DATA);
		off_t hole;
		uint64_t stop;
		int status;

		if (data < 0 && errno == ENXIO)
			return 0;
		if (data < 0)
			return check_zero(walk, start, end - start, error);
		if ((uint64_t)data >= end)
			return 0;
		hole = lseek(fd, data, SEEK_HOLE);
		stop = hole < 0 || (uint64_t)hole > end ? end : (uint64_t)hole;
		status = check_zero(walk, (uint64_t)data, stop - (uint64_t)data, error);
		if (status)
			return status;
		start = stop;
	}
	return 0;
}

static int check_gaps(const struct walk *walk, int fd, const struct riffle_plan *plan, struct riffle_error *error)
{
	uint64_t end = plan->header->plan_offset + plan_stored_bytes(plan->header);

	/* frames have none between them (riffle_plan_check()) */
	if (plan->header->storage)
		return check_gap(walk, fd, end, plan->header->payload_offset, error);
	for (uint32_t i = 0; i < plan->extent_count; i++) {
		const struct riffle_extent *extent = &plan->extents[i];
		int status = check_gap(walk, fd, end, extent->file_offset, error);

		if (status)
			return status;
		end = extent->file_offset + extent->bytes;
	}
	return check_gap(walk, fd, end, walk->source->bytes, error);
}

static int check_contents(const struct walk *walk, const struct riffle_plan *plan, struct riffle_error *error)
{
	const struct riffle_header *header = plan->header;
	uint8_t found[SHA256_DIGEST_SIZE];
	struct sha256_ctx digest;
	int status;

	sha256_init(&digest);
	status = hash_range(walk, header->plan_offset, plan_stored_bytes(header), &digest, error);
	if (!status && header->storage)
		status = hash_range(walk, header->payload_offset, header->file_bytes - header->payload_offset, &digest,
				    error);
	for (uint32_t i = 0; !status && !header->storage && i < plan->extent_count; i++)
		status = hash_range(walk, plan->extents[i].file_offset, plan->extents[i].bytes, &digest, error);
	if (status)
		return status;
	sha256_digest(&digest, sizeof found, found);
	if (memcmp(found, header->content_digest, sizeof found))
		return riffle_fail(error, RIFFLE_ERR_CHECKSUM, "content_digest", "differs from the file's contents");
	return 0;
}

/* The stored bytes match the digest; also checks that they can be decompressed. */
static int check_frames(const struct walk *walk, const struct riffle_plan *plan, struct riffle_error *error)
{
	for (uint32_t i = 0; i < plan->frame_count; i++) {
		const struct riffle_frame *frame = &plan->frames[i];
		int status =
		    riffle_plan_read(plan, walk->source, frame->image_offset, walk->piece, frame->bytes, error);

		if (status)
			return status;
	}
	return 0;
}

int riffle_prepared_check_digest(int fd, const struct riffle_source *source, struct riffle_error *error)
{
	struct riffle_plan plan = RIFFLE_PLAN_INIT;
	struct walk walk = {.source = source};
	int status;

	status = riffle_plan_open(&plan, source, error);
	if (status)
		return status;
	walk.piece = malloc(PIECE_BYTES);
	if (walk.piece)
		status = check_contents(&walk, &plan, error);
	else
		status = riffle_fail(error, RIFFLE_ERR_MEMORY, "file", "no memory to read it");
	if (!status)
		status = check_gaps(&walk, fd, &plan, error);
	if (!status)
		status = check_frames(&walk, &plan, error);
	free(walk.piece);
	riffle_plan_close(&plan);
	return status;
}
