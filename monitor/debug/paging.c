/* SPDX-License-Identifier: Apache-2.0 */
/* Virtual addresses of a guest to its physical ones, as the processor translates them. */
#include "monitor/debug/paging.h"

#define CR0_PAGING (UINT64_C(1) << 31)
#define CR4_LEVELS_5 (UINT64_C(1) << 12)
#define EFER_LONG_ACTIVE (UINT64_C(1) << 10)

#define ENTRY_PRESENT 1u
#define ENTRY_LARGE (1u << 7)
#define ENTRY_ADDRESS UINT64_C(0x000ffffffffff000)
#define PAGE_BITS 12u
#define LEVEL_BITS 9u

/* Linux keeps the tables of user mode in the page after the kernel's (PTI_USER_PGTABLE_BIT). */
#define ISOLATION_BIT (UINT64_C(1) << 12)

static bool walk(const struct guest_memory *memory, uint64_t table, unsigned levels, uint64_t address,
		 uint64_t *physical, uint64_t *bytes)
{
	for (unsigned level = levels;; level--) {
		unsigned shift = PAGE_BITS + LEVEL_BITS * (level - 1);
		uint64_t entry, page = UINT64_C(1) << shift;

		if (!guest_memory_read(memory, table + (address >> shift & 511) * sizeof entry, &entry, sizeof entry) ||
		    !(entry & ENTRY_PRESENT))
			return false;
		if (level == 1 || (level <= 3 && entry & ENTRY_LARGE)) {
			*physical = (entry & ENTRY_ADDRESS & ~(page - 1)) | (address & (page - 1));
			*bytes = page - (address & (page - 1));
			return true;
		}
		table = entry & ENTRY_ADDRESS;
	}
}

bool paging_translate(const struct guest_memory *memory, const struct kvm_sregs *sregs, uint64_t address,
		      uint64_t *physical, uint64_t *bytes)
{
	unsigned levels = sregs->cr4 & CR4_LEVELS_5 ? 5 : 4;
	uint64_t table = sregs->cr3 & ENTRY_ADDRESS;
	unsigned unused = 64 - (PAGE_BITS + LEVEL_BITS * levels);

	if (!(sregs->cr0 & CR0_PAGING)) {
		*physical = address;
		*bytes = (UINT64_C(1) << PAGE_BITS) - (address & 4095);
		return true;
	}
	/* an address is the sign extension of the bits that are translated */
	if (!(sregs->efer & EFER_LONG_ACTIVE) || (uint64_t)((int64_t)(address << unused) >> unused) != address)
		return false;
	return walk(memory, table, levels, address, physical, bytes) ||
	       (table & ISOLATION_BIT && walk(memory, table & ~ISOLATION_BIT, levels, address, physical, bytes));
}
