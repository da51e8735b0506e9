/* SPDX-License-Identifier: Apache-2.0 */
/* The plain versions of lib/load/vector.h. */
#ifndef TEST_VECTOR_PLAIN_H
#define TEST_VECTOR_PLAIN_H

#include <stddef.h>
#include <stdint.h>

void plain_copy(uint8_t *to, const uint8_t *from, size_t bytes);
void plain_add32(uint8_t *to, const uint8_t *from, uint32_t count, uint32_t add);

#endif
