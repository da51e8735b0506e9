/* SPDX-License-Identifier: Apache-2.0 */
/* A direct boot as a whole: everything below 1 MiB written, and the registers of the 64-bit entry. */
#include "boot/internal.h"

#include "common/bytes.h"
#include "common/fail.h"
#include "common/reserved.h"

/* arch/x86/include/asm/segment.h: what boot.rst demands of selectors at the 64-bit entry */
#define BOOT_CS 0x10u
#define BOOT_DS 0x18u
#define FLAT_CODE64 UINT64_C(0x00af9b000000ffff) /* present, accessed, execute/read, L, 4 GiB */
#define FLAT_DATA UINT64_C(0x00cf93000000ffff)   /* present, accessed, read/write, D, 4 GiB */
#define GDT_ENTRIES 4u

#define CR0_PE (UINT64_C(1) << 0)
#define CR0_ET (UINT64_C(1) << 4)
#define CR0_NE (UINT64_C(1) << 5)
#define CR0_PG (UINT64_C(1) << 31)
#define CR4_PAE (UINT64_C(1) << 5) /* and not LA57: the kernel would take 5 levels for granted */
#define EFER_LME (UINT64_C(1) << 8)
#define EFER_LMA (UINT64_C(1) << 10)
#define RFLAGS_FIXED 2u

static void write_gdt(uint8_t *low)
{
	memset(low + RIFFLE_BOOT_GDT, 0, GDT_ENTRIES * 8);
	riffle_put64(low + RIFFLE_BOOT_GDT + BOOT_CS, FLAT_CODE64);
	riffle_put64(low + RIFFLE_BOOT_GDT + BOOT_DS, FLAT_DATA);
}

static void set_registers(struct riffle_boot_registers *registers, uint64_t entry)
{
	*registers = (struct riffle_boot_registers){
	    .rip = entry,
	    .rsi = RIFFLE_BOOT_ZERO_PAGE,
	    .rsp = RIFFLE_BOOT_STACK,
	    .rflags = RFLAGS_FIXED,
	    .cr0 = CR0_PE | CR0_ET | CR0_NE | CR0_PG,
	    .cr3 = RIFFLE_BOOT_PML4,
	    .cr4 = CR4_PAE,
	    .efer = EFER_LME | EFER_LMA,
	    .gdt_address = RIFFLE_BOOT_GDT,
	    .gdt_bytes = GDT_ENTRIES * 8,
	    .cs = BOOT_CS,
	    .ds = BOOT_DS,
	};
}

int riffle_boot_write_all(struct riffle_boot_registers *registers, const struct riffle_boot_map *map,
		    const struct riffle_machine *machine, const struct riffle_boot_setup *setup,
		    const struct riffle_range *kernel, uint64_t entry, struct riffle_error *error)
{
	uint8_t *low = riffle_boot_map_host(map, 0, RIFFLE_BOOT_LOW_END);
	bool gib_pages = machine->flags & RIFFLE_MACHINE_GIB_PAGES;
	int status;

	if (!low)
		return riffle_fail(error, RIFFLE_ERR_ARGUMENT, "ram", "has no stretch with the whole first MiB");
	if (!machine->vcpus || machine->vcpus > RIFFLE_BOOT_VCPUS_MAX)
		return riffle_fail_expected(error, RIFFLE_ERR_ARGUMENT, "vcpus", "is 0 or too many", machine->vcpus,
					    RIFFLE_BOOT_VCPUS_MAX);
	if ((status = riffle_boot_check_initrd(map, machine, setup, kernel, error)) ||
	    (status = riffle_boot_write_zero_page(low, map, machine, setup, error)) ||
	    (status = riffle_boot_write_page_tables(low, map->end, gib_pages, error)) ||
	    (status = riffle_boot_write_acpi(low, map, machine, error)))
		return status;
	riffle_boot_write_mp_table(low, machine->vcpus);
	write_gdt(low);
	set_registers(registers, entry);
	return RIFFLE_OK;
}

int riffle_boot_write(struct riffle_boot_registers *registers, const struct riffle_machine *machine,
		      const struct riffle_plan *plan, const struct riffle_loaded *loaded, struct riffle_error *error)
{
	struct riffle_boot_map map;
	struct riffle_boot_setup setup;
	struct riffle_range kernel;
	uint8_t *loadflags = &setup.bytes[RBOOT_HDR(RBOOT_LOADFLAGS)];
	int status;

	if ((status = RIFFLE_CHECK_ZERO(loaded->reserved_zero, "loaded", error)) ||
	    (status = riffle_boot_map_init(&map, machine, error)) || (status = riffle_boot_setup_from_plan(&setup, plan, error)))
		return status;
	if (loaded->end <= loaded->physical_base || loaded->physical_base < RIFFLE_BOOT_LOW_END ||
	    !riffle_boot_map_holds(&map, loaded->physical_base, loaded->end - loaded->physical_base))
		return riffle_fail_found(error, RIFFLE_ERR_ARGUMENT, "physical_base",
					 "the kernel does not lie in RAM above 1 MiB", loaded->physical_base);
	if (loaded->entry < loaded->physical_base || loaded->entry >= loaded->end)
		return riffle_fail_found(error, RIFFLE_ERR_ARGUMENT, "entry", "is outside the kernel", loaded->entry);
	if (loaded->loadflags & ~RBOOT_KASLR_FLAG)
		return riffle_fail_found(error, RIFFLE_ERR_ARGUMENT, "loadflags", "has bits other than KASLR_FLAG",
					 loaded->loadflags);

	/* the other flags speak of the real-mode code, which does not run */
	*loadflags = (uint8_t)(RBOOT_LOADED_HIGH | loaded->loadflags);
	kernel = (struct riffle_range){loaded->physical_base, loaded->end - loaded->physical_base};
	return riffle_boot_write_all(registers, &map, machine, &setup, &kernel, loaded->entry, error);
}
