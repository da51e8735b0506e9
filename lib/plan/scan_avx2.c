/* SPDX-License-Identifier: Apache-2.0 */
/* Scans of a plan for processors with AVX2, used only after checking for it. */
#if defined(__x86_64__)

#include <immintrin.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#ifdef __clang__
#pragma clang attribute push(__attribute__((target("avx2"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx2")
#endif

#define XXH_VECTOR XXH_AVX2
#include "plan/scan_loops.h"

uint64_t riffle_scan_checksum_avx2(const void *bytes, size_t count)
{
	return riffle_checksum(bytes, count);
}

uint32_t riffle_scan_descents_avx2(const uint32_t *list, uint32_t count)
{
	return scan_descents(list, count);
}

uint16_t riffle_scan_most_avx2(const uint16_t *list, uint32_t count)
{
	return scan_most(list, count);
}

uint32_t riffle_scan_far_avx2(const uint8_t *steps, uint32_t count)
{
	return scan_far(steps, count);
}

#ifdef __clang__
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif

#endif
