/* SPDX-License-Identifier: Apache-2.0 */
/* Ethernet frames with ARP, and with TCP over IPv4, taken apart and put together. */
#include "api/mmds/packet.h"

#include <arpa/inet.h>
#include <net/ethernet.h>
#include <net/if_arp.h>
#include <netinet/if_ether.h>
#include <netinet/in.h>
#include <netinet/ip.h>
#include <string.h>

enum {
	ETHERNET = 14,
	ARP = 28,
	IP = 20,
	TCP = 20,
	MSS_OPTION = 4,
	/* places in an ARP message for IPv4 over Ethernet */
	ARP_SENDER_MAC = 8,
	ARP_SENDER = 14,
	ARP_TARGET_MAC = 18,
	ARP_TARGET = 24,
	/* in an IPv4 header */
	IP_SOURCE = 12,
	IP_DESTINATION = 16,
};

static const uint8_t own_mac[6] = {0x06, 0x01, 0x23, 0x45, 0x67, 0x01};
static const uint8_t arp_start[6] = {0, ARPHRD_ETHER, 0x08, 0x00, 6, 4};

static uint16_t get16(const uint8_t *p)
{
	return (uint16_t)(p[0] << 8 | p[1]);
}

static uint32_t get32(const uint8_t *p)
{
	return (uint32_t)get16(p) << 16 | get16(p + 2);
}

static void put16(uint8_t *p, unsigned value)
{
	p[0] = (uint8_t)(value >> 8);
	p[1] = (uint8_t)value;
}

static void put32(uint8_t *p, uint32_t value)
{
	put16(p, value >> 16);
	put16(p + 2, value & 0xffff);
}

bool packet_is_for(const uint8_t *frame, size_t bytes, uint32_t address)
{
	if (bytes < ETHERNET + IP)
		return false;
	if (get16(frame + 12) == ETHERTYPE_IP)
		return get32(frame + ETHERNET + IP_DESTINATION) == address;
	return get16(frame + 12) == ETHERTYPE_ARP && bytes >= ETHERNET + ARP &&
	       get32(frame + ETHERNET + ARP_TARGET) == address;
}

/* ---- in ---- */

static enum packet_kind read_arp(const uint8_t *arp, size_t bytes, struct packet *packet)
{
	if (bytes < ARP || memcmp(arp, arp_start, sizeof arp_start) != 0)
		return PACKET_BROKEN;
	if (get16(arp + 6) != ARPOP_REQUEST)
		return PACKET_OTHER;
	memcpy(packet->mac, arp + ARP_SENDER_MAC, sizeof packet->mac);
	packet->address = get32(arp + ARP_SENDER);
	return PACKET_ARP;
}

/* False: options that run over their end. */
static bool read_mss(const uint8_t *option, size_t bytes, uint16_t *mss)
{
	while (bytes && *option != 0) {
		size_t length = *option == 1 ? 1 : bytes < 2 ? 0 : option[1];

		if (*option != 1 && (length < 2 || length > bytes))
			return false;
		if (*option == 2 && length == MSS_OPTION)
			*mss = get16(option + 2);
		option += length;
		bytes -= length;
	}
	return true;
}

static enum packet_kind read_tcp(const uint8_t *tcp, size_t bytes, struct packet *packet)
{
	struct tcp_segment *s = &packet->segment;
	size_t header = bytes < TCP ? 0 : (size_t)(tcp[12] >> 4) * 4;

	if (header < TCP || header > bytes)
		return PACKET_BROKEN;
	packet->port = get16(tcp);
	packet->to_port = get16(tcp + 2);
	*s = (struct tcp_segment){
	    .seq = get32(tcp + 4),
	    .ack = get32(tcp + 8),
	    .flags = tcp[13] & (TCP_FIN | TCP_SYN | TCP_RST | TCP_PSH | TCP_ACK),
	    .window = get16(tcp + 14),
	    .data = tcp + header,
	    .bytes = bytes - header,
	};
	if (s->flags & TCP_SYN && !read_mss(tcp + TCP, header - TCP, &s->mss))
		return PACKET_BROKEN;
	return PACKET_TCP;
}

static enum packet_kind read_ip(const uint8_t *ip, size_t bytes, struct packet *packet)
{
	size_t header, total;

	if (bytes < IP || ip[0] >> 4 != 4)
		return PACKET_BROKEN;
	header = (size_t)(ip[0] & 15) * 4;
	total = get16(ip + 2);
	if (header < IP || total < header || total > bytes)
		return PACKET_BROKEN;
	packet->address = get32(ip + IP_SOURCE);
	if (ip[9] != IPPROTO_TCP || get16(ip + 6) & (IP_MF | IP_OFFMASK))
		return PACKET_OTHER;
	return read_tcp(ip + header, total - header, packet);
}

enum packet_kind packet_read(const uint8_t *frame, size_t bytes, struct packet *packet)
{
	*packet = (struct packet){0};
	if (bytes < ETHERNET)
		return PACKET_SHORT;
	memcpy(packet->mac, frame + 6, sizeof packet->mac);
	if (get16(frame + 12) == ETHERTYPE_ARP)
		return read_arp(frame + ETHERNET, bytes - ETHERNET, packet);
	if (get16(frame + 12) == ETHERTYPE_IP)
		return read_ip(frame + ETHERNET, bytes - ETHERNET, packet);
	return PACKET_BROKEN;
}

/* ---- out ---- */

static void write_ethernet(uint8_t *frame, const struct packet *packet, unsigned type)
{
	memcpy(frame, packet->mac, sizeof packet->mac);
	memcpy(frame + 6, own_mac, sizeof own_mac);
	put16(frame + 12, type);
}

size_t packet_write_arp(uint8_t *frame, size_t room, uint32_t address, const struct packet *packet)
{
	uint8_t *arp = frame + ETHERNET;

	if (room < ETHERNET + ARP)
		return 0;
	write_ethernet(frame, packet, ETHERTYPE_ARP);
	memcpy(arp, arp_start, sizeof arp_start);
	put16(arp + 6, ARPOP_REPLY);
	memcpy(arp + ARP_SENDER_MAC, own_mac, sizeof own_mac);
	put32(arp + ARP_SENDER, address);
	memcpy(arp + ARP_TARGET_MAC, packet->mac, sizeof packet->mac);
	put32(arp + ARP_TARGET, packet->address);
	return ETHERNET + ARP;
}

/* The sum of RFC 1071, of words in network byte order; at most 65535 of them. */
static uint32_t sum(uint32_t so_far, const uint8_t *bytes, size_t count)
{
	for (; count > 1; bytes += 2, count -= 2)
		so_far += get16(bytes);
	return count ? so_far + (uint32_t)(*bytes << 8) : so_far;
}

static unsigned checksum(uint32_t words)
{
	words = (words & 0xffff) + (words >> 16);
	words = (words & 0xffff) + (words >> 16);
	return ~words & 0xffff;
}

static void write_ip(uint8_t *ip, size_t payload, uint32_t address, const struct packet *packet)
{
	memset(ip, 0, IP);
	ip[0] = 4 << 4 | IP / 4;
	put16(ip + 2, (unsigned)(IP + payload));
	put16(ip + 6, IP_DF);
	ip[8] = 1; /* goes no further than to the guest */
	ip[9] = IPPROTO_TCP;
	put32(ip + IP_SOURCE, address);
	put32(ip + IP_DESTINATION, packet->address);
	put16(ip + 10, checksum(sum(0, ip, IP)));
}

size_t packet_write_tcp(uint8_t *frame, size_t room, uint32_t address, const struct packet *packet)
{
	const struct tcp_segment *s = &packet->segment;
	size_t header = TCP + (s->mss ? MSS_OPTION : 0), payload = header + s->bytes;
	uint8_t *ip = frame + ETHERNET, *tcp = ip + IP;

	if (room < ETHERNET + IP + payload || IP + payload > UINT16_MAX)
		return 0;
	write_ethernet(frame, packet, ETHERTYPE_IP);
	write_ip(ip, payload, address, packet);
	memset(tcp, 0, header);
	put16(tcp, packet->to_port);
	put16(tcp + 2, packet->port);
	put32(tcp + 4, s->seq);
	put32(tcp + 8, s->flags & TCP_ACK ? s->ack : 0);
	tcp[12] = (uint8_t)(header / 4 << 4);
	tcp[13] = s->flags;
	put16(tcp + 14, s->window);
	if (s->mss) {
		tcp[TCP] = 2;
		tcp[TCP + 1] = MSS_OPTION;
		put16(tcp + TCP + 2, s->mss);
	}
	if (s->bytes)
		memcpy(tcp + header, s->data, s->bytes);
	/* with the pseudo-header: both addresses, protocol and length */
	uint32_t words = sum(IPPROTO_TCP + (uint32_t)payload, ip + IP_SOURCE, 8);

	put16(tcp + 16, checksum(sum(words, tcp, payload)));
	return ETHERNET + IP + payload;
}
