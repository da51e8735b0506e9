/* SPDX-License-Identifier: Apache-2.0 */
/* The inside of a microVM, for the parts of the monitor. */
#ifndef RIFFLE_MONITOR_MACHINE_H
#define RIFFLE_MONITOR_MACHINE_H

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>

#include "monitor/boot_timer.h"
#include "monitor/bus.h"
#include "monitor/cmos.h"
#include "monitor/console.h"
#include "monitor/guest_cpuid.h"
#include "monitor/i8042.h"
#include "monitor/memory.h"
#include "monitor/output.h"
#include "monitor/platform.h"
#include "monitor/power.h"
#include "monitor/serial.h"
#include "monitor/vcpu.h"
#include "monitor/vm.h"

#define VM_RUNNING (-1)
#define INPUT_BYTES 1024u

/* Who waits for whom when a run starts: threads are made first, then the process is confined, then all go. */
enum start { START_WAIT, START_GO, START_CANCEL };

struct vm {
	struct vm_config config;
	int kvm_fd, vm_fd;
	struct guest_memory memory;
	struct guest_cpuid cpuid;
	bool gib_pages;

	struct platform platform;
	struct bus bus;
	struct serial serial;
	struct i8042 i8042;
	struct cmos cmos;
	struct power power;
	struct boot_timer boot_timer;
	struct output output;

	struct vcpu vcpus[RIFFLE_BOOT_VCPUS_MAX];
	unsigned vcpus_made;
	unsigned vcpus_started;         /* threads of vcpus[]; the caller's is vCPU 0's */
	unsigned vcpus_to_kick;         /* the same, until they are to be joined; under kick_lock */
	pthread_mutex_t kick_lock;
	pthread_mutex_t start_lock;
	pthread_cond_t start_changed;
	enum start start;

	atomic_int end;                 /* VM_RUNNING, or an enum vm_end */
	struct riffle_error error;      /* written once, by who set VM_END_ERROR */
	_Atomic uint64_t fault_rip;

	/* console input and signals: loop.c */
	struct console console;
	pthread_t loop_thread;
	bool loop_started;
	int signal_fd, wake_fd;
	_Atomic bool loop_quit;
	_Atomic bool give_up;           /* the user wants out: do not wait for a stopped reader */
	_Atomic int end_signal;         /* the first signal that asked for the end */
	bool input_closed;
	unsigned input_count;
	uint8_t input[INPUT_BYTES + 1]; /* read but not yet taken by the guest */
};

static inline bool vm_has_ended(const struct vm *vm)
{
	return atomic_load_explicit(&vm->end, memory_order_relaxed) != VM_RUNNING;
}

/* Ends the microVM; the first reason stands. Any thread, any number of times, never waits. */
void vm_end(struct vm *vm, enum vm_end end);

/* Ends it with VM_END_ERROR and this error. */
void vm_fail(struct vm *vm, const struct riffle_error *error);

/* Starts and ends the thread that reads signals and console input. `signals` are blocked in every thread. */
int loop_start(struct vm *vm, const sigset_t *signals, struct riffle_error *error);
void loop_stop(struct vm *vm);

/* Has the loop look again. Never waits. */
void loop_wake(struct vm *vm);

#endif
