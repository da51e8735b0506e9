/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a guest's init should run, as a file of NUL-terminated strings: CONFIG_FORMAT first, then "KEY=VALUE" in any
 * order, except for the order of arguments. Unknown keys are an error, since they would change what runs.
 *
 *   arg        the command's name, then its arguments
 *   env        NAME=VALUE of its environment
 *   program    the file to execute; without it the name is looked for in the PATH of its environment
 *   workdir    where it starts
 *   hostname   the guest's
 *   terminal   which streams are a terminal on the host: CONFIG_TERMINAL_* added up, a decimal digit
 */
#ifndef RIFFLE_GUEST_CONFIG_H
#define RIFFLE_GUEST_CONFIG_H

#include <stddef.h>

#define CONFIG_PATH "/.riffle/config"
#define CONFIG_INIT_PATH "/.riffle/init"
#define CONFIG_FORMAT "riffle-init 1"

#define CONFIG_TERMINAL_IN 1u
#define CONFIG_TERMINAL_OUT 2u
#define CONFIG_TERMINAL_ERR 4u

struct config {
	char **argv, **environment; /* each with a NULL at its end */
	size_t argc, environment_count;
	const char *program, *workdir, *hostname; /* NULL: not given */
	unsigned terminal;
};

/* How many pointers config_parse() needs for this file. */
size_t config_pointers(const char *text, size_t bytes);

/* Fills *config with pointers into `text`. Returns NULL or an error text. Needs no libc. */
const char *config_parse(struct config *config, char *text, size_t bytes, char **pointers);

#endif
