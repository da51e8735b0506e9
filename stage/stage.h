/* SPDX-License-Identifier: Apache-2.0 */
/* What the loader stage, and who packs it in front of a kernel, agree on. */
#ifndef RIFFLE_STAGE_STAGE_H
#define RIFFLE_STAGE_STAGE_H

/* Offsets from the start of the protected-mode part, which is where the stage starts. */
#define STAGE_DESCRIPTOR 0x20
#define STAGE_ENTRY_64 0x200 /* Documentation/x86/boot.rst, 64-bit boot protocol */

#define STAGE_PAGE 4096
#define STAGE_STACK_BYTES 0x20000
#define STAGE_GIBS_MAX 64 /* of memory that its page tables reach; RAM above it is not drawn from */
#define STAGE_TABLES_BYTES ((3 + STAGE_GIBS_MAX) * STAGE_PAGE)

/* fields of the descriptor, for the assembler */
#define STAGE_WORK_OFFSET 0x10
#define STAGE_WORK_BYTES 0x18

#ifndef __ASSEMBLER__
#include <stdint.h>

/*
 * At STAGE_DESCRIPTOR: filled in by the packer. Behind the file's bytes, and inside what init_size asks the loader for,
 * follow the work area (stack, order of the chunks, the load's workspace: wiped in the end) and the page tables.
 */
struct stage_descriptor {
	uint64_t package_offset; /* the prepared kernel, packed (stage/package.h); multiple of STAGE_PAGE, like all of
				    these */
	uint64_t package_bytes;
	uint64_t work_offset;
	uint64_t work_bytes;
	uint64_t tables_offset;
	uint64_t window_bytes; /* init_size */
};

_Static_assert(sizeof(struct stage_descriptor) == 48, "no padding");
#endif
#endif
