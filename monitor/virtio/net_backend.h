/* SPDX-License-Identifier: Apache-2.0 */
/* Where a network device's frames go to and come from: a tap, or passt's socket. */
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
	(NET_HEADER_BYTES + 65550u) /* header, Ethernet header and tag, an IP packet with its largest payload */

enum net_sent {
	NET_SENT,
	NET_DROPPED, /* no use to try again */
	NET_FULL,    /* try again after a flush, or, when that sent nothing either, when the descriptor is writable */
};

struct net_backend;

/* Called by the event loop's thread; nothing blocks. Frames begin with the header and may lie in guest memory. */
struct net_backend_ops {
	/* The offloads that the driver accepted: it can take what a backend that knows them hands over. */
	void (*set_features)(struct net_backend *backend, uint64_t driver_features);
	/* One frame, of NET_HEADER_BYTES + 14 to NET_FRAME_MAX bytes; its buffers stay as they are until the flush. */
	enum net_sent (*send)(struct net_backend *backend, const struct iovec *frame, unsigned count, size_t bytes);
	/*
	 * Sends what has been collected. *untaken: the number of frames, the last ones sent, that could not be and are
	 * forgotten. False: something has to wait, of these or of a frame that was taken: call again, even if nothing
	 * was collected since, when the descriptor is writable.
	 */
	bool (*flush)(struct net_backend *backend, unsigned *untaken);
	/* One frame into the buffers, at most NET_FRAME_MAX bytes; its size, 0: none is there, -1: the network is gone.
	 */
	ssize_t (*receive)(struct net_backend *backend, const struct iovec *frame, unsigned count);
	void (*destroy)(struct net_backend *backend);
};

struct net_backend {
	const struct net_backend_ops *ops;
	int fd;            /* for the loop to watch; the backend's */
	bool is_level;     /* the descriptor tells of every frame there is: none is kept beside it */
	uint64_t features; /* offloads that it can do, in VIRTIO_NET_F_* */
	uint16_t mtu;      /* that the guest had best use when nobody asks for another; 0: Ethernet's */
};

/*
 * The tap of this name, made if need be and allowed. Errors: ARGUMENT (name), IO (what the system says, EBUSY: in use).
 */
int net_tap_open(struct net_backend **backend, const char *name, struct riffle_error *error);

/* The same, but its descriptor alone, for net_tap_adopt() later. */
int net_tap_descriptor(int *descriptor, const char *name, struct riffle_error *error);

/* A copy of the descriptor of a tap that is open already. Errors: ARGUMENT (no tap), IO. */
int net_tap_adopt(struct net_backend **backend, int fd, struct riffle_error *error);

/*
 * A descriptor that keeps frames apart and each of them with its header, as a tap does: a pair of datagram sockets in
 * tests. The backend's from now on. Errors: MEMORY.
 */
int net_packets_adopt(struct net_backend **backend, int fd, struct riffle_error *error);

/*
 * A connected stream socket on which frames, without header, are preceded by their length as 4 bytes, big-endian, as
 * QEMU and passt speak. The backend's from now on, also after an error. Errors: MEMORY, IO.
 */
int net_stream_adopt(struct net_backend **backend, int fd, struct riffle_error *error);

static inline void net_backend_destroy(struct net_backend *backend)
{
	if (backend)
		backend->ops->destroy(backend);
}

#endif
