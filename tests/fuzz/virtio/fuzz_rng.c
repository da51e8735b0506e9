/* SPDX-License-Identifier: Apache-2.0 */
/* Fuzz target: an entropy device. */
#include <stdlib.h>

#include "fuzz_device.h"
#include "monitor/virtio/rng.h"

struct virtio_device *fuzz_device_make(struct loop *loop)
{
	struct rng *rng;

	if (rng_new(&rng, &(struct limiter_config){0}, loop, NULL))
		abort();
	return rng_device(rng);
}

void fuzz_device_step(struct virtio_device *device)
{
	(void)device;
}
