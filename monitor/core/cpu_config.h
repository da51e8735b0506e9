/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How a guest's CPUs differ from what KVM offers on this host: CPUID bits, MSRs, and the capabilities the configuration
 * relies on.
 */
#ifndef RIFFLE_MONITOR_CPU_CONFIG_H
#define RIFFLE_MONITOR_CPU_CONFIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <riffle/error.h>

enum cpu_register { CPU_EAX, CPU_EBX, CPU_ECX, CPU_EDX };

/* Replaces the bits of `filter` in one register of one CPUID leaf by those of `value`. */
struct cpu_cpuid_modifier {
	uint32_t leaf, subleaf;
	enum cpu_register reg;
	uint32_t filter, value;
};

/* The same for an MSR. */
struct cpu_msr_modifier {
	uint32_t index;
	uint64_t filter, value;
};

/* A KVM capability to require, or one of those required by default to waive (`!ID` in files). */
struct cpu_capability {
	uint32_t id;
	bool waived;
};

/* Firecracker's static templates, which hide differences between CPU models from guests that move between them. */
enum cpu_template {
	CPU_TEMPLATE_NONE,
	CPU_TEMPLATE_T2,
	CPU_TEMPLATE_T2S,
	CPU_TEMPLATE_T2CL,
	CPU_TEMPLATE_T2A,
	CPU_TEMPLATE_C3,
	CPU_TEMPLATE_V1N1, /* for Arm hosts: never applies here */
};

/*
 * The template is applied first, then the modifiers. The caller owns the arrays and keeps them as long as the machine.
 */
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
 * Parses "0b" followed by 0, 1 (replaced bits) and x (unchanged bits), most significant first, with optional
 * underscores; at most `bits` of them, missing ones are unchanged. False: bad syntax.
 */
bool cpu_bitmap_parse(const char *text, unsigned bits, uint64_t *filter, uint64_t *value);

/* "T2" and so on; NULL for an invalid value. */
const char *cpu_template_name(enum cpu_template template);

/*
 * Puts the template's own modifiers into *config (whose `template` is unchanged). Errors: UNSUPPORTED, if the template
 * is not for this host's CPU.
 */
int cpu_template_get(struct cpu_config *config, enum cpu_template template, struct riffle_error *error);
/* The same, regardless of the host's CPU. */
void cpu_template_modifiers(struct cpu_config *config, enum cpu_template template);
/* Whether a template of CPUID modifiers is for a CPU with this vendor and leaf 1's EAX. Errors: UNSUPPORTED. */
int cpu_template_check(enum cpu_template template, const char vendor[12], uint32_t signature,
		       struct riffle_error *error);

#endif
