/* SPDX-License-Identifier: Apache-2.0 */
/* What a confined process can still do, and what kills it. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "kernel/sandbox.h"

#if defined(__SANITIZE_ADDRESS__)
#define SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define SANITIZED 1
#endif
#endif
#ifndef SANITIZED
#define SANITIZED 0
#endif

enum { REFUSED = 50, DONE = 0 };

/* Runs `act` in a confined child; the wait status. It returns REFUSED when a call failed, DONE when it did not. */
static int confined(enum sandbox_profile profile, int (*act)(void))
{
	struct riffle_error error;
	int ended;
	pid_t child = fork();

	assert_true(child >= 0);
	if (!child) {
		if (sandbox_drop(SANDBOX_SECONDS, &error) || sandbox_filter(profile, &error))
			_exit(99);
		_exit(act());
	}
	assert_int_equal(waitpid(child, &ended, 0), child);
	return ended;
}

static int open_file(void)
{
	return open("/etc/passwd", O_RDONLY) < 0 ? REFUSED : DONE;
}

static int make_socket(void)
{
	return socket(AF_UNIX, SOCK_STREAM, 0) < 0 ? REFUSED : DONE;
}

static int run_program(void)
{
	execl("/bin/true", "true", NULL);
	return REFUSED;
}

static int map_code(void)
{
	return mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == MAP_FAILED ? REFUSED
													 : DONE;
}

static int make_code(void)
{
	void *memory = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	return memory == MAP_FAILED || mprotect(memory, 4096, PROT_READ | PROT_EXEC) < 0 ? REFUSED : DONE;
}

static int stop_parent(void)
{
	return kill(getppid(), SIGCONT) < 0 ? REFUSED : DONE;
}

static int trace(void)
{
	return prctl(PR_SET_DUMPABLE, 1) < 0 ? REFUSED : DONE;
}

/* what preparing a kernel needs */
static int work(void)
{
	uint8_t *big = malloc(100 << 20);
	char byte = 1;

	if (!big)
		return REFUSED;
	memset(big, 1, 100 << 20);
	big = realloc(big, 200 << 20);
	if (!big || big[100] != 1)
		return REFUSED;
	free(big);
	/* standard input was made a file by the test */
	if (pwrite(0, &byte, 1, 10) != 1 || pread(0, &byte, 1, 10) != 1 || ftruncate(0, 1 << 20) < 0 ||
	    lseek(0, 0, SEEK_DATA) < 0)
		return REFUSED;
	return DONE;
}

static int look_at_limits(void)
{
	struct rlimit core, files;

	/* permitted before the filter is installed, and not needed afterwards */
	if (getrlimit(RLIMIT_CORE, &core) < 0 || getrlimit(RLIMIT_NOFILE, &files) < 0)
		return REFUSED;
	return core.rlim_max == 0 && files.rlim_max <= 32 ? DONE : REFUSED;
}

static bool killed(int ended)
{
	return WIFSIGNALED(ended) && WTERMSIG(ended) == SIGSYS;
}

static bool exited(int ended, int code)
{
	return WIFEXITED(ended) && WEXITSTATUS(ended) == code;
}

static void test_plain(void **state)
{
	static int (*const forbidden[])(void) = {open_file, make_socket, run_program, map_code,
						 make_code, stop_parent, trace};

	(void)state;
	if (SANITIZED)
		skip();
	for (size_t i = 0; i < sizeof forbidden / sizeof *forbidden; i++)
		if (!killed(confined(SANDBOX_PLAIN, forbidden[i])))
			fail_msg("forbidden act %zu was not stopped", i);
	assert_true(exited(confined(SANDBOX_PLAIN, work), DONE));
}

/* After the program has run, only reading its output is needed. */
static int confine_further(void)
{
	struct riffle_error error;

	return sandbox_filter(SANDBOX_PLAIN, &error) ? REFUSED : run_program();
}

static void test_with_lzop(void **state)
{
	(void)state;
	if (SANITIZED)
		skip();
	assert_true(exited(confined(SANDBOX_RUNS_PROGRAM, run_program), 0));
	assert_true(exited(confined(SANDBOX_RUNS_PROGRAM, work), DONE));
	assert_true(exited(confined(SANDBOX_RUNS_PROGRAM, make_socket), REFUSED));
	assert_true(exited(confined(SANDBOX_RUNS_PROGRAM, trace), REFUSED));
	assert_true(exited(confined(SANDBOX_RUNS_PROGRAM, look_at_limits), DONE));
	assert_true(killed(confined(SANDBOX_RUNS_PROGRAM, confine_further)));
}

static int ids(void)
{
	return getuid() == 65534 && geteuid() == 65534 && getgid() == 65534 && getgroups(0, NULL) == 0 &&
		       setuid(0) < 0 && prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1
		   ? DONE
		   : REFUSED;
}

static void test_root_becomes_nobody(void **state)
{
	struct riffle_error error;
	int ended;
	pid_t child;

	(void)state;
	if (geteuid() != 0)
		skip();
	child = fork();
	assert_true(child >= 0);
	if (!child)
		_exit(sandbox_drop(SANDBOX_SECONDS, &error) ? 99 : ids());
	assert_int_equal(waitpid(child, &ended, 0), child);
	assert_true(exited(ended, DONE));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_plain),
	    cmocka_unit_test(test_with_lzop),
	    cmocka_unit_test(test_root_becomes_nobody),
	};
	int file = memfd_create("work", 0);

	if (file < 0 || dup2(file, 0) < 0)
		return 1;
	return cmocka_run_group_tests_name("sandbox", tests, NULL, NULL);
}
