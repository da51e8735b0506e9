/* SPDX-License-Identifier: Apache-2.0 */
/* What a kernel finds when it starts: boot_params, e820, page tables, ACPI or MP table, registers of the 64-bit entry. */
#ifndef RIFFLE_BOOT_H
#define RIFFLE_BOOT_H

#include <riffle/load.h>

#ifdef __cplusplus
extern "C" {
#endif

/*
 * The platform's fixed places (guest-physical). They are the same in every guest, whatever its layout: nothing that a
 * guest can read without privilege may depend on where its kernel lies.
 */
#define RIFFLE_BOOT_GDT 0x500u
#define RIFFLE_BOOT_ZERO_PAGE 0x7000u
#define RIFFLE_BOOT_STACK 0x8ff0u
#define RIFFLE_BOOT_PML4 0x9000u        /* page tables from here up */
#define RIFFLE_BOOT_CMDLINE 0x20000u
#define RIFFLE_BOOT_CMDLINE_MAX 4096u   /* with the NUL; further bounded by the setup header's cmdline_size */
#define RIFFLE_BOOT_SETUP_DATA 0x22000u
#define RIFFLE_BOOT_MP_TABLE 0x9fc00u
#define RIFFLE_BOOT_ACPI 0xe0000u       /* RSDP, then the tables, up to 1 MiB */
#define RIFFLE_BOOT_LOW_END 0x100000u
#define RIFFLE_BOOT_HOLE_START 0xc0000000u      /* RAM stops here and goes on at 4 GiB */
#define RIFFLE_BOOT_HOLE_END 0x100000000u

/* A device the ACPI tables announce: memory-mapped, with one edge-triggered, active-high interrupt. */
struct riffle_boot_device {
	const char *hid;        /* "LNRO0005" for virtio-mmio; copied */
	uint64_t address;
	uint32_t bytes;
	uint32_t gsi;
};

struct riffle_machine {
	const struct riffle_ram *ram;   /* all of the guest's RAM, with host addresses */
	size_t ram_count;
	unsigned vcpus;                 /* 1 to 32; APIC ids 0 to vcpus-1 */
	const char *command_line;
	uint64_t initrd_address;        /* where riffle_boot_place_initrd() said; 0 bytes: none */
	uint64_t initrd_bytes;
	const uint8_t *rng_seed;        /* handed to the guest as setup_data RNG_SEED and wiped nowhere; NULL: none */
	size_t rng_seed_bytes;          /* 32 is what Linux expects, at most 256 */
	const struct riffle_boot_device *devices;
	size_t device_count;
	uint16_t sleep_control_port;    /* ACPI sleep control register (hardware-reduced), 0: no power-off */
	uint16_t reset_port;            /* ACPI reset register, 0: none */
	uint8_t reset_value;
};

/* Registers of vCPU 0 at the entry; the other vCPUs wait for INIT and SIPI. */
struct riffle_boot_registers {
	uint64_t rip, rsi, rsp, rflags;
	uint64_t cr0, cr3, cr4, efer;
	uint64_t gdt_address;
	uint16_t gdt_bytes;
	uint16_t cs, ds;                /* selectors of the flat 64-bit code and the flat data segment */
};

/*
 * The ranges that riffle_boot_write() will use and the initrd: to be reserved before a layout is drawn. Fills at most
 * `capacity` entries (4 are enough) and returns how many.
 */
RIFFLE_PUBLIC size_t riffle_boot_reserved(const struct riffle_machine *machine, struct riffle_range *ranges,
					  size_t capacity);

/*
 * Chooses where an initrd goes: page-aligned, as high as it fits in RAM below the hole (and below the setup header's
 * initrd_addr_max when `plan` has one); depends on sizes alone, never on a layout. `plan` may be NULL.
 * Errors: SPACE, with the room there is.
 */
RIFFLE_PUBLIC int riffle_boot_place_initrd(uint64_t *address, const struct riffle_machine *machine,
					   const struct riffle_plan *plan, uint64_t bytes,
					   struct riffle_error *error);

/*
 * Writes everything a directly booted kernel needs (64-bit boot protocol, Documentation/x86/boot.rst) into guest memory
 * and fills *registers. `plan` and `loaded` are the kernel's. Errors: ARGUMENT, SPACE (command line, tables).
 */
RIFFLE_PUBLIC int riffle_boot_write(struct riffle_boot_registers *registers, const struct riffle_machine *machine,
				    const struct riffle_plan *plan, const struct riffle_loaded *loaded,
				    struct riffle_error *error);

/*
 * The same for a bzImage that unpacks and randomises itself in the guest: `bzimage` is the whole file. Copies the
 * protected-mode part to its preferred address (or the first aligned one that fits, honouring init_size) and enters
 * it at its 64-bit entry. Errors: FORMAT, UNSUPPORTED (no 64-bit entry), SPACE.
 */
RIFFLE_PUBLIC int riffle_boot_write_bzimage(struct riffle_boot_registers *registers,
					    const struct riffle_machine *machine, const void *bzimage,
					    size_t bzimage_bytes, struct riffle_error *error);

#ifdef __cplusplus
}
#endif
#endif
