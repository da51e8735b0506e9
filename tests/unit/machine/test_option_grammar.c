/* SPDX-License-Identifier: Apache-2.0 */
/* The grammar of device options: what is accepted, and the one-line message for each mistake. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "machine/option_grammar.h"

static const char *const colours[] = {"red", "green", NULL};
static const struct option_key keys[] = {
    {.name = "ro", .kind = OPTION_FLAG},
    {.name = "colour", .kind = OPTION_CHOICE, .choices = colours, .expected = "red or green"},
    {.name = "size", .kind = OPTION_SIZE, .min = 1024, .max = UINT64_C(1) << 40},
    {.name = "cid", .kind = OPTION_NUMBER, .min = 3, .max = UINT32_MAX},
    {.name = "mac", .kind = OPTION_MAC},
    {.name = "name", .kind = OPTION_TEXT},
    {.name = "forward", .kind = OPTION_TEXT, .list = true},
    {.name = "any", .kind = OPTION_NUMBER},
};
enum { KEYS = sizeof keys / sizeof *keys };
static const struct option_grammar grammar = {.option = "--x", .first = "FILE", .keys = keys, .key_count = KEYS};

static void test_good(void **state)
{
	struct option_value v[KEYS + 1];
	char problem[200] = "", *storage;

	(void)state;
	assert_true(option_grammar_parse(
	    &grammar,
	    "a,,b.img,ro,colour=green,size=1M,cid=0x10,mac=06:00:aC:10:00:02,name=x=y,,z,forward=1,"
	    "forward=2",
	    v, &storage, problem, sizeof problem));
	assert_string_equal(v[KEYS].text, "a,b.img");
	assert_true(v[0].given);
	assert_int_equal(v[1].number, 1);
	assert_int_equal(v[2].number, 1 << 20);
	assert_int_equal(v[3].number, 16);
	assert_int_equal(v[4].number, 0x0600ac100002);
	assert_string_equal(v[5].text, "x=y,z");
	assert_int_equal(v[6].count, 2);
	assert_string_equal(v[6].list[1], "2");
	assert_false(v[7].given);
	free(storage);
	assert_true(option_grammar_parse(&grammar, "f", v, &storage, problem, sizeof problem));
	assert_false(v[0].given);
	free(storage);
	/* the limits themselves */
	assert_true(option_grammar_parse(&grammar, "f,size=1024,cid=3", v, &storage, problem, sizeof problem));
	free(storage);
	assert_true(option_grammar_parse(&grammar, "f,size=1T,cid=4294967295", v, &storage, problem, sizeof problem));
	free(storage);
}

static void test_bad(void **state)
{
	static const char *const rows[][2] = {
	    {"", "--x: has no value, expected FILE"},
	    {",ro", "--x: has no value, expected FILE"},
	    {"f,", "--x: unknown key '', expected ro, colour=, size=, cid=, mac=, name=, forward= or any="},
	    {"f,rw", "--x: unknown key 'rw', expected ro, colour=, size=, cid=, mac=, name=, forward= or any="},
	    {"f,ro=1", "--x: ro: found '1', expected no value"},
	    {"f,ro,ro", "--x: ro: is given twice, expected once"},
	    {"f,colour=blue", "--x: colour: found 'blue', expected red or green"},
	    {"f,colour", "--x: colour: has no value, expected red or green"},
	    {"f,size=1023", "--x: size: found '1023', expected a size from 1024 to 1099511627776"},
	    {"f,size=1025G", "--x: size: found '1025G', expected a size from 1024 to 1099511627776"},
	    {"f,size=99999999T", "--x: size: found '99999999T', expected a size from 1024 to 1099511627776"},
	    {"f,size=1MM", "--x: size: found '1MM', expected a size from 1024 to 1099511627776"},
	    {"f,size=-1", "--x: size: found '-1', expected a size from 1024 to 1099511627776"},
	    {"f,cid=2", "--x: cid: found '2', expected a number from 3 to 4294967295"},
	    {"f,cid=4294967296", "--x: cid: found '4294967296', expected a number from 3 to 4294967295"},
	    {"f,any=1K", "--x: any: found '1K', expected a number of at least 0"},
	    {"f,any=18446744073709551616", "--x: any: found '18446744073709551616', expected a number of at least 0"},
	    {"f,mac=07:00:00:00:00:01", "--x: mac: found '07:00:00:00:00:01', expected a unicast MAC address like "
					"06:00:ac:10:00:02"},
	    {"f,mac=06:00:00:00:00", "--x: mac: found '06:00:00:00:00', expected a unicast MAC address like "
				     "06:00:ac:10:00:02"},
	    {"f,name=", "--x: name: found '', expected a value"},
	};

	(void)state;
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		struct option_value v[KEYS + 1];
		char problem[200] = "", *storage;

		assert_false(option_grammar_parse(&grammar, rows[i][0], v, &storage, problem, sizeof problem));
		assert_string_equal(problem, rows[i][1]);
		assert_null(storage);
	}
}

static void test_required(void **state)
{
	static const struct option_key two[] = {
	    {.name = "cid", .kind = OPTION_NUMBER, .min = 3, .required = true},
	    {.name = "path", .kind = OPTION_TEXT, .required = true, .expected = "a path"}};
	static const struct option_grammar without = {.option = "--vsock", .keys = two, .key_count = 2};
	struct option_value v[3];
	char problem[200], small[12], *storage;

	(void)state;
	assert_true(option_grammar_parse(&without, "path=/x,cid=3", v, &storage, problem, sizeof problem));
	free(storage);
	assert_false(option_grammar_parse(&without, "cid=3", v, &storage, problem, sizeof problem));
	assert_string_equal(problem, "--vsock: path: is missing, expected a path");
	assert_false(option_grammar_parse(&without, "", v, &storage, problem, sizeof problem));
	assert_string_equal(problem, "--vsock: cid: is missing, expected a number of at least 3");
	/* a message is truncated to its buffer */
	assert_false(option_grammar_parse(&without, "huh", v, &storage, small, sizeof small));
	assert_string_equal(small, "--vsock: un");
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_good), cmocka_unit_test(test_bad),
					   cmocka_unit_test(test_required)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
