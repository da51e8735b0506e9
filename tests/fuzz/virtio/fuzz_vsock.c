/* SPDX-License-Identifier: Apache-2.0 */
/* Fuzzes the socket device: a hostile driver, and hosts that connect, send anything, stop reading and go away. */
#include <linux/virtio_vsock.h>
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
	case 0: /* with the expected line, so that the connection succeeds */
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

/* A packet of a connection that probably exists, or receive buffers. */
static void driver(struct harness *harness)
{
	const uint64_t at = 0x50000, rx = 0x58000;
	uint8_t what = (uint8_t)harness_take(harness, 1), ports = (uint8_t)harness_take(harness, 1);
	bool from_host = ports & 1;
	struct virtio_vsock_hdr header = {
	    .src_cid = 3,
	    .dst_cid = 2,
	    .src_port = from_host ? 52 : ports >> 4,
	    .dst_port = from_host ? (UINT32_C(1) << 30) + (ports >> 4) : 1 + (ports >> 1) % 2,
	    .len = what & 0x40 ? (uint32_t)harness_take(harness, 2) : (uint32_t)harness_take(harness, 1),
	    .type = VIRTIO_VSOCK_TYPE_STREAM,
	    .op = what % 8,
	    .flags = ports >> 1 & 3,
	    .buf_alloc = what & 0x20 ? UINT32_MAX : (uint32_t)harness_take(harness, 1),
	    .fwd_cnt = what & 0x10 ? (uint32_t)harness_take(harness, 2) : 0};
	const struct harness_buffer packet[] = {{at, sizeof header, false}, {at + sizeof header, header.len, false}};

	if (what & 0x80) {
		for (unsigned i = 0; i < 4; i++)
			harness_send(harness, 0, &(struct harness_buffer){rx + i * 0x400, 45 + ports * 4u, true}, 1);
		return;
	}
	memcpy(guest_memory_at(&harness->memory, at, sizeof header), &header, sizeof header);
	harness_send(harness, 1, packet, header.len ? 2 : 1);
}

static void set_up(struct harness *harness)
{
	char directory[] = "/tmp/fuzz-vsock-XXXXXX";
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	struct virtio_device *device;

	if (!mkdtemp(directory))
		abort();
	snprintf(path, sizeof path, "%s/v", directory);
	/* the host port with a listener: 1 */
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
	harness->driver = driver;
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
	if ((vsock_counters(harness.mmio.device)->added != vsock_counters(harness.mmio.device)->removed))
		abort(); /* a reset leaves no connections */
	return 0;
}
