/* SPDX-License-Identifier: Apache-2.0 */
/* The kernel's virtual addresses of a guest, as its page tables map them to RAM: contiguous ranges. */
#ifndef RIFFLE_MACHINE_CORE_MAPPINGS_H
#define RIFFLE_MACHINE_CORE_MAPPINGS_H

#include <linux/kvm.h>
#include <stddef.h>
#include <stdint.h>

#include "monitor/core/memory.h"

struct core_mapping {
	uint64_t address, physical, bytes;
};

/*
 * Fills at most `room` ranges of the upper half of the address space, ascending, and returns how many. What does not
 * fit is left out, as is what is not wholly in RAM. Without page tables of 64-bit mode there are none. The tables are
 * the guest's: each is read where it lies, and never more of them than fit its memory.
 */
size_t core_mappings_find(const struct guest_memory *memory, const struct kvm_sregs *sregs, struct core_mapping *found,
			  size_t room);

#endif
