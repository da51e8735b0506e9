/* SPDX-License-Identifier: Apache-2.0 */
/* The identity map the kernel is entered with: the first 4 GiB and all RAM, the same tables whatever the layout. */
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
/* accessed and dirty from the start: a vCPU whose memory accesses are emulated need not come back to set them */
#define LEAF (PRESENT | WRITABLE | ACCESSED | DIRTY | LARGE)

#define GIB (UINT64_C(1) << 30)
#define MIB2 (UINT64_C(2) << 20)
#define PDPT (RIFFLE_BOOT_PML4 + PAGE)
#define DIRECTORIES (RIFFLE_BOOT_PML4 + 2 * PAGE)
#define FEW ((RIFFLE_BOOT_CMDLINE - DIRECTORIES) / PAGE)
#define MORE_END 0x90000u
#define MORE ((MORE_END - RIFFLE_BOOT_MORE_TABLES) / PAGE)
#define SMALL_GIBS 4u /* mapped by 2 MiB pages always: MMIO lies here, and its 1 GiB also holds RAM */

static uint32_t directory_address(unsigned index)
{
	return index < FEW ? DIRECTORIES + index * PAGE : RIFFLE_BOOT_MORE_TABLES + (index - FEW) * PAGE;
}

int riffle_boot_write_page_tables(uint8_t *low, uint64_t ram_end, bool gib_pages, struct riffle_error *error)
{
	uint64_t gibs = ram_end / GIB + (ram_end % GIB != 0);
	uint64_t limit = gib_pages ? 512 : FEW + MORE;

	if (gibs < SMALL_GIBS)
		gibs = SMALL_GIBS;
	if (gibs > limit)
		return riffle_fail_expected(error, RIFFLE_ERR_SPACE, "ram", "ends beyond what the boot page tables map",
					    ram_end, limit * GIB);
	memset(low + RIFFLE_BOOT_PML4, 0, 2 * PAGE);
	riffle_put64(low + RIFFLE_BOOT_PML4, PDPT | TABLE);
	for (unsigned i = 0; i < gibs; i++) {
		uint8_t *entry = low + PDPT + i * 8;

		if (gib_pages && i >= SMALL_GIBS) {
			riffle_put64(entry, i * GIB | LEAF);
			continue;
		}
		riffle_put64(entry, directory_address(i) | TABLE);
		for (unsigned j = 0; j < PAGE / 8; j++)
			riffle_put64(low + directory_address(i) + j * 8, (i * GIB + j * MIB2) | LEAF);
	}
	return RIFFLE_OK;
}
