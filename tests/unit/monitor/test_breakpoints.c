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

#define FD 1000 /* of vCPU 0 */
#define VCPUS 2u
#define RAM_BYTES 0x4000u

static struct fake {
	struct debug_guest guest;
	struct guest_memory memory;
	uint8_t ram[RAM_BYTES];
	struct kvm_guest_debug debug[VCPUS];
	struct kvm_regs regs[VCPUS];
	bool held[VCPUS];
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
	case KVM_GET_SREGS: /* without paging: virtual addresses are physical ones */
		memset(argument, 0, sizeof(struct kvm_sregs));
		return 0;
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

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test_setup(debug_registers_are_as_the_manual_has_them, set_up),
	    cmocka_unit_test_setup(watchpoints_have_the_sizes_of_the_processor, set_up),
	    cmocka_unit_test_setup(there_are_four, set_up),
	    cmocka_unit_test_setup(stops_are_explained, set_up),
	    cmocka_unit_test_setup(ports_take_over, set_up),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
