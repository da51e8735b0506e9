/* SPDX-License-Identifier: Apache-2.0 */
/* Parses and builds Ethernet frames with ARP, and with TCP over IPv4. */
#ifndef RIFFLE_API_MMDS_PACKET_H
#define RIFFLE_API_MMDS_PACKET_H

#include "api/mmds/tcp.h"

enum packet_kind {
	PACKET_ARP,   /* a request for the address */
	PACKET_TCP,   /* a segment to the address */
	PACKET_OTHER, /* not TCP, a fragment, an ARP message that asks for nothing */
	PACKET_BROKEN,
	PACKET_SHORT, /* not even the Ethernet header */
};

struct packet {
	uint8_t mac[6];   /* the sender's */
	uint32_t address; /* the sender's, host byte order */
	uint16_t port, to_port;
	struct tcp_segment segment; /* its data lies in the frame */
};

/* Whether a frame that begins like this is ARP for, or IPv4 to, the address. */
bool packet_is_for(const uint8_t *frame, size_t bytes, uint32_t address);

/*
 * Parses a frame for the address. Checksums are not verified: they may have been left to an offload, and nothing gets
 * lost between a guest and its device.
 */
enum packet_kind packet_read(const uint8_t *frame, size_t bytes, struct packet *packet);

/*
 * Writes a complete frame; returns the length, or 0: there is no room for it. `packet` has the destination and the
 * contents.
 */
size_t packet_write_arp(uint8_t *frame, size_t room, uint32_t address, const struct packet *packet);
size_t packet_write_tcp(uint8_t *frame, size_t room, uint32_t address, const struct packet *packet);

#endif
