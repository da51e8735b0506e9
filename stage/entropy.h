/* SPDX-License-Identifier: Apache-2.0 */
/* Randomness gathered by the guest itself. */
#ifndef RIFFLE_STAGE_ENTROPY_H
#define RIFFLE_STAGE_ENTROPY_H

#include <riffle/error.h>

/*
 * Gathers a key from the processor's generator, and adds what the loader gave (`seed`, may be of 0 bytes) and the zero
 * page. A processor that claims to have a generator but does not deliver is an error (RANDOM). Without a generator, the
 * time-stamp counter and the interval timer are used; docs/randomisation.md explains what they are worth.
 */
int stage_entropy(uint8_t key[32], const void *seed, uint64_t seed_bytes, const uint8_t *zero_page,
		  struct riffle_error *error);

#endif
