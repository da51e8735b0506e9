/* SPDX-License-Identifier: Apache-2.0 */
/* Converts a PVH loader's start info into the zero page that a Linux kernel is entered with. */
#ifndef RIFFLE_STAGE_PVH_H
#define RIFFLE_STAGE_PVH_H

#include "stage/machine.h"

/* Of a loader's memory map; one more e820 entry is needed for the range that no map mentions. */
#define STAGE_PVH_ENTRIES_MAX (STAGE_E820_MAX - 1u)

/*
 * Completes `zero_page` (4096 bytes), in which the setup header is already filled in, from the hvm_start_info at guest
 * address `start_info`: memory map, command line, the first module as initrd, RSDP. Everything that is read through its
 * pointers must be reachable by `view`, and so must all that the kernel may read of a command line. The addresses of
 * modules and RSDP are not checked here; stage_machine_reserve() and the kernel do that. Errors: FORMAT, UNSUPPORTED
 * (version 0, which has no memory map; more entries than a zero page holds).
 */
int stage_pvh_zero_page(uint8_t *zero_page, uint64_t start_info, const struct stage_view *view,
			struct riffle_error *error);

#endif
