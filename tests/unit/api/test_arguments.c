/* SPDX-License-Identifier: Apache-2.0 */
/* riffle-vmm's command line: each option, precedence, and the message for each kind of error. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "api/arguments.h"

static struct arguments a;
static char problem[200];

/* Words separated by blanks; "''" is an empty one. */
static bool parse(const char *line)
{
	static char copy[400];
	char *argv[32] = {(char *)(uintptr_t) "riffle-vmm"}, *rest = NULL;
	int argc = 1;

	problem[0] = 0;
	strcpy(copy, line);
	for (char *word = strtok_r(copy, " ", &rest); word; word = strtok_r(NULL, " ", &rest)) {
		if (!strcmp(word, "''"))
			*word = 0;
		argv[argc++] = word;
	}
	return arguments_parse(&a, argc, argv, problem, sizeof problem);
}

static void good(const char *line)
{
	if (!parse(line))
		fail_msg("%s: %s", line, problem);
}

static void bad(const char *line, const char *words)
{
	assert_false(parse(line));
	assert_string_equal(problem, words);
}

static void values(void **state)
{
	(void)state;
	good("");
	assert_null(a.api_sock);
	assert_null(a.id);
	assert_false(a.no_api);
	good("--api-sock s --id i --config-file c --metadata m --no-api --log-path l --level e --module o --show-level "
	     "--show-log-origin --metrics-path p --boot-timer --seccomp-filter f --start-time-us 1 --start-time-cpu-us "
	     "2 "
	     "--parent-cpu-time-us 3 --http-api-max-payload-size 4");
	assert_string_equal(a.api_sock, "s");
	assert_string_equal(a.id, "i");
	assert_string_equal(a.config_file, "c");
	assert_string_equal(a.metadata, "m");
	assert_string_equal(a.log_path, "l");
	assert_string_equal(a.level, "e");
	assert_string_equal(a.module, "o");
	assert_string_equal(a.metrics_path, "p");
	assert_string_equal(a.seccomp_filter, "f");
	assert_string_equal(a.start_time_us, "1");
	assert_string_equal(a.start_time_cpu_us, "2");
	assert_string_equal(a.parent_cpu_time_us, "3");
	assert_string_equal(a.payload_size, "4");
	assert_true(a.no_api && a.show_level && a.show_log_origin && a.boot_timer && !a.no_seccomp && !a.enable_pci);
	good("--mmds-size-limit 5 --no-seccomp --enable-pci --snapshot-version --describe-snapshot d");
	assert_string_equal(a.mmds_size, "5");
	assert_string_equal(a.describe_snapshot, "d");
	assert_true(a.no_seccomp && a.enable_pci && a.snapshot_version && !a.boot_timer);
	good("--api-sock -s");
	assert_string_equal(a.api_sock, "-s");
	good("--api-sock ''");
	assert_string_equal(a.api_sock, "");
}

static void wins(void **state)
{
	(void)state;
	good("--nonsense --version --id");
	assert_true(a.version && !a.help);
	good("--version -h");
	assert_true(a.help);
	good("--id x --help --help");
	assert_true(a.help);
	good("-- --version nonsense --id");
	assert_false(a.version);
	assert_null(a.id);
}

static void errors(void **state)
{
	(void)state;
	bad("--nonsense", "Found argument 'nonsense' which wasn't expected, or isn't valid in this context.");
	bad("x", "Found argument 'x' which wasn't expected, or isn't valid in this context.");
	bad("-id x", "Found argument '-id' which wasn't expected, or isn't valid in this context.");
	bad("--id=x", "Found argument 'id=x' which wasn't expected, or isn't valid in this context.");
	bad("--boot-timer 1", "Found argument '1' which wasn't expected, or isn't valid in this context.");
	bad("--id", "The argument 'id' requires a value, but none was supplied.");
	bad("--id --no-api", "The argument 'id' requires a value, but none was supplied.");
	bad("--id --", "The argument 'id' requires a value, but none was supplied.");
	bad("--id a --id b", "The argument 'id' was provided more than once.");
	bad("--no-seccomp --no-seccomp", "The argument 'no-seccomp' was provided more than once.");
	bad("--no-api", "Argument 'config-file' required, but not found.");
	bad("--no-seccomp --seccomp-filter f",
	    "Argument 'no-seccomp' cannot be used together with argument 'seccomp-filter'.");
	bad("--a\nb", "Found argument 'a?b' which wasn't expected, or isn't valid in this context.");
}

static void numbers(void **state)
{
	uint64_t number = 7;

	(void)state;
	assert_true(arguments_number("0", UINT64_MAX, &number));
	assert_int_equal(number, 0);
	assert_true(arguments_number("18446744073709551615", UINT64_MAX, &number));
	assert_true(number == UINT64_MAX);
	assert_false(arguments_number("18446744073709551616", UINT64_MAX, &number));
	assert_true(arguments_number("99", 99, &number));
	assert_int_equal(number, 99);
	assert_false(arguments_number("100", 99, &number));
	assert_false(arguments_number("5", 4, &number));
	assert_false(arguments_number("", 99, &number));
	assert_false(arguments_number(NULL, 99, &number));
	assert_false(arguments_number("-1", 99, &number));
	assert_false(arguments_number("+1", 99, &number));
	assert_false(arguments_number("1 ", 99, &number));
	assert_int_equal(number, 99);
}

static void ids(void **state)
{
	char id[66];

	(void)state;
	memset(id, 'x', sizeof id);
	id[65] = 0;
	assert_false(arguments_id_is_valid(id));
	id[64] = 0;
	assert_true(arguments_id_is_valid(id));
	assert_true(arguments_id_is_valid("aZ09-"));
	assert_false(arguments_id_is_valid(""));
	assert_false(arguments_id_is_valid("a_b"));
	assert_false(arguments_id_is_valid("\xc3\xa9"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(values),  cmocka_unit_test(wins), cmocka_unit_test(errors),
	    cmocka_unit_test(numbers), cmocka_unit_test(ids),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
