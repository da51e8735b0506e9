/* SPDX-License-Identifier: Apache-2.0 */
/* A virtio driver for tests: guest memory, a bus, an event loop in its own thread, and rings that can be corrupted. */
#include "driver.h"

#include <linux/virtio_config.h>
#include <linux/virtio_mmio.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "monitor/confine/confine.h"

static void must(int status)
{
	if (status)
		abort();
}

/* Confined as in a real run: a device with a forbidden system call ends the test by SIGSYS. */
static void *run_loop(void *opaque)
{
	must(confine_thread(CONFINE_LOOP_CONNECTS, NULL));
	loop_run(opaque);
	return NULL;
}

void driver_open(struct driver *driver)
{
	memset(driver, 0, sizeof *driver);
	must(guest_memory_map(&driver->memory, DRIVER_MEMORY, false, NULL));
	bus_init(&driver->bus);
	must(loop_init(&driver->loop, NULL));
	driver->next_free = 0x10000;
}

void driver_attach(struct driver *driver, struct virtio_device *device)
{
	must(virtio_mmio_attach(&driver->mmio, device, DRIVER_ADDRESS, 5, &driver->bus, &driver->loop, &driver->memory,
				-1, NULL));
	driver->page = aligned_alloc(VIRTIO_MMIO_BYTES, VIRTIO_MMIO_BYTES);
	memset(driver->page, 0, VIRTIO_MMIO_BYTES);
	virtio_mmio_show(&driver->mmio, driver->page);
	must(pthread_create(&driver->thread, NULL, run_loop, &driver->loop));
}

void driver_close(struct driver *driver)
{
	loop_stop(&driver->loop);
	if (driver->thread)
		pthread_join(driver->thread, NULL);
	virtio_mmio_detach(&driver->mmio);
	loop_destroy(&driver->loop);
	bus_destroy(&driver->bus);
	guest_memory_unmap(&driver->memory);
	free(driver->page);
}

uint32_t driver_read(struct driver *driver, uint64_t offset)
{
	uint32_t value, shown;

	/* a register may change between the two looks */
	for (unsigned i = 0; i < 1000; i++) {
		shown = atomic_load(&driver->page[offset / 4]);
		bus_mmio(&driver->bus, DRIVER_ADDRESS + offset, 4, false, &value);
		if (value == shown)
			return value;
	}
	fprintf(stderr, "register 0x%x: 0x%x by the bus, 0x%x in the page\n", (unsigned)offset, value, shown);
	abort();
}

void driver_write(struct driver *driver, uint64_t offset, uint32_t value)
{
	bus_mmio(&driver->bus, DRIVER_ADDRESS + offset, 4, true, &value);
}

void driver_config(struct driver *driver, uint64_t offset, void *data, unsigned bytes)
{
	for (unsigned i = 0; i < bytes; i++)
		bus_mmio(&driver->bus, DRIVER_ADDRESS + VIRTIO_MMIO_CONFIG + offset + i, 1, false, (uint8_t *)data + i);
	must(memcmp(data, (uint8_t *)driver->page + VIRTIO_MMIO_CONFIG + offset, bytes) != 0);
}

uint64_t driver_take(struct driver *driver, uint64_t bytes, uint64_t alignment)
{
	uint64_t address = (driver->next_free + alignment - 1) & ~(alignment - 1);

	driver->next_free = address + bytes;
	if (driver->next_free > DRIVER_MEMORY)
		abort();
	return address;
}

void *driver_at(struct driver *driver, uint64_t address)
{
	return guest_memory_at(&driver->memory, address, 1);
}

void driver_set_queue(struct driver *driver, unsigned index, uint16_t size)
{
	struct driver_queue *queue = &driver->queues[index];

	*queue = (struct driver_queue){.size = size, .event_idx = driver->event_idx};
	queue->descriptors = driver_take(driver, 16u * size, 16);
	queue->avail = driver_take(driver, 6u + 2u * size, 2);
	queue->used = driver_take(driver, 6u + 8u * size, 4);
	queue->table = driver_at(driver, queue->descriptors);
	queue->available = driver_at(driver, queue->avail);
	queue->usage = driver_at(driver, queue->used);
	driver_write(driver, VIRTIO_MMIO_QUEUE_SEL, index);
	driver_write(driver, VIRTIO_MMIO_QUEUE_NUM, size);
	driver_write(driver, VIRTIO_MMIO_QUEUE_DESC_LOW, (uint32_t)queue->descriptors);
	driver_write(driver, VIRTIO_MMIO_QUEUE_DESC_HIGH, (uint32_t)(queue->descriptors >> 32));
	driver_write(driver, VIRTIO_MMIO_QUEUE_AVAIL_LOW, (uint32_t)queue->avail);
	driver_write(driver, VIRTIO_MMIO_QUEUE_AVAIL_HIGH, (uint32_t)(queue->avail >> 32));
	driver_write(driver, VIRTIO_MMIO_QUEUE_USED_LOW, (uint32_t)queue->used);
	driver_write(driver, VIRTIO_MMIO_QUEUE_USED_HIGH, (uint32_t)(queue->used >> 32));
	driver_write(driver, VIRTIO_MMIO_QUEUE_READY, 1);
}

void driver_begin(struct driver *driver, uint64_t wanted, uint16_t size)
{
	uint64_t features = 0;

	driver_write(driver, VIRTIO_MMIO_STATUS, 0);
	driver_write(driver, VIRTIO_MMIO_STATUS, VIRTIO_CONFIG_S_ACKNOWLEDGE);
	driver_write(driver, VIRTIO_MMIO_STATUS, VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER);
	for (unsigned i = 0; i < 2; i++) {
		driver_write(driver, VIRTIO_MMIO_DEVICE_FEATURES_SEL, i);
		features |= (uint64_t)driver_read(driver, VIRTIO_MMIO_DEVICE_FEATURES) << 32 * i;
	}
	features &= wanted | VIRTIO_FEATURE(VIRTIO_F_VERSION_1);
	driver->event_idx = features & VIRTIO_FEATURE(VIRTIO_RING_F_EVENT_IDX);
	for (unsigned i = 0; i < 2; i++) {
		driver_write(driver, VIRTIO_MMIO_DRIVER_FEATURES_SEL, i);
		driver_write(driver, VIRTIO_MMIO_DRIVER_FEATURES, (uint32_t)(features >> 32 * i));
	}
	driver_write(driver, VIRTIO_MMIO_STATUS, driver_read(driver, VIRTIO_MMIO_STATUS) | VIRTIO_CONFIG_S_FEATURES_OK);
	for (unsigned i = 0; i < driver->mmio.device->ops->queue_count; i++)
		driver_set_queue(driver, i, size);
	driver_write(driver, VIRTIO_MMIO_STATUS, driver_read(driver, VIRTIO_MMIO_STATUS) | VIRTIO_CONFIG_S_DRIVER_OK);
}

uint16_t driver_add(struct driver *driver, unsigned index, const struct driver_buffer *buffers, unsigned count,
		    bool indirect)
{
	struct driver_queue *queue = &driver->queues[index];
	uint16_t mask = queue->size - 1, head = queue->next & mask;
	uint64_t table_address = indirect ? driver_take(driver, 16 * count, 16) : 0;
	struct vring_desc *table = indirect ? driver_at(driver, table_address) : queue->table;

	for (unsigned i = 0; i < count; i++) {
		uint16_t at = indirect ? (uint16_t)i : (head + i) & mask;

		table[at] = (struct vring_desc){.addr = buffers[i].address,
						.len = buffers[i].bytes,
						.flags = (buffers[i].in ? VRING_DESC_F_WRITE : 0) |
							 (i + 1 < count ? VRING_DESC_F_NEXT : 0),
						.next = indirect ? (uint16_t)(i + 1) : (head + i + 1) & mask};
	}
	if (indirect)
		queue->table[head] =
		    (struct vring_desc){.addr = table_address, .len = 16 * count, .flags = VRING_DESC_F_INDIRECT};
	queue->next += indirect ? 1 : count;
	queue->available->ring[queue->index & mask] = head;
	queue->index++;
	return head;
}

void driver_kick(struct driver *driver, unsigned index)
{
	struct driver_queue *queue = &driver->queues[index];

	__atomic_store_n(&queue->available->idx, queue->index, __ATOMIC_SEQ_CST);
	driver_write(driver, VIRTIO_MMIO_QUEUE_NOTIFY, index);
}

static void *kick_as_vcpu(void *opaque)
{
	const struct driver_queue *queue = opaque;
	struct driver *driver = queue->driver;

	must(confine_thread(CONFINE_VCPU, NULL));
	driver_kick(driver, (unsigned)(queue - driver->queues));
	return NULL;
}

void driver_kick_confined(struct driver *driver, unsigned queue)
{
	pthread_t thread;

	driver->queues[queue].driver = driver;
	must(pthread_create(&thread, NULL, kick_as_vcpu, &driver->queues[queue]));
	pthread_join(thread, NULL);
}

static void stand_still(void *opaque)
{
	struct driver_hold *hold = opaque;

	pthread_barrier_wait(&hold->held);
	pthread_barrier_wait(&hold->released);
}

void driver_hold_loop(struct driver *driver, struct driver_hold *hold)
{
	*hold = (struct driver_hold){.task = {.run = stand_still, .opaque = hold}};
	pthread_barrier_init(&hold->held, NULL, 2);
	pthread_barrier_init(&hold->released, NULL, 2);
	loop_post(&driver->loop, &hold->task);
	pthread_barrier_wait(&hold->held);
}

void driver_let_loop_go(struct driver_hold *hold)
{
	pthread_barrier_wait(&hold->released);
	/* returns once the loop's thread has left both: the caller's `hold` may be gone after this */
	pthread_barrier_destroy(&hold->held);
	pthread_barrier_destroy(&hold->released);
}

bool driver_used(struct driver *driver, unsigned index, uint32_t *head, uint32_t *written)
{
	struct driver_queue *queue = &driver->queues[index];

	for (unsigned i = 0; i < 10000; i++) {
		if (__atomic_load_n(&queue->usage->idx, __ATOMIC_ACQUIRE) != queue->seen) {
			struct vring_used_elem *element = &queue->usage->ring[queue->seen & (queue->size - 1)];

			*head = element->id;
			*written = element->len;
			queue->seen++;
			if (queue->event_idx)
				*(uint16_t *)&queue->available->ring[queue->size] = queue->seen;
			return true;
		}
		usleep(1000);
	}
	return false;
}

bool driver_wait_status(struct driver *driver, uint32_t bit)
{
	for (unsigned i = 0; i < 10000; i++) {
		if (driver_read(driver, VIRTIO_MMIO_STATUS) & bit)
			return true;
		usleep(1000);
	}
	return false;
}

uint64_t driver_interrupts(struct driver *driver)
{
	uint64_t count = 0;

	return read(driver->mmio.device->irq.fd, &count, sizeof count) == sizeof count ? count : 0;
}
