/* SPDX-License-Identifier: Apache-2.0 */
/* Shared by the block engines. */
#ifndef RIFFLE_MONITOR_VIRTIO_BLOCK_ENGINE_H
#define RIFFLE_MONITOR_VIRTIO_BLOCK_ENGINE_H

#include "monitor/virtio/block_io.h"

struct block_engine_ops {
	void (*submit)(struct block_engine *engine, struct block_io *io);
	void (*run)(struct block_engine *engine);
	void (*wait)(struct block_engine *engine); /* waits until an operation completes, and reports it */
	int (*set_image)(struct block_engine *engine, struct riffle_error *error);
	void (*close)(struct block_engine *engine);
};

struct block_engine {
	const struct block_engine_ops *ops;
	enum block_engine_kind kind;
	int fd;
	int event;
	unsigned in_flight;
	block_io_done *done;
	void *opaque;
};

/* The next system call of an operation. */
struct block_call {
	enum { CALL_READ, CALL_WRITE, CALL_SYNC, CALL_ALLOCATE } kind;
	const struct iovec *buffers;
	unsigned count;
	uint64_t offset, bytes;
	int flags; /* RWF_* of a write, FALLOC_FL_* */
};

void block_io_call(struct block_io *io, struct block_call *call);

/*
 * Handles a call's result, negative errno or bytes. True: the operation is complete, with io->result; false: make the
 * next call.
 */
bool block_io_returned(struct block_io *io, int64_t returned);

/* Makes the call and returns its result: for engines that make system calls themselves. */
int64_t block_call_make(const struct block_call *call, int fd);

int block_engine_open_uring(struct block_engine **engine, struct riffle_error *error);
int block_engine_open_workers(struct block_engine **engine, struct riffle_error *error);

#endif
