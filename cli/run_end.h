/* SPDX-License-Identifier: Apache-2.0 */
/* How a run ended: as an exit code, in words, and as a small file of JSON. */
#ifndef RIFFLE_CLI_RUN_END_H
#define RIFFLE_CLI_RUN_END_H

#include "cli/run_options.h"
#include "machine/machine.h"

/* What a run came to. */
struct run_end {
	bool failed;     /* an error, which was reported */
	enum vm_end end; /* otherwise */
	int signal;      /* with VM_END_SIGNAL */
	uint32_t status; /* CHANNEL_STATUS with VM_END_COMMAND */
};

/* The exit code; prints what the user could not know otherwise. `machine` may be NULL when it failed. */
int run_end_report(const struct run_end *end, const struct run_options *options, const struct machine *machine);

/*
 * The status file is opened before the machine runs, while files can be, and written after. -1 and a message when it
 * cannot be opened. run_end_write() closes it; false and a message when it cannot be written.
 */
int run_end_open(const char *path, const struct run_options *o);
bool run_end_write(int fd, const char *path, const struct run_end *end, int code);

#endif
