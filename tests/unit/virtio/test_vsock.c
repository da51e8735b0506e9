/* SPDX-License-Identifier: Apache-2.0 */
/* The socket device: a guest made of packets on one side, real unix sockets on the other. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <errno.h>
#include <fcntl.h>
#include <linux/virtio_config.h>
#include <linux/virtio_vsock.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "driver.h"
#include "monitor/virtio/vsock.h"
#include "monitor/virtio/vsock_connection.h"

enum { RX, TX, EVENT, SIZE = 64, BUFFER = 4096, CID = 42, HEADER = 44, OWN_BUFFER = 64 << 10 };
#define FIRST_PORT (1u << 30)
#define STREAM VIRTIO_VSOCK_TYPE_STREAM
#define BOTH (VIRTIO_VSOCK_SHUTDOWN_RCV | VIRTIO_VSOCK_SHUTDOWN_SEND)

struct fixture {
	struct driver driver;
	struct virtio_device *device;
	char directory[32], path[64];
	uint64_t rx, tx;
	unsigned tx_next;
	uint32_t alloc;                 /* what the guest says that it has room for */
	struct virtio_vsock_hdr header; /* the last packet received */
	uint8_t data[BUFFER];
};

static void add_buffers(struct fixture *f)
{
	for (unsigned i = 0; i < SIZE; i++) {
		struct driver_buffer buffer = {f->rx + i * BUFFER, BUFFER, true};

		driver_add(&f->driver, RX, &buffer, 1, false);
	}
	driver_kick(&f->driver, RX);
}

static void begin(struct fixture *f)
{
	driver_begin(&f->driver, UINT64_MAX, SIZE);
	add_buffers(f);
}

static struct fixture *open_fixture(void)
{
	struct fixture *f = calloc(1, sizeof *f);
	struct vsock_config config = {.cid = CID};

	assert_non_null(f);
	strcpy(f->directory, "/tmp/vsock-XXXXXX");
	assert_non_null(mkdtemp(f->directory));
	snprintf(f->path, sizeof f->path, "%s/v", f->directory);
	config.path = f->path;
	driver_open(&f->driver);
	assert_int_equal(vsock_new(&f->device, &config, NULL), 0);
	driver_attach(&f->driver, f->device);
	f->rx = driver_take(&f->driver, SIZE * BUFFER, 16);
	f->tx = driver_take(&f->driver, SIZE * (HEADER + OWN_BUFFER + 64), 16);
	f->alloc = OWN_BUFFER;
	begin(f);
	return f;
}

static void close_fixture(struct fixture *f)
{
	char command[80];

	driver_close(&f->driver);
	snprintf(command, sizeof command, "rm -r %s", f->directory);
	assert_int_equal(system(command), 0);
	free(f);
}

/* ---- the guest ---- */

static void send_as(struct fixture *f, uint64_t src_cid, uint64_t dst_cid, unsigned type, unsigned op,
		    uint32_t host_port, uint32_t guest_port, uint32_t flags, uint32_t forwarded, const void *data,
		    uint32_t bytes)
{
	uint64_t at = f->tx + (f->tx_next++ % SIZE) * (uint64_t)(HEADER + OWN_BUFFER + 64);
	struct virtio_vsock_hdr header = {.src_cid = src_cid,
					  .dst_cid = dst_cid,
					  .src_port = guest_port,
					  .dst_port = host_port,
					  .len = bytes,
					  .type = (uint16_t)type,
					  .op = (uint16_t)op,
					  .flags = flags,
					  .buf_alloc = f->alloc,
					  .fwd_cnt = forwarded};
	struct driver_buffer buffers[] = {{at, HEADER, false}, {at + HEADER, bytes, false}};
	uint32_t id, written;

	memcpy(driver_at(&f->driver, at), &header, sizeof header);
	if (bytes)
		memcpy(driver_at(&f->driver, at + HEADER), data, bytes);
	driver_add(&f->driver, TX, buffers, bytes ? 2 : 1, false);
	driver_kick(&f->driver, TX);
	assert_true(driver_used(&f->driver, TX, &id, &written));
	assert_int_equal(written, 0);
}

static void guest_send(struct fixture *f, unsigned op, uint32_t host_port, uint32_t guest_port, uint32_t flags,
		       uint32_t forwarded)
{
	send_as(f, CID, 2, STREAM, op, host_port, guest_port, flags, forwarded, NULL, 0);
}

static void guest_data(struct fixture *f, uint32_t host_port, uint32_t guest_port, const void *data, uint32_t bytes)
{
	send_as(f, CID, 2, STREAM, VIRTIO_VSOCK_OP_RW, host_port, guest_port, 0, 0, data, bytes);
}

static bool guest_has_packet(struct fixture *f)
{
	return f->driver.queues[RX].seen != __atomic_load_n(&f->driver.queues[RX].usage->idx, __ATOMIC_ACQUIRE);
}

/* Takes the next packet, whatever it is, and gives its buffer back. */
static unsigned guest_take(struct fixture *f)
{
	uint32_t id, written;

	assert_true(driver_used(&f->driver, RX, &id, &written));
	const uint8_t *at = driver_at(&f->driver, f->rx + id * BUFFER);

	assert_true(written >= HEADER);
	memcpy(&f->header, at, HEADER);
	assert_int_equal(written, HEADER + f->header.len);
	memcpy(f->data, at + HEADER, f->header.len);
	assert_int_equal(f->header.src_cid, 2);
	assert_int_equal(f->header.dst_cid, CID);
	assert_int_equal(f->header.type, STREAM);
	struct driver_buffer buffer = {f->rx + id * BUFFER, BUFFER, true};

	driver_add(&f->driver, RX, &buffer, 1, false);
	driver_kick(&f->driver, RX);
	return f->header.op;
}

static void guest_expect(struct fixture *f, unsigned op, uint32_t host_port, uint32_t guest_port)
{
	assert_int_equal(guest_take(f), op);
	assert_int_equal(f->header.src_port, host_port);
	assert_int_equal(f->header.dst_port, guest_port);
}

/* ---- the host ---- */

static int host_socket(struct fixture *f)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	strcpy(address.sun_path, f->path);
	assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof address), 0);
	return fd;
}

static int host_listen(struct fixture *f, unsigned port, int backlog)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	snprintf(address.sun_path, sizeof address.sun_path, "%s_%u", f->path, port);
	assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof address), 0);
	assert_int_equal(listen(fd, backlog), 0);
	return fd;
}

static void host_write(int fd, const void *data, size_t bytes)
{
	assert_int_equal(send(fd, data, bytes, MSG_NOSIGNAL), bytes);
}

/* Exactly these bytes come. */
static void host_expect(int fd, const void *data, size_t bytes)
{
	uint8_t got[OWN_BUFFER];

	for (size_t done = 0; done < bytes;) {
		struct pollfd poll_fd = {.fd = fd, .events = POLLIN};

		assert_int_equal(poll(&poll_fd, 1, 10000), 1);
		ssize_t n = read(fd, got, bytes - done < sizeof got ? bytes - done : sizeof got);

		assert_true(n > 0);
		assert_memory_equal(got, (const uint8_t *)data + done, (size_t)n);
		done += (size_t)n;
	}
}

/* The stream ends, with nothing before. */
static void host_expect_end(int fd)
{
	struct pollfd poll_fd = {.fd = fd, .events = POLLIN};
	char byte;

	assert_int_equal(poll(&poll_fd, 1, 10000), 1);
	assert_true(read(fd, &byte, 1) <= 0);
}

static void wait_connections(struct fixture *f, uint64_t count)
{
	for (int i = 0; i < 10000 && vsock_counters(f->device)->added - vsock_counters(f->device)->removed != count;
	     i++)
		usleep(1000);
	assert_int_equal(vsock_counters(f->device)->added - vsock_counters(f->device)->removed, count);
}

/* A connection that the host made, port 52 of the guest; its host port is *port. */
static int host_connected(struct fixture *f, uint32_t *port)
{
	int fd = host_socket(f);
	char line[32];

	host_write(fd, "CONNECT 52\n", 11);
	assert_int_equal(guest_take(f), VIRTIO_VSOCK_OP_REQUEST);
	assert_int_equal(f->header.dst_port, 52);
	*port = f->header.src_port;
	guest_send(f, VIRTIO_VSOCK_OP_RESPONSE, *port, 52, 0, 0);
	snprintf(line, sizeof line, "OK %u\n", *port);
	host_expect(fd, line, strlen(line));
	return fd;
}

/* One that the guest made, from `guest_port`. */
static int guest_connected(struct fixture *f, int listener, uint32_t port, uint32_t guest_port)
{
	guest_send(f, VIRTIO_VSOCK_OP_REQUEST, port, guest_port, 0, 0);
	int fd = accept(listener, NULL, NULL);

	assert_true(fd >= 0);
	guest_expect(f, VIRTIO_VSOCK_OP_RESPONSE, port, guest_port);
	return fd;
}

/* Every counter of the device is that; notifications of free buffers may be taken together. */
static void expect_counts(struct fixture *f, struct vsock_counters expected)
{
	enum { COUNTERS = sizeof expected / sizeof(counter) };
	const counter *is = (const counter *)vsock_counters(f->device), *wanted = (const counter *)&expected;
	struct driver_hold hold;

	driver_hold_loop(&f->driver, &hold); /* whatever it is at is counted then */
	expected.rx_queue_events = counter_get(&vsock_counters(f->device)->rx_queue_events);
	assert_in_range(expected.rx_queue_events, 1, expected.to_guest_packets + 2);
	for (unsigned i = 0; i < COUNTERS; i++)
		if (counter_get(&is[i]) != counter_get(&wanted[i]))
			fail_msg("counter %u: %llu (wanted %llu)", i, (unsigned long long)counter_get(&is[i]),
				 (unsigned long long)counter_get(&wanted[i]));
	driver_let_loop_go(&hold);
}

/* The guest sends until neither the socket nor the device takes more; how much that was. */
static uint32_t fill(struct fixture *f, uint32_t port, const uint8_t block[OWN_BUFFER], uint32_t *forwarded)
{
	uint32_t sent = 0, before;

	*forwarded = 0;
	do {
		const uint32_t room = OWN_BUFFER - (sent - *forwarded);

		before = *forwarded;
		if (room)
			guest_data(f, port, 52, block, room);
		sent += room;
		guest_send(f, VIRTIO_VSOCK_OP_CREDIT_REQUEST, port, 52, 0, 0);
		do
			assert_int_equal(guest_take(f), VIRTIO_VSOCK_OP_CREDIT_UPDATE);
		while (guest_has_packet(f));
		*forwarded = f->header.fwd_cnt;
	} while (*forwarded != before);
	return sent;
}

/* ---- tests ---- */

static void test_config(void **state)
{
	struct fixture *f = open_fixture();
	uint64_t cid;

	(void)state;
	driver_config(&f->driver, 0, &cid, 8);
	assert_int_equal(cid, CID);
	close_fixture(f);
}

static void test_refused(void **state)
{
	struct fixture *f = open_fixture();
	char path[200], file[80];
	struct vsock_config config = {.cid = 2, .path = "/tmp/x"};
	struct virtio_device *device;
	struct riffle_error error;
	int listener;

	(void)state;
	assert_int_equal(vsock_new(&device, &config, &error), RIFFLE_ERR_ARGUMENT);
	assert_string_equal(error.field, "cid");
	assert_string_equal(error.problem, "is reserved");
	assert_int_equal(error.found, 2);
	assert_int_equal(error.expected, 3);
	config.cid = UINT32_MAX;
	assert_int_equal(vsock_new(&device, &config, &error), RIFFLE_ERR_ARGUMENT);
	assert_string_equal(error.problem, "too large");
	assert_int_equal(error.expected, UINT32_MAX - 1);
	config.cid = 3;
	config.path = "";
	assert_int_equal(vsock_new(&device, &config, &error), RIFFLE_ERR_ARGUMENT);
	memset(path, 'x', sizeof path);
	memcpy(path, f->directory, strlen(f->directory));
	path[strlen(f->directory)] = '/';
	path[97] = 0; /* one more than leaves room for _4294967295 */
	config.path = path;
	assert_int_equal(vsock_new(&device, &config, &error), RIFFLE_ERR_ARGUMENT);
	assert_string_equal(error.field, "path");
	assert_int_equal(error.found, 97);
	assert_int_equal(error.expected, 96);
	path[96] = 0; /* may be, and is bound */
	unlink(path);
	assert_int_equal(vsock_bind(&listener, path, &error), 0);
	close(listener);
	assert_int_equal(unlink(path), 0);
	config.path = f->path; /* in use by this test's device */
	assert_int_equal(vsock_new(&device, &config, &error), RIFFLE_ERR_IO);
	assert_int_equal(error.sys_errno, EADDRINUSE);
	snprintf(file, sizeof file, "%s/file", f->directory);
	close(open(file, O_CREAT | O_WRONLY, 0600));
	config.path = file; /* no socket: not to be removed */
	assert_int_equal(vsock_new(&device, &config, &error), RIFFLE_ERR_IO);
	assert_int_equal(access(file, F_OK), 0);
	close_fixture(f);
}

/* What a run left behind is replaced. */
static void test_stale_socket(void **state)
{
	char directory[] = "/tmp/vsock-XXXXXX", path[64];
	struct vsock_config config = {.cid = 3, .path = path};
	struct virtio_device *device;

	(void)state;
	assert_non_null(mkdtemp(directory));
	snprintf(path, sizeof path, "%s/v", directory);
	for (int i = 0; i < 2; i++) {
		struct driver driver;

		driver_open(&driver);
		assert_int_equal(vsock_new(&device, &config, NULL), 0);
		driver_attach(&driver, device);
		driver_close(&driver);
		assert_int_equal(access(path, F_OK), 0);
	}
	unlink(path);
	rmdir(directory);
}

/* A listener bound by the caller: the device duplicates it. */
static void test_given_listener(void **state)
{
	char directory[] = "/tmp/vsock-XXXXXX", path[64];
	struct vsock_config config = {.cid = 3, .path = path, .has_listener = true};
	struct riffle_error error;
	struct virtio_device *device;
	int second;

	(void)state;
	assert_non_null(mkdtemp(directory));
	snprintf(path, sizeof path, "%s/v", directory);
	assert_int_equal(vsock_bind(&config.listener, path, NULL), 0);
	assert_int_equal(vsock_bind(&second, path, &error), RIFFLE_ERR_IO);
	for (int i = 0; i < 2; i++) {
		struct driver driver;

		driver_open(&driver);
		assert_int_equal(vsock_new(&device, &config, NULL), 0);
		driver_attach(&driver, device);
		driver_close(&driver);
		assert_true(fcntl(config.listener, F_GETFD) >= 0);
	}
	close(config.listener);
	assert_int_equal(vsock_new(&device, &config, &error), RIFFLE_ERR_IO);
	unlink(path);
	rmdir(directory);
}

static uint64_t thread_cpu_ns(pthread_t thread)
{
	struct timespec used;
	clockid_t id;

	assert_int_equal(pthread_getcpuclockid(thread, &id), 0);
	assert_int_equal(clock_gettime(id, &used), 0);
	return (uint64_t)used.tv_sec * 1000000000u + (uint64_t)used.tv_nsec;
}

/* With no descriptor left the loop sleeps, and whoever connected meanwhile is served when there is one again. */
static void test_no_descriptors(void **state)
{
	struct fixture *f = open_fixture();
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	struct rlimit limit, none;

	(void)state;
	strcpy(address.sun_path, f->path);
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
	none = limit;
	none.rlim_cur = (rlim_t)fd;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
	assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof address), 0);
	host_write(fd, "CONNECT 52\n", 11);
	uint64_t used = thread_cpu_ns(f->driver.thread);

	/* processor time, of which a loop that sleeps uses next to none however busy the machine is */
	usleep(500000);
	used = thread_cpu_ns(f->driver.thread) - used;
	assert_in_range(used, 0, 10000000);
	assert_false(guest_has_packet(f));
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
	guest_expect(f, VIRTIO_VSOCK_OP_REQUEST, FIRST_PORT, 52);
	close(fd);
	close_fixture(f);
}

static void test_host_connects(void **state)
{
	struct fixture *f = open_fixture();
	uint32_t port, second;
	int fd = host_connected(f, &port), other;

	(void)state;
	assert_int_equal(port, FIRST_PORT);
	guest_data(f, port, 52, "to the host", 11);
	host_expect(fd, "to the host", 11);
	host_write(fd, "to the guest", 12);
	guest_expect(f, VIRTIO_VSOCK_OP_RW, port, 52);
	assert_int_equal(f->header.len, 12);
	assert_memory_equal(f->data, "to the guest", 12);
	assert_int_equal(f->header.fwd_cnt, 11);
	assert_int_equal(f->header.buf_alloc, OWN_BUFFER);
	other = host_connected(f, &second);
	assert_int_equal(second, FIRST_PORT + 1);
	close(other);
	close(fd);
	close_fixture(f);
}

static void test_connect_lines(void **state)
{
	static const char *const bad[] = {"CONNECT\n",
					  "CONNECT \n",
					  "CONNECT x\n",
					  "CONNECT 5x\n",
					  "CONNECT 4294967296\n",
					  "CONNECT -1\n",
					  "GET / HTTP/1.1\n",
					  "\n",
					  "CONNECT \r\n",
					  "CONNECT :\n",
					  "CONNECT /\n",
					  "CONNECT 00000000000000000000000052\n", /* longer than a line may be */
					  "CONNECT 000000000000000000000000052",
					  "CONNECT 52 \n"};
	struct fixture *f = open_fixture();
	int fd;

	(void)state;
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		fd = host_socket(f);
		host_write(fd, bad[i], strlen(bad[i]));
		host_expect_end(fd);
		close(fd);
	}
	assert_false(guest_has_packet(f));
	/* the longest line, and other ends of one */
	static const char *const good[] = {"CONNECT 00000000000000000000052\n", "CONNECT 52\r\n", "connect 052\n"};

	for (uint32_t i = 0; i < 3; i++) {
		fd = host_socket(f);
		host_write(fd, good[i], strlen(good[i]));
		guest_expect(f, VIRTIO_VSOCK_OP_REQUEST, FIRST_PORT + i, 52);
		guest_send(f, VIRTIO_VSOCK_OP_RST, FIRST_PORT + i, 52, 0, 0);
		host_expect_end(fd);
		close(fd);
	}
	/* any case, in pieces, the largest port, data right behind it */
	fd = host_socket(f);
	host_write(fd, "conn", 4);
	usleep(5000);
	host_write(fd, "ECT 4294967295\nand more", 23);
	guest_expect(f, VIRTIO_VSOCK_OP_REQUEST, FIRST_PORT + 3, UINT32_MAX);
	assert_false(guest_has_packet(f));
	guest_send(f, VIRTIO_VSOCK_OP_RESPONSE, FIRST_PORT + 3, UINT32_MAX, 0, 0);
	guest_expect(f, VIRTIO_VSOCK_OP_RW, FIRST_PORT + 3, UINT32_MAX);
	assert_int_equal(f->header.len, 8);
	assert_memory_equal(f->data, "and more", 8);
	close(fd);
	close_fixture(f);
}

static void test_guest_refuses(void **state)
{
	struct fixture *f = open_fixture();
	int fd = host_socket(f);

	(void)state;
	host_write(fd, "CONNECT 52\n", 11);
	guest_expect(f, VIRTIO_VSOCK_OP_REQUEST, FIRST_PORT, 52);
	guest_send(f, VIRTIO_VSOCK_OP_RST, FIRST_PORT, 52, 0, 0);
	host_expect_end(fd);
	close(fd);
	/* no answer at all: given up after a while */
	fd = host_socket(f);
	host_write(fd, "CONNECT 52\n", 11);
	guest_expect(f, VIRTIO_VSOCK_OP_REQUEST, FIRST_PORT + 1, 52);
	host_expect_end(fd);
	guest_expect(f, VIRTIO_VSOCK_OP_RST, FIRST_PORT + 1, 52);
	close(fd);
	/* the host gives up first */
	fd = host_socket(f);
	host_write(fd, "CONNECT 52\n", 11);
	guest_expect(f, VIRTIO_VSOCK_OP_REQUEST, FIRST_PORT + 2, 52);
	close(fd);
	guest_expect(f, VIRTIO_VSOCK_OP_RST, FIRST_PORT + 2, 52);
	wait_connections(f, 0);
	close_fixture(f);
}

static void test_guest_connects(void **state)
{
	struct fixture *f = open_fixture();
	int listener = host_listen(f, 1234, 5), fd;

	(void)state;
	guest_send(f, VIRTIO_VSOCK_OP_REQUEST, 1235, 1, 0, 0); /* nobody listens */
	guest_expect(f, VIRTIO_VSOCK_OP_RST, 1235, 1);
	fd = guest_connected(f, listener, 1234, 1);
	guest_data(f, 1234, 1, "abc", 3);
	host_expect(fd, "abc", 3);
	host_write(fd, "d", 1);
	guest_expect(f, VIRTIO_VSOCK_OP_RW, 1234, 1);
	/* the same ports again: the first connection is reset */
	guest_send(f, VIRTIO_VSOCK_OP_REQUEST, 1234, 1, 0, 0);
	guest_expect(f, VIRTIO_VSOCK_OP_RST, 1234, 1);
	host_expect_end(fd);
	close(fd);
	close(listener);
	close_fixture(f);
}

/* A listener whose backlog is full for the moment. */
static void test_listener_busy(void **state)
{
	enum { COUNT = 4 };
	struct fixture *f = open_fixture();
	int listener = host_listen(f, 7, 0), fd[COUNT];

	(void)state;
	for (unsigned i = 0; i < COUNT; i++)
		guest_send(f, VIRTIO_VSOCK_OP_REQUEST, 7, 100 + i, 0, 0);
	for (unsigned i = 0; i < COUNT; i++) {
		fd[i] = accept(listener, NULL, NULL);
		assert_true(fd[i] >= 0);
	}
	for (unsigned i = 0; i < COUNT; i++)
		assert_int_equal(guest_take(f), VIRTIO_VSOCK_OP_RESPONSE);
	for (unsigned i = 0; i < COUNT; i++)
		close(fd[i]);
	close(listener);
	close_fixture(f);
}

static void test_strange_packets(void **state)
{
	struct fixture *f = open_fixture();
	uint8_t byte = 0;

	(void)state;
	send_as(f, CID + 1, 2, STREAM, VIRTIO_VSOCK_OP_REQUEST, 1, 1, 0, 0, NULL, 0); /* not the guest's CID */
	send_as(f, CID, 3, STREAM, VIRTIO_VSOCK_OP_REQUEST, 1, 2, 0, 0, NULL, 0);     /* not the host's */
	send_as(f, CID, 2, VIRTIO_VSOCK_TYPE_SEQPACKET, VIRTIO_VSOCK_OP_REQUEST, 1, 3, 0, 0, NULL, 0);
	guest_expect(f, VIRTIO_VSOCK_OP_RST, 1, 3);
	guest_data(f, 1, 4, &byte, 1); /* no such connection */
	guest_expect(f, VIRTIO_VSOCK_OP_RST, 1, 4);
	guest_send(f, VIRTIO_VSOCK_OP_RST, 1, 5, 0, 0); /* no answer to an RST */
	guest_send(f, VIRTIO_VSOCK_OP_RESPONSE, 1, 6, 0, 0);
	guest_expect(f, VIRTIO_VSOCK_OP_RST, 1, 6);
	/* a length that the packet does not have, and a packet that is none */
	struct virtio_vsock_hdr header = {
	    .src_cid = CID, .dst_cid = 2, .len = 1, .type = STREAM, .op = 5, .src_port = 7};
	struct driver_buffer buffer = {f->tx, HEADER, false};
	uint32_t id, written;

	memcpy(driver_at(&f->driver, f->tx), &header, HEADER);
	driver_add(&f->driver, TX, &buffer, 1, false);
	buffer.bytes = HEADER - 1;
	driver_add(&f->driver, TX, &buffer, 1, false);
	driver_kick(&f->driver, TX);
	assert_true(driver_used(&f->driver, TX, &id, &written));
	assert_true(driver_used(&f->driver, TX, &id, &written));
	guest_data(f, 1, 8, &byte, 1);
	guest_expect(f, VIRTIO_VSOCK_OP_RST, 1, 8);
	close_fixture(f);
}

static void test_guest_credit(void **state)
{
	struct fixture *f = open_fixture();
	uint32_t port;
	char text[300];

	(void)state;
	f->alloc = 100;
	int fd = host_connected(f, &port);

	memset(text, 'x', sizeof text);
	host_write(fd, text, 250);
	guest_expect(f, VIRTIO_VSOCK_OP_RW, port, 52);
	assert_int_equal(f->header.len, 100);
	guest_expect(f, VIRTIO_VSOCK_OP_CREDIT_REQUEST, port, 52);
	usleep(20000);
	assert_false(guest_has_packet(f));
	/* another one is not held up */
	f->alloc = OWN_BUFFER;
	uint32_t second;
	int other = host_connected(f, &second);

	host_write(other, text, 10);
	guest_expect(f, VIRTIO_VSOCK_OP_RW, second, 52);
	f->alloc = 100;
	guest_send(f, VIRTIO_VSOCK_OP_CREDIT_UPDATE, port, 52, 0, 1); /* one byte was read */
	guest_expect(f, VIRTIO_VSOCK_OP_RW, port, 52);
	assert_int_equal(f->header.len, 1);
	guest_expect(f, VIRTIO_VSOCK_OP_CREDIT_REQUEST, port, 52);
	guest_send(f, VIRTIO_VSOCK_OP_CREDIT_UPDATE, port, 52, 0, 101);
	guest_expect(f, VIRTIO_VSOCK_OP_RW, port, 52);
	assert_int_equal(f->header.len, 100);
	guest_expect(f, VIRTIO_VSOCK_OP_CREDIT_REQUEST, port, 52);
	/* a buffer that shrinks, and a count of what was never sent, are no credit */
	f->alloc = 50;
	guest_send(f, VIRTIO_VSOCK_OP_CREDIT_UPDATE, port, 52, 0, 150);
	f->alloc = 100;
	guest_send(f, VIRTIO_VSOCK_OP_CREDIT_UPDATE, port, 52, 0, 202);
	usleep(20000);
	assert_false(guest_has_packet(f));
	guest_send(f, VIRTIO_VSOCK_OP_CREDIT_UPDATE, port, 52, 0, 201);
	guest_expect(f, VIRTIO_VSOCK_OP_RW, port, 52);
	assert_int_equal(f->header.len, 49);
	/* asked for ours */
	guest_send(f, VIRTIO_VSOCK_OP_CREDIT_REQUEST, port, 52, 0, 250);
	guest_expect(f, VIRTIO_VSOCK_OP_CREDIT_UPDATE, port, 52);
	close(fd);
	close(other);
	close_fixture(f);
}

/* The host does not read: all that the buffers take and not a byte more, and nothing of it is lost. */
static void test_host_credit(void **state)
{
	static uint8_t block[OWN_BUFFER], byte;
	struct fixture *f = open_fixture();
	uint32_t port, sent = 0, forwarded = 0;
	int fd = host_connected(f, &port);

	(void)state;
	for (size_t i = 0; i < sizeof block; i++)
		block[i] = (uint8_t)(i * 31);
	for (;;) {
		uint32_t room = OWN_BUFFER - (sent - forwarded), bytes = room < 8192 ? room : 8192;

		if (!room) { /* none left that we know of: is there news? */
			guest_send(f, VIRTIO_VSOCK_OP_CREDIT_REQUEST, port, 52, 0, 0);
			assert_int_equal(guest_take(f), VIRTIO_VSOCK_OP_CREDIT_UPDATE);
			if (f->header.fwd_cnt == forwarded)
				break;
			forwarded = f->header.fwd_cnt;
			continue;
		}
		for (uint32_t done = 0; done < bytes;) { /* `block` repeats */
			uint32_t at = (sent + done) % OWN_BUFFER;
			uint32_t part = bytes - done < OWN_BUFFER - at ? bytes - done : OWN_BUFFER - at;

			guest_data(f, port, 52, block + at, part);
			done += part;
		}
		sent += bytes;
		while (guest_has_packet(f)) {
			assert_int_equal(guest_take(f), VIRTIO_VSOCK_OP_CREDIT_UPDATE);
			forwarded = f->header.fwd_cnt;
		}
	}
	assert_int_equal(sent - forwarded, OWN_BUFFER);
	/* now it reads, and gets everything */
	for (uint32_t done = 0; done < sent; done += OWN_BUFFER)
		host_expect(fd, block, sent - done < OWN_BUFFER ? sent - done : OWN_BUFFER);
	while (forwarded != sent) {
		while (guest_has_packet(f)) {
			assert_int_equal(guest_take(f), VIRTIO_VSOCK_OP_CREDIT_UPDATE);
			forwarded = f->header.fwd_cnt;
		}
		guest_send(f, VIRTIO_VSOCK_OP_CREDIT_REQUEST, port, 52, 0, 0);
		assert_int_equal(guest_take(f), VIRTIO_VSOCK_OP_CREDIT_UPDATE);
		forwarded = f->header.fwd_cnt;
	}
	close(fd);
	guest_expect(f, VIRTIO_VSOCK_OP_SHUTDOWN, port, 52);
	guest_send(f, VIRTIO_VSOCK_OP_RST, port, 52, 0, 0);
	wait_connections(f, 0);
	(void)byte;
	close_fixture(f);
}

/* One byte beyond what was allowed ends the connection. */
static void test_credit_broken(void **state)
{
	static uint8_t block[OWN_BUFFER];
	struct fixture *f = open_fixture();
	uint32_t port, forwarded;
	int fd = host_connected(f, &port);

	(void)state;
	fill(f, port, block, &forwarded);
	guest_data(f, port, 52, block, 1);
	guest_expect(f, VIRTIO_VSOCK_OP_RST, port, 52);
	wait_connections(f, 0);
	close(fd);
	close_fixture(f);
}

static void test_host_half_close(void **state)
{
	struct fixture *f = open_fixture();
	uint32_t port;
	int fd = host_connected(f, &port);

	(void)state;
	host_write(fd, "last words", 10);
	shutdown(fd, SHUT_WR);
	guest_expect(f, VIRTIO_VSOCK_OP_RW, port, 52);
	guest_expect(f, VIRTIO_VSOCK_OP_SHUTDOWN, port, 52);
	assert_int_equal(f->header.flags, VIRTIO_VSOCK_SHUTDOWN_SEND);
	guest_data(f, port, 52, "answer", 6); /* the other direction goes on */
	host_expect(fd, "answer", 6);
	guest_data(f, port, 52, "more", 4);
	host_expect(fd, "more", 4);
	close(fd);
	guest_expect(f, VIRTIO_VSOCK_OP_SHUTDOWN, port, 52);
	assert_int_equal(f->header.flags, BOTH);
	guest_send(f, VIRTIO_VSOCK_OP_RST, port, 52, 0, 0);
	wait_connections(f, 0);
	close_fixture(f);
}

static void test_guest_half_close(void **state)
{
	struct fixture *f = open_fixture();
	uint32_t port;
	int fd = host_connected(f, &port);

	(void)state;
	guest_data(f, port, 52, "last words", 10);
	guest_send(f, VIRTIO_VSOCK_OP_SHUTDOWN, port, 52, VIRTIO_VSOCK_SHUTDOWN_SEND, 0);
	host_expect(fd, "last words", 10);
	host_expect_end(fd);
	host_write(fd, "answer", 6);
	guest_expect(f, VIRTIO_VSOCK_OP_RW, port, 52);
	assert_memory_equal(f->data, "answer", 6);
	guest_send(f, VIRTIO_VSOCK_OP_SHUTDOWN, port, 52, BOTH, 0);
	guest_expect(f, VIRTIO_VSOCK_OP_RST, port, 52);
	wait_connections(f, 0);
	close(fd);
	/* the guest receives no more: the host's writes fail */
	fd = host_connected(f, &port);
	guest_send(f, VIRTIO_VSOCK_OP_SHUTDOWN, port, 52, VIRTIO_VSOCK_SHUTDOWN_RCV, 0);
	guest_data(f, port, 52, "still", 5);
	host_expect(fd, "still", 5);
	for (int i = 0; i < 10000 && send(fd, "x", 1, MSG_NOSIGNAL) == 1; i++)
		usleep(1000);
	assert_int_equal(send(fd, "x", 1, MSG_NOSIGNAL), -1);
	close(fd);
	close_fixture(f);
}

/* The host closes and the guest does not answer: it is reset in the end. */
static void test_guest_silent(void **state)
{
	struct fixture *f = open_fixture();
	uint32_t port;
	int fd = host_connected(f, &port);

	(void)state;
	close(fd);
	guest_expect(f, VIRTIO_VSOCK_OP_SHUTDOWN, port, 52);
	assert_int_equal(f->header.flags, BOTH);
	guest_expect(f, VIRTIO_VSOCK_OP_RST, port, 52);
	wait_connections(f, 0);
	close_fixture(f);
}

/* The guest sends more than the sockets hold and goes away; the host reads later, and all of it. */
static void test_guest_closes_early(void **state)
{
	static uint8_t block[OWN_BUFFER];
	struct fixture *f = open_fixture();
	uint32_t port, sent = 0, forwarded = 0;
	int fd = host_connected(f, &port);

	(void)state;
	for (size_t i = 0; i < sizeof block; i++)
		block[i] = (uint8_t)(i * 17 + i / 256);
	for (bool more = true; more;) {
		uint32_t before = forwarded;

		if (sent - forwarded == 0) {
			guest_data(f, port, 52, block, OWN_BUFFER);
			sent += OWN_BUFFER;
		}
		guest_send(f, VIRTIO_VSOCK_OP_CREDIT_REQUEST, port, 52, 0, 0);
		do
			assert_int_equal(guest_take(f), VIRTIO_VSOCK_OP_CREDIT_UPDATE);
		while (guest_has_packet(f));
		forwarded = f->header.fwd_cnt;
		more = forwarded != before;
	}
	assert_true(sent > forwarded);
	guest_send(f, VIRTIO_VSOCK_OP_SHUTDOWN, port, 52, BOTH, 0);
	guest_expect(f, VIRTIO_VSOCK_OP_RST, port, 52);
	assert_int_equal(vsock_counters(f->device)->added - vsock_counters(f->device)->removed, 1);
	for (uint32_t done = 0; done < sent; done += OWN_BUFFER)
		host_expect(fd, block, OWN_BUFFER);
	host_expect_end(fd);
	wait_connections(f, 0);
	close(fd);
	close_fixture(f);
}

static void test_many_connections(void **state)
{
	enum { COUNT = 1023 };
	struct fixture *f = open_fixture();
	static int fd[COUNT + 1];
	static uint32_t port[COUNT];
	char byte = 0;

	(void)state;
	for (unsigned i = 0; i < COUNT; i++)
		fd[i] = host_connected(f, &port[i]);
	assert_int_equal(vsock_counters(f->device)->added - vsock_counters(f->device)->removed, COUNT);
	fd[COUNT] = host_socket(f); /* accepted and closed */
	host_expect_end(fd[COUNT]);
	close(fd[COUNT]);
	guest_send(f, VIRTIO_VSOCK_OP_REQUEST, 9, 9, 0, 0);
	guest_expect(f, VIRTIO_VSOCK_OP_RST, 9, 9);
	assert_int_equal(vsock_counters(f->device)->connection_fails, 2);
	assert_int_equal(vsock_counters(f->device)->added, COUNT);
	for (unsigned i = 0; i < COUNT; i++) {
		byte = (char)i;
		guest_data(f, port[i], 52, &byte, 1);
	}
	for (unsigned i = 0; i < COUNT; i++) {
		byte = (char)i;
		host_expect(fd[i], &byte, 1);
		host_write(fd[i], &byte, 1);
		guest_expect(f, VIRTIO_VSOCK_OP_RW, port[i], 52);
		assert_int_equal(f->data[0], (uint8_t)i);
	}
	/* a place that becomes free is used again */
	close(fd[5]);
	guest_expect(f, VIRTIO_VSOCK_OP_SHUTDOWN, port[5], 52);
	guest_send(f, VIRTIO_VSOCK_OP_RST, port[5], 52, 0, 0);
	wait_connections(f, COUNT - 1);
	fd[5] = host_connected(f, &port[5]);
	for (unsigned i = 0; i < COUNT; i++)
		close(fd[i]);
	close_fixture(f);
}

static void test_reset(void **state)
{
	struct fixture *f = open_fixture();
	uint32_t port;

	(void)state;
	for (int i = 0; i < 3; i++) {
		int fd = host_connected(f, &port);

		assert_int_equal(port, FIRST_PORT);
		driver_write(&f->driver, 0x70, 0);
		host_expect_end(fd);
		close(fd);
		wait_connections(f, 0);
		begin(f);
	}
	close_fixture(f);
}

static void test_pause(void **state)
{
	struct fixture *f = open_fixture();
	uint32_t port;
	int fd = host_connected(f, &port);

	(void)state;
	virtio_pause(f->device);
	host_write(fd, "waits", 5);
	int other = host_socket(f);

	host_write(other, "CONNECT 53\n", 11);
	usleep(20000);
	assert_false(guest_has_packet(f));
	virtio_resume(f->device);
	for (int i = 0; i < 2; i++) /* in either order */
		if (guest_take(f) == VIRTIO_VSOCK_OP_RW)
			assert_memory_equal(f->data, "waits", 5);
		else
			assert_int_equal(f->header.dst_port, 53);
	close(other);
	close(fd);
	close_fixture(f);
}

static void test_lies(void **state)
{
	(void)state;
	for (int i = 0; i < 4; i++) {
		struct fixture *f = open_fixture();
		struct driver_buffer buffers[] = {{f->tx, HEADER, false}, {f->tx + 64, 10, true}};

		if (i == 0) { /* a packet to the host with a place to write to */
			driver_add(&f->driver, TX, buffers, 2, false);
			driver_kick(&f->driver, TX);
		} else if (i == 3) { /* an event's buffer that is to be read */
			virtio_pause(f->device);
			assert_int_equal(f->device->ops->restore(f->device, NULL, 0, NULL), 0);
			virtio_resume(f->device);
			driver_add(&f->driver, EVENT, buffers, 1, false);
			driver_kick(&f->driver, EVENT);
		} else { /* receive buffers: to be read; too small for a byte of data */
			driver_begin(&f->driver, UINT64_MAX, SIZE);
			struct driver_buffer buffer = {f->rx, i == 1 ? 4096 : HEADER, i == 2};

			driver_add(&f->driver, RX, &buffer, 1, false);
			driver_kick(&f->driver, RX);
			guest_send(f, VIRTIO_VSOCK_OP_REQUEST, 1, 1, 0, 0);
		}
		assert_true(driver_wait_status(&f->driver, VIRTIO_CONFIG_S_NEEDS_RESET));
		assert_int_equal(vsock_counters(f->device)->tx_queue_fails, i == 0);
		assert_int_equal(vsock_counters(f->device)->rx_queue_fails, i == 1 || i == 2);
		assert_int_equal(vsock_counters(f->device)->event_queue_fails, i == 3);
		begin(f);
		guest_send(f, VIRTIO_VSOCK_OP_REQUEST, 1, 1, 0, 0);
		guest_expect(f, VIRTIO_VSOCK_OP_RST, 1, 1);
		close_fixture(f);
	}
}

/* No receive buffers for long: everything waits, and comes in order. */
static void test_no_buffers(void **state)
{
	struct fixture *f = open_fixture();
	uint32_t port, id, written;
	int fd = host_connected(f, &port);
	unsigned total = 0;
	uint8_t text[200];

	(void)state;
	driver_write(&f->driver, 0x70, 0);
	close(fd);
	wait_connections(f, 0);
	driver_begin(&f->driver, UINT64_MAX, SIZE);
	fd = host_socket(f);
	host_write(fd, "CONNECT 52\n", 11);
	for (int i = 0; i < 2; i++) { /* two buffers of 100 bytes at a time */
		struct driver_buffer buffer = {f->rx + (unsigned)i * 128, 100, true};

		driver_add(&f->driver, RX, &buffer, 1, false);
	}
	driver_kick(&f->driver, RX);
	assert_true(driver_used(&f->driver, RX, &id, &written));
	memcpy(&f->header, driver_at(&f->driver, f->rx), HEADER);
	port = f->header.src_port;
	struct driver_buffer first = {f->rx, 100, true};

	driver_add(&f->driver, RX, &first, 1, false);
	driver_kick(&f->driver, RX);
	guest_send(f, VIRTIO_VSOCK_OP_RESPONSE, port, 52, 0, 0);
	for (size_t i = 0; i < sizeof text; i++)
		text[i] = (uint8_t)i;
	host_write(fd, text, sizeof text);
	for (unsigned next = 1; total < sizeof text; next++) {
		assert_true(driver_used(&f->driver, RX, &id, &written));
		const uint8_t *at = driver_at(&f->driver, f->rx + (next % 2) * 128);

		assert_memory_equal(at + HEADER, text + total, written - HEADER);
		total += written - HEADER;
		struct driver_buffer buffer = {f->rx + (next % 2) * 128, 100, true};

		driver_add(&f->driver, RX, &buffer, 1, false);
		driver_kick(&f->driver, RX);
	}
	assert_int_equal(total, sizeof text);
	close(fd);
	close_fixture(f);
}

/* After a snapshot was loaded the guest's connections are no more, of which the event queue tells. */
static void test_transport_reset(void **state)
{
	struct fixture *f = open_fixture();
	struct driver_buffer buffer = {driver_take(&f->driver, 64, 16), 16, true};

	(void)state;
	virtio_pause(f->device);
	assert_int_equal(f->device->ops->restore(f->device, NULL, 0, NULL), 0);
	virtio_resume(f->device);
	memset(driver_at(&f->driver, buffer.address), 0xff, 16);
	driver_add(&f->driver, EVENT, &buffer, 1, false);
	driver_kick(&f->driver, EVENT);
	uint32_t id, written;

	assert_true(driver_used(&f->driver, EVENT, &id, &written));
	assert_int_equal(written, 4);
	assert_memory_equal(driver_at(&f->driver, buffer.address), "\0\0\0\0\377", 5);
	close_fixture(f);
}

/* What is counted of packets, connections, and failures of the host's side. */
static void test_counts(void **state)
{
	static uint8_t block[OWN_BUFFER];
	struct fixture *f = open_fixture();
	struct vsock_counters counts = {.tx_queue_events = 4, /* with that of the start */
					.to_guest_packets = 2,
					.to_guest_bytes = 12,
					.to_host_packets = 3,
					.to_host_bytes = 11,
					.added = 1,
					.removed = 1};
	uint32_t port, forwarded;
	int fd = host_connected(f, &port);

	(void)state;
	guest_data(f, port, 52, "to the host", 11);
	host_expect(fd, "to the host", 11);
	host_write(fd, "to the guest", 12);
	guest_expect(f, VIRTIO_VSOCK_OP_RW, port, 52);
	guest_send(f, VIRTIO_VSOCK_OP_RST, port, 52, 0, 0);
	host_expect_end(fd);
	close(fd);
	expect_counts(f, counts);
	/* no request of the host's */
	fd = host_socket(f);
	host_write(fd, "\n", 1);
	host_expect_end(fd);
	close(fd);
	counts.added = counts.removed = 2;
	counts.connection_fails = 1;
	expect_counts(f, counts);
	/* nobody listens */
	guest_send(f, VIRTIO_VSOCK_OP_REQUEST, 1235, 1, 0, 0);
	guest_expect(f, VIRTIO_VSOCK_OP_RST, 1235, 1);
	counts.added = counts.removed = 3;
	counts.connection_fails = 2;
	counts.killed = 1;
	counts.tx_queue_events++;
	counts.to_guest_packets++;
	counts.to_host_packets++;
	expect_counts(f, counts);
	/* the host closes with data unread */
	fd = host_connected(f, &port);
	guest_data(f, port, 52, "x", 1);
	close(fd);
	guest_expect(f, VIRTIO_VSOCK_OP_RST, port, 52);
	wait_connections(f, 0);
	assert_int_equal(vsock_counters(f->device)->read_fails, 1);
	assert_int_equal(vsock_counters(f->device)->killed, 2);
	/* and with more of it on the way */
	fd = host_connected(f, &port);
	fill(f, port, block, &forwarded);
	close(fd);
	while (guest_take(f) != VIRTIO_VSOCK_OP_RST)
		;
	wait_connections(f, 0);
	assert_int_equal(vsock_counters(f->device)->flush_fails, 1);
	assert_int_equal(vsock_counters(f->device)->write_fails, 1);
	close_fixture(f);
}

/* The host reads no more but still writes: the guest is told once, and what it sends is gone. */
static void test_host_reads_no_more(void **state)
{
	struct fixture *f = open_fixture();
	uint32_t port;
	int fd = host_connected(f, &port);

	(void)state;
	shutdown(fd, SHUT_RD);
	guest_data(f, port, 52, "lost", 4);
	guest_expect(f, VIRTIO_VSOCK_OP_SHUTDOWN, port, 52);
	assert_int_equal(f->header.flags, VIRTIO_VSOCK_SHUTDOWN_RCV);
	assert_int_equal(f->header.fwd_cnt, 4);
	assert_int_equal(vsock_counters(f->device)->write_fails, 1);
	guest_data(f, port, 52, "lost too", 8);
	host_write(fd, "heard", 5);
	guest_expect(f, VIRTIO_VSOCK_OP_RW, port, 52);
	assert_memory_equal(f->data, "heard", 5);
	assert_int_equal(f->header.fwd_cnt, 12);
	assert_int_equal(vsock_counters(f->device)->write_fails, 1);
	close(fd);
	close_fixture(f);
}

/* The guest learns that half of the buffer is free again, without asking, and not before. */
static void test_credit_is_told(void **state)
{
	static uint8_t block[OWN_BUFFER];
	struct fixture *f = open_fixture();
	uint32_t port;
	int fd = host_connected(f, &port);

	(void)state;
	for (uint32_t i = 1; i <= 2; i++) {
		guest_data(f, port, 52, block, OWN_BUFFER / 2 - 1);
		assert_false(guest_has_packet(f));
		guest_data(f, port, 52, block, 1);
		guest_expect(f, VIRTIO_VSOCK_OP_CREDIT_UPDATE, port, 52);
		assert_int_equal(f->header.fwd_cnt, i * OWN_BUFFER / 2);
		assert_false(guest_has_packet(f));
		host_expect(fd, block, OWN_BUFFER / 2);
	}
	close(fd);
	close_fixture(f);
}

/* Answers for which the guest has no buffers wait, as many as there is room for, and come in order. */
static void test_waiting_resets(void **state)
{
	struct fixture *f = open_fixture();

	(void)state;
	for (unsigned round = 0; round < 2; round++) {
		const unsigned most = round ? VSOCK_RESETS_MAX : 3;

		driver_begin(&f->driver, UINT64_MAX, SIZE);
		for (unsigned i = 0; i < most + 2 * round; i++)
			guest_send(f, VIRTIO_VSOCK_OP_RESPONSE, 1, 1000 + i, 0, 0);
		add_buffers(f);
		for (unsigned i = 0; i < most; i++)
			guest_expect(f, VIRTIO_VSOCK_OP_RST, 1, 1000 + i);
		guest_send(f, VIRTIO_VSOCK_OP_RESPONSE, 2, 2, 0, 0);
		guest_expect(f, VIRTIO_VSOCK_OP_RST, 2, 2);
		assert_false(guest_has_packet(f));
	}
	close_fixture(f);
}

/* No packet is longer than 64 KiB, however much room a buffer has. */
static void test_longest_packet(void **state)
{
	enum { PARTS = 20 };
	static uint8_t block[PARTS * BUFFER];
	struct fixture *f = open_fixture();
	struct driver_buffer buffers[PARTS];
	uint32_t port, id, written;

	(void)state;
	f->alloc = sizeof block;
	driver_begin(&f->driver, UINT64_MAX, SIZE);
	struct driver_buffer small = {f->rx + PARTS * BUFFER, BUFFER, true};

	driver_add(&f->driver, RX, &small, 1, false);
	for (unsigned i = 0; i < PARTS; i++)
		buffers[i] = (struct driver_buffer){f->rx + i * BUFFER, BUFFER, true};
	int fd = host_socket(f);

	host_write(fd, "CONNECT 52\n", 11);
	driver_kick(&f->driver, RX);
	assert_true(driver_used(&f->driver, RX, &id, &written));
	memcpy(&f->header, driver_at(&f->driver, small.address), HEADER);
	port = f->header.src_port;
	guest_send(f, VIRTIO_VSOCK_OP_RESPONSE, port, 52, 0, 0);
	for (size_t i = 0; i < sizeof block; i++)
		block[i] = (uint8_t)(i * 31 + i / 256);
	host_write(fd, block, sizeof block);
	driver_add(&f->driver, RX, buffers, PARTS, false);
	driver_kick(&f->driver, RX);
	assert_true(driver_used(&f->driver, RX, &id, &written));
	assert_int_equal(written, HEADER + (64 << 10));
	assert_memory_equal(driver_at(&f->driver, f->rx + HEADER), block, 64 << 10);
	close(fd);
	close_fixture(f);
}

/* Host ports go round, without those in use. */
static void test_ports_go_round(void **state)
{
	static const uint32_t expected[] = {(1u << 31) - 2, (1u << 31) - 1, FIRST_PORT + 1};
	struct fixture *f = open_fixture();
	uint32_t port;
	int first = host_connected(f, &port), fd[3];

	(void)state;
	assert_int_equal(port, FIRST_PORT);
	((struct vsock *)f->device)->next_port = expected[0];
	for (unsigned i = 0; i < 3; i++) {
		fd[i] = host_connected(f, &port);
		assert_int_equal(port, expected[i]);
	}
	for (unsigned i = 0; i < 3; i++)
		close(fd[i]);
	close(first);
	close_fixture(f);
}

/* Several streams at once, each way, in pieces of any size, under the peer's credit. */
struct stream {
	int fd;
	uint32_t port;
	uint64_t to_guest, to_host, from_guest, from_host; /* written by the host; by the guest; read by ... */
	uint32_t forwarded;                                /* of what the guest sent, by the device */
	uint32_t taken;                                    /* of what the host sent, by the guest, as told */
};

static uint8_t byte_of(uint64_t at, unsigned stream)
{
	return (uint8_t)(at * 2654435761u >> 11 ^ at ^ stream * 37);
}

static void test_bulk(void **state)
{
	enum { STREAMS = 5 };
	const uint64_t total = 1 << 20;
	static uint8_t block[20000];
	struct fixture *f = open_fixture();
	struct stream stream[STREAMS] = {0};
	unsigned seed = (unsigned)time(NULL);
	bool busy = true;

	(void)state;
	printf("seed %u\n", seed);
	f->alloc = 10000;
	for (unsigned i = 0; i < STREAMS; i++) {
		stream[i].fd = host_connected(f, &stream[i].port);
		fcntl(stream[i].fd, F_SETFL, O_NONBLOCK);
	}
	while (busy) {
		busy = false;
		for (unsigned i = 0; i < STREAMS; i++) {
			struct stream *s = &stream[i];
			size_t want = (size_t)rand_r(&seed) % sizeof block + 1;
			uint64_t room = 65536 - (s->to_host - s->forwarded);

			if (want > total - s->to_guest)
				want = total - s->to_guest;
			for (size_t j = 0; j < want; j++)
				block[j] = byte_of(s->to_guest + j, i);
			ssize_t n = write(s->fd, block, want);

			s->to_guest += n > 0 ? (uint64_t)n : 0;
			want = (size_t)rand_r(&seed) % sizeof block + 1;
			want = want > room ? room : want;
			want = want > total - s->to_host ? total - s->to_host : want;
			for (size_t j = 0; j < want; j++)
				block[j] = byte_of(s->to_host + j, i + 100);
			if (want)
				send_as(f, CID, 2, STREAM, VIRTIO_VSOCK_OP_RW, s->port, 52, 0, s->taken, block,
					(uint32_t)want);
			s->to_host += want;
			if (rand_r(&seed) % 3) {
				n = read(s->fd, block, (size_t)rand_r(&seed) % sizeof block + 1);
				for (ssize_t j = 0; j < n; j++)
					assert_int_equal(block[j], byte_of(s->from_host + (uint64_t)j, i + 100));
				s->from_host += n > 0 ? (uint64_t)n : 0;
			}
			busy = busy || s->from_guest < total || s->from_host < total;
		}
		for (int packets = 0; packets < 20 && guest_has_packet(f); packets++) {
			unsigned op = guest_take(f), i = 0;

			while (i < STREAMS && stream[i].port != f->header.src_port)
				i++;
			assert_true(i < STREAMS);
			struct stream *s = &stream[i];

			s->forwarded = f->header.fwd_cnt;
			if (op == VIRTIO_VSOCK_OP_RW) {
				for (uint32_t j = 0; j < f->header.len; j++)
					assert_int_equal(f->data[j], byte_of(s->from_guest + j, i));
				s->from_guest += f->header.len;
				assert_true(s->from_guest - s->taken <= f->alloc);
			} else if (op == VIRTIO_VSOCK_OP_CREDIT_REQUEST) {
				s->taken = (uint32_t)s->from_guest;
				guest_send(f, VIRTIO_VSOCK_OP_CREDIT_UPDATE, s->port, 52, 0, s->taken);
			} else {
				assert_int_equal(op, VIRTIO_VSOCK_OP_CREDIT_UPDATE);
			}
		}
		for (unsigned i = 0; i < STREAMS; i++)
			if (stream[i].to_host - stream[i].forwarded > 60000 && stream[i].from_host == stream[i].to_host)
				guest_send(f, VIRTIO_VSOCK_OP_CREDIT_REQUEST, stream[i].port, 52, 0, stream[i].taken);
	}
	for (unsigned i = 0; i < STREAMS; i++)
		close(stream[i].fd);
	close_fixture(f);
}

/* Room for a descriptor for each connection, as far as the process may have it; never less than it had. */
#define DESCRIPTORS (1023u + 1024u) /* of the process: connections, and 1024 others */

static void limit_of_descriptors_is_raised(void **state)
{
	struct rlimit before, now;

	(void)state;
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
	const rlim_t most = before.rlim_max < DESCRIPTORS ? before.rlim_max : DESCRIPTORS;
	const rlim_t rows[][2] = {{256, most}, {most, most}, {most - 1, most}, {before.rlim_max, before.rlim_max}};

	for (unsigned i = 0; i < 4; i++) {
		now = (struct rlimit){.rlim_cur = rows[i][0], .rlim_max = before.rlim_max};
		assert_int_equal(setrlimit(RLIMIT_NOFILE, &now), 0);
		close_fixture(open_fixture());
		assert_int_equal(getrlimit(RLIMIT_NOFILE, &now), 0);
		assert_int_equal(now.rlim_cur, rows[i][1]);
		assert_int_equal(now.rlim_max, before.rlim_max);
	}
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(limit_of_descriptors_is_raised),
	    cmocka_unit_test(test_config),
	    cmocka_unit_test(test_refused),
	    cmocka_unit_test(test_stale_socket),
	    cmocka_unit_test(test_given_listener),
	    cmocka_unit_test(test_no_descriptors),
	    cmocka_unit_test(test_host_connects),
	    cmocka_unit_test(test_connect_lines),
	    cmocka_unit_test(test_guest_refuses),
	    cmocka_unit_test(test_guest_connects),
	    cmocka_unit_test(test_listener_busy),
	    cmocka_unit_test(test_strange_packets),
	    cmocka_unit_test(test_guest_credit),
	    cmocka_unit_test(test_host_credit),
	    cmocka_unit_test(test_credit_broken),
	    cmocka_unit_test(test_host_half_close),
	    cmocka_unit_test(test_guest_half_close),
	    cmocka_unit_test(test_guest_silent),
	    cmocka_unit_test(test_guest_closes_early),
	    cmocka_unit_test(test_many_connections),
	    cmocka_unit_test(test_reset),
	    cmocka_unit_test(test_pause),
	    cmocka_unit_test(test_lies),
	    cmocka_unit_test(test_no_buffers),
	    cmocka_unit_test(test_transport_reset),
	    cmocka_unit_test(test_counts),
	    cmocka_unit_test(test_host_reads_no_more),
	    cmocka_unit_test(test_credit_is_told),
	    cmocka_unit_test(test_waiting_resets),
	    cmocka_unit_test(test_longest_packet),
	    cmocka_unit_test(test_ports_go_round),
	    cmocka_unit_test(test_bulk),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
