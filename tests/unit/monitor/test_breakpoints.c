/* SPDX-License-Identifier: Apache-2.0 */
/* How breakpoints and watchpoints are passed to KVM, whose ioctls are faked, and how its exits are interpreted. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>

#include <cmocka.h>

#include "monitor/debug/guest.h"
#include "monitor/debug/registers.h"

#define FD 1000 /* of vCPU 0 */
#define VCPUS 2u
#define RAM_BYTES 0x4000u

static struct fake {
	struct debug_guest guest;
	struct guest_memory memory;
	uint8_t ram[RAM_BYTES];
	struct kvm_guest_debug debug[VCPUS];
	struct kvm_regs regs[VCPUS];
	struct kvm_fpu fpu[VCPUS];
	struct kvm_sregs sregs[VCPUS];
	uint64_t kernel_gs_base;
	bool held[VCPUS];
	unsigned long failing;
} fake;

const struct guest_memory *vm_memory(const struct vm *vm)
{
	(void)vm;
	return &fake.memory;
}

unsigned vm_vcpus(const struct vm *vm)
{
	(void)vm;
	return VCPUS;
}

int vm_vcpu_descriptor(const struct vm *vm, unsigned vcpu)
{
	(void)vm;
	return FD + (int)vcpu;
}

void vm_hold(struct vm *vm, unsigned vcpu, bool hold)
{
	(void)vm;
	fake.held[vcpu] = hold;
}

int ioctl(int fd, unsigned long request, ...)
{
	va_list list;
	void *argument;
	unsigned vcpu = (unsigned)(fd - FD);

	va_start(list, request);
	argument = va_arg(list, void *);
	va_end(list);
	assert_true(vcpu < VCPUS);
	if (request == fake.failing)
		return -1;
	switch (request) {
	case KVM_SET_GUEST_DEBUG:
		memcpy(&fake.debug[vcpu], argument, sizeof fake.debug[vcpu]);
		return 0;
	case KVM_GET_REGS:
		memcpy(argument, &fake.regs[vcpu], sizeof fake.regs[vcpu]);
		return 0;
	case KVM_SET_REGS:
		memcpy(&fake.regs[vcpu], argument, sizeof fake.regs[vcpu]);
		return 0;
	case KVM_GET_SREGS: /* zeros are no paging: virtual addresses are physical ones */
		memcpy(argument, &fake.sregs[vcpu], sizeof fake.sregs[vcpu]);
		return 0;
	case KVM_GET_FPU:
		memcpy(argument, &fake.fpu[vcpu], sizeof fake.fpu[vcpu]);
		return 0;
	case KVM_SET_FPU:
		memcpy(&fake.fpu[vcpu], argument, sizeof fake.fpu[vcpu]);
		return 0;
	case KVM_GET_MSRS: {
		struct {
			uint32_t count, padding;
			struct kvm_msr_entry entry;
		} *msr = argument;

		assert_int_equal(msr->count, 1);
		assert_int_equal(msr->entry.index, 0xc0000102);
		msr->entry.data = fake.kernel_gs_base;
		return 1;
	}
	default:
		fail_msg("ioctl %lx", request);
		return -1;
	}
}

static int set_up(void **state)
{
	(void)state;
	memset(&fake, 0, sizeof fake);
	memset(fake.ram, 0x90, sizeof fake.ram);
	fake.memory.ram[0] = (struct riffle_ram){.address = 0, .bytes = sizeof fake.ram, .host = fake.ram};
	fake.memory.count = 1;
	fake.memory.fd = -1;
	fake.guest.hard_works = true;
	return 0;
}

static void go(enum stub_go each)
{
	enum stub_go how[STUB_THREADS_MAX] = {each, each};

	debug_prepare(&fake.guest, how);
	assert_memory_equal(&fake.debug[0], &fake.debug[1], sizeof fake.debug[0]);
}

/* DR7 (SDM 17.2.4): a global enable of each, exact, R/W 0 (execution), 1 (write), 3 (any access), LEN by 1, 2, 8, 4
 * bytes. */
static void debug_registers_are_as_the_manual_has_them(void **state)
{
	static const struct {
		enum stub_point kind;
		uint64_t address, bytes, dr7;
	} row[] = {
	    {STUB_BREAK_HARD, 0x1001, 1, 0x602},
	    {STUB_BREAK_SOFT, 0xffffffff81000003, 1, 0x602},
	    {STUB_WATCH_WRITE, 0x1001, 1, 0x602 | 0x1 << 16},
	    {STUB_WATCH_WRITE, 0x1002, 2, 0x602 | 0x5 << 16},
	    {STUB_WATCH_WRITE, 0x1004, 4, 0x602 | 0xd << 16},
	    {STUB_WATCH_WRITE, 0x1008, 8, 0x602 | 0x9 << 16},
	    {STUB_WATCH_READ, 0x1004, 4, 0x602 | 0xf << 16},
	    {STUB_WATCH_ACCESS, 0x1008, 8, 0x602 | 0xb << 16},
	};

	for (unsigned i = 0; i < sizeof row / sizeof *row; i++) {
		set_up(state);
		assert_true(debug_insert(&fake.guest, 0, row[i].kind, row[i].address, row[i].bytes));
		go(STUB_CONTINUE);
		assert_int_equal(fake.debug[0].control, KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_USE_HW_BP);
		assert_int_equal(fake.debug[0].arch.debugreg[0], row[i].address);
		assert_int_equal(fake.debug[0].arch.debugreg[7], row[i].dr7);
		assert_true(debug_remove(&fake.guest, row[i].kind, row[i].address, row[i].bytes));
		go(STUB_CONTINUE);
		assert_int_equal(fake.debug[0].control, 0);
	}
}

static void watchpoints_have_the_sizes_of_the_processor(void **state)
{
	static const struct {
		uint64_t address, bytes;
	} row[] = {{0x1000, 0}, {0x1000, 3}, {0x1000, 16}, {0x1001, 2}, {0x1002, 4}, {0x1004, 8}};

	(void)state;
	for (unsigned i = 0; i < sizeof row / sizeof *row; i++)
		assert_false(debug_insert(&fake.guest, 0, STUB_WATCH_WRITE, row[i].address, row[i].bytes));
}

/* Four registers; the fifth breakpoint is an instruction, the fifth watchpoint is refused. */
static void there_are_four(void **state)
{
	(void)state;
	for (unsigned i = 0; i < 4; i++)
		assert_true(debug_insert(&fake.guest, 0, STUB_WATCH_WRITE, 0x1000 + 8 * i, 8));
	assert_true(debug_insert(&fake.guest, 0, STUB_WATCH_WRITE, 0x1018, 8)); /* there already */
	assert_false(debug_insert(&fake.guest, 0, STUB_WATCH_WRITE, 0x1020, 8));
	assert_false(debug_insert(&fake.guest, 0, STUB_BREAK_HARD, 0x2000, 1));
	assert_int_equal(fake.ram[0x2000], 0x90);
	assert_true(debug_insert(&fake.guest, 0, STUB_BREAK_SOFT, 0x2000, 1));
	assert_int_equal(fake.ram[0x2000], 0xcc);
	go(STUB_STEP);
	assert_int_equal(fake.debug[0].control, KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_USE_HW_BP | KVM_GUESTDBG_USE_SW_BP |
						    KVM_GUESTDBG_SINGLESTEP);
	for (unsigned i = 0; i < 4; i++)
		assert_int_equal(fake.debug[0].arch.debugreg[i], 0x1000 + 8 * i);
	assert_int_equal(fake.debug[0].arch.debugreg[7], 0x6aa | UINT64_C(0x9999) << 16);
	debug_remove_all(&fake.guest);
	assert_int_equal(fake.ram[0x2000], 0x90);
	assert_int_equal(fake.ram[0x2001], 0x90);
}

static void stops_are_explained(void **state)
{
	struct kvm_debug_exit_arch stop = {.exception = 1, .pc = 0x3000, .dr6 = 0xffff0ff0 | 4};
	enum stub_stop why;
	uint64_t address;

	(void)state;
	assert_true(debug_insert(&fake.guest, 0, STUB_BREAK_SOFT, 0x1000, 1));
	assert_true(debug_insert(&fake.guest, 0, STUB_WATCH_WRITE, 0x1008, 8));
	assert_true(debug_insert(&fake.guest, 0, STUB_WATCH_ACCESS, 0x1010, 4));
	assert_true(debug_explain(&fake.guest, 0, &stop, &why, &address));
	assert_int_equal(why, STUB_STOP_ACCESS);
	assert_int_equal(address, 0x1010);
	stop.dr6 = 0xffff0ff0 | 2;
	assert_true(debug_explain(&fake.guest, 0, &stop, &why, &address));
	assert_int_equal(why, STUB_STOP_WRITE);
	assert_int_equal(address, 0x1008);
	stop.dr6 = 0xffff0ff0 | 1;
	assert_true(debug_explain(&fake.guest, 0, &stop, &why, &address));
	assert_int_equal(why, STUB_STOP_SOFT);
	stop.dr6 = 0xffff0ff0 | 8; /* the fourth was not requested */
	assert_true(debug_explain(&fake.guest, 0, &stop, &why, &address));
	assert_int_equal(why, STUB_STOP_STEP);
	/* the guest's own INT3 is delivered to it, once */
	stop = (struct kvm_debug_exit_arch){.exception = 3, .pc = 0x1234};
	assert_false(debug_explain(&fake.guest, 1, &stop, &why, &address));
	debug_prepare(&fake.guest, (enum stub_go[STUB_THREADS_MAX]){STUB_STAY, STUB_CONTINUE});
	assert_true(fake.held[0] && !fake.held[1]);
	assert_int_equal(fake.debug[0].control & KVM_GUESTDBG_INJECT_BP, 0);
	assert_int_not_equal(fake.debug[1].control & KVM_GUESTDBG_INJECT_BP, 0);
	go(STUB_CONTINUE);
}

/* A KVM that does not report breakpoint instructions: debug registers, if supported, then port writes. */
static void ports_take_over(void **state)
{
	const struct kvm_debug_exit_arch stop = {.exception = 3};
	enum stub_stop why;
	uint64_t address;

	(void)state;
	fake.guest.by_port = true;
	assert_false(debug_insert(&fake.guest, 0, STUB_WATCH_WRITE, 0x1000, 8));
	for (unsigned i = 0; i < 5; i++)
		assert_true(debug_insert(&fake.guest, 0, STUB_BREAK_HARD, 0x2000 + 4 * i, 1));
	assert_int_equal(fake.ram[0x200c], 0x90);
	assert_memory_equal(fake.ram + 0x2010, ((uint8_t[]){0xe6, DEBUG_PORT, 0x90}), 3);
	go(STUB_CONTINUE);
	assert_int_equal(fake.debug[0].control, KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_USE_HW_BP);
	fake.regs[1].rip = 0x2012;
	assert_true(debug_explain(&fake.guest, 1, &stop, &why, &address));
	assert_int_equal(address, 0x2010);
	assert_int_equal(fake.regs[1].rip, 0x2010);
	debug_remove_all(&fake.guest);
	assert_int_equal(fake.ram[0x2010], 0x90);

	fake.guest.hard_works = false;
	assert_true(debug_insert(&fake.guest, 0, STUB_BREAK_HARD, 0x2000, 1));
	assert_int_equal(fake.ram[0x2000], 0xe6);
}

/* What a debugger sees of a vCPU is KVM's, and what it changes becomes KVM's; a call that fails makes nothing up. */
static void registers_go_to_kvm_and_back(void **state)
{
	static const unsigned long reads[] = {KVM_GET_REGS, KVM_GET_SREGS, KVM_GET_FPU, KVM_GET_MSRS},
				   writes[] = {KVM_SET_REGS, KVM_SET_FPU};
	struct register_file file, other;
	size_t offset, bytes;

	(void)state;
	fake.regs[1].rip = 0x1122334455667788;
	fake.regs[1].rax = 7;
	memset(&fake.fpu[1].fpr, 0x5a, sizeof fake.fpu[1].fpr);
	fake.kernel_gs_base = 0xffff888812345678;
	assert_true(debug_read_registers(&fake.guest, 1, &file));
	assert_true(registers_find(16, &offset, &bytes));
	assert_memory_equal(file.bytes + offset, "\x88\x77\x66\x55\x44\x33\x22\x11", 8);
	assert_true(debug_read_registers(&fake.guest, 0, &other));
	assert_memory_not_equal(&file, &other, sizeof file);
	bool has_base = false;

	for (size_t i = 0; i + 8 <= sizeof file.bytes; i++)
		has_base |= !memcmp(file.bytes + i, "\x78\x56\x34\x12\x88\x88\xff\xff", 8);
	assert_true(has_base);
	memset(file.bytes + offset, 0x11, 8);
	assert_true(debug_write_registers(&fake.guest, 0, &file));
	assert_int_equal(fake.regs[0].rip, 0x1111111111111111);
	assert_int_equal(fake.regs[0].rax, 7);
	for (unsigned i = 0; i < 8; i++)
		assert_memory_equal(fake.fpu[0].fpr[i], fake.fpu[1].fpr[i], 10);
	assert_int_equal(fake.regs[1].rip, 0x1122334455667788);
	for (unsigned i = 0; i < 4; i++) {
		fake.failing = reads[i];
		assert_false(debug_read_registers(&fake.guest, 1, &file));
		assert_false(debug_write_registers(&fake.guest, 1, &file));
	}
	for (unsigned i = 0; i < 2; i++) {
		fake.failing = writes[i];
		assert_false(debug_write_registers(&fake.guest, 1, &file));
	}
}

/* As far as there is memory; breakpoints in it read as what they replaced, at each of their bytes. */
static void memory_without_breakpoints(void **state)
{
	uint8_t data[16], expected[16];

	(void)state;
	for (unsigned by_port = 0; by_port < 2; by_port++) {
		set_up(NULL);
		fake.guest.by_port = by_port;
		fake.guest.hard_works = false;
		for (unsigned i = 0; i < sizeof fake.ram; i++)
			fake.ram[i] = (uint8_t)(i * 7 + i / 256);
		assert_true(debug_insert(&fake.guest, 0, STUB_BREAK_SOFT, 0x2008, 1));
		assert_true(debug_insert(&fake.guest, 0, STUB_BREAK_SOFT, 0x200b, 1));
		assert_int_equal(fake.ram[0x2008], by_port ? 0xe6 : 0xcc);
		for (uint64_t from = 0x2000; from < 0x2010; from++) {
			for (size_t bytes = 0; bytes <= 16; bytes++) {
				memset(data, 0xee, sizeof data);
				for (size_t i = 0; i < 16; i++)
					expected[i] = i < bytes ? (uint8_t)((from + i) * 7 + (from + i) / 256) : 0xee;
				assert_int_equal(debug_read_memory(&fake.guest, 0, from, data, bytes), bytes);
				assert_memory_equal(data, expected, sizeof data);
			}
		}
		assert_int_equal(debug_read_memory(&fake.guest, 0, RAM_BYTES - 5, data, 16), 5);
		assert_int_equal(debug_read_memory(&fake.guest, 0, RAM_BYTES, data, 16), 0);
		assert_int_equal(debug_write_memory(&fake.guest, 0, RAM_BYTES - 5, "0123456789", 10), 5);
		assert_memory_equal(fake.ram + RAM_BYTES - 5, "01234", 5);
		assert_int_equal(debug_write_memory(&fake.guest, 0, 0xffd, "0123456789", 10), 10); /* over two pages */
		assert_memory_equal(fake.ram + 0xffd, "0123456789", 10);
		fake.failing = KVM_GET_SREGS;
		assert_int_equal(debug_read_memory(&fake.guest, 0, 0x2000, data, 1), 0);
		assert_false(debug_insert(&fake.guest, 0, STUB_BREAK_SOFT, 0x2100, 1));
	}
}

/* Removed one by one, each gives back what was there, unless the guest has changed it meanwhile. */
static void instructions_are_put_back(void **state)
{
	(void)state;
	for (unsigned by_port = 0; by_port < 2; by_port++) {
		const uint64_t second = by_port;

		set_up(NULL);
		fake.guest.by_port = by_port;
		fake.guest.hard_works = false;
		for (uint64_t at = 0x2000; at < 0x2040; at += 0x10)
			assert_true(debug_insert(&fake.guest, 0, STUB_BREAK_SOFT, at, 1));
		assert_true(debug_insert(&fake.guest, 0, STUB_BREAK_SOFT, 0x2000, 1)); /* there already */
		assert_false(debug_remove(&fake.guest, STUB_BREAK_HARD, 0x2000, 1));
		assert_false(debug_remove(&fake.guest, STUB_BREAK_SOFT, 0x2001, 1));
		assert_true(debug_remove(&fake.guest, STUB_BREAK_SOFT, 0x2000, 1));
		assert_int_equal(fake.ram[0x2000], 0x90);
		assert_int_equal(fake.ram[0x2001], 0x90);
		assert_false(debug_remove(&fake.guest, STUB_BREAK_SOFT, 0x2000, 1));
		fake.ram[0x2010 + second] = 0x42;
		assert_true(debug_remove(&fake.guest, STUB_BREAK_SOFT, 0x2010, 1));
		assert_int_equal(fake.ram[0x2010 + second], 0x42);
		assert_int_equal(fake.ram[0x2020], by_port ? 0xe6 : 0xcc);
		debug_remove_all(&fake.guest);
		for (uint64_t at = 0x2020; at < 0x2040; at++)
			assert_int_equal(fake.ram[at], 0x90);
		go(STUB_CONTINUE);
		assert_int_equal(fake.debug[0].control, 0);
	}
	/* where it does not fit, and where there is no memory */
	fake.guest.by_port = true;
	assert_false(debug_insert(&fake.guest, 0, STUB_BREAK_SOFT, 0x2fff, 1));
	assert_true(debug_insert(&fake.guest, 0, STUB_BREAK_SOFT, 0x2ffe, 1));
	assert_false(debug_insert(&fake.guest, 0, STUB_BREAK_SOFT, RAM_BYTES, 1));
	assert_false(debug_insert(&fake.guest, 0, STUB_WATCH_WRITE, 0x1000, 8));
}

/* As many as there are places for, each free again after its removal. */
static void most_instructions_at_once(void **state)
{
	(void)state;
	fake.guest.hard_works = false;
	for (unsigned i = 0; i < DEBUG_SOFT_POINTS; i++)
		assert_true(debug_insert(&fake.guest, 0, STUB_BREAK_SOFT, 0x1000 + 2 * i, 1));
	assert_false(debug_insert(&fake.guest, 0, STUB_BREAK_SOFT, 0x2000, 1));
	assert_int_equal(fake.ram[0x2000], 0x90);
	for (unsigned i = 0; i < DEBUG_SOFT_POINTS; i += 51) {
		assert_true(debug_remove(&fake.guest, STUB_BREAK_SOFT, 0x1000 + 2 * i, 1));
		assert_true(debug_insert(&fake.guest, 0, STUB_BREAK_SOFT, 0x2000, 1));
		assert_int_equal(fake.ram[0x2000], 0xcc);
		assert_true(debug_remove(&fake.guest, STUB_BREAK_SOFT, 0x2000, 1));
		assert_true(debug_insert(&fake.guest, 0, STUB_BREAK_SOFT, 0x1000 + 2 * i, 1));
	}
	debug_remove_all(&fake.guest);
	for (unsigned i = 0; i < RAM_BYTES; i++)
		assert_int_equal(fake.ram[i], 0x90);
	/* and as many in registers; the same with another length is another */
	fake.guest.hard_works = true;
	assert_true(debug_insert(&fake.guest, 0, STUB_WATCH_WRITE, 0x1000, 8));
	assert_false(debug_insert(&fake.guest, 0, STUB_WATCH_WRITE, 0x1000, 4));
	assert_true(debug_insert(&fake.guest, 0, STUB_WATCH_ACCESS, 0x1000, 4));
	assert_true(debug_remove(&fake.guest, STUB_WATCH_WRITE, 0x1000, 8));
	go(STUB_CONTINUE);
	assert_int_equal(fake.debug[0].arch.debugreg[0], 0);
	assert_int_equal(fake.debug[0].arch.debugreg[1], 0x1000);
	assert_int_equal(fake.debug[0].arch.debugreg[7], 0x600 | 2 << 2 | UINT64_C(0xf) << 20);
	debug_remove_all(&fake.guest);
	go(STUB_STEP);
	assert_int_equal(fake.debug[0].control, KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_SINGLESTEP);
	assert_int_equal(fake.debug[0].arch.debugreg[7], 0x600);
}

/* A write to the port by anything but a breakpoint is the guest's own. */
static void port_that_nobody_put_there(void **state)
{
	const struct kvm_debug_exit_arch stop = {.exception = 3};
	enum stub_stop why;
	uint64_t address;

	(void)state;
	fake.guest.by_port = true;
	fake.guest.hard_works = false;
	assert_true(debug_insert(&fake.guest, 0, STUB_BREAK_SOFT, 0x2010, 1));
	static const uint64_t elsewhere[] = {0x2010, 0x2011, 0x2013, 0};

	for (unsigned i = 0; i < 4; i++) {
		fake.regs[0].rip = elsewhere[i];
		assert_false(debug_explain(&fake.guest, 0, &stop, &why, &address));
		assert_int_equal(fake.regs[0].rip, elsewhere[i]);
	}
	fake.regs[0].rip = 0x2012;
	fake.failing = KVM_SET_REGS;
	assert_false(debug_explain(&fake.guest, 0, &stop, &why, &address));
	fake.failing = KVM_GET_REGS;
	assert_false(debug_explain(&fake.guest, 0, &stop, &why, &address));
	/* the processor's own still are what they are */
	fake.failing = 0;
	const struct kvm_debug_exit_arch own = {.exception = 3, .pc = 0x2010};

	assert_true(debug_explain(&fake.guest, 0, &own, &why, &address));
	assert_int_equal(why, STUB_STOP_SOFT);
	assert_int_equal(address, 0x2010);
	assert_false(fake.guest.inject[0]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test_setup(debug_registers_are_as_the_manual_has_them, set_up),
	    cmocka_unit_test_setup(watchpoints_have_the_sizes_of_the_processor, set_up),
	    cmocka_unit_test_setup(there_are_four, set_up),
	    cmocka_unit_test_setup(stops_are_explained, set_up),
	    cmocka_unit_test_setup(ports_take_over, set_up),
	    cmocka_unit_test_setup(registers_go_to_kvm_and_back, set_up),
	    cmocka_unit_test_setup(memory_without_breakpoints, set_up),
	    cmocka_unit_test_setup(instructions_are_put_back, set_up),
	    cmocka_unit_test_setup(most_instructions_at_once, set_up),
	    cmocka_unit_test_setup(port_that_nobody_put_there, set_up),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
