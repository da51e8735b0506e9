/* SPDX-License-Identifier: Apache-2.0 */
/* A machine built from its description, run, and told what to do while it runs. */
#ifndef RIFFLE_MACHINE_H
#define RIFFLE_MACHINE_H

#include <stdint.h>

#include "machine/config.h"
#include "machine/phases.h"
#include "monitor/core/vm.h"
#include "monitor/platform/boot_timer.h"

struct machine;

/* What a front end hears on the way; each may be NULL. Called in the thread that builds or runs. */
struct machine_observer {
	void (*notice)(void *opaque, const char *text);   /* one line for the user, without prefix */
	void (*announce)(void *opaque, const char *text); /* how much is randomised, in one line */
	void (*preparing)(void *opaque, bool begun);      /* a kernel that was never seen before is prepared */
	void (*before_run)(void *opaque);                 /* right before the first guest instruction */
	void (*booted)(void *opaque,
		       uint64_t ns); /* init wrote to the boot timer, at this CLOCK_MONOTONIC; by a vCPU */
	void *opaque;
};

/*
 * Builds everything up to the first guest instruction: KVM, memory, kernel at its random place, devices, vCPUs.
 * /dev/kvm is asked first, so that a host that cannot run a guest prepares no kernel for one. After failure *error says
 * why, and *blame (may be NULL) which file it is about, or NULL; its words may belong to the machine, which is there to
 * be destroyed after a failure too (NULL when there was no memory for it).
 */
int machine_build(struct machine **machine, const struct machine_config *config,
		  const struct machine_observer *observer, struct phases *phases, const char **blame,
		  struct riffle_error *error);
void machine_destroy(struct machine *machine);

/*
 * Builds one without a kernel: memory, devices, vCPUs after reset. For whoever puts a guest there himself, through
 * vm_memory(machine_vm()), and says where it starts. Of *config, kernel, initrd and layout are not looked at.
 */
int machine_build_empty(struct machine **machine, const struct machine_config *config,
			const struct machine_observer *observer, struct phases *phases, struct riffle_error *error);
int machine_enter_at(struct machine *machine, const struct riffle_boot_registers *registers,
		     struct riffle_error *error);
struct vm *machine_vm(struct machine *machine);

/*
 * Runs it to its end in the calling thread, which becomes the event loop's: it starts the other threads, is confined
 * for good, and returns when the guest ended, the threads are gone, console output is written (or its reader did not
 * take it for 10 seconds), and the terminal is as it was. A machine runs once.
 *
 * While it runs, signals that would end the process end the guest; SIGTSTP stops the process with the terminal
 * restored. All are blocked and read through a descriptor: any other thread of the process must have them blocked.
 *
 * Returns 0 and *end, VM_END_ERROR included (then *error says what); or the status of a start that failed before the
 * guest ran, or of console output that could not be written.
 */
int machine_run(struct machine *machine, enum vm_end *end, struct riffle_error *error);

/* What can be done to a running machine. */
enum machine_action { MACHINE_PAUSE, MACHINE_RESUME, MACHINE_END };

/* Any thread but a vCPU's. Errors: ARGUMENT, when the machine's state does not allow it. */
int machine_control(struct machine *machine, enum machine_action action, struct riffle_error *error);

/* The signal that brought VM_END_SIGNAL about, else 0. */
int machine_end_signal(const struct machine *machine);
/* The CHANNEL_STATUS (guest/channel.h) that brought VM_END_COMMAND about, else 0. */
uint32_t machine_command_status(const struct machine *machine);
/* After the run, with MACHINE_CONSOLE_KEPT: the last `bytes` bytes of console output at most; returns how many. */
uint32_t machine_console_tail(const struct machine *machine, uint8_t *to, uint32_t bytes);
/* How much was chosen at random, and never what; after machine_build(). */
struct machine_randomisation {
	const char *mode; /* off, physical, kaslr, fgkaslr; bootstrap: by the kernel; NULL: out of a snapshot */
	double virtual_bits, physical_bits;
	unsigned chunks;  /* of functions, in any order; 0: they stay as they were */
	uint64_t load_ns; /* what loading and relocating took */
};
const struct machine_randomisation *machine_randomisation(const struct machine *machine);

/* What the guest told the boot timer, after the run. */
const struct boot_timer *machine_boot_timer(const struct machine *machine);

#endif
