/* SPDX-License-Identifier: Apache-2.0 */
/* How a run ended: as an exit code, in words, and as a small file of JSON. */
#ifndef RIFFLE_CLI_COMMANDS_RUN_END_H
#define RIFFLE_CLI_COMMANDS_RUN_END_H

#include "cli/commands/run_options.h"
#include "machine/machine.h"

/* The result of a run. */
struct run_end {
	bool failed;     /* an error, which has been reported */
	enum vm_end end; /* otherwise */
	int signal;      /* with VM_END_SIGNAL */
	uint32_t status; /* CHANNEL_STATUS with VM_END_COMMAND */
};

/* Returns the exit code; prints what the user could not know otherwise. `machine` may be NULL if it failed. */
int run_end_report(const struct run_end *end, const struct run_options *options, const struct machine *machine);

/*
 * The status file is opened before the machine runs, while files can be opened, and written afterwards. -1 and a
 * message if it cannot be opened. run_end_write() closes it; false and a message if it cannot be written.
 */
int run_end_open(const char *path, const struct run_options *o);
bool run_end_write(int fd, const char *path, const struct run_end *end, int code);

#endif
