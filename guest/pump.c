/* SPDX-License-Identifier: Apache-2.0 */
/* Forwards the command's streams between its descriptors and the channel, and waits for it to end. */
#include <asm/errno.h>

#include "guest/init.h"
#include "guest/sys.h"

#define POLLIN 1
#define POLLOUT 4
#define O_RDONLY_RAW (0400 | 04000 | 02000000) /* O_NOCTTY, O_NONBLOCK, O_CLOEXEC */
#define TCGETS 0x5401
#define TCSETS 0x5402
#define SIGCHLD 17
#define SFD_FLAGS (04000 | 02000000)
#define WNOHANG 1

#define BUFFER 65536u
#define REST_MAX (1u << 20) /* the most a pipe can hold by default (fs.pipe-max-size) */
#define PATIENCE_MS 10      /* polling interval without rings */
#define RING_WAIT_MS 1000

struct pollfd {
	int fd;
	int16_t events, revents;
};

enum { POLL_SIGNAL, POLL_RING, POLL_IN, POLL_OUT, POLL_ERR, POLLS };

struct pump {
	struct child *child;
	const struct channel *channel;
	int signal_fd, ring_fd; /* -1: none, poll instead */
	uint32_t window;
	size_t pending_at, pending_end; /* input read and not yet taken by the command */
	bool ended;
	uint32_t status;
	size_t rest;             /* output that may still come after the end */
	bool out_full, err_full; /* nothing is read until the channel has room again */
};

static uint8_t input[BUFFER], output[BUFFER];

static void close_in(struct pump *p)
{
	if (p->child->in >= 0 && !p->child->terminal)
		SYS1(close, p->child->in);
	p->child->in = -1;
}

/* ---- the ring: COM1, unused otherwise ---- */

static void drain_ring(int fd)
{
	char bytes[64];

	while (SYS3(read, fd, bytes, sizeof bytes) > 0)
		;
}

/* Opens COM1 as a raw tty and tests whether a ring arrives: the driver or interrupts may be missing. */
static int open_ring(const struct channel *channel)
{
	struct {
		uint32_t input, output, control, local;
		uint8_t line, characters[19];
	} settings;
	struct pollfd ring = {.events = POLLIN};
	long fd = SYS3(open, "/dev/ttyS0", O_RDONLY_RAW, 0);

	if (fd < 0)
		return -1;
	ring.fd = (int)fd;
	if (SYS3(ioctl, fd, TCGETS, &settings) >= 0) {
		settings.input = settings.local = 0;
		settings.control |= 0x880;  /* CREAD, CLOCAL */
		settings.characters[6] = 1; /* VMIN */
		settings.characters[5] = 0; /* VTIME */
		SYS3(ioctl, fd, TCSETS, &settings);
	}
	channel_put(channel, CHANNEL_WINDOW, 1);
	if (SYS3(poll, &ring, 1, RING_WAIT_MS) == 1) {
		drain_ring((int)fd);
		return (int)fd;
	}
	SYS1(close, fd);
	return -1;
}

/* ---- input ---- */

static void write_pending(struct pump *p)
{
	while (p->pending_at < p->pending_end) {
		long n = SYS3(write, p->child->in, input + p->pending_at, p->pending_end - p->pending_at);

		if (n == -EINTR)
			continue;
		if (n == -EAGAIN)
			return;
		if (n <= 0) { /* nobody reads it any more */
			p->pending_at = p->pending_end = 0;
			close_in(p);
			return;
		}
		p->pending_at += (size_t)n;
	}
}

static void pump_in(struct pump *p, uint32_t state)
{
	while (p->child->in >= 0 && !p->ended) {
		uint32_t count;

		write_pending(p);
		if (p->child->in < 0 || p->pending_at < p->pending_end)
			return;
		if (state & CHANNEL_IN_END) {
			close_in(p);
			return;
		}
		count = channel_get(p->channel, CHANNEL_IN_COUNT);
		if (!count) {
			/*
			 * The data read after `state` may have been the last, and the end of input does not ring again.
			 */
			if (channel_get(p->channel, CHANNEL_STATE) & CHANNEL_IN_END)
				close_in(p);
			return;
		}
		p->pending_at = 0;
		p->pending_end = count < BUFFER ? count : BUFFER;
		channel_read(p->channel, input, p->pending_end);
	}
}

/* ---- output ---- */

/* Whether anything came. */
static bool pump_out(struct pump *p, int *fd, unsigned reg, bool *full)
{
	uint32_t room;
	long n;

	*full = false;
	if (*fd < 0)
		return false;
	room = channel_get(p->channel, reg);
	if (!room) {
		*full = true;
		return false;
	}
	n = SYS3(read, *fd, output, room < BUFFER ? room : BUFFER);
	if (n == -EAGAIN || n == -EINTR)
		return false;
	if (n <= 0) { /* end of output; EIO if a terminal's session has ended */
		SYS1(close, *fd);
		if (*fd == p->child->in)
			p->child->in = -1;
		*fd = -1;
		return false;
	}
	channel_write(p->channel, reg, output, (size_t)n);
	if (p->ended)
		p->rest -= (size_t)n < p->rest ? (size_t)n : p->rest;
	return true;
}

static void drop_if(bool gone, int *fd)
{
	if (!gone || *fd < 0)
		return;
	SYS1(close, *fd); /* the command gets SIGPIPE, as it would on the host */
	*fd = -1;
}

/* ---- ends ---- */

static void reap(struct pump *p)
{
	int how;
	long pid;

	while ((pid = SYS4(wait4, -1, &how, WNOHANG, 0)) > 0) {
		if (pid != p->child->pid || p->ended)
			continue;
		p->ended = true;
		p->rest = REST_MAX;
		p->status = how & 0x7f ? CHANNEL_STATUS_SIGNALED << 16 | (how & 0x7f)
				       : CHANNEL_STATUS_EXITED << 16 | (how >> 8 & 0xff);
	}
}

static int poll_timeout(const struct pump *p, bool more)
{
	if (more)
		return 0;
	if (p->signal_fd < 0)
		return PATIENCE_MS;
	if (p->ring_fd >= 0)
		return -1;
	return p->child->in >= 0 || p->child->out >= 0 || p->child->err >= 0 ? PATIENCE_MS : -1;
}

/* Waits until there is something to do. */
static void wait(struct pump *p, bool more)
{
	const struct child *c = p->child;
	struct pollfd fds[POLLS] = {
	    [POLL_SIGNAL] = {p->signal_fd, POLLIN, 0},
	    [POLL_RING] = {p->ring_fd, POLLIN, 0},
	    [POLL_IN] = {c->in >= 0 && p->pending_at < p->pending_end ? c->in : -1, POLLOUT, 0},
	    [POLL_OUT] = {p->out_full ? -1 : c->out, POLLIN, 0},
	    [POLL_ERR] = {p->err_full ? -1 : c->err, POLLIN, 0},
	};
	char info[128];

	SYS3(poll, fds, POLLS, poll_timeout(p, more));
	if (fds[POLL_SIGNAL].revents)
		SYS3(read, p->signal_fd, info, sizeof info);
	if (fds[POLL_RING].revents)
		drain_ring(p->ring_fd);
}

static bool turn(struct pump *p)
{
	struct child *c = p->child;
	uint32_t state = channel_get(p->channel, CHANNEL_STATE), window;
	bool more;

	drop_if(state & CHANNEL_ERR_GONE, &c->err);
	if (!c->terminal)
		drop_if(state & CHANNEL_OUT_GONE, &c->out);
	if (c->terminal && (window = channel_get(p->channel, CHANNEL_WINDOW)) != p->window) {
		p->window = window;
		child_set_window(c, window);
	}
	pump_in(p, state);
	/* reap first: everything written before the end is then in the pipes */
	reap(p);
	more = pump_out(p, &c->out, CHANNEL_OUT, &p->out_full);
	more |= pump_out(p, &c->err, CHANNEL_ERR, &p->err_full);
	if (p->ended && !p->rest)
		return false; /* a process the command left behind keeps writing */
	if (p->ended && !more && !p->out_full && !p->err_full)
		return false;
	wait(p, more);
	return true;
}

uint32_t pump(struct child *child, const struct channel *channel)
{
	struct pump p = {.child = child, .channel = channel};
	uint64_t child_ended = UINT64_C(1) << (SIGCHLD - 1);
	long fd = SYS4(signalfd4, -1, &child_ended, sizeof child_ended, SFD_FLAGS);

	p.signal_fd = fd < 0 ? -1 : (int)fd;
	p.ring_fd = open_ring(channel);
	while (turn(&p))
		;
	return p.status;
}
