/* SPDX-License-Identifier: Apache-2.0 */
/* A virtio driver for tests: guest memory, a bus, an event loop in its own thread, and rings that can be corrupted. */
#ifndef RIFFLE_TEST_VIRTIO_DRIVER_H
#define RIFFLE_TEST_VIRTIO_DRIVER_H

#include <linux/virtio_ring.h>

#include "monitor/bus/bus.h"
#include "monitor/virtio/mmio.h"

#define DRIVER_ADDRESS 0xc0001000u
#define DRIVER_MEMORY (UINT64_C(16) << 20)

struct driver_queue {
	uint64_t descriptors, avail, used;
	struct vring_desc *table;
	struct vring_avail *available;
	struct vring_used *usage;
	uint16_t size, next, index, seen;
	bool event_idx;
	struct driver *driver; /* for a thread that has nothing else */
};

struct driver {
	struct guest_memory memory;
	struct bus bus;
	struct loop loop;
	pthread_t thread;
	struct virtio_mmio mmio;
	atomic_uint *page; /* of registers, as a guest reads them */
	struct driver_queue queues[VIRTIO_QUEUES_MAX];
	uint64_t next_free; /* guest memory is handed out from here, and never taken back */
	bool event_idx;
};

struct driver_buffer {
	uint64_t address;
	uint32_t bytes;
	bool in; /* the device writes it */
};

/* Memory, bus and loop; then a device attached to the transport, and the loop running. */
void driver_open(struct driver *driver);
void driver_attach(struct driver *driver, struct virtio_device *device);
void driver_close(struct driver *driver);

/* Reads through the bus; fails the test if the page that a guest reads instead differs. */
uint32_t driver_read(struct driver *driver, uint64_t offset);
void driver_write(struct driver *driver, uint64_t offset, uint32_t value);
void driver_config(struct driver *driver, uint64_t offset, void *data, unsigned bytes);

/* Features accepted: all that are offered and in `wanted`. Queues of `size` entries; up to DRIVER_OK. */
void driver_begin(struct driver *driver, uint64_t wanted, uint16_t size);
void driver_set_queue(struct driver *driver, unsigned queue, uint16_t size);

uint64_t driver_take(struct driver *driver, uint64_t bytes, uint64_t alignment);
void *driver_at(struct driver *driver, uint64_t address);

/* Makes a chain available, through an indirect table if asked; the head. driver_kick() notifies as a driver does. */
uint16_t driver_add(struct driver *driver, unsigned queue, const struct driver_buffer *buffers, unsigned count,
		    bool indirect);
void driver_kick(struct driver *driver, unsigned queue);

/* The same in a thread confined as a vCPU's. */
void driver_kick_confined(struct driver *driver, unsigned queue);

/* Keeps the loop's thread from doing anything, until it is let go. */
struct driver_hold {
	struct loop_task task;
	pthread_barrier_t held, released;
};
void driver_hold_loop(struct driver *driver, struct driver_hold *hold);
void driver_let_loop_go(struct driver_hold *hold);

/* Waits for the next used element; false after 10 s. */
bool driver_used(struct driver *driver, unsigned queue, uint32_t *head, uint32_t *written);
bool driver_wait_status(struct driver *driver, uint32_t bit);

/* How many interrupts were raised since the last call. */
uint64_t driver_interrupts(struct driver *driver);

#endif
