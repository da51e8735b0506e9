/* SPDX-License-Identifier: Apache-2.0 */
/* Opens input files by path or descriptor, judges whom they belong to, and says what is wrong with them. */
#include "host/input.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <riffle/plan.h>

#include "common/fail.h"
#include "host/shown.h"

static int open_descriptor(int *fd, const char *digits, struct riffle_error *error)
{
	char *end;
	long number;

	errno = 0;
	number = strtol(digits, &end, 10);
	if (*digits < '0' || *digits > '9' || *end || errno || number > INT_MAX)
		return riffle_fail(error, RIFFLE_ERR_ARGUMENT, "fd:N", "N is no descriptor's number");
	*fd = fcntl((int)number, F_DUPFD_CLOEXEC, 3);
	if (*fd < 0)
		return riffle_fail_system(error, errno, "file", "is no open descriptor");
	return 0;
}

int input_open(int *fd, struct stat *st, const char *name, struct riffle_error *error)
{
	int status;

	if (!strncmp(name, "fd:", 3)) {
		status = open_descriptor(fd, name + 3, error);
		if (status)
			return status;
	} else {
		*fd = open(name, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
		if (*fd < 0)
			return riffle_fail_system(error, errno, "file", "cannot be opened");
	}
	if (fstat(*fd, st) < 0)
		status = riffle_fail_system(error, errno, "file", "cannot be examined");
	else if (S_ISDIR(st->st_mode))
		status = riffle_fail(error, RIFFLE_ERR_FORMAT, "file", "is a directory, not a kernel");
	else if (!S_ISREG(st->st_mode))
		status = riffle_fail(error, RIFFLE_ERR_FORMAT, "file", "is not a regular file");
	else
		return 0;
	close(*fd);
	*fd = -1;
	return status;
}

static bool names_descriptor(const char *name)
{
	return !strcmp(name, "/dev/stdin") || !strncmp(name, "/dev/fd/", 8) || !strncmp(name, "/proc/self/fd/", 14);
}

int input_open_text(const char *name)
{
	int fd = open(name, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY), number = 0;
	struct stat st;

	if (fd < 0)
		return -1;
	if (fstat(fd, &st) < 0)
		number = errno;
	else if (S_ISDIR(st.st_mode))
		number = EISDIR;
	else if (names_descriptor(name))
		number = fcntl(fd, F_SETFL, O_RDONLY) < 0 ? errno : 0;
	else if (!S_ISREG(st.st_mode))
		number = EINVAL;
	if (!number)
		return fd;
	close(fd);
	errno = number;
	return -1;
}

const char *input_open_problem(int number)
{
	return number == EINVAL ? "Not a regular file" : strerror(number);
}

static bool sealed(int fd)
{
	int seals = fcntl(fd, F_GET_SEALS);

	return seals >= 0 && (seals & F_SEAL_WRITE);
}

int input_trust(int fd, const struct stat *st, struct riffle_error *error)
{
	if (st->st_uid != 0 && st->st_uid != geteuid())
		return riffle_fail_expected(error, RIFFLE_ERR_TRUST, "owner",
					    "is neither root nor the user that runs this", st->st_uid, geteuid());
	/* a memfd's mode lets everybody write, whoever can get hold of it: what counts there is the seal */
	if ((st->st_mode & (S_IWGRP | S_IWOTH)) && !sealed(fd))
		return riffle_fail(error, RIFFLE_ERR_TRUST, "mode", "lets its group or others change it (chmod go-w)");
	return 0;
}

bool input_is_prepared(int fd)
{
	uint8_t start[8];

	return pread(fd, start, sizeof start, 0) == sizeof start && riffle_plan_is_prepared(start, sizeof start);
}

void report_error(const char *file, const struct riffle_error *error)
{
	char line[700];

	riffle_error_format(error, line, sizeof line);
	/* a field may be the name of a section, as the file has it */
	fprintf(stderr, "riffle: %s%s%s\n", SHOWN(file), file ? ": " : "", SHOWN(line));
}

void report_not_utf8(const char *file)
{
	struct riffle_error error;

	riffle_fail(&error, RIFFLE_ERR_ARGUMENT, "cannot be said in JSON", "its name is not UTF-8");
	report_error(file, &error);
}

int with_output(int code)
{
	if (!fflush(stdout) && !ferror(stdout))
		return code;
	if (code != EXIT_FAILURE && code != EXIT_USAGE)
		fputs("riffle: standard output: cannot be written\n", stderr);
	return EXIT_FAILURE;
}

void open_standard_descriptors(void)
{
	struct pollfd standard[] = {{.fd = STDIN_FILENO}, {.fd = STDOUT_FILENO}, {.fd = STDERR_FILENO}};

	if (poll(standard, 3, 0) < 0)
		_exit(EXIT_FAILURE);
	for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++)
		/* the lowest free number is the closed one, since those below are open by now */
		if (standard[fd].revents & POLLNVAL && open("/dev/null", O_RDWR) != fd)
			_exit(EXIT_FAILURE);
}
