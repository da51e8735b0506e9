/* SPDX-License-Identifier: Apache-2.0 */
/* The last step of the jailer: it becomes the program, without privileges, in the background or a PID namespace if
 * requested.
 */
#ifndef RIFFLE_JAILER_LAUNCH_H
#define RIFFLE_JAILER_LAUNCH_H

#include "jailer/arguments.h"
#include "jailer/jail.h"
#include "jailer/undo.h"

struct launch {
	uint64_t started_us; /* CLOCK_MONOTONIC when the jailer started */
	int null;            /* /dev/null, opened before the jail was entered; -1: not in the background */
	int errors;          /* where failures are reported: stderr, or a duplicate of it */
	uint64_t cpu_us;     /* processor time of the intermediate processes */
	int waiting[2];      /* pipes to the processes that wait for the program's start */
	unsigned waiting_count;
};

/* Microseconds of a clock. */
uint64_t microseconds(int clock);

/* After a failure of launch(), when it has been reported and undone: ends the waiting processes with status 1. */
void launch_failed(const struct launch *launch);

/*
 * Runs the program. On success it returns in no process: intermediate processes wait until the program has been
 * executed and exit with 0. On failure it returns -1 in the process that must report it.
 */
int launch(struct launch *launch, const struct jail *jail, const struct arguments *arguments, struct undo *undo,
	   struct failure *failure);

#endif
