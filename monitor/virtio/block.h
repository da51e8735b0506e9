/* SPDX-License-Identifier: Apache-2.0 */
/* virtio-blk: a disk. */
#ifndef RIFFLE_MONITOR_VIRTIO_BLOCK_H
#define RIFFLE_MONITOR_VIRTIO_BLOCK_H

#include "monitor/virtio/block_io.h"
#include "monitor/virtio/device.h"
#include "monitor/virtio/limiter.h"

#define BLOCK_SERIAL_BYTES 20u

struct block;

struct block_config {
	const char *name; /* for messages; copied */
	const char *path;
	bool has_fd; /* the image is open already: `fd`, of which a copy is made */
	int fd;
	struct disk_image_options image;
	const char *serial; /* at most BLOCK_SERIAL_BYTES characters; NULL: made of the file's identity */
	enum block_engine_kind engine;
	struct limiter_config limits;
};

/*
 * Opens the image and what reads and writes it; before the process is confined. `loop` is watched in.
 * Errors: those of disk_image_open() and block_engine_open(), MEMORY.
 */
int block_new(struct block **block, const struct block_config *config, struct loop *loop, struct riffle_error *error);

/* To be attached to a transport, with which it ends; before that, by virtio_device_destroy(). */
struct virtio_device *block_device(struct block *block);

/*
 * While it runs, from the loop's thread: new limits; the same file, whose size changed; another file, read-only as
 * before, or the same one, which is what block_resize() is for.
 */
void block_limit(struct block *block, const struct limiter_update *update);
int block_resize(struct block *block, struct riffle_error *error);
int block_set_file(struct block *block, const char *path, struct riffle_error *error);

const struct block_counters *block_counters(const struct block *block);

uint64_t block_bytes(const struct block *block);
bool block_is_read_only(const struct block *block);

/* Has written data reach stable storage; what was in flight is done first. Waits. For the end of a run. */
int block_sync(struct block *block);

#endif
