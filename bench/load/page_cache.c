/* SPDX-License-Identifier: Apache-2.0 */
/* How the page cache holds a file, by /proc/self/pagemap and /proc/kpageflags; and a copy that it holds as well as it
 * can. */
#include "bench/load/page_cache.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define PAGE 4096u
#define PIECE ((size_t)2 << 20)
/* Documentation/admin-guide/mm/pagemap.rst */
#define PAGEMAP_PRESENT (UINT64_C(1) << 63)
#define PAGEMAP_FRAME ((UINT64_C(1) << 55) - 1)
#define FLAG_COMPOUND_HEAD (UINT64_C(1) << 15)
#define FLAG_COMPOUND_TAIL (UINT64_C(1) << 16)

struct look {
	struct page_cache_state *state;
	const uint8_t *map;
	int pagemap, flags;
};

/* The flags of the page frame that one page of the mapping is in; false when the kernel does not say. */
static bool flags_of(const struct look *look, uint64_t offset, uint64_t *flags)
{
	const uint8_t *page = look->map + offset;
	uint64_t entry;

	(void)*(const volatile uint8_t *)page;
	if (pread(look->pagemap, &entry, sizeof entry, (off_t)((uintptr_t)page / PAGE * sizeof entry)) !=
		sizeof entry ||
	    !(entry & PAGEMAP_PRESENT) || !(entry & PAGEMAP_FRAME))
		return false;
	return pread(look->flags, flags, sizeof *flags, (off_t)((entry & PAGEMAP_FRAME) * sizeof *flags)) ==
	       sizeof *flags;
}

static void look_at(const struct look *look, uint64_t from, uint64_t to)
{
	bool first = true;

	for (uint64_t at = from & ~(uint64_t)(PAGE - 1); at < to; at += PAGE, first = false) {
		uint64_t flags;

		if (!flags_of(look, at, &flags))
			continue;
		look->state->pages++;
		look->state->large += (flags & (FLAG_COMPOUND_HEAD | FLAG_COMPOUND_TAIL)) != 0;
		/* one that begins before the stretch counts once */
		look->state->folios += first || !(flags & FLAG_COMPOUND_TAIL);
	}
}

void page_cache_look(struct page_cache_state *state, int fd, const struct riffle_plan *plan)
{
	const struct riffle_header *h = plan->header;
	struct look look = {.state = state};
	void *map;

	*state = (struct page_cache_state){0};
	map = mmap(NULL, h->file_bytes, PROT_READ, MAP_SHARED, fd, 0);
	look.pagemap = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	look.flags = open("/proc/kpageflags", O_RDONLY | O_CLOEXEC);
	if (map != MAP_FAILED && look.pagemap >= 0 && look.flags >= 0) {
		look.map = map;
		if (h->features & RIFFLE_FEATURE_COMPRESSED)
			look_at(&look, h->payload_offset, h->file_bytes);
		else
			for (uint32_t i = 0; i < plan->extent_count; i++)
				look_at(&look, plan->extents[i].file_offset,
					plan->extents[i].file_offset + plan->extents[i].bytes);
	}
	if (map != MAP_FAILED)
		munmap(map, h->file_bytes);
	if (look.pagemap >= 0)
		close(look.pagemap);
	if (look.flags >= 0)
		close(look.flags);
}

/* Copies [from, to) by long writes, which is what makes a file system take large folios. */
static bool copy_range(int in, int out, off_t from, off_t to, uint8_t *buffer)
{
	while (from < to) {
		/* each write ends where a folio of its length could */
		size_t want = PIECE - (size_t)from % PIECE;
		ssize_t got = pread(in, buffer, want < (size_t)(to - from) ? want : (size_t)(to - from), from), put = 0;

		if (got <= 0) {
			errno = got ? errno : EIO;
			return false;
		}
		while (put < got) {
			ssize_t n = pwrite(out, buffer + put, (size_t)(got - put), from + put);

			if (n < 0)
				return false;
			put += n;
		}
		from += got;
	}
	return true;
}

static bool copy_data(int in, int out, off_t bytes)
{
	uint8_t *buffer = malloc(PIECE);
	off_t data = 0;
	bool copied = buffer && !ftruncate(out, bytes);

	while (copied && data < bytes && (data = lseek(in, data, SEEK_DATA)) >= 0) {
		off_t hole = lseek(in, data, SEEK_HOLE);

		copied = hole >= 0 && copy_range(in, out, data, hole, buffer);
		data = hole;
	}
	free(buffer);
	return copied;
}

int page_cache_fresh_copy(int fd, const char *directory)
{
	int out = open(directory, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600), saved;
	struct stat st;

	if (out < 0)
		return -1;
	if (!fstat(fd, &st) && copy_data(fd, out, st.st_size))
		return out;
	saved = errno;
	close(out);
	errno = saved;
	return -1;
}
