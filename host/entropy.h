/* SPDX-License-Identifier: Apache-2.0 */
/* The operating system's randomness, asked for once for the many numbers that a start draws. */
#ifndef RIFFLE_HOST_ENTROPY_H
#define RIFFLE_HOST_ENTROPY_H

#include <stddef.h>
#include <stdint.h>

#include <riffle/layout.h>

#define ENTROPY_BYTES 256u /* getrandom(2) is never interrupted for so many */

/* All zero at first. */
struct entropy {
	uint8_t bytes[ENTROPY_BYTES];
	size_t left; /* at the end of `bytes`; the others have been handed out, and wiped here */
};

/* Bytes that are handed out only here. The arguments are those of riffle_random.fill: -1 with errno on failure. */
int entropy_take(void *entropy, void *to, size_t bytes);
/* A source for a layout. */
void entropy_source(struct riffle_random *random, struct entropy *entropy);

#endif
