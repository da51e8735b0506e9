/* SPDX-License-Identifier: Apache-2.0 */
/* A directory of prepared kernels, each named by the identity of the file that it was made from. */
#ifndef RIFFLE_KERNEL_CACHE_H
#define RIFFLE_KERNEL_CACHE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>

#include <riffle/error.h>
#include <riffle/plan.h>

/* The size limit; the least recently used entries are removed first. */
#define CACHE_BYTES_MAX (UINT64_C(2) << 30)

#define CACHE_NAME_BYTES 256

/*
 * Writes the name of the entry for a kernel (and its relocations, or NULL): device, inode, size, mtime and ctime of
 * each. A file cannot be written to without changing one of these.
 */
void cache_entry_name(char name[CACHE_NAME_BYTES], const struct stat *kernel, const struct stat *relocs);

/*
 * Writes the directory's path: `chosen` unless NULL, else $XDG_CACHE_HOME/riffle, else $HOME/.cache/riffle. False if
 * none of them is set or the path is too long.
 */
bool cache_directory(char *path, size_t bytes, const char *chosen);

/*
 * Opens an entry for reading if there is one that is trusted and complete. Otherwise -1: a truncated or damaged entry,
 * or one owned by somebody else, counts as missing, and cache_publish() replaces it. On success the caller owns *source
 * and *plan (without the part for shuffling if `base_alone`); the descriptor belongs to *source.
 */
int cache_lookup(const char *directory, const char *name, bool base_alone, struct riffle_source *source,
		 struct riffle_plan *plan);

/* A new entry that is being written: invisible until it is published. */
struct cache_file {
	int directory;      /* -1 when closed */
	int fd;             /* of the file, for reading and writing; the caller may take it and set it to -1 */
	char temporary[64]; /* its temporary name; empty if it has none */
};

/*
 * Creates the directory (0700) if necessary, and a new file in it. Errors: IO, TRUST (a directory others can write to).
 */
int cache_create(struct cache_file *file, const char *directory, struct riffle_error *error);

/* Gives the file its name atomically, replacing any entry of that name. Errors: IO. */
int cache_publish(struct cache_file *file, const char *name, struct riffle_error *error);

/*
 * Removes entries beyond `limit` bytes, the least recently used first and never `keep`, and leftovers of old crashes.
 */
void cache_trim(const struct cache_file *file, const char *keep, uint64_t limit);

/* Closes what is open; an unpublished file is removed. */
void cache_close(struct cache_file *file);

#endif
