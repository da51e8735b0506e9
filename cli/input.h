/* SPDX-License-Identifier: Apache-2.0 */
/* What commands share with the world around them: files by path or as fd:N, errors in words, the fate of their output.
 */
#ifndef RIFFLE_CLI_INPUT_H
#define RIFFLE_CLI_INPUT_H

#include <stdbool.h>
#include <sys/stat.h>

#include <riffle/error.h>

/*
 * Opens `name` for reading. The descriptor is the caller's, close-on-exec; with fd:N it is a copy of N. Anything but a
 * regular file is refused, without waiting for a FIFO's writer. *st is what the open file is. Errors: IO, FORMAT.
 */
int input_open(int *fd, struct stat *st, const char *name, struct riffle_error *error);

/*
 * Opens a text that is read once, without waiting for anybody: a regular file, or whatever the name of one of the
 * process's own descriptors stands for (/dev/stdin, /dev/fd/N), whose other end its parent has, and which is waited for
 * in read(). Close-on-exec. -1: see errno; EINVAL is another kind of file, which input_open_problem() says in words.
 */
int input_open_text(const char *name);
const char *input_open_problem(int number);

/*
 * What a prepared kernel's bytes are trusted by: the file belongs to root or to the user, and nobody else can write to
 * it, by its mode or because it is a memfd sealed against writing. `fd` may be -1 for anything but a file. Errors:
 * TRUST.
 */
int input_trust(int fd, const struct stat *st, struct riffle_error *error);

/* The file begins as a prepared kernel does; one that cannot be read does not. Moves no file position. */
bool input_is_prepared(int fd);

/*
 * Prints `riffle: FILE: FIELD: PROBLEM (found …, expected …)` as one line to stderr; control characters of it become
 * question marks. `file` may be NULL: the error is about none.
 */
void report_error(const char *file, const struct riffle_error *error);
/* The same of a file that JSON cannot name, since it takes UTF-8 only. */
void report_not_utf8(const char *file);

/*
 * Opens /dev/null on whichever of descriptors 0, 1 and 2 is closed: the first thing in each program, so that no file it
 * opens later becomes somebody's standard output.
 */
void open_standard_descriptors(void);

/*
 * What a command's exit code becomes once standard output is written: what did not come out was not done, whatever the
 * command thinks of it. A command that failed has said why.
 */
int with_output(int code);

#endif
