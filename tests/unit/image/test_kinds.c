/* SPDX-License-Identifier: Apache-2.0 */
/* Every kind of kernel file in every compression gives the same image: segments, entry, relocations to the entry. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <nettle/sha2.h>

#include <cmocka.h>

#include "prepare/image/image.h"
#include "tests/lib/kernels.h"

static struct riffle_image *open_image(int fd, int relocs_fd)
{
	struct riffle_error error = {0};
	struct riffle_image *image;
	char text[256];

	if (riffle_image_open(&image, fd, relocs_fd, &error)) {
		riffle_error_format(&error, text, sizeof text);
		fail_msg("%s", text);
	}
	close(fd);
	if (relocs_fd >= 0)
		close(relocs_fd);
	return image;
}

static void assert_relocs(const struct image_relocs *found, const struct test_relocs *made)
{
	assert_int_equal(found->count, made->count);
	if (made->count)
		assert_memory_equal(found->offset, made->offset, made->count * sizeof *made->offset);
}

static void assert_image(const struct riffle_image *image, const struct test_kernel *k, bool relocatable)
{
	static const struct test_relocs none;
	unsigned i;

	assert_int_equal(image->link_phys, k->spec.link_phys);
	assert_int_equal(image->link_virt, k->link_virt);
	assert_int_equal(image->image_bytes, k->image_bytes);
	assert_int_equal(image->entry_offset, k->spec.entry_offset);
	assert_int_equal(image->segment_count, TEST_SEGMENTS);
	for (i = 0; i < TEST_SEGMENTS; i++) {
		const struct image_segment *s = &image->segment[i];

		assert_int_equal(s->phys, k->spec.link_phys + k->start[i]);
		assert_int_equal(s->virt, i == TEST_PERCPU && k->spec.percpu_at_zero ? 0 : k->link_virt + k->start[i]);
		assert_int_equal(s->file_bytes, k->spec.segment_bytes);
		assert_int_equal(s->memory_bytes, k->spec.segment_bytes + (i == TEST_INIT ? k->spec.bss_bytes : 0));
		assert_memory_equal(s->bytes, k->bytes[i], k->spec.segment_bytes);
	}
	assert_int_equal(image->relocatable, relocatable);
	assert_int_equal(image->inverse_list, relocatable && k->spec.percpu_at_zero);
	assert_relocs(&image->reloc64, relocatable ? &k->reloc64 : &none);
	assert_relocs(&image->reloc32, relocatable ? &k->reloc32 : &none);
	assert_relocs(&image->reloc32_inverse, relocatable ? &k->reloc32_inverse : &none);
	assert_string_equal(image->kernel_version, TEST_KERNEL_VERSION);
	assert_int_equal(image->build_id_bytes, 20);
	assert_memory_equal(image->build_id, TEST_KERNEL_BUILD_ID, 20);
}

static void append(struct test_kernel *k)
{
	test_bytes_add(&k->elf, k->list.at, k->list.count);
}

static const char *section_at(const struct riffle_image *image, uint64_t address)
{
	unsigned i;

	for (i = 0; i < image->section_count; i++)
		if (image->section[i].address == address && image->section[i].bytes)
			return image->section[i].name;
	return "none";
}

/* One kernel in every form; the list is derived, separate, appended, absent. */
static void check_elf_kinds(struct test_kernel_spec spec)
{
	struct riffle_image *image;
	struct test_kernel k;

	spec.rela = true;
	test_kernel_build(&k, &spec);
	image = open_image(test_file_of(&k.elf), -1);
	assert_int_equal(image->kind, RIFFLE_SOURCE_ELF_RELA);
	assert_image(image, &k, true);
	assert_string_equal(section_at(image, k.link_virt), ".text");
	riffle_image_close(image);
	test_kernel_free(&k);

	spec.rela = false;
	test_kernel_build(&k, &spec);
	image = open_image(test_file_of(&k.elf), test_file_of(&k.list));
	assert_int_equal(image->kind, RIFFLE_SOURCE_ELF_RELOCS);
	assert_image(image, &k, true);
	riffle_image_close(image);

	image = open_image(test_file_of(&k.elf), -1);
	assert_int_equal(image->kind, RIFFLE_SOURCE_ELF);
	assert_image(image, &k, false);
	riffle_image_close(image);

	append(&k);
	image = open_image(test_file_of(&k.elf), -1);
	assert_int_equal(image->kind, RIFFLE_SOURCE_ELF_APPENDED);
	assert_image(image, &k, true);
	assert_false(image->has_setup_header);
	assert_null(image->payload);
	assert_int_equal(riffle_image_unpack(image, NULL, NULL), RIFFLE_ERR_ARGUMENT);
	riffle_image_close(image);
	test_kernel_free(&k);
}

static void test_elf_kinds(void **state)
{
	struct test_kernel_spec spec = test_kernel_spec();

	(void)state;
	check_elf_kinds(spec);
	spec.percpu_at_zero = false;
	check_elf_kinds(spec);
	spec.segment_bytes = 300000;
	spec.relocs = 9000;
	check_elf_kinds(spec);
	spec.percpu_at_zero = true;
	spec.link_phys = 2u << 20;
	spec.entry_offset = 3 * 303104 + 77; /* in the last segment */
	check_elf_kinds(spec);
}

static void test_elf_without_sections(void **state)
{
	struct test_kernel_spec spec = test_kernel_spec();
	struct riffle_image *image;
	struct test_kernel k;

	(void)state;
	spec.sections = false;
	test_kernel_build(&k, &spec);
	append(&k);
	image = open_image(test_file_of(&k.elf), -1);
	assert_image(image, &k, true);
	assert_int_equal(image->section_count, 0);
	riffle_image_close(image);
	test_kernel_free(&k);
}

/* A list without entries of one kind is still in its format. */
static void test_empty_inverse_list(void **state)
{
	struct test_kernel_spec spec = test_kernel_spec();
	struct test_relocs none = {0};
	struct riffle_image *image;
	struct test_bytes list = {0};
	struct test_kernel k;

	(void)state;
	spec.percpu_at_zero = false;
	test_kernel_build(&k, &spec);
	test_relocs_list(&list, k.link_virt, &k.reloc64, &none, &k.reloc32);
	image = open_image(test_file_of(&k.elf), test_file_of(&list));
	assert_true(image->inverse_list);
	assert_relocs(&image->reloc64, &k.reloc64);
	assert_relocs(&image->reloc32, &k.reloc32);
	assert_int_equal(image->reloc32_inverse.count, 0);
	riffle_image_close(image);
	test_bytes_free(&list);
	test_kernel_free(&k);
}

/* Zeros after the ELF are padding; tables for 6.12's data that its build does not strip are not relocations. */
static void test_not_relocatable(void **state)
{
	struct test_kernel_spec spec = test_kernel_spec();
	struct riffle_image *image;
	struct test_kernel k;

	(void)state;
	test_kernel_build(&k, &spec);
	test_bytes_zero(&k.elf, 100);
	image = open_image(test_file_of(&k.elf), -1);
	assert_int_equal(image->kind, RIFFLE_SOURCE_ELF);
	assert_image(image, &k, false);
	riffle_image_close(image);
	test_kernel_free(&k);

	spec.rela = true;
	test_kernel_build(&k, &spec);
	test_elf_section(&k.elf, ".rela.text")->sh_type = SHT_PROGBITS;
	image = open_image(test_file_of(&k.elf), -1);
	assert_int_equal(image->kind, RIFFLE_SOURCE_ELF);
	assert_image(image, &k, false);
	riffle_image_close(image);
	test_kernel_free(&k);
}

/* With more sections than 16 bits count, e_shnum, e_shstrndx and st_shndx say so and the numbers are elsewhere. */
static void test_extended_numbers(void **state)
{
	struct test_kernel_spec spec = test_kernel_spec();
	struct riffle_image *image;
	Elf64_Shdr table[40], *symtab;
	struct test_kernel k;
	Elf64_Sym *symbol;
	Elf64_Ehdr *h;
	size_t i, symbols;
	uint32_t wide[16] = {0};

	(void)state;
	spec.rela = true;
	test_kernel_build(&k, &spec);
	h = test_elf_header(&k.elf);
	memcpy(table, k.elf.at + h->e_shoff, h->e_shnum * sizeof *table);
	symtab = test_elf_section(&k.elf, ".symtab");
	symbols = symtab->sh_size / sizeof *symbol;
	assert_true(symbols <= 16);
	for (i = 0; i < symbols; i++) {
		symbol = (Elf64_Sym *)(void *)(k.elf.at + symtab->sh_offset) + i;
		if (symbol->st_shndx == SHN_UNDEF || symbol->st_shndx == SHN_ABS)
			continue;
		wide[i] = symbol->st_shndx;
		symbol->st_shndx = SHN_XINDEX;
	}
	table[h->e_shnum] = (Elf64_Shdr){.sh_type = SHT_SYMTAB_SHNDX,
					 .sh_offset = k.elf.count,
					 .sh_size = symbols * 4,
					 .sh_link = (uint32_t)(symtab - test_elf_section(&k.elf, ""))};
	table[0].sh_size = h->e_shnum + 1u;
	table[0].sh_link = h->e_shstrndx;
	test_bytes_add(&k.elf, wide, symbols * 4);
	test_bytes_zero(&k.elf, -k.elf.count & 7);
	h = test_elf_header(&k.elf);
	h->e_shoff = k.elf.count;
	h->e_shnum = 0;
	h->e_shstrndx = SHN_XINDEX;
	test_bytes_add(&k.elf, table, table[0].sh_size * sizeof *table);

	image = open_image(test_file_of(&k.elf), -1);
	assert_int_equal(image->kind, RIFFLE_SOURCE_ELF_RELA);
	assert_image(image, &k, true);
	riffle_image_close(image);
	test_kernel_free(&k);
}

/* Build ids only identify a kernel: an invalid or overlong one is ignored, and the kernel is accepted. */
static void test_odd_build_ids(void **state)
{
	static const uint32_t words[][2] = {{4, 33}, {4, 4000}, {4, UINT32_MAX}, {UINT32_MAX, 20}, {8, 20}, {4, 0}};
	struct test_kernel_spec spec = test_kernel_spec();
	size_t i;

	(void)state;
	for (i = 0; i < sizeof words / sizeof *words; i++) {
		struct riffle_image *image;
		struct test_kernel k;
		Elf64_Phdr *note;

		spec.sections = false;
		test_kernel_build(&k, &spec);
		note = test_elf_segment(&k.elf, TEST_NOTE_SEGMENT);
		note->p_filesz = 1000;
		memcpy(k.elf.at + note->p_offset, words[i], 8);
		image = open_image(test_file_of(&k.elf), -1);
		assert_int_equal(image->build_id_bytes, 0);
		riffle_image_close(image);
		test_kernel_free(&k);
	}
}

static void check_bzimage(enum riffle_compression compression, const struct test_kernel *k)
{
	struct test_bzimage_spec spec = {.compression = compression, .kernel_alignment = 16u << 20};
	uint8_t digest[SHA256_DIGEST_SIZE], *again;
	struct riffle_image *image;
	struct test_bytes file = {0};
	struct sha256_ctx sha;
	int fd;

	if (!test_bzimage_of(&file, &spec, k)) {
		print_message("lzop is not installed: lzo payloads are not tested\n");
		skip();
	}
	fd = test_file_of(&file);
	assert_int_equal(riffle_image_peek_compression(fd), compression);
	image = open_image(fd, -1);
	assert_int_equal(image->kind, RIFFLE_SOURCE_BZIMAGE);
	assert_int_equal(image->compression, compression);
	assert_image(image, k, true);
	assert_int_equal(image->kernel_alignment, 16u << 20);
	assert_true(image->has_setup_header);
	assert_memory_equal(image->setup_header, file.at + 0x1f1, 0x26c - 0x1f1);
	assert_int_equal(image->setup_header[0x26c - 0x1f1], 0);
	assert_int_equal(image->uncompressed_bytes, k->elf.count + k->list.count);
	assert_memory_equal(image->uncompressed, k->elf.at, k->elf.count);
	assert_memory_equal(image->uncompressed + k->elf.count, k->list.at, k->list.count);
	assert_memory_equal(image->payload, file.at + TEST_BZIMAGE_PAYLOAD, image->payload_bytes);
	sha256_init(&sha);
	sha256_update(&sha, file.count, file.at);
	sha256_digest(&sha, sizeof digest, digest);
	assert_memory_equal(image->source_digest, digest, sizeof digest);

	again = malloc(image->uncompressed_bytes + 1);
	assert_int_equal(riffle_image_unpack(image, again, NULL), 0);
	assert_memory_equal(again, image->uncompressed, image->uncompressed_bytes);
	free(again);
	riffle_image_close(image);
	test_bytes_free(&file);
}

static void test_bzimage_compressions(void **state)
{
	struct test_kernel_spec spec = test_kernel_spec();
	struct test_kernel k;
	unsigned c;

	(void)state;
	test_kernel_build(&k, &spec);
	for (c = RIFFLE_COMPRESSION_NONE; c <= RIFFLE_COMPRESSION_ZSTD; c++)
		if (c != RIFFLE_COMPRESSION_LZO)
			check_bzimage(c, &k);
	test_kernel_free(&k);

	/* more than one block of lz4 (8 MiB) and of bzip2 (900 KB) */
	spec.percpu_at_zero = false;
	spec.segment_bytes = 2200000; /* 8.8 MB in all */
	spec.relocs = 50;
	test_kernel_build(&k, &spec);
	check_bzimage(RIFFLE_COMPRESSION_LZ4, &k);
	check_bzimage(RIFFLE_COMPRESSION_ZSTD, &k);
	test_kernel_free(&k);
	spec.segment_bytes = 300000;
	test_kernel_build(&k, &spec);
	check_bzimage(RIFFLE_COMPRESSION_BZIP2, &k);
	test_kernel_free(&k);
}

/* Also frees the file. */
static void assert_list_found(struct test_bytes *file, const struct test_kernel *k)
{
	struct riffle_image *image = open_image(test_file_of(file), -1);

	assert_int_equal(image->kind, RIFFLE_SOURCE_ELF_APPENDED);
	assert_relocs(&image->reloc64, &k->reloc64);
	assert_relocs(&image->reloc32, &k->reloc32);
	assert_relocs(&image->reloc32_inverse, &k->reloc32_inverse);
	riffle_image_close(image);
	test_bytes_free(file);
}

/* The whole mark of each other format is told, wherever it is, and nothing like it. */
static void test_other_formats(void **state)
{
	static const struct {
		uint32_t at, bytes;
		const char *mark, *told;
	} formats[] = {
	    {0, 6, "070701", "initrd"},
	    {0, 6, "070702", "initrd"},
	    {0, 6, "070707", "initrd"},
	    {0, 2, "\xc7\x71", "initrd"},
	    {56, 4, "ARM\x64", "arm64"},
	    {56, 4, "RSC\x05", "RISC-V"},
	    {56, 4, "\xcd\x23\x82\x81", "LoongArch"},
	    {36, 4, "\x18\x28\x6f\x01", "32-bit ARM"},
	    {0, 4, "\x27\x05\x19\x56", "uImage"},
	    {0, 4, "\xd0\x0d\xfe\xed", "FIT image"},
	    {0, 14, "!<arch>\ndebian", "Debian package"},
	    {0, 8, "!<arch>\n", "archive of object files"},
	    {0, 4, "\xed\xab\xee\xdb", "RPM"},
	    {0, 4, "PK\x03\x04", "zip"},
	    {257, 5, "ustar", "tar archive"},
	    {0, 4, "QFI\xfb", "qcow2"},
	    {0, 4, "hsqs", "squashfs"},
	    {0, 4, "BZh9", "bunzip2"},
	    {0, 4, "\x02\x21\x4c\x18", "unlz4"},
	    {0, 4, "\x04\x22\x4d\x18", "unlz4"},
	    {0, 4, "\x89LZO", "lzop -d"},
	    {0, 3, "\x5d\x00\x00", "unlzma"},
	    {0, 2, "#!", "script"},
	    {510, 2, "\x55\xaa", "boot sector"},
	};

	(void)state;
	for (unsigned i = 0; i < sizeof formats / sizeof *formats; i++)
		for (unsigned what = 0; what < 4; what++) {
			const uint32_t end = formats[i].at + formats[i].bytes;
			/* as it is; its last byte another; cut after the mark; cut in it */
			const uint32_t bytes = what == 2 ? end : what == 3 ? end - 1 : 1024;
			uint8_t file[1024] = {0};
			struct riffle_image *image;
			struct riffle_error error;
			int fd;

			memcpy(file + formats[i].at, formats[i].mark, formats[i].bytes);
			if (what == 1)
				file[end - 1] ^= 0x20;
			fd = test_file(file, bytes);
			assert_int_equal(riffle_image_open(&image, fd, -1, &error), RIFFLE_ERR_FORMAT);
			if (!strstr(error.problem, formats[i].told) != (what % 2 == 1))
				fail_msg("%s, %u: %s", formats[i].told, what, error.problem);
			close(fd);
		}
}

/* Zeros behind the appended list, as a build that aligns its files leaves them. */
static void test_padded_list(void **state)
{
	static const unsigned padding[] = {0, 2, 8, 12, 4095, 4096};
	struct test_kernel_spec spec = test_kernel_spec();
	struct test_kernel k;

	(void)state;
	test_kernel_build(&k, &spec);
	for (unsigned i = 0; i < sizeof padding / sizeof *padding; i++) {
		struct test_bytes file = {0};

		test_bytes_add(&file, k.elf.at, k.elf.count);
		test_bytes_add(&file, k.list.at, k.list.count);
		test_bytes_zero(&file, padding[i]);
		assert_list_found(&file, &k);
	}
	test_kernel_free(&k);
}

/* Of three lists the first is not empty: a zero more before two lists is padding. */
static void test_zero_before_two_lists(void **state)
{
	struct test_kernel_spec spec = test_kernel_spec();
	struct test_kernel k;
	struct test_bytes file = {0};

	(void)state;
	spec.percpu_at_zero = false;
	test_kernel_build(&k, &spec);
	test_bytes_add(&file, k.elf.at, k.elf.count);
	test_bytes_word(&file, 0);
	test_bytes_add(&file, k.list.at, k.list.count);
	assert_list_found(&file, &k);
	test_kernel_free(&k);
}

/*
 * After sections known only from their headers, in whole words or not; or after padding, if headers describe
 * everything.
 */
static void test_list_after_more(void **state)
{
	static const struct {
		unsigned before, after;
		bool headers, junk;
	} row[] = {{8, 0, true, false},  {4096, 64, true, false},  {1, 0, false, true}, {2, 7, false, true},
		   {64, 0, false, true}, {333, 4096, false, true}, {4, 4, false, false}};
	struct test_kernel_spec spec = test_kernel_spec();
	struct test_kernel k;

	(void)state;
	test_kernel_build(&k, &spec);
	for (unsigned i = 0; i < sizeof row / sizeof *row; i++) {
		struct test_bytes file = {0};

		test_bytes_add(&file, k.elf.at, k.elf.count);
		if (!row[i].headers)
			((Elf64_Ehdr *)(void *)file.at)->e_shoff = 0, ((Elf64_Ehdr *)(void *)file.at)->e_shnum = 0,
					     ((Elf64_Ehdr *)(void *)file.at)->e_shstrndx = 0;
		for (unsigned n = 0; n < row[i].before; n++)
			test_bytes_add(&file, row[i].junk ? "j" : "", 1);
		test_bytes_add(&file, k.list.at, k.list.count);
		test_bytes_zero(&file, row[i].after);
		assert_list_found(&file, &k);
	}
	test_kernel_free(&k);
}

static void test_bzimage_lzo(void **state)
{
	struct test_kernel_spec spec = test_kernel_spec();
	struct test_kernel k;

	(void)state;
	test_kernel_build(&k, &spec);
	check_bzimage(RIFFLE_COMPRESSION_LZO, &k);
	test_kernel_free(&k);
	spec.segment_bytes = 600000; /* several of its blocks, and more than a pipe holds */
	test_kernel_build(&k, &spec);
	check_bzimage(RIFFLE_COMPRESSION_LZO, &k);
	test_kernel_free(&k);
	assert_int_equal(waitpid(-1, NULL, WNOHANG), -1); /* lzop left no zombie */
}

static void test_bzimage_without_list(void **state)
{
	struct test_bzimage_spec spec = {.compression = RIFFLE_COMPRESSION_LZ4};
	struct test_kernel_spec kernel_spec = test_kernel_spec();
	struct test_bytes file = {0};
	struct riffle_image *image;
	struct test_kernel k;

	(void)state;
	test_kernel_build(&k, &kernel_spec);
	assert_true(test_bzimage_build(&file, &spec, k.elf.at, k.elf.count));
	image = open_image(test_file_of(&file), -1);
	assert_image(image, &k, false);
	riffle_image_close(image);
	test_bytes_free(&file);
	test_kernel_free(&k);
}

/* The largest alignment that divides the load address and that p_align admits. */
static void test_elf_alignment(void **state)
{
	static const struct {
		uint64_t link_phys, p_align, expected;
	} rows[] = {
	    {16u << 20, 2u << 20, 2u << 20},  {16u << 20, 16u << 20, 16u << 20}, {32u << 20, 1u << 30, 16u << 20},
	    {12u << 20, 16u << 20, 4u << 20}, {16u << 20, 4096, 2u << 20},       {16u << 20, 0, 2u << 20},
	    {6u << 20, UINT64_MAX, 2u << 20}, {16u << 20, 8u << 20, 8u << 20},
	};
	struct test_kernel_spec spec = test_kernel_spec();
	size_t i;

	(void)state;
	for (i = 0; i < sizeof rows / sizeof *rows; i++) {
		struct riffle_image *image;
		struct test_kernel k;

		spec.link_phys = rows[i].link_phys;
		test_kernel_build(&k, &spec);
		test_elf_segment(&k.elf, TEST_TEXT)->p_align = rows[i].p_align;
		image = open_image(test_file_of(&k.elf), -1);
		assert_int_equal(image->kernel_alignment, rows[i].expected);
		riffle_image_close(image);
		test_kernel_free(&k);
	}
}

static void test_peek_at_others(void **state)
{
	static const char text[] = "no kernel";
	int fd = test_file(text, sizeof text);

	(void)state;
	assert_int_equal(riffle_image_peek_compression(fd), RIFFLE_COMPRESSION_NONE);
	assert_int_equal(riffle_image_peek_compression(-1), RIFFLE_COMPRESSION_NONE);
	close(fd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_elf_kinds),
	    cmocka_unit_test(test_elf_without_sections),
	    cmocka_unit_test(test_empty_inverse_list),
	    cmocka_unit_test(test_not_relocatable),
	    cmocka_unit_test(test_extended_numbers),
	    cmocka_unit_test(test_odd_build_ids),
	    cmocka_unit_test(test_bzimage_compressions),
	    cmocka_unit_test(test_other_formats),
	    cmocka_unit_test(test_padded_list),
	    cmocka_unit_test(test_zero_before_two_lists),
	    cmocka_unit_test(test_list_after_more),
	    cmocka_unit_test(test_bzimage_lzo),
	    cmocka_unit_test(test_bzimage_without_list),
	    cmocka_unit_test(test_elf_alignment),
	    cmocka_unit_test(test_peek_at_others),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
