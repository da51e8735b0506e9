/* SPDX-License-Identifier: Apache-2.0 */
/* A block engine on io_uring: one system call a batch, restricted to reads, writes and flushes of one registered file.
 */
#include <errno.h>
#include <liburing.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "common/fail.h"
#include "monitor/virtio/block_engine.h"

struct uring_engine {
	struct block_engine base;
	struct io_uring ring;
	bool has_ring, has_file;
};

static struct uring_engine *self(struct block_engine *engine)
{
	return (struct uring_engine *)engine;
}

/* liburing 2.3 has functions for these two, which its shared object forgets to export. */
static int register_ring(struct io_uring *ring, unsigned what, const void *argument, unsigned count)
{
	long result = syscall(SYS_io_uring_register, ring->ring_fd, what, argument, count);

	return result < 0 ? -errno : (int)result;
}

static void prepare(struct io_uring_sqe *sqe, struct block_io *io)
{
	struct block_call call;

	block_io_call(io, &call);
	switch (call.kind) {
	case CALL_READ:
		io_uring_prep_readv(sqe, 0, call.buffers, call.count, call.offset);
		break;
	case CALL_WRITE:
		io_uring_prep_writev2(sqe, 0, call.buffers, call.count, call.offset, call.flags);
		break;
	case CALL_SYNC:
		io_uring_prep_fsync(sqe, 0, IORING_FSYNC_DATASYNC);
		break;
	default:
		io_uring_prep_fallocate(sqe, 0, call.flags, (off_t)call.offset, (off_t)call.bytes);
	}
	sqe->flags |= IOSQE_FIXED_FILE;
	io_uring_sqe_set_data(sqe, io);
}

static void uring_submit(struct block_engine *engine, struct block_io *io)
{
	struct io_uring *ring = &self(engine)->ring;
	struct io_uring_sqe *sqe = io_uring_get_sqe(ring);

	/* as many entries as operations may be under way: it is full only of what was not handed over yet */
	while (!sqe) {
		io_uring_submit(ring);
		sqe = io_uring_get_sqe(ring);
	}
	prepare(sqe, io);
}

/* Ends what is done. True if something was, or was begun anew. */
static bool reap(struct block_engine *engine)
{
	struct io_uring *ring = &self(engine)->ring;
	struct io_uring_cqe *cqe;
	bool any = false;

	while (io_uring_peek_cqe(ring, &cqe) == 0 && cqe) {
		struct block_io *io = io_uring_cqe_get_data(cqe);
		int returned = cqe->res;

		io_uring_cqe_seen(ring, cqe);
		any = true;
		if (!block_io_returned(io, returned)) {
			uring_submit(engine, io);
			continue;
		}
		engine->in_flight--;
		engine->done(engine->opaque, io);
	}
	return any;
}

/* What completes while it is handed over needs no event; one is asked for only if something is left to wait for. */
static void uring_run(struct block_engine *engine)
{
	struct io_uring *ring = &self(engine)->ring;

	io_uring_cq_eventfd_toggle(ring, false);
	for (;;) {
		if (io_uring_sq_ready(ring))
			io_uring_submit(ring);
		if (reap(engine))
			continue;
		if (io_uring_sq_ready(ring))
			continue;
		if (!engine->in_flight)
			return;
		io_uring_cq_eventfd_toggle(ring, true);
		/* what was done before the event was asked for is not reported */
		__atomic_thread_fence(__ATOMIC_SEQ_CST);
		if (!io_uring_cq_ready(ring))
			return;
		io_uring_cq_eventfd_toggle(ring, false);
	}
}

static void uring_wait(struct block_engine *engine)
{
	struct io_uring *ring = &self(engine)->ring;

	io_uring_submit_and_wait(ring, 1);
	reap(engine);
}

static int uring_set_image(struct block_engine *engine, struct riffle_error *error)
{
	struct uring_engine *uring = self(engine);
	int result = uring->has_file ? io_uring_register_files_update(&uring->ring, 0, &engine->fd, 1)
				     : io_uring_register_files(&uring->ring, &engine->fd, 1);

	if (result < 0)
		return riffle_fail_system(error, -result, "io_uring", "does not take the disk image");
	if (uring->has_file)
		return 0;
	uring->has_file = true;
	result = register_ring(&uring->ring, IORING_REGISTER_ENABLE_RINGS, NULL, 0);
	return result < 0 ? riffle_fail_system(error, -result, "io_uring", "cannot be enabled") : 0;
}

static void uring_close(struct block_engine *engine)
{
	struct uring_engine *uring = self(engine);

	if (uring->has_ring)
		io_uring_queue_exit(&uring->ring);
	if (engine->event >= 0)
		close(engine->event);
	free(uring);
}

static const struct block_engine_ops uring_ops = {
    .submit = uring_submit,
    .run = uring_run,
    .wait = uring_wait,
    .set_image = uring_set_image,
    .close = uring_close,
};

/*
 * io_uring does what it is told without asking the system call filter. So the ring itself is told what it may do,
 * before it may do anything.
 */
static int restrict_ring(struct io_uring *ring)
{
	struct io_uring_restriction allowed[] = {
	    {.opcode = IORING_RESTRICTION_SQE_OP, .sqe_op = IORING_OP_READV},
	    {.opcode = IORING_RESTRICTION_SQE_OP, .sqe_op = IORING_OP_WRITEV},
	    {.opcode = IORING_RESTRICTION_SQE_OP, .sqe_op = IORING_OP_FSYNC},
	    {.opcode = IORING_RESTRICTION_SQE_OP, .sqe_op = IORING_OP_FALLOCATE},
	    {.opcode = IORING_RESTRICTION_SQE_FLAGS_REQUIRED, .sqe_flags = IOSQE_FIXED_FILE},
	    {.opcode = IORING_RESTRICTION_SQE_FLAGS_ALLOWED, .sqe_flags = IOSQE_FIXED_FILE},
	    {.opcode = IORING_RESTRICTION_REGISTER_OP, .register_op = IORING_REGISTER_FILES_UPDATE},
	    {.opcode = IORING_RESTRICTION_REGISTER_OP, .register_op = IORING_REGISTER_ENABLE_RINGS},
	};

	return register_ring(ring, IORING_REGISTER_RESTRICTIONS, allowed, sizeof allowed / sizeof *allowed);
}

int block_engine_open_uring(struct block_engine **engine, struct riffle_error *error)
{
	struct uring_engine *uring = calloc(1, sizeof *uring);
	int result;

	if (!uring)
		return riffle_fail(error, RIFFLE_ERR_MEMORY, "disk", "out of memory");
	uring->base = (struct block_engine){.ops = &uring_ops, .kind = BLOCK_ENGINE_URING, .fd = -1};
	uring->base.event = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	if (uring->base.event < 0) {
		result = -errno;
	} else {
		result = io_uring_queue_init(BLOCK_IO_DEPTH, &uring->ring, IORING_SETUP_R_DISABLED);
		uring->has_ring = result >= 0;
	}
	if (result >= 0)
		result = io_uring_register_eventfd(&uring->ring, uring->base.event);
	if (result >= 0)
		result = restrict_ring(&uring->ring);
	if (result < 0) {
		uring_close(&uring->base);
		return riffle_fail_full(error, RIFFLE_ERR_UNSUPPORTED, -result, "io_uring", "is refused here", 0, 0, 0,
					0);
	}
	*engine = &uring->base;
	return 0;
}
