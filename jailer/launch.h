/* SPDX-License-Identifier: Apache-2.0 */
/* The end of the jailer: in the background or a PID namespace if asked for, it becomes the program, without privileges.
 */
#ifndef RIFFLE_JAILER_LAUNCH_H
#define RIFFLE_JAILER_LAUNCH_H

#include "jailer/arguments.h"
#include "jailer/jail.h"
#include "jailer/undo.h"

struct launch {
	uint64_t started_us; /* CLOCK_MONOTONIC when the jailer started */
	int null;            /* /dev/null, opened before the jail was entered; -1: not in the background */
	int errors;          /* where failures are told: stderr, or a copy of it */
	uint64_t cpu_us;     /* processor time of the processes that ended on the way */
	int waiting[2];      /* pipes to the processes that wait for the program's start */
	unsigned waiting_count;
};

/* Microseconds of a clock. */
uint64_t microseconds(int clock);

/* After a failure of launch(), when all is told and undone: ends the processes that wait, with 1. */
void launch_failed(const struct launch *launch);

/*
 * Runs the program. Returns in no process after it succeeded: processes on the way wait until the program was executed
 * and end with 0. After a failure it returns -1 in the process that shall tell of it.
 */
int launch(struct launch *launch, const struct jail *jail, const struct arguments *arguments, struct undo *undo,
	   struct failure *failure);

#endif
