/* SPDX-License-Identifier: Apache-2.0 */
/* The service's side of one network device: its address, its connections, and what is to be sent to the guest. */
#ifndef RIFFLE_API_MMDS_STACK_H
#define RIFFLE_API_MMDS_STACK_H

#include "api/mmds/internal.h"
#include "api/mmds/packet.h"

#define MMDS_CONNECTIONS 30u
#define MMDS_RESETS 32u                    /* waiting to be sent; further ones are dropped */
#define MMDS_IDLE_NS UINT64_C(10000000000) /* after which a connection may be replaced by another one */
#define MMDS_PORT 80u

struct mmds_connection {
	struct packet peer;
	struct tcp_connection tcp;
};

struct mmds_stack {
	struct mmds_stack *next;
	struct mmds *mmds;
	struct net_hook hook;
	/* set by the device, once it runs; NULL in tests */
	struct virtio_device *device;
	struct loop_timer timer;
	bool arp_due;
	struct packet arp; /* who asked */
	struct packet resets[MMDS_RESETS];
	unsigned reset_count;
	struct mmds_connection *connections[MMDS_CONNECTIONS];
	unsigned turn; /* whose turn it is to send */
};

struct mmds_stack *mmds_stack_new(struct mmds *mmds);
void mmds_stack_destroy(struct mmds_stack *stack);

#endif
