/* SPDX-License-Identifier: Apache-2.0 */
/* Records when the guest's init reports that it runs, and other marks before and after. */
#include "monitor/platform/boot_timer.h"

#include <time.h>

#include "monitor/platform/platform.h"

static uint8_t timer_read(void *device, unsigned offset)
{
	(void)device, (void)offset;
	return 0xff;
}

static void mark(struct boot_timer *timer, uint64_t ns)
{
	timer->marked_ns = ns;
	if (timer->marked)
		timer->marked(timer->opaque, ns);
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
		mark(timer, ns);
	else
		timer->mark[timer->marks++] = (struct boot_mark){value, ns};
}

int boot_timer_attach(struct boot_timer *timer, struct bus *bus, struct riffle_error *error)
{
	const struct bus_range mmio = {
	    .base = MMIO_BOOT_TIMER, .bytes = 1, .ops = &bus_byte_ops, .device = &timer->registers};

	timer->marked_ns = 0;
	timer->marks = 0;
	timer->registers = (struct bus_bytes){.read = timer_read, .write = timer_write, .device = timer};
	int status = bus_add_byte_ports(bus, PORT_BOOT_TIMER, 1, &timer->registers, error);

	return status ? status : bus_add(&bus->mmio, &mmio, error);
}
