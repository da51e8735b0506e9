/* SPDX-License-Identifier: Apache-2.0 */
/* Starts the guest's command, on pipes or on its own terminal. */
#include <asm/errno.h>

#include "guest/init.h"
#include "guest/sys.h"

#define O_RDWR 2
#define O_NOCTTY 0400
#define O_NONBLOCK 04000
#define O_CLOEXEC 02000000
#define F_SETFL 4
#define F_DUPFD_CLOEXEC 1030
#define TIOCSCTTY 0x540e
#define TIOCSWINSZ 0x5414
#define TIOCGPTN 0x80045430
#define TIOCSPTLCK 0x40045431
#define SIG_SETMASK 2
#define F_OK 0

static const char default_path[] = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

static uint32_t status_of(uint32_t kind, long error)
{
	return kind << 16 | ((uint32_t)-error & 0xffff);
}

static size_t length(const char *string)
{
	size_t n = 0;

	while (string[n])
		n++;
	return n;
}

static const char *path_of(char *const *environment)
{
	for (; *environment; environment++) {
		const char *e = *environment;

		if (e[0] == 'P' && e[1] == 'A' && e[2] == 'T' && e[3] == 'H' && e[4] == '=')
			return e + 5;
	}
	return default_path;
}

/* ---- in the child, which either executes the command or reports an error ---- */

/* As execvp(), runs a script without #! by the shell. */
static long execute_script(const char *file, const struct config *config)
{
	const char *argv[1024] = {"sh", file};

	if (config->argc + 2 > sizeof argv / sizeof *argv)
		return -E2BIG;
	for (size_t i = 1; i <= config->argc; i++)
		argv[i + 1] = config->argv[i];
	return SYS3(execve, "/bin/sh", argv, config->environment);
}

/* Returns only on failure: the kind of status, and *error. */
static uint32_t execute_file(const char *file, const struct config *config, long *error)
{
	bool there;

	*error = SYS3(execve, file, config->argv, config->environment);
	if (*error == -ENOEXEC)
		*error = execute_script(file, config);
	/* ENOENT may also mean that the file's interpreter is missing */
	there = (*error != -ENOENT && *error != -ENOTDIR) || SYS2(access, file, F_OK) >= 0;
	return there ? CHANNEL_STATUS_CANNOT_RUN : CHANNEL_STATUS_NOT_FOUND;
}

static uint32_t execute_in_path(const char *name, const struct config *config, long *error)
{
	uint32_t kind = CHANNEL_STATUS_NOT_FOUND, tried;
	long why, reason = -ENOENT;
	char file[4096];

	for (const char *at = path_of(config->environment), *end;; at = end + 1) {
		size_t used = 0, bytes = length(name);

		for (end = at; *end && *end != ':'; end++)
			;
		if ((size_t)(end - at) + bytes + 2 <= sizeof file) {
			for (const char *c = at; c < end; c++)
				file[used++] = *c;
			if (used)
				file[used++] = '/';
			for (size_t i = 0; i <= bytes; i++)
				file[used++] = name[i];
			tried = execute_file(file, config, &why);
			if (tried != CHANNEL_STATUS_NOT_FOUND && kind == CHANNEL_STATUS_NOT_FOUND) {
				kind = tried;
				reason = why;
			}
		}
		if (!*end)
			break;
	}
	*error = reason;
	return kind;
}

static uint32_t execute(const struct config *config)
{
	const char *name = config->argv[0];
	uint32_t kind;
	long error = 0;
	bool slash = false;

	if (config->workdir && (error = SYS1(chdir, config->workdir)) < 0)
		return status_of(CHANNEL_STATUS_NO_DIRECTORY, error);
	for (const char *c = name; *c; c++)
		slash |= *c == '/';
	if (config->program)
		kind = execute_file(config->program, config, &error);
	else if (slash)
		kind = execute_file(name, config, &error);
	else if (!*name)
		kind = CHANNEL_STATUS_NOT_FOUND, error = -ENOENT;
	else
		kind = execute_in_path(name, config, &error);
	return status_of(kind, error);
}

static _Noreturn void run_child(const struct config *config, const struct channel *channel, const int streams[3],
				bool terminal, int report)
{
	uint64_t none = 0;
	uint32_t status;

	SYS0(setsid);
	if (terminal)
		SYS3(ioctl, streams[0], TIOCSCTTY, 0);
	for (int i = 0; i < 3; i++)
		SYS2(dup2, streams[i], i);
	channel_drop(channel);
	SYS4(rt_sigprocmask, SIG_SETMASK, &none, NULL, sizeof none);
	status = execute(config);
	SYS3(write, report, &status, sizeof status);
	for (;;)
		SYS1(exit_group, 127);
}

/* ---- its streams ---- */

/* Descriptors 0 to 2 may be closed when init starts; the child's streams must not land there. */
static long above_standard(long fd)
{
	long copy;

	if (fd < 0 || fd > 2)
		return fd;
	copy = SYS3(fcntl, fd, F_DUPFD_CLOEXEC, 3);
	SYS1(close, fd);
	return copy;
}

static long make_pipe(int *read_end, int *write_end)
{
	int ends[2];
	long result = SYS2(pipe2, ends, O_CLOEXEC);

	if (result < 0)
		return result;
	*read_end = (int)above_standard(ends[0]);
	*write_end = (int)above_standard(ends[1]);
	return 0;
}

static long open_terminal(int *master, int *slave)
{
	char name[] = "/dev/pts/\0\0\0\0\0\0\0\0\0\0";
	int zero = 0, number = 0, digits = 0;
	long fd = above_standard(SYS3(open, "/dev/ptmx", O_RDWR | O_NOCTTY | O_CLOEXEC, 0));

	if (fd < 0)
		return fd;
	*master = (int)fd;
	SYS3(ioctl, fd, TIOCSPTLCK, &zero);
	SYS3(ioctl, fd, TIOCGPTN, &number);
	for (int n = number; n || !digits; n /= 10)
		digits++;
	for (int i = digits; i-- > 0; number /= 10)
		name[9 + i] = (char)('0' + number % 10);
	fd = above_standard(SYS3(open, name, O_RDWR | O_NOCTTY | O_CLOEXEC, 0));
	if (fd < 0) {
		SYS1(close, *master);
		return fd;
	}
	*slave = (int)fd;
	return 0;
}

static long make_streams(struct child *child, const struct config *config, int streams[3])
{
	const unsigned both = CONFIG_TERMINAL_IN | CONFIG_TERMINAL_OUT;
	long error;

	/* fall back to pipes if the kernel lacks pseudo-terminals */
	if ((config->terminal & both) == both && open_terminal(&child->out, &streams[0]) >= 0) {
		child->terminal = true;
		child->in = child->out;
		streams[1] = streams[2] = streams[0];
		return config->terminal & CONFIG_TERMINAL_ERR ? 0 : make_pipe(&child->err, &streams[2]);
	}
	if ((error = make_pipe(&streams[0], &child->in)) < 0 || (error = make_pipe(&child->out, &streams[1])) < 0)
		return error;
	return make_pipe(&child->err, &streams[2]);
}

void child_set_window(const struct child *child, uint32_t window)
{
	const uint16_t size[4] = {(uint16_t)(window >> 16), (uint16_t)window, 0, 0};

	if (child->terminal && window)
		SYS3(ioctl, child->out, TIOCSWINSZ, size);
}

static void make_nonblocking(int fd)
{
	if (fd >= 0)
		SYS3(fcntl, fd, F_SETFL, O_NONBLOCK | O_RDWR);
}

uint32_t child_start(struct child *child, const struct config *config, const struct channel *channel)
{
	int streams[3] = {-1, -1, -1}, report[2] = {-1, -1};
	uint32_t status = 0;
	long error;

	*child = (struct child){.pid = -1, .in = -1, .out = -1, .err = -1};
	if ((error = make_streams(child, config, streams)) < 0 || (error = make_pipe(&report[0], &report[1])) < 0)
		return status_of(CHANNEL_STATUS_INIT_FAILED, error);
	child_set_window(child, channel_get(channel, CHANNEL_WINDOW));
	child->pid = SYS0(fork);
	if (child->pid < 0)
		return status_of(CHANNEL_STATUS_INIT_FAILED, child->pid);
	if (child->pid == 0)
		run_child(config, channel, streams, child->terminal, report[1]);
	SYS1(close, report[1]);
	/* the terminal's slave stays open while the command runs, so that closing it in between causes no hang-up */
	for (int i = 0; i < 3; i++)
		if (!child->terminal || streams[i] != streams[0])
			SYS1(close, streams[i]);
	/* end of file: the command's program was executed */
	if (SYS3(read, report[0], &status, sizeof status) != sizeof status)
		status = 0;
	SYS1(close, report[0]);
	make_nonblocking(child->in);
	make_nonblocking(child->out);
	make_nonblocking(child->err);
	return status;
}
