/* SPDX-License-Identifier: Apache-2.0 */
/* What a kernel finds when it starts: boot_params, e820, page tables, ACPI and MP tables, entry registers. */
#ifndef RIFFLE_BOOT_H
#define RIFFLE_BOOT_H

#include <riffle/load.h>

#ifdef __cplusplus
extern "C" {
#endif

/*
 * The platform's fixed guest-physical addresses. They are the same in every guest, whatever its layout: nothing that an
 * unprivileged process in the guest can read may depend on where the kernel lies. One RAM range must hold everything
 * from 0 to the last byte that is written: RIFFLE_BOOT_LOW_END with ACPI tables, 0xa0000 with the MP table, otherwise
 * the end of the page tables, and at least 0x23000.
 */
#define RIFFLE_BOOT_GDT 0x500u
#define RIFFLE_BOOT_ZERO_PAGE 0x7000u
#define RIFFLE_BOOT_STACK 0x8ff0u
#define RIFFLE_BOOT_PML4 0x9000u /* PML4, PDPT, then page directories up to the command line */
#define RIFFLE_BOOT_CMDLINE 0x20000u
#define RIFFLE_BOOT_CMDLINE_MAX 4096u /* including the NUL; the setup header's cmdline_size may be lower */
#define RIFFLE_BOOT_SETUP_DATA 0x22000u
#define RIFFLE_BOOT_MORE_TABLES 0x30000u /* up to 0x90000: page directories that do not fit below 0x20000 */
#define RIFFLE_BOOT_MP_TABLE 0x9fc00u    /* the last KiB of base memory, where kernels look for it */
#define RIFFLE_BOOT_ACPI 0xe0000u        /* RSDP, then the tables, up to 1 MiB */
#define RIFFLE_BOOT_RESET_VECTOR                                                                                       \
	0xffff0u /* where a real-mode jump to the BIOS enters: 16 bytes that use reset_port                            \
		  */
#define RIFFLE_BOOT_LOW_END 0x100000u
/* The hole for devices that `riffle run` leaves between two RAM ranges. The library accepts RAM laid out otherwise. */
#define RIFFLE_BOOT_HOLE_START 0xc0000000u
#define RIFFLE_BOOT_HOLE_END 0x100000000ul
#define RIFFLE_BOOT_SETUP_HEADER_BYTES 128u /* zero page 0x1f1 to 0x270 */
#define RIFFLE_BOOT_VCPUS_MAX 32u
#define RIFFLE_BOOT_RNG_SEED_MAX 256u

/*
 * What a guest writes to power off, SLP_EN and SLP_TYP of \_S5: to the sleep control port (ACPI 6.5, 4.8.3.7), or to
 * the upper byte of the PM1 control register (4.8.3.2.1).
 */
#define RIFFLE_BOOT_SLEEP_S5 0x34u
/* ACPI's fixed registers at pm_port: PM1 status, PM1 enable, PM1 control, each 16 bits (4.8.3); the SCI is GSI 9. */
#define RIFFLE_BOOT_PM_BYTES 6u
#define RIFFLE_BOOT_SCI 9u

/* A device described in the ACPI tables: memory-mapped, with one edge-triggered, active-high interrupt. */
struct riffle_boot_device {
	const char *hid;  /* "LNRO0005" for virtio-mmio: 4 to 8 of A-Z and 0-9; copied */
	uint64_t address; /* guest-physical; not in RAM */
	uint32_t bytes;   /* not 0 */
	uint32_t gsi;     /* below 24: the pins of the one IOAPIC */
	uint64_t reserved_zero[2];
};

#define RIFFLE_BOOT_VMGENID_BYTES 16u
#define RIFFLE_BOOT_VMCLOCK_BYTES 4096u

/* struct riffle_machine's flags: what the monitor emulates in addition to the fixed COM1 (0x3f8, IRQ 4). */
#define RIFFLE_MACHINE_I8042 1u     /* keyboard controller at 0x60 and 0x64, IRQ 1; otherwise guests do not probe */
#define RIFFLE_MACHINE_RTC 2u       /* CMOS clock at 0x70 without an interrupt; otherwise declared absent */
#define RIFFLE_MACHINE_GIB_PAGES 4u /* CPUID has pdpe1gb: 1 GiB boot pages above 4 GiB */

/*
 * What riffle_boot_write() writes. It always writes the zero page, with the command line and setup_data that it points
 * to; RIFFLE_TABLES_ZERO_PAGE alone selects nothing else. A monitor with its own tables (for example to describe a PCI
 * bus, which hardware-reduced ACPI would hide) leaves out the ones it has and completes the zero page afterwards.
 */
#define RIFFLE_TABLES_ALL 0u
#define RIFFLE_TABLES_ZERO_PAGE 1u
#define RIFFLE_TABLES_E820 2u   /* the memory map in the zero page; otherwise e820_entries is 0 */
#define RIFFLE_TABLES_MP 4u     /* the MP table */
#define RIFFLE_TABLES_ACPI 8u   /* RSDP to DSDT; otherwise acpi_rsdp_addr is machine->rsdp_address */
#define RIFFLE_TABLES_ENTRY 16u /* GDT and page tables; otherwise cr3 and gdt_address of the registers are 0 */

/*
 * The machine as its monitor built it. In addition to what is listed here, the MP and ACPI tables describe one LAPIC
 * per vCPU at 0xfee00000 and one IOAPIC of 24 pins at 0xfec00000, GSI n on pin n, including the PIT's IRQ 0. This is
 * KVM's routing after KVM_CREATE_IRQCHIP, so no ISA interrupt except the SCI has a source override. With pm_port, ACPI
 * is the full variant of a PC: an SCI, no PM timer, no GPEs, and the 8259 PICs and the PIT are usable. Without it ACPI
 * is hardware-reduced and Linux uses neither PICs nor PIT: a guest with noapic, or one that has nothing else to
 * calibrate its clock against, then hangs. If neither table is written, vcpus is ignored and RAM may lie where the
 * APICs are. If the ACPI tables are not written, devices and ports, which only they describe, are refused.
 */
struct riffle_machine {
	/*
	 * All of the guest's RAM, with host addresses, in any layout. Adjacent ranges form one run; at most 126 runs
	 * are allowed, the capacity of e820.
	 */
	const struct riffle_ram *ram;
	size_t ram_count;
	unsigned vcpus;           /* 1 to 32; APIC ids 0 to vcpus-1 */
	unsigned flags;           /* RIFFLE_MACHINE_*; unknown bits are refused */
	const char *command_line; /* NULL: empty */
	uint64_t initrd_address;  /* from riffle_boot_place_initrd(); 0 bytes: none */
	uint64_t initrd_bytes;
	const uint8_t *rng_seed; /* copied to setup_data RNG_SEED; wipe the original; NULL: none */
	size_t rng_seed_bytes;   /* 1 to 256; Linux expects 32 */
	const struct riffle_boot_device *devices;
	size_t device_count;
	uint64_t rsdp_address;       /* the monitor's own RSDP; only without RIFFLE_TABLES_ACPI; 0: none, and Linux
					looks for one in [0xe0000, 1 MiB) */
	unsigned tables;             /* RIFFLE_TABLES_*; unknown bits are refused */
	uint16_t pm_port;            /* RIFFLE_BOOT_PM_BYTES of fixed registers; 0: hardware-reduced ACPI */
	uint16_t sleep_control_port; /* ACPI sleep control register, one byte; the sleep status register is the
					next port and may read 0; 0: no power-off through it */
	uint16_t reset_port;         /* ACPI reset register, one byte; 0: none */
	uint8_t reset_value;         /* what the guest writes there */
	/*
	 * Where a guest learns that it was copied or restored. The monitor fills in both; they must not lie in the
	 * guest's usable RAM: outside of RAM, or in [0xa0000, 0xe0000). The GED's interrupt, an edge on event_gsi,
	 * notifies the guest of a change in either.
	 */
	uint8_t event_gsi;        /* 1 to 23, only with one of the following; 0: none */
	uint32_t vmgenid_address; /* a generation id of 16 bytes, on a multiple of 8; 0: none */
	uint32_t vmclock_address; /* a page with a struct vmclock_abi; 0: none */
	uint8_t reserved_zero[124];
};

/* Registers of vCPU 0 at the entry; the other vCPUs wait for INIT and SIPI. Registers not listed are 0. */
struct riffle_boot_registers {
	uint64_t rip, rsi, rsp, rflags;
	uint64_t cr0, cr3, cr4, efer;
	uint64_t gdt_address;
	uint16_t gdt_bytes; /* the GDTR's limit is one less */
	uint16_t cs, ds;    /* __BOOT_CS, __BOOT_DS: flat 64-bit code; flat data, for ES and SS too */
	uint16_t reserved_zero[1 + 32];
};

/*
 * The ranges that riffle_boot_write() will use, and the initrd; reserve them before a layout is drawn. Fills in at most
 * `capacity` entries and returns how many there are. If that is more, the caller's array is too short and lacks ranges
 * that must be reserved. This version has at most 2. Depends only on *machine; cannot fail.
 */
RIFFLE_PUBLIC size_t riffle_boot_reserved(const struct riffle_machine *machine, struct riffle_range *ranges,
					  size_t capacity);

/*
 * Chooses where an initrd goes: page-aligned, as high as it fits in RAM between 1 MiB and 4 GiB, and not above the
 * setup header's initrd_addr_max (0x7fffffff if `plan` is NULL or has no setup header). The result depends only on
 * sizes, never on a layout. Of *machine only the RAM ranges are read, without their host addresses. 0 bytes give
 * address 0. Errors: ARGUMENT (RAM), SPACE, with the space available.
 */
RIFFLE_PUBLIC RIFFLE_MUST_CHECK int riffle_boot_place_initrd(uint64_t *address, const struct riffle_machine *machine,
							     const struct riffle_plan *plan, uint64_t bytes,
							     struct riffle_error *error);

/*
 * Writes everything a directly booted kernel needs (64-bit boot protocol, Documentation/arch/x86/boot.rst) into guest
 * memory and fills in *registers. `plan` and `loaded` are the kernel's; only registers->rip reveals its address. May
 * run concurrently with riffle_load(), of whose results it needs only entry, physical_base, end and loadflags; a caller
 * may fill these in ahead from the layout. The caller writes the initrd's bytes. Everything is written below 1 MiB, at
 * the addresses above; nothing else is touched. The identity map covers the first 4 GiB and every GiB that holds RAM
 * below 256 TiB: at most 117 GiB in total, without limit with RIFFLE_MACHINE_GIB_PAGES. Errors: ARGUMENT (invalid
 * *machine or *loaded), SPACE (command line, tables, initrd, RAM beyond the map).
 */
RIFFLE_PUBLIC RIFFLE_MUST_CHECK int riffle_boot_write(struct riffle_boot_registers *registers,
						      const struct riffle_machine *machine,
						      const struct riffle_plan *plan,
						      const struct riffle_loaded *loaded, struct riffle_error *error);

/*
 * For a monitor with its own boot code: the setup header to boot this kernel at this address, to be put at 0x1f1 of the
 * zero page. It is the bzImage's, truncated to its own length, or a synthesised one if the kernel came without or
 * `plan` is NULL. These fields are already set:
 *
 *     type_of_loader  0x210  0xff, a loader without a number
 *     loadflags       0x211  LOADED_HIGH and loaded->loadflags: KASLR_FLAG makes the kernel randomise its direct map,
 *                            vmalloc, vmemmap and module bases
 *
 * The monitor fills in these fields, in a zero page that is otherwise 0 (in particular the sentinel at 0x1ef):
 *
 *     acpi_rsdp_addr  0x070  u64  address of the RSDP; 0: the kernel looks for it below 1 MiB
 *     e820_entries    0x1e8  u8   number of entries; the table is at 0x2d0: u64 address, u64 bytes, u32 type
 *     ramdisk_image   0x218  u32  the initrd's address, see riffle_boot_place_initrd(); upper half at 0x0c0
 *     ramdisk_size    0x21c  u32  0: none; upper half at 0x0c4
 *     cmd_line_ptr    0x228  u32  NUL-terminated, at most the header's cmdline_size (0x238) long; upper half at 0x0c8
 *     setup_data      0x250  u64  a list of nodes; 0: none
 *
 * The kernel is entered at loaded->entry in 64-bit mode with the zero page's address in rsi, interrupts off, flat
 * segments 0x10 (code) and 0x18 (data), and an identity map of the kernel, the zero page and everything it points to.
 * All of this must lie outside [loaded->physical_base, loaded->end): reserve it before the layout is drawn.
 * Errors: ARGUMENT (*loaded), FORMAT (the header).
 */
RIFFLE_PUBLIC RIFFLE_MUST_CHECK int riffle_boot_setup_header(uint8_t header[RIFFLE_BOOT_SETUP_HEADER_BYTES],
							     const struct riffle_plan *plan,
							     const struct riffle_loaded *loaded,
							     struct riffle_error *error);

/*
 * riffle_boot_write() for a bzImage that unpacks and randomises itself in the guest: `bzimage` is the whole file.
 * Copies the protected-mode part to its preferred address (or the first aligned one above it that fits, honouring
 * init_size and the initrd, if the kernel is relocatable) and enters it at its 64-bit entry, 0x200 after its start.
 * Errors: those of riffle_boot_write(), FORMAT, UNSUPPORTED (no 64-bit entry), SPACE.
 */
RIFFLE_PUBLIC RIFFLE_MUST_CHECK int riffle_boot_write_bzimage(struct riffle_boot_registers *registers,
							      const struct riffle_machine *machine, const void *bzimage,
							      size_t bzimage_bytes, struct riffle_error *error);

#ifdef __cplusplus
}
#endif
#endif
