/* SPDX-License-Identifier: Apache-2.0 */
/* Opens and creates files below an open directory in which somebody else may put links: none is ever followed. */
#include "jailer/below.h"

#include <errno.h>
#include <linux/openat2.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

int below_open(int directory, const char *path, int flags, mode_t mode)
{
	const struct open_how how = {
	    .flags = (unsigned)(flags | O_CLOEXEC | (flags & O_PATH ? 0 : O_NOCTTY)),
	    .mode = flags & O_CREAT ? mode : 0,
	    .resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS,
	};
	long fd;

	/* EAGAIN: raced with a rename; openat2(2) asks to try again */
	do
		fd = syscall(SYS_openat2, directory, path, &how, sizeof how);
	while (fd < 0 && errno == EAGAIN);
	return (int)fd;
}

static int make_one(int directory, const char *name, mode_t mode, struct undo *undo)
{
	if (mkdirat(directory, name, mode) == 0)
		undo_directory(undo, directory, name);
	else if (errno != EEXIST)
		return -1;
	return below_open(directory, name, O_PATH | O_DIRECTORY, 0);
}

int below_make_directory(int directory, const char *path, mode_t mode, struct undo *undo)
{
	int at = fcntl(directory, F_DUPFD_CLOEXEC, 3);

	while (at >= 0 && *path) {
		char name[NAME_MAX + 1];
		size_t length = strcspn(path, "/");
		int next, why;

		if (length > NAME_MAX) {
			close(at);
			errno = ENAMETOOLONG;
			return -1;
		}
		memcpy(name, path, length);
		name[length] = 0;
		path += length + (path[length] == '/');
		next = make_one(at, name, mode, undo);
		why = errno;
		close(at);
		errno = why;
		at = next;
	}
	return at;
}

int below_write(int directory, const char *path, const char *text)
{
	int fd = below_open(directory, path, O_WRONLY, 0);
	ssize_t written;
	int why;

	if (fd < 0)
		return -1;
	written = write(fd, text, strlen(text));
	why = written < 0 ? errno : EIO;
	close(fd);
	if (written >= 0 && (size_t)written == strlen(text))
		return 0;
	errno = why;
	return -1;
}

int below_read_line(int directory, const char *path, char *line, size_t bytes)
{
	int fd = below_open(directory, path, O_RDONLY, 0);
	ssize_t got;
	int why;

	if (fd < 0)
		return -1;
	got = read(fd, line, bytes - 1);
	why = errno;
	close(fd);
	if (got < 0) {
		errno = why;
		return -1;
	}
	line[got] = 0;
	line[strcspn(line, "\n")] = 0;
	return 0;
}
