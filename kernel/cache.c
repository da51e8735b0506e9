/* SPDX-License-Identifier: Apache-2.0 */
/* Finds, makes, publishes and trims entries of the cache of prepared kernels. */
#include "kernel/cache.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "common/fail.h"
#include "host/input.h"

/* part of each name: raise it when a kernel prepared by an older riffle should be prepared anew */
#define CACHE_VERSION 19
#define SUFFIX ".riffle"
#define TEMPORARY_PREFIX ".new-"
#define HOUR 3600

static int append_identity(char *to, size_t bytes, const struct stat *st)
{
	return snprintf(to, bytes, "-%" PRIx64 "-%" PRIx64 "-%" PRIx64 "-%" PRIx64 ".%09ld-%" PRIx64 ".%09ld",
			(uint64_t)st->st_dev, (uint64_t)st->st_ino, (uint64_t)st->st_size, (uint64_t)st->st_mtim.tv_sec,
			st->st_mtim.tv_nsec, (uint64_t)st->st_ctim.tv_sec, st->st_ctim.tv_nsec);
}

void cache_entry_name(char name[CACHE_NAME_BYTES], const struct stat *kernel, const struct stat *relocs)
{
	/* each number has at most 16 digits: two identities of 103 characters fit */
	int n = snprintf(name, CACHE_NAME_BYTES, "v%d", CACHE_VERSION);

	n += append_identity(name + n, CACHE_NAME_BYTES - (size_t)n, kernel);
	if (relocs)
		n += append_identity(name + n, CACHE_NAME_BYTES - (size_t)n, relocs);
	snprintf(name + n, CACHE_NAME_BYTES - (size_t)n, SUFFIX);
}

bool cache_directory(char *path, size_t bytes, const char *chosen)
{
	const char *base = getenv("XDG_CACHE_HOME");
	int n;

	/* the XDG specification: a relative path there is to be ignored */
	if (chosen)
		n = snprintf(path, bytes, "%s", chosen);
	else if (base && base[0] == '/')
		n = snprintf(path, bytes, "%s/riffle", base);
	else if ((base = getenv("HOME")) && base[0] == '/')
		n = snprintf(path, bytes, "%s/.cache/riffle", base);
	else
		return false;
	return n > 0 && (size_t)n < bytes;
}

/* Marks an entry as used, for cache_trim(); at most once an hour, so that a boot does not write to the disk. */
static void touch(int fd, const struct stat *st)
{
	struct timespec now;

	if (!clock_gettime(CLOCK_REALTIME_COARSE, &now) && now.tv_sec - st->st_mtim.tv_sec > HOUR)
		(void)!futimens(fd, NULL);
}

/* Others may not be able to put anything into the directory, or to take anything out. */
static int trust_directory(const struct stat *st, struct riffle_error *error)
{
	if (!S_ISDIR(st->st_mode))
		return riffle_fail_system(error, ENOTDIR, "cache", "is no directory");
	return input_trust(-1, st, error);
}

int cache_lookup(const char *directory, const char *name, bool base_alone, struct riffle_source *source,
		 struct riffle_plan *plan)
{
	char path[4096 + CACHE_NAME_BYTES];
	struct riffle_error error;
	struct stat st;
	int fd;

	if (stat(directory, &st) < 0 || trust_directory(&st, &error))
		return -1;
	if ((size_t)snprintf(path, sizeof path, "%s/%s", directory, name) >= sizeof path)
		return -1;
	fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY);
	if (fd < 0)
		return -1;
	if (!fstat(fd, &st) && S_ISREG(st.st_mode) && !input_trust(fd, &st, &error) &&
	    !riffle_source_from_fd(source, fd, &error) &&
	    !(base_alone ? riffle_plan_open_base(plan, source, &error) : riffle_plan_open(plan, source, &error))) {
		touch(fd, &st);
		return fd;
	}
	close(fd);
	return -1;
}

static int make_directory(const char *directory, struct riffle_error *error)
{
	char path[4096];

	if (mkdir(directory, 0700) == 0 || errno == EEXIST)
		return 0;
	/* only the last two parts may be missing: $HOME/.cache of a new user, and our own */
	if (errno == ENOENT && (size_t)snprintf(path, sizeof path, "%s", directory) < sizeof path) {
		char *slash = strrchr(path, '/');

		if (slash && slash != path) {
			*slash = 0;
			if ((mkdir(path, 0700) == 0 || errno == EEXIST) &&
			    (mkdir(directory, 0700) == 0 || errno == EEXIST))
				return 0;
		}
	}
	return riffle_fail_system(error, errno, "cache", "directory cannot be made");
}

static void make_temporary_name(struct cache_file *file)
{
	struct timespec now = {0};

	clock_gettime(CLOCK_MONOTONIC, &now);
	snprintf(file->temporary, sizeof file->temporary, TEMPORARY_PREFIX "%ld-%lx", (long)getpid(),
		 (unsigned long)now.tv_nsec);
}

int cache_create(struct cache_file *file, const char *directory, struct riffle_error *error)
{
	struct stat st;
	int status;

	*file = (struct cache_file){.directory = -1, .fd = -1};
	status = make_directory(directory, error);
	if (status)
		return status;
	file->directory = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (file->directory < 0 || fstat(file->directory, &st) < 0) {
		status = riffle_fail_system(error, errno, "cache", "directory cannot be opened");
		cache_close(file);
		return status;
	}
	status = trust_directory(&st, error);
	if (status) {
		cache_close(file);
		return status;
	}
	/* a file without a name vanishes by itself, however this run ends */
	file->fd = openat(file->directory, ".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	if (file->fd < 0 && (errno == EOPNOTSUPP || errno == EISDIR || errno == ENOENT)) {
		make_temporary_name(file);
		file->fd = openat(file->directory, file->temporary, O_CREAT | O_EXCL | O_RDWR | O_CLOEXEC, 0600);
		if (file->fd < 0)
			file->temporary[0] = 0;
	}
	if (file->fd < 0) {
		status = riffle_fail_system(error, errno, "cache", "file cannot be made");
		cache_close(file);
	}
	return status;
}

int cache_publish(struct cache_file *file, const char *name, struct riffle_error *error)
{
	if (!file->temporary[0]) {
		char self[32];

		snprintf(self, sizeof self, "/proc/self/fd/%d", file->fd);
		if (!linkat(AT_FDCWD, self, file->directory, name, AT_SYMLINK_FOLLOW))
			return 0;
		if (errno != EEXIST)
			return riffle_fail_system(error, errno, "cache", "entry cannot be given its name");
		/* a link never replaces: take a name for a moment, and rename */
		make_temporary_name(file);
		if (linkat(AT_FDCWD, self, file->directory, file->temporary, AT_SYMLINK_FOLLOW) < 0) {
			file->temporary[0] = 0;
			return riffle_fail_system(error, errno, "cache", "entry cannot be given a name");
		}
	}
	if (renameat(file->directory, file->temporary, file->directory, name) < 0)
		return riffle_fail_system(error, errno, "cache", "entry cannot be given its name");
	file->temporary[0] = 0;
	return 0;
}

struct entry {
	char name[CACHE_NAME_BYTES];
	time_t used;
	uint64_t bytes;
};

static int older_first(const void *a, const void *b)
{
	const struct entry *x = a, *y = b;

	return (x->used > y->used) - (x->used < y->used);
}

static bool has_suffix(const char *name)
{
	size_t length = strlen(name);

	return length > sizeof SUFFIX - 1 && !strcmp(name + length - (sizeof SUFFIX - 1), SUFFIX);
}

/* Reads the directory's entries into an array; removes what an interrupted run left there long ago. */
static struct entry *list(DIR *stream, int directory, size_t *count)
{
	struct entry *entries = NULL;
	struct dirent *d;

	*count = 0;
	while ((d = readdir(stream))) {
		bool temporary = !strncmp(d->d_name, TEMPORARY_PREFIX, sizeof TEMPORARY_PREFIX - 1);
		struct stat st;

		if ((!temporary && !has_suffix(d->d_name)) || strlen(d->d_name) >= CACHE_NAME_BYTES ||
		    fstatat(directory, d->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0 || !S_ISREG(st.st_mode))
			continue;
		if (temporary) {
			if (time(NULL) - st.st_mtim.tv_sec > HOUR)
				unlinkat(directory, d->d_name, 0);
			continue;
		}
		struct entry *more = reallocarray(entries, *count + 1, sizeof *entries);

		if (!more)
			break;
		entries = more;
		snprintf(entries[*count].name, CACHE_NAME_BYTES, "%s", d->d_name);
		entries[*count].used = st.st_mtim.tv_sec;
		entries[(*count)++].bytes = (uint64_t)st.st_blocks * 512;
	}
	return entries;
}

void cache_trim(const struct cache_file *file, const char *keep, uint64_t limit)
{
	int fd = openat(file->directory, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *stream = fd < 0 ? NULL : fdopendir(fd);
	struct entry *entries;
	uint64_t total = 0;
	size_t count;

	if (!stream) {
		if (fd >= 0)
			close(fd);
		return;
	}
	entries = list(stream, file->directory, &count);
	for (size_t i = 0; i < count; i++)
		total += entries[i].bytes;
	if (total > limit)
		qsort(entries, count, sizeof *entries, older_first);
	/* a run that has an entry open keeps reading it; one that looks for it prepares it again */
	for (size_t i = 0; i < count && total > limit; i++) {
		if (!strcmp(entries[i].name, keep) || unlinkat(file->directory, entries[i].name, 0) < 0)
			continue;
		total -= entries[i].bytes;
	}
	free(entries);
	closedir(stream);
}

void cache_close(struct cache_file *file)
{
	if (file->temporary[0])
		unlinkat(file->directory, file->temporary, 0);
	file->temporary[0] = 0;
	if (file->fd >= 0)
		close(file->fd);
	if (file->directory >= 0)
		close(file->directory);
	file->fd = file->directory = -1;
}
