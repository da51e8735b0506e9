/* SPDX-License-Identifier: Apache-2.0 */
/* A handful of threads that take jobs from one counter until there are none left. */
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>

#include "cli/pool.h"

#define HELPERS_MAX 15
#define STACK_BYTES (128 << 10)

struct pool {
	pthread_mutex_t mutex;
	pthread_cond_t work, idle;
	pthread_t thread[HELPERS_MAX];
	unsigned threads;
	unsigned round; /* counts calls of run(): a helper joins each at most once */
	bool open;      /* a round goes on that may be joined */
	unsigned busy;  /* helpers that have joined and not finished */
	bool ending;
	bool over; /* no round follows: whoever helps may leave */
	void (*job)(void *argument, unsigned index);
	void *argument;
	unsigned jobs;
	atomic_uint next;
};

static void take_jobs(struct pool *pool)
{
	for (unsigned i; (i = atomic_fetch_add(&pool->next, 1)) < pool->jobs;)
		pool->job(pool->argument, i);
}

/* Called and returns with the mutex held. */
static void join_round(struct pool *pool)
{
	pool->busy++;
	pthread_mutex_unlock(&pool->mutex);
	take_jobs(pool);
	pthread_mutex_lock(&pool->mutex);
	if (!--pool->busy)
		pthread_cond_signal(&pool->idle);
}

static void *helper(void *opaque)
{
	struct pool *pool = opaque;
	unsigned seen = 0;

	pthread_mutex_lock(&pool->mutex);
	while (!pool->ending) {
		if (!pool->open || pool->round == seen) {
			pthread_cond_wait(&pool->work, &pool->mutex);
			continue;
		}
		seen = pool->round;
		join_round(pool);
	}
	pthread_mutex_unlock(&pool->mutex);
	return NULL;
}

static void run(void *opaque, void (*job)(void *argument, unsigned index), void *argument, unsigned jobs)
{
	struct pool *pool = opaque;

	pthread_mutex_lock(&pool->mutex);
	pool->job = job;
	pool->argument = argument;
	pool->jobs = jobs;
	atomic_store(&pool->next, 0);
	pool->open = true;
	pool->round++;
	pthread_cond_broadcast(&pool->work);
	pthread_mutex_unlock(&pool->mutex);
	take_jobs(pool);
	pthread_mutex_lock(&pool->mutex);
	pool->open = false;
	while (pool->busy)
		pthread_cond_wait(&pool->idle, &pool->mutex);
	pthread_mutex_unlock(&pool->mutex);
}

void pool_help(struct pool *pool)
{
	unsigned seen = 0;

	pthread_mutex_lock(&pool->mutex);
	while (!pool->over) {
		if (!pool->open || pool->round == seen) {
			pthread_cond_wait(&pool->work, &pool->mutex);
			continue;
		}
		seen = pool->round;
		join_round(pool);
	}
	pthread_mutex_unlock(&pool->mutex);
}

void pool_over(struct pool *pool)
{
	pthread_mutex_lock(&pool->mutex);
	pool->over = true;
	pthread_cond_broadcast(&pool->work);
	pthread_mutex_unlock(&pool->mutex);
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
	pthread_mutex_init(&pool->mutex, NULL);
	pthread_cond_init(&pool->work, NULL);
	pthread_cond_init(&pool->idle, NULL);
	while (pool->threads < helpers && pool->threads < HELPERS_MAX &&
	       !pool_thread(&pool->thread[pool->threads], helper, pool))
		pool->threads++;
	return pool;
}

void pool_end(struct pool *pool)
{
	if (!pool)
		return;
	pthread_mutex_lock(&pool->mutex);
	pool->ending = true;
	pthread_cond_broadcast(&pool->work);
	pthread_mutex_unlock(&pool->mutex);
	for (unsigned i = 0; i < pool->threads; i++)
		pthread_join(pool->thread[i], NULL);
	pthread_mutex_destroy(&pool->mutex);
	pthread_cond_destroy(&pool->work);
	pthread_cond_destroy(&pool->idle);
	free(pool);
}

void pool_workers(struct pool *pool, struct riffle_workers *workers)
{
	*workers = (struct riffle_workers){.run = run, .opaque = pool};
}
