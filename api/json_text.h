/* SPDX-License-Identifier: Apache-2.0 */
/* JSON read from its beginning to its end, token by token; what is wrong is said in serde_json's words. */
#ifndef RIFFLE_API_JSON_TEXT_H
#define RIFFLE_API_JSON_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * Firecracker's clients see what serde_json says, with line and column, and so jansson, which reads everything before
 * anything is looked at and forgets where it was, cannot be what reads a request. All input is hostile. Functions that
 * return bool return false after a fault, once and for all.
 */

#define JSON_ERROR_BYTES 3072u
#define JSON_DEPTH_MAX 128u

struct json_text {
	const char *start, *at, *end;
	unsigned depth;
	bool failed;
	bool placed; /* the error has its line and column */
	char error[JSON_ERROR_BYTES];
};

void scan_begin(struct json_text *t, const char *text, size_t bytes);
/* Nothing but blanks may follow. */
bool scan_end(struct json_text *t);

/* The next character that is no blank, or -1 at the end. */
int scan_peek(struct json_text *t);

/* A fault in what was read last; in what comes next; and one of the value, whose place is said by scan_place(). */
bool scan_fail(struct json_text *t, const char *reason);
bool scan_fail_next(struct json_text *t, const char *reason);
__attribute__((format(printf, 2, 3))) bool scan_fail_value(struct json_text *t, const char *format, ...);
/* Adds line and column of what was read last to an error that has none. Returns !failed. */
bool scan_place(struct json_text *t);

/* Consumes a value that is not of the kind expected. */
bool scan_mismatch(struct json_text *t, const char *expected);

/* Consumes `null`, if that is next: true. A fault on the way: t->failed. */
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
 * scan_next_element() the element. *more is false at the closing bracket, which scan_leave() consumes. After a fault
 * in between, scan_leave() adds what serde adds: the place, as far as it reads on.
 */
bool scan_enter(struct json_text *t);
bool scan_next_key(struct json_text *t, bool *first, bool *more);
bool scan_colon(struct json_text *t);
bool scan_next_element(struct json_text *t, bool *first, bool *more);
bool scan_leave(struct json_text *t, char bracket);

/* Consumes any value. */
bool scan_skip(struct json_text *t);

#endif
