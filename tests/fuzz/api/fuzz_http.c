/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Fuzzes the HTTP parser: up to the first rejected request, events must not depend on how the input is split into
 * reads.
 */
#include <stdlib.h>
#include <string.h>

#include "api/http.h"
#include "tests/fuzz/accepted.h"

#ifdef FUZZ_POISONS
#include <sanitizer/asan_interface.h>

/* Stacks of allocations and a large quarantine would take most of the time, and one run makes a few allocations. */
const char *__asan_default_options(void);
const char *__asan_default_options(void)
{
	return "malloc_context_size=2:quarantine_size_mb=1";
}
#else
#define ASAN_POISON_MEMORY_REGION(at, bytes) ((void)(at), (void)(bytes))
#define ASAN_UNPOISON_MEMORY_REGION(at, bytes) ((void)(at), (void)(bytes))
#endif

#define SHORT_READ 8u /* what one unit of AddressSanitizer's shadow covers: its end is checked to the byte */
#define SHORT_READS 64u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

FUZZ_UNTRACED static uint64_t mixed(uint64_t hash, const void *bytes, size_t count)
{
	const uint8_t *p = bytes;

	for (size_t i = 0; i < count; i++)
		hash = (hash ^ p[i]) * UINT64_C(0x100000001b3);
	return hash;
}

/*
 * Where the parser finds the bytes of a read, which it may only look at until it has consumed them. Short ones lie in
 * slots that are poisoned otherwise and are not used again soon: an allocation for each would take most of the time.
 */
static uint8_t *place(const uint8_t *bytes, size_t count)
{
	static _Alignas(SHORT_READ) uint8_t slots[SHORT_READS][2 * SHORT_READ];
	static unsigned next;
	uint8_t *slot;

	if (count > SHORT_READ) {
		slot = malloc(count);
	} else {
		slot = slots[next++ % SHORT_READS];
		ASAN_POISON_MEMORY_REGION(slot, sizeof slots[0]);
		ASAN_UNPOISON_MEMORY_REGION(slot, count);
	}
	memcpy(slot, bytes, count);
	return slot;
}

static void take_away(uint8_t *slot, size_t count)
{
	if (count > SHORT_READ)
		free(slot);
	else
		ASAN_POISON_MEMORY_REGION(slot, count);
}

/* Digest of all events up to the first rejection. `split`: 0 for one read, else what chooses the lengths of reads. */
static uint64_t run(const uint8_t *data, size_t size, uint64_t split)
{
	static const char *const keep[] = {"x-metadata-token", NULL};
	static const struct http_limits limits = {.line_bytes = 64, .body_bytes = 100, .keep = keep};
	struct http_parser *p = http_parser_new(&limits);
	uint64_t hash = 1, refused = 0, draws = split;

	for (size_t at = 0, count; at < size; at += count) {
		enum http_event event;
		uint8_t *read;

		count = size - at;
		if (split) {
			/* one input in four: single bytes */
			size_t most = split >> 62 ? (draws >> 40) % SHORT_READ + 1 : 1;

			draws = draws * UINT64_C(0x5851f42d4c957f2d) + 1;
			count = count < most ? count : most;
		}
		read = place(data + at, count);
		http_feed(p, read, count);
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
		take_away(read, count);
	}
	http_parser_destroy(p);
	return refused ? refused : hash;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	/* odd, so never 0; an input is always split the same way */
	uint64_t split = mixed(UINT64_C(0xcbf29ce484222325), data, size) * UINT64_C(0x9e3779b97f4a7c15) | 1;

	if (run(data, size, split) != run(data, size, 0))
		abort();
	return 0;
}
