/* SPDX-License-Identifier: Apache-2.0 */
/* How the riffle-vmm process ends: fatal signals and what Firecracker calls a panic, with their final messages. */
#ifndef RIFFLE_API_PROCESS_H
#define RIFFLE_API_PROCESS_H

#include <riffle/error.h>

/*
 * Installs handlers for the signals that have an exit code: they write log and metrics, then the process exits. SIGPIPE
 * is counted and ignored. SIGTERM and SIGINT keep their default. Errors: IO.
 */
int process_handle_signals(struct riffle_error *error);

/* The process cannot go on: says why in the log and on stderr, writes the metrics, restores the terminal, aborts. */
_Noreturn void process_panic(const char *format, ...) __attribute__((format(printf, 1, 2)));

#endif
