/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Fuzzes the HTTP parser: up to the first rejected request, events must not depend on how the input is split into
 * reads.
 */
#include <stdlib.h>
#include <string.h>

#include "api/http.h"
#include "tests/fuzz/accepted.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static uint64_t mixed(uint64_t hash, const void *bytes, size_t count)
{
	const uint8_t *p = bytes;

	for (size_t i = 0; i < count; i++)
		hash = (hash ^ p[i]) * UINT64_C(0x100000001b3);
	return hash;
}

/* Digest of all events up to the first rejection, with the input fed in reads of `step` bytes. */
static uint64_t run(const uint8_t *data, size_t size, size_t step)
{
	static const char *const keep[] = {"x-metadata-token", NULL};
	static const struct http_limits limits = {.line_bytes = 64, .body_bytes = 100, .keep = keep};
	struct http_parser *p = http_parser_new(&limits);
	uint64_t hash = 1, refused = 0;

	for (size_t at = 0; at < size; at += step) {
		size_t count = size - at < step ? size - at : step;
		uint8_t *copy = malloc(count);
		enum http_event event;

		memcpy(copy, data + at, count);
		http_feed(p, copy, count);
		while ((event = http_next(p)) != HTTP_NOTHING) {
			const struct http_request *r = http_parser_request(p);

			if (event == HTTP_REQUEST) {
				size_t valid;
				unsigned wrong;

				if (!http_utf8((const uint8_t *)r->uri, strlen(r->uri), &valid, &wrong) ||
				    r->body_bytes > 100 || (*r->path && *r->path != '/'))
					abort();
				if (r->body_bytes && r->body[r->body_bytes])
					abort();
				fuzz_accepted++;
			}
			if (refused)
				continue;
			hash = mixed(hash, &event, sizeof event);
			if (event == HTTP_REQUEST) {
				hash = mixed(hash, r->uri, strlen(r->uri));
				hash = mixed(hash, r->body, r->body_bytes);
				if (r->kept[0])
					hash = mixed(hash, r->kept[0], strlen(r->kept[0]));
			} else if (event == HTTP_BAD) {
				refused = mixed(hash, http_parser_error(p), strlen(http_parser_error(p)));
			}
		}
		free(copy);
	}
	http_parser_destroy(p);
	return refused ? refused : hash;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	uint64_t whole = run(data, size, size ? size : 1);

	if (run(data, size, 1) != whole || run(data, size, 7) != whole)
		abort();
	return 0;
}
