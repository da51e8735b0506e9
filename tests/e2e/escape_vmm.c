/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Compromises riffle-vmm: linked into it in place of confine_thread(), this lets one thread of each kind make every
 * attempt right after it has confined itself, in the process and with the descriptors that it has then. Only if there
 * is a file /attempts: "VICTIM-PID PORT PARENT-PID". Writes to /results "KIND NAME RESULT" (killed: stopped by the
 * filter, refused, REACHED) and "KIND end". Before the API's thread is confined, children of it make the attempts, as
 * kind "before".
 */
#include <fcntl.h>
#include <liburing.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <unistd.h>

#include "escape.h"
#include "monitor/confine/confine.h"

int __real_confine_thread(enum confine_kind kind, struct riffle_error *error);
int __wrap_confine_thread(enum confine_kind kind, struct riffle_error *error);
int __real_io_uring_queue_init(unsigned entries, struct io_uring *ring, unsigned flags);
int __wrap_io_uring_queue_init(unsigned entries, struct io_uring *ring, unsigned flags);
int __real_fstatfs64(int fd, struct statfs *fs);
int __wrap_fstatfs64(int fd, struct statfs *fs);

static int results = -1;
/* one thread at a time: some attempts are visible to the others */
static pthread_mutex_t turn = PTHREAD_MUTEX_INITIALIZER;
static bool made[CONFINE_KINDS];
static sigjmp_buf stopped;

__attribute__((constructor)) static void begin(void)
{
	FILE *file = fopen("/attempts", "re");

	if (!file)
		return;
	if (fscanf(file, "%d %d %d", &victim, &port, &starter) == 3)
		results = open("/results", O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
	fclose(file);
}

static void say(const char *kind, const char *name, const char *result)
{
	char line[128];
	int count = snprintf(line, sizeof line, "%s %s%s%s\n", kind, name, *result ? " " : "", result);

	(void)!write(results, line, (size_t)count);
}

/* The first disk has a ring, the others have threads, as on a host that knows no rings. */
int __wrap_io_uring_queue_init(unsigned entries, struct io_uring *ring, unsigned flags)
{
	static bool before;

	if (results >= 0 && before)
		return -ENOSYS;
	before = true;
	return __real_io_uring_queue_init(entries, ring, flags);
}

/* Files on a tmpfs are on a disk: they would need neither. */
int __wrap_fstatfs64(int fd, struct statfs *fs)
{
	int status = __real_fstatfs64(fd, fs);

	if (!status && results >= 0)
		fs->f_type = 0;
	return status;
}

/* The monitor's own, as far as it has them at this time. */
static void find_descriptors(void)
{
	struct stat st;

	kvm = tun = disk = -1;
	for (int fd = 3; fd < 64; fd++) {
		if (fstat(fd, &st) < 0)
			continue;
		if (S_ISCHR(st.st_mode) && st.st_rdev == makedev(10, 232))
			kvm = fd;
		else if (S_ISCHR(st.st_mode) && st.st_rdev == makedev(10, 200))
			tun = fd;
		else if (S_ISREG(st.st_mode) && st.st_size == 1 << 20)
			disk = fd;
	}
}

static void is_stopped(int number)
{
	siglongjmp(stopped, number);
}

/* As the thread itself: it catches what the filter stops, which it is allowed to. */
static const char *attempt(bool (*act)(void))
{
	switch (sigsetjmp(stopped, 1)) {
	case 0:
		errno = 0;
		return act() ? "REACHED" : "refused";
	case SIGSYS:
		return "killed";
	default:
		return "CRASHED";
	}
}

static void attempt_all(const char *kind)
{
	struct sigaction stop = {.sa_handler = is_stopped, .sa_flags = SA_NODEFER}, sys, segv;

	sigaction(SIGSYS, &stop, &sys);
	sigaction(SIGSEGV, &stop, &segv);
	for (size_t i = 0; attempt_lists[i]; i++)
		for (const struct attempt *a = attempt_lists[i]; a->name; a++) {
			say(kind, a->name, attempt(a->act));
			munmap((void *)0x10000000, 4096); /* of old_system_calls(), for the next thread */
		}
	sigaction(SIGSYS, &sys, NULL);
	sigaction(SIGSEGV, &segv, NULL);
	say(kind, "end", "");
}

/* What the jail alone leaves to them: shows that the attempts are real here too. Their victim is one that may suffer.
 */
static void attempt_before(void)
{
	pid_t real = victim;

	victim = fork();
	if (victim == 0)
		for (;;)
			pause();
	for (size_t i = 0; attempt_lists[i]; i++)
		for (const struct attempt *a = attempt_lists[i]; a->name; a++) {
			int status;
			pid_t child = fork();

			if (child == 0) {
				setrlimit(RLIMIT_CORE, &(struct rlimit){0, 0});
				alarm(10);
				errno = 0;
				_exit(a->act() ? 1 : 0);
			}
			if (child > 0 && waitpid(child, &status, 0) == child)
				say("before", a->name,
				    WIFEXITED(status) && WEXITSTATUS(status) == 1 ? "REACHED" : "refused");
		}
	kill(victim, SIGKILL);
	waitpid(victim, NULL, 0);
	victim = real;
	say("before", "end", "");
}

int __wrap_confine_thread(enum confine_kind kind, struct riffle_error *error)
{
	int status;

	if (results < 0)
		return __real_confine_thread(kind, error);
	pthread_mutex_lock(&turn);
	find_descriptors();
	if (kind == CONFINE_API)
		attempt_before();
	status = __real_confine_thread(kind, error);
	if (!status && !made[kind]) {
		made[kind] = true;
		attempt_all(attempt_kinds[kind]);
	}
	pthread_mutex_unlock(&turn);
	return status;
}
