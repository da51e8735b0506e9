/* SPDX-License-Identifier: Apache-2.0 */
/* Writing to the last byte. */
#ifndef RIFFLE_COMMON_WRITE_ALL_H
#define RIFFLE_COMMON_WRITE_ALL_H

#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <unistd.h>

/* False with errno: ENOSPC if the file takes no more. Some bytes may have been written. */
static inline bool riffle_write_at(int fd, const void *bytes, uint64_t count, uint64_t offset)
{
	const uint8_t *from = bytes;

	while (count) {
		ssize_t done = pwrite(fd, from, count, (off_t)offset);

		if (done < 0 && errno == EINTR)
			continue;
		if (done <= 0) {
			if (!done)
				errno = ENOSPC;
			return false;
		}
		from += done;
		offset += (uint64_t)done;
		count -= (uint64_t)done;
	}
	return true;
}

/* The same where the file's offset is, or into a pipe. */
static inline bool riffle_write_all(int fd, const void *bytes, uint64_t count)
{
	const uint8_t *from = bytes;

	while (count) {
		ssize_t done = write(fd, from, count);

		if (done < 0 && errno == EINTR)
			continue;
		if (done <= 0) {
			if (!done)
				errno = ENOSPC;
			return false;
		}
		from += done;
		count -= (uint64_t)done;
	}
	return true;
}

#endif
