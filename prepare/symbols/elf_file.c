/* SPDX-License-Identifier: Apache-2.0 */
/* Reads the frame of an ELF file, every offset and length of which is somebody's claim. */
#include "prepare/symbols/elf_file.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/bytes.h"
#include "common/fail.h"

#define SECTIONS_MAX (UINT64_C(1) << 20)

int elf_file_read(const struct elf_file *file, uint64_t offset, void *to, size_t bytes, const char *field,
		  struct riffle_error *error)
{
	if (!riffle_inside(offset, bytes, file->bytes))
		return riffle_fail_expected(error, RIFFLE_ERR_FORMAT, field, "reaches past the end of the file", offset,
					    file->bytes);
	for (size_t done = 0; done < bytes;) {
		ssize_t n = pread(file->fd, (char *)to + done, bytes - done, (off_t)(offset + done));

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return riffle_fail_system(error, errno, field, "cannot be read");
		if (!n)
			return riffle_fail(error, RIFFLE_ERR_CHANGED, field,
					   "the file became shorter while it was read");
		done += (size_t)n;
	}
	return RIFFLE_OK;
}

int elf_file_read_new(void **to, const struct elf_file *file, uint64_t offset, uint64_t bytes, uint64_t most,
		      const char *field, struct riffle_error *error)
{
	int status;

	if (bytes > most)
		return riffle_fail_expected(error, RIFFLE_ERR_FORMAT, field, "is absurdly large", bytes, most);
	if (!riffle_inside(offset, bytes, file->bytes))
		return riffle_fail_expected(error, RIFFLE_ERR_FORMAT, field, "reaches past the end of the file", offset,
					    file->bytes);
	*to = malloc(bytes + 1);
	if (!*to)
		return riffle_fail_found(error, RIFFLE_ERR_MEMORY, field, "needs more memory than there is", bytes);
	((char *)*to)[bytes] = 0;
	status = elf_file_read(file, offset, *to, bytes, field, error);
	if (status) {
		free(*to);
		*to = NULL;
	}
	return status;
}

static int read_header(struct elf_file *file, struct riffle_error *error)
{
	const Elf64_Ehdr *h = &file->header;
	struct stat st;
	int status;

	if (fstat(file->fd, &st) < 0)
		return riffle_fail_system(error, errno, "vmlinux", "cannot be looked at");
	file->bytes = st.st_size > 0 ? (uint64_t)st.st_size : 0;
	if (file->bytes < sizeof *h)
		return riffle_fail_expected(error, RIFFLE_ERR_FORMAT, "ELF header", "is truncated", file->bytes,
					    sizeof *h);
	if ((status = elf_file_read(file, 0, &file->header, sizeof *h, "ELF header", error)))
		return status;
	if (memcmp(h->e_ident, ELFMAG, SELFMAG))
		return riffle_fail(error, RIFFLE_ERR_FORMAT, "e_ident", "is not an ELF file's");
	if (h->e_machine != EM_X86_64)
		return riffle_fail_expected(error, RIFFLE_ERR_UNSUPPORTED, "e_machine", "is not x86-64", h->e_machine,
					    EM_X86_64);
	if (h->e_ident[EI_CLASS] != ELFCLASS64 || h->e_ident[EI_DATA] != ELFDATA2LSB)
		return riffle_fail(error, RIFFLE_ERR_UNSUPPORTED, "e_ident",
				   "is not that of a 64-bit little-endian file");
	return RIFFLE_OK;
}

static int read_sections(struct elf_file *file, struct riffle_error *error)
{
	const Elf64_Ehdr *h = &file->header;
	uint64_t names = h->e_shstrndx;
	Elf64_Shdr first;
	void *bytes;
	int status;

	if (!h->e_shoff)
		return riffle_fail(error, RIFFLE_ERR_FORMAT, "e_shoff", "the file has no sections, so no symbols");
	if (h->e_shentsize != sizeof first)
		return riffle_fail_expected(error, RIFFLE_ERR_FORMAT, "e_shentsize", "is wrong", h->e_shentsize,
					    sizeof first);
	if ((status = elf_file_read(file, h->e_shoff, &first, sizeof first, "section headers", error)))
		return status;
	/* many sections: count and index of names stand in the first one (gABI, "Sections") */
	file->section_count = h->e_shnum ? h->e_shnum : first.sh_size;
	if (names == SHN_XINDEX)
		names = first.sh_link;
	if (file->section_count > SECTIONS_MAX || names >= file->section_count)
		return riffle_fail_expected(error, RIFFLE_ERR_FORMAT, "e_shnum",
					    "does not fit e_shstrndx, or is implausible", file->section_count,
					    SECTIONS_MAX);
	status = elf_file_read_new(&bytes, file, h->e_shoff, file->section_count * sizeof first, UINT64_MAX,
				   "section headers", error);
	if (status)
		return status;
	file->section = bytes;
	status = elf_file_read_new(&bytes, file, file->section[names].sh_offset, file->section[names].sh_size,
				   ELF_TABLE_MAX, "section names", error);
	if (status)
		return status;
	file->section_names = bytes;
	file->section_names_bytes = file->section[names].sh_size;
	return RIFFLE_OK;
}

const char *elf_file_section_name(const struct elf_file *file, const Elf64_Shdr *section)
{
	return section->sh_name < file->section_names_bytes ? file->section_names + section->sh_name : "";
}

int elf_file_symbols(const struct elf_file *file, Elf64_Sym **symbol, uint64_t *count, char **names,
		     uint64_t *names_bytes, struct riffle_error *error)
{
	const Elf64_Shdr *table = NULL, *strings;
	void *bytes, *text;
	int status;

	for (uint64_t i = 0; !table && i < file->section_count; i++)
		if (file->section[i].sh_type == SHT_SYMTAB)
			table = &file->section[i];
	if (!table)
		return riffle_fail(error, RIFFLE_ERR_FORMAT, "symbol table", "is not there: the file was stripped");
	if (table->sh_link >= file->section_count)
		return riffle_fail_expected(error, RIFFLE_ERR_FORMAT, "symbol table", "its sh_link names no section",
					    table->sh_link, file->section_count);
	strings = &file->section[table->sh_link];
	status =
	    elf_file_read_new(&bytes, file, table->sh_offset, table->sh_size, ELF_TABLE_MAX, "symbol table", error);
	if (status)
		return status;
	status =
	    elf_file_read_new(&text, file, strings->sh_offset, strings->sh_size, ELF_TABLE_MAX, "symbol names", error);
	if (status) {
		free(bytes);
		return status;
	}
	*symbol = bytes;
	*count = table->sh_size / sizeof **symbol;
	*names = text;
	*names_bytes = strings->sh_size;
	return RIFFLE_OK;
}

int elf_file_open(struct elf_file *file, int fd, struct riffle_error *error)
{
	int status;

	*file = (struct elf_file){.fd = fd};
	status = read_header(file, error);
	if (!status)
		status = read_sections(file, error);
	if (status)
		elf_file_close(file);
	return status;
}

void elf_file_close(struct elf_file *file)
{
	free(file->section);
	free(file->section_names);
	*file = (struct elf_file){.fd = -1};
}
