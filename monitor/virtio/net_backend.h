/* SPDX-License-Identifier: Apache-2.0 */
/* The host side of a network device: a tap, or passt's socket. */
#ifndef RIFFLE_MONITOR_VIRTIO_NET_BACKEND_H
#define RIFFLE_MONITOR_VIRTIO_NET_BACKEND_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>

#include <riffle/error.h>

#define NET_HEADER_BYTES 12u /* struct virtio_net_hdr_v1, which precedes each frame */
#define NET_FRAME_MAX                                                                                                  \
	(NET_HEADER_BYTES + 65550u) /* header, Ethernet header and tag, an IP packet with the largest payload */

enum net_sent {
	NET_SENT,
	NET_DROPPED, /* retrying is useless */
	NET_FULL,    /* try again after a flush or, if that sent nothing either, when the descriptor is writable */
};

struct net_backend;

/* Called by the event loop's thread; nothing blocks. Frames begin with the header and may lie in guest memory. */
struct net_backend_ops {
	/* The offloads that the driver accepted, which the backend may then use in frames for it. */
	void (*set_features)(struct net_backend *backend, uint64_t driver_features);
	/*
	 * Sends one frame, of NET_HEADER_BYTES + 14 to NET_FRAME_MAX bytes; its buffers must not change until the
	 * flush.
	 */
	enum net_sent (*send)(struct net_backend *backend, const struct iovec *frame, unsigned count, size_t bytes);
	/*
	 * Sends what has been collected. *untaken: the number of frames, the last ones sent, that could not be and are
	 * forgotten. False: something has to wait, of these or of a frame that was taken: call again, even if nothing
	 * was collected since, when the descriptor is writable.
	 */
	bool (*flush)(struct net_backend *backend, unsigned *untaken);
	/* Drops what has been collected and not flushed: its buffers are not the guest's any more. */
	void (*forget)(struct net_backend *backend);
	/* Receives one frame into the buffers, at most NET_FRAME_MAX bytes; returns its size, 0: none available, -1:
	 * the network is gone.
	 */
	ssize_t (*receive)(struct net_backend *backend, const struct iovec *frame, unsigned count);
	void (*destroy)(struct net_backend *backend);
};

struct net_backend {
	const struct net_backend_ops *ops;
	int fd;            /* for the loop to watch; owned by the backend */
	bool is_level;     /* the descriptor signals every available frame: none is buffered elsewhere */
	uint64_t features; /* supported offloads, in VIRTIO_NET_F_* */
	uint16_t mtu;      /* the best for the guest unless another is requested; 0: Ethernet's */
};

/*
 * Opens the tap of this name, creating it if necessary and permitted. Errors: ARGUMENT (name), IO (the system's error,
 * EBUSY: in use).
 */
int net_tap_open(struct net_backend **backend, const char *name, struct riffle_error *error);

/* The same, but only its descriptor, for net_tap_adopt() later. */
int net_tap_descriptor(int *descriptor, const char *name, struct riffle_error *error);

/* Duplicates the descriptor of a tap that is already open. Errors: ARGUMENT (no tap), IO. */
int net_tap_adopt(struct net_backend **backend, int fd, struct riffle_error *error);

/*
 * A descriptor that preserves frame boundaries, with a header for each frame, like a tap: in tests, a datagram socket
 * pair. The backend takes ownership. Errors: MEMORY.
 */
int net_packets_adopt(struct net_backend **backend, int fd, struct riffle_error *error);

/*
 * A connected stream socket on which frames, without header, are preceded by their length as 4 bytes, big-endian, the
 * protocol of QEMU and passt. The backend takes ownership, also after an error. Errors: MEMORY, IO.
 */
int net_stream_adopt(struct net_backend **backend, int fd, struct riffle_error *error);

static inline void net_backend_destroy(struct net_backend *backend)
{
	if (backend)
		backend->ops->destroy(backend);
}

#endif
