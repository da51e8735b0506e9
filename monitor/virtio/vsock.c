/* SPDX-License-Identifier: Apache-2.0 */
/* The virtio socket device: what its transport and the event loop call. */
#include "monitor/virtio/vsock.h"

#include <linux/virtio_ids.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "common/fail.h"
#include "monitor/virtio/vsock_connection.h"

#define CID_MIN 3u
#define CID_MAX (UINT32_MAX - 1u)
#define TICK_NS UINT64_C(100000000)
#define DESCRIPTORS (VSOCK_CONNECTIONS_MAX + 1024u)

static struct vsock *vsock_of(struct virtio_device *device)
{
	return (struct vsock *)device;
}

static void drop_all(struct vsock *vsock)
{
	vsock->drop = false;
	while (vsock->all)
		vsock_remove(vsock->all);
	vsock->resets = 0;
	vsock->next_port = VSOCK_FIRST_PORT; /* a driver that starts anew remembers no port */
}

/* ---- what the loop and the transport call ---- */

static void listener_ready(void *opaque, uint32_t events)
{
	struct vsock *vsock = opaque;

	(void)events;
	virtio_lock(&vsock->device);
	if (vsock->drop)
		drop_all(vsock);
	if (virtio_running(&vsock->device))
		vsock_accept(vsock);
	else
		loop_watch(vsock->device.loop, &vsock->listener_source, 0);
	virtio_unlock(&vsock->device);
}

static void accept_again(void *opaque)
{
	struct vsock *vsock = opaque;

	virtio_lock(&vsock->device);
	if (virtio_running(&vsock->device))
		loop_watch(vsock->device.loop, &vsock->listener_source, EPOLLIN);
	virtio_unlock(&vsock->device);
}

static void serve_open(struct vsock_connection *connection, uint32_t events)
{
	const uint32_t hang_up = EPOLLHUP | EPOLLERR;

	if (connection->buffered && (events & (EPOLLOUT | hang_up)))
		vsock_drain(connection);
	if (connection->ended && (events & hang_up)) {
		vsock_host_closed(connection);
	} else if (!connection->ended && (events & (EPOLLIN | hang_up))) {
		connection->readable = true;
		vsock_queue(connection, 0);
	}
}

static void serve_socket(struct vsock_connection *connection, uint32_t events)
{
	switch (connection->state) {
	case VSOCK_GREETING:
		vsock_greet(connection);
		break;
	case VSOCK_REQUESTED: /* watched for a hang-up alone */
		vsock_kill(connection);
		break;
	case VSOCK_OPEN:
		serve_open(connection, events);
		break;
	case VSOCK_DRAINING:
		vsock_drain(connection);
		break;
	default:
		break;
	}
}

void vsock_socket_ready(void *opaque, uint32_t events)
{
	struct vsock_connection *connection = opaque;
	struct vsock *vsock = connection->vsock;

	virtio_lock(&vsock->device);
	if (vsock->drop) {
		drop_all(vsock); /* this one, too */
	} else if (!virtio_running(&vsock->device)) {
		vsock_watch(connection);
	} else {
		vsock->current = connection;
		serve_socket(connection, events);
		vsock_pump(vsock);
		if (vsock->current)
			vsock_watch(connection); /* as long as what it has cannot be taken it is not looked at */
		vsock->current = NULL;
	}
	virtio_unlock(&vsock->device);
}

static void tick(struct vsock *vsock)
{
	uint64_t now = loop_now();
	bool any = false;

	for (struct vsock_connection *connection = vsock->all, *next; connection; connection = next) {
		next = connection->next;
		if (connection->state == VSOCK_CONNECTING)
			vsock_connect_again(connection); /* removes, if at all, later: it is in the table */
		if (connection->deadline_ns && connection->deadline_ns <= now)
			vsock_kill(connection);
		else if (connection->deadline_ns)
			any = true;
	}
	if (any && !vsock->timer.armed)
		loop_timer_set(vsock->device.loop, &vsock->timer, now + TICK_NS);
	vsock_pump(vsock);
}

static void timer_expired(void *opaque)
{
	struct vsock *vsock = opaque;

	virtio_lock(&vsock->device);
	if (vsock->drop)
		drop_all(vsock);
	if (virtio_running(&vsock->device))
		tick(vsock);
	virtio_unlock(&vsock->device);
}

static void run_task(void *opaque)
{
	struct vsock *vsock = opaque;

	virtio_lock(&vsock->device);
	if (vsock->drop)
		drop_all(vsock);
	virtio_unlock(&vsock->device);
}

/* After activation, or a pause. */
static bool start_watching(struct vsock *vsock)
{
	struct loop *loop = vsock->device.loop;

	if (!vsock->set_up && loop_add(loop, &vsock->listener_source, vsock->listener, EPOLLIN, NULL)) {
		virtio_fail(&vsock->device, "its socket cannot be watched");
		return false;
	}
	vsock->set_up = vsock->watching = true;
	loop_watch(loop, &vsock->listener_source, EPOLLIN);
	for (struct vsock_connection *connection = vsock->all; connection; connection = connection->next) {
		vsock_watch(connection);
		if (connection->deadline_ns && !vsock->timer.armed)
			loop_timer_set(loop, &vsock->timer, loop_now() + TICK_NS);
	}
	return true;
}

static void notify(struct virtio_device *device, unsigned queue)
{
	struct vsock *vsock = vsock_of(device);

	if (queue == VSOCK_TX)
		counter_add(&vsock->counters.tx_queue_events, 1);
	else if (queue == VSOCK_RX)
		counter_add(&vsock->counters.rx_queue_events, 1);
	if (vsock->drop)
		drop_all(vsock);
	if (!vsock->watching && !start_watching(vsock))
		return;
	if (queue == VSOCK_TX)
		vsock_take_packets(vsock);
	if (queue == VSOCK_RX && vsock->starved) {
		vsock->starved = false;
		virtq_stop_notify(&device->queues[VSOCK_RX]);
	}
	if (!device->failure)
		vsock_send_transport_reset(vsock);
	vsock_pump(vsock);
}

static void quiesce(struct virtio_device *device)
{
	struct vsock *vsock = vsock_of(device);

	vsock->watching = vsock->starved = false; /* nothing is in flight: no chain is kept */
}

static void reset(struct virtio_device *device)
{
	struct vsock *vsock = vsock_of(device);

	/* their sockets are the loop's to close */
	vsock->drop = true;
	vsock->transport_reset = false;
	loop_post(device->loop, &vsock->task);
}

/* No connection outlives the host's sockets: the driver is told to forget them. */
static int restore(struct virtio_device *device, const void *state, size_t bytes, struct riffle_error *error)
{
	(void)state;
	(void)bytes;
	(void)error;
	vsock_of(device)->transport_reset = true;
	return 0;
}

static void destroy(struct virtio_device *device)
{
	struct vsock *vsock = vsock_of(device);

	drop_all(vsock);
	if (vsock->set_up)
		loop_remove(device->loop, &vsock->listener_source);
	if (vsock->timer.armed)
		loop_timer_cancel(device->loop, &vsock->timer);
	if (vsock->accept_timer.armed)
		loop_timer_cancel(device->loop, &vsock->accept_timer);
	if (vsock->listener >= 0)
		close(vsock->listener);
	free(vsock);
}

static const struct virtio_ops vsock_ops = {
    .id = VIRTIO_ID_VSOCK,
    .queue_count = VSOCK_QUEUES,
    .notify = notify,
    .quiesce = quiesce,
    .reset = reset,
    .restore = restore,
    .destroy = destroy,
};

/* Each connection is a descriptor; the usual limit of 1024 is all but used up by them. */
static void raise_descriptor_limit(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) < 0 || limit.rlim_cur >= DESCRIPTORS)
		return;
	limit.rlim_cur = limit.rlim_max < DESCRIPTORS ? limit.rlim_max : DESCRIPTORS;
	setrlimit(RLIMIT_NOFILE, &limit);
}

int vsock_new(struct virtio_device **device, const struct vsock_config *config, struct riffle_error *error)
{
	if (config->cid < CID_MIN || config->cid > CID_MAX)
		return riffle_fail_expected(error, RIFFLE_ERR_ARGUMENT, "cid",
					    config->cid < CID_MIN ? "is reserved" : "too large", config->cid,
					    config->cid < CID_MIN ? CID_MIN : CID_MAX);
	struct vsock *vsock = calloc(1, sizeof *vsock);

	if (!vsock)
		return riffle_fail(error, RIFFLE_ERR_MEMORY, "vsock", "cannot be allocated");
	virtio_device_init(&vsock->device, &vsock_ops, "vsock");
	vsock->device.config = &vsock->config;
	vsock->device.activate_fails = &vsock->counters.activate_fails;
	vsock->device.config_fails = &vsock->counters.config_fails;
	vsock->device.event_fails = &vsock->counters.event_fails;
	vsock->device.config_bytes = sizeof vsock->config;
	vsock->config.guest_cid = config->cid;
	vsock->listener_source = (struct loop_source){.ready = listener_ready, .opaque = vsock};
	vsock->timer = (struct loop_timer){.expired = timer_expired, .opaque = vsock};
	vsock->accept_timer = (struct loop_timer){.expired = accept_again, .opaque = vsock};
	vsock->task = (struct loop_task){.run = run_task, .opaque = vsock};
	vsock->last_ready = &vsock->ready;
	vsock->next_port = VSOCK_FIRST_PORT;
	int status = vsock_listen(vsock, config, error);

	if (status) {
		if (vsock->listener >= 0)
			close(vsock->listener);
		free(vsock);
		return status;
	}
	raise_descriptor_limit();
	*device = &vsock->device;
	return 0;
}

const struct vsock_counters *vsock_counters(const struct virtio_device *device)
{
	return &((const struct vsock *)device)->counters;
}
