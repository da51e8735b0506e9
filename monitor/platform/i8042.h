/* SPDX-License-Identifier: Apache-2.0 */
/* The keyboard controller: a keyboard with a single chord, Ctrl-Alt-Del, no mouse, and the reset line. */
#ifndef RIFFLE_MONITOR_I8042_H
#define RIFFLE_MONITOR_I8042_H

#include "monitor/bus/bus.h"
#include "monitor/counters.h"
#include "monitor/platform/platform.h"

#define I8042_QUEUE 16

struct i8042 {
	const struct platform *platform;
	uint8_t control; /* the controller's command byte */
	uint8_t output_port;
	uint8_t command;            /* controller command awaiting its data byte, 0: none */
	uint8_t keyboard_command;   /* keyboard command awaiting its data byte, 0: none */
	uint8_t queue[I8042_QUEUE]; /* bytes for the guest to read */
	unsigned queue_head, queue_count;
	uint8_t last; /* what reading an empty queue returns */
	bool held;    /* the chord's keys are down */
	bool irq;
	struct bus_bytes data_port, command_port;
	struct i8042_counters counters;
};

/* Errors: those of bus_add(). */
int i8042_attach(struct i8042 *i8042, struct bus *bus, const struct platform *platform, struct riffle_error *error);

/*
 * Presses Ctrl-Alt-Del; the keys are released once the guest has read the chord. With the bus's lock held. False: the
 * queue is full, because the guest has not read earlier bytes.
 */
bool i8042_ctrl_alt_del(struct i8042 *i8042);

#endif
