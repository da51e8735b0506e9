/* SPDX-License-Identifier: Apache-2.0 */
/* A stream between a unix socket of the host and a port of the guest, and the table of all streams. */
#ifndef RIFFLE_MONITOR_VIRTIO_VSOCK_CONNECTION_H
#define RIFFLE_MONITOR_VIRTIO_VSOCK_CONNECTION_H

#include <linux/virtio_vsock.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "monitor/virtio/vsock.h"

#define VSOCK_HEADER_BYTES 44u
#define VSOCK_FIRST_PORT (UINT32_C(1) << 30) /* of the host, if it connects */
#define VSOCK_PACKET_MAX (64u << 10)
#define VSOCK_BUFFER (64u << 10) /* what the guest may send beyond what the host has consumed */
#define VSOCK_BUCKETS 1024u
#define VSOCK_LINE_MAX 32u
#define VSOCK_RESETS_MAX 256u
#define VSOCK_PATIENCE_MS 2000u /* for a peer that does not answer */
#define VSOCK_SHUTDOWN_BOTH (VIRTIO_VSOCK_SHUTDOWN_RCV | VIRTIO_VSOCK_SHUTDOWN_SEND)
_Static_assert(sizeof(struct virtio_vsock_hdr) == VSOCK_HEADER_BYTES, "the header is packed");

enum { VSOCK_RX, VSOCK_TX, VSOCK_EVENT, VSOCK_QUEUES };

enum vsock_state {
	VSOCK_GREETING,   /* accepted, awaiting the CONNECT line. Not in the table */
	VSOCK_REQUESTED,  /* a request was sent to the guest */
	VSOCK_CONNECTING, /* the guest requested it; the host's listener is busy at the moment */
	VSOCK_OPEN,
	VSOCK_CLOSING,  /* the host closed it and the guest was notified, and should answer by RST */
	VSOCK_DRAINING, /* the guest has finished; the host has not yet taken everything. Not in the table */
	VSOCK_DEAD,     /* no socket any more; only an RST remains to be sent */
};

/* Pending packets for the guest, apart from data; several may be set. */
enum {
	VSOCK_SEND_RST = 1,
	VSOCK_SEND_REQUEST = 2,
	VSOCK_SEND_RESPONSE = 4,
	VSOCK_SEND_CREDIT_REQUEST = 8,
	VSOCK_SEND_SHUTDOWN = 16,
	VSOCK_SEND_CREDIT = 32,
};

struct vsock_connection {
	struct vsock *vsock;
	struct vsock_connection *next, **link; /* of all connections */
	struct vsock_connection *next_in_bucket;
	struct vsock_connection *next_ready; /* of those with something to send to the guest */
	bool in_table, queued;
	enum vsock_state state;
	uint32_t host_port, guest_port;
	int fd; /* -1: closed */
	struct loop_source source;
	uint64_t deadline_ns; /* 0: none */
	/* to the guest */
	unsigned send;
	bool readable;     /* the socket may be readable: it is not watched for that now */
	bool ended;        /* by the host: no more data will come */
	uint32_t shutdown; /* reported to the guest, or about to be */
	uint32_t peer_alloc, peer_forwarded, sent;
	bool asked_for_credit;
	/* from the guest */
	uint32_t peer_shutdown;
	uint32_t received, forwarded,
	    told;        /* bytes: total; consumed by the host; the latter as last reported to the guest */
	uint8_t *buffer; /* of VSOCK_BUFFER bytes; NULL: nothing is waiting */
	uint32_t buffer_start, buffered;
	/* the CONNECT line */
	unsigned line_bytes;
	char line[VSOCK_LINE_MAX];
};

struct vsock {
	struct virtio_device device;
	struct virtio_vsock_config config;
	struct sockaddr_un path;
	int listener;
	struct loop_source listener_source;
	struct loop_timer timer;        /* runs while any connection has a deadline */
	struct loop_timer accept_timer; /* runs while the listener is not watched for lack of descriptors */
	struct loop_task task;          /* closes what a reset left open */
	bool set_up, watching;
	bool drop;            /* the driver reset the device: drop all connections */
	bool transport_reset; /* the driver must be told to drop its connections */
	bool starved;         /* no receive buffers */
	uint32_t next_port;
	unsigned connections; /* now */
	struct vsock_counters counters;
	struct vsock_connection *all, *bucket[VSOCK_BUCKETS];
	struct vsock_connection *ready, **last_ready;
	struct vsock_connection *current; /* whose callback is running; NULL once it is gone */
	/* RSTs for packets that belong to no connection */
	struct {
		uint32_t host_port, guest_port;
	} reset[VSOCK_RESETS_MAX];
	unsigned first_reset, resets;
	struct virtq_chain chain;
};

/* Adds a connection with this socket (may be -1), or NULL: too many, or no memory; the socket is then closed. */
struct vsock_connection *vsock_add(struct vsock *vsock, int fd, enum vsock_state state);
/* Closes the socket, and forgets the connection. */
void vsock_remove(struct vsock_connection *connection);
void vsock_close_socket(struct vsock_connection *connection);

struct vsock_connection *vsock_find(const struct vsock *vsock, uint32_t host_port, uint32_t guest_port);
void vsock_enter_table(struct vsock_connection *connection, uint32_t host_port, uint32_t guest_port);
void vsock_leave_table(struct vsock_connection *connection);

/* Queues the connection for sending to the guest. */
void vsock_queue(struct vsock_connection *connection, unsigned send);
void vsock_dequeue(struct vsock_connection *connection);
/* Watches the socket for the events that the connection's state requires. */
void vsock_watch(struct vsock_connection *connection);
/* Starts a deadline `ms` from now. */
void vsock_set_deadline(struct vsock_connection *connection, unsigned ms);

/* vsock.c: its socket is ready. */
void vsock_socket_ready(void *opaque, uint32_t events);
/* vsock_packets.c: to the guest, as long as it has buffers; from it, a bounded number. */
void vsock_pump(struct vsock *vsock);
void vsock_take_packets(struct vsock *vsock);
/* Makes the driver drop its connections, once, after a snapshot was loaded. */
void vsock_send_transport_reset(struct vsock *vsock);
/* Sends an RST for ports without a connection. */
void vsock_reset_port(struct vsock *vsock, uint32_t host_port, uint32_t guest_port);

/* Ends the connection, with an RST for the guest. */
void vsock_kill(struct vsock_connection *connection);

/* How many bytes the guest would accept. */
uint32_t vsock_credit(const struct vsock_connection *connection);

/*
 * Data from the guest: writes what the socket accepts and keeps the rest. False: the guest sent more than allowed, and
 * the connection is gone.
 */
bool vsock_to_host(struct vsock_connection *connection, const struct iovec *data, unsigned count, uint32_t bytes);
/*
 * Writes what was kept and, when all of it is written, does what was waiting for that. The connection may be gone
 * afterwards.
 */
void vsock_drain(struct vsock_connection *connection);

/* The host closed its socket: notifies the guest, which should answer. */
void vsock_host_closed(struct vsock_connection *connection);

/* The guest announced that it will send or receive no more, or that the connection is closed. */
void vsock_guest_shutdown(struct vsock_connection *connection, uint32_t flags);
void vsock_guest_reset(struct vsock_connection *connection);

/* vsock_host.c: the host's side. */
int vsock_listen(struct vsock *vsock, const struct vsock_config *config, struct riffle_error *error);
/* Accepts a bounded number of connections. */
void vsock_accept(struct vsock *vsock);
/* A part of the CONNECT line. The connection may be gone afterwards. */
void vsock_greet(struct vsock_connection *connection);
/* The guest accepted. */
void vsock_accepted(struct vsock_connection *connection);
/* The guest connects to a listener at a host port; also called to retry when the listener was busy. */
void vsock_connect(struct vsock *vsock, uint32_t host_port, uint32_t guest_port, uint32_t alloc, uint32_t forwarded);
void vsock_connect_again(struct vsock_connection *connection);

#endif
