/* SPDX-License-Identifier: Apache-2.0 */
/* Places an initrd, based only on sizes, and checks that one lies where this kernel accepts it. */
#include "boot/internal.h"

#include "common/bytes.h"
#include "common/fail.h"

#define PAGE_MASK UINT64_C(0xfff)

/* The part of a run of RAM that an initrd may use: [*start, *end), whole pages; false if there is none. */
static bool usable(const struct riffle_range *run, uint32_t last, uint64_t *start, uint64_t *end)
{
	uint64_t limit = (uint64_t)last + 1;

	*start = run->address > RIFFLE_BOOT_LOW_END ? run->address : RIFFLE_BOOT_LOW_END;
	*end = run->address + run->bytes < limit ? run->address + run->bytes : limit & ~PAGE_MASK;
	return *start < *end;
}

int riffle_boot_place_initrd(uint64_t *address, const struct riffle_machine *machine, const struct riffle_plan *plan,
			     uint64_t bytes, struct riffle_error *error)
{
	struct riffle_boot_map map;
	struct riffle_boot_setup setup;
	uint64_t start, end, most = 0;
	int status;

	if ((status = riffle_boot_map_init(&map, machine, error)) ||
	    (status = riffle_boot_setup_from_plan(&setup, plan, error)))
		return status;
	*address = 0;
	if (!bytes)
		return RIFFLE_OK;
	for (unsigned i = map.run_count; i-- > 0;) {
		if (!usable(&map.run[i], riffle_boot_setup_initrd_max(&setup), &start, &end))
			continue;
		if (bytes <= end - start) {
			*address = (end - bytes) & ~PAGE_MASK;
			return RIFFLE_OK;
		}
		if (end - start > most)
			most = end - start;
	}
	return riffle_fail_expected(error, RIFFLE_ERR_SPACE, "initrd", "does not fit into low memory", bytes, most);
}

int riffle_boot_check_initrd(const struct riffle_boot_map *map, const struct riffle_machine *machine,
			     const struct riffle_boot_setup *setup, const struct riffle_range *kernel,
			     struct riffle_error *error)
{
	uint64_t address = machine->initrd_address, bytes = machine->initrd_bytes, start, end;

	if (!bytes)
		return RIFFLE_OK;
	if (address & PAGE_MASK)
		return riffle_fail_found(error, RIFFLE_ERR_ARGUMENT, "initrd_address", "is not page-aligned", address);
	for (unsigned i = 0; i < map->run_count; i++) {
		if (!usable(&map->run[i], riffle_boot_setup_initrd_max(setup), &start, &end) || address < start ||
		    address >= end || !riffle_inside(address - start, bytes, end - start))
			continue;
		if (riffle_boot_overlap(address, bytes, kernel->address, kernel->bytes))
			return riffle_fail_expected(error, RIFFLE_ERR_ARGUMENT, "initrd", "overlaps the kernel",
						    address, kernel->address);
		return RIFFLE_OK;
	}
	return riffle_fail_found(error, RIFFLE_ERR_SPACE, "initrd", "is not in RAM that the kernel can take it from",
				 address);
}

size_t riffle_boot_reserved(const struct riffle_machine *machine, struct riffle_range *ranges, size_t capacity)
{
	const struct riffle_range all[] = {{0, RIFFLE_BOOT_LOW_END}, {machine->initrd_address, machine->initrd_bytes}};
	size_t needed = machine->initrd_bytes ? 2 : 1;

	for (size_t i = 0; i < needed && i < capacity; i++)
		ranges[i] = all[i];
	return needed;
}
