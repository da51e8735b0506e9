/* SPDX-License-Identifier: Apache-2.0 */
/* One vCPU: creation, CPUID, MSRs and entry registers. */
#ifndef RIFFLE_MONITOR_VCPU_H
#define RIFFLE_MONITOR_VCPU_H

#include <linux/kvm.h>
#include <pthread.h>
#include <stdbool.h>

#include <riffle/boot.h>

#include "monitor/core/guest_cpuid.h"
#include "monitor/counters.h"

struct vm;

struct vcpu {
	int fd;      /* -1: not created */
	unsigned id; /* also its APIC id */
	struct kvm_run *run;
	size_t run_bytes;
	pthread_t thread;
	clockid_t clock; /* processor time of its thread */
	bool held;       /* stays parked while the others run; under the VM's state_lock */
	struct vm *vm;
	void (*first)(void *argument); /* vm_start_first() */
	void *first_argument;
	struct vcpu_counters counters;
};

/*
 * Creates vCPU `vcpu->id` in its reset state; with `bare` it still needs its CPUID, MSRs and APIC. KVM wires the PIC's
 * interrupts to vCPU 0's LINT0 in that state (KVM_X86_QUIRK_LINT0_REENABLED, on unless it is disabled), and NMIs come
 * from nowhere until the guest has unmasked LINT1. On failure vcpu_destroy() frees what was created.
 */
int vcpu_create(struct vcpu *vcpu, int vm_fd, size_t run_bytes, struct guest_cpuid *cpuid, bool bare,
		struct riffle_error *error);
void vcpu_destroy(struct vcpu *vcpu);

/* The MSR modifiers of the template and of *config itself. Errors: IO, UNSUPPORTED (an MSR that KVM does not have). */
int vcpu_modify_msrs(const struct vcpu *vcpu, const struct cpu_config *config, struct riffle_error *error);

/* Sets the registers of the 64-bit entry; for vCPU 0, right after it was created. */
int vcpu_set_entry(struct vcpu *vcpu, const struct riffle_boot_registers *registers, struct riffle_error *error);

/* Whether it is halted with interrupts off, or waits to be started; it must not be in KVM_RUN. */
bool vcpu_is_halted(const struct vcpu *vcpu);

#endif
