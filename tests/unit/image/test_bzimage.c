/* SPDX-License-Identifier: Apache-2.0 */
/* Broken and hostile bzImages, payload by payload: refused, never unpacked beyond what the file announces. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

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
	};

	return run_clean(tests, sizeof tests / sizeof *tests);
}
