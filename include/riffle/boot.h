/* SPDX-License-Identifier: Apache-2.0 */
/* What a kernel finds when it starts: boot_params, e820, page tables, ACPI and MP tables, entry registers. */
#ifndef RIFFLE_BOOT_H
#define RIFFLE_BOOT_H

#include <riffle/load.h>

#ifdef __cplusplus
extern "C" {
#endif

/*
 * The platform's fixed places (guest-physical). They are the same in every guest, whatever its layout: nothing that a
 * guest can read without privilege may depend on where its kernel lies. RAM must cover all of [0, RIFFLE_BOOT_LOW_END).
 */
#define RIFFLE_BOOT_GDT 0x500u
#define RIFFLE_BOOT_ZERO_PAGE 0x7000u
#define RIFFLE_BOOT_STACK 0x8ff0u
#define RIFFLE_BOOT_PML4 0x9000u        /* PML4, PDPT, then page directories up to the command line */
#define RIFFLE_BOOT_CMDLINE 0x20000u
#define RIFFLE_BOOT_CMDLINE_MAX 4096u   /* with the NUL; further bounded by the setup header's cmdline_size */
#define RIFFLE_BOOT_SETUP_DATA 0x22000u
#define RIFFLE_BOOT_MORE_TABLES 0x30000u /* up to 0x90000: page directories that found no room below 0x20000 */
#define RIFFLE_BOOT_MP_TABLE 0x9fc00u   /* the last KiB of base memory, where kernels look for it */
#define RIFFLE_BOOT_ACPI 0xe0000u       /* RSDP, then the tables, up to 1 MiB */
#define RIFFLE_BOOT_RESET_VECTOR 0xffff0u /* where a real-mode jump to the BIOS enters: 16 bytes that use reset_port */
#define RIFFLE_BOOT_LOW_END 0x100000u
#define RIFFLE_BOOT_HOLE_START 0xc0000000u      /* RAM stops here and goes on at 4 GiB */
#define RIFFLE_BOOT_HOLE_END 0x100000000u
#define RIFFLE_BOOT_VCPUS_MAX 32u
#define RIFFLE_BOOT_RNG_SEED_MAX 256u

/*
 * What a guest writes to power off, SLP_EN and SLP_TYP of our \_S5: to the sleep control port (ACPI 6.5, 4.8.3.7), or
 * to the upper byte of the PM1 control register (4.8.3.2.1).
 */
#define RIFFLE_BOOT_SLEEP_S5 0x34u
/* ACPI's fixed registers at pm_port: PM1 status, PM1 enable, PM1 control, each 16 bits (4.8.3); the SCI is GSI 9. */
#define RIFFLE_BOOT_PM_BYTES 6u
#define RIFFLE_BOOT_SCI 9u

/* A device the ACPI tables announce: memory-mapped, with one edge-triggered, active-high interrupt. */
struct riffle_boot_device {
	const char *hid;        /* "LNRO0005" for virtio-mmio: 4 to 8 of A-Z and 0-9; copied */
	uint64_t address;       /* guest-physical; not in RAM */
	uint32_t bytes;         /* not 0 */
	uint32_t gsi;           /* below 24: the pins of the one IOAPIC */
	uint64_t reserved_zero[2];
};

/* struct riffle_machine's flags: what the monitor emulates beside the fixed COM1 (0x3f8, IRQ 4). */
#define RIFFLE_MACHINE_I8042 1u         /* keyboard controller at 0x60 and 0x64, IRQ 1; else guests do not probe */
#define RIFFLE_MACHINE_RTC 2u           /* CMOS clock at 0x70 without an interrupt; else it is said to be absent */
#define RIFFLE_MACHINE_GIB_PAGES 4u     /* CPUID has pdpe1gb: 1 GiB boot pages above 4 GiB */

/*
 * The machine as its monitor built it. Beside what is named here the guest finds one LAPIC a vCPU at 0xfee00000 and one
 * IOAPIC of 24 pins at 0xfec00000, GSI n on pin n, the PIT's IRQ 0 included: KVM's routing as KVM_CREATE_IRQCHIP
 * leaves it, so no ISA interrupt but the SCI has a source override. With pm_port, ACPI is the full kind of a PC: an SCI, no
 * PM timer, no GPEs, and the 8259 PICs and the PIT are there to be used. Without it ACPI is hardware-reduced, and Linux
 * touches neither PICs nor PIT: a guest with noapic, or one that has nothing else to calibrate its clock by, then hangs.
 */
struct riffle_machine {
	const struct riffle_ram *ram;   /* all of the guest's RAM, with host addresses; 1 to 64 stretches */
	size_t ram_count;
	unsigned vcpus;                 /* 1 to 32; APIC ids 0 to vcpus-1 */
	unsigned flags;                 /* RIFFLE_MACHINE_* */
	const char *command_line;       /* NULL: empty */
	uint64_t initrd_address;        /* where riffle_boot_place_initrd() said; 0 bytes: none */
	uint64_t initrd_bytes;
	const uint8_t *rng_seed;        /* copied to setup_data RNG_SEED, the caller wipes its own; NULL: none */
	size_t rng_seed_bytes;          /* 32 is what Linux expects; 1 to 256 */
	const struct riffle_boot_device *devices;
	size_t device_count;
	uint16_t sleep_control_port;    /* ACPI sleep control register, one byte; the sleep status register is the
	                                   port after it and may read 0; 0: no power-off by it */
	uint16_t reset_port;            /* ACPI reset register, one byte; 0: none */
	uint8_t reset_value;            /* what the guest writes there */
	uint8_t reserved_zero_byte;
	uint16_t pm_port;               /* RIFFLE_BOOT_PM_BYTES of fixed registers; 0: hardware-reduced ACPI */
	uint8_t reserved_zero[128];
};

/* Registers of vCPU 0 at the entry; the other vCPUs wait for INIT and SIPI. Registers not named are 0. */
struct riffle_boot_registers {
	uint64_t rip, rsi, rsp, rflags;
	uint64_t cr0, cr3, cr4, efer;
	uint64_t gdt_address;
	uint16_t gdt_bytes;             /* the GDTR's limit is one less */
	uint16_t cs, ds;                /* __BOOT_CS, __BOOT_DS: flat 64-bit code; flat data, for ES and SS too */
	uint16_t reserved_zero[1 + 32];
};

/*
 * The ranges that riffle_boot_write() will use and the initrd: to be reserved before a layout is drawn. Fills at most
 * `capacity` entries (4 are enough) and returns how many. Depends on nothing but *machine.
 */
RIFFLE_PUBLIC size_t riffle_boot_reserved(const struct riffle_machine *machine, struct riffle_range *ranges,
					  size_t capacity);

/*
 * Chooses where an initrd goes: page-aligned, as high as it fits in RAM between 1 MiB and the hole (and not above the
 * setup header's initrd_addr_max; 0x7fffffff when `plan` is NULL or brought no header); depends on sizes alone, never
 * on a layout. Of *machine only the RAM is read, its host addresses excepted. 0 bytes give address 0.
 * Errors: ARGUMENT (RAM), SPACE, with the room there is.
 */
RIFFLE_PUBLIC RIFFLE_MUST_CHECK int riffle_boot_place_initrd(uint64_t *address, const struct riffle_machine *machine,
					   const struct riffle_plan *plan, uint64_t bytes,
					   struct riffle_error *error);

/*
 * Writes everything a directly booted kernel needs (64-bit boot protocol, Documentation/arch/x86/boot.rst) into guest
 * memory and fills *registers. `plan` and `loaded` are the kernel's; of its place only registers->rip tells. May run
 * beside riffle_load(), whose results it needs only as far as entry, physical_base, end and loadflags go: these a
 * caller may fill in ahead from the layout. The initrd's bytes are the caller's to write.
 * Everything is written below 1 MiB. The identity map covers the first 4 GiB and all RAM: up to 117 GiB, with
 * RIFFLE_MACHINE_GIB_PAGES up to 512.
 * Errors: ARGUMENT (what *machine or *loaded may not hold), SPACE (command line, tables, initrd, RAM beyond the map).
 */
RIFFLE_PUBLIC RIFFLE_MUST_CHECK int riffle_boot_write(struct riffle_boot_registers *registers, const struct riffle_machine *machine,
				    const struct riffle_plan *plan, const struct riffle_loaded *loaded,
				    struct riffle_error *error);

/*
 * The same for a bzImage that unpacks and randomises itself in the guest: `bzimage` is the whole file. Copies the
 * protected-mode part to its preferred address (or the first aligned one above it that fits, honouring init_size and
 * the initrd, when the kernel is relocatable) and enters it at its 64-bit entry, 0x200 behind its start.
 * Errors: those of riffle_boot_write(), FORMAT, UNSUPPORTED (no 64-bit entry), SPACE.
 */
RIFFLE_PUBLIC RIFFLE_MUST_CHECK int riffle_boot_write_bzimage(struct riffle_boot_registers *registers,
					    const struct riffle_machine *machine, const void *bzimage,
					    size_t bzimage_bytes, struct riffle_error *error);

#ifdef __cplusplus
}
#endif
#endif
