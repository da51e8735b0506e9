/* SPDX-License-Identifier: Apache-2.0 */
/* Bytes of the system's randomness are handed out once, in order, and are gone here afterwards. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <errno.h>
#include <string.h>
#include <sys/random.h>

#include <cmocka.h>

#include "host/entropy.h"

static struct {
	unsigned calls, interrupted;
	bool fails, is_short;
	uint8_t next;
} system_random;

/* In place of the C library's: 1, 2, 3 .. 255, 1 .. */
ssize_t getrandom(void *buffer, size_t bytes, unsigned flags)
{
	uint8_t *to = buffer;

	assert_int_equal(flags, 0);
	system_random.calls++;
	if (system_random.interrupted) {
		system_random.interrupted--;
		return errno = EINTR, -1;
	}
	if (system_random.fails)
		return errno = ENOSYS, -1;
	if (system_random.is_short)
		bytes--;
	for (size_t i = 0; i < bytes; i++) {
		system_random.next = system_random.next % 255 + 1;
		to[i] = system_random.next;
	}
	return (ssize_t)bytes;
}

static int reset(void **state)
{
	(void)state;
	memset(&system_random, 0, sizeof system_random);
	return 0;
}

static void test_each_byte_once(void **state)
{
	static const size_t takes[] = {32, 16, 8, 0, 1, 199, 7, 600};
	struct entropy entropy = {0};
	uint8_t buffer[600], expected = 0;
	size_t sum = 0;

	(void)state;
	for (size_t i = 0; i < sizeof takes / sizeof *takes; i++) {
		assert_int_equal(entropy_take(&entropy, buffer, takes[i]), 0);
		for (size_t k = 0; k < takes[i]; k++) {
			expected = expected % 255 + 1;
			assert_int_equal(buffer[k], expected);
		}
		sum += takes[i];
		/* one call for all that fits into it */
		assert_int_equal(system_random.calls, (sum + ENTROPY_BYTES - 1) / ENTROPY_BYTES);
		for (size_t k = 0; k < ENTROPY_BYTES; k++)
			assert_int_equal(entropy.bytes[k] != 0, k >= ENTROPY_BYTES - entropy.left);
	}
}

static void test_source(void **state)
{
	struct entropy entropy = {0};
	struct riffle_random random;
	uint64_t number;

	(void)state;
	entropy_source(&random, &entropy);
	assert_int_equal(riffle_random_below(&number, UINT64_C(1) << 63, &random, NULL), 0);
	assert_int_equal(number, UINT64_C(0x0807060504030201));
	assert_int_equal(entropy.left, ENTROPY_BYTES - 8);
}

static void test_failures(void **state)
{
	struct entropy entropy = {0};
	uint8_t buffer[8];

	(void)state;
	system_random.interrupted = 2;
	assert_int_equal(entropy_take(&entropy, buffer, sizeof buffer), 0);
	assert_int_equal(system_random.calls, 3);
	entropy = (struct entropy){0};
	system_random.is_short = true;
	assert_int_equal(entropy_take(&entropy, buffer, sizeof buffer), -1);
	assert_int_equal(entropy.bytes[0], 0);
	system_random.is_short = false;
	system_random.fails = true;
	assert_int_equal(entropy_take(&entropy, buffer, sizeof buffer), -1);
	assert_int_equal(errno, ENOSYS);
	assert_int_equal(entropy.left, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test_setup(test_each_byte_once, reset),
	    cmocka_unit_test_setup(test_source, reset),
	    cmocka_unit_test_setup(test_failures, reset),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
