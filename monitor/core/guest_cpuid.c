/* SPDX-License-Identifier: Apache-2.0 */
/* The CPUID a guest sees: what KVM supports, one package of single-threaded cores, no nested virtualisation. */
#include "monitor/core/guest_cpuid.h"

#include <errno.h>
#include <stddef.h>
#include <sys/ioctl.h>

#include "common/fail.h"

/*
 * Leaves and bits: Intel SDM volume 2A, CPUID; AMD APM volume 3, appendix E. Linux takes the topology from leaf 0xb
 * (0x1f before it) on Intel, from 0x8000001e, 0x80000008 and 0xb on AMD, and checks it against leaf 1: all must agree,
 * or it warns about firmware bugs and may miscount packages.
 */
#define LEAF1_ECX_VMX (1u << 5)
#define LEAF1_ECX_TSC_DEADLINE (1u << 24)
#define LEAF1_ECX_HYPERVISOR (1u << 31)
#define LEAF1_EDX_HTT (1u << 28)
#define EXT1_ECX_CMP_LEGACY (1u << 1)
#define EXT1_ECX_SVM (1u << 2)
#define EXT1_EDX_GIB_PAGES (1u << 26)

_Static_assert(offsetof(struct guest_cpuid, entries) == sizeof(struct kvm_cpuid2), "same as KVM's");

#define TOPOLOGY_SMT 1u
#define TOPOLOGY_CORE 2u

/* number of APIC id bits that select a core within the package */
static unsigned core_bits(unsigned vcpus)
{
	unsigned bits = 0;
	while ((1u << bits) < vcpus)
		bits++;
	return bits;
}

/*
 * Leaves 4 (Intel) and 0x8000001d (AMD) describe one cache per subleaf: the last level is shared, the others are not.
 */
static void adjust_cache(struct kvm_cpuid_entry2 *entry, unsigned vcpus, bool intel)
{
	unsigned type = entry->eax & 0x1f, level = entry->eax >> 5 & 7;
	if (!type)
		return;
	uint32_t eax = entry->eax & 0x3fff;
	if (level >= 3)
		eax |= ((1u << core_bits(vcpus)) - 1) << 14;
	if (intel)
		eax |= ((1u << core_bits(vcpus)) - 1) << 26;
	entry->eax = eax;
}

static void adjust_entry(struct kvm_cpuid_entry2 *entry, unsigned vcpus, bool tsc_deadline)
{
	switch (entry->function) {
	case 0x1:
		entry->ecx &= ~LEAF1_ECX_VMX;
		entry->ecx |= LEAF1_ECX_HYPERVISOR | (tsc_deadline ? LEAF1_ECX_TSC_DEADLINE : 0);
		entry->ebx = (entry->ebx & 0x0000ffff) | (1u << core_bits(vcpus)) << 16;
		entry->edx = (entry->edx & ~LEAF1_EDX_HTT) | (vcpus > 1 ? LEAF1_EDX_HTT : 0);
		break;
	case 0x4:
		adjust_cache(entry, vcpus, true);
		break;
	case 0x5: /* MONITOR/MWAIT would only cause exits */
		entry->eax = entry->ebx = entry->ecx = entry->edx = 0;
		break;
	case 0xa: /* no performance counters: less of KVM for the guest to attack */
		entry->eax = entry->ebx = entry->ecx = entry->edx = 0;
		break;
	case 0x80000001:
		entry->ecx &= ~(EXT1_ECX_SVM | EXT1_ECX_CMP_LEGACY);
		entry->ecx |= vcpus > 1 ? EXT1_ECX_CMP_LEGACY : 0;
		break;
	case 0x80000008:
		entry->ecx = (entry->ecx & ~0xf0ffu) | core_bits(vcpus) << 12 | (vcpus - 1);
		break;
	case 0x8000000a: /* SVM */
		entry->eax = entry->ebx = entry->ecx = entry->edx = 0;
		break;
	case 0x8000001d:
		adjust_cache(entry, vcpus, false);
		break;
	case 0x8000001e: /* one thread per core, one node */
		entry->ebx = entry->ecx = 0;
		break;
	}
}

/* Drops every entry of a leaf, which then reads as zeros. */
static void drop_leaf(struct guest_cpuid *cpuid, uint32_t function)
{
	uint32_t kept = 0;
	for (uint32_t i = 0; i < cpuid->nent; i++)
		if (cpuid->entries[i].function != function)
			cpuid->entries[kept++] = cpuid->entries[i];
	cpuid->nent = kept;
}

static void add_topology(struct guest_cpuid *cpuid, uint32_t subleaf, uint32_t shift, uint32_t count, uint32_t type)
{
	if (cpuid->nent == GUEST_CPUID_ENTRIES)
		return;
	cpuid->entries[cpuid->nent++] = (struct kvm_cpuid_entry2){
	    .function = 0xb,
	    .index = subleaf,
	    .flags = KVM_CPUID_FLAG_SIGNIFCANT_INDEX,
	    .eax = shift,
	    .ebx = count,
	    .ecx = type << 8 | subleaf,
	};
}

static uint32_t highest_basic_leaf(const struct guest_cpuid *cpuid)
{
	for (uint32_t i = 0; i < cpuid->nent; i++)
		if (cpuid->entries[i].function == 0)
			return cpuid->entries[i].eax;
	return 0;
}

void guest_cpuid_adjust(struct guest_cpuid *cpuid, unsigned vcpus, bool tsc_deadline)
{
	for (uint32_t i = 0; i < cpuid->nent; i++)
		adjust_entry(&cpuid->entries[i], vcpus, tsc_deadline);
	drop_leaf(cpuid, 0x1f);
	drop_leaf(cpuid, 0xb);
	if (highest_basic_leaf(cpuid) >= 0xb) {
		add_topology(cpuid, 0, 0, 1, TOPOLOGY_SMT);
		add_topology(cpuid, 1, core_bits(vcpus), vcpus, TOPOLOGY_CORE);
	}
}

void guest_cpuid_set_apic_id(struct guest_cpuid *cpuid, unsigned apic_id)
{
	for (uint32_t i = 0; i < cpuid->nent; i++) {
		struct kvm_cpuid_entry2 *entry = &cpuid->entries[i];
		switch (entry->function) {
		case 0x1:
			entry->ebx = (entry->ebx & 0x00ffffff) | apic_id << 24;
			break;
		case 0xb:
			entry->edx = apic_id;
			break;
		case 0x8000001e:
			entry->eax = apic_id;
			entry->ebx = (entry->ebx & ~0xffu) | apic_id;
			break;
		}
	}
}

bool guest_cpuid_has_gib_pages(const struct guest_cpuid *cpuid)
{
	for (uint32_t i = 0; i < cpuid->nent; i++)
		if (cpuid->entries[i].function == 0x80000001)
			return cpuid->entries[i].edx & EXT1_EDX_GIB_PAGES;
	return false;
}

static struct kvm_cpuid_entry2 *find_leaf(struct guest_cpuid *cpuid, uint32_t function)
{
	for (uint32_t i = 0; i < cpuid->nent; i++)
		if (cpuid->entries[i].function == function)
			return &cpuid->entries[i];
	return NULL;
}

/* Sets a leaf without subleaves, raising the highest leaf of its range if necessary. */
static void set_leaf(struct guest_cpuid *cpuid, const struct kvm_cpuid_entry2 *leaf)
{
	struct kvm_cpuid_entry2 *range = find_leaf(cpuid, leaf->function & 0xffffff00), *old;

	if (!range)
		return;
	old = find_leaf(cpuid, leaf->function);
	if (!old && cpuid->nent == GUEST_CPUID_ENTRIES)
		return;
	*(old ? old : &cpuid->entries[cpuid->nent++]) = *leaf;
	if (range->eax < leaf->function)
		range->eax = leaf->function;
}

static bool is_intel(struct guest_cpuid *cpuid)
{
	const struct kvm_cpuid_entry2 *vendor = find_leaf(cpuid, 0);

	return vendor && vendor->ebx == 0x756e6547 && vendor->edx == 0x49656e69 && vendor->ecx == 0x6c65746e;
}

void guest_cpuid_set_tsc(struct guest_cpuid *cpuid, uint32_t tsc_khz)
{
	if (!tsc_khz)
		return;
	/*
	 * SDM, leaf 0x15: TSC = crystal * ebx / eax. Linux multiplies the crystal's kHz in 32 bits, and also takes the
	 * crystal for the LAPIC timer's clock unless there is a TSC deadline timer, as there is here. Half the TSC's
	 * frequency is exact and fits into 32 bits on every processor.
	 */
	if (is_intel(cpuid)) {
		set_leaf(cpuid,
			 &(struct kvm_cpuid_entry2){
			     .function = 0x15, .eax = 1, .ebx = 2, .ecx = tsc_khz / 2 * 1000 + tsc_khz % 2 * 500});
		set_leaf(cpuid, &(struct kvm_cpuid_entry2){
				    .function = 0x16, .eax = tsc_khz / 1000, .ebx = tsc_khz / 1000, .ecx = 100});
	}
	/* KVM's LAPIC timer runs at 1 GHz */
	set_leaf(cpuid, &(struct kvm_cpuid_entry2){.function = 0x40000010, .eax = tsc_khz, .ebx = 1000000});
}

/* A leaf without subleaves is subleaf 0. */
static struct kvm_cpuid_entry2 *find_subleaf(struct guest_cpuid *cpuid, uint32_t function, uint32_t index)
{
	for (uint32_t i = 0; i < cpuid->nent; i++) {
		struct kvm_cpuid_entry2 *entry = &cpuid->entries[i];
		bool has_index = entry->flags & KVM_CPUID_FLAG_SIGNIFCANT_INDEX;

		if (entry->function == function && (has_index ? entry->index == index : index == 0))
			return entry;
	}
	return NULL;
}

int guest_cpuid_modify(struct guest_cpuid *cpuid, const struct cpu_cpuid_modifier *modifiers, size_t count,
		       struct riffle_error *error)
{
	for (size_t i = 0; i < count; i++) {
		const struct cpu_cpuid_modifier *modifier = &modifiers[i];
		struct kvm_cpuid_entry2 *entry = find_subleaf(cpuid, modifier->leaf, modifier->subleaf);

		if (!entry)
			return riffle_fail_found(error, RIFFLE_ERR_UNSUPPORTED, "cpuid_modifiers",
						 "KVM does not have this leaf and subleaf (found as 32 bits each)",
						 (uint64_t)modifier->leaf << 32 | modifier->subleaf);
		uint32_t *const registers[] = {&entry->eax, &entry->ebx, &entry->ecx, &entry->edx};
		uint32_t *reg = registers[modifier->reg];

		*reg = (*reg & ~modifier->filter) | (modifier->value & modifier->filter);
	}
	return 0;
}

static int configure(struct guest_cpuid *cpuid, const struct cpu_config *config, struct riffle_error *error)
{
	struct cpu_config template;
	int status = cpu_template_get(&template, config->template, error);

	if (!status)
		status = guest_cpuid_modify(cpuid, template.cpuid, template.cpuid_count, error);
	return status ? status : guest_cpuid_modify(cpuid, config->cpuid, config->cpuid_count, error);
}

int guest_cpuid_read(struct guest_cpuid *cpuid, int kvm_fd, const struct cpu_config *config, unsigned vcpus,
		     bool tsc_deadline, struct riffle_error *error)
{
	cpuid->padding = 0;
	/* keep entries free: two for the topology, three for the TSC's frequency */
	cpuid->nent = GUEST_CPUID_ENTRIES - 5;
	if (ioctl(kvm_fd, KVM_GET_SUPPORTED_CPUID, cpuid) < 0)
		return riffle_fail_system(error, errno, "KVM_GET_SUPPORTED_CPUID", "failed");
	int status = configure(cpuid, config, error);

	if (!status)
		guest_cpuid_adjust(cpuid, vcpus, tsc_deadline);
	return status;
}
