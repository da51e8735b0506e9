/* SPDX-License-Identifier: Apache-2.0 */
/* The guest's RAM for the boot component: checked, ascending, with adjacent ranges joined. */
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
	return RIFFLE_OK;
}

const struct riffle_ram *riffle_boot_map_next(const struct riffle_boot_map *map, uint64_t from)
{
	const struct riffle_ram *next = NULL;

	for (size_t i = 0; i < map->ram_count; i++)
		if (map->ram[i].address >= from && (!next || map->ram[i].address < next->address))
			next = &map->ram[i];
	return next;
}

static int fail_overlap(const struct riffle_boot_map *map, struct riffle_error *error)
{
	for (size_t i = 0; i < map->ram_count; i++)
		for (size_t j = 0; j < i; j++)
			if (riffle_boot_overlap(map->ram[i].address, map->ram[i].bytes, map->ram[j].address,
						map->ram[j].bytes))
				return riffle_fail_found(error, RIFFLE_ERR_ARGUMENT, "ram", "overlaps another stretch",
							 map->ram[i].address);
	return riffle_fail(error, RIFFLE_ERR_ARGUMENT, "ram", "overlaps another stretch");
}

int riffle_boot_map_init(struct riffle_boot_map *map, const struct riffle_machine *machine, struct riffle_error *error)
{
	uint64_t end = 0;
	int status = RIFFLE_CHECK_ZERO(machine->reserved_zero, "machine", error);

	if (status)
		return status;
	map->ram = machine->ram;
	map->ram_count = machine->ram_count;
	map->run_count = 0;
	if (!machine->ram || !machine->ram_count)
		return riffle_fail(error, RIFFLE_ERR_ARGUMENT, "ram", "has no stretch");
	for (size_t i = 0; i < machine->ram_count; i++)
		if ((status = check_stretch(&machine->ram[i], error)))
			return status;
	/* from each range's end to the next one: a start that is skipped lies inside another range */
	for (size_t i = 0; i < machine->ram_count; i++) {
		const struct riffle_ram *ram = riffle_boot_map_next(map, end);

		if (!ram)
			return fail_overlap(map, error);
		if (map->run_count && ram->address == end) {
			map->run[map->run_count - 1].bytes += ram->bytes;
		} else {
			if (map->run_count == RBOOT_RUNS_MAX)
				return riffle_fail_expected(error, RIFFLE_ERR_ARGUMENT, "ram",
							    "is in more pieces than a memory map holds",
							    machine->ram_count, RBOOT_RUNS_MAX);
			map->run[map->run_count++] = (struct riffle_range){ram->address, ram->bytes};
		}
		end = ram->address + ram->bytes;
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
