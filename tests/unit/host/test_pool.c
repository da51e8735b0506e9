/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Each job of each round runs exactly once before the round is over, however many threads help and whenever they join.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "host/pool.h"

#define ROUNDS 20000u
#define JOBS_MAX 33u

struct round {
	unsigned number, jobs;
	unsigned ran[JOBS_MAX]; /* not atomic: safe because of the pool's guarantees */
};

static void job(void *argument, unsigned index)
{
	struct round *round = argument;

	if (index < JOBS_MAX)
		round->ran[index] += 1 + round->number;
}

/* False if a job of some round did not run exactly once before the round was over. */
static bool run_rounds(struct pool *pool)
{
	static struct round rounds[2];
	struct riffle_workers workers;

	pool_workers(pool, &workers);
	for (unsigned i = 0; i < ROUNDS; i++) {
		struct round *round = &rounds[i % 2]; /* a late job would show in the round after the next */

		*round = (struct round){.number = i, .jobs = i % JOBS_MAX};
		workers.run(workers.opaque, job, round, round->jobs);
		for (unsigned k = 0; k < JOBS_MAX; k++)
			if (round->ran[k] != (k < round->jobs ? 1 + i : 0))
				return false;
	}
	return true;
}

static void test_helpers(void **state)
{
	(void)state;
	for (unsigned helpers = 0; helpers <= 3; helpers++) {
		struct pool *pool = pool_start(helpers);

		assert_non_null(pool);
		assert_true(run_rounds(pool));
		pool_end(pool);
	}
}

struct load {
	struct pool *pool;
	bool right;
};

static void *load_thread(void *opaque)
{
	struct load *load = opaque;

	load->right = run_rounds(load->pool);
	pool_over(load->pool);
	return NULL;
}

/* As in machine/load.c: one thread runs the rounds, another helps, and leaves when the load is over. */
static void test_one_who_comes_later(void **state)
{
	(void)state;
	for (unsigned i = 0; i < 5; i++) {
		struct load load = {.pool = pool_start(i % 2)};
		pthread_t thread;

		assert_non_null(load.pool);
		assert_return_code(pool_thread(&thread, load_thread, &load), 0);
		pool_help(load.pool);
		assert_int_equal(pthread_join(thread, NULL), 0);
		assert_true(load.right);
		pool_end(load.pool);
	}
}

/* A thread that joins after the end does not wait. */
static void test_too_late(void **state)
{
	struct pool *pool = pool_start(0);

	(void)state;
	assert_non_null(pool);
	pool_over(pool);
	pool_help(pool);
	pool_end(pool);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_helpers),
	    cmocka_unit_test(test_one_who_comes_later),
	    cmocka_unit_test(test_too_late),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
