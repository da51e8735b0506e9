// SPDX-License-Identifier: Apache-2.0
/* JSON's tokens, and where a fault lies. */
#include "api/json_text.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api/http.h"
#include "api/json_words.h"

void scan_begin(struct json_text *t, const char *text, size_t bytes)
{
	t->start = t->at = text;
	t->end = text + bytes;
	t->depth = 0;
	t->failed = t->placed = false;
	*t->error = 0;
}

/* Adds the line and column of the character before `at`, counted from 1. */
static void add_place(struct json_text *t, const char *at)
{
	size_t used = strlen(t->error), line = 1;
	const char *line_start = t->start;

	for (const char *c = t->start; c < at; c++)
		if (*c == '\n') {
			line++;
			line_start = c + 1;
		}
	snprintf(t->error + used, sizeof t->error - used, " at line %zu column %zu", line, (size_t)(at - line_start));
	t->placed = true;
}

static bool fail_at(struct json_text *t, const char *reason, const char *at)
{
	if (t->failed)
		return false;
	t->failed = true;
	snprintf(t->error, sizeof t->error, "%s", reason);
	add_place(t, at);
	return false;
}

bool scan_fail(struct json_text *t, const char *reason)
{
	return fail_at(t, reason, t->at);
}

bool scan_fail_next(struct json_text *t, const char *reason)
{
	return fail_at(t, reason, t->at < t->end ? t->at + 1 : t->at);
}

bool scan_fail_value(struct json_text *t, const char *format, ...)
{
	va_list args;

	if (t->failed)
		return false;
	t->failed = true;
	va_start(args, format);
	/* room for the place */
	vsnprintf(t->error, sizeof t->error - 64, format, args);
	va_end(args);
	return false;
}

bool scan_place(struct json_text *t)
{
	if (t->failed && !t->placed)
		add_place(t, t->at);
	return !t->failed;
}

int scan_peek(struct json_text *t)
{
	while (t->at < t->end && (*t->at == ' ' || *t->at == '\n' || *t->at == '\t' || *t->at == '\r'))
		t->at++;
	return t->at < t->end ? (unsigned char)*t->at : -1;
}

bool scan_end(struct json_text *t)
{
	if (t->failed)
		return false;
	return scan_peek(t) < 0 || scan_fail_next(t, "trailing characters");
}

/* The rest of true, false or null, after its first letter. */
static bool word_rest(struct json_text *t, const char *rest)
{
	for (; *rest; rest++) {
		if (t->at == t->end)
			return scan_fail(t, "EOF while parsing a value");
		if (*t->at++ != *rest)
			return scan_fail(t, "expected ident");
	}
	return true;
}

bool scan_null(struct json_text *t)
{
	if (t->failed || scan_peek(t) != 'n')
		return false;
	t->at++;
	return word_rest(t, "ull");
}

bool scan_bool(struct json_text *t, bool *value)
{
	int c = t->failed ? -1 : scan_peek(t);

	if (t->failed)
		return false;
	if (c != 't' && c != 'f')
		return scan_mismatch(t, "a boolean");
	t->at++;
	*value = c == 't';
	return word_rest(t, c == 't' ? "rue" : "alse");
}

static int digit_next(const struct json_text *t)
{
	return t->at < t->end && *t->at >= '0' && *t->at <= '9' ? *t->at - '0' : -1;
}

static bool digits_after_point(struct json_text *t)
{
	t->at++;
	if (digit_next(t) < 0)
		return scan_fail_next(t, t->at < t->end ? "invalid number" : "EOF while parsing a value");
	while (digit_next(t) >= 0)
		t->at++;
	return true;
}

static bool exponent(struct json_text *t)
{
	t->at++;
	if (t->at < t->end && (*t->at == '+' || *t->at == '-'))
		t->at++;
	if (t->at == t->end)
		return scan_fail(t, "EOF while parsing a value");
	if (digit_next(t) < 0) {
		t->at++;
		return scan_fail(t, "invalid number");
	}
	while (digit_next(t) >= 0)
		t->at++;
	return true;
}

/* Digits without a leading zero; *fits: their value is *u. */
static bool whole_digits(struct json_text *t, uint64_t *u, bool *fits)
{
	*u = 0;
	*fits = true;
	if (t->at == t->end)
		return scan_fail(t, "EOF while parsing a value");
	if (digit_next(t) < 0) {
		t->at++;
		return scan_fail(t, "invalid number");
	}
	if (*t->at == '0') {
		t->at++;
		return digit_next(t) < 0 || scan_fail_next(t, "invalid number");
	}
	for (int digit; (digit = digit_next(t)) >= 0; t->at++)
		if (__builtin_mul_overflow(*u, 10, u) || __builtin_add_overflow(*u, (uint64_t)digit, u))
			*fits = false;
	return true;
}

/* strtod() wants a terminated text; a number with more digits than that is cut, which changes no digit that shows. */
static bool to_double(struct json_text *t, const char *from, double *value)
{
	char text[400];
	size_t bytes = (size_t)(t->at - from);

	if (bytes >= sizeof text) {
		char *copy = strndup(from, bytes);

		if (!copy)
			return scan_fail(t, "number out of range");
		*value = strtod(copy, NULL);
		free(copy);
	} else {
		memcpy(text, from, bytes);
		text[bytes] = 0;
		*value = strtod(text, NULL);
	}
	return isfinite(*value) || scan_fail(t, "number out of range");
}

bool scan_number(struct json_text *t, struct json_number *number)
{
	const char *from = t->at;
	bool negative = *t->at == '-', fits, whole = true;
	uint64_t u;

	if (negative)
		t->at++;
	if (!whole_digits(t, &u, &fits))
		return false;
	if (t->at < t->end && *t->at == '.') {
		whole = false;
		if (!digits_after_point(t))
			return false;
	}
	if (t->at < t->end && (*t->at == 'e' || *t->at == 'E')) {
		whole = false;
		if (!exponent(t))
			return false;
	}
	if (whole && fits && !negative) {
		number->kind = JSON_UNSIGNED;
		number->u = u;
		return true;
	}
	/* a negative zero is none of the integers */
	if (whole && fits && u && u <= (uint64_t)INT64_MAX + 1) {
		number->kind = JSON_SIGNED;
		number->i = (int64_t)(~u + 1);
		return true;
	}
	number->kind = JSON_FLOAT;
	return to_double(t, from, &number->f);
}

/* Four hexadecimal digits. */
static bool hex4(struct json_text *t, unsigned *value)
{
	*value = 0;
	if (t->end - t->at < 4) {
		t->at = t->end;
		return scan_fail(t, "EOF while parsing a string");
	}
	for (unsigned i = 0; i < 4; i++) {
		char c = *t->at++;
		unsigned digit;

		if (c >= '0' && c <= '9')
			digit = (unsigned)(c - '0');
		else if ((c | 0x20) >= 'a' && (c | 0x20) <= 'f')
			digit = (unsigned)((c | 0x20) - 'a') + 10;
		else {
			t->at += 3 - i; /* serde looks at the four at once */
			return scan_fail(t, "invalid escape");
		}
		*value = *value << 4 | digit;
	}
	return true;
}

static size_t put_utf8(char *to, unsigned code)
{
	if (code < 0x80) {
		to[0] = (char)code;
		return 1;
	}
	if (code < 0x800) {
		to[0] = (char)(0xc0 | code >> 6);
		to[1] = (char)(0x80 | (code & 0x3f));
		return 2;
	}
	if (code < 0x10000) {
		to[0] = (char)(0xe0 | code >> 12);
		to[1] = (char)(0x80 | (code >> 6 & 0x3f));
		to[2] = (char)(0x80 | (code & 0x3f));
		return 3;
	}
	to[0] = (char)(0xf0 | code >> 18);
	to[1] = (char)(0x80 | (code >> 12 & 0x3f));
	to[2] = (char)(0x80 | (code >> 6 & 0x3f));
	to[3] = (char)(0x80 | (code & 0x3f));
	return 4;
}

/* After backslash and u: one code point, of two escapes where it needs a surrogate pair. */
static bool unicode_escape(struct json_text *t, char *to, size_t *used)
{
	unsigned code, low;

	if (!hex4(t, &code))
		return false;
	if (code >= 0xdc00 && code <= 0xdfff)
		return scan_fail(t, "lone leading surrogate in hex escape");
	if (code >= 0xd800 && code <= 0xdbff) {
		for (const char *c = "\\u"; *c; c++) {
			if (t->at == t->end)
				return scan_fail(t, "EOF while parsing a string");
			if (*t->at++ != *c)
				return scan_fail(t, "unexpected end of hex escape");
		}
		if (!hex4(t, &low))
			return false;
		if (low < 0xdc00 || low > 0xdfff)
			return scan_fail(t, "lone leading surrogate in hex escape");
		code = 0x10000 + ((code - 0xd800) << 10) + (low - 0xdc00);
	}
	*used += put_utf8(to + *used, code);
	return true;
}

/* After a backslash. */
static bool escape(struct json_text *t, char *to, size_t *used)
{
	static const char from[] = "\"\\/bfnrt", into[] = "\"\\/\b\f\n\r\t";
	const char *found;
	char c;

	if (t->at == t->end)
		return scan_fail(t, "EOF while parsing a string");
	c = *t->at++;
	if (c == 'u')
		return unicode_escape(t, to, used);
	found = c ? strchr(from, c) : NULL;
	if (!found)
		return scan_fail(t, "invalid escape");
	to[(*used)++] = into[found - from];
	return true;
}

static bool string_body(struct json_text *t, char *to, size_t *used)
{
	for (;;) {
		unsigned char c;

		if (t->at == t->end)
			return scan_fail(t, "EOF while parsing a string");
		c = (unsigned char)*t->at++;
		if (c == '"')
			return true;
		if (c < 0x20)
			return scan_fail(t, "control character (\\u0000-\\u001F) found while parsing a string");
		if (c != '\\')
			to[(*used)++] = (char)c;
		else if (!escape(t, to, used))
			return false;
	}
}

bool scan_string(struct json_text *t, char **string, size_t *bytes)
{
	size_t valid, room = 1;
	unsigned wrong;

	if (t->failed)
		return false;
	t->at++;
	/* no escape is shorter than what it stands for */
	for (const char *c = t->at; c < t->end && *c != '"'; c++, room++)
		if (*c == '\\' && c + 1 < t->end) {
			c++;
			room++;
		}
	*bytes = 0;
	*string = malloc(room + 1);
	if (!*string)
		return scan_fail(t, "out of memory");
	if (string_body(t, *string, bytes)) {
		(*string)[*bytes] = 0;
		if (http_utf8((const uint8_t *)*string, *bytes, &valid, &wrong))
			return true;
		scan_fail(t, "invalid unicode code point");
	}
	free(*string);
	*string = NULL;
	return false;
}

bool scan_mismatch(struct json_text *t, const char *expected)
{
	int c = scan_peek(t);
	struct json_number number;
	char words[200], *string = NULL;
	size_t bytes;
	bool value;

	if (c == 'n') {
		if (scan_null(t))
			scan_fail_value(t, "invalid type: null, expected %s", expected);
	} else if (c == 't' || c == 'f') {
		if (scan_bool(t, &value))
			scan_fail_value(t, "invalid type: boolean `%s`, expected %s", value ? "true" : "false",
					expected);
	} else if (c == '-' || (c >= '0' && c <= '9')) {
		if (scan_number(t, &number)) {
			scan_number_words(&number, words, sizeof words);
			scan_fail_value(t, "invalid type: %s, expected %s", words, expected);
		}
	} else if (c == '"') {
		if (scan_string(t, &string, &bytes)) {
			char *shown = json_quoted(string, bytes);

			scan_fail_value(t, "invalid type: string %.1500s, expected %s", shown ? shown : "", expected);
			free(shown);
		}
		free(string);
	} else if (c == '[' || c == '{') {
		scan_fail_value(t, "invalid type: %s, expected %s", c == '[' ? "sequence" : "map", expected);
	} else {
		return scan_fail_next(t, c < 0 ? "EOF while parsing a value" : "expected value");
	}
	return scan_place(t);
}

bool scan_enter(struct json_text *t)
{
	if (t->failed)
		return false;
	if (++t->depth >= JSON_DEPTH_MAX)
		return scan_fail_next(t, "recursion limit exceeded");
	t->at++;
	return true;
}

bool scan_next_key(struct json_text *t, bool *first, bool *more)
{
	int c = scan_peek(t);

	*more = false;
	if (t->failed)
		return false;
	if (c < 0)
		return scan_fail_next(t, "EOF while parsing an object");
	if (c == '}')
		return true;
	if (*first) {
		*first = false;
	} else if (c == ',') {
		t->at++;
		c = scan_peek(t);
		if (c < 0)
			return scan_fail_next(t, "EOF while parsing a value");
		if (c == '}')
			return scan_fail_next(t, "trailing comma");
	} else {
		return scan_fail_next(t, "expected `,` or `}`");
	}
	if (c != '"')
		return scan_fail_next(t, "key must be a string");
	*more = true;
	return true;
}

bool scan_colon(struct json_text *t)
{
	int c = scan_peek(t);

	if (t->failed)
		return false;
	if (c < 0)
		return scan_fail_next(t, "EOF while parsing an object");
	if (c != ':')
		return scan_fail_next(t, "expected `:`");
	t->at++;
	return true;
}

bool scan_next_element(struct json_text *t, bool *first, bool *more)
{
	int c = scan_peek(t);

	*more = false;
	if (t->failed)
		return false;
	if (c < 0)
		return scan_fail_next(t, "EOF while parsing a list");
	if (c == ']')
		return true;
	if (*first) {
		*first = false;
	} else if (c == ',') {
		t->at++;
		c = scan_peek(t);
		if (c == ']')
			return scan_fail_next(t, "trailing comma");
		if (c < 0)
			return scan_fail_next(t, "EOF while parsing a value");
	} else {
		return scan_fail_next(t, "expected `,` or `]`");
	}
	*more = true;
	return true;
}

bool scan_leave(struct json_text *t, char bracket)
{
	t->depth--;
	if (t->failed && t->placed)
		return false;
	if (scan_peek(t) == bracket)
		t->at++;
	return scan_place(t);
}

static bool skip_members(struct json_text *t, bool object)
{
	bool first = true, more;

	for (;;) {
		char *key = NULL;
		size_t bytes;

		if (!(object ? scan_next_key(t, &first, &more) : scan_next_element(t, &first, &more)))
			return false;
		if (!more)
			return true;
		if (object) {
			bool good = scan_string(t, &key, &bytes);

			free(key);
			if (!good || !scan_colon(t))
				return false;
		}
		if (!scan_skip(t))
			return false;
	}
}

bool scan_skip(struct json_text *t)
{
	int c = scan_peek(t);
	struct json_number number;
	char *string = NULL;
	size_t bytes;
	bool value, good;

	if (t->failed)
		return false;
	if (c == 'n')
		return scan_null(t);
	if (c == 't' || c == 'f')
		return scan_bool(t, &value);
	if (c == '-' || (c >= '0' && c <= '9'))
		return scan_number(t, &number);
	if (c == '"') {
		good = scan_string(t, &string, &bytes);
		free(string);
		return good;
	}
	if (c != '{' && c != '[')
		return scan_fail_next(t, c < 0 ? "EOF while parsing a value" : "expected value");
	if (scan_enter(t))
		skip_members(t, c == '{');
	return scan_leave(t, c == '{' ? '}' : ']');
}
