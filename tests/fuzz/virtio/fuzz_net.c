/* SPDX-License-Identifier: Apache-2.0 */
/* Fuzzes the network device: a hostile driver, a tap (by its first byte) or a passt that sends anything, a hook. */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "harness.h"
#include "monitor/virtio/net.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int peer;

static void host(void *opaque, uint8_t what, const uint8_t *data, size_t bytes)
{
	static uint8_t frame[NET_FRAME_MAX];

	(void)opaque;
	if (what & 1) {
		while (recv(peer, frame, sizeof frame, MSG_DONTWAIT) > 0)
			;
		return;
	}
	memset(frame, 0, sizeof frame);
	memcpy(frame, data, bytes);
	if (what & 2) /* longer than the rest of the input */
		bytes = (size_t)what << 8 | bytes;
	send(peer, frame, bytes, MSG_DONTWAIT | MSG_NOSIGNAL);
}

static bool wants(void *opaque, const uint8_t *head, size_t bytes)
{
	(void)opaque;
	return bytes > 12 && head[12] & 1;
}

static void take(void *opaque, const uint8_t *frame, size_t bytes)
{
	(void)opaque;
	for (size_t i = 0; i < bytes; i++)
		*(volatile const uint8_t *)(frame + i);
}

static size_t give(void *opaque, uint8_t *frame, size_t room)
{
	static unsigned turn;

	(void)opaque;
	size_t bytes = turn++ % 4 ? 0 : turn % room;

	memset(frame, 1, bytes);
	return bytes;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct harness harness;
	static const struct net_hook hook = {.wants = wants, .take = take, .give = give};
	struct virtio_device *device;
	struct net_backend *backend;
	int ends[2];

	if (size < 2)
		return 0;
	if (!harness.memory.count)
		harness_open(&harness);
	const struct net_config config = {
	    .name = "net",
	    .has_mac = true,
	    .hook = data[0] & 2 ? &hook : NULL,
	    .rx.ops = {.size = data[0] & 4 ? 3 : 0, .refill_ms = 1000},
	    .tx.bytes = {.size = data[0] & 8 ? 1000 : 0, .refill_ms = 1000},
	};

	if (socketpair(AF_UNIX, data[0] & 1 ? SOCK_STREAM : SOCK_SEQPACKET, 0, ends) < 0)
		abort();
	fcntl(ends[1], F_SETFL, O_NONBLOCK);
	peer = ends[0];
	if ((data[0] & 1 ? net_stream_adopt : net_packets_adopt)(&backend, ends[1], NULL) ||
	    net_new(&device, &config, backend, NULL))
		abort();
	harness.host = host;
	harness_attach(&harness, device);
	harness_run(&harness, data + 1, size - 1);
	harness_detach(&harness);
	close(peer);
	return 0;
}
