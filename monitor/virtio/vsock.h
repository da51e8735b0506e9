/* SPDX-License-Identifier: Apache-2.0 */
/* The virtio socket device: the guest's AF_VSOCK streams, which on the host are unix sockets. */
#ifndef RIFFLE_MONITOR_VIRTIO_VSOCK_H
#define RIFFLE_MONITOR_VIRTIO_VSOCK_H

#include "monitor/virtio/device.h"

#define VSOCK_CONNECTIONS_MAX 1023u

/*
 * The host side is Firecracker's. To reach port P of the guest, connect to PATH and send "CONNECT P\n"; once the guest
 * has accepted, "OK Q\n" comes, and then the stream. A guest that connects to port P of the host (CID 2) reaches the
 * listener at PATH_P. If there is no listener, the host's connection is closed without a message, and the guest gets
 * ECONNRESET. Streams can be half-closed in both directions.
 */
struct vsock_config {
	uint64_t cid;      /* the guest's: 3 to 2^32 - 2 */
	const char *path;  /* copied; at most 96 bytes, so that _PORT can be appended */
	bool has_listener; /* PATH is already bound, by vsock_bind(), as `listener`, which is duplicated */
	int listener;
};

/* A socket that listens at PATH, for callers that bind it before the device is made. Errors: ARGUMENT, IO. */
int vsock_bind(int *listener, const char *path, struct riffle_error *error);

/*
 * Binds PATH, which must not exist, at once: connections wait until the guest is up.
 * Errors: ARGUMENT (cid, path), IO (EADDRINUSE: PATH exists), MEMORY.
 */
int vsock_new(struct virtio_device **device, const struct vsock_config *config, struct riffle_error *error);

const struct vsock_counters *vsock_counters(const struct virtio_device *device);

#endif
