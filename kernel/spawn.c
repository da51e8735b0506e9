/* SPDX-License-Identifier: Apache-2.0 */
/* Starts the worker, waits for it, and turns what it says into an error of this process. */
#include "kernel/spawn.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <spawn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/fail.h"

#define PROGRAM "riffle-prepare"
#define LINE_BYTES 512

/*
 * What the child gets, in the order in which it finds it: behind the standard descriptors, which lead to /dev/null,
 * without gaps for what there is not.
 */
enum { CHILD_KERNEL, CHILD_OUT, CHILD_ERROR, CHILD_RELOCS, CHILD_DEBUG, CHILD_FILES };
enum { CHILD_FIRST = 3, CHILD_END = CHILD_FIRST + CHILD_FILES };

static bool beside(const char *directory, size_t length, char *path, size_t bytes)
{
	int n = snprintf(path, bytes, "%.*s/" PROGRAM, (int)length, directory);

	return n > 0 && (size_t)n < bytes && access(path, X_OK) == 0;
}

bool find_prepare_program(char *path, size_t bytes)
{
	char self[4096];
	ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);

	if (n > 0) {
		char *slash;

		self[n] = 0;
		slash = strrchr(self, '/');
		if (slash && beside(self, (size_t)(slash - self), path, bytes))
			return true;
	}
	return beside(RIFFLE_LIBEXECDIR, strlen(RIFFLE_LIBEXECDIR), path, bytes) ||
	       beside(RIFFLE_BINDIR, strlen(RIFFLE_BINDIR), path, bytes);
}

void spawn_format_error(const struct riffle_error *error, char *line, size_t bytes)
{
	snprintf(line, bytes, "%d %d %d %" PRIu64 " %d %" PRIu64 "\t%s\t%s\n", error->status, error->sys_errno,
		 error->has_found, error->found, error->has_expected, error->expected, error->field, error->problem);
}

/* The worker has read hostile bytes: what it says is shown to a person only as plain text of bounded length. */
static bool copy_words(char *to, size_t bytes, const char *from, size_t length)
{
	if (!length || length >= bytes)
		return false;
	for (size_t i = 0; i < length; i++)
		if (from[i] < ' ' || from[i] > '~')
			return false;
	memcpy(to, from, length);
	to[length] = 0;
	return true;
}

static int show_of(int has)
{
	return has >= 0 && has <= RIFFLE_SHOW_VERSION ? has : RIFFLE_SHOW_NUMBER;
}

bool spawn_parse_error(const char *line, struct spawn_words *words, struct riffle_error *error)
{
	int status, sys_errno, has_found, has_expected, length = 0;
	uint64_t found, expected;
	const char *field, *problem, *end;

	if (sscanf(line, "%d %d %d %" SCNu64 " %d %" SCNu64 "%n", &status, &sys_errno, &has_found, &found,
		   &has_expected, &expected, &length) != 6 ||
	    line[length] != '\t')
		return false;
	field = line + length + 1;
	problem = strchr(field, '\t');
	if (!problem)
		return false;
	problem++;
	end = strchr(problem, '\n');
	if (!end || end[1] || status <= RIFFLE_OK || status > RIFFLE_ERR_RANDOM)
		return false;
	if (!copy_words(words->field, sizeof words->field, field, (size_t)(problem - 1 - field)) ||
	    !copy_words(words->problem, sizeof words->problem, problem, (size_t)(end - problem)))
		return false;
	riffle_fail_full(error, (enum riffle_status)status, sys_errno, words->field, words->problem, show_of(has_found),
			 found, show_of(has_expected), expected);
	return true;
}

/* Moves a descriptor out of the way of the numbers that the child's own will get. */
static int lift(int fd)
{
	return fcntl(fd, F_DUPFD_CLOEXEC, CHILD_END);
}

static int add_actions(posix_spawn_file_actions_t *actions, const int fds[CHILD_FILES], const int number[CHILD_FILES])
{
	int rc = 0, end = CHILD_FIRST;

	for (int fd = 0; !rc && fd < CHILD_FIRST; fd++)
		rc = posix_spawn_file_actions_addopen(actions, fd, "/dev/null", O_RDWR, 0);
	for (int i = 0; !rc && i < CHILD_FILES; i++) {
		if (fds[i] < 0)
			continue;
		rc = posix_spawn_file_actions_adddup2(actions, fds[i], number[i]);
		end = number[i] + 1;
	}
	return rc ? rc : posix_spawn_file_actions_addclosefrom_np(actions, end);
}

static int own_program = -1;

void spawn_set_program(int fd)
{
	own_program = fd;
}

/* In the child, of a process with threads: system calls alone. */
static _Noreturn void become_worker(int program, const int fds[CHILD_FILES], const int number[CHILD_FILES],
				    char *const *argv, char *const *environment)
{
	int end = CHILD_FIRST, null = open("/dev/null", O_RDWR | O_CLOEXEC);
	sigset_t none;

	if (null < 0)
		null = memfd_create("null", MFD_CLOEXEC);
	for (int fd = 0; null >= 0 && fd < CHILD_FIRST; fd++)
		dup2(null, fd);
	for (int i = 0; i < CHILD_FILES; i++) {
		if (fds[i] < 0)
			continue;
		if (dup2(fds[i], number[i]) < 0)
			_exit(127);
		end = number[i] + 1;
	}
	if (close_range((unsigned)end, ~0u, CLOSE_RANGE_CLOEXEC))
		_exit(127);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	execveat(program, "", argv, environment, AT_EMPTY_PATH);
	_exit(127);
}

static int start_own(pid_t *child, const int fds[CHILD_FILES], const int number[CHILD_FILES], char *const *argv,
		     char *const *environment, struct riffle_error *error)
{
	int program = lift(own_program);

	*child = program < 0 ? -1 : fork();
	if (*child == 0)
		become_worker(program, fds, number, argv, environment);
	if (program >= 0)
		close(program);
	return *child < 0 ? riffle_fail_system(error, errno, PROGRAM, "cannot be started") : 0;
}

static int start(pid_t *child, const int fds[CHILD_FILES], enum riffle_compression storage, const char *no_shuffle,
		 struct riffle_error *error)
{
	char path[4096], text[CHILD_FILES][12], method[12], reason[LINE_BYTES];
	char program[] = PROGRAM, option[] = WORKER_OPTION;
	char *argv[] = {program,
			option,
			text[CHILD_KERNEL],
			text[CHILD_RELOCS],
			text[CHILD_DEBUG],
			text[CHILD_OUT],
			text[CHILD_ERROR],
			method,
			NULL,
			NULL};
	char *environment[] = {NULL};
	int number[CHILD_FILES], next = CHILD_FIRST;
	posix_spawn_file_actions_t actions;
	posix_spawnattr_t attributes;
	sigset_t none;
	int rc;

	if (!find_prepare_program(path, sizeof path)) {
		*path = 0;
		if (own_program < 0)
			return riffle_fail_system(error, ENOENT, PROGRAM,
						  "is neither next to this program nor installed");
	}
	for (int i = 0; i < CHILD_FILES; i++) {
		number[i] = fds[i] < 0 ? -1 : next++;
		snprintf(text[i], sizeof text[i], "%d", number[i]);
	}
	snprintf(method, sizeof method, "%d", (int)storage);
	if (no_shuffle) {
		snprintf(reason, sizeof reason, "%s", no_shuffle);
		argv[sizeof argv / sizeof *argv - 2] = reason;
	}
	if (!*path)
		return start_own(child, fds, number, argv, environment, error);
	rc = posix_spawn_file_actions_init(&actions);
	if (rc)
		return riffle_fail_system(error, rc, PROGRAM, "cannot be started");
	rc = posix_spawnattr_init(&attributes);
	if (!rc) {
		sigemptyset(&none);
		posix_spawnattr_setsigmask(&attributes, &none);
		posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK);
		rc = add_actions(&actions, fds, number);
		if (!rc)
			rc = posix_spawn(child, path, &actions, &attributes, argv, environment);
		posix_spawnattr_destroy(&attributes);
	}
	posix_spawn_file_actions_destroy(&actions);
	return rc ? riffle_fail_system(error, rc, PROGRAM, "cannot be started") : 0;
}

/* Reads until the worker closes its end, which it does at the latest when it ends. */
static void read_line(int fd, char *line, size_t bytes)
{
	size_t length = 0;

	for (;;) {
		char rest[64];
		bool room = length < bytes - 1;
		ssize_t n = read(fd, room ? line + length : rest, room ? bytes - 1 - length : sizeof rest);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			break;
		if (room)
			length += (size_t)n;
	}
	line[length] = 0;
}

static int judge_end(int ended, const char *line, struct spawn_words *words, struct riffle_error *error)
{
	if (WIFEXITED(ended) && WEXITSTATUS(ended) == 0 && !*line)
		return 0;
	if (*line && spawn_parse_error(line, words, error))
		return error->status;
	if (WIFSIGNALED(ended) && WTERMSIG(ended) == SIGXCPU)
		return riffle_fail(error, RIFFLE_ERR_UNSUPPORTED, PROGRAM, "took more CPU time than any kernel needs");
	if (WIFSIGNALED(ended))
		return riffle_fail_found(error, RIFFLE_ERR_IO, PROGRAM, "was ended by a signal",
					 (uint64_t)WTERMSIG(ended));
	return riffle_fail_found(error, RIFFLE_ERR_IO, PROGRAM, "ended without saying why",
				 (uint64_t)WEXITSTATUS(ended));
}

/* `ended` is how the child ended, as wait() has it; 0 when none was started. */
static int run_worker(struct spawn_words *words, const struct spawn_files *files, const char *no_shuffle, int *ended,
		      struct riffle_error *error)
{
	int fds[CHILD_FILES] = {[CHILD_KERNEL] = files->kernel,
				[CHILD_OUT] = files->out,
				[CHILD_RELOCS] = files->relocs,
				[CHILD_DEBUG] = files->debug};
	char line[LINE_BYTES];
	int pipe_fds[2];
	int status = 0;
	pid_t child;

	*ended = 0;
	if (pipe2(pipe_fds, O_CLOEXEC) < 0)
		return riffle_fail_system(error, errno, PROGRAM, "cannot be given a pipe");
	fds[CHILD_ERROR] = pipe_fds[1];
	for (int i = 0; i < CHILD_FILES; i++) {
		if (fds[i] < 0)
			continue;
		fds[i] = lift(fds[i]);
		if (fds[i] < 0 && !status)
			status = riffle_fail_system(error, errno, PROGRAM, "cannot be given its descriptors");
	}
	close(pipe_fds[1]);
	if (!status)
		status = start(&child, fds, files->storage, no_shuffle, error);
	for (int i = 0; i < CHILD_FILES; i++)
		if (fds[i] >= 0)
			close(fds[i]);
	if (status) {
		close(pipe_fds[0]);
		return status;
	}
	read_line(pipe_fds[0], line, sizeof line);
	close(pipe_fds[0]);
	while (waitpid(child, ended, 0) < 0)
		if (errno != EINTR)
			return riffle_fail_system(error, errno, PROGRAM, "cannot be waited for");
	return judge_end(*ended, line, words, error);
}

/* By a signal that comes of what it did with the kernel, as SIGKILL by who is short of memory does not. */
static bool is_own_fault(int ended)
{
	static const int signals[] = {SIGXCPU, SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT, SIGTRAP, SIGSYS};

	for (size_t i = 0; i < sizeof signals / sizeof *signals; i++)
		if (WIFSIGNALED(ended) && WTERMSIG(ended) == signals[i])
			return true;
	return false;
}

int spawn_worker(struct spawn_words *words, const struct spawn_files *files, struct riffle_error *error)
{
	struct sigaction usual = {.sa_handler = SIG_DFL}, before;
	char why[LINE_BYTES];
	int status, ended;

	/* who started us may have SIGCHLD ignored, and then nobody learns how a child ended */
	sigaction(SIGCHLD, &usual, &before);
	status = run_worker(words, files, NULL, &ended, error);
	if (status && is_own_fault(ended) && files->debug < 0 && !ftruncate(files->out, 0)) {
		riffle_error_format(error, why, sizeof why);
		status = run_worker(words, files, why, &ended, error);
	}
	sigaction(SIGCHLD, &before, NULL);
	return status;
}

const char *spawn_blame(const struct riffle_error *error, const char *kernel, const char *relocs, const char *debug)
{
	if (debug && !strcmp(error->field, SPAWN_DEBUG_FIELD))
		return debug;
	/* one that is not wanted at all is no fault of its own */
	if (relocs && error->status != RIFFLE_ERR_ARGUMENT &&
	    (!strcmp(error->field, "relocation list") || !strcmp(error->field, "relocation file")))
		return relocs;
	return kernel;
}
