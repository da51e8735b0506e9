/* SPDX-License-Identifier: Apache-2.0 */
/* How the page cache holds a file, in large folios or in single pages, which determines how fast it is read. */
#ifndef RIFFLE_BENCH_LOAD_PAGE_CACHE_H
#define RIFFLE_BENCH_LOAD_PAGE_CACHE_H

#include <stdint.h>

#include <riffle/riffle.h>

struct page_cache_state {
	uint64_t pages;  /* examined; 0: unknown (only root may query this) */
	uint64_t large;  /* of these in folios of more than one page */
	uint64_t folios; /* that the pages are in */
};

/*
 * Examines the pages of a prepared kernel's extents; for a compressed one, of everything stored. They are read if
 * necessary.
 */
void page_cache_look(struct page_cache_state *state, int fd, const struct riffle_plan *plan);

/*
 * Writes a copy of the file in `directory`, without a name; returns the descriptor, or -1 with errno. Holes are kept.
 */
int page_cache_fresh_copy(int fd, const char *directory);

#endif
