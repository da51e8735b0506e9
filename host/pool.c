/* SPDX-License-Identifier: Apache-2.0 */
/* A handful of threads that take jobs from one counter until there are none left. */
#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "host/pool.h"

#define HELPERS_MAX 15
#define STACK_BYTES (128 << 10)
#define SPINS 256

/*
 * `round` is odd while a round goes on, and what sleepers wait for. A helper counts itself busy before it looks whether
 * the round it saw still goes on; the runner closes the round before it looks whether helpers are busy. So either the
 * helper stays out or the runner waits for it. A load has few rounds of few milliseconds: locks would take a system
 * call for each time that two threads meet.
 */
struct pool {
	pthread_t thread[HELPERS_MAX];
	unsigned threads;
	_Atomic uint32_t round;
	_Atomic uint32_t busy;    /* helpers in the round */
	_Atomic uint32_t waiting; /* the runner sleeps until none are busy */
	_Atomic uint32_t asleep;  /* helpers that wait for a round */
	atomic_bool ending, over;
	void (*job)(void *argument, unsigned index);
	void *argument;
	unsigned jobs;
	atomic_uint next;
};

static void sleep_while(_Atomic uint32_t *word, uint32_t value)
{
	syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, value, NULL, NULL, 0);
}

static void wake(_Atomic uint32_t *word)
{
	syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, INT_MAX, NULL, NULL, 0);
}

/* A few microseconds: jobs of one round end about the same time, and a sleep costs more than that. */
static bool spin_while(_Atomic uint32_t *word, uint32_t value)
{
	for (unsigned i = 0; i < SPINS; i++) {
		if (atomic_load(word) != value)
			return false;
		__builtin_ia32_pause();
	}
	return true;
}

static void take_jobs(struct pool *pool)
{
	for (unsigned i; (i = atomic_fetch_add(&pool->next, 1)) < pool->jobs;)
		pool->job(pool->argument, i);
}

static void join_round(struct pool *pool, uint32_t round)
{
	atomic_fetch_add(&pool->busy, 1);
	if (atomic_load(&pool->round) == round)
		take_jobs(pool);
	if (atomic_fetch_sub(&pool->busy, 1) == 1 && atomic_load(&pool->waiting))
		wake(&pool->busy);
}

/* The round may change and `over` be set between the looks at them, but then the sleep does not begin. */
static void help_until(struct pool *pool, const atomic_bool *over)
{
	uint32_t seen = 0;

	for (;;) {
		uint32_t round = atomic_load(&pool->round);

		if (atomic_load(over))
			return;
		if ((round & 1) && round != seen) {
			seen = round;
			join_round(pool, round);
		} else if (spin_while(&pool->round, round)) {
			atomic_fetch_add(&pool->asleep, 1);
			sleep_while(&pool->round, round);
			atomic_fetch_sub(&pool->asleep, 1);
		}
	}
}

static void *helper(void *opaque)
{
	struct pool *pool = opaque;

	help_until(pool, &pool->ending);
	return NULL;
}

static void advance(struct pool *pool, uint32_t by)
{
	atomic_fetch_add(&pool->round, by);
	if (atomic_load(&pool->asleep))
		wake(&pool->round);
}

static void wait_for_helpers(struct pool *pool)
{
	uint32_t busy;

	atomic_store(&pool->waiting, 1);
	while ((busy = atomic_load(&pool->busy)))
		if (spin_while(&pool->busy, busy))
			sleep_while(&pool->busy, busy);
	atomic_store(&pool->waiting, 0);
}

static void run(void *opaque, void (*job)(void *argument, unsigned index), void *argument, unsigned jobs)
{
	struct pool *pool = opaque;

	pool->job = job;
	pool->argument = argument;
	pool->jobs = jobs;
	atomic_store(&pool->next, 0);
	advance(pool, 1);
	take_jobs(pool);
	/* nobody is woken for the end of a round */
	atomic_fetch_add(&pool->round, 1);
	wait_for_helpers(pool);
}

void pool_help(struct pool *pool)
{
	help_until(pool, &pool->over);
}

void pool_over(struct pool *pool)
{
	atomic_store(&pool->over, true);
	advance(pool, 2);
}

int pool_thread(pthread_t *thread, void *(*start)(void *argument), void *argument)
{
	pthread_attr_t attributes;
	int failed;

	pthread_attr_init(&attributes);
	pthread_attr_setstacksize(&attributes, STACK_BYTES);
	failed = pthread_create(thread, &attributes, start, argument);
	pthread_attr_destroy(&attributes);
	errno = failed;
	return failed ? -1 : 0;
}

struct pool *pool_start(unsigned helpers)
{
	struct pool *pool = calloc(1, sizeof *pool);

	if (!pool)
		return NULL;
	while (pool->threads < helpers && pool->threads < HELPERS_MAX &&
	       !pool_thread(&pool->thread[pool->threads], helper, pool))
		pool->threads++;
	return pool;
}

void pool_end(struct pool *pool)
{
	if (!pool)
		return;
	atomic_store(&pool->ending, true);
	advance(pool, 2);
	for (unsigned i = 0; i < pool->threads; i++)
		pthread_join(pool->thread[i], NULL);
	free(pool);
}

void pool_workers(struct pool *pool, struct riffle_workers *workers)
{
	*workers = (struct riffle_workers){.run = run, .opaque = pool};
}
