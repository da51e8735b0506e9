/* SPDX-License-Identifier: Apache-2.0 */
/* Handles the exits of KVM_RUN. */
#include "monitor/core/exits.h"

#include <sys/ioctl.h>
#include <time.h>

#include "common/bytes.h"
#include "common/fail.h"
#include "monitor/core/internal.h"

static uint64_t clock_us(const struct vcpu *vcpu)
{
	struct timespec now;

	if (!vcpu->vm->config.timed)
		return 0;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

static void count_exit(const struct vcpu *vcpu, counter *exits, struct latency *time, uint64_t begun)
{
	counter_add(exits, 1);
	if (vcpu->vm->config.timed)
		latency_add(time, clock_us(vcpu) - begun);
}

/* The vCPU parks after this: the pause it starts kicks it out of its next KVM_RUN before it enters the guest. */
static void stop_for_debugger(struct vcpu *vcpu, const struct kvm_debug_exit_arch *stop)
{
	vm_pause_soon(vcpu->vm);
	vcpu->vm->handlers.debug(vcpu->vm->handlers.opaque, vcpu->id, stop);
}

static void handle_debug(struct vcpu *vcpu)
{
	struct kvm_debug_exit_arch stop = vcpu->run->debug.arch;

	if (vcpu->vm->handlers.debug)
		stop_for_debugger(vcpu, &stop);
}

/* A string instruction delivers several accesses of the same width in one exit. */
static void handle_io(struct vcpu *vcpu)
{
	const struct vm_handlers *handlers = &vcpu->vm->handlers;
	struct kvm_run *run = vcpu->run;
	unsigned bytes = run->io.size;
	bool write = run->io.direction == KVM_EXIT_IO_OUT;
	if (bytes > 4 || !riffle_inside(run->io.data_offset, (uint64_t)bytes * run->io.count, vcpu->run_bytes))
		return;
	if (handlers->debug_port && run->io.port == handlers->debug_port && write) {
		stop_for_debugger(vcpu, &(struct kvm_debug_exit_arch){.exception = 3});
		return;
	}
	uint8_t *data = (uint8_t *)run + run->io.data_offset;
	uint64_t begun = clock_us(vcpu);

	for (uint32_t i = 0; i < run->io.count; i++, data += bytes)
		handlers->port(handlers->opaque, run->io.port, bytes, write, data);
	count_exit(vcpu, write ? &vcpu->counters.io_out : &vcpu->counters.io_in,
		   write ? &vcpu->counters.io_out_time : &vcpu->counters.io_in_time, begun);
}

static void handle_mmio(struct vcpu *vcpu)
{
	const struct vm_handlers *handlers = &vcpu->vm->handlers;
	struct kvm_run *run = vcpu->run;
	uint64_t begun = clock_us(vcpu);
	bool write = run->mmio.is_write;

	if (run->mmio.len <= sizeof run->mmio.data)
		handlers->mmio(handlers->opaque, run->mmio.phys_addr, run->mmio.len, run->mmio.is_write,
			       run->mmio.data);
	count_exit(vcpu, write ? &vcpu->counters.mmio_writes : &vcpu->counters.mmio_reads,
		   write ? &vcpu->counters.mmio_write_time : &vcpu->counters.mmio_read_time, begun);
}

static void handle_system_event(struct vcpu *vcpu)
{
	switch (vcpu->run->system_event.type) {
	case KVM_SYSTEM_EVENT_SHUTDOWN:
		vm_end(vcpu->vm, VM_END_POWEROFF);
		break;
	case KVM_SYSTEM_EVENT_CRASH:
		vm_end(vcpu->vm, VM_END_PANIC);
		break;
	default:
		vm_end(vcpu->vm, VM_END_RESET);
		break;
	}
}

/*
 * The guest's instruction pointer is kept for vm_fault_rip() and never part of the message: it reveals the kernel's
 * layout.
 */
static void fail_vcpu(struct vcpu *vcpu, const char *exit, const char *problem, uint64_t found)
{
	struct riffle_error error;
	struct kvm_regs regs;

	counter_add(&vcpu->counters.failures, 1);
	if (ioctl(vcpu->fd, KVM_GET_REGS, &regs) == 0)
		vcpu->vm->fault_rip = regs.rip;
	riffle_fail_found(&error, RIFFLE_ERR_UNSUPPORTED, exit, problem, found);
	vm_fail(vcpu->vm, &error);
}

static const char *internal_error_name(uint32_t suberror)
{
	switch (suberror) {
	case KVM_INTERNAL_ERROR_EMULATION:
		return "KVM cannot emulate an instruction of the guest";
	case KVM_INTERNAL_ERROR_SIMUL_EX:
		return "two exceptions at once";
	case KVM_INTERNAL_ERROR_DELIVERY_EV:
		return "an event could not be delivered";
	case KVM_INTERNAL_ERROR_UNEXPECTED_EXIT_REASON:
		return "exit reason unknown to KVM";
	default:
		return "unknown suberror";
	}
}

void exits_handle(struct vcpu *vcpu)
{
	struct kvm_run *run = vcpu->run;
	switch (run->exit_reason) {
	case KVM_EXIT_IO:
		handle_io(vcpu);
		break;
	case KVM_EXIT_MMIO:
		handle_mmio(vcpu);
		break;
	case KVM_EXIT_DEBUG:
		handle_debug(vcpu);
		break;
	case KVM_EXIT_INTR:
	case KVM_EXIT_IRQ_WINDOW_OPEN:
		break;
	case KVM_EXIT_SHUTDOWN:
		vm_end(vcpu->vm, VM_END_TRIPLE_FAULT);
		break;
	case KVM_EXIT_SYSTEM_EVENT:
		handle_system_event(vcpu);
		break;
	case KVM_EXIT_INTERNAL_ERROR:
		fail_vcpu(vcpu, "KVM_EXIT_INTERNAL_ERROR", internal_error_name(run->internal.suberror),
			  run->internal.suberror);
		break;
	case KVM_EXIT_FAIL_ENTRY:
		fail_vcpu(vcpu, "KVM_EXIT_FAIL_ENTRY", "the processor refused the guest's state",
			  run->fail_entry.hardware_entry_failure_reason);
		break;
	default:
		fail_vcpu(vcpu, "KVM_RUN", "unexpected exit reason", run->exit_reason);
		break;
	}
}
