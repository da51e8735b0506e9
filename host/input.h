/* SPDX-License-Identifier: Apache-2.0 */
/* Shared input and output of commands: files by path or as fd:N, error messages, the result of writing standard output.
 */
#ifndef RIFFLE_HOST_INPUT_H
#define RIFFLE_HOST_INPUT_H

#include <stdbool.h>
#include <sys/stat.h>

#include <riffle/error.h>

/* a program's exit code for a command line that it does not understand; other errors are EXIT_FAILURE */
#define EXIT_USAGE 2

/*
 * Opens `name` for reading. The caller owns the descriptor, which is close-on-exec; for fd:N it is a duplicate of N.
 * Anything except a regular file is refused, without waiting for a FIFO's writer. *st describes the open file. Errors:
 * IO, FORMAT.
 */
int input_open(int *fd, struct stat *st, const char *name, struct riffle_error *error);

/*
 * Opens a text that is read once, without blocking: a regular file, or one of the process's own descriptors by name
 * (/dev/stdin, /dev/fd/N), whose other end the parent holds and for which read() may wait. Close-on-exec. -1: see
 * errno; EINVAL means another kind of file, which input_open_problem() describes.
 */
int input_open_text(const char *name);
const char *input_open_problem(int number);

/*
 * Whether a prepared kernel's bytes are trusted: the file belongs to root or to the user, and nobody else can write to
 * it, because of its mode or because it is a memfd sealed against writing. `fd` may be -1 if it is not a file. Errors:
 * TRUST.
 */
int input_trust(int fd, const struct stat *st, struct riffle_error *error);

/* Whether the file starts like a prepared kernel; false if it cannot be read. Does not move the file position. */
bool input_is_prepared(int fd);

/*
 * Prints `riffle: FILE: FIELD: PROBLEM (found …, expected …)` as one line to stderr, with control characters replaced
 * by question marks. `file` may be NULL if the error concerns none.
 */
void report_error(const char *file, const struct riffle_error *error);
/* The same for a file whose name JSON cannot represent because it is not UTF-8. */
void report_not_utf8(const char *file);

/*
 * Opens /dev/null on each of descriptors 0, 1 and 2 that is closed: called first in each program, so that no file
 * opened later becomes standard output.
 */
void open_standard_descriptors(void);

/*
 * A command's exit code after standard output has been flushed: output that could not be written makes even a
 * successful command fail. A command that failed has printed its error.
 */
int with_output(int code);

#endif
