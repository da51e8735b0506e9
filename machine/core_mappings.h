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
 * Fills in at most `room` ranges of the upper half of the address space, ascending, and returns how many. Further
 * ranges, and those not wholly in RAM, are left out. Without 64-bit page tables there are none. The tables are
 * untrusted: they are read in place, and never more of them than fit the guest's memory.
 */
size_t core_mappings_find(const struct guest_memory *memory, const struct kvm_sregs *sregs, struct core_mapping *found,
			  size_t room);

#endif
