/* SPDX-License-Identifier: Apache-2.0 */
/* Private memory in whole huge pages, without what a mapping of them has around it. */
#ifndef RIFFLE_HOST_HUGE_H
#define RIFFLE_HOST_HUGE_H

#include "common/huge.h"

/*
 * Zeroed memory aligned to 2 MiB, with *bytes rounded up to that; NULL with errno. Release with munmap(memory, *bytes).
 */
static inline void *map_huge(size_t *bytes)
{
	struct riffle_huge_mapping m;
	size_t before;

	if (!riffle_huge_map(&m, *bytes))
		return NULL;
	before = (size_t)(m.memory - m.start);
	if (before)
		munmap(m.start, before);
	munmap(m.memory + m.bytes, RIFFLE_HUGE_PAGE - before);
	*bytes = m.bytes;
	return m.memory;
}

#endif
