/* SPDX-License-Identifier: Apache-2.0 */
/* The terminal of the serial console: raw while the guest runs, restored whatever happens, with an escape key. */
#include "monitor/platform/console.h"

#include <signal.h>
#include <string.h>
#include <unistd.h>

#define ESCAPE_KEY 0x01u /* Ctrl-A */

/*
 * A crash handler has no argument for its state: this is the monitor's only state outside a struct vm. SIGSYS is raised
 * by a system call that the filters forbid.
 */
static const int crashes[] = {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT, SIGSYS};
#define CRASHES (sizeof crashes / sizeof *crashes)
static struct {
	volatile sig_atomic_t armed;
	int fd;
	struct termios saved;
	struct sigaction before[CRASHES];
} crash;

static void put_right_and_die(int number)
{
	if (crash.armed) {
		crash.armed = 0;
		tcsetattr(crash.fd, TCSANOW, &crash.saved);
	}
	for (size_t i = 0; i < CRASHES; i++)
		if (crashes[i] == number)
			sigaction(number, &crash.before[i], NULL);
	raise(number); /* delivered when this handler returns */
}

static void arm(const struct console *console)
{
	struct sigaction action = {.sa_handler = put_right_and_die};
	sigemptyset(&action.sa_mask);
	crash.fd = console->fd;
	crash.saved = console->saved;
	for (size_t i = 0; i < CRASHES; i++)
		sigaction(crashes[i], &action, &crash.before[i]);
	crash.armed = 1;
}

static void disarm(void)
{
	if (!crash.armed)
		return;
	crash.armed = 0;
	for (size_t i = 0; i < CRASHES; i++)
		sigaction(crashes[i], &crash.before[i], NULL);
}

/* On a terminal that is not the controlling one, the process counts as in the foreground. */
static bool in_foreground(int fd)
{
	pid_t foreground = tcgetpgrp(fd);
	return foreground < 0 || foreground == getpgrp();
}

void console_init(struct console *console, int fd)
{
	*console = (struct console){.fd = fd};
	console->terminal = fd >= 0 && tcgetattr(fd, &console->saved) == 0;
}

void console_enter(struct console *console)
{
	if (!console->terminal || console->raw || !in_foreground(console->fd))
		return;
	if (tcgetattr(console->fd, &console->saved) < 0)
		return;
	struct termios raw = console->saved;
	/* As cfmakeraw, but with output processing: riffle's own messages end lines with a line feed only. */
	raw.c_iflag &= ~(tcflag_t)(IGNBRK | BRKINT | PARMRK | ISTRIP | INLCR | IGNCR | ICRNL | IXON);
	raw.c_lflag &= ~(tcflag_t)(ECHO | ECHONL | ICANON | ISIG | IEXTEN);
	raw.c_cflag &= ~(tcflag_t)(CSIZE | PARENB);
	raw.c_cflag |= CS8;
	raw.c_cc[VMIN] = 0; /* a read never waits, even if another process took the byte that poll() reported */
	raw.c_cc[VTIME] = 0;
	arm(console);
	/* TCSANOW: draining would hang on a stopped terminal */
	if (tcsetattr(console->fd, TCSANOW, &raw) == 0)
		console->raw = true;
	else
		disarm();
}

void console_leave(struct console *console)
{
	if (!console->raw)
		return;
	/* in the background the terminal belongs to the shell, which has restored it */
	if (in_foreground(console->fd))
		tcsetattr(console->fd, TCSANOW, &console->saved);
	console->raw = false;
	disarm();
}

bool console_readable(const struct console *console)
{
	return console->fd >= 0 && (!console->terminal || console->raw);
}

size_t console_filter(struct console *console, const uint8_t *in, size_t count, uint8_t *out, bool *escape)
{
	size_t kept = 0;
	*escape = false;
	if (!console->terminal) {
		memcpy(out, in, count);
		return count;
	}
	for (size_t i = 0; i < count; i++) {
		uint8_t key = in[i];
		if (!console->escape_begun && key == ESCAPE_KEY) {
			console->escape_begun = true;
			continue;
		}
		if (console->escape_begun && (key == 'x' || key == 'X')) {
			*escape = true;
			return kept;
		}
		if (console->escape_begun && (key == 'd' || key == 'D')) {
			console->escape_begun = false;
			console->dump_asked = true;
			continue;
		}
		if (console->escape_begun && key != ESCAPE_KEY)
			out[kept++] = ESCAPE_KEY;
		console->escape_begun = false;
		out[kept++] = key;
	}
	return kept;
}
