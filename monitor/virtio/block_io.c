/* SPDX-License-Identifier: Apache-2.0 */
/* An operation on a disk image as system calls, one after the other; the engine that makes them by itself. */
#include "monitor/virtio/block_io.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <stdlib.h>
#include <unistd.h>

#include "common/fail.h"
#include "monitor/virtio/block_engine.h"

#define ZEROS 65536u
#define RETRIES 16u

static const uint8_t zeros[ZEROS];

/* Ways of writing zeros, the best first; one that the file system does not know gives place to the next. */
static const int zero_ways[] = {FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE};
static const int unmap_ways[] = {FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
				 FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE};
#define WAYS 2u

static bool writes_zeros_itself(const struct block_io *io)
{
	return (io->op == BLOCK_ZERO || io->op == BLOCK_ZERO_UNMAP) && io->attempt >= WAYS;
}

static void call_allocate(struct block_io *io, struct block_call *call)
{
	if (writes_zeros_itself(io)) {
		uint64_t left = io->bytes - io->progress;

		io->zeros = (struct iovec){.iov_base = (void *)(uintptr_t)zeros,
					   .iov_len = left < ZEROS ? (size_t)left : ZEROS};
		*call = (struct block_call){.kind = CALL_WRITE,
					    .buffers = &io->zeros,
					    .count = 1,
					    .offset = io->offset + io->progress,
					    .bytes = io->zeros.iov_len};
		return;
	}
	*call = (struct block_call){.kind = CALL_ALLOCATE,
				    .offset = io->offset,
				    .bytes = io->bytes,
				    .flags = io->op == BLOCK_DISCARD      ? unmap_ways[0]
					     : io->op == BLOCK_ZERO_UNMAP ? unmap_ways[io->attempt]
									  : zero_ways[io->attempt]};
}

void block_io_call(struct block_io *io, struct block_call *call)
{
	switch (io->op) {
	case BLOCK_READ:
	case BLOCK_WRITE:
	case BLOCK_WRITE_THROUGH:
		*call = (struct block_call){.kind = io->op == BLOCK_READ ? CALL_READ : CALL_WRITE,
					    .buffers = io->buffers,
					    .count = io->count,
					    .offset = io->offset + io->progress,
					    .bytes = io->bytes - io->progress,
					    .flags = io->op == BLOCK_WRITE_THROUGH ? RWF_DSYNC : 0};
		break;
	case BLOCK_FLUSH:
		*call = (struct block_call){.kind = CALL_SYNC};
		break;
	default:
		call_allocate(io, call);
	}
}

/* The buffers move on by what a short read or write did. */
static void advance(struct block_io *io, uint64_t bytes)
{
	io->progress += bytes;
	if (io->op > BLOCK_WRITE_THROUGH)
		return;
	while (io->count && bytes >= io->buffers->iov_len) {
		bytes -= io->buffers->iov_len;
		io->buffers++;
		io->count--;
	}
	if (io->count) {
		io->buffers->iov_base = (uint8_t *)io->buffers->iov_base + bytes;
		io->buffers->iov_len -= bytes;
	}
}

static bool end(struct block_io *io, int result)
{
	io->result = result;
	return true;
}

static bool is_unknown(int64_t returned)
{
	return returned == -EOPNOTSUPP || returned == -EINVAL || returned == -ENOSYS || returned == -ENODEV;
}

static bool allocate_returned(struct block_io *io, int64_t returned)
{
	if (!returned)
		return end(io, 0);
	if (!is_unknown(returned))
		return end(io, (int)-returned);
	if (io->op == BLOCK_DISCARD)
		return end(io, 0); /* it is a hint */
	io->attempt++;
	return false;
}

bool block_io_returned(struct block_io *io, int64_t returned)
{
	if (returned == -EINTR || returned == -EAGAIN)
		return io->op <= BLOCK_WRITE_THROUGH && ++io->attempt > RETRIES ? end(io, EIO) : false;
	if (io->op == BLOCK_FLUSH)
		return end(io, (int)-returned);
	if (io->op > BLOCK_FLUSH && !writes_zeros_itself(io))
		return allocate_returned(io, returned);
	if (returned < 0)
		return end(io, (int)-returned);
	if (!returned)
		return end(io, EIO); /* the file ends here: it was made shorter */
	advance(io, (uint64_t)returned);
	return io->progress >= io->bytes ? end(io, 0) : false;
}

/* Most requests have one buffer, which the kernel takes faster than a list of one. */
static ssize_t read_buffers(const struct block_call *call, int fd)
{
	return call->count == 1 ? pread(fd, call->buffers->iov_base, call->buffers->iov_len, (off_t)call->offset)
				: preadv(fd, call->buffers, (int)call->count, (off_t)call->offset);
}

static ssize_t write_buffers(const struct block_call *call, int fd)
{
	if (call->flags)
		return pwritev2(fd, call->buffers, (int)call->count, (off_t)call->offset, call->flags);
	return call->count == 1 ? pwrite(fd, call->buffers->iov_base, call->buffers->iov_len, (off_t)call->offset)
				: pwritev(fd, call->buffers, (int)call->count, (off_t)call->offset);
}

int64_t block_call_make(const struct block_call *call, int fd)
{
	ssize_t result;

	switch (call->kind) {
	case CALL_READ:
		result = read_buffers(call, fd);
		break;
	case CALL_WRITE:
		result = write_buffers(call, fd);
		break;
	case CALL_SYNC:
		result = fdatasync(fd);
		break;
	default:
		result = fallocate(fd, call->flags, (off_t)call->offset, (off_t)call->bytes);
	}
	return result < 0 ? -errno : result;
}

/* Makes the calls at once. */
static void inline_submit(struct block_engine *engine, struct block_io *io)
{
	struct block_call call;

	do {
		block_io_call(io, &call);
	} while (!block_io_returned(io, block_call_make(&call, engine->fd)));
	engine->in_flight--;
	engine->done(engine->opaque, io);
}

static void inline_close(struct block_engine *engine)
{
	free(engine);
}

static const struct block_engine_ops inline_ops = {.submit = inline_submit, .close = inline_close};

static int open_inline(struct block_engine **engine, struct riffle_error *error)
{
	*engine = calloc(1, sizeof **engine);
	if (!*engine)
		return riffle_fail(error, RIFFLE_ERR_MEMORY, "disk", "out of memory");
	(*engine)->ops = &inline_ops;
	(*engine)->kind = BLOCK_ENGINE_INLINE;
	(*engine)->event = -1;
	return 0;
}

int block_engine_open(struct block_engine **engine, enum block_engine_kind kind, const struct disk_image *image,
		      block_io_done *done, void *opaque, struct riffle_error *error)
{
	int status;

	*engine = NULL;
	if (kind == BLOCK_ENGINE_INLINE || (kind == BLOCK_ENGINE_AUTO && image->in_memory))
		status = open_inline(engine, error);
	else if (kind == BLOCK_ENGINE_WORKERS)
		status = block_engine_open_workers(engine, error);
	else
		status = block_engine_open_uring(engine, error);
	if (status && kind == BLOCK_ENGINE_AUTO)
		status = block_engine_open_workers(engine, error);
	if (status)
		return status;
	(*engine)->done = done;
	(*engine)->opaque = opaque;
	status = block_engine_set_image(*engine, image, error);
	if (status) {
		block_engine_close(*engine);
		*engine = NULL;
	}
	return status;
}

void block_engine_close(struct block_engine *engine)
{
	if (!engine)
		return;
	block_engine_drain(engine);
	engine->ops->close(engine);
}

enum block_engine_kind block_engine_kind(const struct block_engine *engine)
{
	return engine->kind;
}

int block_engine_event(const struct block_engine *engine)
{
	return engine->event;
}

void block_engine_submit(struct block_engine *engine, struct block_io *io)
{
	io->progress = 0;
	io->attempt = 0;
	io->result = 0;
	engine->in_flight++;
	engine->ops->submit(engine, io);
}

void block_engine_run(struct block_engine *engine)
{
	if (engine->ops->run)
		engine->ops->run(engine);
}

void block_engine_drain(struct block_engine *engine)
{
	block_engine_run(engine);
	while (engine->in_flight)
		engine->ops->wait(engine);
}

int block_engine_set_image(struct block_engine *engine, const struct disk_image *image, struct riffle_error *error)
{
	engine->fd = image->fd;
	return engine->ops->set_image ? engine->ops->set_image(engine, error) : 0;
}
