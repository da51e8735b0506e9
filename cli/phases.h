/* SPDX-License-Identifier: Apache-2.0 */
/* How long each phase of a start took: kept always (it costs a clock reading), printed for --boot-timer. */
#ifndef RIFFLE_CLI_PHASES_H
#define RIFFLE_CLI_PHASES_H

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

void phases_start(struct phases *phases);
/* Nanoseconds since the last phase ended; starts the next one. */
uint64_t phases_lap(struct phases *phases);
/* A phase's time, taken as given. */
void phases_add(struct phases *phases, const char *name, uint64_t ns);
/* The phase that ends now. */
void phases_end(struct phases *phases, const char *name);
/* Adds the time since the start as a line of its own. */
void phases_total(struct phases *phases);
void phases_print(const struct phases *phases, FILE *to);
/* The guest's init, from the first guest instruction and from the start; `when` is CLOCK_MONOTONIC in ns. */
void phases_print_init(const struct phases *phases, uint64_t when, FILE *to);

#endif
