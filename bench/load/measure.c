/* SPDX-License-Identifier: Apache-2.0 */
/* A clock, a median, memory to load kernels into, and the yardstick of all loads: the least a bootstrap loader does. */
#include "bench/load/measure.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

double now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

uint8_t *map_aligned(uint64_t bytes, bool huge_pages)
{
	uint8_t *raw =
	    mmap(NULL, bytes + HUGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	uint8_t *aligned;

	if (raw == MAP_FAILED)
		return NULL;
	aligned = (uint8_t *)(((uintptr_t)raw + HUGE - 1) & ~(uintptr_t)(HUGE - 1));
	if (aligned > raw)
		munmap(raw, (size_t)(aligned - raw));
	munmap(aligned + bytes, (size_t)(raw + HUGE - aligned));
	madvise(aligned, bytes, huge_pages ? MADV_HUGEPAGE : MADV_NOHUGEPAGE);
	return aligned;
}

int bootstrap_bound(double *ms, const struct riffle_image *image, const struct riffle_plan *plan, uint8_t *unpacked,
		    uint8_t *memory, struct riffle_error *error)
{
	double before = now_ms();
	int status = riffle_image_unpack(image, unpacked, error);

	if (status)
		return status;
	for (unsigned i = 0; i < image->segment_count; i++) {
		const struct image_segment *s = &image->segment[i];

		memcpy(memory + (s->phys - image->link_phys), unpacked + (s->bytes - image->uncompressed),
		       s->file_bytes);
	}
	for (uint32_t i = 0; i < plan->reloc64_count; i++) {
		uint64_t v;
		memcpy(&v, memory + plan->reloc64[i], 8);
		v += HUGE;
		memcpy(memory + plan->reloc64[i], &v, 8);
	}
	for (uint32_t i = 0; i < plan->reloc32_count; i++) {
		uint32_t v;
		memcpy(&v, memory + plan->reloc32[i], 4);
		v += (uint32_t)HUGE;
		memcpy(memory + plan->reloc32[i], &v, 4);
	}
	for (uint32_t i = 0; i < plan->reloc32_inverse_count; i++) {
		uint32_t v;
		memcpy(&v, memory + plan->reloc32_inverse[i], 4);
		v -= (uint32_t)HUGE;
		memcpy(memory + plan->reloc32_inverse[i], &v, 4);
	}
	*ms = now_ms() - before;
	return RIFFLE_OK;
}

static int compare(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

double median(const double *values, unsigned count)
{
	double *sorted = malloc(count * sizeof *sorted), middle;

	if (!sorted)
		return 0;
	memcpy(sorted, values, count * sizeof *sorted);
	qsort(sorted, count, sizeof *sorted, compare);
	middle = count % 2 ? sorted[count / 2] : (sorted[count / 2 - 1] + sorted[count / 2]) / 2;
	free(sorted);
	return middle;
}
