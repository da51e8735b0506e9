/* SPDX-License-Identifier: Apache-2.0 */
/* One stream between a unix socket of the host and a port of the guest, and the table of all of them. */
#include "monitor/virtio/vsock_connection.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define NS_PER_MS UINT64_C(1000000)
#define TICK_NS (100 * NS_PER_MS)
/* The guest learns what has been taken of its data when that is half the buffer, or hardly any of it is left. */
#define CREDIT_STEP (VSOCK_BUFFER / 2)
#define CREDIT_LOW 4096u

static struct vsock_connection **bucket_of(const struct vsock *vsock, uint32_t host_port, uint32_t guest_port)
{
	uint32_t hash = (host_port * 2654435761u) ^ (guest_port * 2246822519u);

	return (struct vsock_connection **)&vsock->bucket[(hash >> 16 ^ hash) % VSOCK_BUCKETS];
}

struct vsock_connection *vsock_find(const struct vsock *vsock, uint32_t host_port, uint32_t guest_port)
{
	struct vsock_connection *at = *bucket_of(vsock, host_port, guest_port);

	while (at && (at->host_port != host_port || at->guest_port != guest_port))
		at = at->next_in_bucket;
	return at;
}

void vsock_enter_table(struct vsock_connection *connection, uint32_t host_port, uint32_t guest_port)
{
	struct vsock_connection **bucket = bucket_of(connection->vsock, host_port, guest_port);

	connection->host_port = host_port;
	connection->guest_port = guest_port;
	connection->next_in_bucket = *bucket;
	connection->in_table = true;
	*bucket = connection;
}

void vsock_leave_table(struct vsock_connection *connection)
{
	struct vsock_connection **at = bucket_of(connection->vsock, connection->host_port, connection->guest_port);

	if (!connection->in_table)
		return;
	while (*at != connection)
		at = &(*at)->next_in_bucket;
	*at = connection->next_in_bucket;
	connection->in_table = false;
}

struct vsock_connection *vsock_add(struct vsock *vsock, int fd, enum vsock_state state)
{
	struct vsock_connection *connection =
	    vsock->connections < VSOCK_CONNECTIONS_MAX ? calloc(1, sizeof *connection) : NULL;

	if (connection) {
		connection->source = (struct loop_source){.ready = vsock_socket_ready, .opaque = connection};
		if (fd >= 0 && loop_add(vsock->device.loop, &connection->source, fd, 0, NULL)) {
			free(connection);
			connection = NULL;
		}
	}
	if (!connection) {
		counter_add(&vsock->counters.connection_fails, 1);
		if (fd >= 0)
			close(fd);
		return NULL;
	}
	connection->vsock = vsock;
	connection->fd = fd;
	connection->state = state;
	connection->next = vsock->all;
	connection->link = &vsock->all;
	if (vsock->all)
		vsock->all->link = &connection->next;
	vsock->all = connection;
	vsock->connections++;
	counter_add(&vsock->counters.added, 1);
	return connection;
}

void vsock_close_socket(struct vsock_connection *connection)
{
	if (connection->fd < 0)
		return;
	loop_remove(connection->vsock->device.loop, &connection->source);
	close(connection->fd);
	connection->fd = -1;
	free(connection->buffer);
	connection->buffer = NULL;
	connection->buffered = 0;
}

void vsock_dequeue(struct vsock_connection *connection)
{
	struct vsock *vsock = connection->vsock;
	struct vsock_connection **at = &vsock->ready;

	if (!connection->queued)
		return;
	while (*at != connection)
		at = &(*at)->next_ready;
	*at = connection->next_ready;
	if (vsock->last_ready == &connection->next_ready)
		vsock->last_ready = at;
	connection->queued = false;
}

void vsock_remove(struct vsock_connection *connection)
{
	struct vsock *vsock = connection->vsock;

	vsock_close_socket(connection);
	vsock_leave_table(connection);
	vsock_dequeue(connection);
	*connection->link = connection->next;
	if (connection->next)
		connection->next->link = connection->link;
	vsock->connections--;
	counter_add(&vsock->counters.removed, 1);
	if (vsock->current == connection)
		vsock->current = NULL;
	free(connection);
}

void vsock_queue(struct vsock_connection *connection, unsigned send)
{
	struct vsock *vsock = connection->vsock;

	connection->send |= send;
	if (connection->queued)
		return;
	connection->queued = true;
	connection->next_ready = NULL;
	*vsock->last_ready = connection;
	vsock->last_ready = &connection->next_ready;
}

static bool wants_input(const struct vsock_connection *connection)
{
	switch (connection->state) {
	case VSOCK_GREETING:
		return true;
	case VSOCK_OPEN:
		return !connection->readable && !connection->ended &&
		       !(connection->peer_shutdown & VIRTIO_VSOCK_SHUTDOWN_RCV);
	default:
		return false;
	}
}

void vsock_watch(struct vsock_connection *connection)
{
	uint32_t events = 0;

	if (connection->fd < 0)
		return;
	if (connection->vsock->watching && virtio_running(&connection->vsock->device)) {
		if (wants_input(connection))
			events |= EPOLLIN;
		if (connection->buffered)
			events |= EPOLLOUT;
		/* for its hang-up alone, which tells a host that closed from one that only will send no more */
		if (!events &&
		    (connection->state == VSOCK_REQUESTED || (connection->state == VSOCK_OPEN && connection->ended)))
			events = EPOLLPRI;
	}
	loop_watch(connection->vsock->device.loop, &connection->source, events);
}

void vsock_set_deadline(struct vsock_connection *connection, unsigned ms)
{
	struct vsock *vsock = connection->vsock;
	uint64_t now = loop_now();

	connection->deadline_ns = now + ms * NS_PER_MS;
	if (!vsock->timer.armed)
		loop_timer_set(vsock->device.loop, &vsock->timer, now + TICK_NS);
}

void vsock_kill(struct vsock_connection *connection)
{
	vsock_close_socket(connection);
	if (!connection->in_table) { /* the guest knows nothing of it */
		vsock_remove(connection);
		return;
	}
	counter_add(&connection->vsock->counters.killed, 1);
	connection->state = VSOCK_DEAD;
	connection->deadline_ns = 0;
	connection->readable = false;
	connection->send = 0;
	vsock_queue(connection, VSOCK_SEND_RST);
}

uint32_t vsock_credit(const struct vsock_connection *connection)
{
	uint32_t in_flight = connection->sent - connection->peer_forwarded;

	/* a peer that made its buffer smaller, or counts what it was never sent */
	return in_flight < connection->peer_alloc ? connection->peer_alloc - in_flight : 0;
}

static void count_forwarded(struct vsock_connection *connection, uint32_t bytes)
{
	connection->forwarded += bytes;
	uint32_t untold = connection->forwarded - connection->told;
	uint32_t left = VSOCK_BUFFER - (connection->received - connection->told);

	if (connection->in_table && (untold >= CREDIT_STEP || (untold && left < CREDIT_LOW)))
		vsock_queue(connection, VSOCK_SEND_CREDIT);
}

/* The host takes no more: the guest is told, and what it has sent is lost. */
static void host_takes_no_more(struct vsock_connection *connection)
{
	uint32_t lost = connection->buffered;

	free(connection->buffer);
	connection->buffer = NULL;
	connection->buffered = 0;
	if (connection->in_table && !(connection->shutdown & VIRTIO_VSOCK_SHUTDOWN_RCV)) {
		connection->shutdown |= VIRTIO_VSOCK_SHUTDOWN_RCV;
		vsock_queue(connection, VSOCK_SEND_SHUTDOWN);
	}
	count_forwarded(connection, lost);
}

/* The number of bytes that the socket took; -1: it takes no more at all. */
static ssize_t send_some(struct vsock_connection *connection, const struct iovec *data, unsigned count)
{
	struct msghdr message = {.msg_iov = (struct iovec *)(uintptr_t)data, .msg_iovlen = count};
	ssize_t sent;

	do
		sent = sendmsg(connection->fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
	while (sent < 0 && errno == EINTR);
	if (sent < 0 && errno != EAGAIN)
		counter_add(&connection->vsock->counters.write_fails, 1);
	return sent >= 0 ? sent : errno == EAGAIN ? 0 : -1;
}

static bool keep(struct vsock_connection *connection, const struct iovec *data, unsigned count)
{
	if (!connection->buffer) {
		connection->buffer = malloc(VSOCK_BUFFER);
		if (!connection->buffer)
			return false;
		connection->buffer_start = connection->buffered = 0;
	}
	for (unsigned i = 0; i < count; i++)
		for (size_t done = 0; done < data[i].iov_len;) {
			size_t at = (connection->buffer_start + connection->buffered) % VSOCK_BUFFER;
			size_t part = data[i].iov_len - done;

			if (part > VSOCK_BUFFER - at)
				part = VSOCK_BUFFER - at;
			memcpy(connection->buffer + at, (const uint8_t *)data[i].iov_base + done, part);
			connection->buffered += (uint32_t)part;
			done += part;
		}
	return true;
}

bool vsock_to_host(struct vsock_connection *connection, const struct iovec *data, unsigned count, uint32_t bytes)
{
	struct iovec rest[VIRTQ_CHAIN_MAX];
	ssize_t sent = 0;

	if (bytes > VSOCK_BUFFER - (connection->received - connection->forwarded)) {
		vsock_kill(connection);
		return false;
	}
	connection->received += bytes;
	if (connection->state != VSOCK_OPEN || (connection->shutdown & VIRTIO_VSOCK_SHUTDOWN_RCV)) {
		count_forwarded(connection, bytes); /* nobody wants it */
		return true;
	}
	if (!connection->buffered)
		sent = send_some(connection, data, count);
	if (sent < 0) {
		host_takes_no_more(connection);
		sent = bytes;
	}
	if (sent < bytes &&
	    !keep(connection, rest, virtq_slice(rest, data, count, (size_t)sent, bytes - (size_t)sent))) {
		vsock_kill(connection);
		return false;
	}
	count_forwarded(connection, (uint32_t)sent);
	vsock_watch(connection);
	return true;
}

/* All that the guest sent has been taken: what was waiting for that? */
static void drained(struct vsock_connection *connection)
{
	free(connection->buffer);
	connection->buffer = NULL;
	if (connection->state == VSOCK_DRAINING) {
		vsock_remove(connection);
		return;
	}
	if (connection->peer_shutdown & VIRTIO_VSOCK_SHUTDOWN_SEND)
		shutdown(connection->fd, SHUT_WR);
	vsock_watch(connection);
}

void vsock_drain(struct vsock_connection *connection)
{
	while (connection->buffered) {
		uint32_t end = VSOCK_BUFFER - connection->buffer_start;
		uint32_t first = connection->buffered < end ? connection->buffered : end;
		const struct iovec data[] = {
		    {.iov_base = connection->buffer + connection->buffer_start, .iov_len = first},
		    {.iov_base = connection->buffer, .iov_len = connection->buffered - first},
		};
		ssize_t sent = send_some(connection, data, 2);

		if (sent == 0)
			return;
		if (sent < 0) {
			counter_add(&connection->vsock->counters.flush_fails, 1);
			host_takes_no_more(connection);
			break;
		}
		connection->buffer_start = (connection->buffer_start + (uint32_t)sent) % VSOCK_BUFFER;
		connection->buffered -= (uint32_t)sent;
		count_forwarded(connection, (uint32_t)sent);
	}
	drained(connection);
}

void vsock_host_closed(struct vsock_connection *connection)
{
	vsock_close_socket(connection);
	if (connection->state != VSOCK_OPEN) {
		vsock_kill(connection);
		return;
	}
	connection->state = VSOCK_CLOSING;
	connection->readable = false;
	connection->ended = true;
	connection->shutdown = VSOCK_SHUTDOWN_BOTH;
	vsock_queue(connection, VSOCK_SEND_SHUTDOWN);
	vsock_set_deadline(connection, VSOCK_PATIENCE_MS);
}

void vsock_guest_shutdown(struct vsock_connection *connection, uint32_t flags)
{
	flags &= VSOCK_SHUTDOWN_BOTH;
	if (connection->state != VSOCK_OPEN) { /* while it closes both sides agree: that is the end of it */
		vsock_kill(connection);
		return;
	}
	bool news = flags & ~connection->peer_shutdown;

	connection->peer_shutdown |= flags;
	if (connection->peer_shutdown == VSOCK_SHUTDOWN_BOTH) {
		if (connection->buffered) { /* answered at once, whatever the host still has to take */
			vsock_reset_port(connection->vsock, connection->host_port, connection->guest_port);
			vsock_guest_reset(connection);
		} else {
			vsock_kill(connection);
		}
		return;
	}
	if (news && (flags & VIRTIO_VSOCK_SHUTDOWN_RCV))
		shutdown(connection->fd, SHUT_RD);
	if (news && (flags & VIRTIO_VSOCK_SHUTDOWN_SEND) && !connection->buffered)
		shutdown(connection->fd, SHUT_WR);
	vsock_watch(connection);
}

void vsock_guest_reset(struct vsock_connection *connection)
{
	if (!connection->buffered) {
		vsock_remove(connection);
		return;
	}
	vsock_leave_table(connection);
	vsock_dequeue(connection);
	connection->send = 0;
	connection->state = VSOCK_DRAINING;
	vsock_watch(connection);
}
