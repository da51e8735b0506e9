/* SPDX-License-Identifier: Apache-2.0 */
/* One vCPU: creation, CPUID, MSRs and entry registers. */
#include "monitor/core/vcpu.h"

#include <errno.h>
#include <stdbool.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "common/fail.h"

#define MSR_IA32_MISC_ENABLE 0x1a0u
#define MISC_ENABLE_FAST_STRING 1u
#define MSR_MTRR_DEFAULT_TYPE 0x2ffu
#define MTRR_ENABLED_WRITE_BACK 0x806u

#define RFLAGS_INTERRUPTS 0x200u

/* IA32_APIC_BASE of the first processor after its reset: where it is, enabled, and whose */
#define APIC_BASE_FIRST (UINT64_C(0xfee00000) | 1u << 11 | 1u << 8)

#define SEGMENT_CODE 11u /* execute, read, accessed */
#define SEGMENT_DATA 3u  /* read, write, accessed */
#define SEGMENT_TSS_BUSY 11u

/* As firmware leaves them: fast string instructions on, memory write-back by default (MTRRs). */
static int set_msrs(int fd, struct riffle_error *error)
{
	struct {
		uint32_t nmsrs, pad;
		struct kvm_msr_entry entries[2];
	} msrs = {
	    .nmsrs = 2,
	    .entries =
		{
		    {.index = MSR_IA32_MISC_ENABLE, .data = MISC_ENABLE_FAST_STRING},
		    {.index = MSR_MTRR_DEFAULT_TYPE, .data = MTRR_ENABLED_WRITE_BACK},
		},
	};
	int set = ioctl(fd, KVM_SET_MSRS, &msrs);
	if (set < 0)
		return riffle_fail_system(error, errno, "KVM_SET_MSRS", "failed");
	if (set < (int)msrs.nmsrs)
		return riffle_fail_found(error, RIFFLE_ERR_UNSUPPORTED, "KVM_SET_MSRS", "this KVM refuses an MSR",
					 msrs.entries[set].index);
	return 0;
}

int vcpu_create(struct vcpu *vcpu, int vm_fd, size_t run_bytes, struct guest_cpuid *cpuid, bool bare,
		struct riffle_error *error)
{
	do
		vcpu->fd = ioctl(vm_fd, KVM_CREATE_VCPU, (unsigned long)vcpu->id);
	while (vcpu->fd < 0 && errno == EINTR);
	if (vcpu->fd < 0)
		return riffle_fail_system(error, errno, "KVM_CREATE_VCPU", "failed");
	void *run = mmap(NULL, run_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, vcpu->fd, 0);
	if (run == MAP_FAILED)
		return riffle_fail_system(error, errno, "struct kvm_run", "cannot be mapped");
	vcpu->run = run;
	vcpu->run_bytes = run_bytes;
	if (vcpu->id == 0) {
		int tsc_khz = ioctl(vcpu->fd, KVM_GET_TSC_KHZ, 0);

		guest_cpuid_set_tsc(cpuid, tsc_khz > 0 ? (uint32_t)tsc_khz : 0);
	}
	guest_cpuid_set_apic_id(cpuid, vcpu->id);
	if (bare)
		return 0;
	if (ioctl(vcpu->fd, KVM_SET_CPUID2, cpuid) < 0)
		return riffle_fail_system(error, errno, "KVM_SET_CPUID2", "failed");
	return set_msrs(vcpu->fd, error);
}

static int modify_msr(int fd, const struct cpu_msr_modifier *modifier, struct riffle_error *error)
{
	struct {
		uint32_t nmsrs, pad;
		struct kvm_msr_entry entry;
	} msrs = {.nmsrs = 1, .entry = {.index = modifier->index}};
	int done = ioctl(fd, KVM_GET_MSRS, &msrs);

	if (done == 1) {
		msrs.entry.data = (msrs.entry.data & ~modifier->filter) | (modifier->value & modifier->filter);
		done = ioctl(fd, KVM_SET_MSRS, &msrs);
	}
	if (done < 0)
		return riffle_fail_system(error, errno, "msr_modifiers", "KVM_GET_MSRS or KVM_SET_MSRS failed");
	if (!done)
		return riffle_fail_found(error, RIFFLE_ERR_UNSUPPORTED, "msr_modifiers",
					 "KVM does not have this MSR, or not this value", modifier->index);
	return 0;
}

int vcpu_modify_msrs(const struct vcpu *vcpu, const struct cpu_config *config, struct riffle_error *error)
{
	struct cpu_config template;
	int status = cpu_template_get(&template, config->template, error);

	for (size_t i = 0; !status && i < template.msr_count; i++)
		status = modify_msr(vcpu->fd, &template.msrs[i], error);
	for (size_t i = 0; !status && i < config->msr_count; i++)
		status = modify_msr(vcpu->fd, &config->msrs[i], error);
	return status;
}

void vcpu_destroy(struct vcpu *vcpu)
{
	if (vcpu->run)
		munmap(vcpu->run, vcpu->run_bytes);
	if (vcpu->fd >= 0)
		close(vcpu->fd);
	vcpu->run = NULL;
	vcpu->fd = -1;
}

static struct kvm_segment flat_segment(uint16_t selector, bool code)
{
	return (struct kvm_segment){
	    .limit = 0xffffffff,
	    .selector = selector,
	    .type = code ? SEGMENT_CODE : SEGMENT_DATA,
	    .present = 1,
	    .db = !code, /* 64-bit code has L instead */
	    .l = code,
	    .s = 1,
	    .g = 1,
	};
}

static int set_special_registers(int fd, const struct riffle_boot_registers *registers, struct riffle_error *error)
{
	struct kvm_sregs sregs = {.apic_base = APIC_BASE_FIRST};

	sregs.cs = flat_segment(registers->cs, true);
	sregs.ds = sregs.es = sregs.ss = flat_segment(registers->ds, false);
	sregs.fs = sregs.gs = sregs.ds;
	/* VMX requires a busy TSS; the guest loads its own before using it */
	sregs.tr = (struct kvm_segment){.limit = 0x67, .type = SEGMENT_TSS_BUSY, .present = 1};
	sregs.ldt = (struct kvm_segment){.unusable = 1};
	sregs.gdt = (struct kvm_dtable){.base = registers->gdt_address, .limit = (uint16_t)(registers->gdt_bytes - 1)};
	sregs.cr0 = registers->cr0;
	sregs.cr3 = registers->cr3;
	sregs.cr4 = registers->cr4;
	sregs.efer = registers->efer;
	if (ioctl(fd, KVM_SET_SREGS, &sregs) < 0)
		return riffle_fail_system(error, errno, "KVM_SET_SREGS", "failed");
	return 0;
}

int vcpu_set_entry(struct vcpu *vcpu, const struct riffle_boot_registers *registers, struct riffle_error *error)
{
	int status = set_special_registers(vcpu->fd, registers, error);
	if (status)
		return status;
	/* the FPU is as after FNINIT from the start */
	struct kvm_regs regs = {
	    .rip = registers->rip, .rsi = registers->rsi, .rsp = registers->rsp, .rflags = registers->rflags | 2};
	if (ioctl(vcpu->fd, KVM_SET_REGS, &regs) < 0)
		return riffle_fail_system(error, errno, "KVM_SET_REGS", "failed");
	return 0;
}

/* KVM keeps a halted vCPU asleep in KVM_RUN; a kick does not change that state. */
bool vcpu_is_halted(const struct vcpu *vcpu)
{
	struct kvm_mp_state state;
	struct kvm_regs regs;

	if (ioctl(vcpu->fd, KVM_GET_MP_STATE, &state) < 0)
		return false;
	if (state.mp_state == KVM_MP_STATE_UNINITIALIZED || state.mp_state == KVM_MP_STATE_INIT_RECEIVED)
		return true;
	return state.mp_state == KVM_MP_STATE_HALTED && ioctl(vcpu->fd, KVM_GET_REGS, &regs) == 0 &&
	       !(regs.rflags & RFLAGS_INTERRUPTS);
}
