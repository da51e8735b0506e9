/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a compromised thread of a monitor could try: each attempt is made in a process of its own, confined as a thread
 * of the kind that is asked for, with the descriptors of a monitor open. Prints "KIND NAME RESULT" for each: killed,
 * refused or REACHED.  usage: escape KIND|open VICTIM-PID PORT PARENT-PID [--only NAME]; riffle-jailer's options before
 * are skipped
 */
#include <linux/io_uring.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>

#include "escape.h"
#include "monitor/confine/confine.h"

/* The file is what it was before each attempt, where it can be made: outside of a jail. */
static void restore(void)
{
	int fd = open(SECRET, O_WRONLY | O_CREAT | O_TRUNC, 0600);

	if (fd < 0)
		return;
	(void)!write(fd, "secret", 6);
	close(fd);
	unlink(NEW);
}

static const char *attempt(int kind, bool (*act)(void))
{
	int status;
	pid_t child;

	fflush(NULL);
	child = fork();
	if (child == 0) {
		struct riffle_error error;

		setrlimit(RLIMIT_CORE, &(struct rlimit){0, 0});
		signal(SIGSYS, SIG_DFL);
		alarm(10);
		if (kind >= 0 && confine_thread((enum confine_kind)kind, &error))
			_exit(90);
		errno = 0;
		_exit(act() ? 1 : 0);
	}
	if (child < 0 || waitpid(child, &status, 0) != child)
		return "LOST";
	if (WIFSIGNALED(status))
		return WTERMSIG(status) == SIGSYS ? "killed" : WTERMSIG(status) == SIGSEGV ? "crashed" : "DIED";
	return WEXITSTATUS(status) == 1 ? "REACHED" : WEXITSTATUS(status) ? "UNCONFINED" : "refused";
}

int main(int argc, char **argv)
{
	int kind = -1, at = argc - 4;

	if (argc == 2 && !strcmp(argv[1], "--kinds")) {
		for (int i = 0; i < CONFINE_KINDS; i++)
			puts(attempt_kinds[i] ? attempt_kinds[i] : "a kind without a name here");
		return 0;
	}
	if (argc < 5)
		return 1; /* execute_itself() came here: its attempt's exit status */
	for (int i = 0; i < CONFINE_KINDS; i++)
		if (!strcmp(argv[at], attempt_kinds[i]))
			kind = i;
	if (kind < 0 && strcmp(argv[at], "open"))
		return 2;
	victim = (pid_t)atoi(argv[at + 1]);
	port = atoi(argv[at + 2]);
	starter = (pid_t)atoi(argv[at + 3]);
	kvm = open("/dev/kvm", O_RDWR);
	tun = open("/dev/net/tun", O_RDWR);
	disk = open("disk", O_RDWR | O_CREAT, 0600);
	(void)epoll_create1(0);
	(void)syscall(SYS_io_uring_setup, 4, &(struct io_uring_params){0});
	printf("begin %d %d %d\n", kvm >= 0, tun >= 0, disk >= 0);
	for (size_t i = 0; attempt_lists[i]; i++)
		for (const struct attempt *a = attempt_lists[i]; a->name; a++) {
			restore();
			printf("%s %s %s\n", argv[at], a->name, attempt(kind, a->act));
		}
	puts("end");
	return 0;
}
