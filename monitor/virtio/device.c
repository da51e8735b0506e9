/* SPDX-License-Identifier: Apache-2.0 */
/* The life of a virtio device between its transport and its kind: activation, quiescing, reset, failure. */
#include "monitor/virtio/device.h"

#include <linux/virtio_config.h>
#include <linux/virtio_mmio.h>
#include <linux/virtio_ring.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "common/bytes.h"
#include "common/fail.h"

void *virtio_allocate(size_t bytes)
{
	void *device = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	return device == MAP_FAILED ? NULL : device;
}

void virtio_free(void *device, size_t bytes)
{
	munmap(device, bytes);
}

void virtio_device_init(struct virtio_device *device, const struct virtio_ops *ops, const char *name)
{
	*device = (struct virtio_device){.ops = ops, .name = name, .irq = {.fd = -1}};
	device->interrupt_status = &device->own_interrupt_status;
	pthread_mutex_init(&device->lock, NULL);
	pthread_mutex_init(&device->config_lock, NULL);
	for (unsigned i = 0; i < ops->queue_count; i++)
		device->queues[i].size = device->queues[i].size_max = VIRTQ_SIZE_MAX;
	for (unsigned i = 0; i < VIRTIO_QUEUES_MAX; i++)
		device->doorbells[i] = -1;
}

void virtio_device_destroy(struct virtio_device *device)
{
	device->active = false;
	pthread_mutex_destroy(&device->lock);
	pthread_mutex_destroy(&device->config_lock);
	if (device->ops->destroy)
		device->ops->destroy(device); /* which frees it */
}

uint64_t virtio_clock_us(const struct virtio_device *device)
{
	struct timespec now;

	if (!device->timed)
		return 0;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

void virtio_count(counter *where)
{
	if (where)
		counter_add(where, 1);
}

static void interrupt(struct virtio_device *device, unsigned why)
{
	counter_add(why == VIRTIO_MMIO_INT_CONFIG ? &device->interrupts.config_updates : &device->interrupts.triggers,
		    1);
	atomic_fetch_or(device->interrupt_status, why);
	irq_raise(&device->irq);
}

void virtio_publish(struct virtio_device *device, unsigned queue)
{
	if (virtq_publish(&device->queues[queue]))
		interrupt(device, VIRTIO_MMIO_INT_VRING);
}

static void fail(struct virtio_device *device, const char *why, counter *failures)
{
	if (device->failure)
		return;
	device->failure = why;
	virtio_count(failures);
	virtio_show(device, VIRTIO_MMIO_STATUS,
		    atomic_fetch_or(&device->status, VIRTIO_CONFIG_S_NEEDS_RESET) | VIRTIO_CONFIG_S_NEEDS_RESET);
	/* before DRIVER_OK the driver looks at the status by itself (VIRTIO 1.2, 2.1.2) */
	if (atomic_load(&device->status) & VIRTIO_CONFIG_S_DRIVER_OK)
		interrupt(device, VIRTIO_MMIO_INT_CONFIG);
}

void virtio_fail(struct virtio_device *device, const char *why)
{
	fail(device, why, device->event_fails);
}

/* Whoever reads the page takes no lock: a value that may be stored at once is. */
void virtio_show_config(struct virtio_device *device, size_t offset, size_t bytes)
{
	if (!device->page || !bytes)
		return;
	uint8_t *to = (uint8_t *)device->page + VIRTIO_MMIO_CONFIG + offset;
	const uint8_t *from = (const uint8_t *)device->config + offset;

	if (bytes == 8 && !(offset & 7))
		__atomic_store_n((uint64_t *)(void *)to, riffle_get64(from), __ATOMIC_RELEASE);
	else if (bytes == 4 && !(offset & 3))
		__atomic_store_n((uint32_t *)(void *)to, riffle_get32(from), __ATOMIC_RELEASE);
	else
		memcpy(to, from, bytes);
}

static void next_generation(struct virtio_device *device)
{
	virtio_show(device, VIRTIO_MMIO_CONFIG_GENERATION, atomic_fetch_add(&device->generation, 1) + 1);
	atomic_thread_fence(memory_order_seq_cst);
}

void virtio_config_set(struct virtio_device *device, size_t offset, const void *data, size_t bytes)
{
	if (!riffle_inside(offset, bytes, device->config_bytes))
		return;
	pthread_mutex_lock(&device->config_lock);
	/* before and after, for a driver that reads the page meanwhile */
	next_generation(device);
	memcpy((uint8_t *)device->config + offset, data, bytes);
	virtio_show_config(device, offset, bytes);
	next_generation(device);
	pthread_mutex_unlock(&device->config_lock);
	if (device->active)
		interrupt(device, VIRTIO_MMIO_INT_CONFIG);
}

static void quiesce(struct virtio_device *device)
{
	if (!device->active || device->quiesced)
		return;
	device->quiesced = true;
	if (device->ops->quiesce)
		device->ops->quiesce(device);
}

static void ring_all(struct virtio_device *device)
{
	for (unsigned i = 0; i < device->ops->queue_count; i++)
		virtio_device_ring(device, i);
}

void virtio_pause(struct virtio_device *device)
{
	virtio_lock(device);
	device->paused = true;
	quiesce(device);
	virtio_unlock(device);
}

void virtio_resume(struct virtio_device *device)
{
	virtio_lock(device);
	device->paused = device->quiesced = false;
	ring_all(device);
	virtio_unlock(device);
}

void virtio_device_ring(struct virtio_device *device, unsigned queue)
{
	uint64_t one = 1;

	if (queue >= device->ops->queue_count || device->doorbells[queue] < 0)
		return;
	ssize_t ignored = write(device->doorbells[queue], &one, sizeof one); /* a full counter rings as well */

	(void)ignored;
}

void virtio_device_notify(struct virtio_device *device, unsigned queue)
{
	if (virtio_running(device) && device->queues[queue].ready && device->ops->notify)
		device->ops->notify(device, queue);
}

/*
 * What the vCPU's thread does itself saves two switches of threads, and the guest the wait for them. While the loop has
 * the device, the loop goes on with it.
 */
static bool serve(struct virtio_device *device, unsigned queue)
{
	if (!(device->direct >> queue & 1) || pthread_mutex_trylock(&device->lock) != 0)
		return false;
	bool served = virtio_running(device) && device->queues[queue].ready && device->ops->serve(device, queue);

	virtio_unlock(device);
	return served;
}

void virtio_device_kick(struct virtio_device *device, unsigned queue)
{
	if (queue < device->ops->queue_count && !serve(device, queue))
		virtio_device_ring(device, queue);
}

static bool activate_queues(struct virtio_device *device)
{
	const char *problem = NULL;

	for (unsigned i = 0; i < device->ops->queue_count; i++) {
		struct virtq *queue = &device->queues[i];

		if (queue->ready && !virtq_activate(queue, device->memory, virtio_has(device, VIRTIO_RING_F_EVENT_IDX),
						    virtio_has(device, VIRTIO_RING_F_INDIRECT_DESC), &problem)) {
			fail(device, problem, device->activate_fails);
			return false;
		}
	}
	return true;
}

void virtio_device_activate(struct virtio_device *device)
{
	if (device->active || device->failure || !activate_queues(device))
		return;
	device->active = true;
	if (device->ops->activate && device->ops->activate(device)) {
		fail(device, "the device cannot be activated", device->activate_fails);
		return;
	}
	if (device->paused)
		quiesce(device);
	ring_all(device);
}

void virtio_device_reset(struct virtio_device *device)
{
	quiesce(device);
	if (device->active && device->ops->reset)
		device->ops->reset(device);
	device->active = device->quiesced = false;
	device->failure = NULL;
	device->driver_features = 0;
	for (unsigned i = 0; i < device->ops->queue_count; i++)
		virtq_reset(&device->queues[i]);
	atomic_store(device->interrupt_status, 0);
	atomic_store(&device->status, 0);
}

/* The queues are where they were; the driver, which may have changed the rings since, is believed nothing. */
static int restore_queues(struct virtio_device *device, struct riffle_error *error)
{
	const char *problem = NULL;

	for (unsigned i = 0; i < device->ops->queue_count; i++) {
		struct virtq *queue = &device->queues[i];
		const struct virtq saved = *queue;

		if (!queue->ready)
			continue;
		if (!virtq_activate(queue, device->memory, virtio_has(device, VIRTIO_RING_F_EVENT_IDX),
				    virtio_has(device, VIRTIO_RING_F_INDIRECT_DESC), &problem))
			return riffle_fail_found(error, RIFFLE_ERR_FORMAT, device->name, problem, i);
		queue->broken = saved.broken;
		queue->next_avail = queue->seen_avail = saved.next_avail;
		queue->next_used = queue->published_used = saved.next_used;
	}
	return 0;
}

static int restore_own(struct virtio_device *device, const void *state, size_t bytes, struct riffle_error *error)
{
	if (device->ops->restore)
		return device->ops->restore(device, state, bytes, error);
	if (bytes)
		return riffle_fail_found(error, RIFFLE_ERR_FORMAT, device->name, "has state that it cannot take",
					 bytes);
	if (device->ops->activate && device->ops->activate(device))
		return riffle_fail(error, RIFFLE_ERR_UNSUPPORTED, device->name, "the device cannot be activated");
	return 0;
}

int virtio_device_restore(struct virtio_device *device, bool active, bool failed, const void *config, const void *state,
			  size_t bytes, struct riffle_error *error)
{
	int status;

	device->paused = true;
	/*
	 * A device whose driver changes it has its configuration in its own state. One that no driver has begun with
	 * may be another disk or network than it was.
	 */
	if (!device->config_writable && atomic_load(&device->status) && device->config_bytes &&
	    memcmp(device->config, config, device->config_bytes) != 0)
		return riffle_fail(error, RIFFLE_ERR_UNSUPPORTED, device->name,
				   "is not what the guest's driver knows (a disk of another size?)");
	if (failed)
		device->failure = "it had failed before it was saved";
	if (!active)
		return 0;
	if (!failed && (status = restore_queues(device, error)))
		return status;
	device->active = device->quiesced = true;
	if ((status = restore_own(device, state, bytes, error)))
		return status;
	/* whether the edge had reached the guest nobody knows; one too many does no harm */
	if (atomic_load(device->interrupt_status))
		irq_raise(&device->irq);
	return 0;
}
