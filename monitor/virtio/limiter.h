/* SPDX-License-Identifier: Apache-2.0 */
/* A rate limiter: token buckets for bytes and operations, refilled continuously. */
#ifndef RIFFLE_MONITOR_VIRTIO_LIMITER_H
#define RIFFLE_MONITOR_VIRTIO_LIMITER_H

#include <stdbool.h>
#include <stdint.h>

#include "monitor/event/loop.h"

/* `size` tokens come in `refill_ms`, and no more than `size` are ever saved up. Either 0: no limit. */
struct limiter_bucket_config {
	uint64_t size;
	uint64_t refill_ms;
	uint64_t one_time_burst; /* spent before all else, and never refilled */
};

struct limiter_config {
	struct limiter_bucket_config bytes, ops;
};

/* A change of limits while running: of the buckets that it has. */
struct limiter_update {
	bool has_bytes, has_ops;
	struct limiter_bucket_config bytes, ops; /* size or refill_ms 0: no limit any more */
};

struct limiter_bucket {
	uint64_t size, refill_ns; /* size 0: no limit */
	uint64_t burst, tokens;
	uint64_t debt;      /* owed by a request larger than the bucket */
	uint64_t filled_ns; /* when tokens were last added */
};

struct limiter {
	struct limiter_bucket bytes, ops;
	struct loop *loop;
	struct loop_timer timer;
	void (*again)(void *opaque);
	void *opaque;
	uint64_t (*now)(void); /* loop_now(), but for tests */
};

/* A bucket alone, for whoever drops what it does not give: full at first; size 0 gives everything. */
void limiter_bucket_init(struct limiter_bucket *bucket, const struct limiter_bucket_config *config);
bool limiter_bucket_take(struct limiter_bucket *bucket, uint64_t tokens);

/* `again` is called by the loop when what limiter_take() refused may be had. The limiter must stay where it is. */
void limiter_init(struct limiter *limiter, const struct limiter_config *config, struct loop *loop,
		  void (*again)(void *opaque), void *opaque);

/* New limits while running; buckets start full. Whoever waits is called again. */
void limiter_configure(struct limiter *limiter, const struct limiter_config *config);
/* The same of the buckets in *update; the others keep their limits and what they hold. */
void limiter_update(struct limiter *limiter, const struct limiter_update *update);

/*
 * Takes `ops` operations and `bytes` bytes, or neither: false, and `again` will be called. While it waits nothing is
 * given. A request larger than a bucket is given at once, and paid for before the next one is.
 */
bool limiter_take(struct limiter *limiter, uint64_t ops, uint64_t bytes);

/* Gives back what was taken and not used. */
void limiter_refund(struct limiter *limiter, uint64_t ops, uint64_t bytes);

/* True while limiter_take() refuses everything. */
static inline bool limiter_blocked(const struct limiter *limiter)
{
	return limiter->timer.armed;
}

void limiter_stop(struct limiter *limiter);

/* What is left in the buckets, for a snapshot. What is restored is cut to what the limiter may hold. */
struct limiter_state {
	uint64_t burst[2], tokens[2], debt[2]; /* of bytes, of operations */
};

void limiter_save(const struct limiter *limiter, struct limiter_state *state);
void limiter_restore(struct limiter *limiter, const struct limiter_state *state);

#endif
