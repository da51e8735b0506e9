/* SPDX-License-Identifier: Apache-2.0 */
/* riffle-jailer: runs a monitor without privileges in a jail, with the command line and steps of Firecracker's jailer.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/close_range.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <riffle/version.h>

#include "jailer/arguments.h"
#include "jailer/cgroup.h"
#include "jailer/jail.h"
#include "jailer/launch.h"

/* The version whose command line and steps these are. */
#define FIRECRACKER_VERSION "1.17.0-dev"

static int join_network(const char *path, struct failure *failure)
{
	int status = 0, fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);

	if (fd < 0)
		return fail_system(failure, errno, "Failed to open file %s", path);
	if (setns(fd, CLONE_NEWNET) < 0)
		status = fail_system(failure, errno, "Failed to join network namespace: netns");
	close(fd);
	return status;
}

static int set_limit(int which, const char *name, uint64_t value, struct failure *failure)
{
	const struct rlimit limit = {value, value};

	if (setrlimit((__rlimit_resource_t)which, &limit) < 0)
		return fail_system(failure, errno, "Failed to set limit for resource: %s", name);
	return 0;
}

static int set_limits(const struct arguments *arguments, struct failure *failure)
{
	if (arguments->file_size != UINT64_MAX && set_limit(RLIMIT_FSIZE, "fsize", arguments->file_size, failure))
		return -1;
	return set_limit(RLIMIT_NOFILE, "no-file", arguments->open_files, failure);
}

/* The steps, in Firecracker's order. */
static int run(struct arguments *arguments, struct launch *go, struct undo *undo, struct failure *failure)
{
	struct cgroups cgroups = {0};
	struct jail jail = {-1, ""};
	int userfaultfd;

	if (arguments_resolve(arguments, failure) || cgroups_find(&cgroups, arguments, "/proc/mounts", failure))
		return -1;
	userfaultfd = userfaultfd_minor();
	if (jail_separate_mounts(failure) || jail_make(&jail, arguments, undo, failure) ||
	    jail_copy(&jail, arguments, undo, failure))
		return -1;
	if (arguments->netns && join_network(arguments->netns, failure))
		return -1;
	if (set_limits(arguments, failure) || cgroups_enter(&cgroups, arguments, undo, failure))
		return -1;
	if (arguments->daemonize) {
		go->null = open("/dev/null", O_RDWR | O_CLOEXEC);
		if (go->null < 0)
			return fail_system(failure, errno, "Failed to open /dev/null");
	}
	if (jail_enter(&jail, failure) || jail_furnish(&jail, arguments, userfaultfd, undo, failure))
		return -1;
	return launch(go, &jail, arguments, undo, failure);
}

/* If called through a link named `jailer`, in the form that callers of Firecracker's jailer parse. */
static void print_version(const char *called)
{
	const char *slash = called ? strrchr(called, '/') : NULL;

	if (called && !strcmp(slash ? slash + 1 : called, "jailer"))
		printf("Jailer v%s\n\n", FIRECRACKER_VERSION);
	printf("riffle-jailer %s\n", RIFFLE_VERSION_STRING);
}

/* If a standard stream were closed, the next file opened would take its place. */
static int keep_standard_streams(void)
{
	for (int fd = 0; fd <= 2; fd++)
		if (fcntl(fd, F_GETFD) < 0 && open("/dev/null", O_RDWR) != fd)
			return -1;
	return 0;
}

int main(int argc, char **argv)
{
	static struct arguments arguments;
	static struct failure failure;
	static struct undo undo;
	struct launch go = {.started_us = microseconds(CLOCK_MONOTONIC), .null = -1, .errors = STDERR_FILENO};

	if (keep_standard_streams() || syscall(SYS_close_range, 3, ~0u, CLOSE_RANGE_UNSHARE) < 0) {
		fprintf(stderr, "Failed to sanitize the Jailer process: %s\n", strerror(errno));
		return 1;
	}
	clearenv();
	if (arguments_parse(&arguments, argc, argv, &failure)) {
		fprintf(stderr, "%s\n\nFor more information try --help.\n", failure.text);
		return 1;
	}
	if (arguments.help || arguments.version) {
		print_version(argv[0]);
		if (arguments.help) {
			putchar('\n');
			arguments_help();
		}
		return fflush(stdout) ? 1 : 0;
	}
	run(&arguments, &go, &undo, &failure);
	undo_all(&undo);
	dprintf(go.errors, "Jailer error: %s\n", failure.text);
	launch_failed(&go);
	return 1;
}
