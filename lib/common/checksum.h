/* SPDX-License-Identifier: Apache-2.0 */
/* The checksum of a prepared kernel's header and plan, shared by the side that writes it and the side that reads it. */
#ifndef RIFFLE_COMMON_CHECKSUM_H
#define RIFFLE_COMMON_CHECKSUM_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <riffle/format.h>

/* Only XXH64 is wanted; XXH3, which cannot be left out cleanly, must at least not ask for vector intrinsics. */
#define XXH_INLINE_ALL
#define XXH_VECTOR 0 /* XXH_SCALAR */
#include <xxhash.h>

/* XXH64, seed 0 */
static inline uint64_t riffle_checksum(const void *bytes, size_t count)
{
	return XXH64(bytes, count, 0);
}

/* header_checksum as it ought to be: over the whole header, the field itself taken as zero */
static inline uint64_t riffle_checksum_header(const struct riffle_header *header)
{
	struct riffle_header copy = *header;

	copy.header_checksum = 0;
	return riffle_checksum(&copy, sizeof copy);
}

#endif
