/* SPDX-License-Identifier: Apache-2.0 */
/* The CPUID adjustment: every leaf describes the same topology, and hidden features stay hidden. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "monitor/core/guest_cpuid.h"

static const struct kvm_cpuid_entry2 host[] = {
    {.function = 0x0, .eax = 0x1f},
    {.function = 0x1, .eax = 0x00a10f11, .ebx = 0x07100800, .ecx = 0x00000021, .edx = 0x178bfbff},
    {.function = 0x4, .index = 0, .flags = 1, .eax = 0xfc004121},
    {.function = 0x4, .index = 1, .flags = 1, .eax = 0xfc01c163},
    {.function = 0x4, .index = 2, .flags = 1, .eax = 0},
    {.function = 0xa, .eax = 0x07300402, .edx = 0x603},
    {.function = 0xb, .index = 0, .flags = 1, .eax = 1, .ebx = 2, .ecx = 0x100, .edx = 5},
    {.function = 0xb, .index = 1, .flags = 1, .eax = 4, .ebx = 16, .ecx = 0x201, .edx = 5},
    {.function = 0x1f, .index = 0, .flags = 1, .eax = 1, .ebx = 2, .ecx = 0x100, .edx = 5},
    {.function = 0x1f, .index = 1, .flags = 1, .eax = 4, .ebx = 16, .ecx = 0x201, .edx = 5},
    {.function = 0x40000001, .eax = 0x01007efb},
    {.function = 0x80000001, .ecx = 0x75c237ff, .edx = 0x2fd3fbff},
    {.function = 0x80000008, .eax = 0x3030, .ecx = 0x700f},
    {.function = 0x8000000a, .eax = 1, .edx = 0x1ebfbcff},
    {.function = 0x8000001d, .index = 3, .flags = 1, .eax = 0x0001c163},
    {.function = 0x8000001e, .eax = 5, .ebx = 0x102, .ecx = 0x300},
};

static struct guest_cpuid cpuid;

static void make(unsigned vcpus, unsigned apic_id)
{
	memset(&cpuid, 0, sizeof cpuid);
	memcpy(cpuid.entries, host, sizeof host);
	cpuid.nent = sizeof host / sizeof *host;
	guest_cpuid_adjust(&cpuid, vcpus, true);
	guest_cpuid_set_apic_id(&cpuid, apic_id);
}

static const struct kvm_cpuid_entry2 *leaf(uint32_t function, uint32_t index)
{
	static const struct kvm_cpuid_entry2 zeros;
	for (uint32_t i = 0; i < cpuid.nent; i++)
		if (cpuid.entries[i].function == function && cpuid.entries[i].index == index)
			return &cpuid.entries[i];
	return &zeros;
}

static void one_package_of_single_threaded_cores(void **state)
{
	(void)state;
	for (unsigned vcpus = 1; vcpus <= 32; vcpus++) {
		unsigned bits = 0;
		while (1u << bits < vcpus)
			bits++;
		for (unsigned id = 0; id < vcpus; id++) {
			make(vcpus, id);
			assert_int_equal(leaf(1, 0)->ebx >> 24, id);
			assert_int_equal(leaf(1, 0)->ebx >> 16 & 0xff, 1u << bits);
			assert_int_equal(leaf(1, 0)->ebx & 0xffff, 0x0800);
			assert_int_equal(leaf(1, 0)->edx >> 28 & 1, vcpus > 1);
			/* leaf 0xb: SMT level of one thread, core level that spans the package, then nothing */
			assert_int_equal(leaf(0xb, 0)->eax, 0);
			assert_int_equal(leaf(0xb, 0)->ebx, 1);
			assert_int_equal(leaf(0xb, 0)->ecx, 0x100);
			assert_int_equal(leaf(0xb, 1)->eax, bits);
			assert_int_equal(leaf(0xb, 1)->ebx, vcpus);
			assert_int_equal(leaf(0xb, 1)->ecx, 0x201);
			assert_int_equal(leaf(0xb, 0)->edx, id);
			assert_int_equal(leaf(0xb, 1)->edx, id);
			assert_int_equal(id >> leaf(0xb, 1)->eax, 0);
			assert_int_equal(leaf(0x1f, 0)->ebx, 0);
			/* Intel's cache leaf: cores of the package; the first is a core's own, the third shared */
			assert_int_equal(leaf(4, 0)->eax >> 26, (1u << bits) - 1);
			assert_int_equal(leaf(4, 0)->eax >> 14 & 0xfff, 0);
			assert_int_equal(leaf(4, 1)->eax >> 14 & 0xfff, (1u << bits) - 1);
			assert_int_equal(leaf(4, 2)->eax, 0);
			/* AMD's */
			assert_int_equal(leaf(0x80000008, 0)->ecx & 0xff, vcpus - 1);
			assert_int_equal(leaf(0x80000008, 0)->ecx >> 12 & 0xf, bits);
			assert_int_equal(leaf(0x80000008, 0)->eax, 0x3030);
			assert_int_equal(leaf(0x8000001e, 0)->eax, id);
			assert_int_equal(leaf(0x8000001e, 0)->ebx, id);
			assert_int_equal(leaf(0x8000001e, 0)->ecx, 0);
			assert_int_equal(leaf(0x8000001d, 3)->eax >> 14 & 0xfff, (1u << bits) - 1);
			assert_int_equal(leaf(0x80000001, 0)->ecx >> 1 & 1, vcpus > 1);
		}
	}
}

static void hypervisor_and_timer_shown_nesting_and_counters_hidden(void **state)
{
	(void)state;
	make(2, 0);
	assert_int_equal(leaf(1, 0)->ecx >> 31, 1);
	assert_int_equal(leaf(1, 0)->ecx >> 24 & 1, 1);
	assert_int_equal(leaf(1, 0)->ecx >> 5 & 1, 0);
	assert_int_equal(leaf(0x80000001, 0)->ecx >> 2 & 1, 0);
	assert_int_equal(leaf(0x8000000a, 0)->eax, 0);
	assert_int_equal(leaf(0xa, 0)->eax, 0);
	assert_int_equal(leaf(0x40000001, 0)->eax, 0x01007efb);
	assert_true(guest_cpuid_has_gib_pages(&cpuid));
	cpuid.entries[0].eax = 0;
	guest_cpuid_adjust(&cpuid, 2, false);
	assert_int_equal(leaf(0xb, 1)->ebx, 0); /* no leaf above the highest */
}

static void add_leaf(uint32_t function, uint32_t eax, const char vendor[12])
{
	struct kvm_cpuid_entry2 *entry = &cpuid.entries[cpuid.nent++];

	*entry = (struct kvm_cpuid_entry2){.function = function, .eax = eax};
	memcpy(&entry->ebx, vendor, 4);
	memcpy(&entry->edx, vendor + 4, 4);
	memcpy(&entry->ecx, vendor + 8, 4);
}

/* The frequency as Linux computes it from leaf 0x15, in 32 bits as it does. */
static void frequency_of_the_tsc(void **state)
{
	static const uint32_t frequencies[] = {1, 999999, 2399998, 2400001, 4294967, 4294969, 5800000};

	(void)state;
	for (size_t i = 0; i < sizeof frequencies / sizeof *frequencies; i++)
		for (unsigned intel = 0; intel < 2; intel++) {
			uint32_t khz = frequencies[i], crystal_khz;

			memset(&cpuid, 0, sizeof cpuid);
			add_leaf(0, intel ? 0xd : 0x10, intel ? "GenuineIntel" : "AuthenticAMD");
			add_leaf(0x40000000, 0x40000001, "KVMKVMKVM\0\0");
			guest_cpuid_set_tsc(&cpuid, khz);
			assert_int_equal(leaf(0x40000000, 0)->eax, 0x40000010);
			assert_int_equal(leaf(0x40000010, 0)->eax, khz);
			assert_int_equal(leaf(0x40000010, 0)->ebx, 1000000);
			assert_int_equal(leaf(0, 0)->eax, intel ? 0x16 : 0x10);
			if (!intel) {
				assert_int_equal(leaf(0x15, 0)->eax, 0);
				continue;
			}
			assert_int_equal(leaf(0x16, 0)->eax, khz / 1000);
			assert_int_equal(leaf(0x16, 0)->ebx, khz / 1000);
			assert_int_equal(leaf(0x16, 0)->ecx, 100); /* the bus, in MHz */
			assert_int_equal(leaf(0x16, 0)->edx, 0);
			crystal_khz = leaf(0x15, 0)->ecx / 1000;
			assert_in_range(crystal_khz * leaf(0x15, 0)->ebx / leaf(0x15, 0)->eax, khz - 1, khz);
		}
	/* unknown: nothing is claimed */
	memset(&cpuid, 0, sizeof cpuid);
	add_leaf(0, 0xd, "GenuineIntel");
	add_leaf(0x40000000, 0x40000001, "KVMKVMKVM\0\0");
	guest_cpuid_set_tsc(&cpuid, 0);
	assert_int_equal(cpuid.nent, 2);
	assert_int_equal(leaf(0, 0)->eax, 0xd);
}

static void bitmaps(void **state)
{
	static const struct {
		const char *text;
		unsigned bits;
		bool good;
		uint64_t filter, value;
	} cases[] = {
	    {"0b1", 32, true, 1, 1},
	    {"0bx", 32, true, 0, 0},
	    {"0b10x", 32, true, 6, 4},
	    {"0b1_0_x", 3, true, 6, 4},
	    {"0b10x", 2, false, 0, 0},
	    {"0b11111111111111111111111111111111", 32, true, 0xffffffff, 0xffffffff},
	    {"0b0xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx", 32, false, 0, 0}, /* 33 */
	    {"0b1xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx0", 64, true,
	     UINT64_C(0x8000000000000001), UINT64_C(0x8000000000000000)},
	    {"0b", 32, false, 0, 0},
	    {"0b_", 32, false, 0, 0},
	    {"0b2", 32, false, 0, 0},
	    {"0bX", 32, false, 0, 0},
	    {"0x1", 32, false, 0, 0},
	    {"", 32, false, 0, 0},
	    {"0", 32, false, 0, 0},
	};

	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		uint64_t filter = 0, value = 0;

		assert_int_equal(cpu_bitmap_parse(cases[i].text, cases[i].bits, &filter, &value), cases[i].good);
		if (!cases[i].good)
			continue;
		assert_int_equal(filter, cases[i].filter);
		assert_int_equal(value, cases[i].value);
	}
}

static void modifiers(void **state)
{
	const struct cpu_cpuid_modifier good[] = {
	    {0x1, 0, CPU_EAX, 0x0000ffff, 0x06f2}, {0x4, 1, CPU_EAX, 0xff000000, 0x12ffffff},
	    {0xb, 1, CPU_EDX, 0xf, 0xa},           {0x80000001, 0, CPU_ECX, 0x1, 0x0},
	    {0x1, 0, CPU_EAX, 0x1, 0x1},           {0x1, 0, CPU_EBX, 0xff, 0x11},
	};
	const struct cpu_cpuid_modifier missing[] = {
	    {0x2, 0, CPU_EAX, 1, 1}, {0x4, 3, CPU_EAX, 1, 1}, {0x1, 1, CPU_EAX, 1, 1}};
	struct riffle_error error;

	(void)state;
	memset(&cpuid, 0, sizeof cpuid);
	memcpy(cpuid.entries, host, sizeof host);
	cpuid.nent = sizeof host / sizeof *host;
	assert_int_equal(guest_cpuid_modify(&cpuid, good, sizeof good / sizeof *good, NULL), 0);
	assert_int_equal(leaf(0x1, 0)->eax, 0x00a106f3); /* the later one applies to the result of the earlier */
	assert_int_equal(leaf(0x1, 0)->ebx, 0x07100811);
	assert_int_equal(leaf(0x4, 1)->eax, 0x1201c163);
	assert_int_equal(leaf(0x4, 0)->eax, 0xfc004121);
	assert_int_equal(leaf(0xb, 1)->edx, 0xa);
	assert_int_equal(leaf(0xb, 0)->edx, 5);
	assert_int_equal(leaf(0x80000001, 0)->ecx, 0x75c237fe);
	for (size_t i = 0; i < sizeof missing / sizeof *missing; i++) {
		assert_int_equal(guest_cpuid_modify(&cpuid, &missing[i], 1, &error), RIFFLE_ERR_UNSUPPORTED);
		assert_int_equal(error.found, (uint64_t)missing[i].leaf << 32 | missing[i].subleaf);
	}
}

/*
 * Every template makes the CPUs it covers look the same, by fixing all features that one of them lacks. Here: the
 * signature, and no AVX-512, which the oldest lacks.
 */
static void templates(void **state)
{
	static const struct {
		enum cpu_template template;
		const char *name;
		uint32_t signature;
		size_t msrs;
		uint64_t filter, value; /* of IA32_ARCH_CAPABILITIES */
	} cases[] = {{CPU_TEMPLATE_T2, "T2", 0x000306f2, 0},
		     {CPU_TEMPLATE_T2S, "T2S", 0x000306f2, 1, UINT64_MAX, 0x0c0a0c4c},
		     {CPU_TEMPLATE_T2CL, "T2CL", 0x000306f2, 1, UINT64_C(0xffffffffe2f51e00), 0},
		     {CPU_TEMPLATE_T2A, "T2A", 0x000306f2, 0},
		     {CPU_TEMPLATE_C3, "C3", 0x000306e4, 0}};
	static const struct kvm_cpuid_entry2 all_ones[] = {
	    {.function = 0x1, .eax = -1, .ebx = -1, .ecx = -1, .edx = -1},
	    {.function = 0x7, .flags = 1, .eax = -1, .ebx = -1, .ecx = -1, .edx = -1},
	    {.function = 0xd, .index = 0, .flags = 1, .eax = -1},
	    {.function = 0xd, .index = 1, .flags = 1, .eax = -1},
	    {.function = 0x80000001, .ecx = -1, .edx = -1},
	    {.function = 0x80000008, .ebx = -1},
	};
	struct cpu_config config;
	struct riffle_error error;

	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		cpu_template_modifiers(&config, cases[i].template);
		assert_string_equal(cpu_template_name(cases[i].template), cases[i].name);
		memset(&cpuid, 0, sizeof cpuid);
		memcpy(cpuid.entries, all_ones, sizeof all_ones);
		cpuid.nent = sizeof all_ones / sizeof *all_ones;
		assert_int_equal(guest_cpuid_modify(&cpuid, config.cpuid, config.cpuid_count, NULL), 0);
		assert_int_equal(leaf(0x1, 0)->eax & 0x0fff0fff, cases[i].signature);
		assert_int_equal(leaf(0x1, 0)->ecx & 1u << 5, 0);         /* VMX */
		assert_int_equal(leaf(0x7, 0)->ebx & 0xdc230000, 0);      /* AVX-512 */
		assert_int_equal(leaf(0xd, 0)->eax & 0xe0, 0);            /* and its state */
		assert_int_equal(leaf(0x80000001, 0)->edx & 1u << 26, 0); /* 1 GiB pages */
		assert_int_equal(config.msr_count, cases[i].msrs);
		if (config.msr_count) {
			assert_int_equal(config.msrs[0].index, 0x10a);
			assert_true(config.msrs[0].filter == cases[i].filter);
			assert_true(config.msrs[0].value == cases[i].value);
		}
	}
	assert_int_equal(cpu_template_get(&config, CPU_TEMPLATE_NONE, NULL), 0);
	assert_int_equal(config.cpuid_count + config.msr_count, 0);
	assert_int_equal(cpu_template_get(&config, CPU_TEMPLATE_V1N1, &error), RIFFLE_ERR_UNSUPPORTED);
	/* no host matches both vendors */
	assert_true(cpu_template_get(&config, CPU_TEMPLATE_T2A, &error) == RIFFLE_ERR_UNSUPPORTED ||
		    cpu_template_get(&config, CPU_TEMPLATE_T2, &error) == RIFFLE_ERR_UNSUPPORTED);
	assert_string_equal(error.field, "cpu_template");
	assert_null(cpu_template_name(CPU_TEMPLATE_V1N1 + 1));
}

/*
 * Which bits Firecracker's templates hide and which they show, whatever the host has, as its documents number them. All
 * others are the host's.
 */
enum {
	T2 = 1,
	T2_S = 2,
	T2_CL = 4,
	T2_A = 8,
	C3 = 16,
	T2_AND_S = T2 | T2_S,
	T2_CL_AND_A = T2_CL | T2_A,
	T2_INTEL = T2 | T2_S | T2_CL,
	T2_ALL = T2_INTEL | T2_A
};

static const struct fixed {
	unsigned templates;
	uint32_t leaf, subleaf;
	enum cpu_register reg;
	const char *hidden, *shown;
} fixed[] = {
    {T2_ALL, 0x1, 0, CPU_EAX, "0 2-3 8 11-13 18-27", "1 4-7 9-10 16-17"},
    {T2_ALL, 0x1, 0, CPU_ECX, "2-8 10-11 14-15 18", ""},
    {T2_ALL, 0x1, 0, CPU_EDX, "18 21-22 27 29-31", "7 12"},
    {T2_ALL, 0x7, 0, CPU_EBX, "2 4 11-12 14-19 21-31", "9"},
    {T2_ALL, 0x7, 0, CPU_ECX, "1-4 6 8-12 14 16 22 30", ""},
    {T2_ALL, 0x7, 0, CPU_EDX, "2-4 8", ""},
    {T2_ALL, 0xd, 0, CPU_EAX, "3-7 9", ""},
    {T2_ALL, 0xd, 1, CPU_EAX, "1-3", ""},
    {T2_AND_S, 0x80000001, 0, CPU_ECX, "8 29", ""},
    {T2_AND_S, 0x80000001, 0, CPU_EDX, "26", ""},
    {T2_CL_AND_A, 0x80000001, 0, CPU_ECX, "6-8 29", ""},
    {T2_CL_AND_A, 0x80000001, 0, CPU_EDX, "22-26", ""},
    {T2_INTEL, 0x80000008, 0, CPU_EBX, "9", ""},
    {T2_A, 0x80000008, 0, CPU_EBX, "0 2 9", "18-19"},
    {C3, 0x1, 0, CPU_EAX, "0-1 3-4 8 11-13 18-27", "2 5-7 9-10 16-17"},
    {C3, 0x1, 0, CPU_ECX, "2-5 8 10-12 14-15 22", ""},
    {C3, 0x1, 0, CPU_EDX, "18 21-22 27 29 31", "7 12"},
    {C3, 0x7, 0, CPU_EBX, "2-5 8 10-12 14-19 21 23-31", ""},
    {C3, 0x7, 0, CPU_ECX, "1-4 11 14 16 22 30", ""},
    {C3, 0x7, 0, CPU_EDX, "2-3", ""},
    {C3, 0xd, 0, CPU_EAX, "3-7 9", ""},
    {C3, 0xd, 1, CPU_EAX, "1-3", ""},
    {C3, 0x80000001, 0, CPU_ECX, "5 8", ""},
    {C3, 0x80000001, 0, CPU_EDX, "26", ""},
};

/* "0 4-7" */
static uint32_t bits_of(const char *text)
{
	uint32_t bits = 0;

	while (*text) {
		char *end;
		unsigned long first = strtoul(text, &end, 10), last = *end == '-' ? strtoul(end + 1, &end, 10) : first;

		for (; first <= last; first++)
			bits |= 1u << first;
		text = end + (*end == ' ');
	}
	return bits;
}

/* Every register of every leaf that templates know, with a host that has all features, and with one that has none. */
static void all_bits_of_templates(void **state)
{
	static const enum cpu_template templates[] = {CPU_TEMPLATE_T2, CPU_TEMPLATE_T2S, CPU_TEMPLATE_T2CL,
						      CPU_TEMPLATE_T2A, CPU_TEMPLATE_C3};
	static const uint32_t leaves[][2] = {{0x1, 0}, {0x7, 0}, {0xd, 0}, {0xd, 1}, {0x80000001, 0}, {0x80000008, 0}};
	struct cpu_config config;

	(void)state;
	for (unsigned t = 0; t < 5; t++)
		for (unsigned has = 0; has < 2; has++) {
			uint32_t usual = has ? UINT32_MAX : 0, wanted[6][4];

			memset(&cpuid, 0, sizeof cpuid);
			for (unsigned i = 0; i < 6; i++) {
				cpuid.entries[cpuid.nent++] = (struct kvm_cpuid_entry2){.function = leaves[i][0],
											.index = leaves[i][1],
											.flags = 1,
											.eax = usual,
											.ebx = usual,
											.ecx = usual,
											.edx = usual};
				for (unsigned reg = 0; reg < 4; reg++)
					wanted[i][reg] = usual;
			}
			for (unsigned i = 0; i < sizeof fixed / sizeof *fixed; i++)
				for (unsigned k = 0; k < 6; k++)
					if (fixed[i].templates & 1u << t && fixed[i].leaf == leaves[k][0] &&
					    fixed[i].subleaf == leaves[k][1])
						wanted[k][fixed[i].reg] =
						    (usual & ~bits_of(fixed[i].hidden)) | bits_of(fixed[i].shown);
			cpu_template_modifiers(&config, templates[t]);
			assert_int_equal(guest_cpuid_modify(&cpuid, config.cpuid, config.cpuid_count, NULL), 0);
			for (unsigned i = 0; i < 6; i++) {
				assert_int_equal(cpuid.entries[i].eax, wanted[i][CPU_EAX]);
				assert_int_equal(cpuid.entries[i].ebx, wanted[i][CPU_EBX]);
				assert_int_equal(cpuid.entries[i].ecx, wanted[i][CPU_ECX]);
				assert_int_equal(cpuid.entries[i].edx, wanted[i][CPU_EDX]);
			}
		}
}

/* Which template is for which processors: Intel's from Skylake to Ice Lake, AMD's Milan; of any stepping bits above. */
static void hosts_of_templates(void **state)
{
	static const struct {
		uint32_t signature;
		unsigned templates;
	} hosts[] = {{0x50654, T2 | T2_S | C3},
		     {0x50657, T2 | T2_S | T2_CL | C3},
		     {0x606a6, T2 | T2_CL | C3},
		     {0x50656, 0},
		     {0x906ed, 0},
		     {0, 0}};
	static const enum cpu_template templates[] = {CPU_TEMPLATE_T2, CPU_TEMPLATE_T2S, CPU_TEMPLATE_T2CL,
						      CPU_TEMPLATE_T2A, CPU_TEMPLATE_C3};
	struct riffle_error error;

	(void)state;
	for (unsigned t = 0; t < 5; t++) {
		for (unsigned i = 0; i < sizeof hosts / sizeof *hosts; i++) {
			bool fits = hosts[i].templates & 1u << t;

			assert_int_equal(cpu_template_check(templates[t], "GenuineIntel", hosts[i].signature, &error),
					 fits ? 0 : RIFFLE_ERR_UNSUPPORTED);
			if (!fits && t != 3)
				assert_int_equal(error.found, hosts[i].signature);
			/* bits that are no part of the model */
			assert_int_equal(
			    cpu_template_check(templates[t], "GenuineIntel", hosts[i].signature | 0xf000f000, &error),
			    fits ? 0 : RIFFLE_ERR_UNSUPPORTED);
			assert_int_equal(cpu_template_check(templates[t], "AuthenticAMD", hosts[i].signature, &error),
					 RIFFLE_ERR_UNSUPPORTED);
		}
		assert_int_equal(cpu_template_check(templates[t], "AuthenticAMD", 0xa00f11, &error),
				 templates[t] == CPU_TEMPLATE_T2A ? 0 : RIFFLE_ERR_UNSUPPORTED);
		assert_int_equal(cpu_template_check(templates[t], "GenuineIntel", 0xa00f11, &error),
				 RIFFLE_ERR_UNSUPPORTED);
	}
}

/* What stands behind the last entry is none. */
static void entries_end(void **state)
{
	const struct cpu_cpuid_modifier modifier = {.leaf = 0x99, .filter = 1};
	struct riffle_error error;

	(void)state;
	make(1, 0);
	cpuid.entries[cpuid.nent] = (struct kvm_cpuid_entry2){.function = 0x99};
	assert_int_equal(guest_cpuid_modify(&cpuid, &modifier, 1, &error), RIFFLE_ERR_UNSUPPORTED);
	cpuid.nent++;
	assert_int_equal(guest_cpuid_modify(&cpuid, &modifier, 1, &error), 0);

	memset(&cpuid, 0, sizeof cpuid);
	cpuid.entries[0] = (struct kvm_cpuid_entry2){.function = 0x80000001, .edx = 1u << 26};
	assert_false(guest_cpuid_has_gib_pages(&cpuid));
	cpuid.nent = 1;
	assert_true(guest_cpuid_has_gib_pages(&cpuid));
	cpuid.entries[0].edx = ~(1u << 26);
	assert_false(guest_cpuid_has_gib_pages(&cpuid));
	/* no leaf is added to a range that KVM does not have, nor beyond the room for them */
	cpuid.nent = 0;
	cpuid.entries[0] = (struct kvm_cpuid_entry2){.function = 0x40000000};
	guest_cpuid_set_tsc(&cpuid, 2000000);
	assert_int_equal(cpuid.nent, 0);
	cpuid.nent = GUEST_CPUID_ENTRIES;
	guest_cpuid_set_tsc(&cpuid, 2000000);
	assert_int_equal(cpuid.nent, GUEST_CPUID_ENTRIES);
	assert_int_equal(cpuid.entries[0].eax, 0);
	cpuid.nent = GUEST_CPUID_ENTRIES - 1;
	guest_cpuid_set_tsc(&cpuid, 2000000);
	assert_int_equal(cpuid.nent, GUEST_CPUID_ENTRIES);
	assert_int_equal(cpuid.entries[0].eax, 0x40000010);
}

/* With a table that is nearly full the topology is left out, and nothing is written behind the table. */
static void topology_of_a_full_table(void **state)
{
	static struct {
		struct guest_cpuid cpuid;
		struct kvm_cpuid_entry2 behind[2];
	} tight;

	(void)state;
	for (uint32_t entries = GUEST_CPUID_ENTRIES - 3; entries <= GUEST_CPUID_ENTRIES; entries++) {
		memset(&tight, 0, sizeof tight);
		tight.cpuid.nent = entries;
		tight.cpuid.entries[0] = (struct kvm_cpuid_entry2){.function = 0, .eax = 0xb};
		for (uint32_t i = 1; i < entries; i++)
			tight.cpuid.entries[i].function = 0x40000099;
		guest_cpuid_adjust(&tight.cpuid, 4, true);
		assert_int_equal(tight.cpuid.nent,
				 entries + 2 < GUEST_CPUID_ENTRIES ? entries + 2 : GUEST_CPUID_ENTRIES);
		assert_int_equal(tight.behind[0].function | tight.behind[0].ebx | tight.behind[1].function, 0);
	}
	/* a processor without leaf 0xb is given none */
	memset(&tight, 0, sizeof tight);
	tight.cpuid.nent = 1;
	tight.cpuid.entries[0] = (struct kvm_cpuid_entry2){.function = 0, .eax = 0xa};
	guest_cpuid_adjust(&tight.cpuid, 4, true);
	assert_int_equal(tight.cpuid.nent, 1);
}

/* The APIC id replaces the one that was there, and nothing beside it. */
static void apic_id_replaces_another(void **state)
{
	(void)state;
	for (unsigned id = 0; id < 256; id += 51) {
		memset(&cpuid, 0, sizeof cpuid);
		cpuid.nent = 4;
		for (unsigned i = 0; i < 4; i++)
			cpuid.entries[i] = (struct kvm_cpuid_entry2){.function = (uint32_t[]){1, 0xb, 0x8000001e, 2}[i],
								     .eax = UINT32_MAX,
								     .ebx = UINT32_MAX,
								     .ecx = UINT32_MAX,
								     .edx = UINT32_MAX};
		guest_cpuid_set_apic_id(&cpuid, id);
		assert_int_equal(cpuid.entries[0].ebx, 0xffffff | id << 24);
		assert_int_equal(cpuid.entries[1].edx, id);
		assert_int_equal(cpuid.entries[2].eax, id);
		assert_int_equal(cpuid.entries[2].ebx, 0xffffff00 | id);
		assert_int_equal(cpuid.entries[3].eax & cpuid.entries[3].ebx & cpuid.entries[3].edx, UINT32_MAX);
	}
}

/* A leaf without subleaves is subleaf 0, whatever its index says. */
static void modifiers_find_subleaves(void **state)
{
	static const struct {
		uint32_t leaf, subleaf;
		int found; /* which entry; -1: none */
	} rows[] = {{5, 0, 0}, {5, 7, -1}, {6, 0, 1}, {6, 3, 2}, {6, 1, -1}, {8, 0, -1}};

	(void)state;
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		const struct cpu_cpuid_modifier modifier = {
		    .leaf = rows[i].leaf, .subleaf = rows[i].subleaf, .reg = 2, .filter = 0xf0, .value = 0x55};
		struct riffle_error error;

		memset(&cpuid, 0, sizeof cpuid);
		cpuid.nent = 3;
		cpuid.entries[0] = (struct kvm_cpuid_entry2){.function = 5, .index = 7, .ecx = 0xaaa};
		cpuid.entries[1] = (struct kvm_cpuid_entry2){.function = 6, .index = 0, .flags = 1, .ecx = 0xaaa};
		cpuid.entries[2] = (struct kvm_cpuid_entry2){.function = 6, .index = 3, .flags = 1, .ecx = 0xaaa};
		assert_int_equal(guest_cpuid_modify(&cpuid, &modifier, 1, &error),
				 rows[i].found < 0 ? RIFFLE_ERR_UNSUPPORTED : 0);
		for (int j = 0; j < 3; j++)
			assert_int_equal(cpuid.entries[j].ecx, j == rows[i].found ? 0xa5a : 0xaaa);
		if (rows[i].found < 0)
			assert_int_equal(error.found, (uint64_t)rows[i].leaf << 32 | rows[i].subleaf);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(topology_of_a_full_table),
	    cmocka_unit_test(apic_id_replaces_another),
	    cmocka_unit_test(modifiers_find_subleaves),
	    cmocka_unit_test(bitmaps),
	    cmocka_unit_test(modifiers),
	    cmocka_unit_test(templates),
	    cmocka_unit_test(all_bits_of_templates),
	    cmocka_unit_test(entries_end),
	    cmocka_unit_test(hosts_of_templates),
	    cmocka_unit_test(one_package_of_single_threaded_cores),
	    cmocka_unit_test(frequency_of_the_tsc),
	    cmocka_unit_test(hypervisor_and_timer_shown_nesting_and_counters_hidden),
	};
	return cmocka_run_group_tests_name("monitor cpuid", tests, NULL, NULL);
}
