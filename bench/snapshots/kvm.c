/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What KVM alone takes for a VM with one vCPU: milliseconds of processor time for the RAM's slots, and for everything
 * else that a start calls it for once; third, of this process from its beginning to the end of these calls, which no
 * program that is linked statically with the same C library can do in less. The RAM is mapped as riffle maps it, and is
 * not touched.  usage: bench-kvm MIB
 */
#include <fcntl.h>
#include <linux/kvm.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <time.h>

#define LOW (UINT64_C(3) << 30)
#define HIGH (UINT64_C(4) << 30)
#define CPUID_ENTRIES 256u

static int must(int result, const char *name)
{
	if (result < 0) {
		perror(name);
		exit(1);
	}
	return result;
}

static double processor_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
	return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

static void add_slot(int vm, uint32_t slot, uint64_t at, uint64_t bytes, uint8_t *host)
{
	struct kvm_userspace_memory_region region = {
	    .slot = slot, .guest_phys_addr = at, .memory_size = bytes, .userspace_addr = (uintptr_t)host};

	must(ioctl(vm, KVM_SET_USER_MEMORY_REGION, &region), "KVM_SET_USER_MEMORY_REGION");
}

int main(int argc, char **argv)
{
	struct kvm_pit_config pit = {0};
	uint64_t bytes = argc == 2 ? strtoull(argv[1], NULL, 10) << 20 : 0;
	struct kvm_cpuid2 *cpuid = calloc(1, sizeof *cpuid + CPUID_ENTRIES * sizeof *cpuid->entries);

	if (!bytes || !cpuid)
		return 2;
	uint8_t *ram = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (ram == MAP_FAILED)
		return 1;
	double begun = processor_ms();
	int kvm = must(open("/dev/kvm", O_RDWR | O_CLOEXEC), "/dev/kvm"),
	    vm = must(ioctl(kvm, KVM_CREATE_VM, 0), "KVM_CREATE_VM");
	double slots_begun = processor_ms();

	add_slot(vm, 0, 0, bytes < LOW ? bytes : LOW, ram);
	if (bytes > LOW)
		add_slot(vm, 1, HIGH, bytes - LOW, ram + LOW);
	double slots = processor_ms() - slots_begun;

	cpuid->nent = CPUID_ENTRIES;
	must(ioctl(kvm, KVM_GET_SUPPORTED_CPUID, cpuid), "KVM_GET_SUPPORTED_CPUID");
	must(ioctl(vm, KVM_CREATE_IRQCHIP, 0), "KVM_CREATE_IRQCHIP");
	must(ioctl(vm, KVM_CREATE_PIT2, &pit), "KVM_CREATE_PIT2");
	int vcpu = must(ioctl(vm, KVM_CREATE_VCPU, 0), "KVM_CREATE_VCPU");

	must(ioctl(vcpu, KVM_SET_CPUID2, cpuid), "KVM_SET_CPUID2");
	double end = processor_ms();

	printf("%.3f %.3f %.3f\n", slots, end - begun - slots, end);
	return 0;
}
