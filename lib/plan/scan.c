/* SPDX-License-Identifier: Apache-2.0 */
/* Scans of a plan for every processor, and the choice of implementation. */
#include "plan/scan_loops.h"

#if defined(__x86_64__) && !defined(RIFFLE_FREESTANDING)
#include "common/cpu.h"

#define CHOOSE(name, ...)                                                                                              \
	do {                                                                                                           \
		if (riffle_cpu_has_avx2())                                                                             \
			return riffle_scan_##name##_avx2(__VA_ARGS__);                                                 \
	} while (0)
#else
#define CHOOSE(name, ...) (void)0
#endif

uint64_t riffle_scan_checksum(const void *bytes, size_t count)
{
	CHOOSE(checksum, bytes, count);
	return riffle_checksum(bytes, count);
}

uint32_t riffle_scan_descents(const uint32_t *list, uint32_t count)
{
	CHOOSE(descents, list, count);
	return scan_descents(list, count);
}

uint16_t riffle_scan_most(const uint16_t *list, uint32_t count)
{
	CHOOSE(most, list, count);
	return scan_most(list, count);
}

uint32_t riffle_scan_far(const uint8_t *steps, uint32_t count)
{
	CHOOSE(far, steps, count);
	return scan_far(steps, count);
}
