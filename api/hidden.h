/* SPDX-License-Identifier: Apache-2.0 */
/*
 * UTF-8 characters that are invisible or change the display of their surroundings, which are shown by number instead.
 */
#ifndef RIFFLE_API_HIDDEN_H
#define RIFFLE_API_HIDDEN_H

#include <stddef.h>

/*
 * The character at `text`, of `bytes` bytes, if it is a non-ASCII one that Rust prints by number: C1 controls,
 * direction and width marks, line separators. *length is its UTF-8 length. 0: it is not one.
 */
static inline unsigned hidden_character(const unsigned char *text, size_t bytes, size_t *length)
{
	unsigned c = 0;

	if (bytes >= 2 && text[0] == 0xc2 && (text[1] & 0xc0) == 0x80) {
		*length = 2;
		c = text[1];
		return c < 0xa0 || c == 0xad ? c : 0;
	}
	if (bytes < 3 || (text[0] & 0xf0) != 0xe0 || (text[1] & 0xc0) != 0x80 || (text[2] & 0xc0) != 0x80)
		return 0;
	*length = 3;
	c = (text[0] & 15u) << 12 | (text[1] & 63u) << 6 | (text[2] & 63u);
	return (c >= 0x200b && c <= 0x200f) || (c >= 0x2028 && c <= 0x202e) || (c >= 0x2060 && c <= 0x206f) ||
		       c == 0xfeff
		   ? c
		   : 0;
}

#endif
