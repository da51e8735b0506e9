/* SPDX-License-Identifier: Apache-2.0 */
/* The checksum of a prepared kernel's header and plan, shared by writer and reader. */
#ifndef RIFFLE_COMMON_CHECKSUM_H
#define RIFFLE_COMMON_CHECKSUM_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <riffle/format.h>

/*
 * A file that includes this may set XXH_VECTOR first; the default is what the compiler may use, which is scalar code in
 * a guest.
 */
#define XXH_INLINE_ALL
#include <xxhash.h>

/* XXH3, 64 bits, no seed */
static inline uint64_t riffle_checksum(const void *bytes, size_t count)
{
	return XXH3_64bits(bytes, count);
}

/* the expected header_checksum: over the whole header, with the field itself as zero */
static inline uint64_t riffle_checksum_header(const struct riffle_header *header)
{
	struct riffle_header copy = *header;

	copy.header_checksum = 0;
	return riffle_checksum(&copy, sizeof copy);
}

#endif
