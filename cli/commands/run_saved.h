/* SPDX-License-Identifier: Apache-2.0 */
/* Runs that end in a snapshot, and runs that start from an item of a stock. */
#ifndef RIFFLE_CLI_COMMANDS_RUN_SAVED_H
#define RIFFLE_CLI_COMMANDS_RUN_SAVED_H

#include "cli/commands/run_options.h"
#include "machine/machine.h"

#define RUN_NOT_FROM_STOCK (-1)

/* --save-to: makes the directory and its files, while files can be opened. False: a message was printed. */
bool run_saved_open(struct run_options *options);
/* Saves a machine that has been built. Errors: those of machine_snapshot_write(). */
int run_saved_now(struct machine *machine, const struct run_options *options, struct riffle_error *error);

/*
 * --from-stock: machine_build() for an item of the stock. A damaged item is discarded, and another one taken.
 * RUN_NOT_FROM_STOCK: no stock was requested, or it is empty and a kernel was given.
 */
int run_from_stock(struct machine **machine, const struct run_options *options, const struct machine_observer *observer,
		   struct phases *phases, const char **blame, struct riffle_error *error);

#endif
