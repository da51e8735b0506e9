/* SPDX-License-Identifier: Apache-2.0 */
/* Collects the entries of a host directory, never following symbolic links; contents are read later. */
#include "initramfs/directory.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "common/fail.h"

#define FILE_MAX UINT32_MAX /* newc's size is 32 bits wide */

/* Opens part of a path below the packed directory, one name at a time, so that no symbolic link is followed. */
static int open_step(int from, const char *path, size_t bytes)
{
	char name[NAME_MAX + 1];

	if (bytes > NAME_MAX) {
		errno = ENAMETOOLONG;
		return -1;
	}
	memcpy(name, path, bytes);
	name[bytes] = '\0';
	return openat(from, name, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
}

int directory_open(const struct initramfs *archive, const struct node *node)
{
	char path[NEWC_NAME_MAX];
	int fd = openat(archive->directory, ".", O_PATH | O_DIRECTORY | O_CLOEXEC);

	node_path(node, path);
	for (const char *at = path; *at && fd >= 0;) {
		size_t bytes = strcspn(at, "/");
		int next = open_step(fd, at, bytes), number = errno;

		close(fd);
		errno = number;
		fd = next;
		at += bytes + (at[bytes] == '/');
	}
	return fd;
}

/* Virtual file systems, whose files may be endless, changing, or specific to the host. */
static bool is_made_up(int fd)
{
	static const uint32_t types[] = {PROC_SUPER_MAGIC,
					 SYSFS_MAGIC,
					 CGROUP_SUPER_MAGIC,
					 CGROUP2_SUPER_MAGIC,
					 DEBUGFS_MAGIC,
					 TRACEFS_MAGIC,
					 SECURITYFS_MAGIC,
					 PSTOREFS_MAGIC,
					 BPF_FS_MAGIC,
					 EFIVARFS_MAGIC,
					 DEVPTS_SUPER_MAGIC,
					 SELINUX_MAGIC,
					 SMACK_MAGIC,
					 BINFMTFS_MAGIC,
					 NSFS_MAGIC,
					 AUTOFS_SUPER_MAGIC,
					 0x19800202 /* mqueue */,
					 0x62656570 /* configfs */,
					 0x65735543 /* fusectl */,
					 0x67596969 /* rpc_pipefs */};
	struct statfs fs;

	if (fstatfs(fd, &fs))
		return false;
	for (size_t i = 0; i < sizeof types / sizeof *types; i++)
		if ((uint32_t)fs.f_type == types[i])
			return true;
	return false;
}

static int fail_node(struct initramfs *archive, const struct node *node, int number, const char *call,
		     struct riffle_error *error)
{
	blame_node(archive, node);
	if (number == ENOMEM)
		return riffle_fail(error, RIFFLE_ERR_MEMORY, "initramfs", "out of memory for the list of files");
	return riffle_fail_system(error, number, call, "failed");
}

static int read_target(struct initramfs *archive, struct node *node, int parent_fd, struct riffle_error *error)
{
	char target[PATH_MAX];
	ssize_t bytes = readlinkat(parent_fd, node->name, target, sizeof target);

	if (bytes < 0 || (size_t)bytes == sizeof target)
		return fail_node(archive, node, bytes < 0 ? errno : ENAMETOOLONG, "readlink", error);
	node->data = malloc((size_t)bytes + 1);
	if (!node->data)
		return fail_node(archive, node, ENOMEM, "readlink", error);
	memcpy(node->data, target, (size_t)bytes);
	node->size = (uint64_t)bytes;
	return RIFFLE_OK;
}

int directory_describe(struct initramfs *archive, struct node *node, const struct stat *st,
		       const struct initramfs_directory *how, struct riffle_error *error)
{
	node->mode = st->st_mode;
	node->uid = how->root_owns ? 0 : st->st_uid;
	node->gid = how->root_owns ? 0 : st->st_gid;
	node->mtime = how->no_times ? 0 : st->st_mtim.tv_sec;
	node->device = st->st_dev;
	node->inode = st->st_ino;
	if (S_ISCHR(st->st_mode) || S_ISBLK(st->st_mode)) {
		node->major = major(st->st_rdev);
		node->minor = minor(st->st_rdev);
	}
	if (!S_ISREG(st->st_mode))
		return RIFFLE_OK;
	if ((uint64_t)st->st_size > FILE_MAX) {
		blame_node(archive, node);
		return riffle_fail_expected(error, RIFFLE_ERR_UNSUPPORTED, "size",
					    "is too large for a file in an initramfs", (uint64_t)st->st_size, FILE_MAX);
	}
	node->size = (uint64_t)st->st_size;
	node->linked = st->st_nlink > 1;
	node->sparse = (uint64_t)st->st_blocks * 512 < node->size;
	return RIFFLE_OK;
}

/* Collects one name of a directory, unless it was deleted after the directory was read. */
static int collect(struct initramfs *archive, const struct initramfs_directory *how, struct node *parent, int parent_fd,
		   const char *name, struct riffle_error *error)
{
	struct node *node;
	struct stat st;
	int status;

	if (fstatat(parent_fd, name, &st, AT_SYMLINK_NOFOLLOW)) {
		if (errno == ENOENT)
			return RIFFLE_OK;
		blame_node(archive, parent);
		return riffle_fail_system(error, errno, "stat", "failed for a file in this directory");
	}
	for (unsigned i = 0; i < how->skip_count; i++)
		if (st.st_ino == how->skip[i].inode && st.st_dev == how->skip[i].device)
			return RIFFLE_OK;
	status = node_add(archive, parent, name, strlen(name), &node, error);
	if (status)
		return status;
	node->source = SOURCE_DIRECTORY;
	status = directory_describe(archive, node, &st, how, error);
	if (!status && S_ISLNK(st.st_mode))
		status = read_target(archive, node, parent_fd, error);
	return status;
}

static int compare_names(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

struct names {
	char **name;
	size_t count, capacity;
};

static bool keep_name(struct names *names, const char *name)
{
	if (names->count == names->capacity) {
		size_t capacity = names->capacity ? 2 * names->capacity : 64;
		char **more = reallocarray(names->name, capacity, sizeof *more);

		if (!more)
			return false;
		names->name = more;
		names->capacity = capacity;
	}
	names->name[names->count] = strdup(name);
	return names->name[names->count] && ++names->count;
}

static void free_names(struct names *names)
{
	for (size_t i = 0; i < names->count; i++)
		free(names->name[i]);
	free(names->name);
}

/* Reads all names, sorted; returns 0 or an errno. */
static int read_names(DIR *stream, struct names *names)
{
	const struct dirent *entry;

	while ((errno = 0, entry = readdir(stream))) {
		if (!strcmp(entry->d_name, ".") || !strcmp(entry->d_name, ".."))
			continue;
		if (!keep_name(names, entry->d_name))
			return ENOMEM;
	}
	if (!errno && names->count)
		qsort(names->name, names->count, sizeof *names->name, compare_names);
	return errno;
}

static int collect_all(struct initramfs *archive, const struct initramfs_directory *how, struct node *node, int fd,
		       struct riffle_error *error)
{
	struct names names = {0};
	DIR *stream = fdopendir(fd);
	int number, status = RIFFLE_OK;

	if (!stream) {
		number = errno;
		close(fd);
		return fail_node(archive, node, number, "opendir", error);
	}
	number = read_names(stream, &names);
	if (number)
		status = fail_node(archive, node, number, "readdir", error);
	for (size_t i = 0; !status && i < names.count; i++)
		status = collect(archive, how, node, dirfd(stream), names.name[i], error);
	free_names(&names);
	closedir(stream);
	return status;
}

static int collect_directory(struct initramfs *archive, const struct initramfs_directory *how, struct node *node,
			     struct riffle_error *error)
{
	int path = directory_open(archive, node), fd, number;
	struct stat st;

	if (path < 0)
		return fail_node(archive, node, errno, "open", error);
	fd = openat(path, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	number = errno;
	close(path);
	if (fd < 0 || fstat(fd, &st)) {
		number = fd < 0 ? number : errno;
		if (fd >= 0)
			close(fd);
		return fail_node(archive, node, number, "open", error);
	}
	if (!node->parent) {
		node->source = SOURCE_DIRECTORY;
		directory_describe(archive, node, &st, how, error);
	} else if (st.st_dev != node->parent->device && is_made_up(fd)) {
		close(fd);
		return RIFFLE_OK;
	}
	return collect_all(archive, how, node, fd, error);
}

int initramfs_add_directory(struct initramfs *archive, const struct initramfs_directory *directory,
			    struct riffle_error *error)
{
	struct node *node;
	int status = RIFFLE_OK;

	if (archive->directory >= 0 || archive->root.count)
		return riffle_fail(error, RIFFLE_ERR_ARGUMENT, "directory", "must be added before all other entries");
	archive->directory = fcntl(directory->fd, F_DUPFD_CLOEXEC, 3);
	if (archive->directory < 0)
		return riffle_fail_system(error, errno, "directory", "cannot be duplicated");
	/* children follow their parent, so the walk reaches the entries it has just collected */
	for (node = &archive->root; node && !status; node = node_next(node))
		if (S_ISDIR(node->mode))
			status = collect_directory(archive, directory, node, error);
	return status;
}
