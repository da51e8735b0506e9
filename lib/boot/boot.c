/* SPDX-License-Identifier: Apache-2.0 */
/* A direct boot as a whole: everything below 1 MiB written, and the registers of the 64-bit entry. */
#include "boot/internal.h"

#include "common/bytes.h"
#include "common/fail.h"
#include "common/reserved.h"

/* arch/x86/include/asm/segment.h: the selectors that boot.rst requires at the 64-bit entry */
#define BOOT_CS 0x10u
#define BOOT_DS 0x18u
#define FLAT_CODE64 UINT64_C(0x00af9b000000ffff) /* present, accessed, execute/read, L, 4 GiB */
#define FLAT_DATA UINT64_C(0x00cf93000000ffff)   /* present, accessed, read/write, D, 4 GiB */
#define GDT_ENTRIES 4u

#define CR0_PE (UINT64_C(1) << 0)
#define CR0_ET (UINT64_C(1) << 4)
#define CR0_NE (UINT64_C(1) << 5)
#define CR0_PG (UINT64_C(1) << 31)
#define CR4_PAE (UINT64_C(1) << 5) /* and not LA57: the kernel would assume 5-level paging */
#define EFER_LME (UINT64_C(1) << 8)
#define EFER_LMA (UINT64_C(1) << 10)
#define RFLAGS_FIXED 2u

#define MACHINE_FLAGS (RIFFLE_MACHINE_I8042 | RIFFLE_MACHINE_RTC | RIFFLE_MACHINE_GIB_PAGES)
#define TABLES                                                                                                         \
	(RIFFLE_TABLES_ZERO_PAGE | RIFFLE_TABLES_E820 | RIFFLE_TABLES_MP | RIFFLE_TABLES_ACPI | RIFFLE_TABLES_ENTRY)
#define APIC_BYTES 4096u

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

/* Checks what depends on the selected tables. */
static int check_tables(const struct riffle_boot_map *map, const struct riffle_machine *machine,
			struct riffle_error *error)
{
	bool acpi = riffle_boot_wants(machine, RIFFLE_TABLES_ACPI), mp = riffle_boot_wants(machine, RIFFLE_TABLES_MP);

	if (machine->flags & ~MACHINE_FLAGS)
		return riffle_fail_found(error, RIFFLE_ERR_ARGUMENT, "flags", "hold an unknown bit",
					 machine->flags & ~MACHINE_FLAGS);
	if (machine->tables & ~TABLES)
		return riffle_fail_found(error, RIFFLE_ERR_ARGUMENT, "tables", "hold an unknown bit",
					 machine->tables & ~TABLES);
	if (machine->rsdp_address && acpi)
		return riffle_fail_found(error, RIFFLE_ERR_ARGUMENT, "rsdp_address",
					 "is given although the library's own ACPI tables are to be written",
					 machine->rsdp_address);
	if (!acpi && (machine->device_count || machine->sleep_control_port || machine->reset_port || machine->pm_port ||
		      machine->event_gsi || machine->vmgenid_address || machine->vmclock_address))
		return riffle_fail_found(error, RIFFLE_ERR_ARGUMENT, "tables",
					 "leave out ACPI, by which devices and ports are announced", machine->tables);
	if (!acpi && !mp)
		return RIFFLE_OK;
	if (!machine->vcpus || machine->vcpus > RIFFLE_BOOT_VCPUS_MAX)
		return riffle_fail_expected(error, RIFFLE_ERR_ARGUMENT, "vcpus", "is 0 or too many", machine->vcpus,
					    RIFFLE_BOOT_VCPUS_MAX);
	if (riffle_boot_map_touches(map, RBOOT_LAPIC, APIC_BYTES) ||
	    riffle_boot_map_touches(map, RBOOT_IOAPIC, APIC_BYTES))
		return riffle_fail_found(error, RIFFLE_ERR_ARGUMENT, "ram", "lies where the tables say that an APIC is",
					 RBOOT_IOAPIC);
	return RIFFLE_OK;
}

/* The host address of [0, end of what will be written). */
static int find_low(uint8_t **low, const struct riffle_boot_map *map, const struct riffle_machine *machine,
		    struct riffle_error *error)
{
	uint32_t end = RBOOT_SETUP_DATA_END, tables;
	int status;

	if (riffle_boot_wants(machine, RIFFLE_TABLES_ENTRY)) {
		status = riffle_boot_page_tables_end(&tables, map, machine->flags & RIFFLE_MACHINE_GIB_PAGES, error);
		if (status)
			return status;
		end = tables > end ? tables : end;
	}
	if (riffle_boot_wants(machine, RIFFLE_TABLES_MP))
		end = RBOOT_MP_TABLE_END;
	if (riffle_boot_wants(machine, RIFFLE_TABLES_ACPI))
		end = RIFFLE_BOOT_LOW_END;
	*low = riffle_boot_map_host(map, 0, end);
	if (!*low)
		return riffle_fail_expected(error, RIFFLE_ERR_ARGUMENT, "ram",
					    "has no range from 0 to the end of what is written", 0, end);
	return RIFFLE_OK;
}

int riffle_boot_write_all(struct riffle_boot_registers *registers, const struct riffle_boot_map *map,
			  const struct riffle_machine *machine, const struct riffle_boot_setup *setup,
			  const struct riffle_range *kernel, uint64_t entry, struct riffle_error *error)
{
	uint8_t *low;
	int status;

	if ((status = check_tables(map, machine, error)) || (status = find_low(&low, map, machine, error)) ||
	    (status = riffle_boot_check_initrd(map, machine, setup, kernel, error)) ||
	    (status = riffle_boot_write_zero_page(low, map, machine, setup, error)))
		return status;
	if (riffle_boot_wants(machine, RIFFLE_TABLES_ACPI) &&
	    (status = riffle_boot_write_acpi(low, map, machine, error)))
		return status;
	if (riffle_boot_wants(machine, RIFFLE_TABLES_MP))
		riffle_boot_write_mp_table(low, machine->vcpus);
	set_registers(registers, entry);
	if (riffle_boot_wants(machine, RIFFLE_TABLES_ENTRY)) {
		riffle_boot_write_page_tables(low, map, machine->flags & RIFFLE_MACHINE_GIB_PAGES);
		write_gdt(low);
	} else {
		registers->cr3 = registers->gdt_address = 0;
		registers->gdt_bytes = 0;
	}
	return RIFFLE_OK;
}

static int take_header(struct riffle_boot_setup *setup, const struct riffle_plan *plan,
		       const struct riffle_loaded *loaded, struct riffle_error *error)
{
	int status;

	if ((status = RIFFLE_CHECK_ZERO(loaded->reserved_zero, "loaded", error)) ||
	    (status = riffle_boot_setup_from_plan(setup, plan, error)))
		return status;
	if (loaded->loadflags & ~RBOOT_KASLR_FLAG)
		return riffle_fail_found(error, RIFFLE_ERR_ARGUMENT, "loadflags", "has bits other than KASLR_FLAG",
					 loaded->loadflags);
	setup->bytes[RBOOT_HDR(RBOOT_TYPE_OF_LOADER)] = RBOOT_LOADER_UNDEFINED;
	/* the other flags concern the real-mode code, which does not run */
	setup->bytes[RBOOT_HDR(RBOOT_LOADFLAGS)] = (uint8_t)(RBOOT_LOADED_HIGH | loaded->loadflags);
	return RIFFLE_OK;
}

int riffle_boot_setup_header(uint8_t header[RIFFLE_BOOT_SETUP_HEADER_BYTES], const struct riffle_plan *plan,
			     const struct riffle_loaded *loaded, struct riffle_error *error)
{
	struct riffle_boot_setup setup;
	int status = take_header(&setup, plan, loaded, error);

	if (!status)
		memcpy(header, setup.bytes, sizeof setup.bytes);
	return status;
}

int riffle_boot_write(struct riffle_boot_registers *registers, const struct riffle_machine *machine,
		      const struct riffle_plan *plan, const struct riffle_loaded *loaded, struct riffle_error *error)
{
	struct riffle_boot_map map;
	struct riffle_boot_setup setup;
	struct riffle_range kernel;
	int status;

	if ((status = riffle_boot_map_init(&map, machine, error)) ||
	    (status = take_header(&setup, plan, loaded, error)))
		return status;
	if (loaded->end <= loaded->physical_base || loaded->physical_base < RIFFLE_BOOT_LOW_END ||
	    !riffle_boot_map_holds(&map, loaded->physical_base, loaded->end - loaded->physical_base))
		return riffle_fail_found(error, RIFFLE_ERR_ARGUMENT, "physical_base",
					 "the kernel does not lie in RAM above 1 MiB", loaded->physical_base);
	if (loaded->entry < loaded->physical_base || loaded->entry >= loaded->end)
		return riffle_fail_found(error, RIFFLE_ERR_ARGUMENT, "entry", "is outside the kernel", loaded->entry);
	kernel = (struct riffle_range){loaded->physical_base, loaded->end - loaded->physical_base};
	return riffle_boot_write_all(registers, &map, machine, &setup, &kernel, loaded->entry, error);
}
