/* SPDX-License-Identifier: Apache-2.0 */
/* What a process gives up before it looks at bytes that somebody else may have made. */
#ifndef RIFFLE_CLI_SANDBOX_H
#define RIFFLE_CLI_SANDBOX_H

#include <riffle/error.h>

enum sandbox_profile {
	SANDBOX_PLAIN,        /* memory, and the descriptors that are open already */
	SANDBOX_RUNS_PROGRAM, /* and what starting lzop or objdump takes; SANDBOX_PLAIN can be laid over it */
};

/* seconds of CPU time for what has to be done with one file */
#define SANDBOX_SECONDS 300u

/*
 * First half: no new privileges, limits on memory, descriptors and, unless `seconds` is 0, CPU time, no core dump, and
 * for root the ids of nobody. Open descriptors stay. Errors: IO.
 */
int sandbox_drop(unsigned seconds, struct riffle_error *error);

/* Second half: the system call filter. Whatever lies outside it ends the process by SIGSYS. Errors: IO. */
int sandbox_filter(enum sandbox_profile profile, struct riffle_error *error);

/* Both halves, for what reads one file that is open already: SANDBOX_SECONDS and SANDBOX_PLAIN. Errors: IO. */
int sandbox_confine(struct riffle_error *error);

#endif
