/* SPDX-License-Identifier: Apache-2.0 */
/* Which command lines keep a kernel from freeing its gaps: the same rule in a monitor and in the loader stage. */
#ifndef RIFFLE_COMMON_GAPS_KEPT_H
#define RIFFLE_COMMON_GAPS_KEPT_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

/* lib/kstrtox.c, kstrtobool(); false if it understands nothing else either */
static inline bool riffle_parse_bool(bool *value, const char *text)
{
	char c = (char)(*text | 0x20);

	if (c == 'o')
		c = (char)(text[1] | 0x20) == 'n' ? 'y' : (char)(text[1] | 0x20) == 'f' ? 'n' : 0;
	if (*text == '1' || c == 'y' || c == 't' || c == 'e')
		*value = true;
	else if (*text == '0' || c == 'n' || c == 'f' || c == 'd')
		*value = false;
	else
		return false;
	return true;
}

/*
 * Whether rodata= in a line of at most so many bytes turns off the protection of read-only data, as init/main.c reads
 * it: the last value that it understands counts, and nothing after "--". Such a kernel does not free the gaps between
 * sections either.
 */
static inline bool riffle_gaps_are_kept(const char *text, uint64_t bytes)
{
	static const char prefix[] = "rodata=";
	const size_t length = sizeof prefix - 1;
	bool protects = true;

	for (uint64_t i = 0; i < bytes && text[i];) {
		char word[sizeof prefix + 2] = "";
		size_t used = 0;
		bool quoted = false;

		for (; i < bytes && text[i] && (quoted || (unsigned char)text[i] > ' '); i++) {
			if (text[i] == '"')
				quoted = !quoted;
			else if (used < sizeof word - 1)
				word[used++] = text[i];
		}
		if (used == 2 && word[0] == '-' && word[1] == '-')
			break;
		if (used > length && !memcmp(word, prefix, length))
			riffle_parse_bool(&protects, word + length);
		while (i < bytes && text[i] && (unsigned char)text[i] <= ' ')
			i++;
	}
	return !protects;
}

#endif
