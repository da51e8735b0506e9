/* SPDX-License-Identifier: Apache-2.0 */
/* The state of the platform's small devices. */
#include <string.h>

#include "monitor/snapshot/components.h"

/* ---- the serial port ---- */

static void put_fifo(struct state_writer *writer, const struct serial_fifo *fifo)
{
	uint8_t bytes[SERIAL_FIFO];

	for (unsigned i = 0; i < fifo->count; i++)
		bytes[i] = fifo->bytes[(fifo->head + i) % SERIAL_FIFO];
	state_put_block(writer, bytes, fifo->count);
}

static void get_fifo(struct state_reader *reader, const char *field, struct serial_fifo *fifo)
{
	fifo->head = 0;
	fifo->count = (unsigned)state_get_block(reader, field, fifo->bytes, sizeof fifo->bytes);
}

void serial_save(const struct serial *serial, struct state_writer *writer)
{
	state_begin(writer, STATE_SERIAL, 0, 1);
	state_put8(writer, serial->interrupt_enable);
	state_put8(writer, serial->line_control);
	state_put8(writer, serial->modem_control);
	state_put8(writer, serial->scratch);
	state_put8(writer, serial->divisor_low);
	state_put8(writer, serial->divisor_high);
	state_put8(writer, serial->fifo);
	state_put8(writer, serial->overrun);
	state_put8(writer, serial->transmitter_empty_pending);
	state_put8(writer, serial->input_refused);
	state_put8(writer, serial->polled);
	state_put8(writer, serial->irq);
	state_put32(writer, serial->status_polls);
	put_fifo(writer, &serial->received);
	put_fifo(writer, &serial->looped);
	state_end(writer);
}

int serial_restore(struct serial *serial, const struct state_file *file, struct riffle_error *error)
{
	struct serial got = *serial;
	struct state_reader reader;

	if (!state_section(file, STATE_SERIAL, 0, &reader))
		return state_missing("serial", error);
	got.interrupt_enable = state_get8(&reader, "interrupt_enable") & 0x0f;
	got.line_control = state_get8(&reader, "line_control");
	got.modem_control = state_get8(&reader, "modem_control") & 0x1f;
	got.scratch = state_get8(&reader, "scratch");
	got.divisor_low = state_get8(&reader, "divisor_low");
	got.divisor_high = state_get8(&reader, "divisor_high");
	got.fifo = state_get_bool(&reader, "fifo");
	got.overrun = state_get_bool(&reader, "overrun");
	got.transmitter_empty_pending = state_get_bool(&reader, "transmitter_empty_pending");
	got.input_refused = state_get_bool(&reader, "input_refused");
	got.polled = state_get_bool(&reader, "polled");
	got.irq = state_get_bool(&reader, "irq");
	got.status_polls = state_get32(&reader, "status_polls");
	get_fifo(&reader, "received", &got.received);
	get_fifo(&reader, "looped", &got.looped);
	int status = state_close_section(&reader, error);

	if (status)
		return status;
	*serial = got;
	/* whether its edge had reached the guest when it was saved nobody knows; one too many does no harm */
	if (serial->irq)
		serial->platform->set_irq(serial->platform->opaque, IRQ_COM1, true);
	return 0;
}

/* ---- the keyboard controller ---- */

void i8042_save(const struct i8042 *i8042, struct state_writer *writer)
{
	uint8_t queue[I8042_QUEUE];

	for (unsigned i = 0; i < i8042->queue_count; i++)
		queue[i] = i8042->queue[(i8042->queue_head + i) % I8042_QUEUE];
	state_begin(writer, STATE_I8042, 0, 1);
	state_put8(writer, i8042->control);
	state_put8(writer, i8042->output_port);
	state_put8(writer, i8042->command);
	state_put8(writer, i8042->keyboard_command);
	state_put8(writer, i8042->last);
	state_put8(writer, i8042->irq);
	state_put_block(writer, queue, i8042->queue_count);
	state_end(writer);
}

int i8042_restore(struct i8042 *i8042, const struct state_file *file, struct riffle_error *error)
{
	struct i8042 got = *i8042;
	struct state_reader reader;

	if (!state_section(file, STATE_I8042, 0, &reader))
		return state_missing("i8042", error);
	got.control = state_get8(&reader, "control");
	got.output_port = state_get8(&reader, "output_port");
	got.command = state_get8(&reader, "command");
	got.keyboard_command = state_get8(&reader, "keyboard_command");
	got.last = state_get8(&reader, "last");
	got.irq = state_get_bool(&reader, "irq");
	got.queue_head = 0;
	got.queue_count = (unsigned)state_get_block(&reader, "queue", got.queue, sizeof got.queue);
	int status = state_close_section(&reader, error);

	if (status)
		return status;
	*i8042 = got;
	if (i8042->irq)
		i8042->platform->set_irq(i8042->platform->opaque, IRQ_KEYBOARD, true);
	return 0;
}

/* ---- the CMOS clock: the time itself is the host's ---- */

void cmos_save(const struct cmos *cmos, struct state_writer *writer)
{
	state_begin(writer, STATE_CMOS, 0, 1);
	state_put8(writer, cmos->index);
	state_put_block(writer, cmos->bytes, sizeof cmos->bytes);
	state_end(writer);
}

int cmos_restore(struct cmos *cmos, const struct state_file *file, struct riffle_error *error)
{
	uint8_t bytes[sizeof cmos->bytes];
	struct state_reader reader;

	if (!state_section(file, STATE_CMOS, 0, &reader))
		return state_missing("cmos", error);
	uint8_t index = state_get8(&reader, "index");
	size_t count = state_get_block(&reader, "bytes", bytes, sizeof bytes);

	if (index >= sizeof bytes)
		state_refuse(&reader, "index", "is out of range", index);
	if (count != sizeof bytes)
		state_refuse(&reader, "bytes", "has another size", count);
	int status = state_close_section(&reader, error);

	if (status)
		return status;
	cmos->index = index;
	memcpy(cmos->bytes, bytes, sizeof bytes);
	return 0;
}

/* ---- ACPI's registers ---- */

void power_save(const struct power *power, struct state_writer *writer)
{
	state_begin(writer, STATE_POWER, 0, 1);
	state_put_block(writer, power->pm, sizeof power->pm);
	state_put8(writer, power->reset_control);
	state_end(writer);
}

int power_restore(struct power *power, const struct state_file *file, struct riffle_error *error)
{
	uint8_t pm[sizeof power->pm];
	struct state_reader reader;

	if (!state_section(file, STATE_POWER, 0, &reader))
		return state_missing("power", error);
	size_t bytes = state_get_block(&reader, "pm", pm, sizeof pm);
	uint8_t reset_control = state_get8(&reader, "reset_control");

	if (bytes != sizeof pm)
		state_refuse(&reader, "pm", "has another size", bytes);
	int status = state_close_section(&reader, error);

	if (status)
		return status;
	memcpy(power->pm, pm, sizeof pm);
	power->reset_control = reset_control;
	return 0;
}
