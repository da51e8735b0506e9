/* SPDX-License-Identifier: Apache-2.0 */
/* virtio-pmem: a host file as the guest's persistent memory. */
#ifndef RIFFLE_MONITOR_VIRTIO_PMEM_H
#define RIFFLE_MONITOR_VIRTIO_PMEM_H

#include <riffle/memory.h>

#include "monitor/virtio/device.h"
#include "monitor/virtio/limiter.h"

#define PMEM_STEP (UINT64_C(2) << 20) /* address and size of the guest's memory are multiples of it */

struct pmem;

struct pmem_config {
	const char *path;
	bool has_fd; /* the file is already open as `fd`, which is duplicated */
	int fd;
	bool read_only;
	struct limiter_config limits; /* for flushes: each batch counts as one operation and the file's size in bytes */
};

/*
 * Opens, locks and maps the file, shared; it is padded to a multiple of PMEM_STEP with memory that is lost at the end.
 * If read-only, writes by the monitor's own devices go to a private copy. Events are handled in `loop`.
 * Errors: those of disk_image_open() and block_engine_open(), MEMORY.
 */
int pmem_new(struct pmem **pmem, const struct pmem_config *config, struct loop *loop, struct riffle_error *error);

/* Attach it to a transport, which then destroys it and the mapping. */
struct virtio_device *pmem_device(struct pmem *pmem);

const struct pmem_counters *pmem_counters(const struct pmem *pmem);
uint64_t pmem_bytes(const struct pmem *pmem);
/* Sets its address in the guest, before the guest runs; *region is for guest_memory_add(). */
void pmem_place(struct pmem *pmem, uint64_t address, struct riffle_ram *region);

/* While it runs, from the loop's thread. */
void pmem_limit(struct pmem *pmem, const struct limiter_update *update);

#endif
