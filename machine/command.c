/* SPDX-License-Identifier: Apache-2.0 */
/* The far end of the command channel: the process's standard streams, a terminal's size, the command's status. */
#include <errno.h>
#include <string.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

#include "common/fail.h"
#include "machine/internal.h"

/* ---- called by the channel, with the bus's lock ---- */

static uint32_t room(void *opaque, enum command_stream stream)
{
	return output_room(&((struct machine *)opaque)->command.streams[stream]);
}

static bool gone(void *opaque, enum command_stream stream)
{
	return output_is_gone(&((struct machine *)opaque)->command.streams[stream]);
}

static void put(void *opaque, enum command_stream stream, const uint8_t *data, unsigned bytes)
{
	output_write(&((struct machine *)opaque)->command.streams[stream], data, bytes);
}

/* COM1 takes it when its driver listens; until then one ring stands for all. */
static void ring(void *opaque)
{
	struct machine *m = opaque;
	static const uint8_t byte = '\n';

	m->command.ring_refused = serial_receive(&m->serial, &byte, 1) == 0;
}

static void input_wanted(void *opaque)
{
	struct machine *m = opaque;

	loop_post(&m->loop, &m->command.feed);
}

static void ended(void *opaque, uint32_t status)
{
	struct machine *m = opaque;

	m->command.status = status;
	vm_end(m->vm, VM_END_COMMAND);
}

/* ---- in the event loop ---- */

void machine_command_ring_again(struct machine *m)
{
	pthread_mutex_lock(&m->bus.lock);
	if (m->command.ring_refused)
		ring(m);
	pthread_mutex_unlock(&m->bus.lock);
}

static void end_input(struct machine *m)
{
	m->command.input_closed = true;
	pthread_mutex_lock(&m->bus.lock);
	command_input_end(&m->command.device);
	pthread_mutex_unlock(&m->bus.lock);
}

void machine_command_watch(struct machine *m)
{
	struct machine_command *c = &m->command;
	const struct console *terminal = &c->terminal;
	bool readable = !terminal->terminal || console_readable(terminal);

	if (c->input_added)
		/* a terminal is read all the same, so that the escape works; what is too much is dropped */
		loop_watch(&m->loop, &c->input,
			   readable && !c->input_closed && (terminal->terminal || !c->count) ? EPOLLIN : 0);
}

static void feed(void *opaque)
{
	struct machine *m = opaque;
	struct machine_command *c = &m->command;

	if (c->count) {
		pthread_mutex_lock(&m->bus.lock);
		unsigned taken = command_input(&c->device, c->bytes + c->at, c->count);

		pthread_mutex_unlock(&m->bus.lock);
		c->at += taken;
		c->count -= taken;
	}
	machine_command_watch(m);
}

static void input_failed(struct machine *m, ssize_t count, int problem, uint32_t events)
{
	struct console *terminal = &m->command.terminal;
	bool hung_up = events & (EPOLLHUP | EPOLLERR);

	if (count < 0 && (problem == EAGAIN || problem == EINTR))
		return;
	if (count < 0 && problem == EIO && terminal->terminal && !hung_up)
		console_leave(terminal); /* in the background now; SIGCONT brings it back */
	else if (count < 0 || !terminal->terminal || hung_up)
		end_input(m);
}

static void input_ready(void *opaque, uint32_t events)
{
	struct machine *m = opaque;
	struct machine_command *c = &m->command;
	uint8_t raw[sizeof c->bytes - 1], filtered[sizeof c->bytes];
	ssize_t count = read(STDIN_FILENO, raw, sizeof raw);
	bool escape = false;

	if (count <= 0) {
		input_failed(m, count, errno, events);
		machine_command_watch(m);
		return;
	}
	size_t kept = console_filter(&c->terminal, raw, (size_t)count, filtered, &escape);

	if (!c->count) { /* else from a terminal, and nobody takes what it sent before */
		memcpy(c->bytes, filtered, kept);
		c->at = 0;
		c->count = (unsigned)kept;
	}
	if (c->terminal.dump_asked) {
		c->terminal.dump_asked = false;
		machine_dump_by_key(m);
	}
	if (escape) {
		m->give_up = true;
		vm_end(m->vm, VM_END_ESCAPE);
	}
	feed(m);
}

static void stream_changed(void *opaque)
{
	struct machine *m = opaque;

	pthread_mutex_lock(&m->bus.lock);
	command_stream_changed(&m->command.device);
	pthread_mutex_unlock(&m->bus.lock);
}

static void post_finished(void *opaque)
{
	struct machine *m = opaque;

	loop_post(&m->loop, &m->console.output_finished);
}

void machine_command_resize(struct machine *m)
{
	struct winsize size;

	if (!m->config.command || ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) < 0)
		return;
	pthread_mutex_lock(&m->bus.lock);
	command_window(&m->command.device, size.ws_row, size.ws_col);
	pthread_mutex_unlock(&m->bus.lock);
}

/* ---- its life ---- */

int machine_command_open(struct machine *m, struct riffle_error *error)
{
	static const int fds[COMMAND_STREAMS] = {[COMMAND_OUT] = STDOUT_FILENO, [COMMAND_ERR] = STDERR_FILENO};
	struct machine_command *c = &m->command;
	int status;

	if (!m->config.command)
		return 0;
	c->host = (struct command_host){.room = room,
					.gone = gone,
					.put = put,
					.ring = ring,
					.input_wanted = input_wanted,
					.ended = ended,
					.opaque = m};
	/* raw, where the guest has a terminal of its own behind it; a pipeline's terminal stays as it is */
	console_init(&c->terminal, isatty(STDOUT_FILENO) ? STDIN_FILENO : -1);
	for (unsigned i = 0; i < COMMAND_STREAMS; i++)
		if ((status = output_init(&c->streams[i], OUTPUT_STREAM, fds[i], error)))
			return status;
	return command_attach(&c->device, &m->bus, &c->host, error);
}

int machine_command_start(struct machine *m, struct riffle_error *error)
{
	struct machine_command *c = &m->command;
	int status = 0;

	if (!m->config.command)
		return 0;
	c->feed = (struct loop_task){.run = feed, .opaque = m};
	c->input = (struct loop_source){.ready = input_ready, .opaque = m};
	for (unsigned i = 0; i < COMMAND_STREAMS && !status; i++) {
		c->streams[i].room_again = stream_changed;
		c->streams[i].finished = post_finished;
		c->streams[i].opaque = m;
		status = output_start(&c->streams[i], !m->config.unconfined, error);
	}
	if (!status)
		status = loop_add(&m->loop, &c->input, STDIN_FILENO, 0, error);
	c->input_added = !status;
	machine_command_resize(m);
	return status;
}

/* Has both streams write what is left; console.output_finished is posted when one of them has. */
void machine_command_finish(struct machine *m)
{
	for (unsigned i = 0; i < COMMAND_STREAMS && m->config.command; i++)
		output_finish(&m->command.streams[i]);
}

bool machine_command_finished(struct machine *m)
{
	for (unsigned i = 0; i < COMMAND_STREAMS && m->config.command; i++)
		if (m->command.streams[i].started && !output_is_gone(&m->command.streams[i]))
			return false;
	return true;
}

uint64_t machine_command_progress(struct machine *m)
{
	uint64_t written = 0;

	for (unsigned i = 0; i < COMMAND_STREAMS && m->config.command; i++)
		written += output_progress(&m->command.streams[i]);
	return written;
}

/* errno of a stream that could not be written, 0 for none */
int machine_command_stop(struct machine *m)
{
	int failed = 0;

	for (unsigned i = 0; i < COMMAND_STREAMS && m->config.command; i++) {
		output_stop(&m->command.streams[i]);
		if (!failed)
			failed = output_failed(&m->command.streams[i]);
	}
	return failed;
}

void machine_command_close(struct machine *m)
{
	for (unsigned i = 0; i < COMMAND_STREAMS; i++)
		if (m->command.streams[i].size)
			output_destroy(&m->command.streams[i]);
}

uint32_t machine_command_status(const struct machine *m)
{
	return m->command.status;
}
