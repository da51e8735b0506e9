/* SPDX-License-Identifier: Apache-2.0 */
/* A paused VM under a debugger: registers, memory, breakpoints, and which vCPUs go on how. */
#ifndef RIFFLE_MONITOR_DEBUG_GUEST_H
#define RIFFLE_MONITOR_DEBUG_GUEST_H

#include <linux/kvm.h>

#include "monitor/core/vm.h"
#include "monitor/debug/stub.h"

#define DEBUG_HARD_POINTS 4u
#define DEBUG_SOFT_POINTS 256u
/* Nothing answers there in a guest of riffle's. */
#define DEBUG_PORT 0xe7u

struct debug_point {
	bool used;
	enum stub_point kind; /* as it was asked for */
	uint64_t address, bytes;
};

struct debug_soft_point {
	struct debug_point point;
	uint64_t physical;
	uint8_t original[2];
};

/* Zeroed but for vm. All of its functions want the VM paused. */
struct debug_guest {
	struct vm *vm;
	/*
	 * Breakpoints are `out %al, $DEBUG_PORT` instead of the processor's own, for a KVM whose processor is emulated
	 * and keeps those to itself. They work in the guest's kernel alone, and there are no watchpoints. They take two
	 * bytes: a jump to the second one goes wrong.
	 */
	bool by_port;
	bool hard_works; /* breakpoints in debug registers reach the monitor */
	struct debug_point hard[DEBUG_HARD_POINTS]; /* in the processor's debug registers */
	struct debug_soft_point soft[DEBUG_SOFT_POINTS];
	bool stepping[STUB_THREADS_MAX];
	bool inject[STUB_THREADS_MAX]; /* a breakpoint of the guest's own, to be handed to it */
};

bool debug_read_registers(struct debug_guest *guest, unsigned vcpu, struct register_file *file);
bool debug_write_registers(struct debug_guest *guest, unsigned vcpu, const struct register_file *file);
size_t debug_read_memory(struct debug_guest *guest, unsigned vcpu, uint64_t address, void *data, size_t bytes);
size_t debug_write_memory(struct debug_guest *guest, unsigned vcpu, uint64_t address, const void *data, size_t bytes);

/*
 * A breakpoint takes one of the processor's four while there is one: the guest's code stays as it is, and the address
 * may be one that is not mapped yet. After those an INT3 is written.
 */
bool debug_insert(struct debug_guest *guest, unsigned vcpu, enum stub_point kind, uint64_t address, uint64_t bytes);
bool debug_remove(struct debug_guest *guest, enum stub_point kind, uint64_t address, uint64_t bytes);
void debug_remove_all(struct debug_guest *guest);

/* Tells KVM how each vCPU goes on, right before vm_resume(). */
void debug_prepare(struct debug_guest *guest, const enum stub_go go[STUB_THREADS_MAX]);

/*
 * What a vCPU stopped for. False: for an INT3 of the guest's own (a kprobe, text that is being patched), which
 * debug_prepare() hands to it.
 */
bool debug_explain(struct debug_guest *guest, unsigned vcpu, const struct kvm_debug_exit_arch *stop,
		   enum stub_stop *why, uint64_t *address);

#endif
