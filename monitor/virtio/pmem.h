/* SPDX-License-Identifier: Apache-2.0 */
/* virtio-pmem: a file of the host that is the guest's persistent memory. */
#ifndef RIFFLE_MONITOR_VIRTIO_PMEM_H
#define RIFFLE_MONITOR_VIRTIO_PMEM_H

#include <riffle/memory.h>

#include "monitor/virtio/device.h"
#include "monitor/virtio/limiter.h"

#define PMEM_STEP (UINT64_C(2) << 20) /* address and size of the guest's memory are multiples of it */

struct pmem;

struct pmem_config {
	const char *path;
	bool has_fd; /* the file is open already: `fd`, of which a copy is made */
	int fd;
	bool read_only;
	struct limiter_config limits; /* of flushes: each batch of them is one operation and the file's size in bytes */
};

/*
 * Opens, locks and maps the file, shared; what is missing to a multiple of PMEM_STEP is memory that is lost at the end.
 * Read-only, what the monitor's own devices write there stays in a private copy. `loop` is watched in.
 * Errors: those of disk_image_open() and block_engine_open(), MEMORY.
 */
int pmem_new(struct pmem **pmem, const struct pmem_config *config, struct loop *loop, struct riffle_error *error);

/* To be attached to a transport, with which it and the mapping end. */
struct virtio_device *pmem_device(struct pmem *pmem);

const struct pmem_counters *pmem_counters(const struct pmem *pmem);
uint64_t pmem_bytes(const struct pmem *pmem);
/* Says where it lies in the guest, before the guest runs; *region is it, for guest_memory_add(). */
void pmem_place(struct pmem *pmem, uint64_t address, struct riffle_ram *region);

/* While it runs, from the loop's thread. */
void pmem_limit(struct pmem *pmem, const struct limiter_update *update);

#endif
