/* SPDX-License-Identifier: Apache-2.0 */
/* The files of an archive as a tree, with each directory's entries sorted by name. */
#include "initramfs/tree.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/fail.h"
#include "common/search.h"

/* As strcmp(), for a name without a NUL. */
static int compare(const char *name, size_t bytes, const char *other)
{
	size_t others = strlen(other);
	int order = memcmp(name, other, bytes < others ? bytes : others);

	return order ? order : (bytes > others) - (bytes < others);
}

/* Index of the first child whose name does not sort before `name`. */
static size_t first_not_before(const struct node *parent, const char *name, size_t bytes)
{
	size_t index = parent->count;

	/* directories are read in order, so the place is usually the end */
	if (index && compare(name, bytes, parent->children[index - 1]->name) > 0)
		return index;
	RIFFLE_FIRST_WHERE(index, parent->count, compare(name, bytes, parent->children[index]->name) <= 0);
	return index;
}

struct node *node_find(const struct node *parent, const char *name, size_t bytes)
{
	size_t at = first_not_before(parent, name, bytes);

	if (at < parent->count && !compare(name, bytes, parent->children[at]->name))
		return parent->children[at];
	return NULL;
}

static bool reserve_child(struct node *parent)
{
	size_t capacity = parent->capacity ? 2 * parent->capacity : 8;
	struct node **children;

	if (parent->count < parent->capacity)
		return true;
	children = reallocarray(parent->children, capacity, sizeof *children);
	if (!children)
		return false;
	parent->children = children;
	parent->capacity = capacity;
	return true;
}

int node_add(struct initramfs *archive, struct node *parent, const char *name, size_t bytes, struct node **child,
	     struct riffle_error *error)
{
	size_t at = first_not_before(parent, name, bytes);
	size_t path_bytes = parent->path_bytes + (parent->path_bytes != 0) + bytes;
	struct node *node;

	if (path_bytes >= NEWC_NAME_MAX) {
		blame_node(archive, parent);
		return riffle_fail_expected(error, RIFFLE_ERR_UNSUPPORTED, "path",
					    "of a file in this directory is too long for an initramfs", path_bytes,
					    NEWC_NAME_MAX - 1);
	}
	node = calloc(1, sizeof *node);
	if (!node || !(node->name = strndup(name, bytes)) || !reserve_child(parent)) {
		if (node)
			free(node->name);
		free(node);
		return riffle_fail(error, RIFFLE_ERR_MEMORY, "initramfs", "out of memory for the list of files");
	}
	node->parent = parent;
	node->path_bytes = path_bytes;
	memmove(parent->children + at + 1, parent->children + at, (parent->count - at) * sizeof *parent->children);
	parent->children[at] = node;
	parent->count++;
	archive->nodes++;
	*child = node;
	return RIFFLE_OK;
}

static size_t index_of(const struct node *node)
{
	size_t at = first_not_before(node->parent, node->name, strlen(node->name));

	return at;
}

struct node *node_next(const struct node *node)
{
	if (node->count)
		return node->children[0];
	for (; node->parent; node = node->parent) {
		size_t at = index_of(node) + 1;

		if (at < node->parent->count)
			return node->parent->children[at];
	}
	return NULL;
}

/* Leaves first, without recursion, since the tree may be deep. */
void node_empty(struct initramfs *archive, struct node *node)
{
	struct node *at = node;

	for (;;) {
		if (at->count) {
			at = at->children[at->count - 1];
			continue;
		}
		free(at->children);
		at->children = NULL;
		at->capacity = 0;
		if (at == node)
			return;
		struct node *parent = at->parent;

		free(at->data);
		free(at->name);
		free(at);
		parent->count--;
		archive->nodes--;
		at = parent;
	}
}

void node_path(const struct node *node, char *path)
{
	size_t end = node->path_bytes;

	path[end] = '\0';
	for (; node->parent; node = node->parent) {
		size_t bytes = strlen(node->name);

		end -= bytes;
		memcpy(path + end, node->name, bytes);
		if (end)
			path[--end] = '/';
	}
}

void blame_node(struct initramfs *archive, const struct node *node)
{
	if (node->parent)
		node_path(node, archive->blame);
	else
		memcpy(archive->blame, ".", 2);
}

void blame_name(struct initramfs *archive, const char *name)
{
	size_t bytes = strnlen(name, sizeof archive->blame - 1);

	memcpy(archive->blame, name, bytes);
	archive->blame[bytes] = '\0';
}

int initramfs_new(struct initramfs **archive, struct riffle_error *error)
{
	struct initramfs *made = calloc(1, sizeof *made);

	if (!made)
		return riffle_fail(error, RIFFLE_ERR_MEMORY, "initramfs", "out of memory for the list of files");
	made->root.mode = S_IFDIR | 0755;
	made->nodes = 1;
	made->directory = -1;
	*archive = made;
	return RIFFLE_OK;
}

void initramfs_free(struct initramfs *archive)
{
	if (!archive)
		return;
	node_empty(archive, &archive->root);
	if (archive->directory >= 0)
		close(archive->directory);
	free(archive);
}

const char *initramfs_blame(const struct initramfs *archive)
{
	return archive->blame[0] ? archive->blame : NULL;
}
