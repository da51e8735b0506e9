/* SPDX-License-Identifier: Apache-2.0 */
/* The state of a virtio device: its transport's registers, the places in its queues, and what it says of itself. */
#include <stdlib.h>
#include <string.h>

#include "common/fail.h"
#include "monitor/snapshot/components.h"

#define CONFIG_BYTES_MAX 256u
#define OWN_BYTES_MAX 4096u

static void put_queue(struct state_writer *writer, const struct virtq *queue)
{
	state_put16(writer, queue->size);
	state_put8(writer, queue->ready);
	state_put8(writer, queue->broken);
	state_put64(writer, queue->descriptors);
	state_put64(writer, queue->avail);
	state_put64(writer, queue->used);
	/* quiesced: what was popped has been pushed and published, or returned */
	state_put16(writer, queue->next_avail);
	state_put16(writer, queue->next_used);
}

static void get_queue(struct state_reader *reader, struct virtq *queue)
{
	queue->size = state_get16(reader, "queue size");
	queue->ready = state_get_bool(reader, "queue ready");
	queue->broken = state_get_bool(reader, "queue broken");
	queue->descriptors = state_get64(reader, "queue descriptors");
	queue->avail = state_get64(reader, "queue avail");
	queue->used = state_get64(reader, "queue used");
	queue->next_avail = state_get16(reader, "queue next_avail");
	queue->next_used = state_get16(reader, "queue next_used");
	if (queue->size > queue->size_max || (queue->size & (queue->size - 1)))
		state_refuse(reader, "queue size", "is not a power of two within its limit", queue->size);
}

/* What the device itself has, a block. */
static int put_own(const struct virtio_device *device, struct state_writer *writer, struct riffle_error *error)
{
	uint8_t own[OWN_BYTES_MAX];
	size_t bytes = device->ops->save ? device->ops->save(device, own, sizeof own) : 0;

	if (bytes > sizeof own)
		return riffle_fail_expected(error, RIFFLE_ERR_UNSUPPORTED, device->name, "has more state than is saved",
					    bytes, sizeof own);
	state_put_block(writer, own, bytes);
	return 0;
}

int virtio_save(struct virtio_mmio *mmio, unsigned slot, struct state_writer *writer, struct riffle_error *error)
{
	struct virtio_device *device = mmio->device;

	virtio_lock(device);
	state_begin(writer, STATE_VIRTIO, slot, 1);
	state_put32(writer, device->ops->id);
	state_put32(writer, atomic_load(&device->status));
	state_put32(writer, atomic_load(device->interrupt_status));
	state_put32(writer, atomic_load(&device->generation));
	state_put64(writer, mmio->driver_features);
	state_put32(writer, mmio->device_features_select);
	state_put32(writer, mmio->driver_features_select);
	state_put32(writer, mmio->queue_select);
	state_put8(writer, device->active);
	state_put8(writer, device->failure != NULL);
	pthread_mutex_lock(&device->config_lock);
	state_put_block(writer, device->config, device->config_bytes);
	pthread_mutex_unlock(&device->config_lock);
	state_put32(writer, device->ops->queue_count);
	for (unsigned i = 0; i < device->ops->queue_count; i++)
		put_queue(writer, &device->queues[i]);
	int status = put_own(device, writer, error);

	state_end(writer);
	virtio_unlock(device);
	return status;
}

struct saved_device {
	uint32_t id, status, interrupt_status, generation;
	uint64_t driver_features;
	uint32_t device_features_select, driver_features_select, queue_select;
	bool active, failed;
	size_t config_bytes;
	uint8_t config[CONFIG_BYTES_MAX];
	struct virtq queues[VIRTIO_QUEUES_MAX];
	const void *own;
	size_t own_bytes;
};

static void get_device(struct state_reader *reader, struct saved_device *saved, const struct virtio_device *device)
{
	saved->id = state_get32(reader, "device");
	if (saved->id != device->ops->id)
		state_refuse(reader, "device", "is of another kind than the description's", saved->id);
	saved->status = state_get_limited(reader, "status", 0xff);
	saved->interrupt_status = state_get_limited(reader, "interrupt_status", 3);
	saved->generation = state_get32(reader, "generation");
	saved->driver_features = state_get64(reader, "driver_features");
	saved->device_features_select = state_get32(reader, "device_features_select");
	saved->driver_features_select = state_get32(reader, "driver_features_select");
	saved->queue_select = state_get32(reader, "queue_select");
	saved->active = state_get_bool(reader, "active");
	saved->failed = state_get_bool(reader, "failed");
	saved->config_bytes = state_get_block(reader, "config", saved->config, sizeof saved->config);
	if (saved->config_bytes != device->config_bytes)
		state_refuse(reader, "config", "has another size than the device's", saved->config_bytes);
	uint32_t count = state_get32(reader, "queues");

	if (count != device->ops->queue_count)
		state_refuse(reader, "queues", "are not as many as the device has", count);
	for (unsigned i = 0; i < device->ops->queue_count; i++) {
		saved->queues[i] = device->queues[i];
		get_queue(reader, &saved->queues[i]);
	}
	saved->own = state_get_block_at(reader, "device state", &saved->own_bytes);
}

int virtio_restore(struct virtio_mmio *mmio, unsigned slot, const struct state_file *file, struct riffle_error *error)
{
	struct virtio_device *device = mmio->device;
	struct saved_device saved = {0};
	struct state_reader reader;

	if (!state_section(file, STATE_VIRTIO, slot, &reader))
		return state_missing("virtio device", error);
	get_device(&reader, &saved, device);
	int status = state_close_section(&reader, error);

	if (status)
		return status;
	if (saved.driver_features & ~virtio_mmio_features(device))
		return riffle_fail_found_as(error, RIFFLE_ERR_UNSUPPORTED, RIFFLE_SHOW_HEX, device->name,
					    "the guest's driver uses features that the device does not have here",
					    saved.driver_features & ~virtio_mmio_features(device));
	virtio_lock(device);
	mmio->driver_features = saved.driver_features;
	mmio->device_features_select = saved.device_features_select;
	mmio->driver_features_select = saved.driver_features_select;
	mmio->queue_select = saved.queue_select;
	device->driver_features = saved.driver_features;
	memcpy(device->queues, saved.queues, device->ops->queue_count * sizeof *saved.queues);
	atomic_store(&device->status, saved.status);
	atomic_store(&device->generation, saved.generation);
	atomic_store(device->interrupt_status, saved.interrupt_status);
	status =
	    virtio_device_restore(device, saved.active, saved.failed, saved.config, saved.own, saved.own_bytes, error);
	virtio_mmio_refresh(mmio);
	virtio_unlock(device);
	return status;
}
