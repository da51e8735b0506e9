/* SPDX-License-Identifier: Apache-2.0 */
/* The relocations that a linker left in a debug vmlinux: of each field, which symbol it follows. */
#include <elf.h>
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "prepare/verify/internal.h"

#define BYTES_MAX (UINT64_C(1) << 28) /* of a section that is read whole */

struct debug {
	int fd;
	Elf64_Ehdr header;
	Elf64_Phdr *segment;
	Elf64_Shdr *section;
	char *names; /* of sections */
	uint64_t names_bytes;
	Elf64_Sym *symbol;
	uint64_t symbol_count;
};

static int read_at(const struct debug *d, uint64_t offset, void *to, uint64_t bytes, struct riffle_error *error)
{
	for (uint64_t done = 0; done < bytes;) {
		ssize_t n = pread(d->fd, (char *)to + done, bytes - done, (off_t)(offset + done));

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return riffle_fail_system(error, n < 0 ? errno : 0, "debug vmlinux",
						  "cannot be read, or is truncated");
		done += (uint64_t)n;
	}
	return 0;
}

/* Reads `bytes` bytes into new memory, with a NUL behind. */
static int read_new(const struct debug *d, uint64_t offset, uint64_t bytes, void *to, struct riffle_error *error)
{
	void *memory;
	int status;

	if (bytes > BYTES_MAX)
		return riffle_fail_expected(error, RIFFLE_ERR_FORMAT, "debug vmlinux", "has an absurd section", bytes,
					    BYTES_MAX);
	memory = calloc(bytes + 1, 1);
	if (!memory)
		return riffle_fail(error, RIFFLE_ERR_MEMORY, "debug vmlinux", "out of memory");
	status = read_at(d, offset, memory, bytes, error);
	if (status)
		free(memory);
	else
		memcpy(to, &memory, sizeof memory);
	return status;
}

static int read_tables(struct debug *d, struct riffle_error *error)
{
	const Elf64_Ehdr *h = &d->header;
	const Elf64_Shdr *s;
	int status = read_at(d, 0, &d->header, sizeof d->header, error);

	if (status)
		return status;
	if (memcmp(h->e_ident, ELFMAG, SELFMAG) || h->e_ident[EI_CLASS] != ELFCLASS64 || h->e_machine != EM_X86_64 ||
	    h->e_shentsize != sizeof *d->section || h->e_phentsize != sizeof *d->segment || h->e_shstrndx >= h->e_shnum)
		return riffle_fail(error, RIFFLE_ERR_FORMAT, "debug vmlinux", "is not an x86-64 ELF with sections");
	status = read_new(d, h->e_phoff, h->e_phnum * sizeof *d->segment, &d->segment, error);
	if (!status)
		status = read_new(d, h->e_shoff, h->e_shnum * sizeof *d->section, &d->section, error);
	if (status)
		return status;
	s = &d->section[h->e_shstrndx];
	d->names_bytes = s->sh_size;
	status = read_new(d, s->sh_offset, s->sh_size, &d->names, error);
	for (unsigned i = 0; i < h->e_shnum && !status; i++) {
		s = &d->section[i];
		if (s->sh_type != SHT_SYMTAB || d->symbol)
			continue;
		d->symbol_count = s->sh_size / sizeof *d->symbol;
		status = read_new(d, s->sh_offset, s->sh_size, &d->symbol, error);
	}
	return status;
}

/* A section's place in the image, by the segment that has its bytes: percpu ones are linked at 0. */
static bool section_offset(const struct verify *v, const struct debug *d, const Elf64_Shdr *s, uint32_t *offset)
{
	for (unsigned i = 0; i < d->header.e_phnum; i++) {
		const Elf64_Phdr *p = &d->segment[i];
		uint64_t at = s->sh_offset - p->p_offset + p->p_paddr - v->image->link_phys;

		if (p->p_type != PT_LOAD || s->sh_offset - p->p_offset >= p->p_filesz)
			continue;
		*offset = (uint32_t)at;
		return riffle_inside(at, s->sh_size, v->image_bytes);
	}
	return false;
}

/* The build sorts these after linking, so that relocations no longer say which entry is which. */
static bool is_sorted(const struct verify *v, uint32_t field)
{
	return field - v->extable.offset < v->extable.entries * 12 || field - v->orc.offset < v->orc.entries * 4 ||
	       field - v->orc.second < v->orc.entries * 6 || field - v->mcount.offset < v->mcount.entries * 8;
}

static int add(struct verify *v, const struct debug *d, const Elf64_Rela *rela, uint32_t field, bool code, uint8_t part,
	       struct riffle_error *error)
{
	const Elf64_Sym *symbol = &d->symbol[ELF64_R_SYM(rela->r_info)];
	bool of_section = ELF64_ST_TYPE(symbol->st_info) == STT_SECTION;
	uint64_t leads = symbol->st_value + (uint64_t)rela->r_addend, old;
	struct ref ref = {.field = field, .part = part, .rank = of_section ? RANK_RELA_SECTION : RANK_RELA};
	unsigned bytes = 4;

	switch (ELF64_R_TYPE(rela->r_info)) {
	case R_X86_64_PC32:
	case R_X86_64_PLT32:
		ref.kind = REF_PC32;
		break;
	case R_X86_64_64:
		ref.kind = REF_ABS64;
		bytes = 8;
		break;
	case R_X86_64_32:
	case R_X86_64_32S:
		ref.kind = REF_ABS32;
		break;
	default:
		return 0; /* 64 bits of distance between data */
	}
	if (!riffle_inside(field, bytes, v->image_bytes) || is_sorted(v, field))
		return 0;
	old = bytes == 8 ? riffle_get64(v->bytes + field) : riffle_get32(v->bytes + field);
	if (ref.kind == REF_PC32 ? (uint32_t)old != (uint32_t)(leads - rela->r_offset)
				 : (uint32_t)old != (uint32_t)leads)
		return riffle_fail_found(error, RIFFLE_ERR_FORMAT, ".rela", "does not say what the field holds",
					 v->link_virt + field);
	/* an instruction's symbol - 4 lies before the image where the symbol is _text */
	if (!verify_offset(v, leads, &ref.leads))
		ref.leads = v->link_virt - leads <= 8 ? (uint32_t)(leads - v->link_virt) : TARGET_IMAGE;
	if (of_section && code && ref.kind == REF_PC32)
		leads += 4;
	if (!verify_offset(v, of_section ? leads : symbol->st_value, &ref.target))
		ref.target = verify_is_inverse(v, field) ? TARGET_STAYS : TARGET_IMAGE;
	return verify_add_ref(v, &ref, error);
}

static int read_section(struct verify *v, const struct debug *d, const Elf64_Shdr *s, uint8_t part,
			struct riffle_error *error)
{
	const Elf64_Shdr *target;
	uint64_t count = s->sh_size / sizeof(Elf64_Rela);
	Elf64_Rela *rela;
	uint32_t offset;
	int status;

	if (s->sh_info >= d->header.e_shnum)
		return riffle_fail_found(error, RIFFLE_ERR_FORMAT, ".rela", "is about no section", s->sh_info);
	target = &d->section[s->sh_info];
	if (!(target->sh_flags & SHF_ALLOC) || target->sh_type != SHT_PROGBITS ||
	    !section_offset(v, d, target, &offset))
		return 0;
	status = read_new(d, s->sh_offset, s->sh_size, &rela, error);
	if (status)
		return status;
	for (uint64_t i = 0; i < count && !status; i++) {
		uint64_t at = rela[i].r_offset - target->sh_addr;

		if (ELF64_R_TYPE(rela[i].r_info) == R_X86_64_NONE)
			continue;
		if (ELF64_R_SYM(rela[i].r_info) >= d->symbol_count || at >= target->sh_size)
			status = riffle_fail_found(error, RIFFLE_ERR_FORMAT, ".rela",
						   "has an entry without symbol or place", i);
		else
			status =
			    add(v, d, &rela[i], offset + (uint32_t)at, IMAGE_IS_CODE(target->sh_flags), part, error);
	}
	free(rela);
	return status;
}

static int read_all(struct verify *v, const struct debug *d, struct riffle_error *error)
{
	uint8_t part;
	int status = verify_new_part(v, "rela", 0, 0, &part, error);

	for (unsigned i = 0; i < d->header.e_shnum && !status; i++)
		if (d->section[i].sh_type == SHT_RELA)
			status = read_section(v, d, &d->section[i], part, error);
	v->rela.present = v->part[part].fields > 0;
	return status;
}

int verify_read_rela(struct verify *v, int fd, struct riffle_error *error)
{
	struct debug d = {.fd = fd};
	int status = read_tables(&d, error);

	if (!status && d.symbol)
		status = read_all(v, &d, error);
	free(d.segment);
	free(d.section);
	free(d.names);
	free(d.symbol);
	return status;
}
