/* SPDX-License-Identifier: Apache-2.0 */
/* What a worker takes for arguments, and how it tells that it failed. */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include <riffle/plan.h>

#include "host/input.h"
#include "kernel/spawn.h"
#include "kernel/worker.h"
#include "tests/lib/kernels.h"

enum { KERNEL = 1, RELOCS, DEBUG, OUT, ERRORS, STORAGE, REASON, ARGUMENTS };

static int kernel_fd, out_fd, pipe_fds[2];
static char text[ARGUMENTS][24];

/* In a child, since a worker confines itself; what it wrote to its error descriptor is put into `line`. */
static int run(int argc, char *line, size_t bytes)
{
	char *argv[ARGUMENTS + 2] = {NULL};
	int ended;
	ssize_t n;
	pid_t child;

	for (int i = 0; i < argc; i++)
		argv[i] = i < ARGUMENTS ? text[i] : text[REASON];
	assert_int_equal(pipe2(pipe_fds, 0), 0);
	if (!strcmp(text[ERRORS], "pipe"))
		snprintf(text[ERRORS], sizeof text[ERRORS], "%d", pipe_fds[1]);
	child = fork();
	assert_true(child >= 0);
	if (!child)
		_exit(worker_main(argc, argv));
	close(pipe_fds[1]);
	n = read(pipe_fds[0], line, bytes - 1);
	line[n < 0 ? 0 : n] = 0;
	close(pipe_fds[0]);
	assert_int_equal(waitpid(child, &ended, 0), child);
	assert_true(WIFEXITED(ended));
	return WEXITSTATUS(ended);
}

static int set_up(void **state)
{
	struct test_kernel_spec spec = test_kernel_spec();
	struct test_kernel kernel;

	(void)state;
	test_kernel_build(&kernel, &spec);
	test_bytes_add(&kernel.elf, kernel.list.at, kernel.list.count);
	kernel_fd = test_file_of(&kernel.elf);
	test_kernel_free(&kernel);
	out_fd = memfd_create("out", 0);
	assert_true(kernel_fd >= 0 && out_fd >= 0);
	strcpy(text[0], WORKER_OPTION);
	snprintf(text[KERNEL], sizeof text[KERNEL], "%d", kernel_fd);
	strcpy(text[RELOCS], "-1");
	strcpy(text[DEBUG], "-1");
	snprintf(text[OUT], sizeof text[OUT], "%d", out_fd);
	strcpy(text[ERRORS], "pipe");
	strcpy(text[STORAGE], "0");
	strcpy(text[REASON], "a reason");
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	close(kernel_fd);
	close(out_fd);
	return 0;
}

static void test_arguments(void **state)
{
	char line[512], good[24];
	/* the last one is a descriptor that is open when its upper half is lost */
	char wide[24];
	const char *const bad[] = {"", "x", "3x", "-2", "4095", wide};

	(void)state;
	snprintf(wide, sizeof wide, "%lld", (1ll << 32) + kernel_fd);
	assert_int_equal(run(STORAGE, line, sizeof line), EXIT_USAGE);
	strcpy(text[ERRORS], "pipe");
	assert_int_equal(run(ARGUMENTS + 1, line, sizeof line), EXIT_USAGE);
	for (int i = KERNEL; i <= STORAGE; i++) {
		for (size_t j = 0; j < sizeof bad / sizeof *bad; j++) {
			strcpy(text[ERRORS], "pipe");
			strcpy(good, text[i]);
			strcpy(text[i], bad[j]);
			assert_int_equal(run(STORAGE + 1, line, sizeof line), EXIT_USAGE);
			assert_string_equal(line, "");
			strcpy(text[i], good);
		}
	}
	for (int storage = -1; storage <= RIFFLE_COMPRESSION_ZSTD + 1; storage++) {
		const bool known = storage >= 0 && storage <= RIFFLE_COMPRESSION_ZSTD;

		strcpy(text[ERRORS], "pipe");
		snprintf(text[STORAGE], sizeof text[STORAGE], "%d", storage);
		assert_int_equal(run(STORAGE + 1, line, sizeof line) != EXIT_USAGE, known);
	}
}

static void test_result(void **state)
{
	char line[512];
	struct spawn_words words;
	struct riffle_source source;
	struct riffle_plan plan = RIFFLE_PLAN_INIT;
	struct riffle_error error;

	(void)state;
	for (int argc = REASON; argc <= ARGUMENTS; argc++) {
		strcpy(text[ERRORS], "pipe");
		assert_int_equal(ftruncate(out_fd, 0), 0);
		assert_int_equal(run(argc, line, sizeof line), EXIT_SUCCESS);
		assert_string_equal(line, "");
		assert_int_equal(riffle_source_from_fd(&source, out_fd, &error), 0);
		assert_int_equal(riffle_plan_open(&plan, &source, &error), 0);
		assert_int_equal(!strcmp(plan.header->no_shuffle, "a reason"), argc == ARGUMENTS);
		riffle_plan_close(&plan);
	}
	assert_int_equal(ftruncate(kernel_fd, 100), 0);
	strcpy(text[ERRORS], "pipe");
	assert_int_equal(run(REASON, line, sizeof line), EXIT_FAILURE);
	assert_true(spawn_parse_error(line, &words, &error));
	assert_int_equal(error.status, RIFFLE_ERR_FORMAT);
}

/* A worker that gets a debug vmlinux says when that is what is wrong; without, the kernel's own code is analysed. */
static void test_debug_vmlinux(void **state)
{
	char line[512];
	struct spawn_words words;
	struct riffle_error error;
	int debug = test_file("no ELF", 6);

	(void)state;
	snprintf(text[DEBUG], sizeof text[DEBUG], "%d", debug);
	assert_int_equal(run(REASON, line, sizeof line), EXIT_FAILURE);
	assert_true(spawn_parse_error(line, &words, &error));
	assert_string_equal(error.field, SPAWN_DEBUG_FIELD);
	assert_string_equal(error.problem, "its ELF header is cut off");
	close(debug);
	/* the kernel itself, which has nothing to tell */
	snprintf(text[DEBUG], sizeof text[DEBUG], "%d", kernel_fd);
	strcpy(text[ERRORS], "pipe");
	assert_int_equal(run(REASON, line, sizeof line), EXIT_FAILURE);
	assert_true(spawn_parse_error(line, &words, &error));
	assert_string_equal(error.field, SPAWN_DEBUG_FIELD);
	assert_string_equal(error.problem, "has no symbols: it was stripped");
}

static void must_be_shuffled(void)
{
	struct riffle_source source;
	struct riffle_plan plan = RIFFLE_PLAN_INIT;
	struct riffle_error error;

	assert_int_equal(riffle_source_from_fd(&source, out_fd, &error), 0);
	assert_int_equal(riffle_plan_open(&plan, &source, &error), 0);
	assert_string_equal(plan.header->no_shuffle, "");
	assert_true(plan.chunk_count > 0);
	riffle_plan_close(&plan);
}

/* What can be shuffled is, also when another program has to unpack it. */
static void test_kernels(void **state)
{
	const struct test_bzimage_spec spec = {.compression = RIFFLE_COMPRESSION_LZO};
	struct test_kernel_spec kernel_spec = test_kernel_spec();
	struct test_bytes movable = {0}, bzimage = {0};
	struct test_kernel kernel;
	char line[512];

	(void)state;
	test_movable_kernel(&movable);
	close(kernel_fd);
	kernel_fd = test_file_of(&movable);
	test_bytes_free(&movable);
	snprintf(text[KERNEL], sizeof text[KERNEL], "%d", kernel_fd);
	assert_int_equal(run(REASON, line, sizeof line), EXIT_SUCCESS);
	must_be_shuffled();

	test_kernel_build(&kernel, &kernel_spec);
	const bool made = test_bzimage_of(&bzimage, &spec, &kernel);

	test_kernel_free(&kernel);
	if (!made)
		skip();
	close(kernel_fd);
	kernel_fd = test_file_of(&bzimage);
	test_bytes_free(&bzimage);
	snprintf(text[KERNEL], sizeof text[KERNEL], "%d", kernel_fd);
	strcpy(text[ERRORS], "pipe");
	assert_int_equal(ftruncate(out_fd, 0), 0);
	assert_int_equal(run(REASON, line, sizeof line), EXIT_SUCCESS);
	assert_string_equal(line, "");
}

/* Whatever program is run for the kernel does not get the worker's files. */
static void test_files_are_not_inherited(void **state)
{
	char *argv[] = {text[0], text[KERNEL], text[RELOCS], text[DEBUG], text[OUT], text[OUT], text[STORAGE], NULL};

	(void)state;
	strcpy(text[STORAGE], "none");
	assert_int_equal(fcntl(kernel_fd, F_SETFD, 0), 0);
	assert_int_equal(fcntl(out_fd, F_SETFD, 0), 0);
	assert_int_equal(worker_main(STORAGE + 1, argv), EXIT_USAGE);
	assert_int_equal(fcntl(kernel_fd, F_GETFD), FD_CLOEXEC);
	assert_int_equal(fcntl(out_fd, F_GETFD), FD_CLOEXEC);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test_setup_teardown(test_arguments, set_up, tear_down),
	    cmocka_unit_test_setup_teardown(test_result, set_up, tear_down),
	    cmocka_unit_test_setup_teardown(test_debug_vmlinux, set_up, tear_down),
	    cmocka_unit_test_setup_teardown(test_kernels, set_up, tear_down),
	    cmocka_unit_test_setup_teardown(test_files_are_not_inherited, set_up, tear_down),
	};

	return cmocka_run_group_tests_name("worker", tests, NULL, NULL);
}
