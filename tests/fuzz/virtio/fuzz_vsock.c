/* SPDX-License-Identifier: Apache-2.0 */
/* Fuzzes the socket device: a hostile driver, and hosts that connect, send anything, stop reading and go away. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "harness.h"
#include "monitor/virtio/vsock.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { HOSTS = 8 };
static int hosts[HOSTS], listener = -1;
static char path[64];

static int connected(void)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	strcpy(address.sun_path, path);
	if (connect(fd, (struct sockaddr *)&address, sizeof address) < 0) {
		close(fd);
		return -1;
	}
	return fd;
}

static void host(void *opaque, uint8_t what, const uint8_t *data, size_t bytes)
{
	static char drain[65536];
	int *fd = &hosts[what % HOSTS];

	(void)opaque;
	switch (what / HOSTS % 6) {
	case 0: /* with the line that is asked for, so that something comes of it */
		if (*fd < 0 && (*fd = connected()) >= 0)
			send(*fd, "CONNECT 52\n", 11, MSG_DONTWAIT | MSG_NOSIGNAL);
		break;
	case 1:
		if (*fd < 0)
			*fd = connected();
		break;
	case 2:
		if (*fd < 0)
			*fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
		break;
	case 3:
		if (*fd >= 0)
			shutdown(*fd, bytes % 3 == 0 ? SHUT_WR : bytes % 3 == 1 ? SHUT_RD : SHUT_RDWR);
		break;
	case 4:
		if (*fd >= 0)
			close(*fd);
		*fd = -1;
		break;
	default:
		if (*fd >= 0 && what & 0x80)
			while (recv(*fd, drain, sizeof drain, MSG_DONTWAIT) > 0)
				;
	}
	if (*fd >= 0 && bytes)
		send(*fd, data, bytes, MSG_DONTWAIT | MSG_NOSIGNAL);
}

static void set_up(struct harness *harness)
{
	char directory[] = "/tmp/fuzz-vsock-XXXXXX";
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	struct virtio_device *device;

	if (!mkdtemp(directory))
		abort();
	snprintf(path, sizeof path, "%s/v", directory);
	/* the port of the host that somebody listens at: 1 */
	snprintf(address.sun_path, sizeof address.sun_path, "%s_1", path);
	listener = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (bind(listener, (struct sockaddr *)&address, sizeof address) < 0 || listen(listener, 16) < 0)
		abort();
	const struct vsock_config config = {.cid = 3, .path = path};

	if (vsock_new(&device, &config, NULL))
		abort();
	harness_open(harness);
	harness_attach(harness, device);
	harness->host = host;
	for (int i = 0; i < HOSTS; i++)
		hosts[i] = -1;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct harness harness;
	int fd;

	if (!harness.memory.count)
		set_up(&harness);
	harness_run(&harness, data, size);
	for (int i = 0; i < HOSTS; i++) {
		if (hosts[i] >= 0)
			close(hosts[i]);
		hosts[i] = -1;
	}
	while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK)) >= 0)
		close(fd);
	if (vsock_counters(harness.mmio.device)->connections)
		abort(); /* a reset leaves none */
	return 0;
}
