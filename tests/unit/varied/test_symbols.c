/* SPDX-License-Identifier: Apache-2.0 */
/* kallsyms of every age, a System.map, a vmlinux's symbols and a log with one thing changed: what is read is as
 * recorded. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "prepare/symbols/annotate.h"
#include "prepare/symbols/kallsyms.h"
#include "tests/unit/symbols/kallsyms_builder.h"
#include "tests/unit/varied/vary.h"

static struct riffle_error error;

static void record_symbols(struct recorded *r, const struct symbols *s)
{
	static const uint64_t into[] = {0, 1, 0x17, 0x123, 0x456, 0x1ff, 0x1000, 0x4321};
	struct symbol_place place;

	for (size_t i = 0; i < s->count; i++)
		record(r, "%llx %s %u", (unsigned long long)s->symbol[i].address, s->names + s->symbol[i].name,
		       s->symbol[i].rank);
	for (unsigned i = 0; i < sizeof into / sizeof *into; i++)
		if (symbols_find(&place, s, LINK_VIRTUAL + into[i]))
			record(r, "%llx: %s %llu of %llu", (unsigned long long)into[i], place.name,
			       (unsigned long long)place.offset, (unsigned long long)place.bytes);
}

static void add(void *opaque, uint64_t address, char type, const char *name)
{
	record(opaque, "%llx %c %s", (unsigned long long)address, type, name);
}

static void try_kallsyms(struct recorded *r, const struct test_bytes *input)
{
	struct kallsyms_place p;
	struct symbols symbols;
	char *names;

	if (!record_status(r, kallsyms_find(&p, input->at, input->count, LINK_VIRTUAL, &error), &error)) {
		record(r, "%d%d %u at %zx, %zx, %zx: %llx, %zx+%zx, %zx, %zx, %zx+%zx", p.self_relative,
		       p.absolute_percpu, p.count, p.num_syms, p.offsets, p.base, (unsigned long long)p.relative_base,
		       p.names, p.names_bytes, p.markers, p.seqs, p.tokens, p.tokens_bytes);
		if (!record_status(r, kallsyms_read(&names, &p, input->at, input->count, LINK_VIRTUAL, add, r, &error),
				   &error))
			free(names);
	}
	symbols_init(&symbols, LINK_VIRTUAL, LINK_VIRTUAL + input->count);
	if (!record_status(r, symbols_from_kallsyms(&symbols, input->at, input->count, &error), &error))
		record_symbols(r, &symbols);
	symbols_free(&symbols);
}

static void test_kallsyms(void **state)
{
	static const struct varied parts[KALLSYMS_FORMATS] = {
	    {{"kallsyms 5.10", UINT64_C(0x98671cadc80e99c2), 936, 576}, 64, 0, 600},
	    {{"kallsyms 5.10 without SMP", UINT64_C(0x4a99d3246e79225f), 933, 578}, 64, 0, 600},
	    {{"kallsyms 6.1", UINT64_C(0xe9b72725dc0f5ca1), 765, 666}, 64, 0, 600},
	    {{"kallsyms 6.12", UINT64_C(0x98059ed576b40e8f), 1078, 451}, 64, 0, 600},
	    {{"kallsyms 6.15", UINT64_C(0xa8a5e64a32a6f9c9), 1001, 498}, 64, 0, 600},
	    {{"kallsyms 7.2", UINT64_C(0xf94db67f2659e716), 988, 513}, 64, 0, 600},
	    {{"kallsyms 7.2 packed", UINT64_C(0xfff5394925cba2df), 781, 656}, 64, 0, 600},
	};
	struct kallsyms_image *image = calloc(1, sizeof *image);
	bool good = true;

	(void)state;
	assert_non_null(image);
	for (unsigned i = 0; i < KALLSYMS_FORMATS; i++) {
		/* one marker, two that are just needed, and two */
		const uint32_t count = (const uint32_t[]){256, 257, 100, 300}[i % 4];
		struct test_bytes file = {0};

		kallsyms_build(image, &kallsyms_formats[i], count, 64);
		test_bytes_add(&file, image->bytes, image->end + 16 + i);
		good &= vary_part(&parts[i], &file, try_kallsyms);
		test_bytes_free(&file);
	}
	free(image);
	assert_true(good);
}

static void try_map(struct recorded *r, const struct test_bytes *input)
{
	struct symbols symbols;

	symbols_init(&symbols, LINK_VIRTUAL, LINK_VIRTUAL + 0x4322);
	if (!record_status(r, symbols_from_system_map(&symbols, (const char *)input->at, input->count, &error), &error))
		record_symbols(r, &symbols);
	symbols_free(&symbols);
}

static void test_map(void **state)
{
	static const char map[] =
	    "ffffffff81000000 T startup_64\nffffffff81000000 t _alias\nffffffff81000000 T __alias\n"
	    "ffffffff81000100 W weak\nffffffff81000100 w other\n00015000 D current_task\n"
	    "ffffffff81000123 t local\nffffffff81000456 V object\nffffffff81000456 v ___object\n\n"
	    "ffffffff81001000 A absolute\t[module]\nffffffff81004321 B last\nffffffff81004322 B _end\n";
	static const struct varied part = {{"System.map", UINT64_C(0x906214e01072bd92), 1732, 2268}, 0, 0, 4000};
	struct test_bytes file = {0};

	(void)state;
	test_bytes_add(&file, map, sizeof map - 1);
	assert_true(vary_part(&part, &file, try_map));
	test_bytes_free(&file);
}

static void try_vmlinux(struct recorded *r, const struct test_bytes *input)
{
	struct symbols_elf elf;
	struct symbols symbols;
	int fd = test_file_of(input);

	symbols_init(&symbols, LINK_VIRTUAL, LINK_VIRTUAL + 0x8000);
	if (!record_status(r, symbols_from_elf(&symbols, &elf, fd, &error), &error)) {
		record_symbols(r, &symbols);
		record(r, "%llx %d %u", (unsigned long long)elf.link_physical, elf.percpu_at_zero, elf.build_id_bytes);
		record_bytes(r, elf.build_id, elf.build_id_bytes);
	}
	symbols_free(&symbols);
	close(fd);
}

static void test_vmlinux(void **state)
{
	static const unsigned types[] = {STT_FUNC, STT_OBJECT, STT_NOTYPE};
	struct test_kernel_spec spec = test_kernel_spec();
	struct varied headers = {{"headers of a vmlinux", UINT64_C(0x30172ebd39a9dc5a), 281, 19}, 0, 64 + 56 * 5, 300};
	struct varied rest = {{"sections of a vmlinux", UINT64_C(0x814c11b24b8ea941), 2959, 41}, 0, 0, 3000};
	struct varied note = {{"note of a vmlinux", UINT64_C(0x8d59c45fde590a9c), 200, 0}, 0, 0, 200};
	Elf64_Shdr *names;
	struct test_kernel k;
	Elf64_Sym *symbol;
	bool good;

	(void)state;
	spec.rela = true;
	test_kernel_build(&k, &spec);
	/* names of all kinds for its symbols, in place of the names of sections, which nobody asks for */
	names = test_elf_section(&k.elf, ".strtab");
	symbol = (Elf64_Sym *)(void *)(k.elf.at + test_elf_section(&k.elf, ".symtab")->sh_offset);
	names->sh_offset = test_elf_section(&k.elf, ".shstrtab")->sh_offset;
	names->sh_size = test_elf_section(&k.elf, ".shstrtab")->sh_size;
	for (unsigned i = 1; i < 7; i++) {
		symbol[i].st_name = 1 + 6 * i;
		symbol[i].st_shndx = 1;
		symbol[i].st_value = LINK_VIRTUAL + 0x100 * (i / 2);
		symbol[i].st_info = ELF64_ST_INFO(i % 2 ? STB_GLOBAL : STB_LOCAL, types[i % 3]);
	}
	rest.from = (uint32_t)test_elf_section(&k.elf, ".debug_info")->sh_offset;
	note.from = (uint32_t)test_elf_section(&k.elf, ".notes")->sh_offset;
	note.to = note.from + 36;
	good = vary_part(&headers, &k.elf, try_vmlinux);
	good &= vary_part(&rest, &k.elf, try_vmlinux);
	good &= vary_part(&note, &k.elf, try_vmlinux);
	test_kernel_free(&k);
	assert_true(good);
}

/* Slid by 1 MiB. */
static bool to_link(const void *map, uint64_t address, uint64_t *link)
{
	(void)map;
	*link = address - 0x100000;
	return *link - LINK_VIRTUAL < 0x4322;
}

static int write_log(void *opaque, const char *text, size_t bytes)
{
	record_bytes(opaque, text, bytes);
	record(opaque, "%.*s", (int)bytes, text);
	return 0;
}

static void try_log(struct recorded *r, const struct test_bytes *input)
{
	static const char map[] = "ffffffff81000000 T startup_64\nffffffff81000456 T object\n";
	struct symbols symbols;
	struct annotator a = {.to_link = to_link, .write = write_log, .opaque = r};
	size_t step = 1 + r->accepted % 61;

	symbols_init(&symbols, LINK_VIRTUAL, LINK_VIRTUAL + 0x4322);
	assert_int_equal(symbols_from_system_map(&symbols, map, sizeof map - 1, &error), 0);
	a.symbols = r->accepted % 5 ? &symbols : NULL;
	for (size_t at = 0; at < input->count; at += step)
		assert_int_equal(
		    annotate(&a, (const char *)input->at + at, input->count - at < step ? input->count - at : step), 0);
	record_status(r, annotate_end(&a), &error);
	symbols_free(&symbols);
}

static void test_log(void **state)
{
	static const char log[] =
	    "[    0.1] RIP: 0010:0xffffffff81100455 at ffffffff81100456, 0xffffffff811004567 and\n"
	    "0xffffffff81104321 0XFFFFFFFF81104321 ffffffff81104322_ xffffffff81100000 \x1b[31mffffffff81100000"
	    "\x1b[0;1;33m 0xffffffff81100000\x1bM0x00000000ffffffff81100001 0x1 0xffffffff810fffff (ffffffff81100010)";
	static const struct varied part = {{"log", UINT64_C(0x4ae4a868e73a27e7), 2000, 0}, 0, 0, 2000};
	struct test_bytes file = {0};

	(void)state;
	test_bytes_add(&file, log, sizeof log - 1);
	assert_true(vary_part(&part, &file, try_log));
	test_bytes_free(&file);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_kallsyms),
	    cmocka_unit_test(test_map),
	    cmocka_unit_test(test_vmlinux),
	    cmocka_unit_test(test_log),
	};

	return cmocka_run_group_tests_name("varied-symbols", tests, NULL, NULL);
}
