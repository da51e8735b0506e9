/* SPDX-License-Identifier: Apache-2.0 */
/* The guest's RAM as the boot room needs it: checked, ascending, adjacent stretches joined. */
#include "boot/internal.h"

#include "common/bytes.h"
#include "common/fail.h"
#include "common/reserved.h"

static int check_stretch(const struct riffle_ram *ram, struct riffle_error *error)
{
	uint64_t end;

	if (!ram->bytes || ram->address % 4096 || ram->bytes % 4096 ||
	    __builtin_add_overflow(ram->address, ram->bytes, &end))
		return riffle_fail_found(error, RIFFLE_ERR_ARGUMENT, "ram", "is empty, wraps, or is not in whole pages",
					 ram->address);
	if (ram->address < RIFFLE_BOOT_HOLE_END && end > RIFFLE_BOOT_HOLE_START)
		return riffle_fail_expected(error, RIFFLE_ERR_ARGUMENT, "ram", "reaches into the hole below 4 GiB", end,
					    RIFFLE_BOOT_HOLE_START);
	return RIFFLE_OK;
}

static void insert_ascending(struct riffle_boot_map *map, const struct riffle_ram *ram)
{
	unsigned i = map->ram_count++;

	for (; i > 0 && map->ram[i - 1].address > ram->address; i--)
		map->ram[i] = map->ram[i - 1];
	map->ram[i] = *ram;
}

int riffle_boot_map_init(struct riffle_boot_map *map, const struct riffle_machine *machine, struct riffle_error *error)
{
	int status;

	map->ram_count = map->run_count = 0;
	map->end = 0;
	if ((status = RIFFLE_CHECK_ZERO(machine->reserved_zero, "machine", error)))
		return status;
	if (machine->reserved_zero_byte)
		return riffle_fail_found(error, RIFFLE_ERR_ARGUMENT, "machine", "reserved bytes are not zero",
					 machine->reserved_zero_byte);
	if (!machine->ram || !machine->ram_count || machine->ram_count > RBOOT_RAM_MAX)
		return riffle_fail_expected(error, RIFFLE_ERR_ARGUMENT, "ram", "no stretch, or too many",
					    machine->ram_count, RBOOT_RAM_MAX);
	for (size_t i = 0; i < machine->ram_count; i++) {
		if ((status = check_stretch(&machine->ram[i], error)))
			return status;
		insert_ascending(map, &machine->ram[i]);
	}
	for (unsigned i = 0; i < map->ram_count; i++) {
		const struct riffle_ram *ram = &map->ram[i];

		if (i && ram->address < map->end)
			return riffle_fail_found(error, RIFFLE_ERR_ARGUMENT, "ram", "overlaps another stretch",
						 ram->address);
		if (i && ram->address == map->end)
			map->run[map->run_count - 1].bytes += ram->bytes;
		else
			map->run[map->run_count++] = (struct riffle_range){ram->address, ram->bytes};
		map->end = ram->address + ram->bytes;
	}
	return RIFFLE_OK;
}

bool riffle_boot_map_holds(const struct riffle_boot_map *map, uint64_t address, uint64_t bytes)
{
	for (unsigned i = 0; i < map->run_count; i++)
		if (address >= map->run[i].address &&
		    riffle_inside(address - map->run[i].address, bytes, map->run[i].bytes))
			return true;
	return false;
}

bool riffle_boot_map_touches(const struct riffle_boot_map *map, uint64_t address, uint64_t bytes)
{
	for (unsigned i = 0; i < map->run_count; i++)
		if (riffle_boot_overlap(address, bytes, map->run[i].address, map->run[i].bytes))
			return true;
	return false;
}

uint8_t *riffle_boot_map_host(const struct riffle_boot_map *map, uint64_t address, uint64_t bytes)
{
	for (unsigned i = 0; i < map->ram_count; i++) {
		const struct riffle_ram *ram = &map->ram[i];

		if (ram->host && address >= ram->address && riffle_inside(address - ram->address, bytes, ram->bytes))
			return (uint8_t *)ram->host + (address - ram->address);
	}
	return NULL;
}
