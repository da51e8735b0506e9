/* SPDX-License-Identifier: Apache-2.0 */
/* Reads, writes and flushes of a disk image that do not make their caller wait. */
#ifndef RIFFLE_MONITOR_VIRTIO_BLOCK_IO_H
#define RIFFLE_MONITOR_VIRTIO_BLOCK_IO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include <riffle/error.h>

#include "monitor/virtio/disk_image.h"

#define BLOCK_IO_DEPTH 256u

enum block_op {
	BLOCK_READ,
	BLOCK_WRITE,
	BLOCK_WRITE_THROUGH, /* and on stable storage when it completes */
	BLOCK_FLUSH,
	BLOCK_DISCARD,    /* a hint: it may read as anything afterwards */
	BLOCK_ZERO,       /* reads as zeros; space stays allocated where that is possible */
	BLOCK_ZERO_UNMAP, /* reads as zeros; space is given back where that is possible */
};

/*
 * One operation, embedded in its owner. The buffers, and the array that lists them, are modified while it is in
 * progress.
 */
struct block_io {
	enum block_op op;
	uint64_t offset, bytes;
	struct iovec *buffers;
	unsigned count;
	int result; /* when complete: 0, or an errno value */
	/* the engine's own */
	uint64_t progress;
	unsigned attempt; /* which method is being tried */
	struct iovec zeros;
	struct block_io *next;
};

enum block_engine_kind {
	BLOCK_ENGINE_AUTO,   /* the best that works here */
	BLOCK_ENGINE_INLINE, /* in the caller's thread: for files in memory, which never block */
	BLOCK_ENGINE_URING,
	BLOCK_ENGINE_WORKERS,
};

struct block_engine;

/* Called at the end of each operation, from one of the functions below. It may submit another. */
typedef void block_io_done(void *opaque, struct block_io *io);

/*
 * An engine for one image, whose descriptor the caller keeps. At most BLOCK_IO_DEPTH operations at a time. Not
 * thread-safe. Open it before the process is confined. Errors: MEMORY, IO, UNSUPPORTED (io_uring was requested but is
 * unavailable).
 */
int block_engine_open(struct block_engine **engine, enum block_engine_kind kind, const struct disk_image *image,
		      block_io_done *done, void *opaque, struct riffle_error *error);
void block_engine_close(struct block_engine *engine); /* drained; NULL: nothing */

enum block_engine_kind block_engine_kind(const struct block_engine *engine);

/* Readable when operations have completed, edge-triggered: watch it with EPOLLET, do not read it. -1: never needed. */
int block_engine_event(const struct block_engine *engine);

/* Starts an operation, at the latest in the next block_engine_run(). */
void block_engine_submit(struct block_engine *engine, struct block_io *io);

/* Passes on submitted operations and reports completed ones, without waiting. Arms the event for the rest. */
void block_engine_run(struct block_engine *engine);

/* Waits until everything is complete. */
void block_engine_drain(struct block_engine *engine);

/* Switches to another image; the engine must be drained. */
int block_engine_set_image(struct block_engine *engine, const struct disk_image *image, struct riffle_error *error);

#endif
