/* SPDX-License-Identifier: Apache-2.0 */
/* How the process of riffle-vmm ends: fatal signals and what Firecracker calls a panic, each with its last words. */
#ifndef RIFFLE_API_PROCESS_H
#define RIFFLE_API_PROCESS_H

#include <riffle/error.h>

/*
 * Handlers of the signals whose end is told by an exit code: log and metrics are written, then the process exits.
 * SIGPIPE is counted and ignored. SIGTERM and SIGINT keep their default. Errors: IO.
 */
int process_handle_signals(struct riffle_error *error);

/*
 * Unmaps the program's own code and constants, of which running a guest needs a small part: that part comes back page
 * by page from the page cache as it is used, and what only the start needed does not count as this process's memory.
 */
void process_drop_code(void);

/* The process cannot go on: says why in the log and on stderr, writes the metrics, restores the terminal, aborts. */
_Noreturn void process_panic(const char *format, ...) __attribute__((format(printf, 1, 2)));

#endif
