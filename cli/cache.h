/* SPDX-License-Identifier: Apache-2.0 */
/* A directory of prepared kernels, named by the identity of the file that each was made from. */
#ifndef RIFFLE_CLI_CACHE_H
#define RIFFLE_CLI_CACHE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>

#include <riffle/error.h>
#include <riffle/plan.h>

/* What is kept at most; the entries that were used longest ago go first. */
#define CACHE_BYTES_MAX (UINT64_C(2) << 30)

#define CACHE_NAME_BYTES 256

/*
 * Writes the name of the entry for a kernel (and its relocations, or NULL): device, inode, size, mtime and ctime of
 * each. Nothing can write to a file and leave all five as they were.
 */
void cache_entry_name(char name[CACHE_NAME_BYTES], const struct stat *kernel, const struct stat *relocs);

/*
 * Writes the directory's path: `chosen` when not NULL, else $XDG_CACHE_HOME/riffle, else $HOME/.cache/riffle. False
 * when none of them is known or the path is too long.
 */
bool cache_directory(char *path, size_t bytes, const char *chosen);

/*
 * Opens an entry for reading when there is one that can be trusted and is whole. Otherwise -1: an entry that is
 * truncated, damaged or somebody else's counts as none, and cache_publish() replaces it. On success *source and *plan
 * are the caller's, the plan without its part for shuffling if `base_alone`; the descriptor belongs to *source.
 */
int cache_lookup(const char *directory, const char *name, bool base_alone, struct riffle_source *source,
		 struct riffle_plan *plan);

/* A new entry that is being written: seen by nobody before it is published. */
struct cache_file {
	int directory;      /* -1 when closed */
	int fd;             /* of the file, for reading and writing; the caller may take it and set it to -1 */
	char temporary[64]; /* its name for now; empty when it has none */
};

/* Makes the directory (0700) if need be, and a new file in it. Errors: IO, TRUST (a directory others can write to). */
int cache_create(struct cache_file *file, const char *directory, struct riffle_error *error);

/* Gives the file its name, in one step, in place of whatever had it. Errors: IO. */
int cache_publish(struct cache_file *file, const char *name, struct riffle_error *error);

/* Removes entries beyond `limit` bytes, the longest unused first and never `keep`, and what old crashes left. */
void cache_trim(const struct cache_file *file, const char *keep, uint64_t limit);

/* Closes what is open; an unpublished file vanishes. */
void cache_close(struct cache_file *file);

#endif
