/* SPDX-License-Identifier: Apache-2.0 */
/* The relocations of a debug vmlinux as verify reads them: which field follows which symbol, and what is refused. */
#include <elf.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "prepare/verify/internal.h"
#include "tests/lib/kernels.h"

enum { IMAGE = 0x4000, DATA = 0x1000, FILE_AT = 0x1000 };
static const uint64_t LINK = UINT64_C(0xffffffff81000000);

enum { NONE, TEXT, DATA_SECTION, DEBUG, RELA_TEXT, RELA_DATA, RELA_DEBUG, SYMTAB, NAMES, SECTIONS };
enum { S_NONE, S_TEXT_SECTION, S_FUNCTION, S_OBJECT, S_PERCPU, S_START, SYMBOLS };

/* A vmlinux of one segment: .text, then .data. */
static struct file {
	Elf64_Ehdr header;
	Elf64_Phdr segment;
	Elf64_Shdr section[SECTIONS];
	Elf64_Sym symbol[SYMBOLS];
	Elf64_Rela rela[2][8];
	char names[8];
} file;

static struct riffle_image image;
static struct verify *v;
static struct riffle_error error;
static unsigned count[2];

static int set_up(void **state)
{
	(void)state;
	memset(&file, 0, sizeof file);
	memset(count, 0, sizeof count);
	image = (struct riffle_image){.link_phys = 0x1000000, .link_virt = LINK, .image_bytes = IMAGE};
	v = calloc(1, sizeof *v);
	if (!v || !(v->bytes = calloc(IMAGE + 8, 1)))
		return -1;
	v->image = &image;
	v->link_virt = LINK;
	v->image_bytes = IMAGE;
	file.header = (Elf64_Ehdr){.e_ident = {ELFMAG0, ELFMAG1, ELFMAG2, ELFMAG3, ELFCLASS64},
				   .e_machine = EM_X86_64,
				   .e_phoff = offsetof(struct file, segment),
				   .e_phentsize = sizeof file.segment,
				   .e_phnum = 1,
				   .e_shoff = offsetof(struct file, section),
				   .e_shentsize = sizeof *file.section,
				   .e_shnum = SECTIONS,
				   .e_shstrndx = NAMES};
	file.segment = (Elf64_Phdr){
	    .p_type = PT_LOAD, .p_offset = FILE_AT, .p_paddr = 0x1000000, .p_vaddr = LINK, .p_filesz = IMAGE};
	file.section[TEXT] = (Elf64_Shdr){.sh_type = SHT_PROGBITS,
					  .sh_flags = SHF_ALLOC | SHF_EXECINSTR,
					  .sh_addr = LINK,
					  .sh_offset = FILE_AT,
					  .sh_size = DATA};
	file.section[DATA_SECTION] = (Elf64_Shdr){.sh_type = SHT_PROGBITS,
						  .sh_flags = SHF_ALLOC | SHF_WRITE,
						  .sh_addr = LINK + DATA,
						  .sh_offset = FILE_AT + DATA,
						  .sh_size = IMAGE - DATA};
	file.section[DEBUG] = (Elf64_Shdr){.sh_type = SHT_PROGBITS, .sh_size = 64};
	for (unsigned i = RELA_TEXT; i <= RELA_DEBUG; i++)
		file.section[i] = (Elf64_Shdr){.sh_type = SHT_RELA, .sh_info = TEXT + i - RELA_TEXT};
	file.section[SYMTAB] = (Elf64_Shdr){
	    .sh_type = SHT_SYMTAB, .sh_offset = offsetof(struct file, symbol), .sh_size = sizeof file.symbol};
	file.section[NAMES] = (Elf64_Shdr){
	    .sh_type = SHT_STRTAB, .sh_offset = offsetof(struct file, names), .sh_size = sizeof file.names};
	file.symbol[S_TEXT_SECTION] = (Elf64_Sym){.st_info = ELF64_ST_INFO(STB_LOCAL, STT_SECTION), .st_value = LINK};
	file.symbol[S_FUNCTION] = (Elf64_Sym){.st_info = ELF64_ST_INFO(STB_GLOBAL, STT_FUNC), .st_value = LINK + 0x200};
	file.symbol[S_OBJECT] =
	    (Elf64_Sym){.st_info = ELF64_ST_INFO(STB_GLOBAL, STT_OBJECT), .st_value = LINK + DATA + 0x80};
	file.symbol[S_PERCPU] = (Elf64_Sym){.st_info = ELF64_ST_INFO(STB_GLOBAL, STT_OBJECT), .st_value = 0x40};
	file.symbol[S_START] = (Elf64_Sym){.st_info = ELF64_ST_INFO(STB_GLOBAL, STT_NOTYPE), .st_value = LINK};
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	verify_close(v);
	return 0;
}

/* A relocation, and in the image what a linker makes of it. */
static void add(uint32_t field, unsigned symbol, unsigned type, int64_t addend)
{
	unsigned of_data = field >= DATA;
	uint64_t leads = file.symbol[symbol].st_value + (uint64_t)addend;

	file.rela[of_data][count[of_data]++] = (Elf64_Rela){LINK + field, ELF64_R_INFO(symbol, type), addend};
	if (type == R_X86_64_64)
		riffle_put64(v->bytes + field, leads);
	else if (type == R_X86_64_32 || type == R_X86_64_32S)
		riffle_put32(v->bytes + field, (uint32_t)leads);
	else
		riffle_put32(v->bytes + field, (uint32_t)(leads - (LINK + field)));
}

static int read_file(size_t bytes)
{
	int fd, status;

	for (unsigned i = 0; i < 2; i++) {
		file.section[RELA_TEXT + i].sh_offset = offsetof(struct file, rela[i]);
		file.section[RELA_TEXT + i].sh_size = count[i] * sizeof(Elf64_Rela);
	}
	v->part_count = 0;
	v->ref_count = 0;
	v->rela.present = false;
	fd = test_file(&file, bytes);
	status = verify_read_rela(v, fd, &error);
	close(fd);
	return status;
}

static void expect(unsigned i, uint32_t field, enum ref_kind kind, enum rank rank, uint32_t target, uint32_t leads)
{
	assert_true(i < v->ref_count);
	assert_int_equal(v->ref[i].field, field);
	assert_int_equal(v->ref[i].kind, kind);
	assert_int_equal(v->ref[i].rank, rank);
	assert_int_equal(v->ref[i].target, target);
	assert_int_equal(v->ref[i].leads, leads);
	assert_int_equal(v->ref[i].part, 0);
}

static void test_kinds(void **state)
{
	(void)state;
	add(0x10, S_FUNCTION, R_X86_64_PLT32, -4);
	add(0x20, S_OBJECT, R_X86_64_PC32, 4);
	add(0x30, S_TEXT_SECTION, R_X86_64_PC32, 0x300 - 4); /* an instruction's: it leads to where the field ends */
	add(0x40, S_START, R_X86_64_PC32, -4);               /* before the image, but the symbol is in it */
	add(0x50, S_FUNCTION, R_X86_64_32S, 0);
	add(0x60, S_FUNCTION, R_X86_64_PC64, 0);
	add(DATA, S_FUNCTION, R_X86_64_64, 8);
	add(DATA + 8, S_OBJECT, R_X86_64_32, 0);
	add(DATA + 16, S_TEXT_SECTION, R_X86_64_PC32, 0x300); /* a table's: to that very place */
	add(DATA + 24, S_TEXT_SECTION, R_X86_64_64, 0x300);
	add(IMAGE - 8, S_FUNCTION, R_X86_64_64, 0);
	assert_int_equal(read_file(sizeof file), 0);
	assert_true(v->rela.present);
	assert_int_equal(v->ref_count, 10);
	expect(0, 0x10, REF_PC32, RANK_RELA, 0x200, 0x1fc);
	expect(1, 0x20, REF_PC32, RANK_RELA, DATA + 0x80, DATA + 0x84);
	expect(2, 0x30, REF_PC32, RANK_RELA_SECTION, 0x300, 0x2fc);
	expect(3, 0x40, REF_PC32, RANK_RELA, 0, 0xfffffffc);
	expect(4, 0x50, REF_ABS32, RANK_RELA, 0x200, 0x200);
	expect(5, DATA, REF_ABS64, RANK_RELA, 0x200, 0x208);
	expect(6, DATA + 8, REF_ABS32, RANK_RELA, DATA + 0x80, DATA + 0x80);
	expect(7, DATA + 16, REF_PC32, RANK_RELA_SECTION, 0x300, 0x300);
	expect(8, DATA + 24, REF_ABS64, RANK_RELA_SECTION, 0x300, 0x300);
	expect(9, IMAGE - 8, REF_ABS64, RANK_RELA, 0x200, 0x200);
	assert_string_equal(v->part[0].name, "rela");
	assert_int_equal(v->part[0].fields, 10);
}

/* A per-CPU symbol is not in the image: its distance depends on the field alone if the kernel's list says so. */
static void test_per_cpu(void **state)
{
	uint32_t inverse[] = {0x20};

	(void)state;
	image.reloc32_inverse = (struct image_relocs){inverse, 1};
	add(0x10, S_PERCPU, R_X86_64_PC32, 0);
	add(0x20, S_PERCPU, R_X86_64_PC32, 0);
	assert_int_equal(read_file(sizeof file), 0);
	expect(0, 0x10, REF_PC32, RANK_RELA, TARGET_IMAGE, TARGET_IMAGE);
	expect(1, 0x20, REF_PC32, RANK_RELA, TARGET_STAYS, TARGET_IMAGE);
}

/* Entries of sorted tables are not where they were when they were linked; a removed relocation says nothing. */
static void test_left_out(void **state)
{
	(void)state;
	v->extable = (struct sorted){.offset = 0x100, .entries = 1};
	v->orc = (struct sorted){.offset = 0x200, .second = 0x300, .entries = 1};
	v->mcount = (struct sorted){.offset = 0x400, .entries = 1};
	add(0x100, S_FUNCTION, R_X86_64_PC32, 0);
	add(0x108, S_FUNCTION, R_X86_64_PC32, 0);
	add(0x10c, S_FUNCTION, R_X86_64_PC32, 0);
	add(0x200, S_FUNCTION, R_X86_64_PC32, 0);
	add(0x300, S_FUNCTION, R_X86_64_PC32, 0);
	add(0x400, S_FUNCTION, R_X86_64_64, 0);
	add(0x408, S_FUNCTION, R_X86_64_64, 0);
	add(0x500, S_FUNCTION, R_X86_64_NONE, 0);
	assert_int_equal(read_file(sizeof file), 0);
	assert_int_equal(v->ref_count, 2);
	assert_int_equal(v->ref[0].field, 0x10c);
	assert_int_equal(v->ref[1].field, 0x408);
	/* nothing but such entries: no use of them */
	count[0] = 1;
	assert_int_equal(read_file(sizeof file), 0);
	assert_false(v->rela.present);
}

static void refuse(const char *field, uint64_t found)
{
	assert_int_equal(read_file(sizeof file), RIFFLE_ERR_FORMAT);
	assert_string_equal(error.field, field);
	if (found != UINT64_MAX)
		assert_int_equal(error.found, found);
}

static void test_refused(void **state)
{
	(void)state;
	add(0x10, S_FUNCTION, R_X86_64_PC32, 0);
	add(DATA + 8, S_FUNCTION, R_X86_64_64, 0);
	add(DATA + 16, S_FUNCTION, R_X86_64_32, 0);
	v->bytes[0x10] ^= 1; /* another build's */
	refuse(".rela", LINK + 0x10);
	v->bytes[0x10] ^= 1;
	v->bytes[DATA + 8] ^= 1;
	refuse(".rela", LINK + DATA + 8);
	v->bytes[DATA + 8] ^= 1;
	v->bytes[DATA + 19] ^= 1;
	refuse(".rela", LINK + DATA + 16);
	v->bytes[DATA + 19] ^= 1;

	file.rela[1][1].r_info = ELF64_R_INFO(SYMBOLS, R_X86_64_32);
	refuse(".rela", 1);
	file.rela[1][1].r_info = ELF64_R_INFO(S_FUNCTION, R_X86_64_32);
	file.rela[0][0].r_offset = LINK + DATA;
	refuse(".rela", 0);
	file.rela[0][0].r_offset = LINK - 1;
	refuse(".rela", 0);
	file.rela[0][0].r_offset = LINK + 0x10;
	file.section[RELA_DEBUG].sh_info = SECTIONS;
	refuse(".rela", SECTIONS);
	file.section[RELA_DEBUG].sh_info = DEBUG;
	file.section[SYMTAB].sh_size = (UINT64_C(1) << 28) + 1;
	refuse("debug vmlinux", (UINT64_C(1) << 28) + 1);
	file.section[SYMTAB].sh_size = sizeof file.symbol;
	assert_int_equal(read_file(sizeof file), 0);
	assert_int_equal(v->ref_count, 3);
	/* without symbols there is nothing to be read */
	file.section[SYMTAB].sh_type = SHT_NULL;
	assert_int_equal(read_file(sizeof file), 0);
	assert_false(v->rela.present);
}

/* A section of code or data that no segment holds, or not all of it in the image, is not the kernel's. */
static void test_sections_elsewhere(void **state)
{
	(void)state;
	add(0x10, S_FUNCTION, R_X86_64_PC32, 0);
	file.segment.p_type = PT_NOTE;
	assert_int_equal(read_file(sizeof file), 0);
	assert_int_equal(v->ref_count, 0);
	file.segment.p_type = PT_LOAD;
	file.segment.p_paddr += IMAGE - DATA + 1;
	assert_int_equal(read_file(sizeof file), 0);
	assert_int_equal(v->ref_count, 0);
	file.segment.p_paddr -= 1;
	v->link_virt = image.link_virt;
	assert_int_not_equal(read_file(sizeof file), 0); /* it is all inside, but holds something else */
	file.segment.p_paddr = 0x1000000;
	file.section[TEXT].sh_type = SHT_NOBITS;
	assert_int_equal(read_file(sizeof file), 0);
	assert_int_equal(v->ref_count, 0);
	file.section[TEXT].sh_type = SHT_PROGBITS;
	file.section[TEXT].sh_flags = SHF_EXECINSTR;
	assert_int_equal(read_file(sizeof file), 0);
	assert_int_equal(v->ref_count, 0);
	file.section[TEXT].sh_flags = SHF_ALLOC | SHF_EXECINSTR;
	assert_int_equal(read_file(sizeof file), 0);
	assert_int_equal(v->ref_count, 1);
}

static void test_headers(void **state)
{
	const Elf64_Ehdr good = file.header;

	(void)state;
	add(0x10, S_FUNCTION, R_X86_64_PC32, 0);
	for (unsigned i = 0; i < 6; i++) {
		file.header = good;
		if (i == 0)
			file.header.e_ident[0] = 0;
		if (i == 1)
			file.header.e_ident[EI_CLASS] = ELFCLASS32;
		if (i == 2)
			file.header.e_machine = EM_AARCH64;
		if (i == 3)
			file.header.e_shentsize++;
		if (i == 4)
			file.header.e_phentsize++;
		if (i == 5)
			file.header.e_shstrndx = SECTIONS;
		refuse("debug vmlinux", UINT64_MAX);
	}
	file.header = good;
	assert_int_equal(read_file(sizeof file), 0);
	/* cut short, wherever that is */
	for (size_t bytes = 0; bytes < offsetof(struct file, rela[0][1]); bytes += 8)
		assert_int_not_equal(read_file(bytes), 0);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
	const struct CMUnitTest tests[] = {
	    TEST(test_kinds),
	    TEST(test_per_cpu),
	    TEST(test_left_out),
	    TEST(test_refused),
	    TEST(test_sections_elsewhere),
	    TEST(test_headers),
	};
	return cmocka_run_group_tests_name("verify-rela", tests, NULL, NULL);
}
