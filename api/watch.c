/* SPDX-License-Identifier: Apache-2.0 */
/* Tells log and metrics of a machine: that it started and how it was randomised, its boot time, that it ended. */
#include "api/watch.h"

#include <stdio.h>
#include <time.h>

#include "api/arguments.h"
#include "api/log.h"
#include "api/metrics.h"
#include "machine/control.h"

static struct {
	uint64_t ns, cpu_ns;
} start;

static uint64_t read_ns(clockid_t clock)
{
	struct timespec now;

	clock_gettime(clock, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

void watch_start(void)
{
	start.ns = read_ns(CLOCK_MONOTONIC);
	start.cpu_ns = read_ns(CLOCK_PROCESS_CPUTIME_ID);
}

int watch_machine(struct machine *machine, struct riffle_error *error)
{
	const struct machine_randomisation *r = machine_randomisation(machine);
	struct metrics_layout layout = {
	    .virtual_bits = r->virtual_bits,
	    .physical_bits = r->physical_bits,
	    .chunks = r->chunks,
	    .load_us = r->load_ns / 1000,
	    .start_us = (read_ns(CLOCK_MONOTONIC) - start.ns) / 1000,
	};
	int status = metrics_watch_machine(machine, error);

	if (status)
		return status;
	snprintf(layout.mode, sizeof layout.mode, "%s", r->mode ? r->mode : "snapshot");
	metrics_set_layout(&layout);
	metrics_begin(machine_loop(machine));
	return 0;
}

void watch_stop(void)
{
	metrics_end();
}

void watch_end(void)
{
	metrics_end();
	metrics_forget_machine();
}

void watch_booted(void *opaque, uint64_t ns)
{
	unsigned long long us = ns > start.ns ? (ns - start.ns) / 1000 : 0;
	unsigned long long cpu_us = (read_ns(CLOCK_PROCESS_CPUTIME_ID) - start.cpu_ns) / 1000;

	(void)opaque;
	log_write(LOG_INFO, "vmm", "Guest-boot-time = %6llu us %llu ms, %6llu CPU us %llu CPU ms", us, us / 1000,
		  cpu_us, cpu_us / 1000);
}

bool watch_startup(const char *start_us, const char *start_cpu_us, const char *parent_cpu_us, const char **wrong)
{
	uint64_t since = 0, cpu_since = 0, parent = 0;
	uint64_t now = read_ns(CLOCK_MONOTONIC) / 1000, cpu = read_ns(CLOCK_PROCESS_CPUTIME_ID) / 1000;

	*wrong = start_us && !arguments_number(start_us, UINT64_MAX, &since)               ? "start-time-us"
		 : start_cpu_us && !arguments_number(start_cpu_us, UINT64_MAX, &cpu_since) ? "start-time-cpu-us"
		 : parent_cpu_us && !arguments_number(parent_cpu_us, UINT64_MAX, &parent)  ? "parent-cpu-time-us"
											   : NULL;
	if (*wrong)
		return false;
	if (start_us)
		metrics_store(METRIC(api_server, process_startup_time_us), now > since ? now - since : 0);
	if (start_cpu_us)
		metrics_store(METRIC(api_server, process_startup_time_cpu_us),
			      (cpu > cpu_since ? cpu - cpu_since : 0) + parent);
	return true;
}
