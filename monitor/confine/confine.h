/* SPDX-License-Identifier: Apache-2.0 */
/* Restricts a thread to the system calls its kind needs, with seccomp filters compiled at build time. */
#ifndef RIFFLE_MONITOR_CONFINE_H
#define RIFFLE_MONITOR_CONFINE_H

#include <riffle/error.h>

/* A thread's purpose. confine/generator.c lists what each kind may call, and why. */
enum confine_kind {
	CONFINE_LOOP,          /* the event loop, which owns the devices */
	CONFINE_LOOP_CONNECTS, /* the same with a vsock device, which connects to unix sockets on the host */
	CONFINE_LOOP_OPENS,    /* for a controlled machine: may also open and examine files (PATCH of a drive) */
	CONFINE_LOOP_DEBUGS,   /* with or without vsock, and with a debugger's access to the vCPUs */
	CONFINE_LOOP_SAVES,    /* for a machine that can be saved to descriptors it receives */
	CONFINE_LOOP_SAVES_CONNECTS,
	CONFINE_VCPU,   /* runs the guest and dispatches its exits */
	CONFINE_WRITER, /* writes console output */
	CONFINE_DISK,   /* reads and writes disk images, if io_uring is unavailable */
	CONFINE_API,    /* speaks HTTP on connections to a socket that is already bound; opens nothing */
	CONFINE_KINDS
};

/*
 * For the calling thread and all that it starts from now on: a program that one of them executes gains no privileges,
 * which confine_thread() otherwise does in each of them, one call more for each. Call it before most of the threads
 * that will be confined are started, always from the same one. Does nothing the second time. Errors: IO, MEMORY.
 */
int confine_begin(struct riffle_error *error);

/*
 * Confines the calling thread permanently; threads that it starts afterwards inherit the filter (most kinds may start
 * none). Any other system call raises SIGSYS. Does nothing in a build with sanitizers, whose run-times need more.
 * Errors: IO.
 */
int confine_thread(enum confine_kind kind, struct riffle_error *error);

/* Whether confine_thread() does anything in this build. */
int confine_works(void);

#endif
