/* SPDX-License-Identifier: Apache-2.0 */
/* The parts of a guest's init, which runs one command and reports how it ended. */
#ifndef RIFFLE_GUEST_INIT_H
#define RIFFLE_GUEST_INIT_H

#include <stdbool.h>
#include <stdint.h>

#include "guest/channel_access.h"
#include "guest/config.h"

#define ERR_NONE (-1)

/* A line on the kernel's console, where the monitor keeps it. */
void complain(const char *what, long error);

/*
 * Mounts the file systems that programs expect, except those that the kernel lacks. Sets the host name and brings up
 * the loopback interface.
 */
void system_set_up(const struct config *config);

/* The command, and the ends of its streams that init holds; -1: none. */
struct child {
	long pid;
	int in, out, err; /* on a terminal in and out are the same descriptor */
	bool terminal;
};

/*
 * Starts the command in its own session. Returns 0, or the CHANNEL_STATUS that says why it could not be run. SIGCHLD
 * and SIGPIPE are blocked in the caller and not in the command.
 */
uint32_t child_start(struct child *child, const struct config *config, const struct channel *channel);
void child_set_window(const struct child *child, uint32_t window);

/*
 * Forwards the streams until the command has ended and its output is written; reaps orphans. Returns the
 * CHANNEL_STATUS.
 */
uint32_t pump(struct child *child, const struct channel *channel);

#endif
