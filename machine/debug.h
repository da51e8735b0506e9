/* SPDX-License-Identifier: Apache-2.0 */
/* A debugger's connection to a machine: a socket on the event loop, and stopping and resuming the machine. */
#ifndef RIFFLE_MACHINE_DEBUG_H
#define RIFFLE_MACHINE_DEBUG_H

#include <linux/kvm.h>
#include <pthread.h>

#include "machine/config.h"
#include "monitor/debug/guest.h"
#include "monitor/debug/stub.h"
#include "monitor/event/loop.h"

/* Without a debugger all of it stays zero, except the descriptors. */
struct machine_debug {
	bool wanted;
	bool by_port, has_registers; /* guest.by_port and guest.hard_works, from before there is a VM */
	int listen_fd, fd;           /* -1: none */
	struct loop *loop;
	struct loop_source listener, connection;
	struct loop_task stopped;
	struct stub stub;
	struct stub_target target;
	struct debug_guest guest;
	enum stub_go go[STUB_THREADS_MAX]; /* how the vCPUs were last resumed */

	pthread_mutex_t lock; /* protects what vCPUs write */
	struct {
		bool waits;
		struct kvm_debug_exit_arch stop;
	} stops[STUB_THREADS_MAX];
};

/* Starts listening, before the machine is confined. Errors: IO, ARGUMENT; *blame is the socket's path. */
int machine_debug_open(struct machine_debug *debug, const struct machine_gdb *config, const char **blame,
		       struct riffle_error *error);
/* Before the machine runs. Errors: IO. */
int machine_debug_start(struct machine_debug *debug, struct vm *vm, struct loop *loop, struct riffle_error *error);
/* struct vm_handlers' debug; a vCPU's thread. */
void machine_debug_stop(struct machine_debug *debug, unsigned vcpu, const struct kvm_debug_exit_arch *stop);
/* The machine has ended. */
void machine_debug_ended(struct machine_debug *debug);
void machine_debug_close(struct machine_debug *debug);

#endif
