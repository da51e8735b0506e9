/* SPDX-License-Identifier: Apache-2.0 */
/* Writes guest memory into a file: everything that is not zero, or what changed. */
#ifndef RIFFLE_MONITOR_SNAPSHOT_MEMORY_H
#define RIFFLE_MONITOR_SNAPSHOT_MEMORY_H

#include "monitor/core/vm.h"
#include "monitor/virtio/mmio.h"

struct memory_save {
	int fd;         /* the file; of the memory's size afterwards */
	bool changed;   /* only what changed since the last save, or since the memory was loaded */
	bool fresh;     /* the file is new: zero pages need no hole punched */
	int pagemap_fd; /* /proc/self/pagemap; -1: every page is examined */
	/* the result */
	uint64_t written; /* bytes */
	bool untracked;   /* nothing told what changed: all of it was written */
	/* its own, until memory_save_end(); NULL before */
	uint64_t *taken;  /* a bit a page: what will not be in KVM's log or the monitor's marks again */
	uint64_t *copied; /* pages that the file holds already */
	bool was_unsaved;
};

/*
 * Optional, while the guest runs, for a new file that gets all of the memory: makes memory_save() shorter, for which
 * the guest stands still. Where writes are tracked, the memory is copied now, and memory_save() repeats what was
 * written meanwhile. Otherwise a tmpfs allocates pages now for what the guest has touched. A file system that is full
 * is noticed here in both cases. Call memory_save_end() in the end, whatever it returns. Errors: IO, MEMORY.
 */
int memory_save_prepare(const struct vm *vm, struct memory_save *save, struct riffle_error *error);

/*
 * Writes the memory of a VM whose vCPUs are parked and whose devices are paused. `changed` needs either tracked memory
 * or the pagemap; a guest that was never in a file is written whole. The file is not synced. Call memory_save_end()
 * afterwards, whatever it returns. Errors: IO, MEMORY.
 */
int memory_save(struct vm *vm, struct memory_save *save, struct riffle_error *error);

/* Unless the file is `kept`, the next save of changes includes everything that this one had. The guest may run. */
void memory_save_end(struct vm *vm, struct memory_save *save, bool kept);

/* Devices write to the used rings without marking them dirty: this marks all rings of a paused device. */
void memory_mark_rings(const struct virtio_device *device);

#endif
