/* SPDX-License-Identifier: Apache-2.0 */
/* Guest RAM: one mapping, anonymous or of a file, cut by the hole below 4 GiB into at most two stretches. */
#ifndef RIFFLE_MONITOR_MEMORY_H
#define RIFFLE_MONITOR_MEMORY_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <riffle/error.h>
#include <riffle/memory.h>

#define GUEST_PAGE 4096u
#define GUEST_MEMORY_STEP (UINT64_C(2) << 20)
#define GUEST_MEMORY_MAX (UINT64_C(4) << 40)

#define GUEST_MEMORY_ADDED_MAX 16u
#define GUEST_MEMORY_ADDED_FROM (UINT64_C(512) << 30)
/* A file that holds the RAM: byte n of it is byte n of the RAM, without the hole. */
struct guest_memory_file {
	int fd;      /* the memory's own from then on, also after an error */
	/*
	 * The guest writes to the file: for one that nobody else will use. Its holes are anonymous memory, so that a guest
	 * that runs needs no room on the file's disk. False: the file stays as it is.
	 */
	bool shared;
	bool huge_pages; /* for what is anonymous */
};

struct guest_memory {
	struct riffle_ram ram[2];
	size_t count;
	/* what devices add to it, above all RAM and GUEST_MEMORY_ADDED_FROM (or half of what the host's CPU addresses):
	 * no RAM, but as good to devices */
	struct riffle_ram added[GUEST_MEMORY_ADDED_MAX];
	bool added_read_only[GUEST_MEMORY_ADDED_MAX]; /* to the guest's CPUs; the host's mapping is writable */
	size_t added_count;
	void *reservation; /* RAM with its guard pages; NULL: nothing mapped */
	size_t reservation_bytes;
	int fd; /* of its file; -1: anonymous */
	bool shared;
	/* of a shared file: what is mapped of it, sorted; the rest is anonymous */
	struct guest_memory_extent {
		uint64_t from, to;
	} * extents;
	size_t extent_count;
	bool unsaved; /* no file holds what it was at any time: a first difference is all of it */
	_Atomic uint64_t
	    *dirty; /* a bit a page, of what the monitor wrote since the last snapshot; NULL: not tracked */
};

/* Maps `bytes` of guest RAM, all zero. Errors: ARGUMENT (size), MEMORY. */
int guest_memory_map(struct guest_memory *memory, uint64_t bytes, bool huge_pages, struct riffle_error *error);
/* The same from a file of this size. Errors: also FORMAT (its size), IO. */
int guest_memory_map_file(struct guest_memory *memory, uint64_t bytes, const struct guest_memory_file *file,
			  struct riffle_error *error);
void guest_memory_unmap(struct guest_memory *memory);

/* Where the next stretch can be added: a multiple of 1 GiB. */
uint64_t guest_memory_next_added(const struct guest_memory *memory);
/* Adds it, there, before guest_memory_register(); it stays its owner's. Errors: ARGUMENT (more than there is room for).
 */
int guest_memory_add(struct guest_memory *memory, const struct riffle_ram *region, bool read_only,
		     struct riffle_error *error);
/* All RAM as the one mapping that it is. */
uint8_t *guest_memory_start(const struct guest_memory *memory);
uint64_t guest_memory_bytes(const struct guest_memory *memory);

/*
 * Notes which pages are written, for snapshots of what changed: KVM does for the guest, and those of the monitor that
 * write to the memory call guest_memory_mark(). Before guest_memory_register(). Errors: MEMORY.
 */
int guest_memory_track(struct guest_memory *memory, struct riffle_error *error);
void guest_memory_mark_pages(const struct guest_memory *memory, const void *at, size_t bytes);

/* [at, at + bytes), which is RAM, is about to be written. Any thread. */
static inline void guest_memory_mark(const struct guest_memory *memory, const void *at, size_t bytes)
{
	if (memory->dirty)
		guest_memory_mark_pages(memory, at, bytes);
}

/* Gives whole pages back to the host, which read as zero afterwards. False: the host keeps them as they are. */
bool guest_memory_discard(const struct guest_memory *memory, void *at, size_t bytes);

/*
 * The one translation of guest addresses: the host address of [gpa, gpa + bytes), or NULL unless all of it lies in one
 * stretch of RAM. 0 bytes are inside wherever a byte would be. Any values are safe.
 */
void *guest_memory_at(const struct guest_memory *memory, uint64_t gpa, uint64_t bytes);

/* Copies in or out, once: what was checked is what is used. False, and nothing copied, unless all of it is RAM. */
bool guest_memory_read(const struct guest_memory *memory, uint64_t gpa, void *data, size_t bytes);
bool guest_memory_write(const struct guest_memory *memory, uint64_t gpa, const void *data, size_t bytes);

/* Tells KVM of it; to be called before KVM_CREATE_IRQCHIP, after which each slot waits for an RCU grace period. */
int guest_memory_register(const struct guest_memory *memory, int vm_fd, struct riffle_error *error);

#endif
