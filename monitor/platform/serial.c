/* SPDX-License-Identifier: Apache-2.0 */
/* COM1: a 16550A whose transmitter is as fast as the reader of the console. */
#include "monitor/platform/serial.h"

#include <string.h>

/*
 * Registers and bits: National Semiconductor PC16550D data sheet. A byte is transmitted at once, so THRE and TEMT are
 * set whenever the output has room; otherwise the guest waits, as for a slow line.
 */
enum {
	DATA,
	INTERRUPT_ENABLE,
	INTERRUPT_ID_FIFO_CONTROL,
	LINE_CONTROL,
	MODEM_CONTROL,
	LINE_STATUS,
	MODEM_STATUS,
	SCRATCH
};

#define IER_RECEIVE 0x01u
#define IER_TRANSMIT 0x02u
#define IER_LINE_STATUS 0x04u

#define IIR_NONE 0x01u
#define IIR_TRANSMIT 0x02u
#define IIR_RECEIVE 0x04u
#define IIR_LINE_STATUS 0x06u
#define IIR_FIFO 0xc0u

#define FCR_ENABLE 0x01u
#define FCR_CLEAR_RECEIVE 0x02u

#define LCR_DIVISOR 0x80u

#define MCR_DTR 0x01u
#define MCR_RTS 0x02u
#define MCR_OUT1 0x04u
#define MCR_OUT2 0x08u /* gates the interrupt on a PC */
#define MCR_LOOP 0x10u

#define LSR_DATA 0x01u
#define LSR_OVERRUN 0x02u
#define LSR_TRANSMITTER_IDLE 0x60u /* THRE and TEMT */

#define MSR_CTS 0x10u
#define MSR_DSR 0x20u
#define MSR_RI 0x40u
#define MSR_DCD 0x80u

/*
 * Input that arrives before a driver listens (a script piped into the console) must not be lost. While probing, Linux's
 * 8250 driver briefly enables all interrupts, clears the FIFOs several times, and reads the receiver once to discard
 * stale bytes, before it enables the receive interrupt for good. So console input is visible only while the guest
 * listens, by that interrupt or by polling the line status, and clearing the FIFO does not clear it.
 */
#define POLLS_OF_A_LISTENER 8u

static bool guest_listens(const struct serial *serial)
{
	return !(serial->modem_control & MCR_LOOP) && (serial->interrupt_enable & IER_RECEIVE || serial->polled);
}

static bool has_data(const struct serial *serial)
{
	return serial->modem_control & MCR_LOOP ? serial->looped.count != 0
						: serial->received.count && guest_listens(serial);
}

static uint8_t interrupt_id(const struct serial *serial)
{
	if (serial->interrupt_enable & IER_LINE_STATUS && serial->overrun)
		return IIR_LINE_STATUS;
	if (serial->interrupt_enable & IER_RECEIVE && has_data(serial))
		return IIR_RECEIVE;
	if (serial->interrupt_enable & IER_TRANSMIT && serial->transmitter_empty_pending)
		return IIR_TRANSMIT;
	return IIR_NONE;
}

static void update_irq(struct serial *serial)
{
	bool level = interrupt_id(serial) != IIR_NONE && (serial->modem_control & (MCR_OUT2 | MCR_LOOP)) == MCR_OUT2;
	if (level == serial->irq)
		return;
	serial->irq = level;
	serial->platform->set_irq(serial->platform->opaque, IRQ_COM1, level);
}

static bool put_byte(const struct serial *serial, struct serial_fifo *fifo, uint8_t byte)
{
	if (fifo->count >= (serial->fifo ? SERIAL_FIFO : 1))
		return false;
	fifo->bytes[(fifo->head + fifo->count++) % SERIAL_FIFO] = byte;
	return true;
}

static void ask_for_input(struct serial *serial)
{
	if (!serial->input_refused || !guest_listens(serial))
		return;
	serial->input_refused = false;
	serial->platform->input_wanted(serial->platform->opaque);
}

static uint8_t read_received(struct serial *serial)
{
	struct serial_fifo *fifo = serial->modem_control & MCR_LOOP ? &serial->looped : &serial->received;

	if (!has_data(serial)) {
		counter_add(&serial->counters.missed_reads, 1);
		return 0;
	}
	uint8_t byte = fifo->bytes[fifo->head];

	counter_add(&serial->counters.reads, 1);

	fifo->head = (fifo->head + 1) % SERIAL_FIFO;
	if (--fifo->count == 0)
		ask_for_input(serial);
	return byte;
}

static void transmit(struct serial *serial, uint8_t byte)
{
	if (serial->modem_control & MCR_LOOP) {
		if (!put_byte(serial, &serial->looped, byte)) {
			serial->overrun = true;
			counter_add(&serial->counters.errors, 1);
		}
		serial->transmitter_empty_pending = true;
		return;
	}
	if (!limiter_bucket_take(&serial->limit, 1)) {
		counter_add(&serial->counters.limited_bytes, 1);
	} else {
		counter_add(
		    output_put(serial->output, byte) ? &serial->counters.writes : &serial->counters.missed_writes, 1);
	}
	serial->transmitter_empty_pending = output_has_room(serial->output);
}

static uint8_t line_status(struct serial *serial)
{
	uint8_t status = 0;
	if (has_data(serial))
		status |= LSR_DATA;
	if (serial->overrun)
		status |= LSR_OVERRUN;
	if (serial->modem_control & MCR_LOOP || output_has_room(serial->output))
		status |= LSR_TRANSMITTER_IDLE;
	serial->overrun = false;
	if (++serial->status_polls >= POLLS_OF_A_LISTENER && !serial->polled) {
		serial->polled = true;
		ask_for_input(serial);
	}
	return status;
}

/* In loopback mode the modem inputs are the port's own outputs; otherwise the modem is always ready. */
static uint8_t modem_status(const struct serial *serial)
{
	uint8_t control = serial->modem_control;
	if (!(control & MCR_LOOP))
		return MSR_CTS | MSR_DSR | MSR_DCD;
	return (control & MCR_RTS ? MSR_CTS : 0) | (control & MCR_DTR ? MSR_DSR : 0) |
	       (control & MCR_OUT1 ? MSR_RI : 0) | (control & MCR_OUT2 ? MSR_DCD : 0);
}

static uint8_t serial_read(void *device, unsigned offset)
{
	struct serial *serial = device;
	bool divisor = serial->line_control & LCR_DIVISOR;
	uint8_t value = 0xff;

	if (offset != LINE_STATUS)
		serial->status_polls = 0;
	switch (offset) {
	case DATA:
		value = divisor ? serial->divisor_low : read_received(serial);
		break;
	case INTERRUPT_ENABLE:
		value = divisor ? serial->divisor_high : serial->interrupt_enable;
		break;
	case INTERRUPT_ID_FIFO_CONTROL:
		value = interrupt_id(serial);
		if (value == IIR_TRANSMIT)
			serial->transmitter_empty_pending = false;
		value |= serial->fifo ? IIR_FIFO : 0;
		break;
	case LINE_CONTROL:
		value = serial->line_control;
		break;
	case MODEM_CONTROL:
		value = serial->modem_control;
		break;
	case LINE_STATUS:
		value = line_status(serial);
		break;
	case MODEM_STATUS:
		value = modem_status(serial);
		break;
	case SCRATCH:
		value = serial->scratch;
		break;
	}
	update_irq(serial);
	return value;
}

static void write_interrupt_enable(struct serial *serial, uint8_t value)
{
	value &= 0x0f;
	/* enabling it with an empty transmitter raises it at once */
	if (value & IER_TRANSMIT && !(serial->interrupt_enable & IER_TRANSMIT))
		serial->transmitter_empty_pending = serial->modem_control & MCR_LOOP || output_has_room(serial->output);
	serial->interrupt_enable = value;
	serial->polled = false;
	ask_for_input(serial);
}

static void write_fifo_control(struct serial *serial, uint8_t value)
{
	serial->fifo = value & FCR_ENABLE;
	serial->polled = false;
	if (value & FCR_CLEAR_RECEIVE)
		serial->looped.head = serial->looped.count = 0;
	ask_for_input(serial);
}

static void write_modem_control(struct serial *serial, uint8_t value)
{
	serial->modem_control = value & 0x1f;
	serial->polled = false;
	if (!(value & MCR_LOOP))
		serial->looped.head = serial->looped.count = 0;
	ask_for_input(serial);
}

static void serial_write(void *device, unsigned offset, uint8_t value)
{
	struct serial *serial = device;
	bool divisor = serial->line_control & LCR_DIVISOR;

	serial->status_polls = 0;
	switch (offset) {
	case DATA:
		if (divisor)
			serial->divisor_low = value;
		else
			transmit(serial, value);
		break;
	case INTERRUPT_ENABLE:
		if (divisor)
			serial->divisor_high = value;
		else
			write_interrupt_enable(serial, value);
		break;
	case INTERRUPT_ID_FIFO_CONTROL:
		write_fifo_control(serial, value);
		break;
	case LINE_CONTROL:
		serial->line_control = value;
		break;
	case MODEM_CONTROL:
		write_modem_control(serial, value);
		break;
	case SCRATCH:
		serial->scratch = value;
		break;
	default: /* the status registers are read-only */
		break;
	}
	update_irq(serial);
}

unsigned serial_receive(struct serial *serial, const uint8_t *bytes, unsigned count)
{
	unsigned taken = 0;
	if (guest_listens(serial))
		while (taken < count && put_byte(serial, &serial->received, bytes[taken]))
			taken++;
	if (taken < count)
		serial->input_refused = true;
	update_irq(serial);
	return taken;
}

void serial_output_ready(struct serial *serial)
{
	serial->transmitter_empty_pending = true;
	update_irq(serial);
}

void serial_limit(struct serial *serial, const struct limiter_bucket_config *limit)
{
	limiter_bucket_init(&serial->limit, limit);
}

int serial_attach(struct serial *serial, struct bus *bus, const struct platform *platform, struct output *output,
		  struct riffle_error *error)
{
	memset(serial, 0, sizeof *serial);
	serial->platform = platform;
	serial->output = output;
	serial->divisor_low = 1; /* 115200 baud, 8N1, as firmware would leave it */
	serial->line_control = 0x03;
	serial->registers = (struct bus_bytes){.read = serial_read, .write = serial_write, .device = serial};
	return bus_add_byte_ports(bus, PORT_COM1, 8, &serial->registers, error);
}
