/* SPDX-License-Identifier: Apache-2.0 */
/* Binary search in the plan's ascending lists of image offsets. */
#ifndef RIFFLE_COMMON_SEARCH_H
#define RIFFLE_COMMON_SEARCH_H

#include <stdint.h>

/* First index whose entry is at least `from`, or `count`; the list is strictly ascending. */
static inline uint32_t riffle_first_at_least(const uint32_t *list, uint32_t count, uint64_t from)
{
	uint32_t low = 0, high = count;

	while (low < high) {
		uint32_t middle = low + (high - low) / 2;

		if (list[middle] < from)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

#endif
