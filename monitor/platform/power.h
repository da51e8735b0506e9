/* SPDX-License-Identifier: Apache-2.0 */
/* Power-off and reset by registers: ACPI sleep control, and the reset register 0xcf9. */
#ifndef RIFFLE_MONITOR_POWER_H
#define RIFFLE_MONITOR_POWER_H

#include "monitor/bus/bus.h"
#include "monitor/platform/platform.h"

struct power {
	const struct platform *platform;
	uint8_t reset_control;
};

void power_attach(struct power *power, struct bus *bus, const struct platform *platform);

#endif
