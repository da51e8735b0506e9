/* SPDX-License-Identifier: Apache-2.0 */
/* A paused VM under a debugger: registers, memory, breakpoints, and how each vCPU continues. */
#ifndef RIFFLE_MONITOR_DEBUG_GUEST_H
#define RIFFLE_MONITOR_DEBUG_GUEST_H

#include <linux/kvm.h>

#include "monitor/core/vm.h"
#include "monitor/debug/stub.h"

#define DEBUG_HARD_POINTS 4u
#define DEBUG_SOFT_POINTS 256u
/* No device of riffle uses this port. */
#define DEBUG_PORT 0xe7u

struct debug_point {
	bool used;
	enum stub_point kind; /* as requested */
	uint64_t address, bytes;
};

struct debug_soft_point {
	struct debug_point point;
	uint64_t physical;
	uint8_t original[2];
};

/* Zeroed, except vm. All of its functions require a paused VM. */
struct debug_guest {
	struct vm *vm;
	/*
	 * Breakpoints are `out %al, $DEBUG_PORT` instead of the processor's own, for a KVM on an emulated processor
	 * that does not report those. They work only in the guest's kernel, and there are no watchpoints. They take two
	 * bytes: a jump to the second one goes wrong.
	 */
	bool by_port;
	bool hard_works;                            /* breakpoints in debug registers reach the monitor */
	struct debug_point hard[DEBUG_HARD_POINTS]; /* in the processor's debug registers */
	struct debug_soft_point soft[DEBUG_SOFT_POINTS];
	bool stepping[STUB_THREADS_MAX];
	bool inject[STUB_THREADS_MAX]; /* a breakpoint of the guest's own, to be injected into it */
};

bool debug_read_registers(struct debug_guest *guest, unsigned vcpu, struct register_file *file);
bool debug_write_registers(struct debug_guest *guest, unsigned vcpu, const struct register_file *file);
size_t debug_read_memory(struct debug_guest *guest, unsigned vcpu, uint64_t address, void *data, size_t bytes);
size_t debug_write_memory(struct debug_guest *guest, unsigned vcpu, uint64_t address, const void *data, size_t bytes);

/*
 * A breakpoint uses one of the processor's four debug registers while one is free: the guest's code is unchanged, and
 * the address need not be mapped yet. Further breakpoints are written as INT3.
 */
bool debug_insert(struct debug_guest *guest, unsigned vcpu, enum stub_point kind, uint64_t address, uint64_t bytes);
bool debug_remove(struct debug_guest *guest, enum stub_point kind, uint64_t address, uint64_t bytes);
void debug_remove_all(struct debug_guest *guest);

/* Tells KVM how each vCPU continues, right before vm_resume(). */
void debug_prepare(struct debug_guest *guest, const enum stub_go go[STUB_THREADS_MAX]);

/*
 * Determines why a vCPU stopped. False: because of an INT3 of the guest's own (a kprobe, text being patched), which
 * debug_prepare() injects.
 */
bool debug_explain(struct debug_guest *guest, unsigned vcpu, const struct kvm_debug_exit_arch *stop,
		   enum stub_stop *why, uint64_t *address);

#endif
