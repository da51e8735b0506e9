/* SPDX-License-Identifier: Apache-2.0 */
/* Translates a guest's virtual addresses to physical ones, as the processor does. */
#ifndef RIFFLE_MONITOR_DEBUG_PAGING_H
#define RIFFLE_MONITOR_DEBUG_PAGING_H

#include <linux/kvm.h>
#include <stdbool.h>
#include <stdint.h>

#include "monitor/core/memory.h"

/*
 * The physical address of a virtual one and how many bytes from there on are contiguous (to the end of the page).
 * Without paging both are the same; with paging, the 4 or 5 levels of 64-bit page tables are walked; older formats are
 * not supported. With Linux's page-table isolation, user-mode page tables do not map the kernel: if they have no
 * mapping, the kernel's tables next to them are tried. Permissions are ignored: a debugger may read and write anything.
 */
bool paging_translate(const struct guest_memory *memory, const struct kvm_sregs *sregs, uint64_t address,
		      uint64_t *physical, uint64_t *bytes);

#endif
