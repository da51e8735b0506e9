/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where the memory file of a stock's item has data, recorded in its state: a start that searched for it would look at
 * each page of the file.
 */
#ifndef RIFFLE_MONITOR_SNAPSHOT_EXTENTS_H
#define RIFFLE_MONITOR_SNAPSHOT_EXTENTS_H

#include "monitor/core/memory.h"
#include "monitor/snapshot/state.h"

/* Holes up to this size are filled, so that there are fewer extents to map. */
#define EXTENTS_HOLE_MAX (UINT64_C(64) << 10)

/*
 * Fills small holes of a memory file that is complete, and puts the section. Without a section, because the disk is
 * full or memory is short, a start searches.
 */
void extents_save(int fd, uint64_t bytes, struct state_writer *writer);

/*
 * The extents of a memory file of `bytes`. *count is 0, and the file has to be searched, if the section is missing, or
 * the file is not the one that was saved, or was changed since. Errors: FORMAT.
 */
int extents_load(struct guest_memory_extent extents[GUEST_MEMORY_EXTENTS_MAX], size_t *count, int fd, uint64_t bytes,
		 const struct state_file *file, struct riffle_error *error);

#endif
