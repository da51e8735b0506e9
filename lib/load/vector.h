/* SPDX-License-Identifier: Apache-2.0 */
/* Short copies of any length, forty thousand per table: with vectors, or in plain C with the same result. */
#ifndef RIFFLE_LOAD_VECTOR_H
#define RIFFLE_LOAD_VECTOR_H

#include "common/bytes.h"

/* Small functions that run once per chunk run or group, in loops: each use is compiled for its own kind of entry. */
#define HOT static inline __attribute__((always_inline))

#if defined(RIFFLE_FREESTANDING) || defined(RIFFLE_PLAIN)
#define RIFFLE_VECTORS 0
#else
#define RIFFLE_VECTORS 1
#endif

/*
 * riffle_copy_short() and riffle_copy_add32() neither read nor write bytes beyond the requested ones, because what
 * follows the destination may be in place already. Instead, the last vector overlaps the previous one. Source and
 * destination do not overlap.
 */
#if !RIFFLE_VECTORS

static inline void riffle_copy_short(uint8_t *to, const uint8_t *from, size_t bytes)
{
	memcpy(to, from, bytes);
}

static inline void riffle_copy_add32(uint8_t *to, const uint8_t *from, uint32_t count, uint32_t add)
{
	for (uint32_t i = 0; i < count; i++)
		riffle_put32(to + 4 * (size_t)i, riffle_get32(from + 4 * (size_t)i) + add);
}

#else

typedef uint32_t riffle_vector __attribute__((vector_size(16), aligned(1), may_alias));

static inline void riffle_copy_short(uint8_t *to, const uint8_t *from, size_t bytes)
{
	if (bytes >= 16) {
		size_t i = 0;

		for (; i + 64 <= bytes; i += 64) {
			const riffle_vector *in = (const riffle_vector *)(from + i);
			riffle_vector *out = (riffle_vector *)(to + i);
			riffle_vector a = in[0], b = in[1], c = in[2], d = in[3];

			out[0] = a, out[1] = b, out[2] = c, out[3] = d;
		}
		for (; i + 16 <= bytes; i += 16)
			*(riffle_vector *)(to + i) = *(const riffle_vector *)(from + i);
		if (i < bytes)
			*(riffle_vector *)(to + bytes - 16) = *(const riffle_vector *)(from + bytes - 16);
	} else if (bytes >= 8) {
		uint64_t last = riffle_get64(from + bytes - 8);

		riffle_put64(to, riffle_get64(from));
		riffle_put64(to + bytes - 8, last);
	} else if (bytes >= 4) {
		uint32_t last = riffle_get32(from + bytes - 4);

		riffle_put32(to, riffle_get32(from));
		riffle_put32(to + bytes - 4, last);
	} else if (bytes) {
		to[0] = from[0];
		to[bytes / 2] = from[bytes / 2];
		to[bytes - 1] = from[bytes - 1];
	}
}

/* The same for `count` words, each with `add` added. */
static inline void riffle_copy_add32(uint8_t *to, const uint8_t *from, uint32_t count, uint32_t add)
{
	size_t bytes = (size_t)count * 4, i = 0;
	riffle_vector adds = {add, add, add, add};

	if (count < 4) {
		for (; i < bytes; i += 4)
			riffle_put32(to + i, riffle_get32(from + i) + add);
		return;
	}
	for (; i + 16 <= bytes; i += 16)
		*(riffle_vector *)(to + i) = *(const riffle_vector *)(from + i) + adds;
	if (i < bytes)
		*(riffle_vector *)(to + bytes - 16) = *(const riffle_vector *)(from + bytes - 16) + adds;
}

#endif

/*
 * The same if up to RUN_STEP - 1 more bytes may be read and also written: those of the run that is written next. A
 * short run is a single step without a branch that depends on its length. `step` is a constant, 16 to RUN_STEP.
 */
#define RUN_STEP 64u

HOT void riffle_run_copy(uint8_t *to, const uint8_t *from, size_t bytes, uint32_t step)
{
#if RIFFLE_VECTORS
	size_t i = 0;

	do {
		const riffle_vector *in = (const riffle_vector *)(from + i);
		riffle_vector *out = (riffle_vector *)(to + i);

		for (uint32_t k = 0; k < step / 16; k++)
			out[k] = in[k];
		i += step;
	} while (i < bytes);
#else
	(void)step;
	riffle_copy_short(to, from, bytes);
#endif
}

HOT void riffle_run_add32(uint8_t *to, const uint8_t *from, size_t bytes, uint32_t add, uint32_t step)
{
#if RIFFLE_VECTORS
	riffle_vector adds = {add, add, add, add};
	size_t i = 0;

	do {
		const riffle_vector *in = (const riffle_vector *)(from + i);
		riffle_vector *out = (riffle_vector *)(to + i);

		for (uint32_t k = 0; k < step / 16; k++)
			out[k] = in[k] + adds;
		i += step;
	} while (i < bytes);
#else
	(void)step;
	riffle_copy_add32(to, from, (uint32_t)(bytes / 4), add);
#endif
}

#endif
