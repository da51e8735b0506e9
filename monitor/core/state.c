/* SPDX-License-Identifier: Apache-2.0 */
/* The VM's run state: paused, running, ended, and why. */
#include <limits.h>
#include <linux/futex.h>
#include <linux/kvm.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "monitor/core/internal.h"
#include "monitor/core/thread.h"

void vm_wait_for_change(struct vm *vm)
{
	uint32_t seen = atomic_load(&vm->changes);

	vm->waiting++;
	pthread_mutex_unlock(&vm->state_lock);
	syscall(SYS_futex, &vm->changes, FUTEX_WAIT_PRIVATE, seen, NULL, NULL, 0);
	pthread_mutex_lock(&vm->state_lock);
	vm->waiting--;
}

/* state_lock is held. Whether somebody has to be woken. */
static bool change(struct vm *vm)
{
	atomic_fetch_add(&vm->changes, 1);
	return vm->waiting;
}

static void wake_all(struct vm *vm)
{
	syscall(SYS_futex, &vm->changes, FUTEX_WAKE_PRIVATE, INT_MAX, NULL, NULL, 0);
}

void vm_tell_of_change(struct vm *vm)
{
	if (change(vm))
		wake_all(vm);
}

/*
 * `wanted` tells a vCPU to leave the guest; the kick makes it look: one about to enter the guest sees immediate_exit,
 * one inside gets the signal. KVM_RUN first completes the port or MMIO access it last returned for, so a parked vCPU
 * has no access half-done. Where all are parked there is nobody to kick, and the signal may have no handler yet.
 * state_lock is held.
 */
static void kick(struct vm *vm)
{
	if (vm->parked == vm->threads)
		return;
	for (unsigned i = 0; i < vm->threads; i++) {
		__atomic_store_n(&vm->vcpus[i].run->immediate_exit, 1, __ATOMIC_SEQ_CST);
		pthread_kill(vm->vcpus[i].thread, KICK_SIGNAL);
	}
}

/* state_lock is held. */
static void begin_pause(struct vm *vm)
{
	if (vm->wanted != VM_RUNNING)
		return;
	vm->wanted = VM_PAUSED;
	kick(vm);
}

void vm_hold(struct vm *vm, unsigned vcpu, bool hold)
{
	pthread_mutex_lock(&vm->state_lock);
	vm->vcpus[vcpu].held = hold;
	pthread_mutex_unlock(&vm->state_lock);
}

void vm_pause(struct vm *vm)
{
	pthread_mutex_lock(&vm->state_lock);
	begin_pause(vm);
	while (vm->wanted == VM_PAUSED && vm->parked < vm->threads)
		vm_wait_for_change(vm);
	pthread_mutex_unlock(&vm->state_lock);
}

void vm_tell_paused(struct vm *vm)
{
	for (unsigned i = 0; i < vm->vcpus_made; i++)
		if (ioctl(vm->vcpus[i].fd, KVM_KVMCLOCK_CTRL, 0) < 0)
			counter_add(&vm->vcpus[i].counters.clock_fails, 1);
}

void vm_pause_soon(struct vm *vm)
{
	pthread_mutex_lock(&vm->state_lock);
	begin_pause(vm);
	pthread_mutex_unlock(&vm->state_lock);
}

void vm_resume(struct vm *vm)
{
	pthread_mutex_lock(&vm->state_lock);
	/* vCPUs kicked by a pause but not parked yet would take this resume for a spurious kick */
	while (vm->wanted == VM_PAUSED && vm->parked < vm->threads)
		vm_wait_for_change(vm);
	bool wake = vm->wanted == VM_PAUSED && change(vm);

	if (vm->wanted == VM_PAUSED)
		vm->wanted = VM_RUNNING;
	pthread_mutex_unlock(&vm->state_lock);
	/* after unlocking, or each thread would wake up only to wait for the lock */
	if (wake)
		wake_all(vm);
}

static void come_to_an_end(struct vm *vm)
{
	pthread_mutex_lock(&vm->state_lock);
	vm->wanted = VM_ENDED;
	kick(vm);
	vm_tell_of_change(vm);
	pthread_mutex_unlock(&vm->state_lock);
	if (vm->handlers.ended)
		vm->handlers.ended(vm->handlers.opaque);
}

void vm_end(struct vm *vm, enum vm_end end)
{
	int not_ended = VM_NOT_ENDED;

	if (atomic_compare_exchange_strong(&vm->end, &not_ended, (int)end))
		come_to_an_end(vm);
}

void vm_fail(struct vm *vm, const struct riffle_error *error)
{
	int not_ended = VM_NOT_ENDED;

	if (atomic_compare_exchange_strong(&vm->end, &not_ended, VM_END_ERROR)) {
		vm->error = *error;
		come_to_an_end(vm);
	}
}

void vm_join(struct vm *vm)
{
	pthread_mutex_lock(&vm->state_lock);
	unsigned threads = vm->threads;

	if (threads && vm->wanted == VM_ENDED)
		kick(vm);
	vm->threads = 0; /* vm_end() must not kick threads that no longer exist */
	pthread_mutex_unlock(&vm->state_lock);
	for (unsigned i = 0; i < threads; i++)
		pthread_join(vm->vcpus[i].thread, NULL);
}

enum vm_state vm_state(struct vm *vm)
{
	pthread_mutex_lock(&vm->state_lock);
	enum vm_state state = vm->wanted;

	pthread_mutex_unlock(&vm->state_lock);
	return state;
}

uint64_t vm_cpu_ns(const struct vm *vm)
{
	uint64_t sum = 0;

	for (unsigned i = 0; i < vm->threads; i++) {
		struct timespec used;

		if (clock_gettime(vm->vcpus[i].clock, &used) == 0)
			sum += (uint64_t)used.tv_sec * 1000000000u + (uint64_t)used.tv_nsec;
	}
	return sum;
}

bool vm_is_halted(struct vm *vm)
{
	bool was_running = vm_state(vm) == VM_RUNNING, halted = true;

	vm_pause(vm);
	if (vm_state(vm) == VM_ENDED)
		return false;
	for (unsigned i = 0; halted && i < vm->vcpus_made; i++)
		halted = vcpu_is_halted(&vm->vcpus[i]);
	if (was_running)
		vm_resume(vm);
	return halted;
}
