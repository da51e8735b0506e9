/* SPDX-License-Identifier: Apache-2.0 */
/* mmap, munmap and page faults on a given number of pages of a file. */
#include <errno.h>
#include <sys/mman.h>
#include <unistd.h>

#include "ops.h"

#define PAGE 4096

static int file = -1;

static int start_file(long pages)
{
	file = memfd_create("bench", MFD_CLOEXEC);
	if (file < 0 || ftruncate(file, pages * PAGE) < 0)
		return -errno;
	return 0;
}

static void end_file(long pages)
{
	(void)pages;
	if (file >= 0)
		close(file);
	file = -1;
}

enum what { MAP, UNMAP, FAULT };

/* Maps the file, touches it as required by `what`, unmaps it; only the measured step is timed. */
static int64_t cycle(long pages, unsigned iterations, enum what what)
{
	size_t bytes = (size_t)pages * PAGE;
	int64_t took = 0;

	for (unsigned i = 0; i < iterations; i++) {
		int64_t start = now_ns(), mapped, touched;
		volatile char *at = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);

		if (at == MAP_FAILED)
			return -errno;
		mapped = now_ns();
		if (what == FAULT)
			at[0] = 1;
		touched = now_ns();
		if (what == UNMAP) {
			for (size_t page = 0; page < bytes; page += PAGE)
				at[page] = 1;
			touched = now_ns();
		}
		munmap((void *)at, bytes);
		took += what == MAP ? mapped - start : what == FAULT ? touched - mapped : now_ns() - touched;
	}
	return took;
}

static int64_t run_map(long pages, unsigned iterations)
{
	return cycle(pages, iterations, MAP);
}

static int64_t run_unmap(long pages, unsigned iterations)
{
	return cycle(pages, iterations, UNMAP);
}

static int64_t run_fault(long pages, unsigned iterations)
{
	return cycle(pages, iterations, FAULT);
}

#define THREE(name, run, n_small, n_big)                                                                               \
	{name "-small", 1, n_small, start_file, run, end_file}, {name "-mid", 10, n_small, start_file, run, end_file}, \
	{                                                                                                              \
		name "-big", 1000, n_big, start_file, run, end_file                                                    \
	}

const struct op memory_ops[] = {
    THREE("mmap", run_map, 100, 100),
    THREE("munmap", run_unmap, 100, 2),
    THREE("page-fault", run_fault, 100, 100),
    {0},
};
