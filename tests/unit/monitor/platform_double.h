/* SPDX-License-Identifier: Apache-2.0 */
/* A platform that records what devices request, and shorthands for bus accesses. */
#ifndef RIFFLE_TESTS_PLATFORM_DOUBLE_H
#define RIFFLE_TESTS_PLATFORM_DOUBLE_H

#include <string.h>

#include "monitor/bus/bus.h"
#include "monitor/platform/platform.h"

struct double_machine {
	struct platform platform;
	struct bus bus;
	bool irq[24];
	unsigned rises[24]; /* edges from low to high */
	unsigned sets[24];  /* calls */
	int end;            /* -1: nobody asked */
	unsigned input_wanted;
};

static void double_set_irq(void *opaque, unsigned irq, bool level)
{
	struct double_machine *machine = opaque;
	machine->sets[irq]++;
	machine->rises[irq] += level && !machine->irq[irq];
	machine->irq[irq] = level;
}

static void double_end(void *opaque, enum vm_end end)
{
	((struct double_machine *)opaque)->end = (int)end;
}

static void double_input_wanted(void *opaque)
{
	((struct double_machine *)opaque)->input_wanted++;
}

static inline void double_init(struct double_machine *machine)
{
	memset(machine, 0, sizeof *machine);
	machine->end = -1;
	machine->platform = (struct platform){
	    .set_irq = double_set_irq, .end = double_end, .input_wanted = double_input_wanted, .opaque = machine};
	bus_init(&machine->bus);
}

static inline uint8_t in8(struct double_machine *machine, uint16_t port)
{
	uint8_t value = 0x5c;
	bus_port(&machine->bus, port, 1, false, &value);
	return value;
}

static inline void out8(struct double_machine *machine, uint16_t port, uint8_t value)
{
	bus_port(&machine->bus, port, 1, true, &value);
}

#endif
