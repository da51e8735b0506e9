/* SPDX-License-Identifier: Apache-2.0 */
/* How a guest's CPUs differ from what KVM offers on this host: CPUID bits, MSRs, and the capabilities it relies on. */
#ifndef RIFFLE_MONITOR_CPU_CONFIG_H
#define RIFFLE_MONITOR_CPU_CONFIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <riffle/error.h>

enum cpu_register { CPU_EAX, CPU_EBX, CPU_ECX, CPU_EDX };

/* The bits of `filter` in one register of one CPUID leaf become those of `value`. */
struct cpu_cpuid_modifier {
	uint32_t leaf, subleaf;
	enum cpu_register reg;
	uint32_t filter, value;
};

/* The same of an MSR. */
struct cpu_msr_modifier {
	uint32_t index;
	uint64_t filter, value;
};

/* A KVM capability that must be there; or one that is expected otherwise and need not be (`!ID` in files). */
struct cpu_capability {
	uint32_t id;
	bool waived;
};

/* Firecracker's static templates: what a model of CPU shows to guests that are moved between models. */
enum cpu_template {
	CPU_TEMPLATE_NONE,
	CPU_TEMPLATE_T2,
	CPU_TEMPLATE_T2S,
	CPU_TEMPLATE_T2CL,
	CPU_TEMPLATE_T2A,
	CPU_TEMPLATE_C3,
	CPU_TEMPLATE_V1N1, /* of Arm hosts: never fits here */
};

/* The template first, then the modifiers. Arrays stay the caller's, as long as the machine. */
struct cpu_config {
	enum cpu_template template;
	const struct cpu_cpuid_modifier *cpuid;
	size_t cpuid_count;
	const struct cpu_msr_modifier *msrs;
	size_t msr_count;
	const struct cpu_capability *capabilities;
	size_t capability_count;
};

/*
 * Reads "0b" and then 0, 1 (replaced bits) and x (bits left alone), most significant first, with underscores between
 * them as one likes; at most `bits` of them, and those that are missing are left alone. False: it is not that.
 */
bool cpu_bitmap_parse(const char *text, unsigned bits, uint64_t *filter, uint64_t *value);

/* "T2" and so on; NULL for a value that is none. */
const char *cpu_template_name(enum cpu_template template);

/*
 * The template's own modifiers, put into *config (whose `template` is left). Errors: UNSUPPORTED, when this host's CPU
 * is none of those that the template is for.
 */
int cpu_template_get(struct cpu_config *config, enum cpu_template template, struct riffle_error *error);
/* The same whatever the host is. */
void cpu_template_modifiers(struct cpu_config *config, enum cpu_template template);

#endif
