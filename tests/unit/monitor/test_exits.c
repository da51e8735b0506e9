/* SPDX-License-Identifier: Apache-2.0 */
/* Exits of KVM_RUN as KVM would report them: what each becomes, what is counted, and what no guest may cause. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <errno.h>
#include <linux/kvm.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>

#include <cmocka.h>

#include "monitor/core/exits.h"
#include "monitor/core/internal.h"

#define FD 1000
#define RUN_BYTES 12288u
#define DATA 4096u

static struct vm vm;
static struct vcpu *const vcpu = &vm.vcpus[2];
static union {
	struct kvm_run run;
	uint8_t bytes[RUN_BYTES];
} page;

static struct {
	unsigned calls, ended, debugs;
	uint64_t address;
	unsigned bytes, vcpu;
	bool write;
	uint8_t data[64];
	struct kvm_debug_exit_arch stop;
} seen;

static bool regs_fail;
static struct {
	uint32_t mp_state;
	uint64_t rflags;
	bool clock_fails;
} kvm;

/* In place of the C library's. */
int ioctl(int fd, unsigned long request, ...)
{
	va_list list;

	va_start(list, request);
	void *data = va_arg(list, void *);

	va_end(list);
	assert_in_range(fd, FD, FD + 3);
	switch (request) {
	case KVM_GET_REGS:
		if (regs_fail)
			return -1;
		*(struct kvm_regs *)data = (struct kvm_regs){.rip = 0xffffffff81234567, .rflags = kvm.rflags};
		return 0;
	case KVM_GET_MP_STATE:
		((struct kvm_mp_state *)data)->mp_state = kvm.mp_state;
		return 0;
	case KVM_KVMCLOCK_CTRL:
		errno = EINVAL;
		return kvm.clock_fails ? -1 : 0;
	}
	fail_msg("request 0x%lx", request);
	return -1;
}

static void on_port(void *opaque, uint16_t port, unsigned bytes, bool write, void *data)
{
	assert_ptr_equal(opaque, &seen);
	seen.address = port;
	seen.bytes = bytes;
	seen.write = write;
	if (write)
		memcpy(seen.data + (size_t)seen.calls * bytes, data, bytes);
	else
		memset(data, (int)(0xa0 + seen.calls), bytes);
	seen.calls++;
}

static void on_mmio(void *opaque, uint64_t address, unsigned bytes, bool write, void *data)
{
	assert_ptr_equal(opaque, &seen);
	seen.address = address;
	seen.bytes = bytes;
	seen.write = write;
	if (write)
		memcpy(seen.data, data, bytes);
	else
		memset(data, 0xb0, bytes);
	seen.calls++;
}

static void on_end(void *opaque)
{
	assert_ptr_equal(opaque, &seen);
	seen.ended++;
}

static void on_debug(void *opaque, unsigned id, const struct kvm_debug_exit_arch *stop)
{
	assert_ptr_equal(opaque, &seen);
	seen.debugs++;
	seen.vcpu = id;
	seen.stop = *stop;
}

static int set_up(void **state)
{
	(void)state;
	memset(&vm, 0, sizeof vm);
	memset(&seen, 0, sizeof seen);
	memset(&page, 0, sizeof page);
	memset(&kvm, 0, sizeof kvm);
	regs_fail = false;
	pthread_mutex_init(&vm.state_lock, NULL);
	vm.wanted = VM_RUNNING;
	vm.end = VM_NOT_ENDED;
	vm.handlers = (struct vm_handlers){.port = on_port, .mmio = on_mmio, .ended = on_end, .opaque = &seen};
	for (unsigned i = 0; i < 4; i++)
		vm.vcpus[i] = (struct vcpu){.fd = FD + (int)i, .id = i, .vm = &vm, .run = &page.run};
	vcpu->run_bytes = RUN_BYTES;
	return 0;
}

static void io(bool write, unsigned bytes, uint32_t count, uint64_t offset)
{
	page.run.exit_reason = KVM_EXIT_IO;
	page.run.io.direction = write ? KVM_EXIT_IO_OUT : KVM_EXIT_IO_IN;
	page.run.io.size = (uint8_t)bytes;
	page.run.io.port = 0x3f8;
	page.run.io.count = count;
	page.run.io.data_offset = offset;
	seen.calls = 0;
	exits_handle(vcpu);
}

/* Each access of a string instruction, in order, of its width; none that is not inside the page. */
static void port_accesses(void **state)
{
	(void)state;
	for (unsigned bytes = 1; bytes <= 4; bytes *= 2) {
		for (uint32_t count = 0; count <= 3; count++) {
			for (uint8_t i = 0; i < 16; i++)
				page.bytes[DATA + i] = i;
			io(true, bytes, count, DATA);
			assert_int_equal(seen.calls, count);
			for (unsigned i = 0; i < count * bytes; i++)
				assert_int_equal(seen.data[i], i);
			io(false, bytes, count, DATA);
			assert_int_equal(seen.calls, count);
			for (unsigned i = 0; i < 16; i++)
				assert_int_equal(page.bytes[DATA + i], i < count * bytes ? 0xa0 + i / bytes : i);
			if (count) {
				assert_int_equal(seen.address, 0x3f8);
				assert_int_equal(seen.bytes, bytes);
				assert_false(seen.write);
			}
		}
	}
	assert_int_equal(vcpu->counters.io_in, 12);
	assert_int_equal(vcpu->counters.io_out, 12);
	assert_int_equal(vcpu->counters.io_in_time.max_us + vcpu->counters.io_out_time.max_us, 0);
	io(false, 4, 2, RUN_BYTES - 8);
	assert_int_equal(seen.calls, 2);
	static const struct {
		unsigned bytes;
		uint32_t count;
		uint64_t offset;
	} outside[] = {{4, 2, RUN_BYTES - 7}, {4, UINT32_MAX, DATA}, {1, 1, RUN_BYTES},
		       {1, 1, UINT64_MAX},    {8, 1, DATA},          {5, 1, DATA}};

	for (size_t i = 0; i < sizeof outside / sizeof *outside; i++) {
		io(false, outside[i].bytes, outside[i].count, outside[i].offset);
		assert_int_equal(seen.calls, 0);
	}
	assert_int_equal(vcpu->counters.io_in, 13);
	assert_int_equal(vm.end, VM_NOT_ENDED);
}

static void mmio_accesses(void **state)
{
	(void)state;
	for (unsigned bytes = 1; bytes <= 9; bytes++) {
		for (unsigned write = 0; write < 2; write++) {
			memset(&page, 0, sizeof page);
			page.run.exit_reason = KVM_EXIT_MMIO;
			page.run.mmio.phys_addr = UINT64_C(0x1c0001000) + bytes;
			page.run.mmio.len = bytes;
			page.run.mmio.is_write = (uint8_t)write;
			memset(page.run.mmio.data, 0x11, 8);
			seen.calls = 0;
			exits_handle(vcpu);
			assert_int_equal(seen.calls, bytes <= 8);
			if (bytes > 8)
				continue;
			assert_int_equal(seen.address, UINT64_C(0x1c0001000) + bytes);
			assert_int_equal(seen.bytes, bytes);
			assert_int_equal(seen.write, write);
			for (unsigned i = 0; i < 8; i++)
				assert_int_equal(page.run.mmio.data[i], !write && i < bytes ? 0xb0 : 0x11);
		}
	}
	assert_int_equal(vcpu->counters.mmio_reads, 9);
	assert_int_equal(vcpu->counters.mmio_writes, 9);
}

/* Where times are asked for, those of each kind are noted, and within those of the test. */
static void exits_are_timed(void **state)
{
	struct timespec now;

	(void)state;
	vm.config.timed = true;
	clock_gettime(CLOCK_MONOTONIC, &now);
	uint64_t begun = (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;

	for (unsigned i = 0; i < 2000; i++) {
		io(i % 2, 1, 64, DATA);
		page.run.exit_reason = KVM_EXIT_MMIO;
		page.run.mmio.len = 8;
		page.run.mmio.is_write = i % 2;
		exits_handle(vcpu);
		seen.calls = 0;
	}
	clock_gettime(CLOCK_MONOTONIC, &now);
	uint64_t most = (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000 - begun + 1;
	const struct latency *times[] = {&vcpu->counters.io_in_time, &vcpu->counters.io_out_time,
					 &vcpu->counters.mmio_read_time, &vcpu->counters.mmio_write_time};

	for (unsigned i = 0; i < 4; i++)
		assert_true(times[i]->max_us <= times[i]->sum_us && times[i]->sum_us <= most);
}

static void ends_of_a_machine(void **state)
{
	static const struct {
		uint32_t reason, event;
		enum vm_end end;
	} rows[] = {
	    {KVM_EXIT_SHUTDOWN, 0, VM_END_TRIPLE_FAULT},
	    {KVM_EXIT_SYSTEM_EVENT, KVM_SYSTEM_EVENT_SHUTDOWN, VM_END_POWEROFF},
	    {KVM_EXIT_SYSTEM_EVENT, KVM_SYSTEM_EVENT_CRASH, VM_END_PANIC},
	    {KVM_EXIT_SYSTEM_EVENT, KVM_SYSTEM_EVENT_RESET, VM_END_RESET},
	    {KVM_EXIT_SYSTEM_EVENT, 99, VM_END_RESET},
	};

	(void)state;
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		set_up(NULL);
		page.run.exit_reason = rows[i].reason;
		page.run.system_event.type = rows[i].event;
		exits_handle(vcpu);
		assert_int_equal(vm.end, rows[i].end);
		assert_int_equal(vm_state(&vm), VM_ENDED);
		assert_int_equal(seen.ended, 1);
		/* the first reason stands */
		vm_end(&vm, VM_END_SIGNAL);
		vm_fail(&vm, &(struct riffle_error){.status = RIFFLE_ERR_IO});
		assert_int_equal(vm.end, rows[i].end);
		assert_int_equal(vm.error.status, 0);
		assert_int_equal(seen.ended, 1);
	}
	/* those that mean nothing */
	set_up(NULL);
	page.run.exit_reason = KVM_EXIT_INTR;
	exits_handle(vcpu);
	page.run.exit_reason = KVM_EXIT_IRQ_WINDOW_OPEN;
	exits_handle(vcpu);
	assert_int_equal(vm.end, VM_NOT_ENDED);
	assert_int_equal(vcpu->counters.failures, 0);
}

/* What no guest should cause is told with KVM's own reason; the guest's address is kept apart. */
static void failures_of_kvm(void **state)
{
	static const struct {
		uint32_t reason, detail;
		const char *field, *problem;
	} rows[] = {
	    {KVM_EXIT_INTERNAL_ERROR, KVM_INTERNAL_ERROR_EMULATION, "KVM_EXIT_INTERNAL_ERROR", "emulate"},
	    {KVM_EXIT_INTERNAL_ERROR, KVM_INTERNAL_ERROR_SIMUL_EX, "KVM_EXIT_INTERNAL_ERROR", "two exceptions"},
	    {KVM_EXIT_INTERNAL_ERROR, KVM_INTERNAL_ERROR_DELIVERY_EV, "KVM_EXIT_INTERNAL_ERROR", "delivered"},
	    {KVM_EXIT_INTERNAL_ERROR, KVM_INTERNAL_ERROR_UNEXPECTED_EXIT_REASON, "KVM_EXIT_INTERNAL_ERROR",
	     "exit reason"},
	    {KVM_EXIT_INTERNAL_ERROR, 77, "KVM_EXIT_INTERNAL_ERROR", "unknown suberror"},
	    {KVM_EXIT_FAIL_ENTRY, 78, "KVM_EXIT_FAIL_ENTRY", "refused the guest's state"},
	    {KVM_EXIT_HYPERCALL, KVM_EXIT_HYPERCALL, "KVM_RUN", "unexpected exit reason"},
	};

	(void)state;
	for (size_t i = 0; i < 2 * sizeof rows / sizeof *rows; i++) {
		set_up(NULL);
		regs_fail = i % 2;
		page.run.exit_reason = rows[i / 2].reason;
		if (rows[i / 2].reason == KVM_EXIT_INTERNAL_ERROR)
			page.run.internal.suberror = rows[i / 2].detail;
		else
			page.run.fail_entry.hardware_entry_failure_reason = rows[i / 2].detail;
		exits_handle(vcpu);
		assert_int_equal(vm_how_ended(&vm), VM_END_ERROR);
		assert_string_equal(vm_error(&vm)->field, rows[i / 2].field);
		assert_non_null(strstr(vm_error(&vm)->problem, rows[i / 2].problem));
		assert_int_equal(vm_error(&vm)->found, rows[i / 2].detail);
		assert_int_equal(vm_error(&vm)->status, RIFFLE_ERR_UNSUPPORTED);
		assert_int_equal(vm_fault_rip(&vm), regs_fail ? 0 : 0xffffffff81234567);
		assert_int_equal(vcpu->counters.failures, 1);
		assert_int_equal(seen.ended, 1);
	}
}

/* A breakpoint pauses the machine before its debugger is told; without one it is nothing. */
static void breakpoints(void **state)
{
	(void)state;
	page.run.exit_reason = KVM_EXIT_DEBUG;
	page.run.debug.arch = (struct kvm_debug_exit_arch){.exception = 1, .pc = 0x1234, .dr6 = 0x4000};
	exits_handle(vcpu);
	assert_int_equal(vm.wanted, VM_RUNNING);
	vm.handlers.debug = on_debug;
	exits_handle(vcpu);
	assert_int_equal(vm.wanted, VM_PAUSED);
	assert_int_equal(seen.debugs, 1);
	assert_int_equal(seen.vcpu, 2);
	assert_int_equal(seen.stop.pc, 0x1234);
	assert_int_equal(seen.stop.dr6, 0x4000);
	/* by a port, if there is one for it: a write alone */
	vm_resume(&vm);
	assert_int_equal(vm_state(&vm), VM_RUNNING);
	io(true, 1, 1, DATA);
	assert_int_equal(seen.calls, 1);
	vm.handlers.debug_port = 0x3f9;
	io(true, 1, 1, DATA);
	assert_int_equal(seen.calls, 1);
	vm.handlers.debug_port = 0x3f8;
	io(false, 1, 1, DATA);
	assert_int_equal(seen.calls, 1);
	assert_int_equal(seen.debugs, 1);
	io(true, 1, 1, DATA);
	assert_int_equal(seen.calls, 0);
	assert_int_equal(seen.debugs, 2);
	assert_int_equal(seen.stop.exception, 3);
	assert_int_equal(seen.stop.pc, 0);
	assert_int_equal(vm.wanted, VM_PAUSED);
}

/* Pauses and resumptions without threads: an ended machine stays so. */
static void run_states(void **state)
{
	(void)state;
	vm.vcpus_made = 3;
	vm_pause(&vm);
	assert_int_equal(vm_state(&vm), VM_PAUSED);
	vm_pause(&vm);
	vm_pause_soon(&vm);
	assert_int_equal(vm_state(&vm), VM_PAUSED);
	vm_resume(&vm);
	vm_resume(&vm);
	assert_int_equal(vm_state(&vm), VM_RUNNING);
	vm_pause_soon(&vm);
	assert_int_equal(vm_state(&vm), VM_PAUSED);
	vm_hold(&vm, 1, true);
	assert_true(vm.vcpus[1].held && !vm.vcpus[0].held && !vm.vcpus[2].held);
	vm_hold(&vm, 1, false);
	assert_false(vm.vcpus[1].held);
	vm_tell_paused(&vm);
	assert_int_equal(vm.vcpus[0].counters.clock_fails, 0);
	kvm.clock_fails = true;
	vm_tell_paused(&vm);
	for (unsigned i = 0; i < 4; i++)
		assert_int_equal(vm.vcpus[i].counters.clock_fails, i < 3);
	assert_int_equal(vm_cpu_ns(&vm), 0);
	vm_end(&vm, VM_END_RESET);
	vm_resume(&vm);
	vm_pause(&vm);
	vm_pause_soon(&vm);
	assert_int_equal(vm_state(&vm), VM_ENDED);
	assert_int_equal(vm_how_ended(&vm), VM_END_RESET);
	vm_join(&vm);
}

/* Halted means that every vCPU is, with interrupts off; the machine runs on, or stays paused, as before. */
static void halted_machines(void **state)
{
	static const struct {
		uint32_t mp_state;
		uint64_t rflags;
		bool halted;
	} rows[] = {
	    {KVM_MP_STATE_HALTED, 0x002, true},        {KVM_MP_STATE_HALTED, 0x202, false},
	    {KVM_MP_STATE_RUNNABLE, 0x002, false},     {KVM_MP_STATE_UNINITIALIZED, 0x202, true},
	    {KVM_MP_STATE_INIT_RECEIVED, 0x002, true},
	};

	(void)state;
	vm.vcpus_made = 2;
	for (size_t i = 0; i < 2 * sizeof rows / sizeof *rows; i++) {
		vm.wanted = i % 2 ? VM_PAUSED : VM_RUNNING;
		kvm.mp_state = rows[i / 2].mp_state;
		kvm.rflags = rows[i / 2].rflags;
		if (vm_is_halted(&vm) != rows[i / 2].halted)
			fail_msg("row %zu", i / 2);
		assert_int_equal(vm_state(&vm), i % 2 ? VM_PAUSED : VM_RUNNING);
	}
	kvm.mp_state = KVM_MP_STATE_HALTED;
	kvm.rflags = 2;
	assert_true(vm_is_halted(&vm));
	vm_end(&vm, VM_END_RESET);
	assert_false(vm_is_halted(&vm));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test_setup(port_accesses, set_up),   cmocka_unit_test_setup(mmio_accesses, set_up),
	    cmocka_unit_test_setup(exits_are_timed, set_up), cmocka_unit_test_setup(ends_of_a_machine, set_up),
	    cmocka_unit_test_setup(failures_of_kvm, set_up), cmocka_unit_test_setup(breakpoints, set_up),
	    cmocka_unit_test_setup(run_states, set_up),      cmocka_unit_test_setup(halted_machines, set_up),
	};

	return cmocka_run_group_tests_name("monitor exits", tests, NULL, NULL);
}
