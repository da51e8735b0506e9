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
 * guest can read without privilege may depend on where its kernel lies. One stretch of RAM must hold everything from 0
 * to the last byte that is written: RIFFLE_BOOT_LOW_END with ACPI tables, 0xa0000 with the MP table, else the end of
 * the page tables, and 0x23000 at least.
 */
#define RIFFLE_BOOT_GDT 0x500u
#define RIFFLE_BOOT_ZERO_PAGE 0x7000u
#define RIFFLE_BOOT_STACK 0x8ff0u
#define RIFFLE_BOOT_PML4 0x9000u /* PML4, PDPT, then page directories up to the command line */
#define RIFFLE_BOOT_CMDLINE 0x20000u
#define RIFFLE_BOOT_CMDLINE_MAX 4096u /* with the NUL; further bounded by the setup header's cmdline_size */
#define RIFFLE_BOOT_SETUP_DATA 0x22000u
#define RIFFLE_BOOT_MORE_TABLES 0x30000u /* up to 0x90000: page directories that found no room below 0x20000 */
#define RIFFLE_BOOT_MP_TABLE 0x9fc00u    /* the last KiB of base memory, where kernels look for it */
#define RIFFLE_BOOT_ACPI 0xe0000u        /* RSDP, then the tables, up to 1 MiB */
#define RIFFLE_BOOT_RESET_VECTOR                                                                                       \
	0xffff0u /* where a real-mode jump to the BIOS enters: 16 bytes that use reset_port                            \
		  */
#define RIFFLE_BOOT_LOW_END 0x100000u
/* Where riffle run leaves a hole for devices between two stretches of RAM. The library takes RAM that lies otherwise.
 */
#define RIFFLE_BOOT_HOLE_START 0xc0000000u
#define RIFFLE_BOOT_HOLE_END 0x100000000ul
#define RIFFLE_BOOT_SETUP_HEADER_BYTES 128u /* zero page 0x1f1 to 0x270 */
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
	const char *hid;  /* "LNRO0005" for virtio-mmio: 4 to 8 of A-Z and 0-9; copied */
	uint64_t address; /* guest-physical; not in RAM */
	uint32_t bytes;   /* not 0 */
	uint32_t gsi;     /* below 24: the pins of the one IOAPIC */
	uint64_t reserved_zero[2];
};

#define RIFFLE_BOOT_VMGENID_BYTES 16u
#define RIFFLE_BOOT_VMCLOCK_BYTES 4096u

/* struct riffle_machine's flags: what the monitor emulates beside the fixed COM1 (0x3f8, IRQ 4). */
#define RIFFLE_MACHINE_I8042 1u     /* keyboard controller at 0x60 and 0x64, IRQ 1; else guests do not probe */
#define RIFFLE_MACHINE_RTC 2u       /* CMOS clock at 0x70 without an interrupt; else it is said to be absent */
#define RIFFLE_MACHINE_GIB_PAGES 4u /* CPUID has pdpe1gb: 1 GiB boot pages above 4 GiB */

/*
 * What riffle_boot_write() writes. The zero page comes always, with the command line and setup_data that it points to:
 * RIFFLE_TABLES_ZERO_PAGE alone asks for no more. A monitor that has tables of its own, a PCI bus for instance, which
 * hardware-reduced ACPI would hide, leaves out what it has and fills in what the zero page says of it afterwards.
 */
#define RIFFLE_TABLES_ALL 0u
#define RIFFLE_TABLES_ZERO_PAGE 1u
#define RIFFLE_TABLES_E820 2u   /* the memory map in the zero page; else e820_entries is 0 */
#define RIFFLE_TABLES_MP 4u     /* the MP table */
#define RIFFLE_TABLES_ACPI 8u   /* RSDP to DSDT; else acpi_rsdp_addr is machine->rsdp_address */
#define RIFFLE_TABLES_ENTRY 16u /* GDT and page tables; else the registers have cr3 and gdt_address 0 */

/*
 * The machine as its monitor built it. Beside what is named here the MP and ACPI tables tell of one LAPIC a vCPU at
 * 0xfee00000 and one IOAPIC of 24 pins at 0xfec00000, GSI n on pin n, the PIT's IRQ 0 included: KVM's routing as
 * KVM_CREATE_IRQCHIP leaves it, so no ISA interrupt but the SCI has a source override. With pm_port, ACPI is the full
 * kind of a PC: an SCI, no PM timer, no GPEs, and the 8259 PICs and the PIT are there to be used. Without it ACPI is
 * hardware-reduced, and Linux touches neither PICs nor PIT: a guest with noapic, or one that has nothing else to
 * calibrate its clock by, then hangs. Without both tables vcpus means nothing, and RAM may lie where the APICs are;
 * without ACPI devices and ports, which it announces, are refused.
 */
struct riffle_machine {
	/*
	 * All of the guest's RAM, with host addresses, laid out as the monitor likes; at most 126 runs that do not
	 * touch one another, for e820 has room for no more. Any number of stretches may make up a run.
	 */
	const struct riffle_ram *ram;
	size_t ram_count;
	unsigned vcpus;           /* 1 to 32; APIC ids 0 to vcpus-1 */
	unsigned flags;           /* RIFFLE_MACHINE_*; unknown bits are refused */
	const char *command_line; /* NULL: empty */
	uint64_t initrd_address;  /* where riffle_boot_place_initrd() said; 0 bytes: none */
	uint64_t initrd_bytes;
	const uint8_t *rng_seed; /* copied to setup_data RNG_SEED, the caller wipes its own; NULL: none */
	size_t rng_seed_bytes;   /* 32 is what Linux expects; 1 to 256 */
	const struct riffle_boot_device *devices;
	size_t device_count;
	uint64_t rsdp_address;       /* the monitor's own RSDP; only without RIFFLE_TABLES_ACPI; 0: none, and Linux
					looks for one in [0xe0000, 1 MiB) */
	unsigned tables;             /* RIFFLE_TABLES_*; unknown bits are refused */
	uint16_t pm_port;            /* RIFFLE_BOOT_PM_BYTES of fixed registers; 0: hardware-reduced ACPI */
	uint16_t sleep_control_port; /* ACPI sleep control register, one byte; the sleep status register is the
					port after it and may read 0; 0: no power-off by it */
	uint16_t reset_port;         /* ACPI reset register, one byte; 0: none */
	uint8_t reset_value;         /* what the guest writes there */
	/*
	 * Where a guest learns that it was copied or restored. Both are the monitor's to fill, and lie where the guest
	 * has no RAM: outside of it, or in [0xa0000, 0xe0000). The GED's interrupt, an edge of event_gsi, tells the
	 * guest of a change in either.
	 */
	uint8_t event_gsi;        /* 1 to 23, with one of the following; 0: none */
	uint32_t vmgenid_address; /* a generation id of 16 bytes, on a multiple of 8; 0: none */
	uint32_t vmclock_address; /* a page with a struct vmclock_abi; 0: none */
	uint8_t reserved_zero[124];
};

/* Registers of vCPU 0 at the entry; the other vCPUs wait for INIT and SIPI. Registers not named are 0. */
struct riffle_boot_registers {
	uint64_t rip, rsi, rsp, rflags;
	uint64_t cr0, cr3, cr4, efer;
	uint64_t gdt_address;
	uint16_t gdt_bytes; /* the GDTR's limit is one less */
	uint16_t cs, ds;    /* __BOOT_CS, __BOOT_DS: flat 64-bit code; flat data, for ES and SS too */
	uint16_t reserved_zero[1 + 32];
};

/*
 * The ranges that riffle_boot_write() will use and the initrd: to be reserved before a layout is drawn. Fills at most
 * `capacity` entries and returns how many there are, which may be more: then the caller's array is too short and lacks
 * ranges that must be reserved. This version has at most 2. Depends on nothing but *machine; cannot fail.
 */
RIFFLE_PUBLIC size_t riffle_boot_reserved(const struct riffle_machine *machine, struct riffle_range *ranges,
					  size_t capacity);

/*
 * Chooses where an initrd goes: page-aligned, as high as it fits in RAM between 1 MiB and 4 GiB (and not above the
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
 * Everything is written below 1 MiB, at the places above, and nothing else is touched. The identity map covers the
 * first 4 GiB and every GiB that holds RAM below 256 TiB: 117 GiB of them, with RIFFLE_MACHINE_GIB_PAGES as many as
 * there are. Errors: ARGUMENT (what *machine or *loaded may not hold), SPACE (command line, tables, initrd, RAM beyond
 * the map).
 */
RIFFLE_PUBLIC RIFFLE_MUST_CHECK int riffle_boot_write(struct riffle_boot_registers *registers,
						      const struct riffle_machine *machine,
						      const struct riffle_plan *plan,
						      const struct riffle_loaded *loaded, struct riffle_error *error);

/*
 * For a monitor that has boot code of its own: the setup header with which this kernel at this place is booted, to be
 * put at 0x1f1 of the zero page. It is the bzImage's, cut at its end, or one made up for a kernel that came without;
 * `plan` NULL too means one made up. Set already are
 *
 *     type_of_loader  0x210  0xff, a loader without a number
 *     loadflags       0x211  LOADED_HIGH and loaded->loadflags: KASLR_FLAG is what makes the kernel randomise its
 *                            direct map, vmalloc, vmemmap and module bases
 *
 * and what the monitor fills in, in a zero page that is otherwise 0 (the sentinel at 0x1ef above all):
 *
 *     acpi_rsdp_addr  0x070  u64  where the RSDP is; 0: the kernel looks for it below 1 MiB
 *     e820_entries    0x1e8  u8   how many there are; the table is at 0x2d0: u64 address, u64 bytes, u32 type
 *     ramdisk_image   0x218  u32  the initrd, by riffle_boot_place_initrd(); upper half at 0x0c0
 *     ramdisk_size    0x21c  u32  0: none; upper half at 0x0c4
 *     cmd_line_ptr    0x228  u32  NUL-terminated, at most the header's cmdline_size (0x238) long; upper half at 0x0c8
 *     setup_data      0x250  u64  a list of nodes; 0: none
 *
 * The kernel is entered at loaded->entry in 64-bit mode with the zero page's address in rsi, interrupts off, flat
 * segments 0x10 (code) and 0x18 (data), and an identity map of the kernel, the zero page and all that it points to. All
 * this must lie outside [loaded->physical_base, loaded->end): reserve it before the layout is drawn.
 * Errors: ARGUMENT (*loaded), FORMAT (the header).
 */
RIFFLE_PUBLIC RIFFLE_MUST_CHECK int riffle_boot_setup_header(uint8_t header[RIFFLE_BOOT_SETUP_HEADER_BYTES],
							     const struct riffle_plan *plan,
							     const struct riffle_loaded *loaded,
							     struct riffle_error *error);

/*
 * riffle_boot_write() for a bzImage that unpacks and randomises itself in the guest: `bzimage` is the whole file.
 * Copies the protected-mode part to its preferred address (or the first aligned one above it that fits, honouring
 * init_size and the initrd, when the kernel is relocatable) and enters it at its 64-bit entry, 0x200 behind its start.
 * Errors: those of riffle_boot_write(), FORMAT, UNSUPPORTED (no 64-bit entry), SPACE.
 */
RIFFLE_PUBLIC RIFFLE_MUST_CHECK int riffle_boot_write_bzimage(struct riffle_boot_registers *registers,
							      const struct riffle_machine *machine, const void *bzimage,
							      size_t bzimage_bytes, struct riffle_error *error);

#ifdef __cplusplus
}
#endif
#endif
