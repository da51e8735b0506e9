/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A virtio device driven by hostile input: registers, rings and buffers, in any order. An input is a list of steps, a
 * byte each and its arguments. A step `begin` initialises the device up to DRIVER_OK, so that inputs need not find that
 * sequence; everything else comes from the input. Guest memory is small, so that most addresses hit it.
 */
#include "fuzz_device.h"

#include <linux/virtio_config.h>
#include <linux/virtio_mmio.h>
#include <linux/virtio_ring.h>
#include <stdlib.h>
#include <string.h>

#define MEMORY_BYTES 65536u
#define ADDRESS 0xc0001000u
#define RING_BYTES 0x800u /* of guest memory, for each queue: table, avail ring, used ring */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

static _Alignas(4096) uint8_t memory[MEMORY_BYTES];
static struct guest_memory guest;
static struct bus bus;
static struct loop loop;
static struct virtio_mmio mmio;
static struct virtio_device *device;

struct input {
	const uint8_t *at;
	size_t left;
};

static uint64_t take(struct input *input, unsigned bytes)
{
	uint64_t value = 0;

	for (unsigned i = 0; i < bytes && input->left; i++, input->left--)
		value |= (uint64_t)*input->at++ << 8 * i;
	return value;
}

static void write32(uint64_t offset, uint32_t value)
{
	bus_mmio(&bus, ADDRESS + offset, 4, true, &value);
}

static uint64_t table_of(unsigned queue)
{
	return (uint64_t)RING_BYTES * queue;
}

static uint64_t avail_of(unsigned queue)
{
	return table_of(queue) + 0x400;
}

static void notify(unsigned queue)
{
	write32(VIRTIO_MMIO_QUEUE_NOTIFY, queue);
	virtio_lock(device);
	if (queue < device->ops->queue_count)
		virtio_device_notify(device, queue);
	virtio_unlock(device);
}

static void begin(uint64_t features, unsigned log_size)
{
	uint64_t accepted = (features & (device->features | VIRTIO_FEATURE(VIRTIO_RING_F_EVENT_IDX) |
					 VIRTIO_FEATURE(VIRTIO_RING_F_INDIRECT_DESC))) |
			    VIRTIO_FEATURE(VIRTIO_F_VERSION_1);

	write32(VIRTIO_MMIO_STATUS, 0);
	write32(VIRTIO_MMIO_STATUS, 3);
	for (unsigned i = 0; i < 2; i++) {
		write32(VIRTIO_MMIO_DRIVER_FEATURES_SEL, i);
		write32(VIRTIO_MMIO_DRIVER_FEATURES, (uint32_t)(accepted >> 32 * i));
	}
	write32(VIRTIO_MMIO_STATUS, 11);
	for (unsigned i = 0; i < device->ops->queue_count; i++) {
		write32(VIRTIO_MMIO_QUEUE_SEL, i);
		write32(VIRTIO_MMIO_QUEUE_NUM, 1u << log_size % 7);
		write32(VIRTIO_MMIO_QUEUE_DESC_LOW, (uint32_t)table_of(i));
		write32(VIRTIO_MMIO_QUEUE_AVAIL_LOW, (uint32_t)avail_of(i));
		write32(VIRTIO_MMIO_QUEUE_USED_LOW, (uint32_t)table_of(i) + 0x500);
		write32(VIRTIO_MMIO_QUEUE_READY, 1);
	}
	write32(VIRTIO_MMIO_STATUS, 15);
}

/* A descriptor anywhere, often with a plausible address. */
static void put_descriptor(struct input *input)
{
	uint64_t at = take(input, 2) & ~UINT64_C(15);
	struct vring_desc descriptor = {.addr = take(input, 2),
					.len = (uint32_t)take(input, 2),
					.flags = (uint16_t)(take(input, 1) & 7),
					.next = (uint16_t)take(input, 1)};

	if (at + sizeof descriptor <= MEMORY_BYTES)
		memcpy(memory + at, &descriptor, sizeof descriptor);
}

/* Makes a chain available; the index advances by one, or to any value. */
static void make_available(struct input *input, bool anywhere)
{
	unsigned queue = (unsigned)take(input, 1) % device->ops->queue_count;
	const struct virtq *q = &device->queues[queue];
	uint16_t head = (uint16_t)take(input, 1), index;
	uint8_t *avail = memory + avail_of(queue);

	memcpy(&index, avail + 2, sizeof index);
	if (q->size)
		memcpy(avail + 4 + 2u * (index & (q->size - 1u)), &head, sizeof head);
	index = anywhere ? (uint16_t)take(input, 2) : (uint16_t)(index + 1);
	memcpy(avail + 2, &index, sizeof index);
	notify(queue);
}

static void put_bytes(struct input *input)
{
	size_t at = take(input, 2), bytes = take(input, 1);

	for (size_t i = 0; i < bytes && input->left; i++)
		memory[(at + i) % MEMORY_BYTES] = (uint8_t)take(input, 1);
}

static void access_config(struct input *input, bool write)
{
	static const unsigned widths[] = {1, 2, 4, 8};
	unsigned bytes = widths[take(input, 1) % 4];
	uint64_t offset = VIRTIO_MMIO_CONFIG + take(input, 1), value = write ? take(input, bytes) : 0;

	bus_mmio(&bus, ADDRESS + offset, bytes, write, &value);
}

static void step(struct input *input)
{
	uint64_t offset;

	switch (take(input, 1) % 10) {
	case 0:
		offset = take(input, 1);
		write32(offset & 0xfc, (uint32_t)take(input, 4));
		break;
	case 1:
		begin(take(input, 8), (unsigned)take(input, 1));
		break;
	case 2:
	case 3:
		put_descriptor(input);
		break;
	case 4:
	case 5:
		make_available(input, false);
		break;
	case 6:
		make_available(input, true);
		break;
	case 7:
		put_bytes(input);
		break;
	case 8:
		access_config(input, take(input, 1) & 1);
		break;
	default:
		virtio_pause(device);
		virtio_resume(device);
		for (unsigned i = 0; i < device->ops->queue_count; i++)
			notify(i);
	}
	fuzz_device_step(device);
}

static void must(int status)
{
	if (status)
		abort();
}

/* from the sanitizer's runtime, if linked */
void __lsan_disable(void) __attribute__((weak));
void __lsan_enable(void) __attribute__((weak));

static void set_up(void)
{
	guest.ram[0] = (struct riffle_ram){.address = 0, .bytes = MEMORY_BYTES, .host = memory};
	guest.count = 1;
	bus_init(&bus);
	must(loop_init(&loop, NULL));
	/* devices in mappings hold pointers that the leak checker does not see */
	if (__lsan_disable)
		__lsan_disable();
	device = fuzz_device_make(&loop);
	if (__lsan_enable)
		__lsan_enable();
	must(virtio_mmio_attach(&mmio, device, ADDRESS, 5, &bus, &loop, &guest, -1, NULL));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
	struct input input = {.at = data, .left = bytes};

	if (!device)
		set_up();
	memset(memory, 0, sizeof memory);
	write32(VIRTIO_MMIO_STATUS, 0);
	fuzz_device_step(device);
	begin(UINT64_MAX, 4);
	while (input.left)
		step(&input);
	return 0;
}
