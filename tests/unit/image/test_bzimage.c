/* SPDX-License-Identifier: Apache-2.0 */
/* Broken and hostile bzImages, payload by payload: refused, never unpacked beyond what the file announces. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

#include "prepare/image/internal.h"
#include "tests/unit/image/hostile.h"

static void test_truncated_bzimage(void **state)
{
	static const enum riffle_compression kinds[] = {RIFFLE_COMPRESSION_GZIP, RIFFLE_COMPRESSION_LZ4};
	struct riffle_error error;
	uint32_t payload_bytes;
	struct input in;
	size_t n, i;

	(void)state;
	make_input(&in);
	for (i = 0; i < 2; i++) {
		struct test_bzimage_spec spec = {.compression = kinds[i]};
		struct test_bytes file = {0};

		assert_true(test_bzimage_of(&file, &spec, &in.k));
		/* what may be missing is padding of the last paragraph, behind the payload */
		memcpy(&payload_bytes, file.at + 0x24c, sizeof payload_bytes);
		for (n = 0; n < file.count - 15 || n < TEST_BZIMAGE_PAYLOAD + payload_bytes; n++)
			if (!try_open(test_file(file.at, n), -1, &error))
				fail_msg("accepted with %zu of %zu bytes", n, file.count);
		test_bytes_free(&file);
	}
	free_input(&in);
}

/* A truncated compressed stream, with an unchanged size word. */
static void test_truncated_payload(void **state)
{
	struct test_bzimage_spec spec = {0};
	struct riffle_error error;
	struct input in;
	unsigned c;
	size_t n;

	(void)state;
	make_input(&in);
	for (c = RIFFLE_COMPRESSION_NONE; c <= RIFFLE_COMPRESSION_ZSTD; c++) {
		struct test_bytes packed = {0};
		size_t step = c == RIFFLE_COMPRESSION_LZO ? 997 : 13;

		if (!test_compress(&packed, c, in.k.elf.at, in.k.elf.count))
			continue;
		for (n = 16; n < packed.count - 4; n += step) {
			struct test_bytes cut = {0}, file = {0};
			uint32_t word = (uint32_t)in.k.elf.count;

			test_bytes_add(&cut, packed.at, n);
			test_bytes_word(&cut, word);
			test_bzimage_wrap(&file, &spec, cut.at, cut.count, word);
			if (!try_open(test_file_of(&file), -1, &error))
				fail_msg("%s: accepted with %zu of %zu bytes", riffle_compression_name(c), n,
					 packed.count);
			test_bytes_free(&cut);
			test_bytes_free(&file);
		}
		test_bytes_free(&packed);
	}
	free_input(&in);
}

static void set32(struct test_bytes *file, size_t at, uint32_t value)
{
	memcpy(file->at + at, &value, 4);
}

static void test_bzimage_header(void **state)
{
	static const struct {
		unsigned at, bytes;
		uint32_t value;
		int status;
		const char *field;
	} changes[] = {
	    {0x1f1, 1, 255, RIFFLE_ERR_FORMAT, "setup_sects"},
	    {0x1f4, 4, UINT32_MAX, RIFFLE_ERR_FORMAT, "syssize"},
	    {0x1fe, 2, 0, RIFFLE_ERR_FORMAT, "kernel file"},
	    {0x202, 4, 0, RIFFLE_ERR_FORMAT, "kernel file"},
	    {0x201, 1, 0x40, RIFFLE_ERR_FORMAT, "setup header"},
	    {0x206, 2, 0x20b, RIFFLE_ERR_UNSUPPORTED, "boot protocol"},
	    {0x211, 1, 0, RIFFLE_ERR_UNSUPPORTED, "loadflags"},
	    {0x236, 2, 0, RIFFLE_ERR_UNSUPPORTED, "xloadflags"},
	    {0x230, 4, 0, RIFFLE_ERR_FORMAT, "kernel_alignment"},
	    {0x230, 4, 1u << 20, RIFFLE_ERR_FORMAT, "kernel_alignment"},
	    {0x230, 4, 3u << 20, RIFFLE_ERR_FORMAT, "kernel_alignment"},
	    {0x230, 4, 32u << 20, RIFFLE_ERR_FORMAT, "kernel_alignment"},
	    {0x248, 4, UINT32_MAX, RIFFLE_ERR_FORMAT, "payload_offset"},
	    {0x248, 4, 1, RIFFLE_ERR_UNSUPPORTED, "payload"},
	    {0x24c, 4, UINT32_MAX, RIFFLE_ERR_FORMAT, "payload_length"},
	    {0x24c, 4, 15, RIFFLE_ERR_FORMAT, "payload_length"},
	    {0x24c, 4, 0, RIFFLE_ERR_FORMAT, "payload_length"},
	    {0x260, 4, 0, RIFFLE_ERR_FORMAT, "payload size word"},
	    {0x260, 4, 4000, RIFFLE_ERR_FORMAT, "payload size word"},
	};
	struct test_bzimage_spec spec = {.compression = RIFFLE_COMPRESSION_LZ4};
	struct riffle_error error;
	struct input in;
	size_t i;

	(void)state;
	make_input(&in);
	for (i = 0; i < sizeof changes / sizeof *changes; i++) {
		struct test_bytes file = {0};
		char what[32];

		assert_true(test_bzimage_of(&file, &spec, &in.k));
		memcpy(file.at + changes[i].at, &changes[i].value, changes[i].bytes);
		snprintf(what, sizeof what, "header 0x%x = 0x%x", changes[i].at, changes[i].value);
		expect(what, try_open(test_file_of(&file), -1, &error), &error, changes[i].status, changes[i].field);
		test_bytes_free(&file);
	}
	free_input(&in);
}

/* syssize counts paragraphs, the last of which the file may end in. */
static void test_last_paragraph(void **state)
{
	struct test_bzimage_spec spec = {.compression = RIFFLE_COMPRESSION_LZ4};
	struct test_bytes file = {0};
	struct riffle_error error;
	struct input in;

	(void)state;
	make_input(&in);
	assert_true(test_bzimage_of(&file, &spec, &in.k));
	set32(&file, 0x1f4, (uint32_t)((file.count - TEST_BZIMAGE_PM + 15) / 16));
	assert_int_equal(try_open(test_file_of(&file), -1, &error), 0);
	set32(&file, 0x1f4, (uint32_t)((file.count - TEST_BZIMAGE_PM + 15) / 16 + 1));
	expect("a paragraph too many", try_open(test_file_of(&file), -1, &error), &error, RIFFLE_ERR_FORMAT, "syssize");
	test_bytes_free(&file);
	free_input(&in);
}

/* Sizes are printed with readable units. */
static void test_units(void **state)
{
	struct test_bzimage_spec spec = {.compression = RIFFLE_COMPRESSION_LZ4};
	struct test_bytes file = {0};
	struct riffle_error error;
	struct input in;
	char text[200];

	(void)state;
	make_input(&in);
	assert_true(test_bzimage_of(&file, &spec, &in.k));
	file.at[0x206] = 7;
	assert_int_equal(try_open(test_file_of(&file), -1, &error), RIFFLE_ERR_UNSUPPORTED);
	riffle_error_format(&error, text, sizeof text);
	assert_string_equal(text, "boot protocol: is too old (found 2.07, expected 2.12)");
	file.at[0x206] = 15;
	file.at[0x236] = 6;
	assert_int_equal(try_open(test_file_of(&file), -1, &error), RIFFLE_ERR_UNSUPPORTED);
	riffle_error_format(&error, text, sizeof text);
	assert_string_equal(
	    text, "xloadflags: are those of a kernel without a 64-bit entry, such as one for i386 (found 0x6)");
	test_bytes_free(&file);
	free_input(&in);
}

/* A size word that is too large or too small, and a payload that unpacks to a thousand times its size word. */
static void test_size_word(void **state)
{
	const size_t bomb_bytes = 32u << 20;
	uint8_t *bomb = calloc(1, bomb_bytes);
	struct riffle_error error;
	struct input in;
	unsigned c;

	(void)state;
	make_input(&in);
	memcpy(bomb, in.k.elf.at, 4); /* the magic number of an uncompressed payload */
	for (c = RIFFLE_COMPRESSION_NONE; c <= RIFFLE_COMPRESSION_ZSTD; c++) {
		struct test_bzimage_spec spec = {.compression = c, .init_size = 1u << 21};
		static const int off[] = {-1, 1, -1000, 4096};
		struct test_bytes packed = {0}, file = {0};
		unsigned i;

		if (!test_compress(&packed, c, in.k.elf.at, in.k.elf.count))
			continue;
		for (i = 0; i < sizeof off / sizeof *off; i++) {
			set32(&packed, packed.count - 4, (uint32_t)((int)in.k.elf.count + off[i]));
			test_bzimage_wrap(&file, &spec, packed.at, packed.count, 0);
			/* gzip's word is part of the stream, which is broken then; lz4 cannot tell the two apart */
			assert_int_equal(try_open(test_file_of(&file), -1, &error), RIFFLE_ERR_FORMAT);
			if (c != RIFFLE_COMPRESSION_GZIP && c != RIFFLE_COMPRESSION_LZ4)
				assert_string_equal(error.field, "payload size word");
			test_bytes_free(&file);
		}
		test_bytes_free(&packed);

		test_compress(&packed, c, bomb, bomb_bytes);
		test_bzimage_wrap(&file, &spec, packed.at, packed.count, 0);
		expect("bomb above init_size", try_open(test_file_of(&file), -1, &error), &error, RIFFLE_ERR_FORMAT,
		       "payload size word");
		set32(&file, TEST_BZIMAGE_PAYLOAD + packed.count - 4, 1u << 20);
		assert_int_equal(try_open(test_file_of(&file), -1, &error), RIFFLE_ERR_FORMAT);
		set32(&file, TEST_BZIMAGE_PAYLOAD + packed.count - 4, UINT32_MAX);
		set32(&file, 0x260, UINT32_MAX);
		expect("above 1 GiB", try_open(test_file_of(&file), -1, &error), &error, RIFFLE_ERR_UNSUPPORTED,
		       "payload size word");
		set32(&file, TEST_BZIMAGE_PAYLOAD + packed.count - 4, 0);
		expect("nothing", try_open(test_file_of(&file), -1, &error), &error, RIFFLE_ERR_FORMAT,
		       "payload size word");
		test_bytes_free(&packed);
		test_bytes_free(&file);
	}
	assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
	free(bomb);
	free_input(&in);
}

/* Bytes changed in every compressed stream: an error or, without a checksum, other contents; never more of them. */
static void test_broken_payload(void **state)
{
	struct test_bzimage_spec spec = {0};
	uint64_t seed = 20;
	struct riffle_error error;
	struct input in;
	unsigned c, round;

	(void)state;
	print_message("seed %llu\n", (unsigned long long)seed);
	make_input(&in);
	for (c = RIFFLE_COMPRESSION_NONE; c <= RIFFLE_COMPRESSION_ZSTD; c++) {
		struct test_bytes packed = {0};
		unsigned rounds = c == RIFFLE_COMPRESSION_LZO ? 10 : 500;

		if (!test_compress(&packed, c, in.k.elf.at, in.k.elf.count))
			continue;
		for (round = 0; round < rounds; round++) {
			size_t at = 8 + test_random(&seed) % (packed.count - 12);
			uint8_t flip = (uint8_t)(1 + test_random(&seed) % 255);
			struct test_bytes file = {0};

			packed.at[at] ^= flip;
			test_bzimage_wrap(&file, &spec, packed.at, packed.count, in.k.elf.count);
			(void)try_open(test_file_of(&file), -1, &error);
			packed.at[at] ^= flip;
			test_bytes_free(&file);
		}
		test_bytes_free(&packed);
	}
	free_input(&in);
}

static void test_trailing_payload(void **state)
{
	struct test_bzimage_spec spec = {0};
	struct riffle_error error;
	struct input in;
	unsigned c;

	(void)state;
	make_input(&in);
	for (c = RIFFLE_COMPRESSION_NONE; c <= RIFFLE_COMPRESSION_ZSTD; c++) {
		struct test_bytes packed = {0}, file = {0};
		uint32_t word = (uint32_t)in.k.elf.count;

		if (c == RIFFLE_COMPRESSION_LZO || !test_compress(&packed, c, in.k.elf.at, in.k.elf.count))
			continue;
		if (c != RIFFLE_COMPRESSION_GZIP)
			packed.count -= 4;
		test_bytes_add(&packed, "behind the end", 14);
		test_bytes_word(&packed, word);
		test_bzimage_wrap(&file, &spec, packed.at, packed.count, word);
		assert_int_equal(try_open(test_file_of(&file), -1, &error), RIFFLE_ERR_FORMAT);
		test_bytes_free(&packed);
		test_bytes_free(&file);
	}
	free_input(&in);
}

static void test_payload_is_no_kernel(void **state)
{
	struct test_bzimage_spec spec = {.compression = RIFFLE_COMPRESSION_ZSTD};
	struct test_bytes file = {0};
	struct riffle_error error;
	uint8_t zeros[4096] = {0};

	(void)state;
	assert_true(test_bzimage_build(&file, &spec, zeros, sizeof zeros));
	expect("payload of zeros", try_open(test_file_of(&file), -1, &error), &error, RIFFLE_ERR_FORMAT, "e_ident");
	test_bytes_free(&file);
	assert_true(test_bzimage_build(&file, &spec, zeros, 8));
	expect("payload too short", try_open(test_file_of(&file), -1, &error), &error, RIFFLE_ERR_FORMAT, "ELF header");
	test_bytes_free(&file);
}

static void test_lzop_missing(void **state)
{
	static const uint8_t magic[32] = {0x89, 'L', 'Z', 'O', 0, 0x0d, 0x0a, 0x1a, 0x0a, [28] = 1};
	const char *before = getenv("PATH");
	char *path = strdup(before ? before : "/usr/bin:/bin");
	struct test_bzimage_spec spec = {0};
	struct test_bytes file = {0};
	struct riffle_error error;

	(void)state;
	test_bzimage_wrap(&file, &spec, magic, sizeof magic, 1);
	setenv("PATH", "/nonexistent", 1);
	expect("no lzop", try_open(test_file_of(&file), -1, &error), &error, RIFFLE_ERR_IO, "lzop");
	assert_int_equal(error.sys_errno, ENOENT);
	setenv("PATH", path, 1);
	assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
	free(path);
	test_bytes_free(&file);
}

/* A header whose numbers are right for a file of 0x3000 bytes: setup of five sectors, a payload of 0x200 bytes at its
 * end. */
static void make_head(uint8_t *file)
{
	memset(file, 0, 0x3000);
	file[0x1f1] = 4;
	riffle_put32(file + 0x1f4, 0x260);
	riffle_put16(file + 0x1fe, 0xaa55);
	file[0x201] = 0x66;
	memcpy(file + 0x202, "HdrS", 4);
	riffle_put16(file + 0x206, 0x20f);
	riffle_put16(file + 0x20e, 0x100);
	file[0x211] = 1;
	riffle_put32(file + 0x230, 0x200000);
	riffle_put16(file + 0x236, 1);
	riffle_put32(file + 0x248, 0x2400);
	riffle_put32(file + 0x24c, 0x200);
	riffle_put32(file + 0x260, 0x12345);
	memcpy(file + 0x2e00, "\x28\xb5\x2f\xfd", 4);
}

/* Each number of the header, just inside its limits and just outside. */
static void header_limits_are_exact(void **state)
{
	static const struct {
		unsigned at, bytes;
		uint32_t value;
		unsigned cut; /* bytes that are missing at the end of the file */
		const char *message;
	} rows[] = {
	    {0, 0, 0, 0, "setup a00 payload 2e00+200 header 268 size 12345 align 200000 version 300 of 7"},
	    {0x1f1, 1, 0, 0, "setup a00 payload 2e00+200 header 268 size 12345 align 200000 version 300 of 7"},
	    {0x1f1, 1, 5, 0, "syssize: leads past the end of the file (found 12800, expected 12288)"},
	    {0x1f1, 1, 23, 0, "syssize: leads past the end of the file (found 22016, expected 12288)"},
	    {0x1f1, 1, 24, 0, "setup_sects: lead past the end of the file (found 12800, expected 12288)"},
	    {0x1f4, 4, 0x261, 0, "syssize: leads past the end of the file (found 12304, expected 12288)"},
	    {0x1f4, 4, 0x260, 1, "payload_length: leads past the end of the file (found 512, expected 511)"},
	    {0x1f4, 4, 0x260, 15, "payload_length: leads past the end of the file (found 512, expected 497)"},
	    {0x1f4, 4, 0x260, 16, "syssize: leads past the end of the file (found 12288, expected 12272)"},
	    {0x1f4, 4, UINT32_MAX, 0, "syssize: leads past the end of the file (found 0x10000009f0, expected 12288)"},
	    {0x201, 1, 0x62, 0, "setup a00 payload 2e00+200 header 264 size 12345 align 200000 version 300 of 7"},
	    {0x201, 1, 0x61, 0, "setup header: is too short (found 611, expected 612)"},
	    {0x206, 2, 0x20c, 0, "setup a00 payload 2e00+200 header 268 size 12345 align 200000 version 300 of 7"},
	    {0x206, 2, 0x20b, 0, "boot protocol: is too old (found 2.11, expected 2.12)"},
	    {0x20e, 2, 0, 0, "setup a00 payload 2e00+200 header 268 size 12345 align 200000 version 0 of 7"},
	    {0x20e, 2, 1, 0, "setup a00 payload 2e00+200 header 268 size 12345 align 200000 version 201 of 7"},
	    {0x20e, 2, 0x7ff, 0, "setup a00 payload 2e00+200 header 268 size 12345 align 200000 version 9ff of 7"},
	    {0x20e, 2, 0x800, 0, "setup a00 payload 2e00+200 header 268 size 12345 align 200000 version 0 of 7"},
	    {0x211, 1, 0xfe, 0, "loadflags: are those of a zImage"},
	    {0x211, 1, 0x81, 0, "setup a00 payload 2e00+200 header 268 size 12345 align 200000 version 300 of 7"},
	    {0x230, 4, 0x1000000, 0, "setup a00 payload 2e00+200 header 268 size 12345 align 1000000 version 300 of 7"},
	    {0x230, 4, 0x1000001, 0, "kernel_alignment: is not a power of two from 2 to 16 MiB (found 0x1000001)"},
	    {0x230, 4, 0x1ffffff, 0, "kernel_alignment: is not a power of two from 2 to 16 MiB (found 0x1ffffff)"},
	    {0x230, 4, 0x2000000, 0, "kernel_alignment: is not a power of two from 2 to 16 MiB (found 0x2000000)"},
	    {0x230, 4, 0x1fffff, 0, "kernel_alignment: is not a power of two from 2 to 16 MiB (found 0x1fffff)"},
	    {0x230, 4, 0x100000, 0, "kernel_alignment: is not a power of two from 2 to 16 MiB (found 0x100000)"},
	    {0x230, 4, 0x300000, 0, "kernel_alignment: is not a power of two from 2 to 16 MiB (found 0x300000)"},
	    {0x236, 2, 0xfffe, 0,
	     "xloadflags: are those of a kernel without a 64-bit entry, such as one for i386 (found 0xfffe)"},
	    {0x248, 4, 0x2401, 0, "payload_length: leads past the end of the file (found 512, expected 511)"},
	    {0x248, 4, 0x2600, 0, "payload_length: leads past the end of the file (found 512, expected 0)"},
	    {0x248, 4, 0x2601, 0, "payload_offset: leads past the end of the file (found 12289, expected 12288)"},
	    {0x248, 4, UINT32_MAX, 0,
	     "payload_offset: leads past the end of the file (found 0x1000009ff, expected 12288)"},
	    {0x24c, 4, 0x201, 0, "payload_length: leads past the end of the file (found 513, expected 512)"},
	    {0x24c, 4, 16, 0, "setup a00 payload 2e00+10 header 268 size 12345 align 200000 version 300 of 7"},
	    {0x24c, 4, 15, 0, "payload_length: leaves no payload (found 15, expected 16)"},
	    {0x260, 4, 0, 0, "setup a00 payload 2e00+200 header 268 size 0 align 200000 version 300 of 7"},
	    {0, 0, 0, 0x3000 - 0x27f, "setup header: is cut off (found 639, expected 640)"},
	    {0, 0, 0, 0x3000 - 0x280, "setup_sects: lead past the end of the file (found 2560, expected 640)"},
	};
	static uint8_t file[0x3000];

	(void)state;
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		struct image_source source;
		struct riffle_error error = {0};
		struct bzimage b;
		char text[256];
		int status;

		make_head(file);
		memcpy(file + rows[i].at, &rows[i].value, rows[i].bytes);
		image_source_from_memory(&source, file, sizeof file - rows[i].cut);
		status = image_bzimage_parse(&b, &source, &error);
		if (status)
			riffle_error_format(&error, text, sizeof text);
		else
			snprintf(text, sizeof text,
				 "setup %llx payload %llx+%llx header %x size %x align %x version %x of %d",
				 (unsigned long long)b.setup_bytes, (unsigned long long)b.payload_offset,
				 (unsigned long long)b.payload_bytes, b.header_end, b.init_size, b.kernel_alignment,
				 b.version_offset, (int)b.compression);
		assert_string_equal(text, rows[i].message);
	}
}

static void payloads_are_known_by_their_marks(void **state)
{
	static const struct {
		const char *mark;
		unsigned bytes;
		enum riffle_compression compression;
	} rows[] = {
	    {"\x1f\x8b", 2, RIFFLE_COMPRESSION_GZIP},
	    {"\x1f\x9e", 2, RIFFLE_COMPRESSION_GZIP},
	    {"BZh", 3, RIFFLE_COMPRESSION_BZIP2},
	    {"\x5d\0\0", 3, RIFFLE_COMPRESSION_LZMA},
	    {"\xfd"
	     "7zX",
	     4, RIFFLE_COMPRESSION_XZ},
	    {"\x89LZO", 4, RIFFLE_COMPRESSION_LZO},
	    {"\x02\x21\x4c\x18", 4, RIFFLE_COMPRESSION_LZ4},
	    {"\x28\xb5\x2f\xfd", 4, RIFFLE_COMPRESSION_ZSTD},
	};
	static uint8_t file[0x3000];

	(void)state;
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
		for (unsigned wrong = 0; wrong <= rows[i].bytes; wrong++) {
			struct image_source source;
			struct riffle_error error;
			struct bzimage b;

			make_head(file);
			memset(file + 0x2e00, 0xee, 8);
			memcpy(file + 0x2e00, rows[i].mark, rows[i].bytes);
			if (wrong)
				file[0x2e00 + wrong - 1] ^= 0x40;
			image_source_from_memory(&source, file, sizeof file);
			assert_int_equal(image_bzimage_parse(&b, &source, &error), RIFFLE_OK);
			assert_int_equal(b.compression, wrong ? RIFFLE_COMPRESSION_NONE : rows[i].compression);
		}
	for (unsigned bytes = 0x204; bytes <= 0x208; bytes++)
		for (unsigned wrong = 0x1fd; wrong < 0x207; wrong++) {
			make_head(file);
			file[wrong] ^= 1;
			assert_int_equal(image_is_bzimage(file, bytes),
					 bytes >= 0x206 &&
					     (wrong < 0x1fe || (wrong >= 0x200 && wrong < 0x202) || wrong > 0x205));
		}
}

__attribute__((format(printf, 3, 4))) static void expect_line(int status, const struct riffle_error *error,
							      const char *format, ...)
{
	char text[200] = "taken", wanted[200];
	va_list list;

	if (status)
		riffle_error_format(error, text, sizeof text);
	va_start(list, format);
	vsnprintf(wanted, sizeof wanted, format, list);
	va_end(list);
	assert_string_equal(text, wanted);
}

/* What a stream unpacks to is compared with what was announced, to the byte, and so is its end. */
static void sizes_are_exact(void **state)
{
	enum { BYTES = 10000 };
	static const int off[] = {-100, -1, 0, 1, 100};
	static uint8_t plain[BYTES], out[BYTES + 200];
	uint64_t seed = 5;

	(void)state;
	for (unsigned i = 0; i < BYTES; i++)
		plain[i] = (uint8_t)(test_random(&seed) % 5);
	for (unsigned c = RIFFLE_COMPRESSION_NONE; c <= RIFFLE_COMPRESSION_ZSTD; c++) {
		struct test_bytes packed = {0};
		struct riffle_error error = {0};
		size_t bytes;
		int status;

		if (c == RIFFLE_COMPRESSION_LZO || !test_compress(&packed, c, plain, BYTES))
			continue;
		bytes = packed.count - (c == RIFFLE_COMPRESSION_GZIP ? 0 : 4);
		for (unsigned i = 0; i < sizeof off / sizeof *off; i++) {
			memset(out, 0xcc, sizeof out);
			status = image_decompress(c, packed.at, bytes, out, (size_t)(BYTES + off[i]), &error);
			if (!off[i])
				expect_line(status, &error, "taken");
			else if (off[i] == -100 && c == RIFFLE_COMPRESSION_LZ4)
				expect_line(
				    status, &error,
				    "payload: is broken or unpacks to more than its size word says (found 9900)");
			else if (off[i] < 0)
				expect_line(status, &error,
					    "payload size word: is smaller than what the payload unpacks to (found %d)",
					    BYTES + off[i]);
			else
				expect_line(
				    status, &error,
				    "payload size word: is larger than what the payload unpacks to (found %d, expected "
				    "10000)",
				    BYTES + off[i]);
			if (!off[i])
				assert_memory_equal(out, plain, BYTES);
			/* one byte more tells */
			for (size_t k = (size_t)(BYTES + off[i] + 1); k < sizeof out; k++)
				assert_int_equal(out[k], 0xcc);
		}
		if (c != RIFFLE_COMPRESSION_NONE) {
			static const char broken[] = "payload: is not what its compression allows";
			const char *more = c == RIFFLE_COMPRESSION_ZSTD
					       ? broken
					       : "payload: continues after the end of its compressed data (found 1)";

			test_bytes_add(&packed, "abc", 3);
			status = image_decompress(c, packed.at, bytes + 1, out, BYTES, &error);
			expect_line(status, &error, "%s", more);
			status = image_decompress(c, packed.at, bytes - 1, out, BYTES, &error);
			if (c == RIFFLE_COMPRESSION_LZ4)
				expect_line(status, &error,
					    "lz4 block: has an impossible length (found %u, expected %u)",
					    riffle_get32(packed.at + 4), riffle_get32(packed.at + 4) - 1);
			else
				expect_line(status, &error, "%s", broken);
		}
		test_bytes_free(&packed);
	}
	{
		struct riffle_error error;

		expect_line(image_decompress(RIFFLE_COMPRESSION_NONE, plain, GIB + 1, out, 5, &error), &error,
			    "payload: is too large (found 0x40000001, expected 0x40000000)");
		expect_line(image_decompress(RIFFLE_COMPRESSION_NONE, plain, 5, out, GIB + 2, &error), &error,
			    "payload: is too large (found 0x40000002, expected 0x40000000)");
		expect_line(image_decompress(RIFFLE_COMPRESSION_NONE, plain, GIB, out, 5, &error), &error,
			    "payload size word: is smaller than what the payload unpacks to (found 5)");
		expect_line(image_decompress(99, plain, 5, out, 5, &error), &error,
			    "payload: is compressed in a way unknown here");
	}
}

/* Blocks of the lz4 format that the kernel uses: each after its length, frames one after another. */
static void lz4_blocks_have_possible_lengths(void **state)
{
	static const uint8_t magic[4] = {0x02, 0x21, 0x4c, 0x18}, hello[6] = {0x50, 'h', 'e', 'l', 'l', 'o'};
	const uint32_t bound = 8421520, lengths[] = {0, 7, bound + 1, UINT32_MAX};
	uint8_t *large = calloc(1, bound + 100), out[32];
	struct test_bytes stream = {0};
	struct riffle_error error;

	(void)state;
	for (unsigned frames = 0; frames < 3; frames++) {
		if (frames) {
			test_bytes_word(&stream, sizeof hello);
			test_bytes_add(&stream, hello, sizeof hello);
		}
		test_bytes_add(&stream, magic, 4);
		expect_line(image_decompress(RIFFLE_COMPRESSION_LZ4, stream.at, stream.count, out, 5 * frames, &error),
			    &error, "taken");
		if (frames == 2)
			assert_memory_equal(out, "hellohello", 10);
		for (unsigned less = 1; less < 4; less++)
			expect_line(image_decompress(RIFFLE_COMPRESSION_LZ4, stream.at, stream.count - less, out,
						     5 * frames, &error),
				    &error, "payload: continues after the end of its compressed data (found %u)",
				    4 - less);
	}
	for (unsigned i = 0; i < sizeof lengths / sizeof *lengths; i++) {
		size_t bytes = i < 2 ? 14 : bound + 100;

		memcpy(large, magic, 4);
		memcpy(large + 4, &lengths[i], 4);
		memcpy(large + 8, hello, sizeof hello);
		if (i < 2)
			expect_line(image_decompress(RIFFLE_COMPRESSION_LZ4, large, bytes, out, 5, &error), &error,
				    "lz4 block: has an impossible length (found %u, expected 6)", lengths[i]);
		else
			expect_line(image_decompress(RIFFLE_COMPRESSION_LZ4, large, bytes, out, 5, &error), &error,
				    "lz4 block: has an impossible length (found 0x%x, expected 0x%x)", lengths[i],
				    bound + 100 - 8);
	}
	test_bytes_free(&stream);
	free(large);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_truncated_bzimage),
	    cmocka_unit_test(test_truncated_payload),
	    cmocka_unit_test(test_bzimage_header),
	    cmocka_unit_test(test_last_paragraph),
	    cmocka_unit_test(test_units),
	    cmocka_unit_test(test_size_word),
	    cmocka_unit_test(test_broken_payload),
	    cmocka_unit_test(test_trailing_payload),
	    cmocka_unit_test(test_payload_is_no_kernel),
	    cmocka_unit_test(test_lzop_missing),
	    cmocka_unit_test(header_limits_are_exact),
	    cmocka_unit_test(payloads_are_known_by_their_marks),
	    cmocka_unit_test(sizes_are_exact),
	    cmocka_unit_test(lz4_blocks_have_possible_lengths),
	};

	return run_clean(tests, sizeof tests / sizeof *tests);
}
