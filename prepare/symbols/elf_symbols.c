/* SPDX-License-Identifier: Apache-2.0 */
/* Symbols from a vmlinux's symbol table, and what tells whether it is the right vmlinux. */
#include "prepare/symbols/symbols.h"

#include <elf.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/bytes.h"
#include "common/fail.h"

#define SECTIONS_MAX (UINT64_C(1) << 20)
#define TABLE_MAX (UINT64_C(1) << 30) /* of a symbol or string table */
#define NOTE_MAX (UINT64_C(1) << 20)

struct elf_file {
	int fd;
	uint64_t bytes;
	Elf64_Ehdr header;
	Elf64_Shdr *section;
	uint64_t section_count;
	char *section_names;
	uint64_t section_names_bytes;
};

static int read_at(const struct elf_file *file, uint64_t offset, void *to, size_t bytes, const char *field,
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

/* Reads a stretch of the file into memory that the caller frees; one byte more is there, and 0. */
static int read_new(void **to, const struct elf_file *file, uint64_t offset, uint64_t bytes, uint64_t most,
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
	status = read_at(file, offset, *to, bytes, field, error);
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
		return riffle_fail_expected(error, RIFFLE_ERR_FORMAT, "ELF header", "is cut short", file->bytes,
					    sizeof *h);
	if ((status = read_at(file, 0, &file->header, sizeof *h, "ELF header", error)))
		return status;
	if (memcmp(h->e_ident, ELFMAG, SELFMAG))
		return riffle_fail(error, RIFFLE_ERR_FORMAT, "e_ident", "is not an ELF file's");
	if (h->e_ident[EI_CLASS] != ELFCLASS64 || h->e_ident[EI_DATA] != ELFDATA2LSB || h->e_machine != EM_X86_64)
		return riffle_fail_expected(error, RIFFLE_ERR_UNSUPPORTED, "e_machine", "is not a 64-bit x86-64 file's",
					    h->e_machine, EM_X86_64);
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
	if ((status = read_at(file, h->e_shoff, &first, sizeof first, "section headers", error)))
		return status;
	/* many sections: count and index of names stand in the first one (gABI, "Sections") */
	file->section_count = h->e_shnum ? h->e_shnum : first.sh_size;
	if (names == SHN_XINDEX)
		names = first.sh_link;
	if (file->section_count > SECTIONS_MAX || names >= file->section_count)
		return riffle_fail_expected(error, RIFFLE_ERR_FORMAT, "e_shnum",
					    "does not fit e_shstrndx, or is absurd", file->section_count, SECTIONS_MAX);
	status = read_new(&bytes, file, h->e_shoff, file->section_count * sizeof first, UINT64_MAX, "section headers",
			  error);
	if (status)
		return status;
	file->section = bytes;
	status = read_new(&bytes, file, file->section[names].sh_offset, file->section[names].sh_size, TABLE_MAX,
			  "section names", error);
	if (status)
		return status;
	file->section_names = bytes;
	file->section_names_bytes = file->section[names].sh_size;
	return RIFFLE_OK;
}

static const char *section_name(const struct elf_file *file, const Elf64_Shdr *section)
{
	return section->sh_name < file->section_names_bytes ? file->section_names + section->sh_name : "";
}

static int find_link_physical(struct symbols_elf *elf, const struct elf_file *file, struct riffle_error *error)
{
	Elf64_Phdr p;
	int status;

	elf->link_physical = UINT64_MAX;
	for (unsigned i = 0; i < file->header.e_phnum; i++) {
		uint64_t offset;

		if (file->header.e_phentsize != sizeof p ||
		    __builtin_add_overflow(file->header.e_phoff, i * sizeof p, &offset))
			return riffle_fail_expected(error, RIFFLE_ERR_FORMAT, "e_phentsize", "is wrong",
						    file->header.e_phentsize, sizeof p);
		if ((status = read_at(file, offset, &p, sizeof p, "program headers", error)))
			return status;
		if (p.p_type == PT_LOAD && p.p_paddr < elf->link_physical)
			elf->link_physical = p.p_paddr;
	}
	if (elf->link_physical == UINT64_MAX)
		return riffle_fail(error, RIFFLE_ERR_FORMAT, "program headers", "have nothing to load: no kernel");
	return RIFFLE_OK;
}

/* The GNU build id among a section's notes, if it is there. */
static void take_build_id(struct symbols_elf *elf, const uint8_t *notes, uint64_t bytes)
{
	for (uint64_t at = 0; riffle_inside(at, 12, bytes);) {
		uint64_t name_bytes = riffle_get32(notes + at), value_bytes = riffle_get32(notes + at + 4);
		uint32_t type = riffle_get32(notes + at + 8);
		uint64_t name = at + 12, value = name + ((name_bytes + 3) & ~UINT64_C(3));

		if (!riffle_inside(name, name_bytes, bytes) || !riffle_inside(value, value_bytes, bytes))
			return;
		if (type == NT_GNU_BUILD_ID && name_bytes == 4 && !memcmp(notes + name, "GNU", 4) && value_bytes &&
		    value_bytes <= sizeof elf->build_id) {
			memcpy(elf->build_id, notes + value, value_bytes);
			elf->build_id_bytes = (unsigned)value_bytes;
			return;
		}
		at = value + ((value_bytes + 3) & ~UINT64_C(3));
	}
}

static int describe(struct symbols_elf *elf, const struct elf_file *file, struct riffle_error *error)
{
	int status = find_link_physical(elf, file, error);

	for (uint64_t i = 0; !status && i < file->section_count; i++) {
		const Elf64_Shdr *s = &file->section[i];
		void *notes;

		if (!strcmp(section_name(file, s), ".data..percpu") && s->sh_flags & SHF_ALLOC && !s->sh_addr)
			elf->percpu_at_zero = true;
		if (s->sh_type != SHT_NOTE || elf->build_id_bytes || s->sh_size > NOTE_MAX)
			continue;
		status = read_new(&notes, file, s->sh_offset, s->sh_size, NOTE_MAX, "notes", error);
		if (status)
			break;
		take_build_id(elf, notes, s->sh_size);
		free(notes);
	}
	return status;
}

/* functions and objects before bare labels, global before local, few underscores before many */
static unsigned rank_of(const Elf64_Sym *symbol, const char *name)
{
	unsigned rank = ELF64_ST_BIND(symbol->st_info) == STB_GLOBAL ? 0 : 32;

	if (ELF64_ST_TYPE(symbol->st_info) == STT_NOTYPE)
		rank += 64;
	for (; *name == '_' && rank % 32 < 31; name++)
		rank++;
	return rank;
}

static int add_symbols(struct symbols *symbols, const Elf64_Sym *table, uint64_t count, const char *names,
		       uint64_t names_bytes, struct riffle_error *error)
{
	int status = RIFFLE_OK;

	for (uint64_t i = 0; !status && i < count; i++) {
		const Elf64_Sym *s = &table[i];
		unsigned type = ELF64_ST_TYPE(s->st_info);
		const char *name;

		if (s->st_shndx == SHN_UNDEF || s->st_shndx == SHN_ABS || s->st_name >= names_bytes ||
		    (type != STT_NOTYPE && type != STT_OBJECT && type != STT_FUNC))
			continue;
		name = names + s->st_name;
		if (name[0] == '$' || !strncmp(name, ".L", 2)) /* the assembler's own */
			continue;
		status = symbols_add(symbols, s->st_value, rank_of(s, name), name, strlen(name), error);
	}
	return status ? status : symbols_finish(symbols, error);
}

static int read_symbols(struct symbols *symbols, const struct elf_file *file, struct riffle_error *error)
{
	const Elf64_Shdr *table = NULL, *strings;
	void *bytes = NULL, *names = NULL;
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
	status = read_new(&bytes, file, table->sh_offset, table->sh_size, TABLE_MAX, "symbol table", error);
	if (!status)
		status = read_new(&names, file, strings->sh_offset, strings->sh_size, TABLE_MAX, "symbol names", error);
	if (!status)
		status =
		    add_symbols(symbols, bytes, table->sh_size / sizeof(Elf64_Sym), names, strings->sh_size, error);
	free(bytes);
	free(names);
	return status;
}

int symbols_from_elf(struct symbols *symbols, struct symbols_elf *elf, int fd, struct riffle_error *error)
{
	struct elf_file file = {.fd = fd};
	int status;

	*elf = (struct symbols_elf){0};
	status = read_header(&file, error);
	if (!status)
		status = read_sections(&file, error);
	if (!status)
		status = describe(elf, &file, error);
	if (!status && symbols)
		status = read_symbols(symbols, &file, error);
	free(file.section);
	free(file.section_names);
	return status;
}
