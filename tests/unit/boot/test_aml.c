/* SPDX-License-Identifier: Apache-2.0 */
/* The AML encoder, by the bytes that ACPI 6.5 gives for each term, up to where a longer form begins. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <string.h>

#include <cmocka.h>

#include "boot/aml.h"

static uint8_t room[(1 << 20) + 16];
static struct riffle_boot_aml aml;

static int set_up(void **state)
{
	(void)state;
	memset(room, 0xee, sizeof room);
	aml = (struct riffle_boot_aml){.bytes = room, .limit = sizeof room};
	return 0;
}

/* What was encoded is that, and begins anew. */
static void expect(const char *bytes, size_t count)
{
	assert_false(aml.full);
	assert_int_equal(aml.used, count);
	assert_memory_equal(room, bytes, count);
	assert_int_equal(room[count], 0xee);
	set_up(NULL);
}
#define EXPECT(bytes) expect(bytes, sizeof bytes - 1)

static void test_integers(void **state)
{
	static const struct {
		uint64_t value;
		const char *bytes;
		size_t count;
	} cases[] = {
	    {0, "\x00", 1},
	    {1, "\x01", 1},
	    {2, "\x0a\x02", 2},
	    {0xff, "\x0a\xff", 2},
	    {0x100, "\x0b\x00\x01", 3},
	    {0xffff, "\x0b\xff\xff", 3},
	    {0x10000, "\x0c\x00\x00\x01\x00", 5},
	    {0xffffffff, "\x0c\xff\xff\xff\xff", 5},
	    {0x100000000, "\x0e\x00\x00\x00\x00\x01\x00\x00\x00", 9},
	    {0x0123456789abcdef, "\x0e\xef\xcd\xab\x89\x67\x45\x23\x01", 9},
	};

	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		riffle_boot_aml_integer(&aml, cases[i].value);
		expect(cases[i].bytes, cases[i].count);
	}
}

static void test_names(void **state)
{
	(void)state;
	riffle_boot_aml_string(&aml, "LNRO0005");
	EXPECT("\x0dLNRO0005\0");
	riffle_boot_aml_name(&aml, "_HID");
	EXPECT("\x08_HID");
	/* the examples of other firmware: PNP0A03, PNP0C0F; and the ends of both alphabets */
	riffle_boot_aml_eisa_id(&aml, "PNP0A03");
	EXPECT("\x0c\x41\xd0\x0a\x03");
	riffle_boot_aml_eisa_id(&aml, "PNP0C0F");
	EXPECT("\x0c\x41\xd0\x0c\x0f");
	riffle_boot_aml_eisa_id(&aml, "AZA9FA0");
	EXPECT("\x0c\x07\x41\x9f\xa0");
	riffle_boot_aml_notify(&aml, "_SB_", "VGEN", 0x80);
	EXPECT("\x86\\\x2e_SB_VGEN\x0a\x80");
}

static void test_resources(void **state)
{
	size_t opened;

	(void)state;
	riffle_boot_aml_io(&aml, 0x3f8, 8);
	EXPECT("\x47\x01\xf8\x03\xf8\x03\x01\x08");
	riffle_boot_aml_memory32(&aml, 0xd0001000, 0x200);
	EXPECT("\x86\x09\x00\x01\x00\x10\x00\xd0\x00\x02\x00\x00");
	riffle_boot_aml_interrupt(&aml, 0x12345);
	EXPECT("\x89\x06\x00\x03\x01\x45\x23\x01\x00");
	opened = riffle_boot_aml_open_resources(&aml);
	riffle_boot_aml_byte(&aml, 0x55);
	riffle_boot_aml_close_resources(&aml, opened);
	EXPECT("\x11\x06\x0a\x03\x55\x79\x00");
	/* as many bytes as their count can tell, the end tag's two among them; and one more */
	for (size_t more = 0; more < 2; more++) {
		opened = riffle_boot_aml_open_resources(&aml);
		for (size_t i = 0; i < 253 + more; i++)
			riffle_boot_aml_byte(&aml, 1);
		riffle_boot_aml_close_resources(&aml, opened);
		assert_int_equal(aml.full, more);
		if (!more) {
			assert_int_equal(aml.used, 1 + 2 + 2 + 255);
			assert_memory_equal(room, "\x11\x43\x10\x0a\xff\x01", 6);
		}
		set_up(NULL);
	}
}

static void test_terms(void **state)
{
	size_t scope, inner;

	(void)state;
	scope = riffle_boot_aml_open_scope(&aml, "_SB_");
	inner = riffle_boot_aml_open_device(&aml, "COM1");
	riffle_boot_aml_close(&aml, inner);
	inner = riffle_boot_aml_open_method(&aml, "_PTS", 1);
	riffle_boot_aml_close(&aml, inner);
	riffle_boot_aml_close(&aml, scope);
	EXPECT("\x10\x14\\_SB_"
	       "\x5b\x82\x05"
	       "COM1"
	       "\x14\x06_PTS\x09");
	inner = riffle_boot_aml_open_package(&aml, 4);
	riffle_boot_aml_close(&aml, inner);
	EXPECT("\x12\x02\x04");
}

/* A length tells of itself as well, and takes a byte more from 64 and from 4096 on; the largest is 2^20 - 1. */
static void test_lengths(void **state)
{
	static const struct {
		size_t inside;
		const char *length;
		size_t bytes;
	} cases[] = {
	    {1, "\x02", 1},
	    {62, "\x3f", 1},
	    {63, "\x41\x04", 2},
	    {0xffd, "\x4f\xff", 2},
	    {0xffe, "\x81\x00\x01", 3},
	    {0x12342, "\x85\x34\x12", 3},
	    {0xffffc, "\x8f\xff\xff", 3},
	};

	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		size_t opened = riffle_boot_aml_open_package(&aml, 7);

		for (size_t j = 1; j < cases[i].inside; j++)
			riffle_boot_aml_byte(&aml, (uint8_t)j);
		riffle_boot_aml_close(&aml, opened);
		assert_false(aml.full);
		assert_int_equal(aml.used, 1 + cases[i].bytes + cases[i].inside);
		assert_memory_equal(room + 1, cases[i].length, cases[i].bytes);
		assert_int_equal(room[1 + cases[i].bytes], 7);
		if (cases[i].inside > 1)
			assert_int_equal(room[aml.used - 1], (uint8_t)(cases[i].inside - 1));
		assert_int_equal(room[aml.used], 0xee);
		set_up(NULL);
	}
	aml.used = 1;
	for (size_t j = 0; j < 0xffffd; j++)
		riffle_boot_aml_byte(&aml, 0);
	riffle_boot_aml_close(&aml, 1);
	assert_true(aml.full);
}

/* What does not fit is dropped as a whole, and so is all that follows; nothing is written beyond the limit. */
static void test_limit(void **state)
{
	size_t opened;

	(void)state;
	aml.limit = 4;
	riffle_boot_aml_put(&aml, "abc", 3);
	riffle_boot_aml_put(&aml, "de", 2);
	assert_true(aml.full);
	assert_int_equal(aml.used, 3);
	riffle_boot_aml_byte(&aml, 'f');
	assert_int_equal(aml.used, 3);
	assert_memory_equal(room, "abc\xee", 4);
	set_up(NULL);
	aml.limit = 4;
	riffle_boot_aml_put(&aml, "abcd", 4);
	assert_false(aml.full);
	riffle_boot_aml_put(&aml, "", 0);
	assert_false(aml.full);
	set_up(NULL);
	/* the content fits, with its length or without */
	for (size_t limit = 2; limit < 4; limit++) {
		aml.limit = limit;
		opened = riffle_boot_aml_open_package(&aml, 4);
		riffle_boot_aml_close(&aml, opened);
		assert_int_equal(aml.full, limit == 2);
		assert_int_equal(aml.used, limit);
		assert_int_equal(room[3], 0xee);
		set_up(NULL);
	}
	aml.full = true;
	riffle_boot_aml_close(&aml, 0);
	riffle_boot_aml_close_resources(&aml, 0);
	assert_int_equal(aml.used, 0);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup(name, set_up)
	const struct CMUnitTest tests[] = {
	    TEST(test_integers), TEST(test_names),   TEST(test_resources),
	    TEST(test_terms),    TEST(test_lengths), TEST(test_limit),
	};

	return cmocka_run_group_tests_name("AML", tests, NULL, NULL);
}
