/* SPDX-License-Identifier: Apache-2.0 */
/* The virtio network device: moves frames between the guest's queues and a backend. */
#include "monitor/virtio/net.h"

#include <errno.h>
#include <linux/virtio_ids.h>
#include <linux/virtio_net.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "common/fail.h"
#include "monitor/virtio/net_window.h"

enum { RX, TX, QUEUES };
enum {
	RX_BUDGET = 64, /* frames in a turn of the loop, which has others to serve */
	TX_BUDGET = 256,
	LOOK_AGAIN = 8, /* turns after which a quiet network is asked for a second frame */
	BATCH = 64,     /* frames that wait for a flush */
	ETHERNET_HEADER = 14,
	ETHERNET_SOURCE = 6,
	MTU_MIN = 68,
};

struct net {
	struct virtio_device device;
	struct net_config options;
	struct virtio_net_config config;
	struct net_backend *backend;
	struct loop_source source;
	struct limiter rx_limiter, tx_limiter;
	bool set_up;       /* source and limiters */
	bool limits_saved; /* what set_up() gives the limiters */
	struct limiter_state rx_limits, tx_limits;
	bool fresh; /* activated, and the backend does not know the driver's features yet */
	bool gone;  /* the backend's other side */
	struct net_counters counters;
	struct virtq_chain chain;
	/* to the guest */
	bool busy; /* several frames came at once lately */
	unsigned turns;
	bool starved;      /* waits for the driver to tell of buffers */
	uint64_t frame;    /* bytes of the frame in hand, 0: none */
	uint64_t frame_at; /* so many of them are in the window, the others in `spill` */
	bool frame_paid;   /* the limiter let it pass */
	struct net_window window;
	/* from the guest */
	bool blocked;   /* waits until the backend takes more */
	unsigned batch; /* frames given to the backend, pushed and not published */
	size_t batch_bytes[BATCH];
	uint8_t *for_hook;            /* a frame's room; NULL: no hook */
	uint8_t spill[NET_FRAME_MAX]; /* what does not fit into the guest's buffers; a frame of the hook */
};

static struct net *net_of(struct virtio_device *device)
{
	return (struct net *)device;
}

static bool can_receive(const struct net *net)
{
	return net->device.queues[RX].ready && !net->starved && !limiter_blocked(&net->rx_limiter);
}

/* What the descriptor has to be watched for follows from what each direction waits for. */
static void watch(struct net *net)
{
	uint32_t events = 0;

	if (net->gone)
		return;
	if (virtio_running(&net->device)) {
		events = EPOLLRDHUP; /* and hang-ups: its end is noticed whatever else is waited for */
		if (can_receive(net))
			events |= EPOLLIN;
		if (net->blocked)
			events |= EPOLLOUT;
	}
	loop_watch(net->device.loop, &net->source, events);
}

static void set_gone(struct net *net)
{
	net->gone = true;
	net->blocked = false; /* what waited for it is dropped */
	loop_remove(net->device.loop, &net->source);
	virtio_device_ring(&net->device, TX);
	if (net->options.lost)
		net->options.lost(net->options.opaque);
}

/* ---- to the guest ---- */

enum progress { GO_ON, NOTHING, STARVED, BLOCKED, LIMITED, BROKEN };

static bool mergeable(const struct net *net)
{
	return virtio_has(&net->device, VIRTIO_NET_F_MRG_RXBUF);
}

static bool fill_window(struct net *net, uint64_t bytes)
{
	return net_window_fill(&net->window, &net->device.queues[RX], &net->chain, bytes,
			       mergeable(net) ? VIRTQ_SIZE_MAX : 1);
}

static bool ask_hook(struct net *net)
{
	const struct net_hook *hook = net->options.hook;
	size_t bytes =
	    hook ? hook->give(hook->opaque, net->spill + NET_HEADER_BYTES, sizeof net->spill - NET_HEADER_BYTES) : 0;

	if (!bytes)
		return false;
	memset(net->spill, 0, NET_HEADER_BYTES);
	net->frame = NET_HEADER_BYTES + bytes;
	net->frame_at = 0;
	net->frame_paid = true; /* limits are the network's */
	return true;
}

/* Gets a frame, straight into the guest's buffers as far as there are some. */
static enum progress fetch(struct net *net)
{
	struct net_window *window = &net->window;

	if (!fill_window(net, NET_FRAME_MAX))
		return BROKEN;
	if (!window->chains)
		return STARVED;
	if (ask_hook(net))
		return GO_ON;
	if (net->gone)
		return NOTHING;
	struct iovec *buffer = window->buffer + window->first_buffer;
	unsigned count = window->buffers;

	if (window->bytes < NET_FRAME_MAX)
		buffer[count++] = (struct iovec){.iov_base = net->spill, .iov_len = sizeof net->spill};
	ssize_t got = net->backend->ops->receive(net->backend, buffer, count);

	if (got < 0) {
		counter_add(&net->counters.backend_read_fails, 1);
		set_gone(net);
	}
	if (got <= 0)
		return NOTHING;
	net->frame = (uint64_t)got;
	net->frame_at = net->frame < window->bytes ? net->frame : window->bytes;
	net->frame_paid = false;
	return GO_ON;
}

static enum progress drop(struct net *net)
{
	net->frame = 0;
	counter_add(&net->counters.rx_dropped, 1);
	return GO_ON;
}

/* Hands the frame to the guest, once there are buffers for all of it. */
static enum progress deliver(struct net *net)
{
	struct net_window *window = &net->window;
	struct virtq *queue = &net->device.queues[RX];
	uint16_t chains;

	if (net->frame < NET_HEADER_BYTES + ETHERNET_HEADER)
		return drop(net);
	if (!net->frame_paid && !limiter_take(&net->rx_limiter, 1, net->frame))
		return LIMITED;
	net->frame_paid = true;
	if (!fill_window(net, net->frame))
		return BROKEN;
	if (window->bytes < net->frame) {
		/* waiting for more is of use only while more can come */
		if (mergeable(net) && window->chains < queue->size && window->buffers < NET_WINDOW_BUFFERS / 2)
			return STARVED;
		return drop(net);
	}
	net_window_write(window, net->frame_at, net->spill, net->frame - net->frame_at);
	chains = (uint16_t)net_window_chains(window, net->frame);
	net_window_write(window, offsetof(struct virtio_net_hdr_v1, num_buffers), &chains, sizeof chains);
	net_window_push(window, queue, chains, net->frame);
	counter_add(&net->counters.rx_frames, 1);
	counter_add(&net->counters.rx_packets, 1);
	counter_add(&net->counters.rx_bytes, net->frame);
	net->frame = 0;
	return GO_ON;
}

/* Whether it waits for buffers now; no notification comes of those that are there already. */
static bool starve(struct net *net)
{
	if (virtq_start_notify(&net->device.queues[RX]))
		return false;
	net->starved = true;
	counter_add(&net->counters.rx_no_buffers, 1);
	return true;
}

/*
 * A call that only says that there is no second frame costs a good part of what a frame does. As long as frames come
 * one by one the loop is left to say that there is another.
 */
static unsigned frames_to_take(struct net *net)
{
	bool one = net->backend->is_level && !net->options.hook && !net->busy && ++net->turns % LOOK_AGAIN;

	return one ? 1 : RX_BUDGET;
}

static void receive_frames(struct net *net)
{
	enum progress progress = GO_ON;
	unsigned most = frames_to_take(net), budget = most;

	if (!can_receive(net))
		return;
	while (budget && progress == GO_ON) {
		budget--;
		if (!net->frame)
			progress = fetch(net);
		if (progress == GO_ON)
			progress = deliver(net);
		if (progress == STARVED && !starve(net))
			progress = GO_ON;
	}
	if (progress == BROKEN) {
		virtio_fail(&net->device, "the receive queue is not what it must be");
		watch(net);
		return;
	}
	if (progress == LIMITED)
		counter_add(&net->counters.rx_limited, 1);
	virtio_publish(&net->device, RX);
	net->busy = most - budget > 2;                     /* the last look found nothing */
	if (progress == GO_ON && (most > 1 || net->frame)) /* the budget is used up: others first */
		virtio_device_ring(&net->device, RX);
	watch(net);
}

/* ---- from the guest ---- */

/* Gives back to the queue what the backend did not take. */
static void undo(struct net *net, unsigned frames)
{
	struct virtq *queue = &net->device.queues[TX];

	virtq_unpush(queue, (uint16_t)frames);
	for (unsigned i = 0; i < frames; i++) {
		virtq_unpop(queue);
		limiter_refund(&net->tx_limiter, 1, net->batch_bytes[--net->batch]);
	}
}

/* False: the backend takes no more for now, or has not sent all of the last frame. */
static bool flush(struct net *net)
{
	unsigned undone = 0;

	net->blocked = !net->gone && !net->backend->ops->flush(net->backend, &undone);
	undo(net, undone);
	for (unsigned i = 0; i < net->batch; i++)
		counter_add(&net->counters.tx_bytes, net->batch_bytes[i]);
	counter_add(&net->counters.tx_frames, net->batch);
	counter_add(&net->counters.tx_packets, net->batch);
	net->batch = 0;
	return !net->blocked;
}

/* Frames that were collected and not sent are lost, as on any network: of a queue that failed, or was reset. */
static void forget_batch(struct net *net)
{
	net->backend->ops->forget(net->backend);
	net->batch = 0;
}

static bool is_foreign(const struct net *net, const uint8_t *head)
{
	return net->options.has_mac && memcmp(head + ETHERNET_SOURCE, net->options.mac, sizeof net->options.mac) != 0;
}

/*
 * A chain whose frame the backend does not get. What was collected goes first: undoing that, later, must not bring this
 * one back.
 */
static enum progress keep_out(struct net *net, bool for_hook)
{
	const struct net_hook *hook = net->options.hook;

	if (net->batch && !flush(net)) {
		virtq_unpop(&net->device.queues[TX]);
		return BLOCKED;
	}
	if (for_hook)
		hook->take(hook->opaque, net->for_hook,
			   virtq_chain_read(&net->chain, NET_HEADER_BYTES, net->for_hook, NET_FRAME_MAX));
	else
		counter_add(&net->counters.tx_dropped, 1);
	virtq_push(&net->device.queues[TX], net->chain.head, 0);
	return GO_ON;
}

/* The chain that was popped. */
static enum progress transmit(struct net *net)
{
	const struct net_hook *hook = net->options.hook;
	const struct virtq_chain *chain = &net->chain;
	struct virtq *queue = &net->device.queues[TX];
	uint8_t head[NET_HOOK_HEAD];
	size_t head_bytes = virtq_chain_read(chain, NET_HEADER_BYTES, head, hook ? sizeof head : ETHERNET_HEADER);

	if (head_bytes < ETHERNET_HEADER || chain->out_bytes > NET_FRAME_MAX)
		counter_add(&net->counters.tx_malformed, 1);
	if (head_bytes < ETHERNET_HEADER || chain->out_bytes > NET_FRAME_MAX)
		return keep_out(net, false);
	if (hook && hook->wants(hook->opaque, head, head_bytes))
		return keep_out(net, true);
	if (net->gone)
		return keep_out(net, false);
	if (!limiter_take(&net->tx_limiter, 1, chain->out_bytes)) {
		virtq_unpop(queue);
		return LIMITED;
	}
	uint64_t begun = virtio_clock_us(&net->device);
	enum net_sent sent = net->backend->ops->send(net->backend, chain->out, chain->out_count, chain->out_bytes);

	if (net->device.timed)
		latency_add(&net->counters.backend_write_time, virtio_clock_us(&net->device) - begun);
	if (sent == NET_DROPPED) {
		counter_add(&net->counters.backend_write_fails, 1);
		return keep_out(net, false);
	}
	if (sent == NET_FULL) {
		limiter_refund(&net->tx_limiter, 1, chain->out_bytes);
		virtq_unpop(queue);
		return BLOCKED;
	}
	if (is_foreign(net, head))
		counter_add(&net->counters.tx_foreign_mac, 1);
	net->batch_bytes[net->batch++] = chain->out_bytes;
	virtq_push(queue, chain->head, 0);
	return GO_ON;
}

/* Takes a frame out of the queue and passes it on. */
static enum progress transmit_next(struct net *net)
{
	struct virtq *queue = &net->device.queues[TX];

	if (net->batch == BATCH && !flush(net))
		return BLOCKED;
	int got = virtq_pop(queue, &net->chain);

	if (got < 0 || (got > 0 && net->chain.in_count))
		return BROKEN;
	if (!got)
		return NOTHING;
	enum progress progress = transmit(net);

	if (progress != BLOCKED || net->blocked)
		return progress;
	/* full: of what was collected, which may just have to be sent, or nothing more goes out at all */
	if (net->batch)
		return flush(net) ? GO_ON : BLOCKED;
	net->blocked = true;
	return BLOCKED;
}

static void transmit_frames(struct net *net)
{
	struct virtq *queue = &net->device.queues[TX];
	enum progress progress = GO_ON;
	unsigned budget = TX_BUDGET;

	if (!net->device.queues[TX].ready || net->blocked || limiter_blocked(&net->tx_limiter))
		return;
	virtq_stop_notify(queue);
	while (progress == GO_ON && budget) {
		budget--;
		progress = transmit_next(net);
		if (progress == NOTHING && budget == TX_BUDGET - 1)
			counter_add(&net->counters.tx_no_buffers, 1);
		if (progress != NOTHING)
			continue;
		if (!flush(net))
			progress = BLOCKED;
		else if (virtq_start_notify(queue))
			progress = GO_ON;
	}
	if (progress == BROKEN) {
		forget_batch(net);
		virtio_fail(&net->device, "the transmit queue is not what it must be");
		watch(net);
		return;
	}
	if (net->batch && !flush(net))
		progress = BLOCKED;
	if (progress == LIMITED) {
		counter_add(&net->counters.tx_limited, 1);
		counter_add(&net->counters.tx_remaining, virtq_waiting(queue));
	}
	virtio_publish(&net->device, TX);
	if (progress == GO_ON)
		virtio_device_ring(&net->device, TX);
	watch(net);
	if (net->options.hook)
		receive_frames(net);
}

/* ---- what the loop and the transport call ---- */

static void source_ready(void *opaque, uint32_t events)
{
	struct net *net = opaque;

	virtio_lock(&net->device);
	if (virtio_running(&net->device)) {
		if (events & EPOLLIN)
			counter_add(&net->counters.rx_backend_events, 1);
		if (events & EPOLLOUT) {
			net->blocked = false;
			transmit_frames(net);
		}
		if (can_receive(net))
			receive_frames(net);
		else if (!net->gone && (events & (EPOLLHUP | EPOLLERR | EPOLLRDHUP)))
			set_gone(net); /* what it has left cannot be taken */
	}
	watch(net);
	virtio_unlock(&net->device);
}

static void rx_again(void *opaque)
{
	struct net *net = opaque;

	virtio_lock(&net->device);
	counter_add(&net->counters.rx_limiter_events, 1);
	if (virtio_running(&net->device))
		receive_frames(net);
	virtio_unlock(&net->device);
}

static void tx_again(void *opaque)
{
	struct net *net = opaque;

	virtio_lock(&net->device);
	counter_add(&net->counters.tx_limiter_events, 1);
	if (virtio_running(&net->device))
		transmit_frames(net);
	virtio_unlock(&net->device);
}

static int set_up(struct net *net)
{
	struct loop *loop = net->device.loop;
	int status = loop_add(loop, &net->source, net->backend->fd, 0, NULL);

	if (status)
		return status;
	limiter_init(&net->rx_limiter, &net->options.rx, loop, rx_again, net);
	limiter_init(&net->tx_limiter, &net->options.tx, loop, tx_again, net);
	if (net->limits_saved) {
		limiter_restore(&net->rx_limiter, &net->rx_limits);
		limiter_restore(&net->tx_limiter, &net->tx_limits);
	}
	net->set_up = true;
	if (net->options.hook && net->options.hook->attached)
		net->options.hook->attached(net->options.hook->opaque, &net->device);
	return 0;
}

static void notify(struct virtio_device *device, unsigned queue)
{
	struct net *net = net_of(device);

	counter_add(queue == TX ? &net->counters.tx_queue_events : &net->counters.rx_queue_events, 1);
	if (!net->set_up && set_up(net)) {
		virtio_fail(device, "its descriptor cannot be watched");
		return;
	}
	if (net->fresh && !net->gone)
		net->backend->ops->set_features(net->backend, device->driver_features);
	net->fresh = false;
	if (queue == TX) {
		transmit_frames(net);
		return;
	}
	if (net->starved) {
		net->starved = false;
		virtq_stop_notify(&device->queues[RX]);
	}
	receive_frames(net);
}

/* What is in hand, if anything, is lost, as on any network. */
static void forget_frames(struct net *net)
{
	net->frame = 0;
	forget_batch(net);
	net->blocked = false;
	net->starved = true; /* until the driver, or whoever resumes, tells of its buffers */
}

static int activate(struct virtio_device *device)
{
	struct net *net = net_of(device);

	net_window_clear(&net->window);
	forget_frames(net);
	net->fresh = true;
	return 0;
}

static void quiesce(struct virtio_device *device)
{
	struct net *net = net_of(device);

	net_window_return(&net->window, &device->queues[RX]);
	forget_frames(net);
}

/* Before the first frame limits are as they were configured. */
static size_t save(const struct virtio_device *device, void *state, size_t room)
{
	const struct net *net = (const struct net *)device;
	struct limiter_state limits[2];

	if (!net->set_up)
		return 0;
	limiter_save(&net->rx_limiter, &limits[RX]);
	limiter_save(&net->tx_limiter, &limits[TX]);
	if (room >= sizeof limits)
		memcpy(state, limits, sizeof limits);
	return sizeof limits;
}

static int restore(struct virtio_device *device, const void *state, size_t bytes, struct riffle_error *error)
{
	struct net *net = net_of(device);
	struct limiter_state limits[2];

	if (bytes && bytes != sizeof limits)
		return riffle_fail_expected(error, RIFFLE_ERR_FORMAT, "net", "its state has another size", bytes,
					    sizeof limits);
	if (bytes) {
		memcpy(limits, state, sizeof limits);
		net->rx_limits = limits[RX];
		net->tx_limits = limits[TX];
		net->limits_saved = true;
	}
	return activate(device);
}

static void destroy(struct virtio_device *device)
{
	struct net *net = net_of(device);

	if (net->set_up) {
		if (net->options.hook && net->options.hook->detached)
			net->options.hook->detached(net->options.hook->opaque);
		limiter_stop(&net->rx_limiter);
		limiter_stop(&net->tx_limiter);
		if (!net->gone)
			loop_remove(device->loop, &net->source);
	}
	net_backend_destroy(net->backend);
	free(net->for_hook);
	virtio_free(net, sizeof *net);
}

static const struct virtio_ops net_ops = {
    .id = VIRTIO_ID_NET,
    .queue_count = QUEUES,
    .activate = activate,
    .notify = notify,
    .quiesce = quiesce,
    .save = save,
    .restore = restore,
    .destroy = destroy,
};

static void set_config(struct net *net)
{
	struct virtio_device *device = &net->device;
	uint16_t mtu = net->options.mtu ? net->options.mtu : net->backend->mtu;

	device->config = &net->config;
	device->config_bytes = offsetof(struct virtio_net_config, mtu) + sizeof net->config.mtu;
	device->features = net->backend->features | VIRTIO_FEATURE(VIRTIO_NET_F_MRG_RXBUF);
	if (net->options.has_mac) {
		device->features |= VIRTIO_FEATURE(VIRTIO_NET_F_MAC);
		memcpy(net->config.mac, net->options.mac, sizeof net->config.mac);
	}
	if (mtu) {
		device->features |= VIRTIO_FEATURE(VIRTIO_NET_F_MTU);
		net->config.mtu = mtu;
	}
}

int net_new(struct virtio_device **device, const struct net_config *config, struct net_backend *backend,
	    struct riffle_error *error)
{
	struct net *net;
	int status = 0;

	if (config->mtu && config->mtu < MTU_MIN)
		status = riffle_fail_expected(error, RIFFLE_ERR_ARGUMENT, "mtu", "too small", config->mtu, MTU_MIN);
	net = status ? NULL : virtio_allocate(sizeof *net);
	if (net && config->hook) {
		net->for_hook = malloc(NET_FRAME_MAX);
		if (!net->for_hook) {
			virtio_free(net, sizeof *net);
			net = NULL;
		}
	}
	if (!net) {
		net_backend_destroy(backend);
		return status ? status : riffle_fail(error, RIFFLE_ERR_MEMORY, "net", "cannot be allocated");
	}
	virtio_device_init(&net->device, &net_ops, config->name);
	net->device.activate_fails = &net->counters.activate_fails;
	net->device.config_fails = &net->counters.config_fails;
	net->device.event_fails = &net->counters.event_fails;
	net->options = *config;
	net->backend = backend;
	net->source = (struct loop_source){.ready = source_ready, .opaque = net};
	set_config(net);
	*device = &net->device;
	return 0;
}

/* For limiters that are not made yet. */
static void change_options(struct limiter_config *limits, const struct limiter_update *update)
{
	if (update->has_bytes)
		limits->bytes = update->bytes;
	if (update->has_ops)
		limits->ops = update->ops;
}

void net_set_limits(struct virtio_device *device, const struct limiter_update *rx, const struct limiter_update *tx)
{
	struct net *net = net_of(device);

	virtio_lock(device);
	change_options(&net->options.rx, rx);
	change_options(&net->options.tx, tx);
	if (net->set_up) {
		limiter_update(&net->rx_limiter, rx);
		limiter_update(&net->tx_limiter, tx);
	}
	virtio_unlock(device);
}

const struct net_counters *net_counters(const struct virtio_device *device)
{
	return &((const struct net *)device)->counters;
}

void net_poll(struct virtio_device *device)
{
	virtio_lock(device);
	if (virtio_running(device))
		receive_frames(net_of(device));
	virtio_unlock(device);
}

int net_random_mac(uint8_t mac[6], struct riffle_error *error)
{
	if (getrandom(mac, 6, 0) != 6)
		return riffle_fail_full(error, RIFFLE_ERR_RANDOM, errno, "getrandom", "failed", 0, 0, 0, 0);
	mac[0] = (uint8_t)((mac[0] & 0xfc) | 2);
	return 0;
}
