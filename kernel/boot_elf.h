/* SPDX-License-Identifier: Apache-2.0 */
/* The headers of an ELF that monitors boot by its 64-bit entry or by PVH, and the image of the stage or stub in it. */
#ifndef RIFFLE_KERNEL_BOOT_ELF_H
#define RIFFLE_KERNEL_BOOT_ELF_H

#include <stdint.h>

#include <riffle/plan.h>

#include "stage/stage.h"

/*
 * The space before the first segment. Loaders look for a multiboot header in the first 8 KiB and for a bzImage header
 * at 0x202; the space holds neither, because it holds no part of a kernel.
 */
#define BOOT_ELF_HEADERS_BYTES 8192u
/* More than any known kernel needs, and few enough for every loader. */
#define BOOT_ELF_SEGMENTS_MAX 64u

/* One PT_LOAD; physical and virtual address are the same. */
struct boot_elf_segment {
	uint64_t file_offset;
	uint64_t file_bytes;
	uint64_t address;
	uint64_t memory_bytes; /* zero after file_bytes, also after a reset */
};

/*
 * Fills `headers`: ELF header, one PT_NOTE with the PVH entry, one PT_LOAD for each of the 1 to BOOT_ELF_SEGMENTS_MAX
 * segments, ascending. The image (stage/stage.h) is the first of them.
 */
void boot_elf_headers(uint8_t headers[BOOT_ELF_HEADERS_BYTES], const struct boot_elf_segment *segments, unsigned count);

/* Fills the page that the PVH entry turns into its zero page, with the plan's setup header. Errors: FORMAT. */
int boot_elf_zero_page(uint8_t page[STAGE_PAGE], const struct riffle_plan *plan, struct riffle_error *error);

#endif
