/* SPDX-License-Identifier: Apache-2.0 */
/* The virtio-mmio transport, version 2: registers, doorbells and an interrupt for one device. */
#ifndef RIFFLE_MONITOR_VIRTIO_MMIO_H
#define RIFFLE_MONITOR_VIRTIO_MMIO_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "monitor/bus/bus.h"
#include "monitor/virtio/device.h"

#define VIRTIO_MMIO_BASE 0xc0001000u
#define VIRTIO_MMIO_BYTES 0x1000u
#define VIRTIO_MMIO_GSI 5u
#define VIRTIO_MMIO_SLOTS 17u /* GSIs 5 to 23 without those of the clock and of ACPI */

struct virtio_mmio;

struct virtio_doorbell {
	struct loop_source source;
	struct virtio_mmio *mmio;
	unsigned queue;
};

/*
 * `lock` protects the registers. It is separate from the device's lock, so that a vCPU that reads the interrupt status
 * does not wait for the loop to finish a batch of the device.
 */
struct virtio_mmio {
	struct virtio_device *device;
	uint64_t address;
	pthread_mutex_t lock;
	uint32_t device_features_select, driver_features_select, queue_select;
	uint64_t driver_features;
	struct virtio_doorbell doorbells[VIRTIO_QUEUES_MAX];
};

/*
 * Puts `device` at `address` with interrupt `gsi`, before vCPUs run. vm_fd -1: not connected to KVM yet; until
 * virtio_mmio_connect() every notification is an exit and interrupts are held back.
 * Errors: those of irq_open(), loop_add(), bus_add() and virtio_mmio_connect().
 */
int virtio_mmio_attach(struct virtio_mmio *mmio, struct virtio_device *device, uint64_t address, uint32_t gsi,
		       struct bus *bus, struct loop *loop, const struct guest_memory *memory, int vm_fd,
		       struct riffle_error *error);

/*
 * From now on keeps the readable registers in `page`, which is owned by the caller, zeroed, VIRTIO_MMIO_BYTES long and
 * aligned to that, and mapped at `address` read-only for the guest: reading a register then needs no exit. Without
 * this, and on a KVM that cannot map it like that, reads come through the bus. Call before vCPUs run.
 */
void virtio_mmio_show(struct virtio_mmio *mmio, void *page);
/* Rewrites all of the page after a device was restored; with the device's lock held. */
void virtio_mmio_refresh(struct virtio_mmio *mmio);

/* Connects the doorbells as ioeventfds, but for direct queues, and the interrupt to the VM. Errors: IO. */
int virtio_mmio_connect(struct virtio_mmio *mmio, int vm_fd, struct riffle_error *error);

/* Ends the transport and the device; neither vCPUs nor the loop run. Also valid if nothing was attached.
 */
void virtio_mmio_detach(struct virtio_mmio *mmio);

/* The features that a driver may accept, including the transport's own. */
uint64_t virtio_mmio_features(const struct virtio_device *device);

extern const struct bus_ops virtio_mmio_bus_ops;

#endif
