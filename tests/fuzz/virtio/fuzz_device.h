/* SPDX-License-Identifier: Apache-2.0 */
/* A virtio device driven by hostile input: registers, rings and buffers, in any order. */
#ifndef RIFFLE_FUZZ_DEVICE_H
#define RIFFLE_FUZZ_DEVICE_H

#include "monitor/virtio/mmio.h"

/* Defined by each target: creates its device, once for all inputs. Aborts on failure. */
struct virtio_device *fuzz_device_make(struct loop *loop);

/* Called between inputs and after each step, in place of the device's own descriptors and timers. */
void fuzz_device_step(struct virtio_device *device);

#endif
