/* SPDX-License-Identifier: Apache-2.0 */
/* Kernels inside other files: unified kernel images and compressed vmlinux; and how other files are named in errors. */
#include <lzma.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>
#include <zstd.h>

#include "common/bytes.h"
#include "hostile.h"
#include "prepare/image/uki.h"

#define PE_AT 0x80u
#define SECTIONS_AT (PE_AT + 24 + 240)
#define ALIGN 512u

struct part {
	const char *name;
	const void *bytes;
	size_t count;
};

/* As ukify makes them: a section's bytes in the file are padded to 512. */
static void make_uki(struct test_bytes *file, uint16_t machine, const struct part *part, unsigned parts)
{
	uint8_t head[0x400] = {'M', 'Z'};
	uint32_t at = sizeof head;

	riffle_put32(head + 0x3c, PE_AT);
	memcpy(head + PE_AT, "PE\0", 4);
	riffle_put16(head + PE_AT + 4, machine);
	riffle_put16(head + PE_AT + 6, (uint16_t)parts);
	riffle_put16(head + PE_AT + 20, 240);
	for (unsigned i = 0; i < parts; i++) {
		uint8_t *section = head + SECTIONS_AT + 40 * i;
		uint32_t padded = (uint32_t)(part[i].count + ALIGN - 1) / ALIGN * ALIGN;

		strncpy((char *)section, part[i].name, 8);
		riffle_put32(section + 8, (uint32_t)part[i].count);
		riffle_put32(section + 16, padded);
		riffle_put32(section + 20, at);
		at += padded;
	}
	test_bytes_add(file, head, sizeof head);
	for (unsigned i = 0; i < parts; i++) {
		test_bytes_add(file, part[i].bytes, part[i].count);
		test_bytes_zero(file, (ALIGN - part[i].count % ALIGN) % ALIGN);
	}
}

static struct riffle_image *must_open(const struct test_bytes *file)
{
	int fd = test_file_of(file);
	struct riffle_image *image;
	struct riffle_error error;

	if (riffle_image_open(&image, fd, -1, &error))
		fail_msg("%s: %s", error.field, error.problem);
	close(fd);
	return image;
}

static void must_refuse(const struct test_bytes *file, const char *field, const char *problem)
{
	struct riffle_error error = {0};

	assert_int_not_equal(try_open(test_file_of(file), -1, &error), 0);
	if (strcmp(error.field, field) || !strstr(error.problem, problem))
		fail_msg("%s: %s (wanted %s: %s)", error.field, error.problem, field, problem);
}

static void make_kernels(struct input *in)
{
	const struct test_bzimage_spec spec = {.compression = RIFFLE_COMPRESSION_GZIP};

	make_input(in);
	if (!in->bzimage.count)
		assert_true(test_bzimage_of(&in->bzimage, &spec, &in->k));
}

static const char command_line[] = "root=/dev/vda ro\nquiet \n";

static void test_uki(void **state)
{
	static const unsigned compressions[] = {RIFFLE_COMPRESSION_GZIP, RIFFLE_COMPRESSION_ZSTD,
						RIFFLE_COMPRESSION_LZO};
	uint8_t initrd[1000];
	struct input in;

	(void)state;
	make_kernels(&in);
	memset(initrd, 7, sizeof initrd);
	for (unsigned i = 0; i < sizeof compressions / sizeof *compressions; i++) {
		struct test_bzimage_spec spec = {.compression = compressions[i]};
		struct test_bytes file = {0}, kernel = {0};
		struct riffle_image *alone, *inside;
		struct riffle_error error;
		struct uki uki;
		char text[UKI_COMMAND_LINE_MAX];
		int fd;

		if (!test_bzimage_of(&kernel, &spec, &in.k))
			continue;
		const struct part part[] = {{".osrel", "ID=x", 4},
					    {".cmdline", command_line, sizeof command_line},
					    {".initrd", initrd, sizeof initrd},
					    {".linux", kernel.at, kernel.count},
					    {".profile", "ID=other", 8},
					    {".cmdline", "other", 5}};

		make_uki(&file, UKI_MACHINE_X86_64, part, 6);
		alone = must_open(&kernel);
		inside = must_open(&file);
		/* the kernel is the same as a separate file, and so is its digest */
		assert_int_equal(inside->kind, RIFFLE_SOURCE_BZIMAGE);
		assert_int_equal(inside->compression, compressions[i]);
		assert_int_equal(inside->image_bytes, alone->image_bytes);
		assert_int_equal(inside->reloc64.count, alone->reloc64.count);
		assert_memory_equal(inside->source_digest, alone->source_digest, 32);
		assert_memory_equal(inside->setup_header, alone->setup_header, sizeof alone->setup_header);
		fd = test_file_of(&file);
		assert_int_equal(riffle_image_peek_compression(fd), compressions[i]);
		assert_int_equal(uki_read(&uki, fd, file.count, &error), 0);
		assert_true(uki_is(&uki));
		assert_int_equal(uki.initrd.bytes, sizeof initrd);
		assert_memory_equal(file.at + uki.initrd.offset, initrd, sizeof initrd);
		assert_int_equal(uki_command_line(text, &uki, fd, &error), 0);
		assert_string_equal(text, "root=/dev/vda ro quiet");
		close(fd);
		riffle_image_close(inside);
		riffle_image_close(alone);
		test_bytes_free(&file);
		test_bytes_free(&kernel);
	}
	free_input(&in);
}

static void test_broken_ukis(void **state)
{
	struct input in;
	struct test_bytes file = {0};
	struct riffle_error error;
	char text[UKI_COMMAND_LINE_MAX], bad[] = "a\033b";
	struct uki uki;
	uint8_t *linux_section;
	int fd;

	(void)state;
	make_kernels(&in);
	const struct part part[] = {{".linux", in.bzimage.at, in.bzimage.count}, {".cmdline", bad, sizeof bad}};

	make_uki(&file, UKI_MACHINE_X86_64, part, 2);
	fd = test_file_of(&file);
	assert_int_equal(uki_read(&uki, fd, file.count, &error), 0);
	assert_int_equal(uki_command_line(text, &uki, fd, &error), RIFFLE_ERR_FORMAT);
	uki.command_line.bytes = UKI_COMMAND_LINE_MAX;
	assert_int_equal(uki_command_line(text, &uki, fd, &error), RIFFLE_ERR_FORMAT);
	close(fd);
	linux_section = file.at + SECTIONS_AT;
	/* one byte too many */
	riffle_put32(linux_section + 8, 0);
	riffle_put32(linux_section + 16, (uint32_t)(file.count - 0x400));
	riffle_image_close(must_open(&file));
	riffle_put32(linux_section + 16, (uint32_t)(file.count - 0x400 + 1));
	must_refuse(&file, "PE section", "leads past the end");
	riffle_put32(linux_section + 16, (uint32_t)(file.count - 0x400));
	memcpy(linux_section, ".linuy\0", 8);
	must_refuse(&file, "kernel file", "there is no section .linux");
	riffle_put16(file.at + PE_AT + 6, 0xffff);
	must_refuse(&file, "PE section table", "longer than any");
	riffle_put16(file.at + PE_AT + 4, 0xaa64);
	riffle_put16(file.at + PE_AT + 6, 1);
	must_refuse(&file, "kernel file", "is an EFI program (PE) for arm64");
	memcpy(linux_section, ".linux\0", 8);
	must_refuse(&file, "kernel file", "is an EFI program (PE) for arm64");
	riffle_put32(file.at + 0x3c, (uint32_t)file.count - 23);
	must_refuse(&file, "kernel file", "is neither");
	test_bytes_free(&file);
	free_input(&in);
}

static void pack(struct test_bytes *to, unsigned compression, const void *bytes, size_t count)
{
	size_t room = 2 * count + 4096, used = 0;
	uint8_t *out = malloc(room);
	z_stream z = {.next_in = (z_const Bytef *)(uintptr_t)bytes,
		      .avail_in = (uInt)count,
		      .next_out = out,
		      .avail_out = (uInt)room};

	assert_non_null(out);
	if (compression == RIFFLE_COMPRESSION_GZIP) {
		assert_int_equal(deflateInit2(&z, 6, Z_DEFLATED, MAX_WBITS + 16, 8, Z_DEFAULT_STRATEGY), Z_OK);
		assert_int_equal(deflate(&z, Z_FINISH), Z_STREAM_END);
		used = z.total_out;
		deflateEnd(&z);
	} else if (compression == RIFFLE_COMPRESSION_XZ) {
		assert_int_equal(lzma_easy_buffer_encode(6, LZMA_CHECK_CRC64, NULL, bytes, count, out, &used, room),
				 LZMA_OK);
	} else {
		used = ZSTD_compress(out, room, bytes, count, 3);
		assert_false(ZSTD_isError(used));
	}
	test_bytes_add(to, out, used);
	free(out);
}

static void test_compressed(void **state)
{
	static const unsigned compressions[] = {RIFFLE_COMPRESSION_GZIP, RIFFLE_COMPRESSION_XZ,
						RIFFLE_COMPRESSION_ZSTD};
	struct input in;

	(void)state;
	make_kernels(&in);
	for (unsigned i = 0; i < sizeof compressions / sizeof *compressions; i++) {
		struct test_bytes file = {0}, other = {0};
		struct riffle_image *image, *plain = must_open(&in.k.elf);

		pack(&file, compressions[i], in.k.elf.at, in.k.elf.count);
		image = must_open(&file);
		assert_int_equal(image->kind, RIFFLE_SOURCE_ELF_RELA);
		assert_int_equal(image->compression, compressions[i]);
		assert_int_equal(image->reloc64.count, plain->reloc64.count);
		assert_memory_equal(image->reloc64.offset, plain->reloc64.offset, 4 * plain->reloc64.count);
		riffle_image_close(image);
		riffle_image_close(plain);
		file.count--;
		must_refuse(&file, "kernel file", "is not what its compression allows");
		pack(&other, compressions[i], "070701000000", 13);
		must_refuse(&other, "kernel file", "is an initrd");
		other.count = 0;
		pack(&other, compressions[i], in.bzimage.at, in.bzimage.count);
		must_refuse(&other, "kernel file", "is a bzImage that was compressed once more");
		test_bytes_free(&other);
		test_bytes_free(&file);
	}
	free_input(&in);
}

static void test_names(void **state)
{
	static const struct {
		uint32_t at;
		const char *bytes;
		size_t count;
		const char *problem;
	} row[] = {
	    {0, "070701", 6, "is an initrd"},
	    {0x38, "ARM\x64", 4, "is a kernel for arm64"},
	    {0x38, "RSC\x05", 4, "is a kernel for RISC-V"},
	    {0, "!<arch>\ndebian-binary   ", 24, "is a Debian package"},
	    {0, "!<arch>\nfile.o/", 15, "is an archive of object files"},
	    {0, "\xed\xab\xee\xdb", 4, "is an RPM package"},
	    {0x101, "ustar", 5, "is a tar archive"},
	    {0, "QFI\xfb", 4, "is a disk image"},
	    {0, "\x27\x05\x19\x56", 4, "is a U-Boot image"},
	    {0, "BZh91AY", 7, "is compressed by bzip2"},
	    {0x1fe, "\x55\xaa", 2, "is a boot sector"},
	    {0, "\1\2\3", 3, "is neither a bzImage nor an ELF file"},
	};

	(void)state;
	for (unsigned i = 0; i < sizeof row / sizeof *row; i++) {
		struct test_bytes file = {0};

		test_bytes_zero(&file, row[i].at);
		test_bytes_add(&file, row[i].bytes, row[i].count);
		must_refuse(&file, "kernel file", row[i].problem);
		file.count--; /* not enough of it to tell */
		if (row[i].at + row[i].count > 1)
			must_refuse(&file, "kernel file",
				    row[i].count == 24   ? "Debian"
				    : row[i].count == 15 ? "archive"
				    : row[i].count == 7  ? "bzip2"
							 : "is neither");
		test_bytes_free(&file);
	}
}

static void test_elfs(void **state)
{
	static const struct {
		uint16_t machine, type;
		const char *field, *problem;
	} row[] = {
	    {EM_X86_64, ET_REL, "e_type", "such as a kernel module"},
	    {EM_X86_64, ET_DYN, "e_type", "shared library or a program"},
	    {EM_X86_64, ET_CORE, "e_type", "core dump"},
	    {EM_AARCH64, ET_EXEC, "e_machine", "is arm64"},
	    {EM_386, ET_EXEC, "e_machine", "is 32-bit x86"},
	    {EM_RISCV, ET_REL, "e_machine", "is RISC-V"},
	    {0xffff, ET_EXEC, "e_machine", "is not x86-64"},
	};
	struct input in;

	(void)state;
	make_kernels(&in);
	for (unsigned i = 0; i < sizeof row / sizeof *row; i++) {
		Elf64_Ehdr *header = test_elf_header(&in.k.elf);

		header->e_machine = row[i].machine;
		header->e_type = row[i].type;
		header->e_ident[EI_CLASS] = row[i].machine == EM_386 ? ELFCLASS32 : ELFCLASS64;
		must_refuse(&in.k.elf, row[i].field, row[i].problem);
	}
	free_input(&in);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_uki),   cmocka_unit_test(test_broken_ukis), cmocka_unit_test(test_compressed),
	    cmocka_unit_test(test_names), cmocka_unit_test(test_elfs),
	};

	return run_clean(tests, sizeof tests / sizeof *tests);
}
