/* SPDX-License-Identifier: Apache-2.0 */
/* Makes a zero page from the hvm_start_info of PVH, as the kernel's own PVH entry does. */
#include "stage/pvh.h"

#include "common/bytes.h"
#include "common/fail.h"
#include "stage/stage.h"
#include "stage/zero_page.h"

/* Xen's public/arch-x86/hvm/start_info.h */
#define START_INFO_MAGIC 0x336ec578u
#define START_INFO_BYTES_0 40u /* version 0 */
#define START_INFO_BYTES_1 56u /* from version 1 on */
#define MODULE_BYTES 32u
#define MAP_ENTRY_BYTES 24u

#define ISA_START 0xa0000u
#define ISA_END 0x100000u
#define LOADER_UNDEFINED 0xffu /* boot.rst: a loader without an assigned number */

static void put_wide(uint8_t *zero_page, unsigned low, unsigned high, uint64_t value)
{
	riffle_put32(zero_page + low, (uint32_t)value);
	riffle_put32(zero_page + high, (uint32_t)(value >> 32));
}

static void put_e820(uint8_t *zero_page, unsigned index, uint64_t start, uint64_t bytes, uint32_t type)
{
	uint8_t *entry = zero_page + E820_TABLE + (size_t)index * E820_ENTRY;

	riffle_put64(entry, start);
	riffle_put64(entry + 8, bytes);
	riffle_put32(entry + 16, type);
}

/* PVH's types are those of e820. */
static int take_map(uint8_t *zero_page, const uint8_t *info, const struct stage_view *view, struct riffle_error *error)
{
	uint64_t address = riffle_get64(info + 40);
	uint32_t count = riffle_get32(info + 48);
	const uint8_t *map;

	if (!count)
		return riffle_fail(error, RIFFLE_ERR_FORMAT, "memory map", "is empty");
	if (count > STAGE_PVH_ENTRIES_MAX)
		return riffle_fail_expected(error, RIFFLE_ERR_UNSUPPORTED, "memory map", "has too many entries", count,
					    STAGE_PVH_ENTRIES_MAX);
	map = view->at(view->opaque, address, (uint64_t)count * MAP_ENTRY_BYTES);
	if (!map)
		return riffle_fail_found(error, RIFFLE_ERR_FORMAT, "memory map", "cannot be reached", address);
	memset(zero_page + E820_TABLE, 0, STAGE_E820_MAX * E820_ENTRY);
	for (uint32_t i = 0; i < count; i++)
		put_e820(zero_page, i, riffle_get64(map + i * MAP_ENTRY_BYTES),
			 riffle_get64(map + i * MAP_ENTRY_BYTES + 8), riffle_get32(map + i * MAP_ENTRY_BYTES + 16));
	/* in no map, and not to be used as RAM (arch/x86/platform/pvh/enlighten.c) */
	put_e820(zero_page, count, ISA_START, ISA_END - ISA_START, E820_RESERVED);
	zero_page[E820_ENTRIES] = (uint8_t)(count + 1);
	return RIFFLE_OK;
}

/* The first module is the initrd; others have no meaning for Linux. */
static int take_initrd(uint8_t *zero_page, const uint8_t *info, const struct stage_view *view,
		       struct riffle_error *error)
{
	uint64_t list = riffle_get64(info + 16), address = 0, bytes = 0;

	if (riffle_get32(info + 12)) {
		const uint8_t *module = view->at(view->opaque, list, MODULE_BYTES);

		if (!module)
			return riffle_fail_found(error, RIFFLE_ERR_FORMAT, "module list", "cannot be reached", list);
		address = riffle_get64(module);
		bytes = riffle_get64(module + 8);
	}
	put_wide(zero_page, RAMDISK_IMAGE, EXT_RAMDISK_IMAGE, address);
	put_wide(zero_page, RAMDISK_SIZE, EXT_RAMDISK_SIZE, bytes);
	return RIFFLE_OK;
}

static int take_command_line(uint8_t *zero_page, const uint8_t *info, const struct stage_view *view,
			     struct riffle_error *error)
{
	uint64_t address = riffle_get64(info + 24);

	put_wide(zero_page, CMD_LINE_PTR, EXT_CMD_LINE_PTR, address);
	if (address && !view->at(view->opaque, address, stage_command_line(zero_page).bytes))
		return riffle_fail_found(error, RIFFLE_ERR_FORMAT, "command line", "cannot be reached", address);
	return RIFFLE_OK;
}

int stage_pvh_zero_page(uint8_t *zero_page, uint64_t start_info, const struct stage_view *view,
			struct riffle_error *error)
{
	const uint8_t *info = view->at(view->opaque, start_info, START_INFO_BYTES_0);
	int status;

	if (!info)
		return riffle_fail_found(error, RIFFLE_ERR_FORMAT, "start info", "cannot be reached", start_info);
	if (riffle_get32(info) != START_INFO_MAGIC)
		return riffle_fail_expected(error, RIFFLE_ERR_FORMAT, "start info", "has another magic number",
					    riffle_get32(info), START_INFO_MAGIC);
	if (!riffle_get32(info + 4))
		return riffle_fail(error, RIFFLE_ERR_UNSUPPORTED, "start info",
				   "is of version 0, without a memory map");
	info = view->at(view->opaque, start_info, START_INFO_BYTES_1);
	if (!info)
		return riffle_fail_found(error, RIFFLE_ERR_FORMAT, "start info", "cannot be reached", start_info);
	if ((status = take_map(zero_page, info, view, error)) || (status = take_initrd(zero_page, info, view, error)) ||
	    (status = take_command_line(zero_page, info, view, error)))
		return status;
	zero_page[TYPE_OF_LOADER] = LOADER_UNDEFINED;
	riffle_put64(zero_page + ACPI_RSDP_ADDR, riffle_get64(info + 32));
	return RIFFLE_OK;
}
