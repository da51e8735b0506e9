/* SPDX-License-Identifier: Apache-2.0 */
/* A raw disk image or block device: opened, recognised, locked, measured. */
#ifndef RIFFLE_MONITOR_VIRTIO_DISK_IMAGE_H
#define RIFFLE_MONITOR_VIRTIO_DISK_IMAGE_H

#include <stdbool.h>
#include <stdint.h>

#include <riffle/error.h>

enum disk_cache {
	DISK_CACHE_WRITEBACK, /* through the host's page cache; the guest's flush is fdatasync */
	DISK_CACHE_NONE,      /* past it, by O_DIRECT */
	DISK_CACHE_UNSAFE,    /* the guest's flushes are not passed on: a crash of the host may lose everything */
};

struct disk_image {
	int fd; /* -1: not open */
	bool read_only;
	enum disk_cache cache;
	uint64_t bytes;         /* a multiple of 512; what is left of the file beyond is not shown to the guest */
	uint32_t block_bytes;   /* what the guest is told to read and write at least: 512 to 4096 */
	uint32_t alignment;     /* of buffers and offsets; 1: any will do */
	bool in_memory;         /* on tmpfs or ramfs: reading and writing never wait for a device */
	uint64_t device, inode; /* tells one file from another */
	uint64_t identity[3];   /* st_dev, st_rdev, st_ino */
};

struct disk_image_options {
	bool read_only;
	enum disk_cache cache;
	bool raw;     /* take it as raw, whatever it looks like */
	bool shared;  /* do not lock it */
	bool patient; /* wait 200 ms for a lock that somebody else has */
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

/* Looks at the size again, after the file was made larger or smaller. Errors: IO, ARGUMENT (empty). */
int disk_image_measure(struct disk_image *image, struct riffle_error *error);
void disk_image_close(struct disk_image *image);

/* The name of the format that a file with this beginning and these last bytes is in; NULL: raw. For tests. */
const char *disk_image_format(const uint8_t *start, uint64_t start_bytes, const uint8_t *last_sector);

#endif
