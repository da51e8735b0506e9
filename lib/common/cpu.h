/* SPDX-License-Identifier: Apache-2.0 */
/* What the processor can do and the operating system allows. Any thread, and before constructors have run. */
#ifndef RIFFLE_COMMON_CPU_H
#define RIFFLE_COMMON_CPU_H

#include <stdbool.h>

/*
 * The C library has asked CPUID at its start. libgcc's __builtin_cpu_supports() asks again, twelve times, and in a
 * virtual machine each is an exit.
 */
#if __has_include(<sys/platform/x86.h>)

#include <sys/platform/x86.h>

static inline bool riffle_cpu_has_avx2(void)
{
	return CPU_FEATURE_ACTIVE(AVX2);
}

static inline bool riffle_cpu_has_avx512f(void)
{
	return CPU_FEATURE_ACTIVE(AVX512F);
}

#else

static inline bool riffle_cpu_has_avx2(void)
{
	return __builtin_cpu_supports("avx2");
}

static inline bool riffle_cpu_has_avx512f(void)
{
	return __builtin_cpu_supports("avx512f");
}

#endif

#endif
