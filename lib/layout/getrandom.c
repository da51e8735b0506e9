/* SPDX-License-Identifier: Apache-2.0 */
/* The operating system's randomness, from which every real boot draws its layout. */
#include <errno.h>
#include <sys/random.h>

#include "layout/random.h"

static int fill_getrandom(void *opaque, void *buffer, size_t bytes)
{
	unsigned char *to = buffer;

	(void)opaque;
	while (bytes) {
		ssize_t got = getrandom(to, bytes, 0);

		if (got < 0 && errno == EINTR)
			continue;
		if (got <= 0)
			return -1;
		to += got;
		bytes -= (size_t)got;
	}
	return 0;
}

const struct riffle_random riffle_random_system = {.fill = fill_getrandom};
