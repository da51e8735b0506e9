/* SPDX-License-Identifier: Apache-2.0 */
/* A VM's internals, only for the files of monitor/core and monitor/snapshot. */
#ifndef RIFFLE_MONITOR_CORE_INTERNAL_H
#define RIFFLE_MONITOR_CORE_INTERNAL_H

#include <pthread.h>
#include <stdatomic.h>

#include "monitor/core/guest_cpuid.h"
#include "monitor/core/vcpu.h"
#include "monitor/core/vm.h"

#define VM_NOT_ENDED (-1)

#define VM_MSRS_MAX 512u

/* KVM capabilities for saving and restoring state; filled in with vm_config.can_save. */
struct vm_capabilities {
	size_t xsave_bytes; /* 0: none */
	bool xsave2, xcrs, tsc_control;
	unsigned msrs;
	uint32_t msr[VM_MSRS_MAX];
};

struct vm {
	struct vm_config config;
	struct vm_handlers handlers;
	int kvm_fd, vm_fd;
	struct guest_memory memory;
	struct guest_cpuid cpuid;
	bool gib_pages;
	struct vm_capabilities can;

	struct vcpu vcpus[RIFFLE_BOOT_VCPUS_MAX];
	unsigned vcpus_made;
	bool started;

	pthread_mutex_t state_lock;
	_Atomic uint32_t changes; /* of what is below; a condition variable's waiter would always wake for a lock */
	/* under state_lock: */
	unsigned waiting; /* vm_wait_for_change() */
	enum vm_state wanted;
	unsigned threads; /* vCPUs that have a thread, until they are joined */
	unsigned parked;  /* of these, how many are waiting to enter the guest, or have finished */

	atomic_int end;            /* VM_NOT_ENDED, or an enum vm_end */
	struct riffle_error error; /* written once, by the thread that set VM_END_ERROR */
	_Atomic uint64_t fault_rip;
};

/* Both with state_lock held: waits for the next change, without the lock; tells all that wait of one. */
void vm_wait_for_change(struct vm *vm);
void vm_tell_of_change(struct vm *vm);

#endif
