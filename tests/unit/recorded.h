/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Outcomes of many varied inputs, compared by a digest with those that were recorded. What they should be is tested
 * elsewhere, by cases that one can read; this notices that any of them changes. When it does on purpose:
 *   RIFFLE_RECORDED=NAME TEST    prints each outcome; compare with what the tree before the change prints
 */
#ifndef RIFFLE_TESTS_RECORDED_H
#define RIFFLE_TESTS_RECORDED_H

#include <inttypes.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <riffle/error.h>

struct recorded {
	const char *name;
	uint64_t digest; /* FNV-1a */
	FILE *shown;     /* NULL: not */
	unsigned accepted, refused;
};

static inline struct recorded recorded_begin(const char *name)
{
	const char *wanted = getenv("RIFFLE_RECORDED");

	return (struct recorded){.name = name,
				 .digest = UINT64_C(0xcbf29ce484222325),
				 .shown = wanted && !strcmp(wanted, name) ? stdout : NULL};
}

static inline void record_bytes(struct recorded *r, const void *bytes, size_t count)
{
	const uint8_t *p = bytes;

	for (size_t i = 0; i < count; i++)
		r->digest = (r->digest ^ p[i]) * UINT64_C(0x100000001b3);
}

/* A line of what was found. */
__attribute__((format(printf, 2, 3))) static inline void record(struct recorded *r, const char *format, ...)
{
	char line[1024];
	va_list list;
	int bytes;

	va_start(list, format);
	bytes = vsnprintf(line, sizeof line, format, list);
	va_end(list);
	record_bytes(r, line, (size_t)bytes < sizeof line ? (size_t)bytes + 1 : sizeof line);
	if (r->shown)
		fprintf(r->shown, "%s\n", line);
}

/* The outcome of a call: its error, whole. Returns its status. */
static inline int record_status(struct recorded *r, int status, const struct riffle_error *error)
{
	char text[512];

	if (!status) {
		r->accepted++;
		return 0;
	}
	r->refused++;
	riffle_error_format(error, text, sizeof text);
	record(r, "%d %s", status, text);
	return status;
}

/* What has to have been found; the counts say what kind of inputs these were. */
struct recording {
	const char *name;
	uint64_t digest;
	unsigned accepted, refused;
};

static inline bool recorded_is(const struct recorded *r, const struct recording *wanted)
{
	if (r->digest == wanted->digest && r->accepted == wanted->accepted && r->refused == wanted->refused)
		return true;
	fprintf(stderr,
		"{\"%s\", UINT64_C(0x%016" PRIx64 "), %u, %u} is what was found; RIFFLE_RECORDED='%s' shows it\n",
		r->name, r->digest, r->accepted, r->refused, r->name);
	return false;
}

#endif
