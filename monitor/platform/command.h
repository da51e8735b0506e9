/* SPDX-License-Identifier: Apache-2.0 */
/* The command channel (guest/channel.h): the standard streams of the guest's command, and its status. */
#ifndef RIFFLE_MONITOR_COMMAND_H
#define RIFFLE_MONITOR_COMMAND_H

#include <stdbool.h>
#include <stdint.h>

#include "guest/channel.h"
#include "monitor/bus/bus.h"

#define COMMAND_INPUT_BYTES 65536u

enum command_stream { COMMAND_OUT, COMMAND_ERR, COMMAND_STREAMS };

/* Callbacks into the monitor; called with the bus's lock held, must not block. */
struct command_host {
	/* bytes that put() would accept now; any large number if nobody reads the stream */
	uint32_t (*room)(void *opaque, enum command_stream stream);
	bool (*gone)(void *opaque, enum command_stream stream);
	/* at most room() bytes */
	void (*put)(void *opaque, enum command_stream stream, const uint8_t *data, unsigned bytes);
	/* a byte to COM1 */
	void (*ring)(void *opaque);
	/* command_input() would accept data again */
	void (*input_wanted)(void *opaque);
	/* a valid CHANNEL_STATUS was written; once */
	void (*ended)(void *opaque, uint32_t status);
	void *opaque;
};

struct command {
	const struct command_host *host;
	bool armed; /* the next event rings */
	bool ended;
	bool input_ended, input_refused;
	uint32_t window;
	uint32_t latched; /* the value of a register that is read byte by byte */
	unsigned latched_register;
	uint32_t written; /* bytes of a status written byte by byte */
	unsigned input_head, input_count;
	uint8_t input[COMMAND_INPUT_BYTES];
};

/* Errors: those of bus_add(). */
int command_attach(struct command *command, struct bus *bus, const struct command_host *host,
		   struct riffle_error *error);

/*
 * Call all of these with the bus's lock held. Input: returns how many bytes were taken; if not all, input_wanted() is
 * called when to try again. No input follows the end.
 */
unsigned command_input(struct command *command, const uint8_t *data, unsigned bytes);
void command_input_end(struct command *command);
/* The terminal's size changed. */
void command_window(struct command *command, unsigned rows, unsigned columns);
/* A stream has room again, or nobody reads it any more. */
void command_stream_changed(struct command *command);

#endif
