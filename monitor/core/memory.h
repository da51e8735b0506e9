/* SPDX-License-Identifier: Apache-2.0 */
/* Guest RAM: one mapping, anonymous or of a file, split by the hole below 4 GiB into at most two ranges. */
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

#define GUEST_MEMORY_EXTENTS_MAX 512u /* of a file, mapped one by one */
#define GUEST_MEMORY_ADDED_MAX 16u
#define GUEST_MEMORY_ADDED_FROM (UINT64_C(512) << 30)
/* Page size of anonymous RAM. */
enum guest_pages {
	GUEST_PAGES_SMALL,
	GUEST_PAGES_TRANSPARENT, /* huge if the host has them to spare */
	GUEST_PAGES_HUGETLB,     /* 2 MiB, all taken from the host's pool at once */
};

/* Bytes of a file, whole pages. */
struct guest_memory_extent {
	uint64_t from, to;
};

/* A file that holds the RAM: byte n of the file is byte n of the RAM, not counting the hole. */
struct guest_memory_file {
	int fd; /* ownership passes to the memory, also after an error */
	/*
	 * The guest writes to the file, which nothing else may use. Holes are backed by anonymous memory, so that a
	 * running guest needs no space on the file's disk. A file with many holes needs space for those between its
	 * data; if there is too little, it is copied into memory. False: the file is never modified.
	 */
	bool shared;
	bool huge_pages; /* for the anonymous part */
	/*
	 * With `shared`, where the file has data, if that is known: sorted, disjoint, not empty, within the file, at
	 * most GUEST_MEMORY_EXTENTS_MAX; the caller's. NULL: the file is searched, which takes time for each of its
	 * pages.
	 */
	const struct guest_memory_extent *extents;
	size_t extent_count;
};

struct guest_memory {
	struct riffle_ram ram[2];
	size_t count;
	/*
	 * memory that devices add, above all RAM and GUEST_MEMORY_ADDED_FROM (or half of the host CPU's address space):
	 * not RAM, but devices may access it like RAM
	 */
	struct riffle_ram added[GUEST_MEMORY_ADDED_MAX];
	bool added_read_only[GUEST_MEMORY_ADDED_MAX]; /* for the guest's CPUs; the host's mapping is writable */
	size_t added_count;
	/* readable but not writable by the guest's CPUs, inaccessible to devices; bytes 0: none */
	struct riffle_ram registers;
	void *reservation; /* RAM including guard pages; NULL: nothing mapped */
	size_t reservation_bytes;
	int fd; /* of its file; -1: anonymous */
	bool shared;
	bool hugetlb; /* 2 MiB pages: smaller ranges cannot be discarded */
	/* for a shared file: the parts mapped from it, sorted; the rest is anonymous */
	struct guest_memory_extent *extents;
	size_t extent_count;
	bool unsaved; /* never saved to a file: the first differential snapshot has to hold all of it */
	_Atomic uint64_t
	    *dirty; /* one bit per page that the monitor wrote since the last snapshot; NULL: not tracked */
};

/* Maps `bytes` of guest RAM, all zero. Errors: ARGUMENT (size), MEMORY (also: too few pages in the pool). */
int guest_memory_map(struct guest_memory *memory, uint64_t bytes, enum guest_pages pages, struct riffle_error *error);
/* The same from a file of this size. Errors: also FORMAT (its size), IO. */
int guest_memory_map_file(struct guest_memory *memory, uint64_t bytes, const struct guest_memory_file *file,
			  struct riffle_error *error);
void guest_memory_unmap(struct guest_memory *memory);

/*
 * Finds a file's data below `end`, with holes of up to `gap` bytes. Returns the number of extents, or more than
 * GUEST_MEMORY_EXTENTS_MAX if they do not fit into the array.
 */
size_t guest_memory_find_extents(int fd, uint64_t end, uint64_t gap,
				 struct guest_memory_extent extents[GUEST_MEMORY_EXTENTS_MAX]);

static inline bool guest_page_is_zero(const uint8_t *page)
{
	const uint64_t *word = (const uint64_t *)(const void *)page;

	for (unsigned i = 0; i < GUEST_PAGE / sizeof *word; i += 8)
		if (word[i] | word[i + 1] | word[i + 2] | word[i + 3] | word[i + 4] | word[i + 5] | word[i + 6] |
		    word[i + 7])
			return false;
	return true;
}

/* Where the next range can be added: a multiple of 1 GiB. */
uint64_t guest_memory_next_added(const struct guest_memory *memory);
/* Adds a range there, before guest_memory_register(); its owner keeps it. Errors: ARGUMENT (no room for more).
 */
int guest_memory_add(struct guest_memory *memory, const struct riffle_ram *region, bool read_only,
		     struct riffle_error *error);
/* The start of the mapping that holds all RAM. */
uint8_t *guest_memory_start(const struct guest_memory *memory);
uint64_t guest_memory_bytes(const struct guest_memory *memory);

/*
 * Tracks which pages are written, for snapshots of changes: KVM tracks the guest's writes, and the monitor's own code
 * calls guest_memory_mark(). Before guest_memory_register(). Errors: MEMORY.
 */
int guest_memory_track(struct guest_memory *memory, struct riffle_error *error);
void guest_memory_mark_pages(const struct guest_memory *memory, const void *at, size_t bytes);

/* Marks [at, at + bytes), which is RAM and about to be written, as dirty. Any thread. */
static inline void guest_memory_mark(const struct guest_memory *memory, const void *at, size_t bytes)
{
	if (memory->dirty)
		guest_memory_mark_pages(memory, at, bytes);
}

/* Returns whole pages to the host; they read as zero afterwards. False: the host left them unchanged. */
bool guest_memory_discard(const struct guest_memory *memory, void *at, size_t bytes);

/*
 * The one translation of guest addresses: the host address of [gpa, gpa + bytes), or NULL unless all of it lies in one
 * RAM range. 0 bytes are inside wherever one byte would be. Any values are safe.
 */
void *guest_memory_at(const struct guest_memory *memory, uint64_t gpa, uint64_t bytes);

/*
 * Copies in or out once, so that the data used is the data that was checked. False, with nothing copied, unless all of
 * it is RAM.
 */
bool guest_memory_read(const struct guest_memory *memory, uint64_t gpa, void *data, size_t bytes);
bool guest_memory_write(const struct guest_memory *memory, uint64_t gpa, const void *data, size_t bytes);

/*
 * Registers the memory with KVM; call before KVM_CREATE_IRQCHIP, after which each slot waits for an RCU grace period.
 */
int guest_memory_register(const struct guest_memory *memory, int vm_fd, struct riffle_error *error);

#endif
