/* SPDX-License-Identifier: Apache-2.0 */
/* Threads that help the library with a load: riffle_load() starts none of its own. */
#ifndef RIFFLE_CLI_POOL_H
#define RIFFLE_CLI_POOL_H

#include <pthread.h>

#include <riffle/load.h>

struct pool;

/* Starts `helpers` threads (0 is allowed) beside those that call; NULL when there is no memory. */
struct pool *pool_start(unsigned helpers);
/* Ends the threads and frees the pool; NULL is allowed. */
void pool_end(struct pool *pool);
/* Takes jobs of a load that another thread runs, whose rounds may be several, until that thread calls pool_over(). */
void pool_help(struct pool *pool);
/* No more rounds: to be called after the load, however it ended, where somebody helps. */
void pool_over(struct pool *pool);
/* Starts a thread with a small stack; -1 with errno when that fails. */
int pool_thread(pthread_t *thread, void *(*start)(void *argument), void *argument);
/* A struct riffle_workers that spreads jobs over the helpers and the calling thread. One load at a time. */
void pool_workers(struct pool *pool, struct riffle_workers *workers);

#endif
