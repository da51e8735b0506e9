/* SPDX-License-Identifier: Apache-2.0 */
/* The symbols of a guest's kernel from its own kallsyms, as a symbol table at the addresses that they have in the
 * guest. */
#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "cli/commands/running_symbols.h"
#include "common/fail.h"
#include "prepare/symbols/kallsyms.h"

static const char section_names[] = "\0.kernel";
enum { SECTION_KERNEL = 1, SECTIONS };

struct collector {
	struct running_symbols *symbols;
	const struct layout_file *layout;
	uint64_t room, names_room;
	bool out_of_memory;
};

static bool make_room(struct collector *c, size_t name_bytes)
{
	struct running_symbols *s = c->symbols;

	if (s->count == c->room) {
		uint64_t room = c->room ? 2 * c->room : 65536;
		Elf64_Sym *more = realloc(s->symbol, room * sizeof *more);

		if (!more)
			return false;
		s->symbol = more;
		c->room = room;
	}
	/* and one more: behind the names is a 0 */
	if (s->names_bytes + name_bytes + 1 > c->names_room) {
		uint64_t room = 2 * (c->names_room + name_bytes) + 65536;
		char *more = realloc(s->names, room);

		if (!more)
			return false;
		s->names = more;
		c->names_room = room;
	}
	return true;
}

/* Letters are nm's: capitals are global, t and w are code. What lies outside the image (percpu offsets) is left out. */
static void collect(void *opaque, uint64_t address, char type, const char *name)
{
	struct collector *c = opaque;
	struct running_symbols *s = c->symbols;
	size_t name_bytes = strlen(name) + 1;
	int letter = tolower((unsigned char)type);
	bool weak = letter == 'w' || letter == 'v';
	unsigned bind = weak ? STB_WEAK : isupper((unsigned char)type) ? STB_GLOBAL : STB_LOCAL;

	if (c->out_of_memory || address - c->layout->link_virtual > c->layout->image_bytes)
		return;
	if (!make_room(c, name_bytes)) {
		c->out_of_memory = true;
		return;
	}
	s->symbol[s->count++] = (Elf64_Sym){
	    .st_name = (Elf64_Word)s->names_bytes,
	    .st_info = (unsigned char)ELF64_ST_INFO(bind, letter == 't' || letter == 'w' ? STT_FUNC : STT_OBJECT),
	    .st_shndx = SECTION_KERNEL,
	    .st_value = address,
	};
	memcpy(s->names + s->names_bytes, name, name_bytes);
	s->names_bytes += name_bytes;
	s->names[s->names_bytes] = 0;
}

static int make_section(struct elf_file *file, const struct layout_file *layout, struct riffle_error *error)
{
	file->fd = -1;
	file->section = calloc(SECTIONS, sizeof *file->section);
	file->section_names = malloc(sizeof section_names);
	if (!file->section || !file->section_names)
		return riffle_fail(error, RIFFLE_ERR_MEMORY, "symbols", "need more memory than there is");
	memcpy(file->section_names, section_names, sizeof section_names);
	file->section_names_bytes = sizeof section_names;
	file->section_count = SECTIONS;
	file->section[SECTION_KERNEL] =
	    (Elf64_Shdr){.sh_name = 1,
			 .sh_type = SHT_NOBITS,
			 .sh_flags = SHF_ALLOC | SHF_WRITE | SHF_EXECINSTR,
			 .sh_addr = layout->link_virtual,
			 .sh_size = layout->image_bytes + layout_file_slide(layout, layout->image_bytes),
			 .sh_addralign = 1};
	return 0;
}

/* A symbol reaches to the next one, as far as kallsyms knows; where both lie as they were linked. */
static void give_sizes(struct running_symbols *symbols, const struct layout_file *layout)
{
	uint64_t end = layout->link_virtual + layout->image_bytes;

	for (uint64_t i = symbols->count; i-- > 0;) {
		Elf64_Sym *s = &symbols->symbol[i];

		if (i + 1 < symbols->count && symbols->symbol[i + 1].st_value > s->st_value)
			end = symbols->symbol[i + 1].st_value;
		s->st_size = end - s->st_value;
	}
}

static int collect_all(struct collector *c, const uint8_t *image, size_t bytes, struct riffle_error *error)
{
	struct kallsyms_place place;
	char *names;
	int status = kallsyms_find(&place, image, bytes, c->layout->link_virtual, error);

	/* offset 0 of a string table is no name */
	if (!status && !make_room(c, 1))
		return riffle_fail(error, RIFFLE_ERR_MEMORY, "symbols", "need more memory than there is");
	if (!status)
		c->symbols->names[c->symbols->names_bytes++] = 0;
	if (!status)
		status = kallsyms_read(&names, &place, image, bytes, c->layout->link_virtual, collect, c, error);
	if (status)
		return status;
	free(names);
	if (c->out_of_memory)
		return riffle_fail(error, RIFFLE_ERR_MEMORY, "symbols", "need more memory than there is");
	return 0;
}

int running_symbols_from_kallsyms(struct running_symbols *symbols, const uint8_t *image, size_t bytes,
				  const struct layout_file *layout, struct riffle_error *error)
{
	struct collector collector = {.symbols = symbols, .layout = layout};
	int status;

	*symbols = (struct running_symbols){0};
	status = make_section(&symbols->file, layout, error);
	if (!status)
		status = collect_all(&collector, image, bytes, error);
	if (status) {
		running_symbols_free(symbols);
		return status;
	}
	give_sizes(symbols, layout);
	running_symbols_move(symbols, layout);
	return 0;
}
