/* SPDX-License-Identifier: Apache-2.0 */
/* The log: its exact line format, its filters, and blocked readers and full disks. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <fcntl.h>
#include <pthread.h>
#include <regex.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "api/log.h"
#include "monitor/core/thread.h"

#define TIME "[0-9]{4}-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-5][0-9]:[0-5][0-9]\\.[0-9]{9}"

static char directory[] = "/tmp/riffle-log-XXXXXX", path[64];
static char text[1 << 20];

static const char *contents(void)
{
	int fd = open(path, O_RDONLY);
	ssize_t bytes = read(fd, text, sizeof text - 1);

	assert_true(fd >= 0 && bytes >= 0);
	close(fd);
	text[bytes] = 0;
	return text;
}

static void matches(const char *line, const char *pattern)
{
	regex_t regex;

	assert_int_equal(regcomp(&regex, pattern, REG_EXTENDED | REG_NEWLINE), 0);
	if (regexec(&regex, line, 0, NULL, 0))
		fail_msg("%s: not %s", line, pattern);
	regfree(&regex);
}

static void configure(const struct log_settings *settings)
{
	struct riffle_error error;

	if (log_configure(settings, &error))
		fail_msg("%s: %s", error.field, error.problem);
}

/* An empty file, everything else as after the start. */
static int fresh(void **state)
{
	static unsigned number;
	struct log_settings settings = {
	    .path = path, .level = LOG_INFO, .show_level = 0, .show_origin = 0, .module = ""};

	(void)state;
	snprintf(path, sizeof path, "%s/log%u", directory, number++);
	configure(&settings);
	return 0;
}

static unsigned lines(const char *at)
{
	unsigned count = 0;

	while ((at = strchr(at, '\n')))
		count++, at++;
	return count;
}

static void formats(void **state)
{
	struct log_settings settings = LOG_SETTINGS_NONE;

	(void)state;
	log_always(LOG_INFO, "vmm", "one %d", 1);
	matches(contents(), "^" TIME " \\[vm-1:main\\] one 1$");
	settings.show_level = 1;
	configure(&settings);
	log_always(LOG_WARN, "vmm", "two");
	matches(contents(), "^" TIME " \\[vm-1:main:WARN\\] two$");
	settings.show_origin = 1;
	settings.show_level = -1; /* stays */
	configure(&settings);
	log_always(LOG_ERROR, "vmm", "three");
	matches(contents(), "^" TIME " \\[vm-1:main:ERROR:tests/unit/api/test_log\\.c:[0-9]+\\] three$");
	settings.show_level = 0;
	configure(&settings);
	log_always(LOG_ERROR, "vmm", "four");
	matches(contents(), "^" TIME " \\[vm-1:main:tests/unit/api/test_log\\.c:[0-9]+\\] four$");
	assert_int_equal(lines(contents()), 4);
}

static void time_is_local(void **state)
{
	char now[32];
	time_t before = time(NULL), after;
	struct tm local;
	bool same = false;

	(void)state;
	log_always(LOG_INFO, "vmm", "x");
	after = time(NULL);
	for (time_t at = before; at <= after; at++) {
		strftime(now, sizeof now, "%Y-%m-%dT%H:%M:%S", localtime_r(&at, &local));
		same |= !strncmp(contents(), now, strlen(now));
	}
	assert_true(same);
	log_from_signal(LOG_ERROR, "y");
	matches(contents(), "^" TIME " \\[vm-1:main\\] y$");
	assert_int_equal(strncmp(strchr(contents(), '\n') + 1, text, 11), 0);
}

static void levels(void **state)
{
	struct log_settings settings = LOG_SETTINGS_NONE;

	(void)state;
	for (int level = LOG_OFF; level <= LOG_TRACE; level++) {
		settings.level = (enum log_level)level;
		configure(&settings);
		for (int line = LOG_ERROR; line <= LOG_TRACE; line++)
			log_always((enum log_level)line, "vmm", "%d at %d", line, level);
	}
	assert_int_equal(lines(contents()), 0 + 1 + 2 + 3 + 4 + 5);
	assert_int_equal(log_level_parse("oFF"), LOG_OFF);
	assert_int_equal(log_level_parse("Warning"), LOG_WARN);
	assert_int_equal(log_level_parse("WARN"), LOG_WARN);
	assert_int_equal(log_level_parse("trace"), LOG_TRACE);
	assert_int_equal(log_level_parse("Informational"), -1);
	assert_int_equal(log_level_parse(""), -1);
}

static void modules(void **state)
{
	struct log_settings settings = LOG_SETTINGS_NONE;

	(void)state;
	settings.module = "api_server";
	configure(&settings);
	log_always(LOG_INFO, "api_server::request", "in");
	log_always(LOG_INFO, "api_server", "in");
	log_always(LOG_INFO, "firecracker::api_server", "in");
	log_always(LOG_INFO, "api", "out");
	log_always(LOG_INFO, "vmm", "out");
	log_always(LOG_INFO, "vmm::not_api_server", "out");
	assert_int_equal(lines(contents()), 3);
	assert_null(strstr(contents(), "out"));
}

static void *in_thread(void *opaque)
{
	(void)opaque;
	thread_set_name("fc_api");
	log_always(LOG_INFO, "api_server", "there");
	return NULL;
}

static void threads(void **state)
{
	pthread_t thread;

	(void)state;
	assert_int_equal(pthread_create(&thread, NULL, in_thread, NULL), 0);
	pthread_join(thread, NULL);
	matches(contents(), "\\[vm-1:fc_api\\] there$");
}

static void long_lines(void **state)
{
	static char body[60001];

	(void)state;
	memset(body, 'b', sizeof body - 1);
	for (size_t bytes = 950; bytes < 1050; bytes++)
		log_always(LOG_INFO, "vmm", "%.*s.", (int)bytes, body);
	log_always(LOG_INFO, "vmm", "%s.", body);
	assert_int_equal(lines(contents()), 101);
	const char *at = contents();

	for (size_t bytes = 950; bytes < 1050; bytes++) {
		at = strchr(at, ']') + 2;
		assert_int_equal(strspn(at, "b"), bytes);
		assert_int_equal(at[bytes], '.');
		assert_int_equal(at[bytes + 1], '\n');
	}
}

/* A message is always one line, at any length, without control characters. */
static void controls(void **state)
{
	static char body[1200], shown[8000];
	const char *at;

	(void)state;
	log_always(LOG_INFO, "vmm", "%s", "a\n2026 [id:main] b\x1b[2J\r\t\x7f\xc2\x9b\u202e\u00e9\x01");
	at = strstr(contents(), "] a");
	assert_non_null(at);
	assert_string_equal(at + 2, "a\\n2026 [id:main] b\\u{1b}[2J\\r\\t\\u{7f}\\u{9b}\\u{202e}\u00e9\\u{1}\n");
	for (size_t bytes = 950; bytes < 1050; bytes++) {
		memset(body, '\x1b', bytes);
		body[bytes] = 0;
		for (size_t i = 0; i < bytes; i++)
			memcpy(shown + 6 * i, "\\u{1b}", 7);
		fresh(NULL);
		log_always(LOG_INFO, "vmm", "%s", body);
		at = strstr(contents(), "] ") + 2;
		assert_memory_equal(at, shown, 6 * bytes);
		assert_string_equal(at + 6 * bytes, "\n");
	}
}

static void write_limited(unsigned count)
{
	for (unsigned i = 0; i < count; i++)
		log_write(LOG_WARN, "vmm", "again");
}

static uint64_t now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

/* Ten at once, and one more for each half second: a busy host may need so long for the first. */
static void limits(void **state)
{
	uint64_t before = log_suppressed(), begun = now_ms();
	unsigned more;
	char told[64];

	(void)state;
	write_limited(10);
	assert_int_equal(lines(contents()), 10);
	write_limited(5);
	more = (unsigned)lines(contents()) - 10;
	assert_true(more <= (now_ms() - begun) / 500);
	if (more == 5)
		skip();
	assert_int_equal(log_suppressed() - before, 5 - more);
	for (unsigned i = 0; i < 20; i++)
		log_always(LOG_INFO, "vmm", "unlimited");
	assert_int_equal(lines(contents()), 30 + more);
	usleep(600000);
	write_limited(1);
	assert_int_equal(lines(contents()), 32 + more);
	snprintf(told, sizeof told, "%u messages? (was|were) suppressed due to rate limiting$", 5 - more);
	matches(contents(), told);
}

static void debug_is_not_limited(void **state)
{
	struct log_settings settings = LOG_SETTINGS_NONE;

	(void)state;
	settings.level = LOG_DEBUG;
	configure(&settings);
	for (unsigned i = 0; i < 50; i++)
		log_write(LOG_DEBUG, "vmm", "again");
	assert_int_equal(lines(contents()), 50);
}

/* An existing file is overwritten from its start, and keeps the rest. */
static void overwrites(void **state)
{
	struct log_settings settings = LOG_SETTINGS_NONE;
	FILE *file;

	(void)state;
	snprintf(path, sizeof path, "%s/old", directory);
	file = fopen(path, "w");
	fprintf(file, "%0300d\n", 0);
	fclose(file);
	settings.path = path;
	configure(&settings);
	log_always(LOG_INFO, "vmm", "new");
	matches(contents(), "^" TIME ".* new$");
	assert_int_equal(strlen(text), 301);
}

static void fifo_without_reader(void **state)
{
	struct log_settings settings = LOG_SETTINGS_NONE;
	uint64_t before = log_missed();
	int reader, bytes = 0;

	(void)state;
	snprintf(path, sizeof path, "%s/fifo", directory);
	assert_int_equal(mkfifo(path, 0600), 0);
	settings.path = path;
	configure(&settings);
	for (unsigned i = 0; i < 4000; i++)
		log_always(LOG_INFO, "vmm", "line %u", i);
	assert_true(log_missed() > before);
	reader = open(path, O_RDONLY | O_NONBLOCK);
	bytes = (int)read(reader, text, sizeof text - 1);
	assert_true(bytes > 0);
	text[bytes] = 0;
	/* lines that got through are complete */
	assert_int_equal(lines(text) + (log_missed() - before), 4000);
	assert_int_equal(text[bytes - 1], '\n');
	close(reader);
}

static void full_disk(void **state)
{
	struct log_settings settings = LOG_SETTINGS_NONE;
	uint64_t before = log_missed();

	(void)state;
	settings.path = "/dev/full";
	configure(&settings);
	log_always(LOG_INFO, "vmm", "lost");
	assert_int_equal(log_missed() - before, 1);
}

static void bad_paths(void **state)
{
	struct log_settings settings = LOG_SETTINGS_NONE;
	struct riffle_error error;

	(void)state;
	settings.path = "/nonexistent/log";
	settings.level = LOG_TRACE;
	assert_int_equal(log_configure(&settings, &error), RIFFLE_ERR_IO);
	assert_string_equal(error.field, "log_path");
	log_always(LOG_TRACE, "vmm", "not wanted");
	log_always(LOG_INFO, "vmm", "wanted");
	assert_int_equal(lines(contents()), 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test_setup(formats, fresh),
	    cmocka_unit_test_setup(time_is_local, fresh),
	    cmocka_unit_test_setup(levels, fresh),
	    cmocka_unit_test_setup(modules, fresh),
	    cmocka_unit_test_setup(threads, fresh),
	    cmocka_unit_test_setup(long_lines, fresh),
	    cmocka_unit_test_setup(controls, fresh),
	    cmocka_unit_test_setup(limits, fresh),
	    cmocka_unit_test_setup(debug_is_not_limited, fresh),
	    cmocka_unit_test_setup(overwrites, fresh),
	    cmocka_unit_test_setup(fifo_without_reader, fresh),
	    cmocka_unit_test_setup(full_disk, fresh),
	    cmocka_unit_test_setup(bad_paths, fresh),
	};
	int failed;

	assert_non_null(mkdtemp(directory));
	setenv("TZ", "Asia/Kathmandu", 1); /* UTC+5:45: no error cancels out */
	log_start("vm-1");
	failed = cmocka_run_group_tests(tests, NULL, NULL);
	char command[96];

	snprintf(command, sizeof command, "rm -r %s", directory);
	return failed || system(command);
}
