/* SPDX-License-Identifier: Apache-2.0 */
/* The CMOS clock (MC146818): the host's time of day, 128 bytes of memory, no interrupt. */
#ifndef RIFFLE_MONITOR_CMOS_H
#define RIFFLE_MONITOR_CMOS_H

#include "monitor/bus/bus.h"

struct cmos {
	uint8_t index;
	uint8_t bytes[128];
	int64_t (*now)(void); /* seconds since 1970, UTC */
	struct bus_bytes registers;
};

/* `now` may be NULL: the host's clock. Errors: those of bus_add(). */
int cmos_attach(struct cmos *cmos, struct bus *bus, int64_t (*now)(void), struct riffle_error *error);

#endif
