/* SPDX-License-Identifier: Apache-2.0 */
/* One VM on KVM: memory, interrupt controllers, vCPUs and their run state. It knows no devices. */
#ifndef RIFFLE_MONITOR_VM_H
#define RIFFLE_MONITOR_VM_H

#include <stdbool.h>
#include <stdint.h>

#include <riffle/boot.h>

#include "monitor/core/cpu_config.h"
#include "monitor/core/memory.h"
#include "monitor/counters.h"

struct vm;
struct kvm_debug_exit_arch;

struct vm_config {
	unsigned vcpus;                              /* 1 to 32 */
	uint64_t memory_bytes;                       /* multiple of 2 MiB, at least 2 MiB */
	enum guest_pages pages;                      /* of anonymous memory */
	const struct guest_memory_file *memory_file; /* NULL: anonymous memory */
	bool track_dirty;                            /* for snapshots of what changed */
	bool can_save;                               /* its state will be saved or restored (monitor/snapshot) */
	bool unconfined;                             /* leave the system call filter out of the vCPUs' threads */
	bool timed;                                  /* note how long exits take */
	const char *thread_name; /* of the vCPUs' threads, before their number; stays; NULL: "vcpu" */
	struct cpu_config cpu;
};

/* How a VM ended. */
enum vm_end {
	VM_END_POWEROFF,     /* ACPI S5 */
	VM_END_RESET,        /* keyboard controller, ACPI reset register, port 0xcf9, a reset by the BIOS's entry */
	VM_END_TRIPLE_FAULT, /* KVM_EXIT_SHUTDOWN */
	VM_END_SIGNAL,       /* a signal asked the process to end */
	VM_END_ESCAPE,       /* console escape: Ctrl-A x, on a terminal only */
	VM_END_HALTED,       /* every vCPU halted with interrupts off: nothing can wake it any more */
	VM_END_PANIC,        /* the guest's kernel reported a panic */
	VM_END_COMMAND,      /* the guest's command ended and its status was reported */
	VM_END_ERROR,        /* KVM said something that no guest should bring about; see vm_error() */
};

/* Where exits go. Called by vCPU threads, several at a time; `ended` once, by whichever thread ended the VM. */
struct vm_handlers {
	void (*port)(void *opaque, uint16_t port, unsigned bytes, bool write, void *data);
	void (*mmio)(void *opaque, uint64_t address, unsigned bytes, bool write, void *data);
	void (*ended)(void *opaque);
	/*
	 * A vCPU came to something that KVM_SET_GUEST_DEBUG asked for; NULL: nobody debugs. The VM is being paused by
	 * then, which vm_pause() waits for.
	 */
	void (*debug)(void *opaque, unsigned vcpu, const struct kvm_debug_exit_arch *stop);
	uint16_t debug_port; /* a byte written there is a breakpoint too, told as vector 3 with a pc of 0; 0: none */
	void *opaque;
};

/*
 * Makes a VM's memory, all zero, without KVM yet: a kernel can be loaded into vm_memory() from now on, by another
 * thread if need be. On success the caller owns *vm. Errors: ARGUMENT (config), MEMORY.
 */
int vm_new(struct vm **vm, const struct vm_config *config, const struct vm_handlers *handlers,
	   struct riffle_error *error);

/*
 * Gives the memory to a VM of /dev/kvm, opened by kvm_open() and found good by kvm_check(); the descriptor is the VM's
 * from now on, also after an error. KVM_SET_USER_MEMORY_REGION comes before the irqchip, after which it would wait for
 * an RCU grace period. Once per VM, before anything below. Errors: IO.
 */
int vm_open(struct vm *vm, int kvm_fd, struct riffle_error *error);
void vm_destroy(struct vm *vm);

const struct guest_memory *vm_memory(const struct vm *vm);
/* The same, for guest_memory_add() before vm_open(). */
struct guest_memory *vm_memory_to_add(struct vm *vm);
unsigned vm_vcpus(const struct vm *vm);
const struct vcpu_counters *vm_vcpu_counters(const struct vm *vm, unsigned vcpu);
/* For irqfds, ioeventfds and memory slots; belongs to the VM. */
int vm_descriptor(const struct vm *vm);
/* Whether the guest's CPUID has 1 GiB pages and RAM is large enough that the boot tables should use them. */
bool vm_gib_pages(const struct vm *vm);

/* Makes irqchip, PIT, vCPUs with CPUID and MSRs. May run while another thread loads the kernel. */
int vm_prepare_vcpus(struct vm *vm, struct riffle_error *error);
/* Sets the registers with which vCPU 0 enters the kernel. */
int vm_set_entry(struct vm *vm, const struct riffle_boot_registers *registers, struct riffle_error *error);

/*
 * Starts a thread for each vCPU. They wait: the VM is paused until the first vm_resume(). SIGRTMIN is taken for getting
 * them out of the guest, and must be blocked in the caller and in every other thread (signals_take()). Errors: IO.
 */
int vm_start(struct vm *vm, struct riffle_error *error);

/*
 * Any number of times, by any thread but a vCPU's, without a lock that a device takes. vm_pause() returns when no vCPU
 * is in the guest or in a device any more, with the accesses they had begun completed: their state can be read and set.
 * A VM that has ended stays ended.
 */
void vm_pause(struct vm *vm);
/* While it is paused: the guest's watchdogs do not take the pause for a lock-up. Guests without kvm-clock do not hear.
 */
void vm_tell_paused(struct vm *vm);
void vm_resume(struct vm *vm);
/*
 * For a vCPU's thread, in a device: the VM is paused before this vCPU's next instruction. vm_pause(), by another
 * thread, waits for it as for any pause.
 */
void vm_pause_soon(struct vm *vm);

/* Keeps one vCPU where it is when the VM goes on, or lets it go on too. While the VM is paused. */
void vm_hold(struct vm *vm, unsigned vcpu, bool hold);
/* For KVM's ioctls of a vCPU while the VM is paused; belongs to the VM. */
int vm_vcpu_descriptor(const struct vm *vm, unsigned vcpu);

/* Ends it; the first reason stands. Any thread, any number of times, never waits. */
void vm_end(struct vm *vm, enum vm_end end);
/* Ends it with VM_END_ERROR and this error. */
void vm_fail(struct vm *vm, const struct riffle_error *error);
/* Waits until the vCPUs' threads are gone, after vm_end(). */
void vm_join(struct vm *vm);

enum vm_state { VM_PAUSED, VM_RUNNING, VM_ENDED };
enum vm_state vm_state(struct vm *vm);
/* After it ended. */
enum vm_end vm_how_ended(const struct vm *vm);
const struct riffle_error *vm_error(const struct vm *vm);

/*
 * The guest's instruction pointer where KVM gave up (VM_END_ERROR), 0 when unknown. It tells where the guest's kernel
 * lies: not for logs, unless somebody asked.
 */
uint64_t vm_fault_rip(const struct vm *vm);

/* Processor time that the vCPUs' threads have used so far, guest time included, in nanoseconds. */
uint64_t vm_cpu_ns(const struct vm *vm);

/*
 * Whether no vCPU can ever run again: each is halted with interrupts off, or was never started. Takes running vCPUs out
 * of the guest for a moment, which a halted guest does not notice. Not for vCPU threads.
 */
bool vm_is_halted(struct vm *vm);

/* What the /dev/kvm of this host is: for `riffle doctor` and for the refusal. */
enum kvm_kind {
	KVM_NONE, /* no /dev/kvm, or not KVM's */
	KVM_NO_PERMISSION,
	KVM_EMULATING, /* runs guests instruction by instruction: no Linux */
	KVM_HARDWARE,
};

/*
 * A host whose CPUID has VMX or SVM virtualises, at no further cost; on any other a tiny guest is timed, 1 to 15 ms.
 * `error` (may be NULL) says what is wrong when the answer is not KVM_HARDWARE.
 */
enum kvm_kind vm_probe_kvm(struct riffle_error *error);

#endif
