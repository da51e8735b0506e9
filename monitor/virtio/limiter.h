/* SPDX-License-Identifier: Apache-2.0 */
/* A rate limiter: token buckets for bytes and operations, refilled continuously. */
#ifndef RIFFLE_MONITOR_VIRTIO_LIMITER_H
#define RIFFLE_MONITOR_VIRTIO_LIMITER_H

#include <stdbool.h>
#include <stdint.h>

#include "monitor/event/loop.h"

/* `size` tokens are added per `refill_ms`, and at most `size` are kept. Either 0: no limit. */
struct limiter_bucket_config {
	uint64_t size;
	uint64_t refill_ms;
	uint64_t one_time_burst; /* spent first, and never refilled */
};

struct limiter_config {
	struct limiter_bucket_config bytes, ops;
};

/* A change of limits while running, of the buckets that it includes. */
struct limiter_update {
	bool has_bytes, has_ops;
	struct limiter_bucket_config bytes, ops; /* size or refill_ms 0: removes the limit */
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

/* A single bucket, for callers that drop what exceeds it: full at first; size 0 allows everything. */
void limiter_bucket_init(struct limiter_bucket *bucket, const struct limiter_bucket_config *config);
bool limiter_bucket_take(struct limiter_bucket *bucket, uint64_t tokens);

/* The loop calls `again` when what limiter_take() refused is available. The limiter must stay in place. */
void limiter_init(struct limiter *limiter, const struct limiter_config *config, struct loop *loop,
		  void (*again)(void *opaque), void *opaque);

/* Sets new limits while running; buckets start full. A waiting caller is called again. */
void limiter_configure(struct limiter *limiter, const struct limiter_config *config);
/* The same for the buckets in *update; the others keep their limits and tokens. */
void limiter_update(struct limiter *limiter, const struct limiter_update *update);

/*
 * Takes `ops` operations and `bytes` bytes, or neither: false, and `again` will be called. Until then every request is
 * refused. A request larger than a bucket is granted at once, and paid off before the next one is granted.
 */
bool limiter_take(struct limiter *limiter, uint64_t ops, uint64_t bytes);

/* Returns tokens that were taken and not used. */
void limiter_refund(struct limiter *limiter, uint64_t ops, uint64_t bytes);

/* True while limiter_take() refuses everything. */
static inline bool limiter_blocked(const struct limiter *limiter)
{
	return limiter->timer.armed;
}

/* Without limits limiter_take() grants everything and does nothing. */
static inline bool limiter_is_set(const struct limiter *limiter)
{
	return limiter->bytes.size || limiter->ops.size;
}

void limiter_stop(struct limiter *limiter);

/* The tokens left in the buckets, for a snapshot. Restored values are capped at the limiter's sizes. */
struct limiter_state {
	uint64_t burst[2], tokens[2], debt[2]; /* of bytes, of operations */
};

void limiter_save(const struct limiter *limiter, struct limiter_state *state);
void limiter_restore(struct limiter *limiter, const struct limiter_state *state);

#endif
