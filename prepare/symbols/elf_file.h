/* SPDX-License-Identifier: Apache-2.0 */
/* Reads the header, the sections and other parts of an x86-64 ELF file. */
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
 * Reads header and sections, by pread(); the caller keeps the descriptor. After success release with elf_file_close().
 * Errors: FORMAT, UNSUPPORTED (another machine), IO, CHANGED, MEMORY.
 */
int elf_file_open(struct elf_file *file, int fd, struct riffle_error *error);
void elf_file_close(struct elf_file *file);

/* Reads a range of the file; `field` names it in errors. */
int elf_file_read(const struct elf_file *file, uint64_t offset, void *to, size_t bytes, const char *field,
		  struct riffle_error *error);
/* The same into memory that the caller frees, with a 0 byte appended. More than `most` bytes are refused. */
int elf_file_read_new(void **to, const struct elf_file *file, uint64_t offset, uint64_t bytes, uint64_t most,
		      const char *field, struct riffle_error *error);

/*
 * The symbol table: the caller frees *symbol and *names. An st_name that is not below *names_bytes is no name. The
 * names are followed by a 0. Errors: FORMAT (there is none: the file was stripped).
 */
int elf_file_symbols(const struct elf_file *file, Elf64_Sym **symbol, uint64_t *count, char **names,
		     uint64_t *names_bytes, struct riffle_error *error);

/* Empty if the file gives it none. NUL-terminated. */
const char *elf_file_section_name(const struct elf_file *file, const Elf64_Shdr *section);

#endif
