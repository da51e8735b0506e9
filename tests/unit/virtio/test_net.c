/* SPDX-License-Identifier: Apache-2.0 */
/* The network device on a pair of sockets instead of a tap, and on a stream in passt's protocol. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <linux/virtio_config.h>
#include <linux/virtio_net.h>
#include <poll.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/bytes.h"
#include "driver.h"
#include "monitor/virtio/net.h"
#include "monitor/virtio/net_window.h"

#define ALL UINT64_MAX
#define NO_MERGE (~VIRTIO_FEATURE(VIRTIO_NET_F_MRG_RXBUF))
enum { RX, TX };

struct fixture {
	struct driver driver;
	struct virtio_device *device;
	int peer; /* the network's end */
	int end;  /* the device's */
	atomic_uint lost;
	uint8_t bytes[NET_FRAME_MAX + 4096];
	uint8_t sent[NET_FRAME_MAX + 4096];
	/* the hook */
	atomic_uint taken, give;
	uint8_t took[2048];
	size_t took_bytes;
	struct net_hook hook;
	struct driver_hold holds[8];
	struct loop_task lift_task;
};

static const uint8_t mac[6] = {2, 0, 0x5e, 0, 0x53, 1};

static void on_lost(void *opaque)
{
	atomic_fetch_add(&((struct fixture *)opaque)->lost, 1);
}

static struct fixture *open_fixture(int type, const struct net_config *more)
{
	struct fixture *f = calloc(1, sizeof *f);
	struct net_config config = more ? *more : (struct net_config){.has_mac = true};
	struct net_backend *backend;
	int ends[2];

	assert_non_null(f);
	assert_int_equal(socketpair(AF_UNIX, type, 0, ends), 0);
	driver_open(&f->driver);
	f->peer = ends[0];
	f->end = ends[1];
	fcntl(ends[1], F_SETFL, O_NONBLOCK);
	if (type == SOCK_STREAM)
		assert_int_equal(net_stream_adopt(&backend, ends[1], NULL), 0);
	else
		assert_int_equal(net_packets_adopt(&backend, ends[1], NULL), 0);
	config.name = "net";
	memcpy(config.mac, mac, sizeof mac);
	config.lost = on_lost;
	config.opaque = f;
	if (config.hook) {
		f->hook = *config.hook;
		f->hook.opaque = f;
		config.hook = &f->hook;
	}
	assert_int_equal(net_new(&f->device, &config, backend, NULL), 0);
	driver_attach(&f->driver, f->device);
	return f;
}

static void close_fixture(struct fixture *f)
{
	driver_close(&f->driver);
	if (f->peer >= 0)
		close(f->peer);
	free(f);
}

/* ---- the guest ---- */

static uint16_t post(struct fixture *f, uint64_t address, uint32_t bytes)
{
	struct driver_buffer buffer = {.address = address, .bytes = bytes, .in = true};

	return driver_add(&f->driver, RX, &buffer, 1, false);
}

/* `count` buffers of `bytes` bytes each; the address of the first, the others follow it. */
static uint64_t post_many(struct fixture *f, unsigned count, uint32_t bytes)
{
	uint64_t first = driver_take(&f->driver, (uint64_t)count * bytes, 16);

	memset(driver_at(&f->driver, first), 0xee, (size_t)count * bytes);
	for (unsigned i = 0; i < count; i++)
		post(f, first + (uint64_t)i * bytes, bytes);
	driver_kick(&f->driver, RX);
	return first;
}

/* A frame as sent by the guest: header, then bytes that depend on their offset and the frame's number. */
static void fill(uint8_t *frame, size_t bytes, unsigned number)
{
	memset(frame, 0, NET_HEADER_BYTES);
	for (size_t i = NET_HEADER_BYTES; i < bytes; i++)
		frame[i] = (uint8_t)(i * 7 + i / 251 + number * 13);
	if (bytes >= NET_HEADER_BYTES + 12)
		memcpy(frame + NET_HEADER_BYTES + 6, mac, sizeof mac);
}

static uint16_t transmit(struct fixture *f, uint64_t address, uint32_t bytes, unsigned number, uint32_t split)
{
	struct driver_buffer buffers[] = {{address, split, false}, {address + split, bytes - split, false}};

	fill(driver_at(&f->driver, address), bytes, number);
	return driver_add(&f->driver, TX, split ? buffers : buffers + 1, split ? 2 : 1, false);
}

static void expect_used(struct fixture *f, unsigned queue, uint32_t head, uint32_t bytes)
{
	uint32_t id, written;

	assert_true(driver_used(&f->driver, queue, &id, &written));
	assert_int_equal(id, head);
	assert_int_equal(written, bytes);
}

/* ---- the network ---- */

static ssize_t get_frame(struct fixture *f)
{
	struct pollfd fd = {.fd = f->peer, .events = POLLIN};

	assert_int_equal(poll(&fd, 1, 10000), 1);
	return read(f->peer, f->bytes, sizeof f->bytes);
}

static void expect_frame(struct fixture *f, size_t bytes, unsigned number)
{
	assert_int_equal(get_frame(f), bytes);
	fill(f->sent, bytes, number);
	assert_memory_equal(f->bytes, f->sent, bytes);
}

static void put_frame(struct fixture *f, size_t bytes, unsigned number)
{
	fill(f->sent, bytes, number);
	assert_int_equal(write(f->peer, f->sent, bytes), bytes);
}

/* Checks a frame received in one piece at `address`, except for the number of buffers. */
static void expect_received(struct fixture *f, uint64_t address, size_t bytes, unsigned number, uint16_t buffers)
{
	const uint8_t *got = driver_at(&f->driver, address);

	fill(f->sent, bytes, number);
	memcpy(f->sent + 10, &buffers, 2);
	assert_memory_equal(got, f->sent, bytes);
}

/* ---- tests ---- */

static void test_config(void **state)
{
	const struct net_config config = {.has_mac = true, .mtu = 1400};
	struct fixture *f = open_fixture(SOCK_SEQPACKET, &config);
	uint8_t space[13];
	uint32_t low;

	(void)state;
	driver_config(&f->driver, 0, space, sizeof space);
	assert_memory_equal(space, mac, 6);
	assert_int_equal(space[10] | space[11] << 8, 1400);
	assert_int_equal(space[12], 0);
	driver_write(&f->driver, 0x14, 0);
	low = driver_read(&f->driver, 0x10);
	assert_true(low & 1u << VIRTIO_NET_F_MAC);
	assert_true(low & 1u << VIRTIO_NET_F_MTU);
	assert_true(low & 1u << VIRTIO_NET_F_MRG_RXBUF);
	assert_false(low & 1u << VIRTIO_NET_F_CSUM); /* a pair of sockets computes nothing */
	close_fixture(f);
}

static void test_config_without(void **state)
{
	const struct net_config config = {0};
	struct fixture *f = open_fixture(SOCK_SEQPACKET, &config);
	uint32_t low;

	(void)state;
	driver_write(&f->driver, 0x14, 0);
	low = driver_read(&f->driver, 0x10);
	assert_false(low & (1u << VIRTIO_NET_F_MAC | 1u << VIRTIO_NET_F_MTU));
	close_fixture(f);
}

static void test_transmit(void **state)
{
	struct fixture *f = open_fixture(SOCK_SEQPACKET, NULL);
	uint64_t at = driver_take(&f->driver, 128 << 10, 16);
	static const uint32_t sizes[] = {26, 27, 60 + 12, 1526, 4096, NET_FRAME_MAX};

	(void)state;
	driver_begin(&f->driver, ALL, 16);
	for (unsigned i = 0; i < 6; i++) {
		/* header and frame apart, in one piece, and cut within the header */
		static const uint32_t splits[] = {12, 0, 5};
		uint16_t head = transmit(f, at, sizes[i], i, splits[i % 3]);

		driver_kick(&f->driver, TX);
		expect_frame(f, sizes[i], i);
		expect_used(f, TX, head, 0);
	}
	/* no frame: less than an Ethernet header; more than there can be */
	for (unsigned i = 0; i < 2; i++) {
		uint16_t head = transmit(f, at, i ? NET_FRAME_MAX + 1 : 25, 0, 0);

		driver_kick(&f->driver, TX);
		expect_used(f, TX, head, 0);
	}
	uint16_t head = transmit(f, at, 100, 9, 0);

	driver_kick(&f->driver, TX);
	expect_frame(f, 100, 9);
	expect_used(f, TX, head, 0);
	assert_int_equal(net_counters(f->device)->tx_frames, 7);
	assert_int_equal(net_counters(f->device)->tx_dropped, 2);
	assert_int_equal(net_counters(f->device)->tx_foreign_mac, 0);
	close_fixture(f);
}

static void test_transmit_wrong_direction(void **state)
{
	struct fixture *f = open_fixture(SOCK_SEQPACKET, NULL);
	struct driver_buffer buffers[] = {{driver_take(&f->driver, 256, 16), 100, false}, {0x100, 100, true}};

	(void)state;
	driver_begin(&f->driver, ALL, 16);
	driver_add(&f->driver, TX, buffers, 2, false);
	driver_kick(&f->driver, TX);
	assert_true(driver_wait_status(&f->driver, VIRTIO_CONFIG_S_NEEDS_RESET));
	/* and after the reset it works again */
	driver_begin(&f->driver, ALL, 16);
	uint16_t head = transmit(f, buffers[0].address, 100, 1, 0);

	driver_kick(&f->driver, TX);
	expect_frame(f, 100, 1);
	expect_used(f, TX, head, 0);
	close_fixture(f);
}

static void test_receive_wrong_direction(void **state)
{
	struct fixture *f = open_fixture(SOCK_SEQPACKET, NULL);
	struct driver_buffer buffer = {0x100, 100, false};

	(void)state;
	driver_begin(&f->driver, ALL, 16);
	driver_add(&f->driver, RX, &buffer, 1, false);
	driver_kick(&f->driver, RX);
	assert_true(driver_wait_status(&f->driver, VIRTIO_CONFIG_S_NEEDS_RESET));
	close_fixture(f);
}

static void test_receive_one_buffer(void **state)
{
	struct fixture *f = open_fixture(SOCK_SEQPACKET, NULL);
	uint64_t at;

	(void)state;
	driver_begin(&f->driver, NO_MERGE, 16);
	at = post_many(f, 4, 1600);
	put_frame(f, 26, 1);
	put_frame(f, 1600, 2);
	put_frame(f, 1601, 3); /* does not fit: dropped */
	put_frame(f, 25, 3);   /* no frame */
	put_frame(f, 1000, 4);
	expect_used(f, RX, 0, 26);
	expect_used(f, RX, 1, 1600);
	expect_used(f, RX, 2, 1000);
	expect_received(f, at, 26, 1, 1);
	expect_received(f, at + 1600, 1600, 2, 1);
	expect_received(f, at + 2 * 1600, 1000, 4, 1);
	assert_int_equal(net_counters(f->device)->rx_frames, 3);
	assert_int_equal(net_counters(f->device)->rx_dropped, 2);
	close_fixture(f);
}

/* A frame that takes several buffers: the first tells how many, each is used to its own length. */
static void test_receive_merged(void **state)
{
	struct fixture *f = open_fixture(SOCK_SEQPACKET, NULL);
	uint64_t at;

	(void)state;
	driver_begin(&f->driver, ALL, 64);
	at = post_many(f, 64, 1536);
	put_frame(f, 5000, 1); /* 3 whole ones and 392 bytes */
	put_frame(f, 3072, 2); /* exactly two */
	put_frame(f, 3073, 3);
	put_frame(f, 60, 4);
	for (unsigned i = 0; i < 3; i++)
		expect_used(f, RX, i, 1536);
	expect_used(f, RX, 3, 392);
	expect_used(f, RX, 4, 1536);
	expect_used(f, RX, 5, 1536);
	expect_used(f, RX, 6, 1536);
	expect_used(f, RX, 7, 1536);
	expect_used(f, RX, 8, 1);
	expect_used(f, RX, 9, 60);
	expect_received(f, at, 5000, 1, 4);
	expect_received(f, at + 4 * 1536, 3072, 2, 2);
	expect_received(f, at + 6 * 1536, 3073, 3, 3);
	expect_received(f, at + 9 * 1536, 60, 4, 1);
	put_frame(f, NET_FRAME_MAX, 5); /* the largest: 42 whole ones and 1050 bytes */
	for (unsigned i = 10; i < 52; i++)
		expect_used(f, RX, i, 1536);
	expect_used(f, RX, 52, NET_FRAME_MAX - 42 * 1536);
	expect_received(f, at + 10 * 1536, NET_FRAME_MAX, 5, 43);
	close_fixture(f);
}

/* With too few buffers for a frame it waits for more of them, and so does the network. */
static void test_receive_waits(void **state)
{
	struct fixture *f = open_fixture(SOCK_SEQPACKET, NULL);
	uint64_t at;

	(void)state;
	driver_begin(&f->driver, ALL, 16);
	put_frame(f, 40, 1); /* before there is any buffer */
	put_frame(f, 4000, 2);
	put_frame(f, 41, 3);
	at = post_many(f, 2, 1500);
	expect_used(f, RX, 0, 40);
	expect_received(f, at, 40, 1, 1);
	post_many(f, 1, 1500);
	post_many(f, 2, 1500); /* they follow the first in memory */
	expect_used(f, RX, 1, 1500);
	expect_used(f, RX, 2, 1500);
	expect_used(f, RX, 3, 1000);
	expect_used(f, RX, 4, 41);
	/* driver_take() aligns to 16, so the buffers are 1500, and then 1504 apart */
	uint8_t *got = driver_at(&f->driver, at + 1500);
	uint16_t three = 3;

	fill(f->sent, 4000, 2);
	memcpy(f->sent + 10, &three, 2);
	assert_memory_equal(got, f->sent, 1500);
	assert_memory_equal(driver_at(&f->driver, (at + 3000 + 15) & ~15ull), f->sent + 1500, 1500);
	assert_memory_equal(driver_at(&f->driver, ((((at + 3000 + 15) & ~15ull) + 1500) + 15) & ~15ull), f->sent + 3000,
			    1000);
	close_fixture(f);
}

/* If a full queue is too small for a frame, the frame is dropped and later ones arrive. */
static void test_receive_never_fits(void **state)
{
	struct fixture *f = open_fixture(SOCK_SEQPACKET, NULL);

	(void)state;
	driver_begin(&f->driver, ALL, 4);
	post_many(f, 4, 1000);
	put_frame(f, 4001, 1);
	put_frame(f, 4000, 2);
	for (unsigned i = 0; i < 4; i++)
		expect_used(f, RX, i, 1000);
	assert_int_equal(net_counters(f->device)->rx_dropped, 1);
	close_fixture(f);
}

static void test_many_both_ways(void **state)
{
	enum { FRAMES = 3000, SIZE = 64 };
	struct fixture *f = open_fixture(SOCK_SEQPACKET, NULL);
	uint64_t tx = driver_take(&f->driver, SIZE * 2048, 16), rx = driver_take(&f->driver, SIZE * 2048, 16);
	unsigned queued = 0, finished = 0, got = 0, put = 0, received = 0;
	struct pollfd fd = {.fd = f->peer};

	(void)state;
	fcntl(f->peer, F_SETFL, O_NONBLOCK);
	driver_begin(&f->driver, ALL, SIZE);
	for (unsigned i = 0; i < SIZE; i++)
		post(f, rx + i * 2048u, 2048);
	driver_kick(&f->driver, RX);
	/* the network reads only occasionally, so that the device has to wait */
	while (finished < FRAMES || got < FRAMES || received < FRAMES) {
		uint32_t id, written;

		for (; queued < FRAMES && queued - finished < SIZE; queued++)
			transmit(f, tx + (queued % SIZE) * 2048u, 30 + queued % 1500, queued, 0);
		driver_kick(&f->driver, TX);
		while (put < FRAMES) {
			fill(f->sent, 30 + put % 1500, put);
			if (write(f->peer, f->sent, 30 + put % 1500) < 0)
				break;
			put++;
		}
		while (f->driver.queues[RX].seen !=
		       __atomic_load_n(&f->driver.queues[RX].usage->idx, __ATOMIC_ACQUIRE)) {
			assert_true(driver_used(&f->driver, RX, &id, &written));
			assert_int_equal(id, received % SIZE);
			expect_received(f, rx + id * 2048u, 30 + received % 1500, received, 1);
			assert_int_equal(written, 30 + received % 1500);
			post(f, rx + id * 2048u, 2048);
			received++;
		}
		driver_kick(&f->driver, RX);
		for (unsigned i = 0; i < 40; i++) {
			ssize_t bytes = read(f->peer, f->bytes, sizeof f->bytes);

			if (bytes < 0)
				break;
			assert_int_equal(bytes, 30 + got % 1500);
			fill(f->sent, (size_t)bytes, got);
			assert_memory_equal(f->bytes, f->sent, (size_t)bytes);
			got++;
		}
		while (finished < queued && f->driver.queues[TX].seen !=
						__atomic_load_n(&f->driver.queues[TX].usage->idx, __ATOMIC_ACQUIRE)) {
			assert_true(driver_used(&f->driver, TX, &id, &written));
			assert_int_equal(id, finished % SIZE);
			finished++;
		}
		poll(&fd, 1, 1);
	}
	assert_int_equal(net_counters(f->device)->tx_frames, FRAMES);
	assert_int_equal(net_counters(f->device)->rx_frames, FRAMES);
	close_fixture(f);
}

/* A driver that unbinds and rebinds, with buffers posted and frames in flight. */
static void test_reset(void **state)
{
	struct fixture *f = open_fixture(SOCK_SEQPACKET, NULL);

	(void)state;
	for (unsigned i = 0; i < 5; i++) {
		driver_begin(&f->driver, i % 2 ? ALL : NO_MERGE, 16);
		uint64_t at = post_many(f, 8, 1600);

		put_frame(f, 100, i);
		expect_used(f, RX, 0, 100);
		expect_received(f, at, 100, i, 1);
		driver_write(&f->driver, 0x70, 0);
		assert_int_equal(driver_read(&f->driver, 0x70), 0);
	}
	close_fixture(f);
}

static void test_pause(void **state)
{
	struct fixture *f = open_fixture(SOCK_SEQPACKET, NULL);
	uint64_t at, tx = driver_take(&f->driver, 4096, 16);

	(void)state;
	driver_begin(&f->driver, ALL, 16);
	at = post_many(f, 8, 1600);
	put_frame(f, 100, 1);
	expect_used(f, RX, 0, 100);
	virtio_pause(f->device);
	assert_int_equal(virtq_outstanding(&f->device->queues[RX]), 0);
	put_frame(f, 101, 2);
	uint16_t head = transmit(f, tx, 200, 3, 0);

	driver_kick(&f->driver, TX);
	usleep(20000);
	assert_int_equal(f->driver.queues[RX].usage->idx, 1);
	assert_int_equal(f->driver.queues[TX].usage->idx, 0);
	virtio_resume(f->device);
	expect_used(f, RX, 1, 101);
	expect_received(f, at + 1600, 101, 2, 1);
	expect_used(f, TX, head, 0);
	expect_frame(f, 200, 3);
	close_fixture(f);
}

static void test_limits(void **state)
{
	const struct net_config config = {.rx.ops = {.size = 2, .refill_ms = 20},
					  .tx.bytes = {.size = 250, .refill_ms = 20}};
	struct fixture *f = open_fixture(SOCK_SEQPACKET, &config);
	uint64_t tx = driver_take(&f->driver, 8192, 16);

	(void)state;
	driver_begin(&f->driver, ALL, 16);
	for (unsigned i = 0; i < 7; i++) {
		put_frame(f, 100 + i, i);
		transmit(f, tx + i * 256, 100 + i, i, 0);
	}
	uint64_t at = post_many(f, 8, 1600);

	driver_kick(&f->driver, TX);
	for (unsigned i = 0; i < 7; i++) {
		expect_used(f, RX, i, 100 + i);
		expect_received(f, at + i * 1600, 100 + i, i, 1);
		expect_frame(f, 100 + i, i);
		expect_used(f, TX, i, 0);
	}
	assert_true(net_counters(f->device)->rx_limited >= 2);
	assert_true(net_counters(f->device)->tx_limited >= 2);
	close_fixture(f);
}

static bool hook_wants(void *opaque, const uint8_t *head, size_t bytes)
{
	(void)opaque;
	return bytes > 14 && head[14] == 0x5a;
}

static void hook_take(void *opaque, const uint8_t *frame, size_t bytes)
{
	struct fixture *f = opaque;

	memcpy(f->took, frame, bytes < sizeof f->took ? bytes : sizeof f->took);
	f->took_bytes = bytes;
	atomic_fetch_add(&f->taken, 1);
	atomic_fetch_add(&f->give, 1);
}

static size_t hook_give(void *opaque, uint8_t *frame, size_t room)
{
	struct fixture *f = opaque;

	if (!atomic_load(&f->give) || room < 500)
		return 0;
	atomic_fetch_sub(&f->give, 1);
	memset(frame, 0x77, 500);
	return 500;
}

static void test_hook(void **state)
{
	const struct net_hook hook = {.wants = hook_wants, .take = hook_take, .give = hook_give};
	const struct net_config config = {.hook = &hook};
	struct fixture *f = open_fixture(SOCK_SEQPACKET, &config);
	uint64_t tx = driver_take(&f->driver, 8192, 16), at;

	(void)state;
	driver_begin(&f->driver, ALL, 16);
	transmit(f, tx, 100, 1, 0);
	transmit(f, tx + 1024, 300, 2, 12);
	*(uint8_t *)driver_at(&f->driver, tx + 1024 + 12 + 14) = 0x5a;
	transmit(f, tx + 2048, 101, 3, 0);
	at = post_many(f, 8, 400);
	driver_kick(&f->driver, TX);
	expect_frame(f, 100, 1);
	expect_frame(f, 101, 3); /* the hook's never reached the network */
	expect_used(f, RX, 0, 400);
	expect_used(f, RX, 1, 112);
	assert_int_equal(f->took_bytes, 288);
	assert_memory_equal(f->took, driver_at(&f->driver, tx + 1024 + 12), 288);
	const uint8_t *got = driver_at(&f->driver, at);

	assert_int_equal(got[10], 2);
	assert_int_equal(got[12], 0x77);
	assert_int_equal(got[511], 0x77);
	atomic_fetch_add(&f->give, 1);
	net_poll(f->device);
	expect_used(f, RX, 2, 400);
	close_fixture(f);
}

static void test_lost(void **state)
{
	struct fixture *f = open_fixture(SOCK_SEQPACKET, NULL);
	uint64_t tx = driver_take(&f->driver, 8192, 16);

	(void)state;
	driver_begin(&f->driver, ALL, 16);
	post_many(f, 8, 1600);
	close(f->peer);
	f->peer = -1;
	for (int i = 0; i < 10000 && !atomic_load(&f->lost); i++)
		usleep(1000);
	assert_int_equal(atomic_load(&f->lost), 1);
	/* the guest keeps sending, without effect */
	uint16_t head = transmit(f, tx, 100, 1, 0);

	driver_kick(&f->driver, TX);
	expect_used(f, TX, head, 0);
	assert_int_equal(atomic_load(&f->lost), 1);
	close_fixture(f);
}

/* A guest whose interface is down posts no buffers; the loss of its network is still detected. */
static void test_lost_without_buffers(void **state)
{
	static const int types[] = {SOCK_SEQPACKET, SOCK_STREAM};

	(void)state;
	for (unsigned i = 0; i < 2; i++) {
		struct fixture *f = open_fixture(types[i], NULL);

		driver_begin(&f->driver, ALL, 16);
		put_frame(f, 100, 1);
		usleep(20000);
		assert_int_equal(atomic_load(&f->lost), 0);
		close(f->peer);
		f->peer = -1;
		for (int j = 0; j < 10000 && !atomic_load(&f->lost); j++)
			usleep(1000);
		assert_int_equal(atomic_load(&f->lost), 1);
		close_fixture(f);
	}
}

/* Lost while the guest's frames were waiting: they are dropped, and the guest gets its buffers back. */
static void lost_while_full(int type)
{
	enum { COUNT = 64, BYTES = 20000 };
	struct fixture *f = open_fixture(type, NULL);
	uint64_t tx = driver_take(&f->driver, COUNT * BYTES, 16);
	uint32_t id, written;

	driver_begin(&f->driver, ALL, 64);
	for (unsigned i = 0; i < COUNT; i++)
		transmit(f, tx + i * BYTES, BYTES, i, 0);
	post_many(f, 4, 1600);
	driver_kick(&f->driver, TX);
	usleep(20000);
	assert_true(f->driver.queues[TX].usage->idx < COUNT);
	close(f->peer);
	f->peer = -1;
	for (unsigned i = 0; i < COUNT; i++)
		assert_true(driver_used(&f->driver, TX, &id, &written));
	/* a send that fails gives the buffers back; it is receiving that finds out why, perhaps later */
	for (int i = 0; i < 10000 && !atomic_load(&f->lost); i++)
		usleep(1000);
	assert_int_equal(atomic_load(&f->lost), 1);
	close_fixture(f);
}

static void test_lost_while_full(void **state)
{
	(void)state;
	lost_while_full(SOCK_SEQPACKET);
	lost_while_full(SOCK_STREAM);
}

/* What counts as another's: a source address that is not the device's, where it has one. */
static void foreign_senders_are_counted(void **state)
{
	(void)state;
	for (unsigned has_mac = 0; has_mac < 2; has_mac++) {
		const struct net_config config = {.has_mac = has_mac};
		struct fixture *f = open_fixture(SOCK_SEQPACKET, &config);
		uint64_t tx = driver_take(&f->driver, 256, 16);

		driver_begin(&f->driver, ALL, 16);
		for (unsigned byte = 0; byte < 14; byte++) {
			uint16_t head = transmit(f, tx, 100, 1, 0);

			((uint8_t *)driver_at(&f->driver, tx))[NET_HEADER_BYTES + byte] ^= 0x80;
			driver_kick(&f->driver, TX);
			assert_int_equal(get_frame(f), 100);
			expect_used(f, TX, head, 0);
		}
		assert_int_equal(net_counters(f->device)->tx_foreign_mac, has_mac ? 6 : 0);
		assert_int_equal(net_counters(f->device)->tx_malformed, 0);
		assert_int_equal(net_counters(f->device)->tx_bytes, 14 * 100);
		assert_int_equal(net_counters(f->device)->tx_packets, 14);
		close_fixture(f);
	}
}

/* Frames of every length around the shortest and the longest, and what is counted of each. */
static void lengths_of_frames(void **state)
{
	static const struct {
		uint32_t bytes;
		bool good;
	} rows[] = {{1, false}, {12, false},           {25, false},
		    {26, true}, {NET_FRAME_MAX, true}, {NET_FRAME_MAX + 1, false}};
	struct fixture *f = open_fixture(SOCK_SEQPACKET, NULL);
	uint64_t tx = driver_take(&f->driver, 128 << 10, 16);
	unsigned good = 0;

	(void)state;
	driver_begin(&f->driver, ALL, 16);
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		uint16_t head = transmit(f, tx, rows[i].bytes, (unsigned)i, 0);

		driver_kick(&f->driver, TX);
		if (rows[i].good)
			expect_frame(f, rows[i].bytes, (unsigned)i);
		expect_used(f, TX, head, 0);
		good += rows[i].good;
		driver_hold_loop(&f->driver, &f->holds[i]); /* counters are the loop's */
		driver_let_loop_go(&f->holds[i]);
		assert_int_equal(net_counters(f->device)->tx_frames, good);
		assert_int_equal(net_counters(f->device)->tx_malformed, i + 1 - good);
		assert_int_equal(net_counters(f->device)->tx_dropped, i + 1 - good);
	}
	close_fixture(f);
}

static void lift_limits(void *opaque)
{
	static const struct limiter_update off = {.has_ops = true, .has_bytes = true};

	net_set_limits(((struct fixture *)opaque)->device, &off, &off);
}

/* Limits that are set before the driver begins, and while it runs; each direction by itself. */
static void limits_are_set_at_any_time(void **state)
{
	static const struct limiter_update none = {0}, two = {.has_ops = true, .ops = {2, 3600000, 0}},
					   small = {.has_bytes = true, .bytes = {150, 3600000, 0}};

	(void)state;
	for (unsigned kind = 0; kind < 8; kind++) {
		struct fixture *f = open_fixture(SOCK_SEQPACKET, NULL);
		const bool running = kind & 1, rx = kind & 2;
		const struct limiter_update *limit = kind & 4 ? &small : &two;
		uint64_t tx = driver_take(&f->driver, 4096, 16);

		if (running) {
			driver_begin(&f->driver, ALL, 16);
			uint16_t head = transmit(f, tx, 100, 9, 0);

			driver_kick(&f->driver, TX);
			expect_frame(f, 100, 9);
			expect_used(f, TX, head, 0);
		}
		net_set_limits(f->device, rx ? limit : &none, rx ? &none : limit);
		if (!running)
			driver_begin(&f->driver, ALL, 16);
		uint16_t sent = f->driver.queues[TX].usage->idx;

		post_many(f, 8, 1600);
		for (unsigned i = 0; i < 4; i++) {
			put_frame(f, 100, i);
			transmit(f, tx + 256 * i, 100, i, 0);
		}
		driver_kick(&f->driver, TX);
		/* 150 bytes are enough for the first, and lend nothing to the second; the other direction has all four
		 */
		unsigned most = kind & 4 ? 1 : 2, got_rx = rx ? most : 4, got_tx = rx ? 4 : most;
		uint32_t id, written;

		for (unsigned i = 0; i < got_rx; i++)
			assert_true(driver_used(&f->driver, RX, &id, &written));
		for (unsigned i = 0; i < got_tx; i++) {
			expect_frame(f, 100, i);
			assert_true(driver_used(&f->driver, TX, &id, &written));
		}
		for (unsigned i = 0; i < 10000 && !(rx ? counter_get(&net_counters(f->device)->rx_limited)
						       : counter_get(&net_counters(f->device)->tx_limited));
		     i++)
			usleep(1000);
		assert_int_equal(f->driver.queues[RX].usage->idx, got_rx);
		assert_int_equal((uint16_t)(f->driver.queues[TX].usage->idx - sent), got_tx);
		assert_int_equal(net_counters(f->device)->rx_limited, rx);
		assert_int_equal(net_counters(f->device)->tx_limited, !rx);
		assert_int_equal(net_counters(f->device)->tx_remaining, rx ? 0 : 4 - most);
		/* without limits the rest follows */
		f->lift_task = (struct loop_task){.run = lift_limits, .opaque = f};
		loop_post(&f->driver.loop, &f->lift_task);
		for (unsigned i = got_rx; i < 4; i++)
			assert_true(driver_used(&f->driver, RX, &id, &written));
		for (unsigned i = got_tx; i < 4; i++) {
			expect_frame(f, 100, i);
			assert_true(driver_used(&f->driver, TX, &id, &written));
		}
		assert_int_equal(net_counters(f->device)->rx_limiter_events, rx);
		assert_int_equal(net_counters(f->device)->tx_limiter_events, !rx);
		close_fixture(f);
	}
}

/* The state is that of the limits, which exist from the first notification on. */
static void state_is_saved_and_restored(void **state)
{
	const struct net_config config = {.rx.ops = {3, 3600000, 0}, .tx.ops = {5, 3600000, 0}};
	struct fixture *f = open_fixture(SOCK_SEQPACKET, &config);
	const struct virtio_ops *ops = f->device->ops;
	uint8_t saved[512], small[512];
	struct riffle_error error;
	uint64_t tx = driver_take(&f->driver, 4096, 16);
	uint32_t id, written;

	(void)state;
	assert_int_equal(ops->save(f->device, saved, sizeof saved), 0);
	driver_begin(&f->driver, ALL, 16);
	for (unsigned i = 0; i < 4; i++) {
		transmit(f, tx, 100, 1, 0);
		driver_kick(&f->driver, TX);
		assert_true(driver_used(&f->driver, TX, &id, &written));
	}
	virtio_pause(f->device);
	size_t bytes = ops->save(f->device, saved, sizeof saved);

	assert_int_equal(bytes, 2 * sizeof(struct limiter_state));
	memset(small, 0xee, sizeof small);
	assert_int_equal(ops->save(f->device, small, bytes - 1), bytes);
	assert_int_equal(small[0], 0xee);
	assert_int_equal(ops->save(f->device, small, bytes), bytes);
	assert_memory_equal(small, saved, bytes);
	struct limiter_state limits[2];

	memcpy(limits, saved, sizeof limits);
	assert_int_equal(limits[RX].tokens[1], 3);
	assert_int_equal(limits[TX].tokens[1], 1);
	assert_int_equal(ops->restore(f->device, saved, bytes - 1, &error), RIFFLE_ERR_FORMAT);
	assert_int_equal(error.expected, bytes);
	close_fixture(f);
	/* into another, which then has one frame left */
	f = open_fixture(SOCK_SEQPACKET, &config);
	assert_int_equal(ops->restore(f->device, NULL, 0, &error), 0);
	assert_int_equal(ops->restore(f->device, saved, bytes, &error), 0);
	driver_begin(&f->driver, ALL, 16);
	for (unsigned i = 0; i < 2; i++)
		transmit(f, tx + 256 * i, 100, i, 0);
	driver_kick(&f->driver, TX);
	expect_frame(f, 100, 0);
	for (unsigned i = 0; i < 10000 && !counter_get(&net_counters(f->device)->tx_limited); i++)
		usleep(1000);
	assert_int_equal(net_counters(f->device)->tx_limited, 1);
	assert_int_equal(net_counters(f->device)->tx_frames, 1);
	close_fixture(f);
}

/* A device that is timed: the time of all sends is within that of the test. */
static void times_of_sends(void **state)
{
	struct fixture *f = open_fixture(SOCK_SEQPACKET, NULL);
	uint64_t tx = driver_take(&f->driver, 4096, 16);

	(void)state;
	driver_begin(&f->driver, ALL, 16);
	f->device->timed = true;
	uint64_t begun = loop_now();

	for (unsigned i = 0; i < 50; i++) {
		uint16_t head = transmit(f, tx, 1500, i, 0);

		driver_kick(&f->driver, TX);
		expect_frame(f, 1500, i);
		expect_used(f, TX, head, 0);
	}
	const struct latency *time = &net_counters(f->device)->backend_write_time;

	assert_true(time->max_us <= time->sum_us && time->sum_us <= (loop_now() - begun) / 1000 + 1);
	close_fixture(f);
}

static struct virtio_device *attached_device;
static unsigned detached;

static void hook_attached(void *opaque, struct virtio_device *device)
{
	(void)opaque;
	attached_device = device;
}

static void hook_detached(void *opaque)
{
	(void)opaque;
	detached++;
}

/* A hook learns of its device with the first notification, and that it goes. */
static void hook_is_attached_and_detached(void **state)
{
	const struct net_hook hook = {.wants = hook_wants,
				      .take = hook_take,
				      .give = hook_give,
				      .attached = hook_attached,
				      .detached = hook_detached};
	const struct net_config config = {.hook = &hook};

	(void)state;
	for (unsigned begins = 0; begins < 2; begins++) {
		struct fixture *f = open_fixture(SOCK_SEQPACKET, &config);

		attached_device = NULL;
		detached = 0;
		if (begins) {
			uint64_t tx = driver_take(&f->driver, 256, 16);

			driver_begin(&f->driver, ALL, 16);
			uint16_t head = transmit(f, tx, 100, 1, 0);

			driver_kick(&f->driver, TX);
			expect_used(f, TX, head, 0);
		}
		assert_ptr_equal(attached_device, begins ? f->device : NULL);
		close_fixture(f);
		assert_int_equal(detached, begins);
	}
}

/* ---- the stream ---- */

static void write_all(int fd, const void *data, size_t bytes)
{
	for (size_t done = 0; done < bytes;) {
		ssize_t n = write(fd, (const uint8_t *)data + done, bytes - done);

		assert_true(n > 0);
		done += (size_t)n;
	}
}

static void read_all(int fd, void *data, size_t bytes)
{
	for (size_t done = 0; done < bytes;) {
		struct pollfd poll_fd = {.fd = fd, .events = POLLIN};

		assert_int_equal(poll(&poll_fd, 1, 10000), 1);
		ssize_t n = read(fd, (uint8_t *)data + done, bytes - done);

		assert_true(n > 0);
		done += (size_t)n;
	}
}

static void test_stream_frames(void **state)
{
	struct fixture *f = open_fixture(SOCK_STREAM, NULL);
	uint64_t tx = driver_take(&f->driver, 128 << 10, 16), at;
	uint32_t length;

	(void)state;
	driver_begin(&f->driver, ALL, 64);
	at = post_many(f, 64, 1536);
	uint16_t head = transmit(f, tx, 112, 1, 12);

	driver_kick(&f->driver, TX);
	read_all(f->peer, &length, 4);
	assert_int_equal(ntohl(length), 100);
	read_all(f->peer, f->bytes, 100);
	fill(f->sent, 112, 1);
	assert_memory_equal(f->bytes, f->sent + 12, 100);
	expect_used(f, TX, head, 0);
	/* to the guest: two in one piece, the second cut; the largest */
	fill(f->sent + 0, 112, 2);
	length = htonl(100);
	write_all(f->peer, &length, 4);
	write_all(f->peer, f->sent + 12, 100);
	write_all(f->peer, &length, 2);
	expect_used(f, RX, 0, 112);
	write_all(f->peer, (uint8_t *)&length + 2, 2);
	write_all(f->peer, f->sent + 12, 60);
	usleep(5000);
	write_all(f->peer, f->sent + 72, 40);
	expect_used(f, RX, 1, 112);
	length = htonl(NET_FRAME_MAX - 12);
	write_all(f->peer, &length, 4);
	fill(f->sent, NET_FRAME_MAX, 3);
	write_all(f->peer, f->sent + 12, NET_FRAME_MAX - 12);
	for (unsigned i = 2; i < 44; i++)
		expect_used(f, RX, i, 1536);
	expect_used(f, RX, 44, NET_FRAME_MAX - 42 * 1536);
	f->sent[0] = VIRTIO_NET_HDR_F_DATA_VALID; /* what comes by a socket needs no checksum */
	f->sent[10] = 43;
	assert_memory_equal(driver_at(&f->driver, at + 2 * 1536), f->sent, NET_FRAME_MAX);
	close_fixture(f);
}

/* The socket accepts part of the last frame: the rest follows without another frame. */
static void test_stream_last_frame(void **state)
{
	struct fixture *f = open_fixture(SOCK_STREAM, NULL);
	uint64_t tx = driver_take(&f->driver, 128 << 10, 16);
	int room = 8192;
	uint32_t length;

	(void)state;
	assert_int_equal(setsockopt(f->end, SOL_SOCKET, SO_SNDBUF, &room, sizeof room), 0);
	driver_begin(&f->driver, ALL, 16);
	for (unsigned i = 0; i < 3; i++) {
		uint16_t head = transmit(f, tx, NET_FRAME_MAX, i, 12);

		driver_kick(&f->driver, TX);
		expect_used(f, TX, head, 0);
		read_all(f->peer, &length, 4);
		assert_int_equal(ntohl(length), NET_FRAME_MAX - 12);
		read_all(f->peer, f->bytes, NET_FRAME_MAX - 12);
		fill(f->sent, NET_FRAME_MAX, i);
		assert_memory_equal(f->bytes, f->sent + 12, NET_FRAME_MAX - 12);
	}
	assert_int_equal(net_counters(f->device)->tx_frames, 3);
	close_fixture(f);
}

/*
 * A queue that fails while frames are collected: they are not sent later, from buffers that are not theirs any more,
 * nor counted among those that a full socket does not take after the reset.
 */
static void test_stream_fails_with_frames_in_hand(void **state)
{
	struct fixture *f = open_fixture(SOCK_STREAM, NULL);
	uint64_t tx = driver_take(&f->driver, 128 << 10, 16);
	struct driver_buffer wrong = {driver_take(&f->driver, 256, 16), 100, true};
	int room = 8192, flags = fcntl(f->peer, F_GETFL);
	uint32_t length;
	uint16_t head;

	(void)state;
	assert_int_equal(setsockopt(f->end, SOL_SOCKET, SO_SNDBUF, &room, sizeof room), 0);
	driver_begin(&f->driver, ALL, 64);
	for (unsigned i = 0; i < 20; i++)
		transmit(f, tx + i * 256, 112, i, 12);
	driver_add(&f->driver, TX, &wrong, 1, false);
	driver_kick(&f->driver, TX);
	assert_true(driver_wait_status(&f->driver, VIRTIO_CONFIG_S_NEEDS_RESET));
	driver_begin(&f->driver, ALL, 64);
	/* the first fills the socket, so that nothing is taken of what follows */
	head = transmit(f, tx, NET_FRAME_MAX, 1, 12);
	driver_kick(&f->driver, TX);
	expect_used(f, TX, head, 0);
	head = transmit(f, tx, 112, 2, 12);
	driver_kick(&f->driver, TX);
	read_all(f->peer, &length, 4);
	assert_int_equal(ntohl(length), NET_FRAME_MAX - 12);
	read_all(f->peer, f->bytes, NET_FRAME_MAX - 12);
	read_all(f->peer, &length, 4);
	assert_int_equal(ntohl(length), 100);
	read_all(f->peer, f->bytes, 100);
	fill(f->sent, 112, 2);
	assert_memory_equal(f->bytes, f->sent + 12, 100);
	expect_used(f, TX, head, 0);
	assert_int_equal(net_counters(f->device)->tx_frames, 2);
	assert_int_equal(fcntl(f->peer, F_SETFL, flags | O_NONBLOCK), 0);
	assert_int_equal(read(f->peer, f->bytes, 1), -1);
	close_fixture(f);
}

static void test_stream_mtu(void **state)
{
	struct fixture *f = open_fixture(SOCK_STREAM, NULL);
	uint16_t mtu;

	(void)state;
	driver_config(&f->driver, 10, &mtu, 2);
	assert_int_equal(mtu, 65520);
	close_fixture(f);
}

static void test_stream_lies(void **state)
{
	static const uint32_t lengths[] = {0, 13, NET_FRAME_MAX - 12 + 1, UINT32_MAX};

	(void)state;
	for (unsigned i = 0; i < 4; i++) {
		struct fixture *f = open_fixture(SOCK_STREAM, NULL);
		uint32_t length = htonl(lengths[i]);

		driver_begin(&f->driver, ALL, 64);
		post_many(f, 8, 1600);
		write_all(f->peer, &length, 4);
		write_all(f->peer, f->bytes, 16);
		for (int j = 0; j < 10000 && !atomic_load(&f->lost); j++)
			usleep(1000);
		assert_int_equal(atomic_load(&f->lost), 1);
		close_fixture(f);
	}
}

/* The other end goes, with a frame unread or without. */
static void test_stream_ends(void **state)
{
	(void)state;
	for (unsigned unread = 0; unread < 2; unread++) {
		struct fixture *f = open_fixture(SOCK_STREAM, NULL);
		uint64_t tx = driver_take(&f->driver, 4096, 16);

		driver_begin(&f->driver, ALL, 64);
		post_many(f, 8, 1600);
		if (unread) {
			uint16_t head = transmit(f, tx, 112, 1, 12);

			driver_kick(&f->driver, TX);
			expect_used(f, TX, head, 0);
		}
		close(f->peer);
		f->peer = -1;
		for (int j = 0; j < 10000 && !atomic_load(&f->lost); j++)
			usleep(1000);
		assert_int_equal(atomic_load(&f->lost), 1);
		assert_int_equal(net_counters(f->device)->backend_read_fails, 1);
		close_fixture(f);
	}
}

enum { PIECE = 48800 }; /* of a call: Linux queues as much at once on a stream socket */

static unsigned long batches, frames_alone;

/*
 * In place of the C library's: a reader must find no frame in more than two pieces, as passt reads the rest of one by a
 * single call. So several frames are one piece, and a larger frame begins one.
 */
ssize_t sendmsg(int fd, const struct msghdr *message, int flags)
{
	size_t bytes = 0;

	for (size_t i = 0; i < message->msg_iovlen; i++)
		bytes += message->msg_iov[i].iov_len;
	if (message->msg_iov[0].iov_len == 4) {
		size_t first = 4 + ntohl(riffle_get32(message->msg_iov[0].iov_base));

		assert_true(bytes == first || bytes <= PIECE);
		batches += bytes > first;
		frames_alone += bytes > PIECE;
	}
	return syscall(SYS_sendmsg, fd, message, flags);
}

struct reader {
	struct fixture *f;
	unsigned frames;
	uint32_t seed;
};

static uint32_t size_of(uint32_t seed, unsigned number)
{
	uint32_t x = (seed + number) * 2654435761u;

	x ^= x >> 15;
	return x % 8 ? 26 + x % 1500 : 26 + x % (NET_FRAME_MAX - 26 + 1);
}

/* Reads slowly and in odd pieces, so that batches are cut anywhere. */
static void *read_slowly(void *opaque)
{
	struct reader *reader = opaque;
	static uint8_t frame[NET_FRAME_MAX], expected[NET_FRAME_MAX];

	for (unsigned i = 0; i < reader->frames; i++) {
		uint32_t length, bytes = size_of(reader->seed, i);

		read_all(reader->f->peer, &length, 4);
		assert_int_equal(ntohl(length), bytes - 12);
		read_all(reader->f->peer, frame, bytes - 12);
		fill(expected, bytes, i);
		assert_memory_equal(frame, expected + 12, bytes - 12);
		if (i % 16 == 0)
			usleep(1000);
	}
	return NULL;
}

static void test_stream_bulk(void **state)
{
	enum { FRAMES = 1500, SIZE = 128 };
	struct fixture *f = open_fixture(SOCK_STREAM, NULL);
	uint64_t tx = driver_take(&f->driver, SIZE * 70000u, 16);
	struct reader reader = {.f = f, .frames = FRAMES, .seed = (uint32_t)time(NULL)};
	unsigned queued = 0, finished = 0;
	uint32_t id, written;
	pthread_t thread;

	(void)state;
	printf("seed %u\n", reader.seed);
	driver_begin(&f->driver, ALL, SIZE);
	pthread_create(&thread, NULL, read_slowly, &reader);
	while (finished < FRAMES) {
		for (; queued < FRAMES && queued - finished < SIZE; queued++)
			transmit(f, tx + (queued % SIZE) * 70000u, size_of(reader.seed, queued), queued, 0);
		driver_kick(&f->driver, TX);
		assert_true(driver_used(&f->driver, TX, &id, &written));
		assert_int_equal(id, finished % SIZE);
		finished++;
	}
	pthread_join(thread, NULL);
	assert_int_equal(net_counters(f->device)->tx_frames, FRAMES);
	assert_true(batches > 0 && frames_alone > 0);
	close_fixture(f);
}

/* ---- the real thing: the host's kernel answers ---- */

static const uint8_t host_address[4] = {192, 168, 77, 1};

static bool in_own_network(void)
{
	return unshare(CLONE_NEWNET) == 0 || unshare(CLONE_NEWUSER | CLONE_NEWNET) == 0;
}

static void set_up_interface(const char *name)
{
	struct ifreq request = {0};
	struct sockaddr_in address = {.sin_family = AF_INET};
	int fd = socket(AF_INET, SOCK_DGRAM, 0);

	strcpy(request.ifr_name, name);
	memcpy(&address.sin_addr, host_address, 4);
	memcpy(&request.ifr_addr, &address, sizeof address);
	assert_int_equal(ioctl(fd, SIOCSIFADDR, &request), 0);
	request.ifr_flags = IFF_UP | IFF_RUNNING;
	assert_int_equal(ioctl(fd, SIOCSIFFLAGS, &request), 0);
	close(fd);
}

/* "Who has 192.168.77.1?", as the guest asks. */
static size_t arp_request(uint8_t *frame)
{
	static const uint8_t rest[] = {0x08, 6, 0, 1, 8, 0, 6, 4, 0, 1};

	memset(frame, 0, NET_HEADER_BYTES);
	memset(frame + 12, 0xff, 6);
	memcpy(frame + 18, mac, 6);
	memcpy(frame + 24, rest, sizeof rest);
	memcpy(frame + 34, mac, 6);
	memcpy(frame + 40, (uint8_t[]){192, 168, 77, 2}, 4);
	memset(frame + 44, 0, 6);
	memcpy(frame + 50, host_address, 4);
	return 54;
}

static void test_tap(void **state)
{
	struct net_config config = {.name = "net", .has_mac = true};
	struct net_backend *backend, *second;
	struct virtio_device *device;
	struct riffle_error error;
	static struct driver driver;
	struct ifreq request = {0};

	(void)state;
	memcpy(config.mac, mac, sizeof mac);
	if (!in_own_network() || net_tap_open(&backend, "riffle0", &error))
		skip(); /* no user namespaces, or no /dev/net/tun */
	assert_int_equal(net_tap_open(&second, "riffle0", &error), RIFFLE_ERR_IO);
	assert_int_equal(error.sys_errno, EBUSY);
	assert_int_equal(net_tap_open(&second, "lo", &error), RIFFLE_ERR_IO);
	static const char *const bad[] = {"", "a/b", "sixteen-letters-", "tap%d", "a b", ".."};
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
		assert_int_equal(net_tap_open(&second, bad[i], &error), RIFFLE_ERR_ARGUMENT);
	assert_int_equal(net_tap_adopt(&second, open("/dev/null", O_RDWR), &error), RIFFLE_ERR_ARGUMENT);
	/* alternatively an open descriptor; one without headers is refused */
	int fd = open("/dev/net/tun", O_RDWR);

	strcpy(request.ifr_name, "riffle1");
	request.ifr_flags = IFF_TAP | IFF_NO_PI;
	assert_int_equal(ioctl(fd, TUNSETIFF, &request), 0);
	assert_int_equal(net_tap_adopt(&second, fd, &error), RIFFLE_ERR_ARGUMENT);
	fd = open("/dev/net/tun", O_RDWR);
	strcpy(request.ifr_name, "riffle2");
	request.ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR;
	assert_int_equal(ioctl(fd, TUNSETIFF, &request), 0);
	assert_int_equal(net_tap_adopt(&second, fd, &error), 0);
	assert_true(fcntl(fd, F_GETFL) & O_NONBLOCK);
	assert_int_equal(second->features, backend->features);
	net_backend_destroy(second);
	for (unsigned bit = VIRTIO_NET_F_CSUM; bit <= VIRTIO_NET_F_HOST_TSO6; bit++)
		if ((1u << bit) &
		    (1u << VIRTIO_NET_F_CSUM | 1u << VIRTIO_NET_F_GUEST_CSUM | 1u << VIRTIO_NET_F_GUEST_TSO4 |
		     1u << VIRTIO_NET_F_GUEST_TSO6 | 1u << VIRTIO_NET_F_HOST_TSO4 | 1u << VIRTIO_NET_F_HOST_TSO6))
			assert_true(backend->features >> bit & 1);
	set_up_interface("riffle0");
	driver_open(&driver);
	assert_int_equal(net_new(&device, &config, backend, NULL), 0);
	driver_attach(&driver, device);
	driver_begin(&driver, ALL, 64);
	uint64_t rx = driver_take(&driver, 64 * 2048, 16), tx = driver_take(&driver, 4096, 16);
	uint32_t id, written;

	for (unsigned i = 0; i < 64; i++)
		driver_add(&driver, RX, &(struct driver_buffer){rx + i * 2048, 2048, true}, 1, false);
	driver_kick(&driver, RX);
	uint32_t bytes = (uint32_t)arp_request(driver_at(&driver, tx));

	driver_add(&driver, TX, &(struct driver_buffer){tx, bytes, false}, 1, false);
	driver_kick(&driver, TX);
	/* among what the kernel says by itself */
	for (bool answered = false; !answered;) {
		assert_true(driver_used(&driver, RX, &id, &written));
		const uint8_t *frame = driver_at(&driver, rx + id * 2048);

		answered = written >= 54 && frame[24] == 8 && frame[25] == 6 && frame[33] == 2 &&
			   !memcmp(frame + 12, mac, 6) && !memcmp(frame + 40, host_address, 4);
		assert_int_equal(frame[10] | frame[11] << 8, 1);
	}
	driver_close(&driver);
}

/* ---- addresses ---- */

static void test_macs(void **state)
{
	uint8_t first[6], other[6];

	(void)state;
	assert_int_equal(net_random_mac(first, NULL), 0);
	assert_int_equal(net_random_mac(other, NULL), 0);
	assert_int_equal(first[0] & 3, 2);
	assert_memory_not_equal(first, other, 6);
}

static void test_mtu_too_small(void **state)
{
	const struct net_config config = {.mtu = 67};
	struct net_backend *backend;
	struct virtio_device *device;
	struct riffle_error error;
	int ends[2];

	(void)state;
	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, ends), 0);
	assert_int_equal(net_packets_adopt(&backend, ends[1], NULL), 0);
	assert_int_equal(net_new(&device, &config, backend, &error), RIFFLE_ERR_ARGUMENT);
	close(ends[0]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_config),
	    cmocka_unit_test(test_config_without),
	    cmocka_unit_test(test_transmit),
	    cmocka_unit_test(test_transmit_wrong_direction),
	    cmocka_unit_test(test_receive_wrong_direction),
	    cmocka_unit_test(test_receive_one_buffer),
	    cmocka_unit_test(test_receive_merged),
	    cmocka_unit_test(test_receive_waits),
	    cmocka_unit_test(test_receive_never_fits),
	    cmocka_unit_test(test_many_both_ways),
	    cmocka_unit_test(test_reset),
	    cmocka_unit_test(test_pause),
	    cmocka_unit_test(test_limits),
	    cmocka_unit_test(test_hook),
	    cmocka_unit_test(foreign_senders_are_counted),
	    cmocka_unit_test(lengths_of_frames),
	    cmocka_unit_test(limits_are_set_at_any_time),
	    cmocka_unit_test(state_is_saved_and_restored),
	    cmocka_unit_test(times_of_sends),
	    cmocka_unit_test(hook_is_attached_and_detached),
	    cmocka_unit_test(test_lost),
	    cmocka_unit_test(test_lost_while_full),
	    cmocka_unit_test(test_lost_without_buffers),
	    cmocka_unit_test(test_stream_frames),
	    cmocka_unit_test(test_stream_last_frame),
	    cmocka_unit_test(test_stream_fails_with_frames_in_hand),
	    cmocka_unit_test(test_stream_mtu),
	    cmocka_unit_test(test_stream_lies),
	    cmocka_unit_test(test_stream_ends),
	    cmocka_unit_test(test_stream_bulk),
	    cmocka_unit_test(test_macs),
	    cmocka_unit_test(test_mtu_too_small),
	    cmocka_unit_test(test_tap),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
