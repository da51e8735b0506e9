/* SPDX-License-Identifier: Apache-2.0 */
/* Fuzz target: persistent memory, in an unlinked file. */
#include <stdlib.h>
#include <unistd.h>

#include "fuzz_device.h"
#include "monitor/virtio/pmem.h"

struct virtio_device *fuzz_device_make(struct loop *loop)
{
	char path[] = "/dev/shm/fuzz-pmem-XXXXXX";
	struct riffle_ram region;
	struct pmem *pmem;
	int fd = mkstemp(path);

	if (fd < 0 || unlink(path) || ftruncate(fd, 4096))
		abort();
	const struct pmem_config config = {.has_fd = true, .fd = fd};

	if (pmem_new(&pmem, &config, loop, NULL))
		abort();
	close(fd);
	pmem_place(pmem, UINT64_C(512) << 30, &region);
	return pmem_device(pmem);
}

void fuzz_device_step(struct virtio_device *device)
{
	(void)device;
}
