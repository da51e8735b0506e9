/* SPDX-License-Identifier: Apache-2.0 */
/* The server's end of a TCP connection: segments in, segments out; no sockets, no memory but its own. */
#ifndef RIFFLE_API_MMDS_TCP_H
#define RIFFLE_API_MMDS_TCP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define TCP_INPUT_BYTES 2500u /* of requests, and so the window that the peer gets */
#define TCP_MSS_OURS 1460u    /* of segments that come: Ethernet's */
#define TCP_MSS_DEFAULT 536u  /* of a peer that does not say */
#define TCP_MSS_MIN 28u       /* the least that IPv4's least MTU leaves */
#define TCP_MSS_MAX 65495u    /* the most that an IPv4 packet has room for */
#define TCP_RETRIES 15u
#define TCP_TIMEOUT_NS UINT64_C(300000000) /* doubled by each retry, up to: */
#define TCP_TIMEOUT_MAX_NS UINT64_C(5000000000)
#define TCP_NEVER UINT64_MAX

enum { TCP_FIN = 1, TCP_SYN = 2, TCP_RST = 4, TCP_PSH = 8, TCP_ACK = 16 };

struct tcp_segment {
	uint32_t seq, ack;
	uint16_t window;
	uint16_t mss; /* of a SYN; 0: not said */
	uint8_t flags;
	const uint8_t *data;
	size_t bytes;
};

/*
 * No options but the MSS, no congestion control: the other end is the guest's own kernel, and nothing lies between.
 * What arrives out of order is dropped and asked for again; what is not acknowledged is sent again from there on.
 */
struct tcp_connection {
	bool established;
	bool gone; /* nothing is left to do: to be freed */
	bool reset_due, ack_due, probe_due;
	bool fin_received, fin_wanted;
	uint8_t duplicates; /* acknowledgements in a row that say nothing new */
	unsigned retries;
	uint32_t first;                         /* of our sequence numbers: the SYN's */
	uint32_t unacknowledged, next, highest; /* sequence numbers: sent and not acknowledged, to send, ever sent */
	uint32_t expected;                      /* the peer's next sequence number */
	uint32_t window;                        /* the peer's, from `unacknowledged` on */
	uint16_t mss;
	uint64_t deadline;                 /* of a retransmission or a probe; TCP_NEVER: none */
	uint64_t heard;                    /* when the peer sent something last */
	uint32_t skip;                     /* bytes that the peer will send and nobody wants */
	uint8_t *output;                   /* what is to be sent, malloc()ed; NULL: nothing */
	uint32_t output_bytes, output_seq; /* its first byte's sequence number */
	uint32_t input_bytes;
	uint8_t input[TCP_INPUT_BYTES];
};

/* From a SYN; `first` cannot be foreseen by anybody but the peer. */
void tcp_open(struct tcp_connection *c, const struct tcp_segment *syn, uint32_t first, uint64_t now);
void tcp_close(struct tcp_connection *c); /* frees what it has */

/* False: the segment was not what a connection in this state expects. c->input may hold more, and c->output be sent. */
bool tcp_receive(struct tcp_connection *c, const struct tcp_segment *segment, uint64_t now);

/* The next segment to send now, if there is one. Its data stays where it is until the next call on the connection. */
bool tcp_next(struct tcp_connection *c, struct tcp_segment *segment, uint64_t now);

/* Only while c->output is NULL; takes `output`. */
void tcp_send(struct tcp_connection *c, uint8_t *output, uint32_t bytes);
/* Forgets the first bytes of the input, and `skip` that follow. */
void tcp_consume(struct tcp_connection *c, uint32_t bytes, uint32_t skip);
/* After the output no more follows. */
void tcp_finish(struct tcp_connection *c);
void tcp_reset(struct tcp_connection *c);

/* The answer to a segment of no connection; false: there is none. */
bool tcp_refuse(const struct tcp_segment *segment, struct tcp_segment *reset);

#endif
