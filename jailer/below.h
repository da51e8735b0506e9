/* SPDX-License-Identifier: Apache-2.0 */
/* Opens and creates files below an open directory in which somebody else may put links: none is ever followed. */
#ifndef RIFFLE_JAILER_BELOW_H
#define RIFFLE_JAILER_BELOW_H

#include <fcntl.h>
#include <sys/types.h>

#include "jailer/undo.h"

/*
 * open() of a relative path that neither leaves `directory` nor meets a symbolic link, nor a link of /proc. -1: see
 * errno (ELOOP: there was one).
 */
int below_open(int directory, const char *path, int flags, mode_t mode);

/*
 * Opens a directory below `directory` (O_PATH), creating missing components. The path is relative, without "." and
 * "..". -1: see errno.
 */
int below_make_directory(int directory, const char *path, mode_t mode, struct undo *undo);

/* Writes all of `text` into an existing file in one call, as cgroup files require. -1: see errno. */
int below_write(int directory, const char *path, const char *text);

/* Reads the first line of a short file, without its line feed. -1: see errno. */
int below_read_line(int directory, const char *path, char *line, size_t bytes);

#endif
