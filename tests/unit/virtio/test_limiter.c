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

/* To the nanosecond: what is allowed after what was taken and how much time, and how long the rest waits. */
static void waits_are_exact(void **state)
{
	static const struct {
		uint64_t size, refill_ms, burst, taken, elapsed_ns, wanted, wait_ns;
	} rows[] = {
	    /* a token a millisecond; no wait of less than two, unless the bucket is full before */
	    {1000, 1000, 0, 1000, 0, 1, 2000000},
	    {1000, 1000, 0, 1000, 0, 2, 2000000},
	    {1000, 1000, 0, 1000, 0, 3, 3000000},
	    {1000, 1000, 0, 1000, 0, 1000, 1000000000},
	    {1000, 1000, 0, 1000, 400000, 3, 2600000},
	    {1000, 1000, 0, 1000, 2500000, 2, 0},
	    {1000, 1000, 0, 1000, 2500000, 3, 1500000},
	    {1000, 1000, 0, 1000, 999999999, 1000, 1},
	    {1000, 1000, 0, 1000, 1000000000, 1000, 0},
	    {1000, 1000, 0, 600, 0, 400, 0},
	    {1000, 1000, 0, 600, 0, 401, 2000000},
	    {1000, 1000, 0, 0, 0, 1000, 0},
	    {1, 1, 0, 1, 0, 1, 1000000},
	    {3, 1000, 0, 3, 0, 1, 333333334}, /* rounded up */
	    {3, 1000, 0, 3, 0, 3, 1000000000},
	    /* more than the bucket holds is lent, and paid back before anything else */
	    {1000, 1000, 0, 0, 0, 1001, 0},
	    {1000, 1000, 0, 999, 0, 1001, 0},
	    {1000, 1000, 0, 1500, 0, 0, 0},
	    {1000, 1000, 0, 1500, 0, 1, 501000000},
	    {1000, 1000, 0, 1500, 0, 999, 1499000000},
	    {1000, 1000, 0, 1500, 0, 1000, 501000000},
	    {1000, 1000, 0, 1500, 200000000, 1, 301000000},
	    {1000, 1000, 0, 1500, 500000000, 1, 2000000},
	    {1000, 1000, 0, 1500, 700000000, 200, 0},
	    {1000, 1000, 0, 1500, 700000000, 201, 2000000},
	    {1000, 1000, 0, 1500, 1499000000, 999, 0},
	    {1000, 1000, 0, 1500, 1499000000, 1000, 1000000},
	    {1000, 1000, 0, 1500, 1500000000, 1000, 0},
	    /* the burst goes first, and once */
	    {1000, 1000, 500, 500, 0, 1000, 0},
	    {1000, 1000, 500, 499, 0, 1001, 0},
	    {1000, 1000, 500, 1400, 0, 100, 0},
	    {1000, 1000, 500, 1400, 0, 101, 2000000},
	    {1000, 1000, 500, 1500, 2000000000, 1000, 0},
	    {1000, 1000, 500, 2000, 0, 1, 501000000},
	    /* a year at most */
	    {1, UINT64_C(10) * 365 * 86400000, 0, 1, 0, 1, UINT64_C(365) * 86400 * 1000000000},
	};

	(void)state;
	for (size_t i = 0; i < 2 * sizeof rows / sizeof *rows; i++) {
		const bool ops = i % 2;
		const struct limiter_bucket_config bucket = {rows[i / 2].size, rows[i / 2].refill_ms,
							     rows[i / 2].burst};
		struct limiter_config config = {0};
		struct limiter limiter;

		*(ops ? &config.ops : &config.bytes) = bucket;
		start(&limiter, config);
		assert_true(limiter_take(&limiter, ops ? rows[i / 2].taken : 5, ops ? 5 : rows[i / 2].taken));
		clock_ns += rows[i / 2].elapsed_ns;
		bool got = limiter_take(&limiter, ops ? rows[i / 2].wanted : 5, ops ? 5 : rows[i / 2].wanted);
		uint64_t wait_ns = got ? 0 : limiter.timer.deadline_ns - clock_ns;

		if (got != !rows[i / 2].wait_ns || wait_ns != rows[i / 2].wait_ns)
			fail_msg("row %zu: got %d, waits %llu", i / 2, got, (unsigned long long)wait_ns);
		assert_int_equal(limiter_blocked(&limiter), !got);
		assert_false(!got && limiter_take(&limiter, 0, 0)); /* whatever comes while one waits, waits too */
		limiter_stop(&limiter);
		assert_false(limiter.timer.armed);
	}
}

/* The longer of two waits, and neither bucket pays for what is refused. */
static void longer_wait_counts(void **state)
{
	struct limiter limiter;

	(void)state;
	for (unsigned i = 0; i < 2; i++) {
		struct limiter_bucket_config fast = {1000, 1000, 0}, slow = {1000, 10000, 0};

		start(&limiter, (struct limiter_config){.bytes = i ? fast : slow, .ops = i ? slow : fast});
		assert_true(limiter_take(&limiter, 1000, 1000));
		assert_false(limiter_take(&limiter, 50, 50));
		assert_int_equal(limiter.timer.deadline_ns - clock_ns, 500000000);
		wait(&limiter);
		assert_true(limiter_take(&limiter, 50, 50));
		limiter_stop(&limiter);
	}
}

static void refunds_pay_debts_first(void **state)
{
	struct limiter limiter;

	(void)state;
	start(&limiter, (struct limiter_config){.bytes = {1000, 1000, 0}});
	assert_true(limiter_take(&limiter, 1, 1500));
	limiter_refund(&limiter, 1, 200);
	assert_int_equal(limiter.bytes.debt, 300);
	assert_int_equal(limiter.bytes.tokens, 0);
	limiter_refund(&limiter, 1, 800);
	assert_int_equal(limiter.bytes.debt, 0);
	assert_int_equal(limiter.bytes.tokens, 500);
	limiter_refund(&limiter, 1, 600);
	assert_int_equal(limiter.bytes.tokens, 1000);
	assert_int_equal(limiter.ops.tokens, 0); /* which has no limit */
}

/* A saved state fits into a limiter of the same or of a smaller size, and never gives more than that has. */
static void saved_and_restored(void **state)
{
	static const struct {
		uint64_t burst, tokens, debt, got_burst, got_tokens, got_debt;
	} rows[] = {
	    {60, 800, 0, 50, 100, 0}, {50, 100, 0, 50, 100, 0}, {49, 99, 0, 49, 99, 0},
	    {0, 0, 30, 0, 0, 30},     {7, 5, 30, 7, 5, 0},
	};
	struct limiter_state saved;
	struct limiter limiter;

	(void)state;
	start(&limiter, (struct limiter_config){.bytes = {1000, 1000, 500}, .ops = {10, 1000, 5}});
	assert_true(limiter_take(&limiter, 7, 700));
	limiter_save(&limiter, &saved);
	assert_int_equal(saved.burst[0] | saved.burst[1], 0);
	assert_int_equal(saved.tokens[0], 800);
	assert_int_equal(saved.tokens[1], 8);
	assert_true(limiter_take(&limiter, 1, 5000));
	limiter_save(&limiter, &saved);
	assert_int_equal(saved.debt[0], 4200);
	assert_int_equal(saved.debt[1], 0);
	for (size_t i = 0; i < 2 * sizeof rows / sizeof *rows; i++) {
		const size_t row = i / 2, which = i % 2;
		struct limiter_config config = {0};

		*(which ? &config.ops : &config.bytes) = (struct limiter_bucket_config){100, 1000, 50};
		start(&limiter, config);
		saved = (struct limiter_state){.burst = {9, 9}, .tokens = {9, 9}, .debt = {9, 9}};
		saved.burst[which] = rows[row].burst;
		saved.tokens[which] = rows[row].tokens;
		saved.debt[which] = rows[row].debt;
		clock_ns += SECOND;
		limiter_restore(&limiter, &saved);
		const struct limiter_bucket *bucket = which ? &limiter.ops : &limiter.bytes;
		const struct limiter_bucket *other = which ? &limiter.bytes : &limiter.ops;

		assert_int_equal(bucket->burst, rows[row].got_burst);
		assert_int_equal(bucket->tokens, rows[row].got_tokens);
		assert_int_equal(bucket->debt, rows[row].got_debt);
		assert_int_equal(bucket->filled_ns, clock_ns); /* the time that it was saved counts for nothing */
		assert_int_equal(other->size | other->tokens | other->burst | other->debt, 0);
	}
}

/* An update changes what it has, and lets waiting requests try again at once. */
static void updates_change_what_they_have(void **state)
{
	struct limiter limiter;

	(void)state;
	start(&limiter, (struct limiter_config){.bytes = {1000, 1000, 0}, .ops = {10, 1000, 0}});
	limiter_update(&limiter, &(struct limiter_update){.has_ops = true, .ops = {20, 1000, 0}});
	assert_int_equal(limiter.bytes.size, 1000);
	assert_int_equal(limiter.ops.size, 20);
	assert_false(limiter.timer.armed);
	limiter_update(&limiter, &(struct limiter_update){.has_bytes = true, .bytes = {30, 1000, 0}});
	assert_int_equal(limiter.bytes.size, 30);
	assert_int_equal(limiter.ops.size, 20);
	assert_true(limiter_take(&limiter, 20, 1));
	assert_false(limiter_take(&limiter, 20, 1));
	limiter_update(&limiter, &(struct limiter_update){.has_ops = true});
	assert_int_equal(limiter.timer.deadline_ns, clock_ns);
	wait(&limiter);
	assert_true(limiter_take(&limiter, 2000, 1));
	/* half a rule is none */
	static const struct limiter_bucket_config none[] = {{0, 1000, 5}, {5, 0, 5}, {1, UINT64_MAX / 1000000 + 1, 5}};

	for (unsigned i = 0; i < 3; i++) {
		limiter_update(&limiter, &(struct limiter_update){.has_bytes = true, .bytes = none[i]});
		assert_int_equal(limiter.bytes.size | limiter.bytes.burst | limiter.bytes.tokens, 0);
	}
	limiter_update(&limiter, &(struct limiter_update){.has_bytes = true, .bytes = {1, UINT64_MAX / 1000000, 0}});
	assert_int_equal(limiter.bytes.size, 1);
}

/* A bucket by itself, by the clock of the loop. */
static void bucket_alone(void **state)
{
	struct limiter_bucket bucket;

	(void)state;
	limiter_bucket_init(&bucket,
			    &(struct limiter_bucket_config){.size = 10, .refill_ms = 3600000, .one_time_burst = 2});
	for (unsigned i = 0; i < 4; i++)
		assert_true(limiter_bucket_take(&bucket, 3));
	assert_false(limiter_bucket_take(&bucket, 1));
	limiter_bucket_init(&bucket, &(struct limiter_bucket_config){0});
	assert_true(limiter_bucket_take(&bucket, UINT64_MAX));
	assert_true(limiter_bucket_take(&bucket, UINT64_MAX));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_rates),
	    cmocka_unit_test(test_ops),
	    cmocka_unit_test(test_burst),
	    cmocka_unit_test(test_large),
	    cmocka_unit_test(test_refund),
	    cmocka_unit_test(test_none),
	    cmocka_unit_test(waits_are_exact),
	    cmocka_unit_test(longer_wait_counts),
	    cmocka_unit_test(refunds_pay_debts_first),
	    cmocka_unit_test(saved_and_restored),
	    cmocka_unit_test(updates_change_what_they_have),
	    cmocka_unit_test(bucket_alone),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
