/* SPDX-License-Identifier: Apache-2.0 */
/* The server side of a TCP connection: segments in, segments out; no sockets, no memory except its own. */
#ifndef RIFFLE_API_MMDS_TCP_H
#define RIFFLE_API_MMDS_TCP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define TCP_INPUT_BYTES 2500u /* for requests, and so the window that the peer gets */
#define TCP_MSS_OURS 1460u    /* of incoming segments: Ethernet's */
#define TCP_MSS_DEFAULT 536u  /* of a peer that does not specify one */
#define TCP_MSS_MIN 28u       /* with IPv4's minimum MTU */
#define TCP_MSS_MAX 65495u    /* with the largest IPv4 packet */
#define TCP_RETRIES 15u
#define TCP_TIMEOUT_NS UINT64_C(300000000) /* doubled by each retry, up to: */
#define TCP_TIMEOUT_MAX_NS UINT64_C(5000000000)
#define TCP_NEVER UINT64_MAX

enum { TCP_FIN = 1, TCP_SYN = 2, TCP_RST = 4, TCP_PSH = 8, TCP_ACK = 16 };

struct tcp_segment {
	uint32_t seq, ack;
	uint16_t window;
	uint16_t mss; /* of a SYN; 0: not specified */
	uint8_t flags;
	const uint8_t *data;
	size_t bytes;
};

/*
 * No options but the MSS, no congestion control: the peer is the guest's own kernel, with nothing in between.
 * Out-of-order segments are dropped and requested again; unacknowledged data is retransmitted from there on.
 */
struct tcp_connection {
	bool established;
	bool gone; /* nothing is left to do; free it */
	bool reset_due, ack_due, probe_due;
	bool fin_received, fin_wanted;
	uint8_t duplicates; /* consecutive duplicate acknowledgements */
	unsigned retries;
	uint32_t first;                         /* of our sequence numbers: the SYN's */
	uint32_t unacknowledged, next, highest; /* sequence numbers: sent and not acknowledged, to send, ever sent */
	uint32_t expected;                      /* the peer's next sequence number */
	uint32_t window;                        /* the peer's, from `unacknowledged` on */
	uint16_t mss;
	uint64_t deadline;                 /* of a retransmission or a probe; TCP_NEVER: none */
	uint64_t heard;                    /* when the peer last sent something */
	uint32_t skip;                     /* bytes that the peer will send and that are to be discarded */
	uint8_t *output;                   /* what is to be sent, malloc()ed; NULL: nothing */
	uint32_t output_bytes, output_seq; /* its first byte's sequence number */
	uint32_t input_bytes;
	uint8_t input[TCP_INPUT_BYTES];
};

/* Opens from a SYN; `first` must be unpredictable to anybody except the peer. */
void tcp_open(struct tcp_connection *c, const struct tcp_segment *syn, uint32_t first, uint64_t now);
void tcp_close(struct tcp_connection *c); /* frees what it has */

/*
 * False: the segment was not expected in this state. Afterwards c->input may hold more data, and c->output may have
 * been sent.
 */
bool tcp_receive(struct tcp_connection *c, const struct tcp_segment *segment, uint64_t now);

/* The next segment to send now, if there is one. Its data is valid until the next call on the connection. */
bool tcp_next(struct tcp_connection *c, struct tcp_segment *segment, uint64_t now);

/* Only while c->output is NULL; takes `output`. */
void tcp_send(struct tcp_connection *c, uint8_t *output, uint32_t bytes);
/* Discards the first bytes of the input, and the `skip` bytes that follow. */
void tcp_consume(struct tcp_connection *c, uint32_t bytes, uint32_t skip);
/* No more output follows. */
void tcp_finish(struct tcp_connection *c);
void tcp_reset(struct tcp_connection *c);

/* The reply to a segment that belongs to no connection; false: none. */
bool tcp_refuse(const struct tcp_segment *segment, struct tcp_segment *reset);

#endif
