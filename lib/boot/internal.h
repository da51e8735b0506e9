/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Shared by the files of this component: the sorted RAM map, the setup header's fields, and the writers' entry points.
 */
#ifndef RIFFLE_BOOT_INTERNAL_H
#define RIFFLE_BOOT_INTERNAL_H

#include <stdbool.h>

#include <riffle/boot.h>

#include "common/setup_header.h"

#define RBOOT_RUNS_MAX 126u            /* the zero page holds 128 e820 entries */
#define RBOOT_BASE_MEMORY_END 0x9fc00u /* a PC's base memory without its last KiB */
#define RBOOT_SETUP_DATA_END (RIFFLE_BOOT_SETUP_DATA + 0x1000u)
#define RBOOT_MP_TABLE_END 0xa0000u
#define RBOOT_LAPIC 0xfee00000u
#define RBOOT_IOAPIC 0xfec00000u
#define RBOOT_IOAPIC_ID 0u /* the id register's reset value */
#define RBOOT_IOAPIC_PINS 24u

/* The guest's RAM, checked. */
struct riffle_boot_map {
	const struct riffle_ram *ram; /* as the caller gave it, in any order */
	size_t ram_count;
	struct riffle_range run[RBOOT_RUNS_MAX]; /* ascending, adjacent ranges joined */
	unsigned run_count;
};

/* Errors: ARGUMENT. Reads only ram and ram_count; host addresses may be NULL here. */
int riffle_boot_map_init(struct riffle_boot_map *map, const struct riffle_machine *machine, struct riffle_error *error);
/* the range with the lowest address that is not below `from`; NULL if there is none */
const struct riffle_ram *riffle_boot_map_next(const struct riffle_boot_map *map, uint64_t from);
/* true if all of [address, address + bytes) is RAM */
bool riffle_boot_map_holds(const struct riffle_boot_map *map, uint64_t address, uint64_t bytes);
/* true if [address, address + bytes) overlaps RAM; the range must not wrap */
bool riffle_boot_map_touches(const struct riffle_boot_map *map, uint64_t address, uint64_t bytes);
/* host address of a range that lies in one RAM range, otherwise NULL */
uint8_t *riffle_boot_map_host(const struct riffle_boot_map *map, uint64_t address, uint64_t bytes);

/* highest address an initrd's last byte may have */
uint32_t riffle_boot_setup_initrd_max(const struct riffle_boot_setup *setup);
/* longest command line, without its NUL */
uint32_t riffle_boot_setup_cmdline_max(const struct riffle_boot_setup *setup);

/*
 * Checks that the initrd of *machine lies where this kernel accepts it and does not overlap `kernel`. Errors: ARGUMENT,
 * SPACE.
 */
int riffle_boot_check_initrd(const struct riffle_boot_map *map, const struct riffle_machine *machine,
			     const struct riffle_boot_setup *setup, const struct riffle_range *kernel,
			     struct riffle_error *error);

/* `low` is the host address of the first MiB from here on. */
int riffle_boot_write_zero_page(uint8_t *low, const struct riffle_boot_map *map, const struct riffle_machine *machine,
				const struct riffle_boot_setup *setup, struct riffle_error *error);
/* where the page tables for this RAM end; SPACE if there is no room for them */
int riffle_boot_page_tables_end(uint32_t *end, const struct riffle_boot_map *map, bool gib_pages,
				struct riffle_error *error);
void riffle_boot_write_page_tables(uint8_t *low, const struct riffle_boot_map *map, bool gib_pages);
int riffle_boot_write_acpi(uint8_t *low, const struct riffle_boot_map *map, const struct riffle_machine *machine,
			   struct riffle_error *error);
void riffle_boot_write_mp_table(uint8_t *low, unsigned vcpus);

/* All of the above, GDT and registers. `kernel` is where it lies, `entry` where it starts. */
int riffle_boot_write_all(struct riffle_boot_registers *registers, const struct riffle_boot_map *map,
			  const struct riffle_machine *machine, const struct riffle_boot_setup *setup,
			  const struct riffle_range *kernel, uint64_t entry, struct riffle_error *error);

/* Is this one of the tables to write (RIFFLE_TABLES_*)? */
static inline bool riffle_boot_wants(const struct riffle_machine *machine, unsigned table)
{
	return !machine->tables || machine->tables & table;
}

static inline bool riffle_boot_overlap(uint64_t a, uint64_t a_bytes, uint64_t b, uint64_t b_bytes)
{
	return a_bytes && b_bytes && a < b + b_bytes && b < a + a_bytes;
}

/* the checksum byte that makes `bytes` bytes sum to 0; its place must be 0 now */
static inline uint8_t riffle_boot_checksum(const uint8_t *p, size_t bytes)
{
	uint8_t sum = 0;

	for (size_t i = 0; i < bytes; i++)
		sum = (uint8_t)(sum + p[i]);
	return (uint8_t)-sum;
}

#endif
