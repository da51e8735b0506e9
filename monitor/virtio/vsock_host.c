/* SPDX-License-Identifier: Apache-2.0 */
/* The host's side of vsock: who connects to the unix socket, and whom the guest reaches. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "common/fail.h"
#include "monitor/event/stale_socket.h"
#include "monitor/virtio/vsock_connection.h"

enum {
	ACCEPTS = 64, /* in a turn of the loop */
	GREETING_MS = 30000,
	BACKLOG = 1024,
};

#define ACCEPT_PAUSE_NS UINT64_C(100000000)

#define LAST_PORT ((UINT32_C(1) << 31) - 1)

static int set_path(struct sockaddr_un *address, const char *path, struct riffle_error *error)
{
	size_t bytes = strlen(path), room = sizeof address->sun_path - sizeof "_4294967295";

	if (!bytes || bytes > room)
		return riffle_fail_expected(error, RIFFLE_ERR_ARGUMENT, "path", bytes ? "too long" : "is empty", bytes,
					    room);
	*address = (struct sockaddr_un){.sun_family = AF_UNIX};
	memcpy(address->sun_path, path, bytes + 1);
	return 0;
}

static int bind_and_listen(int fd, const struct sockaddr_un *address, struct riffle_error *error)
{
	int result = bind(fd, (const struct sockaddr *)address, sizeof *address);

	if (result < 0 && errno == EADDRINUSE) {
		stale_socket_remove(address, SOCK_STREAM);
		result = bind(fd, (const struct sockaddr *)address, sizeof *address);
	}
	if (result < 0)
		return riffle_fail_system(error, errno, "path",
					  errno == EADDRINUSE ? "exists, and is in use or no socket"
							      : "cannot be bound");
	return listen(fd, BACKLOG) < 0 ? riffle_fail_system(error, errno, "listen", "failed") : 0;
}

int vsock_bind(int *listener, const char *path, struct riffle_error *error)
{
	struct sockaddr_un address;
	int status = set_path(&address, path, error);

	*listener = -1;
	if (status)
		return status;
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	if (fd < 0)
		return riffle_fail_system(error, errno, "socket", "failed");
	status = bind_and_listen(fd, &address, error);
	if (status)
		close(fd);
	else
		*listener = fd;
	return status;
}

int vsock_listen(struct vsock *vsock, const struct vsock_config *config, struct riffle_error *error)
{
	int status = set_path(&vsock->path, config->path, error);

	vsock->listener = -1;
	if (status)
		return status;
	if (!config->has_listener)
		return vsock_bind(&vsock->listener, config->path, error);
	vsock->listener = fcntl(config->listener, F_DUPFD_CLOEXEC, 3);
	return vsock->listener < 0 ? riffle_fail_system(error, errno, "listener", "is no open descriptor") : 0;
}

/* Nobody can be taken now. Whoever waits stays in the backlog, and is looked at again after a while. */
static void accept_later(struct vsock *vsock)
{
	loop_watch(vsock->device.loop, &vsock->listener_source, 0);
	loop_timer_set(vsock->device.loop, &vsock->accept_timer, loop_now() + ACCEPT_PAUSE_NS);
}

void vsock_accept(struct vsock *vsock)
{
	for (int i = 0; i < ACCEPTS; i++) {
		int fd = accept4(vsock->listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

		if (fd < 0) {
			/* no descriptor is left, or no memory: the listener stays readable for as long */
			if (errno != EAGAIN && errno != ECONNABORTED && errno != EINTR)
				accept_later(vsock);
			return;
		}
		struct vsock_connection *connection = vsock_add(vsock, fd, VSOCK_GREETING);

		if (!connection)
			continue;
		vsock_set_deadline(connection, GREETING_MS);
		vsock_watch(connection);
	}
}

/* "CONNECT 1234\n", the word in any case. */
static bool parse_line(const char *line, unsigned bytes, uint32_t *port)
{
	static const char word[] = "CONNECT ";
	unsigned at = sizeof word - 1;
	uint64_t value = 0;

	if (bytes && line[bytes - 1] == '\n')
		bytes--;
	if (bytes && line[bytes - 1] == '\r')
		bytes--;
	if (bytes <= at || strncasecmp(line, word, at) != 0)
		return false;
	for (; at < bytes; at++) {
		if (line[at] < '0' || line[at] > '9')
			return false;
		value = value * 10 + (unsigned)(line[at] - '0');
		if (value > UINT32_MAX)
			return false;
	}
	*port = (uint32_t)value;
	return true;
}

/* Reads as far as the line goes, and no byte of what follows it. 1: it is there; 0: not yet; -1: it will not be. */
static int read_line(struct vsock_connection *connection)
{
	while (connection->line_bytes < VSOCK_LINE_MAX) {
		char *to = connection->line + connection->line_bytes;
		ssize_t there = recv(connection->fd, to, VSOCK_LINE_MAX - connection->line_bytes, MSG_PEEK);

		if (there < 0 && (errno == EAGAIN || errno == EINTR))
			return 0;
		if (there <= 0)
			return -1;
		const char *end = memchr(to, '\n', (size_t)there);
		ssize_t wanted = end ? end + 1 - to : there;

		if (recv(connection->fd, to, (size_t)wanted, 0) != wanted)
			return -1;
		connection->line_bytes += (unsigned)wanted;
		if (end)
			return 1;
	}
	return -1;
}

/* Ports go round, so that one is not used again while the guest may still remember it. */
static uint32_t new_port(struct vsock *vsock, uint32_t guest_port)
{
	uint32_t port;

	do {
		port = vsock->next_port;
		vsock->next_port = port == LAST_PORT ? VSOCK_FIRST_PORT : port + 1;
	} while (vsock_find(vsock, port, guest_port));
	return port;
}

void vsock_greet(struct vsock_connection *connection)
{
	int line = read_line(connection);
	uint32_t port;

	if (!line)
		return;
	if (line < 0 || !parse_line(connection->line, connection->line_bytes, &port)) {
		counter_add(&connection->vsock->counters.connection_fails, 1);
		vsock_remove(connection);
		return;
	}
	vsock_enter_table(connection, new_port(connection->vsock, port), port);
	connection->state = VSOCK_REQUESTED;
	vsock_set_deadline(connection, VSOCK_PATIENCE_MS);
	vsock_queue(connection, VSOCK_SEND_REQUEST);
	vsock_watch(connection);
}

void vsock_accepted(struct vsock_connection *connection)
{
	char line[24];
	int bytes = snprintf(line, sizeof line, "OK %u\n", connection->host_port);

	/* an empty socket buffer takes so little in any case */
	if (send(connection->fd, line, (size_t)bytes, MSG_NOSIGNAL | MSG_DONTWAIT) != bytes) {
		counter_add(&connection->vsock->counters.write_fails, 1);
		vsock_kill(connection);
		return;
	}
	connection->state = VSOCK_OPEN;
	connection->deadline_ns = 0;
	vsock_watch(connection);
}

void vsock_connect_again(struct vsock_connection *connection)
{
	struct sockaddr_un address = connection->vsock->path;
	size_t bytes = strlen(address.sun_path);

	snprintf(address.sun_path + bytes, sizeof address.sun_path - bytes, "_%u", connection->host_port);
	if (connect(connection->fd, (const struct sockaddr *)&address, sizeof address) == 0) {
		connection->state = VSOCK_OPEN;
		connection->deadline_ns = 0;
		vsock_queue(connection, VSOCK_SEND_RESPONSE);
		vsock_watch(connection);
	} else if (errno != EAGAIN && errno != EINTR) {
		counter_add(&connection->vsock->counters.connection_fails, 1);
		vsock_kill(connection);
	}
}

void vsock_connect(struct vsock *vsock, uint32_t host_port, uint32_t guest_port, uint32_t alloc, uint32_t forwarded)
{
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	struct vsock_connection *connection = fd < 0 ? NULL : vsock_add(vsock, fd, VSOCK_CONNECTING);

	if (!connection) {
		vsock_reset_port(vsock, host_port, guest_port);
		return;
	}
	vsock_enter_table(connection, host_port, guest_port);
	connection->peer_alloc = alloc;
	connection->peer_forwarded = forwarded;
	vsock_set_deadline(connection, VSOCK_PATIENCE_MS);
	vsock_connect_again(connection);
}
