/* SPDX-License-Identifier: Apache-2.0 */
/* One microVM on KVM: memory, vCPUs, devices, and the reason it ended. */
#ifndef RIFFLE_MONITOR_VM_H
#define RIFFLE_MONITOR_VM_H

#include <stdbool.h>
#include <stdint.h>

#include <riffle/boot.h>

#include "monitor/platform/boot_timer.h"

struct vm;

struct vm_config {
	unsigned vcpus;                 /* 1 to 32 */
	uint64_t memory_bytes;          /* multiple of 2 MiB, at least 2 MiB */
	bool huge_pages;                /* ask for transparent huge pages */
	int console_in, console_out;    /* descriptors of the serial console, the caller's; -1: none */
	bool accept_emulation;          /* run on a /dev/kvm that only emulates */
	bool boot_timer;                /* note when the guest writes 123 to the timer; else the timer is not there */
	bool unconfined;                /* leave vm_lock_down() out of vm_run() */
};

/* How a microVM ended. */
enum vm_end {
	VM_END_POWEROFF,        /* ACPI S5 */
	VM_END_RESET,           /* keyboard controller, ACPI reset register, port 0xcf9 */
	VM_END_TRIPLE_FAULT,    /* KVM_EXIT_SHUTDOWN */
	VM_END_SIGNAL,          /* SIGTERM, SIGINT, SIGHUP, SIGQUIT */
	VM_END_ESCAPE,          /* console escape: Ctrl-A x, on a terminal only */
	VM_END_ERROR,           /* KVM said something that no guest should bring about; see the error */
};

/*
 * Makes a VM's devices and its memory, all zero, without KVM yet: a kernel can be loaded into vm_ram() from now on, by
 * another thread if need be. On success the caller owns *vm. Errors: ARGUMENT (config), MEMORY.
 */
int vm_new(struct vm **vm, const struct vm_config *config, struct riffle_error *error);

/*
 * Opens /dev/kvm and gives the memory to a VM of it. KVM_SET_USER_MEMORY_REGION comes before the irqchip, after which
 * it would wait for an RCU grace period. Once per vm, before anything below.
 * Errors: IO (no /dev/kvm, or one that refuses), UNSUPPORTED (only emulates, or lacks something).
 */
int vm_open(struct vm *vm, struct riffle_error *error);

/* vm_new() and vm_open() in one. */
int vm_create(struct vm **vm, const struct vm_config *config, struct riffle_error *error);
void vm_destroy(struct vm *vm);

/* Guest RAM with host addresses; belongs to the vm. */
const struct riffle_ram *vm_ram(const struct vm *vm, size_t *count);

/*
 * What boot needs to know of the platform, after vm_open() (before it all but the flag for 1 GiB pages is right): fills
 * ram, vcpus, flags, devices, ports; leaves command line, initrd, seed.
 * What it points to belongs to the vm.
 */
void vm_describe(const struct vm *vm, struct riffle_machine *machine);

/* Makes irqchip, PIT, vCPUs with CPUID and MSRs. May run while another thread loads the kernel into vm_ram(). */
int vm_prepare_vcpus(struct vm *vm, struct riffle_error *error);

/*
 * Enters the guest and returns when it ended, with every thread it started gone and the terminal as it was. vCPU 0 runs
 * in the calling thread. The process is confined for good by vm_lock_down() once all threads are there; then
 * `first_run` (may be NULL) is called, right before the first KVM_RUN. A vm runs once.
 *
 * While it runs, SIGTERM, SIGINT, SIGHUP and SIGQUIT end the guest; SIGTSTP stops the process with the terminal put
 * right. They are blocked in the calling thread and read through a descriptor: any other thread of the process must
 * have them blocked too. SIGRTMIN is taken for the monitor's own use.
 *
 * Returns 0 and *end, VM_END_ERROR included (then *error says what); or the status of a set-up that failed before the
 * guest ran.
 */
int vm_run(struct vm *vm, const struct riffle_boot_registers *registers, void (*first_run)(void *opaque), void *opaque,
	   enum vm_end *end, struct riffle_error *error);

/* The number of the signal that brought VM_END_SIGNAL about, else 0. */
int vm_end_signal(const struct vm *vm);

/* Nanoseconds of CLOCK_MONOTONIC when the guest's init wrote 123 to the boot timer, 0 when it never did. */
uint64_t vm_boot_timer(const struct vm *vm);
/* The other values that the guest wrote to the timer, in the order of their coming, after vm_run(). */
const struct boot_mark *vm_boot_marks(const struct vm *vm, unsigned *count);

/*
 * The guest's instruction pointer where KVM gave up (VM_END_ERROR), 0 when unknown. It tells where the guest's kernel
 * lies: not for logs, unless somebody asked.
 */
uint64_t vm_fault_rip(const struct vm *vm);

/*
 * Confines every thread of the process, for good, to the few system calls that a running microVM needs; anything else
 * raises SIGSYS. Does nothing in a build with sanitizers, whose run-times need more. Errors: IO.
 */
int vm_lock_down(struct riffle_error *error);

/* What the /dev/kvm of this host is: for `riffle doctor` and for the refusal. */
enum kvm_kind {
	KVM_NONE,               /* no /dev/kvm, or not KVM's */
	KVM_NO_PERMISSION,
	KVM_EMULATING,          /* runs guests instruction by instruction: no Linux */
	KVM_HARDWARE,
};

/*
 * A host whose CPUID has VMX or SVM virtualises, at no further cost; on any other a tiny guest is timed, 1 to 15 ms.
 * `error` (may be NULL) says what is wrong when the answer is not KVM_HARDWARE.
 */
enum kvm_kind vm_probe_kvm(struct riffle_error *error);

#endif
