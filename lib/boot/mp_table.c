/* SPDX-License-Identifier: Apache-2.0 */
/* The MP table (MultiProcessor Specification 1.4, chapter 4) for kernels that were built without ACPI. */
#include "boot/internal.h"

#include "common/bytes.h"

#define POINTER_BYTES 16u
#define HEADER_BYTES 44u
#define PROCESSOR_BYTES 20u
#define ENTRY_BYTES 8u /* every other kind of entry */
#define OTHER_ENTRIES (1 + 1 + RBOOT_IOAPIC_PINS + 2)

_Static_assert(POINTER_BYTES + HEADER_BYTES + RIFFLE_BOOT_VCPUS_MAX * PROCESSOR_BYTES + OTHER_ENTRIES * ENTRY_BYTES <=
		   RBOOT_MP_TABLE_END - RIFFLE_BOOT_MP_TABLE,
	       "the MP table fits the last KiB of base memory");

enum { MP_PROCESSOR = 0, MP_BUS = 1, MP_IOAPIC = 2, MP_INTERRUPT = 3, MP_LOCAL_INTERRUPT = 4 };
enum { MP_INT = 0, MP_NMI = 1, MP_EXTINT = 3 };

#define SPEC_1_4 4u
#define LAPIC_VERSION 0x14u
#define IOAPIC_VERSION 0x11u

static uint8_t *put_processor(uint8_t *p, unsigned id)
{
	memset(p, 0, PROCESSOR_BYTES);
	p[0] = MP_PROCESSOR;
	p[1] = (uint8_t)id;
	p[2] = LAPIC_VERSION;
	p[3] = id == 0 ? 3 : 1; /* enabled; the first is the bootstrap processor */
	riffle_put32(p + 4, 0x600);
	riffle_put32(p + 8, 0x201); /* FPU, APIC: kernels read CPUID themselves */
	return p + PROCESSOR_BYTES;
}

/* an interrupt entry: flags 0 means the bus's default, for ISA edge-triggered and active high */
static uint8_t *put_interrupt(uint8_t *p, uint8_t type, uint8_t kind, uint8_t irq, uint8_t apic, uint8_t pin)
{
	memset(p, 0, ENTRY_BYTES);
	p[0] = type;
	p[1] = kind;
	p[5] = irq;
	p[6] = apic;
	p[7] = pin;
	return p + ENTRY_BYTES;
}

void riffle_boot_write_mp_table(uint8_t *low, unsigned vcpus)
{
	uint8_t *pointer = low + RIFFLE_BOOT_MP_TABLE, *table = pointer + POINTER_BYTES, *p = table + HEADER_BYTES;

	for (unsigned i = 0; i < vcpus; i++)
		p = put_processor(p, i);

	p[0] = MP_BUS;
	p[1] = 0;
	memcpy(p + 2, "ISA   ", 6);
	p += ENTRY_BYTES;

	p[0] = MP_IOAPIC;
	p[1] = RBOOT_IOAPIC_ID;
	p[2] = IOAPIC_VERSION;
	p[3] = 1; /* usable */
	riffle_put32(p + 4, RBOOT_IOAPIC);
	p += ENTRY_BYTES;

	for (unsigned pin = 0; pin < RBOOT_IOAPIC_PINS; pin++)
		p = put_interrupt(p, MP_INTERRUPT, MP_INT, (uint8_t)pin, RBOOT_IOAPIC_ID, (uint8_t)pin);
	p = put_interrupt(p, MP_LOCAL_INTERRUPT, MP_EXTINT, 0, 0, 0);
	p = put_interrupt(p, MP_LOCAL_INTERRUPT, MP_NMI, 0, 0xff, 1);

	memset(table, 0, HEADER_BYTES);
	memcpy(table, "PCMP", 4);
	riffle_put16(table + 4, (uint16_t)(p - table));
	table[6] = SPEC_1_4;
	memcpy(table + 8, "RIFFLE  ", 8);
	memcpy(table + 16, "RIFFLEVM    ", 12);
	riffle_put16(table + 34, (uint16_t)(vcpus + OTHER_ENTRIES));
	riffle_put32(table + 36, RBOOT_LAPIC);
	table[7] = riffle_boot_checksum(table, (size_t)(p - table));

	memset(pointer, 0, POINTER_BYTES);
	memcpy(pointer, "_MP_", 4);
	riffle_put32(pointer + 4, RIFFLE_BOOT_MP_TABLE + POINTER_BYTES);
	pointer[8] = POINTER_BYTES / 16;
	pointer[9] = SPEC_1_4;
	pointer[10] = riffle_boot_checksum(pointer, POINTER_BYTES);
}
