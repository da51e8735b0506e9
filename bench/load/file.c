/* SPDX-License-Identifier: Apache-2.0 */
/* Puts a fresh copy in the place of the file that a load is measured on, and says how the page cache holds it. */
#include "bench/load/file.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int copy_beside(int fd, const char *name)
{
	char directory[4096];
	const char *slash = strrchr(name, '/');
	int length = slash ? (int)(slash - name) + !(slash - name) : 1;

	if ((size_t)length >= sizeof directory)
		return -1;
	snprintf(directory, sizeof directory, "%.*s", length, slash ? name : ".");
	return page_cache_fresh_copy(fd, directory);
}

void bench_file_take(struct bench_file *file, struct opened_kernel *kernel, const char *name)
{
	const char *temporary = getenv("TMPDIR");
	struct riffle_source source;
	struct riffle_error ignored;
	int fd = copy_beside(kernel->fd, name);

	if (fd < 0)
		fd = page_cache_fresh_copy(kernel->fd, temporary ? temporary : "/var/tmp");
	file->fresh = fd >= 0 && !riffle_source_from_fd(&source, fd, &ignored);
	if (file->fresh) {
		/* what decompresses stays as it is, and reads by this */
		kernel->source.opaque = source.opaque;
		close(kernel->fd);
		kernel->fd = fd;
	} else if (fd >= 0)
		close(fd);
	page_cache_look(&file->cache, kernel->fd, &kernel->plan);
}

void bench_file_print(const struct bench_file *file)
{
	const struct page_cache_state *c = &file->cache;

	printf("file: %s; page cache: ", file->fresh ? "a fresh copy" : "the kernel's own, no copy could be made");
	if (c->pages)
		printf("%.0f %% of its pages in large folios, %.0f KiB on average\n",
		       100.0 * (double)c->large / (double)c->pages, 4.0 * (double)c->pages / (double)c->folios);
	else
		printf("not known, only root may look\n");
}

json_t *bench_file_json(const struct bench_file *file)
{
	return json_pack("{s:b, s:I, s:I, s:I}", "fresh_copy", file->fresh, "pages", (json_int_t)file->cache.pages,
			 "pages_in_large_folios", (json_int_t)file->cache.large, "folios",
			 (json_int_t)file->cache.folios);
}
