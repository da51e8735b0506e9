/* SPDX-License-Identifier: Apache-2.0 */
/* The scans of scan.h, compiled once for each kind of vectors by the files that include this: no loop has an early
 * exit. */
#ifndef RIFFLE_PLAN_SCAN_LOOPS_H
#define RIFFLE_PLAN_SCAN_LOOPS_H

#include "common/checksum.h"
#include "plan/scan.h"

#define SCAN static inline __attribute__((always_inline))

SCAN uint32_t scan_descents(const uint32_t *list, uint32_t count)
{
	uint32_t descents = 0;

	for (uint32_t i = 1; i < count; i++)
		descents += list[i] <= list[i - 1];
	return descents;
}

SCAN uint16_t scan_most(const uint16_t *list, uint32_t count)
{
	uint16_t most = 0;

	for (uint32_t i = 0; i < count; i++)
		most = list[i] > most ? list[i] : most;
	return most;
}

SCAN uint32_t scan_far(const uint8_t *steps, uint32_t count)
{
	uint32_t far = 0;

	/* counted in bytes as far as these reach, which takes the fewest instructions */
	while (count) {
		uint32_t part = count < 224 ? count : 224;
		uint8_t some = 0;

		for (uint32_t i = 0; i < part; i++)
			some = (uint8_t)(some + (steps[i] == RIFFLE_STEP_FAR));
		far += some;
		steps += part;
		count -= part;
	}
	return far;
}

#endif
