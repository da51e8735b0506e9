/* SPDX-License-Identifier: Apache-2.0 */
/* How long each phase of a start took: always recorded (at the cost of a clock reading), printed for --boot-timer. */
#ifndef RIFFLE_MACHINE_PHASES_H
#define RIFFLE_MACHINE_PHASES_H

#include <stdint.h>
#include <stdio.h>

#define PHASES_MAX 16

struct phases {
	struct {
		const char *name;
		uint64_t ns;
	} phase[PHASES_MAX];
	unsigned count;
	uint64_t start, last;
};

/* Starts now, or at `start`, a time of CLOCK_MONOTONIC in ns, when that is not 0 and in the past. */
void phases_start(struct phases *phases, uint64_t start);
/* Processor time in ns that this thread, and that all threads have used since the process began. */
uint64_t phases_thread_cpu(void);
uint64_t phases_process_cpu(void);
/* Nanoseconds since the last phase ended; starts the next one. */
uint64_t phases_lap(struct phases *phases);
/* Adds a phase with a given time. */
void phases_add(struct phases *phases, const char *name, uint64_t ns);
/* Adds the phase that ends now. */
void phases_end(struct phases *phases, const char *name);
/* Adds the time since the start as a separate line. */
void phases_total(struct phases *phases);
void phases_print(const struct phases *phases, FILE *to);
/*
 * Prints the time of the guest's init, from the first guest instruction and from the start; `when` is CLOCK_MONOTONIC
 * in ns.
 */
void phases_print_init(const struct phases *phases, uint64_t when, FILE *to);
/* Prints one of its other marks, from the start. */
void phases_print_mark(const struct phases *phases, unsigned mark, uint64_t when, FILE *to);

#endif
