/* SPDX-License-Identifier: Apache-2.0 */
/* Shared by the benchmarks: a clock, a median, memory, and the minimum work of a bootstrap loader. */
#ifndef RIFFLE_BENCH_LOAD_MEASURE_H
#define RIFFLE_BENCH_LOAD_MEASURE_H

#include <stdbool.h>

#include <riffle/plan.h>

#include "prepare/image/image.h"

#define HUGE (UINT64_C(2) << 20)

double now_ms(void);

/* 0 if there is no memory for sorting. */
double median(const double *values, unsigned count);

/* Anonymous memory aligned to 2 MiB, with or without huge pages; NULL with errno. `bytes` is a multiple of 2 MiB. */
uint8_t *map_aligned(uint64_t bytes, bool huge_pages);

/*
 * The minimum work of any bootstrap loader: unpack, copy each PT_LOAD to its place, relocate. `unpacked` has room for
 * image->uncompressed_bytes + 1, `memory` for the plan's image.
 */
int bootstrap_bound(double *ms, const struct riffle_image *image, const struct riffle_plan *plan, uint8_t *unpacked,
		    uint8_t *memory, struct riffle_error *error);

#endif
