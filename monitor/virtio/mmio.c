/* SPDX-License-Identifier: Apache-2.0 */
/* The virtio-mmio transport, version 2: registers, doorbells and an interrupt for one device. */
#include "monitor/virtio/mmio.h"

#include <errno.h>
#include <linux/virtio_config.h>
#include <linux/virtio_mmio.h>
#include <linux/virtio_ring.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "common/bytes.h"
#include "common/fail.h"

#define MAGIC 0x74726976u /* "virt" */
#define TRANSPORT_FEATURES                                                                                             \
	(VIRTIO_FEATURE(VIRTIO_F_VERSION_1) | VIRTIO_FEATURE(VIRTIO_RING_F_EVENT_IDX) |                                \
	 VIRTIO_FEATURE(VIRTIO_RING_F_INDIRECT_DESC))

uint64_t virtio_mmio_features(const struct virtio_device *device)
{
	return device->features | TRANSPORT_FEATURES;
}

static uint64_t offered(const struct virtio_mmio *mmio)
{
	return virtio_mmio_features(mmio->device);
}

static bool features_fit(const struct virtio_mmio *mmio)
{
	return !(mmio->driver_features & ~offered(mmio)) &&
	       (mmio->driver_features & VIRTIO_FEATURE(VIRTIO_F_VERSION_1));
}

static void activate(struct virtio_mmio *mmio)
{
	mmio->device->driver_features = mmio->driver_features;
	virtio_device_activate(mmio->device);
}

/*
 * Bits come in their order and go by a reset alone (VIRTIO 1.2, 2.1); a bit whose turn it is not is left out, and so
 * are those that follow it.
 */
static void write_status(struct virtio_mmio *mmio, uint32_t value)
{
	static const uint32_t order[] = {VIRTIO_CONFIG_S_ACKNOWLEDGE, VIRTIO_CONFIG_S_DRIVER,
					 VIRTIO_CONFIG_S_FEATURES_OK, VIRTIO_CONFIG_S_DRIVER_OK};
	struct virtio_device *device = mmio->device;

	if (!value) {
		mmio->device_features_select = mmio->driver_features_select = mmio->queue_select = 0;
		mmio->driver_features = 0;
		virtio_device_reset(device);
		return;
	}
	if (value & VIRTIO_CONFIG_S_FAILED)
		atomic_fetch_or(&device->status, VIRTIO_CONFIG_S_FAILED);
	for (size_t i = 0; i < sizeof order / sizeof *order; i++) {
		if (atomic_load(&device->status) & order[i])
			continue;
		if (!(value & order[i]) || (order[i] == VIRTIO_CONFIG_S_FEATURES_OK && !features_fit(mmio)))
			return;
		atomic_fetch_or(&device->status, order[i]);
		if (order[i] == VIRTIO_CONFIG_S_DRIVER_OK)
			activate(mmio);
	}
}

/* The queue that is selected, while the driver may still set it up. */
static struct virtq *queue_to_set(struct virtio_mmio *mmio)
{
	unsigned status = atomic_load(&mmio->device->status);

	if (mmio->queue_select >= mmio->device->ops->queue_count || !(status & VIRTIO_CONFIG_S_FEATURES_OK) ||
	    (status & VIRTIO_CONFIG_S_DRIVER_OK))
		return NULL;
	return &mmio->device->queues[mmio->queue_select];
}

/* Checked now and not at DRIVER_OK alone, so that the driver sees which queue it got wrong. */
static void write_queue_ready(struct virtio_mmio *mmio, struct virtq *queue, uint32_t value)
{
	const char *problem = NULL;

	queue->ready = value & 1;
	if (!queue->ready ||
	    virtq_activate(queue, mmio->device->memory, mmio->driver_features & VIRTIO_FEATURE(VIRTIO_RING_F_EVENT_IDX),
			   mmio->driver_features & VIRTIO_FEATURE(VIRTIO_RING_F_INDIRECT_DESC), &problem))
		return;
	queue->ready = false;
	virtio_fail(mmio->device, problem);
}

static uint32_t read_register(const struct virtio_mmio *mmio, uint64_t offset);

static void show(struct virtio_mmio *mmio, uint64_t offset)
{
	virtio_show(mmio->device, offset, read_register(mmio, offset));
}

/* With the device's lock held. */
static void show_registers(struct virtio_mmio *mmio)
{
	static const uint16_t readable[] = {
	    VIRTIO_MMIO_MAGIC_VALUE,   VIRTIO_MMIO_VERSION,      VIRTIO_MMIO_DEVICE_ID,     VIRTIO_MMIO_DEVICE_FEATURES,
	    VIRTIO_MMIO_QUEUE_NUM_MAX, VIRTIO_MMIO_QUEUE_READY,  VIRTIO_MMIO_STATUS,        VIRTIO_MMIO_SHM_LEN_LOW,
	    VIRTIO_MMIO_SHM_LEN_HIGH,  VIRTIO_MMIO_SHM_BASE_LOW, VIRTIO_MMIO_SHM_BASE_HIGH,
	};

	for (size_t i = 0; i < sizeof readable / sizeof *readable; i++)
		show(mmio, readable[i]);
}

void virtio_mmio_refresh(struct virtio_mmio *mmio)
{
	struct virtio_device *device = mmio->device;

	show_registers(mmio);
	pthread_mutex_lock(&device->config_lock);
	show(mmio, VIRTIO_MMIO_CONFIG_GENERATION);
	virtio_show_config(device, 0, device->config_bytes);
	pthread_mutex_unlock(&device->config_lock);
}

void virtio_mmio_show(struct virtio_mmio *mmio, void *page)
{
	struct virtio_device *device = mmio->device;

	virtio_lock(device);
	device->page = page;
	device->interrupt_status = &device->page[VIRTIO_MMIO_INTERRUPT_STATUS / 4];
	atomic_store(device->interrupt_status, atomic_load(&device->own_interrupt_status));
	virtio_mmio_refresh(mmio);
	virtio_unlock(device);
}

static void set_half(uint64_t *address, bool high, uint32_t value)
{
	*address = high ? (*address & UINT32_MAX) | (uint64_t)value << 32 : (*address & ~(uint64_t)UINT32_MAX) | value;
}

static void write_queue(struct virtio_mmio *mmio, uint64_t offset, uint32_t value)
{
	struct virtq *queue = queue_to_set(mmio);

	if (!queue)
		return;
	if (offset == VIRTIO_MMIO_QUEUE_READY) {
		write_queue_ready(mmio, queue, value);
		return;
	}
	if (queue->ready)
		return;
	switch (offset) {
	case VIRTIO_MMIO_QUEUE_NUM:
		queue->size = value <= queue->size_max ? (uint16_t)value : 0; /* 0 is refused at QueueReady */
		break;
	case VIRTIO_MMIO_QUEUE_DESC_LOW:
	case VIRTIO_MMIO_QUEUE_DESC_HIGH:
		set_half(&queue->descriptors, offset == VIRTIO_MMIO_QUEUE_DESC_HIGH, value);
		break;
	case VIRTIO_MMIO_QUEUE_AVAIL_LOW:
	case VIRTIO_MMIO_QUEUE_AVAIL_HIGH:
		set_half(&queue->avail, offset == VIRTIO_MMIO_QUEUE_AVAIL_HIGH, value);
		break;
	default:
		set_half(&queue->used, offset == VIRTIO_MMIO_QUEUE_USED_HIGH, value);
	}
}

static void write_register(struct virtio_mmio *mmio, uint64_t offset, uint32_t value)
{
	unsigned status = atomic_load(&mmio->device->status);

	switch (offset) {
	case VIRTIO_MMIO_DEVICE_FEATURES_SEL:
		mmio->device_features_select = value;
		show(mmio, VIRTIO_MMIO_DEVICE_FEATURES);
		break;
	case VIRTIO_MMIO_DRIVER_FEATURES_SEL:
		mmio->driver_features_select = value;
		break;
	case VIRTIO_MMIO_DRIVER_FEATURES:
		if ((status & VIRTIO_CONFIG_S_DRIVER) && !(status & VIRTIO_CONFIG_S_FEATURES_OK) &&
		    mmio->driver_features_select < 2)
			set_half(&mmio->driver_features, mmio->driver_features_select, value);
		break;
	case VIRTIO_MMIO_QUEUE_SEL:
		mmio->queue_select = value;
		show(mmio, VIRTIO_MMIO_QUEUE_NUM_MAX);
		show(mmio, VIRTIO_MMIO_QUEUE_READY);
		break;
	case VIRTIO_MMIO_STATUS:
		virtio_lock(mmio->device);
		write_status(mmio, value);
		show_registers(mmio);
		virtio_unlock(mmio->device);
		break;
	case VIRTIO_MMIO_QUEUE_NUM:
	case VIRTIO_MMIO_QUEUE_READY:
	case VIRTIO_MMIO_QUEUE_DESC_LOW:
	case VIRTIO_MMIO_QUEUE_DESC_HIGH:
	case VIRTIO_MMIO_QUEUE_AVAIL_LOW:
	case VIRTIO_MMIO_QUEUE_AVAIL_HIGH:
	case VIRTIO_MMIO_QUEUE_USED_LOW:
	case VIRTIO_MMIO_QUEUE_USED_HIGH:
		virtio_lock(mmio->device);
		write_queue(mmio, offset, value);
		show(mmio, VIRTIO_MMIO_QUEUE_READY);
		virtio_unlock(mmio->device);
	}
}

static uint32_t read_register(const struct virtio_mmio *mmio, uint64_t offset)
{
	struct virtio_device *device = mmio->device;
	const struct virtq *queue =
	    mmio->queue_select < device->ops->queue_count ? &device->queues[mmio->queue_select] : NULL;

	switch (offset) {
	case VIRTIO_MMIO_MAGIC_VALUE:
		return MAGIC;
	case VIRTIO_MMIO_VERSION:
		return 2;
	case VIRTIO_MMIO_DEVICE_ID:
		return device->ops->id;
	case VIRTIO_MMIO_DEVICE_FEATURES:
		return mmio->device_features_select < 2 ? (uint32_t)(offered(mmio) >> 32 * mmio->device_features_select)
							: 0;
	case VIRTIO_MMIO_QUEUE_NUM_MAX:
		return queue ? queue->size_max : 0;
	case VIRTIO_MMIO_QUEUE_READY:
		return queue && queue->ready;
	case VIRTIO_MMIO_INTERRUPT_STATUS:
		return atomic_load(device->interrupt_status);
	case VIRTIO_MMIO_STATUS:
		return atomic_load(&device->status);
	case VIRTIO_MMIO_SHM_LEN_LOW:
	case VIRTIO_MMIO_SHM_LEN_HIGH:
	case VIRTIO_MMIO_SHM_BASE_LOW:
	case VIRTIO_MMIO_SHM_BASE_HIGH:
		return UINT32_MAX; /* no such region */
	case VIRTIO_MMIO_CONFIG_GENERATION:
		return atomic_load(&device->generation);
	default:
		return 0;
	}
}

static void read_config(struct virtio_device *device, uint64_t offset, uint8_t *data, unsigned bytes)
{
	if (offset >= device->config_bytes)
		virtio_count(device->config_fails);
	pthread_mutex_lock(&device->config_lock);
	for (unsigned i = 0; i < bytes; i++)
		data[i] = offset + i < device->config_bytes ? ((const uint8_t *)device->config)[offset + i] : 0;
	pthread_mutex_unlock(&device->config_lock);
}

static void write_config(struct virtio_mmio *mmio, uint64_t offset, const uint8_t *data, unsigned bytes)
{
	struct virtio_device *device = mmio->device;

	if (offset < device->config_writable_from ||
	    !riffle_inside(offset - device->config_writable_from, bytes, device->config_writable) ||
	    !riffle_inside(offset, bytes, device->config_bytes)) {
		virtio_count(device->config_fails);
		return;
	}
	virtio_lock(device);
	pthread_mutex_lock(&device->config_lock);
	memcpy((uint8_t *)device->config + offset, data, bytes);
	virtio_show_config(device, offset, bytes);
	pthread_mutex_unlock(&device->config_lock);
	if (device->ops->config_written)
		device->ops->config_written(device, offset, bytes);
	virtio_unlock(device);
}

/* Below the configuration space a register is 32 bits, and is accessed as such (VIRTIO 1.2, 4.2.2.2). */
static bool is_register(uint64_t offset, unsigned bytes)
{
	return bytes == 4 && !(offset & 3);
}

static void mmio_read(void *opaque, uint64_t offset, void *data, unsigned bytes)
{
	struct virtio_mmio *mmio = opaque;
	uint32_t value = 0;

	if (offset >= VIRTIO_MMIO_CONFIG) {
		read_config(mmio->device, offset - VIRTIO_MMIO_CONFIG, data, bytes);
		return;
	}
	memset(data, 0, bytes);
	if (!is_register(offset, bytes))
		return;
	value = read_register(mmio, offset);
	memcpy(data, &value, sizeof value);
}

static void mmio_write(void *opaque, uint64_t offset, const void *data, unsigned bytes)
{
	struct virtio_mmio *mmio = opaque;

	if (offset >= VIRTIO_MMIO_CONFIG)
		write_config(mmio, offset - VIRTIO_MMIO_CONFIG, data, bytes);
	else if (is_register(offset, bytes))
		write_register(mmio, offset, riffle_get32(data));
}

/* What is written for each request waits for no other vCPU. */
static bool mmio_write_unlocked(void *opaque, uint64_t offset, const void *data, unsigned bytes)
{
	struct virtio_mmio *mmio = opaque;

	if (offset >= VIRTIO_MMIO_CONFIG || !is_register(offset, bytes))
		return false;
	switch (offset) {
	case VIRTIO_MMIO_QUEUE_NOTIFY:
		virtio_device_kick(mmio->device, riffle_get32(data));
		return true;
	case VIRTIO_MMIO_INTERRUPT_ACK:
		atomic_fetch_and(mmio->device->interrupt_status, ~riffle_get32(data));
		return true;
	default:
		return false;
	}
}

const struct bus_ops virtio_mmio_bus_ops = {
    .read = mmio_read, .write = mmio_write, .write_unlocked = mmio_write_unlocked};

static void doorbell_rang(void *opaque, uint32_t events)
{
	struct virtio_doorbell *doorbell = opaque;

	(void)events;
	virtio_lock(doorbell->mmio->device);
	virtio_device_notify(doorbell->mmio->device, doorbell->queue);
	virtio_unlock(doorbell->mmio->device);
}

static int open_doorbell(struct virtio_mmio *mmio, unsigned queue, struct riffle_error *error)
{
	struct virtio_doorbell *doorbell = &mmio->doorbells[queue];
	int fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);

	if (fd < 0)
		return riffle_fail_system(error, errno, "eventfd", "failed");
	mmio->device->doorbells[queue] = fd;
	doorbell->source = (struct loop_source){.ready = doorbell_rang, .opaque = doorbell};
	doorbell->mmio = mmio;
	doorbell->queue = queue;
	/* edge-triggered: each ring is reported, so the count need never be read, which saves a call a request */
	return loop_add(mmio->device->loop, &doorbell->source, fd, EPOLLIN | EPOLLET, error);
}

int virtio_mmio_connect(struct virtio_mmio *mmio, int vm_fd, struct riffle_error *error)
{
	struct virtio_device *device = mmio->device;
	int status = irq_connect_direct(&device->irq, vm_fd, error);

	/* a direct queue's doorbell comes as an exit to the vCPU's thread */
	for (unsigned i = 0; !status && i < device->ops->queue_count; i++)
		if (!(device->direct >> i & 1))
			status = ioeventfd_connect(vm_fd, mmio->address + VIRTIO_MMIO_QUEUE_NOTIFY, 4, i,
						   device->doorbells[i], error);
	return status;
}

int virtio_mmio_attach(struct virtio_mmio *mmio, struct virtio_device *device, uint64_t address, uint32_t gsi,
		       struct bus *bus, struct loop *loop, const struct guest_memory *memory, int vm_fd,
		       struct riffle_error *error)
{
	const struct bus_range range = {.base = address,
					.bytes = VIRTIO_MMIO_BYTES,
					.ops = &virtio_mmio_bus_ops,
					.device = mmio,
					.lock = &mmio->lock};

	*mmio = (struct virtio_mmio){.device = device, .address = address};
	pthread_mutex_init(&mmio->lock, NULL);
	device->loop = loop;
	device->memory = memory;
	int status = irq_open(&device->irq, gsi, error);

	for (unsigned i = 0; !status && i < device->ops->queue_count; i++)
		status = open_doorbell(mmio, i, error);
	if (!status)
		status = bus_add(&bus->mmio, &range, error);
	return status || vm_fd < 0 ? status : virtio_mmio_connect(mmio, vm_fd, error);
}

void virtio_mmio_detach(struct virtio_mmio *mmio)
{
	struct virtio_device *device = mmio->device;

	if (!device)
		return;
	for (unsigned i = 0; i < VIRTIO_QUEUES_MAX; i++) {
		if (device->doorbells[i] < 0)
			continue;
		loop_remove(device->loop, &mmio->doorbells[i].source);
		close(device->doorbells[i]);
	}
	irq_close(&device->irq);
	virtio_device_destroy(device);
	pthread_mutex_destroy(&mmio->lock);
	mmio->device = NULL;
}
