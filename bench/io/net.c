/* SPDX-License-Identifier: Apache-2.0 */
/* io-bench's rows for the network, with the program io-peer at the other end. */
#include <arpa/inet.h>
#include <net/if.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "io.h"

static int udp = -1, tcp = -1;
static uint8_t buffer[IO_LARGE];

static void set_nodelay(int on)
{
	setsockopt(tcp, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
}

static void set_up_interface(void)
{
	struct ifreq request = {.ifr_name = "eth0"};
	struct sockaddr_in address = {.sin_family = AF_INET};
	int fd = socket(AF_INET, SOCK_DGRAM, 0);

	inet_pton(AF_INET, IO_GUEST_ADDRESS, &address.sin_addr);
	memcpy(&request.ifr_addr, &address, sizeof address);
	if (ioctl(fd, SIOCSIFADDR, &request))
		die("SIOCSIFADDR");
	request.ifr_flags = IFF_UP | IFF_RUNNING;
	if (ioctl(fd, SIOCSIFFLAGS, &request))
		die("SIOCSIFFLAGS");
	close(fd);
}

static int connect_to(int type, uint16_t port)
{
	struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
	int fd = socket(AF_INET, type, 0);

	inet_pton(AF_INET, IO_PEER_ADDRESS, &address.sin_addr);
	for (int i = 0; connect(fd, (struct sockaddr *)&address, sizeof address); i++) {
		if (i == 50)
			die("connect");
		pass_ms(100);
	}
	return fd;
}

static void send_all(const void *data, size_t bytes)
{
	for (size_t done = 0; done < bytes;) {
		ssize_t n = send(tcp, (const uint8_t *)data + done, bytes - done, MSG_NOSIGNAL);

		if (n <= 0)
			die("send");
		done += (size_t)n;
	}
}

static void receive(uint64_t bytes)
{
	while (bytes) {
		ssize_t n = recv(tcp, buffer, bytes < sizeof buffer ? (size_t)bytes : sizeof buffer, 0);

		if (n <= 0)
			die("recv");
		bytes -= (uint64_t)n;
	}
}

static void order(uint32_t what, uint64_t bytes)
{
	const struct io_order order = {.what = what, .bytes = bytes};

	send_all(&order, sizeof order);
}

static void udp_messages(unsigned count)
{
	while (count--)
		if (send(udp, buffer, IO_MESSAGE, 0) != IO_MESSAGE || recv(udp, buffer, IO_MESSAGE, 0) != IO_MESSAGE)
			die("udp");
}

static void tcp_messages(unsigned count)
{
	order(IO_ECHO, (uint64_t)count * IO_MESSAGE);
	while (count--) {
		send_all(buffer, IO_MESSAGE);
		receive(IO_MESSAGE);
	}
}

static void tcp_out(unsigned megabytes, size_t piece)
{
	uint64_t bytes = (uint64_t)megabytes * IO_MEGABYTE;

	order(IO_TAKE, bytes);
	/* the default of sockets; but the last segment must not wait for a delayed acknowledgement */
	set_nodelay(0);
	while (bytes) {
		size_t n = bytes < piece ? (size_t)bytes : piece;

		send_all(buffer, n);
		bytes -= n;
	}
	set_nodelay(1);
	receive(1);
}

static void tcp_out_segments(unsigned megabytes)
{
	tcp_out(megabytes, IO_SEGMENT);
}

static void tcp_out_large(unsigned megabytes)
{
	tcp_out(megabytes, IO_LARGE);
}

static void tcp_in(unsigned megabytes)
{
	order(IO_GIVE, (uint64_t)megabytes * IO_MEGABYTE);
	receive((uint64_t)megabytes * IO_MEGABYTE);
	send_all(buffer, 1);
}

const struct io_row net_rows[] = {
    {"UDP ping-pong", udp_messages, 1},
    {"TCP ping-pong", tcp_messages, 1},
    {"TCP out 1460 B, a MB", tcp_out_segments, 32},
    {"TCP out 64 KiB, a MB", tcp_out_large, 8},
    {"TCP in, a MB", tcp_in, 8},
    {0},
};

bool net_begin(void)
{
	for (int i = 0; i < 25 && !if_nametoindex("eth0"); i++)
		pass_ms(20);
	if (!if_nametoindex("eth0"))
		return false;
	set_up_interface();
	udp = connect_to(SOCK_DGRAM, IO_UDP_PORT);
	tcp = connect_to(SOCK_STREAM, IO_TCP_PORT);
	set_nodelay(1);
	return true;
}
