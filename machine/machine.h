/* SPDX-License-Identifier: Apache-2.0 */
/* Builds a machine from its description, runs it, and controls it while it runs. */
#ifndef RIFFLE_MACHINE_H
#define RIFFLE_MACHINE_H

#include <stdint.h>

#include "machine/config.h"
#include "machine/phases.h"
#include "monitor/core/vm.h"
#include "monitor/platform/boot_timer.h"

struct machine;

/* Callbacks of a front end; each may be NULL. Called in the thread that builds or runs the machine. */
struct machine_observer {
	void (*notice)(void *opaque, const char *text);   /* one line for the user, without prefix */
	void (*announce)(void *opaque, const char *text); /* what is randomised, in one line */
	void (*preparing)(void *opaque, bool begun);      /* a kernel that is not in the cache is being prepared */
	void (*before_run)(void *opaque);                 /* right before the first guest instruction */
	void (*running)(void *opaque);                    /* a tenth of a second later, unless it has ended */
	void (*booted)(void *opaque,
		       uint64_t ns); /* init wrote to the boot timer, at this CLOCK_MONOTONIC; in a vCPU thread */
	void *opaque;
};

/*
 * Builds everything up to the first guest instruction: KVM, memory, the kernel at its random address, devices, vCPUs.
 * /dev/kvm is checked first, so that a host that cannot run a guest does not prepare a kernel. On failure *error gives
 * the reason, and *blame (may be NULL) the file concerned, or NULL. These may point into the machine, so it must be
 * destroyed after a failure too (it is NULL if there was no memory for it).
 */
int machine_build(struct machine **machine, const struct machine_config *config,
		  const struct machine_observer *observer, struct phases *phases, const char **blame,
		  struct riffle_error *error);
void machine_destroy(struct machine *machine);

/*
 * Builds a machine without a kernel: memory, devices, vCPUs after reset. For callers that load a guest themselves
 * through vm_memory(machine_vm()) and set its entry. Kernel, initrd and layout in *config are ignored.
 */
int machine_build_empty(struct machine **machine, const struct machine_config *config,
			const struct machine_observer *observer, struct phases *phases, struct riffle_error *error);
int machine_enter_at(struct machine *machine, const struct riffle_boot_registers *registers,
		     struct riffle_error *error);
struct vm *machine_vm(struct machine *machine);

/*
 * Runs the machine to its end in the calling thread, which becomes the event loop's: it starts the other threads, is
 * confined permanently, and returns when the guest has ended, the threads are gone, console output is written (or its
 * reader has accepted nothing for 10 seconds), and the terminal is restored. A machine runs once.
 *
 * While it runs, signals that would end the process end the guest; SIGTSTP stops the process with the terminal
 * restored. All are blocked and read through a descriptor, so every other thread of the process must have them blocked.
 *
 * Returns 0 and *end, including VM_END_ERROR (then *error is set); or the status of a start that failed before the
 * guest ran, or of console output that could not be written.
 */
int machine_run(struct machine *machine, enum vm_end *end, struct riffle_error *error);

/* What can be done to a running machine. */
enum machine_action { MACHINE_PAUSE, MACHINE_RESUME, MACHINE_END };

/* Any thread except a vCPU's. Errors: ARGUMENT, if the machine's state does not allow it. */
int machine_control(struct machine *machine, enum machine_action action, struct riffle_error *error);

/* The signal that caused VM_END_SIGNAL, otherwise 0. */
int machine_end_signal(const struct machine *machine);
/* The CHANNEL_STATUS (guest/channel.h) that caused VM_END_COMMAND, otherwise 0. */
uint32_t machine_command_status(const struct machine *machine);
/* After the run, with MACHINE_CONSOLE_KEPT: the last `bytes` bytes of console output at most; returns how many. */
uint32_t machine_console_tail(const struct machine *machine, uint8_t *to, uint32_t bytes);
/* How much was randomised, never the result; call after machine_build(). */
struct machine_randomisation {
	const char *mode; /* off, physical, kaslr, fgkaslr; bootstrap: by the kernel; NULL: from a snapshot
			     that does not tell */
	double virtual_bits, physical_bits;
	unsigned chunks;  /* of functions, permuted; 0: functions stay in place */
	uint64_t load_ns; /* what loading and relocating took */
};
const struct machine_randomisation *machine_randomisation(const struct machine *machine);

/* What the guest reported to the boot timer; call after the run. */
const struct boot_timer *machine_boot_timer(const struct machine *machine);

#endif
