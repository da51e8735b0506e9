/* SPDX-License-Identifier: Apache-2.0 */
/* The metadata service on a virtio network device: its own path to the guest, and its timer. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "api/mmds/mmds.h"
#include "tests/unit/virtio/driver.h"

enum { RX, TX };
enum { BUFFERS = 16, BUFFER = 2048, HEADER = 12 };

struct fixture {
	struct driver driver;
	struct virtio_device *device;
	struct mmds *mmds;
	int peer; /* the network's end */
	uint64_t tx, rx;
	unsigned received;
};

static const uint8_t arp[42] = {255, 255, 255, 255, 255, 255, 2, 0,   0,   0, 0, 1, 8, 6, 0, 1, 8, 0,   6,   4,   0,
				1,   2,   0,   0,   0,   0,   1, 169, 254, 0, 2, 0, 0, 0, 0, 0, 0, 169, 254, 169, 254};

static const uint8_t syn[54] = {2,  2, 2, 2,  2, 2,  2, 0, 0, 0,   0,   1, 8,    0,   0x45, 0,   0,
				40, 0, 0, 0,  0, 64, 6, 0, 0, 169, 254, 0, 2,    169, 254,  169, 254,
				4,  0, 0, 80, 0, 0,  0, 9, 0, 0,   0,   0, 0x50, 2,   8,    0};

static void post(struct fixture *f)
{
	for (unsigned i = 0; i < BUFFERS; i++) {
		struct driver_buffer buffer = {f->rx + (uint64_t)i * BUFFER, BUFFER, true};

		driver_add(&f->driver, RX, &buffer, 1, false);
	}
	driver_kick(&f->driver, RX);
}

/* A network limited to two frames per year. */
static struct fixture *open_fixture(void)
{
	struct fixture *f = calloc(1, sizeof *f);
	struct net_backend *backend;
	int ends[2];

	assert_non_null(f);
	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, ends), 0);
	f->peer = ends[0];
	fcntl(ends[1], F_SETFL, O_NONBLOCK);
	driver_open(&f->driver);
	assert_int_equal(mmds_new(&f->mmds, MMDS_SIZE_LIMIT, "vm", NULL), 0);
	assert_int_equal(net_packets_adopt(&backend, ends[1], NULL), 0);
	const struct net_config config = {
	    .name = "net",
	    .hook = mmds_hook(f->mmds),
	    .tx.ops = {.size = 2, .refill_ms = UINT64_C(31536000000)},
	};

	assert_int_equal(net_new(&f->device, &config, backend, NULL), 0);
	driver_attach(&f->driver, f->device);
	driver_begin(&f->driver, UINT64_MAX, BUFFERS);
	f->tx = driver_take(&f->driver, BUFFER, 16);
	f->rx = driver_take(&f->driver, BUFFERS * BUFFER, 16);
	return f;
}

static void close_fixture(struct fixture *f)
{
	driver_close(&f->driver);
	mmds_destroy(f->mmds);
	if (f->peer >= 0)
		close(f->peer);
	free(f);
}

static void transmit(struct fixture *f, const uint8_t *frame, uint32_t bytes)
{
	struct driver_buffer buffer = {f->tx, HEADER + bytes, false};
	uint32_t head, written;

	memset(driver_at(&f->driver, f->tx), 0, HEADER);
	memcpy((uint8_t *)driver_at(&f->driver, f->tx) + HEADER, frame, bytes);
	driver_add(&f->driver, TX, &buffer, 1, false);
	driver_kick(&f->driver, TX);
	assert_true(driver_used(&f->driver, TX, &head, &written));
}

/* The next frame that the guest gets, of so many bytes. */
static const uint8_t *receive(struct fixture *f, uint32_t bytes)
{
	uint32_t head, written;

	assert_true(driver_used(&f->driver, RX, &head, &written));
	assert_int_equal(written, HEADER + bytes);
	return (uint8_t *)driver_at(&f->driver, f->rx + (uint64_t)(f->received++ % BUFFERS) * BUFFER) + HEADER;
}

static void expect_no_frame(const struct fixture *f)
{
	uint8_t byte;

	assert_int_equal(recv(f->peer, &byte, 1, MSG_DONTWAIT), -1);
}

/*
 * Frames for the service never reach the network nor count against its limits; responses do not wait for network
 * traffic.
 */
static void test_detour(void **state)
{
	struct fixture *f = open_fixture();
	uint8_t other[60] = {2, 2, 2, 2, 2, 2, 2, 0, 0, 0, 0, 1, 8, 0, 0x45};

	(void)state;
	post(f);
	for (unsigned i = 0; i < 5; i++) {
		transmit(f, arp, sizeof arp);
		assert_memory_equal(receive(f, 42), "\2\0\0\0\0\1\6\1\x23\x45\x67\1\x8\6", 14);
	}
	expect_no_frame(f);
	for (unsigned i = 0; i < 2; i++) {
		uint8_t got[128];

		transmit(f, other, sizeof other);
		assert_int_equal(recv(f->peer, got, sizeof got, 0), HEADER + sizeof other);
		assert_memory_equal(got + HEADER, other, sizeof other);
	}
	close_fixture(f);
}

/* Without guest buffers, the response waits until there are some. */
static void test_no_buffers(void **state)
{
	struct fixture *f = open_fixture();

	(void)state;
	transmit(f, arp, sizeof arp);
	post(f);
	receive(f, 42);
	close_fixture(f);
}

/* Unacknowledged data is sent again, without any other event. */
static void test_timer(void **state)
{
	struct fixture *f = open_fixture();
	uint8_t first[58];

	(void)state;
	post(f);
	transmit(f, syn, sizeof syn);
	memcpy(first, receive(f, sizeof first), sizeof first);
	assert_int_equal(first[47], 0x12);
	for (unsigned i = 0; i < 3; i++)
		assert_memory_equal(receive(f, sizeof first), first, sizeof first);
	/* a reset of the device does not end the connection, whatever the guest's driver does */
	driver_write(&f->driver, 0x70, 0);
	close_fixture(f);
}

/* The service keeps working if the network fails. */
static void test_network_gone(void **state)
{
	struct fixture *f = open_fixture();

	(void)state;
	post(f);
	close(f->peer);
	f->peer = -1;
	usleep(20000);
	transmit(f, arp, sizeof arp);
	receive(f, 42);
	close_fixture(f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_detour),
	    cmocka_unit_test(test_no_buffers),
	    cmocka_unit_test(test_timer),
	    cmocka_unit_test(test_network_gone),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
