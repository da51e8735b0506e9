/* SPDX-License-Identifier: Apache-2.0 */
/* Guest RAM: one anonymous mapping, cut by the hole below 4 GiB into at most two stretches. */
#ifndef RIFFLE_MONITOR_MEMORY_H
#define RIFFLE_MONITOR_MEMORY_H

#include <stdbool.h>

#include <riffle/error.h>
#include <riffle/memory.h>

#define GUEST_MEMORY_STEP (UINT64_C(2) << 20)
#define GUEST_MEMORY_MAX (UINT64_C(4) << 40)

struct guest_memory {
	struct riffle_ram ram[2];
	size_t count;
	void *reservation;              /* RAM with its guard pages; NULL: nothing mapped */
	size_t reservation_bytes;
};

/* Maps `bytes` of guest RAM, all zero. Errors: ARGUMENT (size), MEMORY. */
int guest_memory_map(struct guest_memory *memory, uint64_t bytes, bool huge_pages, struct riffle_error *error);
void guest_memory_unmap(struct guest_memory *memory);

/* Tells KVM of it; to be called before KVM_CREATE_IRQCHIP, after which each slot waits for an RCU grace period. */
int guest_memory_register(const struct guest_memory *memory, int vm_fd, struct riffle_error *error);

#endif
