/* SPDX-License-Identifier: Apache-2.0 */
/* The kernel's virtual addresses of a guest, as its page tables map them to RAM: contiguous ranges. */
#include "machine/core_mappings.h"

#include <stdbool.h>

#define CR0_PAGING (UINT64_C(1) << 31)
#define CR4_LEVELS_5 (UINT64_C(1) << 12)
#define EFER_LONG_ACTIVE (UINT64_C(1) << 10)
#define ENTRY_PRESENT 1u
#define ENTRY_LARGE (1u << 7)
#define ENTRY_ADDRESS UINT64_C(0x000ffffffffff000)
#define TABLE_ENTRIES 512u
#define TABLE_BYTES 4096u
/* Linux keeps the tables of user mode, which lack most of the kernel, in the page after the kernel's */
#define ISOLATION_BIT (UINT64_C(1) << 12)

struct walk {
	const struct guest_memory *memory;
	struct core_mapping *found;
	size_t count, room;
	uint64_t tables_left; /* tables that name each other in a circle end somewhere */
};

static void add(struct walk *walk, uint64_t address, uint64_t physical, uint64_t bytes)
{
	struct core_mapping *last = walk->count ? &walk->found[walk->count - 1] : NULL;

	if (!guest_memory_at(walk->memory, physical, bytes))
		return;
	if (last && last->address + last->bytes == address && last->physical + last->bytes == physical &&
	    guest_memory_at(walk->memory, last->physical, last->bytes + bytes))
		last->bytes += bytes;
	else if (walk->count < walk->room)
		walk->found[walk->count++] = (struct core_mapping){address, physical, bytes};
}

static void walk_table(struct walk *walk, uint64_t table, unsigned level, uint64_t address, unsigned first)
{
	const uint64_t *entries = guest_memory_at(walk->memory, table, TABLE_BYTES);
	uint64_t bytes = UINT64_C(1) << (12 + 9 * (level - 1));

	if (!entries || !walk->tables_left)
		return;
	walk->tables_left--;
	for (unsigned i = first; i < TABLE_ENTRIES; i++) {
		uint64_t entry = entries[i], at = address + i * bytes;

		if (!(entry & ENTRY_PRESENT))
			continue;
		if (level == 1 || (level <= 3 && entry & ENTRY_LARGE))
			add(walk, at, entry & ENTRY_ADDRESS & ~(bytes - 1), bytes);
		else
			walk_table(walk, entry & ENTRY_ADDRESS, level - 1, at, 0);
	}
}

size_t core_mappings_find(const struct guest_memory *memory, const struct kvm_sregs *sregs, struct core_mapping *found,
			  size_t room)
{
	struct walk walk = {.memory = memory, .found = found, .room = room};
	unsigned levels = sregs->cr4 & CR4_LEVELS_5 ? 5 : 4;
	/* the sign extension of the first entry's address in the upper half, less that half */
	uint64_t start = -(UINT64_C(1) << (12 + 9 * levels));

	if (!(sregs->cr0 & CR0_PAGING) || !(sregs->efer & EFER_LONG_ACTIVE))
		return 0;
	for (size_t i = 0; i < memory->count; i++)
		walk.tables_left += memory->ram[i].bytes / TABLE_BYTES;
	walk_table(&walk, sregs->cr3 & ENTRY_ADDRESS & ~ISOLATION_BIT, levels, start, TABLE_ENTRIES / 2);
	if (!walk.count)
		walk_table(&walk, sregs->cr3 & ENTRY_ADDRESS, levels, start, TABLE_ENTRIES / 2);
	return walk.count;
}
