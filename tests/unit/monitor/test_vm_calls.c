/* SPDX-License-Identifier: Apache-2.0 */
/* The calls that make a VM, and that save and restore its chips, against a KVM of the test's own. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <dirent.h>
#include <errno.h>
#include <linux/kvm.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include "monitor/core/internal.h"
#include "monitor/core/kvm.h"
#include "monitor/snapshot/components.h"

#define RUN_BYTES 4096
#define CAPABILITIES 256

static struct {
	unsigned long failing; /* fails, after so many of it */
	unsigned after, interrupted;
	int run_bytes;
	int capability[CAPABILITIES];
	uint32_t msrs, clock_flags;
	uint32_t pit_flags;
	uint64_t tss, realtime, clock;
	uint32_t set_flags;
	uint64_t set_clock, set_realtime;
	struct kvm_irqchip chip[3];
	struct kvm_pit_state2 pit;
} kvm;

static int new_file(off_t bytes)
{
	int fd = memfd_create("kvm", MFD_CLOEXEC);

	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, bytes), 0);
	return fd;
}

static int get_clock(struct kvm_clock_data *data)
{
	*data = (struct kvm_clock_data){.clock = kvm.clock, .flags = kvm.clock_flags, .realtime = kvm.realtime};
	return 0;
}

static int set_clock(const struct kvm_clock_data *data)
{
	kvm.set_flags = data->flags;
	kvm.set_clock = data->clock;
	kvm.set_realtime = data->realtime;
	return 0;
}

/* In place of the C library's. */
int ioctl(int fd, unsigned long request, ...)
{
	va_list list;

	va_start(list, request);
	void *data = va_arg(list, void *);

	va_end(list);
	assert_true(fd >= 0);
	if (request == kvm.failing && !kvm.after--)
		return errno = ENXIO, -1;
	switch (request) {
	case KVM_CHECK_EXTENSION:
		assert_true((uintptr_t)data < CAPABILITIES);
		return kvm.capability[(uintptr_t)data];
	case KVM_CREATE_VM:
		if (kvm.interrupted) {
			kvm.interrupted--;
			return errno = EINTR, -1;
		}
		return new_file(0);
	case KVM_CREATE_VCPU:
		return new_file(RUN_BYTES);
	case KVM_GET_VCPU_MMAP_SIZE:
		return kvm.run_bytes;
	case KVM_SET_TSS_ADDR:
		kvm.tss = (uintptr_t)data;
		return 0;
	case KVM_CREATE_PIT2:
		kvm.pit_flags = ((struct kvm_pit_config *)data)->flags;
		return 0;
	case KVM_GET_SUPPORTED_CPUID:
		((struct kvm_cpuid2 *)data)->nent = 1;
		memset(((struct kvm_cpuid2 *)data)->entries, 0, sizeof(struct kvm_cpuid_entry2));
		return 0;
	case KVM_GET_MSR_INDEX_LIST: {
		struct kvm_msr_list *msrs = data;

		assert_int_equal(msrs->nmsrs, VM_MSRS_MAX);
		msrs->nmsrs = kvm.msrs;
		for (uint32_t i = 0; i < kvm.msrs; i++)
			msrs->indices[i] = 0x100 + i;
		return 0;
	}
	case KVM_SET_MSRS:
		return (int)((struct kvm_msrs *)data)->nmsrs;
	case KVM_GET_LAPIC:
		memset(data, 0, sizeof(struct kvm_lapic_state));
		return 0;
	case KVM_GET_IRQCHIP:
		memcpy(data, &kvm.chip[((struct kvm_irqchip *)data)->chip_id], sizeof kvm.chip[0]);
		return 0;
	case KVM_SET_IRQCHIP:
		memcpy(&kvm.chip[((struct kvm_irqchip *)data)->chip_id], data, sizeof kvm.chip[0]);
		return 0;
	case KVM_GET_PIT2:
		memcpy(data, &kvm.pit, sizeof kvm.pit);
		return 0;
	case KVM_SET_PIT2:
		memcpy(&kvm.pit, data, sizeof kvm.pit);
		return 0;
	case KVM_GET_CLOCK:
		return get_clock(data);
	case KVM_SET_CLOCK:
		return set_clock(data);
	case KVM_CREATE_IRQCHIP:
	case KVM_SET_USER_MEMORY_REGION:
	case KVM_GET_TSC_KHZ:
	case KVM_SET_CPUID2:
	case KVM_SET_LAPIC:
		return 0;
	}
	fail_msg("request 0x%lx", request);
	return -1;
}

static struct riffle_error error;
static struct vm *vm;

static int set_up(void **state)
{
	(void)state;
	memset(&kvm, 0, sizeof kvm);
	kvm.run_bytes = RUN_BYTES;
	kvm.msrs = 3;
	for (uint32_t i = 0; i < 3; i++) {
		kvm.chip[i].chip_id = i;
		memset(&kvm.chip[i].chip, (int)(0x10 + i), sizeof kvm.chip[i].chip);
	}
	memset(&kvm.pit, 0x77, sizeof kvm.pit);
	return 0;
}

static int descriptors(void)
{
	DIR *stream = opendir("/proc/self/fd");
	int count = 0;

	assert_non_null(stream);
	while (readdir(stream))
		count++;
	closedir(stream);
	return count;
}

/* A machine of `vcpus`, up to where it fails; vm_destroy() ends it. */
static int make(unsigned vcpus, bool can_save, uint64_t bytes)
{
	const struct vm_config config = {.vcpus = vcpus, .memory_bytes = bytes, .can_save = can_save};
	const struct vm_handlers handlers = {0};
	int status;

	assert_int_equal(vm_new(&vm, &config, &handlers, &error), 0);
	status = vm_open(vm, new_file(0), &error);
	return status ? status : vm_prepare_vcpus(vm, &error);
}

static void test_calls_that_fail(void **state)
{
	static const struct {
		unsigned long request;
		unsigned after;
		const char *field;
	} cases[] = {
	    {KVM_CREATE_VM, 0, "KVM_CREATE_VM"},
	    {KVM_SET_TSS_ADDR, 0, "KVM_SET_TSS_ADDR"},
	    {KVM_SET_USER_MEMORY_REGION, 0, "KVM_SET_USER_MEMORY_REGION"},
	    {KVM_SET_USER_MEMORY_REGION, 1, "KVM_SET_USER_MEMORY_REGION"},
	    {KVM_GET_VCPU_MMAP_SIZE, 0, "KVM_GET_VCPU_MMAP_SIZE"},
	    {KVM_GET_SUPPORTED_CPUID, 0, "KVM_GET_SUPPORTED_CPUID"},
	    {KVM_GET_MSR_INDEX_LIST, 0, "KVM_GET_MSR_INDEX_LIST"},
	    {KVM_CREATE_IRQCHIP, 0, "KVM_CREATE_IRQCHIP"},
	    {KVM_CREATE_PIT2, 0, "KVM_CREATE_PIT2"},
	    {KVM_CREATE_VCPU, 0, "KVM_CREATE_VCPU"},
	    {KVM_CREATE_VCPU, 1, "KVM_CREATE_VCPU"},
	    {KVM_SET_CPUID2, 1, "KVM_SET_CPUID2"},
	};
	const int before = descriptors();

	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		/* above 4 GiB: two pieces of memory */
		kvm.failing = cases[i].request;
		kvm.after = cases[i].after;
		assert_int_equal(make(2, true, UINT64_C(6) << 30), RIFFLE_ERR_IO);
		assert_string_equal(error.field, cases[i].field);
		assert_int_equal(error.sys_errno, ENXIO);
		vm_destroy(vm);
		assert_int_equal(descriptors(), before);
	}
	kvm.failing = 0;
	kvm.run_bytes = (int)sizeof(struct kvm_run) - 1;
	assert_int_equal(make(1, false, 16 << 20), RIFFLE_ERR_IO);
	vm_destroy(vm);
	kvm.run_bytes++;
	assert_int_equal(make(1, false, 16 << 20), 0);
	vm_destroy(vm);
	assert_int_equal(descriptors(), before);
}

/* Where KVM keeps its own pages, the speaker's port, and that nobody can make another VM. */
static void test_made(void **state)
{
	(void)state;
	close(0); /* which makes it a descriptor as any other */
	kvm.interrupted = 2;
	assert_int_equal(make(3, false, 16 << 20), 0);
	assert_int_equal(kvm.tss, 0xfffbd000);
	assert_int_equal(kvm.pit_flags, KVM_PIT_SPEAKER_DUMMY);
	assert_int_equal(vm->kvm_fd, -1);
	assert_int_equal(vm->vcpus_made, 3);
	assert_int_equal(dup(1), 0); /* /dev/kvm's is free again */
	for (unsigned i = 0; i < 3; i++)
		assert_int_equal(vm->vcpus[i].run_bytes, RUN_BYTES);
	vm_destroy(vm);
}

/* What a snapshot can hold. */
static void test_capabilities(void **state)
{
	static const struct {
		int xsave2, xsave;
		size_t bytes;
	} cases[] = {{0, 0, 0}, {0, 1, 4096}, {4096, 1, 4096}, {4097, 1, 4097}, {11008, 0, 11008}, {-1, 1, 4096}};

	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		const bool odd = i % 2;

		kvm.capability[KVM_CAP_XSAVE2] = cases[i].xsave2;
		kvm.capability[KVM_CAP_XSAVE] = cases[i].xsave;
		kvm.capability[KVM_CAP_XCRS] = odd;
		kvm.capability[KVM_CAP_TSC_CONTROL] = !odd;
		assert_int_equal(make(1, true, 16 << 20), 0);
		assert_int_equal(vm->can.xsave_bytes, cases[i].bytes);
		assert_int_equal(vm->can.xsave2, cases[i].xsave2 > 4096);
		assert_int_equal(vm->can.xcrs, odd);
		assert_int_equal(vm->can.tsc_control, !odd);
		assert_int_equal(vm->can.msrs, 3);
		assert_int_equal(vm->can.msr[2], 0x102);
		vm_destroy(vm);
	}
}

static void test_check(void **state)
{
	struct cpu_capability extra[] = {{200, false}, {201, true}};
	struct cpu_config config = {.capabilities = extra, .capability_count = 2};
	static const uint32_t needed[] = {KVM_CAP_PIT2, KVM_CAP_IMMEDIATE_EXIT};

	(void)state;
	kvm.capability[KVM_CAP_PIT2] = kvm.capability[KVM_CAP_IMMEDIATE_EXIT] = kvm.capability[200] = 1;
	assert_int_equal(kvm_check(3, 1, &config, &error), 0);
	kvm.capability[200] = 0;
	assert_int_equal(kvm_check(3, 1, &config, &error), RIFFLE_ERR_UNSUPPORTED);
	assert_string_equal(error.field, "kvm_capabilities");
	assert_int_equal(error.found, 200);
	extra[0] = (struct cpu_capability){201, true};
	extra[1] = (struct cpu_capability){200, false};
	assert_int_equal(kvm_check(3, 1, &config, &error), RIFFLE_ERR_UNSUPPORTED);
	assert_string_equal(error.field, "kvm_capabilities");
	for (unsigned i = 0; i < 2; i++) {
		config.capability_count = 0;
		kvm.capability[needed[i]] = 0;
		assert_int_equal(kvm_check(3, 1, &config, &error), RIFFLE_ERR_UNSUPPORTED);
		assert_string_equal(error.field, i ? "KVM_CAP_IMMEDIATE_EXIT" : "KVM_CAP_PIT2");
		/* one that the user waives is not asked for, one that is only named is */
		extra[0] = (struct cpu_capability){needed[i], true};
		config.capability_count = 1;
		assert_int_equal(kvm_check(3, 1, &config, &error), 0);
		extra[0].waived = false;
		assert_int_equal(kvm_check(3, 1, &config, &error), RIFFLE_ERR_UNSUPPORTED);
		kvm.capability[needed[i]] = 1;
	}
	/* a KVM that does not tell its most allows any number; one is always allowed */
	config.capability_count = 0;
	for (int most = 0; most < 4; most++) {
		kvm.capability[KVM_CAP_MAX_VCPUS] = most;
		assert_int_equal(kvm_check(3, 2, &config, &error), most == 1 ? RIFFLE_ERR_UNSUPPORTED : 0);
		assert_int_equal(kvm_check(3, 1, &config, &error), 0);
	}
	kvm.capability[KVM_CAP_MAX_VCPUS] = 4;
	assert_int_equal(kvm_check(3, 5, &config, &error), RIFFLE_ERR_UNSUPPORTED);
	assert_int_equal(error.found, 5);
	assert_int_equal(error.expected, 4);
}

static void test_chips(void **state)
{
	static const struct {
		unsigned long request;
		unsigned after;
		const char *field;
		bool restores;
	} cases[] = {
	    {KVM_GET_IRQCHIP, 0, "KVM_GET_IRQCHIP", false}, {KVM_GET_IRQCHIP, 2, "KVM_GET_IRQCHIP", false},
	    {KVM_GET_PIT2, 0, "KVM_GET_PIT2", false},       {KVM_GET_CLOCK, 0, "KVM_GET_CLOCK", false},
	    {KVM_SET_IRQCHIP, 0, "KVM_SET_IRQCHIP", true},  {KVM_SET_IRQCHIP, 2, "KVM_SET_IRQCHIP", true},
	    {KVM_SET_PIT2, 0, "KVM_SET_PIT2", true},        {KVM_SET_CLOCK, 0, "KVM_SET_CLOCK", true},
	};
	struct state_writer writer = {0};
	struct state_file file;

	(void)state;
	assert_int_equal(make(1, true, 16 << 20), 0);
	kvm.clock = 12345;
	kvm.realtime = 67890;
	kvm.clock_flags = KVM_CLOCK_REALTIME;
	assert_int_equal(chips_save(vm, &writer, &error), 0);
	assert_int_equal(state_finish(&writer, NULL), 0);
	assert_int_equal(state_open(&file, writer.data, writer.bytes, NULL), 0);
	memset(kvm.chip, 0, sizeof kvm.chip);
	memset(&kvm.pit, 0, sizeof kvm.pit);
	for (unsigned advance = 0; advance < 2; advance++) {
		assert_int_equal(chips_restore(vm, &file, advance, &error), 0);
		assert_int_equal(kvm.set_clock, 12345);
		assert_int_equal(kvm.set_flags, advance ? KVM_CLOCK_REALTIME : 0);
		assert_int_equal(kvm.set_realtime, advance ? 67890 : 0);
	}
	for (uint32_t i = 0; i < 3; i++) {
		assert_int_equal(kvm.chip[i].chip_id, i);
		for (size_t j = 0; j < sizeof kvm.chip[i].chip; j++)
			assert_int_equal(((uint8_t *)&kvm.chip[i].chip)[j], 0x10 + i);
	}
	assert_int_equal(((uint8_t *)&kvm.pit)[sizeof kvm.pit - 1], 0x77);
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		struct state_writer other = {0};

		kvm.failing = cases[i].request;
		kvm.after = cases[i].after;
		assert_int_equal(cases[i].restores ? chips_restore(vm, &file, false, &error)
						   : chips_save(vm, &other, &error),
				 RIFFLE_ERR_IO);
		assert_string_equal(error.field, cases[i].field);
		assert_int_equal(error.sys_errno, ENXIO);
		state_writer_free(&other);
	}
	state_writer_free(&writer);

	/* a host whose KVM knew no time of day: the clock stands as it was, and cannot be advanced */
	kvm.failing = 0;
	kvm.clock_flags = 0;
	writer = (struct state_writer){0};
	assert_int_equal(chips_save(vm, &writer, &error), 0);
	assert_int_equal(state_finish(&writer, NULL), 0);
	assert_int_equal(state_open(&file, writer.data, writer.bytes, NULL), 0);
	assert_int_equal(chips_restore(vm, &file, false, &error), 0);
	assert_int_equal(chips_restore(vm, &file, true, &error), RIFFLE_ERR_UNSUPPORTED);
	assert_string_equal(error.field, "clock_realtime");
	state_writer_free(&writer);
	vm_destroy(vm);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup(name, set_up)
	const struct CMUnitTest tests[] = {
	    TEST(test_calls_that_fail), TEST(test_made), TEST(test_capabilities), TEST(test_check), TEST(test_chips),
	};

	return cmocka_run_group_tests_name("VM calls", tests, NULL, NULL);
}
