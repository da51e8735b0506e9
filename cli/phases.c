/* SPDX-License-Identifier: Apache-2.0 */
/* Keeps and prints the phases of a start. */
#include <time.h>

#include "cli/phases.h"

static uint64_t now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

void phases_start(struct phases *phases)
{
	phases->count = 0;
	phases->start = phases->last = now();
}

uint64_t phases_lap(struct phases *phases)
{
	uint64_t before = phases->last;

	phases->last = now();
	return phases->last - before;
}

void phases_add(struct phases *phases, const char *name, uint64_t ns)
{
	if (phases->count < PHASES_MAX) {
		phases->phase[phases->count].name = name;
		phases->phase[phases->count++].ns = ns;
	}
}

void phases_end(struct phases *phases, const char *name)
{
	phases_add(phases, name, phases_lap(phases));
}

void phases_total(struct phases *phases)
{
	phases_add(phases, "start to first guest instruction", phases->last - phases->start);
}

static void line(FILE *to, const char *name, uint64_t ns)
{
	fprintf(to, "riffle: boot-timer: %-33s %9.3f ms\n", name, (double)ns / 1e6);
}

void phases_print(const struct phases *phases, FILE *to)
{
	for (unsigned i = 0; i < phases->count; i++)
		line(to, phases->phase[i].name, phases->phase[i].ns);
}

void phases_print_init(const struct phases *phases, uint64_t when, FILE *to)
{
	line(to, "guest's init", when - phases->last);
	line(to, "start to guest's init", when - phases->start);
}
