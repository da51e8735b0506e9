/* SPDX-License-Identifier: Apache-2.0 */
/* virtio-rng: random bytes of the host's kernel. */
#include "monitor/virtio/rng.h"

#include <linux/virtio_ids.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "common/fail.h"

/* What a request gets at most, and the loop gives in one turn: enough for any seed, no way to keep the host busy. */
#define REQUEST_BYTES 65536u
#define TURN_REQUESTS 16u

struct rng {
	struct virtio_device device;
	struct limiter limiter;
	struct rng_counters counters;
	struct virtq_chain chain;
};

static struct rng *self(struct virtio_device *device)
{
	return (struct rng *)device;
}

struct virtio_device *rng_device(struct rng *rng)
{
	return &rng->device;
}

/* Straight into the guest's buffers: no copy of them stays here. */
static uint32_t fill(const struct virtq_chain *chain, size_t bytes)
{
	size_t done = 0;

	for (unsigned i = 0; i < chain->in_count && done < bytes; i++) {
		uint8_t *at = chain->in[i].iov_base;
		size_t part = chain->in[i].iov_len < bytes - done ? chain->in[i].iov_len : bytes - done;

		for (size_t filled = 0; filled < part;) {
			ssize_t got = getrandom(at + filled, part - filled, GRND_NONBLOCK);

			if (got <= 0)
				return (uint32_t)done;
			filled += (size_t)got;
			done += (size_t)got;
		}
	}
	return (uint32_t)done;
}

/* False: the limits do not allow it yet. */
static bool serve(struct rng *rng)
{
	struct virtq *queue = &rng->device.queues[0];
	uint64_t room = rng->chain.in_bytes;
	size_t bytes = room < REQUEST_BYTES ? (size_t)room : REQUEST_BYTES;

	if (!limiter_take(&rng->limiter, 1, bytes)) {
		virtq_unpop(queue);
		counter_add(&rng->counters.limited, 1);
		return false;
	}
	uint32_t filled = fill(&rng->chain, bytes);

	if (filled < bytes)
		counter_add(&rng->counters.host_fails, 1);
	counter_add(&rng->counters.bytes, filled);
	virtq_push(queue, rng->chain.head, filled);
	return true;
}

static void rng_notify(struct virtio_device *device, unsigned index)
{
	struct rng *rng = self(device);
	struct virtq *queue = &device->queues[index];
	unsigned budget = TURN_REQUESTS;
	int got = 0;

	counter_add(&rng->counters.events, 1);
	if (limiter_blocked(&rng->limiter))
		return;
	do {
		virtq_stop_notify(queue);
		while (budget && (got = virtq_pop(queue, &rng->chain)) > 0) {
			if (!serve(rng)) {
				virtio_publish(device, index);
				return;
			}
			budget--;
		}
		if (got < 0) {
			virtio_fail(device, "the ring of the entropy device is not well-formed");
			return;
		}
		virtio_publish(device, index);
		if (!budget) {
			virtio_device_ring(device, index);
			return;
		}
	} while (virtq_start_notify(queue));
}

static void limits_allow(void *opaque)
{
	struct rng *rng = opaque;

	virtio_lock(&rng->device);
	counter_add(&rng->counters.limiter_events, 1);
	virtio_device_notify(&rng->device, 0);
	virtio_unlock(&rng->device);
}

static size_t rng_save(const struct virtio_device *device, void *state, size_t room)
{
	struct limiter_state limits;

	limiter_save(&((const struct rng *)device)->limiter, &limits);
	if (room >= sizeof limits)
		memcpy(state, &limits, sizeof limits);
	return sizeof limits;
}

static int rng_restore(struct virtio_device *device, const void *state, size_t bytes, struct riffle_error *error)
{
	struct limiter_state limits;

	if (bytes != sizeof limits)
		return riffle_fail_expected(error, RIFFLE_ERR_FORMAT, "entropy device", "its state has another size",
					    bytes, sizeof limits);
	memcpy(&limits, state, sizeof limits);
	limiter_restore(&self(device)->limiter, &limits);
	return 0;
}

static void rng_destroy(struct virtio_device *device)
{
	limiter_stop(&self(device)->limiter);
	free(device);
}

static const struct virtio_ops rng_ops = {
    .id = VIRTIO_ID_RNG,
    .queue_count = 1,
    .notify = rng_notify,
    .save = rng_save,
    .restore = rng_restore,
    .destroy = rng_destroy,
};

int rng_new(struct rng **result, const struct limiter_config *limits, struct loop *loop, struct riffle_error *error)
{
	struct rng *rng = calloc(1, sizeof *rng);

	*result = rng;
	if (!rng)
		return riffle_fail(error, RIFFLE_ERR_MEMORY, "entropy device", "out of memory");
	virtio_device_init(&rng->device, &rng_ops, "rng");
	rng->device.activate_fails = &rng->counters.activate_fails;
	rng->device.event_fails = &rng->counters.event_fails;
	limiter_init(&rng->limiter, limits, loop, limits_allow, rng);
	return 0;
}

const struct rng_counters *rng_counters(const struct rng *rng)
{
	return &rng->counters;
}

void rng_limit(struct rng *rng, const struct limiter_config *limits)
{
	virtio_lock(&rng->device);
	limiter_configure(&rng->limiter, limits);
	virtio_unlock(&rng->device);
}
