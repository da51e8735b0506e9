/* SPDX-License-Identifier: Apache-2.0 */
/* The virtio socket device: the guest's AF_VSOCK streams, which on the host are unix sockets. */
#ifndef RIFFLE_MONITOR_VIRTIO_VSOCK_H
#define RIFFLE_MONITOR_VIRTIO_VSOCK_H

#include "monitor/virtio/device.h"

#define VSOCK_CONNECTIONS_MAX 1023u

/*
 * The host side is Firecracker's. To reach port P of the guest, connect to PATH and send "CONNECT P\n"; once the guest
 * has accepted, "OK Q\n" comes, and then the stream. A guest that connects to port P of the host (CID 2) reaches who
 * listens at PATH_P. Whoever cannot be reached: closed without a word, and in the guest ECONNRESET.
 * Half-closed streams stay so in both directions.
 */
struct vsock_config {
	uint64_t cid;      /* the guest's: 3 to 2^32 - 2 */
	const char *path;  /* copied; at most 96 bytes, so that _PORT fits behind it */
	bool has_listener; /* PATH is bound already, by vsock_bind(): `listener`, of which a copy is made */
	int listener;
};

/* A socket that listens at PATH, for those who bind it before the device is made. Errors: ARGUMENT, IO. */
int vsock_bind(int *listener, const char *path, struct riffle_error *error);

/*
 * Binds PATH, which must not exist, at once: what connects waits until the guest is up.
 * Errors: ARGUMENT (cid, path), IO (EADDRINUSE: PATH exists), MEMORY.
 */
int vsock_new(struct virtio_device **device, const struct vsock_config *config, struct riffle_error *error);

const struct vsock_counters *vsock_counters(const struct virtio_device *device);

#endif
