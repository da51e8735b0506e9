/* SPDX-License-Identifier: Apache-2.0 */
/* A machine's description as JSON, for the state file of a snapshot. */
#ifndef RIFFLE_MACHINE_DESCRIPTION_H
#define RIFFLE_MACHINE_DESCRIPTION_H

#include <jansson.h>

#include "machine/config.h"

/*
 * What a machine has to be made of again: not its kernel and initrd, which are in its memory, nor its console. A text
 * that free() takes. Errors: MEMORY, UNSUPPORTED (a path that is not UTF-8).
 */
int description_write(char **text, const struct machine_config *config, struct riffle_error *error);

/*
 * Fills a config that machine_config_init() has initialised. Everything is checked; members that are not known are
 * refused. Strings belong to *owner, which json_decref() frees. Errors: FORMAT.
 */
int description_read(struct machine_config *config, json_t **owner, const char *text, size_t bytes,
		     struct riffle_error *error);

#endif
