/* SPDX-License-Identifier: Apache-2.0 */
/* Reads a machine's description from a configuration file, for `riffle run --config`. */
#ifndef RIFFLE_CLI_COMMANDS_RUN_CONFIG_H
#define RIFFLE_CLI_COMMANDS_RUN_CONFIG_H

#include <stdbool.h>
#include <stddef.h>

#include "machine/config.h"

/* The file's text, NUL-terminated; the caller calls free(). NULL: it cannot be read, and an error was printed. */
char *run_config_read(const char *path, size_t *bytes);

/*
 * Fills in *config from the file; false: an error was printed. What *config points to lives as long as the process.
 * Call once.
 */
bool run_config_apply(struct machine_config *config, const char *path);

/* The stock that the file names for boot-source; NULL: none. */
const char *run_config_stock(void);

/*
 * Metrics, if the file requested them: call between machine_build() and machine_run(), and before machine_destroy().
 * Does nothing without a file. Errors: MEMORY.
 */
struct machine;
int run_config_begin(struct machine *machine, struct riffle_error *error);
void run_config_end(void);

#endif
