/* SPDX-License-Identifier: Apache-2.0 */
/* Reads an x86-64 kernel's ELF: headers, loadable segments, section table, build id; every number checked. */
#include <elf.h>
#include <stdlib.h>

#include "prepare/image/internal.h"
#include "stage/stage.h"

#define PROGRAM_HEADERS_MAX 64u
#define SECTIONS_MAX (1u << 20) /* -ffunction-sections gives 84 thousand */
#define SECTION_NAMES_MAX (64 * MIB)
#define NOTES_MAX 4096u /* a kernel's are an eighth of that */

static int check_ident(const Elf64_Ehdr *h, struct riffle_error *error)
{
	if (memcmp(h->e_ident, ELFMAG, SELFMAG) != 0)
		return riffle_fail(error, RIFFLE_ERR_FORMAT, "e_ident", "is not that of an ELF file");
	/*
	 * checked first: it is the most helpful error for another machine's kernel, whose class or byte order may
	 * differ as well
	 */
	if (h->e_ident[EI_DATA] == ELFDATA2LSB && h->e_machine != EM_X86_64)
		return riffle_fail_expected(error, RIFFLE_ERR_UNSUPPORTED, "e_machine", image_elf_machine(h->e_machine),
					    h->e_machine, EM_X86_64);
	if (h->e_ident[EI_CLASS] != ELFCLASS64)
		return riffle_fail_expected(error, RIFFLE_ERR_UNSUPPORTED, "EI_CLASS", "is not that of a 64-bit file",
					    h->e_ident[EI_CLASS], ELFCLASS64);
	if (h->e_ident[EI_DATA] != ELFDATA2LSB)
		return riffle_fail_expected(error, RIFFLE_ERR_UNSUPPORTED, "EI_DATA", "is not little-endian",
					    h->e_ident[EI_DATA], ELFDATA2LSB);
	if (h->e_ident[EI_VERSION] != EV_CURRENT || h->e_version != EV_CURRENT)
		return riffle_fail_expected(error, RIFFLE_ERR_UNSUPPORTED, "e_version", "is unknown", h->e_version,
					    EV_CURRENT);
	if (h->e_type != ET_EXEC)
		return riffle_fail_expected(error, RIFFLE_ERR_UNSUPPORTED, "e_type", image_elf_type(h->e_type),
					    h->e_type, ET_EXEC);
	return 0;
}

static int check_tables(const Elf64_Ehdr *h, uint64_t file_bytes, struct riffle_error *error)
{
	if (h->e_ehsize != sizeof(Elf64_Ehdr))
		return riffle_fail_expected(error, RIFFLE_ERR_FORMAT, "e_ehsize", "is not the header's size",
					    h->e_ehsize, sizeof(Elf64_Ehdr));
	if (h->e_phentsize != sizeof(Elf64_Phdr))
		return riffle_fail_expected(error, RIFFLE_ERR_FORMAT, "e_phentsize", "is not a program header's size",
					    h->e_phentsize, sizeof(Elf64_Phdr));
	if (h->e_phnum == 0 || h->e_phnum > PROGRAM_HEADERS_MAX)
		return riffle_fail_expected(error, RIFFLE_ERR_FORMAT, "e_phnum", "is not that of a kernel", h->e_phnum,
					    PROGRAM_HEADERS_MAX);
	if (!riffle_inside(h->e_phoff, h->e_phnum * sizeof(Elf64_Phdr), file_bytes))
		return riffle_fail_expected(error, RIFFLE_ERR_FORMAT, "e_phoff", "leads past the end of the file",
					    h->e_phoff, file_bytes);
	return 0;
}

static void reach(struct elf *elf, uint64_t end)
{
	if (end > elf->end)
		elf->end = end;
}

static int check_load(const Elf64_Phdr *p, uint64_t file_bytes, struct riffle_error *error)
{
	uint64_t end;

	if (p->p_filesz > p->p_memsz)
		return riffle_fail_expected(error, RIFFLE_ERR_FORMAT, "p_filesz", "is larger than p_memsz", p->p_filesz,
					    p->p_memsz);
	if (!riffle_inside(p->p_offset, p->p_filesz, file_bytes))
		return riffle_fail_expected(error, RIFFLE_ERR_FORMAT, "p_offset + p_filesz",
					    "reach past the end of the file", p->p_offset + p->p_filesz, file_bytes);
	if (p->p_paddr >= START_KERNEL_MAP)
		return riffle_fail_found(error, RIFFLE_ERR_UNSUPPORTED, "p_paddr",
					 "is a virtual address where a kernel has its physical one", p->p_paddr);
	if (__builtin_add_overflow(p->p_paddr, p->p_memsz, &end))
		return riffle_fail_found(error, RIFFLE_ERR_FORMAT, "p_paddr + p_memsz", "wrap around", p->p_paddr);
	if (end > GIB)
		return riffle_fail_expected(error, RIFFLE_ERR_UNSUPPORTED, "p_paddr + p_memsz",
					    "reach past the window a kernel has", end, GIB);
	return 0;
}

static int by_phys(const void *a, const void *b)
{
	const struct image_segment *x = a, *y = b;

	return (x->phys > y->phys) - (x->phys < y->phys);
}

/* Checks the segments' places against each other and computes the image's bounds. */
static int place_segments(struct riffle_image *image, struct riffle_error *error)
{
	const struct image_segment *s = image->segment;
	unsigned i, at_zero = 0;

	if (!image->segment_count)
		return riffle_fail(error, RIFFLE_ERR_FORMAT, "PT_LOAD", "is missing: there is nothing to load");
	qsort(image->segment, image->segment_count, sizeof *s, by_phys);
	image->link_phys = s[0].phys;
	image->link_virt = START_KERNEL_MAP + image->link_phys;
	if (image->link_phys % MIN_KERNEL_ALIGN)
		return riffle_fail_expected(error, RIFFLE_ERR_FORMAT, "p_paddr", "is not a multiple of 2 MiB",
					    image->link_phys, MIN_KERNEL_ALIGN);
	for (i = 0; i < image->segment_count; i++) {
		uint64_t virt = START_KERNEL_MAP + s[i].phys;

		if (i && s[i].phys < s[i - 1].phys + s[i - 1].memory_bytes)
			return riffle_fail_expected(error, RIFFLE_ERR_FORMAT, "p_paddr", "overlaps another segment",
						    s[i].phys, s[i - 1].phys + s[i - 1].memory_bytes);
		/* up to 6.14 an SMP kernel's percpu segment is linked at 0 (arch/x86/kernel/vmlinux.lds.S) */
		if (i && s[i].virt == 0) {
			if (at_zero++)
				return riffle_fail(error, RIFFLE_ERR_FORMAT, "p_vaddr", "is 0 in two segments");
		} else if (s[i].virt != virt) {
			return riffle_fail_expected(error, RIFFLE_ERR_UNSUPPORTED, "p_vaddr",
						    "is not the kernel's address for this p_paddr", s[i].virt, virt);
		}
	}
	s += image->segment_count - 1;
	image->image_bytes = s->phys + s->memory_bytes - image->link_phys;
	return 0;
}

/* The largest power of two from 2 to 16 MiB that divides the load address and does not exceed p_align. */
static uint64_t alignment(uint64_t link_phys, uint64_t p_align)
{
	uint64_t align = MIN_KERNEL_ALIGN;

	while (align < MAX_KERNEL_ALIGN && link_phys % (2 * align) == 0 && 2 * align <= p_align)
		align *= 2;
	return align;
}

/* elf(5): a note is three words, then name and descriptor, each padded to words. Invalid ones are skipped. */
static void find_build_id(struct riffle_image *image, const uint8_t *notes, uint64_t bytes)
{
	uint64_t at = 0;

	while (riffle_inside(at, sizeof(Elf64_Nhdr), bytes)) {
		Elf64_Nhdr n;
		uint64_t name = at + sizeof n, desc;

		memcpy(&n, notes + at, sizeof n);
		desc = name + (((uint64_t)n.n_namesz + 3) & ~UINT64_C(3));
		if (!riffle_inside(desc, n.n_descsz, bytes))
			return;
		if (n.n_type == NT_GNU_BUILD_ID && n.n_namesz == 4 && !memcmp(notes + name, "GNU", 4) && n.n_descsz &&
		    n.n_descsz <= sizeof image->build_id) {
			memcpy(image->build_id, notes + desc, n.n_descsz);
			image->build_id_bytes = n.n_descsz;
			return;
		}
		at = desc + (((uint64_t)n.n_descsz + 3) & ~UINT64_C(3));
	}
}

static int read_notes(struct riffle_image *image, const struct image_source *source, uint64_t offset, uint64_t bytes,
		      struct riffle_error *error)
{
	uint8_t notes[NOTES_MAX];
	int status;

	if (image->build_id_bytes)
		return 0;
	if (!riffle_inside(offset, bytes, source->bytes))
		return riffle_fail_expected(error, RIFFLE_ERR_FORMAT, "PT_NOTE", "reaches past the end of the file",
					    offset + bytes, source->bytes);
	if (bytes > sizeof notes)
		bytes = sizeof notes;
	status = image_source_read(source, offset, notes, bytes, error);
	if (!status)
		find_build_id(image, notes, bytes);
	return status;
}

static int read_segments(struct riffle_image *image, struct elf *elf, const Elf64_Ehdr *h,
			 const struct image_source *source, struct riffle_error *error)
{
	uint64_t lowest = UINT64_MAX, lowest_align = 0;
	Elf64_Phdr p[PROGRAM_HEADERS_MAX];
	unsigned i, n = 0;
	int status;

	status = image_source_read(source, h->e_phoff, p, h->e_phnum * sizeof *p, error);
	if (status)
		return status;
	image->segment = image_alloc(image, h->e_phnum * sizeof *image->segment, error);
	if (!image->segment)
		return RIFFLE_ERR_MEMORY;
	for (i = 0; i < h->e_phnum; i++) {
		if (p[i].p_type != PT_LOAD || !p[i].p_memsz)
			continue;
		status = check_load(&p[i], source->bytes, error);
		if (status)
			return status;
		image->segment[n++] = (struct image_segment){.virt = p[i].p_vaddr,
							     .phys = p[i].p_paddr,
							     .file_bytes = p[i].p_filesz,
							     .memory_bytes = p[i].p_memsz,
							     .flags = p[i].p_flags,
							     .bytes = NULL};
		if (p[i].p_paddr < lowest) {
			lowest = p[i].p_paddr;
			lowest_align = p[i].p_align;
		}
	}
	image->segment_count = n;
	/* made by kernel/boot_elf.c; no kernel is linked so low */
	if (lowest == STAGE_ELF_BASE && h->e_entry == STAGE_ELF_BASE + STAGE_ENTRY_64)
		return riffle_fail(error, RIFFLE_ERR_UNSUPPORTED, "e_entry",
				   "is that of riffle's own loader: the file was made by prepare --bootstrap --elf or "
				   "by emit, for other monitors; all else is done with the kernel it was made of");
	status = place_segments(image, error);
	if (status)
		return status;
	image->kernel_alignment = alignment(lowest, lowest_align);

	/* memory is allocated only now that the segments are known to be disjoint and below 1 GiB */
	for (i = 0; i < h->e_phnum; i++) {
		if (riffle_inside(p[i].p_offset, p[i].p_filesz, source->bytes))
			reach(elf, p[i].p_offset + p[i].p_filesz);
		if (p[i].p_type == PT_NOTE) {
			status = read_notes(image, source, p[i].p_offset, p[i].p_filesz, error);
			if (status)
				return status;
		}
		for (n = 0; p[i].p_type == PT_LOAD && n < image->segment_count; n++) {
			struct image_segment *s = &image->segment[n];

			if (s->phys != p[i].p_paddr || !p[i].p_memsz)
				continue;
			status = image_take(&s->bytes, image, source, p[i].p_offset, s->file_bytes, error);
			if (status)
				return status;
		}
	}
	return 0;
}

/* e_shnum and e_shstrndx, or their replacements in section 0 if there are too many sections for 16 bits */
static int section_numbers(uint64_t *count, uint32_t *names, const Elf64_Ehdr *h, const struct image_source *source,
			   struct riffle_error *error)
{
	Elf64_Shdr zero;
	int status;

	*count = h->e_shnum;
	*names = h->e_shstrndx;
	if (h->e_shentsize != sizeof zero)
		return riffle_fail_expected(error, RIFFLE_ERR_FORMAT, "e_shentsize", "is not a section header's size",
					    h->e_shentsize, sizeof zero);
	if (!riffle_inside(h->e_shoff, sizeof zero, source->bytes))
		return riffle_fail_expected(error, RIFFLE_ERR_FORMAT, "e_shoff", "leads past the end of the file",
					    h->e_shoff, source->bytes);
	if (*count == 0 || *names == SHN_XINDEX) {
		status = image_source_read(source, h->e_shoff, &zero, sizeof zero, error);
		if (status)
			return status;
		if (*count == 0)
			*count = zero.sh_size;
		if (*names == SHN_XINDEX)
			*names = zero.sh_link;
	}
	if (*count == 0 || *count > SECTIONS_MAX)
		return riffle_fail_expected(error, RIFFLE_ERR_FORMAT, "e_shnum", "is not a kernel's", *count,
					    SECTIONS_MAX);
	if (!riffle_inside(h->e_shoff, *count * sizeof zero, source->bytes))
		return riffle_fail_expected(error, RIFFLE_ERR_FORMAT, "e_shoff + e_shnum",
					    "reach past the end of the file", h->e_shoff + *count * sizeof zero,
					    source->bytes);
	if (*names >= *count)
		return riffle_fail_expected(error, RIFFLE_ERR_FORMAT, "e_shstrndx", "is not one of the sections",
					    *names, *count);
	return 0;
}

static int read_section_headers(struct riffle_image *image, struct elf *elf, const Elf64_Ehdr *h, uint64_t count,
				const struct image_source *source, struct riffle_error *error)
{
	uint8_t *raw;
	uint64_t i;
	int status;

	status = image_take(&raw, image, source, h->e_shoff, count * sizeof(Elf64_Shdr), error);
	if (status)
		return status;
	elf->section = image_alloc(image, count * sizeof *elf->section, error);
	if (!elf->section)
		return RIFFLE_ERR_MEMORY;
	for (i = 0; i < count; i++) {
		Elf64_Shdr s;

		memcpy(&s, raw + i * sizeof s, sizeof s);
		if (i && s.sh_type != SHT_NOBITS && s.sh_type != SHT_NULL) {
			if (!riffle_inside(s.sh_offset, s.sh_size, source->bytes))
				return riffle_fail_expected(error, RIFFLE_ERR_FORMAT, "sh_offset + sh_size",
							    "reach past the end of the file", s.sh_offset + s.sh_size,
							    source->bytes);
			reach(elf, s.sh_offset + s.sh_size);
		}
		elf->section[i] = (struct elf_section){.name = s.sh_name,
						       .type = s.sh_type,
						       .flags = s.sh_flags,
						       .address = s.sh_addr,
						       .offset = s.sh_offset,
						       .bytes = s.sh_size,
						       .link = s.sh_link,
						       .info = s.sh_info,
						       .align = s.sh_addralign};
	}
	elf->section_count = (uint32_t)count;
	reach(elf, h->e_shoff + count * sizeof(Elf64_Shdr));
	return 0;
}

static int name_sections(struct riffle_image *image, const struct elf *elf, uint32_t names,
			 const struct image_source *source, struct riffle_error *error)
{
	const struct elf_section *table = &elf->section[names];
	uint8_t *text;
	uint32_t i;
	int status;

	if (table->type != SHT_STRTAB || !table->bytes)
		return riffle_fail_found(error, RIFFLE_ERR_FORMAT, "e_shstrndx", "is not a string table", names);
	if (table->bytes > SECTION_NAMES_MAX)
		return riffle_fail_expected(error, RIFFLE_ERR_UNSUPPORTED, "section names", "are too long",
					    table->bytes, SECTION_NAMES_MAX);
	status = image_take(&text, image, source, table->offset, table->bytes, error);
	if (status)
		return status;
	if (text[table->bytes - 1] != 0)
		return riffle_fail(error, RIFFLE_ERR_FORMAT, "section names", "do not end with a NUL");
	image->section = image_alloc(image, elf->section_count * sizeof *image->section, error);
	if (!image->section)
		return RIFFLE_ERR_MEMORY;
	for (i = 0; i < elf->section_count; i++) {
		const struct elf_section *s = &elf->section[i];

		if (s->name >= table->bytes)
			return riffle_fail_expected(error, RIFFLE_ERR_FORMAT, "sh_name", "leads past the section names",
						    s->name, table->bytes);
		image->section[i] = (struct image_section){.name = (const char *)text + s->name,
							   .address = s->address,
							   .bytes = s->bytes,
							   .flags = s->flags,
							   .align = s->align,
							   .type = s->type};
	}
	image->section_count = elf->section_count;
	return 0;
}

static int read_sections(struct riffle_image *image, struct elf *elf, const Elf64_Ehdr *h,
			 const struct image_source *source, struct riffle_error *error)
{
	uint64_t count;
	uint32_t names, i;
	int status;

	if (!h->e_shoff)
		return 0;
	status = section_numbers(&count, &names, h, source, error);
	if (!status)
		status = read_section_headers(image, elf, h, count, source, error);
	if (!status)
		status = name_sections(image, elf, names, source, error);
	for (i = 0; !status && i < elf->section_count; i++)
		if (elf->section[i].type == SHT_NOTE && elf->section[i].flags & SHF_ALLOC)
			status = read_notes(image, source, elf->section[i].offset, elf->section[i].bytes, error);
	return status;
}

bool image_in_file_bytes(const struct riffle_image *image, uint64_t offset, uint64_t bytes)
{
	unsigned i;

	for (i = 0; i < image->segment_count; i++) {
		uint64_t start = image->segment[i].phys - image->link_phys;

		if (offset >= start && riffle_inside(offset - start, bytes, image->segment[i].file_bytes))
			return true;
	}
	return false;
}

int image_elf_read(struct riffle_image *image, struct elf *elf, const struct image_source *source,
		   struct riffle_error *error)
{
	Elf64_Ehdr h;
	int status;

	memset(elf, 0, sizeof *elf);
	if (source->bytes < sizeof h)
		return riffle_fail_expected(error, RIFFLE_ERR_FORMAT, "ELF header", "is cut off", source->bytes,
					    sizeof h);
	status = image_source_read(source, 0, &h, sizeof h, error);
	if (!status)
		status = check_ident(&h, error);
	if (!status)
		status = check_tables(&h, source->bytes, error);
	if (status)
		return status;
	reach(elf, sizeof h);
	reach(elf, h.e_phoff + h.e_phnum * sizeof(Elf64_Phdr));
	status = read_segments(image, elf, &h, source, error);
	if (!status)
		status = read_sections(image, elf, &h, source, error);
	if (status)
		return status;
	/* e_entry is physical (vmlinux.lds.S: phys_startup_64); since 6.17 it need not be the image's first byte */
	if (h.e_entry < image->link_phys || !image_in_file_bytes(image, h.e_entry - image->link_phys, 1))
		return riffle_fail_found(error, RIFFLE_ERR_FORMAT, "e_entry", "lies outside every segment's file bytes",
					 h.e_entry);
	image->entry_offset = h.e_entry - image->link_phys;
	return 0;
}
