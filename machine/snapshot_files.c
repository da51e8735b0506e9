/* SPDX-License-Identifier: Apache-2.0 */
/* The two files of a snapshot as they replace an earlier one: both, or neither. */
#include "machine/snapshot_files.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "common/fail.h"

int snapshot_file_check(int directory, const char *name, struct stat *st, struct riffle_error *error)
{
	if (fstatat(directory, name, st, AT_SYMLINK_NOFOLLOW) < 0) {
		memset(st, 0, sizeof *st);
		return errno == ENOENT ? 0 : riffle_fail_system(error, errno, "file", "cannot be examined");
	}
	if (S_ISREG(st->st_mode))
		return 0;
	return riffle_fail(error, RIFFLE_ERR_ARGUMENT, "file",
			   S_ISLNK(st->st_mode)   ? "is a symbolic link, which a snapshot does not replace"
			   : S_ISDIR(st->st_mode) ? "is a directory"
						  : "is not a regular file");
}

/* The directory part of a path, "." without one. False: too long. */
static bool directory_of(const char *path, char *directory, size_t room)
{
	const char *slash = strrchr(path, '/');
	int bytes = !slash ? 1 : slash > path ? (int)(slash - path) : 1;

	return (size_t)snprintf(directory, room, "%.*s", bytes, slash ? path : ".") < room;
}

/* The directory that a name is in; -1: it cannot be opened. */
static int open_directory_of(int directory, const char *name)
{
	char path[4096];

	return directory_of(name, path, sizeof path) ? openat(directory, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
}

static const char *last_part(const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash ? slash + 1 : path;
}

bool snapshot_files_are_one(const char *one, const struct stat *one_st, const char *other, const struct stat *other_st)
{
	char one_directory[4096], other_directory[4096];
	struct stat a, b;

	if (one_st->st_mode || other_st->st_mode)
		return one_st->st_mode && other_st->st_mode && one_st->st_dev == other_st->st_dev &&
		       one_st->st_ino == other_st->st_ino;
	if (strcmp(last_part(one), last_part(other)) != 0)
		return false;
	return !directory_of(one, one_directory, sizeof one_directory) ||
	       !directory_of(other, other_directory, sizeof other_directory) ||
	       (stat(one_directory, &a) == 0 && stat(other_directory, &b) == 0 && a.st_dev == b.st_dev &&
		a.st_ino == b.st_ino);
}

int snapshot_file_trust(const struct stat *st, struct riffle_error *error)
{
	if (st->st_uid != 0 && st->st_uid != geteuid())
		return riffle_fail_expected(error, RIFFLE_ERR_TRUST, "owner",
					    "is neither root nor the user that runs this", st->st_uid, geteuid());
	if (st->st_mode & (S_IWGRP | S_IWOTH))
		return riffle_fail(error, RIFFLE_ERR_TRUST, "mode", "lets its group or others change it (chmod go-w)");
	return 0;
}

static int lock(int fd)
{
	struct flock whole = {.l_type = F_WRLCK, .l_whence = SEEK_SET};

	return fcntl(fd, F_OFD_SETLK, &whole);
}

int snapshot_file_make(struct snapshot_file *file, int directory, const char *name, const char *tag,
		       struct riffle_error *error)
{
	*file = (struct snapshot_file){.directory = directory, .name = name, .fd = -1};
	if ((size_t)snprintf(file->part, sizeof file->part, "%s.%s.part", name, tag) >= sizeof file->part ||
	    (size_t)snprintf(file->old, sizeof file->old, "%s.%s.old", name, tag) >= sizeof file->old)
		return riffle_fail(error, RIFFLE_ERR_ARGUMENT, "path", "is too long");
	/* it shows the kernel's layout: for nobody else to read, and not a file that somebody has opened already */
	file->fd = openat(directory, file->part, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (file->fd < 0)
		return riffle_fail_system(error, errno, "file", "cannot be made");
	/* nobody sweeps away what its writer has; a file system without locks has nothing swept either */
	lock(file->fd);
	return 0;
}

/* Whether a name is of those that snapshot_file_make() gives beside `name`. */
static bool is_left_of(const char *entry, const char *name, const char *suffix)
{
	size_t bytes = strlen(name);

	return !strncmp(entry, name, bytes) && entry[bytes] == '.' &&
	       strspn(entry + bytes + 1, "0123456789abcdef") == SNAPSHOT_TAG_DIGITS &&
	       !strcmp(entry + bytes + 1 + SNAPSHOT_TAG_DIGITS, suffix);
}

/* It is this user's, and nobody is writing it. */
static bool is_abandoned(int directory, const char *entry)
{
	int fd = openat(directory, entry, O_RDWR | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	struct stat st;
	bool abandoned =
	    fd >= 0 && fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && st.st_uid == geteuid() && lock(fd) == 0;

	if (fd >= 0)
		close(fd);
	return abandoned;
}

void snapshot_files_sweep(int directory, const char *name, bool old)
{
	int fd = open_directory_of(directory, name);
	DIR *list = fd < 0 ? NULL : fdopendir(fd);

	for (struct dirent *entry; list && (entry = readdir(list));)
		if (is_left_of(entry->d_name, last_part(name), old ? ".old" : ".part") &&
		    is_abandoned(fd, entry->d_name))
			unlinkat(fd, entry->d_name, 0);
	if (list)
		closedir(list);
	else if (fd >= 0)
		close(fd);
}

static int set_aside(struct snapshot_file *file, struct riffle_error *error)
{
	if (renameat(file->directory, file->name, file->directory, file->old) == 0)
		file->set_aside = true;
	else if (errno != ENOENT)
		return riffle_fail_system(error, errno, "rename", "the earlier file cannot be set aside");
	return 0;
}

static int name_one(struct snapshot_file *file, struct riffle_error *error)
{
	if (renameat(file->directory, file->part, file->directory, file->name) < 0)
		return riffle_fail_system(error, errno, "rename", "failed");
	file->named = true;
	return 0;
}

static void put_back(struct snapshot_file *file)
{
	if (file->set_aside)
		renameat(file->directory, file->old, file->directory, file->name);
	else if (file->named)
		unlinkat(file->directory, file->name, 0);
	file->set_aside = file->named = false;
}

void snapshot_file_sync(int directory, const char *name)
{
	int fd = open_directory_of(directory, name);

	if (fd < 0)
		return;
	fsync(fd);
	close(fd);
}

int snapshot_files_name(struct snapshot_file *memory, struct snapshot_file *state, const char **blame,
			struct riffle_error *error)
{
	bool has_memory = memory->fd >= 0;
	int status;

	*blame = state->name;
	status = set_aside(state, error);
	if (!status && has_memory) {
		snapshot_file_sync(state->directory, state->name);
		*blame = memory->name;
		if (!(status = set_aside(memory, error)) && !(status = name_one(memory, error)))
			snapshot_file_sync(memory->directory, memory->name);
	}
	if (!status) {
		*blame = state->name;
		status = name_one(state, error);
	}
	if (status) {
		if (has_memory)
			put_back(memory);
		put_back(state);
		return status;
	}
	snapshot_file_sync(state->directory, state->name);
	if (state->set_aside)
		unlinkat(state->directory, state->old, 0);
	if (has_memory && memory->set_aside)
		unlinkat(memory->directory, memory->old, 0);
	return 0;
}

static int rename_if_there(int directory, const char *from, const char *to, struct riffle_error *error)
{
	if (renameat(directory, from, directory, to) == 0 || errno == ENOENT)
		return 0;
	return riffle_fail_system(error, errno, "rename", "the earlier file cannot be put back");
}

int snapshot_files_put_back(int directory, const char *memory, const char *state, const char *tag,
			    struct riffle_error *error)
{
	char old_memory[256], old_state[256];
	struct stat st;
	int status;

	snprintf(old_memory, sizeof old_memory, "%s.%s.old", memory, tag);
	snprintf(old_state, sizeof old_state, "%s.%s.old", state, tag);
	/* the state is set aside first and named last: if it exists, the memory next to it belongs to it */
	if (fstatat(directory, state, &st, AT_SYMLINK_NOFOLLOW) == 0) {
		unlinkat(directory, old_state, 0);
		unlinkat(directory, old_memory, 0);
		return 0;
	}
	if (errno != ENOENT)
		return riffle_fail_system(error, errno, "state", "cannot be examined");
	if ((status = rename_if_there(directory, old_memory, memory, error)))
		return status;
	snapshot_file_sync(directory, memory);
	status = rename_if_there(directory, old_state, state, error);
	snapshot_file_sync(directory, state);
	return status;
}

void snapshot_directory_recover(const char *path)
{
	int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct riffle_error ignored;
	struct stat st;

	if (fd < 0)
		return;
	if (fstatat(fd, "state", &st, AT_SYMLINK_NOFOLLOW) < 0 && errno == ENOENT && fstat(fd, &st) == 0 &&
	    snapshot_file_trust(&st, &ignored) == 0 && flock(fd, LOCK_EX | LOCK_NB) == 0)
		snapshot_files_put_back(fd, "memory", "state", SNAPSHOT_DIRECTORY_TAG, &ignored);
	close(fd);
}

void snapshot_file_drop(struct snapshot_file *file)
{
	if (file->fd < 0)
		return;
	close(file->fd);
	if (!file->named)
		unlinkat(file->directory, file->part, 0);
	file->fd = -1;
}
