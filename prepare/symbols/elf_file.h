/* SPDX-License-Identifier: Apache-2.0 */
/* The header and the sections of an ELF for x86-64, and how the rest of the file is read. */
#ifndef RIFFLE_PREPARE_ELF_FILE_H
#define RIFFLE_PREPARE_ELF_FILE_H

#include <elf.h>
#include <stddef.h>
#include <stdint.h>

#include <riffle/error.h>

#define ELF_TABLE_MAX (UINT64_C(1) << 30) /* of a symbol or string table */

struct elf_file {
	int fd;
	uint64_t bytes;
	Elf64_Ehdr header;
	Elf64_Shdr *section;
	uint64_t section_count;
	char *section_names;
	uint64_t section_names_bytes;
};

/*
 * Reads header and sections, by pread(); the descriptor stays the caller's. After success ended with elf_file_close().
 * Errors: FORMAT, UNSUPPORTED (another machine), IO, CHANGED, MEMORY.
 */
int elf_file_open(struct elf_file *file, int fd, struct riffle_error *error);
void elf_file_close(struct elf_file *file);

/* Reads a stretch of the file; `field` is what an error calls it. */
int elf_file_read(const struct elf_file *file, uint64_t offset, void *to, size_t bytes, const char *field,
		  struct riffle_error *error);
/* The same into memory that the caller frees; one byte more is there, and 0. More than `most` bytes are refused. */
int elf_file_read_new(void **to, const struct elf_file *file, uint64_t offset, uint64_t bytes, uint64_t most,
		      const char *field, struct riffle_error *error);

/*
 * The symbol table: *symbol and *names are the caller's to free, and each st_name is below *names_bytes or is no name.
 * Behind the names is a 0. Errors: FORMAT (there is none: the file was stripped).
 */
int elf_file_symbols(const struct elf_file *file, Elf64_Sym **symbol, uint64_t *count, char **names,
		     uint64_t *names_bytes, struct riffle_error *error);

/* Empty when the file gives it none. Ends with NUL. */
const char *elf_file_section_name(const struct elf_file *file, const Elf64_Shdr *section);

#endif
