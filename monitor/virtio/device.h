/* SPDX-License-Identifier: Apache-2.0 */
/* What a virtio device is to its transport, and the transport to a device. */
#ifndef RIFFLE_MONITOR_VIRTIO_DEVICE_H
#define RIFFLE_MONITOR_VIRTIO_DEVICE_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <riffle/error.h>

#include "monitor/bus/irq.h"
#include "monitor/core/memory.h"
#include "monitor/counters.h"
#include "monitor/event/loop.h"
#include "monitor/virtio/queue.h"

#define VIRTIO_QUEUES_MAX 8u
#define VIRTIO_FEATURE(bit) (UINT64_C(1) << (bit))

struct virtio_device;

/*
 * A kind of device. All of this is called with the device's lock held; NULL: nothing to do.
 *
 * What moves data runs in the event loop's thread and never blocks: notify(), and the callbacks of descriptors and
 * timers that the device has in that loop, which begin with virtio_lock() and end with virtio_unlock(). The rest may
 * also be called by a vCPU's thread, in the middle of the driver's write to a register; so it calls no function of the
 * loop but loop_post(). A vCPU never waits for the loop, which may be waiting for the vCPU to pause. So:
 * - to watch a descriptor from the driver's start on, do it in notify(), which is called for each queue after
 * activate();
 * - a callback that finds virtio_running() false stops watching its descriptor and does nothing else.
 *
 * A device is active between activate() and reset(), when the driver's features are known and the queues usable, and
 * running while it is active, not quiesced and has not failed. Only while it runs, or inside quiesce(), may it touch
 * queues and guest memory.
 */
struct virtio_ops {
	uint32_t id; /* VIRTIO_ID_* */
	unsigned queue_count;
	/* The driver is ready. Not 0: the device cannot work, which the driver is told by NEEDS_RESET. */
	int (*activate)(struct virtio_device *device);
	/* The driver says that there is something in a queue; also for every queue after activate() and after a pause.
	 */
	void (*notify)(struct virtio_device *device, unsigned queue);
	/*
	 * Take nothing more from the queues; finish what is in flight, waiting for the host if need be (never for the
	 * loop), and put the results into the queues. Before a reset, a pause, a snapshot.
	 */
	void (*quiesce)(struct virtio_device *device);
	/* Forget what the driver set up. The device was quiesced, if it was active. */
	void (*reset)(struct virtio_device *device);
	/* The driver wrote to the configuration space: [offset, offset + bytes) of device->config is new. */
	void (*config_written)(struct virtio_device *device, size_t offset, size_t bytes);
	/*
	 * The device's own state beside registers and queues, which the transport saves; it is quiesced. save() returns
	 * the bytes it has, of which it writes at most `room`; restore() comes instead of activate(). A device without
	 * restore() is activated.
	 */
	size_t (*save)(const struct virtio_device *device, void *state, size_t room);
	int (*restore)(struct virtio_device *device, const void *state, size_t bytes, struct riffle_error *error);
	/* Frees what the device has; neither vCPUs nor the loop run. Without the lock. */
	void (*destroy)(struct virtio_device *device);
};

/* Embedded in each device, which fills the first part, by virtio_device_init() and itself, before it is attached. */
struct virtio_device {
	const struct virtio_ops *ops;
	const char *name;  /* for messages: "block", or what the user calls it; not copied */
	uint64_t features; /* offered, beside VERSION_1, EVENT_IDX and INDIRECT_DESC, which all devices have */
	void *config;      /* the configuration space: of the device, changed by virtio_config_set() alone */
	size_t config_bytes;
	size_t config_writable_from, config_writable; /* what the driver may write of it: offset and bytes */
	/* where the transport counts for the device: activations, accesses to the configuration, and queues that
	 * failed; NULL: nowhere */
	counter *activate_fails, *config_fails, *event_fails;
	bool timed; /* the device notes how long things take it */
	struct virtq queues[VIRTIO_QUEUES_MAX];
	/* given by the transport */
	struct loop *loop;
	const struct guest_memory *memory;
	uint64_t driver_features; /* accepted by the driver; settled at activate() */
	bool active, quiesced;
	const char *failure; /* why it needs a reset; NULL: it does not */
	struct interrupt_counters interrupts;
	/* the transport's own */
	atomic_uint *page;
	pthread_mutex_t lock;
	pthread_mutex_t config_lock; /* of the bytes of the configuration space; the last lock taken */
	bool paused;                 /* what is activated meanwhile is quiesced at once */
	struct irq irq;
	int doorbells[VIRTIO_QUEUES_MAX];
	/* read by vCPUs without the lock */
	atomic_uint *interrupt_status; /* its own, or in the page */
	atomic_uint own_interrupt_status;
	atomic_uint generation;
	atomic_uint status; /* VIRTIO_CONFIG_S_* */
};

/*
 * The registers as the guest reads them without an exit (virtio_mmio_show()); NULL: it does not. What is written there:
 * the status with the device's lock held, configuration and generation with config_lock.
 */
static inline void virtio_show(struct virtio_device *device, size_t offset, uint32_t value)
{
	if (device->page)
		atomic_store_explicit(&device->page[offset / 4], value, memory_order_release);
}
/* [offset, offset + bytes) of the configuration space, with config_lock held. */
void virtio_show_config(struct virtio_device *device, size_t offset, size_t bytes);

/*
 * Zeros for a device that is large, in pages of its own, which are touched when they are used: calloc() writes to what
 * it cannot know to be fresh. NULL: out of memory.
 */
void *virtio_allocate(size_t bytes);
void virtio_free(void *device, size_t bytes);

void virtio_device_init(struct virtio_device *device, const struct virtio_ops *ops, const char *name);
void virtio_device_destroy(struct virtio_device *device);

static inline void virtio_lock(struct virtio_device *device)
{
	pthread_mutex_lock(&device->lock);
}

static inline void virtio_unlock(struct virtio_device *device)
{
	pthread_mutex_unlock(&device->lock);
}

static inline bool virtio_running(const struct virtio_device *device)
{
	return device->active && !device->quiesced && !device->failure;
}

static inline bool virtio_has(const struct virtio_device *device, unsigned bit)
{
	return device->driver_features >> bit & 1;
}

/* The following for devices, with the lock held. */

/* One more, unless it is NULL. */
void virtio_count(counter *where);
/* A moment in microseconds, for a struct latency; 0 in a device that is not timed. */
uint64_t virtio_clock_us(const struct virtio_device *device);

/* virtq_publish(), and the interrupt if the driver wants one. Once a batch. */
void virtio_publish(struct virtio_device *device, unsigned queue);

/* The driver broke the rules: the device stops and needs a reset, of which the driver is told. `why` is static. */
void virtio_fail(struct virtio_device *device, const char *why);

/* Changes bytes of the configuration space; a driver that is there is told. */
void virtio_config_set(struct virtio_device *device, size_t offset, const void *data, size_t bytes);

/* The following for those who control devices: they take the lock. */

/* Nothing is in flight afterwards, and nothing begins before virtio_resume(), whatever the driver does meanwhile. */
void virtio_pause(struct virtio_device *device);
void virtio_resume(struct virtio_device *device);

/* For the transport, with the lock held: what the driver's writes to status and doorbells come to. */
void virtio_device_activate(struct virtio_device *device);
void virtio_device_reset(struct virtio_device *device);
void virtio_device_notify(struct virtio_device *device, unsigned queue);
/*
 * Instead of activation, when the registers and queues of a saved device have been put back: checks the queues, gives
 * the device its own state, and leaves it paused. `config` is the configuration space that the driver knows. An
 * interrupt that was due is raised. Errors: FORMAT (queues), UNSUPPORTED (the configuration differs), the device's.
 */
int virtio_device_restore(struct virtio_device *device, bool active, bool failed, const void *config, const void *state,
			  size_t bytes, struct riffle_error *error);
void virtio_device_ring(struct virtio_device *device, unsigned queue); /* no lock: the loop will notify */

#endif
