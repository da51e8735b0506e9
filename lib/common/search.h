/* SPDX-License-Identifier: Apache-2.0 */
/* Binary search. */
#ifndef RIFFLE_COMMON_SEARCH_H
#define RIFFLE_COMMON_SEARCH_H

#include <stdbool.h>
#include <stdint.h>

/*
 * Sets `index` to the first of 0 … count - 1 for which `condition`, an expression in `index`, is true, or to `count`.
 * Once true, the condition must stay true for all that follow.
 */
#define RIFFLE_FIRST_WHERE(index, count, condition)                                                                    \
	do {                                                                                                           \
		__typeof__(index) low_ = 0, high_ = (count);                                                           \
                                                                                                                       \
		while (low_ < high_) {                                                                                 \
			(index) = low_ + (high_ - low_) / 2;                                                           \
			if (condition)                                                                                 \
				high_ = (index);                                                                       \
			else                                                                                           \
				low_ = (index) + 1;                                                                    \
		}                                                                                                      \
		(index) = low_;                                                                                        \
	} while (0)

/* First index whose entry is at least `from`, or `count`; the list is strictly ascending. */
static inline uint32_t riffle_first_at_least(const uint32_t *list, uint32_t count, uint64_t from)
{
	uint32_t index;

	RIFFLE_FIRST_WHERE(index, count, list[index] >= from);
	return index;
}

/*
 * Whether one of the fields of a strictly ascending list, each of `field_bytes`, ends after `start` and begins before
 * `end`: has bytes in [start, end), or, where the two are the same, lies across that edge.
 */
static inline bool riffle_has_field(const uint32_t *list, uint32_t count, uint32_t field_bytes, uint32_t start,
				    uint64_t end)
{
	uint32_t i = riffle_first_at_least(list, count, start < field_bytes ? 0 : (uint64_t)start - field_bytes + 1);

	return i < count && list[i] < end;
}

#endif
