/* SPDX-License-Identifier: Apache-2.0 */
/* virtio-rng: whole buffers of bytes that differ, at most 64 KiB a request. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <string.h>

#include <cmocka.h>

#include "driver.h"
#include "monitor/virtio/rng.h"

static void test_bytes(void **state)
{
	static struct driver driver;
	struct rng *rng;
	uint32_t head, written;

	(void)state;
	driver_open(&driver);
	assert_int_equal(rng_new(&rng, &(struct limiter_config){0}, &driver.loop, NULL), 0);
	driver_attach(&driver, rng_device(rng));
	driver_begin(&driver, UINT64_MAX, 16);
	uint64_t at = driver_take(&driver, 1 << 20, 16);
	uint8_t *bytes = driver_at(&driver, at);
	struct driver_buffer two[] = {{at, 100, true}, {at + 100, 156, true}};
	unsigned counts[256] = {0};

	driver_add(&driver, 0, two, 2, false);
	driver_kick(&driver, 0);
	assert_true(driver_used(&driver, 0, &head, &written));
	assert_int_equal(written, 256);
	assert_memory_not_equal(bytes, bytes + 128, 128);
	assert_int_equal(bytes[256] | bytes[257] | bytes[258] | bytes[259], 0);

	assert_int_equal(rng_counters(rng)->bytes, 256);

	struct driver_buffer large = {at, 1 << 20, true};

	driver_add(&driver, 0, &large, 1, false);
	driver_kick(&driver, 0);
	assert_true(driver_used(&driver, 0, &head, &written));
	assert_int_equal(written, 65536);
	assert_int_equal(bytes[65536] | bytes[65537] | bytes[65538] | bytes[65539], 0);
	for (unsigned i = 0; i < 65536; i++)
		counts[bytes[i]]++;
	/* 256 each, standard deviation 16: eight of those is not chance */
	for (unsigned i = 0; i < 256; i++)
		assert_in_range(counts[i], 128, 384);
	/* a request that can take nothing gets nothing; then many at a time */
	struct driver_buffer none = {at, 8, false}, small = {at, 8, true};

	driver_add(&driver, 0, &none, 1, false);
	driver_kick(&driver, 0);
	assert_true(driver_used(&driver, 0, &head, &written));
	assert_int_equal(written, 0);
	for (unsigned i = 0; i < 100; i++) {
		driver_add(&driver, 0, &small, 1, false);
		if (i % 16 != 15 && i != 99)
			continue;
		driver_kick(&driver, 0);
		for (unsigned j = 0; j <= i % 16; j++) {
			assert_true(driver_used(&driver, 0, &head, &written));
			assert_int_equal(written, 8);
		}
	}
	driver_close(&driver);
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_bytes)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
