/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The host's end of kvmbox: it starts QEMU, hands the configuration to the init in it, relays the three streams or the
 * terminal, keeps the time limit, and exits with the status of the command.
 *
 *   host SECONDS KEY=VALUE... -- QEMU ARGUMENT...
 *
 * To the arguments it appends the character devices "box" (the channel) and "console" (the kernel's messages).
 */
#define _GNU_SOURCE
#include "proto.h"

#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <termios.h>
#include <time.h>
#include <x86intrin.h>

enum { STATUS_TIMEOUT = 124, STATUS_BOX = 125, ESCAPE = 0x1d, ESCAPES = 3 };

static volatile sig_atomic_t caught, resized;
static struct termios saved;
static bool raw;
static pid_t qemu;

static void on_signal(int s)
{
	if (s == SIGWINCH)
		resized = 1;
	else
		caught = s;
}

static void restore_terminal(void)
{
	if (raw)
		tcsetattr(0, TCSADRAIN, &saved);
	raw = false;
}

static _Noreturn void finish(int status)
{
	if (qemu > 0) {
		kill(qemu, SIGKILL); /* the command's writes have already reached the host's kernel */
		waitpid(qemu, NULL, 0);
	}
	restore_terminal();
	exit(status);
}

static _Noreturn void die(const char *what)
{
	int error = errno;
	restore_terminal();
	fprintf(stderr, "kvmbox: %s: %s\n", what, strerror(error));
	finish(STATUS_BOX);
}

static double now(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static char console[8192]; /* the last output of QEMU and the box's kernel, in case it dies or hangs */
static size_t console_size;

/* Without QEMU's usual warnings about the emulated processor. */
static void print_console(void)
{
	for (size_t at = 0; at < console_size;) {
		const char *line = console + at, *end = memchr(line, '\n', console_size - at);
		size_t length = end ? (size_t)(end - line) : console_size - at;
		if (length && !memmem(line, length, "TCG doesn't support", 19))
			fprintf(stderr, "kvmbox: console: %.*s\n", (int)length, line);
		at += length + 1;
	}
}

/*
 * QEMU 7.2 can lose a wake-up: its SVM code clears a bit of a processor's pending interrupts (do_vmexit(), without a
 * lock) while another thread sets the timer's, and a halted processor waiting for that timer then sleeps forever. Any
 * other interrupt wakes it, and then it also finds the lost one. Without this, one in several hundred boots hung. Not
 * sent under -icount: there timers run on the processor's own thread, and asynchronous events would make runs differ.
 */
#define WAKE_SECONDS 1.0
static bool wakes;

static double limit, deadline; /* seconds; 0: no limit */
static sigset_t unblocked;     /* the mask at start; caught signals are blocked everywhere except in await() */

/* The only place that sleeps, so that signals and the time limit work even if output or input is stuck. */
static int await(struct pollfd *fds, nfds_t count)
{
	double left = deadline - now();
	if (limit > 0 && left <= 0) {
		restore_terminal();
		fprintf(stderr, "kvmbox: time limit of %g s reached\n", limit);
		print_console();
		finish(STATUS_TIMEOUT);
	}
	if (wakes && (limit <= 0 || left > WAKE_SECONDS))
		left = WAKE_SECONDS;
	struct timespec t = {.tv_sec = (time_t)left, .tv_nsec = (long)((left - (double)(time_t)left) * 1e9)};
	int n = ppoll(fds, count, wakes || limit > 0 ? &t : NULL, &unblocked);
	if (caught)
		finish(128 + caught);
	return n;
}

/* ---- data to the guest ---- */

static char *pending;
static size_t pending_at, pending_size, pending_room;

static void queue(const void *data, size_t size)
{
	if (pending_at == pending_size)
		pending_at = pending_size = 0;
	if (pending_size + size > pending_room) {
		pending_room = (pending_size + size) * 2;
		pending = realloc(pending, pending_room);
		if (!pending)
			die("allocate memory");
	}
	memcpy(pending + pending_size, data, size);
	pending_size += size;
}

static void queue_frame(uint32_t type, const void *data, size_t size)
{
	struct box_header h = {type, (uint32_t)size};
	queue(&h, sizeof h);
	queue(data, size);
}

/* One wake-up per second, as long as the box reads its input. */
static void queue_wake(void)
{
	static double last;
	if (!wakes || pending_at < pending_size || now() - last < WAKE_SECONDS)
		return;
	last = now();
	queue_frame(BOX_WAKE, NULL, 0);
}

static void flush_pending(int channel)
{
	while (pending_at < pending_size) {
		ssize_t n = send(channel, pending + pending_at, pending_size - pending_at, MSG_NOSIGNAL | MSG_DONTWAIT);
		if (n <= 0)
			return; /* not now; or QEMU is gone, which closes its console */
		pending_at += (size_t)n;
	}
}

/* ---- data from the guest ---- */

/* Writes in pieces that a ready pipe accepts without blocking. */
static void write_all(int fd, const char *data, size_t size)
{
	while (size) {
		struct pollfd p = {.fd = fd, .events = POLLOUT};
		if (await(&p, 1) <= 0)
			continue;
		ssize_t n = write(fd, data, size < PIPE_BUF ? size : PIPE_BUF);
		if (n > 0) {
			data += n;
			size -= (size_t)n;
		} else if (errno != EAGAIN && errno != EINTR) {
			finish(errno == EPIPE ? 128 + SIGPIPE : STATUS_BOX);
		}
	}
}

/* Reads from the channel, false if there is nothing; handles each frame as soon as it is complete. */
static bool take_frames(int channel)
{
	static char in[sizeof(struct box_header) + BOX_DATA_MAX];
	static size_t have;
	ssize_t n = recv(channel, in + have, sizeof in - have, MSG_DONTWAIT);
	if (n <= 0)
		return false;
	have += (size_t)n;
	for (struct box_header h; have >= sizeof h;) {
		memcpy(&h, in, sizeof h);
		if (h.length > BOX_DATA_MAX) {
			errno = EPROTO;
			die("read from the box");
		}
		size_t all = sizeof h + h.length;
		if (have < all)
			break;
		const char *data = in + sizeof h;
		if (h.type == BOX_STDOUT || h.type == BOX_STDERR) {
			write_all(h.type == BOX_STDOUT ? 1 : 2, data, h.length);
		} else if (h.type == BOX_EXIT && h.length == sizeof(uint32_t)) {
			uint32_t status;
			memcpy(&status, data, sizeof status);
			finish((int)(status & 255));
		}
		have -= all;
		memmove(in, in + all, have);
	}
	return true;
}

/* ---- the console of the box ---- */

static bool keep_console(int fd)
{
	char data[1024];
	ssize_t n = read(fd, data, sizeof data);
	if (n <= 0)
		return n < 0 && (errno == EAGAIN || errno == EINTR);
	if (console_size + (size_t)n > sizeof console) {
		size_t drop = console_size + (size_t)n - sizeof console;
		memmove(console, console + drop, console_size - drop);
		console_size -= drop;
	}
	memcpy(console + console_size, data, (size_t)n);
	console_size += (size_t)n;
	return true;
}

static _Noreturn void report_dead_box(void)
{
	restore_terminal();
	fprintf(stderr, "kvmbox: the box ended before its command did; its last words:\n");
	print_console();
	finish(STATUS_BOX);
}

/* ---- input ---- */

/* Forwards input from stdin; false at its end. On a terminal three Ctrl-] in a row end the box. */
static bool take_input(bool tty)
{
	static char data[BOX_DATA_MAX];
	static int escapes;
	ssize_t n = read(0, data, sizeof data);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return true;
	if (n <= 0) {
		queue_frame(BOX_STDIN, NULL, 0);
		return false;
	}
	for (ssize_t i = 0; tty && i < n; i++) {
		escapes = data[i] == ESCAPE ? escapes + 1 : 0;
		if (escapes == ESCAPES)
			finish(128 + SIGINT);
	}
	queue_frame(BOX_STDIN, data, (size_t)n);
	return true;
}

static void queue_window(void)
{
	struct winsize w;
	if (!ioctl(0, TIOCGWINSZ, &w)) {
		uint16_t size[2] = {w.ws_row, w.ws_col};
		queue_frame(BOX_WINDOW, size, sizeof size);
	}
}

static void make_raw(void)
{
	struct termios t = saved;
	cfmakeraw(&t);
	if (!tcsetattr(0, TCSADRAIN, &t))
		raw = true;
}

static bool same_file(int a, int b)
{
	struct stat x, y;
	return !fstat(a, &x) && !fstat(b, &y) && x.st_dev == y.st_dev && x.st_ino == y.st_ino;
}

/* The caller's strings, and what only this process knows about its streams. */
static void queue_config(char **strings, bool tty)
{
	struct winsize w = {.ws_row = 24, .ws_col = 80};
	char own[64];
	size_t size = 0;
	if (tty)
		ioctl(0, TIOCGWINSZ, &w);
	int n = snprintf(own, sizeof own, "tty=%d%cmerge=%d%crows=%d%ccols=%d", tty, 0, same_file(1, 2), 0, w.ws_row, 0,
			 w.ws_col);
	for (char **s = strings; *s; s++)
		size += strlen(*s) + 1;
	size += (size_t)n + 1;
	if (size > BOX_CONFIG_MAX) {
		errno = E2BIG;
		die("command and environment");
	}
	struct box_header h = {BOX_CONFIG, (uint32_t)size};
	queue(&h, sizeof h);
	for (char **s = strings; *s; s++)
		queue(*s, strlen(*s) + 1);
	queue(own, (size_t)n + 1);
}

/* ---- QEMU ---- */

static pid_t start_qemu(char **args, int *channel, int *log)
{
	int ends[2], output[2], count = 0;
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) || pipe2(output, O_CLOEXEC))
		die("make a socket pair");
	while (args[count])
		count++;
	char **argv = calloc((size_t)count + 5, sizeof *argv), device[64];
	if (!argv)
		die("allocate memory");
	memcpy(argv, args, (size_t)count * sizeof *argv);
	snprintf(device, sizeof device, "socket,id=box,fd=%d", ends[1]);
	argv[count] = "-chardev";
	argv[count + 1] = device;
	argv[count + 2] = "-chardev";
	argv[count + 3] = "stdio,id=console,signal=off";
	pid_t parent = getpid(), pid = fork();
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (getppid() != parent)
			_exit(1);
		int null = open("/dev/null", O_RDONLY);
		if (null > 0)
			dup2(null, 0);
		dup2(output[1], 1);
		dup2(output[1], 2);
		fcntl(ends[1], F_SETFD, 0);
		signal(SIGPIPE, SIG_DFL);
		sigprocmask(SIG_SETMASK, &unblocked, NULL);
		execvp(argv[0], argv);
		fprintf(stderr, "%s: %s\n", argv[0], strerror(errno));
		_exit(1);
	}
	if (pid < 0)
		die("fork");
	free(argv);
	close(ends[1]);
	close(output[1]);
	*channel = ends[0];
	*log = output[0];
	return pid;
}

static void catch_signals(void)
{
	struct sigaction a = {.sa_handler = on_signal};
	static const int signals[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGWINCH};
	sigset_t set;
	sigemptyset(&set);
	for (size_t i = 0; i < sizeof signals / sizeof *signals; i++) {
		struct sigaction old;
		sigaction(signals[i], NULL, &old);
		if (old.sa_handler == SIG_IGN) /* as set by nohup or a shell's background jobs */
			continue;
		sigaddset(&set, signals[i]);
		sigaction(signals[i], &a, NULL);
	}
	sigprocmask(SIG_BLOCK, &set, &unblocked);
	signal(SIGPIPE, SIG_IGN);
}

/* Samples the time-stamp counter and the clock together, to about a microsecond. */
static void sample(uint64_t *tsc, uint64_t *ns)
{
	uint64_t best = UINT64_MAX;

	for (int i = 0; i < 20; i++) {
		struct timespec t;
		uint64_t before = __rdtsc(), after;

		clock_gettime(CLOCK_MONOTONIC_RAW, &t);
		after = __rdtsc();
		if (after - before >= best)
			continue;
		best = after - before;
		*tsc = before + best / 2;
		*ns = (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
	}
}

/*
 * The frequency of the time-stamp counter, which QEMU passes on. Measured by the kernel with emulated timers it is off
 * by up to 0.2 % on a busy host. KVM keeps that value although the kernel refines its own, so that timers of guests
 * started a minute later drift by that error for all their uptime.
 */
static unsigned long tsc_khz(void)
{
	const struct timespec pause = {.tv_nsec = 50000000};
	uint64_t tsc[2], ns[2];

	sample(&tsc[0], &ns[0]);
	nanosleep(&pause, NULL);
	sample(&tsc[1], &ns[1]);
	return (unsigned long)((double)(tsc[1] - tsc[0]) * 1e6 / (double)(ns[1] - ns[0]) + 0.5);
}

/* Under -icount the counter is QEMU's own, and the kernel measures it correctly. */
static void tell_frequency(char **qemu_argv)
{
	static char line[4096];

	for (char **arg = qemu_argv; *arg && arg[1]; arg++) {
		if (strcmp(*arg, "-append") != 0)
			continue;
		snprintf(line, sizeof line, "%s tsc_early_khz=%lu", arg[1], tsc_khz());
		arg[1] = line;
		return;
	}
}

int main(int argc, char **argv)
{
	int split = 2;
	while (split < argc && strcmp(argv[split], "--"))
		split++;
	if (split + 1 >= argc) {
		fprintf(stderr, "usage: host SECONDS KEY=VALUE... -- QEMU ARGUMENT...\n");
		return 2;
	}
	argv[split] = NULL;
	wakes = true;
	for (char **arg = argv + split + 1; *arg; arg++)
		wakes = wakes && strcmp(*arg, "-icount") != 0;
	if (wakes)
		tell_frequency(argv + split + 1);
	limit = atof(argv[1]);
	deadline = now() + limit;

	/* Descriptors 0 to 2 closed by the caller must not be reused for QEMU's sockets. */
	for (int fd; (fd = open("/dev/null", O_RDWR)) >= 0;) {
		if (fd > 2) {
			close(fd);
			break;
		}
	}
	/* Reading from a terminal in another foreground job would stop this process. */
	bool terminal = !tcgetattr(0, &saved), ours = !terminal || tcgetpgrp(0) == getpgrp();
	bool tty = terminal && ours && isatty(1), input = ours;
	int channel, log;

	catch_signals();
	qemu = start_qemu(argv + split + 1, &channel, &log);
	queue_config(argv + 2, tty);
	if (!ours)
		queue_frame(BOX_STDIN, NULL, 0);
	if (tty)
		make_raw();

	for (bool alive = true;;) {
		bool full = pending_at < pending_size;
		struct pollfd p[3] = {
		    {.fd = channel, .events = (short)(POLLIN | (full ? POLLOUT : 0))},
		    {.fd = log, .events = POLLIN},
		    {.fd = input && !full ? 0 : -1, .events = POLLIN},
		};
		int n = await(p, 3);
		if (resized && tty) {
			resized = 0;
			queue_window();
		}
		queue_wake();
		if (n < 0)
			continue;
		if (p[0].revents)
			take_frames(channel);
		if (p[2].revents)
			input = take_input(tty);
		flush_pending(channel);
		if (p[1].revents)
			alive = keep_console(log);
		if (!alive) {
			while (take_frames(channel))
				;
			report_dead_box();
		}
	}
}
