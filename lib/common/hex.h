/* SPDX-License-Identifier: Apache-2.0 */
/* Bytes as hexadecimal digits. */
#ifndef RIFFLE_COMMON_HEX_H
#define RIFFLE_COMMON_HEX_H

#include <stddef.h>
#include <stdint.h>

/* Lower-case digits and a terminating NUL: 2 * count + 1 bytes. */
static inline void riffle_hex(char *text, const uint8_t *bytes, size_t count)
{
	static const char digits[] = "0123456789abcdef";

	for (size_t i = 0; i < count; i++) {
		*text++ = digits[bytes[i] >> 4];
		*text++ = digits[bytes[i] & 15];
	}
	*text = 0;
}

#endif
