/* SPDX-License-Identifier: Apache-2.0 */
/* The state of vCPUs against a KVM of the test's own: every part of it, every refusal, every processor feature. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <errno.h>
#include <linux/kvm.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

#include <cmocka.h>

#include "common/bytes.h"
#include "monitor/core/internal.h"
#include "monitor/snapshot/components.h"

#define FIRST_FD 1000
#define VCPUS 2
#define MSRS 600
#define XSAVE 4096
#define TSC 0x10u
#define TSC_DEADLINE 0x6e0u

struct msrs {
	uint32_t count, padding;
	struct kvm_msr_entry entry[];
};

/* What a vCPU of it holds; an MSR that is not there is refused. */
static struct fake {
	struct kvm_mp_state mp_state;
	struct kvm_regs regs;
	struct kvm_sregs sregs;
	struct kvm_debugregs debug;
	struct kvm_lapic_state lapic;
	struct kvm_vcpu_events events;
	struct kvm_fpu fpu;
	struct kvm_xcrs xcrs;
	uint8_t xsave[XSAVE];
	int tsc_khz;
	unsigned msrs;
	struct kvm_msr_entry msr[MSRS];
	uint32_t fixed_msr; /* cannot be set */
	uint32_t cpuid_entries;
} fakes[VCPUS];

static unsigned long calls[256], failing;
static unsigned call_count;
static int failing_errno;

static struct kvm_msr_entry *find_msr(struct fake *fake, uint32_t index)
{
	for (unsigned i = 0; i < fake->msrs; i++)
		if (fake->msr[i].index == index)
			return &fake->msr[i];
	return NULL;
}

static int access_msrs(struct fake *fake, struct msrs *msrs, bool write)
{
	assert_in_range(msrs->count, 1, 64);
	for (uint32_t i = 0; i < msrs->count; i++) {
		assert_int_not_equal(msrs->entry[i].index, 0);
		struct kvm_msr_entry *msr = find_msr(fake, msrs->entry[i].index);

		if (!msr || (write && msr->index == fake->fixed_msr))
			return (int)i;
		if (write)
			msr->data = msrs->entry[i].data;
		else
			msrs->entry[i].data = msr->data;
	}
	return (int)msrs->count;
}

/* In place of the C library's. */
int ioctl(int fd, unsigned long request, ...)
{
	va_list list;

	va_start(list, request);
	void *data = va_arg(list, void *);

	va_end(list);
	assert_in_range(fd, FIRST_FD, FIRST_FD + VCPUS - 1);
	struct fake *f = &fakes[fd - FIRST_FD];
	const struct {
		unsigned long get, set;
		void *at;
		size_t bytes;
	} parts[] = {
	    {KVM_GET_MP_STATE, KVM_SET_MP_STATE, &f->mp_state, sizeof f->mp_state},
	    {KVM_GET_REGS, KVM_SET_REGS, &f->regs, sizeof f->regs},
	    {KVM_GET_SREGS, KVM_SET_SREGS, &f->sregs, sizeof f->sregs},
	    {KVM_GET_DEBUGREGS, KVM_SET_DEBUGREGS, &f->debug, sizeof f->debug},
	    {KVM_GET_LAPIC, KVM_SET_LAPIC, &f->lapic, sizeof f->lapic},
	    {KVM_GET_VCPU_EVENTS, KVM_SET_VCPU_EVENTS, &f->events, sizeof f->events},
	    {KVM_GET_FPU, KVM_SET_FPU, &f->fpu, sizeof f->fpu},
	    {KVM_GET_XCRS, KVM_SET_XCRS, &f->xcrs, sizeof f->xcrs},
	    {KVM_GET_XSAVE, KVM_SET_XSAVE, f->xsave, XSAVE},
	    {KVM_GET_XSAVE2, 0, f->xsave, XSAVE},
	};

	if (call_count < 256)
		calls[call_count++] = request;
	if (request == failing) {
		errno = failing_errno;
		return -1;
	}
	for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
		if (request == parts[i].get)
			memcpy(data, parts[i].at, parts[i].bytes);
		else if (request == parts[i].set)
			memcpy(parts[i].at, data, parts[i].bytes);
		else
			continue;
		return 0;
	}
	switch (request) {
	case KVM_GET_TSC_KHZ:
		return f->tsc_khz;
	case KVM_SET_TSC_KHZ:
		f->tsc_khz = (int)(uintptr_t)data;
		return 0;
	case KVM_GET_MSRS:
		return access_msrs(f, data, false);
	case KVM_SET_MSRS:
		return access_msrs(f, data, true);
	case KVM_SET_CPUID2:
		f->cpuid_entries = ((struct kvm_cpuid2 *)data)->nent;
		return 0;
	case KVM_KVMCLOCK_CTRL:
		errno = EINVAL;
		return -1;
	}
	fail_msg("request 0x%lx", request);
	return -1;
}

static struct vm vm;

static unsigned called(unsigned long request)
{
	unsigned count = 0;

	for (unsigned i = 0; i < call_count; i++)
		count += calls[i] == request;
	return count;
}

/* A machine of one or two vCPUs, each part of whose state has bytes of its own. */
static void begin(unsigned vcpus)
{
	memset(&vm, 0, sizeof vm);
	memset(fakes, 0, sizeof fakes);
	failing = 0;
	call_count = 0;
	vm.vcpus_made = vcpus;
	vm.can = (struct vm_capabilities){.xsave_bytes = XSAVE, .xcrs = true};
	vm.cpuid.nent = 1;
	vm.cpuid.entries[0] = (struct kvm_cpuid_entry2){.function = 0x40000000, .eax = 7};
	/* more than two batches, of which every seventh cannot be read */
	vm.can.msrs = 150;
	for (unsigned i = 0; i < 150; i++)
		vm.can.msr[i] = i == 20 ? TSC_DEADLINE : 0x8000 + i;
	for (unsigned i = 0; i < vcpus; i++) {
		struct fake *f = &fakes[i];
		uint8_t mark = (uint8_t)(0x10 + 0x40 * i);

		vm.vcpus[i].vm = &vm;
		vm.vcpus[i].id = i;
		vm.vcpus[i].fd = FIRST_FD + (int)i;
		f->mp_state.mp_state = KVM_MP_STATE_HALTED;
		memset(&f->regs, mark + 1, sizeof f->regs);
		memset(&f->sregs, mark + 2, sizeof f->sregs);
		memset(&f->debug, mark + 3, sizeof f->debug);
		memset(&f->events, mark + 5, sizeof f->events);
		memset(&f->fpu, mark + 6, sizeof f->fpu);
		memset(&f->xcrs, mark + 7, sizeof f->xcrs);
		memset(f->xsave, mark + 8, sizeof f->xsave);
		f->tsc_khz = 4000000;
		f->msr[f->msrs++] = (struct kvm_msr_entry){.index = TSC, .data = 777};
		for (unsigned j = 0; j < 150; j++)
			if (j % 7)
				f->msr[f->msrs++] =
				    (struct kvm_msr_entry){.index = vm.can.msr[j], .data = 0x1000 * (i + 1) + j};
		for (uint32_t j = 0x200; j < 0x210; j++)
			f->msr[f->msrs++] = (struct kvm_msr_entry){.index = j, .data = j * 3 + i};
		for (uint32_t j = 0x250; j < 0x270; j++)
			if (j == 0x250 || j == 0x258 || j == 0x259 || j >= 0x268)
				f->msr[f->msrs++] = (struct kvm_msr_entry){.index = j, .data = j * 5 + i};
		f->msr[f->msrs++] = (struct kvm_msr_entry){.index = 0x2ff, .data = 0xc06};
	}
}

static struct state_file save(struct state_writer *writer)
{
	struct state_file file;

	assert_int_equal(vcpus_save(&vm, writer, NULL), 0);
	assert_int_equal(state_finish(writer, NULL), 0);
	assert_int_equal(state_open(&file, writer->data, writer->bytes, NULL), 0);
	return file;
}

/* Every part arrives in another vCPU, in the order in which KVM needs them. */
static void whole_state_round_trip(void **state)
{
	static const unsigned long order[] = {KVM_SET_CPUID2, KVM_SET_MP_STATE,    KVM_SET_REGS,      KVM_SET_SREGS,
					      KVM_SET_XSAVE,  KVM_SET_XCRS,        KVM_SET_DEBUGREGS, KVM_SET_LAPIC,
					      KVM_SET_MSRS,   KVM_SET_VCPU_EVENTS, KVM_KVMCLOCK_CTRL};
	static struct fake before[VCPUS];

	(void)state;
	for (unsigned kind = 0; kind < 4; kind++) {
		struct state_writer writer = {0};
		const bool xsave = kind != 1, xcrs = kind != 2;

		begin(VCPUS);
		vm.can.xsave2 = kind == 3;
		vm.can.xcrs = xcrs;
		if (!xsave)
			vm.can.xsave_bytes = 0;
		struct state_file file = save(&writer);

		assert_int_equal(called(KVM_GET_MP_STATE), VCPUS);
		assert_int_equal(calls[1], KVM_GET_MP_STATE); /* which takes in what waits */
		assert_int_equal(called(KVM_GET_XSAVE2), kind == 3 ? VCPUS : 0);
		assert_int_equal(called(KVM_GET_XSAVE), kind == 3 || !xsave ? 0 : VCPUS);
		memcpy(before, fakes, sizeof fakes);
		for (unsigned i = 0; i < VCPUS; i++) {
			memset(&fakes[i], 0, offsetof(struct fake, tsc_khz));
			for (unsigned j = 0; j < fakes[i].msrs; j++)
				fakes[i].msr[j].data = 0;
			fakes[i].cpuid_entries = 0;
		}
		call_count = 0;
		assert_int_equal(vcpus_restore(&vm, &file, NULL), 0);
		for (unsigned i = 0; i < VCPUS; i++) {
			assert_memory_equal(&fakes[i].regs, &before[i].regs, sizeof before[i].regs);
			assert_memory_equal(&fakes[i].sregs, &before[i].sregs, sizeof before[i].sregs);
			assert_memory_equal(&fakes[i].debug, &before[i].debug, sizeof before[i].debug);
			assert_memory_equal(&fakes[i].lapic, &before[i].lapic, sizeof before[i].lapic);
			assert_memory_equal(&fakes[i].events, &before[i].events, sizeof before[i].events);
			assert_int_equal(fakes[i].mp_state.mp_state, KVM_MP_STATE_HALTED);
			assert_memory_equal(fakes[i].msr, before[i].msr, sizeof before[i].msr);
			assert_int_equal(fakes[i].cpuid_entries, 1);
			/* one or the other holds the FPU */
			if (xsave)
				assert_memory_equal(fakes[i].xsave, before[i].xsave, XSAVE);
			else
				assert_memory_equal(&fakes[i].fpu, &before[i].fpu, sizeof before[i].fpu);
			if (xcrs)
				assert_memory_equal(&fakes[i].xcrs, &before[i].xcrs, sizeof before[i].xcrs);
		}
		assert_int_equal(called(KVM_SET_XSAVE), xsave ? VCPUS : 0);
		assert_int_equal(called(KVM_SET_FPU), xsave ? 0 : VCPUS);
		assert_int_equal(called(KVM_SET_XCRS), xcrs ? VCPUS : 0);
		assert_int_equal(called(KVM_SET_TSC_KHZ), 0);
		assert_int_equal(called(KVM_KVMCLOCK_CTRL), VCPUS);
		if (kind == 0)
			for (unsigned i = 0, at = 0; i < sizeof order / sizeof *order; i++) {
				while (at < call_count && calls[at] != order[i])
					at++;
				assert_true(at < call_count);
			}
		state_writer_free(&writer);
	}
}

/* The name of each call that fails is told, with why; a state that KVM refuses is a bad file. */
static void calls_that_fail(void **state)
{
	static const struct {
		unsigned long get, set;
		const char *got, *sets;
	} rows[] = {
	    {KVM_GET_MP_STATE, KVM_SET_MP_STATE, "KVM_GET_MP_STATE", "KVM_SET_MP_STATE"},
	    {KVM_GET_REGS, KVM_SET_REGS, "KVM_GET_REGS", "KVM_SET_REGS"},
	    {KVM_GET_SREGS, KVM_SET_SREGS, "KVM_GET_SREGS", "KVM_SET_SREGS"},
	    {KVM_GET_DEBUGREGS, KVM_SET_DEBUGREGS, "KVM_GET_DEBUGREGS", "KVM_SET_DEBUGREGS"},
	    {KVM_GET_LAPIC, KVM_SET_LAPIC, "KVM_GET_LAPIC", "KVM_SET_LAPIC"},
	    {KVM_GET_VCPU_EVENTS, KVM_SET_VCPU_EVENTS, "KVM_GET_VCPU_EVENTS", "KVM_SET_VCPU_EVENTS"},
	    {KVM_GET_FPU, 0, "KVM_GET_FPU", NULL},
	    {KVM_GET_XSAVE, KVM_SET_XSAVE, "KVM_GET_XSAVE", "KVM_SET_XSAVE"},
	    {0, KVM_SET_XCRS, NULL, "KVM_SET_XCRS"},
	    {0, KVM_SET_CPUID2, NULL, "KVM_SET_CPUID2"},
	    {KVM_GET_MSRS, 0, "KVM_GET_MSRS", NULL},
	};
	struct riffle_error error;

	(void)state;
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		struct state_writer writer = {0};

		begin(1);
		if (rows[i].got) {
			failing = rows[i].get;
			failing_errno = EIO;
			assert_int_not_equal(vcpus_save(&vm, &writer, &error), 0);
			assert_string_equal(error.field, rows[i].got);
			assert_int_equal(error.sys_errno, EIO);
			state_writer_free(&writer);
			writer = (struct state_writer){0};
		}
		begin(1);
		struct state_file file = save(&writer);

		for (unsigned refused = 0; rows[i].sets && refused < 2; refused++) {
			failing = rows[i].set;
			failing_errno = refused ? EINVAL : EFAULT;
			int status = vcpus_restore(&vm, &file, &error);

			assert_int_not_equal(status, 0);
			assert_int_equal(status == RIFFLE_ERR_FORMAT, refused);
			assert_string_equal(error.field, rows[i].sets);
			if (!refused)
				assert_int_equal(error.sys_errno, EFAULT);
		}
		state_writer_free(&writer);
	}
	/* MSRs at all, and the XCRs, which are not needed */
	struct state_writer writer = {0}, second = {0};

	begin(1);
	struct state_file file = save(&writer);

	failing = KVM_SET_MSRS;
	failing_errno = EFAULT;
	assert_int_not_equal(vcpus_restore(&vm, &file, &error), 0);
	assert_string_equal(error.field, "KVM_SET_MSRS");
	begin(1);
	failing = KVM_GET_XCRS;
	file = save(&second);
	failing = 0;
	call_count = 0;
	assert_int_equal(vcpus_restore(&vm, &file, &error), 0);
	assert_int_equal(called(KVM_SET_XCRS), 0);
	state_writer_free(&writer);
	state_writer_free(&second);
}

/* Each bit of each leaf that tells of an instruction: the host must have it, except where it follows from registers. */
static void processor_features(void **state)
{
	static const struct {
		uint32_t leaf, subleaf;
		unsigned reg;
		uint32_t mask;
		const char *name;
	} rows[] = {
	    {1, 0, 2, ~(1u << 27), "cpuid 1.ecx"},
	    {1, 0, 3, UINT32_MAX, "cpuid 1.edx"},
	    {7, 0, 1, UINT32_MAX, "cpuid 7.ebx"},
	    {7, 0, 2, ~(1u << 4), "cpuid 7.ecx"},
	    {7, 0, 3, UINT32_MAX, "cpuid 7.edx"},
	    {7, 1, 0, UINT32_MAX, "cpuid 7.1.eax"},
	    {0xd, 0, 0, UINT32_MAX, "cpuid 0xd.eax"},
	    {0xd, 1, 0, UINT32_MAX, "cpuid 0xd.1.eax"},
	    {0x80000001, 0, 2, UINT32_MAX, "cpuid 0x80000001.ecx"},
	    {0x80000001, 0, 3, UINT32_MAX, "cpuid 0x80000001.edx"},
	    {1, 0, 0, 0, NULL}, /* these say nothing of instructions */
	    {7, 0, 0, 0, NULL},
	    {0xd, 0, 1, 0, NULL},
	    {0xd, 2, 0, 0, NULL},
	    {0x80000008, 0, 0, 0, NULL},
	};
	struct riffle_error error;

	(void)state;
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		for (unsigned bit = 0; bit < 32; bit += 1) {
			struct state_writer writer = {0};

			begin(1);
			vm.can.msrs = 0;
			vm.cpuid.nent = 2;
			struct kvm_cpuid_entry2 *entry = &vm.cpuid.entries[1];
			uint32_t *registers[] = {&entry->eax, &entry->ebx, &entry->ecx, &entry->edx};

			*entry = (struct kvm_cpuid_entry2){.function = rows[i].leaf,
							   .index = rows[i].subleaf,
							   .eax = 0,
							   .flags = rows[i].subleaf != 0};
			*registers[rows[i].reg] = 1u << bit;
			struct state_file file = save(&writer);
			const struct guest_cpuid same = vm.cpuid;
			bool needed = rows[i].mask >> bit & 1;

			for (unsigned host = 0; host < 4; host++) {
				vm.cpuid = same;
				if (host == 1) /* another bit, everything else */
					*registers[rows[i].reg] = ~(1u << bit);
				if (host == 2)
					for (unsigned reg = 0; reg < 4; reg++)
						*registers[reg] = reg == rows[i].reg ? 0 : UINT32_MAX;
				if (host == 3) /* no such leaf */
					vm.cpuid.nent = 1;
				int status = vcpus_restore(&vm, &file, &error);

				if (status != (host && needed ? RIFFLE_ERR_UNSUPPORTED : 0))
					fail_msg("row %zu, bit %u, host %u: %d", i, bit, host, status);
				if (status) {
					assert_string_equal(error.field, rows[i].name);
					assert_int_equal(error.found, 1u << bit);
				} else { /* the guest's, not the host's */
					assert_memory_equal(&vm.cpuid.entries[1], &same.entries[1],
							    sizeof same.entries[1]);
				}
			}
			state_writer_free(&writer);
		}
	}
}

/* 0.025 % is no other speed; what is must be scaled, where KVM can. */
static void speeds_of_clocks(void **state)
{
	static const struct {
		int saved, now;
		bool sets;
	} rows[] = {
	    {4000000, 4000000, false}, {4000000, 4001000, false}, {4000000, 4001001, true}, {4000000, 3999000, false},
	    {4000000, 3998999, true},  {4000000, 1, true},        {4000000, 0, false},      {4000000, -1, false},
	    {0, 4000000, false},       {-1, 4000000, false},      {1, 4000000, true},
	};
	struct riffle_error error;

	(void)state;
	for (size_t i = 0; i < 2 * sizeof rows / sizeof *rows; i++) {
		struct state_writer writer = {0};

		begin(1);
		fakes[0].tsc_khz = rows[i / 2].saved;
		struct state_file file = save(&writer);

		fakes[0].tsc_khz = rows[i / 2].now;
		vm.can.tsc_control = i % 2;
		int status = vcpus_restore(&vm, &file, &error);

		assert_int_equal(status, rows[i / 2].sets && !(i % 2) ? RIFFLE_ERR_UNSUPPORTED : 0);
		assert_int_equal(called(KVM_SET_TSC_KHZ), rows[i / 2].sets && i % 2);
		if (status) {
			assert_string_equal(error.field, "tsc_khz");
			assert_int_equal(error.found, rows[i / 2].now);
			assert_int_equal(error.expected, rows[i / 2].saved);
		} else {
			assert_int_equal(fakes[0].tsc_khz, rows[i / 2].sets ? rows[i / 2].saved : rows[i / 2].now);
		}
		if (rows[i / 2].sets && i % 2) {
			failing = KVM_SET_TSC_KHZ;
			fakes[0].tsc_khz = rows[i / 2].now;
			assert_int_equal(vcpus_restore(&vm, &file, &error), RIFFLE_ERR_UNSUPPORTED);
		}
		state_writer_free(&writer);
	}
}

/* An MSR that cannot be set is no matter if it has its value, and those after it are set. */
static void msrs_that_cannot_be_set(void **state)
{
	static const uint32_t fixed[] = {TSC, 0x8001, 0x8000 + 63, 0x8000 + 64, 0x8000 + 149, 0x2ff};
	struct riffle_error error;

	(void)state;
	for (size_t i = 0; i < 2 * sizeof fixed / sizeof *fixed; i++) {
		struct state_writer writer = {0};
		static struct fake before;

		begin(1);
		if (!find_msr(&fakes[0], fixed[i / 2])) /* one of those that cannot be read */
			continue;
		struct state_file file = save(&writer);

		before = fakes[0];
		for (unsigned j = 0; j < fakes[0].msrs; j++)
			if (fakes[0].msr[j].index != fixed[i / 2])
				fakes[0].msr[j].data = 5;
		fakes[0].fixed_msr = fixed[i / 2];
		if (i % 2) {
			find_msr(&fakes[0], fixed[i / 2])->data ^= 1;
			assert_int_equal(vcpus_restore(&vm, &file, &error), RIFFLE_ERR_UNSUPPORTED);
			assert_string_equal(error.field, "KVM_SET_MSRS");
			assert_int_equal(error.found, fixed[i / 2]);
		} else {
			assert_int_equal(vcpus_restore(&vm, &file, &error), 0);
			assert_memory_equal(fakes[0].msr, before.msr, sizeof before.msr);
		}
		state_writer_free(&writer);
	}
}

/* A timer that is due fires after the restore; one that is off, of another kind or in the future stays as it is. */
static void due_timers_are_armed(void **state)
{
	static const struct {
		uint32_t lvt;
		uint64_t deadline, tsc, saved;
	} rows[] = {
	    {2u << 17, 0, 777, 777},
	    {2u << 17 | 0xef, 0, 777, 777},
	    {2u << 17, 5, 777, 5},
	    {2u << 17, 0, 0, 0},
	    {2u << 17 | 1u << 16, 0, 777, 0},
	    {1u << 17, 0, 777, 0},
	    {0, 0, 777, 0},
	    {3u << 17, 0, 777, 0},
	    {2u << 17 | 1u << 12, 0, 1, 1},
	};

	(void)state;
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		struct state_writer writer = {0};

		begin(1);
		vm.can.msr[21] = TSC_DEADLINE; /* the 20th is there as well */
		vm.can.msr[20] = 0x9000;
		find_msr(&fakes[0], TSC)->data = rows[i].tsc;
		fakes[0].msr[fakes[0].msrs++] = (struct kvm_msr_entry){.index = 0x9000, .data = 0};
		struct kvm_msr_entry *deadline = find_msr(&fakes[0], TSC_DEADLINE);

		deadline->data = rows[i].deadline;
		riffle_put32(fakes[0].lapic.regs + 0x320, rows[i].lvt);
		struct state_file file = save(&writer);

		deadline->data = 99;
		find_msr(&fakes[0], 0x9000)->data = 99;
		assert_int_equal(vcpus_restore(&vm, &file, NULL), 0);
		if (deadline->data != rows[i].saved)
			fail_msg("row %zu: %llu", i, (unsigned long long)deadline->data);
		assert_int_equal(find_msr(&fakes[0], 0x9000)->data, 0);
		assert_int_equal(find_msr(&fakes[0], TSC)->data, rows[i].tsc);
		state_writer_free(&writer);
	}
}

/* Without a TSC that can be read nothing is known to be due. */
static void no_timer_is_armed_without_a_clock(void **state)
{
	struct state_writer writer = {0};

	(void)state;
	begin(1);
	find_msr(&fakes[0], TSC)->index = 0x9999;
	struct kvm_msr_entry *deadline = find_msr(&fakes[0], 0x8001);

	deadline->index = TSC_DEADLINE;
	deadline->data = 0;
	vm.can.msr[1] = TSC_DEADLINE;
	riffle_put32(fakes[0].lapic.regs + 0x320, 2u << 17);
	struct state_file file = save(&writer);

	deadline->data = 99;
	assert_int_equal(vcpus_restore(&vm, &file, NULL), 0);
	assert_int_equal(deadline->data, 0);
	state_writer_free(&writer);
}

enum { CPUID, REGS, SREGS, DEBUG, LAPIC, EVENTS, FPU, XSAVE_FIELD, XCRS, MSR_LIST, FIELDS };

/* A section of which each field's size, and the processor's state, are as the test says. */
static int restore_made(const size_t sizes[FIELDS], uint32_t mp_state, struct riffle_error *error)
{
	static const uint8_t zeros[(64 << 10) + 1];
	struct state_writer writer = {0};
	struct state_file file;

	state_begin(&writer, STATE_VCPU, 0, 1);
	state_put32(&writer, mp_state);
	state_put32(&writer, 0);
	for (unsigned i = 0; i < MSR_LIST; i++)
		state_put_block(&writer, zeros, sizes[i]);
	for (size_t i = 0; i < sizes[MSR_LIST]; i += 12) { /* of MSRs that are there */
		uint8_t entry[12] = {0x10};

		for (size_t j = 0; j < 12 && i + j < sizes[MSR_LIST]; j++)
			state_put8(&writer, entry[j]);
	}
	state_end(&writer);
	assert_int_equal(state_finish(&writer, NULL), 0);
	assert_int_equal(state_open(&file, writer.data, writer.bytes, NULL), 0);
	int status = vcpus_restore(&vm, &file, error);

	state_writer_free(&writer);
	return status;
}

static void sizes_of_fields(void **state)
{
	static const size_t right[FIELDS] = {sizeof(struct kvm_cpuid_entry2), sizeof(struct kvm_regs),
					     sizeof(struct kvm_sregs),        sizeof(struct kvm_debugregs),
					     sizeof(struct kvm_lapic_state),  sizeof(struct kvm_vcpu_events),
					     sizeof(struct kvm_fpu),          XSAVE,
					     sizeof(struct kvm_xcrs),         24};
	static const char *const names[FIELDS] = {"cpuid",  "regs", "sregs", "debugregs", "lapic",
						  "events", "fpu",  NULL,    "xcrs",      "msrs"};
	struct riffle_error error;
	size_t sizes[FIELDS];

	(void)state;
	begin(1);
	assert_int_equal(restore_made(right, 0, &error), 0);
	for (unsigned field = 0; field < FIELDS; field++) {
		for (int off = -1; names[field] && off <= 1; off += 2) {
			memcpy(sizes, right, sizeof sizes);
			sizes[field] = (size_t)((ptrdiff_t)sizes[field] + off);
			assert_int_equal(restore_made(sizes, 0, &error), RIFFLE_ERR_FORMAT);
			assert_non_null(strstr(error.field, names[field]));
		}
	}
	/* the XSAVE area is as large as this host's, or not there */
	memcpy(sizes, right, sizeof sizes);
	sizes[XSAVE_FIELD] = XSAVE + 64;
	assert_int_equal(restore_made(sizes, 0, &error), RIFFLE_ERR_UNSUPPORTED);
	assert_string_equal(error.field, "xsave");
	assert_int_equal(error.expected, XSAVE);
	sizes[XSAVE_FIELD] = 0;
	assert_int_equal(restore_made(sizes, 0, &error), 0);
	vm.can.xsave_bytes = 64 << 10;
	sizes[XSAVE_FIELD] = 64 << 10;
	failing = KVM_SET_XSAVE; /* the fake's is smaller */
	failing_errno = EINVAL;
	assert_int_equal(restore_made(sizes, 0, &error), RIFFLE_ERR_FORMAT);
	assert_string_equal(error.field, "KVM_SET_XSAVE");
	failing = 0;
	sizes[XSAVE_FIELD]++;
	assert_int_equal(restore_made(sizes, 0, &error), RIFFLE_ERR_FORMAT);
	assert_non_null(strstr(error.field, "xsave"));
	/* states of a processor that there are */
	begin(1);
	assert_int_equal(restore_made(right, KVM_MP_STATE_SIPI_RECEIVED, &error), 0);
	assert_int_equal(restore_made(right, KVM_MP_STATE_SIPI_RECEIVED + 1, &error), RIFFLE_ERR_FORMAT);
	/* another number of processors, or another one */
	vm.vcpus_made = 2;
	assert_int_equal(restore_made(right, 0, &error), RIFFLE_ERR_FORMAT);
	assert_int_equal(error.found, 1);
	assert_int_equal(error.expected, 2);
	vm.vcpus_made = 1;
	vm.vcpus[0].id = 1;
	assert_int_equal(restore_made(right, 0, &error), RIFFLE_ERR_FORMAT);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(whole_state_round_trip),
	    cmocka_unit_test(calls_that_fail),
	    cmocka_unit_test(processor_features),
	    cmocka_unit_test(speeds_of_clocks),
	    cmocka_unit_test(msrs_that_cannot_be_set),
	    cmocka_unit_test(due_timers_are_armed),
	    cmocka_unit_test(no_timer_is_armed_without_a_clock),
	    cmocka_unit_test(sizes_of_fields),
	};

	return cmocka_run_group_tests_name("vCPUs' state", tests, NULL, NULL);
}
