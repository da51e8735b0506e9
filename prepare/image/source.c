/* SPDX-License-Identifier: Apache-2.0 */
/* Bytes of a kernel file as private memory: read by pread, never mapped, so that a changing file can do no harm. */
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "prepare/image/internal.h"

int image_source_open(struct image_source *source, int fd, const char *name, struct sha256_ctx *digest,
		      struct riffle_error *error)
{
	memset(source, 0, sizeof *source);
	source->name = name;
	source->fd = fd;
	source->digest = digest;
	if (fd < 0)
		return riffle_fail(error, RIFFLE_ERR_ARGUMENT, name, "is not an open descriptor");
	if (fstat(fd, &source->opened) != 0)
		return riffle_fail_system(error, errno, name, "cannot be examined");
	if (S_ISDIR(source->opened.st_mode))
		return riffle_fail(error, RIFFLE_ERR_FORMAT, name, "is a directory");
	if (!S_ISREG(source->opened.st_mode))
		return riffle_fail(error, RIFFLE_ERR_FORMAT, name, "is not a regular file");
	if (source->opened.st_size <= 0)
		return riffle_fail(error, RIFFLE_ERR_FORMAT, name, "is empty");
	source->bytes = (uint64_t)source->opened.st_size;
	return 0;
}

void image_source_from_memory(struct image_source *source, uint8_t *memory, uint64_t bytes)
{
	memset(source, 0, sizeof *source);
	source->name = "payload";
	source->fd = -1;
	source->memory = memory;
	source->bytes = bytes;
}

static int read_file(const struct image_source *source, uint64_t offset, uint8_t *buffer, uint64_t bytes,
		     struct riffle_error *error)
{
	uint64_t done = 0;

	while (done < bytes) {
		ssize_t n =
		    pread(source->fd, buffer + done, (size_t)(bytes - done), (off_t)(source->start + offset + done));

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return riffle_fail_system(error, errno, source->name, "cannot be read");
		if (n == 0)
			return riffle_fail_expected(error, RIFFLE_ERR_CHANGED, source->name,
						    "became shorter while it was read", offset + done, source->bytes);
		done += (uint64_t)n;
	}
	if (source->digest)
		sha256_update(source->digest, (size_t)bytes, buffer);
	return 0;
}

int image_source_read(const struct image_source *source, uint64_t offset, void *buffer, uint64_t bytes,
		      struct riffle_error *error)
{
	if (!riffle_inside(offset, bytes, source->bytes))
		return riffle_fail_expected(error, RIFFLE_ERR_FORMAT, source->name, "ends too early", source->bytes,
					    offset + bytes);
	if (!bytes)
		return 0;
	if (source->fd >= 0)
		return read_file(source, offset, buffer, bytes, error);
	memcpy(buffer, source->memory + offset, (size_t)bytes);
	return 0;
}

int image_source_unchanged(const struct image_source *source, struct riffle_error *error)
{
	struct stat now;

	if (source->fd < 0)
		return 0;
	if (fstat(source->fd, &now) != 0)
		return riffle_fail_system(error, errno, source->name, "cannot be examined");
	if (now.st_size != source->opened.st_size)
		return riffle_fail_expected(error, RIFFLE_ERR_CHANGED, source->name,
					    "changed its size while it was read", (uint64_t)now.st_size, source->bytes);
	if (now.st_mtim.tv_sec != source->opened.st_mtim.tv_sec ||
	    now.st_mtim.tv_nsec != source->opened.st_mtim.tv_nsec)
		return riffle_fail(error, RIFFLE_ERR_CHANGED, source->name, "was written to while it was read");
	return 0;
}

/* Blocks are chained so that riffle_image_close() finds them all, whatever an error left half-built. */
struct block {
	struct block *next;
	_Alignas(16) uint8_t bytes[];
};

void *image_alloc(struct riffle_image *image, uint64_t bytes, struct riffle_error *error)
{
	struct block *block = bytes <= SIZE_MAX - sizeof *block ? malloc(sizeof *block + (size_t)bytes) : NULL;

	if (!block) {
		riffle_fail_found(error, RIFFLE_ERR_MEMORY, "memory", "cannot be allocated in this amount", bytes);
		return NULL;
	}
	block->next = image->owned;
	image->owned = block;
	return block->bytes;
}

void riffle_image_close(struct riffle_image *image)
{
	struct block *block, *next;

	if (!image)
		return;
	for (block = image->owned; block; block = next) {
		next = block->next;
		free(block);
	}
	free(image);
}

int image_take(uint8_t **bytes, struct riffle_image *image, const struct image_source *source, uint64_t offset,
	       uint64_t count, struct riffle_error *error)
{
	if (!riffle_inside(offset, count, source->bytes))
		return riffle_fail_expected(error, RIFFLE_ERR_FORMAT, source->name, "ends too early", source->bytes,
					    offset + count);
	if (source->fd < 0) {
		*bytes = source->memory + offset;
		return 0;
	}
	*bytes = image_alloc(image, count, error);
	if (!*bytes)
		return RIFFLE_ERR_MEMORY;
	return image_source_read(source, offset, *bytes, count, error);
}
