/* SPDX-License-Identifier: Apache-2.0 */
/* The other end of io-bench's network: echoes datagrams, and carries out each order received over TCP. */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "io.h"

static uint8_t buffer[IO_LARGE];

void die(const char *what)
{
	perror(what);
	exit(1);
}

static int listen_on(int type, uint16_t port)
{
	struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
	int fd = socket(AF_INET, type, 0), one = 1;

	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
	if (bind(fd, (struct sockaddr *)&address, sizeof address) || (type == SOCK_STREAM && listen(fd, 4)))
		die("bind");
	return fd;
}

static void echo_datagrams(int fd)
{
	struct sockaddr_in from;

	for (;;) {
		socklen_t length = sizeof from;
		ssize_t n = recvfrom(fd, buffer, sizeof buffer, 0, (struct sockaddr *)&from, &length);

		if (n >= 0)
			sendto(fd, buffer, (size_t)n, 0, (struct sockaddr *)&from, length);
	}
}

static bool receive(int fd, void *data, size_t bytes)
{
	for (size_t done = 0; done < bytes;) {
		ssize_t n = recv(fd, (uint8_t *)data + done, bytes - done, 0);

		if (n <= 0)
			return false;
		done += (size_t)n;
	}
	return true;
}

static bool send_all(int fd, const void *data, size_t bytes)
{
	for (size_t done = 0; done < bytes;) {
		ssize_t n = send(fd, (const uint8_t *)data + done, bytes - done, MSG_NOSIGNAL);

		if (n <= 0)
			return false;
		done += (size_t)n;
	}
	return true;
}

static bool obey(int fd, const struct io_order *order)
{
	uint64_t left = order->bytes;

	while (left) {
		size_t most = order->what == IO_ECHO ? IO_MESSAGE : sizeof buffer,
		       n = left < most ? (size_t)left : most;

		if (order->what == IO_TAKE) {
			ssize_t got = recv(fd, buffer, n, 0);

			if (got <= 0)
				return false;
			n = (size_t)got;
		}
		if ((order->what == IO_ECHO && !receive(fd, buffer, n)) ||
		    (order->what != IO_TAKE && !send_all(fd, buffer, n)))
			return false;
		left -= n;
	}
	return order->what == IO_TAKE ? send_all(fd, buffer, 1) : order->what != IO_GIVE || receive(fd, buffer, 1);
}

int main(void)
{
	int udp = listen_on(SOCK_DGRAM, IO_UDP_PORT), tcp = listen_on(SOCK_STREAM, IO_TCP_PORT), one = 1;

	if (fork() == 0)
		echo_datagrams(udp);
	for (;;) {
		int fd = accept(tcp, NULL, NULL);
		struct io_order order;

		setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
		while (fd >= 0 && receive(fd, &order, sizeof order) && obey(fd, &order))
			;
		if (fd >= 0)
			close(fd);
	}
}
