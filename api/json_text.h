/* SPDX-License-Identifier: Apache-2.0 */
/* A streaming JSON parser with serde_json's error messages. */
#ifndef RIFFLE_API_JSON_TEXT_H
#define RIFFLE_API_JSON_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * Firecracker's clients see serde_json's messages with line and column, so requests cannot be read by jansson, which
 * parses everything first and keeps no positions. All input is hostile. Functions that return bool keep returning false
 * after a fault.
 */

#define JSON_ERROR_BYTES 3072u
#define JSON_DEPTH_MAX 128u

struct json_text {
	const char *start, *at, *end;
	unsigned depth;
	bool failed;
	bool placed; /* the error already has its line and column */
	char error[JSON_ERROR_BYTES];
};

void scan_begin(struct json_text *t, const char *text, size_t bytes);
/* Only white space may follow. */
bool scan_end(struct json_text *t);

/* The next character that is not white space, or -1 at the end. */
int scan_peek(struct json_text *t);

/* A fault in what was read last; in what comes next; or in the value, whose place scan_place() adds. */
bool scan_fail(struct json_text *t, const char *reason);
bool scan_fail_next(struct json_text *t, const char *reason);
__attribute__((format(printf, 2, 3))) bool scan_fail_value(struct json_text *t, const char *format, ...);
/* Adds line and column of what was read last to an error that has none. Returns !failed. */
bool scan_place(struct json_text *t);

/* Consumes a value of an unexpected type. */
bool scan_mismatch(struct json_text *t, const char *expected);

/* Consumes `null` and returns true, if that is next. On a fault t->failed is set. */
bool scan_null(struct json_text *t);
bool scan_bool(struct json_text *t, bool *value);

struct json_number {
	enum { JSON_UNSIGNED, JSON_SIGNED, JSON_FLOAT } kind;
	uint64_t u;
	int64_t i;
	double f;
};
/* The next character is a digit or a minus sign. */
bool scan_number(struct json_text *t, struct json_number *number);
/* "integer `5`" or "floating point `0.5`" */
void scan_number_words(const struct json_number *number, char *text, size_t room);

/*
 * The next character is a quotation mark. *string is malloc()ed, UTF-8, followed by NUL, and may contain NULs: *bytes
 * is its length.
 */
bool scan_string(struct json_text *t, char **string, size_t *bytes);

/*
 * Objects and lists: scan_enter() consumes the opening bracket. scan_next_key() leaves the key to scan_string();
 * scan_next_element() the element. *more is false at the closing bracket, which scan_leave() consumes. After a fault in
 * between, scan_leave() adds the place where serde would have stopped.
 */
bool scan_enter(struct json_text *t);
bool scan_next_key(struct json_text *t, bool *first, bool *more);
bool scan_colon(struct json_text *t);
bool scan_next_element(struct json_text *t, bool *first, bool *more);
bool scan_leave(struct json_text *t, char bracket);

/* Consumes any value. */
bool scan_skip(struct json_text *t);

#endif
