/* SPDX-License-Identifier: Apache-2.0 */
/* Kernels inside other files: unified kernel images and compressed vmlinux; and how other files are named in errors. */
#include <errno.h>
#include <lzma.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>
#include <zstd.h>

#include "common/bytes.h"
#include "hostile.h"
#include "prepare/image/internal.h"

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
		const struct test_uki_part part[] = {{".osrel", "ID=x", 4},
						     {".cmdline", command_line, sizeof command_line},
						     {".initrd", initrd, sizeof initrd},
						     {".linux", kernel.at, kernel.count},
						     {".profile", "ID=other", 8},
						     {".cmdline", "other", 5}};

		test_uki_of(&file, UKI_MACHINE_X86_64, part, 6);
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
	const struct test_uki_part part[] = {{".linux", in.bzimage.at, in.bzimage.count},
					     {".cmdline", bad, sizeof bad}};

	test_uki_of(&file, UKI_MACHINE_X86_64, part, 2);
	fd = test_file_of(&file);
	assert_int_equal(uki_read(&uki, fd, file.count, &error), 0);
	assert_int_equal(uki_command_line(text, &uki, fd, &error), RIFFLE_ERR_FORMAT);
	uki.command_line.bytes = UKI_COMMAND_LINE_MAX;
	assert_int_equal(uki_command_line(text, &uki, fd, &error), RIFFLE_ERR_FORMAT);
	close(fd);
	linux_section = file.at + TEST_UKI_SECTIONS_AT;
	/* one byte too many */
	riffle_put32(linux_section + 8, 0);
	riffle_put32(linux_section + 16, (uint32_t)(file.count - 0x400));
	riffle_image_close(must_open(&file));
	riffle_put32(linux_section + 16, (uint32_t)(file.count - 0x400 + 1));
	must_refuse(&file, "PE section", "leads past the end");
	riffle_put32(linux_section + 16, (uint32_t)(file.count - 0x400));
	memcpy(linux_section, ".linuy\0", 8);
	must_refuse(&file, "kernel file", "there is no section .linux");
	riffle_put16(file.at + TEST_UKI_PE_AT + 6, 0xffff);
	must_refuse(&file, "PE section table", "longer than any");
	riffle_put16(file.at + TEST_UKI_PE_AT + 4, 0xaa64);
	riffle_put16(file.at + TEST_UKI_PE_AT + 6, 1);
	must_refuse(&file, "kernel file", "is an EFI program (PE) for arm64");
	memcpy(linux_section, ".linux\0", 8);
	must_refuse(&file, "kernel file", "is an EFI program (PE) for arm64");
	riffle_put32(file.at + 0x3c, (uint32_t)file.count - 23);
	must_refuse(&file, "kernel file", "is neither");
	test_bytes_free(&file);
	free_input(&in);
}

/* A PE header of `sections` sections at `at`, with an optional header of `optional` bytes, in a file of `bytes` bytes.
 */
static void make_pe(struct test_bytes *file, uint32_t at, uint16_t optional, uint16_t sections, size_t bytes)
{
	file->count = 0;
	test_bytes_zero(file, bytes);
	memcpy(file->at, "MZ", 2);
	if (bytes >= 64)
		riffle_put32(file->at + 0x3c, at);
	if ((uint64_t)at + 24 > bytes)
		return;
	memcpy(file->at + at, "PE\0", 4);
	riffle_put16(file->at + at + 4, UKI_MACHINE_X86_64);
	riffle_put16(file->at + at + 6, sections);
	riffle_put16(file->at + at + 20, optional);
}

static int read_pe(struct uki *uki, const struct test_bytes *file, struct riffle_error *error)
{
	int fd = test_file_of(file);
	int status = uki_read(uki, fd, file->count, error);

	close(fd);
	return status;
}

/* How short a file may be, and how many sections it may have. */
static void headers_end_with_the_file(void **state)
{
	static const struct {
		uint32_t at;
		uint16_t optional, sections;
		size_t bytes;
		int status, is_pe;
	} rows[] = {
	    {64, 0, 0, 63, RIFFLE_OK, 0},
	    {64, 0, 0, 64, RIFFLE_OK, 0},
	    {64, 0, 0, 87, RIFFLE_OK, 0},
	    {64, 0, 0, 88, RIFFLE_OK, 1},
	    {UINT32_MAX, 0, 0, 88, RIFFLE_OK, 0},
	    {64, 16, 2, 88 + 16 + 80, RIFFLE_OK, 1},
	    {64, 16, 2, 88 + 16 + 79, RIFFLE_ERR_FORMAT, 1},
	    {64, 0, 512, 88 + 512 * 40, RIFFLE_OK, 1},
	    {64, 0, 513, 88 + 513 * 40, RIFFLE_ERR_FORMAT, 1},
	};
	struct test_bytes file = {0};

	(void)state;
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		struct riffle_error error = {0};
		struct uki uki;
		int status;

		make_pe(&file, rows[i].at, rows[i].optional, rows[i].sections, rows[i].bytes);
		status = read_pe(&uki, &file, &error);
		if (status != rows[i].status || uki.is_pe != rows[i].is_pe)
			fail_msg("row %zu: status %d, PE %d", i, status, uki.is_pe);
		assert_int_equal(uki.machine, rows[i].is_pe ? UKI_MACHINE_X86_64 : 0);
		assert_int_equal(uki.kernel.bytes, 0);
		if (status) {
			assert_int_equal(error.found, rows[i].sections);
			assert_int_equal(error.expected, 512);
		}
	}
	make_pe(&file, 64, 0, 0, 88);
	file.at[64 + 3] = 1;
	{
		struct riffle_error error;
		struct uki uki;

		assert_int_equal(read_pe(&uki, &file, &error), RIFFLE_OK);
		assert_int_equal(uki.is_pe, 0);
	}
	test_bytes_free(&file);
}

/* Each part is what both sizes of its section allow, inside the file; the first of a name counts. */
static void parts_are_what_their_sections_hold(void **state)
{
	static const struct {
		const char *name;
		uint32_t memory, bytes, offset;
		int status;
		uint64_t kernel[2], initrd[2], command_line[2];
	} rows[] = {
	    {".linux", 10, 16, 200, RIFFLE_OK, {200, 10}, {0, 0}, {0, 0}},
	    {".linux", 16, 10, 201, RIFFLE_OK, {201, 10}, {0, 0}, {0, 0}},
	    {".linux", 0, 16, 202, RIFFLE_OK, {202, 16}, {0, 0}, {0, 0}},
	    {".initrd", 10, 16, 200, RIFFLE_OK, {0, 0}, {200, 10}, {0, 0}},
	    {".cmdline", 10, 16, 200, RIFFLE_OK, {0, 0}, {0, 0}, {200, 10}},
	    {".linux", 56, 512, 200, RIFFLE_OK, {200, 56}, {0, 0}, {0, 0}},
	    {".linux", 57, 512, 200, RIFFLE_ERR_FORMAT, {0, 0}, {0, 0}, {0, 0}},
	    {".linux2", 57, 512, 200, RIFFLE_OK, {0, 0}, {0, 0}, {0, 0}},
	};
	struct test_bytes file = {0};

	(void)state;
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		struct riffle_error error = {0};
		struct uki uki;
		uint8_t *section;
		int status;

		make_pe(&file, 64, 0, 2, 256);
		section = file.at + 88;
		for (unsigned k = 0; k < 2; k++, section += 40) {
			strncpy((char *)section, rows[i].name, 8);
			riffle_put32(section + 8, k ? 1 : rows[i].memory);
			riffle_put32(section + 16, k ? 1 : rows[i].bytes);
			riffle_put32(section + 20, k ? 1 : rows[i].offset);
		}
		status = read_pe(&uki, &file, &error);
		if (status != rows[i].status || uki.kernel.offset != rows[i].kernel[0] ||
		    uki.kernel.bytes != rows[i].kernel[1] || uki.initrd.offset != rows[i].initrd[0] ||
		    uki.initrd.bytes != rows[i].initrd[1] || uki.command_line.offset != rows[i].command_line[0] ||
		    uki.command_line.bytes != rows[i].command_line[1])
			fail_msg("row %zu: status %d, kernel at %llu of %llu bytes", i, status,
				 (unsigned long long)uki.kernel.offset, (unsigned long long)uki.kernel.bytes);
		if (status) {
			assert_int_equal(error.found, 257);
			assert_int_equal(error.expected, 256);
		}
	}
	test_bytes_free(&file);
}

static void command_lines_are_one_line_of_text(void **state)
{
	static const struct {
		const char *bytes;
		size_t count;
		const char *text; /* NULL: refused */
		uint64_t found;
	} rows[] = {
	    {"", 0, "", 0},
	    {"a", 1, "a", 0},
	    {" \n\t a\nb\tc~\0\n \0", 15, "    a b c~", 0},
	    {"\xc3\xa4", 2, "\xc3\xa4", 0},
	    {" \n\0", 3, "", 0},
	    {"a\rb", 3, NULL, '\r'},
	    {"a\x1f!", 3, NULL, 0x1f},
	    {"a\0b", 3, NULL, 0},
	    {"a\x7f", 2, NULL, 0x7f},
	};
	struct test_bytes file = {0};
	char text[UKI_COMMAND_LINE_MAX];
	struct riffle_error error;
	struct uki uki = {0};
	int fd;

	(void)state;
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		file.count = 0;
		test_bytes_zero(&file, 5);
		test_bytes_add(&file, rows[i].bytes, rows[i].count);
		uki.command_line = (struct uki_part){5, rows[i].count};
		fd = test_file_of(&file);
		memset(text, 'x', sizeof text);
		if (rows[i].text) {
			assert_int_equal(uki_command_line(text, &uki, fd, &error), RIFFLE_OK);
			assert_string_equal(text, rows[i].text);
		} else {
			assert_int_equal(uki_command_line(text, &uki, fd, &error), RIFFLE_ERR_FORMAT);
			assert_int_equal(error.found, rows[i].found);
		}
		close(fd);
	}
	file.count = 0;
	test_bytes_zero(&file, UKI_COMMAND_LINE_MAX);
	memset(file.at, 'k', file.count);
	fd = test_file_of(&file);
	uki.command_line = (struct uki_part){0, UKI_COMMAND_LINE_MAX - 1};
	assert_int_equal(uki_command_line(text, &uki, fd, &error), RIFFLE_OK);
	assert_int_equal(strlen(text), UKI_COMMAND_LINE_MAX - 1);
	uki.command_line.bytes++;
	assert_int_equal(uki_command_line(text, &uki, fd, &error), RIFFLE_ERR_FORMAT);
	assert_int_equal(error.found, UKI_COMMAND_LINE_MAX);
	assert_int_equal(error.expected, UKI_COMMAND_LINE_MAX - 1);
	assert_string_equal(text, "");
	/* the file has become shorter, and cannot be read */
	uki.command_line = (struct uki_part){1, UKI_COMMAND_LINE_MAX - 1};
	assert_int_equal(uki_command_line(text, &uki, fd, &error), RIFFLE_OK);
	uki.command_line.offset = 2;
	assert_int_equal(uki_command_line(text, &uki, fd, &error), RIFFLE_ERR_CHANGED);
	close(fd);
	assert_int_equal(uki_command_line(text, &uki, fd, &error), RIFFLE_ERR_IO);
	assert_int_equal(error.sys_errno, EBADF);
	test_bytes_free(&file);
}

/* Each format is known by its mark, no sooner than the last byte of it is there, and at no other place. */
static void every_mark_is_known(void **state)
{
	static const struct {
		uint32_t at, bytes;
		const char *mark, *problem;
	} rows[] = {
	    {0, 6, "070701", "is an initrd (a cpio archive), not a kernel"},
	    {0, 6, "070702", "is an initrd (a cpio archive), not a kernel"},
	    {0, 6, "070707", "is an initrd (a cpio archive), not a kernel"},
	    {0, 2, "\xc7\x71", "is an initrd (a cpio archive), not a kernel"},
	    {0x38, 4, "ARM\x64", "is a kernel for arm64"},
	    {0x38, 4, "RSC\x05", "is a kernel for RISC-V"},
	    {0x38, 4, "\xcd\x23\x82\x81", "is a kernel for LoongArch"},
	    {0x24, 4, "\x18\x28\x6f\x01", "is a kernel for 32-bit ARM (a zImage)"},
	    {0, 4, "\x27\x05\x19\x56", "is a U-Boot image (uImage), not a kernel for x86-64"},
	    {0, 4, "\xd0\x0d\xfe\xed", "is a device tree or FIT image, not a kernel"},
	    {0, 14, "!<arch>\ndebian", "is a Debian package: the kernel is in it, as boot/vmlinuz-*"},
	    {0, 8, "!<arch>\n", "is an archive of object files (ar), not a kernel"},
	    {0, 4, "\xed\xab\xee\xdb", "is an RPM package: the kernel is in it"},
	    {0, 4, "PK\x03\x04", "is a zip archive, not a kernel"},
	    {0x101, 5, "ustar", "is a tar archive, not a kernel"},
	    {0, 4, "QFI\xfb", "is a disk image (qcow2), not a kernel"},
	    {0, 4, "hsqs", "is a file system (squashfs), not a kernel"},
	    {0, 4, "BZh9", "is compressed by bzip2: bunzip2 it first"},
	    {0, 4, "\x02\x21\x4c\x18", "is compressed by lz4: unlz4 it first"},
	    {0, 4, "\x04\x22\x4d\x18", "is compressed by lz4: unlz4 it first"},
	    {0, 4, "\x89LZO", "is compressed by lzop: lzop -d it first"},
	    {0, 3, "\x5d\x00\x00", "is compressed by lzma: unlzma it first"},
	    {0, 2, "#!", "is a script, not a kernel"},
	};
	static const char nothing[] = "is neither a bzImage nor an ELF file";

	(void)state;
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
		for (uint32_t place = 0; place < 2; place++) {
			uint32_t at = rows[i].at + place, bytes = at + rows[i].bytes;
			uint8_t *head = calloc(1, bytes);
			struct riffle_error error;

			memcpy(head + at, rows[i].mark, rows[i].bytes);
			assert_int_equal(image_not_a_kernel(head, bytes, NULL, &error), RIFFLE_ERR_FORMAT);
			assert_string_equal(error.field, "kernel file");
			if (strcmp(error.problem, place ? nothing : rows[i].problem))
				fail_msg("%s at 0x%x: %s", rows[i].problem, at, error.problem);
			/* a byte short, or with another last byte, it is something else or nothing known */
			assert_int_equal(image_not_a_kernel(head, bytes - 1, NULL, &error), RIFFLE_ERR_FORMAT);
			assert_string_not_equal(error.problem, rows[i].problem);
			head[bytes - 1] ^= 0x80;
			assert_int_equal(image_not_a_kernel(head, bytes, NULL, &error), RIFFLE_ERR_FORMAT);
			assert_string_not_equal(error.problem, rows[i].problem);
			free(head);
		}
}

static void programs_and_machines_are_named(void **state)
{
	static const struct {
		uint16_t machine;
		const char *pe, *elf;
	} machines[] = {
	    {0x8664, "is an EFI program (PE) without a kernel in it: there is no section .linux", "is not x86-64"},
	    {0xaa64, "is an EFI program (PE) for arm64", "is not x86-64"},
	    {0x14c, "is an EFI program (PE) for 32-bit x86", "is not x86-64"},
	    {0x200, "is an EFI program (PE) for another machine", "is not x86-64"},
	    {3, NULL, "is 32-bit x86, not x86-64"},
	    {183, NULL, "is arm64, not x86-64"},
	    {40, NULL, "is 32-bit ARM, not x86-64"},
	    {243, NULL, "is RISC-V, not x86-64"},
	    {21, NULL, "is 64-bit PowerPC, not x86-64"},
	    {22, NULL, "is s390, not x86-64"},
	};
	static const char *const types[] = {
	    "is not that of an executable",
	    "is that of an object file, such as a kernel module, not of a kernel",
	    "is not that of an executable",
	    "is that of a shared library or a program, not of a kernel",
	    "is that of a core dump, not of a kernel",
	    "is not that of an executable",
	};
	uint8_t sector[0x200] = {'M', 'Z', [0x1fe] = 0x55, 0xaa};
	struct riffle_error error;
	struct uki uki = {.is_pe = true};

	(void)state;
	for (size_t i = 0; i < sizeof machines / sizeof *machines; i++) {
		assert_string_equal(image_elf_machine(machines[i].machine), machines[i].elf);
		if (!machines[i].pe)
			continue;
		uki.machine = machines[i].machine;
		assert_int_equal(image_not_a_kernel(sector, sizeof sector, &uki, &error), RIFFLE_ERR_FORMAT);
		assert_string_equal(error.problem, machines[i].pe);
		assert_int_equal(error.found, machines[i].machine);
	}
	for (uint16_t type = 0; type < sizeof types / sizeof *types; type++)
		assert_string_equal(image_elf_type(type), types[type]);
	uki.is_pe = false;
	for (unsigned cut = 0; cut < 3; cut++) {
		sector[0x1ff] = cut < 2 ? 0xaa : 0xab;
		assert_int_equal(image_not_a_kernel(sector, sizeof sector - cut % 2, &uki, &error), RIFFLE_ERR_FORMAT);
		assert_string_equal(error.problem, cut ? "is neither a bzImage nor an ELF file"
						       : "is a boot sector or disk image, not a kernel");
	}
}

/* The version ends before the first byte that is not printable, and is cut to its room; digits follow the banner. */
static void versions_are_printable(void **state)
{
	static const struct {
		const char *image, *version;
	} banners[] = {
	    {"Linux version 6.1.0 (x) ~\n", "6.1.0 (x) ~"},
	    {"Linux version %s Linux version 0.1\x7fx", "0.1"},
	    {"Linux version 9", "9"},
	    {"Linux version :", ""},
	    {"Linux version /", ""},
	    {"Linux version ", ""},
	    {"Linux versio 5", ""},
	    {" Linux version 5\x1f", "5"},
	};
	struct image_segment segment[3] = {{0}};
	struct riffle_image image;

	(void)state;
	for (size_t i = 0; i < sizeof banners / sizeof *banners; i++) {
		size_t bytes = strlen(banners[i].image);
		uint8_t *exact = malloc(bytes);

		memcpy(exact, banners[i].image, bytes);
		memset(&image, 0, sizeof image);
		segment[1].bytes = segment[2].bytes = exact;
		segment[1].file_bytes = bytes;
		image.segment = segment;
		image.segment_count = 3;
		image_find_version(&image);
		assert_string_equal(image.kernel_version, banners[i].version);
		free(exact);
	}
	for (unsigned longer = 0; longer < 3; longer++) {
		uint8_t text[sizeof image.kernel_version + 2];
		size_t bytes = sizeof image.kernel_version - 2 + longer;

		memset(text, 'v', sizeof text);
		memset(&image, 'x', sizeof image);
		image_set_version(&image, text, bytes);
		assert_int_equal(strlen(image.kernel_version), longer ? sizeof image.kernel_version - 1 : bytes);
	}
	memset(&image, 'x', sizeof image);
	image_set_version(&image, (const uint8_t *)"a b", 2);
	assert_string_equal(image.kernel_version, "a ");
	for (size_t i = 2; i < sizeof image.kernel_version; i++)
		assert_int_equal(image.kernel_version[i], 0);
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
	    cmocka_unit_test(test_uki),
	    cmocka_unit_test(test_broken_ukis),
	    cmocka_unit_test(test_compressed),
	    cmocka_unit_test(test_names),
	    cmocka_unit_test(test_elfs),
	    cmocka_unit_test(headers_end_with_the_file),
	    cmocka_unit_test(parts_are_what_their_sections_hold),
	    cmocka_unit_test(command_lines_are_one_line_of_text),
	    cmocka_unit_test(every_mark_is_known),
	    cmocka_unit_test(programs_and_machines_are_named),
	    cmocka_unit_test(versions_are_printable),
	};

	return run_clean(tests, sizeof tests / sizeof *tests);
}
