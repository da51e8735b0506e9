/* SPDX-License-Identifier: Apache-2.0 */
/* Unaligned little-endian access and checked arithmetic. */
#ifndef RIFFLE_COMMON_BYTES_H
#define RIFFLE_COMMON_BYTES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "riffle runs x86-64 guests on x86-64: little-endian only"
#endif

static inline uint16_t riffle_get16(const void *p)
{
	uint16_t v;
	memcpy(&v, p, sizeof v);
	return v;
}

static inline uint32_t riffle_get32(const void *p)
{
	uint32_t v;
	memcpy(&v, p, sizeof v);
	return v;
}

static inline uint64_t riffle_get64(const void *p)
{
	uint64_t v;
	memcpy(&v, p, sizeof v);
	return v;
}

static inline void riffle_put16(void *p, uint16_t v)
{
	memcpy(p, &v, sizeof v);
}

static inline void riffle_put32(void *p, uint32_t v)
{
	memcpy(p, &v, sizeof v);
}

static inline void riffle_put64(void *p, uint64_t v)
{
	memcpy(p, &v, sizeof v);
}

/* true if [offset, offset + bytes) lies inside [0, limit); computed without a sum that could wrap */
static inline bool riffle_inside(uint64_t offset, uint64_t bytes, uint64_t limit)
{
	return offset <= limit && bytes <= limit - offset;
}

/* x rounded up to a power of two `align`; false if that wraps */
static inline bool riffle_round_up(uint64_t x, uint64_t align, uint64_t *rounded)
{
	uint64_t sum;
	if (__builtin_add_overflow(x, align - 1, &sum))
		return false;
	*rounded = sum & ~(align - 1);
	return true;
}

#endif
