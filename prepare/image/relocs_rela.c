/* SPDX-License-Identifier: Apache-2.0 */
/* Derives the relocation list from a vmlinux's .rela sections, as arch/x86/tools/relocs does at the kernel's build. */
#include <elf.h>
#include <stdlib.h>

#include "prepare/image/internal.h"

/* a distribution's kernel with debug information has about a million for its allocated sections */
#define RELA_MAX (UINT64_C(16) << 20)
#define SYMBOLS_MAX (UINT64_C(8) << 20) /* the same kernel has half a million */
#define PIECE 2048u
#define NO_SECTION UINT32_MAX

/* newer than Debian 12's elf.h knows in part */
#define REL_GOTPCREL 9u
#define REL_GOTPCRELX 41u
#define REL_REX_GOTPCRELX 42u

struct walk {
	struct riffle_image *image;
	const struct elf *elf;
	const struct image_source *source;

	uint32_t symbols_index; /* of the symbol table among the sections */
	const uint8_t *symbols;
	uint64_t symbol_count;
	const uint8_t *wide; /* SHT_SYMTAB_SHNDX: section numbers that do not fit st_shndx; NULL: none */

	uint32_t percpu;        /* section linked at address 0, or NO_SECTION */
	uint64_t percpu_offset; /* image offset of its first byte */
};

/* A section that relocations count for: part of the image, and no note (those speak to loaders: link addresses). */
static bool counts(const struct elf *elf, const struct elf_section *rela)
{
	const struct elf_section *target;

	if (rela->type != SHT_RELA || !rela->bytes || rela->info >= elf->section_count)
		return false;
	target = &elf->section[rela->info];
	return target->flags & SHF_ALLOC && target->type != SHT_NOTE;
}

bool image_has_rela(const struct elf *elf)
{
	uint32_t i;

	for (i = 0; i < elf->section_count; i++)
		if (counts(elf, &elf->section[i]) && elf->section[elf->section[i].info].flags & SHF_EXECINSTR)
			return true;
	return false;
}

static int check_rela(const struct walk *w, const struct elf_section *rela, struct riffle_error *error)
{
	if (rela->bytes % sizeof(Elf64_Rela))
		return riffle_fail_found(error, RIFFLE_ERR_FORMAT, ".rela sh_size", "is not made of whole entries",
					 rela->bytes);
	if (rela->link >= w->elf->section_count || w->elf->section[rela->link].type != SHT_SYMTAB)
		return riffle_fail_found(error, RIFFLE_ERR_FORMAT, ".rela sh_link", "is not a symbol table",
					 rela->link);
	return 0;
}

/* Finds the one symbol table that all .rela sections use, and takes room for as many relocations as there can be. */
static int survey(struct walk *w, struct riffle_error *error)
{
	struct riffle_image *image = w->image;
	uint64_t total = 0;
	uint32_t i;
	int status;

	w->symbols_index = NO_SECTION;
	for (i = 0; i < w->elf->section_count; i++) {
		const struct elf_section *s = &w->elf->section[i];

		if (!counts(w->elf, s))
			continue;
		status = check_rela(w, s, error);
		if (status)
			return status;
		if (w->symbols_index != NO_SECTION && w->symbols_index != s->link)
			return riffle_fail_expected(error, RIFFLE_ERR_UNSUPPORTED, ".rela sh_link",
						    "is another symbol table than before", s->link, w->symbols_index);
		w->symbols_index = s->link;
		total += s->bytes / sizeof(Elf64_Rela);
		if (total > w->source->bytes / sizeof(Elf64_Rela))
			return riffle_fail_expected(
			    error, RIFFLE_ERR_FORMAT, ".rela",
			    "sections overlap: they have more entries than the file has room for", total,
			    w->source->bytes / sizeof(Elf64_Rela));
		if (total > RELA_MAX)
			return riffle_fail_expected(error, RIFFLE_ERR_UNSUPPORTED, ".rela", "has too many entries",
						    total, RELA_MAX);
	}
	/* each list could be all of them; what is not written to takes no memory */
	image->reloc64.offset = image_alloc(image, total * sizeof(uint32_t), error);
	image->reloc32.offset = image_alloc(image, total * sizeof(uint32_t), error);
	image->reloc32_inverse.offset = image_alloc(image, total * sizeof(uint32_t), error);
	if (!image->reloc64.offset || !image->reloc32.offset || !image->reloc32_inverse.offset)
		return RIFFLE_ERR_MEMORY;
	return 0;
}

static int read_symbols(struct walk *w, struct riffle_error *error)
{
	const struct elf_section *s = &w->elf->section[w->symbols_index];
	uint8_t *bytes;
	uint32_t i;
	int status;

	w->symbol_count = s->bytes / sizeof(Elf64_Sym);
	if (w->symbol_count > SYMBOLS_MAX)
		return riffle_fail_expected(error, RIFFLE_ERR_UNSUPPORTED, ".symtab", "has too many symbols",
					    w->symbol_count, SYMBOLS_MAX);
	status = image_take(&bytes, w->image, w->source, s->offset, w->symbol_count * sizeof(Elf64_Sym), error);
	if (status)
		return status;
	w->symbols = bytes;
	for (i = 0; i < w->elf->section_count; i++) {
		s = &w->elf->section[i];
		if (s->type != SHT_SYMTAB_SHNDX || s->link != w->symbols_index)
			continue;
		if (s->bytes / 4 < w->symbol_count)
			return riffle_fail_expected(error, RIFFLE_ERR_FORMAT, ".symtab_shndx",
						    "is shorter than the symbol table", s->bytes / 4, w->symbol_count);
		status = image_take(&bytes, w->image, w->source, s->offset, w->symbol_count * 4, error);
		if (status)
			return status;
		w->wide = bytes;
		break;
	}
	return 0;
}

/*
 * Up to 6.14 the percpu section of SMP kernels is linked at 0, so that its symbols are offsets into a CPU's area; the
 * bytes lie at __per_cpu_load, which is where the segment at p_vaddr 0 has its p_paddr.
 */
static int find_percpu(struct walk *w, struct riffle_error *error)
{
	const struct riffle_image *image = w->image;
	uint32_t i;
	unsigned n;

	w->percpu = NO_SECTION;
	for (i = 0; i < w->elf->section_count; i++)
		if (w->elf->section[i].flags & SHF_ALLOC && w->elf->section[i].address == 0 &&
		    w->elf->section[i].bytes && !strcmp(image->section[i].name, ".data..percpu"))
			w->percpu = i;
	if (w->percpu == NO_SECTION)
		return 0;
	for (n = 0; n < image->segment_count; n++) {
		if (image->segment[n].virt != 0)
			continue;
		w->percpu_offset = image->segment[n].phys - image->link_phys;
		return 0;
	}
	return riffle_fail(error, RIFFLE_ERR_FORMAT, ".data..percpu", "is linked at 0 but in no segment");
}

struct target {
	bool defined;
	bool percpu;   /* an offset into a CPU's area: the same wherever the kernel lies */
	bool constant; /* absolute, and no address of the image */
};

static int look_up(const struct walk *w, uint64_t index, struct target *target, struct riffle_error *error)
{
	const struct riffle_image *image = w->image;
	Elf64_Sym symbol;
	uint32_t section;

	if (index >= w->symbol_count)
		return riffle_fail_expected(error, RIFFLE_ERR_FORMAT, ".rela r_info", "names no symbol", index,
					    w->symbol_count);
	memcpy(&symbol, w->symbols + index * sizeof symbol, sizeof symbol);
	section = symbol.st_shndx;
	if (section == SHN_XINDEX && w->wide)
		section = riffle_get32(w->wide + 4 * index);
	target->defined = symbol.st_shndx != SHN_UNDEF;
	/*
	 * Linkers count some symbols that are addresses into the percpu section (__per_cpu_load, __init_begin,
	 * init_per_cpu__*), and leave others absolute that belong to a section (_end, jiffies, the ends of tables);
	 * the kernel's tool knows them by name. Their values tell them as well, and from every version of the kernel:
	 * an address of the image is never an offset into percpu, a CRC, a type id or an offset into the vDSO.
	 */
	target->percpu = w->percpu != NO_SECTION && section == w->percpu && symbol.st_value < START_KERNEL_MAP;
	target->constant = symbol.st_shndx == SHN_ABS && (symbol.st_value < image->link_virt ||
							  symbol.st_value - image->link_virt > image->image_bytes);
	return 0;
}

/* Image offset of the field that r_offset names. */
static int field_offset(const struct walk *w, uint32_t target, uint64_t address, unsigned bytes, uint32_t *offset,
			struct riffle_error *error)
{
	const struct elf_section *s = &w->elf->section[target];
	uint64_t at;

	if (address < s->address || !riffle_inside(address - s->address, bytes, s->bytes))
		return riffle_fail_found(error, RIFFLE_ERR_FORMAT, ".rela r_offset", "lies outside its section",
					 address);
	at = target == w->percpu ? w->percpu_offset + address : address - w->image->link_virt;
	if (at >= GIB || !image_in_file_bytes(w->image, at, bytes))
		return riffle_fail_found(error, RIFFLE_ERR_FORMAT, "relocation",
					 "lies outside every segment's file bytes", address);
	*offset = (uint32_t)at;
	return 0;
}

static int one_rela(struct walk *w, uint32_t section, const Elf64_Rela *rela, struct riffle_error *error)
{
	uint32_t type = (uint32_t)ELF64_R_TYPE(rela->r_info);
	struct image_relocs *list = NULL;
	struct target target;
	uint32_t offset;
	int status;

	if (type == R_X86_64_NONE)
		return 0;
	status = look_up(w, ELF64_R_SYM(rela->r_info), &target, error);
	if (status)
		return status;
	if (!target.defined)
		return 0;
	switch (type) {
	case R_X86_64_64:
		if (!target.percpu && !target.constant)
			list = &w->image->reloc64;
		break;
	case R_X86_64_32:
	case R_X86_64_32S:
		if (!target.percpu && !target.constant)
			list = &w->image->reloc32;
		break;
	case R_X86_64_PC32:
	case R_X86_64_PLT32:
		/* the code moves, the percpu offset it reaches for does not */
		if (target.percpu)
			list = &w->image->reloc32_inverse;
		break;
	case R_X86_64_PC64:
		if (target.percpu)
			return riffle_fail_found(error, RIFFLE_ERR_UNSUPPORTED, ".rela r_info",
						 "is a 64-bit distance to a percpu symbol", rela->r_offset);
		break;
	case REL_GOTPCREL:
	case REL_GOTPCRELX:
	case REL_REX_GOTPCRELX:
		break; /* relaxed by the linker to a relative reference */
	default:
		return riffle_fail_found(error, RIFFLE_ERR_UNSUPPORTED, ".rela r_info",
					 "has a relocation type that no kernel uses", type);
	}
	if (!list)
		return 0;
	status = field_offset(w, section, rela->r_offset, type == R_X86_64_64 ? 8 : 4, &offset, error);
	if (!status)
		list->offset[list->count++] = offset;
	return status;
}

static int walk_section(struct walk *w, const struct elf_section *rela, struct riffle_error *error)
{
	uint64_t left = rela->bytes / sizeof(Elf64_Rela), at = rela->offset;
	Elf64_Rela piece[PIECE];
	int status = 0;

	while (left && !status) {
		uint64_t n = left < PIECE ? left : PIECE, i;

		status = image_source_read(w->source, at, piece, n * sizeof *piece, error);
		for (i = 0; i < n && !status; i++)
			status = one_rela(w, rela->info, &piece[i], error);
		at += n * sizeof *piece;
		left -= n;
	}
	return status;
}

static int ascending(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return (x > y) - (x < y);
}

static int sort(struct image_relocs *relocs, struct riffle_error *error)
{
	uint32_t i;

	qsort(relocs->offset, relocs->count, sizeof *relocs->offset, ascending);
	for (i = 1; i < relocs->count; i++)
		if (relocs->offset[i] == relocs->offset[i - 1])
			return riffle_fail_found(error, RIFFLE_ERR_FORMAT, ".rela", "relocates a field twice",
						 relocs->offset[i]);
	return 0;
}

int image_relocs_from_rela(struct riffle_image *image, const struct elf *elf, const struct image_source *source,
			   struct riffle_error *error)
{
	struct walk w = {.image = image, .elf = elf, .source = source};
	uint32_t i;
	int status;

	status = survey(&w, error);
	if (!status)
		status = read_symbols(&w, error);
	if (!status)
		status = find_percpu(&w, error);
	for (i = 0; i < elf->section_count && !status; i++)
		if (counts(elf, &elf->section[i]))
			status = walk_section(&w, &elf->section[i], error);
	if (!status)
		status = sort(&image->reloc64, error);
	if (!status)
		status = sort(&image->reloc32, error);
	if (!status)
		status = sort(&image->reloc32_inverse, error);
	if (status)
		return status;
	image->inverse_list = w.percpu != NO_SECTION;
	image->relocatable = true;
	return 0;
}
