/* SPDX-License-Identifier: Apache-2.0 */
/* Broken and hostile ELF files and relocation lists: each is refused with an error that names the field. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/unit/image/hostile.h"

/* --- ELF --- */

#define ELF_ROW(name, ...)                                                                                             \
	static void name(struct input *in)                                                                             \
	{                                                                                                              \
		Elf64_Ehdr *h = test_elf_header(&in->k.elf);                                                           \
		Elf64_Phdr *p = test_elf_segment(&in->k.elf, 0);                                                       \
		(void)h, (void)p;                                                                                      \
		__VA_ARGS__                                                                                            \
	}

ELF_ROW(class_32, h->e_ident[EI_CLASS] = ELFCLASS32;)
ELF_ROW(big_endian, h->e_ident[EI_DATA] = ELFDATA2MSB;)
ELF_ROW(ident_version, h->e_ident[EI_VERSION] = 0;)
ELF_ROW(elf_version, h->e_version = 2;)
ELF_ROW(arm64, h->e_machine = EM_AARCH64;)
ELF_ROW(i386, h->e_machine = EM_386;)
ELF_ROW(object_file, h->e_type = ET_REL;)
ELF_ROW(shared_object, h->e_type = ET_DYN;)
ELF_ROW(header_size, h->e_ehsize = 52;)
ELF_ROW(phentsize, h->e_phentsize = 32;)
ELF_ROW(no_segments, h->e_phnum = 0;)
ELF_ROW(many_segments, h->e_phnum = PN_XNUM;)
ELF_ROW(phoff_past_end, h->e_phoff = in->k.elf.count - 10;)
ELF_ROW(phoff_wraps, h->e_phoff = UINT64_MAX - 8;)
ELF_ROW(nothing_to_load, for (int i = 0; i < TEST_SEGMENTS; i++) p[i].p_type = PT_NULL;)
ELF_ROW(only_empty_loads, for (int i = 0; i < TEST_SEGMENTS; i++) p[i].p_filesz = p[i].p_memsz = 0;)
ELF_ROW(filesz_above_memsz, p[0].p_memsz = p[0].p_filesz - 1;)
ELF_ROW(segment_past_end, p[1].p_offset = in->k.elf.count - 1;)
ELF_ROW(segment_offset_wraps, p[1].p_offset = UINT64_MAX - 100;)
ELF_ROW(segment_too_long, p[1].p_filesz = p[1].p_memsz = UINT64_MAX;)
ELF_ROW(segment_above_window, p[3].p_memsz = UINT64_C(1) << 30;)
ELF_ROW(segment_wraps, p[3].p_memsz = UINT64_MAX - 100;)
ELF_ROW(segment_far_away, p[3].p_paddr = UINT64_C(1) << 40;)
ELF_ROW(segments_overlap, p[1].p_paddr = p[0].p_paddr + 16; p[1].p_vaddr = p[0].p_vaddr + 16;)
ELF_ROW(segments_equal, p[1].p_paddr = p[0].p_paddr; p[1].p_vaddr = p[0].p_vaddr;)
ELF_ROW(bss_overlaps, p[1].p_memsz = 0x4000;)
ELF_ROW(virtual_paddr, for (int i = 0; i < TEST_SEGMENTS; i++) p[i].p_paddr = p[i].p_vaddr;)
ELF_ROW(paddr_is_vaddr_but_percpu,
	for (int i = 0; i < TEST_SEGMENTS; i++) if (p[i].p_vaddr) p[i].p_paddr = p[i].p_vaddr;)
ELF_ROW(unaligned_base, p[0].p_paddr += 4096; p[0].p_vaddr += 4096; p[1].p_type = p[2].p_type = p[3].p_type = PT_NULL;)
ELF_ROW(other_vaddr, p[1].p_vaddr += 4096;)
ELF_ROW(lowest_vaddr_zero, p[0].p_vaddr = 0;)
ELF_ROW(two_percpu, p[1].p_vaddr = 0;)
ELF_ROW(low_user_program, for (int i = 0; i < TEST_SEGMENTS; i++) p[i].p_vaddr = p[i].p_paddr;)
ELF_ROW(entry_below, h->e_entry = 4096;)
ELF_ROW(entry_virtual, h->e_entry = in->k.link_virt;)
ELF_ROW(entry_in_gap, h->e_entry = in->k.spec.link_phys + in->k.spec.segment_bytes;)
ELF_ROW(entry_in_bss, h->e_entry = p[3].p_paddr + p[3].p_filesz;)
ELF_ROW(entry_above, h->e_entry = UINT64_MAX;)
ELF_ROW(note_past_end, p[TEST_NOTE_SEGMENT].p_offset = in->k.elf.count;)

ELF_ROW(shentsize, h->e_shentsize = 40;)
ELF_ROW(shoff_past_end, h->e_shoff = in->k.elf.count;)
ELF_ROW(shoff_wraps, h->e_shoff = UINT64_MAX - 63;)
ELF_ROW(too_many_sections, h->e_shnum = 0xff00;)
ELF_ROW(no_section_count, h->e_shnum = 0;)
ELF_ROW(shstrndx, h->e_shstrndx = h->e_shnum;)
ELF_ROW(shstrndx_no_strings, h->e_shstrndx = 1;)
ELF_ROW(names_unended, {
	Elf64_Shdr *s = test_elf_section(&in->k.elf, ".shstrtab");
	in->k.elf.at[s->sh_offset + s->sh_size - 1] = 'x';
})
ELF_ROW(name_past_end, test_elf_section(&in->k.elf, ".text")->sh_name = 0x10000;)
ELF_ROW(section_past_end, test_elf_section(&in->k.elf, ".symtab")->sh_size = in->k.elf.count;)
ELF_ROW(section_wraps, test_elf_section(&in->k.elf, ".symtab")->sh_offset = UINT64_MAX - 1;)

/* --- .rela --- */

static Elf64_Rela *rela(struct input *in, const char *section, unsigned type)
{
	Elf64_Shdr *s = test_elf_section(&in->k.elf, section);
	Elf64_Rela *r = (Elf64_Rela *)(void *)(in->k.elf.at + s->sh_offset), *end = r + s->sh_size / sizeof *r;

	/* the last one of the type: traps come first */
	while (end-- > r)
		if (ELF64_R_TYPE(end->r_info) == type)
			return end;
	abort();
}

ELF_ROW(rela_size, test_elf_section(&in->k.elf, ".rela.text")->sh_size -= 8;)
ELF_ROW(rela_link, test_elf_section(&in->k.elf, ".rela.text")->sh_link = 1;)
ELF_ROW(rela_link_past_end, test_elf_section(&in->k.elf, ".rela.text")->sh_link = 1000;)
ELF_ROW(rela_symbol, rela(in, ".rela.text", R_X86_64_64)->r_info = ELF64_R_INFO(UINT64_C(99999), R_X86_64_64);)
ELF_ROW(rela_type, rela(in, ".rela.text", R_X86_64_64)->r_info += R_X86_64_PC8 - R_X86_64_64;)
ELF_ROW(rela_below_section, rela(in, ".rela.data", R_X86_64_64)->r_offset = in->k.link_virt;)
ELF_ROW(rela_above_section, rela(in, ".rela.data", R_X86_64_64)->r_offset += in->k.spec.segment_bytes;)
ELF_ROW(rela_wraps, rela(in, ".rela.data", R_X86_64_64)->r_offset = UINT64_MAX - 3;)
ELF_ROW(rela_across_end, {
	Elf64_Shdr *s = test_elf_section(&in->k.elf, ".data");
	rela(in, ".rela.data", R_X86_64_64)->r_offset = s->sh_addr + s->sh_size - 7;
})
ELF_ROW(rela_twice, {
	Elf64_Rela *r = rela(in, ".rela.data", R_X86_64_64);
	r[-1] = r[0];
})
ELF_ROW(
    rela_section_elsewhere, test_elf_section(&in->k.elf, ".data")->sh_addr += UINT64_C(1) << 32;
    rela(in, ".rela.data", R_X86_64_64); {
	    Elf64_Shdr *s = test_elf_section(&in->k.elf, ".rela.data");
	    Elf64_Rela *r = (Elf64_Rela *)(void *)(in->k.elf.at + s->sh_offset);
	    for (size_t i = 0; i < s->sh_size / sizeof *r; i++)
		    r[i].r_offset += UINT64_C(1) << 32;
    })
ELF_ROW(rela_in_bss, p[3].p_filesz = 64; in->k.elf.at[0] = 0x7f;)
ELF_ROW(percpu_without_segment, p[2].p_vaddr = in->k.link_virt + in->k.start[TEST_PERCPU];)
ELF_ROW(percpu_pc64, rela(in, ".rela.text", R_X86_64_PC32)->r_info += R_X86_64_PC64 - R_X86_64_PC32;)

/* --- relocation lists --- */

#define LIST_ROW(name, ...)                                                                                            \
	static void name(struct input *in)                                                                             \
	{                                                                                                              \
		uint32_t *w = (uint32_t *)(void *)in->list.at;                                                         \
		size_t n = in->list.count / 4;                                                                         \
		in->with_list = true;                                                                                  \
		(void)w, (void)n;                                                                                      \
		__VA_ARGS__                                                                                            \
	}

LIST_ROW(list_empty, in->list.count = 0;)
LIST_ROW(list_one_zero, in->list.count = 4;)
LIST_ROW(list_three_zeros, memset(w, 0, 12); in->list.count = 12;)
LIST_ROW(list_all_zeros, memset(w, 0, in->list.count);)
LIST_ROW(list_no_first_zero, w[0] = w[1] - 1;)
LIST_ROW(list_cut_in_first, in->list.count = 4 * (1 + in->k.reloc64.count);)
LIST_ROW(list_ragged, in->list.count -= 1;)
LIST_ROW(list_four, test_bytes_word(&in->list, 0);)
LIST_ROW(list_unsorted, uint32_t t = w[3]; w[3] = w[4]; w[4] = t;)
LIST_ROW(list_last_unsorted, uint32_t t = w[n - 1]; w[n - 1] = w[n - 2]; w[n - 2] = t;)
LIST_ROW(list_duplicate, w[4] = w[3];)
LIST_ROW(list_below, w[1] = (uint32_t)in->k.link_virt - 8;)
LIST_ROW(list_positive, w[1] = 0x1000;)
LIST_ROW(list_above, w[n - 1] = (uint32_t)(in->k.link_virt + in->k.image_bytes);)
LIST_ROW(list_in_bss, w[n - 1] = (uint32_t)(in->k.link_virt + in->k.start[TEST_INIT] + in->k.spec.segment_bytes);)
LIST_ROW(list_across_end,
	 w[n - 1] = (uint32_t)(in->k.link_virt + in->k.start[TEST_INIT] + in->k.spec.segment_bytes - 3);)
LIST_ROW(list_across_end_64,
	 w[in->k.reloc64.count] = (uint32_t)(in->k.link_virt + in->k.start[TEST_INIT] + in->k.spec.segment_bytes - 5);)
LIST_ROW(list_in_gap, uint32_t end = (uint32_t)in->k.link_virt + in->k.spec.segment_bytes; size_t i = 1;
	 while (w[i] < end) i++; w[i] = end;)
LIST_ROW(list_top, w[n - 1] = UINT32_MAX;)
LIST_ROW(list_and_appended, test_bytes_add(&in->k.elf, in->list.at, in->list.count);)
LIST_ROW(list_for_bzimage, struct test_bzimage_spec spec = {.compression = RIFFLE_COMPRESSION_GZIP};
	 assert_true(test_bzimage_of(&in->bzimage, &spec, &in->k));)
ELF_ROW(junk_appended, test_bytes_add(&in->k.elf, "junk", 4);)
ELF_ROW(ragged_appended, test_bytes_add(&in->k.elf, in->list.at, in->list.count); test_bytes_add(&in->k.elf, "abc", 3);)

static const struct row {
	const char *name;
	void (*change)(struct input *in);
	int status;
	const char *field;
} rows[] = {
#define ROW(change, status, field)                                                                                     \
	{                                                                                                              \
#change, change, RIFFLE_ERR_##status, field                                                            \
	}
    ROW(class_32, UNSUPPORTED, "EI_CLASS"),
    ROW(big_endian, UNSUPPORTED, "EI_DATA"),
    ROW(ident_version, UNSUPPORTED, "e_version"),
    ROW(elf_version, UNSUPPORTED, "e_version"),
    ROW(arm64, UNSUPPORTED, "e_machine"),
    ROW(i386, UNSUPPORTED, "e_machine"),
    ROW(object_file, UNSUPPORTED, "e_type"),
    ROW(shared_object, UNSUPPORTED, "e_type"),
    ROW(header_size, FORMAT, "e_ehsize"),
    ROW(phentsize, FORMAT, "e_phentsize"),
    ROW(no_segments, FORMAT, "e_phnum"),
    ROW(many_segments, FORMAT, "e_phnum"),
    ROW(phoff_past_end, FORMAT, "e_phoff"),
    ROW(phoff_wraps, FORMAT, "e_phoff"),
    ROW(nothing_to_load, FORMAT, "PT_LOAD"),
    ROW(only_empty_loads, FORMAT, "PT_LOAD"),
    ROW(filesz_above_memsz, FORMAT, "p_filesz"),
    ROW(segment_past_end, FORMAT, "p_offset + p_filesz"),
    ROW(segment_offset_wraps, FORMAT, "p_offset + p_filesz"),
    ROW(segment_too_long, FORMAT, "p_offset + p_filesz"),
    ROW(segment_above_window, UNSUPPORTED, "p_paddr + p_memsz"),
    ROW(segment_wraps, FORMAT, "p_paddr + p_memsz"),
    ROW(segment_far_away, UNSUPPORTED, "p_paddr + p_memsz"),
    ROW(segments_overlap, FORMAT, "p_paddr"),
    ROW(segments_equal, FORMAT, "p_paddr"),
    ROW(bss_overlaps, FORMAT, "p_paddr"),
    ROW(virtual_paddr, UNSUPPORTED, "p_paddr"),
    ROW(paddr_is_vaddr_but_percpu, UNSUPPORTED, "p_paddr"),
    ROW(unaligned_base, FORMAT, "p_paddr"),
    ROW(other_vaddr, UNSUPPORTED, "p_vaddr"),
    ROW(lowest_vaddr_zero, UNSUPPORTED, "p_vaddr"),
    ROW(two_percpu, FORMAT, "p_vaddr"),
    ROW(low_user_program, UNSUPPORTED, "p_vaddr"),
    ROW(entry_below, FORMAT, "e_entry"),
    ROW(entry_virtual, FORMAT, "e_entry"),
    ROW(entry_in_gap, FORMAT, "e_entry"),
    ROW(entry_in_bss, FORMAT, "e_entry"),
    ROW(entry_above, FORMAT, "e_entry"),
    ROW(note_past_end, FORMAT, "PT_NOTE"),
    ROW(shentsize, FORMAT, "e_shentsize"),
    ROW(shoff_past_end, FORMAT, "e_shoff"),
    ROW(shoff_wraps, FORMAT, "e_shoff"),
    ROW(too_many_sections, FORMAT, "e_shoff + e_shnum"),
    ROW(no_section_count, FORMAT, "e_shnum"),
    ROW(shstrndx, FORMAT, "e_shstrndx"),
    ROW(shstrndx_no_strings, FORMAT, "e_shstrndx"),
    ROW(names_unended, FORMAT, "section names"),
    ROW(name_past_end, FORMAT, "sh_name"),
    ROW(section_past_end, FORMAT, "sh_offset + sh_size"),
    ROW(section_wraps, FORMAT, "sh_offset + sh_size"),
    ROW(rela_size, FORMAT, ".rela sh_size"),
    ROW(rela_link, FORMAT, ".rela sh_link"),
    ROW(rela_link_past_end, FORMAT, ".rela sh_link"),
    ROW(rela_symbol, FORMAT, ".rela r_info"),
    ROW(rela_type, UNSUPPORTED, ".rela r_info"),
    ROW(rela_below_section, FORMAT, ".rela r_offset"),
    ROW(rela_above_section, FORMAT, ".rela r_offset"),
    ROW(rela_wraps, FORMAT, ".rela r_offset"),
    ROW(rela_across_end, FORMAT, ".rela r_offset"),
    ROW(rela_twice, FORMAT, ".rela"),
    ROW(rela_section_elsewhere, FORMAT, "relocation"),
    ROW(rela_in_bss, FORMAT, "relocation"),
    ROW(percpu_without_segment, FORMAT, ".data..percpu"),
    ROW(percpu_pc64, UNSUPPORTED, ".rela r_info"),
    ROW(list_empty, FORMAT, "relocation file"),
    ROW(list_one_zero, FORMAT, "relocation list"),
    ROW(list_three_zeros, FORMAT, "relocation list"),
    ROW(list_all_zeros, FORMAT, "relocation list"),
    ROW(list_no_first_zero, FORMAT, "relocation list"),
    ROW(list_cut_in_first, FORMAT, "relocation list"),
    ROW(list_ragged, FORMAT, "relocation list"),
    ROW(list_four, FORMAT, "relocation list"),
    ROW(list_unsorted, FORMAT, "relocation list"),
    ROW(list_last_unsorted, FORMAT, "relocation list"),
    ROW(list_duplicate, FORMAT, "relocation list"),
    ROW(list_below, FORMAT, "relocation"),
    ROW(list_positive, FORMAT, "relocation"),
    ROW(list_above, FORMAT, "relocation"),
    ROW(list_in_bss, FORMAT, "relocation"),
    ROW(list_across_end, FORMAT, "relocation"),
    ROW(list_across_end_64, FORMAT, "relocation"),
    ROW(list_in_gap, FORMAT, "relocation"),
    ROW(list_top, FORMAT, "relocation"),
    ROW(list_and_appended, ARGUMENT, "relocation file"),
    ROW(list_for_bzimage, ARGUMENT, "relocation file"),
    ROW(junk_appended, FORMAT, "relocation list"),
    ROW(ragged_appended, FORMAT, "relocation list"),
};

static void test_rows(void **state)
{
	struct riffle_error error;
	struct input in;
	size_t i;
	int status;

	(void)state;
	make_input(&in);
	assert_int_equal(try_open(test_file_of(&in.k.elf), -1, &error), 0);
	assert_int_equal(try_open(test_file_of(&in.k.elf), test_file_of(&in.list), &error), 0);
	free_input(&in);
	for (i = 0; i < sizeof rows / sizeof *rows; i++) {
		make_input(&in);
		rows[i].change(&in);
		status = try_open(test_file_of(in.bzimage.count ? &in.bzimage : &in.k.elf),
				  in.with_list ? test_file_of(&in.list) : -1, &error);
		expect(rows[i].name, status, &error, rows[i].status, rows[i].field);
		free_input(&in);
	}
}

/* Tables as large as the (sparse) file but larger than in any kernel: no memory is allocated for them. */
static void test_sparse_tables(void **state)
{
	static const char *const sections[] = {".shstrtab", ".symtab", ".rela.data"};
	static const char *const fields[] = {"section names", ".symtab", ".rela"};
	struct riffle_error error;
	struct input in;
	unsigned i;
	int fd;

	(void)state;
	for (i = 0; i < 3; i++) {
		Elf64_Shdr *s;

		make_input(&in);
		s = test_elf_section(&in.k.elf, sections[i]);
		s->sh_size = UINT64_C(24) << 24;
		fd = test_file_of(&in.k.elf);
		assert_int_equal(ftruncate(fd, (off_t)(s->sh_offset + s->sh_size)), 0);
		expect(sections[i], try_open(fd, -1, &error), &error, RIFFLE_ERR_UNSUPPORTED, fields[i]);
		free_input(&in);
	}
	make_input(&in);
	fd = test_file_of(&in.k.elf);
	assert_int_equal(ftruncate(fd, INT64_C(1) << 30), 0);
	expect("sparse tail", try_open(fd, -1, &error), &error, RIFFLE_ERR_UNSUPPORTED, "relocation list");
	free_input(&in);
}

/* --- what is no file to read --- */

static void test_no_kernel(void **state)
{
	static const char prepared[4096] = RIFFLE_MAGIC, text[] = "#!/bin/sh\n", elf_magic[] = "\177ELF";
	struct riffle_error error;
	struct input in;
	int pipe_fd[2];

	(void)state;
	make_input(&in);
	expect("empty", try_open(test_file("", 0), -1, &error), &error, RIFFLE_ERR_FORMAT, "kernel file");
	assert_string_equal(error.problem, "is empty");
	expect("one byte", try_open(test_file("x", 1), -1, &error), &error, RIFFLE_ERR_FORMAT, "kernel file");
	assert_string_equal(error.problem, "is neither a bzImage nor an ELF file");
	expect("directory", try_open(open("/", O_RDONLY | O_DIRECTORY), -1, &error), &error, RIFFLE_ERR_FORMAT,
	       "kernel file");
	expect("device", try_open(open("/dev/zero", O_RDONLY), -1, &error), &error, RIFFLE_ERR_FORMAT, "kernel file");
	assert_int_equal(pipe(pipe_fd), 0);
	expect("pipe", try_open(pipe_fd[0], -1, &error), &error, RIFFLE_ERR_FORMAT, "kernel file");
	expect("pipe as list", try_open(test_file_of(&in.k.elf), dup(pipe_fd[1]), &error), &error, RIFFLE_ERR_FORMAT,
	       "relocation file");
	close(pipe_fd[1]);
	expect("no descriptor", try_open(-1, -1, &error), &error, RIFFLE_ERR_ARGUMENT, "kernel file");
	expect("closed descriptor", try_open(1000, -1, &error), &error, RIFFLE_ERR_IO, "kernel file");
	assert_int_equal(error.sys_errno, EBADF);
	expect("write only", try_open(open("/tmp", O_TMPFILE | O_WRONLY, 0600), -1, &error), &error, RIFFLE_ERR_FORMAT,
	       "kernel file");
	expect("text", try_open(test_file(text, sizeof text), -1, &error), &error, RIFFLE_ERR_FORMAT, "kernel file");
	expect("prepared", try_open(test_file(prepared, sizeof prepared), -1, &error), &error, RIFFLE_ERR_ARGUMENT,
	       "kernel file");
	expect("ELF magic alone", try_open(test_file(elf_magic, 4), -1, &error), &error, RIFFLE_ERR_FORMAT,
	       "ELF header");
	free_input(&in);
}

/* --- truncation --- */

static void test_truncated_elf(void **state)
{
	struct riffle_error error;
	struct input in;
	size_t n;

	(void)state;
	make_input(&in);
	for (n = 0; n < in.k.elf.count; n++)
		if (!try_open(test_file(in.k.elf.at, n), -1, &error))
			fail_msg("accepted with %zu of %zu bytes", n, in.k.elf.count);
	free_input(&in);
}

/*
 * There is no end marker: truncated between two entries of its last list, it is only shorter. Anywhere else it is
 * refused.
 */
static void test_truncated_list(void **state)
{
	struct riffle_error error;
	struct input in;
	size_t n, last;

	(void)state;
	make_input(&in);
	last = in.list.count - 4 * in.k.reloc32.count;
	for (n = 0; n < in.list.count; n++) {
		int status = try_open(test_file_of(&in.k.elf), test_file(in.list.at, n), &error);

		if (!status && (n % 4 || n < last - 4 * (1 + in.k.reloc32_inverse.count)))
			fail_msg("accepted with %zu of %zu bytes", n, in.list.count);
	}
	free_input(&in);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_rows),           cmocka_unit_test(test_sparse_tables),
	    cmocka_unit_test(test_no_kernel),      cmocka_unit_test(test_truncated_elf),
	    cmocka_unit_test(test_truncated_list),
	};

	return run_clean(tests, sizeof tests / sizeof *tests);
}
