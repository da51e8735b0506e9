/* SPDX-License-Identifier: Apache-2.0 */
/* A file that appears under its name whole, or not at all. */
#ifndef RIFFLE_CLI_OUTPUT_H
#define RIFFLE_CLI_OUTPUT_H

#include <stdbool.h>

#include <riffle/error.h>

struct output {
	int directory;    /* where the file is going to be */
	int fd;           /* open for reading and writing */
	const char *name; /* in the directory; points into the path given */
	bool replace;     /* whether a file of that name may be replaced */
};

/*
 * Makes a file beside where `path` says, mode 0666 less the umask and less group's and others' write bit. It has no
 * name, or where the file system cannot do that a temporary one that is removed also when a signal ends the process.
 * One output at a time. Errors: IO (among them EEXIST, unless `replace`).
 */
int output_file_create(struct output *output, const char *path, bool replace, struct riffle_error *error);

/* Gives the file its name and closes it. Errors: IO; then nothing is left either. */
int output_file_finish(struct output *output, struct riffle_error *error);

/* Gives the file up. */
void output_file_abandon(struct output *output);

#endif
