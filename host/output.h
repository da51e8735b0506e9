/* SPDX-License-Identifier: Apache-2.0 */
/* A file that appears under its name complete, or not at all. */
#ifndef RIFFLE_HOST_OUTPUT_H
#define RIFFLE_HOST_OUTPUT_H

#include <stdbool.h>

#include <riffle/error.h>

struct output {
	int directory;    /* where the file will be */
	int fd;           /* open for reading and writing */
	const char *name; /* in the directory; points into the path given */
	bool replace;     /* whether a file of that name may be replaced */
};

/*
 * Creates a file in the directory of `path`, of mode 0666 without the umask and the write bits of group and others. It
 * has no name or, if the file system cannot do that, a temporary one, which is also removed if a signal ends the
 * process. One output at a time. Errors: IO (among them EEXIST, unless `replace`).
 */
int output_file_create(struct output *output, const char *path, bool replace, struct riffle_error *error);

/* Gives the file its name and closes it. Errors: IO; then nothing is left behind. */
int output_file_finish(struct output *output, struct riffle_error *error);

/* Discards the file. */
void output_file_abandon(struct output *output);

#endif
