/* SPDX-License-Identifier: Apache-2.0 */
/* The virtio network device. */
#ifndef RIFFLE_MONITOR_VIRTIO_NET_H
#define RIFFLE_MONITOR_VIRTIO_NET_H

#include "monitor/virtio/device.h"
#include "monitor/virtio/limiter.h"
#include "monitor/virtio/net_backend.h"

/*
 * Somebody in the monitor who takes part in the guest's network: some of the guest's frames are his, and he has frames
 * for it. Frames are without header, and offloads are not for him: a frame may come with checksums left out and larger
 * than the MTU. Called by the event loop's thread, with the device's lock: he does not call the device.
 */
struct net_hook {
	/* Before all else, and after it: the device that he may net_poll() and whose loop he may use. NULL: no need. */
	void (*attached)(void *opaque, struct virtio_device *device);
	void (*detached)(void *opaque);
	/* Whether he takes the frame that begins like this: at most NET_HOOK_HEAD bytes of it. */
	bool (*wants)(void *opaque, const uint8_t *head, size_t bytes);
	void (*take)(void *opaque, const uint8_t *frame, size_t bytes);
	/* His next frame for the guest into `frame`, at most `room` bytes; 0: none. After net_poll(), and after take().
	 */
	size_t (*give)(void *opaque, uint8_t *frame, size_t room);
	void *opaque;
};

#define NET_HOOK_HEAD 64u

struct net_config {
	const char *name; /* for messages; stays */
	bool has_mac;     /* false: the guest makes one up */
	uint8_t mac[6];
	uint16_t mtu; /* told to the guest; 0: the backend's, if it has one */
	struct limiter_config rx, tx;
	const struct net_hook *hook; /* NULL: nobody; stays */
	/* The network is gone (passt ended, the tap was deleted); the guest goes on without. NULL: nobody wants to know
	 */
	void (*lost)(void *opaque);
	void *opaque;
};

/* The device owns the backend from now on, also after an error. Errors: ARGUMENT (mtu below 68), MEMORY. */
int net_new(struct virtio_device **device, const struct net_config *config, struct net_backend *backend,
	    struct riffle_error *error);

/* The rest belongs to the event loop's thread. */

void net_set_limits(struct virtio_device *device, const struct limiter_update *rx, const struct limiter_update *tx);
const struct net_counters *net_counters(const struct virtio_device *device);

/* The hook has something to give. */
void net_poll(struct virtio_device *device);

/* A locally administered unicast address. Errors: RANDOM. */
int net_random_mac(uint8_t mac[6], struct riffle_error *error);

#endif
