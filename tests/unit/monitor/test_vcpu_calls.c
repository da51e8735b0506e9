/* SPDX-License-Identifier: Apache-2.0 */
/* The calls that make a vCPU, against a KVM of the test's own: what each is given, and each that fails. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <errno.h>
#include <linux/kvm.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include "monitor/core/internal.h"

#define VM 2000
#define RUN_BYTES 4096u

static struct {
	int fd, tsc_khz, failing_errno;
	unsigned long failing;
	unsigned interrupted, msrs_taken, cpuids;
	uint32_t cpuid_entries;
	struct kvm_msr_entry msr[4];
	struct kvm_sregs sregs;
	struct kvm_regs regs;
	struct kvm_mp_state mp_state;
} kvm;

static int set_msrs(const struct kvm_msrs *msrs)
{
	unsigned i;

	for (i = 0; i < msrs->nmsrs && i < kvm.msrs_taken; i++)
		kvm.msr[i] = msrs->entries[i];
	return (int)i;
}

/* In place of the C library's. */
int ioctl(int fd, unsigned long request, ...)
{
	va_list list;

	va_start(list, request);
	void *data = va_arg(list, void *);

	va_end(list);
	assert_int_equal(fd, request == KVM_CREATE_VCPU ? VM : kvm.fd);
	if (request == kvm.failing) {
		errno = kvm.failing_errno;
		return -1;
	}
	switch (request) {
	case KVM_CREATE_VCPU:
		if (kvm.interrupted) {
			kvm.interrupted--;
			errno = EINTR;
			return -1;
		}
		return kvm.fd;
	case KVM_GET_TSC_KHZ:
		return kvm.tsc_khz;
	case KVM_SET_CPUID2:
		kvm.cpuids++;
		kvm.cpuid_entries = ((struct kvm_cpuid2 *)data)->nent;
		return 0;
	case KVM_SET_MSRS:
		return set_msrs(data);
	case KVM_GET_MSRS:
		((struct kvm_msrs *)data)->entries[0].data = 0xff00;
		return kvm.msrs_taken ? 1 : 0;
	case KVM_SET_SREGS:
		memcpy(&kvm.sregs, data, sizeof kvm.sregs);
		return 0;
	case KVM_SET_REGS:
		memcpy(&kvm.regs, data, sizeof kvm.regs);
		return 0;
	case KVM_GET_REGS:
		memcpy(data, &kvm.regs, sizeof kvm.regs);
		return 0;
	case KVM_GET_MP_STATE:
		memcpy(data, &kvm.mp_state, sizeof kvm.mp_state);
		return 0;
	}
	fail_msg("request 0x%lx", request);
	return -1;
}

static struct guest_cpuid cpuid;

static int make(struct vcpu *vcpu, unsigned id, bool bare, struct riffle_error *error)
{
	*vcpu = (struct vcpu){.fd = -1, .id = id};
	kvm.fd = memfd_create("vcpu", MFD_CLOEXEC);
	assert_int_equal(ftruncate(kvm.fd, RUN_BYTES), 0);
	cpuid.nent = 2;
	cpuid.entries[0] = (struct kvm_cpuid_entry2){.function = 1};
	cpuid.entries[1] = (struct kvm_cpuid_entry2){.function = 0x40000000};
	return vcpu_create(vcpu, VM, RUN_BYTES, &cpuid, bare, error);
}

static int set_up(void **state)
{
	(void)state;
	memset(&kvm, 0, sizeof kvm);
	kvm.failing_errno = EIO;
	kvm.msrs_taken = 2;
	kvm.tsc_khz = 3000000;
	return 0;
}

/* The first vCPU's CPUID tells of the clock; each has its own number. */
static void created_vcpus(void **state)
{
	(void)state;
	for (unsigned id = 0; id < 3; id++) {
		for (unsigned bare = 0; bare < 2; bare++) {
			struct vcpu vcpu;

			set_up(NULL);
			kvm.interrupted = id;
			assert_int_equal(make(&vcpu, id, bare, NULL), 0);
			assert_int_equal(vcpu.fd, kvm.fd);
			assert_int_equal(vcpu.run_bytes, RUN_BYTES);
			vcpu.run->immediate_exit = 1;
			assert_int_equal(cpuid.entries[0].ebx >> 24, id);
			assert_int_equal(kvm.cpuids, !bare);
			assert_int_equal(cpuid.nent, id ? 2 : 3);
			assert_int_equal(kvm.msr[0].index, bare ? 0 : 0x1a0);
			assert_int_equal(kvm.msr[0].data, bare ? 0 : 1);
			assert_int_equal(kvm.msr[1].index, bare ? 0 : 0x2ff);
			assert_int_equal(kvm.msr[1].data, bare ? 0 : 0x806);
			int fd = vcpu.fd;

			vcpu_destroy(&vcpu);
			assert_int_equal(vcpu.fd, -1);
			assert_null(vcpu.run);
			assert_int_equal(close(fd), -1);
			vcpu_destroy(&vcpu);
		}
	}
	/* a clock of unknown speed is not told */
	struct vcpu vcpu;

	for (int khz = -1; khz <= 1; khz++) {
		set_up(NULL);
		kvm.tsc_khz = khz;
		assert_int_equal(make(&vcpu, 0, false, NULL), 0);
		assert_int_equal(cpuid.nent, khz > 0 ? 3 : 2);
		vcpu_destroy(&vcpu);
	}
}

static void calls_that_fail(void **state)
{
	static const struct {
		unsigned long request;
		const char *name;
	} rows[] = {{KVM_CREATE_VCPU, "KVM_CREATE_VCPU"},
		    {KVM_SET_CPUID2, "KVM_SET_CPUID2"},
		    {KVM_SET_MSRS, "KVM_SET_MSRS"},
		    {KVM_SET_SREGS, "KVM_SET_SREGS"},
		    {KVM_SET_REGS, "KVM_SET_REGS"}};
	const struct riffle_boot_registers registers = {.rip = 1};
	struct riffle_error error;
	struct vcpu vcpu;

	(void)state;
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		set_up(NULL);
		kvm.failing = rows[i].request;
		int status = make(&vcpu, 0, false, &error);

		if (i >= 3) {
			assert_int_equal(status, 0);
			status = vcpu_set_entry(&vcpu, &registers, &error);
		}
		assert_int_not_equal(status, 0);
		assert_string_equal(error.field, rows[i].name);
		assert_int_equal(error.sys_errno, EIO);
		vcpu_destroy(&vcpu);
	}
	for (unsigned taken = 0; taken < 2; taken++) {
		set_up(NULL);
		kvm.msrs_taken = taken;
		assert_int_equal(make(&vcpu, 1, false, &error), RIFFLE_ERR_UNSUPPORTED);
		assert_int_equal(error.found, taken ? 0x2ff : 0x1a0);
		vcpu_destroy(&vcpu);
	}
	set_up(NULL);
	kvm.fd = -1;
	vcpu = (struct vcpu){.fd = -1};
	kvm.failing = 0;
	assert_int_not_equal(vcpu_create(&vcpu, VM, RUN_BYTES, &cpuid, false, &error), 0);
}

/* Bits of a modifier's filter are replaced, the others stay as KVM has them. */
static void modified_msrs(void **state)
{
	const struct cpu_msr_modifier modifier = {.index = 0x123, .filter = 0x0ff0, .value = 0x5555};
	const struct cpu_config config = {.msrs = &modifier, .msr_count = 1};
	struct riffle_error error;
	struct vcpu vcpu;

	(void)state;
	assert_int_equal(make(&vcpu, 0, true, NULL), 0);
	assert_int_equal(vcpu_modify_msrs(&vcpu, &config, &error), 0);
	assert_int_equal(kvm.msr[0].index, 0x123);
	assert_int_equal(kvm.msr[0].data, 0xf550);
	kvm.failing = KVM_SET_MSRS;
	assert_int_not_equal(vcpu_modify_msrs(&vcpu, &config, &error), 0);
	assert_int_equal(error.sys_errno, EIO);
	kvm.failing = KVM_GET_MSRS;
	assert_int_not_equal(vcpu_modify_msrs(&vcpu, &config, &error), 0);
	assert_string_equal(error.field, "msr_modifiers");
	kvm.failing = 0;
	kvm.msrs_taken = 0;
	memset(kvm.msr, 0, sizeof kvm.msr);
	assert_int_equal(vcpu_modify_msrs(&vcpu, &config, &error), RIFFLE_ERR_UNSUPPORTED);
	assert_int_equal(error.found, 0x123);
	assert_int_equal(kvm.msr[0].index, 0); /* nothing is set that could not be read */
	kvm.failing = KVM_GET_MP_STATE;
	kvm.mp_state.mp_state = KVM_MP_STATE_UNINITIALIZED;
	assert_false(vcpu_is_halted(&vcpu));
	kvm.failing = KVM_GET_REGS;
	assert_true(vcpu_is_halted(&vcpu));
	kvm.mp_state.mp_state = KVM_MP_STATE_HALTED;
	assert_false(vcpu_is_halted(&vcpu));
	kvm.failing = 0;
	assert_true(vcpu_is_halted(&vcpu));
	kvm.regs.rflags = 0x200;
	assert_false(vcpu_is_halted(&vcpu));
	vcpu_destroy(&vcpu);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test_setup(created_vcpus, set_up),
	    cmocka_unit_test_setup(calls_that_fail, set_up),
	    cmocka_unit_test_setup(modified_msrs, set_up),
	};

	return cmocka_run_group_tests_name("calls of a vCPU", tests, NULL, NULL);
}
