/* SPDX-License-Identifier: Apache-2.0 */
/* Moves each symbol of a vmlinux to where a layout puts it, and writes them out. */
#include "cli/commands/running_symbols.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/fail.h"
#include "common/write_all.h"

/* behind the vmlinux's own section names in the ELF that is written */
static const char new_names[] = "\0.symtab\0.strtab\0.shstrtab";
enum { NAME_SYMTAB = 1, NAME_STRTAB = 9, NAME_SHSTRTAB = 17, NEW_SECTIONS = 3 };

/* The image's end is an address of its own: `_end` moves with it. */
static uint64_t moved(const struct layout_file *layout, uint64_t address)
{
	if (address - layout->link_virtual == layout->image_bytes)
		return layout->layout.virtual_base + layout->image_bytes +
		       layout_file_slide(layout, layout->image_bytes);
	layout_file_from_link(layout, address, &address);
	return address;
}

/* A section moves as a whole, with its block, even the one whose functions change places. */
static void move_sections(struct elf_file *file, const struct layout_file *layout)
{
	for (uint64_t i = 0; i < file->section_count; i++) {
		Elf64_Shdr *s = &file->section[i];

		if (s->sh_flags & SHF_ALLOC && s->sh_addr - layout->link_virtual < layout->image_bytes)
			s->sh_addr += layout->layout.virtual_base - layout->link_virtual +
				      layout_file_slide(layout, s->sh_addr - layout->link_virtual);
	}
}

static bool wanted(const struct running_symbols *symbols, const Elf64_Sym *s)
{
	unsigned type = ELF64_ST_TYPE(s->st_info);
	const char *name;

	if (type != STT_NOTYPE && type != STT_OBJECT && type != STT_FUNC)
		return false;
	if (s->st_shndx == SHN_UNDEF || (s->st_shndx >= symbols->file.section_count && s->st_shndx != SHN_ABS))
		return false;
	if (s->st_name >= symbols->names_bytes)
		return false;
	name = symbols->names + s->st_name;
	/* the assembler's own are none for a person */
	return *name && *name != '$' && strncmp(name, ".L", 2) != 0;
}

void running_symbols_move(struct running_symbols *symbols, const struct layout_file *layout)
{
	uint64_t kept = 0;

	move_sections(&symbols->file, layout);
	for (uint64_t i = 0; i < symbols->count; i++) {
		Elf64_Sym *s = &symbols->symbol[i];

		if (!wanted(symbols, s))
			continue;
		if (s->st_shndx != SHN_ABS)
			s->st_value = moved(layout, s->st_value);
		symbols->symbol[kept++] = *s;
	}
	symbols->count = kept;
}

int running_symbols_read(struct running_symbols *symbols, int vmlinux, const struct layout_file *layout,
			 struct riffle_error *error)
{
	int status;

	*symbols = (struct running_symbols){0};
	status = elf_file_open(&symbols->file, vmlinux, error);
	if (!status && symbols->file.section_count >= SHN_LORESERVE - NEW_SECTIONS)
		status = riffle_fail_found(error, RIFFLE_ERR_UNSUPPORTED, "e_shnum",
					   "is more sections than a kernel has", symbols->file.section_count);
	if (!status)
		status = elf_file_symbols(&symbols->file, &symbols->symbol, &symbols->count, &symbols->names,
					  &symbols->names_bytes, error);
	if (status) {
		elf_file_close(&symbols->file);
		return status;
	}
	running_symbols_move(symbols, layout);
	return RIFFLE_OK;
}

void running_symbols_free(struct running_symbols *symbols)
{
	elf_file_close(&symbols->file);
	free(symbols->symbol);
	free(symbols->names);
	*symbols = (struct running_symbols){0};
}

static int put(int fd, const void *bytes, size_t count, struct riffle_error *error)
{
	if (!riffle_write_all(fd, bytes, count))
		return riffle_fail_system(error, errno, "output", "cannot be written");
	return RIFFLE_OK;
}

/* --- ELF --- */

static int is_local(const Elf64_Sym *s)
{
	return ELF64_ST_BIND(s->st_info) == STB_LOCAL;
}

/* Locals come first in a symbol table; behind the empty one. */
static int put_symbols(const struct running_symbols *symbols, int fd, uint64_t *first_global,
		       struct riffle_error *error)
{
	Elf64_Sym *table = calloc(symbols->count + 1, sizeof *table);
	uint64_t used = 1;
	int status;

	if (!table)
		return riffle_fail(error, RIFFLE_ERR_MEMORY, "symbols", "need more memory than there is");
	for (int local = 1; local >= 0; local--) {
		*first_global = used;
		for (uint64_t i = 0; i < symbols->count; i++)
			if (is_local(&symbols->symbol[i]) == local)
				table[used++] = symbols->symbol[i];
	}
	status = put(fd, table, used * sizeof *table, error);
	free(table);
	return status;
}

/* The loaded sections keep their numbers, so that the symbols' are right; of the others nothing is left. */
static int put_sections(const struct running_symbols *symbols, int fd, const Elf64_Shdr added[NEW_SECTIONS],
			struct riffle_error *error)
{
	const struct elf_file *file = &symbols->file;
	Elf64_Shdr *table = calloc(file->section_count + NEW_SECTIONS, sizeof *table);
	int status;

	if (!table)
		return riffle_fail(error, RIFFLE_ERR_MEMORY, "symbols", "need more memory than there is");
	for (uint64_t i = 1; i < file->section_count; i++) {
		const Elf64_Shdr *s = &file->section[i];

		if (!(s->sh_flags & SHF_ALLOC) || s->sh_name >= file->section_names_bytes)
			continue;
		table[i] = (Elf64_Shdr){
		    .sh_name = s->sh_name,
		    .sh_type = SHT_NOBITS,
		    .sh_flags = s->sh_flags & (SHF_ALLOC | SHF_WRITE | SHF_EXECINSTR),
		    .sh_addr = s->sh_addr,
		    .sh_offset = sizeof(Elf64_Ehdr),
		    .sh_size = s->sh_size,
		    .sh_addralign = 1,
		};
	}
	memcpy(table + file->section_count, added, NEW_SECTIONS * sizeof *added);
	status = put(fd, table, (file->section_count + NEW_SECTIONS) * sizeof *table, error);
	free(table);
	return status;
}

int running_symbols_write_elf(const struct running_symbols *symbols, int fd, struct riffle_error *error)
{
	const struct elf_file *file = &symbols->file;
	uint64_t table_bytes = (symbols->count + 1) * sizeof(Elf64_Sym), first_global = 0;
	uint64_t names_at = sizeof(Elf64_Ehdr) + table_bytes;
	uint64_t names_bytes = symbols->names_bytes + 1; /* the last one may lack its end */
	uint64_t section_names_at = names_at + names_bytes;
	uint64_t end = section_names_at + file->section_names_bytes + sizeof new_names;
	uint64_t padding = -end & 7;
	uint32_t name = (uint32_t)file->section_names_bytes;
	Elf64_Ehdr header = {
	    .e_ident = {ELFMAG0, ELFMAG1, ELFMAG2, ELFMAG3, ELFCLASS64, ELFDATA2LSB, EV_CURRENT},
	    .e_type = ET_EXEC,
	    .e_machine = EM_X86_64,
	    .e_version = EV_CURRENT,
	    .e_shoff = end + padding,
	    .e_ehsize = sizeof header,
	    .e_shentsize = sizeof(Elf64_Shdr),
	    .e_shnum = (Elf64_Half)(file->section_count + NEW_SECTIONS),
	    .e_shstrndx = (Elf64_Half)(file->section_count + 2),
	};
	Elf64_Shdr added[NEW_SECTIONS] = {
	    {.sh_name = name + NAME_SYMTAB,
	     .sh_type = SHT_SYMTAB,
	     .sh_offset = sizeof header,
	     .sh_size = table_bytes,
	     .sh_link = (Elf64_Word)file->section_count + 1,
	     .sh_addralign = 8,
	     .sh_entsize = sizeof(Elf64_Sym)},
	    {.sh_name = name + NAME_STRTAB,
	     .sh_type = SHT_STRTAB,
	     .sh_offset = names_at,
	     .sh_size = names_bytes,
	     .sh_addralign = 1},
	    {.sh_name = name + NAME_SHSTRTAB,
	     .sh_type = SHT_STRTAB,
	     .sh_offset = section_names_at,
	     .sh_size = end - section_names_at,
	     .sh_addralign = 1},
	};
	int status = put(fd, &header, sizeof header, error);

	if (!status)
		status = put_symbols(symbols, fd, &first_global, error);
	if (!status)
		status = put(fd, symbols->names, names_bytes, error);
	if (!status)
		status = put(fd, file->section_names, file->section_names_bytes, error);
	if (!status)
		status = put(fd, new_names, sizeof new_names, error);
	if (!status)
		status = put(fd, "\0\0\0\0\0\0\0", padding, error);
	if (status)
		return status;
	added[0].sh_info = (Elf64_Word)first_global;
	return put_sections(symbols, fd, added, error);
}

/* --- System.map --- */

/* As nm has it: the kind of section, in capitals when the symbol is global. */
static char letter_of(const struct running_symbols *symbols, const Elf64_Sym *s)
{
	unsigned bind = ELF64_ST_BIND(s->st_info);
	const Elf64_Shdr *section;
	char letter;

	if (bind == STB_WEAK)
		return ELF64_ST_TYPE(s->st_info) == STT_OBJECT ? 'V' : 'W';
	if (s->st_shndx == SHN_ABS)
		return bind == STB_LOCAL ? 'a' : 'A';
	section = &symbols->file.section[s->st_shndx];
	letter = section->sh_flags & SHF_EXECINSTR ? 'T'
		 : section->sh_type == SHT_NOBITS  ? 'B'
		 : section->sh_flags & SHF_WRITE   ? 'D'
						   : 'R';
	return bind == STB_LOCAL ? (char)(letter | 0x20) : letter;
}

/* scripts/mksysmap leaves out local absolute symbols, the assembler's own, and symbol versions. */
static bool in_map(const struct running_symbols *symbols, const Elf64_Sym *s)
{
	return letter_of(symbols, s) != 'a' && strncmp(symbols->names + s->st_name, "__crc_", 6) != 0;
}

static int by_address(const void *left, const void *right, void *opaque)
{
	const struct running_symbols *symbols = opaque;
	const Elf64_Sym *a = *(const Elf64_Sym *const *)left, *b = *(const Elf64_Sym *const *)right;

	if (a->st_value != b->st_value)
		return a->st_value < b->st_value ? -1 : 1;
	return strcmp(symbols->names + a->st_name, symbols->names + b->st_name);
}

static int put_lines(const struct running_symbols *symbols, const Elf64_Sym *const *line, uint64_t count, int fd,
		     struct riffle_error *error)
{
	char *text = NULL;
	size_t bytes = 0;
	FILE *to = open_memstream(&text, &bytes);
	int status;

	if (!to)
		return riffle_fail(error, RIFFLE_ERR_MEMORY, "System.map", "needs more memory than there is");
	for (uint64_t i = 0; i < count; i++) {
		fprintf(to, "%016" PRIx64 " %c ", line[i]->st_value, letter_of(symbols, line[i]));
		/* a name with a line feed in it would be a line of its own */
		for (const char *c = symbols->names + line[i]->st_name; *c; c++)
			putc(*c > ' ' && *c < 0x7f ? *c : '?', to);
		putc('\n', to);
	}
	status = fclose(to) ? riffle_fail(error, RIFFLE_ERR_MEMORY, "System.map", "needs more memory than there is")
			    : put(fd, text, bytes, error);
	free(text);
	return status;
}

int running_symbols_write_map(const struct running_symbols *symbols, int fd, struct riffle_error *error)
{
	const Elf64_Sym **line = calloc(symbols->count + 1, sizeof(*line));
	uint64_t count = 0;
	int status;

	if (!line)
		return riffle_fail(error, RIFFLE_ERR_MEMORY, "System.map", "needs more memory than there is");
	for (uint64_t i = 0; i < symbols->count; i++)
		if (in_map(symbols, &symbols->symbol[i]))
			line[count++] = &symbols->symbol[i];
	qsort_r(line, count, sizeof *line, by_address, (void *)symbols);
	status = put_lines(symbols, line, count, fd, error);
	free(line);
	return status;
}
