/* SPDX-License-Identifier: Apache-2.0 */
/* ACPI for a machine without chipset: RSDP, XSDT, FADT, FACS, MADT, and a DSDT that lists the devices. */
#include "boot/aml.h"
#include "boot/internal.h"

#include "common/bytes.h"
#include "common/fail.h"
#include "common/reserved.h"

#define AREA (RIFFLE_BOOT_RESET_VECTOR - RIFFLE_BOOT_ACPI)
#define RSDP_BYTES 36u
#define HEADER_BYTES 36u /* of every table except the RSDP */
#define FADT_BYTES 276u  /* ACPI 6.3 */
#define MADT_LAPIC_BYTES 8u
#define MADT_IOAPIC_BYTES 12u
#define MADT_NMI_BYTES 6u
#define MADT_OVERRIDE_BYTES 10u
#define FACS_BYTES 64u /* and on a multiple of that */

/* FADT flags (ACPI 6.5, table 5.10) */
#define FADT_WBINVD (1u << 0)
#define FADT_PROC_C1 (1u << 2)
#define FADT_PWR_BUTTON (1u << 4) /* set: no fixed power button */
#define FADT_SLP_BUTTON (1u << 5)
#define FADT_FIX_RTC (1u << 6) /* set: no fixed clock wake-up */
#define FADT_RESET_REG_SUP (1u << 10)
#define FADT_HW_REDUCED (1u << 20)
/* IAPC_BOOT_ARCH (table 5.11) */
#define BOOT_LEGACY_DEVICES (1u << 0)
#define BOOT_8042 (1u << 1)
#define BOOT_NO_VGA (1u << 2)
#define BOOT_NO_CMOS_RTC (1u << 5)

#define S5_SLEEP_TYPE ((RIFFLE_BOOT_SLEEP_S5 >> 2) & 7)

/* All tables except the DSDT, which comes first and may take the rest, fit into this, including gaps. */
#define FIXED_TABLES_BYTES 1024u
_Static_assert(FADT_BYTES + HEADER_BYTES + 8 + RIFFLE_BOOT_VCPUS_MAX * MADT_LAPIC_BYTES + MADT_IOAPIC_BYTES +
		       MADT_OVERRIDE_BYTES + MADT_NMI_BYTES + 2 * FACS_BYTES + HEADER_BYTES + 16 + 4 * 16 <=
		   FIXED_TABLES_BYTES,
	       "room for FADT, FACS, MADT and XSDT");

/* The tables one after the other, each on a multiple of 16. */
struct area {
	uint8_t *bytes; /* host address of RIFFLE_BOOT_ACPI */
	size_t used;
};

/* guest-physical address of the next table */
static uint64_t next_table(struct area *area)
{
	area->used = (area->used + 15) & ~(size_t)15;
	return RIFFLE_BOOT_ACPI + area->used;
}

/* Writes the header of an otherwise complete table, with its checksum. `bytes` includes the header. */
static void finish_table(uint8_t *table, const char signature[4], uint8_t revision, size_t bytes)
{
	memset(table, 0, HEADER_BYTES);
	memcpy(table, signature, 4);
	riffle_put32(table + 4, (uint32_t)bytes);
	table[8] = revision;
	memcpy(table + 10, "RIFFLE", 6);
	memcpy(table + 16, "RIFFLEVM", 8);
	riffle_put32(table + 24, 1);
	memcpy(table + 28, "RIFL", 4);
	riffle_put32(table + 32, 1);
	table[9] = riffle_boot_checksum(table, bytes);
}

/* A device at fixed ports, up to its resources: returns what close_io_device() closes. */
struct io_device {
	size_t device, resources;
};

static struct io_device open_io_device(struct riffle_boot_aml *aml, const char name[4], const char id[7])
{
	struct io_device opened;

	opened.device = riffle_boot_aml_open_device(aml, name);
	riffle_boot_aml_name(aml, "_HID");
	riffle_boot_aml_eisa_id(aml, id);
	riffle_boot_aml_name(aml, "_UID");
	riffle_boot_aml_integer(aml, 0);
	riffle_boot_aml_name(aml, "_CRS");
	opened.resources = riffle_boot_aml_open_resources(aml);
	return opened;
}

static void close_io_device(struct riffle_boot_aml *aml, struct io_device opened)
{
	riffle_boot_aml_close_resources(aml, opened.resources);
	riffle_boot_aml_close(aml, opened.device);
}

static void put_io_devices(struct riffle_boot_aml *aml, unsigned flags)
{
	struct io_device opened = open_io_device(aml, "COM1", "PNP0501");

	riffle_boot_aml_io(aml, 0x3f8, 8);
	riffle_boot_aml_interrupt(aml, 4);
	close_io_device(aml, opened);
	if (flags & RIFFLE_MACHINE_I8042) {
		opened = open_io_device(aml, "KBD_", "PNP0303");
		riffle_boot_aml_io(aml, 0x60, 1);
		riffle_boot_aml_io(aml, 0x64, 1);
		riffle_boot_aml_interrupt(aml, 1);
		close_io_device(aml, opened);
	}
	if (flags & RIFFLE_MACHINE_RTC) {
		opened = open_io_device(aml, "RTC_", "PNP0B00");
		riffle_boot_aml_io(aml, 0x70, 2);
		close_io_device(aml, opened);
	}
}

static void put_device(struct riffle_boot_aml *aml, const struct riffle_boot_device *d, unsigned index)
{
	static const char digits[] = "0123456789ABCDEF";
	const char name[4] = {'V', digits[index >> 8 & 15], digits[index >> 4 & 15], digits[index & 15]};
	size_t device = riffle_boot_aml_open_device(aml, name), resources;

	riffle_boot_aml_name(aml, "_HID");
	riffle_boot_aml_string(aml, d->hid);
	riffle_boot_aml_name(aml, "_UID");
	riffle_boot_aml_integer(aml, index);
	riffle_boot_aml_name(aml, "_CCA"); /* its DMA is coherent */
	riffle_boot_aml_integer(aml, 1);
	riffle_boot_aml_name(aml, "_CRS");
	resources = riffle_boot_aml_open_resources(aml);
	riffle_boot_aml_memory32(aml, (uint32_t)d->address, d->bytes);
	riffle_boot_aml_interrupt(aml, d->gsi);
	riffle_boot_aml_close_resources(aml, resources);
	riffle_boot_aml_close(aml, device);
}

static void put_generation_id(struct riffle_boot_aml *aml, uint32_t address)
{
	size_t device = riffle_boot_aml_open_device(aml, "VGEN"), package;

	riffle_boot_aml_name(aml, "_HID");
	riffle_boot_aml_string(aml, "VMGENCTR");
	riffle_boot_aml_name(aml, "_CID"); /* what drivers look for, by its specification */
	riffle_boot_aml_string(aml, "VM_Gen_Counter");
	riffle_boot_aml_name(aml, "_DDN");
	riffle_boot_aml_string(aml, "VM_Gen_Counter");
	riffle_boot_aml_name(aml, "ADDR"); /* lower and upper half */
	package = riffle_boot_aml_open_package(aml, 2);
	riffle_boot_aml_integer(aml, address);
	riffle_boot_aml_integer(aml, 0);
	riffle_boot_aml_close(aml, package);
	riffle_boot_aml_close(aml, device);
}

static void put_vmclock(struct riffle_boot_aml *aml, uint32_t address)
{
	size_t device = riffle_boot_aml_open_device(aml, "VCLK"), resources;

	riffle_boot_aml_name(aml, "_HID");
	riffle_boot_aml_string(aml, "AMZNC10C");
	riffle_boot_aml_name(aml, "_CID");
	riffle_boot_aml_string(aml, "VMCLOCK");
	riffle_boot_aml_name(aml, "_DDN");
	riffle_boot_aml_string(aml, "VMCLOCK");
	riffle_boot_aml_name(aml, "_CRS");
	resources = riffle_boot_aml_open_resources(aml);
	riffle_boot_aml_memory32(aml, address, RIFFLE_BOOT_VMCLOCK_BYTES);
	riffle_boot_aml_close_resources(aml, resources);
	riffle_boot_aml_close(aml, device);
}

/* The generic event device, whose only event is that the guest has been copied or restored. */
static void put_events(struct riffle_boot_aml *aml, const struct riffle_machine *machine)
{
	size_t device, term;

	if (!machine->event_gsi)
		return;
	if (machine->vmgenid_address)
		put_generation_id(aml, machine->vmgenid_address);
	if (machine->vmclock_address)
		put_vmclock(aml, machine->vmclock_address);
	device = riffle_boot_aml_open_device(aml, "GED_");
	riffle_boot_aml_name(aml, "_HID");
	riffle_boot_aml_string(aml, "ACPI0013");
	riffle_boot_aml_name(aml, "_UID");
	riffle_boot_aml_integer(aml, 0);
	riffle_boot_aml_name(aml, "_CRS");
	term = riffle_boot_aml_open_resources(aml);
	riffle_boot_aml_interrupt(aml, machine->event_gsi);
	riffle_boot_aml_close_resources(aml, term);
	term = riffle_boot_aml_open_method(aml, "_EVT", 1);
	if (machine->vmgenid_address)
		riffle_boot_aml_notify(aml, "_SB_", "VGEN", 0x80);
	if (machine->vmclock_address)
		riffle_boot_aml_notify(aml, "_SB_", "VCLK", 0x80);
	riffle_boot_aml_close(aml, term);
	riffle_boot_aml_close(aml, device);
}

static bool put_dsdt(struct area *area, const struct riffle_machine *machine)
{
	uint8_t *table = area->bytes + area->used;
	size_t limit = AREA - area->used - FIXED_TABLES_BYTES;
	struct riffle_boot_aml aml = {.bytes = table, .used = HEADER_BYTES, .limit = limit};
	size_t term;

	if (machine->sleep_control_port || machine->pm_port) {
		riffle_boot_aml_name(&aml, "_S5_");
		term = riffle_boot_aml_open_package(&aml, 4);
		riffle_boot_aml_integer(&aml, S5_SLEEP_TYPE);
		for (int i = 0; i < 3; i++)
			riffle_boot_aml_integer(&aml, 0);
		riffle_boot_aml_close(&aml, term);
	}
	term = riffle_boot_aml_open_scope(&aml, "_SB_");
	put_io_devices(&aml, machine->flags);
	for (size_t i = 0; i < machine->device_count; i++)
		put_device(&aml, &machine->devices[i], (unsigned)i);
	put_events(&aml, machine);
	riffle_boot_aml_close(&aml, term);
	if (aml.full)
		return false;
	finish_table(table, "DSDT", 2, aml.used);
	area->used += aml.used;
	return true;
}

/* a generic address structure for ports accessed `bytes` bytes at a time */
static void put_ports(uint8_t *gas, uint16_t port, unsigned bits, unsigned bytes)
{
	gas[0] = 1; /* system I/O */
	gas[1] = (uint8_t)bits;
	gas[2] = 0;
	gas[3] = (uint8_t)bytes; /* 1: byte access, 2: word access */
	riffle_put64(gas + 4, port);
}

static void put_port(uint8_t *gas, uint16_t port)
{
	put_ports(gas, port, 8, 1);
}

/* The fixed hardware of a PC: PM1 registers and the SCI. With no SMI command port the machine is always in ACPI mode.
 */
static void put_fixed_hardware(uint8_t *t, uint16_t pm_port, uint64_t facs)
{
	riffle_put32(t + 36, (uint32_t)facs);
	riffle_put16(t + 46, RIFFLE_BOOT_SCI);
	riffle_put32(t + 56, pm_port);
	riffle_put32(t + 64, pm_port + 4u);
	t[88] = 4;                    /* bytes of PM1 status and enable */
	t[89] = 2;                    /* of PM1 control */
	riffle_put16(t + 96, 0xffff); /* no C2, no C3 */
	riffle_put16(t + 98, 0xffff);
	riffle_put64(t + 132, facs);
	put_ports(t + 148, pm_port, 32, 2);
	put_ports(t + 172, (uint16_t)(pm_port + 4), 16, 2);
}

static uint64_t put_facs(struct area *area)
{
	uint8_t *t;

	area->used = (area->used + FACS_BYTES - 1) & ~(size_t)(FACS_BYTES - 1);
	t = area->bytes + area->used;
	memset(t, 0, FACS_BYTES);
	memcpy(t, "FACS", 4);
	riffle_put32(t + 4, FACS_BYTES);
	t[32] = 2; /* version */
	area->used += FACS_BYTES;
	return RIFFLE_BOOT_ACPI + area->used - FACS_BYTES;
}

static void put_fadt(struct area *area, const struct riffle_machine *machine, uint64_t dsdt, uint64_t facs)
{
	uint8_t *t = area->bytes + area->used;
	uint32_t flags = FADT_WBINVD | FADT_PROC_C1 | FADT_PWR_BUTTON | FADT_SLP_BUTTON | FADT_FIX_RTC;
	uint32_t boot = BOOT_LEGACY_DEVICES | BOOT_NO_VGA;

	if (machine->flags & RIFFLE_MACHINE_I8042)
		boot |= BOOT_8042;
	if (!(machine->flags & RIFFLE_MACHINE_RTC))
		boot |= BOOT_NO_CMOS_RTC;
	memset(t, 0, FADT_BYTES);
	if (machine->reset_port) {
		flags |= FADT_RESET_REG_SUP;
		put_port(t + 116, machine->reset_port);
		t[128] = machine->reset_value;
	}
	if (machine->pm_port)
		put_fixed_hardware(t, machine->pm_port, facs);
	else
		flags |= FADT_HW_REDUCED;
	if (machine->sleep_control_port) {
		put_port(t + 244, machine->sleep_control_port);
		put_port(t + 256, (uint16_t)(machine->sleep_control_port + 1));
	}
	riffle_put32(t + 40, (uint32_t)dsdt);
	riffle_put16(t + 109, (uint16_t)boot);
	riffle_put32(t + 112, flags);
	t[131] = 3; /* 6.3 */
	riffle_put64(t + 140, dsdt);
	finish_table(t, "FACP", 6, FADT_BYTES);
	area->used += FADT_BYTES;
}

static void put_madt(struct area *area, unsigned vcpus, bool legacy)
{
	uint8_t *table = area->bytes + area->used, *p = table + HEADER_BYTES;

	riffle_put32(p, RBOOT_LAPIC);
	riffle_put32(p + 4, legacy); /* PCAT_COMPAT: there are 8259 PICs */
	p += 8;
	for (unsigned i = 0; i < vcpus; i++, p += MADT_LAPIC_BYTES) {
		p[0] = 0;
		p[1] = MADT_LAPIC_BYTES;
		p[2] = p[3] = (uint8_t)i; /* processor uid, APIC id */
		riffle_put32(p + 4, 1);   /* enabled */
	}
	p[0] = 1;
	p[1] = MADT_IOAPIC_BYTES;
	p[2] = RBOOT_IOAPIC_ID;
	p[3] = 0;
	riffle_put32(p + 4, RBOOT_IOAPIC);
	riffle_put32(p + 8, 0); /* its first GSI */
	p += MADT_IOAPIC_BYTES;
	if (legacy) {
		p[0] = 2; /* interrupt source override: the SCI is level-triggered, active high */
		p[1] = MADT_OVERRIDE_BYTES;
		p[2] = 0; /* ISA */
		p[3] = RIFFLE_BOOT_SCI;
		riffle_put32(p + 4, RIFFLE_BOOT_SCI);
		riffle_put16(p + 8, 0x0d);
		p += MADT_OVERRIDE_BYTES;
	}
	p[0] = 4;
	p[1] = MADT_NMI_BYTES;
	p[2] = 0xff; /* NMI on every processor's LINT1 */
	riffle_put16(p + 3, 0);
	p[5] = 1;
	p += MADT_NMI_BYTES;
	finish_table(table, "APIC", 5, (size_t)(p - table));
	area->used += (size_t)(p - table);
}

static void put_xsdt(struct area *area, uint64_t fadt, uint64_t madt)
{
	uint8_t *t = area->bytes + area->used;

	riffle_put64(t + HEADER_BYTES, fadt);
	riffle_put64(t + HEADER_BYTES + 8, madt);
	finish_table(t, "XSDT", 1, HEADER_BYTES + 16);
	area->used += HEADER_BYTES + 16;
}

static void put_rsdp(uint8_t *rsdp, uint64_t xsdt)
{
	memset(rsdp, 0, RSDP_BYTES);
	memcpy(rsdp, "RSD PTR ", 8);
	memcpy(rsdp + 9, "RIFFLE", 6);
	rsdp[15] = 2;
	riffle_put32(rsdp + 20, RSDP_BYTES);
	riffle_put64(rsdp + 24, xsdt);
	rsdp[8] = riffle_boot_checksum(rsdp, 20);
	rsdp[32] = riffle_boot_checksum(rsdp, RSDP_BYTES);
}

/* mov dx, port; mov al, value; out dx, al; then cli; hlt for ever: what Linux jumps to for reboot=bios */
static void put_reset_vector(uint8_t *vector, const struct riffle_machine *machine)
{
	static const uint8_t code[16] = {0xba, 0, 0, 0xb0, 0, 0xee, 0xfa, 0xf4, 0xeb, 0xfc};

	if (!machine->reset_port)
		return;
	memcpy(vector, code, sizeof code);
	riffle_put16(vector + 1, machine->reset_port);
	vector[4] = machine->reset_value;
}

static int check_device(const struct riffle_boot_device *d, const struct riffle_boot_map *map,
			struct riffle_error *error)
{
	int status;
	size_t letters = d->hid ? strnlen(d->hid, 9) : 0;

	for (size_t i = 0; i < letters; i++)
		if (!((d->hid[i] >= 'A' && d->hid[i] <= 'Z') || (d->hid[i] >= '0' && d->hid[i] <= '9')))
			letters = 0;
	if (letters < 4 || letters > 8)
		return riffle_fail(error, RIFFLE_ERR_ARGUMENT, "device hid", "is not 4 to 8 capitals and digits");
	if (!d->bytes || !riffle_inside(d->address, d->bytes, RIFFLE_BOOT_HOLE_END))
		return riffle_fail_found(error, RIFFLE_ERR_ARGUMENT, "device address", "is empty or reaches past 4 GiB",
					 d->address);
	if ((status = RIFFLE_CHECK_ZERO(d->reserved_zero, "device", error)))
		return status;
	if (riffle_boot_map_touches(map, d->address, d->bytes))
		return riffle_fail_found(error, RIFFLE_ERR_ARGUMENT, "device address", "lies in RAM", d->address);
	if (d->gsi >= RBOOT_IOAPIC_PINS)
		return riffle_fail_expected(error, RIFFLE_ERR_ARGUMENT, "device gsi", "is not a pin of the IOAPIC",
					    d->gsi, RBOOT_IOAPIC_PINS - 1);
	return RIFFLE_OK;
}

/* A page or part of one that the guest reads but does not use as RAM: [0xa0000, 0xe0000) is not in the e820 map. */
static int check_event_memory(const char *field, uint32_t address, uint32_t bytes, uint32_t alignment,
			      const struct riffle_boot_map *map, struct riffle_error *error)
{
	bool in_hole = address >= RBOOT_MP_TABLE_END && riffle_inside(address, bytes, RIFFLE_BOOT_ACPI);

	if (!address)
		return RIFFLE_OK;
	if (address % alignment)
		return riffle_fail_expected(error, RIFFLE_ERR_ARGUMENT, field, "is not aligned", address, alignment);
	if (!riffle_inside(address, bytes, RIFFLE_BOOT_HOLE_END))
		return riffle_fail_found(error, RIFFLE_ERR_ARGUMENT, field, "reaches past 4 GiB", address);
	if (!in_hole && riffle_boot_map_touches(map, address, bytes))
		return riffle_fail_found(error, RIFFLE_ERR_ARGUMENT, field, "lies in RAM", address);
	return RIFFLE_OK;
}

static int check_events(const struct riffle_machine *machine, const struct riffle_boot_map *map,
			struct riffle_error *error)
{
	bool wanted = machine->vmgenid_address || machine->vmclock_address;
	int status;

	if (!wanted != !machine->event_gsi || machine->event_gsi >= RBOOT_IOAPIC_PINS)
		return riffle_fail_expected(error, RIFFLE_ERR_ARGUMENT, "event_gsi",
					    wanted ? "is not a pin of the IOAPIC"
						   : "is of no use without vmgenid or vmclock",
					    machine->event_gsi, wanted ? RBOOT_IOAPIC_PINS - 1 : 0);
	status =
	    check_event_memory("vmgenid_address", machine->vmgenid_address, RIFFLE_BOOT_VMGENID_BYTES, 8, map, error);
	return status ? status
		      : check_event_memory("vmclock_address", machine->vmclock_address, RIFFLE_BOOT_VMCLOCK_BYTES,
					   RIFFLE_BOOT_VMCLOCK_BYTES, map, error);
}

int riffle_boot_write_acpi(uint8_t *low, const struct riffle_boot_map *map, const struct riffle_machine *machine,
			   struct riffle_error *error)
{
	struct area area = {low + RIFFLE_BOOT_ACPI, RSDP_BYTES};
	uint64_t dsdt, fadt, madt, facs = 0;
	int status;

	if (machine->sleep_control_port == UINT16_MAX)
		return riffle_fail_found(error, RIFFLE_ERR_ARGUMENT, "sleep_control_port",
					 "leaves no port for the status register", machine->sleep_control_port);
	if (machine->pm_port > UINT16_MAX - RIFFLE_BOOT_PM_BYTES + 1)
		return riffle_fail_found(error, RIFFLE_ERR_ARGUMENT, "pm_port", "leaves no ports for all registers",
					 machine->pm_port);
	for (size_t i = 0; i < machine->device_count; i++)
		if ((status = check_device(&machine->devices[i], map, error)))
			return status;
	if ((status = check_events(machine, map, error)))
		return status;
	dsdt = next_table(&area);
	if (!put_dsdt(&area, machine))
		return riffle_fail_found(error, RIFFLE_ERR_SPACE, "devices", "are more than the ACPI tables hold",
					 machine->device_count);
	if (machine->pm_port)
		facs = put_facs(&area);
	fadt = next_table(&area);
	put_fadt(&area, machine, dsdt, facs);
	madt = next_table(&area);
	put_madt(&area, machine->vcpus, machine->pm_port != 0);
	put_rsdp(area.bytes, next_table(&area));
	put_xsdt(&area, fadt, madt);
	put_reset_vector(low + RIFFLE_BOOT_RESET_VECTOR, machine);
	return RIFFLE_OK;
}
