/* SPDX-License-Identifier: Apache-2.0 */
/*
 * AF_VSOCK in a guest, for the end-to-end tests: `vsock serve PORT` sends back what comes on each connection, in a
 * process each; `vsock call PORT BYTES` sends that many bytes to the host's PORT, ends its half of the stream, and
 * checks that the same bytes come back.
 */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include <linux/vm_sockets.h>

#define BLOCK 32768

static void die(const char *what)
{
	perror(what);
	exit(1);
}

static uint8_t byte_at(uint64_t at)
{
	return (uint8_t)(at * 2654435761u >> 13 ^ at);
}

static void echo(int fd)
{
	static uint8_t block[BLOCK];
	ssize_t got;

	while ((got = read(fd, block, sizeof block)) > 0)
		for (ssize_t done = 0; done < got;) {
			ssize_t n = write(fd, block + done, (size_t)(got - done));

			if (n <= 0)
				exit(1);
			done += n;
		}
	exit(got < 0);
}

static void serve(const struct sockaddr_vm *address)
{
	int fd = socket(AF_VSOCK, SOCK_STREAM, 0);

	if (fd < 0 || bind(fd, (const struct sockaddr *)address, sizeof *address) < 0 || listen(fd, 1000) < 0)
		die("listen");
	signal(SIGCHLD, SIG_IGN);
	for (;;) {
		int connection = accept(fd, NULL, NULL);

		if (connection < 0)
			continue;
		if (fork() == 0)
			echo(connection);
		close(connection);
	}
}

static void call(struct sockaddr_vm *address, uint64_t bytes)
{
	static uint8_t out[BLOCK], in[BLOCK];
	uint64_t sent = 0, received = 0;
	struct pollfd fd = {.fd = socket(AF_VSOCK, SOCK_STREAM, 0), .events = POLLIN | POLLOUT};

	/* Linux waits two seconds, which a paused guest on a busy host needs without anything being lost */
	const struct timeval patience = {.tv_sec = 60};

	address->svm_cid = VMADDR_CID_HOST;
	if (fd.fd < 0 || setsockopt(fd.fd, AF_VSOCK, SO_VM_SOCKETS_CONNECT_TIMEOUT, &patience, sizeof patience) < 0 ||
	    connect(fd.fd, (struct sockaddr *)address, sizeof *address) < 0)
		die("connect");
	for (;;) {
		poll(&fd, 1, -1);
		if (fd.revents & POLLOUT && sent < bytes) {
			size_t n = bytes - sent < BLOCK ? (size_t)(bytes - sent) : BLOCK;

			for (size_t i = 0; i < n; i++)
				out[i] = byte_at(sent + i);
			ssize_t done = send(fd.fd, out, n, MSG_DONTWAIT);

			if (done < 0 && errno != EAGAIN)
				die("send");
			sent += done > 0 ? (uint64_t)done : 0;
			if (sent == bytes) {
				shutdown(fd.fd, SHUT_WR);
				fd.events = POLLIN;
			}
		}
		if (!(fd.revents & (POLLIN | POLLHUP | POLLERR)))
			continue;
		ssize_t got = recv(fd.fd, in, sizeof in, MSG_DONTWAIT);

		if (got < 0 && errno != EAGAIN)
			die("recv");
		for (ssize_t i = 0; i < got; i++)
			if (in[i] != byte_at(received + (uint64_t)i)) {
				printf("byte %llu differs\n", (unsigned long long)received + (unsigned long long)i);
				exit(1);
			}
		received += got > 0 ? (uint64_t)got : 0;
		if (got == 0)
			break;
	}
	if (sent != bytes || received != bytes) {
		printf("sent %llu, received %llu\n", (unsigned long long)sent, (unsigned long long)received);
		exit(1);
	}
}

int main(int argc, char **argv)
{
	struct sockaddr_vm address = {.svm_family = AF_VSOCK, .svm_cid = VMADDR_CID_ANY};

	if (argc < 3)
		return 2;
	address.svm_port = (unsigned)strtoul(argv[2], NULL, 10);
	if (!strcmp(argv[1], "serve"))
		serve(&address);
	call(&address, argc > 3 ? strtoull(argv[3], NULL, 10) : 0);
	return 0;
}
