/* SPDX-License-Identifier: Apache-2.0 */
/* Virtual addresses of a guest to its physical ones, as the processor translates them. */
#ifndef RIFFLE_MONITOR_DEBUG_PAGING_H
#define RIFFLE_MONITOR_DEBUG_PAGING_H

#include <linux/kvm.h>
#include <stdbool.h>
#include <stdint.h>

#include "monitor/core/memory.h"

/*
 * The physical address of a virtual one and how many bytes from there on are contiguous (to the end of the page).
 * Without paging both are the same; with it, 4 or 5 levels of tables of 64-bit mode are followed; the older kinds of
 * tables are not known. Under Linux's page table isolation the tables of user mode lack the kernel: where those have
 * nothing, the kernel's beside them are asked. Permissions are not looked at: a debugger may read and write anything.
 */
bool paging_translate(const struct guest_memory *memory, const struct kvm_sregs *sregs, uint64_t address,
		      uint64_t *physical, uint64_t *bytes);

#endif
