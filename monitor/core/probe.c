/* SPDX-License-Identifier: Apache-2.0 */
/* Distinguishes a /dev/kvm that virtualises from one that emulates every instruction. */
#include "monitor/core/probe.h"

#include <cpuid.h>
#include <errno.h>
#include <linux/kvm.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "common/fail.h"
#include "monitor/core/kvm.h"
#include "monitor/core/vm.h"

#define LEAF1_ECX_VMX (1u << 5)
#define EXT1_ECX_SVM (1u << 2)

#define GUEST_ADDRESS 0x1000u
#define GUEST_BYTES 4096u
#define DR7_GLOBAL_EXACT_0 0x602u /* an execution breakpoint at DR0's address */

/*
 * Every processor runs this in any mode. KVM's instruction emulator implements only the x87 instructions for control
 * and status words, not this one. Timing is unreliable: an emulating KVM takes 300 to 3,700 ns per instruction, a real
 * one nested in an emulated machine up to 230.
 */
static const uint8_t x87_guest[] = {
    0xd9, 0xe8, /* fld1 */
    0xf4,       /* hlt */
};

static bool cpu_virtualises(void)
{
	unsigned eax, ebx, ecx, edx;
	if (__get_cpuid(1, &eax, &ebx, &ecx, &edx) && ecx & LEAF1_ECX_VMX)
		return true;
	return __get_cpuid(0x80000001, &eax, &ebx, &ecx, &edx) && ecx & EXT1_ECX_SVM;
}

struct probe {
	int vm_fd, vcpu_fd;
	uint8_t *memory;
	struct kvm_run *run;
	size_t run_bytes;
};

static int probe_open(struct probe *probe, int kvm_fd, const uint8_t *guest, size_t guest_bytes,
		      struct riffle_error *error)
{
	probe->vm_fd = kvm_create_vm(kvm_fd, error);
	if (probe->vm_fd < 0)
		return error ? (int)error->status : RIFFLE_ERR_IO;
	probe->memory = mmap(NULL, GUEST_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (probe->memory == MAP_FAILED)
		return riffle_fail_system(error, errno, "probe", "no memory for the guest");
	memcpy(probe->memory, guest, guest_bytes);
	struct kvm_userspace_memory_region region = {
	    .guest_phys_addr = GUEST_ADDRESS,
	    .memory_size = GUEST_BYTES,
	    .userspace_addr = (uintptr_t)probe->memory,
	};
	if (ioctl(probe->vm_fd, KVM_SET_USER_MEMORY_REGION, &region) < 0)
		return riffle_fail_system(error, errno, "probe", "KVM_SET_USER_MEMORY_REGION failed");
	probe->vcpu_fd = ioctl(probe->vm_fd, KVM_CREATE_VCPU, 0);
	int run_bytes = ioctl(kvm_fd, KVM_GET_VCPU_MMAP_SIZE, 0);
	if (probe->vcpu_fd < 0 || run_bytes < (int)sizeof(struct kvm_run))
		return riffle_fail_system(error, errno, "probe", "KVM_CREATE_VCPU failed");
	probe->run_bytes = (size_t)run_bytes;
	probe->run = mmap(NULL, probe->run_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, probe->vcpu_fd, 0);
	if (probe->run == MAP_FAILED)
		return riffle_fail_system(error, errno, "probe", "struct kvm_run cannot be mapped");
	return 0;
}

static void probe_close(struct probe *probe)
{
	if (probe->run != MAP_FAILED)
		munmap(probe->run, probe->run_bytes);
	if (probe->vcpu_fd >= 0)
		close(probe->vcpu_fd);
	if (probe->memory != MAP_FAILED)
		munmap(probe->memory, GUEST_BYTES);
	if (probe->vm_fd >= 0)
		close(probe->vm_fd);
}

/* Runs the guest in real mode until it exits. Returns the exit's reason, or -1. */
static int run_guest(const struct probe *probe)
{
	struct kvm_sregs sregs;
	struct kvm_regs regs = {.rip = GUEST_ADDRESS, .rflags = 2};
	int result;

	if (ioctl(probe->vcpu_fd, KVM_GET_SREGS, &sregs) < 0)
		return -1;
	sregs.cs.base = 0;
	sregs.cs.selector = 0;
	if (ioctl(probe->vcpu_fd, KVM_SET_SREGS, &sregs) < 0 || ioctl(probe->vcpu_fd, KVM_SET_REGS, &regs) < 0)
		return -1;
	do
		result = ioctl(probe->vcpu_fd, KVM_RUN, 0);
	while ((result < 0 && errno == EINTR) || (result == 0 && probe->run->exit_reason == KVM_EXIT_INTR));
	return result < 0 ? -1 : (int)probe->run->exit_reason;
}

int probe_refuse_emulation(int kvm_fd, struct riffle_error *error)
{
	struct probe probe = {.vm_fd = -1, .vcpu_fd = -1, .memory = MAP_FAILED, .run = MAP_FAILED};
	int status, exit_reason = -1;

	if (cpu_virtualises())
		return 0;
	status = probe_open(&probe, kvm_fd, x87_guest, sizeof x87_guest, error);
	if (!status)
		exit_reason = run_guest(&probe);
	probe_close(&probe);
	if (status || exit_reason == KVM_EXIT_HLT)
		return status;
	return riffle_fail(
	    error, RIFFLE_ERR_UNSUPPORTED, "/dev/kvm",
	    "emulates guests instruction by instruction, which is too slow and incomplete for Linux: this host "
	    "has no hardware virtualisation; run the command under tools/kvmbox");
}

static bool probe_debug(int kvm_fd, const uint8_t *guest, size_t guest_bytes, const struct kvm_guest_debug *debug)
{
	struct probe probe = {.vm_fd = -1, .vcpu_fd = -1, .memory = MAP_FAILED, .run = MAP_FAILED};
	bool works = probe_open(&probe, kvm_fd, guest, guest_bytes, NULL) == 0 &&
		     ioctl(probe.vcpu_fd, KVM_SET_GUEST_DEBUG, debug) == 0 && run_guest(&probe) == KVM_EXIT_DEBUG;

	probe_close(&probe);
	return works;
}

bool probe_breakpoints(int kvm_fd)
{
	static const uint8_t guest[] = {
	    0xcc, /* int3 */
	    0xf4, /* hlt: real mode's vector 3 points to address 0, where there is no memory */
	};
	const struct kvm_guest_debug debug = {.control = KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_USE_SW_BP};

	return probe_debug(kvm_fd, guest, sizeof guest, &debug);
}

bool probe_debug_registers(int kvm_fd)
{
	static const uint8_t guest[] = {0x90 /* nop */, 0xf4 /* hlt */};
	const struct kvm_guest_debug debug = {.control = KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_USE_HW_BP,
					      .arch.debugreg = {[0] = GUEST_ADDRESS + 1, [7] = DR7_GLOBAL_EXACT_0}};

	return probe_debug(kvm_fd, guest, sizeof guest, &debug);
}

enum kvm_kind vm_probe_kvm(struct riffle_error *error)
{
	struct riffle_error local;
	if (!error)
		error = &local;
	int fd = kvm_open(error);
	if (fd < 0)
		return error->sys_errno == EACCES || error->sys_errno == EPERM ? KVM_NO_PERMISSION : KVM_NONE;
	int status = probe_refuse_emulation(fd, error);
	close(fd);
	if (!status)
		return KVM_HARDWARE;
	return status == RIFFLE_ERR_UNSUPPORTED ? KVM_EMULATING : KVM_NONE;
}
