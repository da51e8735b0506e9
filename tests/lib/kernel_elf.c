/* SPDX-License-Identifier: Apache-2.0 */
/* A small kernel's ELF: program headers as vmlinux.lds.S makes them, and on demand .rela sections with their traps. */
#include <stdlib.h>
#include <string.h>

#include "tests/lib/kernel_parts.h"

enum {
	SECTION_NULL,
	SECTION_TEXT,
	SECTION_DATA,
	SECTION_NOTES,
	SECTION_PERCPU,
	SECTION_INIT,
	SECTION_BSS,
	SECTION_SHSTRTAB,
	SECTION_STRIPPED, /* how many objcopy -S leaves */
	SECTION_RELA_TEXT = SECTION_STRIPPED,
	SECTION_RELA_DATA,
	SECTION_RELA_NOTES,
	SECTION_RELA_PERCPU,
	SECTION_RELA_INIT,
	SECTION_DEBUG,
	SECTION_RELA_DEBUG,
	SECTION_SYMTAB,
	SECTION_STRTAB,
	SECTIONS
};

static const char *const section_names[SECTIONS] = {
    [SECTION_NULL] = "",
    [SECTION_TEXT] = ".text",
    [SECTION_DATA] = ".data",
    [SECTION_NOTES] = ".notes",
    [SECTION_PERCPU] = ".data..percpu",
    [SECTION_INIT] = ".init.data",
    [SECTION_BSS] = ".bss",
    [SECTION_SHSTRTAB] = ".shstrtab",
    [SECTION_RELA_TEXT] = ".rela.text",
    [SECTION_RELA_DATA] = ".rela.data",
    [SECTION_RELA_NOTES] = ".rela.notes",
    [SECTION_RELA_PERCPU] = ".rela.data..percpu",
    [SECTION_RELA_INIT] = ".rela.init.data",
    [SECTION_DEBUG] = ".debug_info",
    [SECTION_RELA_DEBUG] = ".rela.debug_info",
    [SECTION_SYMTAB] = ".symtab",
    [SECTION_STRTAB] = ".strtab",
};

enum {
	SYMBOL_NULL,
	SYMBOL_TEXT,
	SYMBOL_PERCPU,
	SYMBOL_PERCPU_LOAD, /* counted to percpu by the linker, but an address of the image */
	SYMBOL_END,         /* absolute, but an address of the image */
	SYMBOL_CRC,         /* absolute and a number */
	SYMBOL_WEAK,        /* undefined */
	SYMBOLS
};

static uint64_t address_of(const struct test_kernel *k, unsigned segment)
{
	return segment == TEST_PERCPU && k->spec.percpu_at_zero ? 0 : k->link_virt + k->start[segment];
}

static unsigned segment_of(const struct test_kernel *k, uint32_t offset)
{
	unsigned s = TEST_SEGMENTS - 1;

	while (offset < k->start[s])
		s--;
	return s;
}

static void add_symbol(struct test_bytes *table, uint16_t section, uint64_t value)
{
	Elf64_Sym symbol = {.st_shndx = section, .st_value = value};

	test_bytes_add(table, &symbol, sizeof symbol);
}

static void make_symbols(const struct test_kernel *k, struct test_bytes *table)
{
	add_symbol(table, SHN_UNDEF, 0);
	add_symbol(table, SECTION_TEXT, address_of(k, TEST_TEXT));
	add_symbol(table, SECTION_PERCPU, address_of(k, TEST_PERCPU) + 0x40);
	add_symbol(table, SECTION_PERCPU, k->link_virt + k->start[TEST_PERCPU]);
	add_symbol(table, SHN_ABS, k->link_virt + k->image_bytes);
	add_symbol(table, SHN_ABS, 0x12345678);
	add_symbol(table, SHN_UNDEF, 0);
}

static void add_rela(struct test_bytes *rela, uint64_t address, unsigned symbol, unsigned type)
{
	Elf64_Rela r = {.r_offset = address, .r_info = ELF64_R_INFO((uint64_t)symbol, type)};

	test_bytes_add(rela, &r, sizeof r);
}

/* Everything the build's tool passes over: each would make the derived list differ if it were taken. */
static void add_traps(const struct test_kernel *k, struct test_bytes *rela)
{
	uint64_t at = address_of(k, TEST_TEXT);

	add_rela(rela, at + TEST_SPARE_AT(0), SYMBOL_TEXT, R_X86_64_PC32);
	add_rela(rela, at + TEST_SPARE_AT(1), SYMBOL_TEXT, R_X86_64_PLT32);
	add_rela(rela, at + TEST_SPARE_AT(2), SYMBOL_CRC, R_X86_64_64);
	add_rela(rela, at + TEST_SPARE_AT(3), SYMBOL_WEAK, R_X86_64_64);
	add_rela(rela, at + TEST_SPARE_AT(4), SYMBOL_TEXT, R_X86_64_NONE);
	add_rela(rela, at + TEST_SPARE_AT(5), SYMBOL_TEXT, R_X86_64_PC64);
	add_rela(rela, at + TEST_SPARE_AT(6), SYMBOL_TEXT, 42); /* REX_GOTPCRELX */
	add_rela(rela, at + TEST_SPARE_AT(7), SYMBOL_PERCPU_LOAD, R_X86_64_PC32);
	if (k->spec.percpu_at_zero) {
		add_rela(rela, at + TEST_SPARE_AT(8), SYMBOL_PERCPU, R_X86_64_32S);
		add_rela(rela, at + TEST_SPARE_AT(9), SYMBOL_PERCPU, R_X86_64_64);
	} else {
		add_rela(rela, at + TEST_SPARE_AT(8), SYMBOL_PERCPU, R_X86_64_PC32);
	}
}

/* The list's entries of one segment, last first: nothing promises an order in .rela. */
static void add_list(const struct test_kernel *k, struct test_bytes *rela, unsigned segment,
		     const struct test_relocs *relocs, unsigned type)
{
	static const unsigned symbols[] = {SYMBOL_TEXT, SYMBOL_PERCPU_LOAD, SYMBOL_END};
	uint32_t i;

	for (i = relocs->count; i-- > 0;) {
		uint64_t at = relocs->offset[i];
		unsigned symbol = type == R_X86_64_PC32 ? SYMBOL_PERCPU : symbols[i % 3];

		if (segment_of(k, relocs->offset[i]) != segment)
			continue;
		add_rela(rela, address_of(k, segment) + at - k->start[segment], symbol,
			 type == R_X86_64_32S && i % 2 ? R_X86_64_32 : type);
	}
}

static void make_rela(const struct test_kernel *k, struct test_bytes *rela, unsigned segment)
{
	if (segment == TEST_TEXT)
		add_traps(k, rela);
	add_list(k, rela, segment, &k->reloc32, R_X86_64_32S);
	add_list(k, rela, segment, &k->reloc32_inverse, R_X86_64_PC32);
	add_list(k, rela, segment, &k->reloc64, R_X86_64_64);
}

static void describe_loaded(const struct test_kernel *k, Elf64_Shdr *s, const uint64_t *file_offset)
{
	static const unsigned section[TEST_SEGMENTS] = {SECTION_TEXT, SECTION_DATA, SECTION_PERCPU, SECTION_INIT};
	unsigned i;

	for (i = 0; i < TEST_SEGMENTS; i++)
		s[section[i]] = (Elf64_Shdr){.sh_type = SHT_PROGBITS,
					     .sh_flags = SHF_ALLOC | (i == TEST_TEXT ? SHF_EXECINSTR : SHF_WRITE),
					     .sh_addr = address_of(k, i),
					     .sh_offset = file_offset[i],
					     .sh_size = k->spec.segment_bytes};
	s[SECTION_NOTES] = (Elf64_Shdr){.sh_type = SHT_NOTE,
					.sh_flags = SHF_ALLOC,
					.sh_addr = address_of(k, TEST_DATA) + TEST_NOTE_AT,
					.sh_offset = file_offset[TEST_DATA] + TEST_NOTE_AT,
					.sh_size = TEST_NOTE_BYTES};
	s[SECTION_BSS] = (Elf64_Shdr){.sh_type = SHT_NOBITS,
				      .sh_flags = SHF_ALLOC | SHF_WRITE,
				      .sh_addr = address_of(k, TEST_INIT) + k->spec.segment_bytes,
				      .sh_offset = UINT64_C(1) << 40,
				      .sh_size = k->spec.bss_bytes};
}

static void add_section(struct test_bytes *elf, Elf64_Shdr *s, uint32_t type, const struct test_bytes *contents)
{
	test_bytes_zero(elf, -elf->count & 7);
	s->sh_type = type;
	s->sh_offset = elf->count;
	s->sh_size = contents->count;
	test_bytes_add(elf, contents->at, contents->count);
}

static void add_rela_section(struct test_kernel *k, Elf64_Shdr *s, unsigned index, unsigned target, unsigned segment)
{
	struct test_bytes rela = {0};

	if (target == SECTION_NOTES)
		add_rela(&rela, address_of(k, TEST_DATA) + TEST_NOTE_AT + 16, SYMBOL_TEXT, R_X86_64_64);
	else if (target == SECTION_DEBUG)
		add_rela(&rela, 0, SYMBOL_TEXT, R_X86_64_64);
	else
		make_rela(k, &rela, segment);
	add_section(&k->elf, &s[index], SHT_RELA, &rela);
	s[index].sh_info = target;
	s[index].sh_link = SECTION_SYMTAB;
	s[index].sh_entsize = sizeof(Elf64_Rela);
	test_bytes_free(&rela);
}

static void add_debug_sections(struct test_kernel *k, Elf64_Shdr *s)
{
	struct test_bytes symbols = {0}, debug = {0}, strings = {0};

	make_symbols(k, &symbols);
	test_bytes_zero(&debug, 16);
	test_bytes_zero(&strings, 1);
	add_section(&k->elf, &s[SECTION_DEBUG], SHT_PROGBITS, &debug);
	add_section(&k->elf, &s[SECTION_SYMTAB], SHT_SYMTAB, &symbols);
	s[SECTION_SYMTAB].sh_link = SECTION_STRTAB;
	s[SECTION_SYMTAB].sh_entsize = sizeof(Elf64_Sym);
	add_section(&k->elf, &s[SECTION_STRTAB], SHT_STRTAB, &strings);
	add_rela_section(k, s, SECTION_RELA_TEXT, SECTION_TEXT, TEST_TEXT);
	add_rela_section(k, s, SECTION_RELA_DATA, SECTION_DATA, TEST_DATA);
	add_rela_section(k, s, SECTION_RELA_NOTES, SECTION_NOTES, 0);
	add_rela_section(k, s, SECTION_RELA_PERCPU, SECTION_PERCPU, TEST_PERCPU);
	add_rela_section(k, s, SECTION_RELA_INIT, SECTION_INIT, TEST_INIT);
	add_rela_section(k, s, SECTION_RELA_DEBUG, SECTION_DEBUG, 0);
	test_bytes_free(&symbols);
	test_bytes_free(&debug);
	test_bytes_free(&strings);
}

static void add_section_table(struct test_kernel *k, const uint64_t *file_offset)
{
	unsigned count = k->spec.rela ? SECTIONS : SECTION_STRIPPED, i;
	struct test_bytes names = {0};
	Elf64_Shdr s[SECTIONS] = {{0}};
	Elf64_Ehdr *header;

	describe_loaded(k, s, file_offset);
	if (k->spec.rela)
		add_debug_sections(k, s);
	for (i = 0; i < count; i++) {
		s[i].sh_name = (uint32_t)names.count;
		test_bytes_add(&names, section_names[i], strlen(section_names[i]) + 1);
	}
	add_section(&k->elf, &s[SECTION_SHSTRTAB], SHT_STRTAB, &names);
	test_bytes_free(&names);
	test_bytes_zero(&k->elf, -k->elf.count & 7);
	header = test_elf_header(&k->elf);
	header->e_shoff = k->elf.count;
	header->e_shnum = (uint16_t)count;
	header->e_shentsize = sizeof(Elf64_Shdr);
	header->e_shstrndx = SECTION_SHSTRTAB;
	test_bytes_add(&k->elf, s, count * sizeof *s);
}

static void add_headers(struct test_kernel *k, uint64_t *file_offset)
{
	Elf64_Ehdr h = {.e_ident = {0x7f, 'E', 'L', 'F', ELFCLASS64, ELFDATA2LSB, EV_CURRENT},
			.e_type = ET_EXEC,
			.e_machine = EM_X86_64,
			.e_version = EV_CURRENT,
			.e_entry = k->spec.link_phys + k->spec.entry_offset,
			.e_phoff = sizeof h,
			.e_ehsize = sizeof h,
			.e_phentsize = sizeof(Elf64_Phdr),
			.e_phnum = TEST_SEGMENTS + 1};
	Elf64_Phdr p[TEST_SEGMENTS + 1] = {{0}};
	unsigned i;

	for (i = 0; i < TEST_SEGMENTS; i++) {
		file_offset[i] = (sizeof h + sizeof p + 15) / 16 * 16 + i * (uint64_t)k->spec.segment_bytes;
		p[i] = (Elf64_Phdr){.p_type = PT_LOAD,
				    .p_flags = i == TEST_TEXT   ? PF_R | PF_X
					       : i == TEST_INIT ? 7
								: PF_R | PF_W,
				    .p_offset = file_offset[i],
				    .p_vaddr = address_of(k, i),
				    .p_paddr = k->spec.link_phys + k->start[i],
				    .p_filesz = k->spec.segment_bytes,
				    .p_memsz = k->spec.segment_bytes + (i == TEST_INIT ? k->spec.bss_bytes : 0),
				    .p_align = 2u << 20};
	}
	p[TEST_NOTE_SEGMENT] = (Elf64_Phdr){.p_type = PT_NOTE,
					    .p_offset = file_offset[TEST_DATA] + TEST_NOTE_AT,
					    .p_vaddr = p[TEST_DATA].p_vaddr + TEST_NOTE_AT,
					    .p_paddr = p[TEST_DATA].p_paddr + TEST_NOTE_AT,
					    .p_filesz = TEST_NOTE_BYTES,
					    .p_memsz = TEST_NOTE_BYTES,
					    .p_align = 4};
	test_bytes_add(&k->elf, &h, sizeof h);
	test_bytes_add(&k->elf, p, sizeof p);
	test_bytes_zero(&k->elf, (size_t)(file_offset[0] - k->elf.count));
}

void test_kernel_write_elf(struct test_kernel *k)
{
	uint64_t file_offset[TEST_SEGMENTS];
	unsigned i;

	add_headers(k, file_offset);
	for (i = 0; i < TEST_SEGMENTS; i++)
		test_bytes_add(&k->elf, k->bytes[i], k->spec.segment_bytes);
	if (k->spec.sections)
		add_section_table(k, file_offset);
}

/* Test kernels are built in malloc's memory, which is aligned for every one of these. */
Elf64_Ehdr *test_elf_header(struct test_bytes *elf)
{
	return (Elf64_Ehdr *)(void *)elf->at;
}

Elf64_Phdr *test_elf_segment(struct test_bytes *elf, unsigned index)
{
	return (Elf64_Phdr *)(void *)(elf->at + test_elf_header(elf)->e_phoff) + index;
}

Elf64_Shdr *test_elf_section(struct test_bytes *elf, const char *name)
{
	Elf64_Ehdr *h = test_elf_header(elf);
	Elf64_Shdr *s = (Elf64_Shdr *)(void *)(elf->at + h->e_shoff);
	const char *names = (const char *)elf->at + s[h->e_shstrndx].sh_offset;
	unsigned i;

	for (i = 0; i < h->e_shnum; i++)
		if (!strcmp(names + s[i].sh_name, name))
			return &s[i];
	abort();
}
