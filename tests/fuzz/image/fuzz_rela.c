/* SPDX-License-Identifier: Apache-2.0 */
/* Fuzzes .rela entries and symbols inside an otherwise good vmlinux. */
#include <string.h>

#include "tests/fuzz/image/fuzz_image.h"
#include "tests/lib/kernels.h"

/* A field may be relocated only once: drops other relocations of the same section. */
static void drop_others(struct test_bytes *file, const Elf64_Shdr *rela)
{
	const Elf64_Ehdr *header = test_elf_header(file);
	Elf64_Shdr *section = (void *)(file->at + header->e_shoff);

	for (unsigned i = 0; i < header->e_shnum; i++)
		if (section[i].sh_type == SHT_RELA && section[i].sh_info == rela->sh_info && &section[i] != rela)
			section[i].sh_size = 0;
}

/*
 * Input: the section to relocate (1 byte), the number of symbols (1 byte), symbols (appended to the good ones), and
 * entries, which replace those of .rela.data.
 */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
	static struct test_kernel kernel;
	struct test_bytes file = {0};
	Elf64_Shdr *symbols, *rela;
	size_t extra, at;

	if (bytes < 2)
		return 0;
	if (!kernel.elf.count) {
		struct test_kernel_spec spec = test_kernel_spec();

		spec.rela = true;
		test_kernel_build(&kernel, &spec);
	}
	extra = data[1] * sizeof(Elf64_Sym);
	if (extra > bytes - 2)
		extra = (bytes - 2) / sizeof(Elf64_Sym) * sizeof(Elf64_Sym);
	test_bytes_add(&file, kernel.elf.at, kernel.elf.count);
	symbols = test_elf_section(&kernel.elf, ".symtab");
	at = file.count;
	test_bytes_add(&file, kernel.elf.at + symbols->sh_offset, symbols->sh_size);
	test_bytes_add(&file, data + 2, extra);
	test_bytes_add(&file, data + 2 + extra, bytes - 2 - extra);
	symbols = test_elf_section(&file, ".symtab");
	symbols->sh_offset = at;
	symbols->sh_size += extra;
	rela = test_elf_section(&file, ".rela.data");
	rela->sh_offset = at + symbols->sh_size;
	rela->sh_size = (bytes - 2 - extra) / sizeof(Elf64_Rela) * sizeof(Elf64_Rela);
	rela->sh_info = data[0] % test_elf_header(&file)->e_shnum;
	drop_others(&file, rela);
	file.count = rela->sh_offset + rela->sh_size; /* otherwise the rest would be a tail */
	fuzz_open(test_file_of(&file), -1);
	test_bytes_free(&file);
	return 0;
}
