/* SPDX-License-Identifier: Apache-2.0 */
/* The interface between a virtio device and its transport. */
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
 * The operations of a kind of device. All are called with the device's lock held; NULL: nothing to do.
 *
 * Code that moves data runs in the event loop's thread and never blocks: notify(), and the callbacks of the device's
 * descriptors and timers in that loop, which begin with virtio_lock() and end with virtio_unlock(); serve() does the
 * same in a vCPU's thread. The other operations may also be called by a vCPU thread, during the driver's write to a
 * register, so they may call no function of the loop except loop_post(). A vCPU never waits for the loop, because the
 * loop may be waiting for the vCPU to pause. Therefore:
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
	/* The driver is ready. Not 0: the device cannot work, which is reported to the driver by NEEDS_RESET. */
	int (*activate)(struct virtio_device *device);
	/* The driver notified a queue; also called for every queue after activate() and after a pause.
	 */
	void (*notify)(struct virtio_device *device, unsigned queue);
	/*
	 * The driver notified one of the `direct` queues: called in the vCPU's thread, while the device runs and the
	 * queue is ready. Serves the queue if there is little to do, without blocking and without the loop. False:
	 * something is left, for which the loop will call notify().
	 */
	bool (*serve)(struct virtio_device *device, unsigned queue);
	/*
	 * Take nothing more from the queues; complete what is in flight, waiting for the host if necessary (never for
	 * the loop), and put the results into the queues. Called before a reset, a pause or a snapshot.
	 */
	void (*quiesce)(struct virtio_device *device);
	/* Discard what the driver set up. If the device was active, it has been quiesced. */
	void (*reset)(struct virtio_device *device);
	/* The driver wrote to the configuration space: [offset, offset + bytes) of device->config has changed. */
	void (*config_written)(struct virtio_device *device, size_t offset, size_t bytes);
	/*
	 * Saves and restores the device's own state, apart from registers and queues, which the transport saves. The
	 * device is quiesced. save() returns the size of the state, of which it writes at most `room` bytes; restore()
	 * is called instead of activate(). A device without restore() is activated.
	 */
	size_t (*save)(const struct virtio_device *device, void *state, size_t room);
	int (*restore)(struct virtio_device *device, const void *state, size_t bytes, struct riffle_error *error);
	/* Frees the device; neither vCPUs nor the loop run. Called without the lock. */
	void (*destroy)(struct virtio_device *device);
};

/* Embedded in each device, which fills in the first part, by virtio_device_init() and itself, before it is attached. */
struct virtio_device {
	const struct virtio_ops *ops;
	const char *name;  /* for messages: "block", or the user's name for it; not copied */
	uint64_t features; /* offered, in addition to VERSION_1, EVENT_IDX and INDIRECT_DESC, which all devices have */
	void *config;      /* the device's configuration space, changed only by virtio_config_set() */
	size_t config_bytes;
	size_t config_writable_from, config_writable; /* the part that the driver may write: offset and bytes */
	/* the device's counters for the transport: failed activations, configuration accesses and queues; NULL: none */
	counter *activate_fails, *config_fails, *event_fails;
	bool timed;      /* the device records durations */
	unsigned direct; /* bits of the queues that serve() is for; constant once attached */
	struct virtq queues[VIRTIO_QUEUES_MAX];
	/* set by the transport */
	struct loop *loop;
	const struct guest_memory *memory;
	uint64_t driver_features; /* accepted by the driver; final at activate() */
	bool active, quiesced;
	const char *failure; /* why it needs a reset; NULL: it does not */
	struct interrupt_counters interrupts;
	/* the transport's own */
	atomic_uint *page;
	pthread_mutex_t lock;
	pthread_mutex_t config_lock; /* protects the configuration space; the last lock in the lock order */
	bool paused;                 /* a device activated meanwhile is quiesced at once */
	struct irq irq;
	int doorbells[VIRTIO_QUEUES_MAX];
	/* read by vCPUs without the lock */
	atomic_uint *interrupt_status; /* its own, or in the page */
	atomic_uint own_interrupt_status;
	atomic_uint generation;
	atomic_uint status; /* VIRTIO_CONFIG_S_* */
};

/*
 * The registers that the guest reads without an exit (virtio_mmio_show()); NULL: it does not. The status is written
 * there with the device's lock held, configuration and generation with config_lock.
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

/* Increments the counter, unless it is NULL. */
void virtio_count(counter *where);
/* The time in microseconds, for a struct latency; 0 if the device is not timed. */
uint64_t virtio_clock_us(const struct virtio_device *device);

/* Calls virtq_publish(), and raises the interrupt if the driver wants one. Once per batch. */
void virtio_publish(struct virtio_device *device, unsigned queue);

/* The driver broke the rules: the device stops and reports to the driver that it needs a reset. `why` is static. */
void virtio_fail(struct virtio_device *device, const char *why);

/* Changes bytes of the configuration space, and notifies the driver if there is one. */
void virtio_config_set(struct virtio_device *device, size_t offset, const void *data, size_t bytes);

/* The following control a device: they take the lock. */

/* Afterwards nothing is in flight, and nothing starts before virtio_resume(), whatever the driver does meanwhile. */
void virtio_pause(struct virtio_device *device);
void virtio_resume(struct virtio_device *device);

/* For the transport, with the lock held: the effects of the driver's writes to status and doorbells. */
void virtio_device_activate(struct virtio_device *device);
void virtio_device_reset(struct virtio_device *device);
void virtio_device_notify(struct virtio_device *device, unsigned queue);
/*
 * Replaces activation once the registers and queues of a saved device have been restored: checks the queues, restores
 * the device's own state, and leaves it paused. `config` is the configuration space as the driver knows it. A pending
 * interrupt is raised. Errors: FORMAT (queues), UNSUPPORTED (the configuration differs), the device's.
 */
int virtio_device_restore(struct virtio_device *device, bool active, bool failed, const void *config, const void *state,
			  size_t bytes, struct riffle_error *error);
void virtio_device_ring(struct virtio_device *device, unsigned queue); /* no lock: the loop will notify */
/* Without the lock, in a vCPU's thread: the driver notified the queue. Never waits. */
void virtio_device_kick(struct virtio_device *device, unsigned queue);

#endif
