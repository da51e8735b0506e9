/* SPDX-License-Identifier: Apache-2.0 */
/* Frames over a stream socket, each preceded by its length, as passt speaks: many of them a call both ways. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/virtio_net.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/bytes.h"
#include "common/fail.h"
#include "monitor/virtio/device.h"
#include "monitor/virtio/net_backend.h"

enum {
	LENGTH_BYTES = 4,
	FRAME_MIN = 14, /* an Ethernet header */
	FRAME_MAX = NET_FRAME_MAX - NET_HEADER_BYTES,
	RECEIVE_BYTES = 128 << 10, /* at least one frame; more of them: fewer calls */
	BATCH_FRAMES = 64,
	/*
	 * More than one frame only if a reader sees all of them at once: Linux passes up to 48,800 bytes of a call as
	 * one piece. passt (2023) reads the rest of a frame with one call and loses track of frames if that returns
	 * less, so no frame may be in more than two pieces.
	 */
	BATCH_BYTES = 48000,
	BATCH_BUFFERS = 1024, /* a call's limit (IOV_MAX) */
	MTU = 65520,          /* the largest that passt knows; large frames take the place of segmentation offload */
};

struct stream {
	struct net_backend backend;
	bool data_valid; /* the guest need not look at checksums: what a socket of the host received is right */
	/* received: [start, end) of `input` */
	size_t start, end;
	bool drained; /* the last call took all there was */
	/* collected to be sent */
	unsigned frames, buffers;
	size_t bytes;
	uint32_t length[BATCH_FRAMES];    /* big-endian */
	size_t frame_bytes[BATCH_FRAMES]; /* with the length */
	struct iovec buffer[BATCH_BUFFERS];
	/* what is left of a frame that the socket took a part of */
	size_t rest_start, rest_end;
	uint8_t rest[LENGTH_BYTES + FRAME_MAX];
	uint8_t input[RECEIVE_BYTES];
};

static void set_features(struct net_backend *backend, uint64_t features)
{
	((struct stream *)backend)->data_valid = features & VIRTIO_FEATURE(VIRTIO_NET_F_GUEST_CSUM);
}

/* ---- to the network ---- */

/* True when nothing is left of it. An error means that the other end is gone, which receive() will find out. */
static bool send_rest(struct stream *stream)
{
	while (stream->rest_start < stream->rest_end) {
		ssize_t sent = send(stream->backend.fd, stream->rest + stream->rest_start,
				    stream->rest_end - stream->rest_start, MSG_NOSIGNAL | MSG_DONTWAIT);

		if (sent < 0 && errno == EINTR)
			continue;
		if (sent < 0 && errno == EAGAIN)
			return false;
		if (sent < 0)
			break;
		stream->rest_start += (size_t)sent;
	}
	stream->rest_start = stream->rest_end = 0;
	return true;
}

static enum net_sent collect(struct net_backend *backend, const struct iovec *frame, unsigned count, size_t bytes)
{
	struct stream *stream = (struct stream *)backend;
	unsigned n = stream->frames;
	size_t length = bytes - NET_HEADER_BYTES;

	if (length > FRAME_MAX)
		return NET_DROPPED;
	if (n == BATCH_FRAMES || (n && stream->bytes + LENGTH_BYTES + length > BATCH_BYTES) ||
	    stream->buffers + count + 1 > BATCH_BUFFERS || !send_rest(stream))
		return NET_FULL;
	stream->length[n] = htonl((uint32_t)length);
	stream->frame_bytes[n] = LENGTH_BYTES + length;
	stream->buffer[stream->buffers++] = (struct iovec){.iov_base = &stream->length[n], .iov_len = LENGTH_BYTES};
	stream->buffers += virtq_slice(stream->buffer + stream->buffers, frame, count, NET_HEADER_BYTES, length);
	stream->bytes += LENGTH_BYTES + length;
	stream->frames++;
	return NET_SENT;
}

/* Keeps what the socket did not take of a frame that lies at `offset` of the batch. */
static void keep_rest(struct stream *stream, size_t offset, size_t bytes)
{
	struct iovec part[BATCH_BUFFERS];
	unsigned count = virtq_slice(part, stream->buffer, stream->buffers, offset, bytes);

	stream->rest_start = stream->rest_end = 0;
	for (unsigned i = 0; i < count; i++) {
		memcpy(stream->rest + stream->rest_end, part[i].iov_base, part[i].iov_len);
		stream->rest_end += part[i].iov_len;
	}
}

/* A frame that the socket took a part of is not among these: its other end has to get the rest. */
static void forget(struct net_backend *backend)
{
	struct stream *stream = (struct stream *)backend;

	stream->frames = stream->buffers = 0;
	stream->bytes = 0;
}

static bool flush(struct net_backend *backend, unsigned *untaken)
{
	struct stream *stream = (struct stream *)backend;
	struct msghdr message = {.msg_iov = stream->buffer, .msg_iovlen = stream->buffers};
	unsigned frames = stream->frames, taken = 0;
	size_t at = 0;
	ssize_t sent;

	*untaken = 0;
	if (!frames)
		return send_rest(stream);
	do
		sent = sendmsg(backend->fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
	while (sent < 0 && errno == EINTR);
	if (sent < 0 && errno != EAGAIN)
		sent = (ssize_t)stream->bytes; /* lost, like the network: receive() will find it out */
	if (sent < 0)
		sent = 0;
	while (taken < frames && at + stream->frame_bytes[taken] <= (size_t)sent)
		at += stream->frame_bytes[taken++];
	if (at < (size_t)sent) {
		at += stream->frame_bytes[taken++];
		keep_rest(stream, (size_t)sent, at - (size_t)sent);
	}
	forget(backend);
	*untaken = frames - taken;
	return !*untaken && !stream->rest_end;
}

/* ---- from the network ---- */

/* The length of the first frame received, which is there as a whole; 0: not yet; -1: nobody speaks so. */
static ssize_t first_frame(const struct stream *stream)
{
	size_t there = stream->end - stream->start;
	uint32_t length;

	if (there < LENGTH_BYTES)
		return 0;
	length = ntohl(riffle_get32(stream->input + stream->start));
	if (length < FRAME_MIN || length > FRAME_MAX)
		return -1;
	return there - LENGTH_BYTES < length ? 0 : (ssize_t)length;
}

/* 1: something came; 0: nothing; -1: the other end is gone. */
static int refill(struct stream *stream)
{
	ssize_t got;

	if (stream->drained) { /* no call only to hear that: the descriptor will be ready when there is more */
		stream->drained = false;
		return 0;
	}
	memmove(stream->input, stream->input + stream->start, stream->end - stream->start);
	stream->end -= stream->start;
	stream->start = 0;
	size_t room = RECEIVE_BYTES - stream->end;

	do
		got = recv(stream->backend.fd, stream->input + stream->end, room, MSG_DONTWAIT);
	while (got < 0 && errno == EINTR);
	if (got < 0)
		return errno == EAGAIN ? 0 : -1;
	if (got == 0)
		return -1;
	stream->drained = (size_t)got < room;
	stream->end += (size_t)got;
	return 1;
}

static size_t copy_to(const struct iovec *to, unsigned count, size_t offset, const void *data, size_t bytes)
{
	size_t done = 0;

	for (unsigned i = 0; i < count && done < bytes; i++) {
		if (offset >= to[i].iov_len) {
			offset -= to[i].iov_len;
			continue;
		}
		size_t part = to[i].iov_len - offset;

		if (part > bytes - done)
			part = bytes - done;
		memcpy((uint8_t *)to[i].iov_base + offset, (const uint8_t *)data + done, part);
		done += part;
		offset = 0;
	}
	return done;
}

static ssize_t receive(struct net_backend *backend, const struct iovec *frame, unsigned count)
{
	struct stream *stream = (struct stream *)backend;
	struct virtio_net_hdr_v1 header = {.flags = stream->data_valid ? VIRTIO_NET_HDR_F_DATA_VALID : 0};
	ssize_t length;

	while ((length = first_frame(stream)) == 0) {
		int more = refill(stream);

		if (more <= 0)
			return more;
	}
	if (length < 0)
		return -1;
	size_t done = copy_to(frame, count, 0, &header, NET_HEADER_BYTES);

	done += copy_to(frame, count, done, stream->input + stream->start + LENGTH_BYTES, (size_t)length);
	stream->start += LENGTH_BYTES + (size_t)length;
	return (ssize_t)done;
}

static void destroy(struct net_backend *backend)
{
	close(backend->fd);
	free(backend);
}

static const struct net_backend_ops stream_ops = {
    .set_features = set_features,
    .send = collect,
    .flush = flush,
    .forget = forget,
    .receive = receive,
    .destroy = destroy,
};

int net_stream_adopt(struct net_backend **backend, int fd, struct riffle_error *error)
{
	/* not cleared: the pages of its buffers are to be touched when they are used */
	struct stream *stream = malloc(sizeof *stream);

	if (!stream) {
		close(fd);
		return riffle_fail(error, RIFFLE_ERR_MEMORY, "net", "cannot be allocated");
	}
	stream->backend = (struct net_backend){
	    .ops = &stream_ops, .fd = fd, .features = VIRTIO_FEATURE(VIRTIO_NET_F_GUEST_CSUM), .mtu = MTU};
	stream->data_valid = stream->drained = false;
	stream->start = stream->end = 0;
	stream->frames = stream->buffers = 0;
	stream->bytes = 0;
	stream->rest_start = stream->rest_end = 0;
	*backend = &stream->backend;
	return 0;
}
