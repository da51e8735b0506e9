/* SPDX-License-Identifier: Apache-2.0 */
/* Randomness inside the library: the default source, and the generator that shuffles. */
#ifndef RIFFLE_LAYOUT_RANDOM_H
#define RIFFLE_LAYOUT_RANDOM_H

#include <riffle/layout.h>

#define RIFFLE_CHACHA20_BYTES 256u

/* Four blocks of the key stream from block `counter` on, nonce 0. */
void riffle_chacha20(uint8_t out[RIFFLE_CHACHA20_BYTES], const uint8_t key[32], uint64_t counter);

/*
 * Permutes the contents of order[0 .. count-1] uniformly by the key stream from *counter on, and moves *counter past
 * what was used.
 */
void riffle_permute(uint16_t *order, uint32_t count, const uint8_t key[32], uint64_t *counter);

#ifndef RIFFLE_FREESTANDING
extern const struct riffle_random riffle_random_system;
#endif

#endif
