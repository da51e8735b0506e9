/* SPDX-License-Identifier: Apache-2.0 */
/* Private memory in whole huge pages, if the host has them. */
#ifndef RIFFLE_COMMON_HUGE_H
#define RIFFLE_COMMON_HUGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/mman.h>

#define RIFFLE_HUGE_PAGE ((size_t)2 << 20)

/* A mapping, and the whole huge pages in it that are used; what is around those is never touched. */
struct riffle_huge_mapping {
	uint8_t *start, *memory;
	size_t mapped, bytes;
};

/* Zeroed memory of `bytes`, rounded up. False with errno if there is none. Release with munmap(start, mapped). */
static inline bool riffle_huge_map(struct riffle_huge_mapping *m, size_t bytes)
{
	m->bytes = (bytes + RIFFLE_HUGE_PAGE - 1) & ~(RIFFLE_HUGE_PAGE - 1);
	m->mapped = m->bytes + RIFFLE_HUGE_PAGE;
	m->start = mmap(NULL, m->mapped, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (m->start == MAP_FAILED)
		return false;
	m->memory = m->start + (-(uintptr_t)m->start & (RIFFLE_HUGE_PAGE - 1));
	madvise(m->memory, m->bytes, MADV_HUGEPAGE);
	return true;
}

#endif
