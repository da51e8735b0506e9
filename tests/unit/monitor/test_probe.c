/* SPDX-License-Identifier: Apache-2.0 */
/* The probe of /dev/kvm, on a KVM whose answers are the test's own. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>
#include <linux/kvm.h>

#include "monitor/core/kvm.h"
#include "monitor/core/probe.h"

#define KVM_FD 1000
#define RUN_BYTES 8192
#define INTERRUPTED UINT32_MAX

static struct fake {
	uint32_t exits[8]; /* how each KVM_RUN ends */
	unsigned runs;
	unsigned long fails; /* this request */
	int vcpu_fd, open_errno, version;
	const uint8_t *memory;
	uint64_t memory_at, memory_bytes;
	uint8_t code[4]; /* of the guest, as it ran */
	struct kvm_regs regs;
	struct kvm_guest_debug debug;
} fake;

static int anonymous_file(void)
{
	int fd = memfd_create("fake", 0);

	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, RUN_BYTES), 0);
	return fd;
}

static int run_once(void)
{
	struct kvm_run *run = mmap(NULL, RUN_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fake.vcpu_fd, 0);
	unsigned n = fake.runs++;

	assert_ptr_not_equal(run, MAP_FAILED);
	assert_true(n < 8);
	memcpy(fake.code, fake.memory, sizeof fake.code);
	run->exit_reason = fake.exits[n];
	munmap(run, RUN_BYTES);
	if (fake.exits[n] != INTERRUPTED)
		return 0;
	errno = EINTR;
	return -1;
}

/* in place of the C library's */
int ioctl(int fd, unsigned long request, ...)
{
	va_list arguments;
	void *argument;

	va_start(arguments, request);
	argument = va_arg(arguments, void *);
	va_end(arguments);
	if (request == fake.fails) {
		errno = EIO;
		return -1;
	}
	switch (request) {
	case KVM_GET_API_VERSION:
		return fake.version;
	case KVM_CREATE_VM:
		assert_int_equal(fd, KVM_FD);
		return anonymous_file();
	case KVM_CREATE_VCPU:
		return fake.vcpu_fd = anonymous_file();
	case KVM_GET_VCPU_MMAP_SIZE:
		return RUN_BYTES;
	case KVM_SET_USER_MEMORY_REGION: {
		const struct kvm_userspace_memory_region *region = argument;

		fake.memory_at = region->guest_phys_addr;
		fake.memory_bytes = region->memory_size;
		memcpy(&fake.memory, &region->userspace_addr, sizeof fake.memory);
		return 0;
	}
	case KVM_SET_REGS:
		fake.regs = *(const struct kvm_regs *)argument;
		return 0;
	case KVM_SET_GUEST_DEBUG:
		fake.debug = *(const struct kvm_guest_debug *)argument;
		return 0;
	case KVM_RUN:
		return run_once();
	default:
		return 0;
	}
}

int open(const char *path, int flags, ...)
{
	assert_string_equal(path, "/dev/kvm");
	assert_int_equal(flags, O_RDWR | O_CLOEXEC);
	errno = fake.open_errno;
	return fake.open_errno ? -1 : anonymous_file();
}

static void fresh(void)
{
	memset(&fake, 0, sizeof fake);
	fake.version = KVM_API_VERSION;
	for (unsigned i = 0; i < 8; i++)
		fake.exits[i] = KVM_EXIT_HLT;
}

static bool refused(void)
{
	struct riffle_error error = {0};
	int status = probe_refuse_emulation(KVM_FD, &error);

	if (status)
		assert_int_equal(status, RIFFLE_ERR_UNSUPPORTED);
	if (status)
		assert_string_equal(error.field, "/dev/kvm");
	return status;
}

/* Nothing is asked of a KVM whose processor says that it virtualises: then there is nothing to test here. */
static void needs_the_probe(void)
{
	fresh();
	(void)refused();
	if (!fake.runs)
		skip();
}

static void only_a_guest_that_halts_is_virtualised(void **state)
{
	(void)state;
	needs_the_probe();
	for (unsigned end = KVM_EXIT_UNKNOWN; end <= KVM_EXIT_SYSTEM_EVENT; end++) {
		fresh();
		fake.exits[0] = end == KVM_EXIT_INTR ? KVM_EXIT_INTERNAL_ERROR : end;
		assert_int_equal(refused(), end != KVM_EXIT_HLT);
		assert_int_equal(fake.runs, 1);
	}
	fresh();
	fake.fails = KVM_RUN;
	assert_true(refused());
}

static void the_guest_loads_an_x87_constant(void **state)
{
	static const uint8_t guest[] = {0xd9, 0xe8, 0xf4}; /* fld1; hlt */

	(void)state;
	needs_the_probe();
	fresh();
	assert_false(refused());
	assert_memory_equal(fake.code, guest, sizeof guest);
	assert_int_equal(fake.regs.rip, fake.memory_at);
	assert_int_equal(fake.regs.rflags, 2);
	assert_int_equal(fake.memory_bytes, 4096);
}

static void an_interrupted_guest_continues(void **state)
{
	(void)state;
	needs_the_probe();
	fresh();
	fake.exits[0] = INTERRUPTED;
	fake.exits[1] = KVM_EXIT_INTR;
	assert_false(refused());
	assert_int_equal(fake.runs, 3);
}

static void a_kvm_that_fails_is_an_error(void **state)
{
	static const unsigned long requests[] = {KVM_CREATE_VM, KVM_SET_USER_MEMORY_REGION, KVM_CREATE_VCPU,
						 KVM_GET_VCPU_MMAP_SIZE};

	(void)state;
	needs_the_probe();
	for (size_t i = 0; i < sizeof requests / sizeof *requests; i++) {
		struct riffle_error error = {0};

		fresh();
		fake.fails = requests[i];
		assert_int_equal(probe_refuse_emulation(KVM_FD, &error), RIFFLE_ERR_IO);
		assert_int_equal(error.sys_errno, EIO);
		assert_int_equal(fake.runs, 0);
	}
}

static void breakpoints_are_those_that_exit(void **state)
{
	(void)state;
	for (unsigned end = KVM_EXIT_UNKNOWN; end <= KVM_EXIT_HLT; end++) {
		fresh();
		fake.exits[0] = end;
		assert_int_equal(probe_breakpoints(KVM_FD), end == KVM_EXIT_DEBUG);
		assert_int_equal(fake.debug.control, KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_USE_SW_BP);
		assert_int_equal(fake.code[0], 0xcc); /* int3 */
		fresh();
		fake.exits[0] = end;
		assert_int_equal(probe_debug_registers(KVM_FD), end == KVM_EXIT_DEBUG);
		assert_int_equal(fake.debug.control, KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_USE_HW_BP);
		assert_int_equal(fake.debug.arch.debugreg[0], fake.memory_at + 1); /* the second instruction */
		assert_int_equal(fake.code[0], 0x90);
		assert_int_equal(fake.debug.arch.debugreg[7], 0x602);
	}
	fresh();
	fake.exits[0] = KVM_EXIT_DEBUG;
	fake.fails = KVM_SET_GUEST_DEBUG;
	assert_false(probe_breakpoints(KVM_FD));
	assert_false(probe_debug_registers(KVM_FD));
	assert_int_equal(fake.runs, 0);
}

static void what_keeps_from_opening_is_told(void **state)
{
	static const struct {
		int number;
		const char *problem;
	} rows[] = {{ENOENT, "is not there"},
		    {EACCES, "may not be opened"},
		    {ENODEV, "has no driver"},
		    {ENXIO, "has no driver"},
		    {EMFILE, "cannot be opened"}};
	struct riffle_error error;
	int fd;

	(void)state;
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		fresh();
		fake.open_errno = rows[i].number;
		assert_int_equal(kvm_open(&error), -1);
		assert_int_equal(error.sys_errno, rows[i].number);
		assert_non_null(strstr(error.problem, rows[i].problem));
	}
	fresh();
	fake.version = KVM_API_VERSION + 1;
	assert_int_equal(kvm_open(&error), -1);
	assert_int_equal(error.status, RIFFLE_ERR_UNSUPPORTED);
	assert_int_equal(error.found, KVM_API_VERSION + 1);
	fresh();
	fake.fails = KVM_GET_API_VERSION;
	assert_int_equal(kvm_open(&error), -1);
	assert_string_equal(error.problem, "is not a KVM device");
	fresh();
	fd = kvm_open(&error);
	assert_true(fd >= 0);
	close(fd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(only_a_guest_that_halts_is_virtualised), cmocka_unit_test(the_guest_loads_an_x87_constant),
	    cmocka_unit_test(an_interrupted_guest_continues),         cmocka_unit_test(a_kvm_that_fails_is_an_error),
	    cmocka_unit_test(breakpoints_are_those_that_exit),        cmocka_unit_test(what_keeps_from_opening_is_told),
	};
	return cmocka_run_group_tests_name("probe", tests, NULL, NULL);
}
