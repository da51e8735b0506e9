/* SPDX-License-Identifier: Apache-2.0 */
/* The virtio devices of a machine's description. */
#ifndef RIFFLE_MACHINE_DEVICE_CONFIG_H
#define RIFFLE_MACHINE_DEVICE_CONFIG_H

#include <stdbool.h>

#include "monitor/virtio/block_io.h"
#include "monitor/virtio/disk_image.h"
#include "monitor/virtio/limiter.h"

#define MACHINE_DISKS_MAX 16u

struct machine_disk {
	const char *path;
	bool read_only;
	bool root;            /* the guest's root file system, or the disk that holds it */
	const char *partuuid; /* of the root partition; NULL: the whole disk */
	bool raw;             /* whatever the image looks like */
	enum disk_cache cache;
	enum block_engine_kind io;
	const char *serial; /* NULL: made of the file's identity */
	struct limiter_config limits;
};

/* An entropy device. */
struct machine_rng {
	bool wanted;
	struct limiter_config limits;
};

struct machine_devices_config {
	struct machine_disk disks[MACHINE_DISKS_MAX];
	unsigned disk_count;
	struct machine_rng rng;
};

#endif
