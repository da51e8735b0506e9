/* SPDX-License-Identifier: Apache-2.0 */
/* What a terminal gets to see of maliciously chosen names. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "host/shown.h"

static void test_characters(void **state)
{
	static const struct {
		const char *text, *shown;
	} row[] = {
	    {"", ""},
	    {"vmlinuz-6.1 ~", "vmlinuz-6.1 ~"},
	    {"a\nb\r\tc", "a?b??c"},
	    {"\033[31mred\033[0m", "?[31mred?[0m"},
	    {"\x7f", "?"},
	    {"\xc2\x9b"
	     "31m",
	     "??31m"}, /* the control sequence introducer of Latin-1 */
	    {"\x9b"
	     "31m",
	     "?31m"},
	    {"\xc2\xa0\xc3\xa9", "\xc2\xa0\xc3\xa9"},
	    {"\xe2\x82\xac \xf0\x9f\x90\xa7", "\xe2\x82\xac \xf0\x9f\x90\xa7"},
	    {"\xe2\x80\xa8", "???"}, /* line separator */
	    {"\xe2\x80\xa9", "???"},
	    {"\xe2\x80\xa7\xe2\x80\xaa", "\xe2\x80\xa7\xe2\x80\xaa"},
	    {"\xc0\x8a", "??"}, /* a line feed, longer than need be */
	    {"\xe0\x80\x8a\xf0\x80\x80\x8a", "???????"},
	    {"\xed\xa0\x80", "???"}, /* a surrogate */
	    {"\xf4\x8f\xbf\xbf\xf4\x90\x80\x80", "\xf4\x8f\xbf\xbf????"},
	    {"\xe2\x82", "??"}, /* cut short */
	    {"\xe2\x82z", "??z"},
	    {"\xff\xfe\xf8", "???"},
	};

	(void)state;
	for (size_t i = 0; i < sizeof row / sizeof *row; i++)
		assert_string_equal(SHOWN(row[i].text), row[i].shown);
	assert_string_equal(SHOWN(NULL), "");
}

/* No character is truncated, and nothing is written past the end. */
static void test_room(void **state)
{
	char small[6];

	(void)state;
	memset(small, 'x', sizeof small);
	assert_string_equal(show(small, 5, "abcde"), "abcd");
	assert_string_equal(show(small, 5, "abc\xc3\xa9"), "abc");
	assert_string_equal(show(small, 5, "ab\xc3\xa9"), "ab\xc3\xa9");
	assert_string_equal(show(small, 1, "a"), "");
	assert_int_equal(small[5], 'x');
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_characters), cmocka_unit_test(test_room)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
