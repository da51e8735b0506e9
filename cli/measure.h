/* SPDX-License-Identifier: Apache-2.0 */
/* What the benchmarks share: a clock, a median, memory, and the least that a bootstrap loader does. */
#ifndef RIFFLE_CLI_MEASURE_H
#define RIFFLE_CLI_MEASURE_H

#include <stdbool.h>

#include <riffle/plan.h>

#include "prepare/image/image.h"

#define HUGE (UINT64_C(2) << 20)

double now_ms(void);

/* 0 when there is no memory to sort in. */
double median(const double *values, unsigned count);

/* Anonymous memory aligned to 2 MiB, of huge pages or of none; NULL with errno. `bytes` is a multiple of 2 MiB. */
uint8_t *map_aligned(uint64_t bytes, bool huge_pages);

/*
 * What any bootstrap loader must do at least: unpack, copy each PT_LOAD to its place, relocate. `unpacked` has room for
 * image->uncompressed_bytes + 1, `memory` for the plan's image.
 */
int bootstrap_bound(double *ms, const struct riffle_image *image, const struct riffle_plan *plan, uint8_t *unpacked,
		    uint8_t *memory, struct riffle_error *error);

#endif
