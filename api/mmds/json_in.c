/* SPDX-License-Identifier: Apache-2.0 */
/* Any JSON text as a value, with numbers of any size. */
#include "api/mmds/json_in.h"

#include <ctype.h>
#include <stdbool.h>
#include <string.h>

#include "api/mmds/text.h"

#define LARGEST "9223372036854775807"
#define LARGEST_DIGITS (sizeof LARGEST - 1)
#define FLAGS (JSON_DECODE_ANY | JSON_ALLOW_NUL)

/* The length of the string that begins here, with its quotation marks. */
static size_t string_length(const char *text, size_t bytes)
{
	size_t i = 1;

	while (i < bytes && text[i] != '"')
		i += text[i] == '\\' ? 2 : 1;
	return i < bytes ? i + 1 : bytes;
}

static size_t number_length(const char *text, size_t bytes, bool *is_long)
{
	size_t i = 0;

	while (i < bytes && isdigit((unsigned char)text[i]))
		i++;
	*is_long = (i > LARGEST_DIGITS || (i == LARGEST_DIGITS && memcmp(text, LARGEST, LARGEST_DIGITS) > 0)) &&
		   (i == bytes || !memchr(".eE", text[i], 3));
	while (i < bytes && (isalnum((unsigned char)text[i]) || text[i] == '.' || text[i] == '-' || text[i] == '+'))
		i++;
	return i;
}

/* The text with an exponent after each integer that jansson refuses: it is a real then. */
static void with_reals(struct text *copy, const char *text, size_t bytes)
{
	while (bytes) {
		bool is_long = false;
		size_t length = *text == '"'                    ? string_length(text, bytes)
				: isdigit((unsigned char)*text) ? number_length(text, bytes, &is_long)
								: 1;

		text_add(copy, text, length);
		if (is_long)
			text_add_string(copy, "e0");
		text += length;
		bytes -= length;
	}
}

json_t *json_in_parse(const char *text, size_t bytes)
{
	json_error_t error;
	json_t *value = json_loadb(text, bytes, FLAGS, &error);
	struct text copy = {0};

	if (value || json_error_code(&error) != json_error_numeric_overflow)
		return value;
	with_reals(&copy, text, bytes);
	if (!copy.failed)
		value = json_loadb(copy.bytes, copy.length, FLAGS, &error);
	text_clear(&copy);
	return value;
}
