/* SPDX-License-Identifier: Apache-2.0 */
/* riffle bench start: from exec of `riffle run` to its first KVM_RUN, against a plain copy, in one interleaved run. */
#include "bench/load/start.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <spawn.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "common/fail.h"
#include "host/huge.h"

extern char **environ;

static uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

/* riffle lies beside the program that runs this. */
static bool find_riffle(char *path, size_t bytes)
{
	ssize_t n = readlink("/proc/self/exe", path, bytes - 8);
	char *slash;

	if (n <= 0)
		return false;
	path[n] = 0;
	slash = strrchr(path, '/');
	if (!slash || (size_t)(slash - path) + sizeof "/riffle" > bytes)
		return false;
	strcpy(slash, "/riffle");
	return access(path, X_OK) == 0;
}

static int spawn(pid_t *child, int *read_fd, const char *riffle, const struct start_request *request,
		 struct riffle_error *error)
{
	char start[32], randomize[32], kvm[] = "--accept-emulation", timer[] = "--boot-timer", run[] = "run",
				       relocs[] = "--relocs", small[] = "--no-huge-pages", program[4096], name[4096],
				       list[4096];
	char *argv[11] = {program, run, timer, kvm, randomize, start, name};
	unsigned argc = 7;
	posix_spawn_file_actions_t actions;
	int pipe_fds[2], rc;

	if (pipe2(pipe_fds, O_CLOEXEC) < 0)
		return riffle_fail_system(error, errno, "pipe", "failed");
	snprintf(program, sizeof program, "%s", riffle);
	snprintf(name, sizeof name, "%s", request->kernel);
	snprintf(list, sizeof list, "%s", request->relocs ? request->relocs : "");
	snprintf(randomize, sizeof randomize, "--randomize=%s", request->mode);
	if (request->relocs) {
		argv[argc++] = relocs;
		argv[argc++] = list;
	}
	if (!request->huge_pages)
		argv[argc] = small;
	posix_spawn_file_actions_init(&actions);
	posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
	posix_spawn_file_actions_addopen(&actions, 1, "/dev/null", O_WRONLY, 0);
	posix_spawn_file_actions_adddup2(&actions, pipe_fds[1], 2);
	snprintf(start, sizeof start, "--start-time=%" PRIu64, now_ns());
	rc = posix_spawn(child, program, &actions, NULL, argv, environ);
	posix_spawn_file_actions_destroy(&actions);
	close(pipe_fds[1]);
	if (rc) {
		close(pipe_fds[0]);
		return riffle_fail_system(error, rc, "riffle", "cannot be started");
	}
	*read_fd = pipe_fds[0];
	return RIFFLE_OK;
}

static bool figure(const char *line, const char *name, double *ms)
{
	const char *at = strstr(line, name);

	return at && sscanf(at + strlen(name), "%lf", ms) == 1;
}

/* Reads what riffle prints until its first KVM_RUN; ends it then. What it said last is why there was none. */
static int measure_once(struct start_figures *f, const char *riffle, const struct start_request *request,
			struct riffle_error *error)
{
	static char line[512], why[512];
	bool done = false;
	FILE *from;
	pid_t child;
	int fd, status;

	status = spawn(&child, &fd, riffle, request, error);
	if (status)
		return status;
	strcpy(why, "did not reach its first KVM_RUN");
	from = fdopen(fd, "r");
	while (from && !done && fgets(line, sizeof line, from)) {
		figure(line, "CPU of load and relocate", &f->load_cpu_ms);
		figure(line, "CPU, all threads", &f->cpu_ms);
		done = figure(line, "start to first guest instruction", &f->start_ms);
		line[strcspn(line, "\n")] = 0;
		snprintf(why, sizeof why, "%s", line + (strncmp(line, "riffle: ", 8) ? 0 : 8));
	}
	/* an emulating /dev/kvm is in no hurry: what the guest does from here on is of no interest */
	kill(child, SIGKILL);
	while (waitpid(child, NULL, 0) < 0 && errno == EINTR)
		;
	if (from)
		fclose(from);
	return done ? RIFFLE_OK : riffle_fail(error, RIFFLE_ERR_IO, "riffle run", why);
}

int bench_start(struct start_figures *figures, double *floor_ms, unsigned runs, const struct start_request *request,
		uint64_t load_bytes, struct riffle_error *error)
{
	size_t bytes = load_bytes;
	uint8_t *source = map_huge(&bytes), *target = map_huge(&bytes);
	char riffle[4096];
	int status = RIFFLE_OK;

	if (!source || !target)
		return riffle_fail_system(error, errno, "memory", "for the measurement cannot be allocated");
	if (!find_riffle(riffle, sizeof riffle))
		return riffle_fail(error, RIFFLE_ERR_IO, "riffle", "is not beside this program");
	memset(source, 1, bytes);
	memset(target, 2, bytes);
	for (unsigned i = 0; !status && i <= runs; i++) {
		struct start_figures once = {0};
		uint64_t before = now_ns();
		double copy_ms;

		memcpy(target, source, load_bytes);
		copy_ms = (double)(now_ns() - before) / 1e6;
		status = measure_once(&once, riffle, request, error);
		/* the first round warms */
		if (i) {
			figures[i - 1] = once;
			floor_ms[i - 1] = copy_ms;
		}
	}
	munmap(source, bytes);
	munmap(target, bytes);
	return status;
}
