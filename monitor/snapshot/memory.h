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
	/* for memory_save_end() */
	uint64_t *taken; /* a bit a page */
	bool was_unsaved;
};

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
