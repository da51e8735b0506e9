/* SPDX-License-Identifier: Apache-2.0 */
/* A kernel at its layout as an ELF that any monitor can load: the stub at 1 MiB, the kernel's extents at their
 * addresses.
 */
#ifndef RIFFLE_CLI_COMMANDS_EMIT_IMAGE_H
#define RIFFLE_CLI_COMMANDS_EMIT_IMAGE_H

#include <riffle/load.h>

#include "kernel/boot_elf.h"

/* Room for a kernel's segments, without the stub's. */
#define EMIT_SEGMENTS_MAX (BOOT_ELF_SEGMENTS_MAX - 1)

/* The file offset of the kernel's bytes: file offset, address and image offset are congruent modulo 2 MiB. */
#define EMIT_IMAGE_OFFSET (UINT64_C(2) << 20)

/*
 * One segment for each extent or, if there are more than EMIT_SEGMENTS_MAX, for several extents with the smallest gaps
 * between them. Each extends to the next in memory, the last one to the image's end. Returns how many; of the layout
 * the physical base and the slides count.
 */
unsigned emit_segments(struct boot_elf_segment segments[EMIT_SEGMENTS_MAX], const struct riffle_plan *plan,
		       const struct riffle_layout *layout);

/* How to load a kernel: the arguments of riffle_load_shuffled(). */
struct emit_load {
	const struct riffle_plan *plan;
	const struct riffle_source *source;
	const struct riffle_layout *layout;
	const struct riffle_workers *workers;
	void *workspace;
	size_t workspace_bytes;
};

/*
 * Loads the kernel into `fd`, an empty regular file open for reading and writing, and writes the headers and the stub.
 * Pages that are all zero become holes. After a failure the file is empty again. Errors: those of
 * riffle_load_shuffled(), UNSUPPORTED (built without the stub), FORMAT, IO, MEMORY.
 */
int emit_image_write(int fd, const struct emit_load *load, struct riffle_error *error);

#endif
