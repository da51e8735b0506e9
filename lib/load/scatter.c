/* SPDX-License-Identifier: Apache-2.0 */
/* Copies chunks to their places throughout a region, with the widest vectors that the processor has. */
#include "load/shuffle.h"

#if RIFFLE_VECTORS && defined(__x86_64__)
#include <immintrin.h>

#include "common/cpu.h"
#endif

#define AHEAD 8u /* chunks */
#define AHEAD_BYTES 512u

/* Prefetching the lines of later chunks hides most of their latency. */
HOT void ask_ahead(const uint8_t *image, const struct riffle_chunk *c, const int32_t *shift, uint32_t i, uint32_t count)
{
	if (i + AHEAD < count) {
		const uint8_t *soon = image + c[i + AHEAD].image_offset + shift[i + AHEAD];
		uint32_t soon_bytes = riffle_chunk_bytes(&c[i + AHEAD]);

		for (uint32_t line = 0; line < soon_bytes && line < AHEAD_BYTES; line += 64)
			__builtin_prefetch(soon + line, 1);
	}
}

void riffle_shuffle_scatter_plain(const struct shuffle_load *s, uint32_t first, uint32_t count, const uint8_t *bytes)
{
	const struct riffle_chunk *c = &s->load.plan->chunks[first];
	const int32_t *shift = s->shift + first;
	uint8_t *image = s->load.image;

	for (uint32_t i = 0; i < count; i++) {
		uint32_t length = riffle_chunk_bytes(&c[i]);

		ask_ahead(image, c, shift, i, count);
		riffle_copy_short(image + c[i].image_offset + shift[i], bytes, length);
		bytes += length;
	}
}

#if RIFFLE_VECTORS && defined(__x86_64__)

/*
 * Chunks are multiples of 16 bytes, so masked word stores handle their start and end exactly; the stores in between are
 * aligned, because a store across two cache lines costs as much as two.
 */
__attribute__((target("avx512f"))) static void scatter_wide(const struct shuffle_load *s, uint32_t first,
							    uint32_t count, const uint8_t *bytes)
{
	const struct riffle_chunk *c = &s->load.plan->chunks[first];
	const int32_t *shift = s->shift + first;
	uint8_t *image = s->load.image;

	for (uint32_t i = 0; i < count; i++) {
		uint32_t left = riffle_chunk_bytes(&c[i]), head;
		uint8_t *to = image + c[i].image_offset + shift[i];
		__mmask16 mask;

		ask_ahead(image, c, shift, i, count);
		head = -(uint32_t)(uintptr_t)to & 63;
		head = head < left ? head : left;
		mask = (__mmask16)((1u << head / 4) - 1);
		_mm512_mask_storeu_epi32(to, mask, _mm512_maskz_loadu_epi32(mask, bytes));
		to += head, bytes += head, left -= head;
		for (; left >= 64; left -= 64, to += 64, bytes += 64)
			_mm512_store_si512(to, _mm512_loadu_si512(bytes));
		mask = (__mmask16)((1u << left / 4) - 1);
		_mm512_mask_storeu_epi32(to, mask, _mm512_maskz_loadu_epi32(mask, bytes));
		bytes += left;
	}
}

void riffle_shuffle_scatter(const struct shuffle_load *s, uint32_t first, uint32_t count, const uint8_t *bytes)
{
	if (riffle_cpu_has_avx512f())
		scatter_wide(s, first, count, bytes);
	else
		riffle_shuffle_scatter_plain(s, first, count, bytes);
}

#else

void riffle_shuffle_scatter(const struct shuffle_load *s, uint32_t first, uint32_t count, const uint8_t *bytes)
{
	riffle_shuffle_scatter_plain(s, first, count, bytes);
}

#endif
