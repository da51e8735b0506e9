/* SPDX-License-Identifier: Apache-2.0 */
/* The two files of a snapshot as they replace an earlier one: both, or neither. */
#ifndef RIFFLE_MACHINE_SNAPSHOT_FILES_H
#define RIFFLE_MACHINE_SNAPSHOT_FILES_H

#include <stdbool.h>
#include <sys/stat.h>

#include <riffle/error.h>

/* Names are relative to `directory`, which may be AT_FDCWD. */
struct snapshot_file {
	int directory;
	const char *name;
	int fd; /* the new file, -1: none */
	char part[4096], old[4096];
	bool set_aside, named;
};

/*
 * What a new file may replace: nothing, or a regular file; not a symbolic link, whatever it leads to. *st is the
 * file's, or has st_mode 0. Errors: ARGUMENT, IO.
 */
int snapshot_file_check(int directory, const char *name, struct stat *st, struct riffle_error *error);

/* Whether both names are, or would be, one file. Both have been checked. */
bool snapshot_files_are_one(const char *one, const struct stat *one_st, const char *other, const struct stat *other_st);

/* Errors: TRUST, if somebody other than the caller and root owns the file or directory, or may write to it. */
int snapshot_file_trust(const struct stat *st, struct riffle_error *error);

/*
 * What a process that was killed left beside `name`: new files that it had not finished, or with `old` earlier ones that
 * it had set aside. Those that somebody is writing, and other users', stay. Tags are SNAPSHOT_TAG_DIGITS hexadecimal digits.
 */
#define SNAPSHOT_TAG_DIGITS 8u
void snapshot_files_sweep(int directory, const char *name, bool old);

/* A new file beside the one that it will be, mode 0600. `tag` is part of its name until then. Errors: IO, ARGUMENT. */
int snapshot_file_make(struct snapshot_file *file, int directory, const char *name, const char *tag,
		       struct riffle_error *error);

/*
 * Names the new files. An earlier snapshot is away before the first of them has its name, so that no state ever stands
 * beside another save's memory, and is back if one of them cannot be named. `memory` may have no new file. On failure
 * *blame is the name that it is about.
 */
int snapshot_files_name(struct snapshot_file *memory, struct snapshot_file *state, const char **blame,
			struct riffle_error *error);

/* Removes what has not been named. */
void snapshot_file_drop(struct snapshot_file *file);

/* The directory of a name onto stable storage. */
void snapshot_file_sync(int directory, const char *name);

#endif
