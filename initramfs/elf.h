/* SPDX-License-Identifier: Apache-2.0 */
/* What an ELF file requires from its loader: interpreter, libraries, and where to look for them. */
#ifndef RIFFLE_INITRAMFS_ELF_H
#define RIFFLE_INITRAMFS_ELF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <riffle/error.h>

struct elf_needs {
	char *interpreter;     /* PT_INTERP; NULL: none */
	char *rpath, *runpath; /* colon-separated; NULL: none */
	char **needed;         /* DT_NEEDED, in their order */
	size_t count;
	bool no_default; /* DF_1_NODEFLIB */
};

/* Whether these first bytes of a file are an ELF file's. */
bool elf_is(const void *start, size_t bytes);

/*
 * Reads it from an open file; nothing of the file is executed or trusted. On success the caller frees *needs with
 * elf_free_needs(). Errors: IO, FORMAT, UNSUPPORTED (not a program of x86-64), MEMORY.
 */
int elf_read_needs(struct elf_needs *needs, int fd, struct riffle_error *error);
void elf_free_needs(struct elf_needs *needs);

#endif
