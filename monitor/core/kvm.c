/* SPDX-License-Identifier: Apache-2.0 */
/* /dev/kvm and one VM: capabilities, reserved pages, interrupt controllers and timer. */
#include "monitor/core/kvm.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <stdint.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "common/fail.h"

/*
 * Three pages near the top of the 32-bit space, in the hole of guest RAM, after that of the identity map, which is at
 * 0xfffbc000 unless KVM is told otherwise: Documentation/virt/kvm/api.rst
 */
#define TSS_ADDRESS 0xfffbd000ul

int kvm_open(struct riffle_error *error)
{
	int fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	if (fd < 0) {
		const char *problem = "cannot be opened";
		if (errno == ENOENT)
			problem = "is not there: load the module kvm_intel or kvm_amd, or run under tools/kvmbox";
		else if (errno == EACCES)
			problem = "may not be opened: join the group kvm, or ask root for access";
		else if (errno == ENODEV || errno == ENXIO)
			problem = "has no driver: load the module kvm_intel or kvm_amd, or run under tools/kvmbox";
		riffle_fail_system(error, errno, "/dev/kvm", problem);
		return -1;
	}
	int version = ioctl(fd, KVM_GET_API_VERSION, 0);
	if (version != KVM_API_VERSION) {
		if (version < 0)
			riffle_fail_system(error, errno, "/dev/kvm", "is not a KVM device");
		else
			riffle_fail_expected(error, RIFFLE_ERR_UNSUPPORTED, "KVM_GET_API_VERSION", "unknown version",
					     (uint64_t)version, KVM_API_VERSION);
		close(fd);
		return -1;
	}
	return fd;
}

static bool is_waived(const struct cpu_config *config, uint32_t capability)
{
	for (size_t i = 0; i < config->capability_count; i++)
		if (config->capabilities[i].waived && config->capabilities[i].id == capability)
			return true;
	return false;
}

static int check_wanted(int kvm_fd, const struct cpu_config *config, struct riffle_error *error)
{
	for (size_t i = 0; i < config->capability_count; i++) {
		const struct cpu_capability *wanted = &config->capabilities[i];

		if (!wanted->waived && ioctl(kvm_fd, KVM_CHECK_EXTENSION, (unsigned long)wanted->id) <= 0)
			return riffle_fail_found(error, RIFFLE_ERR_UNSUPPORTED, "kvm_capabilities",
						 "missing in this host's KVM", wanted->id);
	}
	return 0;
}

int kvm_check(int kvm_fd, unsigned vcpus, const struct cpu_config *config, struct riffle_error *error)
{
	/*
	 * Not every capability needed is checked, since each check costs a system call at every start: a kernel with
	 * immediate exit (Linux 4.12) has everything older that cannot be configured away, and the PIT is present
	 * whenever the interrupt controllers are.
	 */
	static const struct {
		int capability;
		const char *name;
	} needed[] = {
	    {KVM_CAP_PIT2, "KVM_CAP_PIT2"},
	    {KVM_CAP_IMMEDIATE_EXIT, "KVM_CAP_IMMEDIATE_EXIT"},
	};
	for (size_t i = 0; i < sizeof needed / sizeof *needed; i++)
		if (!is_waived(config, (uint32_t)needed[i].capability) &&
		    ioctl(kvm_fd, KVM_CHECK_EXTENSION, needed[i].capability) <= 0)
			return riffle_fail(error, RIFFLE_ERR_UNSUPPORTED, needed[i].name, "missing in this host's KVM");
	int most = vcpus > 1 ? ioctl(kvm_fd, KVM_CHECK_EXTENSION, KVM_CAP_MAX_VCPUS) : 0;
	if (most > 0 && vcpus > (unsigned)most)
		return riffle_fail_expected(error, RIFFLE_ERR_UNSUPPORTED, "vcpus", "more than this host's KVM allows",
					    vcpus, (uint64_t)most);
	return check_wanted(kvm_fd, config, error);
}

int kvm_create_vm(int kvm_fd, struct riffle_error *error)
{
	int fd;
	do
		fd = ioctl(kvm_fd, KVM_CREATE_VM, 0);
	while (fd < 0 && errno == EINTR);
	if (fd < 0) {
		riffle_fail_system(error, errno, "KVM_CREATE_VM", "failed");
		return -1;
	}
	if (ioctl(fd, KVM_SET_TSS_ADDR, TSS_ADDRESS) < 0) {
		riffle_fail_system(error, errno, "KVM_SET_TSS_ADDR", "failed");
		close(fd);
		return -1;
	}
	return fd;
}

int kvm_create_chips(int vm_fd, struct riffle_error *error)
{
	if (ioctl(vm_fd, KVM_CREATE_IRQCHIP, 0) < 0)
		return riffle_fail_system(error, errno, "KVM_CREATE_IRQCHIP", "failed");
	/* port 0x61 (speaker) as well: Linux calibrates its clock with it if it has nothing better */
	struct kvm_pit_config pit = {.flags = KVM_PIT_SPEAKER_DUMMY};
	if (ioctl(vm_fd, KVM_CREATE_PIT2, &pit) < 0)
		return riffle_fail_system(error, errno, "KVM_CREATE_PIT2", "failed");
	return 0;
}
