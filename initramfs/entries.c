/* SPDX-License-Identifier: Apache-2.0 */
/* Entries that do not come from the packed directory: built in memory, or host files under their own paths. */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/fail.h"
#include "initramfs/directory.h"

#define LINKS_MAX 40 /* as many as the kernel follows (MAXSYMLINKS) */

static int fail_memory(struct riffle_error *error)
{
	return riffle_fail(error, RIFFLE_ERR_MEMORY, "initramfs", "out of memory for the list of files");
}

static void clear_node(struct initramfs *archive, struct node *node)
{
	node_empty(archive, node);
	free(node->data);
	node->data = NULL;
	node->source = SOURCE_MEMORY;
	node->mode = node->uid = node->gid = node->major = node->minor = 0;
	node->size = 0;
	node->mtime = 0;
	node->linked = node->sparse = false;
}

/* Finds a child, creating a directory if there is none. */
static int enter(struct initramfs *archive, struct node *parent, const char *name, size_t bytes, struct node **child,
		 struct riffle_error *error)
{
	int status = RIFFLE_OK;

	*child = node_find(parent, name, bytes);
	if (*child && S_ISDIR((*child)->mode))
		return RIFFLE_OK;
	if (*child)
		clear_node(archive, *child);
	else
		status = node_add(archive, parent, name, bytes, child, error);
	if (!status)
		(*child)->mode = S_IFDIR | 0755;
	return status;
}

static bool is_dots(const char *name, size_t bytes)
{
	return (bytes == 1 && name[0] == '.') || (bytes == 2 && name[0] == '.' && name[1] == '.');
}

int initramfs_add(struct initramfs *archive, const struct initramfs_entry *entry, struct riffle_error *error)
{
	const char *at = entry->path + strspn(entry->path, "/");
	struct node *node = &archive->root;
	void *data = NULL;
	int status;

	if (entry->path[0] != '/' || !*at || entry->bytes > UINT32_MAX)
		return riffle_fail(error, RIFFLE_ERR_ARGUMENT, "path", "is not an absolute path of a file");
	while (*at) {
		size_t bytes = strcspn(at, "/"), gap = strspn(at + bytes, "/");
		bool last = !at[bytes + gap];

		if (is_dots(at, bytes))
			return riffle_fail(error, RIFFLE_ERR_ARGUMENT, "path", "has a component . or ..");
		if (!last || S_ISDIR(entry->mode))
			status = enter(archive, node, at, bytes, &node, error);
		else if (node_find(node, at, bytes))
			clear_node(archive, node = node_find(node, at, bytes)), status = RIFFLE_OK;
		else
			status = node_add(archive, node, at, bytes, &node, error);
		if (status)
			return status;
		at += bytes + gap;
	}
	if (entry->bytes) {
		data = malloc(entry->bytes);
		if (!data)
			return fail_memory(error);
		memcpy(data, entry->data, entry->bytes);
	}
	free(node->data);
	node->data = data;
	node->size = entry->bytes;
	node->mode = entry->mode;
	node->uid = node->gid = 0;
	node->major = entry->major;
	node->minor = entry->minor;
	return RIFFLE_OK;
}

bool initramfs_has(const struct initramfs *archive, const char *path)
{
	const struct node *node = &archive->root;

	for (const char *at = path + strspn(path, "/"); *at && node;) {
		size_t bytes = strcspn(at, "/");

		node = node_find(node, at, bytes);
		at += bytes + strspn(at + bytes, "/");
	}
	return node != NULL;
}

/* A host path, followed component by component. */
struct walk {
	char rest[2 * PATH_MAX]; /* remaining components */
	char path[PATH_MAX];     /* resolved so far, without links; "" is the root */
	struct node *node;       /* the same place in the archive */
	unsigned links;
	bool arrived; /* reached a regular file */
};

static int fail_walk(struct initramfs *archive, const struct walk *walk, int number, struct riffle_error *error)
{
	blame_name(archive, walk->path);
	return riffle_fail_system(error, number, "open", "failed");
}

static void leave(struct walk *walk)
{
	char *slash = strrchr(walk->path, '/');

	if (slash)
		*slash = '\0';
	if (walk->node->parent)
		walk->node = walk->node->parent;
}

static int take_link(struct initramfs *archive, struct walk *walk, const char *name, size_t bytes, const char *rest,
		     struct riffle_error *error)
{
	char target[PATH_MAX], joined[sizeof walk->rest];
	ssize_t length = readlink(walk->path, target, sizeof target - 1);
	struct node *node = node_find(walk->node, name, bytes);

	if (length < 0)
		return fail_walk(archive, walk, errno, error);
	target[length] = '\0';
	if (++walk->links > LINKS_MAX)
		return fail_walk(archive, walk, ELOOP, error);
	if (!node) {
		int status = node_add(archive, walk->node, name, bytes, &node, error);

		if (status)
			return status;
		node->mode = S_IFLNK | 0777;
		node->data = strdup(target);
		if (!node->data)
			return fail_memory(error);
		node->size = (uint64_t)length;
	}
	if ((size_t)snprintf(joined, sizeof joined, "%s/%s", target, rest) >= sizeof joined)
		return fail_walk(archive, walk, ENAMETOOLONG, error);
	memcpy(walk->rest, joined, strlen(joined) + 1);
	if (target[0] == '/') {
		walk->path[0] = '\0';
		walk->node = &archive->root;
	} else {
		*strrchr(walk->path, '/') = '\0';
	}
	return RIFFLE_OK;
}

static int take_file(struct initramfs *archive, struct walk *walk, const char *name, size_t bytes,
		     const struct stat *st, struct riffle_error *error)
{
	static const struct initramfs_directory as_it_is = {.fd = -1};
	struct node *node = node_find(walk->node, name, bytes);
	int status;

	if (node)
		return RIFFLE_OK;
	status = node_add(archive, walk->node, name, bytes, &node, error);
	if (status)
		return status;
	node->source = SOURCE_HOST;
	node->data = strdup(walk->path);
	if (!node->data)
		return fail_memory(error);
	return directory_describe(archive, node, st, &as_it_is, error);
}

static int take_directory(struct initramfs *archive, struct walk *walk, const char *name, size_t bytes,
			  const struct stat *st, struct riffle_error *error)
{
	bool known = node_find(walk->node, name, bytes) != NULL;
	int status = enter(archive, walk->node, name, bytes, &walk->node, error);

	if (!status && !known)
		walk->node->mode = st->st_mode;
	return status;
}

static int step(struct initramfs *archive, struct walk *walk, struct riffle_error *error)
{
	size_t skip = strspn(walk->rest, "/"), bytes = strcspn(walk->rest + skip, "/");
	size_t before = strlen(walk->path);
	char name[NAME_MAX + 1];
	const char *rest;
	struct stat st;

	if (bytes > NAME_MAX || before + bytes + 2 > sizeof walk->path)
		return fail_walk(archive, walk, ENAMETOOLONG, error);
	memcpy(name, walk->rest + skip, bytes);
	name[bytes] = '\0';
	rest = walk->rest + skip + bytes;
	if (is_dots(name, bytes)) {
		if (bytes == 2)
			leave(walk);
	} else if (bytes) {
		walk->path[before] = '/';
		memcpy(walk->path + before + 1, name, bytes + 1);
		if (lstat(walk->path, &st))
			return fail_walk(archive, walk, errno, error);
		if (S_ISLNK(st.st_mode))
			return take_link(archive, walk, name, bytes, rest, error);
		if (S_ISDIR(st.st_mode)) {
			int status = take_directory(archive, walk, name, bytes, &st, error);

			if (status)
				return status;
		} else if (!S_ISREG(st.st_mode) || rest[strspn(rest, "/")]) {
			blame_name(archive, walk->path);
			return riffle_fail(error, RIFFLE_ERR_UNSUPPORTED, "type", "is not a regular file");
		} else {
			walk->rest[0] = '\0';
			walk->arrived = true;
			return take_file(archive, walk, name, bytes, &st, error);
		}
	}
	memmove(walk->rest, rest, strlen(rest) + 1);
	return RIFFLE_OK;
}

int initramfs_add_host_file(struct initramfs *archive, const char *path, struct riffle_error *error)
{
	struct walk walk = {.node = &archive->root};
	int status = RIFFLE_OK;

	blame_name(archive, path);
	if (path[0] != '/' || strlen(path) >= PATH_MAX)
		return riffle_fail(error, RIFFLE_ERR_ARGUMENT, "path", "is not an absolute path of at most 4095 bytes");
	memcpy(walk.rest, path, strlen(path) + 1);
	while (walk.rest[0] && !status)
		status = step(archive, &walk, error);
	if (!status && !walk.arrived)
		return fail_walk(archive, &walk, EISDIR, error);
	if (!status)
		archive->blame[0] = '\0';
	return status;
}
