/* SPDX-License-Identifier: Apache-2.0 */
/* Symbols from the text of a System.map. */
#include "prepare/symbols/symbols.h"

#include <string.h>

#include "common/fail.h"

/* Reads up to 16 hexadecimal digits; returns how many there were. */
static size_t read_hex(const char *text, size_t bytes, uint64_t *value)
{
	size_t n = 0;

	*value = 0;
	for (; n < bytes && n < 16; n++) {
		unsigned char c = (unsigned char)text[n], lower = c | 0x20;

		if (c >= '0' && c <= '9')
			*value = *value << 4 | (c - '0');
		else if (lower >= 'a' && lower <= 'f')
			*value = *value << 4 | (lower - 'a' + 10u);
		else
			break;
	}
	return n;
}

/* Of aliases show the global one, and of those the one with the fewest underscores in front. */
static unsigned rank_of(char type, const char *name, size_t bytes)
{
	unsigned rank = type >= 'A' && type <= 'V' ? 0 : 64; /* W and w are weak */

	for (size_t i = 0; i < bytes && name[i] == '_'; i++)
		rank++;
	return rank;
}

/* One line without its line feed; false when it is none of a System.map. */
static bool parse_line(const char *line, size_t bytes, uint64_t *address, char *type, const char **name,
		       size_t *name_bytes)
{
	size_t digits = read_hex(line, bytes, address);

	if (digits < 8 || bytes < digits + 4 || line[digits] != ' ' || line[digits + 2] != ' ')
		return false;
	*type = line[digits + 1];
	*name = line + digits + 3;
	*name_bytes = bytes - digits - 3;
	for (size_t i = 0; i < *name_bytes; i++) {
		if ((*name)[i] == '\t') /* what follows in /proc/kallsyms is the module */
			*name_bytes = i;
		else if ((unsigned char)(*name)[i] <= ' ' || (*name)[i] == 0x7f)
			return false;
	}
	return *name_bytes > 0;
}

int symbols_from_system_map(struct symbols *symbols, const char *text, size_t bytes, struct riffle_error *error)
{
	uint64_t address, line_number = 1;
	size_t name_bytes;
	const char *name;
	char type;
	int status;

	for (size_t at = 0; at < bytes; line_number++) {
		const char *line = text + at, *feed = memchr(line, '\n', bytes - at);
		size_t length = feed ? (size_t)(feed - line) : bytes - at;

		at += length + 1;
		if (!length)
			continue;
		if (!parse_line(line, length, &address, &type, &name, &name_bytes))
			return riffle_fail_found(error, RIFFLE_ERR_FORMAT, "System.map",
						 "line is not `address type name`", line_number);
		status = symbols_add(symbols, address, rank_of(type, name, name_bytes), name, name_bytes, error);
		if (status)
			return status;
	}
	return symbols_finish(symbols, error);
}
