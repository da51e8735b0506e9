/* SPDX-License-Identifier: Apache-2.0 */
/* The interface between the loader stage or stub and the programs that prepend them to a kernel. */
#ifndef RIFFLE_STAGE_STAGE_H
#define RIFFLE_STAGE_STAGE_H

/* Offsets from the start of the image: of a bzImage the protected-mode part, of an ELF its first segment. */
#define STAGE_DESCRIPTOR 0x20
#define STAGE_STUB_KERNEL 0x80
#define STAGE_ENTRY_PVH 0x100 /* 32-bit, in an ELF only: its code works only at STAGE_ELF_BASE */
#define STAGE_ENTRY_64 0x200  /* Documentation/arch/x86/boot.rst, 64-bit boot protocol */

/* The image's address in an ELF: the lowest that every loader accepts, and the same for every kernel and layout. */
#define STAGE_ELF_BASE 0x100000

#define STAGE_PAGE 4096
#define STAGE_STACK_BYTES 0x20000
#define STAGE_GIBS_MAX 64 /* of memory that its page tables map; RAM above is not used */
#define STAGE_TABLES_BYTES ((3 + STAGE_GIBS_MAX) * STAGE_PAGE)
/*
 * Page tables with which the PVH entry maps 4 GiB before the real tables are written: after the stack, in the work
 * area.
 */
#define STAGE_FIRST_TABLES_BYTES (6 * STAGE_PAGE)

/* fields of the descriptor, for the assembler */
#define STAGE_WORK_OFFSET 0x10
#define STAGE_WORK_BYTES 0x18
#define STAGE_ZERO_PAGE_OFFSET 0x30

#ifndef __ASSEMBLER__
#include <stddef.h>
#include <stdint.h>

/* Rounded up to whole pages. */
static inline uint64_t stage_pages(uint64_t bytes)
{
	return (bytes + STAGE_PAGE - 1) & ~(uint64_t)(STAGE_PAGE - 1);
}

/* stage_descriptor.randomize */
#define STAGE_AUTO 0u /* the most that the kernel and the guest's memory allow */
#define STAGE_SLIDE 0x100u

/*
 * At STAGE_DESCRIPTOR: filled in by the packer. The file's bytes are followed, within init_size or p_memsz, by the work
 * area (stack, order of the chunks, the load's workspace: wiped at the end) and the page tables. All offsets are
 * multiples of STAGE_PAGE.
 */
struct stage_descriptor {
	uint64_t package_offset; /* the prepared kernel, packed (stage/package.h); the stub has none */
	uint64_t package_bytes;
	uint64_t work_offset;
	uint64_t work_bytes; /* at least STAGE_STACK_BYTES and, in an ELF, STAGE_FIRST_TABLES_BYTES */
	uint64_t tables_offset;
	uint64_t window_bytes;     /* init_size, p_memsz */
	uint64_t zero_page_offset; /* the page that the PVH entry turns into its zero page: zero except for the setup
				      header; 0: none */
	uint64_t randomize;        /* STAGE_AUTO, or the mode (enum riffle_mode, KASLR or above), with STAGE_SLIDE */
};

/* At STAGE_STUB_KERNEL, for the stub, which wipes it: where the loaded kernel lies. */
struct stage_stub_kernel {
	uint64_t address;
	uint64_t bytes;
	uint64_t entry;
	uint64_t loadflags; /* struct riffle_loaded's */
};

_Static_assert(STAGE_DESCRIPTOR + sizeof(struct stage_descriptor) <= STAGE_STUB_KERNEL, "one after the other");
_Static_assert(STAGE_STUB_KERNEL + sizeof(struct stage_stub_kernel) <= STAGE_ENTRY_PVH, "one after the other");
_Static_assert(offsetof(struct stage_descriptor, work_offset) == STAGE_WORK_OFFSET, "the assembler's offset");
_Static_assert(offsetof(struct stage_descriptor, work_bytes) == STAGE_WORK_BYTES, "the assembler's offset");
_Static_assert(offsetof(struct stage_descriptor, zero_page_offset) == STAGE_ZERO_PAGE_OFFSET, "the assembler's offset");
#endif
#endif
