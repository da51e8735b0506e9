/* SPDX-License-Identifier: Apache-2.0 */
/* The files of an archive as a tree, with each directory's entries sorted by name. */
#ifndef RIFFLE_INITRAMFS_TREE_H
#define RIFFLE_INITRAMFS_TREE_H

#include "initramfs/initramfs.h"

#define NEWC_NAME_MAX 4096u /* with the NUL; the kernel skips longer ones (PATH_MAX) */

/* Where the content of a regular file comes from. */
enum node_source {
	SOURCE_MEMORY,    /* `data` */
	SOURCE_DIRECTORY, /* the packed directory, at the node's own path */
	SOURCE_HOST,      /* the host file named by `data` */
};

struct node {
	struct node *parent;    /* NULL: the root */
	struct node **children; /* in the order of strcmp() */
	size_t count, capacity;
	char *name;
	size_t path_bytes; /* of the path in the archive, without leading slash and NUL; 0: the root */
	enum node_source source;
	void *data; /* content, link target, or path with a NUL; owned */
	uint32_t mode, uid, gid, major, minor;
	uint64_t size; /* of the content or target */
	int64_t mtime;
	dev_t device; /* of the host's file, for SOURCE_DIRECTORY and SOURCE_HOST */
	ino_t inode;
	bool linked; /* the host's file has other hard links */
	bool sparse;

	uint32_t number, links; /* inode number and link count in the archive */
	bool carries;           /* the one of its links that holds the content */
	uint64_t at;            /* offset of its header */
};

struct initramfs {
	struct node root;
	size_t nodes;
	int directory; /* -1: none */
	bool laid_out;
	uint64_t bytes, unpacked;
	char blame[NEWC_NAME_MAX + 1];
};

/* The child of this name (`bytes` long), or NULL. */
struct node *node_find(const struct node *parent, const char *name, size_t bytes);

/* Makes a child that does not exist yet. Errors: MEMORY, UNSUPPORTED (the path is too long). */
int node_add(struct initramfs *archive, struct node *parent, const char *name, size_t bytes, struct node **child,
	     struct riffle_error *error);

/* Removes everything below a node. */
void node_empty(struct initramfs *archive, struct node *node);

/* The next node after `node` with parents before their children; the root comes first, and NULL at the end. */
struct node *node_next(const struct node *node);

/* Writes the node's path, without a leading slash, and a NUL: node->path_bytes + 1 bytes. */
void node_path(const struct node *node, char *path);

void blame_node(struct initramfs *archive, const struct node *node);
void blame_name(struct initramfs *archive, const char *name);

#endif
