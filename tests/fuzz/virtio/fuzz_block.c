/* SPDX-License-Identifier: Apache-2.0 */
/* Fuzz target: a disk in memory. */
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "fuzz_device.h"
#include "monitor/virtio/block.h"

struct virtio_device *fuzz_device_make(struct loop *loop)
{
	int fd = memfd_create("disk", 0);
	struct block_config config = {.name = "disk", .image = {.shared = true, .raw = true}};
	char path[32];
	struct block *block;

	snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
	config.path = path;
	if (fd < 0 || ftruncate(fd, 32768 + 100) || block_new(&block, &config, loop, NULL))
		abort();
	return block_device(block);
}

void fuzz_device_step(struct virtio_device *device)
{
	(void)device; /* requests complete at once */
}
