/* SPDX-License-Identifier: Apache-2.0 */
/* virtio-rng: random bytes of the host's kernel. */
#ifndef RIFFLE_MONITOR_VIRTIO_RNG_H
#define RIFFLE_MONITOR_VIRTIO_RNG_H

#include "monitor/virtio/device.h"
#include "monitor/virtio/limiter.h"

struct rng;

/* Errors: MEMORY. */
int rng_new(struct rng **rng, const struct limiter_config *limits, struct loop *loop, struct riffle_error *error);

/* Attach it to a transport, which then destroys it. */
struct virtio_device *rng_device(struct rng *rng);
const struct rng_counters *rng_counters(const struct rng *rng);
void rng_limit(struct rng *rng, const struct limiter_config *limits);

#endif
