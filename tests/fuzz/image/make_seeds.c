/* SPDX-License-Identifier: Apache-2.0 */
/* make-image-seeds DIRECTORY: regenerates the seeds for prepare/image, tests/fuzz/corpus/{elf,bzimage,relocs,rela}. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "tests/lib/kernels.h"

static void save(const char *directory, const char *target, const char *name, const void *at, size_t count)
{
	char path[4096];
	FILE *f;

	snprintf(path, sizeof path, "%s/%s", directory, target);
	mkdir(path, 0777);
	snprintf(path, sizeof path, "%s/%s/%s", directory, target, name);
	f = fopen(path, "wb");
	if (!f || fwrite(at, 1, count, f) != count || fclose(f) != 0) {
		perror(path);
		exit(1);
	}
}

static void save_elfs(const char *directory, const struct test_kernel_spec *spec, const char *name)
{
	struct test_kernel k;
	char with[64];

	test_kernel_build(&k, spec);
	snprintf(with, sizeof with, "elf-%s", name);
	save(directory, "elf", with, k.elf.at, k.elf.count);
	if (!spec->rela) {
		snprintf(with, sizeof with, "lists-%s", name);
		save(directory, "relocs", with, k.list.at, k.list.count);
		test_bytes_add(&k.elf, k.list.at, k.list.count);
		snprintf(with, sizeof with, "appended-%s", name);
		save(directory, "elf", with, k.elf.at, k.elf.count);
	}
	test_kernel_free(&k);
}

static void save_bzimages(const char *directory, const struct test_kernel_spec *spec)
{
	static const char *const names[] = {"", "gzip", "bzip2", "lzma", "xz", "", "lz4", "zstd"};
	struct test_kernel_spec k_spec = *spec;
	struct test_kernel k;
	unsigned c;

	k_spec.relocs = 2;
	test_kernel_build(&k, &k_spec);
	for (c = RIFFLE_COMPRESSION_GZIP; c <= RIFFLE_COMPRESSION_ZSTD; c++) {
		struct test_bzimage_spec bzimage_spec = {.compression = c};
		struct test_bytes file = {0};
		unsigned s;

		if (c == RIFFLE_COMPRESSION_LZO)
			continue;
		/* random bytes do not compress, and are useless to a fuzzer */
		for (s = 0; s < TEST_SEGMENTS; s++)
			memset(k.elf.at + test_elf_segment(&k.elf, s)->p_offset + 192, 0, spec->segment_bytes - 192);
		test_bzimage_of(&file, &bzimage_spec, &k);
		save(directory, "bzimage", names[c], file.at, file.count);
		test_bytes_free(&file);
	}
	test_kernel_free(&k);
}

/* In fuzz_rela.c's form: target section 2 (.data), no symbol of its own, the entries of the good file. */
static void save_rela(const char *directory, const struct test_kernel_spec *spec)
{
	static const char *const sections[] = {".rela.text", ".rela.data", ".rela.data..percpu"};
	static const uint8_t targets[] = {1, 2, 4};
	struct test_kernel k;
	unsigned i;

	test_kernel_build(&k, spec);
	for (i = 0; i < 3; i++) {
		const Elf64_Shdr *s = test_elf_section(&k.elf, sections[i]);
		struct test_bytes seed = {0};
		uint8_t head[2] = {targets[i], i == 1};
		Elf64_Sym symbol = {.st_shndx = 4, .st_value = 0x20};

		test_bytes_add(&seed, head, 2);
		test_bytes_add(&seed, &symbol, i == 1 ? sizeof symbol : 0);
		test_bytes_add(&seed, k.elf.at + s->sh_offset, s->sh_size);
		save(directory, "rela", sections[i] + 1, seed.at, seed.count);
		test_bytes_free(&seed);
	}
	test_kernel_free(&k);
}

int main(int argc, char **argv)
{
	struct test_kernel_spec spec = test_kernel_spec();

	if (argc != 2) {
		fprintf(stderr, "usage: make-image-seeds DIRECTORY\n");
		return 2;
	}
	mkdir(argv[1], 0777);
	spec.segment_bytes = 512;
	spec.relocs = 5;
	save_elfs(argv[1], &spec, "three");
	save_bzimages(argv[1], &spec);
	spec.percpu_at_zero = false;
	save_elfs(argv[1], &spec, "two");
	spec.sections = false;
	save_elfs(argv[1], &spec, "bare");
	spec.sections = spec.rela = spec.percpu_at_zero = true;
	spec.relocs = 3;
	spec.segment_bytes = 192;
	save_elfs(argv[1], &spec, "rela");
	spec.segment_bytes = 1024;
	spec.relocs = 12;
	save_rela(argv[1], &spec);
	return 0;
}
