/* SPDX-License-Identifier: Apache-2.0 */
/* ACPI's fixed registers, with power-off, and the reset register 0xcf9. */
#include "monitor/platform/power.h"

#include <string.h>

#define RESET_CPU 0x04u  /* a write that sets it resets the machine; bit 1 chooses a hard reset */
#define RESET_KIND 0x0au /* bits that read back: hard reset, full power cycle */

/*
 * ACPI 6.5, 4.8.3: PM1 status (a write of 1 clears a bit, and none is ever set: there is no timer, no button, no GPE),
 * PM1 enable, PM1 control. SCI_EN reads 1: there is no SMI command port, so the machine is in ACPI mode from the start.
 */
#define PM1_ENABLE 2u
#define PM1_CONTROL 4u
#define CONTROL_SCI_EN 0x01u
/* the control register's upper byte */
#define CONTROL_SLEEP 0x3cu /* SLP_TYP and SLP_EN */

static void pm_read(void *device, uint64_t offset, void *data, unsigned bytes)
{
	memcpy(data, ((struct power *)device)->pm + offset, bytes);
}

static void pm_write_byte(struct power *power, unsigned offset, uint8_t value)
{
	if (offset < PM1_ENABLE)
		return;
	if (offset == PM1_CONTROL)
		value |= CONTROL_SCI_EN;
	if (offset == PM1_CONTROL + 1 && (value & CONTROL_SLEEP) == RIFFLE_BOOT_SLEEP_S5)
		power->platform->end(power->platform->opaque, VM_END_POWEROFF);
	/* SLP_EN reads 0 */
	power->pm[offset] = offset == PM1_CONTROL + 1 ? value & (uint8_t)~CONTROL_SLEEP : value;
}

static void pm_write(void *device, uint64_t offset, const void *data, unsigned bytes)
{
	for (unsigned i = 0; i < bytes; i++)
		pm_write_byte(device, (unsigned)offset + i, ((const uint8_t *)data)[i]);
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

int power_attach(struct power *power, struct bus *bus, const struct platform *platform, struct riffle_error *error)
{
	static const struct bus_ops pm_ops = {.read = pm_read, .write = pm_write};
	const struct bus_range pm = {.base = PORT_PM, .bytes = RIFFLE_BOOT_PM_BYTES, .ops = &pm_ops, .device = power};

	*power = (struct power){.platform = platform, .pm[PM1_CONTROL] = CONTROL_SCI_EN};
	power->reset_register = (struct bus_bytes){.read = reset_read, .write = reset_write, .device = power};
	int status = bus_add(&bus->ports, &pm, error);

	return status ? status : bus_add_byte_ports(bus, PORT_RESET, 1, &power->reset_register, error);
}
