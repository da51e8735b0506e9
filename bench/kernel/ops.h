/* SPDX-License-Identifier: Apache-2.0 */
/* A measured kernel operation: set-up, repeated execution, and clean-up. */
#ifndef RIFFLE_BENCH_KERNEL_OPS_H
#define RIFFLE_BENCH_KERNEL_OPS_H

#include <stdint.h>
#include <time.h>

struct op {
	const char *name;
	long size;               /* pages, bytes, descriptors or mappings; 0 where there is nothing to choose */
	unsigned iterations;     /* per round, chosen so that an emulated guest takes some seconds */
	int (*start)(long size); /* 0, or a negative errno: the kernel lacks it; NULL: nothing to do */
	int64_t (*run)(long size, unsigned iterations); /* total nanoseconds, or a negative errno */
	void (*end)(long size); /* NULL: nothing to do; called after a start that failed as well */
};

extern const struct op process_ops[], memory_ops[], file_ops[], wait_ops[]; /* each ended by a NULL name */

static inline int64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

#endif
