/* SPDX-License-Identifier: Apache-2.0 */
/* A machine's description out of a configuration file, for `riffle run --config`. */
#ifndef RIFFLE_CLI_RUN_CONFIG_H
#define RIFFLE_CLI_RUN_CONFIG_H

#include <stdbool.h>
#include <stddef.h>

#include "machine/config.h"

/* The file's text, ended by NUL and free()d by the caller. NULL: it cannot be read, which was said on stderr. */
char *run_config_read(const char *path, size_t *bytes);

/*
 * Fills *config with what the file says; false: a line on stderr says why not. What *config points to stays for the
 * process's life. Once.
 */
bool run_config_apply(struct machine_config *config, const char *path);

/*
 * Metrics, where the file asked for some: between machine_build() and machine_run(), and before machine_destroy().
 * Nothing is done without a file. Errors: MEMORY.
 */
struct machine;
int run_config_begin(struct machine *machine, struct riffle_error *error);
void run_config_end(void);

#endif
