/* SPDX-License-Identifier: Apache-2.0 */
/* The console's far end: stdio, a file, a socket or a pseudo-terminal, and what is typed there into the guest. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <termios.h>
#include <unistd.h>

#include "common/fail.h"
#include "machine/internal.h"
#include "machine/unix_socket.h"

static int open_file(struct machine *m, struct riffle_error *error)
{
	/* a device or FIFO is written to as it is; nothing waits for its reader */
	int fd = open(m->config.console.path, O_WRONLY | O_CREAT | O_CLOEXEC | O_NOCTTY | O_NONBLOCK, 0600);
	const char *input;
	struct stat st;

	m->blame = m->config.console.path;
	if (fd < 0)
		return riffle_fail_system(error, errno, "console", "cannot be opened for writing");
	m->console.out_fd = fd;
	/* emptied only when it is known to be nothing that the guest is made of */
	input = fstat(fd, &st) ? NULL : machine_config_uses(&m->config, &st);
	if (input) {
		snprintf(m->words, sizeof m->words, "is the machine's %s", input);
		return riffle_fail(error, RIFFLE_ERR_ARGUMENT, "console", m->words);
	}
	if (S_ISREG(st.st_mode) && ftruncate(fd, 0) < 0)
		return riffle_fail_system(error, errno, "console", "cannot be emptied");
	m->console.out_fd = fd;
	m->blame = NULL;
	return 0;
}

static int open_socket(struct machine *m, struct riffle_error *error)
{
	m->blame = m->config.console.path;
	int status =
	    unix_socket_listen(&m->console.listen_fd, SOCK_STREAM, m->config.console.path, "console", 8, error);

	if (!status)
		m->blame = NULL;
	return status;
}

/* Our own descriptor of the far end keeps what was written for the next reader, and hang-ups away. */
static int open_pty(struct machine *m, struct riffle_error *error)
{
	struct machine_console *c = &m->console;
	struct termios raw;
	char text[128];
	int master = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC | O_NONBLOCK);

	if (master < 0 || grantpt(master) < 0 || unlockpt(master) < 0 ||
	    ptsname_r(master, c->pty_name, sizeof c->pty_name)) {
		int problem = errno;

		if (master >= 0)
			close(master);
		return riffle_fail_system(error, problem, "console", "a pseudo-terminal cannot be opened");
	}
	c->in_fd = c->out_fd = master;
	c->held_fd = open(c->pty_name, O_RDWR | O_NOCTTY | O_CLOEXEC);
	if (c->held_fd < 0 || tcgetattr(c->held_fd, &raw) < 0)
		return riffle_fail_system(error, errno, "console", "the pseudo-terminal cannot be opened");
	cfmakeraw(&raw);
	tcsetattr(c->held_fd, TCSANOW, &raw);
	snprintf(text, sizeof text, "console on %s", c->pty_name);
	machine_notice(m, text);
	return 0;
}

/* What cannot be set so is a file, which does not make anybody wait. */
static void set_nonblocking(int fd)
{
	int flags = fd < 0 ? -1 : fcntl(fd, F_GETFL);

	if (flags >= 0)
		fcntl(fd, F_SETFL, flags | O_NONBLOCK);
}

int machine_console_open(struct machine *m, struct riffle_error *error)
{
	enum output_reader reader = OUTPUT_STREAM;
	struct machine_console *c = &m->console;
	int status = 0;

	c->owns_fds = m->config.console.kind != MACHINE_CONSOLE_STDIO;
	if (m->config.console.lossy)
		reader = OUTPUT_DEVICE;
	switch (m->config.console.kind) {
	case MACHINE_CONSOLE_STDIO:
		c->in_fd = STDIN_FILENO;
		c->out_fd = STDOUT_FILENO;
		break;
	case MACHINE_CONSOLE_FILE:
		status = open_file(m, error);
		break;
	case MACHINE_CONSOLE_FD:
		c->out_fd = fcntl(m->config.console.fd, F_DUPFD_CLOEXEC, 3);
		if (c->out_fd < 0)
			status = riffle_fail_system(error, errno, "console", "is no open descriptor");
		break;
	case MACHINE_CONSOLE_UNIX:
		status = open_socket(m, error);
		reader = OUTPUT_READERS;
		break;
	case MACHINE_CONSOLE_PTY:
		status = open_pty(m, error);
		reader = OUTPUT_DEVICE;
		break;
	case MACHINE_CONSOLE_NONE:
		reader = OUTPUT_NOBODY;
		break;
	case MACHINE_CONSOLE_KEPT:
		reader = OUTPUT_READERS; /* of whom none ever comes */
		break;
	}
	if (!status && m->config.console.lossy)
		set_nonblocking(c->out_fd);
	console_init(&c->terminal, m->config.console.kind == MACHINE_CONSOLE_STDIO ? c->in_fd : -1);
	if (!status)
		status = output_init(&m->output, reader, c->out_fd, error);
	return status;
}

void machine_console_close(struct machine *m)
{
	struct machine_console *c = &m->console;

	if (m->output.size || m->output.gone)
		output_destroy(&m->output);
	machine_command_close(m);
	if (!c->owns_fds)
		return;
	/* a connection's output descriptor was the output's */
	if (m->config.console.kind != MACHINE_CONSOLE_UNIX && c->out_fd >= 0)
		close(c->out_fd);
	if (c->held_fd >= 0)
		close(c->held_fd);
	if (c->listen_fd >= 0)
		close(c->listen_fd);
	/* a socket's name stays: who is confined can remove no file. The next start takes it over. */
}

static void feed_guest(void *opaque)
{
	struct machine *m = opaque;
	struct machine_console *c = &m->console;

	if (c->count) {
		pthread_mutex_lock(&m->bus.lock);
		unsigned taken = serial_receive(&m->serial, c->bytes, c->count);

		pthread_mutex_unlock(&m->bus.lock);
		c->count -= taken;
		memmove(c->bytes, c->bytes + taken, c->count);
	}
	machine_command_ring_again(m);
	machine_console_watch(m);
}

/*
 * From a pipe or file, reading waits until the guest has taken what was read. A terminal is read all the same, so that
 * the escape works on a guest that does not listen; what is too much is dropped.
 */
void machine_console_watch(struct machine *m)
{
	struct machine_console *c = &m->console;
	bool readable = m->config.console.kind != MACHINE_CONSOLE_STDIO || console_readable(&c->terminal);
	bool wanted = c->in_fd >= 0 && !c->closed && readable && (c->terminal.terminal || c->count == 0);

	/* who has said all may still listen, and is gone when the connection hangs up */
	uint32_t otherwise = m->config.console.kind == MACHINE_CONSOLE_UNIX && c->in_fd >= 0 ? EPOLLHUP : 0;

	loop_watch(&m->loop, &c->input, wanted ? EPOLLIN : otherwise);
}

static void disconnect(struct machine *m)
{
	struct machine_console *c = &m->console;

	loop_remove(&m->loop, &c->input);
	output_disconnect(&m->output);
	c->in_fd = -1;
	loop_watch(&m->loop, &c->listener, EPOLLIN);
}

/* A read that brought nothing: the end, or a moment without input. */
static void input_failed(struct machine *m, ssize_t count, int problem, uint32_t events)
{
	struct machine_console *c = &m->console;
	bool hung_up = events & (EPOLLHUP | EPOLLERR);

	if (count < 0 && (problem == EAGAIN || problem == EINTR))
		return;
	if (m->config.console.kind == MACHINE_CONSOLE_UNIX) {
		c->closed = true;
		if (count < 0 || hung_up)
			disconnect(m);
		return;
	}
	if (count < 0 && problem == EIO && c->terminal.terminal && !hung_up) {
		console_leave(&c->terminal); /* in the background now; SIGCONT brings it back */
		return;
	}
	c->closed = count < 0 || !c->terminal.terminal || hung_up;
}

static void input_ready(void *opaque, uint32_t events)
{
	struct machine *m = opaque;
	struct machine_console *c = &m->console;
	uint8_t raw[256], filtered[sizeof raw + 1];
	bool escape;
	ssize_t count = read(c->in_fd, raw, sizeof raw);

	if (count <= 0) {
		input_failed(m, count, errno, events);
		machine_console_watch(m);
		return;
	}
	size_t kept = console_filter(&c->terminal, raw, (size_t)count, filtered, &escape);

	if (escape) {
		m->give_up = true;
		vm_end(m->vm, VM_END_ESCAPE);
	}
	if (c->terminal.dump_asked) {
		c->terminal.dump_asked = false;
		machine_dump_by_key(m);
	}
	if (kept > sizeof c->bytes - c->count)
		kept = sizeof c->bytes - c->count;
	memcpy(c->bytes + c->count, filtered, kept);
	c->count += (unsigned)kept;
	feed_guest(m);
}

static void connection_ready(void *opaque, uint32_t events)
{
	struct machine *m = opaque;
	struct machine_console *c = &m->console;
	struct riffle_error error;
	int fd = accept4(c->listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

	(void)events;
	if (fd < 0)
		return;
	if (loop_add(&m->loop, &c->input, fd, 0, &error)) {
		close(fd);
		return;
	}
	c->in_fd = fd;
	c->closed = false;
	loop_watch(&m->loop, &c->listener, 0); /* the next one waits its turn */
	output_connect(&m->output, fd);
	machine_console_watch(m);
}

/* The output's thread found the connection broken. */
static void reader_left(void *opaque)
{
	struct machine *m = opaque;

	/* it may have been noticed here as well, and another be connected by now */
	if (output_is_broken(&m->output))
		disconnect(m);
}

static void room_again(void *opaque)
{
	struct machine *m = opaque;

	pthread_mutex_lock(&m->bus.lock);
	serial_output_ready(&m->serial);
	pthread_mutex_unlock(&m->bus.lock);
}

static void post_reader_left(void *opaque)
{
	struct machine *m = opaque;

	loop_post(&m->loop, &m->console.reader_left);
}

static void post_finished(void *opaque)
{
	struct machine *m = opaque;

	loop_post(&m->loop, &m->console.output_finished);
}

int machine_console_start(struct machine *m, struct riffle_error *error)
{
	struct machine_console *c = &m->console;
	int status = 0;

	c->feed = (struct loop_task){.run = feed_guest, .opaque = m};
	c->reader_left = (struct loop_task){.run = reader_left, .opaque = m};
	c->input = (struct loop_source){.ready = input_ready, .opaque = m};
	c->listener = (struct loop_source){.ready = connection_ready, .opaque = m};
	m->output.room_again = room_again;
	m->output.reader_left = post_reader_left;
	m->output.finished = post_finished;
	m->output.opaque = m;
	/* what is only kept needs no thread that would write it */
	if (m->config.console.kind != MACHINE_CONSOLE_KEPT)
		status = output_start(&m->output, !m->config.unconfined, error);
	if (!status && c->in_fd >= 0)
		status = loop_add(&m->loop, &c->input, c->in_fd, 0, error);
	if (!status && c->listen_fd >= 0)
		status = loop_add(&m->loop, &c->listener, c->listen_fd, EPOLLIN, error);
	return status;
}

uint32_t machine_console_tail(const struct machine *m, uint8_t *to, uint32_t bytes)
{
	return m->config.console.kind == MACHINE_CONSOLE_KEPT ? output_kept(&m->output, to, bytes) : 0;
}
