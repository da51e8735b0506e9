/* SPDX-License-Identifier: Apache-2.0 */
/* Tells log and metrics of a machine: that it started and how it was randomised, its boot time, that it ended. */
#ifndef RIFFLE_API_WATCH_H
#define RIFFLE_API_WATCH_H

#include <stdint.h>

#include "machine/machine.h"

/* InstanceStart, or its like, begins: what boot times are counted from. */
void watch_start(void);

/*
 * The machine is built and about to run: its counters are shown from now on, the first line of metrics is written, and
 * one each minute of its loop. In the loop's thread, between machine_build() and machine_run(); a line that fails is
 * counted. Errors: MEMORY.
 */
int watch_machine(struct machine *machine, struct riffle_error *error);

/* After machine_run(): no more lines each minute. */
void watch_stop(void);
/* Before machine_destroy(), also of a machine that never ran. */
void watch_end(void);

/* A machine_observer's `booted`: the guest's init wrote to the boot timer at this moment. Any thread. */
void watch_booted(void *opaque, uint64_t ns);

/*
 * api_server's start-up times, from the moments that --start-time-us and its like give; NULL: not given. False: one of
 * them is no number, which *wrong names.
 */
bool watch_startup(const char *start_us, const char *start_cpu_us, const char *parent_cpu_us, const char **wrong);

#endif
