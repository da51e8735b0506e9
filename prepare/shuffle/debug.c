/* SPDX-License-Identifier: Apache-2.0 */
/* Opens a debug vmlinux, holds it against the image it is said to belong to, and reads its symbols and relocations. */
#include "prepare/shuffle/debug.h"

#include <elf.h>
#include <stdlib.h>

#include "prepare/image/internal.h"

/* a distribution's kernel has half a million of the first, and one and a half of the second */
#define SYMBOLS_MAX (UINT64_C(8) << 20)
#define RELA_MAX (UINT64_C(16) << 20)
#define NAME_MAX 4096u /* the kernel takes 512, KSYM_NAME_LEN */
#define NAMES_MAX (UINT64_C(1) << 30)
#define PIECE 2048u

/* The debug vmlinux while it is read; of it only the symbols and relocations stay. */
struct opening {
	struct shuffle_debug *debug;
	const struct riffle_image *image; /* the kernel to be shuffled */
	struct riffle_image *own;         /* the debug vmlinux, as an image */
	struct image_source source;
	struct elf elf;
	uint32_t symtab;        /* section number; 0: none */
	uint32_t percpu_offset; /* image offset of what is linked at 0 */
};

static int of_another_build(const char *field, const char *problem, uint64_t found, struct riffle_error *error)
{
	return riffle_fail_found(error, RIFFLE_ERR_FORMAT, field, problem, found);
}

static int compare(const struct opening *o, struct riffle_error *error)
{
	const struct riffle_image *a = o->image, *b = o->own;

	if (a->build_id_bytes != b->build_id_bytes || memcmp(a->build_id, b->build_id, a->build_id_bytes))
		return riffle_fail(error, RIFFLE_ERR_FORMAT, "debug vmlinux",
				   "is of another build than the kernel: their build ids differ");
	if (a->segment_count != b->segment_count)
		return riffle_fail_expected(error, RIFFLE_ERR_FORMAT, "debug vmlinux",
					    "has another number of segments than the kernel", b->segment_count,
					    a->segment_count);
	for (unsigned i = 0; i < a->segment_count; i++) {
		const struct image_segment *s = &a->segment[i], *t = &b->segment[i];

		if (s->phys != t->phys || s->virt != t->virt || s->file_bytes != t->file_bytes ||
		    s->memory_bytes != t->memory_bytes)
			return of_another_build("debug vmlinux", "has a segment elsewhere than the kernel", t->virt,
						error);
		if (!memcmp(s->bytes, t->bytes, s->file_bytes))
			continue;
		for (uint64_t at = 0; at < s->file_bytes; at++)
			if (s->bytes[at] != t->bytes[at])
				return of_another_build("debug vmlinux", "has another byte than the kernel",
							a->link_virt + s->phys - a->link_phys + at, error);
	}
	return 0;
}

/* What nm would print: the kind of the symbol's section, in capitals when it is global. */
static char letter_of(const struct opening *o, const Elf64_Sym *symbol)
{
	const struct elf_section *s;
	unsigned bind = ELF64_ST_BIND(symbol->st_info);
	char letter;

	if (symbol->st_shndx == SHN_UNDEF)
		return 'U';
	if (bind == STB_WEAK)
		return ELF64_ST_TYPE(symbol->st_info) == STT_OBJECT ? 'V' : 'W';
	if (symbol->st_shndx >= SHN_LORESERVE || symbol->st_shndx >= o->elf.section_count) {
		letter = 'A';
	} else {
		s = &o->elf.section[symbol->st_shndx];
		letter = s->flags & SHF_EXECINSTR ? 'T'
			 : s->type == SHT_NOBITS  ? 'B'
			 : s->flags & SHF_WRITE   ? 'D'
						  : 'R';
	}
	return bind == STB_LOCAL ? (char)(letter | 0x20) : letter;
}

static int read_names(struct opening *o, const struct elf_section *symtab, struct riffle_error *error)
{
	struct shuffle_debug *debug = o->debug;
	const struct elf_section *strtab;

	if (symtab->link >= o->elf.section_count)
		return of_another_build(".symtab sh_link", "is no section", symtab->link, error);
	strtab = &o->elf.section[symtab->link];
	if (strtab->type != SHT_STRTAB || !strtab->bytes || strtab->bytes > NAMES_MAX)
		return of_another_build(".strtab", "is not a string table, or too long", strtab->bytes, error);
	debug->names = malloc(strtab->bytes);
	if (!debug->names)
		return riffle_fail_found(error, RIFFLE_ERR_MEMORY, ".strtab", "needs more memory than there is",
					 strtab->bytes);
	debug->names_bytes = strtab->bytes;
	if (image_source_read(&o->source, strtab->offset, debug->names, strtab->bytes, error))
		return (int)error->status;
	if (debug->names[strtab->bytes - 1])
		return riffle_fail(error, RIFFLE_ERR_FORMAT, ".strtab", "does not end with NUL");
	return 0;
}

static int read_symbols(struct opening *o, struct riffle_error *error)
{
	const struct elf_section *symtab = &o->elf.section[o->symtab];
	struct shuffle_debug *debug = o->debug;
	uint64_t count = symtab->bytes / sizeof(Elf64_Sym);
	Elf64_Sym piece[PIECE];
	int status;

	if (!count || count > SYMBOLS_MAX)
		return riffle_fail_expected(error, RIFFLE_ERR_FORMAT, ".symtab", "is empty or too long", count,
					    SYMBOLS_MAX);
	status = read_names(o, symtab, error);
	if (status)
		return status;
	debug->symbol = calloc(count, sizeof *debug->symbol);
	if (!debug->symbol)
		return riffle_fail_found(error, RIFFLE_ERR_MEMORY, ".symtab", "needs more memory than there is", count);
	for (uint64_t at = 0; at < count; at += PIECE) {
		uint64_t n = count - at < PIECE ? count - at : PIECE;

		status =
		    image_source_read(&o->source, symtab->offset + at * sizeof *piece, piece, n * sizeof *piece, error);
		if (status)
			return status;
		for (uint64_t i = 0; i < n; i++) {
			const Elf64_Sym *s = &piece[i];

			if (s->st_name >= debug->names_bytes)
				return of_another_build(".symtab st_name", "leads past the names", s->st_name, error);
			/* names are compared, and may all lie over each other in one long string */
			if (strnlen(debug->names + s->st_name, NAME_MAX) == NAME_MAX)
				return of_another_build(".symtab st_name", "is too long", s->st_name, error);
			debug->symbol[debug->symbol_count++] = (struct debug_symbol){
			    .address = s->st_value,
			    .bytes = s->st_size,
			    .name = debug->names + s->st_name,
			    .type = ELF64_ST_TYPE(s->st_info),
			    .bind = ELF64_ST_BIND(s->st_info),
			    .section = s->st_shndx,
			    .letter = letter_of(o, s),
			};
		}
	}
	return 0;
}

/* Relocations of something that is loaded; notes speak of link addresses, and nothing is to be done to them. */
static bool counts(const struct opening *o, const struct elf_section *rela)
{
	const struct elf_section *target;

	if (rela->type != SHT_RELA || !rela->bytes || rela->info >= o->elf.section_count || rela->link != o->symtab)
		return false;
	target = &o->elf.section[rela->info];
	return target->flags & SHF_ALLOC && target->type != SHT_NOTE;
}

static int add_rela(struct opening *o, const struct elf_section *target, const Elf64_Rela *r,
		    struct riffle_error *error)
{
	struct shuffle_debug *debug = o->debug;
	uint32_t type = (uint32_t)ELF64_R_TYPE(r->r_info);
	uint64_t at, symbol = ELF64_R_SYM(r->r_info);

	if (type == R_X86_64_NONE)
		return 0;
	if (symbol >= debug->symbol_count)
		return riffle_fail_expected(error, RIFFLE_ERR_FORMAT, ".rela r_info", "names no symbol", symbol,
					    debug->symbol_count);
	if (r->r_offset < target->address || r->r_offset - target->address >= target->bytes)
		return of_another_build(".rela r_offset", "lies outside its section", r->r_offset, error);
	at = target->address ? r->r_offset - o->image->link_virt : o->percpu_offset + r->r_offset;
	if (!riffle_inside(at, 8, o->image->image_bytes))
		return of_another_build(".rela r_offset", "lies outside the image", r->r_offset, error);
	debug->rela[debug->rela_count++] =
	    (struct debug_rela){.field = (uint32_t)at, .type = type, .symbol = (uint32_t)symbol, .addend = r->r_addend};
	return 0;
}

static int read_rela_section(struct opening *o, const struct elf_section *rela, struct riffle_error *error)
{
	const struct elf_section *target = &o->elf.section[rela->info];
	uint64_t count = rela->bytes / sizeof(Elf64_Rela);
	Elf64_Rela piece[PIECE];
	int status = 0;

	if (target->flags & SHF_EXECINSTR && !strcmp(o->own->section[rela->info].name, ".text"))
		o->debug->has_rela = true;
	for (uint64_t at = 0; at < count && !status; at += PIECE) {
		uint64_t n = count - at < PIECE ? count - at : PIECE;

		status =
		    image_source_read(&o->source, rela->offset + at * sizeof *piece, piece, n * sizeof *piece, error);
		for (uint64_t i = 0; i < n && !status; i++)
			status = add_rela(o, target, &piece[i], error);
	}
	return status;
}

static int by_field(const void *a, const void *b)
{
	const struct debug_rela *x = a, *y = b;

	return x->field < y->field ? -1 : x->field > y->field;
}

static int read_rela(struct opening *o, struct riffle_error *error)
{
	struct shuffle_debug *debug = o->debug;
	uint64_t total = 0;
	int status = 0;

	for (uint32_t i = 0; i < o->elf.section_count; i++)
		if (counts(o, &o->elf.section[i]))
			total += o->elf.section[i].bytes / sizeof(Elf64_Rela);
	if (!total)
		return 0;
	if (total > o->source.bytes / sizeof(Elf64_Rela))
		return riffle_fail_expected(error, RIFFLE_ERR_FORMAT, ".rela",
					    "sections overlap: they have more entries than the file has room for",
					    total, o->source.bytes / sizeof(Elf64_Rela));
	if (total > RELA_MAX)
		return riffle_fail_expected(error, RIFFLE_ERR_UNSUPPORTED, ".rela", "has too many entries", total,
					    RELA_MAX);
	debug->rela = malloc(total * sizeof *debug->rela);
	if (!debug->rela)
		return riffle_fail_found(error, RIFFLE_ERR_MEMORY, ".rela", "needs more memory than there is", total);
	for (uint32_t i = 0; i < o->elf.section_count && !status; i++)
		if (counts(o, &o->elf.section[i]))
			status = read_rela_section(o, &o->elf.section[i], error);
	if (!status)
		qsort(debug->rela, debug->rela_count, sizeof *debug->rela, by_field);
	return status;
}

/* The symbol table, and the section linked at 0 that percpu symbols are offsets into. */
static int find_sections(struct opening *o, struct riffle_error *error)
{
	for (uint32_t i = 1; i < o->elf.section_count; i++) {
		const struct elf_section *s = &o->elf.section[i];

		if (s->type == SHT_SYMTAB && !o->symtab)
			o->symtab = i;
		if (s->flags & SHF_ALLOC && s->bytes && !s->address)
			o->debug->percpu_section = (uint16_t)i;
	}
	if (!o->symtab)
		return riffle_fail(error, RIFFLE_ERR_FORMAT, "debug vmlinux", "has no symbols: it was stripped");
	for (unsigned i = 0; i < o->image->segment_count; i++)
		if (!o->image->segment[i].virt)
			o->percpu_offset = (uint32_t)(o->image->segment[i].phys - o->image->link_phys);
	return 0;
}

static int read_all(struct opening *o, int fd, struct riffle_error *error)
{
	int status = image_source_open(&o->source, fd, "debug vmlinux", NULL, error);

	if (!status)
		status = image_elf_read(o->own, &o->elf, &o->source, error);
	if (!status)
		status = compare(o, error);
	if (!status)
		status = find_sections(o, error);
	if (!status)
		status = read_symbols(o, error);
	if (!status)
		status = read_rela(o, error);
	return status ? status : image_source_unchanged(&o->source, error);
}

int shuffle_debug_open(struct shuffle_debug **debug, const struct riffle_image *image, int fd,
		       struct riffle_error *error)
{
	struct opening o = {.image = image};
	struct riffle_error unused;
	int status;

	*debug = NULL;
	o.debug = calloc(1, sizeof *o.debug);
	o.own = calloc(1, sizeof *o.own);
	status = o.debug && o.own
		     ? read_all(&o, fd, error ? error : &unused)
		     : riffle_fail(error, RIFFLE_ERR_MEMORY, "debug vmlinux", "needs more memory than there is");
	riffle_image_close(o.own);
	if (status) {
		shuffle_debug_close(o.debug);
		return status;
	}
	*debug = o.debug;
	return 0;
}

void shuffle_debug_close(struct shuffle_debug *debug)
{
	if (!debug)
		return;
	free(debug->symbol);
	free(debug->names);
	free(debug->rela);
	free(debug);
}
