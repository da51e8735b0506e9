/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The last step of the jailer: it becomes the program, without privileges, in the background or a PID namespace if
 * requested.
 */
#include "jailer/launch.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <inttypes.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <time.h>
#include <unistd.h>

#include "jailer/below.h"
#include "jailer/scope.h"

#define OWN_ARGUMENTS 9 /* the program's name and four options with values */

uint64_t microseconds(int clock)
{
	struct timespec now;

	clock_gettime((clockid_t)clock, &now);
	return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

/* A pipe that a successful execve() closes, by which processes waiting on the other end learn the outcome. */
struct outcome {
	int wait, tell;
};

static int outcome_open(struct outcome *outcome)
{
	int ends[2];

	if (pipe2(ends, O_CLOEXEC) < 0)
		return -1;
	outcome->wait = ends[0];
	outcome->tell = ends[1];
	return 0;
}

/* In the process that continues: it and its children hold the pipe open until one of them executes the program. */
static void outcome_keep(struct launch *launch, const struct outcome *outcome)
{
	close(outcome->wait);
	launch->waiting[launch->waiting_count++] = outcome->tell;
}

void launch_failed(const struct launch *launch)
{
	for (unsigned i = 0; i < launch->waiting_count; i++)
		/* one byte per waiting process, of which there are at most two */
		(void)!write(launch->waiting[i], "12", 2);
}

/* In an intermediate process: waits for the outcome and exits. */
static _Noreturn void outcome_await(const struct outcome *outcome)
{
	char failed;
	ssize_t got;

	close(outcome->tell);
	do
		got = read(outcome->wait, &failed, 1);
	while (got < 0 && errno == EINTR);
	_exit(got ? 1 : 0);
}

/* Forks twice: the result leads neither a process group nor the session created by the first child. */
static int daemonize(struct launch *launch, const struct outcome *outcome, struct failure *failure)
{
	for (int generation = 0; generation < 2; generation++) {
		pid_t child;

		launch->cpu_us += microseconds(CLOCK_PROCESS_CPUTIME_ID);
		child = fork();
		if (child < 0)
			return fail_system(failure, errno, "Failed to daemonize");
		if (child > 0)
			outcome_await(outcome);
		if (generation == 0 && setsid() < 0)
			return fail_system(failure, errno, "Failed to daemonize: setsid");
	}
	launch->errors = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 3);
	for (int fd = 0; fd <= 2; fd++)
		if (dup2(launch->null, fd) < 0)
			return fail_system(failure, errno, "Failed to duplicate fd");
	return 0;
}

static int write_pid(const struct jail *jail, const struct arguments *arguments, pid_t pid, struct undo *undo,
		     struct failure *failure)
{
	char name[NAME_MAX + 8], text[16];
	int status = 0, fd;

	snprintf(name, sizeof name, "%s.pid", arguments->exec_name);
	fd = below_open(jail->root, name, O_WRONLY | O_CREAT | O_EXCL, 0666);
	if (fd < 0)
		return fail_system(failure, errno, "Failed to open file /%s", name);
	undo_file(undo, jail->root, name);
	snprintf(text, sizeof text, "%d", pid);
	if (write(fd, text, strlen(text)) != (ssize_t)strlen(text))
		status = fail_system(failure, errno, "Failed to write to /%s", name);
	close(fd);
	return status;
}

/*
 * The saved user id stays the jailer's until execve() overwrites it with the effective one, so that the program cannot
 * regain it. If execve() fails, the jailer still needs it to remove what was created.
 */
static int become(const struct arguments *arguments, struct failure *failure)
{
	if (setgroups(0, NULL) < 0 || setgid(arguments->gid) < 0 ||
	    setresuid(arguments->uid, arguments->uid, geteuid()) < 0 || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 ||
	    scope_enter())
		return fail_system(failure, errno, "Failed to exec into Firecracker");
	return 0;
}

/* After a failure: regains the privileges, if they were dropped. */
static void return_to_jailer(void)
{
	uid_t real, effective, saved;

	if (!getresuid(&real, &effective, &saved) && saved != effective)
		(void)!setresuid((uid_t)-1, saved, (uid_t)-1);
}

/* Returns only after a failure. */
static int execute(const struct launch *launch, const struct arguments *arguments, struct failure *failure)
{
	char path[NAME_MAX + 2], numbers[3][24];
	char *none[] = {NULL}, **argv;
	size_t extra = 0, n = 0;
	uint64_t cpu = microseconds(CLOCK_PROCESS_CPUTIME_ID);

	while (arguments->extra[extra])
		extra++;
	argv = calloc(OWN_ARGUMENTS + extra + 1, sizeof *argv);
	if (!argv)
		return fail_system(failure, errno, "Failed to exec into Firecracker");
	snprintf(path, sizeof path, "/%s", arguments->exec_name);
	snprintf(numbers[0], sizeof *numbers, "%" PRIu64, launch->started_us);
	snprintf(numbers[1], sizeof *numbers, "%" PRIu64, cpu);
	snprintf(numbers[2], sizeof *numbers, "%" PRIu64, launch->cpu_us + cpu);
	argv[n++] = path;
	argv[n++] = (char *)(uintptr_t) "--id";
	argv[n++] = (char *)(uintptr_t)arguments->id;
	argv[n++] = (char *)(uintptr_t) "--start-time-us";
	argv[n++] = numbers[0];
	argv[n++] = (char *)(uintptr_t) "--start-time-cpu-us";
	argv[n++] = numbers[1];
	argv[n++] = (char *)(uintptr_t) "--parent-cpu-time-us";
	argv[n++] = numbers[2];
	memcpy(argv + n, arguments->extra, extra * sizeof *argv);
	execve(path, argv, none);
	fail_system(failure, errno, "Failed to exec into Firecracker");
	free(argv);
	return -1;
}

/*
 * In a new PID namespace the program is process 1. When a session leader exits, the processes on its terminal get
 * SIGHUP; so if the jailer leads a session, the program gets its own. The child waits for the pid file to be written.
 */
static int enter_pid_namespace(struct launch *launch, const struct jail *jail, const struct arguments *arguments,
			       struct undo *undo, struct failure *failure)
{
	const bool leads = getsid(0) == getpid();
	struct outcome started, written;
	char byte = 0;
	long child;

	if (outcome_open(&started) || outcome_open(&written))
		return fail_system(failure, errno, "Failed cloning into a new child process");
	launch->cpu_us += microseconds(CLOCK_PROCESS_CPUTIME_ID);
	child = syscall(SYS_clone, CLONE_NEWPID | SIGCHLD, NULL, NULL, NULL, NULL);
	if (child < 0)
		return fail_system(failure, errno, "Failed cloning into a new child process");
	if (child > 0) {
		if (write_pid(jail, arguments, (pid_t)child, undo, failure)) {
			kill((pid_t)child, SIGKILL);
			return -1;
		}
		(void)!write(written.tell, "", 1);
		outcome_await(&started);
	}
	outcome_keep(launch, &started);
	close(written.tell);
	if (read(written.wait, &byte, 1) != 1)
		_exit(1); /* the parent reports the reason */
	{
		char name[NAME_MAX + 8];

		snprintf(name, sizeof name, "%s.pid", arguments->exec_name);
		undo_file(undo, jail->root, name);
	}
	if (leads && setsid() < 0)
		fail_system(failure, errno, "Failed to daemonize: setsid");
	else if (!become(arguments, failure))
		execute(launch, arguments, failure);
	return -1;
}

int launch(struct launch *launch, const struct jail *jail, const struct arguments *arguments, struct undo *undo,
	   struct failure *failure)
{
	struct outcome outcome;
	int status = 0;

	if (arguments->daemonize) {
		if (outcome_open(&outcome))
			return fail_system(failure, errno, "Failed to daemonize");
		status = daemonize(launch, &outcome, failure);
		outcome_keep(launch, &outcome);
	}
	if (!status && arguments->new_pid_ns)
		status = enter_pid_namespace(launch, jail, arguments, undo, failure);
	else if (!status && !(status = write_pid(jail, arguments, getpid(), undo, failure)) &&
		 !(status = become(arguments, failure)))
		status = execute(launch, arguments, failure);
	if (status)
		return_to_jailer();
	return status;
}
