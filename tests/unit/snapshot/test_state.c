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

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_round_trip),       cmocka_unit_test(test_cut_and_changed),
	    cmocka_unit_test(test_hostile_sections), cmocka_unit_test(test_hostile_fields),
	    cmocka_unit_test(test_versions),         cmocka_unit_test(test_too_large),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
