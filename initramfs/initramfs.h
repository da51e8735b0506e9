/* SPDX-License-Identifier: Apache-2.0 */
/* A guest's initial file system, packed as a newc cpio archive directly into the destination memory. */
#ifndef RIFFLE_INITRAMFS_H
#define RIFFLE_INITRAMFS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include <riffle/error.h>

/*
 * Used in three steps: entries are collected, the layout is computed, the bytes are written. Nothing is printed, no
 * temporary file is made, no privilege is needed. The order of entries, and with equal times and owners each byte,
 * depends on the collected files alone.
 *
 * newc keeps types, permissions, numeric owners, modification times to the second, device numbers, symbolic and hard
 * links. It cannot hold extended attributes (capabilities, ACLs, SELinux labels), which are lost, nor holes, which
 * become zeros. The kernel sets modification times only with CONFIG_INITRAMFS_PRESERVE_MTIME.
 */
struct initramfs;

/* An empty archive: one directory, the root, owned by root with mode 0755. On success the caller owns *archive. */
int initramfs_new(struct initramfs **archive, struct riffle_error *error);
void initramfs_free(struct initramfs *archive);

/* The file that the last error concerns, by its name in the archive or on the host; NULL if none. */
const char *initramfs_blame(const struct initramfs *archive);

struct initramfs_directory {
	int fd;         /* duplicated; the directory that becomes the root */
	bool root_owns; /* every owner and group becomes 0 */
	bool no_times;  /* every modification time becomes 0 */
	struct {
		dev_t device;
		ino_t inode;
	} skip[2]; /* files to leave out, such as the archive itself */
	unsigned skip_count;
};

/*
 * Collects a directory. Symbolic links are never followed. File systems mounted below it are included, except that for
 * virtual ones (proc, sysfs, cgroup and the like) only the mount point is. At most one directory per archive, before
 * any other entry. Errors: IO, MEMORY, UNSUPPORTED (a file over 4 GiB, a path over 4095 bytes).
 */
int initramfs_add_directory(struct initramfs *archive, const struct initramfs_directory *directory,
			    struct riffle_error *error);

/* An entry that is not a file of the host. */
struct initramfs_entry {
	const char *path;      /* absolute; missing parent directories are created */
	uint32_t mode;         /* including the type; owner and group are root */
	uint32_t major, minor; /* of a device */
	const void *data;      /* a regular file's content or a symbolic link's target; copied */
	size_t bytes;
};

/*
 * Adds an entry, replacing whatever has its path, including the contents of a directory unless the entry is a directory
 * too. A symbolic link or a file on the way to it is replaced by a directory. Errors: ARGUMENT, MEMORY, UNSUPPORTED.
 */
int initramfs_add(struct initramfs *archive, const struct initramfs_entry *entry, struct riffle_error *error);

/*
 * Adds a file of the host under its own absolute path, together with each symbolic link that leads to it, so that the
 * path means the same in the guest. Relative links and ".." are followed as the kernel does. What the archive already
 * has under these paths is kept. Errors: IO, MEMORY, UNSUPPORTED (not a regular file, too many links).
 */
int initramfs_add_host_file(struct initramfs *archive, const char *path, struct riffle_error *error);

/* Whether the archive has an entry at this absolute path; links are not followed. */
bool initramfs_has(const struct initramfs *archive, const char *path);

/*
 * Computes where each byte goes: the end of collecting. *bytes is the archive's size, a multiple of 4. Errors: MEMORY,
 * SPACE.
 */
int initramfs_layout(struct initramfs *archive, uint64_t *bytes, struct riffle_error *error);

/*
 * Approximately how much memory the guest's kernel needs for the unpacked files, not including the archive; call after
 * the layout.
 */
uint64_t initramfs_unpacked_bytes(const struct initramfs *archive);

/*
 * Writes the archive to `to`, which has room for it and is all zeros: padding and holes are not touched. A file whose
 * size changed since it was collected is an error, as is one that was replaced. Errors: IO, CHANGED.
 */
int initramfs_write(struct initramfs *archive, void *to, struct riffle_error *error);

#endif
