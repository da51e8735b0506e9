/* SPDX-License-Identifier: Apache-2.0 */
/* A virtio device driven by hostile input: registers, rings and buffers, in any order. */
#ifndef RIFFLE_FUZZ_DEVICE_H
#define RIFFLE_FUZZ_DEVICE_H

#include "monitor/virtio/mmio.h"

/* What a target defines: its device, made once and used for all inputs. Aborts when it cannot be had. */
struct virtio_device *fuzz_device_make(struct loop *loop);

/* Called between two inputs and after each step of one, for what the device's own descriptors and timers would do. */
void fuzz_device_step(struct virtio_device *device);

#endif
