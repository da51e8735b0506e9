/* SPDX-License-Identifier: Apache-2.0 */
/* The vCPUs' threads and the VM's run state: paused, running, ended. */
#include <errno.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <time.h>

#include "common/fail.h"
#include "monitor/confine/confine.h"
#include "monitor/core/exits.h"
#include "monitor/core/internal.h"
#include "monitor/core/thread.h"

/*
 * A vCPU is told to come out by `wanted`, and then kicked: one that is on its way into the guest sees immediate_exit,
 * one that is inside gets the signal. KVM_RUN first completes the port or MMIO access that it last came back for, so a
 * vCPU that is parked has nothing half-done. state_lock is held.
 */
static void kick(struct vm *vm)
{
	for (unsigned i = 0; i < vm->threads; i++) {
		__atomic_store_n(&vm->vcpus[i].run->immediate_exit, 1, __ATOMIC_SEQ_CST);
		pthread_kill(vm->vcpus[i].thread, KICK_SIGNAL);
	}
}

/* Parks the vCPU until the VM runs. False: it has ended. */
static bool wait_to_run(struct vcpu *vcpu)
{
	struct vm *vm = vcpu->vm;

	pthread_mutex_lock(&vm->state_lock);
	vm->parked++;
	pthread_cond_broadcast(&vm->state_changed);
	while (vm->wanted == VM_PAUSED)
		pthread_cond_wait(&vm->state_changed, &vm->state_lock);
	bool run = vm->wanted == VM_RUNNING;

	if (run) {
		vm->parked--;
		__atomic_store_n(&vcpu->run->immediate_exit, 0, __ATOMIC_SEQ_CST);
	}
	pthread_mutex_unlock(&vm->state_lock);
	return run;
}

static bool wanted_out(struct vm *vm)
{
	pthread_mutex_lock(&vm->state_lock);
	bool out = vm->wanted != VM_RUNNING;

	pthread_mutex_unlock(&vm->state_lock);
	return out;
}

static void run_until_kicked(struct vcpu *vcpu)
{
	for (;;) {
		if (ioctl(vcpu->fd, KVM_RUN, 0) == 0) {
			exits_handle(vcpu);
			continue;
		}
		/* EAGAIN: a vCPU that waited for INIT or SIPI got it */
		if (errno != EINTR && errno != EAGAIN) {
			struct riffle_error error;

			riffle_fail_system(&error, errno, "KVM_RUN", "failed");
			vm_fail(vcpu->vm, &error);
		}
		if (wanted_out(vcpu->vm))
			return;
	}
}

static void *vcpu_thread(void *argument)
{
	struct vcpu *vcpu = argument;
	struct riffle_error error;

	thread_begin("vcpu", vcpu->id);
	if (!vcpu->vm->config.unconfined && confine_thread(CONFINE_VCPU, &error))
		vm_fail(vcpu->vm, &error);
	while (wait_to_run(vcpu))
		run_until_kicked(vcpu);
	return NULL;
}

int vm_start(struct vm *vm, struct riffle_error *error)
{
	if (!vm->vcpus_made || vm->vcpus_made != vm->config.vcpus || vm->threads)
		return riffle_fail(error, RIFFLE_ERR_ARGUMENT, "vm_start",
				   vm->threads ? "called twice" : "called before vm_prepare_vcpus");
	for (unsigned i = 0; i < vm->config.vcpus; i++) {
		struct vcpu *vcpu = &vm->vcpus[i];
		int status = thread_start(&vcpu->thread, vcpu_thread, vcpu, error);

		if (status)
			return status;
		pthread_getcpuclockid(vcpu->thread, &vcpu->clock);
		pthread_mutex_lock(&vm->state_lock);
		vm->threads = i + 1;
		pthread_mutex_unlock(&vm->state_lock);
	}
	return 0;
}

void vm_pause(struct vm *vm)
{
	pthread_mutex_lock(&vm->state_lock);
	if (vm->wanted == VM_RUNNING) {
		vm->wanted = VM_PAUSED;
		kick(vm);
	}
	while (vm->wanted == VM_PAUSED && vm->parked < vm->threads)
		pthread_cond_wait(&vm->state_changed, &vm->state_lock);
	pthread_mutex_unlock(&vm->state_lock);
}

void vm_resume(struct vm *vm)
{
	pthread_mutex_lock(&vm->state_lock);
	/* those whom a pause has called out but who are not parked yet would take the order back for a spurious kick */
	while (vm->wanted == VM_PAUSED && vm->parked < vm->threads)
		pthread_cond_wait(&vm->state_changed, &vm->state_lock);
	if (vm->wanted == VM_PAUSED) {
		vm->wanted = VM_RUNNING;
		pthread_cond_broadcast(&vm->state_changed);
	}
	pthread_mutex_unlock(&vm->state_lock);
}

static void come_to_an_end(struct vm *vm)
{
	pthread_mutex_lock(&vm->state_lock);
	vm->wanted = VM_ENDED;
	kick(vm);
	pthread_cond_broadcast(&vm->state_changed);
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
	vm->threads = 0; /* whoever ends it from now on must not kick a thread that is no more */
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
