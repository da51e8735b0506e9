/* SPDX-License-Identifier: Apache-2.0 */
/* The terminal of the serial console: raw while the guest runs, restored whatever happens, with an escape key. */
#ifndef RIFFLE_MONITOR_CONSOLE_H
#define RIFFLE_MONITOR_CONSOLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <termios.h>

struct console {
	int fd; /* -1: no input */
	bool terminal;
	bool raw;
	bool escape_begun; /* the last key was Ctrl-A */
	bool dump_asked;   /* Ctrl-A d was typed; cleared by the code that handles it */
	struct termios saved;
};

void console_init(struct console *console, int fd);

/*
 * Makes a terminal raw, unless the process is in the background (then again at SIGCONT). From then until
 * console_leave(), a crash of the process restores the terminal first. One console at a time.
 */
void console_enter(struct console *console);
void console_leave(struct console *console);

/* Whether input may be read: always, except from a terminal that belongs to another process group. */
bool console_readable(const struct console *console);

/*
 * Takes the escape sequences out of `count` bytes of input: Ctrl-A x sets *escape (what follows is dropped), Ctrl-A d
 * sets console->dump_asked, Ctrl-A Ctrl-A becomes one Ctrl-A, Ctrl-A before any other key is passed on with it. `out`
 * needs count + 1 bytes and may not be `in`. Returns how many bytes are for the guest. Escapes apply only to a
 * terminal.
 */
size_t console_filter(struct console *console, const uint8_t *in, size_t count, uint8_t *out, bool *escape);

#endif
