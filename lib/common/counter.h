/* SPDX-License-Identifier: Apache-2.0 */
/* Event counters that one thread at a time writes and any thread or signal handler reads without a lock. */
#ifndef RIFFLE_COMMON_COUNTER_H
#define RIFFLE_COMMON_COUNTER_H

#include <stdatomic.h>
#include <stdint.h>

typedef _Atomic uint64_t counter;

/* No locked instruction: two threads that add at the same time may lose one of the additions. */
static inline void counter_add(counter *count, uint64_t more)
{
	atomic_store_explicit(count, atomic_load_explicit(count, memory_order_relaxed) + more, memory_order_relaxed);
}

static inline uint64_t counter_get(const counter *count)
{
	return atomic_load_explicit((counter *)count, memory_order_relaxed);
}

/* Durations: shortest (0: it never happened), longest and total, in microseconds. */
struct latency {
	counter min_us, max_us, sum_us;
};

static inline void latency_add(struct latency *latency, uint64_t us)
{
	uint64_t min = counter_get(&latency->min_us);

	if (!min || us < min)
		atomic_store_explicit(&latency->min_us, us, memory_order_relaxed);
	if (us > counter_get(&latency->max_us))
		atomic_store_explicit(&latency->max_us, us, memory_order_relaxed);
	counter_add(&latency->sum_us, us);
}

#endif
