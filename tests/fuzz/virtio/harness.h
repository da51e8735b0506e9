/* SPDX-License-Identifier: Apache-2.0 */
/* A hostile driver made of an input's bytes: registers, rings and memory of one device, in one thread. */
#ifndef RIFFLE_FUZZ_VIRTIO_HARNESS_H
#define RIFFLE_FUZZ_VIRTIO_HARNESS_H

#include <stddef.h>
#include <stdint.h>

#include "monitor/virtio/mmio.h"

struct harness {
	struct guest_memory memory;
	struct bus bus;
	struct loop loop;
	struct virtio_mmio mmio;
	const uint8_t *at, *end; /* what is left of the input */
	uint16_t next[VIRTIO_QUEUES_MAX], descriptor[VIRTIO_QUEUES_MAX];
	/* something that the host's side does, by a byte of the input */
	void (*host)(void *opaque, uint8_t what, const uint8_t *data, size_t bytes);
	void *opaque;
};

/* Memory, bus and loop, once; a device, which may be detached and replaced by another. */
void harness_open(struct harness *harness);
void harness_attach(struct harness *harness, struct virtio_device *device);
void harness_detach(struct harness *harness);

/* Clears what drivers touched, resets the device, and does what the input says. */
void harness_run(struct harness *harness, const uint8_t *data, size_t bytes);

/* What is ready in the loop is served, once. */
void harness_turn(struct harness *harness);

#endif
