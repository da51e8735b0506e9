/* SPDX-License-Identifier: Apache-2.0 */
/* A paused VM under a debugger: registers, memory, breakpoints, and which vCPUs go on how. */
#include "monitor/debug/guest.h"

#include <string.h>
#include <sys/ioctl.h>

#include "monitor/debug/paging.h"

#define INT3 0xccu
#define OUT_IMMEDIATE 0xe6u
#define VECTOR_BREAKPOINT 3u
#define DR7_BASE 0x600u /* exact breakpoints, and a bit that reads as one */
#define MSR_KERNEL_GS_BASE 0xc0000102u

static bool get_kernel_gs_base(int fd, uint64_t *value)
{
	struct {
		uint32_t nmsrs, pad;
		struct kvm_msr_entry entry;
	} msrs = {.nmsrs = 1, .entry.index = MSR_KERNEL_GS_BASE};

	if (ioctl(fd, KVM_GET_MSRS, &msrs) != 1)
		return false;
	*value = msrs.entry.data;
	return true;
}

static bool get_sources(struct debug_guest *guest, unsigned vcpu, struct register_sources *sources)
{
	int fd = vm_vcpu_descriptor(guest->vm, vcpu);

	return ioctl(fd, KVM_GET_REGS, &sources->regs) == 0 && ioctl(fd, KVM_GET_SREGS, &sources->sregs) == 0 &&
	       ioctl(fd, KVM_GET_FPU, &sources->fpu) == 0 && get_kernel_gs_base(fd, &sources->kernel_gs_base);
}

bool debug_read_registers(struct debug_guest *guest, unsigned vcpu, struct register_file *file)
{
	struct register_sources sources;

	if (!get_sources(guest, vcpu, &sources))
		return false;
	registers_collect(file, &sources);
	return true;
}

bool debug_write_registers(struct debug_guest *guest, unsigned vcpu, const struct register_file *file)
{
	int fd = vm_vcpu_descriptor(guest->vm, vcpu);
	struct register_sources sources;

	if (!get_sources(guest, vcpu, &sources))
		return false;
	registers_spread(file, &sources);
	return ioctl(fd, KVM_SET_REGS, &sources.regs) == 0 && ioctl(fd, KVM_SET_FPU, &sources.fpu) == 0;
}

/* Calls of either direction, a page at a time. */
static size_t copy(struct debug_guest *guest, unsigned vcpu, uint64_t address, void *to, const void *from, size_t bytes)
{
	const struct guest_memory *memory = vm_memory(guest->vm);
	struct kvm_sregs sregs;
	uint64_t physical, room;
	size_t done = 0;

	if (ioctl(vm_vcpu_descriptor(guest->vm, vcpu), KVM_GET_SREGS, &sregs) < 0)
		return 0;
	while (done < bytes && paging_translate(memory, &sregs, address + done, &physical, &room)) {
		size_t piece = bytes - done < room ? bytes - done : (size_t)room;

		if (to ? !guest_memory_read(memory, physical, (uint8_t *)to + done, piece)
		       : !guest_memory_write(memory, physical, (const uint8_t *)from + done, piece))
			break;
		done += piece;
	}
	return done;
}

static const uint8_t *soft_code(const struct debug_guest *guest)
{
	static const uint8_t int3[] = {INT3}, out[] = {OUT_IMMEDIATE, DEBUG_PORT};

	return guest->by_port ? out : int3;
}

static size_t soft_bytes(const struct debug_guest *guest)
{
	return guest->by_port ? 2 : 1;
}

/* What was there before the breakpoints were written is what a reader wants to see. */
static void hide_soft_points(const struct debug_guest *guest, uint64_t address, uint8_t *data, size_t bytes)
{
	for (unsigned i = 0; i < DEBUG_SOFT_POINTS; i++) {
		const struct debug_soft_point *soft = &guest->soft[i];

		for (unsigned k = 0; soft->point.used && k < soft_bytes(guest); k++)
			if (soft->point.address + k - address < bytes)
				data[soft->point.address + k - address] = soft->original[k];
	}
}

size_t debug_read_memory(struct debug_guest *guest, unsigned vcpu, uint64_t address, void *data, size_t bytes)
{
	size_t read = copy(guest, vcpu, address, data, NULL, bytes);

	hide_soft_points(guest, address, data, read);
	return read;
}

size_t debug_write_memory(struct debug_guest *guest, unsigned vcpu, uint64_t address, const void *data, size_t bytes)
{
	return copy(guest, vcpu, address, NULL, data, bytes);
}

static bool hard_point_fits(enum stub_point kind, uint64_t address, uint64_t bytes)
{
	if (kind == STUB_BREAK_SOFT || kind == STUB_BREAK_HARD)
		return true;
	return (bytes == 1 || bytes == 2 || bytes == 4 || bytes == 8) && address % bytes == 0;
}

static bool insert_hard(struct debug_guest *guest, const struct debug_point *point)
{
	if (!hard_point_fits(point->kind, point->address, point->bytes))
		return false;
	for (unsigned i = 0; i < DEBUG_HARD_POINTS; i++)
		if (!guest->hard[i].used) {
			guest->hard[i] = *point;
			return true;
		}
	return false;
}

static bool insert_soft(struct debug_guest *guest, unsigned vcpu, const struct debug_point *point)
{
	const struct guest_memory *memory = vm_memory(guest->vm);
	struct kvm_sregs sregs;
	uint64_t room;

	for (unsigned i = 0; i < DEBUG_SOFT_POINTS; i++) {
		struct debug_soft_point *soft = &guest->soft[i];

		if (soft->point.used)
			continue;
		if (ioctl(vm_vcpu_descriptor(guest->vm, vcpu), KVM_GET_SREGS, &sregs) < 0 ||
		    !paging_translate(memory, &sregs, point->address, &soft->physical, &room) ||
		    room < soft_bytes(guest) ||
		    !guest_memory_read(memory, soft->physical, soft->original, soft_bytes(guest)) ||
		    !guest_memory_write(memory, soft->physical, soft_code(guest), soft_bytes(guest)))
			return false;
		soft->point = *point;
		return true;
	}
	return false;
}

static bool is_point(const struct debug_point *point, enum stub_point kind, uint64_t address)
{
	return point->used && point->kind == kind && point->address == address;
}

bool debug_insert(struct debug_guest *guest, unsigned vcpu, enum stub_point kind, uint64_t address, uint64_t bytes)
{
	const struct debug_point point = {.used = true, .kind = kind, .address = address, .bytes = bytes};

	for (unsigned i = 0; i < DEBUG_HARD_POINTS; i++)
		if (is_point(&guest->hard[i], kind, address))
			return guest->hard[i].bytes == bytes;
	for (unsigned i = 0; i < DEBUG_SOFT_POINTS; i++)
		if (is_point(&guest->soft[i].point, kind, address))
			return true;
	if (guest->by_port && kind > STUB_BREAK_HARD)
		return false;
	if (guest->hard_works && insert_hard(guest, &point))
		return true;
	return (guest->by_port || kind == STUB_BREAK_SOFT) && insert_soft(guest, vcpu, &point);
}

static void remove_soft(struct debug_guest *guest, struct debug_soft_point *soft)
{
	size_t bytes = soft_bytes(guest);
	uint8_t now[2];

	/* unless the guest has put something else there */
	if (guest_memory_read(vm_memory(guest->vm), soft->physical, now, bytes) &&
	    !memcmp(now, soft_code(guest), bytes))
		guest_memory_write(vm_memory(guest->vm), soft->physical, soft->original, bytes);
	soft->point.used = false;
}

bool debug_remove(struct debug_guest *guest, enum stub_point kind, uint64_t address, uint64_t bytes)
{
	(void)bytes;
	for (unsigned i = 0; i < DEBUG_HARD_POINTS; i++)
		if (is_point(&guest->hard[i], kind, address)) {
			guest->hard[i].used = false;
			return true;
		}
	for (unsigned i = 0; i < DEBUG_SOFT_POINTS; i++)
		if (is_point(&guest->soft[i].point, kind, address)) {
			remove_soft(guest, &guest->soft[i]);
			return true;
		}
	return false;
}

void debug_remove_all(struct debug_guest *guest)
{
	for (unsigned i = 0; i < DEBUG_HARD_POINTS; i++)
		guest->hard[i].used = false;
	for (unsigned i = 0; i < DEBUG_SOFT_POINTS; i++)
		if (guest->soft[i].point.used)
			remove_soft(guest, &guest->soft[i]);
}

/* Fields of DR7 (SDM 17.2.4): what brings a point about, and its length. */
static uint64_t dr7_fields(const struct debug_point *point, unsigned i)
{
	bool execution = point->kind == STUB_BREAK_SOFT || point->kind == STUB_BREAK_HARD;
	uint64_t access = execution ? 0 : point->kind == STUB_WATCH_WRITE ? 1 : 3;
	uint64_t length = execution ? 0 : point->bytes == 8 ? 2 : point->bytes - 1;

	return UINT64_C(2) << 2 * i | (access | length << 2) << (16 + 4 * i);
}

static bool has_soft_points(const struct debug_guest *guest)
{
	for (unsigned i = 0; i < DEBUG_SOFT_POINTS; i++)
		if (guest->soft[i].point.used)
			return true;
	return false;
}

static void tell_kvm(struct debug_guest *guest, unsigned vcpu)
{
	struct kvm_guest_debug debug = {.arch.debugreg[7] = DR7_BASE};
	uint32_t control = 0;

	for (unsigned i = 0; i < DEBUG_HARD_POINTS; i++)
		if (guest->hard[i].used) {
			debug.arch.debugreg[i] = guest->hard[i].address;
			debug.arch.debugreg[7] |= dr7_fields(&guest->hard[i], i);
			control |= KVM_GUESTDBG_USE_HW_BP;
		}
	if (has_soft_points(guest) && !guest->by_port)
		control |= KVM_GUESTDBG_USE_SW_BP;
	if (guest->stepping[vcpu])
		control |= KVM_GUESTDBG_SINGLESTEP;
	if (guest->inject[vcpu])
		control |= KVM_GUESTDBG_INJECT_BP;
	guest->inject[vcpu] = false;
	debug.control = control ? control | KVM_GUESTDBG_ENABLE : 0;
	ioctl(vm_vcpu_descriptor(guest->vm, vcpu), KVM_SET_GUEST_DEBUG, &debug);
}

void debug_prepare(struct debug_guest *guest, const enum stub_go go[STUB_THREADS_MAX])
{
	for (unsigned i = 0; i < vm_vcpus(guest->vm); i++) {
		guest->stepping[i] = go[i] == STUB_STEP;
		vm_hold(guest->vm, i, go[i] == STUB_STAY);
		tell_kvm(guest, i);
	}
}

static bool is_ours(const struct debug_guest *guest, uint64_t address)
{
	for (unsigned i = 0; i < DEBUG_SOFT_POINTS; i++)
		if (guest->soft[i].point.used && guest->soft[i].point.address == address)
			return true;
	return false;
}

/* A vCPU that wrote to the port is past the instruction by now: back to where the breakpoint is. */
static bool step_back(struct debug_guest *guest, unsigned vcpu, uint64_t *address)
{
	int fd = vm_vcpu_descriptor(guest->vm, vcpu);
	struct kvm_regs regs;

	if (ioctl(fd, KVM_GET_REGS, &regs) < 0 || !is_ours(guest, regs.rip - soft_bytes(guest)))
		return false;
	regs.rip -= soft_bytes(guest);
	*address = regs.rip;
	return ioctl(fd, KVM_SET_REGS, &regs) == 0;
}

bool debug_explain(struct debug_guest *guest, unsigned vcpu, const struct kvm_debug_exit_arch *stop,
		   enum stub_stop *why, uint64_t *address)
{
	*address = stop->pc;
	*why = STUB_STOP_STEP;
	if (guest->by_port && stop->exception == VECTOR_BREAKPOINT && !stop->pc) {
		*why = STUB_STOP_SOFT;
		return step_back(guest, vcpu, address);
	}
	if (stop->exception == VECTOR_BREAKPOINT) {
		guest->inject[vcpu] = !is_ours(guest, stop->pc);
		*why = STUB_STOP_SOFT;
		return !guest->inject[vcpu];
	}
	for (unsigned i = 0; i < DEBUG_HARD_POINTS; i++)
		if (stop->dr6 >> i & 1 && guest->hard[i].used) {
			*why = (enum stub_stop)(STUB_STOP_SOFT + (int)guest->hard[i].kind);
			*address = guest->hard[i].address;
			break;
		}
	return true;
}
