/* SPDX-License-Identifier: Apache-2.0 */
/* The metrics of riffle-vmm: one JSON object per line, with Firecracker's groups and names. */
#ifndef RIFFLE_API_METRICS_H
#define RIFFLE_API_METRICS_H

#include <stdbool.h>
#include <stdint.h>

#include <riffle/error.h>

#include "api/metric_names.h"
#include "machine/counters.h"

struct loop;

#define METRIC(group, name) METRIC_##group##_##name
#define METRIC_ENUMERATOR(group, name) METRIC(group, name),
#define METRIC_GROUP(GROUP) METRICS_##GROUP(METRIC_ENUMERATOR, METRIC_ENUMERATOR)

/* What the process counts itself: METRIC(put_api_requests, drive_count) and so on. */
enum metric {
	METRIC_GROUP(API_SERVER) METRIC_GROUP(DEPRECATED_API) METRIC_GROUP(GET_API_REQUESTS) METRIC_GROUP(LATENCIES_US)
	    METRIC_GROUP(LOGGER) METRIC_GROUP(MMDS) METRIC_GROUP(PATCH_API_REQUESTS) METRIC_GROUP(PUT_API_REQUESTS)
		METRIC_GROUP(SECCOMP) METRIC_GROUP(VMM) METRIC_GROUP(SIGNALS) METRIC_OWN_COUNT
};

/* Any thread, and the handlers of signals. */
void metrics_add(enum metric metric, uint64_t more);
static inline void metrics_count(enum metric metric)
{
	metrics_add(metric, 1);
}
void metrics_store(enum metric metric, uint64_t value);
uint64_t metrics_get(enum metric metric);

/* A string of PUT /metrics' properties. */
struct metrics_property {
	const char *name, *value;
};

/*
 * Opens the destination: a file that is created if necessary and written from its start, or a FIFO, which never blocks:
 * a line that it does not accept is counted as missed, its increments are included in the next line, and no line is
 * ever torn. Call once; `id` (NULL: none) and the properties are copied. Errors: IO, with the field "metrics_path";
 * ARGUMENT if it was called before (metrics_configured()); MEMORY.
 */
int metrics_configure(const char *path, const char *id, const struct metrics_property *properties, unsigned count,
		      struct riffle_error *error);
bool metrics_configured(void);

/*
 * Includes the counters of a machine's devices and vCPUs from now on; call metrics_forget_machine() before
 * machine_destroy(). Between machine_build() and machine_run(), or in the loop's thread. Errors: MEMORY.
 */
int metrics_watch_machine(struct machine *machine, struct riffle_error *error);
void metrics_forget_machine(void);

/* How the kernel was randomised and how long that took; printed once, in the next line, in a group "riffle". */
struct metrics_layout {
	char mode[16];                      /* off, physical, kaslr, fgkaslr */
	double virtual_bits, physical_bits; /* of the two bases */
	uint64_t chunks;                    /* of functions, permuted; 0: functions stay in place */
	uint64_t load_us, start_us;         /* loading the kernel; all of InstanceStart */
};
void metrics_set_layout(const struct metrics_layout *layout);

/* Where the machine came from; shown with that. */
enum metrics_origin { METRICS_FRESH, METRICS_FROM_SNAPSHOT, METRICS_FROM_STOCK, METRICS_STOCK_EMPTY };
/* `uses`: of a snapshot, how many guests were made of it before, which all have this layout. */
void metrics_set_origin(enum metrics_origin origin, uint64_t uses);
/* One of the stock's items was damaged. */
void metrics_count_bad_item(void);

/*
 * Writes a line, and from then on one each minute in the machine's event loop, except while it is paused. In the loop's
 * thread, or before it runs.
 */
void metrics_begin(struct loop *loop);
void metrics_end(void); /* before the loop goes away; writes no line */
void metrics_freeze(bool frozen);

/* Sets a callback that updates counters kept elsewhere before each line; only one, NULL: none. */
void metrics_before_line(void (*update)(void *opaque), void *opaque);

/*
 * Writes a line now; nothing if no destination was configured. Errors: IO, if the line was not accepted. Any thread.
 * metrics_flush_from_signal() is for a handler of a fatal signal.
 */
int metrics_flush(struct riffle_error *error);
void metrics_flush_from_signal(void);

#endif
