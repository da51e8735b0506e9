/* SPDX-License-Identifier: Apache-2.0 */
/* Guest RAM: one anonymous mapping, cut by the hole below 4 GiB into at most two stretches. */
#ifndef RIFFLE_MONITOR_MEMORY_H
#define RIFFLE_MONITOR_MEMORY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <riffle/error.h>
#include <riffle/memory.h>

#define GUEST_MEMORY_STEP (UINT64_C(2) << 20)
#define GUEST_MEMORY_MAX (UINT64_C(4) << 40)

#define GUEST_MEMORY_ADDED_MAX 16u
#define GUEST_MEMORY_ADDED_FROM (UINT64_C(512) << 30)

struct guest_memory {
	struct riffle_ram ram[2];
	size_t count;
	/* what devices add to it, above GUEST_MEMORY_ADDED_FROM and all RAM: no RAM, but as good to devices */
	struct riffle_ram added[GUEST_MEMORY_ADDED_MAX];
	bool added_read_only[GUEST_MEMORY_ADDED_MAX]; /* to the guest's CPUs; the host's mapping is writable */
	size_t added_count;
	void *reservation;              /* RAM with its guard pages; NULL: nothing mapped */
	size_t reservation_bytes;
};

/* Maps `bytes` of guest RAM, all zero. Errors: ARGUMENT (size), MEMORY. */
int guest_memory_map(struct guest_memory *memory, uint64_t bytes, bool huge_pages, struct riffle_error *error);
void guest_memory_unmap(struct guest_memory *memory);

/* Where the next stretch can be added: a multiple of 1 GiB. */
uint64_t guest_memory_next_added(const struct guest_memory *memory);
/* Adds it, there, before guest_memory_register(); it stays its owner's. Errors: ARGUMENT (more than there is room for).
 */
int guest_memory_add(struct guest_memory *memory, const struct riffle_ram *region, bool read_only,
		     struct riffle_error *error);

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
