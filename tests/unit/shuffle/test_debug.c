/* SPDX-License-Identifier: Apache-2.0 */
/* A matching debug vmlinux is read to the last symbol and relocation; any other is refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "prepare/shuffle/debug.h"
#include "tests/lib/kernels.h"

static struct riffle_error error;

struct pair {
	struct test_kernel stripped, whole;
	struct riffle_image *image;
};

static void make_pair(struct pair *p, bool percpu_at_zero)
{
	struct test_kernel_spec spec = test_kernel_spec();
	int fd, list;

	spec.percpu_at_zero = percpu_at_zero;
	spec.sections = true;
	spec.rela = false;
	test_kernel_build(&p->stripped, &spec);
	spec.rela = true;
	test_kernel_build(&p->whole, &spec);
	fd = test_file_of(&p->stripped.elf);
	list = test_file_of(&p->stripped.list);
	assert_int_equal(riffle_image_open(&p->image, fd, list, &error), 0);
	close(fd);
	close(list);
}

static void end_pair(struct pair *p)
{
	riffle_image_close(p->image);
	test_kernel_free(&p->stripped);
	test_kernel_free(&p->whole);
}

/* With a hole behind it. */
static int open_longer(struct shuffle_debug **debug, const struct pair *p, const struct test_bytes *elf, off_t hole)
{
	int fd = test_file_of(elf), status;

	assert_int_equal(ftruncate(fd, (off_t)elf->count + hole), 0);
	status = shuffle_debug_open(debug, p->image, fd, &error);
	close(fd);
	return status;
}

static int open_debug(struct shuffle_debug **debug, const struct pair *p, const struct test_bytes *elf)
{
	return open_longer(debug, p, elf, 0);
}

static void test_own(void **state)
{
	(void)state;
	for (int percpu = 0; percpu < 2; percpu++) {
		const struct test_relocs *lists[3];
		struct shuffle_debug *debug;
		uint32_t found = 0, listed;
		struct pair p;

		make_pair(&p, percpu);
		assert_int_equal(open_debug(&debug, &p, &p.whole.elf), 0);
		assert_true(debug->has_rela);
		assert_true(debug->symbol_count > 3);
		assert_int_equal(debug->percpu_section != 0, percpu);
		lists[0] = &p.whole.reloc64;
		lists[1] = &p.whole.reloc32;
		lists[2] = &p.whole.reloc32_inverse;
		listed = lists[0]->count + lists[1]->count + lists[2]->count;
		for (uint32_t i = 0; i < debug->rela_count; i++) {
			assert_true(!i || debug->rela[i].field >= debug->rela[i - 1].field);
			assert_true(debug->rela[i].symbol < debug->symbol_count);
			for (unsigned l = 0; l < 3; l++)
				for (uint32_t n = 0; n < lists[l]->count; n++)
					found += lists[l]->offset[n] == debug->rela[i].field;
		}
		assert_int_equal(found, listed);
		assert_true(debug->rela_count > listed); /* others are no absolute relocations */
		shuffle_debug_close(debug);
		end_pair(&p);
	}
}

static void expect_refused(const struct pair *p, const struct test_bytes *elf, const char *field, const char *problem)
{
	struct shuffle_debug *debug = (void *)1;

	assert_int_equal(open_debug(&debug, p, elf), RIFFLE_ERR_FORMAT);
	assert_null(debug);
	assert_string_equal(error.field, field);
	if (!strstr(error.problem, problem))
		fail_msg("%s", error.problem);
}

static void test_other_builds(void **state)
{
	struct test_kernel_spec spec;
	struct test_kernel other;
	struct pair p;
	uint8_t *byte;

	(void)state;
	make_pair(&p, true);
	spec = p.whole.spec;

	spec.seed++;
	test_kernel_build(&other, &spec);
	expect_refused(&p, &other.elf, "debug vmlinux", "another byte");
	test_kernel_free(&other);

	test_elf_segment(&p.whole.elf, TEST_INIT)->p_memsz += 4096;
	expect_refused(&p, &p.whole.elf, "debug vmlinux", "segment");

	byte = memmem(p.whole.elf.at, p.whole.elf.count, TEST_KERNEL_BUILD_ID, strlen(TEST_KERNEL_BUILD_ID));
	assert_non_null(byte);
	*byte ^= 1;
	expect_refused(&p, &p.whole.elf, "debug vmlinux", "build id");
	end_pair(&p);
}

/* one byte of any segment: its address is told */
static void test_one_byte(void **state)
{
	struct pair p;

	(void)state;
	make_pair(&p, true);
	for (unsigned s = 0; s < TEST_SEGMENTS; s++) {
		uint8_t *bytes = p.whole.elf.at + test_elf_segment(&p.whole.elf, s)->p_offset;

		bytes[20] ^= 0x10;
		expect_refused(&p, &p.whole.elf, "debug vmlinux", "another byte");
		assert_int_equal(error.found, p.whole.link_virt + p.whole.start[s] + 20);
		bytes[20] ^= 0x10;
	}
	end_pair(&p);
}

static void test_broken_tables(void **state)
{
	struct pair p;
	Elf64_Shdr *symtab, *strtab, *rela;
	Elf64_Rela *first;
	Elf64_Sym *symbol;

	(void)state;
	make_pair(&p, true);
	expect_refused(&p, &p.stripped.elf, "debug vmlinux", "no symbols");
	symtab = test_elf_section(&p.whole.elf, ".symtab");
	strtab = test_elf_section(&p.whole.elf, ".strtab");
	rela = test_elf_section(&p.whole.elf, ".rela.text");
	first = (Elf64_Rela *)(void *)(p.whole.elf.at + rela->sh_offset);
	symbol = (Elf64_Sym *)(void *)(p.whole.elf.at + symtab->sh_offset) + 1;

	symbol->st_name = (uint32_t)strtab->sh_size;
	expect_refused(&p, &p.whole.elf, ".symtab st_name", "past the names");
	symbol->st_name = 0;

	first->r_info += UINT64_C(1) << 52;
	expect_refused(&p, &p.whole.elf, ".rela r_info", "names no symbol");
	first->r_info -= UINT64_C(1) << 52;

	first->r_offset += 1u << 30;
	expect_refused(&p, &p.whole.elf, ".rela r_offset", "outside");
	first->r_offset -= 1u << 30;

	symtab->sh_link = 1000;
	expect_refused(&p, &p.whole.elf, ".symtab sh_link", "no section");
	symtab->sh_link = 1;
	expect_refused(&p, &p.whole.elf, ".strtab", "not a string table");
	end_pair(&p);
}

/* What a table may just be, and just not. */
static void test_limits(void **state)
{
	enum { SYMTAB_BYTES, STRTAB_BYTES };
	static const struct {
		int what;
		uint64_t value;
		const char *field, *problem;
		uint64_t found, expected;
	} cases[] = {
	    {SYMTAB_BYTES, 0, ".symtab", "is empty or too long", 0, 1u << 23},
	    {SYMTAB_BYTES, 23, ".symtab", "is empty or too long", 0, 1u << 23},
	    {SYMTAB_BYTES, 24 * ((UINT64_C(1) << 23) + 1), ".symtab", "is empty or too long", (1u << 23) + 1, 1u << 23},
	    {STRTAB_BYTES, 0, ".strtab", "is not a string table, or too long", 0, 0},
	    {STRTAB_BYTES, (UINT64_C(1) << 30) + 1, ".strtab", "is not a string table, or too long", (1u << 30) + 1, 0},
	};
	struct shuffle_debug *debug;
	struct pair p;

	(void)state;
	make_pair(&p, false);
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		Elf64_Shdr *s = test_elf_section(&p.whole.elf, cases[i].what == STRTAB_BYTES ? ".strtab" : ".symtab");
		Elf64_Shdr kept = *s;

		s->sh_size = cases[i].value;
		assert_int_equal(open_longer(&debug, &p, &p.whole.elf, 2l << 30), RIFFLE_ERR_FORMAT);
		assert_string_equal(error.field, cases[i].field);
		assert_string_equal(error.problem, cases[i].problem);
		assert_int_equal(error.found, cases[i].found);
		assert_int_equal(error.has_expected ? error.expected : 0, cases[i].expected);
		*s = kept;
	}
	end_pair(&p);
}

/* a file truncated anywhere is refused, and nothing is read past its end */
static void test_cut_short(void **state)
{
	struct pair p;

	(void)state;
	make_pair(&p, false);
	for (size_t bytes = 0; bytes < p.whole.elf.count; bytes += p.whole.elf.count / 61 + 1) {
		struct test_bytes cut = {0};
		struct shuffle_debug *debug;

		test_bytes_add(&cut, p.whole.elf.at, bytes);
		assert_int_not_equal(open_debug(&debug, &p, &cut), 0);
		assert_null(debug);
		test_bytes_free(&cut);
	}
	end_pair(&p);
}

/* random damage behind the segments: read or refused, nothing worse (the sanitizers watch) */
static void test_damage(void **state)
{
	uint64_t seed = 20261123;
	unsigned read = 0;
	struct pair p;
	size_t behind;

	(void)state;
	print_message("seed %llu\n", (unsigned long long)seed);
	make_pair(&p, true);
	behind = test_elf_segment(&p.whole.elf, TEST_SEGMENTS - 1)->p_offset + p.whole.spec.segment_bytes;
	for (unsigned round = 0; round < 300; round++) {
		struct test_bytes copy = {0};
		struct shuffle_debug *debug;

		test_bytes_add(&copy, p.whole.elf.at, p.whole.elf.count);
		for (unsigned i = 0; i < 1 + round % 9; i++)
			copy.at[behind + test_random(&seed) % (copy.count - behind)] = (uint8_t)test_random(&seed);
		if (!open_debug(&debug, &p, &copy)) {
			read++;
			shuffle_debug_close(debug);
		}
		test_bytes_free(&copy);
	}
	print_message("%u of 300 damaged files were read all the same\n", read);
	end_pair(&p);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_own),           cmocka_unit_test(test_other_builds), cmocka_unit_test(test_one_byte),
	    cmocka_unit_test(test_broken_tables), cmocka_unit_test(test_limits),       cmocka_unit_test(test_cut_short),
	    cmocka_unit_test(test_damage),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
