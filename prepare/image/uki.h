/* SPDX-License-Identifier: Apache-2.0 */
/* Unified kernel images (systemd-stub): an EFI program that carries a kernel, an initrd and a command line as sections.
 */
#ifndef RIFFLE_PREPARE_UKI_H
#define RIFFLE_PREPARE_UKI_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <riffle/error.h>

/* A range of the file; empty if there is no such section. */
struct uki_part {
	uint64_t offset, bytes;
};

struct uki {
	bool is_pe;       /* at least an EFI program */
	uint16_t machine; /* of its COFF header */
	struct uki_part kernel, initrd,
	    command_line; /* .linux, .initrd, .cmdline: the first of each, of the default profile */
};

#define UKI_MACHINE_X86_64 0x8664u
#define UKI_COMMAND_LINE_MAX 4096u

static inline bool uki_is(const struct uki *uki)
{
	return uki->kernel.bytes != 0;
}

/*
 * Examines an open file of `file_bytes` bytes. A file that is no PE is not an error. Uses no memory except the stack.
 * Errors: FORMAT (a header or section leads past the end of the file), IO.
 */
int uki_read(struct uki *uki, int fd, uint64_t file_bytes, struct riffle_error *error);

/*
 * The command line without the white space and NULs at its end; empty when there is none. `text` has room for
 * UKI_COMMAND_LINE_MAX bytes. Errors: FORMAT (longer than that, or with other control characters), IO.
 */
int uki_command_line(char *text, const struct uki *uki, int fd, struct riffle_error *error);

#endif
