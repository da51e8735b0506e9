/* SPDX-License-Identifier: Apache-2.0 */
/* The keyboard controller: a keyboard with a single chord, Ctrl-Alt-Del, no mouse, and the reset line. */
#include "monitor/platform/i8042.h"

/*
 * Every command with a response is answered at once: Linux (drivers/input/serio/i8042.c) waits half a second of guest
 * time for a missing one. Commands to the mouse report at once that there is none.
 */
#define STATUS_OUTPUT_FULL 0x01u
#define STATUS_SYSTEM 0x04u  /* self test passed */
#define STATUS_COMMAND 0x08u /* last write went to port 0x64 */
#define STATUS_UNLOCKED 0x10u

#define CONTROL_KEYBOARD_IRQ 0x01u
#define CONTROL_SYSTEM 0x04u
#define CONTROL_MOUSE_OFF 0x20u
#define CONTROL_TRANSLATE 0x40u

#define OUTPUT_PORT_RUN 0x01u /* low resets the processor */

#define KEYBOARD_ACK 0xfau

static void update_irq(struct i8042 *i8042)
{
	bool level = i8042->queue_count && (i8042->control & CONTROL_KEYBOARD_IRQ);
	if (level == i8042->irq)
		return;
	i8042->irq = level;
	i8042->platform->set_irq(i8042->platform->opaque, IRQ_KEYBOARD, level);
}

static void answer(struct i8042 *i8042, uint8_t byte)
{
	if (i8042->queue_count == I8042_QUEUE)
		counter_add(&i8042->counters.errors,
			    1); /* a guest that sends commands without reading loses responses */
	if (i8042->queue_count == I8042_QUEUE)
		return;
	i8042->queue[(i8042->queue_head + i8042->queue_count++) % I8042_QUEUE] = byte;
}

static void type(struct i8042 *i8042, const uint8_t *codes, unsigned count)
{
	for (unsigned i = 0; i < count; i++)
		answer(i8042, codes[i]);
}

/* Linux would repeat a key that stays down. Releases are only sent to a driver that has enabled interrupts. */
static void release_keys(struct i8042 *i8042)
{
	static const uint8_t set_1[] = {0xe0, 0xd3, 0xb8, 0x9d}, set_2[] = {0xe0, 0xf0, 0x71, 0xf0, 0x11, 0xf0, 0x14};

	i8042->held = false;
	if (!(i8042->control & CONTROL_KEYBOARD_IRQ))
		return;
	if (i8042->control & CONTROL_TRANSLATE)
		type(i8042, set_1, sizeof set_1);
	else
		type(i8042, set_2, sizeof set_2);
}

bool i8042_ctrl_alt_del(struct i8042 *i8042)
{
	/* left Ctrl, left Alt, Delete: as the keyboard sends it (set 2), and as translated by the controller (set 1) */
	static const uint8_t set_1[] = {0x1d, 0x38, 0xe0, 0x53}, set_2[] = {0x14, 0x11, 0xe0, 0x71};

	if (I8042_QUEUE - i8042->queue_count < sizeof set_1)
		return false;
	type(i8042, i8042->control & CONTROL_TRANSLATE ? set_1 : set_2, sizeof set_1);
	i8042->held = true;
	update_irq(i8042);
	return true;
}

static void reset_machine(struct i8042 *i8042)
{
	counter_add(&i8042->counters.resets, 1);
	i8042->platform->end(i8042->platform->opaque, VM_END_RESET);
}

static uint8_t read_data(struct i8042 *i8042)
{
	if (i8042->queue_count) {
		i8042->last = i8042->queue[i8042->queue_head];
		i8042->queue_head = (i8042->queue_head + 1) % I8042_QUEUE;
		i8042->queue_count--;
		/* one edge per byte: the line falls in between */
		if (i8042->irq) {
			i8042->irq = false;
			i8042->platform->set_irq(i8042->platform->opaque, IRQ_KEYBOARD, false);
		}
		if (i8042->held && !i8042->queue_count)
			release_keys(i8042);
	}
	return i8042->last;
}

static void controller_command(struct i8042 *i8042, uint8_t command)
{
	i8042->command = 0;
	switch (command) {
	case 0x20: /* read command byte */
		answer(i8042, i8042->control);
		break;
	case 0x60: /* write command byte */
	case 0xd1: /* write output port */
	case 0xd2: /* put a byte into the keyboard's queue */
	case 0xd3: /* put a byte into the mouse's queue */
	case 0xd4: /* write to the mouse */
		i8042->command = command;
		break;
	case 0xa7: /* mouse off */
		i8042->control |= CONTROL_MOUSE_OFF;
		break;
	case 0xa9: /* test the mouse's port: clock line stuck low, as without a mouse port */
		answer(i8042, 0x01);
		break;
	case 0xaa: /* self test */
		i8042->control |= CONTROL_SYSTEM;
		answer(i8042, 0x55);
		break;
	case 0xab: /* test the keyboard's port */
		answer(i8042, 0x00);
		break;
	case 0xad: /* keyboard off */
		i8042->control |= 0x10;
		break;
	case 0xae: /* keyboard on */
		i8042->control &= (uint8_t)~0x10;
		break;
	case 0xd0: /* read output port */
		answer(i8042, i8042->output_port);
		break;
	default:
		/* 0xf0 to 0xff pulse the output port's low four lines whose bit is 0 */
		if (command >= 0xf0 && !(command & OUTPUT_PORT_RUN))
			reset_machine(i8042);
		break;
	}
}

static void controller_data(struct i8042 *i8042, uint8_t value)
{
	uint8_t command = i8042->command;
	i8042->command = 0;
	switch (command) {
	case 0x60:
		i8042->control = value;
		break;
	case 0xd1:
		i8042->output_port = value;
		if (!(value & OUTPUT_PORT_RUN))
			reset_machine(i8042);
		break;
	case 0xd2:
	case 0xd3: /* returned as a keyboard byte, so that the loop test finds no mouse */
		answer(i8042, value);
		break;
	case 0xd4: /* as after a timeout of the mouse's port: resend */
		answer(i8042, 0xfe);
		break;
	}
}

static void keyboard_byte(struct i8042 *i8042, uint8_t value)
{
	if (i8042->keyboard_command) { /* the argument: LEDs, scan code set, repeat rate */
		bool asks_set = i8042->keyboard_command == 0xf0 && value == 0;
		i8042->keyboard_command = 0;
		answer(i8042, KEYBOARD_ACK);
		if (asks_set)
			answer(i8042, 0x02);
		return;
	}
	switch (value) {
	case 0xed: /* set LEDs */
	case 0xf0: /* set scan code set */
	case 0xf3: /* set repeat rate */
		i8042->keyboard_command = value;
		answer(i8042, KEYBOARD_ACK);
		break;
	case 0xee: /* echo */
		answer(i8042, 0xee);
		break;
	case 0xf2: /* identify: an MF2 keyboard, translated */
		answer(i8042, KEYBOARD_ACK);
		answer(i8042, 0xab);
		answer(i8042, i8042->control & CONTROL_TRANSLATE ? 0x41 : 0x83);
		break;
	case 0xff: /* reset: passed its self test */
		answer(i8042, KEYBOARD_ACK);
		answer(i8042, 0xaa);
		break;
	default: /* enable, disable, defaults, and others that only need an ACK */
		answer(i8042, KEYBOARD_ACK);
		break;
	}
}

static uint8_t data_port_read(void *device, unsigned offset)
{
	struct i8042 *i8042 = device;
	(void)offset;
	counter_add(i8042->queue_count ? &i8042->counters.reads : &i8042->counters.missed_reads, 1);
	uint8_t value = read_data(i8042);
	update_irq(i8042);
	return value;
}

static void data_port_write(void *device, unsigned offset, uint8_t value)
{
	struct i8042 *i8042 = device;
	(void)offset;
	counter_add(&i8042->counters.writes, 1);
	if (i8042->command)
		controller_data(i8042, value);
	else
		keyboard_byte(i8042, value);
	update_irq(i8042);
}

static uint8_t command_port_read(void *device, unsigned offset)
{
	struct i8042 *i8042 = device;
	(void)offset;
	counter_add(&i8042->counters.reads, 1);
	uint8_t status = STATUS_UNLOCKED | (i8042->control & CONTROL_SYSTEM ? STATUS_SYSTEM : 0);
	if (i8042->command)
		status |= STATUS_COMMAND;
	if (i8042->queue_count)
		status |= STATUS_OUTPUT_FULL;
	return status;
}

static void command_port_write(void *device, unsigned offset, uint8_t value)
{
	struct i8042 *i8042 = device;
	(void)offset;
	counter_add(&i8042->counters.writes, 1);
	controller_command(i8042, value);
	update_irq(i8042);
}

int i8042_attach(struct i8042 *i8042, struct bus *bus, const struct platform *platform, struct riffle_error *error)
{
	*i8042 = (struct i8042){
	    .platform = platform,
	    .control = CONTROL_SYSTEM | CONTROL_MOUSE_OFF | CONTROL_TRANSLATE,
	    .output_port = OUTPUT_PORT_RUN | 0x02u, /* A20 on */
	    .data_port = {.read = data_port_read, .write = data_port_write, .device = i8042},
	    .command_port = {.read = command_port_read, .write = command_port_write, .device = i8042},
	};
	int status = bus_add_byte_ports(bus, PORT_I8042_DATA, 1, &i8042->data_port, error);

	return status ? status : bus_add_byte_ports(bus, PORT_I8042_COMMAND, 1, &i8042->command_port, error);
}
