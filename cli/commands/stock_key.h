/* SPDX-License-Identifier: Apache-2.0 */
/* Which machine a stock's items are of: its description, and the files that this names. */
#ifndef RIFFLE_CLI_COMMANDS_STOCK_KEY_H
#define RIFFLE_CLI_COMMANDS_STOCK_KEY_H

#include "cli/commands/run_options.h"
#include "machine/stock.h"

struct stock_key {
	const char *stage;
	const char *const *words;          /* of riffle run, NULL-terminated */
	const struct run_options *options; /* what they say (run_options_parse_words) */
};

/*
 * Differs when a word, a file that the machine consists of, or riffle differs: kernel, initrd (a directory with all
 * that is in it), configuration file and what that names. Of a disk only which one it is and its size, unless guests
 * only read it. Errors: IO, FORMAT, MEMORY, with the file in *blame, which lasts until the next call.
 */
int stock_key_make(char key[STOCK_KEY_DIGITS + 1], const struct stock_key *of, const char **blame,
		   struct riffle_error *error);

#endif
