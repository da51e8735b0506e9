/* SPDX-License-Identifier: Apache-2.0 */
/* The guest's memory as the library sees it: stretches of RAM and the ranges in them that are taken. */
#ifndef RIFFLE_MEMORY_H
#define RIFFLE_MEMORY_H

#include <stddef.h>
#include <stdint.h>

/* One stretch of guest RAM, contiguous in guest-physical and in host-virtual addresses. */
struct riffle_ram {
	uint64_t address; /* guest-physical address of the first byte, multiple of 4 KiB */
	uint64_t bytes;   /* multiple of 4 KiB, not 0 */
	void *host;       /* where the caller has it mapped; may be NULL for layout alone */
};

/* A range of guest-physical addresses that the kernel may not be put on. Need not lie in RAM. */
struct riffle_range {
	uint64_t address;
	uint64_t bytes; /* 0 reserves nothing */
};

/*
 * The whole of it. The arrays belong to the caller, in any order; RAM stretches must not overlap, reserved ranges
 * may. Reserve what must survive until the kernel has started: initrd, zero page, command line, page tables, GDT,
 * setup_data, ACPI and MP tables. Everything below 16 MiB is left alone anyway (the kernel's own floor).
 *
 * For uniform layouts that tell nothing to the guest, choose reserved ranges that do not depend on the layout.
 */
struct riffle_memory {
	const struct riffle_ram *ram;
	size_t ram_count;
	const struct riffle_range *reserved;
	size_t reserved_count;
	uint64_t reserved_zero[4];
};

#endif
