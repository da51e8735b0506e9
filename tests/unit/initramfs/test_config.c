/* SPDX-License-Identifier: Apache-2.0 */
/* A guest init's parsing of its configuration. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "guest/config.h"

/* A string literal with the NUL that ends its last string. */
#define PARSE(text) parse(text, sizeof(text))

static struct config config;
static char *copy, **pointers;

/* Parses with memory of exact size for text and pointers, so that sanitizers detect overruns. */
static const char *parse(const char *text, size_t bytes)
{
	free(copy);
	free(pointers);
	copy = malloc(bytes ? bytes : 1);
	memcpy(copy, text, bytes);
	pointers = calloc(config_pointers(copy, bytes), sizeof *pointers);
	return config_parse(&config, copy, bytes, pointers);
}

static void test_all_keys(void **state)
{
	(void)state;
	assert_null(PARSE("riffle-init 1\0arg=a\0env=A=1\0arg=\0workdir=/w\0env=B=x=y\0program=/p\0hostname=h\0"
			  "terminal=5\0arg=c\nd"));
	assert_int_equal(config.argc, 3);
	assert_string_equal(config.argv[0], "a");
	assert_string_equal(config.argv[1], "");
	assert_string_equal(config.argv[2], "c\nd");
	assert_null(config.argv[3]);
	assert_int_equal(config.environment_count, 2);
	assert_string_equal(config.environment[0], "A=1");
	assert_string_equal(config.environment[1], "B=x=y");
	assert_null(config.environment[2]);
	assert_string_equal(config.program, "/p");
	assert_string_equal(config.workdir, "/w");
	assert_string_equal(config.hostname, "h");
	assert_int_equal(config.terminal, 5);
}

static void test_least(void **state)
{
	(void)state;
	assert_null(PARSE("riffle-init 1\0arg=a"));
	assert_int_equal(config.argc, 1);
	assert_int_equal(config.environment_count, 0);
	assert_null(config.environment[0]);
	assert_null(config.program);
	assert_null(config.workdir);
	assert_int_equal(config.terminal, 0);
}

static void test_refused(void **state)
{
	(void)state;
	assert_non_null(parse("", 0));
	assert_non_null(parse("riffle-init 1", 13)); /* no NUL */
	assert_non_null(PARSE("riffle-init 1"));     /* nothing to run */
	assert_non_null(PARSE("riffle-init 2\0arg=a"));
	assert_non_null(PARSE("riffle-init 12\0arg=a"));
	assert_non_null(PARSE("riffle"));
	assert_non_null(PARSE("riffle-init 1\0arg=a\0unknown=1"));
	assert_non_null(PARSE("riffle-init 1\0arg=a\0argv=1"));
	assert_non_null(PARSE("riffle-init 1\0arg=a\0arg"));
	assert_non_null(PARSE("riffle-init 1\0arg=a\0"));   /* an empty string */
	assert_non_null(parse("riffle-init 1\0arg=a", 19)); /* the last one does not end */
	for (const char *const *t = (const char *const[]){"8", "", "11", "-", "a", NULL}; *t; t++) {
		char text[64] = "riffle-init 1\0arg=a\0terminal=";

		strcpy(text + 29, *t);
		assert_non_null(parse(text, 30 + strlen(*t)));
	}
	assert_null(parse("riffle-init 1\0arg=a\0terminal=7", 31));
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_all_keys), cmocka_unit_test(test_least),
					   cmocka_unit_test(test_refused)};
	int failed = cmocka_run_group_tests(tests, NULL, NULL);

	free(copy);
	free(pointers);
	return failed;
}
