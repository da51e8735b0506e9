/* SPDX-License-Identifier: Apache-2.0 */
/* boot_params (Documentation/arch/x86/zero-page.rst), the command line and setup_data that it points to. */
#include "boot/internal.h"

#include "common/bytes.h"
#include "common/fail.h"

#define ZERO_PAGE_BYTES 4096u
#define ACPI_RSDP_ADDR 0x070u
#define E820_ENTRIES 0x1e8u
#define E820_TABLE 0x2d0u
#define E820_ENTRY_BYTES 20u
#define E820_RAM 1u
#define E820_RESERVED 2u

#define SETUP_DATA_HEADER_BYTES 16u
#define SETUP_RNG_SEED 9u /* arch/x86/include/uapi/asm/bootparam.h, Linux 6.0; older kernels ignore it */

_Static_assert(RIFFLE_BOOT_SETUP_DATA + SETUP_DATA_HEADER_BYTES + RIFFLE_BOOT_RNG_SEED_MAX <= RBOOT_SETUP_DATA_END,
	       "setup_data fits its page");
_Static_assert(RBOOT_RUNS_MAX + 2 <= 128, "the zero page holds 128 e820 entries");

static void add_e820(uint8_t *zero_page, uint64_t start, uint64_t end, uint32_t type)
{
	uint8_t *entry = zero_page + E820_TABLE + zero_page[E820_ENTRIES]++ * E820_ENTRY_BYTES;

	riffle_put64(entry, start);
	riffle_put64(entry + 8, end - start);
	riffle_put32(entry + 16, type);
}

static void write_e820(uint8_t *zero_page, const struct riffle_boot_map *map)
{
	for (unsigned i = 0; i < map->run_count && map->run[i].address < RBOOT_BASE_MEMORY_END; i++) {
		uint64_t start = map->run[i].address, end = start + map->run[i].bytes;

		add_e820(zero_page, start, end < RBOOT_BASE_MEMORY_END ? end : RBOOT_BASE_MEMORY_END, E820_RAM);
	}
	add_e820(zero_page, RBOOT_BASE_MEMORY_END, RIFFLE_BOOT_LOW_END, E820_RESERVED);
	for (unsigned i = 0; i < map->run_count; i++) {
		uint64_t start = map->run[i].address, end = start + map->run[i].bytes;

		if (start < RIFFLE_BOOT_LOW_END)
			start = RIFFLE_BOOT_LOW_END;
		if (start < end)
			add_e820(zero_page, start, end, E820_RAM);
	}
}

static int write_command_line(uint8_t *low, const char *line, const struct riffle_boot_setup *setup,
			      struct riffle_error *error)
{
	size_t bytes = line ? strlen(line) : 0, limit = riffle_boot_setup_cmdline_max(setup);

	if (limit > RIFFLE_BOOT_CMDLINE_MAX - 1)
		limit = RIFFLE_BOOT_CMDLINE_MAX - 1;
	if (bytes > limit)
		return riffle_fail_expected(error, RIFFLE_ERR_SPACE, "command line", "is longer than the kernel takes",
					    bytes, limit);
	if (bytes)
		memcpy(low + RIFFLE_BOOT_CMDLINE, line, bytes);
	low[RIFFLE_BOOT_CMDLINE + bytes] = 0;
	return RIFFLE_OK;
}

/* Writes the seed and returns setup_data's address, 0 for none. */
static int write_setup_data(uint8_t *low, const struct riffle_machine *machine, uint64_t *address,
			    struct riffle_error *error)
{
	uint8_t *node = low + RIFFLE_BOOT_SETUP_DATA;

	*address = 0;
	if (!machine->rng_seed)
		return RIFFLE_OK;
	if (!machine->rng_seed_bytes || machine->rng_seed_bytes > RIFFLE_BOOT_RNG_SEED_MAX)
		return riffle_fail_expected(error, RIFFLE_ERR_ARGUMENT, "rng_seed_bytes", "is 0 or too many",
					    machine->rng_seed_bytes, RIFFLE_BOOT_RNG_SEED_MAX);
	riffle_put64(node, 0); /* the chain's end */
	riffle_put32(node + 8, SETUP_RNG_SEED);
	riffle_put32(node + 12, (uint32_t)machine->rng_seed_bytes);
	memcpy(node + SETUP_DATA_HEADER_BYTES, machine->rng_seed, machine->rng_seed_bytes);
	*address = RIFFLE_BOOT_SETUP_DATA;
	return RIFFLE_OK;
}

int riffle_boot_write_zero_page(uint8_t *low, const struct riffle_boot_map *map, const struct riffle_machine *machine,
				const struct riffle_boot_setup *setup, struct riffle_error *error)
{
	uint8_t *page = low + RIFFLE_BOOT_ZERO_PAGE;
	uint64_t setup_data;
	int status;

	if ((status = write_command_line(low, machine->command_line, setup, error)) ||
	    (status = write_setup_data(low, machine, &setup_data, error)))
		return status;

	/* all zero first: a non-zero sentinel (0x1ef) tells the kernel that the loader left garbage around the header
	 */
	memset(page, 0, ZERO_PAGE_BYTES);
	memcpy(page + RBOOT_HDR_START, setup->bytes, sizeof setup->bytes);
	page[RBOOT_TYPE_OF_LOADER] = RBOOT_LOADER_UNDEFINED;
	if (machine->initrd_bytes) {
		riffle_put32(page + RBOOT_RAMDISK_IMAGE, (uint32_t)machine->initrd_address);
		riffle_put32(page + RBOOT_RAMDISK_SIZE, (uint32_t)machine->initrd_bytes);
	}
	riffle_put32(page + RBOOT_CMD_LINE_PTR, RIFFLE_BOOT_CMDLINE);
	riffle_put64(page + RBOOT_SETUP_DATA_PTR, setup_data);
	riffle_put64(page + ACPI_RSDP_ADDR,
		     riffle_boot_wants(machine, RIFFLE_TABLES_ACPI) ? RIFFLE_BOOT_ACPI : machine->rsdp_address);
	if (riffle_boot_wants(machine, RIFFLE_TABLES_E820))
		write_e820(page, map);
	return RIFFLE_OK;
}
