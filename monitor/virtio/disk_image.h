/* SPDX-License-Identifier: Apache-2.0 */
/* Opens, identifies, locks and measures a raw disk image or block device. */
#ifndef RIFFLE_MONITOR_VIRTIO_DISK_IMAGE_H
#define RIFFLE_MONITOR_VIRTIO_DISK_IMAGE_H

#include <stdbool.h>
#include <stdint.h>

#include <riffle/error.h>

enum disk_cache {
	DISK_CACHE_WRITEBACK, /* through the host's page cache; the guest's flush is fdatasync */
	DISK_CACHE_NONE,      /* bypassing it, by O_DIRECT */
	DISK_CACHE_UNSAFE,    /* the guest's flushes are not passed on: a crash of the host may lose everything */
};

struct disk_image {
	int fd; /* -1: not open */
	bool read_only;
	enum disk_cache cache;
	uint64_t bytes;         /* a multiple of 512; the rest of the file is hidden from the guest */
	uint32_t block_bytes;   /* the smallest read and write reported to the guest: 512 to 4096 */
	uint32_t alignment;     /* of buffers and offsets; 1: none required */
	bool in_memory;         /* on tmpfs or ramfs: reads and writes never wait for a device */
	uint64_t device, inode; /* identifies the file */
	uint64_t identity[3];   /* st_dev, st_rdev, st_ino */
};

struct disk_image_options {
	bool read_only;
	enum disk_cache cache;
	bool raw;     /* treat it as raw, whatever format it seems to have */
	bool shared;  /* do not lock it */
	bool patient; /* wait 200 ms for a lock that another process holds */
};

/*
 * Opens `path` and locks it (an open file description lock, shared if read-only) until disk_image_close(). Refuses
 * image formats other than raw by name, with the command that converts them. Errors: IO (cannot be opened), ARGUMENT
 * (not a file or block device, empty, in use), UNSUPPORTED (format, no O_DIRECT).
 */
int disk_image_open(struct disk_image *image, const char *path, const struct disk_image_options *options,
		    struct riffle_error *error);

/* The same with a copy of a descriptor, which must be open for writing unless read-only. */
int disk_image_adopt(struct disk_image *image, int fd, const struct disk_image_options *options,
		     struct riffle_error *error);

/* Whether `path` is the file that is open. */
bool disk_image_is(const struct disk_image *image, const char *path);

/* Reads the size again after the file was resized. Errors: IO, ARGUMENT (empty). */
int disk_image_measure(struct disk_image *image, struct riffle_error *error);
void disk_image_close(struct disk_image *image);

/* The name of the image format with these first and last bytes; NULL: raw. For tests. */
const char *disk_image_format(const uint8_t *start, uint64_t start_bytes, const uint8_t *last_sector);

#endif
