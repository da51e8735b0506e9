/* SPDX-License-Identifier: Apache-2.0 */
/* COM1: a 16550A whose transmitter is as fast as the reader of the console. */
#ifndef RIFFLE_MONITOR_SERIAL_H
#define RIFFLE_MONITOR_SERIAL_H

#include "monitor/bus/bus.h"
#include "monitor/counters.h"
#include "monitor/platform/output.h"
#include "monitor/platform/platform.h"
#include "monitor/virtio/limiter.h"

#define SERIAL_FIFO 16u

struct serial {
	const struct platform *platform;
	struct output *output;
	uint8_t interrupt_enable, line_control, modem_control, scratch;
	uint8_t divisor_low, divisor_high;
	bool fifo;
	bool overrun;
	bool transmitter_empty_pending; /* the THRE interrupt is due */
	bool input_refused;             /* serial_receive() did not take everything */
	unsigned status_polls;          /* line status reads in a row, with nothing in between */
	bool polled;                    /* the guest polls for input, until it sets up the port again */
	bool irq;
	/* received data, including what the guest sends itself in loopback mode */
	struct serial_fifo {
		unsigned head, count;
		uint8_t bytes[SERIAL_FIFO];
	} received, looped;
	struct bus_bytes registers;
	struct serial_counters counters;
	struct limiter_bucket limit; /* limit on bytes to the output; counters.limited_bytes counts the excess */
};

/* Errors: those of bus_add(). */
int serial_attach(struct serial *serial, struct bus *bus, const struct platform *platform, struct output *output,
		  struct riffle_error *error);

/*
 * Passes console input to the guest; the bus's lock must be held. Returns how many bytes were taken; if not all,
 * platform->input_wanted() is called when to try again.
 */
unsigned serial_receive(struct serial *serial, const uint8_t *bytes, unsigned count);

/* Output beyond this limit is lost. Call after serial_attach(). */
void serial_limit(struct serial *serial, const struct limiter_bucket_config *limit);

/* The output has room again; the bus's lock is held. */
void serial_output_ready(struct serial *serial);

#endif
