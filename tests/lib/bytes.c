/* SPDX-License-Identifier: Apache-2.0 */
/* Growing bytes, unnamed files and repeatable randomness for tests. */
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "tests/lib/kernels.h"

static uint8_t *grow(struct test_bytes *bytes, size_t count)
{
	if (!bytes->at || bytes->room - bytes->count < count) {
		bytes->room = 2 * bytes->room + count + 64;
		bytes->at = realloc(bytes->at, bytes->room);
		if (!bytes->at)
			abort();
	}
	bytes->count += count;
	return bytes->at + bytes->count - count;
}

void test_bytes_add(struct test_bytes *bytes, const void *more, size_t count)
{
	uint8_t *to = grow(bytes, count);

	if (count)
		memcpy(to, more, count);
}

void test_bytes_zero(struct test_bytes *bytes, size_t count)
{
	uint8_t *to = grow(bytes, count);

	memset(to, 0, count);
}

void test_bytes_word(struct test_bytes *bytes, uint32_t word)
{
	test_bytes_add(bytes, &word, sizeof word);
}

void test_bytes_free(struct test_bytes *bytes)
{
	free(bytes->at);
	memset(bytes, 0, sizeof *bytes);
}

int test_file(const void *bytes, size_t count)
{
	int fd = memfd_create("riffle-test", MFD_CLOEXEC);
	size_t done = 0;

	if (fd < 0)
		abort();
	while (done < count) {
		ssize_t n = write(fd, (const uint8_t *)bytes + done, count - done);

		if (n <= 0)
			abort();
		done += (size_t)n;
	}
	return fd;
}

int test_file_of(const struct test_bytes *bytes)
{
	return test_file(bytes->at, bytes->count);
}

uint64_t test_random(uint64_t *state)
{
	uint64_t z = *state += UINT64_C(0x9e3779b97f4a7c15);

	z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
	return z ^ z >> 31;
}
