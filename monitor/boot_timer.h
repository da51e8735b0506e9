/* SPDX-License-Identifier: Apache-2.0 */
/* Notes the moment at which the guest's init says that it runs. */
#ifndef RIFFLE_MONITOR_BOOT_TIMER_H
#define RIFFLE_MONITOR_BOOT_TIMER_H

#include <stdatomic.h>
#include <stdint.h>

#include "monitor/bus.h"

#define BOOT_TIMER_MARK 123

struct boot_timer {
	_Atomic uint64_t marked_ns;     /* CLOCK_MONOTONIC of the first mark, 0 before */
};

/* At Firecracker's address (MMIO 0xc0000000) and, for guests that write ports more easily, at port 0xf4. */
void boot_timer_attach(struct boot_timer *timer, struct bus *bus);

#endif
