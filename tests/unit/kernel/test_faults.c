/* SPDX-License-Identifier: Apache-2.0 */
/* System calls that fail while a kernel is opened, clocks that stand still, and file systems without times. */
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "kernel/cache.h"
#include "kernel/spawn.h"
#include "tests/unit/kernel/fixture.h"

/*
 * The call of this name fails once, after so many that do not; of fcntl() only those with this command count, of
 * openat() those with these flags.
 */
static struct {
	const char *call;
	int command;
	unsigned after;
	int problem;
	bool done;
} fault;

static bool fails(const char *call, int command)
{
	if (!fault.call || fault.done || strcmp(call, fault.call) || (fault.command && command != fault.command))
		return false;
	if (fault.after) {
		fault.after--;
		return false;
	}
	errno = fault.problem;
	return fault.done = true;
}

static struct timespec now; /* what the clock says, unless that is 0 */
static bool changing;       /* files have changed `change_age` ns before that */
static int64_t change_age;
static unsigned naps, settled; /* how often the code slept; after so many a file is old */
static long file_system;       /* what each file lies on, unless that is 0 */

/* The linker's --wrap leads the program's calls here. */
#define WRAPPED(type, name, parameters)                                                                                \
	type __wrap_##name parameters;                                                                                 \
	type __wrap_##name parameters

static int status_of(int fd, struct stat *st)
{
	if (fails("fstat", 0) || syscall(SYS_fstat, fd, st) < 0)
		return -1;
	if (changing && S_ISREG(st->st_mode)) {
		int64_t at = now.tv_sec * INT64_C(1000000000) + now.tv_nsec -
			     (settled && naps >= settled ? INT64_C(3600000000000) : change_age);

		st->st_ctim = (struct timespec){at / 1000000000, at % 1000000000};
	}
	return 0;
}

WRAPPED(int, fstat, (int fd, struct stat *st))
{
	return status_of(fd, st);
}

WRAPPED(int, fstat64, (int fd, struct stat *st))
{
	return status_of(fd, st);
}

static int file_system_of(int fd, struct statfs *fs)
{
	if (fails("fstatfs", 0) || syscall(SYS_fstatfs, fd, fs) < 0)
		return -1;
	if (file_system)
		fs->f_type = file_system;
	return 0;
}

WRAPPED(int, fstatfs, (int fd, struct statfs *fs))
{
	return file_system_of(fd, fs);
}

WRAPPED(int, fstatfs64, (int fd, struct statfs *fs))
{
	return file_system_of(fd, fs);
}

/* All that the code under test passes is a long or nothing. */
WRAPPED(int, fcntl, (int fd, int command, long argument))
{
	return fails("fcntl", command) ? -1 : (int)syscall(SYS_fcntl, fd, command, argument);
}

WRAPPED(int, fcntl64, (int fd, int command, long argument))
{
	return fails("fcntl", command) ? -1 : (int)syscall(SYS_fcntl, fd, command, argument);
}

WRAPPED(int, clock_gettime, (clockid_t clock, struct timespec *to))
{
	if (now.tv_sec && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) {
		*to = now;
		return 0;
	}
	return (int)syscall(SYS_clock_gettime, clock, to);
}

WRAPPED(time_t, time, (time_t * to))
{
	assert_null(to);
	return now.tv_sec ? now.tv_sec : syscall(SYS_time, NULL);
}

WRAPPED(int, nanosleep, (const struct timespec *time, struct timespec *rest))
{
	naps++;
	return now.tv_sec ? 0 : (int)syscall(SYS_nanosleep, time, rest);
}

WRAPPED(int, pipe2, (int *fds, int flags))
{
	return fails("pipe2", 0) ? -1 : (int)syscall(SYS_pipe2, fds, flags);
}

WRAPPED(int, memfd_create, (const char *name, unsigned flags))
{
	return fails("memfd_create", 0) ? -1 : (int)syscall(SYS_memfd_create, name, flags);
}

WRAPPED(pid_t, waitpid, (pid_t child, int *ended, int flags))
{
	return fails("waitpid", 0) ? -1 : (pid_t)syscall(SYS_wait4, child, ended, flags, NULL);
}

static bool byte_by_byte; /* as a pipe may give them */

WRAPPED(ssize_t, read, (int fd, void *to, size_t bytes))
{
	return fails("read", 0) ? -1 : syscall(SYS_read, fd, to, byte_by_byte && bytes ? 1 : bytes);
}

WRAPPED(int, openat, (int directory, const char *name, int flags, mode_t mode))
{
	return fails("openat", flags) ? -1 : (int)syscall(SYS_openat, directory, name, flags, mode);
}

WRAPPED(int, openat64, (int directory, const char *name, int flags, mode_t mode))
{
	return fails("openat", flags) ? -1 : (int)syscall(SYS_openat, directory, name, flags, mode);
}

WRAPPED(int, linkat, (int directory, const char *name, int other, const char *new_name, int flags))
{
	return fails("linkat", 0) ? -1 : (int)syscall(SYS_linkat, directory, name, other, new_name, flags);
}

WRAPPED(int, renameat, (int directory, const char *name, int other, const char *new_name))
{
	return fails("renameat", 0) ? -1 : (int)syscall(SYS_renameat, directory, name, other, new_name);
}

pid_t __real_fork(void);
WRAPPED(pid_t, fork, (void))
{
	return fails("fork", 0) ? -1 : __real_fork();
}

/* These return what errno would be. */
int __real_posix_spawn(pid_t *child, const char *path, const posix_spawn_file_actions_t *actions,
		       const posix_spawnattr_t *attributes, char *const *argv, char *const *environment);
WRAPPED(int, posix_spawn,
	(pid_t * child, const char *path, const posix_spawn_file_actions_t *actions,
	 const posix_spawnattr_t *attributes, char *const *argv, char *const *environment))
{
	return fails("posix_spawn", 0) ? fault.problem
				       : __real_posix_spawn(child, path, actions, attributes, argv, environment);
}

int __real_posix_spawn_file_actions_init(posix_spawn_file_actions_t *actions);
WRAPPED(int, posix_spawn_file_actions_init, (posix_spawn_file_actions_t * actions))
{
	return fails("actions_init", 0) ? fault.problem : __real_posix_spawn_file_actions_init(actions);
}

int __real_posix_spawn_file_actions_adddup2(posix_spawn_file_actions_t *actions, int fd, int new_fd);
WRAPPED(int, posix_spawn_file_actions_adddup2, (posix_spawn_file_actions_t * actions, int fd, int new_fd))
{
	return fails("adddup2", 0) ? fault.problem : __real_posix_spawn_file_actions_adddup2(actions, fd, new_fd);
}

int __real_posix_spawn_file_actions_addopen(posix_spawn_file_actions_t *actions, int fd, const char *path, int flags,
					    mode_t mode);
WRAPPED(int, posix_spawn_file_actions_addopen,
	(posix_spawn_file_actions_t * actions, int fd, const char *path, int flags, mode_t mode))
{
	return fails("addopen", 0) ? fault.problem
				   : __real_posix_spawn_file_actions_addopen(actions, fd, path, flags, mode);
}

int __real_posix_spawn_file_actions_addclosefrom_np(posix_spawn_file_actions_t *actions, int from);
WRAPPED(int, posix_spawn_file_actions_addclosefrom_np, (posix_spawn_file_actions_t * actions, int from))
{
	return fails("addclosefrom", 0) ? fault.problem
					: __real_posix_spawn_file_actions_addclosefrom_np(actions, from);
}

int __real_posix_spawnattr_init(posix_spawnattr_t *attributes);
WRAPPED(int, posix_spawnattr_init, (posix_spawnattr_t * attributes))
{
	return fails("attr_init", 0) ? fault.problem : __real_posix_spawnattr_init(attributes);
}

static void let_fail(const char *call, int command, unsigned after, int problem)
{
	fault.call = call;
	fault.command = command;
	fault.after = after;
	fault.problem = problem;
	fault.done = false;
}

static int end_faults(void **state)
{
	let_fail(NULL, 0, 0, 0);
	now = (struct timespec){0};
	change_age = file_system = 0;
	changing = false;
	naps = settled = 0;
	while (waitpid(-1, NULL, 0) > 0 || errno == EINTR)
		;
	return tear_down(state);
}

static void test_calls_that_fail(void **state)
{
	static const struct {
		const char *call;
		int command;
		unsigned after;
		int problem;
		const char *field, *told;
	} cases[] = {
	    {"memfd_create", 0, 0, ENFILE, "memory", "for the prepared kernel cannot be allocated"},
	    {"fcntl", F_ADD_SEALS, 0, EINVAL, "memory", "of the prepared kernel cannot be sealed"},
	    {"pipe2", 0, 0, EMFILE, "riffle-prepare", "cannot be given a pipe"},
	    {"fcntl", F_DUPFD_CLOEXEC, 0, EMFILE, "riffle-prepare", "cannot be given its descriptors"},
	    {"fcntl", F_DUPFD_CLOEXEC, 1, EMFILE, "riffle-prepare", "cannot be given its descriptors"},
	    {"fcntl", F_DUPFD_CLOEXEC, 2, EMFILE, "riffle-prepare", "cannot be given its descriptors"},
	    {"actions_init", 0, 0, ENOMEM, "riffle-prepare", "cannot be started"},
	    {"attr_init", 0, 0, ENOMEM, "riffle-prepare", "cannot be started"},
	    {"addopen", 0, 0, ENOMEM, "riffle-prepare", "cannot be started"},
	    {"addopen", 0, 2, ENOMEM, "riffle-prepare", "cannot be started"},
	    {"adddup2", 0, 0, ENOMEM, "riffle-prepare", "cannot be started"},
	    {"adddup2", 0, 2, ENOMEM, "riffle-prepare", "cannot be started"},
	    {"addclosefrom", 0, 0, ENOMEM, "riffle-prepare", "cannot be started"},
	    {"posix_spawn", 0, 0, EAGAIN, "riffle-prepare", "cannot be started"},
	    {"waitpid", 0, 0, ECHILD, "riffle-prepare", "cannot be waited for"},
	};
	struct fixture *f = *state;
	char programs[sizeof test_directory];

	snprintf(programs, sizeof programs, "%s", test_directory);
	f->request.no_cache = true;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		let_fail(cases[i].call, cases[i].command, cases[i].after, cases[i].problem);
		must_fail(f, RIFFLE_ERR_IO, cases[i].field, cases[i].told);
		assert_int_equal(f->error.sys_errno, cases[i].problem);
		assert_true(fault.done);
		must_open(f, KERNEL_CACHE_MISS); /* nothing is left of it */
	}
	byte_by_byte = true;
	fake_program(f, "printf '2 0 1 7 1 8\\te_machine\\tis wrong\\n' >&5; exit 1");
	must_fail(f, RIFFLE_ERR_FORMAT, "e_machine", "is wrong");
	byte_by_byte = false;
	snprintf(test_directory, sizeof test_directory, "%s", programs);
	for (int interrupted = 0; interrupted < 2; interrupted++) {
		let_fail(interrupted ? "read" : "waitpid", 0, 0, EINTR);
		must_open(f, KERNEL_CACHE_MISS);
		assert_true(fault.done);
	}
}

/* The program that is not riffle-prepare but this one. */
static void test_own_program_cannot_be_started(void **state)
{
	static const struct {
		const char *call;
		unsigned after;
	} cases[] = {{"fork", 0}, {"fcntl", 3}};
	struct fixture *f = *state;

	f->request.no_cache = true;
	strcpy(test_directory, "/nowhere");
	spawn_set_program(1);
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		let_fail(cases[i].call, F_DUPFD_CLOEXEC * !strcmp(cases[i].call, "fcntl"), cases[i].after, EAGAIN);
		must_fail(f, RIFFLE_ERR_IO, "riffle-prepare", "cannot be started");
		assert_int_equal(f->error.sys_errno, EAGAIN);
		assert_true(fault.done);
	}
	spawn_set_program(-1);
}

/* Each time that a file is examined it may be gone from its server; that file gets the blame. */
static void test_files_that_cannot_be_examined(void **state)
{
	struct fixture *f = *state;
	char relocs[128];
	unsigned examined[2] = {0};

	snprintf(relocs, sizeof relocs, "%s/relocs", f->base);
	write_kernel(relocs, 0);
	f->request.no_cache = true;
	for (unsigned n = 0;; n++) {
		let_fail("fstat", 0, n, ESTALE);
		if (!kernel_open(&f->k, &f->request, &f->error))
			break;
		assert_int_equal(f->error.sys_errno, ESTALE);
		examined[0] += !strcmp(f->error.problem, "cannot be examined");
	}
	kernel_close(&f->k);
	assert_false(fault.done);
	/* opened, settled, unchanged */
	assert_int_equal(examined[0], 3);

	f->request.relocs = relocs;
	for (unsigned n = 0; n < 6; n++) {
		let_fail("fstat", 0, n, ESTALE);
		assert_int_equal(kernel_open(&f->k, &f->request, &f->error), RIFFLE_ERR_IO);
		assert_string_equal(f->error.problem, "cannot be examined");
		examined[1] += f->k.blame == relocs;
	}
	assert_int_equal(examined[1], 3);
}

/* A file that has only just changed is looked at again, one with a time in the future is not. */
static void test_fresh_files(void **state)
{
	static const struct {
		int64_t age;
		unsigned naps;
	} cases[] = {{-1, 0}, {0, 1}, {1, 1}, {20000000, 1}, {20000001, 0}, {INT64_C(3000000000), 0}};
	struct fixture *f = *state;

	f->request.no_cache = true;
	now = (struct timespec){1000000000, 500};
	changing = true;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		change_age = cases[i].age;
		naps = 0;
		settled = 1;
		must_open(f, KERNEL_CACHE_MISS);
		assert_int_equal(naps, cases[i].naps);
	}
	naps = settled = 0;
	change_age = 0;
	must_fail(f, RIFFLE_ERR_CHANGED, "file", "keeps changing");
	assert_int_equal(naps, 50);
}

static void test_file_systems_without_times(void **state)
{
	static const long bad[] = {MSDOS_SUPER_MAGIC, EXFAT_SUPER_MAGIC};
	struct fixture *f = *state;

	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		file_system = bad[i];
		must_open(f, KERNEL_CACHE_MISS);
		assert_string_equal(f->k.notice, "no cache: the kernel's file system does not tell of every change; "
						 "kernel prepared for this run alone");
		assert_int_equal(entries(f->cache, NULL, 0), 0);
	}
	file_system = EXT4_SUPER_MAGIC;
	must_open(f, KERNEL_CACHE_MISS);
	assert_int_equal(entries(f->cache, NULL, 0), 1);
	file_system = MSDOS_SUPER_MAGIC;
	let_fail("fstatfs", 0, 0, ENOSYS);
	must_open(f, KERNEL_CACHE_HIT);
}

/* Without O_TMPFILE a cache has files with names for a while. */
static void test_cache_without_unnamed_files(void **state)
{
	static const int problems[] = {EOPNOTSUPP, EISDIR, ENOENT};
	const int unnamed = O_TMPFILE | O_RDWR | O_CLOEXEC;
	struct fixture *f = *state;
	char path[512];

	for (size_t i = 0; i < sizeof problems / sizeof *problems; i++) {
		write_kernel(f->kernel, 0xf4);
		let_fail("openat", unnamed, 0, problems[i]);
		must_open(f, KERNEL_CACHE_MISS);
		assert_true(fault.done);
		assert_string_equal(f->k.notice, "");
		assert_int_equal(entries(f->cache, path, sizeof path), i + 1);
		must_open(f, KERNEL_CACHE_HIT);
	}
	write_kernel(f->kernel, 0xf4);
	let_fail("openat", unnamed, 0, EOPNOTSUPP);
	fake_program(f, "exit 7");
	must_fail(f, RIFFLE_ERR_IO, "riffle-prepare", "without saying why");
	assert_int_equal(entries(f->cache, NULL, 0), sizeof problems / sizeof *problems);
}

/* A cache that cannot be written to costs no boot, and leaves nothing. */
static void test_cache_faults(void **state)
{
	static const struct {
		const char *call;
		int flags, problem;
		const char *notice;
	} cases[] = {
	    {"openat", O_TMPFILE | O_RDWR | O_CLOEXEC, EACCES, "cache: file cannot be made"},
	    {"openat", O_TMPFILE | O_RDWR | O_CLOEXEC, ENOSPC, "cache: file cannot be made"},
	    {"linkat", 0, EPERM, "cache: entry cannot be given its name"},
	};
	struct fixture *f = *state;

	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		let_fail(cases[i].call, cases[i].flags, 0, cases[i].problem);
		must_open(f, KERNEL_CACHE_MISS);
		assert_true(fault.done);
		assert_non_null(strstr(f->k.notice, cases[i].notice));
		assert_int_equal(entries(f->cache, NULL, 0), 0);
	}
}

/* In whose place another entry is put: by a link and a rename, each of which may fail. */
static void test_replacement_faults(void **state)
{
	struct fixture *f = *state;
	char path[512];

	must_open(f, KERNEL_CACHE_MISS);
	assert_int_equal(entries(f->cache, path, sizeof path), 1);
	for (int i = 0; i < 2; i++) {
		assert_int_equal(truncate(path, 0), 0);
		let_fail(i ? "renameat" : "linkat", 0, i ? 0 : 1, EPERM);
		must_open(f, KERNEL_CACHE_MISS);
		assert_true(fault.done);
		assert_non_null(strstr(f->k.notice, "cache: entry cannot be given"));
		assert_int_equal(entries(f->cache, NULL, 0), 1);
	}
	must_open(f, KERNEL_CACHE_MISS);
	assert_string_equal(f->k.notice, "");
	must_open(f, KERNEL_CACHE_HIT);
}

/* Using an entry is noted when the last use is more than an hour ago; as long may an interrupted run's file stay. */
static void test_ages(void **state)
{
	struct fixture *f = *state;
	struct cache_file file;
	char path[512], left[128];
	struct stat st;

	must_open(f, KERNEL_CACHE_MISS);
	assert_int_equal(entries(f->cache, path, sizeof path), 1);
	snprintf(left, sizeof left, "%s/.new-1-1", f->cache);
	write_kernel(left, 0);
	for (int late = 0; late < 2; late++) {
		const struct timespec used = {.tv_sec = 1000000}, times[] = {used, used};

		now = (struct timespec){.tv_sec = used.tv_sec + 3600 + late, .tv_nsec = 1};
		assert_int_equal(utimensat(AT_FDCWD, path, times, 0), 0);
		assert_int_equal(utimensat(AT_FDCWD, left, times, 0), 0);
		must_open(f, KERNEL_CACHE_HIT);
		assert_int_equal(syscall(SYS_stat, path, &st), 0);
		assert_int_equal(st.st_mtim.tv_sec != used.tv_sec, late);
		assert_int_equal(cache_create(&file, f->cache, &f->error), 0);
		cache_trim(&file, "none", UINT64_MAX);
		cache_close(&file);
		assert_int_equal(access(left, F_OK), late ? -1 : 0);
		now = (struct timespec){0};
	}
}

int main(void)
{
#define FAULTY(name) cmocka_unit_test_setup_teardown(name, set_up, end_faults)
	const struct CMUnitTest tests[] = {
	    FAULTY(test_calls_that_fail),
	    FAULTY(test_own_program_cannot_be_started),
	    FAULTY(test_files_that_cannot_be_examined),
	    FAULTY(test_fresh_files),
	    FAULTY(test_file_systems_without_times),
	    FAULTY(test_cache_without_unnamed_files),
	    FAULTY(test_cache_faults),
	    FAULTY(test_replacement_faults),
	    FAULTY(test_ages),
	};

	umask(022);
	close(0); /* which makes it a descriptor as any other */
	return cmocka_run_group_tests_name("faults", tests, NULL, NULL);
}
