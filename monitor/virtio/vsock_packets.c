/* SPDX-License-Identifier: Apache-2.0 */
/* The packets of the virtio socket device, on their way between its queues and its connections. */
#include <errno.h>
#include <poll.h>

#include "monitor/virtio/vsock_connection.h"

enum { BUDGET = 64 }; /* packets in a turn of the loop, which has others to serve */

#define HOST_CID 2u

/* ---- to the guest ---- */

void vsock_reset_port(struct vsock *vsock, uint32_t host_port, uint32_t guest_port)
{
	unsigned at = (vsock->first_reset + vsock->resets) % VSOCK_RESETS_MAX;

	if (vsock->resets == VSOCK_RESETS_MAX)
		return; /* a guest that leaves so many of them waiting does without */
	vsock->reset[at].host_port = host_port;
	vsock->reset[at].guest_port = guest_port;
	vsock->resets++;
}

static uint32_t put_header(struct vsock *vsock, struct virtio_vsock_hdr *header, uint32_t host_port,
			   uint32_t guest_port)
{
	header->src_cid = HOST_CID;
	header->dst_cid = vsock->config.guest_cid;
	header->src_port = host_port;
	header->dst_port = guest_port;
	header->type = VIRTIO_VSOCK_TYPE_STREAM;
	virtq_chain_write(&vsock->chain, 0, header, sizeof *header);
	counter_add(&vsock->counters.to_guest_packets, 1);
	counter_add(&vsock->counters.to_guest_bytes, header->len);
	return VSOCK_HEADER_BYTES + header->len;
}

static uint32_t put_packet(struct vsock_connection *connection, unsigned op, uint32_t bytes)
{
	struct virtio_vsock_hdr header = {
	    .len = bytes,
	    .op = (uint16_t)op,
	    .flags = op == VIRTIO_VSOCK_OP_SHUTDOWN ? connection->shutdown : 0,
	    .buf_alloc = VSOCK_BUFFER,
	    .fwd_cnt = connection->forwarded,
	};

	connection->told = connection->forwarded;
	connection->send &= ~(unsigned)VSOCK_SEND_CREDIT;
	return put_header(connection->vsock, &header, connection->host_port, connection->guest_port);
}

/* The host will send no more. Whether it also takes no more is known by a hang-up. */
static void host_ended(struct vsock_connection *connection)
{
	struct pollfd socket = {.fd = connection->fd};

	connection->ended = true;
	connection->readable = false;
	if (poll(&socket, 1, 0) > 0 && (socket.revents & (POLLHUP | POLLERR))) {
		vsock_host_closed(connection);
		return;
	}
	connection->shutdown |= VIRTIO_VSOCK_SHUTDOWN_SEND;
	vsock_queue(connection, VSOCK_SEND_SHUTDOWN);
	vsock_watch(connection);
}

/* Data from the socket into the chain at hand; the bytes written to it, 0: nothing. */
static uint32_t put_data(struct vsock_connection *connection)
{
	const struct virtq_chain *chain = &connection->vsock->chain;
	uint64_t room = chain->in_bytes - VSOCK_HEADER_BYTES;
	uint32_t wanted = vsock_credit(connection);
	struct iovec data[VIRTQ_CHAIN_MAX];
	ssize_t got;

	if (!wanted) {
		if (connection->asked_for_credit)
			return 0;
		connection->asked_for_credit = true;
		return put_packet(connection, VIRTIO_VSOCK_OP_CREDIT_REQUEST, 0);
	}
	if (wanted > room)
		wanted = (uint32_t)room;
	if (wanted > VSOCK_PACKET_MAX)
		wanted = VSOCK_PACKET_MAX;
	if (!wanted)
		return 0;
	do
		got = readv(connection->fd, data,
			    (int)virtq_slice(data, chain->in, chain->in_count, VSOCK_HEADER_BYTES, wanted));
	while (got < 0 && errno == EINTR);
	if (got < (ssize_t)wanted) /* that was all there is: to be looked at again when epoll says so */
		connection->readable = false;
	if (got > 0) {
		vsock_watch(connection);
		connection->sent += (uint32_t)got;
		return put_packet(connection, VIRTIO_VSOCK_OP_RW, (uint32_t)got);
	}
	if (got == 0)
		host_ended(connection);
	else if (errno == EAGAIN)
		vsock_watch(connection);
	else {
		counter_add(&connection->vsock->counters.read_fails, 1);
		vsock_kill(connection);
	}
	return 0;
}

static bool take_flag(struct vsock_connection *connection, unsigned flag)
{
	bool set = connection->send & flag;

	connection->send &= ~flag;
	return set;
}

static bool may_read(const struct vsock_connection *connection)
{
	return connection->state == VSOCK_OPEN && connection->readable &&
	       !(connection->peer_shutdown & VIRTIO_VSOCK_SHUTDOWN_RCV);
}

/* The next packet of a connection into the chain at hand; 0: it has none. */
static uint32_t put_next(struct vsock_connection *connection)
{
	if (take_flag(connection, VSOCK_SEND_RST)) {
		uint32_t bytes = put_packet(connection, VIRTIO_VSOCK_OP_RST, 0);

		vsock_remove(connection);
		return bytes;
	}
	if (take_flag(connection, VSOCK_SEND_REQUEST))
		return put_packet(connection, VIRTIO_VSOCK_OP_REQUEST, 0);
	if (take_flag(connection, VSOCK_SEND_RESPONSE))
		return put_packet(connection, VIRTIO_VSOCK_OP_RESPONSE, 0);
	if (take_flag(connection, VSOCK_SEND_SHUTDOWN))
		return put_packet(connection, VIRTIO_VSOCK_OP_SHUTDOWN, 0);
	uint32_t bytes = may_read(connection) ? put_data(connection) : 0;

	if (!bytes && take_flag(connection, VSOCK_SEND_CREDIT))
		return put_packet(connection, VIRTIO_VSOCK_OP_CREDIT_UPDATE, 0);
	return bytes;
}

static bool has_more(const struct vsock_connection *connection)
{
	return connection->send ||
	       (may_read(connection) && (!connection->asked_for_credit || vsock_credit(connection)));
}

/* Connections take turns, a packet each. */
static uint32_t put_any(struct vsock *vsock)
{
	if (vsock->resets) {
		unsigned at = vsock->first_reset;
		struct virtio_vsock_hdr header = {.op = VIRTIO_VSOCK_OP_RST};

		vsock->first_reset = (at + 1) % VSOCK_RESETS_MAX;
		vsock->resets--;
		return put_header(vsock, &header, vsock->reset[at].host_port, vsock->reset[at].guest_port);
	}
	for (struct vsock_connection *connection; (connection = vsock->ready);) {
		bool reset = connection->send & VSOCK_SEND_RST;

		vsock_dequeue(connection);
		uint32_t bytes = put_next(connection);

		if (!reset && has_more(connection))
			vsock_queue(connection, 0);
		if (bytes)
			return bytes;
	}
	return 0;
}

void vsock_pump(struct vsock *vsock)
{
	struct virtq *queue = &vsock->device.queues[VSOCK_RX];
	unsigned budget = BUDGET;

	if (!queue->ready || vsock->starved || vsock->device.failure)
		return;
	while (vsock->resets || vsock->ready) {
		if (!budget--) {
			virtio_device_ring(&vsock->device, VSOCK_RX);
			break;
		}
		int got = virtq_pop(queue, &vsock->chain);

		if (got < 0 || (got && (vsock->chain.out_count || vsock->chain.in_bytes <= VSOCK_HEADER_BYTES))) {
			counter_add(&vsock->counters.rx_queue_fails, 1);
			virtio_fail(&vsock->device, "the receive queue is not what it must be");
			return;
		}
		if (!got && virtq_start_notify(queue))
			continue;
		if (!got) {
			vsock->starved = true;
			break;
		}
		uint32_t bytes = put_any(vsock);

		if (!bytes) {
			virtq_unpop(queue);
			break;
		}
		virtq_push(queue, vsock->chain.head, bytes);
	}
	virtio_publish(&vsock->device, VSOCK_RX);
}

/* ---- from the guest ---- */

static void take_for(struct vsock_connection *connection, const struct virtio_vsock_hdr *header)
{
	struct vsock *vsock = connection->vsock;
	struct iovec data[VIRTQ_CHAIN_MAX];

	connection->peer_alloc = header->buf_alloc;
	connection->peer_forwarded = header->fwd_cnt;
	if (vsock_credit(connection)) {
		connection->asked_for_credit = false;
		if (may_read(connection))
			vsock_queue(connection, 0);
	}
	switch (header->op) {
	case VIRTIO_VSOCK_OP_RESPONSE:
		if (connection->state == VSOCK_REQUESTED)
			vsock_accepted(connection);
		else
			vsock_kill(connection);
		break;
	case VIRTIO_VSOCK_OP_RST:
		vsock_guest_reset(connection);
		break;
	case VIRTIO_VSOCK_OP_SHUTDOWN:
		vsock_guest_shutdown(connection, header->flags);
		break;
	case VIRTIO_VSOCK_OP_RW:
		if (connection->state != VSOCK_OPEN && connection->state != VSOCK_CLOSING) {
			vsock_kill(connection);
			break;
		}
		counter_add(&vsock->counters.to_host_bytes, header->len);
		vsock_to_host(
		    connection, data,
		    virtq_slice(data, vsock->chain.out, vsock->chain.out_count, VSOCK_HEADER_BYTES, header->len),
		    header->len);
		break;
	case VIRTIO_VSOCK_OP_CREDIT_UPDATE:
		break;
	case VIRTIO_VSOCK_OP_CREDIT_REQUEST:
		vsock_queue(connection, VSOCK_SEND_CREDIT);
		break;
	default: /* among them a second REQUEST */
		vsock_kill(connection);
	}
}

/* The packet in the chain at hand. What is not for the host, or no packet, is dropped. */
static void take_packet(struct vsock *vsock)
{
	struct virtio_vsock_hdr header;

	if (virtq_chain_read(&vsock->chain, 0, &header, sizeof header) != sizeof header ||
	    header.src_cid != vsock->config.guest_cid || header.dst_cid != HOST_CID ||
	    header.len > vsock->chain.out_bytes - VSOCK_HEADER_BYTES)
		return;
	counter_add(&vsock->counters.to_host_packets, 1);
	struct vsock_connection *connection = vsock_find(vsock, header.dst_port, header.src_port);

	if (connection && connection->state == VSOCK_DEAD)
		return; /* the RST is on its way */
	if (header.type != VIRTIO_VSOCK_TYPE_STREAM) {
		if (header.op != VIRTIO_VSOCK_OP_RST)
			vsock_reset_port(vsock, header.dst_port, header.src_port);
	} else if (connection) {
		take_for(connection, &header);
	} else if (header.op == VIRTIO_VSOCK_OP_REQUEST) {
		vsock_connect(vsock, header.dst_port, header.src_port, header.buf_alloc, header.fwd_cnt);
	} else if (header.op != VIRTIO_VSOCK_OP_RST) {
		vsock_reset_port(vsock, header.dst_port, header.src_port);
	}
}

void vsock_take_packets(struct vsock *vsock)
{
	struct virtq *queue = &vsock->device.queues[VSOCK_TX];
	unsigned budget = BUDGET;
	int got = 0;

	if (!queue->ready)
		return;
	virtq_stop_notify(queue);
	do {
		while (budget && (got = virtq_pop(queue, &vsock->chain)) > 0 && !vsock->chain.in_count) {
			budget--;
			take_packet(vsock);
			virtq_push(queue, vsock->chain.head, 0);
		}
	} while (budget && got == 0 && virtq_start_notify(queue));
	if (got < 0 || (budget && got > 0)) {
		counter_add(&vsock->counters.tx_queue_fails, 1);
		virtio_fail(&vsock->device, "the transmit queue is not what it must be");
		return;
	}
	virtio_publish(&vsock->device, VSOCK_TX);
	if (!budget)
		virtio_device_ring(&vsock->device, VSOCK_TX);
}

void vsock_send_transport_reset(struct vsock *vsock)
{
	const struct virtio_vsock_event event = {.id = VIRTIO_VSOCK_EVENT_TRANSPORT_RESET};
	struct virtq *queue = &vsock->device.queues[VSOCK_EVENT];

	if (!vsock->transport_reset || !queue->ready)
		return;
	int got = virtq_pop(queue, &vsock->chain);

	if (got < 0 || (got && vsock->chain.out_count)) {
		counter_add(&vsock->counters.event_queue_fails, 1);
		virtio_fail(&vsock->device, "the event queue is not what it must be");
		return;
	}
	if (!got)
		return; /* the driver will notify of its first buffer */
	virtq_push(queue, vsock->chain.head, (uint32_t)virtq_chain_write(&vsock->chain, 0, &event, sizeof event));
	virtio_publish(&vsock->device, VSOCK_EVENT);
	vsock->transport_reset = false;
}
