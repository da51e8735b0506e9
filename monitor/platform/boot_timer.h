/* SPDX-License-Identifier: Apache-2.0 */
/* Records when the guest's init reports that it runs, and other marks before and after. */
#ifndef RIFFLE_MONITOR_BOOT_TIMER_H
#define RIFFLE_MONITOR_BOOT_TIMER_H

#include <stdatomic.h>
#include <stdint.h>

#include "monitor/bus/bus.h"

#define BOOT_TIMER_MARK 123

#define BOOT_TIMER_MARKS_MAX 32u /* further marks are ignored */

/* A mark other than init's: its value, and its time by CLOCK_MONOTONIC. */
struct boot_mark {
	uint8_t value;
	uint64_t ns;
};

struct boot_timer {
	_Atomic uint64_t marked_ns; /* CLOCK_MONOTONIC of the first of init's, 0 before */
	/* under the bus's lock; read when no vCPU runs any more */
	struct boot_mark mark[BOOT_TIMER_MARKS_MAX];
	unsigned marks;
	/* called at init's first mark, in the vCPU's thread; set before boot_timer_attach(); NULL: none */
	void (*marked)(void *opaque, uint64_t ns);
	void *opaque;
	struct bus_bytes registers;
};

/* At Firecracker's address (MMIO 0xc0000000) and, for guests that write ports more easily, at port 0xf4. */
int boot_timer_attach(struct boot_timer *timer, struct bus *bus, struct riffle_error *error);

#endif
