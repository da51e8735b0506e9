/* SPDX-License-Identifier: Apache-2.0 */
/* Replaces the two files of an earlier snapshot atomically: both, or neither. */
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
 * A new file may replace nothing or a regular file, but no symbolic link, wherever it leads. *st describes the file, or
 * has st_mode 0. Errors: ARGUMENT, IO.
 */
int snapshot_file_check(int directory, const char *name, struct stat *st, struct riffle_error *error);

/* Whether both names are, or would be, the same file. Both have been checked. */
bool snapshot_files_are_one(const char *one, const struct stat *one_st, const char *other, const struct stat *other_st);

/* Errors: TRUST, if somebody other than the caller and root owns the file or directory, or may write to it. */
int snapshot_file_trust(const struct stat *st, struct riffle_error *error);

/*
 * What a process that was killed left beside `name`: new files that it had not finished, or with `old` earlier ones
 * that it had set aside. Those that somebody is writing, and other users', stay. Tags are SNAPSHOT_TAG_DIGITS
 * hexadecimal digits.
 */
#define SNAPSHOT_TAG_DIGITS 8u
void snapshot_files_sweep(int directory, const char *name, bool old);

/*
 * Makes a new file of mode 0600 in the directory of its final name. `tag` is part of its temporary name. Errors: IO,
 * ARGUMENT.
 */
int snapshot_file_make(struct snapshot_file *file, int directory, const char *name, const char *tag,
		       struct riffle_error *error);

/*
 * Gives the new files their names. An earlier snapshot is moved away first, so that no state is ever paired with
 * another save's memory, and moved back if a new file cannot get its name. `memory` may have no new file. On failure
 * *blame is the name concerned.
 */
int snapshot_files_name(struct snapshot_file *memory, struct snapshot_file *state, const char **blame,
			struct riffle_error *error);

/*
 * Repairs the directory after a process was killed in snapshot_files_name() with this tag: afterwards it holds the
 * complete earlier or new snapshot, and no file that was set aside. Only the caller may be making files there. Errors:
 * IO.
 */
#define SNAPSHOT_DIRECTORY_TAG "new" /* of `riffle snapshot`, which locks the directory */
int snapshot_files_put_back(int directory, const char *memory, const char *state, const char *tag,
			    struct riffle_error *error);
/* The same for readers of a snapshot directory: only if it has no state file and nobody is writing there. */
void snapshot_directory_recover(const char *path);

/* Removes a new file that has not got its name. */
void snapshot_file_drop(struct snapshot_file *file);

/* Flushes the directory of a name to stable storage. */
void snapshot_file_sync(int directory, const char *name);

#endif
