/* SPDX-License-Identifier: Apache-2.0 */
/* Uniform numbers by rejection, and a reproducible source: ChaCha20's key stream. */
#include "layout/random.h"

#include "common/bytes.h"
#include "common/fail.h"
#include "common/reserved.h"

int riffle_random_below(uint64_t *number, uint64_t bound, const struct riffle_random *random,
			struct riffle_error *error)
{
	uint64_t draw, reject;
	int status;

	if (!bound)
		return riffle_fail(error, RIFFLE_ERR_ARGUMENT, "bound", "is 0");
#ifndef RIFFLE_FREESTANDING
	if (!random)
		random = &riffle_random_system;
#endif
	if (!random)
		return riffle_fail(error, RIFFLE_ERR_ARGUMENT, "random", "is missing");
	status = RIFFLE_CHECK_ZERO(random->reserved_zero, "random", error);
	if (status)
		return status;
	/* draws below 2^64 mod bound would make the smallest numbers more likely than the others */
	reject = -bound % bound;
	do {
		if (random->fill(random->opaque, &draw, sizeof draw))
			return riffle_fail(error, RIFFLE_ERR_RANDOM, "random", "source failed");
	} while (draw < reject);
	*number = draw % bound;
	return RIFFLE_OK;
}

/* Four blocks side by side, which the compiler turns into vector code, or plain code if there are no vectors. */
typedef uint32_t lanes __attribute__((vector_size(16)));

/* by address, because without vector registers a vector cannot be returned */
static inline void mix(lanes *x, const lanes *y, unsigned by)
{
	*x ^= *y;
	*x = *x << by | *x >> (32 - by);
}

static inline void quarter(lanes *a, lanes *b, lanes *c, lanes *d)
{
	*a += *b, mix(d, a, 16);
	*c += *d, mix(b, c, 12);
	*a += *b, mix(d, a, 8);
	*c += *d, mix(b, c, 7);
}

/* RFC 8439 section 2.3, with the 32-bit counter and the nonce's first word used as one 64-bit counter */
void riffle_chacha20(uint8_t out[RIFFLE_CHACHA20_BYTES], const uint8_t key[32], uint64_t counter)
{
	static const uint32_t constants[4] = {0x61707865, 0x3320646e, 0x79622d32, 0x6b206574};
	lanes start[16], x[16];

	for (unsigned i = 0; i < 4; i++)
		start[i] = (lanes){0} + constants[i];
	for (unsigned i = 0; i < 8; i++)
		start[4 + i] = (lanes){0} + riffle_get32(key + 4 * i);
	for (unsigned i = 0; i < 4; i++) {
		start[12][i] = (uint32_t)(counter + i);
		start[13][i] = (uint32_t)((counter + i) >> 32);
	}
	start[14] = start[15] = (lanes){0};
	for (unsigned i = 0; i < 16; i++)
		x[i] = start[i];
	for (unsigned round = 0; round < 10; round++) {
		quarter(&x[0], &x[4], &x[8], &x[12]);
		quarter(&x[1], &x[5], &x[9], &x[13]);
		quarter(&x[2], &x[6], &x[10], &x[14]);
		quarter(&x[3], &x[7], &x[11], &x[15]);
		quarter(&x[0], &x[5], &x[10], &x[15]);
		quarter(&x[1], &x[6], &x[11], &x[12]);
		quarter(&x[2], &x[7], &x[8], &x[13]);
		quarter(&x[3], &x[4], &x[9], &x[14]);
	}
	for (unsigned i = 0; i < 16; i++) {
		x[i] += start[i];
		for (unsigned block = 0; block < 4; block++)
			riffle_put32(out + 64 * block + 4 * i, x[i][block]);
	}
}

static int fill_seeded(void *opaque, void *buffer, size_t bytes)
{
	struct riffle_seeded *state = opaque;
	uint8_t *to = buffer;

	while (bytes) {
		size_t part = sizeof state->buffer - state->used;

		if (!part) {
			riffle_chacha20(state->buffer, state->key, state->block);
			state->block += sizeof state->buffer / 64;
			state->used = 0;
			continue;
		}
		if (part > bytes)
			part = bytes;
		memcpy(to, state->buffer + state->used, part);
		state->used += (unsigned)part;
		to += part;
		bytes -= part;
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
