/* SPDX-License-Identifier: Apache-2.0 */
/* Tiny guests: machine code in separate microVMs, each in an expendable child process. */
#ifndef RIFFLE_TESTS_MONITOR_GUEST_H
#define RIFFLE_TESTS_MONITOR_GUEST_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "machine/machine.h"

/* Where a guest's code lies and starts, with a stack below it and an identity map of 4 GiB. */
#define GUEST_CODE 0x10000u
/* 256 gates to one interrupt handler, GUEST_CODE + handler_offset; the guest loads it itself, with lidt. */
#define GUEST_IDT 0x6000u
#define GUEST_IDTR 0x5ff0u
/* real-mode code for another vCPU's SIPI with vector 8 */
#define GUEST_AP_CODE 0x8000u

struct guest {
	const uint8_t *code, *code_end;
	const uint8_t *ap_code, *ap_code_end; /* NULL: none */
	uint32_t handler_offset;              /* 0: no IDT */
	unsigned vcpus;                       /* 0: one */
	uint64_t memory_bytes;                /* 0: 4 MiB */
	bool unconfined;
	int terminal;                      /* 0: console on pipes; else a pty slave that becomes the console */
	bool controlling;                  /* and the child's controlling terminal */
	enum machine_console_kind console; /* stdio by default */
	const char *console_path;
	const struct machine_devices_config *devices; /* NULL: none */
	void (*configure)(struct machine_config *);   /* final changes to the description; NULL: none */
	void (*beside)(struct machine *);             /* called before the run; may start a thread that controls it */
};

/* The child's report, in shared memory. */
struct guest_result {
	int status; /* of the first call that failed, 0: vm_run() came to an end */
	int end;
	int signal;
	uint64_t boot_timer, fault_rip, before_run;
	unsigned threads_left; /* the monitor's, after vm_run() */
	bool signals_as_before;
	char message[512];
	uint32_t note; /* the guest's 32-bit word at 0x5000 at the end */
};

struct guest_child {
	pid_t pid;
	int input, output; /* far ends of the console, -1 with a terminal */
	struct guest_result *result;
};

/* How long the functions below wait for a guest; 60 seconds, which a test may change. */
extern int guest_patience_ms;

/* Starts it. Skips the test, with a reason, without a usable /dev/kvm. */
struct guest_child guest_start(const struct guest *guest);

/* Reads the console until its end or `bytes` bytes; returns how many. Fails the test after 60 seconds. */
size_t guest_read(struct guest_child *child, char *text, size_t bytes);

/* Waits for the child; fails the test when it did not exit with 0 within 60 seconds. */
const struct guest_result *guest_wait(struct guest_child *child);

/* Both, with the console's text compared. */
const struct guest_result *guest_expect(const struct guest *guest, const char *console);

#endif
