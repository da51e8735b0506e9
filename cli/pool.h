/* SPDX-License-Identifier: Apache-2.0 */
/* Threads that help the library with a load: riffle_load() starts none of its own. */
#ifndef RIFFLE_CLI_POOL_H
#define RIFFLE_CLI_POOL_H

#include <riffle/load.h>

struct pool;

/* Starts `helpers` threads beside the caller's own; NULL when that fails. */
struct pool *pool_start(unsigned helpers);
/* Ends the threads and frees the pool; NULL is allowed. */
void pool_end(struct pool *pool);
/* A struct riffle_workers that spreads jobs over the helpers and the calling thread. One load at a time. */
void pool_workers(struct pool *pool, struct riffle_workers *workers);

#endif
