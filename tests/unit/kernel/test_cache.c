/* SPDX-License-Identifier: Apache-2.0 */
/* The cache's directory and files, up to their bounds, and what a worker's line may say. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "kernel/cache.h"
#include "kernel/spawn.h"

#define BLOCK 4096u /* what the smallest file takes */

static char base[64], directory[128];
static struct riffle_error error;

static int set_up(void **state)
{
	(void)state;
	strcpy(base, "/tmp/riffle-cache-XXXXXX");
	if (!mkdtemp(base))
		return -1;
	snprintf(directory, sizeof directory, "%s/cache", base);
	return mkdir(directory, 0700);
}

static int tear_down(void **state)
{
	char command[128];

	(void)state;
	snprintf(command, sizeof command, "rm -rf %s", base);
	return system(command);
}

static const char *path_of(const char *name)
{
	static char path[512];

	snprintf(path, sizeof path, "%.127s/%.300s", directory, name);
	return path;
}

static bool is_there(const char *name)
{
	struct stat st;

	return lstat(path_of(name), &st) == 0;
}

/* A file of one block, used so many seconds ago. */
static void add(const char *name, time_t ago)
{
	const struct timespec used = {.tv_sec = time(NULL) - ago};
	char block[BLOCK];
	int fd = open(path_of(name), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);

	memset(block, 1, sizeof block);
	assert_true(fd >= 0);
	assert_int_equal(write(fd, block, sizeof block), sizeof block);
	assert_int_equal(futimens(fd, (struct timespec[2]){used, used}), 0);
	close(fd);
}

static void trim(const char *keep, uint64_t limit)
{
	struct cache_file file;

	assert_int_equal(cache_create(&file, directory, &error), 0);
	cache_trim(&file, keep, limit);
	cache_close(&file);
}

/* --- names --- */

/* All that tells a file from another and from its earlier self, and the suffix; two files have both. */
static void names_of_entries(void **state)
{
	const struct stat kernel = {.st_dev = 0x1a,
				    .st_ino = 0x2b,
				    .st_size = 0x3c,
				    .st_mtim = {.tv_sec = 0x4d, .tv_nsec = 5},
				    .st_ctim = {.tv_sec = 0x5e, .tv_nsec = 678901234}};
	struct stat largest;
	char name[CACHE_NAME_BYTES];
	int version, end = 0;

	(void)state;
	cache_entry_name(name, &kernel, NULL);
	assert_int_equal(sscanf(name, "v%d%n", &version, &end), 1);
	assert_true(version >= 14);
	assert_string_equal(name + end, "-1a-2b-3c-4d.000000005-5e.678901234.riffle");
	cache_entry_name(name, &kernel, &kernel);
	assert_string_equal(name + end, "-1a-2b-3c-4d.000000005-5e.678901234"
					"-1a-2b-3c-4d.000000005-5e.678901234.riffle");
	/* the longest that there can be fits */
	memset(&largest, 0xff, sizeof largest);
	largest.st_mtim.tv_nsec = largest.st_ctim.tv_nsec = 999999999;
	cache_entry_name(name, &largest, &largest);
	assert_string_equal(name + strlen(name) - 7, ".riffle");
	assert_in_range(strlen(name), 200, CACHE_NAME_BYTES - 1);
}

/* --- the directory --- */

static void test_directory(void **state)
{
	char path[64];

	(void)state;
	setenv("XDG_CACHE_HOME", "/xdg", 1);
	setenv("HOME", "/home/x", 1);
	memset(path, 'x', sizeof path);
	assert_true(cache_directory(path, 7, "/given"));
	assert_string_equal(path, "/given");
	assert_false(cache_directory(path, 6, "/given"));
	assert_false(cache_directory(path, sizeof path, ""));
	assert_true(cache_directory(path, 12, NULL));
	assert_string_equal(path, "/xdg/riffle");
	assert_false(cache_directory(path, 11, NULL));
	setenv("XDG_CACHE_HOME", "", 1);
	assert_true(cache_directory(path, 22, NULL));
	assert_string_equal(path, "/home/x/.cache/riffle");
	assert_false(cache_directory(path, 21, NULL));
	unsetenv("XDG_CACHE_HOME");
	setenv("HOME", "home", 1);
	assert_false(cache_directory(path, sizeof path, NULL));
	unsetenv("HOME");
	assert_false(cache_directory(path, sizeof path, NULL));
}

/* The last two parts of its path are made, for nobody else; not more. */
static void test_directory_is_made(void **state)
{
	struct cache_file file;
	struct stat st;

	(void)state;
	snprintf(directory, sizeof directory, "%s/a/b", base);
	assert_int_equal(cache_create(&file, directory, &error), 0);
	cache_close(&file);
	assert_int_equal(stat(directory, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0700);
	snprintf(directory, sizeof directory, "%s/a", base);
	assert_int_equal(stat(directory, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0700);
	snprintf(directory, sizeof directory, "%s/a/b/c", base); /* beside what is there */
	assert_int_equal(cache_create(&file, directory, &error), 0);
	cache_close(&file);
	snprintf(directory, sizeof directory, "%s/c/d/e", base);
	assert_int_equal(cache_create(&file, directory, &error), RIFFLE_ERR_IO);
	assert_string_equal(error.problem, "directory cannot be made");
	assert_int_equal(error.sys_errno, ENOENT);
	assert_int_equal(file.directory, -1);
	assert_int_equal(file.fd, -1);
	snprintf(directory, sizeof directory, "%s/c", base);
	assert_int_not_equal(access(directory, F_OK), 0);
	snprintf(directory, sizeof directory, "%s/file", base);
	close(open(directory, O_CREAT | O_CLOEXEC, 0600));
	assert_int_not_equal(cache_create(&file, directory, &error), 0);
	assert_int_equal(file.directory, -1);
}

/* --- entries --- */

/* A new entry has its name only when it is complete, and takes the place of an old one. */
static void test_publishing(void **state)
{
	struct cache_file file;
	char text[16];
	int fd;

	(void)state;
	for (unsigned i = 0; i < 3; i++) {
		snprintf(text, sizeof text, "content %u", i);
		assert_int_equal(cache_create(&file, directory, &error), 0);
		assert_int_equal(write(file.fd, text, strlen(text)), strlen(text));
		assert_int_equal(is_there("v1-a.riffle"), i > 0);
		assert_int_equal(cache_publish(&file, "v1-a.riffle", &error), 0);
		cache_close(&file);
		assert_int_equal(file.fd, -1);
		assert_int_equal(file.directory, -1);
		memset(text, 0, sizeof text);
		fd = open(path_of("v1-a.riffle"), O_RDONLY | O_CLOEXEC);
		assert_int_equal(read(fd, text, sizeof text - 1), 9);
		close(fd);
		assert_int_equal(text[8], '0' + (int)i);
	}
	/* one that is given up leaves nothing, and neither does one whose name is taken by a directory */
	assert_int_equal(cache_create(&file, directory, &error), 0);
	cache_close(&file);
	assert_int_equal(mkdir(path_of("v1-b.riffle"), 0700), 0);
	assert_int_equal(cache_create(&file, directory, &error), 0);
	assert_int_equal(cache_publish(&file, "v1-b.riffle", &error), RIFFLE_ERR_IO);
	assert_string_equal(error.field, "cache");
	cache_close(&file);
	assert_int_equal(rmdir(path_of("v1-b.riffle")), 0);
	assert_int_equal(unlink(path_of("v1-a.riffle")), 0);
	assert_int_equal(rmdir(directory), 0); /* it is empty */
}

/* Up to the limit all stay; one byte less, and the one that was used longest ago goes. */
static void test_limit(void **state)
{
	(void)state;
	add("v1-a.riffle", 100);
	add("v1-b.riffle", 300);
	add("v1-c.riffle", 200);
	trim("none", 3 * BLOCK);
	assert_true(is_there("v1-a.riffle") && is_there("v1-b.riffle") && is_there("v1-c.riffle"));
	trim("none", 3 * BLOCK - 1);
	assert_true(is_there("v1-a.riffle") && !is_there("v1-b.riffle") && is_there("v1-c.riffle"));
	trim("v1-c.riffle", BLOCK);
	assert_true(!is_there("v1-a.riffle") && is_there("v1-c.riffle"));
	trim("v1-c.riffle", 0);
	assert_true(is_there("v1-c.riffle"));
	trim("none", 0);
	assert_false(is_there("v1-c.riffle"));
}

/* More entries than are first made room for. */
static void test_many_entries(void **state)
{
	char name[32];

	(void)state;
	for (unsigned i = 0; i < 70; i++) {
		snprintf(name, sizeof name, "v1-%02u.riffle", i * 31 % 70);
		add(name, 1000 + i * 31 % 70);
	}
	trim("none", 5 * BLOCK);
	for (unsigned i = 0; i < 70; i++) {
		snprintf(name, sizeof name, "v1-%02u.riffle", i);
		assert_int_equal(is_there(name), i < 5);
	}
}

/* What is no entry is not counted and stays. */
static void test_other_files(void **state)
{
	char longest[CACHE_NAME_BYTES];

	(void)state;
	memset(longest, 'x', sizeof longest);
	strcpy(longest + CACHE_NAME_BYTES - 8, ".riffle"); /* as long as names can be */
	add(longest, 100);
	add(".riffle", 100);
	add("notes", 100);
	add("v1-a.riffle.bak", 100);
	assert_int_equal(mkdir(path_of("v1-d.riffle"), 0700), 0);
	assert_int_equal(symlink("notes", path_of("v1-l.riffle")), 0);
	add("x.riffle", 200);
	trim("none", 2 * BLOCK);
	assert_true(is_there(longest) && is_there("x.riffle"));
	trim("none", BLOCK);
	assert_true(is_there(longest) && !is_there("x.riffle"));
	trim("none", 0);
	assert_true(!is_there(longest) && is_there(".riffle") && is_there("notes") && is_there("v1-a.riffle.bak"));
	assert_true(is_there("v1-d.riffle") && is_there("v1-l.riffle"));
}

/* What an interrupted run left is removed when no run can still be at work on it. */
static void test_temporary_files(void **state)
{
	(void)state;
	add(".new-1-1", 3600 + 100);
	add(".new-2-2", 3600 - 100);
	add(".ne", 4000);
	add("v1-a.riffle", 100);
	trim("none", BLOCK);
	assert_true(!is_there(".new-1-1") && is_there(".new-2-2") && is_there(".ne") && is_there("v1-a.riffle"));
}

/* Whatever is wrong on the way to an entry, there is none. */
static void test_no_entry(void **state)
{
	char longest[4096 + CACHE_NAME_BYTES];
	struct riffle_source source;
	struct riffle_plan plan = RIFFLE_PLAN_INIT;

	(void)state;
	add("v1-a.riffle", 100); /* no kernel */
	memset(longest, '/', sizeof longest);
	longest[sizeof longest - 1] = 0;
	for (int base_alone = 0; base_alone < 2; base_alone++) {
		assert_int_equal(cache_lookup(directory, "v1-a.riffle", base_alone, &source, &plan), -1);
		assert_int_equal(cache_lookup(directory, "v1-b.riffle", base_alone, &source, &plan), -1);
		assert_int_equal(cache_lookup("/nowhere", "v1-a.riffle", base_alone, &source, &plan), -1);
		assert_int_equal(cache_lookup(directory, longest, base_alone, &source, &plan), -1);
		assert_int_equal(chmod(directory, 0777), 0);
		assert_int_equal(cache_lookup(directory, "v1-a.riffle", base_alone, &source, &plan), -1);
		assert_int_equal(chmod(directory, 0700), 0);
	}
	assert_int_equal(open("/", O_RDONLY), 0); /* none was left open */
	close(0);
}

/* --- what a worker says --- */

static struct spawn_words words;

static bool parse(const char *before, const char *text, const char *after)
{
	char line[512];

	snprintf(line, sizeof line, "%s%s%s", before, text, after);
	return spawn_parse_error(line, &words, &error);
}

static void test_lines(void **state)
{
	char text[sizeof words.problem + 2];

	(void)state;
	assert_true(parse("", "3 5 1 7 1 8\tfield\tproblem\n", ""));
	assert_int_equal(error.status, 3);
	assert_int_equal(error.sys_errno, 5);
	assert_int_equal(error.found, 7);
	assert_int_equal(error.expected, 8);
	assert_true(error.has_found && error.has_expected);
	assert_string_equal(error.field, "field");
	assert_string_equal(error.problem, "problem");
	/* all statuses that are, but success */
	for (int status = -1; status <= RIFFLE_ERR_RANDOM + 1; status++) {
		snprintf(text, sizeof text, "%d", status);
		assert_int_equal(parse("", text, " 0 0 0 0 0\tfield\tproblem\n"),
				 status > 0 && status <= RIFFLE_ERR_RANDOM);
	}
	assert_false(parse("", "3 5 1 7 1\tfield\tproblem\n", ""));
	assert_false(parse("", "3 5 1 7 1 8 field\tproblem\n", ""));
	assert_false(parse("", "3 5 1 7 1 8\tfield problem\n", ""));
	assert_false(parse("", "3 5 1 7 1 8\tfield\tproblem", ""));
	assert_false(parse("", "3 5 1 7 1 8\tfield\tproblem\n\n", ""));
	assert_false(parse("", "3 5 1 7 1 8\tfield\t\n", ""));
	assert_false(parse("", "3 5 1 7 1 8\t\tproblem\n", ""));
	/* plain text from ' ' to '~' */
	assert_true(parse("3 5 1 7 1 8\tfield\t", " a~", "\n"));
	assert_false(parse("3 5 1 7 1 8\tfield\t", "a\x1f", "\n"));
	assert_false(parse("3 5 1 7 1 8\tfield\t", "\x7f", "\n"));
	assert_false(parse("3 5 1 7 1 8\tfield\t", "\xc3\xa4", "\n"));
	assert_false(parse("3 5 1 7 1 8\t", "fi\x1b", "\tproblem\n"));
	/* as long as there is room for, with the end */
	memset(text, 'x', sizeof text);
	text[sizeof words.problem - 1] = 0;
	assert_true(parse("3 5 1 7 1 8\tfield\t", text, "\n"));
	assert_string_equal(error.problem, text);
	text[sizeof words.problem - 1] = 'x';
	text[sizeof words.problem] = 0;
	assert_false(parse("3 5 1 7 1 8\tfield\t", text, "\n"));
	text[sizeof words.field - 1] = 0;
	assert_true(parse("3 5 1 7 1 8\t", text, "\tproblem\n"));
	assert_string_equal(error.field, text);
	text[sizeof words.field - 1] = 'x';
	text[sizeof words.field] = 0;
	assert_false(parse("3 5 1 7 1 8\t", text, "\tproblem\n"));
}

/* The file that an error is about. */
static void test_blame(void **state)
{
	static const struct {
		enum riffle_status status;
		const char *field, *blamed, *without;
	} rows[] = {
	    {RIFFLE_ERR_FORMAT, "e_machine", "kernel", "kernel"},
	    {RIFFLE_ERR_FORMAT, "relocation list", "relocs", "kernel"},
	    {RIFFLE_ERR_FORMAT, "relocation file", "relocs", "kernel"},
	    {RIFFLE_ERR_ARGUMENT, "relocation file", "kernel", "kernel"},
	    {RIFFLE_ERR_ARGUMENT, "relocation list", "kernel", "kernel"},
	    {RIFFLE_ERR_FORMAT, SPAWN_DEBUG_FIELD, "debug", "kernel"},
	    {RIFFLE_ERR_ARGUMENT, SPAWN_DEBUG_FIELD, "debug", "kernel"},
	};

	(void)state;
	for (unsigned i = 0; i < sizeof rows / sizeof *rows; i++) {
		error = (struct riffle_error){.status = rows[i].status, .field = rows[i].field};
		assert_string_equal(spawn_blame(&error, "kernel", "relocs", "debug"), rows[i].blamed);
		assert_string_equal(spawn_blame(&error, "kernel", NULL, NULL), rows[i].without);
	}
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(names_of_entries),
	    TEST(test_directory),
	    TEST(test_directory_is_made),
	    TEST(test_publishing),
	    TEST(test_limit),
	    TEST(test_many_entries),
	    TEST(test_other_files),
	    TEST(test_temporary_files),
	    TEST(test_no_entry),
	    cmocka_unit_test(test_lines),
	    cmocka_unit_test(test_blame),
	};

	close(0); /* which makes it a descriptor as any other */
	return cmocka_run_group_tests_name("cache", tests, NULL, NULL);
}
