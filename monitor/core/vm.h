/* SPDX-License-Identifier: Apache-2.0 */
/* One VM on KVM: memory, interrupt controllers, vCPUs and their run state. It knows no devices. */
#ifndef RIFFLE_MONITOR_VM_H
#define RIFFLE_MONITOR_VM_H

#include <stdbool.h>
#include <stdint.h>

#include <riffle/boot.h>

#include "monitor/core/cpu_config.h"
#include "monitor/core/memory.h"
#include "monitor/core/thread.h"
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
	bool restored;                               /* its vCPUs get all of their state from a snapshot */
	bool unconfined;                             /* leave the system call filter out of the vCPUs' threads */
	bool timed;                                  /* note how long exits take */
	const char *thread_name; /* of the vCPUs' threads, before their number; stays; NULL: "vcpu" */
	struct cpu_config cpu;
};

/* How a VM ended. */
enum vm_end {
	VM_END_POWEROFF,     /* ACPI S5 */
	VM_END_RESET,        /* keyboard controller, ACPI reset register, port 0xcf9, a jump to the BIOS's entry */
	VM_END_TRIPLE_FAULT, /* KVM_EXIT_SHUTDOWN */
	VM_END_SIGNAL,       /* a signal asked the process to end */
	VM_END_ESCAPE,       /* console escape: Ctrl-A x, on a terminal only */
	VM_END_HALTED,       /* every vCPU is halted with interrupts off: nothing can wake them */
	VM_END_PANIC,        /* the guest's kernel reported a panic */
	VM_END_COMMAND,      /* the guest's command ended and its status was reported */
	VM_END_ERROR,        /* KVM reported something that no guest should cause; see vm_error() */
};

/* Where exits go. Called by vCPU threads, several at a time; `ended` once, by whichever thread ended the VM. */
struct vm_handlers {
	void (*port)(void *opaque, uint16_t port, unsigned bytes, bool write, void *data);
	void (*mmio)(void *opaque, uint64_t address, unsigned bytes, bool write, void *data);
	void (*ended)(void *opaque);
	/*
	 * A vCPU hit a condition requested by KVM_SET_GUEST_DEBUG; NULL: no debugger. The VM is already being paused;
	 * vm_pause() waits for that.
	 */
	void (*debug)(void *opaque, unsigned vcpu, const struct kvm_debug_exit_arch *stop);
	uint16_t
	    debug_port; /* a byte written there is a breakpoint too, reported as vector 3 with a pc of 0; 0: none */
	void *opaque;
};

/*
 * Creates a VM's memory, all zero, without KVM yet: from now on a kernel can be loaded into vm_memory(), even by
 * another thread. On success the caller owns *vm. Errors: ARGUMENT (config), MEMORY.
 */
int vm_new(struct vm **vm, const struct vm_config *config, const struct vm_handlers *handlers,
	   struct riffle_error *error);

/*
 * Gives the memory to a VM of /dev/kvm, which was opened by kvm_open() and passed kvm_check(). The VM takes ownership
 * of the descriptor, also after an error. KVM_SET_USER_MEMORY_REGION comes before the irqchip, after which it would
 * wait for an RCU grace period. Once per VM, before anything below. Errors: IO.
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

/* Creates irqchip, PIT, and vCPUs with CPUID and MSRs. May run while another thread loads the kernel. */
int vm_prepare_vcpus(struct vm *vm, struct riffle_error *error);
/* Sets the registers with which vCPU 0 enters the kernel. */
int vm_set_entry(struct vm *vm, const struct riffle_boot_registers *registers, struct riffle_error *error);

/*
 * Starts a thread for each vCPU that has none. They wait: the VM is paused until the first vm_resume(). SIGRTMIN is
 * used to kick them out of the guest, and must be blocked in the caller and in every other thread (signals_take()).
 * Errors: IO.
 */
int vm_start(struct vm *vm, struct riffle_error *error);

/*
 * Starts the first vCPU's thread with first(argument), so that what that does takes no thread of its own; of its stack
 * nothing is left. The vCPU, and the handler of the kick, need not be there before vm_start(), when the signals have
 * been taken: by signals_take(), or by signals_take_kick(). Errors: IO.
 */
int vm_start_first(struct vm *vm, bool signals_taken, void (*first)(void *argument), void *argument,
		   struct riffle_error *error);

/*
 * Any number of times, by any thread except a vCPU's, without holding a lock that a device takes. vm_pause() returns
 * when no vCPU is in the guest or in a device any more and the accesses that they had begun are complete: their state
 * can be read and set. A VM that has ended stays ended.
 */
void vm_pause(struct vm *vm);
/* While paused: keeps the guest's watchdogs from taking the pause for a lock-up. Has no effect on guests without
 * kvm-clock.
 */
void vm_tell_paused(struct vm *vm);
void vm_resume(struct vm *vm);
/*
 * For a vCPU's thread, in a device: the VM is paused before this vCPU's next instruction. vm_pause(), by another
 * thread, waits for it as for any pause.
 */
void vm_pause_soon(struct vm *vm);

/* Holds one vCPU when the VM is resumed, or releases it again. While the VM is paused. */
void vm_hold(struct vm *vm, unsigned vcpu, bool hold);
/* For KVM's ioctls of a vCPU while the VM is paused; belongs to the VM. */
int vm_vcpu_descriptor(const struct vm *vm, unsigned vcpu);

/* Ends it; the first reason stands. Any thread, any number of times, never waits. */
void vm_end(struct vm *vm, enum vm_end end);
/* Ends it with VM_END_ERROR and this error. */
void vm_fail(struct vm *vm, const struct riffle_error *error);
/* Waits until the vCPU threads have ended, after vm_end(). */
void vm_join(struct vm *vm);

enum vm_state { VM_PAUSED, VM_RUNNING, VM_ENDED };
enum vm_state vm_state(struct vm *vm);
/* After it ended. */
enum vm_end vm_how_ended(const struct vm *vm);
const struct riffle_error *vm_error(const struct vm *vm);

/*
 * The guest's instruction pointer where KVM gave up (VM_END_ERROR), 0 when unknown. It reveals where the guest's kernel
 * lies: not to be logged unless requested.
 */
uint64_t vm_fault_rip(const struct vm *vm);

/* Processor time that the vCPUs' threads have used so far, guest time included, in nanoseconds. */
uint64_t vm_cpu_ns(const struct vm *vm);

/*
 * Whether no vCPU can ever run again: each is halted with interrupts off, or was never started. Briefly kicks running
 * vCPUs out of the guest, which a halted guest does not notice. Not for vCPU threads.
 */
bool vm_is_halted(struct vm *vm);

/* The kind of this host's /dev/kvm: for `riffle doctor` and for refusing to run. */
enum kvm_kind {
	KVM_NONE, /* no /dev/kvm, or it is not KVM */
	KVM_NO_PERMISSION,
	KVM_EMULATING, /* emulates guests instruction by instruction: too slow for Linux */
	KVM_HARDWARE,
};

/*
 * A host whose CPUID has VMX or SVM virtualises, without further checks; on any other host a tiny guest with an
 * instruction that KVM's emulator lacks is run. `error` (may be NULL) describes the problem if the result is not
 * KVM_HARDWARE.
 */
enum kvm_kind vm_probe_kvm(struct riffle_error *error);

#endif
