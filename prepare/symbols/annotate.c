/* SPDX-License-Identifier: Apache-2.0 */
/* Finds addresses in text that comes in pieces, and writes what they are at link time. */
#include "prepare/symbols/annotate.h"

#include <ctype.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define DIGITS 16u
#define NAME_SHOWN 1024 /* of a symbol's name */

bool annotate_address(char *text, const struct annotator *a, uint64_t address)
{
	struct symbol_place place;
	uint64_t link;
	int used;

	if (!a->to_link(a->map, address, &link))
		return false;
	used = sprintf(text, "%016" PRIx64, link);
	if (a->symbols && symbols_find(&place, a->symbols, link))
		snprintf(text + used, ANNOTATE_ADDRESS_MAX - (size_t)used, " [%.*s+0x%" PRIx64 "/0x%" PRIx64 "]",
			 NAME_SHOWN, place.name, place.offset, place.bytes);
	return true;
}

/* The word's digits, without a 0x in front; false when it is no address by its form. */
static bool read_address(const struct annotator *a, uint64_t *address, bool *prefixed)
{
	size_t i = 0;

	*prefixed = a->word_bytes > 2 && a->word[0] == '0' && (a->word[1] == 'x' || a->word[1] == 'X');
	if (*prefixed)
		i = 2;
	if (a->word_bytes - i > DIGITS || (!*prefixed && a->word_bytes != DIGITS))
		return false;
	for (*address = 0; i < a->word_bytes; i++) {
		unsigned char c = (unsigned char)a->word[i];

		if (!isxdigit(c))
			return false;
		*address = *address << 4 | (isdigit(c) ? c - 0u - '0' : (c | 0x20u) - 'a' + 10u);
	}
	return true;
}

/* Writes the word that has come to its end, as it was or as the address that it is. */
static int end_word(struct annotator *a)
{
	char text[ANNOTATE_ADDRESS_MAX];
	uint64_t address;
	bool prefixed;
	int status = 0;

	if (a->word_bytes && read_address(a, &address, &prefixed) && annotate_address(text, a, address)) {
		if (prefixed)
			status = a->write(a->opaque, a->word, 2);
		if (!status)
			status = a->write(a->opaque, text, strlen(text));
	} else if (a->word_bytes) {
		status = a->write(a->opaque, a->word, a->word_bytes);
	}
	a->word_bytes = 0;
	a->word_too_long = false;
	return status;
}

#define ESCAPE '\033'

/*
 * The next byte of an escape sequence (ECMA-48 5.4): ESC and one byte, or ESC, [, parameters and a byte from @ to ~.
 * Whatever else comes ends it.
 */
static void continue_escape(struct annotator *a, char c)
{
	bool parameter = c >= ' ' && c <= '?';

	if (a->state == ANNOTATE_ESCAPE && c == '[')
		a->state = ANNOTATE_CONTROL;
	else if (a->state == ANNOTATE_ESCAPE || !parameter)
		a->state = ANNOTATE_TEXT;
}

static bool in_word(char c)
{
	return isalnum((unsigned char)c) || c == '_';
}

int annotate(struct annotator *a, const char *text, size_t bytes)
{
	size_t i = 0;
	int status = 0;

	while (!status && i < bytes) {
		size_t start = i;

		if (a->state != ANNOTATE_TEXT) {
			while (i < bytes && a->state != ANNOTATE_TEXT)
				continue_escape(a, text[i++]);
			status = a->write(a->opaque, text + start, i - start);
			continue;
		}
		if (in_word(text[i]) && !a->word_too_long) {
			if (a->word_bytes < sizeof a->word) {
				a->word[a->word_bytes++] = text[i++];
				continue;
			}
			/* longer than any address: what has been kept goes out, and the rest of it as it comes */
			status = a->write(a->opaque, a->word, a->word_bytes);
			a->word_bytes = 0;
			a->word_too_long = true;
			continue;
		}
		if (a->word_too_long) {
			while (i < bytes && in_word(text[i]))
				i++;
			if (i < bytes)
				a->word_too_long = false;
		} else {
			status = end_word(a);
			while (i < bytes && !in_word(text[i]) && a->state == ANNOTATE_TEXT)
				if (text[i++] == ESCAPE)
					a->state = ANNOTATE_ESCAPE;
		}
		if (!status && i > start)
			status = a->write(a->opaque, text + start, i - start);
	}
	return status;
}

int annotate_end(struct annotator *a)
{
	return end_word(a);
}
