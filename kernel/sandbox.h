/* SPDX-License-Identifier: Apache-2.0 */
/* Drops a process's privileges before it reads untrusted data. */
#ifndef RIFFLE_KERNEL_SANDBOX_H
#define RIFFLE_KERNEL_SANDBOX_H

#include <riffle/error.h>

enum sandbox_profile {
	SANDBOX_PLAIN,        /* memory, and the descriptors that are already open */
	SANDBOX_RUNS_PROGRAM, /* plus what starting lzop or objdump requires; SANDBOX_PLAIN can be applied on top */
};

/* seconds of CPU time for the work on one file */
#define SANDBOX_SECONDS 300u

/*
 * First half: no new privileges, limits on memory, descriptors and, unless `seconds` is 0, CPU time, no core dump, and
 * for root the ids of nobody. Open descriptors stay open. Errors: IO.
 */
int sandbox_drop(unsigned seconds, struct riffle_error *error);

/* Second half: the system call filter. Any other system call ends the process by SIGSYS. Errors: IO. */
int sandbox_filter(enum sandbox_profile profile, struct riffle_error *error);

/* Both halves, for processes that read one file that is already open: SANDBOX_SECONDS and SANDBOX_PLAIN. Errors: IO. */
int sandbox_confine(struct riffle_error *error);

#endif
