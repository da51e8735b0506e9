/* SPDX-License-Identifier: Apache-2.0 */
/* A line of metrics as it grows: JSON into a buffer, without the C library's help, so that a signal's handler can. */
#include "api/metrics_line.h"

static void add(struct metrics_line *line, char byte)
{
	if (line->bytes < line->room)
		line->text[line->bytes++] = byte;
	else
		line->cut = true;
}

void metrics_line_text(struct metrics_line *line, const char *text)
{
	while (*text)
		add(line, *text++);
}

void metrics_line_number(struct metrics_line *line, uint64_t value)
{
	char digits[20];
	unsigned count = 0;

	do
		digits[count++] = (char)('0' + value % 10);
	while (value /= 10);
	while (count)
		add(line, digits[--count]);
}

void metrics_line_string(struct metrics_line *line, const char *text)
{
	static const char hex[] = "0123456789abcdef";

	add(line, '"');
	for (; *text; text++) {
		unsigned char byte = (unsigned char)*text;

		if (byte < ' ') {
			metrics_line_text(line, "\\u00");
			add(line, hex[byte >> 4]);
			add(line, hex[byte & 15]);
			continue;
		}
		if (byte == '"' || byte == '\\')
			add(line, '\\');
		add(line, *text);
	}
	add(line, '"');
}

void metrics_line_member(struct metrics_line *line, const char *name)
{
	if (line->bytes && line->text[line->bytes - 1] != '{')
		add(line, ',');
	metrics_line_string(line, name);
	add(line, ':');
}
