/* SPDX-License-Identifier: Apache-2.0 */
/* virtio-rng: whole buffers of bytes that differ, at most 64 KiB a request. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <linux/virtio_config.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/random.h>
#include <sys/syscall.h>
#include <unistd.h>

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

static atomic_uint host_gives; /* bytes before an error; UINT32_MAX: no limit */

/* In place of the C library's: in pieces, and as much as the test says. */
ssize_t getrandom(void *data, size_t bytes, unsigned flags)
{
	unsigned left = atomic_load(&host_gives);

	(void)flags;
	if (!left)
		return -1;
	if (left != UINT32_MAX) {
		bytes = bytes < left ? bytes : left;
		atomic_fetch_sub(&host_gives, (unsigned)bytes);
	}
	bytes = bytes < 5000 ? bytes : 5000;
	return syscall(SYS_getrandom, data, bytes, GRND_NONBLOCK);
}

static int with_random(void **state)
{
	(void)state;
	atomic_store(&host_gives, UINT32_MAX);
	return 0;
}

static struct driver driver;
static struct rng *rng;

static uint64_t begin(const struct limiter_config *limits, uint16_t size)
{
	driver_open(&driver);
	assert_int_equal(rng_new(&rng, limits, &driver.loop, NULL), 0);
	driver_attach(&driver, rng_device(rng));
	driver_begin(&driver, UINT64_MAX, size);
	return driver_take(&driver, 1 << 20, 16);
}

/* Each buffer to its end, no further, whatever the pieces in which the host gives. */
static void buffers_are_filled_to_their_ends(void **state)
{
	uint64_t at = begin(&(struct limiter_config){0}, 16);
	uint8_t *bytes = driver_at(&driver, at);
	struct driver_buffer three[] = {{at, 6000, true}, {at + 8192, 1, true}, {at + 16384, 5001, true}};
	uint32_t head, written;

	(void)state;
	driver_add(&driver, 0, three, 3, false);
	driver_kick(&driver, 0);
	assert_true(driver_used(&driver, 0, &head, &written));
	assert_int_equal(written, 11002);
	for (unsigned i = 0; i < 3; i++) {
		uint8_t *end = bytes + (three[i].address - at) + three[i].bytes, seen = 0;

		for (unsigned j = 0; three[i].bytes > 16 && j < 16; j++)
			seen |= end[-1 - (int)j];
		assert_true(seen || three[i].bytes == 1);
		assert_int_equal(end[0] | end[1] | end[2] | end[3], 0);
	}
	assert_int_equal(rng_counters(rng)->host_fails, 0);
	/* 64 KiB end within the second buffer */
	struct driver_buffer long_ones[] = {{at + 65536, 65000, true}, {at + (3 << 16), 1000, true}};

	driver_add(&driver, 0, long_ones, 2, false);
	driver_kick(&driver, 0);
	assert_true(driver_used(&driver, 0, &head, &written));
	assert_int_equal(written, 65536);
	uint8_t *end = bytes + (3 << 16) + 536;

	assert_int_equal(end[0] | end[1] | end[2] | end[3], 0);
	driver_close(&driver);
}

/* A host that has no more random bytes: the request ends with what there was, and it is counted. */
static void host_without_random_bytes(void **state)
{
	static const struct {
		unsigned gives, written;
	} rows[] = {{0, 0}, {99, 99}, {100, 100}, {130, 130}, {256, 256}};
	uint64_t at = begin(&(struct limiter_config){0}, 16);
	struct driver_buffer two[] = {{at, 100, true}, {at + 100, 156, true}};
	uint32_t head, written;
	uint64_t bytes = 0;

	(void)state;
	for (unsigned i = 0; i < 5; i++) {
		atomic_store(&host_gives, rows[i].gives);
		driver_add(&driver, 0, two, 2, false);
		driver_kick(&driver, 0);
		assert_true(driver_used(&driver, 0, &head, &written));
		assert_int_equal(written, rows[i].written);
		assert_int_equal(rng_counters(rng)->host_fails, i < 4 ? i + 1 : 4);
		bytes += written;
		assert_int_equal(rng_counters(rng)->bytes, bytes);
	}
	driver_close(&driver);
}

static void lift_limits(void *opaque)
{
	rng_limit(opaque, &(struct limiter_config){0});
}

/* What the limits do not allow waits in the queue. */
static void limits_hold_requests_back(void **state)
{
	uint64_t at = begin(&(struct limiter_config){.ops = {2, 3600000, 0}}, 16);
	struct driver_buffer small = {at, 8, true};
	struct driver_hold holds[3];
	uint32_t head, written;

	(void)state;
	driver_hold_loop(&driver, &holds[0]);
	for (unsigned i = 0; i < 5; i++)
		driver_add(&driver, 0, &small, 1, false);
	driver_kick(&driver, 0);
	driver_let_loop_go(&holds[0]);
	for (unsigned i = 0; i < 2; i++)
		assert_true(driver_used(&driver, 0, &head, &written));
	driver_hold_loop(&driver, &holds[1]); /* the turn is over */
	assert_int_equal(driver.queues[0].usage->idx, 2);
	assert_int_equal(rng_counters(rng)->limited, 1);
	driver_kick(&driver, 0);
	driver_let_loop_go(&holds[1]);
	driver_hold_loop(&driver, &holds[2]);
	driver_let_loop_go(&holds[2]);
	assert_int_equal(rng_counters(rng)->limited, 1); /* nothing is tried before there is something */
	struct loop_task task = {.run = lift_limits, .opaque = rng};

	loop_post(&driver.loop, &task);
	for (unsigned i = 0; i < 3; i++) {
		assert_true(driver_used(&driver, 0, &head, &written));
		assert_int_equal(written, 8);
	}
	assert_int_equal(rng_counters(rng)->limiter_events, 1);
	driver_close(&driver);
}

/* More than a turn takes, and a ring that lies. */
static void whole_ring_and_broken_one(void **state)
{
	uint64_t at = begin(&(struct limiter_config){0}, 64);
	struct driver_buffer small = {at, 8, true}, outside = {DRIVER_MEMORY, 8, true};
	struct driver_hold hold;
	uint32_t head, written;

	(void)state;
	driver_hold_loop(&driver, &hold);
	for (unsigned i = 0; i < 64; i++)
		driver_add(&driver, 0, &small, 1, false);
	driver_kick(&driver, 0);
	driver_let_loop_go(&hold);
	for (unsigned i = 0; i < 64; i++)
		assert_true(driver_used(&driver, 0, &head, &written));
	assert_true(rng_counters(rng)->events >= 4); /* 16 a turn */
	driver_add(&driver, 0, &outside, 1, false);
	driver_kick(&driver, 0);
	assert_true(driver_wait_status(&driver, VIRTIO_CONFIG_S_NEEDS_RESET));
	assert_int_equal(rng_counters(rng)->event_fails, 1);
	driver_close(&driver);
}

static void state_is_that_of_the_limits(void **state)
{
	struct virtio_device *device;
	struct riffle_error error;
	uint8_t saved[256], small[256];

	(void)state;
	begin(&(struct limiter_config){.bytes = {1000, 3600000, 0}}, 16);
	device = rng_device(rng);
	size_t bytes = device->ops->save(device, saved, sizeof saved);

	memset(small, 0xee, sizeof small);
	assert_int_equal(device->ops->save(device, small, bytes - 1), bytes);
	assert_int_equal(small[0], 0xee);
	assert_int_equal(device->ops->save(device, small, bytes), bytes);
	assert_memory_equal(small, saved, bytes);
	assert_int_equal(device->ops->restore(device, saved, bytes + 1, &error), RIFFLE_ERR_FORMAT);
	assert_int_equal(error.found, bytes + 1);
	assert_int_equal(device->ops->restore(device, saved, bytes, &error), 0);
	driver_close(&driver);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test_setup(test_bytes, with_random),
	    cmocka_unit_test_setup(buffers_are_filled_to_their_ends, with_random),
	    cmocka_unit_test_setup(host_without_random_bytes, with_random),
	    cmocka_unit_test_setup(limits_hold_requests_back, with_random),
	    cmocka_unit_test_setup(whole_ring_and_broken_one, with_random),
	    cmocka_unit_test_setup(state_is_that_of_the_limits, with_random),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
