/* SPDX-License-Identifier: Apache-2.0 */
/* Power-off and reset by registers: ACPI sleep control, and the reset register 0xcf9. */
#include "monitor/platform/power.h"

#define RESET_CPU 0x04u         /* a write that sets it resets the machine; bit 1 chooses a hard reset */
#define RESET_KIND 0x0au        /* bits that read back: hard reset, full power cycle */

/* Sleep control (offset 0) reads 0, and so does sleep status (offset 1): never woken (ACPI 6.5, 4.8.3.7). */
static uint8_t sleep_read(void *device, unsigned offset)
{
	(void)device, (void)offset;
	return 0;
}

static void sleep_write(void *device, unsigned offset, uint8_t value)
{
	struct power *power = device;
	if (offset == 0 && value == RIFFLE_BOOT_SLEEP_S5)
		power->platform->end(power->platform->opaque, VM_END_POWEROFF);
}

static uint8_t reset_read(void *device, unsigned offset)
{
	(void)offset;
	return ((struct power *)device)->reset_control;
}

static void reset_write(void *device, unsigned offset, uint8_t value)
{
	struct power *power = device;
	(void)offset;
	power->reset_control = value & RESET_KIND;
	if (value & RESET_CPU)
		power->platform->end(power->platform->opaque, VM_END_RESET);
}

void power_attach(struct power *power, struct bus *bus, const struct platform *platform)
{
	*power = (struct power){.platform = platform};
	bus_add_ports(bus, &(struct bus_region){.base = PORT_SLEEP_CONTROL, .bytes = 2, .read = sleep_read,
						.write = sleep_write, .device = power});
	bus_add_ports(bus, &(struct bus_region){.base = PORT_RESET, .bytes = 1, .read = reset_read,
						.write = reset_write, .device = power});
}
