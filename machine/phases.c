/* SPDX-License-Identifier: Apache-2.0 */
/* Keeps and prints the phases of a start. */
#include <time.h>

#include "machine/phases.h"

static uint64_t read_clock(clockid_t clock)
{
	struct timespec t;

	clock_gettime(clock, &t);
	return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

static uint64_t now(void)
{
	return read_clock(CLOCK_MONOTONIC);
}

uint64_t phases_thread_cpu(void)
{
	return read_clock(CLOCK_THREAD_CPUTIME_ID);
}

uint64_t phases_process_cpu(void)
{
	return read_clock(CLOCK_PROCESS_CPUTIME_ID);
}

void phases_start(struct phases *phases, uint64_t start)
{
	phases->count = 0;
	phases->last = now();
	phases->start = start && start < phases->last ? start : phases->last;
	if (phases->start != phases->last)
		phases_add(phases, "exec", phases->last - phases->start);
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

void phases_print_mark(const struct phases *phases, unsigned mark, uint64_t when, FILE *to)
{
	char name[16];

	snprintf(name, sizeof name, "mark %u", mark);
	line(to, name, when - phases->start);
}

void phases_print_init(const struct phases *phases, uint64_t when, FILE *to)
{
	line(to, "guest's init", when - phases->last);
	line(to, "start to guest's init", when - phases->start);
}
