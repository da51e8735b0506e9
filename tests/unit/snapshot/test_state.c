/* SPDX-License-Identifier: Apache-2.0 */
/* The state format: survives a round trip; truncated, changed or invalid state is refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "common/bytes.h"
#include "common/checksum.h"
#include "monitor/snapshot/state.h"

static struct state_writer sample(void)
{
	struct state_writer writer = {0};

	state_begin(&writer, STATE_CMOS, 0, 1);
	state_put8(&writer, 7);
	state_put_block(&writer, "abc", 3);
	state_end(&writer);
	state_begin(&writer, STATE_VIRTIO, 5, 1);
	state_put64(&writer, UINT64_C(0x1122334455667788));
	state_put16(&writer, 0x99aa);
	state_put32(&writer, 3);
	state_end(&writer);
	assert_int_equal(state_finish(&writer, NULL), 0);
	return writer;
}

static void fix_checksum(struct state_writer *writer)
{
	riffle_put64(writer->data + 16,
		     riffle_checksum(writer->data + STATE_HEADER_BYTES, writer->bytes - STATE_HEADER_BYTES));
}

static void test_round_trip(void **unused)
{
	struct state_writer writer = sample();
	struct state_reader reader;
	struct state_file file;
	char text[3];

	(void)unused;
	assert_int_equal(state_open(&file, writer.data, writer.bytes, NULL), 0);
	assert_true(state_section(&file, STATE_CMOS, 0, &reader));
	assert_int_equal(state_get8(&reader, "a"), 7);
	assert_int_equal(state_get_block(&reader, "b", text, sizeof text), 3);
	assert_memory_equal(text, "abc", 3);
	assert_int_equal(state_close_section(&reader, NULL), 0);
	assert_true(state_section(&file, STATE_VIRTIO, 5, &reader));
	assert_int_equal(state_get64(&reader, "c"), UINT64_C(0x1122334455667788));
	assert_int_equal(state_get16(&reader, "d"), 0x99aa);
	assert_int_equal(state_get_limited(&reader, "e", 3), 3);
	assert_int_equal(state_close_section(&reader, NULL), 0);
	assert_false(state_section(&file, STATE_VIRTIO, 4, &reader));
	assert_int_equal(state_count(&file, STATE_VIRTIO), 1);
	state_writer_free(&writer);
}

/* Any truncation or changed bit is detected, except in the use counter. */
static void test_cut_and_changed(void **unused)
{
	struct state_writer writer = sample();
	struct state_file file;

	(void)unused;
	for (size_t bytes = 0; bytes < writer.bytes; bytes++) {
		uint8_t *cut = malloc(bytes + 1); /* of its own, so that a sanitizer sees a read beyond */

		memcpy(cut, writer.data, bytes);
		assert_int_not_equal(state_open(&file, cut, bytes, NULL), 0);
		free(cut);
	}
	for (size_t bit = 0; bit < 8 * writer.bytes; bit++) {
		size_t at = bit / 8;
		bool counter = at >= STATE_USES_OFFSET && at < STATE_USES_OFFSET + 8;

		writer.data[at] ^= (uint8_t)(1u << bit % 8);
		assert_int_equal(!state_open(&file, writer.data, writer.bytes, NULL), counter);
		writer.data[at] ^= (uint8_t)(1u << bit % 8);
	}
	state_writer_free(&writer);
}

static enum riffle_status opened(struct state_writer *writer)
{
	struct riffle_error error = {0};
	struct state_file file;

	fix_checksum(writer);
	return state_open(&file, writer->data, writer->bytes, &error) ? error.status : RIFFLE_OK;
}

/* The same with a checksum that fits. */
static void test_hostile_sections(void **unused)
{
	struct state_writer writer = sample();
	uint8_t *first = writer.data + STATE_HEADER_BYTES, *second = first + STATE_SECTION_BYTES + 8;

	(void)unused;
	assert_int_equal(opened(&writer), RIFFLE_OK);
	riffle_put32(first, STATE_ID('X', 'X', 'X', 'X'));
	assert_int_equal(opened(&writer), RIFFLE_ERR_UNSUPPORTED);
	riffle_put32(first, STATE_CMOS);
	riffle_put32(first + 4, 1);
	assert_int_equal(opened(&writer), RIFFLE_ERR_FORMAT); /* there is one clock */
	riffle_put32(first + 4, 0);
	riffle_put32(first + 8, 2);
	assert_int_equal(opened(&writer), RIFFLE_ERR_UNSUPPORTED);
	riffle_put32(first + 8, 1);
	riffle_put32(second, STATE_CMOS);
	riffle_put32(second + 4, 0);
	assert_int_equal(opened(&writer), RIFFLE_ERR_FORMAT); /* twice */
	riffle_put32(second, STATE_VIRTIO);
	riffle_put32(second + 4, 63);
	assert_int_equal(opened(&writer), RIFFLE_OK);
	riffle_put32(second + 4, 64);
	assert_int_equal(opened(&writer), RIFFLE_ERR_FORMAT);
	riffle_put32(second + 4, 0);
	for (uint32_t bytes = 17; bytes < 64; bytes++) {
		riffle_put32(second + 12, bytes);
		assert_int_equal(opened(&writer), RIFFLE_ERR_FORMAT);
	}
	riffle_put32(second + 12, UINT32_MAX);
	assert_int_equal(opened(&writer), RIFFLE_ERR_FORMAT);
	riffle_put32(second + 12, 16);
	assert_int_equal(opened(&writer), RIFFLE_OK);
	state_writer_free(&writer);
}

static void test_hostile_fields(void **unused)
{
	struct state_writer writer = sample();
	struct riffle_error error;
	struct state_reader reader;
	struct state_file file;
	char text[3] = "xyz";

	(void)unused;
	assert_int_equal(state_open(&file, writer.data, writer.bytes, NULL), 0);
	/* a block that is larger than there is room for, or than its section */
	state_section(&file, STATE_CMOS, 0, &reader);
	state_get8(&reader, "a");
	assert_int_equal(state_get_block(&reader, "b", text, 2), 0);
	assert_int_equal(state_close_section(&reader, &error), RIFFLE_ERR_FORMAT);
	assert_string_equal(error.field, "b");
	assert_memory_equal(text, "xyz", 3);
	state_section(&file, STATE_VIRTIO, 5, &reader);
	assert_int_equal(state_get_block(&reader, "c", text, sizeof text), 0);
	assert_int_equal(state_close_section(&reader, &error), RIFFLE_ERR_FORMAT);
	/* one past the limit; something left; past the end */
	state_section(&file, STATE_VIRTIO, 5, &reader);
	state_get64(&reader, "c");
	state_get16(&reader, "d");
	assert_int_equal(state_get_limited(&reader, "e", 2), 0);
	assert_int_equal(state_close_section(&reader, &error), RIFFLE_ERR_FORMAT);
	assert_string_equal(error.field, "e");
	state_section(&file, STATE_VIRTIO, 5, &reader);
	state_get64(&reader, "c");
	assert_int_equal(state_close_section(&reader, &error), RIFFLE_ERR_FORMAT);
	state_get64(&reader, "d");
	assert_int_equal(state_close_section(&reader, &error), RIFFLE_ERR_FORMAT);
	state_section(&file, STATE_CMOS, 0, &reader);
	assert_false(state_get_bool(&reader, "a")); /* 7 is neither */
	assert_int_equal(state_close_section(&reader, &error), RIFFLE_ERR_FORMAT);
	state_writer_free(&writer);
}

static void test_versions(void **unused)
{
	struct state_writer writer = sample();
	struct riffle_error error;
	struct state_file file;

	(void)unused;
	riffle_put32(writer.data + 8, STATE_VERSION - 1);
	assert_int_equal(state_open(&file, writer.data, writer.bytes, &error), RIFFLE_ERR_UNSUPPORTED);
	assert_non_null(strstr(error.problem, "older"));
	riffle_put32(writer.data + 8, STATE_VERSION + 1);
	assert_int_equal(state_open(&file, writer.data, writer.bytes, &error), RIFFLE_ERR_UNSUPPORTED);
	assert_non_null(strstr(error.problem, "newer"));
	state_writer_free(&writer);
}

static void test_too_large(void **unused)
{
	static uint8_t bytes[1 << 20];
	struct state_writer writer = {0};

	(void)unused;
	state_begin(&writer, STATE_CMOS, 0, 1);
	for (unsigned i = 0; i < STATE_BYTES_MAX / sizeof bytes; i++)
		state_put(&writer, bytes, sizeof bytes);
	state_end(&writer);
	assert_int_equal(state_finish(&writer, NULL), RIFFLE_ERR_MEMORY);
	state_writer_free(&writer);
}

/* A file of one section of this kind. */
static int open_one(uint32_t id, uint32_t instance, uint32_t version, struct riffle_error *error)
{
	struct state_writer writer = {0};
	struct state_file file;

	state_begin(&writer, id, instance, version);
	state_put32(&writer, 1);
	state_end(&writer);
	assert_int_equal(state_finish(&writer, NULL), 0);
	int status = state_open(&file, writer.data, writer.bytes, error);

	state_writer_free(&writer);
	return status;
}

/* Each kind of section: version 1 alone, and as many instances as there can be. */
static void every_kind_of_section(void **unused)
{
	static const struct {
		uint32_t id, instances;
	} kinds[] = {
	    {STATE_MACHINE, 1}, {STATE_CONFIG, 1},  {STATE_CHIPS, 1}, {STATE_VCPU, 32},
	    {STATE_SERIAL, 1},  {STATE_I8042, 1},   {STATE_CMOS, 1},  {STATE_POWER, 1},
	    {STATE_INPUT, 1},   {STATE_VIRTIO, 64}, {STATE_SAVE, 1},
	};
	struct riffle_error error;

	(void)unused;
	for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
		assert_int_equal(open_one(kinds[i].id, 0, 1, &error), 0);
		assert_int_equal(open_one(kinds[i].id, kinds[i].instances - 1, 1, &error), 0);
		assert_int_equal(open_one(kinds[i].id, kinds[i].instances, 1, &error), RIFFLE_ERR_FORMAT);
		assert_int_equal(error.found, kinds[i].instances);
		assert_int_equal(error.expected, kinds[i].instances - 1);
		assert_int_equal(open_one(kinds[i].id, 0, 0, &error), RIFFLE_ERR_UNSUPPORTED);
		assert_non_null(strstr(error.problem, "older"));
		assert_int_equal(open_one(kinds[i].id, 0, 2, &error), RIFFLE_ERR_UNSUPPORTED);
		assert_non_null(strstr(error.problem, "newer"));
		assert_int_equal(error.found, 2);
		assert_int_equal(error.expected, 1);
	}
	assert_int_equal(open_one(0, 0, 1, &error), RIFFLE_ERR_UNSUPPORTED);
	assert_string_equal(error.field, "section id");
}

/* The format, byte by byte: sections of every length are padded to eight, and found one behind the other. */
static void layout_of_the_file(void **unused)
{
	struct state_writer writer = {0};
	struct state_reader reader;
	struct state_file file;
	size_t at = STATE_HEADER_BYTES;

	(void)unused;
	for (uint32_t i = 0; i < 20; i++) {
		state_begin(&writer, STATE_VIRTIO, i, 1);
		for (uint32_t j = 0; j < i; j++)
			state_put8(&writer, (uint8_t)(0x80 + i));
		state_end(&writer);
	}
	assert_int_equal(state_finish(&writer, NULL), 0);
	assert_memory_equal(writer.data, "RIFFLSNP\1\0\0\0", 12);
	assert_int_equal(riffle_get32(writer.data + 12), writer.bytes);
	for (unsigned i = 24; i < STATE_HEADER_BYTES; i++)
		assert_int_equal(writer.data[i], 0);
	for (uint32_t i = 0; i < 20; i++) {
		const uint32_t header[4] = {STATE_VIRTIO, i, 1, i};

		assert_memory_equal(writer.data + at, header, sizeof header);
		at += sizeof header;
		for (uint32_t j = 0; j < (i + 7) / 8 * 8; j++)
			assert_int_equal(writer.data[at++], j < i ? 0x80 + i : 0);
	}
	assert_int_equal(at, writer.bytes);
	assert_int_equal(state_open(&file, writer.data, writer.bytes, NULL), 0);
	assert_int_equal(state_count(&file, STATE_VIRTIO), 20);
	for (uint32_t i = 0; i < 20; i++) {
		assert_true(state_section(&file, STATE_VIRTIO, i, &reader));
		assert_int_equal(reader.left, i);
		for (uint32_t j = 0; j < i; j++)
			assert_int_equal(state_get8(&reader, "x"), 0x80 + i);
		assert_int_equal(state_close_section(&reader, NULL), 0);
	}
	state_writer_free(&writer);
	assert_null(writer.data);
}

/* Each part of the header has a refusal of its own, with what was found. */
static void refusals_of_headers(void **unused)
{
	struct state_writer writer = sample();
	struct riffle_error error;
	struct state_file file;

	(void)unused;
	assert_int_equal(state_open(&file, writer.data, STATE_HEADER_BYTES - 1, &error), RIFFLE_ERR_FORMAT);
	assert_string_equal(error.field, "header");
	assert_int_equal(error.expected, STATE_HEADER_BYTES);
	assert_int_equal(state_open(&file, writer.data, writer.bytes - 8, &error), RIFFLE_ERR_FORMAT);
	assert_string_equal(error.field, "bytes");
	assert_int_equal(error.found, writer.bytes - 8);
	assert_int_equal(error.expected, writer.bytes);
	for (unsigned at = 0; at < STATE_HEADER_BYTES; at++) {
		const char *field = at < 8    ? "magic"
				    : at < 12 ? "version"
				    : at < 16 ? "bytes"
				    : at < 24 ? "checksum"
				    : at < 32 ? NULL
					      : "reserved";

		writer.data[at] ^= 0x40;
		assert_int_equal(state_open(&file, writer.data, writer.bytes, &error) != 0, field != NULL);
		if (field)
			assert_string_equal(error.field, field);
		writer.data[at] ^= 0x40;
	}
	/* a header alone is a file without sections */
	struct state_writer empty = {0};

	assert_int_equal(state_finish(&empty, &error), RIFFLE_ERR_MEMORY);
	riffle_put32(writer.data + 12, STATE_HEADER_BYTES);
	riffle_put64(writer.data + 16, riffle_checksum(writer.data + STATE_HEADER_BYTES, 0));
	assert_int_equal(state_open(&file, writer.data, STATE_HEADER_BYTES, &error), 0);
	assert_int_equal(state_count(&file, STATE_CMOS), 0);
	struct state_reader reader;

	assert_false(state_section(&file, STATE_CMOS, 0, &reader));
	state_writer_free(&writer);
}

/* The first thing wrong in a section is what is told, and everything after it reads as zero. */
static void first_problem_is_told(void **unused)
{
	uint8_t bytes[] = {3, 0, 0, 0, 'a', 'b', 'c', 1, 0, 2};
	struct riffle_error error;
	struct state_reader reader = {.at = bytes, .left = sizeof bytes};
	char text[4] = "wxyz";
	size_t length;

	(void)unused;
	assert_int_equal(state_get_block(&reader, "block", text, 3), 3);
	assert_memory_equal(text, "abcz", 4);
	assert_true(state_get_bool(&reader, "yes"));
	assert_false(state_get_bool(&reader, "no"));
	assert_int_equal(reader.left, 1);
	assert_int_equal(state_close_section(&reader, &error), RIFFLE_ERR_FORMAT);
	assert_string_equal(error.field, "section");
	assert_int_equal(error.found, 1);
	assert_false(state_get_bool(&reader, "neither"));
	assert_int_equal(state_get32(&reader, "later"), 0);
	assert_int_equal(state_get_limited(&reader, "limited", 0), 0);
	assert_non_null(state_get_block_at(&reader, "at", &length));
	assert_int_equal(length, 0);
	assert_int_equal(state_get_block(&reader, "block", text, 3), 0);
	assert_int_equal(state_close_section(&reader, &error), RIFFLE_ERR_FORMAT);
	assert_string_equal(error.field, "neither");
	assert_int_equal(error.found, 2);
	/* a block of all that is left, and of one byte more */
	for (uint8_t more = 0; more < 2; more++) {
		bytes[0] = (uint8_t)(6 + more);
		reader = (struct state_reader){.at = bytes, .left = sizeof bytes};
		state_get_block_at(&reader, "at", &length);
		assert_int_equal(length, more ? 0 : 6);
		assert_int_equal(state_close_section(&reader, &error), more ? RIFFLE_ERR_FORMAT : 0);
	}
	/* a number of which one byte is missing */
	reader = (struct state_reader){.at = bytes, .left = 3};
	assert_int_equal(state_get32(&reader, "number"), 0);
	assert_int_equal(state_close_section(&reader, &error), RIFFLE_ERR_FORMAT);
	assert_int_equal(error.found, 3);
	assert_int_equal(state_missing("clock", &error), RIFFLE_ERR_FORMAT);
	assert_string_equal(error.field, "clock");
}

/* 16 MiB is the most, to the byte. */
static void largest_file(void **unused)
{
	static uint8_t zeros[1 << 20];
	struct riffle_error error;
	struct state_file file;

	(void)unused;
	for (unsigned more = 0; more < 2; more++) {
		struct state_writer writer = {0};

		state_begin(&writer, STATE_CMOS, 0, 1);
		while (writer.bytes + sizeof zeros <= STATE_BYTES_MAX)
			state_put(&writer, zeros, sizeof zeros);
		state_put(&writer, zeros, STATE_BYTES_MAX - writer.bytes);
		if (more)
			state_put8(&writer, 0);
		state_end(&writer);
		assert_int_equal(state_finish(&writer, &error), more ? RIFFLE_ERR_MEMORY : 0);
		if (!more) {
			assert_int_equal(writer.bytes, STATE_BYTES_MAX);
			assert_int_equal(state_open(&file, writer.data, writer.bytes, &error), 0);
			assert_int_equal(state_open(&file, writer.data, writer.bytes + 1, &error), RIFFLE_ERR_FORMAT);
			assert_int_equal(error.expected, STATE_BYTES_MAX);
		}
		state_writer_free(&writer);
	}
	struct state_writer writer = {0};

	state_begin(&writer, STATE_CMOS, 0, 1);
	state_put_block(&writer, zeros, (size_t)STATE_BYTES_MAX + 1);
	state_end(&writer);
	assert_int_equal(state_finish(&writer, &error), RIFFLE_ERR_MEMORY);
	state_writer_free(&writer);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_round_trip),       cmocka_unit_test(test_cut_and_changed),
	    cmocka_unit_test(test_hostile_sections), cmocka_unit_test(test_hostile_fields),
	    cmocka_unit_test(test_versions),         cmocka_unit_test(test_too_large),
	    cmocka_unit_test(every_kind_of_section), cmocka_unit_test(layout_of_the_file),
	    cmocka_unit_test(refusals_of_headers),   cmocka_unit_test(first_problem_is_told),
	    cmocka_unit_test(largest_file),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
