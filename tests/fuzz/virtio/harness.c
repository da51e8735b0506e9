/* SPDX-License-Identifier: Apache-2.0 */
/* A hostile driver controlled by an input's bytes: registers, rings and memory of one device, in one thread. */
#include "harness.h"

#include <linux/virtio_config.h>
#include <linux/virtio_mmio.h>
#include <linux/virtio_ring.h>
#include <stdlib.h>
#include <string.h>

enum {
	MEMORY = 2 << 20,
	RINGS = 0x1000, /* of each queue: descriptors, available, used, a page each */
	QUEUE_STEP = 0x4000,
	TABLE = 0x30000, /* for indirect descriptors */
	TOUCHED = 0x60000,
	SIZE = 16,
};

#define ADDRESS 0xc0001000u

static void must(int status)
{
	if (status)
		abort();
}

void harness_open(struct harness *h)
{
	must(guest_memory_map(&h->memory, MEMORY, false, NULL));
	bus_init(&h->bus);
	must(loop_init(&h->loop, NULL));
}

void harness_attach(struct harness *h, struct virtio_device *device)
{
	must(virtio_mmio_attach(&h->mmio, device, ADDRESS, 5, &h->bus, &h->loop, &h->memory, -1, NULL));
}

void harness_detach(struct harness *h)
{
	virtio_mmio_detach(&h->mmio);
	bus_remove(&h->bus.mmio, ADDRESS);
}

uint64_t harness_take(struct harness *h, unsigned bytes)
{
	uint64_t value = 0;

	for (unsigned i = 0; i < bytes; i++)
		value = value << 8 | (h->at < h->end ? *h->at++ : 0);
	return value;
}

static void put(struct harness *h, uint64_t offset, uint32_t value)
{
	bus_mmio(&h->bus, ADDRESS + offset, 4, true, &value);
}

static void run_tasks(struct harness *h)
{
	loop_stop(&h->loop);
	loop_run(&h->loop);
	h->loop.stop = false;
}

/* One turn as loop_run() makes it. */
void harness_turn(struct harness *h)
{
	struct loop *loop = &h->loop;

	run_tasks(h);
	int count = epoll_wait(loop->epoll_fd, loop->batch, LOOP_BATCH, 0);

	loop->batch_count = count > 0 ? count : 0;
	for (int i = 0; i < loop->batch_count; i++) {
		struct loop_source *source = loop->batch[i].data.ptr;

		if (source && source->events)
			source->ready(source->opaque, loop->batch[i].events);
	}
	loop->batch_count = 0;
}

/* Skips time: the first timer expires. */
static void run_timer(struct harness *h)
{
	struct loop_timer *timer = h->loop.timers;

	if (!timer)
		return;
	loop_timer_cancel(&h->loop, timer);
	timer->expired(timer->opaque);
}

static void set_up_queue(struct harness *h, unsigned queue, uint16_t size)
{
	uint32_t at = RINGS + queue * QUEUE_STEP;

	put(h, VIRTIO_MMIO_QUEUE_SEL, queue);
	put(h, VIRTIO_MMIO_QUEUE_NUM, size);
	put(h, VIRTIO_MMIO_QUEUE_DESC_LOW, at);
	put(h, VIRTIO_MMIO_QUEUE_AVAIL_LOW, at + 0x1000);
	put(h, VIRTIO_MMIO_QUEUE_USED_LOW, at + 0x2000);
	put(h, VIRTIO_MMIO_QUEUE_READY, 1);
	h->next[queue] = h->descriptor[queue] = 0;
}

/* A correct driver initialisation, except for which features and queues it chooses. */
static void start_driver(struct harness *h)
{
	uint64_t features = harness_take(h, 8);
	uint8_t left_out = (uint8_t)harness_take(h, 1);
	uint32_t status = VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER;

	put(h, VIRTIO_MMIO_STATUS, 0);
	for (uint64_t at = RINGS; at < RINGS + VIRTIO_QUEUES_MAX * QUEUE_STEP; at += QUEUE_STEP)
		memset(guest_memory_at(&h->memory, at, 0x3000), 0, 0x3000);
	put(h, VIRTIO_MMIO_STATUS, status);
	features |= VIRTIO_FEATURE(VIRTIO_F_VERSION_1);
	for (unsigned i = 0; i < 2; i++) {
		uint32_t offered = 0;

		put(h, VIRTIO_MMIO_DEVICE_FEATURES_SEL, i);
		bus_mmio(&h->bus, ADDRESS + VIRTIO_MMIO_DEVICE_FEATURES, 4, false, &offered);
		put(h, VIRTIO_MMIO_DRIVER_FEATURES_SEL, i);
		put(h, VIRTIO_MMIO_DRIVER_FEATURES, offered & (uint32_t)(features >> 32 * i));
	}
	put(h, VIRTIO_MMIO_STATUS, status |= VIRTIO_CONFIG_S_FEATURES_OK);
	for (unsigned i = 0; i < h->mmio.device->ops->queue_count; i++)
		if (!(left_out >> i & 1))
			set_up_queue(h, i, SIZE);
	put(h, VIRTIO_MMIO_STATUS, status | VIRTIO_CONFIG_S_DRIVER_OK);
}

/* A chain, well-formed if its numbers happen to be; its first buffer may hold bytes of the input. */
static void add_chain(struct harness *h)
{
	uint8_t what = (uint8_t)harness_take(h, 1);
	unsigned queue = what % h->mmio.device->ops->queue_count, count = 1 + (what >> 4) % 4;
	bool indirect = what & 8;
	uint32_t at = RINGS + queue * QUEUE_STEP;
	struct vring_desc *table = guest_memory_at(&h->memory, indirect ? TABLE + queue * 64u : at, SIZE * 16);
	struct vring_avail *avail = guest_memory_at(&h->memory, at + 0x1000, 0x100);
	uint16_t first = indirect ? 0 : h->descriptor[queue];

	for (unsigned i = 0; i < count; i++) {
		uint8_t kind = (uint8_t)harness_take(h, 1);
		uint64_t address = kind & 0x40 ? harness_take(h, 8) : 0x40000 + harness_take(h, 2);
		uint32_t bytes = kind & 0x20 ? (uint32_t)harness_take(h, 4) : (uint32_t)harness_take(h, 2);
		uint16_t place = indirect ? (uint16_t)i : (first + i) % SIZE;

		table[place] = (struct vring_desc){.addr = address,
						   .len = bytes,
						   .flags = (kind & 1 ? VRING_DESC_F_WRITE : 0) |
							    (i + 1 < count ? VRING_DESC_F_NEXT : 0),
						   .next = indirect ? (uint16_t)(i + 1) : (first + i + 1) % SIZE};
		if (kind & 2) { /* what the device will read there */
			size_t n = harness_take(h, 1);
			uint8_t *to = guest_memory_at(&h->memory, address, n);

			n = n < (size_t)(h->end - h->at) ? n : (size_t)(h->end - h->at);
			if (to)
				memcpy(to, h->at, n);
			h->at += n;
		}
	}
	if (indirect) {
		struct vring_desc *ring = guest_memory_at(&h->memory, at, SIZE * 16);

		first = h->descriptor[queue];
		ring[first] =
		    (struct vring_desc){.addr = TABLE + queue * 64u, .len = count * 16, .flags = VRING_DESC_F_INDIRECT};
		count = 1;
	}
	h->descriptor[queue] = (uint16_t)((first + count) % SIZE);
	avail->ring[h->next[queue]++ % SIZE] = first;
	avail->idx = h->next[queue];
}

void harness_send(struct harness *h, unsigned queue, const struct harness_buffer *buffers, unsigned count)
{
	uint32_t at = RINGS + queue * QUEUE_STEP;
	struct vring_desc *table = guest_memory_at(&h->memory, at, SIZE * 16);
	struct vring_avail *avail = guest_memory_at(&h->memory, at + 0x1000, 0x100);
	uint16_t first = h->descriptor[queue];

	for (unsigned i = 0; i < count; i++)
		table[(first + i) % SIZE] = (struct vring_desc){.addr = buffers[i].address,
								.len = buffers[i].bytes,
								.flags = (buffers[i].in ? VRING_DESC_F_WRITE : 0) |
									 (i + 1 < count ? VRING_DESC_F_NEXT : 0),
								.next = (first + i + 1) % SIZE};
	h->descriptor[queue] = (uint16_t)((first + count) % SIZE);
	avail->ring[h->next[queue]++ % SIZE] = first;
	avail->idx = h->next[queue];
	virtio_device_ring(h->mmio.device, queue);
	harness_turn(h);
}

static void write_memory(struct harness *h)
{
	uint64_t address = RINGS + harness_take(h, 2) % (TOUCHED - RINGS);
	size_t bytes = harness_take(h, 1) % 64;

	for (uint8_t *to = guest_memory_at(&h->memory, address, 64); bytes--;)
		*to++ = (uint8_t)harness_take(h, 1);
}

static void act_on_host(struct harness *h)
{
	uint8_t what = (uint8_t)harness_take(h, 1);
	size_t bytes = harness_take(h, 1);

	bytes = bytes < (size_t)(h->end - h->at) ? bytes : (size_t)(h->end - h->at);
	h->host(h->opaque, what, h->at, bytes);
	h->at += bytes;
}

static void step(struct harness *h)
{
	struct virtio_device *device = h->mmio.device;
	uint8_t op = (uint8_t)harness_take(h, 1);
	uint32_t value;

	switch (op % 14) {
	case 0: /* any register, any width */
		value = (uint32_t)harness_take(h, 2) % 0x140;
		uint64_t data = harness_take(h, 4);

		bus_mmio(&h->bus, ADDRESS + value, op & 0x80 ? 1 : 4, op & 0x40, &data);
		break;
	case 1:
		write_memory(h);
		break;
	case 2:
	case 3:
		virtio_device_ring(device, (unsigned)harness_take(h, 1) % VIRTIO_QUEUES_MAX);
		harness_turn(h);
		break;
	case 4:
	case 5:
	case 6:
		add_chain(h);
		break;
	case 7:
		act_on_host(h);
		break;
	case 8:
		harness_turn(h);
		break;
	case 9:
		run_timer(h);
		break;
	case 10:
		virtio_pause(device);
		harness_turn(h);
		virtio_resume(device);
		break;
	case 11:
		start_driver(h);
		break;
	default:
		if (h->driver)
			h->driver(h);
		else
			add_chain(h);
	}
}

void harness_run(struct harness *h, const uint8_t *data, size_t bytes)
{
	h->at = data;
	h->end = data + bytes;
	memset(guest_memory_at(&h->memory, 0, TOUCHED), 0, TOUCHED);
	start_driver(h);
	while (h->at < h->end)
		step(h);
	for (int i = 0; i < 4; i++)
		harness_turn(h);
	put(h, VIRTIO_MMIO_STATUS, 0);
	harness_turn(h);
}
