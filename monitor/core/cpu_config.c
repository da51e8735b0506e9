/* SPDX-License-Identifier: Apache-2.0 */
/* CPU configuration: the bitmap syntax of configuration files, and Firecracker's static templates as data. */
#include "monitor/core/cpu_config.h"

#include <cpuid.h>
#include <string.h>

#include "common/fail.h"

bool cpu_bitmap_parse(const char *text, unsigned bits, uint64_t *filter, uint64_t *value)
{
	uint64_t known = 0, set = 0;
	unsigned count = 0;

	if (text[0] != '0' || text[1] != 'b')
		return false;
	for (text += 2; *text; text++) {
		if (*text == '_')
			continue;
		if (count++ == bits || !strchr("01x", *text))
			return false;
		known = known << 1 | (*text != 'x');
		set = set << 1 | (*text == '1');
	}
	*filter = known;
	*value = set;
	return count != 0;
}

/*
 * Each template hides the differences between the CPU models it covers, and features that any of them lacks. Bits are
 * named by the Intel SDM, volume 2A, CPUID, and AMD's APM, volume 3, appendix E. MSR 0x10a is IA32_ARCH_CAPABILITIES.
 */
static const struct cpu_cpuid_modifier t2[] = {
    {0x1, 0, CPU_EAX, 0x0fff3fff, 0x000306f2},        {0x1, 0, CPU_ECX, 0x0004cdfc, 0x00000000},
    {0x1, 0, CPU_EDX, 0xe8641080, 0x00001080},        {0x7, 0, CPU_EBX, 0xffefda14, 0x00000200},
    {0x7, 0, CPU_ECX, 0x40415f5e, 0x00000000},        {0x7, 0, CPU_EDX, 0x0000011c, 0x00000000},
    {0xd, 0, CPU_EAX, 0x000002f8, 0x00000000},        {0xd, 1, CPU_EAX, 0x0000000e, 0x00000000},
    {0x80000001, 0, CPU_ECX, 0x20000100, 0x00000000}, {0x80000001, 0, CPU_EDX, 0x04000000, 0x00000000},
    {0x80000008, 0, CPU_EBX, 0x00000200, 0x00000000},
};

static const struct cpu_cpuid_modifier t2cl[] = {
    {0x1, 0, CPU_EAX, 0x0fff3fff, 0x000306f2},        {0x1, 0, CPU_ECX, 0x0004cdfc, 0x00000000},
    {0x1, 0, CPU_EDX, 0xe8641080, 0x00001080},        {0x7, 0, CPU_EBX, 0xffefda14, 0x00000200},
    {0x7, 0, CPU_ECX, 0x40415f5e, 0x00000000},        {0x7, 0, CPU_EDX, 0x0000011c, 0x00000000},
    {0xd, 0, CPU_EAX, 0x000002f8, 0x00000000},        {0xd, 1, CPU_EAX, 0x0000000e, 0x00000000},
    {0x80000001, 0, CPU_ECX, 0x200001c0, 0x00000000}, {0x80000001, 0, CPU_EDX, 0x07c00000, 0x00000000},
    {0x80000008, 0, CPU_EBX, 0x00000200, 0x00000000},
};

static const struct cpu_cpuid_modifier t2a[] = {
    {0x1, 0, CPU_EAX, 0x0fff3fff, 0x000306f2},        {0x1, 0, CPU_ECX, 0x0004cdfc, 0x00000000},
    {0x1, 0, CPU_EDX, 0xe8641080, 0x00001080},        {0x7, 0, CPU_EBX, 0xffefda14, 0x00000200},
    {0x7, 0, CPU_ECX, 0x40415f5e, 0x00000000},        {0x7, 0, CPU_EDX, 0x0000011c, 0x00000000},
    {0xd, 0, CPU_EAX, 0x000002f8, 0x00000000},        {0xd, 1, CPU_EAX, 0x0000000e, 0x00000000},
    {0x80000001, 0, CPU_ECX, 0x200001c0, 0x00000000}, {0x80000001, 0, CPU_EDX, 0x07c00000, 0x00000000},
    {0x80000008, 0, CPU_EBX, 0x000c0205, 0x000c0000},
};

static const struct cpu_cpuid_modifier c3[] = {
    {0x1, 0, CPU_EAX, 0x0fff3fff, 0x000306e4},        {0x1, 0, CPU_ECX, 0x0040dd3c, 0x00000000},
    {0x1, 0, CPU_EDX, 0xa8641080, 0x00001080},        {0x7, 0, CPU_EBX, 0xffafdd3c, 0x00000000},
    {0x7, 0, CPU_ECX, 0x4041481e, 0x00000000},        {0x7, 0, CPU_EDX, 0x0000000c, 0x00000000},
    {0xd, 0, CPU_EAX, 0x000002f8, 0x00000000},        {0xd, 1, CPU_EAX, 0x0000000e, 0x00000000},
    {0x80000001, 0, CPU_ECX, 0x00000120, 0x00000000}, {0x80000001, 0, CPU_EDX, 0x04000000, 0x00000000},
};

static const struct cpu_msr_modifier t2s_msrs[] = {{0x10a, 0xffffffffffffffff, 0x0c0a0c4c}};
static const struct cpu_msr_modifier t2cl_msrs[] = {{0x10a, 0xffffffffe2f51e00, 0x00000000}};

/* CPUID leaf 1, EAX: the host's family, model and stepping */
#define SKYLAKE 0x00050654u
#define CASCADE_LAKE 0x00050657u
#define ICE_LAKE 0x000606a6u
#define MILAN 0x00a00f11u
#define SIGNATURE_BITS 0x0fff0fffu

#define COUNT(list) (sizeof(list) / sizeof *(list))

static const struct template
{
	const char *name;
	bool amd;
	uint32_t hosts[3];
	const struct cpu_cpuid_modifier *cpuid;
	size_t cpuid_count;
	const struct cpu_msr_modifier *msrs;
	size_t msr_count;
}
templates[] = {
    [CPU_TEMPLATE_NONE] = {.name = "None"},
    [CPU_TEMPLATE_T2] = {"T2", false, {SKYLAKE, CASCADE_LAKE, ICE_LAKE}, t2, COUNT(t2), NULL, 0},
    [CPU_TEMPLATE_T2S] = {"T2S", false, {SKYLAKE, CASCADE_LAKE}, t2, COUNT(t2), t2s_msrs, COUNT(t2s_msrs)},
    [CPU_TEMPLATE_T2CL] = {"T2CL", false, {CASCADE_LAKE, ICE_LAKE}, t2cl, COUNT(t2cl), t2cl_msrs, COUNT(t2cl_msrs)},
    [CPU_TEMPLATE_T2A] = {"T2A", true, {MILAN}, t2a, COUNT(t2a), NULL, 0},
    [CPU_TEMPLATE_C3] = {"C3", false, {SKYLAKE, CASCADE_LAKE, ICE_LAKE}, c3, COUNT(c3), NULL, 0},
    [CPU_TEMPLATE_V1N1] = {.name = "V1N1"},
};

const char *cpu_template_name(enum cpu_template template)
{
	return template <COUNT(templates) ? templates[template].name : NULL;
}

int cpu_template_check(enum cpu_template template, const char vendor[12], uint32_t signature,
		       struct riffle_error *error)
{
	const struct template *t = &templates[template];

	if (memcmp(vendor, t->amd ? "AuthenticAMD" : "GenuineIntel", 12))
		return riffle_fail(error, RIFFLE_ERR_UNSUPPORTED, "cpu_template", "is for CPUs of a different vendor");
	signature &= SIGNATURE_BITS;
	for (size_t i = 0; i < COUNT(t->hosts); i++)
		if (t->hosts[i] && t->hosts[i] == signature)
			return 0;
	return riffle_fail_found(error, RIFFLE_ERR_UNSUPPORTED, "cpu_template",
				 "is for other models of CPU than this host's", signature);
}

static int check_host(enum cpu_template template, struct riffle_error *error)
{
	unsigned eax = 0, ebx, ecx, edx, text[3] = {0};

	__get_cpuid(0, &eax, &text[0], &text[2], &text[1]);
	__get_cpuid(1, &eax, &ebx, &ecx, &edx);
	return cpu_template_check(template, (const char *)text, eax, error);
}

void cpu_template_modifiers(struct cpu_config *config, enum cpu_template template)
{
	config->cpuid = templates[template].cpuid;
	config->cpuid_count = templates[template].cpuid_count;
	config->msrs = templates[template].msrs;
	config->msr_count = templates[template].msr_count;
}

int cpu_template_get(struct cpu_config *config, enum cpu_template template, struct riffle_error *error)
{
	int status = 0;

	if (template >= COUNT(templates))
		return riffle_fail_found(error, RIFFLE_ERR_ARGUMENT, "cpu_template", "is none that is known", template);
	if (template == CPU_TEMPLATE_V1N1)
		return riffle_fail(error, RIFFLE_ERR_UNSUPPORTED, "cpu_template", "V1N1 is for Arm hosts");
	if (template != CPU_TEMPLATE_NONE)
		status = check_host(template, error);
	if (!status)
		cpu_template_modifiers(config, template);
	return status;
}
