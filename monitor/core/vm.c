/* SPDX-License-Identifier: Apache-2.0 */
/* A VM's life: created, given to KVM, prepared, destroyed. */
#include "monitor/core/vm.h"

#include <errno.h>
#include <linux/kvm.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "common/fail.h"
#include "monitor/core/internal.h"
#include "monitor/core/kvm.h"

/* Above this memory size the boot page tables use 1 GiB pages, if the guest supports them. */
#define GIB_PAGES_FROM (UINT64_C(64) << 30)

/* Allocates a VM with "nothing there" in every field, so that vm_destroy() works at any point. */
static struct vm *allocate(const struct vm_config *config, const struct vm_handlers *handlers)
{
	struct vm *vm = calloc(1, sizeof *vm);

	if (!vm)
		return NULL;
	vm->config = *config;
	vm->handlers = *handlers;
	vm->kvm_fd = vm->vm_fd = vm->memory.fd = -1;
	vm->wanted = VM_PAUSED;
	atomic_init(&vm->end, VM_NOT_ENDED);
	for (unsigned i = 0; i < RIFFLE_BOOT_VCPUS_MAX; i++)
		vm->vcpus[i] = (struct vcpu){.fd = -1, .id = i, .vm = vm};
	pthread_mutex_init(&vm->state_lock, NULL);
	return vm;
}

int vm_new(struct vm **result, const struct vm_config *config, const struct vm_handlers *handlers,
	   struct riffle_error *error)
{
	*result = NULL;
	if (config->vcpus < 1 || config->vcpus > RIFFLE_BOOT_VCPUS_MAX)
		return riffle_fail_expected(error, RIFFLE_ERR_ARGUMENT, "vcpus", "must be from 1 to 32", config->vcpus,
					    RIFFLE_BOOT_VCPUS_MAX);
	struct vm *vm = allocate(config, handlers);

	if (!vm)
		return riffle_fail(error, RIFFLE_ERR_MEMORY, "struct vm", "out of memory");
	int status = config->memory_file
			 ? guest_memory_map_file(&vm->memory, config->memory_bytes, config->memory_file, error)
			 : guest_memory_map(&vm->memory, config->memory_bytes, config->pages, error);

	vm->config.memory_file = NULL;
	if (!status && config->track_dirty)
		status = guest_memory_track(&vm->memory, error);

	if (status) {
		vm_destroy(vm);
		return status;
	}
	*result = vm;
	return 0;
}

static int read_cpuid(struct vm *vm, struct riffle_error *error)
{
	if (vm->cpuid.nent)
		return 0;
	/*
	 * KVM_GET_SUPPORTED_CPUID leaves the TSC-deadline timer's bit to the monitor. Each kernel with immediate exit,
	 * which kvm_check() has asked for, has the timer.
	 */
	return guest_cpuid_read(&vm->cpuid, vm->kvm_fd, &vm->config.cpu, vm->config.vcpus, true, error);
}

int vm_open(struct vm *vm, int kvm_fd, struct riffle_error *error)
{
	vm->kvm_fd = kvm_fd;
	/* only asked if needed: on a host that is itself a guest, CPUID costs up to a millisecond */
	if (vm->config.memory_bytes > GIB_PAGES_FROM) {
		int status = read_cpuid(vm, error);

		if (status)
			return status;
		vm->gib_pages = guest_cpuid_has_gib_pages(&vm->cpuid);
	}
	vm->vm_fd = kvm_create_vm(vm->kvm_fd, error);
	if (vm->vm_fd < 0)
		return error ? (int)error->status : RIFFLE_ERR_IO;
	return guest_memory_register(&vm->memory, vm->vm_fd, error);
}

static void close_if_open(int fd)
{
	if (fd >= 0)
		close(fd);
}

void vm_destroy(struct vm *vm)
{
	if (!vm)
		return;
	if (vm->threads) {
		vm_end(vm, VM_END_SIGNAL);
		vm_join(vm);
	}
	for (unsigned i = 0; i < RIFFLE_BOOT_VCPUS_MAX; i++)
		vcpu_destroy(&vm->vcpus[i]);
	close_if_open(vm->vm_fd);
	close_if_open(vm->kvm_fd);
	guest_memory_unmap(&vm->memory);
	pthread_mutex_destroy(&vm->state_lock);
	free(vm);
}

/* Some capabilities are queried on /dev/kvm, which is closed while the VM runs. */
static int ask_capabilities(struct vm *vm, struct riffle_error *error)
{
	struct vm_capabilities *can = &vm->can;
	struct {
		uint32_t nmsrs;
		uint32_t indices[VM_MSRS_MAX];
	} list = {.nmsrs = VM_MSRS_MAX};
	int xsave2 = ioctl(vm->vm_fd, KVM_CHECK_EXTENSION, KVM_CAP_XSAVE2);

	if (ioctl(vm->kvm_fd, KVM_GET_MSR_INDEX_LIST, &list) < 0)
		return riffle_fail_system(error, errno, "KVM_GET_MSR_INDEX_LIST", "failed");
	can->msrs = list.nmsrs;
	memcpy(can->msr, list.indices, list.nmsrs * sizeof *can->msr);
	can->xsave2 = xsave2 > (int)sizeof(struct kvm_xsave);
	if (can->xsave2)
		can->xsave_bytes = (size_t)xsave2;
	else if (ioctl(vm->kvm_fd, KVM_CHECK_EXTENSION, KVM_CAP_XSAVE) > 0)
		can->xsave_bytes = sizeof(struct kvm_xsave);
	can->xcrs = ioctl(vm->kvm_fd, KVM_CHECK_EXTENSION, KVM_CAP_XCRS) > 0;
	can->tsc_control = ioctl(vm->kvm_fd, KVM_CHECK_EXTENSION, KVM_CAP_TSC_CONTROL) > 0;
	return 0;
}

int vm_prepare_vcpus(struct vm *vm, struct riffle_error *error)
{
	int run_bytes = ioctl(vm->kvm_fd, KVM_GET_VCPU_MMAP_SIZE, 0);

	if (run_bytes < (int)sizeof(struct kvm_run))
		return riffle_fail_system(error, errno, "KVM_GET_VCPU_MMAP_SIZE", "failed");
	int status = read_cpuid(vm, error);
	/* setting what is replaced soon would take time; modifiers change MSRs that the CPUID has to allow */
	bool bare = vm->config.restored && vm->config.cpu.template == CPU_TEMPLATE_NONE && !vm->config.cpu.msr_count;

	if (!status && vm->config.can_save)
		status = ask_capabilities(vm, error);
	if (!status)
		status = kvm_create_chips(vm->vm_fd, error);
	while (!status && vm->vcpus_made < vm->config.vcpus) {
		struct vcpu *vcpu = &vm->vcpus[vm->vcpus_made];

		status = vcpu_create(vcpu, vm->vm_fd, (size_t)run_bytes, &vm->cpuid, bare, error);
		if (!status)
			status = vcpu_modify_msrs(vcpu, &vm->config.cpu, error);
		vm->vcpus_made++;
	}
	/* /dev/kvm is no longer needed, and could create another VM */
	close_if_open(vm->kvm_fd);
	vm->kvm_fd = -1;
	return status;
}

int vm_set_entry(struct vm *vm, const struct riffle_boot_registers *registers, struct riffle_error *error)
{
	if (!vm->vcpus_made)
		return riffle_fail(error, RIFFLE_ERR_ARGUMENT, "vm_set_entry", "called before vm_prepare_vcpus");
	return vcpu_set_entry(&vm->vcpus[0], registers, error);
}

const struct guest_memory *vm_memory(const struct vm *vm)
{
	return &vm->memory;
}

struct guest_memory *vm_memory_to_add(struct vm *vm)
{
	return &vm->memory;
}

unsigned vm_vcpus(const struct vm *vm)
{
	return vm->config.vcpus;
}

const struct vcpu_counters *vm_vcpu_counters(const struct vm *vm, unsigned vcpu)
{
	return &vm->vcpus[vcpu].counters;
}

int vm_descriptor(const struct vm *vm)
{
	return vm->vm_fd;
}

int vm_vcpu_descriptor(const struct vm *vm, unsigned vcpu)
{
	return vm->vcpus[vcpu].fd;
}

bool vm_gib_pages(const struct vm *vm)
{
	return vm->gib_pages;
}

enum vm_end vm_how_ended(const struct vm *vm)
{
	return (enum vm_end)atomic_load(&vm->end);
}

const struct riffle_error *vm_error(const struct vm *vm)
{
	return &vm->error;
}

uint64_t vm_fault_rip(const struct vm *vm)
{
	return vm->fault_rip;
}
