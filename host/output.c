/* SPDX-License-Identifier: Apache-2.0 */
/* Writes files that nobody ever sees half done, and that leave nothing behind when they fail. */
#include "host/output.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/fail.h"

#define MODE 0644

/* what a signal handler has to remove: a process-wide matter by nature */
static char temporary[64];
static int temporary_directory = -1;

static const int deadly[] = {SIGHUP, SIGINT, SIGQUIT, SIGTERM};

static void remove_temporary(int number)
{
	unlinkat(temporary_directory, temporary, 0);
	/* the action was reset to its default: the signal ends the process once this handler returns */
	raise(number);
}

static void watch_signals(bool watch)
{
	for (size_t i = 0; i < sizeof deadly / sizeof *deadly; i++) {
		struct sigaction action = {.sa_flags = SA_RESETHAND}, old;

		if (sigaction(deadly[i], NULL, &old) < 0 || old.sa_handler == SIG_IGN)
			continue;
		action.sa_handler = watch ? remove_temporary : SIG_DFL;
		sigaction(deadly[i], &action, NULL);
	}
}

static void make_temporary_name(const struct output *output)
{
	temporary_directory = output->directory;
	snprintf(temporary, sizeof temporary, ".riffle-%ld.new", (long)getpid());
}

static void forget_temporary(void)
{
	watch_signals(false);
	temporary[0] = 0;
}

/* Opens the directory part of a path; *name is what follows. */
static int open_directory(const char *path, const char **name)
{
	const char *slash = strrchr(path, '/');
	char directory[4096];

	*name = slash ? slash + 1 : path;
	if (!slash)
		return open(".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if ((size_t)snprintf(directory, sizeof directory, "%.*s", (int)(slash - path) + 1, path) >= sizeof directory) {
		errno = ENAMETOOLONG;
		return -1;
	}
	return open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

static int create_named(struct output *output)
{
	make_temporary_name(output);
	watch_signals(true);
	output->fd = openat(output->directory, temporary, O_CREAT | O_EXCL | O_RDWR | O_CLOEXEC, MODE);
	if (output->fd < 0)
		forget_temporary();
	return output->fd;
}

int output_file_create(struct output *output, const char *path, bool replace, struct riffle_error *error)
{
	struct stat st;
	int status;

	*output = (struct output){.directory = -1, .fd = -1, .replace = replace};
	output->directory = open_directory(path, &output->name);
	if (output->directory < 0)
		return riffle_fail_system(error, errno, "output", "directory cannot be opened");
	status = 0;
	if (!*output->name)
		status = riffle_fail_system(error, EISDIR, "output", "has no file name");
	else if (!fstatat(output->directory, output->name, &st, AT_SYMLINK_NOFOLLOW)) {
		if (S_ISDIR(st.st_mode))
			status = riffle_fail_system(error, EISDIR, "output", "cannot be replaced");
		else if (!S_ISREG(st.st_mode) && !S_ISLNK(st.st_mode))
			status = riffle_fail(error, RIFFLE_ERR_IO, "output",
					     "is there and is not a regular file: it is not replaced");
		else if (!replace)
			status = riffle_fail_system(error, EEXIST, "output", "is there already (--force replaces it)");
	}
	if (!status) {
		output->fd = openat(output->directory, ".", O_TMPFILE | O_RDWR | O_CLOEXEC, MODE);
		if (output->fd < 0 && (errno == EOPNOTSUPP || errno == EISDIR || errno == ENOENT))
			create_named(output);
		if (output->fd < 0)
			status = riffle_fail_system(error, errno, "output", "cannot be made");
	}
	if (status)
		output_file_abandon(output);
	return status;
}

/* Links the nameless file to `name`; the way through /proc needs no privilege, unlike AT_EMPTY_PATH. */
static int link_to(const struct output *output, const char *name)
{
	char self[32];

	snprintf(self, sizeof self, "/proc/self/fd/%d", output->fd);
	return linkat(AT_FDCWD, self, output->directory, name, AT_SYMLINK_FOLLOW);
}

/* From the temporary name to the right one, which must not be somebody else's unless it may be replaced. */
static int rename_temporary(const struct output *output)
{
	int directory = output->directory;

	if (output->replace)
		return renameat(directory, temporary, directory, output->name);
	if (!renameat2(directory, temporary, directory, output->name, RENAME_NOREPLACE))
		return 0;
	if (errno != EINVAL)
		return -1;
	/* a file system that cannot say it so, 9p among them: a second name never replaces, then the first one goes */
	if (linkat(directory, temporary, directory, output->name, 0) < 0)
		return -1;
	return unlinkat(directory, temporary, 0);
}

static int give_name(struct output *output)
{
	bool named = temporary[0] != 0;

	if (!named) {
		if (!link_to(output, output->name))
			return 0;
		if (errno != EEXIST || !output->replace)
			return -1;
		/* a link replaces nothing: take a name for a moment, and rename */
		make_temporary_name(output);
		watch_signals(true);
		if (link_to(output, temporary) < 0) {
			forget_temporary();
			return -1;
		}
	}
	if (rename_temporary(output) < 0)
		return -1;
	forget_temporary();
	return 0;
}

int output_file_finish(struct output *output, struct riffle_error *error)
{
	int status = 0;

	if (give_name(output) < 0)
		status = riffle_fail_system(error, errno, "output", "cannot be given its name");
	output_file_abandon(output);
	return status;
}

void output_file_abandon(struct output *output)
{
	if (temporary[0]) {
		unlinkat(output->directory, temporary, 0);
		forget_temporary();
	}
	if (output->fd >= 0)
		close(output->fd);
	if (output->directory >= 0)
		close(output->directory);
	output->fd = output->directory = -1;
}
