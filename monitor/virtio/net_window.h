/* SPDX-License-Identifier: Apache-2.0 */
/* A window of the guest's receive buffers: chains taken from the queue ahead of the frames that will fill them. */
#ifndef RIFFLE_MONITOR_VIRTIO_NET_WINDOW_H
#define RIFFLE_MONITOR_VIRTIO_NET_WINDOW_H

#include "monitor/virtio/queue.h"

/* One less than a call's limit (IOV_MAX), to leave one for what does not fit into the guest's buffers. */
#define NET_WINDOW_BUFFERS 1023u

struct net_window {
	struct {
		uint16_t head;
		uint16_t buffers;
		uint64_t bytes;
	} chain[VIRTQ_SIZE_MAX];
	struct iovec buffer[NET_WINDOW_BUFFERS + 1];
	/* the part of both in use; earlier ones have been pushed */
	unsigned first_chain, chains;
	unsigned first_buffer, buffers;
	uint64_t bytes;
};

void net_window_clear(struct net_window *window);

/*
 * Takes chains until they hold `bytes` bytes, or `chains` of them. False: the ring is invalid. `scratch` is
 * overwritten.
 */
bool net_window_fill(struct net_window *window, struct virtq *queue, struct virtq_chain *scratch, uint64_t bytes,
		     unsigned chains);

/* Returns the window's chains to the queue, to be popped again. */
void net_window_return(struct net_window *window, struct virtq *queue);

/* Copies to the buffers, which are large enough, from `offset` on. */
void net_window_write(const struct net_window *window, uint64_t offset, const void *data, size_t bytes);

/* How many chains a frame of `bytes` bytes fills; the window must hold them. */
unsigned net_window_chains(const struct net_window *window, uint64_t bytes);

/* Pushes these chains, filled with a frame of `bytes` bytes. */
void net_window_push(struct net_window *window, struct virtq *queue, unsigned chains, uint64_t bytes);

#endif
