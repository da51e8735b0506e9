/* SPDX-License-Identifier: Apache-2.0 */
/* The command line of `riffle run`, as a machine's description. */
#ifndef RIFFLE_CLI_COMMANDS_RUN_OPTIONS_H
#define RIFFLE_CLI_COMMANDS_RUN_OPTIONS_H

#include <stdint.h>

#include "machine/config.h"

#define RUN_ENVIRONMENT_MAX 256

struct run_options {
	struct machine_config machine;
	uint64_t start_time; /* CLOCK_MONOTONIC in ns when riffle was started; 0: not given */
	char **command;      /* the command to run in the guest and its arguments; NULL: none */
	size_t command_count;
	const char *root;             /* a directory that becomes the guest's root; NULL: the command's own files */
	const char *initrd_directory; /* -i with a directory */
	const char *workdir;
	const char *status_out;
	const char *save_to;                          /* a directory for a snapshot, after which riffle exits */
	const char *from_stock;                       /* its directory, or unix:PATH */
	const char *config;                           /* the file of --config; NULL: none */
	const char *environment[RUN_ENVIRONMENT_MAX]; /* NAME=VALUE, or just NAME: copied from riffle's environment */
	size_t environment_count;
};

/* What to do after parsing. */
enum run_parsed { RUN_GO, RUN_HELPED, RUN_WRONG };

/* Parses and checks; prints help to stdout and errors to stderr. Strings in *options point into argv. */
enum run_parsed run_options_parse(struct run_options *options, int argc, char **argv);

/* The same, but does not read the file of --config: options->config names it. */
enum run_parsed run_options_parse_words(struct run_options *options, int argc, char **argv);

/* The value of --console. NULL, or what is wrong with it. */
const char *run_options_console(const char *text, struct machine_config *config);

#endif
