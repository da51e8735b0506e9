/* SPDX-License-Identifier: Apache-2.0 */
/* The identity map the kernel is entered with: the first 4 GiB and all RAM by whole GiBs, the same tables whatever the
 * layout. */
#include "boot/internal.h"

#include "common/bytes.h"
#include "common/fail.h"

#define PAGE 4096u
#define PRESENT 0x001u
#define WRITABLE 0x002u
#define ACCESSED 0x020u
#define DIRTY 0x040u
#define LARGE 0x080u
#define TABLE (PRESENT | WRITABLE | ACCESSED)
/* accessed and dirty from the start, so that a vCPU with emulated memory accesses need not exit to set them */
#define LEAF (PRESENT | WRITABLE | ACCESSED | DIRTY | LARGE)

#define GIB (UINT64_C(1) << 30)
#define MIB2 (UINT64_C(2) << 20)
#define PDPT (RIFFLE_BOOT_PML4 + PAGE)
#define DIRECTORIES (RIFFLE_BOOT_PML4 + 2 * PAGE)
#define FEW ((RIFFLE_BOOT_CMDLINE - DIRECTORIES) / PAGE)
#define MORE_END 0x90000u
#define MORE ((MORE_END - RIFFLE_BOOT_MORE_TABLES) / PAGE)
#define SMALL_GIBS 4u                /* always mapped by 2 MiB pages: MMIO lies here, in a GiB that also holds RAM */
#define GIBS_MAX (UINT64_C(1) << 18) /* the range of 4-level paging */
#define GIBS_OF_PDPT 512u

static uint32_t page_address(unsigned index)
{
	return index < FEW ? DIRECTORIES + index * PAGE : RIFFLE_BOOT_MORE_TABLES + (index - FEW) * PAGE;
}

/* The next GiB to map, from *gib on: the first four, then those that hold RAM; false if there is none. */
static bool next_gib(const struct riffle_boot_map *map, uint64_t *gib)
{
	if (*gib < SMALL_GIBS)
		return true;
	for (unsigned i = 0; i < map->run_count; i++) {
		uint64_t first = map->run[i].address / GIB, last = (map->run[i].address + map->run[i].bytes - 1) / GIB;

		if (last < *gib)
			continue;
		if (first > *gib)
			*gib = first;
		return true;
	}
	return false;
}

int riffle_boot_page_tables_end(uint32_t *end, const struct riffle_boot_map *map, bool gib_pages,
				struct riffle_error *error)
{
	unsigned used = 0;
	uint64_t top = 0;

	for (uint64_t gib = 0; next_gib(map, &gib); gib++) {
		if (gib / GIBS_OF_PDPT != top) {
			top = gib / GIBS_OF_PDPT;
			used++;
		}
		if (!gib_pages || gib < SMALL_GIBS)
			used++;
		if (gib >= GIBS_MAX || used > FEW + MORE)
			return riffle_fail_found(error, RIFFLE_ERR_SPACE, "ram",
						 "is more than the boot page tables map, from this address on",
						 gib * GIB);
	}
	*end = page_address(used - 1) + PAGE;
	return RIFFLE_OK;
}

static void write_directory(uint8_t *directory, uint64_t gib)
{
	for (unsigned i = 0; i < PAGE / 8; i++)
		riffle_put64(directory + i * 8, (gib * GIB + i * MIB2) | LEAF);
}

void riffle_boot_write_page_tables(uint8_t *low, const struct riffle_boot_map *map, bool gib_pages)
{
	uint8_t *pml4 = low + RIFFLE_BOOT_PML4, *pdpt = low + PDPT;
	unsigned used = 0;
	uint64_t top = 0;

	memset(pml4, 0, 2 * PAGE);
	riffle_put64(pml4, PDPT | TABLE);
	for (uint64_t gib = 0; next_gib(map, &gib); gib++) {
		uint8_t *entry;

		if (gib / GIBS_OF_PDPT != top) {
			top = gib / GIBS_OF_PDPT;
			riffle_put64(pml4 + top * 8, page_address(used) | TABLE);
			pdpt = low + page_address(used++);
			memset(pdpt, 0, PAGE);
		}
		entry = pdpt + gib % GIBS_OF_PDPT * 8;
		if (gib_pages && gib >= SMALL_GIBS) {
			riffle_put64(entry, gib * GIB | LEAF);
			continue;
		}
		riffle_put64(entry, page_address(used) | TABLE);
		write_directory(low + page_address(used++), gib);
	}
}
