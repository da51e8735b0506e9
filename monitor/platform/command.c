/* SPDX-License-Identifier: Apache-2.0 */
/* The command channel (guest/channel.h): the standard streams of the guest's command, and its status. */
#include "monitor/platform/command.h"

#include <string.h>

#define ERRNO_MAX 4095u /* include/linux/err.h */
#define SIGNAL_MAX 64u

/* Rings at most once per read of STATE, so that rings never pile up. */
static void ring(struct command *command)
{
	if (!command->armed)
		return;
	command->armed = false;
	command->host->ring(command->host->opaque);
}

static uint32_t state(struct command *command)
{
	const struct command_host *host = command->host;
	uint32_t flags = 0;

	command->armed = true;
	if (command->input_ended && !command->input_count)
		flags |= CHANNEL_IN_END;
	if (host->gone(host->opaque, COMMAND_OUT))
		flags |= CHANNEL_OUT_GONE;
	if (host->gone(host->opaque, COMMAND_ERR))
		flags |= CHANNEL_ERR_GONE;
	return flags;
}

static uint32_t read_register(struct command *command, unsigned which)
{
	const struct command_host *host = command->host;

	switch (which) {
	case CHANNEL_MAGIC:
		return CHANNEL_MAGIC_VALUE;
	case CHANNEL_STATE:
		return state(command);
	case CHANNEL_IN_COUNT:
		return command->input_count;
	case CHANNEL_OUT:
		return host->room(host->opaque, COMMAND_OUT);
	case CHANNEL_ERR:
		return host->room(host->opaque, COMMAND_ERR);
	case CHANNEL_WINDOW:
		return command->window;
	default:
		return 0;
	}
}

static void take_input(struct command *command, uint8_t *data, unsigned bytes)
{
	memset(data, 0, bytes);
	for (unsigned i = 0; i < bytes && command->input_count; i++) {
		data[i] = command->input[command->input_head];
		command->input_head = (command->input_head + 1) % COMMAND_INPUT_BYTES;
		command->input_count--;
	}
	if (command->input_refused && command->input_count <= COMMAND_INPUT_BYTES / 2) {
		command->input_refused = false;
		command->host->input_wanted(command->host->opaque);
	}
}

static void command_read(void *device, uint64_t offset, void *data, unsigned bytes)
{
	struct command *command = device;
	unsigned which = (unsigned)offset & ~3u, at = (unsigned)offset & 3u;

	if (which == CHANNEL_IN_DATA) {
		take_input(command, data, bytes);
	} else if (at + bytes > 4) {
		memset(data, 0xff, bytes);
	} else {
		if (at == 0 || command->latched_register != which) {
			command->latched = read_register(command, which);
			command->latched_register = which;
		}
		memcpy(data, (const uint8_t *)&command->latched + at, bytes);
	}
}

static bool is_status(uint32_t status)
{
	uint32_t value = status & 0xffff;

	switch (status >> 16) {
	case CHANNEL_STATUS_EXITED:
		return value <= 255;
	case CHANNEL_STATUS_SIGNALED:
		return value >= 1 && value <= SIGNAL_MAX;
	case CHANNEL_STATUS_NOT_FOUND:
	case CHANNEL_STATUS_CANNOT_RUN:
	case CHANNEL_STATUS_NO_DIRECTORY:
	case CHANNEL_STATUS_INIT_FAILED:
		return value <= ERRNO_MAX;
	default:
		return false;
	}
}

static void write_status(struct command *command, unsigned at, const void *data, unsigned bytes)
{
	memcpy((uint8_t *)&command->written + at, data, bytes);
	if (at + bytes != 4 || command->ended || !is_status(command->written))
		return;
	command->ended = true;
	command->host->ended(command->host->opaque, command->written);
}

static void write_stream(struct command *command, enum command_stream stream, const void *data, unsigned bytes)
{
	const struct command_host *host = command->host;
	uint32_t room = host->room(host->opaque, stream);

	host->put(host->opaque, stream, data, bytes < room ? bytes : room);
}

static void command_write(void *device, uint64_t offset, const void *data, unsigned bytes)
{
	struct command *command = device;
	unsigned which = (unsigned)offset & ~3u, at = (unsigned)offset & 3u;

	if (which == CHANNEL_OUT)
		write_stream(command, COMMAND_OUT, data, bytes);
	else if (which == CHANNEL_ERR)
		write_stream(command, COMMAND_ERR, data, bytes);
	else if (which == CHANNEL_STATUS && at + bytes <= 4)
		write_status(command, at, data, bytes);
	else if (which == CHANNEL_WINDOW && at + bytes == 4)
		command->host->ring(command->host->opaque);
}

static const struct bus_ops ops = {command_read, command_write};

int command_attach(struct command *command, struct bus *bus, const struct command_host *host,
		   struct riffle_error *error)
{
	const struct bus_range range = {.base = CHANNEL_PORT, .bytes = CHANNEL_PORTS, .ops = &ops, .device = command};

	memset(command, 0, sizeof *command);
	command->host = host;
	command->latched_register = CHANNEL_PORTS;
	return bus_add(&bus->ports, &range, error);
}

unsigned command_input(struct command *command, const uint8_t *data, unsigned bytes)
{
	unsigned room = COMMAND_INPUT_BYTES - command->input_count, taken = bytes < room ? bytes : room;

	if (command->input_ended)
		return bytes;
	for (unsigned i = 0; i < taken; i++)
		command->input[(command->input_head + command->input_count + i) % COMMAND_INPUT_BYTES] = data[i];
	command->input_count += taken;
	if (taken < bytes)
		command->input_refused = true;
	if (taken)
		ring(command);
	return taken;
}

void command_input_end(struct command *command)
{
	command->input_ended = true;
	ring(command);
}

void command_window(struct command *command, unsigned rows, unsigned columns)
{
	command->window = (rows & 0xffff) << 16 | (columns & 0xffff);
	ring(command);
}

void command_stream_changed(struct command *command)
{
	ring(command);
}
