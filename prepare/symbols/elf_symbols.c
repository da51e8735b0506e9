/* SPDX-License-Identifier: Apache-2.0 */
/* Symbols from a vmlinux's symbol table, and what tells whether it is the right vmlinux. */
#include "prepare/symbols/symbols.h"

#include <stdlib.h>
#include <string.h>

#include "common/bytes.h"
#include "common/fail.h"
#include "prepare/symbols/elf_file.h"

#define NOTE_MAX (UINT64_C(1) << 20)

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
		if ((status = elf_file_read(file, offset, &p, sizeof p, "program headers", error)))
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

		if (!strcmp(elf_file_section_name(file, s), ".data..percpu") && s->sh_flags & SHF_ALLOC && !s->sh_addr)
			elf->percpu_at_zero = true;
		if (s->sh_type != SHT_NOTE || elf->build_id_bytes || s->sh_size > NOTE_MAX)
			continue;
		status = elf_file_read_new(&notes, file, s->sh_offset, s->sh_size, NOTE_MAX, "notes", error);
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
	uint64_t count, names_bytes;
	Elf64_Sym *table;
	char *names;
	int status = elf_file_symbols(file, &table, &count, &names, &names_bytes, error);

	if (status)
		return status;
	status = add_symbols(symbols, table, count, names, names_bytes, error);
	free(table);
	free(names);
	return status;
}

int symbols_from_elf(struct symbols *symbols, struct symbols_elf *elf, int fd, struct riffle_error *error)
{
	struct elf_file file;
	int status;

	*elf = (struct symbols_elf){0};
	status = elf_file_open(&file, fd, error);
	if (status)
		return status;
	status = describe(elf, &file, error);
	if (!status && symbols)
		status = read_symbols(symbols, &file, error);
	elf_file_close(&file);
	return status;
}
