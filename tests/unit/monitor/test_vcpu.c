/* SPDX-License-Identifier: Apache-2.0 */
/* What a vCPU is like before its first instruction, read back from KVM. */
#include <errno.h>
#include <linux/kvm.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

#include <cmocka.h>

#include "common/bytes.h"
#include "monitor/core/internal.h"
#include "monitor/core/kvm.h"

static struct vm *vm;

static int set_up(void **state)
{
	const struct vm_config config = {.vcpus = 2, .memory_bytes = 4 << 20, .can_save = true};
	const struct vm_handlers handlers = {0};
	int fd = kvm_open(NULL);

	(void)state;
	vm = NULL;
	if (fd < 0)
		return 0;
	return vm_new(&vm, &config, &handlers, NULL) || vm_open(vm, fd, NULL) || vm_prepare_vcpus(vm, NULL);
}

static int tear_down(void **state)
{
	(void)state;
	if (vm)
		vm_destroy(vm);
	return 0;
}

static void need_kvm(void)
{
	if (!vm)
		skip();
}

static uint64_t msr(unsigned vcpu, uint32_t index)
{
	struct {
		uint32_t nmsrs, padding;
		struct kvm_msr_entry entry;
	} got = {.nmsrs = 1, .entry.index = index};

	assert_int_equal(ioctl(vm->vcpus[vcpu].fd, KVM_GET_MSRS, &got), 1);
	return got.entry.data;
}

static void test_msrs(void **state)
{
	(void)state;
	need_kvm();
	for (unsigned i = 0; i < 2; i++) {
		assert_int_equal(msr(i, 0x1a0) & 1, 1);     /* fast strings */
		assert_int_equal(msr(i, 0x2ff), 0x800 | 6); /* MTRRs on, write-back by default */
	}
}

/* Interrupts of the PIC reach the first vCPU alone, and NMIs none, as KVM makes them. */
static void test_local_interrupts(void **state)
{
	struct kvm_lapic_state first, second;

	(void)state;
	need_kvm();
	assert_int_equal(ioctl(vm->vcpus[0].fd, KVM_GET_LAPIC, &first), 0);
	assert_int_equal(ioctl(vm->vcpus[1].fd, KVM_GET_LAPIC, &second), 0);
	assert_int_equal(riffle_get32(first.regs + 0x350), 0x700); /* ExtINT, not masked */
	assert_int_equal(riffle_get32(first.regs + 0x360) >> 16 & 1, 1);
	assert_int_equal(riffle_get32(second.regs + 0x350) >> 16 & 1, 1);
	assert_int_equal(riffle_get32(second.regs + 0x360) >> 16 & 1, 1);
}

static void check_segment(const struct kvm_segment *s, uint16_t selector, bool code)
{
	assert_int_equal(s->selector, selector);
	assert_int_equal(s->base, 0);
	assert_int_equal(s->limit, 0xffffffff);
	assert_int_equal(s->type, code ? 11 : 3);
	assert_int_equal(s->present, 1);
	assert_int_equal(s->dpl, 0);
	assert_int_equal(s->s, 1);
	assert_int_equal(s->g, 1);
	assert_int_equal(s->l, code);
	assert_int_equal(s->db, !code);
}

static void test_entry(void **state)
{
	const struct riffle_boot_registers registers = {.rip = 0x1000200,
							.rsi = 0x7000,
							.rsp = 0x8ff0,
							.rflags = 0x40,
							.cr0 = 0x80050033,
							.cr3 = 0x9000,
							.cr4 = 0x20,
							.efer = 0x500,
							.gdt_address = 0x500,
							.gdt_bytes = 32,
							.cs = 0x10,
							.ds = 0x18};
	struct kvm_sregs before, sregs;
	struct kvm_regs regs;
	struct kvm_fpu fpu;
	int fd;

	(void)state;
	need_kvm();
	fd = vm->vcpus[0].fd;
	memset(&regs, 0x5a, sizeof regs);
	regs.rip = regs.rsp = 0;
	regs.rflags = 2;
	assert_int_equal(ioctl(fd, KVM_SET_REGS, &regs), 0);
	assert_int_equal(ioctl(fd, KVM_GET_SREGS, &before), 0);
	assert_int_equal(vcpu_set_entry(&vm->vcpus[0], &registers, NULL), 0);
	assert_int_equal(ioctl(fd, KVM_GET_REGS, &regs), 0);
	assert_int_equal(regs.rip, 0x1000200);
	assert_int_equal(regs.rsi, 0x7000);
	assert_int_equal(regs.rsp, 0x8ff0);
	assert_int_equal(regs.rflags, 0x42);
	assert_int_equal(regs.rax | regs.rbx | regs.rcx | regs.rdx | regs.rdi | regs.rbp | regs.r8 | regs.r15, 0);
	assert_int_equal(ioctl(fd, KVM_GET_SREGS, &sregs), 0);
	check_segment(&sregs.cs, 0x10, true);
	check_segment(&sregs.ds, 0x18, false);
	check_segment(&sregs.es, 0x18, false);
	check_segment(&sregs.ss, 0x18, false);
	check_segment(&sregs.fs, 0x18, false);
	check_segment(&sregs.gs, 0x18, false);
	assert_int_equal(sregs.tr.type, 11); /* busy, as VMX requires */
	assert_int_equal(sregs.tr.present, 1);
	assert_int_equal(sregs.tr.limit, 0x67);
	assert_int_equal(sregs.ldt.unusable, 1);
	assert_int_equal(sregs.gdt.base, 0x500);
	assert_int_equal(sregs.gdt.limit, 31);
	assert_int_equal(sregs.idt.base, 0);
	assert_int_equal(sregs.idt.limit, 0);
	assert_int_equal(sregs.cr0, 0x80050033);
	assert_int_equal(sregs.cr3, 0x9000);
	assert_int_equal(sregs.cr4, 0x20);
	assert_int_equal(sregs.efer, 0x500);
	/* as KVM had them */
	assert_int_equal(sregs.apic_base, before.apic_base);
	assert_int_equal(sregs.cr8, before.cr8);
	assert_int_equal(sregs.cr2, before.cr2);
	assert_memory_equal(sregs.interrupt_bitmap, before.interrupt_bitmap, sizeof before.interrupt_bitmap);
	/* the FPU's state after FNINIT: all exceptions masked; not every KVM tells MXCSR here */
	assert_int_equal(ioctl(fd, KVM_GET_FPU, &fpu), 0);
	assert_int_equal(fpu.fcw, 0x37f);
	if (fpu.mxcsr)
		assert_int_equal(fpu.mxcsr, 0x1f80);
}

/* One that waits for interrupts is not halted for good; one that has them off is, and so is one that never started. */
static void test_halted(void **state)
{
	struct kvm_mp_state mp = {.mp_state = KVM_MP_STATE_HALTED};
	struct kvm_regs regs = {.rflags = 2};
	int fd;

	(void)state;
	need_kvm();
	fd = vm->vcpus[0].fd;
	assert_false(vcpu_is_halted(&vm->vcpus[0]));
	assert_true(vcpu_is_halted(&vm->vcpus[1])); /* uninitialised */
	assert_int_equal(ioctl(fd, KVM_SET_MP_STATE, &mp), 0);
	assert_int_equal(ioctl(fd, KVM_SET_REGS, &regs), 0);
	assert_true(vcpu_is_halted(&vm->vcpus[0]));
	regs.rflags = 0x202;
	assert_int_equal(ioctl(fd, KVM_SET_REGS, &regs), 0);
	assert_false(vcpu_is_halted(&vm->vcpus[0]));
	mp.mp_state = KVM_MP_STATE_RUNNABLE;
	regs.rflags = 2;
	assert_int_equal(ioctl(fd, KVM_SET_MP_STATE, &mp), 0);
	assert_int_equal(ioctl(fd, KVM_SET_REGS, &regs), 0);
	assert_false(vcpu_is_halted(&vm->vcpus[0]));
	mp.mp_state = KVM_MP_STATE_INIT_RECEIVED;
	if (!ioctl(vm->vcpus[1].fd, KVM_SET_MP_STATE, &mp))
		assert_true(vcpu_is_halted(&vm->vcpus[1]));
}

/* The bits of a filter are replaced in an MSR, and no others. */
static void test_modified_msrs(void **state)
{
	const struct cpu_msr_modifier modifiers[] = {{0x277, 0xff00, 0x0100}, {0x277, 0xff, 0x04}},
				      unknown = {0x12345, 1, 1};
	struct cpu_config config = {.msrs = modifiers, .msr_count = 2};
	struct riffle_error error;
	uint64_t before;

	(void)state;
	need_kvm();
	before = msr(1, 0x277); /* IA32_PAT */
	assert_int_equal(vcpu_modify_msrs(&vm->vcpus[1], &config, &error), 0);
	assert_int_equal(msr(1, 0x277), (before & ~UINT64_C(0xffff)) | 0x0104);
	assert_int_equal(msr(0, 0x277), before);
	config.msrs = &unknown;
	config.msr_count = 1;
	assert_int_equal(vcpu_modify_msrs(&vm->vcpus[1], &config, &error), RIFFLE_ERR_UNSUPPORTED);
	assert_int_equal(error.found, 0x12345);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
	const struct CMUnitTest tests[] = {
	    TEST(test_msrs), TEST(test_local_interrupts), TEST(test_entry), TEST(test_halted), TEST(test_modified_msrs),
	};
	return cmocka_run_group_tests_name("vcpu", tests, NULL, NULL);
}
