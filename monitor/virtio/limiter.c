/* SPDX-License-Identifier: Apache-2.0 */
/* A rate limiter: token buckets for bytes and operations, refilled continuously. */
#include "monitor/virtio/limiter.h"

#define NS_PER_MS UINT64_C(1000000)
/* Waits shorter than this are made longer where nothing is lost by it: many small requests a wake-up, not one. */
#define WORTHWHILE_NS (2 * NS_PER_MS)

typedef unsigned __int128 wide;

static void configure_bucket(struct limiter_bucket *bucket, const struct limiter_bucket_config *config, uint64_t now)
{
	*bucket = (struct limiter_bucket){0};
	if (!config->size || !config->refill_ms || config->refill_ms > UINT64_MAX / NS_PER_MS)
		return;
	*bucket = (struct limiter_bucket){.size = config->size,
					  .refill_ns = config->refill_ms * NS_PER_MS,
					  .burst = config->one_time_burst,
					  .tokens = config->size,
					  .filled_ns = now};
}

/* How long `tokens` tokens take to come; no more than a year, and rounded up. */
static uint64_t time_for(const struct limiter_bucket *bucket, wide tokens)
{
	const wide year = (wide)365 * 24 * 3600 * 1000 * NS_PER_MS;
	wide ns = (tokens * bucket->refill_ns + bucket->size - 1) / bucket->size;

	return (uint64_t)(ns < year ? ns : year);
}

static void refill(struct limiter_bucket *bucket, uint64_t now)
{
	if (now < bucket->filled_ns)
		return;
	wide came = (wide)(now - bucket->filled_ns) * bucket->size / bucket->refill_ns;

	if (!came)
		return;
	if (came >= (wide)bucket->debt + (bucket->size - bucket->tokens)) {
		bucket->debt = 0;
		bucket->tokens = bucket->size;
		bucket->filled_ns = now;
		return;
	}
	/* whole tokens only; the rest of the time counts for the next one, to the nanosecond */
	bucket->filled_ns += (uint64_t)(came * bucket->refill_ns / bucket->size);
	uint64_t paid = came < bucket->debt ? (uint64_t)came : bucket->debt;

	bucket->debt -= paid;
	bucket->tokens += (uint64_t)came - paid;
}

/* What a bucket lacks of `wanted`, in tokens; 0: it can be had. Larger requests only have to wait for debts. */
static wide lacks(const struct limiter_bucket *bucket, uint64_t wanted)
{
	if (!bucket->size || !wanted || wanted <= bucket->burst)
		return 0;
	wanted -= bucket->burst;
	if (bucket->debt)
		return (wide)bucket->debt + (wanted < bucket->size ? wanted : 1);
	if (wanted > bucket->size || wanted <= bucket->tokens)
		return 0;
	return wanted - bucket->tokens;
}

static void spend(struct limiter_bucket *bucket, uint64_t wanted)
{
	if (!bucket->size)
		return;
	uint64_t burst = wanted < bucket->burst ? wanted : bucket->burst;

	bucket->burst -= burst;
	wanted -= burst;
	if (wanted > bucket->tokens) {
		bucket->debt = wanted - bucket->tokens;
		bucket->tokens = 0;
	} else {
		bucket->tokens -= wanted;
	}
}

static uint64_t wait_for(const struct limiter_bucket *bucket, wide lack, uint64_t now)
{
	if (!lack)
		return 0;
	uint64_t ns = time_for(bucket, lack);
	uint64_t full = time_for(bucket, (wide)bucket->debt + (bucket->size - bucket->tokens));
	uint64_t longer = full < WORTHWHILE_NS ? full : WORTHWHILE_NS;

	ns = ns < longer ? longer : ns;
	return ns - (now - bucket->filled_ns < ns ? now - bucket->filled_ns : ns);
}

static void expired(void *opaque)
{
	struct limiter *limiter = opaque;

	limiter->again(limiter->opaque);
}

void limiter_init(struct limiter *limiter, const struct limiter_config *config, struct loop *loop,
		  void (*again)(void *opaque), void *opaque)
{
	*limiter = (struct limiter){.loop = loop,
				    .timer = {.expired = expired, .opaque = limiter},
				    .again = again,
				    .opaque = opaque,
				    .now = loop_now};
	configure_bucket(&limiter->bytes, &config->bytes, limiter->now());
	configure_bucket(&limiter->ops, &config->ops, limiter->now());
}

void limiter_configure(struct limiter *limiter, const struct limiter_config *config)
{
	limiter_update(limiter, &(struct limiter_update){
				    .has_bytes = true, .has_ops = true, .bytes = config->bytes, .ops = config->ops});
}

void limiter_update(struct limiter *limiter, const struct limiter_update *update)
{
	if (update->has_bytes)
		configure_bucket(&limiter->bytes, &update->bytes, limiter->now());
	if (update->has_ops)
		configure_bucket(&limiter->ops, &update->ops, limiter->now());
	if (!limiter->timer.armed)
		return;
	loop_timer_set(limiter->loop, &limiter->timer, limiter->now());
}

bool limiter_take(struct limiter *limiter, uint64_t ops, uint64_t bytes)
{
	if (!limiter->bytes.size && !limiter->ops.size)
		return true;
	if (limiter->timer.armed)
		return false;
	uint64_t now = limiter->now();

	if (limiter->bytes.size)
		refill(&limiter->bytes, now);
	if (limiter->ops.size)
		refill(&limiter->ops, now);
	wide no_bytes = lacks(&limiter->bytes, bytes), no_ops = lacks(&limiter->ops, ops);

	if (no_bytes || no_ops) {
		uint64_t for_bytes = wait_for(&limiter->bytes, no_bytes, now);
		uint64_t for_ops = wait_for(&limiter->ops, no_ops, now);

		loop_timer_set(limiter->loop, &limiter->timer, now + (for_bytes > for_ops ? for_bytes : for_ops));
		return false;
	}
	spend(&limiter->bytes, bytes);
	spend(&limiter->ops, ops);
	return true;
}

static void give_back(struct limiter_bucket *bucket, uint64_t tokens)
{
	uint64_t paid = tokens < bucket->debt ? tokens : bucket->debt;
	uint64_t room = bucket->size - bucket->tokens;

	if (!bucket->size)
		return;
	bucket->debt -= paid;
	tokens -= paid;
	bucket->tokens += tokens < room ? tokens : room;
}

void limiter_refund(struct limiter *limiter, uint64_t ops, uint64_t bytes)
{
	give_back(&limiter->bytes, bytes);
	give_back(&limiter->ops, ops);
}

void limiter_bucket_init(struct limiter_bucket *bucket, const struct limiter_bucket_config *config)
{
	configure_bucket(bucket, config, loop_now());
}

bool limiter_bucket_take(struct limiter_bucket *bucket, uint64_t tokens)
{
	if (!bucket->size)
		return true;
	refill(bucket, loop_now());
	if (lacks(bucket, tokens))
		return false;
	spend(bucket, tokens);
	return true;
}

void limiter_stop(struct limiter *limiter)
{
	if (limiter->loop)
		loop_timer_cancel(limiter->loop, &limiter->timer);
}

void limiter_save(const struct limiter *limiter, struct limiter_state *state)
{
	const struct limiter_bucket *const buckets[] = {&limiter->bytes, &limiter->ops};

	for (unsigned i = 0; i < 2; i++) {
		state->burst[i] = buckets[i]->burst;
		state->tokens[i] = buckets[i]->tokens;
		state->debt[i] = buckets[i]->debt;
	}
}

void limiter_restore(struct limiter *limiter, const struct limiter_state *state)
{
	struct limiter_bucket *const buckets[] = {&limiter->bytes, &limiter->ops};

	for (unsigned i = 0; i < 2; i++) {
		struct limiter_bucket *bucket = buckets[i];

		if (!bucket->size)
			continue;
		bucket->burst = state->burst[i] < bucket->burst ? state->burst[i] : bucket->burst;
		bucket->tokens = state->tokens[i] < bucket->size ? state->tokens[i] : bucket->size;
		bucket->debt = bucket->tokens ? 0 : state->debt[i];
		bucket->filled_ns = limiter->now();
	}
}
