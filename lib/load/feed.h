/* SPDX-License-Identifier: Apache-2.0 */
/* A table of the kernel, read from the source in pieces that fit a cache and taken from there entry by entry. */
#ifndef RIFFLE_LOAD_FEED_H
#define RIFFLE_LOAD_FEED_H

#include "load/shuffle.h"
#include "load/vector.h"

struct feed {
	const struct shuffle_load *s;
	uint8_t *buffer;
	uint64_t next, end;     /* image offsets not yet read */
	uint32_t have, used;    /* bytes in the buffer */
};

/* `buffer` holds FEED_BYTES. */
static inline void feed_start(struct feed *feed, const struct shuffle_load *s, uint8_t *buffer, uint64_t offset,
			      uint64_t bytes)
{
	*feed = (struct feed){.s = s, .buffer = buffer, .next = offset, .end = offset + bytes};
}

static __attribute__((noinline, unused)) int feed_refill(struct feed *feed, uint32_t entry_bytes,
							  struct riffle_error *error)
{
	uint64_t bytes = FEED_BYTES / entry_bytes * entry_bytes;
	int status;

	if (bytes > feed->end - feed->next)
		bytes = feed->end - feed->next;
	/* whoever takes more than there is has miscounted: better an error than a loop without end */
	if (bytes < entry_bytes)
		return riffle_fail_found(error, RIFFLE_ERR_FORMAT, "table", "is shorter than its entries (image offset)",
					 feed->next);
	status = load_read(&feed->s->load, feed->next, feed->buffer, bytes, error);
	if (status)
		return status;
	feed->next += bytes;
	feed->have = (uint32_t)bytes;
	feed->used = 0;
	return RIFFLE_OK;
}

/* The next entries, at least one and at most `want`; *got says how many. */
HOT int feed_take(struct feed *feed, uint32_t entry_bytes, uint32_t want, const uint8_t **entries, uint32_t *got,
		  struct riffle_error *error)
{
	uint32_t bytes;

	if (feed->have == feed->used) {
		int status = feed_refill(feed, entry_bytes, error);

		if (status)
			return status;
	}
	/* compared in bytes: no division where forty thousand runs go by; `want` is of 32 bits, so its bytes may not be */
	bytes = (uint64_t)want * entry_bytes < feed->have - feed->used ? want * entry_bytes : feed->have - feed->used;
	*entries = feed->buffer + feed->used;
	*got = bytes / entry_bytes;
	feed->used += bytes;
	return RIFFLE_OK;
}

#endif
