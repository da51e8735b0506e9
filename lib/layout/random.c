/* SPDX-License-Identifier: Apache-2.0 */
/* Uniform numbers by rejection, and a replayable source: ChaCha20's key stream. */
#include "layout/random.h"

#include "common/bytes.h"
#include "common/fail.h"

int riffle_random_below(uint64_t *number, uint64_t bound, const struct riffle_random *random,
			struct riffle_error *error)
{
	uint64_t draw, reject;

	if (!bound)
		return riffle_fail(error, RIFFLE_ERR_ARGUMENT, "bound", "is 0");
#ifndef RIFFLE_FREESTANDING
	if (!random)
		random = &riffle_random_system;
#endif
	if (!random)
		return riffle_fail(error, RIFFLE_ERR_ARGUMENT, "random", "is missing");
	/* the draws below 2^64 mod bound would make the first numbers likelier than the others */
	reject = -bound % bound;
	do {
		if (random->fill(random->opaque, &draw, sizeof draw))
			return riffle_fail(error, RIFFLE_ERR_RANDOM, "random", "source failed");
	} while (draw < reject);
	*number = draw % bound;
	return RIFFLE_OK;
}

static uint32_t rotate(uint32_t x, unsigned by)
{
	return x << by | x >> (32 - by);
}

static void quarter(uint32_t *a, uint32_t *b, uint32_t *c, uint32_t *d)
{
	*a += *b, *d = rotate(*d ^ *a, 16);
	*c += *d, *b = rotate(*b ^ *c, 12);
	*a += *b, *d = rotate(*d ^ *a, 8);
	*c += *d, *b = rotate(*b ^ *c, 7);
}

/* RFC 8439 section 2.3, with the 32-bit counter and the nonce's first word taken as one 64-bit counter */
static void chacha20_block(uint8_t out[64], const uint8_t key[32], uint64_t counter)
{
	uint32_t start[16] = {0x61707865, 0x3320646e, 0x79622d32, 0x6b206574}, x[16];

	for (unsigned i = 0; i < 8; i++)
		start[4 + i] = riffle_get32(key + 4 * i);
	start[12] = (uint32_t)counter;
	start[13] = (uint32_t)(counter >> 32);
	memcpy(x, start, sizeof x);
	for (unsigned round = 0; round < 10; round++) {
		for (unsigned i = 0; i < 4; i++)
			quarter(&x[i], &x[4 + i], &x[8 + i], &x[12 + i]);
		for (unsigned i = 0; i < 4; i++)
			quarter(&x[i], &x[4 + (i + 1) % 4], &x[8 + (i + 2) % 4], &x[12 + (i + 3) % 4]);
	}
	for (unsigned i = 0; i < 16; i++)
		riffle_put32(out + 4 * i, x[i] + start[i]);
}

static int fill_seeded(void *opaque, void *buffer, size_t bytes)
{
	struct riffle_seeded *state = opaque;
	uint8_t *to = buffer;

	for (size_t i = 0; i < bytes; i++) {
		if (state->used == sizeof state->buffer) {
			chacha20_block(state->buffer, state->key, state->block++);
			state->used = 0;
		}
		to[i] = state->buffer[state->used++];
	}
	return 0;
}

void riffle_random_from_seed(struct riffle_random *random, struct riffle_seeded *state, const uint8_t seed[32])
{
	memcpy(state->key, seed, sizeof state->key);
	state->block = 0;
	state->used = sizeof state->buffer;
	*random = (struct riffle_random){.fill = fill_seeded, .opaque = state};
}
