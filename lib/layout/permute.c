/* SPDX-License-Identifier: Apache-2.0 */
/* A uniform permutation: Fisher-Yates, with unbiased numbers from ChaCha20. */
#include "layout/random.h"

#include "common/bytes.h"

/* A key stream taken 32 bits at a time. */
struct stream {
	const uint8_t *key;
	uint64_t counter;
	unsigned used;
	uint8_t bytes[RIFFLE_CHACHA20_BYTES];
};

static inline uint32_t next32(struct stream *stream)
{
	uint32_t number;

	if (stream->used == sizeof stream->bytes) {
		riffle_chacha20(stream->bytes, stream->key, stream->counter);
		stream->counter += RIFFLE_CHACHA20_BYTES / 64;
		stream->used = 0;
	}
	number = riffle_get32(stream->bytes + stream->used);
	stream->used += 4;
	return number;
}

/*
 * Below `bound`, by the high half of a product (Lemire, "Fast Random Integer Generation in an Interval", 2019): a
 * division only for the few draws that might have to be rejected.
 */
static inline uint32_t below(struct stream *stream, uint32_t bound)
{
	uint64_t product = (uint64_t)next32(stream) * bound;

	if ((uint32_t)product < bound) {
		uint32_t reject = -bound % bound;

		while ((uint32_t)product < reject)
			product = (uint64_t)next32(stream) * bound;
	}
	return (uint32_t)(product >> 32);
}

void riffle_permute(uint16_t *order, uint32_t count, const uint8_t key[32], uint64_t *counter)
{
	struct stream stream = {.key = key, .counter = *counter, .used = RIFFLE_CHACHA20_BYTES};

	for (uint32_t i = count; i > 1; i--) {
		uint32_t k = below(&stream, i);
		uint16_t taken = order[k];

		order[k] = order[i - 1];
		order[i - 1] = taken;
	}
	*counter = stream.counter;
	/* the rest of the stream would reveal the last draws */
	memset(&stream, 0, sizeof stream);
	__asm__ volatile("" : : "r"(&stream) : "memory");
}
