/* SPDX-License-Identifier: Apache-2.0 */
/* The virtio network device. */
#ifndef RIFFLE_MONITOR_VIRTIO_NET_H
#define RIFFLE_MONITOR_VIRTIO_NET_H

#include "monitor/virtio/device.h"
#include "monitor/virtio/limiter.h"
#include "monitor/virtio/net_backend.h"

/*
 * A hook for code in the monitor that takes part in the guest's network: it takes some of the guest's frames, and sends
 * frames to the guest. Frames have no header, and offloads are not resolved: a frame may have incomplete checksums and
 * exceed the MTU. Called by the event loop's thread, with the device's lock held: it must not call the device.
 */
struct net_hook {
	/* Called first and last, with the device to pass to net_poll() and whose loop may be used. May be NULL. */
	void (*attached)(void *opaque, struct virtio_device *device);
	void (*detached)(void *opaque);
	/* Whether to take the frame that starts with these bytes, at most NET_HOOK_HEAD. */
	bool (*wants)(void *opaque, const uint8_t *head, size_t bytes);
	void (*take)(void *opaque, const uint8_t *frame, size_t bytes);
	/* Puts the next frame for the guest into `frame`, at most `room` bytes; 0: none. Called after net_poll() and
	 * after take().
	 */
	size_t (*give)(void *opaque, uint8_t *frame, size_t room);
	void *opaque;
};

#define NET_HOOK_HEAD 64u

struct net_config {
	const char *name; /* for messages; stays */
	bool has_mac;     /* false: the guest chooses one */
	uint8_t mac[6];
	uint16_t mtu; /* reported to the guest; 0: the backend's, if it has one */
	struct limiter_config rx, tx;
	const struct net_hook *hook; /* NULL: none; not copied */
	/* The network is gone (passt ended, the tap was deleted); the guest continues without. May be NULL
	 */
	void (*lost)(void *opaque);
	void *opaque;
};

/* The device takes ownership of the backend, also after an error. Errors: ARGUMENT (mtu below 68), MEMORY. */
int net_new(struct virtio_device **device, const struct net_config *config, struct net_backend *backend,
	    struct riffle_error *error);

/* Call the following only in the event loop's thread. */

void net_set_limits(struct virtio_device *device, const struct limiter_update *rx, const struct limiter_update *tx);
const struct net_counters *net_counters(const struct virtio_device *device);

/* The hook has a frame for the guest. */
void net_poll(struct virtio_device *device);

/* A locally administered unicast address. Errors: RANDOM. */
int net_random_mac(uint8_t mac[6], struct riffle_error *error);

#endif
