/* SPDX-License-Identifier: Apache-2.0 */
/* Builds a line of metrics as JSON in a buffer, without libc, so that signal handlers can use it. */
#ifndef RIFFLE_API_METRICS_LINE_H
#define RIFFLE_API_METRICS_LINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct metrics_line {
	char *text;
	size_t room, bytes;
	bool cut; /* it did not fit */
};

void metrics_line_text(struct metrics_line *line, const char *text);
void metrics_line_number(struct metrics_line *line, uint64_t value);
/* In quotes, escaped as JSON requires. */
void metrics_line_string(struct metrics_line *line, const char *text);
/* Members of an object: a comma unless it is the first, and `"name":`. */
void metrics_line_member(struct metrics_line *line, const char *name);

#endif
