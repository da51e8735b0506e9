/* SPDX-License-Identifier: Apache-2.0 */
/* The key of a stock's items: identifies the machine's description and the files it names. */
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
 * The key changes with riffle, with the words, and with each file of the machine: kernel, initrd (for a directory,
 * everything in it), configuration file and the files that this names. For a writable disk only the file's identity and
 * size count. Errors: IO, FORMAT, with the file in *blame, which is valid until the next call.
 */
int stock_key_make(char key[STOCK_KEY_DIGITS + 1], const struct stock_key *of, const char **blame,
		   struct riffle_error *error);

#endif
