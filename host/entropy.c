/* SPDX-License-Identifier: Apache-2.0 */
/* The operating system's randomness, asked for once for the many numbers that a start draws. */
#include "host/entropy.h"

#include <errno.h>
#include <string.h>
#include <sys/random.h>

static int refill(struct entropy *entropy)
{
	ssize_t got;

	do
		got = getrandom(entropy->bytes, sizeof entropy->bytes, 0);
	while (got < 0 && errno == EINTR);
	if (got != sizeof entropy->bytes) {
		riffle_wipe(entropy->bytes, sizeof entropy->bytes);
		return -1;
	}
	entropy->left = sizeof entropy->bytes;
	return 0;
}

int entropy_take(void *opaque, void *buffer, size_t bytes)
{
	struct entropy *entropy = opaque;
	uint8_t *to = buffer;

	while (bytes) {
		uint8_t *from;
		size_t part;

		if (!entropy->left && refill(entropy))
			return -1;
		part = bytes < entropy->left ? bytes : entropy->left;
		from = entropy->bytes + sizeof entropy->bytes - entropy->left;
		memcpy(to, from, part);
		riffle_wipe(from, part);
		entropy->left -= part;
		to += part;
		bytes -= part;
	}
	return 0;
}

void entropy_source(struct riffle_random *random, struct entropy *entropy)
{
	*random = (struct riffle_random){.fill = entropy_take, .opaque = entropy};
}
