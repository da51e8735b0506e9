/* SPDX-License-Identifier: Apache-2.0 */
/* A text that grows as it is written. */
#include "api/mmds/text.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PRINT_MAX 512u /* of what text_print() is used for; longer output is cut */

static bool reserve(struct text *text, size_t more)
{
	size_t wanted, room = text->room ? text->room : 256;

	if (text->failed || __builtin_add_overflow(text->length, more, &wanted)) {
		text->failed = true;
		return false;
	}
	while (room < wanted)
		if (__builtin_mul_overflow(room, (size_t)2, &room)) {
			text->failed = true;
			return false;
		}
	if (room == text->room)
		return true;
	char *bytes = realloc(text->bytes, room);

	if (!bytes) {
		text->failed = true;
		return false;
	}
	text->bytes = bytes;
	text->room = room;
	return true;
}

void text_add(struct text *text, const void *bytes, size_t length)
{
	if (!length || !reserve(text, length))
		return;
	memcpy(text->bytes + text->length, bytes, length);
	text->length += length;
}

void text_add_string(struct text *text, const char *string)
{
	text_add(text, string, strlen(string));
}

void text_print(struct text *text, const char *format, ...)
{
	char line[PRINT_MAX];
	va_list arguments;

	va_start(arguments, format);
	int length = vsnprintf(line, sizeof line, format, arguments);

	va_end(arguments);
	if (length < 0)
		text->failed = true;
	else
		text_add(text, line, (size_t)length < sizeof line ? (size_t)length : sizeof line - 1);
}

void text_clear(struct text *text)
{
	free(text->bytes);
	*text = (struct text){0};
}
