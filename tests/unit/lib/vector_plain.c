/* SPDX-License-Identifier: Apache-2.0 */
/* The plain versions of lib/load/vector.h, under separate names. */
#define RIFFLE_PLAIN
#define riffle_copy_short plain_copy_short
#define riffle_copy_add32 plain_copy_add32
#include "load/vector.h"

#include "vector_plain.h"

void plain_copy(uint8_t *to, const uint8_t *from, size_t bytes)
{
	plain_copy_short(to, from, bytes);
}

void plain_add32(uint8_t *to, const uint8_t *from, uint32_t count, uint32_t add)
{
	plain_copy_add32(to, from, count, add);
}
