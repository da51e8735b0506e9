/* SPDX-License-Identifier: Apache-2.0 */
/* Private memory in whole huge pages, if the host has them. */
#ifndef RIFFLE_HOST_HUGE_H
#define RIFFLE_HOST_HUGE_H

#include <stddef.h>
#include <stdint.h>
#include <sys/mman.h>

#define HUGE_PAGE_BYTES ((size_t)2 << 20)

/*
 * Zeroed memory aligned to 2 MiB, with *bytes rounded up to that; NULL with errno. Release with munmap(memory, *bytes).
 */
static inline void *map_huge(size_t *bytes)
{
	size_t whole = (*bytes + HUGE_PAGE_BYTES - 1) & ~(HUGE_PAGE_BYTES - 1), before;
	uint8_t *raw = mmap(NULL, whole + HUGE_PAGE_BYTES, PROT_READ | PROT_WRITE,
			    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (raw == MAP_FAILED)
		return NULL;
	before = -(uintptr_t)raw & (HUGE_PAGE_BYTES - 1);
	if (before)
		munmap(raw, before);
	munmap(raw + before + whole, HUGE_PAGE_BYTES - before);
	madvise(raw + before, whole, MADV_HUGEPAGE);
	*bytes = whole;
	return raw + before;
}

#endif
