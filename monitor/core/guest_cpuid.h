/* SPDX-License-Identifier: Apache-2.0 */
/* The CPUID a guest sees: what KVM supports, one package of single-threaded cores, no nested virtualisation. */
#ifndef RIFFLE_MONITOR_GUEST_CPUID_H
#define RIFFLE_MONITOR_GUEST_CPUID_H

#include <linux/kvm.h>
#include <stdbool.h>

#include <riffle/error.h>

#include "monitor/core/cpu_config.h"

#define GUEST_CPUID_ENTRIES 192u

/* struct kvm_cpuid2 with room for its entries */
struct guest_cpuid {
	uint32_t nent;
	uint32_t padding;
	struct kvm_cpuid_entry2 entries[GUEST_CPUID_ENTRIES];
};

/*
 * Gets KVM's supported CPUID, applies the template and the modifiers of *config, and adjusts the result for `vcpus`
 * vCPUs. `tsc_deadline`: KVM's LAPIC has that timer mode. Errors: IO, UNSUPPORTED (a leaf that KVM does not have; the
 * template is for other hosts).
 */
int guest_cpuid_read(struct guest_cpuid *cpuid, int kvm_fd, const struct cpu_config *config, unsigned vcpus,
		     bool tsc_deadline, struct riffle_error *error);

/* Applies only the modifiers. Errors: UNSUPPORTED, with the leaf. */
int guest_cpuid_modify(struct guest_cpuid *cpuid, const struct cpu_cpuid_modifier *modifiers, size_t count,
		       struct riffle_error *error);

/* Makes only the adjustment. */
void guest_cpuid_adjust(struct guest_cpuid *cpuid, unsigned vcpus, bool tsc_deadline);

/*
 * Reports the TSC's frequency where a guest without kvm-clock looks for it: leaves 0x15 and 0x16 on Intel, and the
 * hypervisor's timing leaf 0x40000010, which many systems support because of VMware. 0 kHz changes nothing.
 */
void guest_cpuid_set_tsc(struct guest_cpuid *cpuid, uint32_t tsc_khz);

/* Puts one vCPU's APIC id into every leaf that shows it. */
void guest_cpuid_set_apic_id(struct guest_cpuid *cpuid, unsigned apic_id);

/* Whether the guest's CPUID has 1 GiB pages. */
bool guest_cpuid_has_gib_pages(const struct guest_cpuid *cpuid);

#endif
