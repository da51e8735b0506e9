// SPDX-License-Identifier: Apache-2.0
/* Values as serde's messages show them. */
#include "api/json_words.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api/hidden.h"
#include "api/json_text.h"

char *json_quoted(const char *string, size_t bytes)
{
	static const char special[] = "\"\\\n\r\t", shown[] = "\"\\nrt";
	char *text = malloc(bytes * 6 + 3), *to = text;

	if (!text)
		return NULL;
	*to++ = '"';
	for (size_t i = 0; i < bytes; i++) {
		unsigned char c = (unsigned char)string[i];
		const char *letter = c ? strchr(special, c) : NULL;
		size_t length = 1;
		unsigned number = hidden_character((const unsigned char *)string + i, bytes - i, &length);

		if (letter) {
			*to++ = '\\';
			*to++ = shown[letter - special];
		} else if (number) {
			to += sprintf(to, "\\u{%x}", number);
			i += length - 1;
		} else if (c < 0x20 || c == 0x7f) {
			to += c ? sprintf(to, "\\u{%x}", c) : sprintf(to, "\\0");
		} else {
			*to++ = (char)c;
		}
	}
	*to++ = '"';
	*to = 0;
	return text;
}

/* The shortest digits: "123" and the power of ten of what follows the first digit. */
static void shortest(double value, char digits[32], int *exponent)
{
	char text[40];

	for (int precision = 0; precision <= 17; precision++) {
		snprintf(text, sizeof text, "%.*e", precision, value);
		if (strtod(text, NULL) == value)
			break;
	}
	char *to = digits;

	for (const char *c = text; *c && *c != 'e'; c++)
		if (*c >= '0' && *c <= '9')
			*to++ = *c;
	*to = 0;
	*exponent = atoi(strchr(text, 'e') + 1);
}

void json_float_words(double value, char *text, size_t room)
{
	char digits[32];
	int exponent, count;
	const char *sign = value < 0 || (value == 0 && 1 / value < 0) ? "-" : "";

	if (value == 0) {
		snprintf(text, room, "%s0.0", sign);
		return;
	}
	shortest(value < 0 ? -value : value, digits, &exponent);
	count = (int)strlen(digits);
	if (exponent >= 0 && exponent < 16) {
		int whole = exponent + 1;

		if (count <= whole)
			snprintf(text, room, "%s%s%.*s.0", sign, digits, whole - count, "0000000000000000");
		else
			snprintf(text, room, "%s%.*s.%s", sign, whole, digits, digits + whole);
	} else if (exponent < 0 && exponent >= -5) {
		snprintf(text, room, "%s0.%.*s%s", sign, -exponent - 1, "0000000000000000", digits);
	} else if (count == 1) {
		snprintf(text, room, "%s%se%d", sign, digits, exponent);
	} else {
		snprintf(text, room, "%s%c.%se%d", sign, *digits, digits + 1, exponent);
	}
}

void scan_number_words(const struct json_number *number, char *text, size_t room)
{
	char words[64];

	if (number->kind == JSON_UNSIGNED) {
		snprintf(text, room, "integer `%" PRIu64 "`", number->u);
	} else if (number->kind == JSON_SIGNED) {
		snprintf(text, room, "integer `%" PRId64 "`", number->i);
	} else {
		json_float_words(number->f, words, sizeof words);
		snprintf(text, room, "floating point `%s`", words);
	}
}
