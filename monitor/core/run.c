/* SPDX-License-Identifier: Apache-2.0 */
/* The vCPU threads: parked, in the guest, or handling an exit. */
#include <errno.h>
#include <sys/ioctl.h>
#include <time.h>

#include "common/fail.h"
#include "monitor/confine/confine.h"
#include "monitor/core/exits.h"
#include "monitor/core/internal.h"
#include "monitor/core/thread.h"

/* Parks the vCPU, which comes out of the guest unless it is new, until the VM runs. False: it has ended. */
static bool wait_to_run(struct vcpu *vcpu, bool is_new)
{
	struct vm *vm = vcpu->vm;

	pthread_mutex_lock(&vm->state_lock);
	if (!is_new) {
		vm->parked++;
		vm_tell_of_change(vm);
	}
	while (vm->wanted == VM_PAUSED || (vm->wanted == VM_RUNNING && vcpu->held))
		vm_wait_for_change(vm);
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
		/* EAGAIN: a vCPU received the INIT or SIPI it was waiting for */
		if (errno != EINTR && errno != EAGAIN) {
			struct riffle_error error;

			riffle_fail_system(&error, errno, "KVM_RUN", "failed");
			vm_fail(vcpu->vm, &error);
		}
		if (wanted_out(vcpu->vm))
			return;
	}
}

static const char *name_of(const struct vcpu *vcpu)
{
	return vcpu->vm->config.thread_name ? vcpu->vm->config.thread_name : "vcpu";
}

static void *live(struct vcpu *vcpu)
{
	struct riffle_error error;

	if (!vcpu->vm->config.unconfined && confine_thread(CONFINE_VCPU, &error))
		vm_fail(vcpu->vm, &error);
	for (bool is_new = true; wait_to_run(vcpu, is_new); is_new = false)
		run_until_kicked(vcpu);
	return NULL;
}

static void *vcpu_thread(void *argument)
{
	struct vcpu *vcpu = argument;

	thread_begin(name_of(vcpu), vcpu->id);
	return live(vcpu);
}

static void *first_thread(void *argument)
{
	struct vcpu *vcpu = argument;

	vcpu->first(vcpu->first_argument);
	thread_wipe_stack();
	thread_begin_early(name_of(vcpu), vcpu->id);
	return live(vcpu);
}

/* The threads of the first vCPUs are there; one more is. */
static void add_thread(struct vm *vm)
{
	struct vcpu *vcpu = &vm->vcpus[vm->threads];

	pthread_getcpuclockid(vcpu->thread, &vcpu->clock);
	pthread_mutex_lock(&vm->state_lock);
	vm->threads++;
	vm->parked++; /* on its way to wait_to_run(): as good as there, for nobody has kicked it */
	pthread_mutex_unlock(&vm->state_lock);
}

int vm_start(struct vm *vm, struct riffle_error *error)
{
	if (!vm->vcpus_made || vm->vcpus_made != vm->config.vcpus || vm->started)
		return riffle_fail(error, RIFFLE_ERR_ARGUMENT, "vm_start",
				   vm->started ? "called twice" : "called before vm_prepare_vcpus");
	vm->started = true;
	while (vm->threads < vm->config.vcpus) {
		struct vcpu *vcpu = &vm->vcpus[vm->threads];
		int status = thread_start(&vcpu->thread, vcpu_thread, vcpu, error);

		if (status)
			return status;
		add_thread(vm);
	}
	return 0;
}

int vm_start_first(struct vm *vm, bool signals_taken, void (*first)(void *argument), void *argument,
		   struct riffle_error *error)
{
	struct vcpu *vcpu = &vm->vcpus[0];
	int status;

	vcpu->first = first;
	vcpu->first_argument = argument;
	status = thread_start_early(&vcpu->thread, signals_taken, first_thread, vcpu, error);
	if (!status)
		add_thread(vm);
	return status;
}
