/* SPDX-License-Identifier: Apache-2.0 */
/* A hostile driver controlled by an input's bytes: registers, rings and memory of one device, in one thread. */
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
	/* an action of the host, selected by a byte of the input */
	void (*host)(void *opaque, uint8_t what, const uint8_t *data, size_t bytes);
	void *opaque;
	/* an action of a correct driver for this kind of device; NULL: none */
	void (*driver)(struct harness *harness);
};

/* Creates memory, bus and loop once; then a device, which may be detached and replaced. */
void harness_open(struct harness *harness);
void harness_attach(struct harness *harness, struct virtio_device *device);
void harness_detach(struct harness *harness);

/* Clears memory used by earlier drivers, resets the device, and executes the input. */
void harness_run(struct harness *harness, const uint8_t *data, size_t bytes);

/* The input's next bytes as a number, zeros after its end. */
uint64_t harness_take(struct harness *harness, unsigned bytes);

struct harness_buffer {
	uint64_t address;
	uint32_t bytes;
	bool in;
};

/* Makes a chain available, and notifies the device. */
void harness_send(struct harness *harness, unsigned queue, const struct harness_buffer *buffers, unsigned count);

/* Runs one turn of the loop. */
void harness_turn(struct harness *harness);

#endif
