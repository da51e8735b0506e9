/* SPDX-License-Identifier: Apache-2.0 */
/* ACPI's fixed registers, with power-off, and the reset register 0xcf9. */
#ifndef RIFFLE_MONITOR_POWER_H
#define RIFFLE_MONITOR_POWER_H

#include "monitor/bus/bus.h"
#include "monitor/platform/platform.h"

struct power {
	const struct platform *platform;
	uint8_t pm[RIFFLE_BOOT_PM_BYTES]; /* as the guest reads them */
	uint8_t reset_control;
	struct bus_bytes reset_register;
};

/* Errors: those of bus_add(). */
int power_attach(struct power *power, struct bus *bus, const struct platform *platform, struct riffle_error *error);

#endif
