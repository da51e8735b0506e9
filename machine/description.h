/* SPDX-License-Identifier: Apache-2.0 */
/* A machine's description as JSON, for the state file of a snapshot. */
#ifndef RIFFLE_MACHINE_DESCRIPTION_H
#define RIFFLE_MACHINE_DESCRIPTION_H

#include <jansson.h>

#include "machine/config.h"

/*
 * Everything needed to recreate a machine, except its kernel and initrd, which are in its memory, and its console.
 * Release *text by free(). Errors: MEMORY, UNSUPPORTED (a path that is not UTF-8).
 */
int description_write(char **text, const struct machine_config *config, struct riffle_error *error);

/*
 * Fills in a config initialised by machine_config_init(). Everything is checked; unknown members are refused. Strings
 * belong to *owner; release it by json_decref(). Errors: FORMAT.
 */
int description_read(struct machine_config *config, json_t **owner, const char *text, size_t bytes,
		     struct riffle_error *error);

/* How the guest's layout was drawn, as machine_origin_mode() has it; NULL: the description does not tell. */
const char *description_mode(const char *text, size_t bytes);

#endif
