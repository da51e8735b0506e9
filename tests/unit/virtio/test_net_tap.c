/* SPDX-License-Identifier: Apache-2.0 */
/* Taps by the calls that the kernel gets, against one of the test's own. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <errno.h>
#include <fcntl.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <linux/virtio_net.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <unistd.h>

#include <cmocka.h>

#include "monitor/virtio/net.h"

#define BIT(name) (UINT64_C(1) << VIRTIO_NET_F_##name)
#define BAD_FRAMES 16 /* that are passed over at a time */

static struct {
	unsigned long failing, refused_offloads, offloads;
	int header, flags, multi_queue, reads;
	int read_errno[64];
} tap;

/* In place of the C library's. */
int ioctl(int fd, unsigned long request, ...)
{
	va_list list;

	va_start(list, request);
	void *data = va_arg(list, void *);

	va_end(list);
	assert_true(fcntl(fd, F_GETFD) >= 0);
	if (request == tap.failing) {
		errno = EPERM;
		return -1;
	}
	struct ifreq *interface = data;

	switch (request) {
	case TUNSETVNETHDRSZ:
		tap.header = *(int *)data;
		return 0;
	case TUNSETOFFLOAD:
		if ((unsigned long)(uintptr_t)data & tap.refused_offloads) {
			errno = EINVAL;
			return -1;
		}
		tap.offloads = (unsigned long)(uintptr_t)data;
		return 0;
	case TUNGETIFF:
		interface->ifr_flags = (short)tap.flags;
		return 0;
	}
	fail_msg("request 0x%lx", request);
	return -1;
}

/* One result after another; then a frame. */
ssize_t readv(int fd, const struct iovec *buffers, int count)
{
	(void)fd;
	(void)buffers;
	errno = tap.reads < 64 ? tap.read_errno[tap.reads] : 0;
	tap.reads++;
	return errno == -1 ? 0 : errno ? -1 : count * 100;
}

static int set_up(void **state)
{
	(void)state;
	memset(&tap, 0, sizeof tap);
	tap.flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR;
	return 0;
}

/* What the device may offer follows from what the tap can; afterwards nothing is switched on until the driver asks. */
static void features_of_a_tap(void **state)
{
	static const struct {
		unsigned long refused;
		uint64_t features;
	} rows[] = {
	    {0, BIT(CSUM) | BIT(HOST_TSO4) | BIT(HOST_TSO6) | BIT(GUEST_CSUM) | BIT(GUEST_TSO4) | BIT(GUEST_TSO6) |
		    BIT(GUEST_UFO) | BIT(HOST_UFO)},
	    {TUN_F_UFO,
	     BIT(CSUM) | BIT(HOST_TSO4) | BIT(HOST_TSO6) | BIT(GUEST_CSUM) | BIT(GUEST_TSO4) | BIT(GUEST_TSO6)},
	    {TUN_F_TSO6, BIT(CSUM) | BIT(HOST_TSO4) | BIT(HOST_TSO6)},
	};
	static const struct {
		uint64_t features;
		unsigned long offloads;
	} accepted[] = {
	    {0, 0},
	    {BIT(GUEST_CSUM), TUN_F_CSUM},
	    {BIT(GUEST_TSO4), 0}, /* nothing without checksums */
	    {BIT(GUEST_CSUM) | BIT(GUEST_TSO4), TUN_F_CSUM | TUN_F_TSO4},
	    {BIT(GUEST_CSUM) | BIT(GUEST_TSO6), TUN_F_CSUM | TUN_F_TSO6},
	    {BIT(GUEST_CSUM) | BIT(GUEST_UFO), TUN_F_CSUM | TUN_F_UFO},
	};

	(void)state;
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		struct net_backend *backend;
		int fd = memfd_create("tap", 0);

		set_up(NULL);
		tap.refused_offloads = rows[i].refused;
		assert_int_equal(net_tap_adopt(&backend, fd, NULL), 0);
		assert_int_equal(backend->features, rows[i].features);
		assert_int_equal(tap.header, 12);
		assert_int_equal(tap.offloads, 0);
		assert_int_not_equal(backend->fd, fd);
		assert_true(fcntl(backend->fd, F_GETFD) & FD_CLOEXEC);
		assert_true(fcntl(backend->fd, F_GETFL) & O_NONBLOCK);
		tap.refused_offloads = 0;
		for (size_t j = 0; j < sizeof accepted / sizeof *accepted; j++) {
			tap.offloads = 99;
			backend->ops->set_features(backend, accepted[j].features);
			assert_int_equal(tap.offloads, accepted[j].offloads);
		}
		int own = backend->fd;

		net_backend_destroy(backend);
		assert_int_equal(fcntl(own, F_GETFD), -1);
		close(fd);
	}
}

/* What is no tap, or one of another kind, is refused and stays its owner's. */
static void descriptors_that_are_no_taps(void **state)
{
	static const int flags[] = {IFF_TAP | IFF_NO_PI, IFF_TAP | IFF_VNET_HDR, IFF_NO_PI | IFF_VNET_HDR, 0};
	struct net_backend *backend;
	struct riffle_error error;
	int fd = memfd_create("tap", 0);

	(void)state;
	for (unsigned i = 0; i < 4; i++) {
		tap.flags = flags[i];
		assert_int_equal(net_tap_adopt(&backend, fd, &error), RIFFLE_ERR_ARGUMENT);
		assert_int_equal(error.found, flags[i]);
		assert_int_equal(error.expected, IFF_TAP | IFF_NO_PI | IFF_VNET_HDR);
	}
	set_up(NULL);
	tap.failing = TUNGETIFF;
	assert_int_equal(net_tap_adopt(&backend, fd, &error), RIFFLE_ERR_ARGUMENT);
	assert_int_equal(error.sys_errno, EPERM);
	tap.failing = TUNSETVNETHDRSZ;
	assert_int_not_equal(net_tap_adopt(&backend, fd, &error), 0);
	assert_string_equal(error.field, "TUNSETVNETHDRSZ");
	assert_int_not_equal(net_tap_adopt(&backend, 9999, &error), 0);
	int next = dup(fd);

	assert_int_equal(next, fd + 1); /* none of them left a descriptor open */
	close(next);
	assert_int_equal(close(fd), 0);
}

/* Frames that the kernel dropped are passed over, so many at a time; an interface that is gone ends it. */
static void results_of_reads(void **state)
{
	static const struct {
		int first, times;
		ssize_t got;
		int reads;
	} rows[] = {{0, 0, 200, 1},      {EAGAIN, 1, 0, 1},    {-1, 1, -1, 1},
		    {EBADFD, 1, -1, 1},  {EINVAL, 1, 200, 2},  {EINTR, 3, 200, 4},
		    {ENOMEM, 2, 200, 3}, {ENOBUFS, 2, 200, 3}, {EINVAL, 64, 0, BAD_FRAMES}};
	struct net_backend *backend;
	struct iovec buffers[2] = {{NULL, 0}, {NULL, 0}};

	(void)state;
	assert_int_equal(net_packets_adopt(&backend, memfd_create("packets", 0), NULL), 0);
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		set_up(NULL);
		for (int j = 0; j < rows[i].times; j++)
			tap.read_errno[j] = rows[i].first;
		assert_int_equal(backend->ops->receive(backend, buffers, 2), rows[i].got);
		assert_int_equal(tap.reads, rows[i].reads);
	}
	backend->ops->set_features(backend, UINT64_MAX); /* no tap: nothing is asked of it */
	assert_int_equal(tap.offloads, 0);
	unsigned untaken = 7;

	assert_true(backend->ops->flush(backend, &untaken));
	assert_int_equal(untaken, 0);
	net_backend_destroy(backend);
}

/* The kernel's rule for names, before anything is opened. */
static void names_of_interfaces(void **state)
{
	static const char *const bad[] = {"",      ".",   "..",   "a/b", "a:b",
					  "tap%d", "a b", "a\tb", "a\n", "sixteen-letters-"};
	struct riffle_error error;
	int fd = -1;

	(void)state;
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		assert_int_equal(net_tap_descriptor(&fd, bad[i], &error), RIFFLE_ERR_ARGUMENT);
		assert_string_equal(error.field, "tap");
	}
	/* these are names; whether the host lets one have them is another matter */
	static const char *const good[] = {"a", "...", ".a", "fifteen-letters"};

	tap.failing = TUNSETIFF;
	for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
		assert_int_not_equal(net_tap_descriptor(&fd, good[i], &error), 0);
		assert_int_not_equal(error.status, RIFFLE_ERR_ARGUMENT);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test_setup(features_of_a_tap, set_up),
	    cmocka_unit_test_setup(descriptors_that_are_no_taps, set_up),
	    cmocka_unit_test_setup(results_of_reads, set_up),
	    cmocka_unit_test_setup(names_of_interfaces, set_up),
	};

	return cmocka_run_group_tests_name("taps", tests, NULL, NULL);
}
