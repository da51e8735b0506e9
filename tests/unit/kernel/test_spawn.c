/* SPDX-License-Identifier: Apache-2.0 */
/* The worker's process: how it is found and started, what it has, and how its end is understood. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "kernel/spawn.h"
#include "tests/unit/kernel/fixture.h"

static void test_child_that_fails(void **state)
{
	struct fixture *f = *state;
	static const struct {
		const char *script;
		enum riffle_status status;
		const char *field, *problem;
		uint64_t found;
	} cases[] = {
	    {"kill -9 $$", RIFFLE_ERR_IO, "riffle-prepare", "ended by a signal", 9},
	    {"kill -XCPU $$", RIFFLE_ERR_UNSUPPORTED, "riffle-prepare", "more CPU time"},
	    {"exit 7", RIFFLE_ERR_IO, "riffle-prepare", "without saying why", 7},
	    {"exit 0", RIFFLE_ERR_FORMAT, "file", "too short"},
	    {"echo nonsense >&5; exit 1", RIFFLE_ERR_IO, "riffle-prepare", "without saying why"},
	    {"head -c 100000 /dev/zero | tr '\\0' x >&5; exit 1", RIFFLE_ERR_IO, "riffle-prepare", "without"},
	    {"printf '2 0 1 7 1 8\\te_machine\\tis wrong\\n' >&5; exit 1", RIFFLE_ERR_FORMAT, "e_machine", "is wrong"},
	    /* success and an error at once is an error */
	    {"printf '2 0 1 7 1 8\\te_machine\\tis wrong\\n' >&5", RIFFLE_ERR_FORMAT, "e_machine", "is wrong"},
	    {"printf '0 0 1 7 1 8\\te_machine\\tis wrong\\n' >&5; exit 1", RIFFLE_ERR_IO, "riffle-prepare", "without"},
	    {"printf '2 0 1 7 1 8\\te\\tis \\033[31mred\\n' >&5; exit 1", RIFFLE_ERR_IO, "riffle-prepare", "without"},
	    {"printf '2 0 1 7 1 8\\te\\tcut sho' >&5; exit 1", RIFFLE_ERR_IO, "riffle-prepare", "without"},
	};

	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		fake_program(f, cases[i].script);
		must_fail(f, cases[i].status, cases[i].field, cases[i].problem);
		if (cases[i].found)
			assert_int_equal(f->error.found, cases[i].found);
		assert_int_equal(entries(f->cache, NULL, 0), 0);
	}
	strcpy(test_directory, "/nowhere");
	must_fail(f, RIFFLE_ERR_IO, "riffle-prepare", "neither next to this program nor installed");
}

/* An analysis that crashes or hangs only loses the shuffle, not the kernel. */
static void test_child_that_crashes(void **state)
{
	static const struct {
		const char *signal, *why;
	} cases[] = {
	    {"SEGV", "riffle-prepare: was ended by a signal (found 11)"},
	    {"SYS", "riffle-prepare: was ended by a signal (found 31)"},
	    {"BUS", "riffle-prepare: was ended by a signal (found 7)"},
	    {"ILL", "riffle-prepare: was ended by a signal (found 4)"},
	    {"FPE", "riffle-prepare: was ended by a signal (found 8)"},
	    {"ABRT", "riffle-prepare: was ended by a signal (found 6)"},
	    {"TRAP", "riffle-prepare: was ended by a signal (found 5)"},
	    {"XCPU", "riffle-prepare: took more CPU time than any kernel needs"},
	};
	struct fixture *f = *state;
	char script[4400], programs[sizeof test_directory];

	snprintf(programs, sizeof programs, "%s", test_directory);
	f->request.no_cache = true;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		/* the reason is the eighth argument of the second try */
		snprintf(script, sizeof script,
			 "echo rubbish >&4; [ $# -eq 7 ] && kill -%s $$; exec %s/riffle-prepare \"$@\"",
			 cases[i].signal, programs);
		fake_program(f, script);
		assert_int_equal(kernel_open(&f->k, &f->request, &f->error), 0);
		assert_int_equal(f->k.plan.chunk_count, 0);
		assert_string_equal(f->k.plan.header->no_shuffle, cases[i].why);
		kernel_close(&f->k);
	}
	/* a lack of memory that killed the analysis may be temporary */
	snprintf(script, sizeof script, "[ $# -eq 7 ] && kill -KILL $$; exec %s/riffle-prepare \"$@\"", programs);
	fake_program(f, script);
	must_fail(f, RIFFLE_ERR_IO, "riffle-prepare", "ended by a signal");
}

/*
 * What a worker that this program plays sees: its descriptors, its arguments, where the standard ones lead, and how
 * many strings of environment and blocked signals it has.
 */
static int report(int argc, char **argv)
{
	char text[1024] = "", link[64];
	FILE *out = fdopen(dup(4), "w"); /* at the lowest number that is free, left out below */
	sigset_t blocked;
	int count = 0;

	if (!out)
		return 1;
	for (int n = 0; n < 64; n++)
		if (n != fileno(out) && fcntl(n, F_GETFD) >= 0)
			fprintf(out, "%d ", n);
	for (int i = 1; i < argc; i++)
		fprintf(out, "%s ", argv[i]);
	for (int n = 0; n < 3; n++) {
		snprintf(text, sizeof text, "/proc/self/fd/%d", n);
		memset(link, 0, sizeof link);
		if (readlink(text, link, sizeof link - 1) < 0)
			return 1;
		fprintf(out, "%s ", link);
	}
	for (char **e = environ; *e; e++)
		count++;
	fprintf(out, "%s environment %d", argv[0], count);
	sigprocmask(SIG_BLOCK, NULL, &blocked);
	fprintf(out, " blocked %d\n", sigismember(&blocked, SIGTERM));
	return fclose(out) ? 1 : 0;
}

/*
 * The child gets its files' descriptors without gaps and their numbers, the standard ones, no environment and no
 * blocked signals, whether it is riffle-prepare or this program itself where there is no other file.
 */
static void test_child_has_nothing(void **state)
{
	struct fixture *f = *state;
	struct spawn_words words;
	char text[1024] = "", path[128];
	int kernel = open(f->kernel, O_RDONLY); /* on purpose without O_CLOEXEC, like the others */
	int relocs = open(f->kernel, O_RDONLY);
	int debug = open(f->kernel, O_RDONLY);
	int extra = open("/dev/zero", O_RDONLY);
	int out = memfd_create("out", 0);
	int self = open("/proc/self/exe", O_RDONLY);
	sigset_t some, before;

	const struct {
		struct spawn_files files;
		const char *numbers, *arguments;
	} cases[] = {
	    {{kernel, relocs, debug, out}, "0 1 2 3 4 5 6 7", "--worker 3 6 7 4 5 0"},
	    {{kernel, relocs, -1, out, RIFFLE_COMPRESSION_LZ4}, "0 1 2 3 4 5 6", "--worker 3 6 -1 4 5 6"},
	    {{kernel, -1, debug, out, RIFFLE_COMPRESSION_ZSTD}, "0 1 2 3 4 5 6", "--worker 3 -1 6 4 5 7"},
	    {{kernel, -1, -1, out}, "0 1 2 3 4 5", "--worker 3 -1 -1 4 5 0"},
	};

	setenv("SECRET", "1", 1);
	sigemptyset(&some);
	sigaddset(&some, SIGTERM);
	sigprocmask(SIG_BLOCK, &some, &before);
	snprintf(path, sizeof path, "%s/riffle-prepare", f->base);
	assert_int_equal(symlink("/proc/self/exe", path), 0);
	for (size_t i = 0; i < 2 * sizeof cases / sizeof *cases; i++) {
		const bool own = i % 2;
		char expected[200];
		int files = entries("/proc/self/fd", NULL, 0);

		/* the link names whoever follows it, which is this program both before and in the child */
		strcpy(test_directory, own ? "/nowhere" : f->base);
		spawn_set_program(own ? self : -1);
		assert_int_equal(spawn_worker(&words, &cases[i / 2].files, &f->error), 0);
		assert_int_equal(entries("/proc/self/fd", NULL, 0), files);
		memset(text, 0, sizeof text);
		assert_true(pread(out, text, sizeof text - 1, 0) > 0);
		snprintf(expected, sizeof expected, "%s %s /dev/null /dev/null /dev/null %s environment 0 blocked 0\n",
			 cases[i / 2].numbers, cases[i / 2].arguments, "riffle-prepare");
		assert_string_equal(text, expected);
		assert_int_equal(ftruncate(out, 0), 0);
		assert_int_equal(lseek(out, 0, SEEK_SET), 0); /* the child wrote through the same open file */
	}
	spawn_set_program(-1);
	sigprocmask(SIG_SETMASK, &before, NULL);
	close(self);
	close(extra);
	close(debug);
	close(relocs);
	close(kernel);
	close(out);
}

/* Something else than a program is neither found nor run, and both is told. */
static void test_no_program(void **state)
{
	struct fixture *f = *state;
	char path[160], found[200];
	int fd = open(f->kernel, O_RDONLY | O_CLOEXEC);

	snprintf(path, sizeof path, "%s/riffle-prepare", f->base);
	assert_int_equal(close(open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0644)), 0);
	strcpy(test_directory, f->base);
	assert_false(find_prepare_program(found, sizeof found));
	must_fail(f, RIFFLE_ERR_IO, "riffle-prepare", "neither next to this program nor installed");
	spawn_set_program(fd);
	must_fail(f, RIFFLE_ERR_IO, "riffle-prepare", "without saying why");
	assert_int_equal(f->error.found, 127);
	spawn_set_program(9999);
	must_fail(f, RIFFLE_ERR_IO, "riffle-prepare", "cannot be started");
	spawn_set_program(-1);
	close(fd);

	assert_int_equal(chmod(path, 0755), 0);
	assert_true(find_prepare_program(found, strlen(path) + 1));
	assert_string_equal(found, path);
	assert_false(find_prepare_program(found, strlen(path)));
}

/* What lies in the running program's directory comes before what is installed. */
static void test_program_beside(void **state)
{
	struct fixture *f = *state;
	char command[512], expected[128], found[128] = "";
	FILE *told;

	fake_program(f, "exit 0");
	snprintf(command, sizeof command, "cp /proc/%d/exe %s/self && exec %s/self --find", (int)getpid(), f->base,
		 f->base);
	told = popen(command, "r");
	assert_non_null(told);
	assert_non_null(fgets(found, sizeof found, told));
	assert_int_equal(pclose(told), 0);
	snprintf(expected, sizeof expected, "%s/riffle-prepare", f->base);
	assert_string_equal(found, expected);
}

/* riffle may be started with SIGCHLD ignored, where children leave no status. */
static void test_ignored_sigchld(void **state)
{
	struct fixture *f = *state;

	signal(SIGCHLD, SIG_IGN);
	must_open(f, KERNEL_CACHE_MISS);
	fake_program(f, "exit 7");
	f->request.no_cache = true;
	must_fail(f, RIFFLE_ERR_IO, "riffle-prepare", "without saying why");
	assert_true(signal(SIGCHLD, SIG_DFL) == SIG_IGN);
}

static void test_error_line(void **state)
{
	struct fixture *f = *state;
	const struct riffle_error sent = {RIFFLE_ERR_SPACE, 0, "a field", "a problem", UINT64_MAX, 0, 1, 0};
	struct spawn_words words;
	char line[512];

	spawn_format_error(&sent, line, sizeof line);
	assert_true(spawn_parse_error(line, &words, &f->error));
	assert_int_equal(f->error.status, sent.status);
	assert_string_equal(f->error.field, sent.field);
	assert_string_equal(f->error.problem, sent.problem);
	assert_true(f->error.found == sent.found && f->error.has_found && !f->error.has_expected);
	assert_true(spawn_parse_error("2 0 3 519 3 524\tboot protocol\tis too old\n", &words, &f->error));
	assert_int_equal(f->error.has_found, RIFFLE_SHOW_VERSION);
	assert_true(spawn_parse_error("2 0 9 519 -1 524\tboot protocol\tis too old\n", &words, &f->error));
	assert_int_equal(f->error.has_found, RIFFLE_SHOW_NUMBER);
	strcat(line, "more\n");
	assert_false(spawn_parse_error(line, &words, &f->error));
	snprintf(line, sizeof line, "2 0 1 7 1 8\t%s\tx\n",
		 "0123456789012345678901234567890123456789012345678901234567890123");
	assert_false(spawn_parse_error(line, &words, &f->error));
	assert_false(spawn_parse_error("2 0 1 7 1 8\t\tx\n", &words, &f->error));
	assert_false(spawn_parse_error("", &words, &f->error));
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
	    TEST(test_child_that_fails), TEST(test_child_that_crashes), TEST(test_child_has_nothing),
	    TEST(test_no_program),       TEST(test_program_beside),     TEST(test_ignored_sigchld),
	    TEST(test_error_line),
	};

	if (argc > 1 && !strcmp(argv[1], WORKER_OPTION))
		return report(argc, argv);
	if (argc > 1 && !strcmp(argv[1], "--find")) {
		char path[128];

		if (!find_prepare_program(path, sizeof path))
			return 1;
		fputs(path, stdout);
		return 0;
	}
	umask(022);
	return cmocka_run_group_tests_name("spawn", tests, NULL, NULL);
}
