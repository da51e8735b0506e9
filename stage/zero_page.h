/* SPDX-License-Identifier: Apache-2.0 */
/* Offsets in struct boot_params (Documentation/arch/x86/zero-page.rst, boot.rst). */
#ifndef RIFFLE_STAGE_ZERO_PAGE_H
#define RIFFLE_STAGE_ZERO_PAGE_H

#define ACPI_RSDP_ADDR 0x070
#define EXT_RAMDISK_IMAGE 0x0c0
#define EXT_RAMDISK_SIZE 0x0c4
#define EXT_CMD_LINE_PTR 0x0c8
#define EFI_SIGNATURE 0x1c0
#define EFI_MEMMAP 0x1d0
#define EFI_MEMMAP_SIZE 0x1d4
#define EFI_MEMMAP_HI 0x1dc
#define E820_ENTRIES 0x1e8
#define TYPE_OF_LOADER 0x210
#define LOADFLAGS 0x211
#define RAMDISK_IMAGE 0x218
#define RAMDISK_SIZE 0x21c
#define CMD_LINE_PTR 0x228
#define CMDLINE_SIZE 0x238
#define SETUP_DATA 0x250
#define E820_TABLE 0x2d0

#define E820_ENTRY 20
#define E820_RAM 1u
#define E820_RESERVED 2u

#endif
