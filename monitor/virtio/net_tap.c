/* SPDX-License-Identifier: Apache-2.0 */
/* A tap of the host: a frame a call, straight between the guest's buffers and the host's kernel. */
#include <errno.h>
#include <fcntl.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <linux/virtio_net.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "common/fail.h"
#include "monitor/virtio/device.h"
#include "monitor/virtio/net_backend.h"

/* How many frames that the kernel could not hand over are passed over in a call. */
#define BAD_FRAMES 16

struct tap {
	struct net_backend backend;
	bool is_tap;
};

static void set_features(struct net_backend *backend, uint64_t features)
{
	static const struct {
		unsigned feature;
		unsigned long offload;
	} map[] = {
	    {VIRTIO_NET_F_GUEST_TSO4, TUN_F_TSO4},
	    {VIRTIO_NET_F_GUEST_TSO6, TUN_F_TSO6},
	    {VIRTIO_NET_F_GUEST_UFO, TUN_F_UFO},
	};
	unsigned long offloads = 0;

	if (!((const struct tap *)backend)->is_tap)
		return;
	if (features & VIRTIO_FEATURE(VIRTIO_NET_F_GUEST_CSUM)) {
		offloads = TUN_F_CSUM;
		for (size_t i = 0; i < sizeof map / sizeof *map; i++)
			if (features & VIRTIO_FEATURE(map[i].feature))
				offloads |= map[i].offload;
	}
	ioctl(backend->fd, TUNSETOFFLOAD, offloads); /* all of them were tried when the tap was opened */
}

static enum net_sent send_frame(struct net_backend *backend, const struct iovec *frame, unsigned count, size_t bytes)
{
	ssize_t sent;

	(void)bytes;
	do
		/* a small frame is one buffer, which the kernel takes faster than a list of one */
		sent = count == 1 ? write(backend->fd, frame->iov_base, frame->iov_len)
				  : writev(backend->fd, frame, (int)count);
	while (sent < 0 && errno == EINTR);
	if (sent >= 0)
		return NET_SENT;
	return errno == EAGAIN ? NET_FULL : NET_DROPPED; /* interface down, a header that makes no sense, no memory */
}

static bool flush(struct net_backend *backend, unsigned *untaken)
{
	(void)backend;
	*untaken = 0;
	return true;
}

static void forget(struct net_backend *backend)
{
	(void)backend; /* nothing is collected */
}

static ssize_t receive(struct net_backend *backend, const struct iovec *frame, unsigned count)
{
	for (int bad = 0; bad < BAD_FRAMES; bad++) {
		ssize_t got = readv(backend->fd, frame, (int)count);

		if (got > 0)
			return got;
		if (got == 0)
			return -1; /* of a tap never: the other end of a pair */
		switch (errno) {
		case EAGAIN:
			return 0;
		case EINTR:
		case EINVAL: /* a frame that its header cannot describe; the kernel dropped it */
		case ENOMEM:
		case ENOBUFS:
			continue;
		default: /* EBADFD: the interface was deleted */
			return -1;
		}
	}
	return 0;
}

static void destroy(struct net_backend *backend)
{
	close(backend->fd);
	free(backend);
}

static const struct net_backend_ops tap_ops = {
    .set_features = set_features,
    .send = send_frame,
    .flush = flush,
    .forget = forget,
    .receive = receive,
    .destroy = destroy,
};

int net_packets_adopt(struct net_backend **backend, int fd, struct riffle_error *error)
{
	struct tap *tap = calloc(1, sizeof *tap);

	if (!tap) {
		close(fd);
		return riffle_fail(error, RIFFLE_ERR_MEMORY, "net", "cannot be allocated");
	}
	tap->backend = (struct net_backend){.ops = &tap_ops, .fd = fd, .is_level = true};
	*backend = &tap->backend;
	return 0;
}

/* Header size and offloads; kernels that fragment UDP for a guest (UFO) and those that do not both exist. */
static int set_up(int fd, uint64_t *features, struct riffle_error *error)
{
	const unsigned long offloads = TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6;
	int header = NET_HEADER_BYTES;

	if (ioctl(fd, TUNSETVNETHDRSZ, &header) < 0)
		return riffle_fail_system(error, errno, "TUNSETVNETHDRSZ", "failed");
	*features = VIRTIO_FEATURE(VIRTIO_NET_F_CSUM) | VIRTIO_FEATURE(VIRTIO_NET_F_HOST_TSO4) |
		    VIRTIO_FEATURE(VIRTIO_NET_F_HOST_TSO6);
	if (ioctl(fd, TUNSETOFFLOAD, offloads) == 0)
		*features |= VIRTIO_FEATURE(VIRTIO_NET_F_GUEST_CSUM) | VIRTIO_FEATURE(VIRTIO_NET_F_GUEST_TSO4) |
			     VIRTIO_FEATURE(VIRTIO_NET_F_GUEST_TSO6);
	if (ioctl(fd, TUNSETOFFLOAD, offloads | TUN_F_UFO) == 0)
		*features |= VIRTIO_FEATURE(VIRTIO_NET_F_GUEST_UFO) | VIRTIO_FEATURE(VIRTIO_NET_F_HOST_UFO);
	ioctl(fd, TUNSETOFFLOAD, 0ul);
	return 0;
}

static int make(struct net_backend **backend, int fd, struct riffle_error *error)
{
	uint64_t features;
	int status = set_up(fd, &features, error);

	if (status) {
		close(fd);
		return status;
	}
	status = net_packets_adopt(backend, fd, error);
	if (status)
		return status;
	((struct tap *)*backend)->is_tap = true;
	(*backend)->features = features;
	return 0;
}

static bool is_name(const char *name)
{
	size_t length = strlen(name);

	/* the kernel's rule; and it would number a name with % in it */
	return length > 0 && length < IFNAMSIZ && !strpbrk(name, "/:% \t\n") && strcmp(name, ".") != 0 &&
	       strcmp(name, "..") != 0;
}

int net_tap_descriptor(int *descriptor, const char *name, struct riffle_error *error)
{
	struct ifreq request = {.ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR};

	if (!is_name(name))
		return riffle_fail(error, RIFFLE_ERR_ARGUMENT, "tap", "is not the name of a network interface");
	strcpy(request.ifr_name, name);
	int fd = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);

	if (fd < 0)
		return riffle_fail_system(error, errno, "/dev/net/tun", "cannot be opened");
	int result = ioctl(fd, TUNSETIFF, &request);

	if (result < 0 && errno == EINVAL) { /* made with several queues, of which one will do */
		request.ifr_flags |= IFF_MULTI_QUEUE;
		result = ioctl(fd, TUNSETIFF, &request);
	}
	if (result < 0) {
		const char *problem = errno == EBUSY   ? "is in use, or is no tap"
				      : errno == EPERM ? "cannot be used or made by this user"
						       : "cannot be opened";

		result = riffle_fail_system(error, errno, "tap", problem);
		close(fd);
		return result;
	}
	*descriptor = fd;
	return 0;
}

int net_tap_open(struct net_backend **backend, const char *name, struct riffle_error *error)
{
	int fd, status = net_tap_descriptor(&fd, name, error);

	return status ? status : make(backend, fd, error);
}

int net_tap_adopt(struct net_backend **backend, int fd, struct riffle_error *error)
{
	struct ifreq request = {0};
	int flags, status = 0, own = fcntl(fd, F_DUPFD_CLOEXEC, 3);

	/* the caller's stays as it is: it may be no tap at all */
	if (own < 0)
		return riffle_fail_system(error, errno, "fd", "cannot be used");
	fd = own;

	if (ioctl(fd, TUNGETIFF, &request) < 0)
		status = riffle_fail_full(error, RIFFLE_ERR_ARGUMENT, errno, "fd", "is no tap", 1, (uint64_t)fd, 0, 0);
	else if ((request.ifr_flags & (IFF_TAP | IFF_NO_PI | IFF_VNET_HDR)) != (IFF_TAP | IFF_NO_PI | IFF_VNET_HDR))
		status = riffle_fail_expected(error, RIFFLE_ERR_ARGUMENT, "fd",
					      "is not a tap with IFF_TAP, IFF_NO_PI and IFF_VNET_HDR",
					      (uint16_t)request.ifr_flags, IFF_TAP | IFF_NO_PI | IFF_VNET_HDR);
	else if ((flags = fcntl(fd, F_GETFL)) < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0 ||
		 fcntl(fd, F_SETFD, FD_CLOEXEC) < 0)
		status = riffle_fail_system(error, errno, "fcntl", "failed");
	if (status) {
		close(fd);
		return status;
	}
	return make(backend, fd, error);
}
