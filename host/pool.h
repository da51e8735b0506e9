/* SPDX-License-Identifier: Apache-2.0 */
/* Threads that help the library with a load, because riffle_load() starts none. */
#ifndef RIFFLE_HOST_POOL_H
#define RIFFLE_HOST_POOL_H

#include <pthread.h>

#include <riffle/load.h>

struct pool;

/* Starts `helpers` threads (0 is allowed) in addition to the callers; NULL if there is no memory. */
struct pool *pool_start(unsigned helpers);
/* Ends the threads and frees the pool; NULL is allowed. */
void pool_end(struct pool *pool);
/* Takes jobs of a load that another thread runs, possibly in several rounds, until that thread calls pool_over(). */
void pool_help(struct pool *pool);
/* No more rounds: call this after the load, however it ended, if another thread helps. */
void pool_over(struct pool *pool);
/* Starts a thread with a small stack; -1 with errno on failure. */
int pool_thread(pthread_t *thread, void *(*start)(void *argument), void *argument);
/* A struct riffle_workers that distributes jobs over the helpers and the calling thread. One load at a time. */
void pool_workers(struct pool *pool, struct riffle_workers *workers);

#endif
