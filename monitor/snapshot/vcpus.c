/* SPDX-License-Identifier: Apache-2.0 */
/* The state of vCPUs, out of KVM and into it. */
#include <errno.h>
#include <linux/kvm.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

#include "common/bytes.h"
#include "common/fail.h"
#include "monitor/core/internal.h"
#include "monitor/snapshot/components.h"

#define MSR_TSC 0x10u
#define MSR_TSC_DEADLINE 0x6e0u
#define LVT_TIMER 0x320u
#define LVT_MASKED (1u << 16)
#define LVT_TIMER_MODE (3u << 17)
#define LVT_TSC_DEADLINE (2u << 17)

#define MSR_BATCH 64u
#define XSAVE_BYTES_MAX (64u << 10)

/* Clocks of two hosts that differ by less than this run at one speed, as far as a guest's NTP cares. */
#define TSC_TOLERANCE_PPM 250u

struct msr_batch {
	uint32_t nmsrs, padding;
	struct kvm_msr_entry entries[MSR_BATCH];
};

/* What KVM's own list leaves out: how memory is cached. */
static const uint32_t more_msrs[] = {
    0x2ff, 0x250, 0x258, 0x259, 0x268, 0x269, 0x26a, 0x26b, 0x26c, 0x26d, 0x26e, 0x26f, 0x200, 0x201,
    0x202, 0x203, 0x204, 0x205, 0x206, 0x207, 0x208, 0x209, 0x20a, 0x20b, 0x20c, 0x20d, 0x20e, 0x20f,
};

/* ---- saving ---- */

static int get(int fd, unsigned long request, const char *name, void *state, struct riffle_error *error)
{
	return ioctl(fd, request, state) < 0 ? riffle_fail_system(error, errno, name, "failed") : 0;
}

/* As it was set, with what is this vCPU's own: KVM keeps what follows from the guest's registers up to date by itself.
 */
static int save_cpuid(const struct vcpu *vcpu, struct state_writer *writer, struct riffle_error *error)
{
	struct guest_cpuid *cpuid = malloc(sizeof *cpuid);

	if (!cpuid)
		return riffle_fail(error, RIFFLE_ERR_MEMORY, "cpuid", "out of memory");
	*cpuid = vcpu->vm->cpuid;
	guest_cpuid_set_apic_id(cpuid, vcpu->id);
	state_put_block(writer, cpuid->entries, cpuid->nent * sizeof *cpuid->entries);
	free(cpuid);
	return 0;
}

/* A timer that is due while its interrupt was not delivered yet reads as unarmed: it is armed for a moment that has
 * passed, so that it fires at once. */
static void rearm_due_timer(struct msr_batch *msrs, unsigned count, const struct kvm_lapic_state *lapic, uint64_t *tsc)
{
	uint32_t timer = riffle_get32(lapic->regs + LVT_TIMER);

	for (unsigned i = 0; i < count; i++) {
		struct kvm_msr_entry *entry = &msrs->entries[i];

		if (entry->index == MSR_TSC)
			*tsc = entry->data;
		if (entry->index == MSR_TSC_DEADLINE && !entry->data && *tsc && !(timer & LVT_MASKED) &&
		    (timer & LVT_TIMER_MODE) == LVT_TSC_DEADLINE)
			entry->data = *tsc;
	}
}

/* Those that KVM refuses to read are left out: its list has some that this processor lacks. */
static int save_msr_list(int fd, const uint32_t *index, unsigned count, const struct kvm_lapic_state *lapic,
			 uint64_t *tsc, struct state_writer *writer, struct riffle_error *error)
{
	struct msr_batch msrs;

	for (unsigned at = 0; at < count;) {
		memset(&msrs, 0, sizeof msrs);
		msrs.nmsrs = count - at < MSR_BATCH ? count - at : MSR_BATCH;
		for (unsigned i = 0; i < msrs.nmsrs; i++)
			msrs.entries[i].index = index[at + i];
		int got = ioctl(fd, KVM_GET_MSRS, &msrs);

		if (got < 0)
			return riffle_fail_system(error, errno, "KVM_GET_MSRS", "failed");
		rearm_due_timer(&msrs, (unsigned)got, lapic, tsc);
		for (int i = 0; i < got; i++) {
			state_put32(writer, msrs.entries[i].index);
			state_put64(writer, msrs.entries[i].data);
		}
		at += (unsigned)got + ((unsigned)got < msrs.nmsrs);
	}
	return 0;
}

/* At the end of the section: their number follows from its size. */
static int save_msrs(struct vcpu *vcpu, const struct kvm_lapic_state *lapic, struct state_writer *writer,
		     struct riffle_error *error)
{
	static const uint32_t tsc_first[] = {MSR_TSC};
	const struct vm_capabilities *can = &vcpu->vm->can;
	uint64_t tsc = 0;
	int status = save_msr_list(vcpu->fd, tsc_first, 1, lapic, &tsc, writer, error);

	if (!status)
		status = save_msr_list(vcpu->fd, can->msr, can->msrs, lapic, &tsc, writer, error);
	return status ? status
		      : save_msr_list(vcpu->fd, more_msrs, sizeof more_msrs / sizeof *more_msrs, lapic, &tsc, writer,
				      error);
}

/* XSAVE where KVM has it, which holds the FPU's state as well; XCRs are asked for but not needed. */
static int save_fpu(struct vcpu *vcpu, struct state_writer *writer, struct riffle_error *error)
{
	const struct vm_capabilities *can = &vcpu->vm->can;
	struct kvm_fpu fpu;
	struct kvm_xcrs xcrs;
	void *xsave;
	int status;

	memset(&fpu, 0, sizeof fpu);
	memset(&xcrs, 0, sizeof xcrs);
	if ((status = get(vcpu->fd, KVM_GET_FPU, "KVM_GET_FPU", &fpu, error)))
		return status;
	state_put_block(writer, &fpu, sizeof fpu);
	if (can->xsave_bytes) {
		xsave = calloc(1, can->xsave_bytes);
		if (!xsave)
			return riffle_fail(error, RIFFLE_ERR_MEMORY, "xsave", "out of memory");
		status = get(vcpu->fd, can->xsave2 ? KVM_GET_XSAVE2 : KVM_GET_XSAVE, "KVM_GET_XSAVE", xsave, error);
		state_put_block(writer, xsave, can->xsave_bytes);
		free(xsave);
	} else {
		state_put_block(writer, NULL, 0);
	}
	bool has_xcrs = can->xcrs && ioctl(vcpu->fd, KVM_GET_XCRS, &xcrs) == 0;

	state_put_block(writer, &xcrs, has_xcrs ? sizeof xcrs : 0);
	return status;
}

/* KVM_GET_MP_STATE first: it takes in INIT and SIPI that wait, which the other calls then see. */
static int save_vcpu(struct vcpu *vcpu, struct state_writer *writer, struct riffle_error *error)
{
	struct kvm_mp_state mp_state;
	struct kvm_regs regs;
	struct kvm_sregs sregs;
	struct kvm_lapic_state lapic;
	struct kvm_debugregs debug;
	struct kvm_vcpu_events events;
	int fd = vcpu->fd, tsc_khz = ioctl(fd, KVM_GET_TSC_KHZ, 0), status;

	memset(&regs, 0, sizeof regs);
	memset(&sregs, 0, sizeof sregs);
	memset(&lapic, 0, sizeof lapic);
	memset(&debug, 0, sizeof debug);
	memset(&events, 0, sizeof events);
	if ((status = get(fd, KVM_GET_MP_STATE, "KVM_GET_MP_STATE", &mp_state, error)) ||
	    (status = get(fd, KVM_GET_REGS, "KVM_GET_REGS", &regs, error)) ||
	    (status = get(fd, KVM_GET_SREGS, "KVM_GET_SREGS", &sregs, error)) ||
	    (status = get(fd, KVM_GET_DEBUGREGS, "KVM_GET_DEBUGREGS", &debug, error)) ||
	    (status = get(fd, KVM_GET_LAPIC, "KVM_GET_LAPIC", &lapic, error)) ||
	    (status = get(fd, KVM_GET_VCPU_EVENTS, "KVM_GET_VCPU_EVENTS", &events, error)))
		return status;
	state_begin(writer, STATE_VCPU, vcpu->id, 1);
	state_put32(writer, mp_state.mp_state);
	state_put32(writer, tsc_khz > 0 ? (uint32_t)tsc_khz : 0);
	if ((status = save_cpuid(vcpu, writer, error)))
		return status;
	state_put_block(writer, &regs, sizeof regs);
	state_put_block(writer, &sregs, sizeof sregs);
	state_put_block(writer, &debug, sizeof debug);
	state_put_block(writer, &lapic, sizeof lapic);
	state_put_block(writer, &events, sizeof events);
	if ((status = save_fpu(vcpu, writer, error)) || (status = save_msrs(vcpu, &lapic, writer, error)))
		return status;
	state_end(writer);
	return 0;
}

int vcpus_save(struct vm *vm, struct state_writer *writer, struct riffle_error *error)
{
	int status = 0;

	for (unsigned i = 0; !status && i < vm->vcpus_made; i++)
		status = save_vcpu(&vm->vcpus[i], writer, error);
	return status;
}

/* ---- restoring ---- */

/* What a section says, checked as far as KVM does not do it. */
struct saved_vcpu {
	uint32_t mp_state, tsc_khz;
	struct guest_cpuid cpuid;
	struct kvm_regs regs;
	struct kvm_sregs sregs;
	struct kvm_debugregs debug;
	struct kvm_lapic_state lapic;
	struct kvm_vcpu_events events;
	struct kvm_fpu fpu;
	struct kvm_xcrs xcrs;
	bool has_xcrs;
	size_t xsave_bytes;
	const uint8_t *msrs;
	unsigned msr_count;
	uint8_t xsave[XSAVE_BYTES_MAX];
};

enum { SAVED_MSR_BYTES = 12 };

static void get_struct(struct state_reader *reader, const char *field, void *data, size_t bytes)
{
	size_t found = state_get_block(reader, field, data, bytes);

	if (found != bytes)
		state_refuse(reader, field, "has another size than KVM's", found);
}

static int read_vcpu(struct saved_vcpu *saved, struct state_reader *reader, struct riffle_error *error)
{
	saved->mp_state = state_get_limited(reader, "mp_state", KVM_MP_STATE_SIPI_RECEIVED);
	saved->tsc_khz = state_get32(reader, "tsc_khz");
	size_t cpuid = state_get_block(reader, "cpuid", saved->cpuid.entries, sizeof saved->cpuid.entries);

	if (cpuid % sizeof *saved->cpuid.entries)
		state_refuse(reader, "cpuid", "is not a number of entries", cpuid);
	saved->cpuid.nent = (uint32_t)(cpuid / sizeof *saved->cpuid.entries);
	get_struct(reader, "regs", &saved->regs, sizeof saved->regs);
	get_struct(reader, "sregs", &saved->sregs, sizeof saved->sregs);
	get_struct(reader, "debugregs", &saved->debug, sizeof saved->debug);
	get_struct(reader, "lapic", &saved->lapic, sizeof saved->lapic);
	get_struct(reader, "events", &saved->events, sizeof saved->events);
	get_struct(reader, "fpu", &saved->fpu, sizeof saved->fpu);
	saved->xsave_bytes = state_get_block(reader, "xsave", saved->xsave, sizeof saved->xsave);
	size_t xcrs = state_get_block(reader, "xcrs", &saved->xcrs, sizeof saved->xcrs);

	if (xcrs && xcrs != sizeof saved->xcrs)
		state_refuse(reader, "xcrs", "has another size than KVM's", xcrs);
	saved->has_xcrs = xcrs;
	if (reader->left % SAVED_MSR_BYTES)
		state_refuse(reader, "msrs", "is not a number of entries", reader->left);
	saved->msrs = reader->at;
	saved->msr_count = (unsigned)(reader->left / SAVED_MSR_BYTES);
	reader->left = 0;
	return state_close_section(reader, error);
}

static const struct kvm_cpuid_entry2 *find_leaf(const struct guest_cpuid *cpuid, uint32_t leaf, uint32_t subleaf)
{
	for (uint32_t i = 0; i < cpuid->nent; i++)
		if (cpuid->entries[i].function == leaf && cpuid->entries[i].index == subleaf)
			return &cpuid->entries[i];
	return NULL;
}

/* A guest that was told of an instruction uses it: this host must have it. */
static int check_features(const struct guest_cpuid *host, const struct guest_cpuid *saved, struct riffle_error *error)
{
	enum { EAX, EBX, ECX, EDX };
	static const struct {
		uint32_t leaf, subleaf;
		unsigned reg;
		uint32_t mask; /* without what follows from the guest's registers */
		const char *name;
	} features[] = {
	    {1, 0, ECX, ~(UINT32_C(1) << 27), "cpuid 1.ecx"},
	    {1, 0, EDX, UINT32_MAX, "cpuid 1.edx"},
	    {7, 0, EBX, UINT32_MAX, "cpuid 7.ebx"},
	    {7, 0, ECX, ~(UINT32_C(1) << 4), "cpuid 7.ecx"},
	    {7, 0, EDX, UINT32_MAX, "cpuid 7.edx"},
	    {7, 1, EAX, UINT32_MAX, "cpuid 7.1.eax"},
	    {0xd, 0, EAX, UINT32_MAX, "cpuid 0xd.eax"},
	    {0xd, 1, EAX, UINT32_MAX, "cpuid 0xd.1.eax"},
	    {0x80000001, 0, ECX, UINT32_MAX, "cpuid 0x80000001.ecx"},
	    {0x80000001, 0, EDX, UINT32_MAX, "cpuid 0x80000001.edx"},
	};

	for (size_t i = 0; i < sizeof features / sizeof *features; i++) {
		const struct kvm_cpuid_entry2 *was = find_leaf(saved, features[i].leaf, features[i].subleaf);
		const struct kvm_cpuid_entry2 *is = find_leaf(host, features[i].leaf, features[i].subleaf);

		if (!was)
			continue;
		const uint32_t old[] = {was->eax, was->ebx, was->ecx, was->edx};
		const uint32_t now[] = {is ? is->eax : 0, is ? is->ebx : 0, is ? is->ecx : 0, is ? is->edx : 0};
		uint32_t lost = old[features[i].reg] & ~now[features[i].reg] & features[i].mask;

		if (lost)
			return riffle_fail_found_as(error, RIFFLE_ERR_UNSUPPORTED, RIFFLE_SHOW_HEX, features[i].name,
						    "the guest uses processor features that this host lacks", lost);
	}
	return 0;
}

static int set(int fd, unsigned long request, const char *name, void *state, struct riffle_error *error)
{
	if (ioctl(fd, request, state) >= 0)
		return 0;
	return errno == EINVAL ? riffle_fail(error, RIFFLE_ERR_FORMAT, name, "KVM refuses the saved state")
			       : riffle_fail_system(error, errno, name, "failed");
}

/* KVM lists MSRs that it refuses to be set, such as those of Hyper-V: no matter as long as they are as they were. */
static bool has_value(int fd, uint32_t index, uint64_t data)
{
	struct msr_batch one = {.nmsrs = 1, .entries = {{.index = index}}};

	return ioctl(fd, KVM_GET_MSRS, &one) == 1 && one.entries[0].data == data;
}

static int set_msrs(int fd, const struct saved_vcpu *saved, struct riffle_error *error)
{
	struct msr_batch msrs;

	for (unsigned at = 0; at < saved->msr_count;) {
		memset(&msrs, 0, sizeof msrs);
		msrs.nmsrs = saved->msr_count - at < MSR_BATCH ? saved->msr_count - at : MSR_BATCH;
		for (unsigned i = 0; i < msrs.nmsrs; i++) {
			const uint8_t *from = saved->msrs + (size_t)SAVED_MSR_BYTES * (at + i);

			msrs.entries[i].index = riffle_get32(from);
			msrs.entries[i].data = riffle_get64(from + 4);
		}
		int done = ioctl(fd, KVM_SET_MSRS, &msrs);

		if (done < 0)
			return riffle_fail_system(error, errno, "KVM_SET_MSRS", "failed");
		at += (unsigned)done;
		if ((unsigned)done == msrs.nmsrs)
			continue;
		if (!has_value(fd, msrs.entries[done].index, msrs.entries[done].data))
			return riffle_fail_found_as(error, RIFFLE_ERR_UNSUPPORTED, RIFFLE_SHOW_HEX, "KVM_SET_MSRS",
						    "this host's KVM refuses an MSR of the guest",
						    msrs.entries[done].index);
		at++;
	}
	return 0;
}

static int set_tsc_khz(const struct vcpu *vcpu, uint32_t khz, struct riffle_error *error)
{
	int now = ioctl(vcpu->fd, KVM_GET_TSC_KHZ, 0);

	if (!khz || now <= 0 || (uint32_t)now == khz)
		return 0;
	uint64_t off = (uint32_t)now > khz ? (uint32_t)now - khz : khz - (uint32_t)now;

	if (off * 1000000 <= (uint64_t)khz * TSC_TOLERANCE_PPM)
		return 0;
	if (!vcpu->vm->can.tsc_control || ioctl(vcpu->fd, KVM_SET_TSC_KHZ, (unsigned long)khz) < 0)
		return riffle_fail_expected(error, RIFFLE_ERR_UNSUPPORTED, "tsc_khz",
					    "this host's TSC runs at another speed (by more than 0.025 %), and cannot "
					    "be scaled",
					    (uint64_t)now, khz);
	return 0;
}

/*
 * The order: CPUID before whatever it allows; special registers, with the APIC's mode, before the APIC; MSRs after it,
 * since the TSC deadline starts its timer; events last, since other calls change them.
 */
static int set_vcpu(struct vcpu *vcpu, struct saved_vcpu *saved, struct riffle_error *error)
{
	struct kvm_mp_state mp_state = {.mp_state = saved->mp_state};
	const struct vm_capabilities *can = &vcpu->vm->can;
	int fd = vcpu->fd, status;

	if (saved->xsave_bytes != can->xsave_bytes && saved->xsave_bytes)
		return riffle_fail_expected(error, RIFFLE_ERR_UNSUPPORTED, "xsave", "this host's has another size",
					    saved->xsave_bytes, can->xsave_bytes);
	if ((status = set(fd, KVM_SET_CPUID2, "KVM_SET_CPUID2", &saved->cpuid, error)) ||
	    (status = set_tsc_khz(vcpu, saved->tsc_khz, error)) ||
	    (status = set(fd, KVM_SET_MP_STATE, "KVM_SET_MP_STATE", &mp_state, error)) ||
	    (status = set(fd, KVM_SET_REGS, "KVM_SET_REGS", &saved->regs, error)) ||
	    (status = set(fd, KVM_SET_SREGS, "KVM_SET_SREGS", &saved->sregs, error)))
		return status;
	status = saved->xsave_bytes ? set(fd, KVM_SET_XSAVE, "KVM_SET_XSAVE", saved->xsave, error)
				    : set(fd, KVM_SET_FPU, "KVM_SET_FPU", &saved->fpu, error);
	if (status || (saved->has_xcrs && (status = set(fd, KVM_SET_XCRS, "KVM_SET_XCRS", &saved->xcrs, error))) ||
	    (status = set(fd, KVM_SET_DEBUGREGS, "KVM_SET_DEBUGREGS", &saved->debug, error)) ||
	    (status = set(fd, KVM_SET_LAPIC, "KVM_SET_LAPIC", &saved->lapic, error)) ||
	    (status = set_msrs(fd, saved, error)) ||
	    (status = set(fd, KVM_SET_VCPU_EVENTS, "KVM_SET_VCPU_EVENTS", &saved->events, error)))
		return status;
	/* tells the guest's watchdog that it was stopped; refused where the guest uses no kvm-clock */
	ioctl(fd, KVM_KVMCLOCK_CTRL, 0);
	return 0;
}

static int restore_vcpu(struct vcpu *vcpu, struct saved_vcpu *saved, const struct state_file *file,
			struct riffle_error *error)
{
	struct state_reader reader;
	int status;

	memset(saved, 0, sizeof *saved);
	if (!state_section(file, STATE_VCPU, vcpu->id, &reader))
		return state_missing("vcpu", error);
	if ((status = read_vcpu(saved, &reader, error)) ||
	    (status = check_features(&vcpu->vm->cpuid, &saved->cpuid, error)))
		return status;
	return set_vcpu(vcpu, saved, error);
}

int vcpus_restore(struct vm *vm, const struct state_file *file, struct riffle_error *error)
{
	struct saved_vcpu *saved = malloc(sizeof *saved);
	int status = 0;

	if (!saved)
		return riffle_fail(error, RIFFLE_ERR_MEMORY, "vcpu", "out of memory");
	if (state_count(file, STATE_VCPU) != vm->vcpus_made)
		status = riffle_fail_expected(error, RIFFLE_ERR_FORMAT, "vcpus", "the state has another number of them",
					      state_count(file, STATE_VCPU), vm->vcpus_made);
	for (unsigned i = 0; !status && i < vm->vcpus_made; i++)
		status = restore_vcpu(&vm->vcpus[i], saved, file, error);
	if (!status)
		vm->cpuid = saved->cpuid; /* for the next save */
	explicit_bzero(saved, sizeof *saved);
	free(saved);
	return status;
}
