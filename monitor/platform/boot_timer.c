/* SPDX-License-Identifier: Apache-2.0 */
/* Notes the moment at which the guest's init says that it runs, and those of other marks on the way. */
#include "monitor/platform/boot_timer.h"

#include <time.h>

#include "monitor/platform/platform.h"

static uint8_t timer_read(void *device, unsigned offset)
{
	(void)device, (void)offset;
	return 0xff;
}

static void timer_write(void *device, unsigned offset, uint8_t value)
{
	struct boot_timer *timer = device;
	(void)offset;
	if (value == BOOT_TIMER_MARK ? timer->marked_ns != 0 : timer->marks == BOOT_TIMER_MARKS_MAX)
		return;
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	uint64_t ns = (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
	if (value == BOOT_TIMER_MARK)
		timer->marked_ns = ns;
	else
		timer->mark[timer->marks++] = (struct boot_mark){value, ns};
}

void boot_timer_attach(struct boot_timer *timer, struct bus *bus)
{
	struct bus_region region = {.bytes = 1, .read = timer_read, .write = timer_write, .device = timer};
	timer->marked_ns = 0;
	timer->marks = 0;
	region.base = PORT_BOOT_TIMER;
	bus_add_ports(bus, &region);
	region.base = MMIO_BOOT_TIMER;
	bus_add_mmio(bus, &region);
}
