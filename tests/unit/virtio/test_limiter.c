/* SPDX-License-Identifier: Apache-2.0 */
/* Rate limits over a minute of a clock that the test sets: exact, whatever the sizes of bucket and requests. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "monitor/virtio/limiter.h"

#define SECOND UINT64_C(1000000000)

static uint64_t clock_ns;
static unsigned again_count;

static uint64_t fake_now(void)
{
	return clock_ns;
}

static void again(void *opaque)
{
	(void)opaque;
	again_count++;
}

static struct loop loop;

static void start(struct limiter *limiter, struct limiter_config config)
{
	limiter_init(limiter, &(struct limiter_config){0}, &loop, again, NULL);
	limiter->now = fake_now;
	clock_ns = 1000 * SECOND;
	limiter_configure(limiter, &config);
	again_count = 0;
}

/* Stands in for the idle loop. */
static void wait(struct limiter *limiter)
{
	assert_true(limiter->timer.armed);
	assert_true(limiter->timer.deadline_ns >= clock_ns);
	clock_ns = limiter->timer.deadline_ns;
	loop_timer_cancel(&loop, &limiter->timer);
	limiter->timer.expired(limiter->timer.opaque);
}

/* A guest that always has a request, for a minute; returns the amount it got. */
static uint64_t minute(struct limiter *limiter, uint64_t ops, uint64_t bytes)
{
	uint64_t end = clock_ns + 60 * SECOND, got = 0, refused = 0;

	for (;;) {
		if (limiter_take(limiter, ops, bytes)) {
			got++;
			refused = 0;
			clock_ns += 1000; /* serving takes time, too */
			if (clock_ns >= end)
				return got;
			continue;
		}
		assert_true(++refused < 3); /* after the wait there are enough tokens */
		wait(limiter);
		if (clock_ns >= end)
			return got;
	}
}

static void test_rates(void **state)
{
	static const struct {
		uint64_t size, refill_ms, burst, request;
	} rows[] = {
	    {1000000, 1000, 0, 4096},  {100000, 50, 0, 4096},
	    {4096, 10, 0, 4096},       {512, 1, 0, 512},
	    {1000000, 60000, 0, 4096}, {10000, 100, 0, 65536},
	    {3, 1000, 0, 1},           {1000000, 1000, 5000000, 4096},
	    {7919, 37, 0, 1009},       {1u << 30, 1000, 0, 1u << 20},
	    {65536, 100, 0, 65537},
	};

	(void)state;
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		struct limiter limiter;
		struct limiter_config config = {.bytes = {rows[i].size, rows[i].refill_ms, rows[i].burst}};

		start(&limiter, config);
		double got = (double)minute(&limiter, 1, rows[i].request) * (double)rows[i].request;
		double rate = (double)rows[i].size / (double)rows[i].refill_ms * 60000.0;
		double most = rate + (double)rows[i].size + (double)rows[i].burst + (double)rows[i].request;

		printf("row %zu: %.0f bytes, %.4f of the rate\n", i, got, got / rate);
		assert_true(got >= 0.98 * rate);
		assert_true(got <= most);
	}
}

static void test_ops(void **state)
{
	struct limiter limiter;

	(void)state;
	start(&limiter, (struct limiter_config){.ops = {100, 1000, 0}});
	uint64_t got = minute(&limiter, 1, 4096);

	assert_in_range(got, 6000, 6101);
	/* the tighter of two rules */
	start(&limiter, (struct limiter_config){.ops = {100, 1000, 0}, .bytes = {4096 * 50, 1000, 0}});
	got = minute(&limiter, 1, 4096);
	assert_in_range(got, 3000, 3051);
}

static void test_burst(void **state)
{
	struct limiter limiter;

	(void)state;
	start(&limiter, (struct limiter_config){.bytes = {1000, 1000, 5000}});
	assert_true(limiter_take(&limiter, 1, 4000));
	assert_true(limiter_take(&limiter, 1, 1500)); /* 1000 of the burst, 500 of the bucket */
	assert_true(limiter_take(&limiter, 1, 500));
	assert_false(limiter_take(&limiter, 1, 1));
	clock_ns += 3600 * SECOND;
	loop_timer_cancel(&loop, &limiter.timer);
	assert_true(limiter_take(&limiter, 1, 1000)); /* never refilled beyond the bucket */
	assert_false(limiter_take(&limiter, 1, 1));
	limiter_stop(&limiter);
}

static void test_large(void **state)
{
	struct limiter limiter;

	(void)state;
	start(&limiter, (struct limiter_config){.bytes = {1000, 1000, 0}});
	assert_true(limiter_take(&limiter, 1, 3000)); /* at once; 2 s of debt */
	assert_false(limiter_take(&limiter, 1, 1));
	assert_in_range(limiter.timer.deadline_ns, clock_ns + 2 * SECOND, clock_ns + 2 * SECOND + 2 * SECOND / 1000);
	assert_true(limiter_blocked(&limiter));
	wait(&limiter);
	assert_int_equal(again_count, 1);
	assert_true(limiter_take(&limiter, 1, 1));
}

static void test_refund(void **state)
{
	struct limiter limiter;

	(void)state;
	start(&limiter, (struct limiter_config){.bytes = {1000, 1000, 0}, .ops = {2, 1000, 0}});
	assert_true(limiter_take(&limiter, 2, 1000));
	limiter_refund(&limiter, 2, 1000);
	assert_true(limiter_take(&limiter, 2, 1000));
	limiter_refund(&limiter, 100, 100000); /* no more than the bucket holds */
	assert_true(limiter_take(&limiter, 2, 1000));
	/* refused: neither was taken */
	clock_ns += SECOND / 2;
	assert_true(limiter_take(&limiter, 1, 0));
	assert_false(limiter_take(&limiter, 1, 100));
	wait(&limiter);
	assert_true(limiter_take(&limiter, 1, 100));
}

static void test_none(void **state)
{
	struct limiter limiter;

	(void)state;
	start(&limiter, (struct limiter_config){0});
	assert_true(limiter_take(&limiter, UINT64_MAX, UINT64_MAX));
	assert_false(limiter_blocked(&limiter));
	/* the largest figures that a user can write */
	start(&limiter, (struct limiter_config){.bytes = {UINT64_MAX, UINT64_MAX / 1000000, UINT64_MAX}});
	assert_true(limiter_take(&limiter, 1, UINT64_MAX));
	assert_true(limiter_take(&limiter, 1, UINT64_MAX));
	assert_false(limiter_take(&limiter, 1, UINT64_MAX));
	limiter_stop(&limiter);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_rates), cmocka_unit_test(test_ops),    cmocka_unit_test(test_burst),
	    cmocka_unit_test(test_large), cmocka_unit_test(test_refund), cmocka_unit_test(test_none),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
