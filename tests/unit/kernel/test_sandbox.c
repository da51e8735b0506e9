/* SPDX-License-Identifier: Apache-2.0 */
/* What a confined process can still do, and what kills it. */
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/sanitized.h"
#include "kernel/sandbox.h"

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

static int examine_file(void)
{
	struct stat st;

	return stat("/", &st) < 0 ? REFUSED : DONE;
}

static int wait_for_input(void)
{
	int bytes;

	return ioctl(0, FIONREAD, &bytes) < 0 ? REFUSED : DONE;
}

static int trace(void)
{
	return prctl(PR_SET_DUMPABLE, 1) < 0 ? REFUSED : DONE;
}

/* what preparing a kernel needs */
static int work(void)
{
	uint8_t *big = malloc(100 << 20), mode[256];
	struct stat st;
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
	    lseek(0, 0, SEEK_DATA) < 0 || fstat(0, &st) < 0 || st.st_size != 1 << 20)
		return REFUSED;
	/* what stdio asks of a terminal, by each of two numbers */
	if (ioctl(0, TCGETS, mode) == 0 || errno != ENOTTY || ioctl(0, 0x802c542a, mode) == 0 || errno != ENOTTY)
		return REFUSED;
	return DONE;
}

static const int limited[] = {RLIMIT_AS, RLIMIT_CPU, RLIMIT_CORE, RLIMIT_NOFILE, RLIMIT_FSIZE};
#define LIMITS (sizeof limited / sizeof *limited)

/* what a confined process has: set before the filter is installed, and permitted to look at by that for programs */
static int look_at_limits(void)
{
	static const struct rlimit expected[LIMITS] = {{(rlim_t)6 << 30, (rlim_t)6 << 30},
						       {SANDBOX_SECONDS, SANDBOX_SECONDS + 1},
						       {0, 0},
						       {32, 32},
						       {(rlim_t)2 << 30, (rlim_t)2 << 30}};
	struct rlimit is;

	for (size_t i = 0; i < LIMITS; i++)
		if (getrlimit((__rlimit_resource_t)limited[i], &is) < 0 || is.rlim_cur != expected[i].rlim_cur ||
		    is.rlim_max != expected[i].rlim_max)
			return REFUSED;
	return DONE;
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
	static int (*const forbidden[])(void) = {open_file,   make_socket, run_program,  map_code,      make_code,
						 stop_parent, trace,       examine_file, wait_for_input};

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

/* The limits of a child that had `before` when it was confined. */
static struct rlimit limit_after(int which, struct rlimit before, unsigned seconds)
{
	struct riffle_error error;
	struct rlimit *after = mmap(NULL, sizeof *after, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	struct rlimit is;
	int ended;
	pid_t child;

	assert_ptr_not_equal(after, MAP_FAILED);
	child = fork();
	assert_true(child >= 0);
	if (!child)
		_exit(setrlimit((__rlimit_resource_t)which, &before) < 0 || sandbox_drop(seconds, &error) ||
		      getrlimit((__rlimit_resource_t)which, after) < 0);
	assert_int_equal(waitpid(child, &ended, 0), child);
	assert_true(exited(ended, 0));
	is = *after;
	munmap(after, sizeof *after);
	return is;
}

/* A limit that is lower already stays, and that of processor time still leaves a second between warning and end. */
static void test_lower_limits(void **state)
{
	static const struct {
		int which;
		unsigned seconds;
		struct rlimit before, after;
	} cases[] = {
	    {RLIMIT_NOFILE, 9, {16, 24}, {16, 24}},
	    {RLIMIT_NOFILE, 9, {16, 100}, {16, 32}},
	    {RLIMIT_NOFILE, 9, {32, 32}, {32, 32}},
	    {RLIMIT_NOFILE, 9, {64, 64}, {32, 32}},
	    {RLIMIT_FSIZE, 9, {4096, RLIM_INFINITY}, {4096, (rlim_t)2 << 30}},
	    {RLIMIT_CPU, 9, {RLIM_INFINITY, RLIM_INFINITY}, {9, 10}},
	    {RLIMIT_CPU, 9, {5, 20}, {5, 10}},
	    {RLIMIT_CPU, 9, {5, 5}, {4, 5}},
	    {RLIMIT_CPU, 9, {2, 2}, {1, 2}},
	    {RLIMIT_CPU, 9, {1, 1}, {1, 1}},
	    {RLIMIT_CPU, 0, {40, 50}, {40, 50}},
	};

	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		struct rlimit is = limit_after(cases[i].which, cases[i].before, cases[i].seconds);

		if (is.rlim_cur != cases[i].after.rlim_cur || is.rlim_max != cases[i].after.rlim_max)
			fail_msg("case %zu: %llu, %llu", i, (unsigned long long)is.rlim_cur,
				 (unsigned long long)is.rlim_max);
	}
}

/* The linker's --wrap leads calls here; the one of this name fails, after so many of its kind. */
static const char *failing;
static int failing_problem, failing_after;

static bool fails(const char *call)
{
	if (!failing || strcmp(call, failing) || failing_after--)
		return false;
	errno = failing_problem;
	return true;
}

#define WRAPPED(name, parameters, arguments)                                                                           \
	int __real_##name parameters;                                                                                  \
	int __wrap_##name parameters;                                                                                  \
	int __wrap_##name parameters                                                                                   \
	{                                                                                                              \
		return fails(#name) ? -1 : __real_##name arguments;                                                    \
	}
WRAPPED(setgroups, (size_t count, const gid_t *groups), (count, groups))
WRAPPED(setresgid, (gid_t real, gid_t effective, gid_t saved), (real, effective, saved))
WRAPPED(setresuid, (uid_t real, uid_t effective, uid_t saved), (real, effective, saved))
WRAPPED(getrlimit64, (__rlimit_resource_t which, struct rlimit *limit), (which, limit))
WRAPPED(setrlimit64, (__rlimit_resource_t which, const struct rlimit *limit), (which, limit))
WRAPPED(prctl, (int what, unsigned long a, unsigned long b, unsigned long c, unsigned long d), (what, a, b, c, d))

static int confine_with_fault(void)
{
	static struct riffle_error error;
	int status = sandbox_confine(&error);

	if (!status)
		return DONE;
	return !strcmp(error.field, "sandbox") && status == (int)error.status && error.sys_errno == failing_problem
		   ? 77
		   : 78;
}

/* What a user namespace refuses to its root costs nothing, everything else that fails ends the worker. */
static void test_faults(void **state)
{
	static const struct {
		const char *call;
		int problem, after, result;
		uid_t user;
	} cases[] = {
	    /* only root has anything to give up */
	    {"setgroups", ENOMEM, 0, DONE, 12345}, {"setgroups", EPERM, 0, DONE}, {"setgroups", ENOMEM, 0, 77},
	    {"setresgid", EINVAL, 0, DONE},        {"setresgid", EPERM, 0, DONE}, {"setresgid", EAGAIN, 0, 77},
	    {"setresuid", EINVAL, 0, DONE},        {"setresuid", EPERM, 0, DONE}, {"setresuid", EAGAIN, 0, 77},
	    {"getrlimit64", EPERM, 0, 77},         {"setrlimit64", EPERM, 0, 77}, {"setrlimit64", EPERM, 1, 77},
	    {"setrlimit64", EPERM, 2, 77},         {"setrlimit64", EPERM, 3, 77}, {"setrlimit64", EPERM, 4, 77},
	    {"setrlimit64", EPERM, 5, DONE},       {"prctl", EINVAL, 0, 77},
	};

	(void)state;
	if (SANITIZED || geteuid() != 0)
		skip();
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		int ended;
		pid_t child;

		failing = cases[i].call;
		failing_problem = cases[i].problem;
		failing_after = cases[i].after;
		child = fork();
		assert_true(child >= 0);
		if (!child)
			_exit(cases[i].user && setresuid(cases[i].user, cases[i].user, cases[i].user) < 0
				  ? 79
				  : confine_with_fault());
		failing = NULL;
		assert_int_equal(waitpid(child, &ended, 0), child);
		if (!exited(ended, cases[i].result))
			fail_msg("%s, %d: %x", cases[i].call, cases[i].problem, (unsigned)ended);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_plain),
	    cmocka_unit_test(test_with_lzop),
	    cmocka_unit_test(test_root_becomes_nobody),
	    cmocka_unit_test(test_lower_limits),
	    cmocka_unit_test(test_faults),
	};
	int file = memfd_create("work", 0);

	if (file < 0 || dup2(file, 0) < 0)
		return 1;
	return cmocka_run_group_tests_name("sandbox", tests, NULL, NULL);
}
