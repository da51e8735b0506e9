/* SPDX-License-Identifier: Apache-2.0 */
/* The life of a microVM: made, prepared, run, ended. */
#include "monitor/core/vm.h"

#include <errno.h>
#include <linux/kvm.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "common/fail.h"
#include "monitor/core/kvm.h"
#include "monitor/machine.h"
#include "monitor/core/probe.h"
#include "monitor/core/thread.h"

/* How long the end of a run waits for a reader of the console that does not read. */
#define READER_PATIENCE_MS 10000u

/* With more memory than this the boot page tables are made of 1 GiB pages, if the guest has them. */
#define GIB_PAGES_FROM (UINT64_C(64) << 30)

static void set_irq(void *opaque, unsigned irq, bool level)
{
	struct vm *vm = opaque;
	struct kvm_irq_level line = {.irq = irq, .level = level};
	ioctl(vm->vm_fd, KVM_IRQ_LINE, &line); /* cannot fail on lines below 24 of an irqchip that is there */
}

static void end_for_guest(void *opaque, enum vm_end end)
{
	vm_end(opaque, end);
}

static void input_wanted(void *opaque)
{
	loop_wake(opaque);
}

static void output_has_room_again(void *opaque)
{
	struct vm *vm = opaque;
	pthread_mutex_lock(&vm->bus.lock);
	serial_output_ready(&vm->serial);
	pthread_mutex_unlock(&vm->bus.lock);
}

static void attach_devices(struct vm *vm)
{
	vm->platform = (struct platform){
		.set_irq = set_irq, .end = end_for_guest, .input_wanted = input_wanted, .opaque = vm};
	bus_init(&vm->bus);
	output_init(&vm->output, vm->config.console_out, output_has_room_again, vm);
	serial_attach(&vm->serial, &vm->bus, &vm->platform, &vm->output);
	i8042_attach(&vm->i8042, &vm->bus, &vm->platform);
	cmos_attach(&vm->cmos, &vm->bus, NULL);
	power_attach(&vm->power, &vm->bus, &vm->platform);
	if (vm->config.boot_timer)
		boot_timer_attach(&vm->boot_timer, &vm->bus);
}

/* Everything of a vm that is not zero before anything is made, so that vm_destroy() works at any point. */
static struct vm *allocate(const struct vm_config *config)
{
	struct vm *vm = calloc(1, sizeof *vm);
	if (!vm)
		return NULL;
	vm->config = *config;
	vm->kvm_fd = vm->vm_fd = vm->wake_fd = vm->signal_fd = -1;
	atomic_init(&vm->end, VM_RUNNING);
	for (unsigned i = 0; i < RIFFLE_BOOT_VCPUS_MAX; i++)
		vm->vcpus[i] = (struct vcpu){.fd = -1, .id = i, .vm = vm};
	pthread_mutex_init(&vm->start_lock, NULL);
	pthread_mutex_init(&vm->kick_lock, NULL);
	pthread_cond_init(&vm->start_changed, NULL);
	console_init(&vm->console, config->console_in);
	attach_devices(vm);
	return vm;
}

static int read_cpuid(struct vm *vm, struct riffle_error *error)
{
	if (vm->cpuid.nent)
		return 0;
	return guest_cpuid_read(&vm->cpuid, vm->kvm_fd, vm->config.vcpus, kvm_has_tsc_deadline(vm->kvm_fd), error);
}

int vm_open(struct vm *vm, struct riffle_error *error)
{
	vm->wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	if (vm->wake_fd < 0)
		return riffle_fail_system(error, errno, "eventfd", "failed");
	vm->kvm_fd = kvm_open(error);
	if (vm->kvm_fd < 0)
		return error ? (int)error->status : RIFFLE_ERR_IO;
	int status = kvm_check(vm->kvm_fd, vm->config.vcpus, error);
	if (!status && !vm->config.accept_emulation)
		status = probe_refuse_emulation(vm->kvm_fd, error);
	if (status)
		return status;
	/* not asked for otherwise: where this host is a guest itself it costs up to a millisecond */
	if (vm->config.memory_bytes > GIB_PAGES_FROM) {
		status = read_cpuid(vm, error);
		if (status)
			return status;
		vm->gib_pages = guest_cpuid_has_gib_pages(&vm->cpuid);
	}
	vm->vm_fd = kvm_create_vm(vm->kvm_fd, error);
	if (vm->vm_fd < 0)
		return error ? (int)error->status : RIFFLE_ERR_IO;
	return guest_memory_register(&vm->memory, vm->vm_fd, error);
}

int vm_new(struct vm **result, const struct vm_config *config, struct riffle_error *error)
{
	*result = NULL;
	if (config->vcpus < 1 || config->vcpus > RIFFLE_BOOT_VCPUS_MAX)
		return riffle_fail_expected(error, RIFFLE_ERR_ARGUMENT, "vcpus", "must be from 1 to 32", config->vcpus,
					    RIFFLE_BOOT_VCPUS_MAX);
	struct vm *vm = allocate(config);
	if (!vm)
		return riffle_fail(error, RIFFLE_ERR_MEMORY, "struct vm", "out of memory");
	int status = guest_memory_map(&vm->memory, config->memory_bytes, config->huge_pages, error);
	if (status) {
		vm_destroy(vm);
		return status;
	}
	*result = vm;
	return 0;
}

int vm_create(struct vm **vm, const struct vm_config *config, struct riffle_error *error)
{
	int status = vm_new(vm, config, error);
	if (!status)
		status = vm_open(*vm, error);
	if (status) {
		vm_destroy(*vm);
		*vm = NULL;
	}
	return status;
}

static void close_if_open(int fd)
{
	if (fd >= 0)
		close(fd);
}

void vm_destroy(struct vm *vm)
{
	if (!vm)
		return;
	for (unsigned i = 0; i < RIFFLE_BOOT_VCPUS_MAX; i++)
		vcpu_destroy(&vm->vcpus[i]);
	close_if_open(vm->vm_fd);
	close_if_open(vm->kvm_fd);
	close_if_open(vm->wake_fd);
	guest_memory_unmap(&vm->memory);
	output_destroy(&vm->output);
	bus_destroy(&vm->bus);
	pthread_cond_destroy(&vm->start_changed);
	pthread_mutex_destroy(&vm->start_lock);
	pthread_mutex_destroy(&vm->kick_lock);
	free(vm);
}

const struct riffle_ram *vm_ram(const struct vm *vm, size_t *count)
{
	*count = vm->memory.count;
	return vm->memory.ram;
}

void vm_describe(const struct vm *vm, struct riffle_machine *machine)
{
	machine->ram = vm->memory.ram;
	machine->ram_count = vm->memory.count;
	machine->vcpus = vm->config.vcpus;
	machine->flags = RIFFLE_MACHINE_I8042 | RIFFLE_MACHINE_RTC | (vm->gib_pages ? RIFFLE_MACHINE_GIB_PAGES : 0);
	machine->devices = NULL;
	machine->device_count = 0;
	machine->sleep_control_port = PORT_SLEEP_CONTROL;
	machine->reset_port = PORT_RESET;
	machine->reset_value = RESET_VALUE;
}

int vm_prepare_vcpus(struct vm *vm, struct riffle_error *error)
{
	int run_bytes = ioctl(vm->kvm_fd, KVM_GET_VCPU_MMAP_SIZE, 0);
	if (run_bytes < (int)sizeof(struct kvm_run))
		return riffle_fail_system(error, errno, "KVM_GET_VCPU_MMAP_SIZE", "failed");
	int status = read_cpuid(vm, error);
	if (!status)
		status = kvm_create_chips(vm->vm_fd, error);
	while (!status && vm->vcpus_made < vm->config.vcpus) {
		struct vcpu *vcpu = &vm->vcpus[vm->vcpus_made];
		status = vcpu_create(vcpu, vm->vm_fd, (size_t)run_bytes, &vm->cpuid, error);
		vm->vcpus_made++;
	}
	return status;
}

/* Gets every vCPU out of KVM_RUN: one that is on its way in sees immediate_exit, one that is inside gets the signal. */
static void kick_locked(struct vm *vm)
{
	for (unsigned i = 0; i < vm->vcpus_to_kick; i++) {
		__atomic_store_n(&vm->vcpus[i].run->immediate_exit, 1, __ATOMIC_SEQ_CST);
		pthread_kill(vm->vcpus[i].thread, SIGRTMIN);
	}
}

static void kick_vcpus(struct vm *vm)
{
	pthread_mutex_lock(&vm->kick_lock);
	kick_locked(vm);
	pthread_mutex_unlock(&vm->kick_lock);
}

/* Before they are joined: whoever ends the guest from now on, or is at it, must not kick a thread that is no more. */
static void kick_vcpus_for_good(struct vm *vm)
{
	pthread_mutex_lock(&vm->kick_lock);
	kick_locked(vm);
	vm->vcpus_to_kick = 0;
	pthread_mutex_unlock(&vm->kick_lock);
}

static void vcpu_started(struct vm *vm)
{
	pthread_mutex_lock(&vm->kick_lock);
	vm->vcpus_to_kick = ++vm->vcpus_started;
	pthread_mutex_unlock(&vm->kick_lock);
}

void vm_end(struct vm *vm, enum vm_end end)
{
	int running = VM_RUNNING;
	if (atomic_compare_exchange_strong(&vm->end, &running, (int)end))
		kick_vcpus(vm);
}

void vm_fail(struct vm *vm, const struct riffle_error *error)
{
	int running = VM_RUNNING;
	if (atomic_compare_exchange_strong(&vm->end, &running, VM_END_ERROR)) {
		vm->error = *error;
		kick_vcpus(vm);
	}
}

/* Returns whether to go. */
static bool wait_for_start(struct vm *vm)
{
	pthread_mutex_lock(&vm->start_lock);
	while (vm->start == START_WAIT)
		pthread_cond_wait(&vm->start_changed, &vm->start_lock);
	bool go = vm->start == START_GO;
	pthread_mutex_unlock(&vm->start_lock);
	return go;
}

static void start_vcpus(struct vm *vm, enum start start)
{
	pthread_mutex_lock(&vm->start_lock);
	vm->start = start;
	pthread_cond_broadcast(&vm->start_changed);
	pthread_mutex_unlock(&vm->start_lock);
}

static void *vcpu_thread(void *argument)
{
	struct vcpu *vcpu = argument;
	thread_begin("vcpu");
	if (wait_for_start(vcpu->vm))
		vcpu_loop(vcpu);
	return NULL;
}

static int start_threads(struct vm *vm, const sigset_t *signals, struct riffle_error *error)
{
	int status = output_start(&vm->output, SIGRTMIN, error);
	if (!status)
		status = loop_start(vm, signals, error);
	vm->vcpus[0].thread = pthread_self();
	vcpu_started(vm);
	while (!status && vm->vcpus_started < vm->config.vcpus) {
		struct vcpu *vcpu = &vm->vcpus[vm->vcpus_started];
		status = thread_start(&vcpu->thread, vcpu_thread, vcpu, error);
		if (!status)
			vcpu_started(vm);
	}
	return status;
}

/* The loop thread outlives the output, so that a signal or the escape ends the wait for a reader that stopped. */
static void stop_threads(struct vm *vm)
{
	kick_vcpus_for_good(vm);
	for (unsigned i = 1; i < vm->vcpus_started; i++)
		pthread_join(vm->vcpus[i].thread, NULL);
	output_stop(&vm->output, READER_PATIENCE_MS, &vm->give_up);
	loop_stop(vm);
}

static int run_guest(struct vm *vm, const sigset_t *signals, void (*first_run)(void *opaque), void *opaque,
		     struct riffle_error *error)
{
	int status = start_threads(vm, signals, error);
	if (!status && !vm->config.unconfined)
		status = vm_lock_down(error);
	if (status) {
		start_vcpus(vm, START_CANCEL);
	} else {
		start_vcpus(vm, START_GO);
		thread_begin(NULL);
		if (first_run)
			first_run(opaque);
		vcpu_loop(&vm->vcpus[0]);
	}
	stop_threads(vm);
	return status;
}

int vm_run(struct vm *vm, const struct riffle_boot_registers *registers, void (*first_run)(void *opaque), void *opaque,
	   enum vm_end *end, struct riffle_error *error)
{
	if (vm->vcpus_made != vm->config.vcpus || vm->vcpus_started)
		return riffle_fail(error, RIFFLE_ERR_ARGUMENT, "vm_run",
				   vm->vcpus_started ? "called twice" : "called before vm_prepare_vcpus");
	int status = vcpu_set_entry(&vm->vcpus[0], registers, error);
	if (status)
		return status;

	struct signal_state signals;
	sigset_t taken;
	signals_take(&signals, &taken);
	console_enter(&vm->console);
	status = run_guest(vm, &taken, first_run, opaque, error);
	console_leave(&vm->console);
	signals_restore(&signals);
	if (status)
		return status;
	*end = (enum vm_end)atomic_load(&vm->end);
	if (*end == VM_END_ERROR && error)
		*error = vm->error;
	return 0;
}

int vm_end_signal(const struct vm *vm)
{
	return vm->end == VM_END_SIGNAL ? vm->end_signal : 0;
}

uint64_t vm_boot_timer(const struct vm *vm)
{
	return vm->boot_timer.marked_ns;
}

const struct boot_mark *vm_boot_marks(const struct vm *vm, unsigned *count)
{
	*count = vm->boot_timer.marks;
	return vm->boot_timer.mark;
}

uint64_t vm_fault_rip(const struct vm *vm)
{
	return vm->fault_rip;
}
