/* SPDX-License-Identifier: Apache-2.0 */
/* Confines a thread to the system calls of its kind, by filters compiled when riffle was built. */
#ifndef RIFFLE_MONITOR_CONFINE_H
#define RIFFLE_MONITOR_CONFINE_H

#include <riffle/error.h>

/* What a thread is there for. confine/generator.c holds what each may call, and why. */
enum confine_kind {
	CONFINE_LOOP,          /* the event loop, which owns the devices */
	CONFINE_LOOP_CONNECTS, /* the same with a vsock device, which may connect to unix sockets of the host */
	CONFINE_LOOP_OPENS,    /* of a machine that is controlled: opens and examines files too (PATCH of a drive) */
	CONFINE_LOOP_DEBUGS,   /* with vsock or not, and a debugger's reach into the vCPUs */
	CONFINE_LOOP_SAVES,    /* of a machine that is saved into descriptors that it is given */
	CONFINE_LOOP_SAVES_CONNECTS,
	CONFINE_VCPU,   /* runs the guest and dispatches its exits */
	CONFINE_WRITER, /* writes console output */
	CONFINE_DISK,   /* reads and writes disk images, where io_uring is refused */
	CONFINE_API,    /* speaks HTTP on connections to a socket that is bound already; opens nothing */
	CONFINE_KINDS
};

/*
 * Confines the calling thread for good; threads that it starts afterwards inherit it (most kinds may start none). Any
 * system call beside its kind's raises SIGSYS. Does nothing in a build with sanitizers, whose run-times need more.
 * Errors: IO.
 */
int confine_thread(enum confine_kind kind, struct riffle_error *error);

/* Whether confine_thread() does anything in this build. */
int confine_works(void);

#endif
