/* SPDX-License-Identifier: Apache-2.0 */
/* One microVM on KVM: memory, vCPUs, devices, and the reason it ended. */
#ifndef RIFFLE_MONITOR_VM_H
#define RIFFLE_MONITOR_VM_H

#include <stdbool.h>
#include <stdint.h>

#include <riffle/boot.h>

struct vm;

struct vm_config {
	unsigned vcpus;                 /* 1 to 32 */
	uint64_t memory_bytes;          /* multiple of 2 MiB, at least 2 MiB */
	bool huge_pages;                /* ask for transparent huge pages */
	int console_in, console_out;    /* descriptors of the serial console; -1: none */
	bool accept_emulation;          /* run on a /dev/kvm that only emulates */
	bool boot_timer;                /* note when the guest writes 123 to the timer */
};

/* How a microVM ended. */
enum vm_end {
	VM_END_POWEROFF,        /* ACPI S5 */
	VM_END_RESET,           /* keyboard controller, ACPI reset register, port 0xcf9 */
	VM_END_TRIPLE_FAULT,    /* KVM_EXIT_SHUTDOWN */
	VM_END_SIGNAL,          /* SIGTERM, SIGINT, SIGHUP */
	VM_END_ESCAPE,          /* console escape */
	VM_END_ERROR,           /* KVM said something that no guest should bring about; see the error */
};

/* Opens /dev/kvm, makes the VM and its memory. KVM_SET_USER_MEMORY_REGION comes before the irqchip (facts: an RCU wait). */
int vm_create(struct vm **vm, const struct vm_config *config, struct riffle_error *error);
void vm_destroy(struct vm *vm);

/* Guest RAM with host addresses; belongs to the vm. */
const struct riffle_ram *vm_ram(const struct vm *vm, size_t *count);

/* What boot needs to know of the platform: fills ram, vcpus, devices, ports; leaves command line, initrd, seed. */
void vm_describe(const struct vm *vm, struct riffle_machine *machine);

/* Makes irqchip, PIT, vCPUs with CPUID and MSRs. May run while another thread loads the kernel into vm_ram(). */
int vm_prepare_vcpus(struct vm *vm, struct riffle_error *error);

/* Enters the guest and returns when it ended. `first_run` (may be NULL) is called right before the first KVM_RUN. */
int vm_run(struct vm *vm, const struct riffle_boot_registers *registers, void (*first_run)(void *opaque), void *opaque,
	   enum vm_end *end, struct riffle_error *error);

/* Nanoseconds of CLOCK_MONOTONIC when the guest's init wrote 123 to the boot timer, 0 when it never did. */
uint64_t vm_boot_timer(const struct vm *vm);

/* What the /dev/kvm of this host is: for `riffle doctor` and for the refusal. */
enum kvm_kind { KVM_NONE, KVM_NO_PERMISSION, KVM_EMULATING, KVM_HARDWARE };
enum kvm_kind vm_probe_kvm(struct riffle_error *error);

#endif
