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
	bool has_fd; /* the image is already open as `fd`, which is duplicated */
	int fd;
	struct disk_image_options image;
	const char *serial; /* at most BLOCK_SERIAL_BYTES characters; NULL: derived from the file's identity */
	enum block_engine_kind engine;
	struct limiter_config limits;
};

/*
 * Opens the image and the engine for it, before the process is confined. Events are handled in `loop`.
 * Errors: those of disk_image_open() and block_engine_open(), MEMORY.
 */
int block_new(struct block **block, const struct block_config *config, struct loop *loop, struct riffle_error *error);

/* Attach it to a transport, which then destroys it; before that, use virtio_device_destroy(). */
struct virtio_device *block_device(struct block *block);

/*
 * While it runs, from the loop's thread: sets limits; reads the size of the same file again; replaces the file by
 * another, read-only as before (for the same file, does what block_resize() does).
 */
void block_limit(struct block *block, const struct limiter_update *update);
int block_resize(struct block *block, struct riffle_error *error);
int block_set_file(struct block *block, const char *path, struct riffle_error *error);

const struct block_counters *block_counters(const struct block *block);

uint64_t block_bytes(const struct block *block);
bool block_is_read_only(const struct block *block);

/* Flushes written data to stable storage; requests in flight complete first. Waits. For the end of a run. */
int block_sync(struct block *block);

#endif
