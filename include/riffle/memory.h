/* SPDX-License-Identifier: Apache-2.0 */
/* The guest's memory as the library sees it: RAM ranges, and reserved ranges within them. */
#ifndef RIFFLE_MEMORY_H
#define RIFFLE_MEMORY_H

#include <stddef.h>
#include <stdint.h>

/* One range of guest RAM, contiguous in guest-physical and in host-virtual addresses. */
struct riffle_ram {
	uint64_t address; /* guest-physical address of the first byte, multiple of 4 KiB */
	uint64_t bytes;   /* multiple of 4 KiB, not 0 */
	void *host;       /* where the caller has mapped it; may be NULL if only a layout is drawn */
};

/* A range of guest-physical addresses where the kernel may not be placed. Need not lie in RAM. */
struct riffle_range {
	uint64_t address;
	uint64_t bytes; /* 0 reserves nothing */
};

/*
 * All of the guest's memory. The caller owns the arrays, which may be in any order; RAM ranges must not overlap,
 * reserved ranges may. Reserve what must survive until the kernel has started: initrd, zero page, command line, page
 * tables, GDT, setup_data, ACPI and MP tables. The kernel is never placed below 16 MiB (its own floor).
 *
 * Choose reserved ranges that do not depend on the layout; otherwise layouts are not uniform, or reveal themselves to
 * the guest.
 */
struct riffle_memory {
	const struct riffle_ram *ram;
	size_t ram_count;
	const struct riffle_range *reserved;
	size_t reserved_count;
	uint64_t reserved_zero[4];
};

#endif
