/* SPDX-License-Identifier: Apache-2.0 */
/* How the page cache holds a file, which decides how fast it is read: in large folios or in single pages. */
#ifndef RIFFLE_CLI_PAGE_CACHE_H
#define RIFFLE_CLI_PAGE_CACHE_H

#include <stdint.h>

#include <riffle/riffle.h>

struct page_cache_state {
	uint64_t pages;  /* looked at; 0: the kernel did not tell (only root may ask) */
	uint64_t large;  /* of these in folios of more than one page */
	uint64_t folios; /* that the pages are in */
};

/* Looks at the pages of a prepared kernel's extents; of a compressed one at all that is stored. They are read if need
 * be. */
void page_cache_look(struct page_cache_state *state, int fd, const struct riffle_plan *plan);

/*
 * A copy of the file just written, in `directory`, where it has no name; the descriptor, or -1 with errno. Holes stay
 * holes.
 */
int page_cache_fresh_copy(int fd, const char *directory);

#endif
