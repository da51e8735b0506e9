/* SPDX-License-Identifier: Apache-2.0 */
/* Makes text of unknown origin fit for a terminal. */
#include "host/shown.h"

#include <stdint.h>
#include <string.h>

/* How long the printable character at `text` is; 0 when there is none (RFC 3629, section 4). */
static size_t printable_bytes(const unsigned char *text)
{
	static const uint32_t least[] = {0, 0xa0, 0x800, 0x10000}; /* from 0x80 on are the controls of Latin-1 */
	size_t more = text[0] < 0x80   ? 0
		      : text[0] < 0xc0 ? 4
		      : text[0] < 0xe0 ? 1
		      : text[0] < 0xf0 ? 2
		      : text[0] < 0xf8 ? 3
				       : 4;
	uint32_t character;

	if (!more)
		return text[0] >= ' ' && text[0] != 0x7f;
	if (more == 4)
		return 0;
	character = text[0] & (0x3fu >> more);
	for (size_t i = 1; i <= more; i++) {
		if ((text[i] & 0xc0) != 0x80)
			return 0;
		character = character << 6 | (text[i] & 0x3f);
	}
	/* no longer than need be, no surrogate, and no line or paragraph separator */
	if (character < least[more] || character > 0x10ffff || character >> 11 == 0x1b || character >> 1 == 0x2028 >> 1)
		return 0;
	return more + 1;
}

const char *show(char *to, size_t bytes, const char *text)
{
	const unsigned char *from = (const unsigned char *)(text ? text : "");
	size_t used = 0;

	while (*from) {
		size_t length = printable_bytes(from), step = length ? length : 1;

		if (used + step >= bytes)
			break;
		if (length)
			memcpy(to + used, from, length);
		else
			to[used] = '?';
		used += step;
		from += step;
	}
	to[used] = 0;
	return to;
}
