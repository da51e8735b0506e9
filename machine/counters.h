/* SPDX-License-Identifier: Apache-2.0 */
/* Enumerates the counters of a machine's devices and vCPUs. */
#ifndef RIFFLE_MACHINE_COUNTERS_H
#define RIFFLE_MACHINE_COUNTERS_H

#include "monitor/counters.h"

struct machine;

/* What a struct of monitor/counters.h belongs to. */
enum machine_counters {
	MACHINE_COUNTERS_BALLOON,
	MACHINE_COUNTERS_BLOCK,
	MACHINE_COUNTERS_I8042,
	MACHINE_COUNTERS_SERIAL,
	MACHINE_COUNTERS_NET,
	MACHINE_COUNTERS_VCPU,
	MACHINE_COUNTERS_VSOCK,
	MACHINE_COUNTERS_RNG,
	MACHINE_COUNTERS_PMEM,
	MACHINE_COUNTERS_INTERRUPTS,
	MACHINE_COUNTERS_MEMORY_HOTPLUG,
	MACHINE_COUNTERS_KINDS
};

/*
 * Calls `each` for each part that has counters, with its id (NULL: it has none, or is the only one of its kind).
 * Counters and ids stay in place until machine_destroy(). Call after machine_build().
 */
void machine_each_counters(const struct machine *machine,
			   void (*each)(void *opaque, enum machine_counters kind, const char *id,
					const counter *counters),
			   void *opaque);

#endif
