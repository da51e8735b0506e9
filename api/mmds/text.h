/* SPDX-License-Identifier: Apache-2.0 */
/* A growing text buffer. */
#ifndef RIFFLE_API_MMDS_TEXT_H
#define RIFFLE_API_MMDS_TEXT_H

#include <stdbool.h>
#include <stddef.h>

/* All zeros is an empty text. Writes do not return errors: check `failed`, which means no memory, once at the end. */
struct text {
	char *bytes;
	size_t length, room;
	bool failed;
};

void text_add(struct text *text, const void *bytes, size_t length);
void text_add_string(struct text *text, const char *string);
__attribute__((format(printf, 2, 3))) void text_print(struct text *text, const char *format, ...);
void text_clear(struct text *text);

#endif
