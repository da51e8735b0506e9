/* SPDX-License-Identifier: Apache-2.0 */
/* The virtio balloon: memory that the guest does without goes back to the host. */
#include "monitor/virtio/balloon.h"

#include <linux/virtio_balloon.h>
#include <linux/virtio_ids.h>
#include <stdlib.h>
#include <string.h>

#include "common/bytes.h"
#include "common/fail.h"

/* What the queues are for. Which number each has depends on what the driver accepted. */
enum purpose { INFLATE, DEFLATE, STATS, HINTING, REPORTING, PURPOSES };

enum {
	BUDGET = 16,     /* chains in a turn of the loop */
	PFNS = 256,      /* read at a time */
	PFNS_MAX = 4096, /* of a chain; Linux has 256 */
	STAT_BYTES = 10, /* le16 tag, le64 value */
	STATS_READ = 64,
};

#define NS_PER_S UINT64_C(1000000000)

struct balloon {
	struct virtio_device device;
	struct balloon_config options;
	struct virtio_balloon_config config;
	struct balloon_state state;
	struct balloon_counters counters;
	enum purpose purpose[PURPOSES]; /* of each queue; PURPOSES: none */
	unsigned queue[PURPOSES];       /* the reverse */
	/* the buffer that goes back when new statistics are wanted */
	bool has_stats_buffer;
	uint16_t stats_head;
	struct loop_timer stats_timer;
	struct loop_task rearm; /* the interval changed */
	bool hint_acknowledge;
	uint32_t hint_next;
	struct virtq_chain chain;
};

static struct balloon *balloon_of(struct virtio_device *device)
{
	return (struct balloon *)device;
}

/* ---- pages ---- */

/*
 * Whole pages of [at, at + bytes) go back to the host; the guest reads zero from them when it uses them again. A host
 * that cannot (memory that is locked, huge pages by hugetlbfs) keeps them.
 */
static uint64_t discard(const struct balloon *balloon, void *at, uint64_t bytes)
{
	uintptr_t start = ((uintptr_t)at + BALLOON_PAGE - 1) & ~(uintptr_t)(BALLOON_PAGE - 1);
	uintptr_t end = ((uintptr_t)at + bytes) & ~(uintptr_t)(BALLOON_PAGE - 1);

	if (start >= end || !guest_memory_discard(balloon->device.memory, (void *)start, end - start))
		return 0;
	return end - start;
}

static uint64_t discard_frames(const struct balloon *balloon, uint64_t first, uint64_t count)
{
	void *at = guest_memory_at(balloon->device.memory, first * BALLOON_PAGE, count * BALLOON_PAGE);

	/* a run that lies in two stretches of RAM, or partly outside: its pages one by one */
	if (!at && count > 1) {
		uint64_t bytes = 0;

		for (uint64_t i = 0; i < count; i++)
			bytes += discard_frames(balloon, first + i, 1);
		return bytes;
	}
	return at ? discard(balloon, at, count * BALLOON_PAGE) : 0;
}

/* Frames that are neighbours, upwards or downwards as a guest's allocator hands them out, go in one call. */
static uint64_t inflate_frames(const struct balloon *balloon, const uint32_t *pfn, size_t count)
{
	uint64_t bytes = 0;

	for (size_t i = 0; i < count;) {
		uint64_t low = pfn[i], high = low;

		for (i++; i < count; i++) {
			if (pfn[i] == high + 1)
				high++;
			else if (low && pfn[i] == low - 1)
				low--;
			else
				break;
		}
		bytes += discard_frames(balloon, low, high - low + 1);
	}
	return bytes;
}

static bool inflate(struct balloon *balloon)
{
	const struct virtq_chain *chain = &balloon->chain;
	uint32_t pfn[PFNS];

	if (chain->in_count || chain->out_bytes > PFNS_MAX * sizeof *pfn)
		return false;
	for (size_t offset = 0;;) {
		size_t count = virtq_chain_read(chain, offset, pfn, sizeof pfn) / sizeof *pfn;

		if (!count)
			return true;
		offset += count * sizeof *pfn;
		balloon->state.inflated_bytes += inflate_frames(balloon, pfn, count);
	}
}

/* The chain's buffers are the pages themselves. */
static uint64_t discard_buffers(const struct balloon *balloon)
{
	const struct virtq_chain *chain = &balloon->chain;
	uint64_t bytes = 0;

	for (unsigned i = 0; i < chain->in_count; i++)
		bytes += discard(balloon, chain->in[i].iov_base, chain->in[i].iov_len);
	return bytes;
}

/* ---- statistics ---- */

static void read_stats(struct balloon *balloon)
{
	uint8_t raw[STATS_READ * STAT_BYTES];
	size_t bytes = virtq_chain_read(&balloon->chain, 0, raw, sizeof raw);
	struct balloon_stats stats = {0};

	for (const uint8_t *at = raw; bytes >= STAT_BYTES; at += STAT_BYTES, bytes -= STAT_BYTES) {
		uint16_t tag = riffle_get16(at);

		if (tag >= BALLOON_STATS)
			continue;
		stats.there |= UINT32_C(1) << tag;
		stats.value[tag] = riffle_get64(at + 2);
	}
	balloon->state.stats = stats;
	counter_add(stats.there ? &balloon->counters.stats_updates : &balloon->counters.stats_fails, 1);
}

static void set_stats_timer(struct balloon *balloon)
{
	loop_timer_set(balloon->device.loop, &balloon->stats_timer, loop_now() + balloon->options.stats_s * NS_PER_S);
}

/* The driver answers to its buffer coming back with one that has new figures. */
static void ask_for_stats(void *opaque)
{
	struct balloon *balloon = opaque;
	unsigned queue = balloon->queue[STATS];

	virtio_lock(&balloon->device);
	if (virtio_running(&balloon->device) && balloon->has_stats_buffer) {
		virtq_push(&balloon->device.queues[queue], balloon->stats_head, 0);
		virtio_publish(&balloon->device, queue);
		balloon->has_stats_buffer = false;
	}
	virtio_unlock(&balloon->device);
}

static void rearm(void *opaque)
{
	struct balloon *balloon = opaque;

	virtio_lock(&balloon->device);
	if (balloon->has_stats_buffer)
		set_stats_timer(balloon);
	virtio_unlock(&balloon->device);
}

/* ---- hinting ---- */

static void set_hint_command(struct balloon *balloon, uint32_t command)
{
	balloon->state.hint_host_command = command;
	virtio_config_set(&balloon->device, offsetof(struct virtio_balloon_config, free_page_hint_cmd_id), &command,
			  sizeof command);
}

/* A command that begins or ends a list, or pages of the one that was asked for. */
static bool take_hint(struct balloon *balloon)
{
	struct balloon_state *state = &balloon->state;
	uint32_t command;

	if (balloon->chain.out_count) {
		if (virtq_chain_read(&balloon->chain, 0, &command, sizeof command) != sizeof command)
			return false;
		state->hint_guest_command = command;
		state->hint_guest_answered = true;
		if (command == VIRTIO_BALLOON_CMD_ID_STOP && balloon->hint_acknowledge &&
		    state->hint_host_command > VIRTIO_BALLOON_CMD_ID_DONE)
			set_hint_command(balloon, VIRTIO_BALLOON_CMD_ID_DONE);
	}
	/* only what the guest holds back until it is told that the list was taken */
	if (state->hint_guest_answered && state->hint_guest_command == state->hint_host_command &&
	    state->hint_host_command > VIRTIO_BALLOON_CMD_ID_DONE && balloon->chain.in_count) {
		uint64_t bytes = discard_buffers(balloon);

		state->hinted_bytes += bytes;
		counter_add(&balloon->counters.hinted_bytes, bytes);
		if (!bytes)
			counter_add(&balloon->counters.hint_fails, 1);
	}
	return true;
}

/* ---- queues ---- */

static void take_report(struct balloon *balloon)
{
	uint64_t bytes = discard_buffers(balloon);

	balloon->state.reported_bytes += bytes;
	counter_add(&balloon->counters.reported_bytes, bytes);
	if (!bytes)
		counter_add(&balloon->counters.report_fails, 1);
}

/* One chain; false: not what a driver may send. */
static bool serve(struct balloon *balloon, enum purpose purpose)
{
	switch (purpose) {
	case INFLATE:
		counter_add(&balloon->counters.inflates, 1);
		return inflate(balloon);
	case HINTING:
		counter_add(&balloon->counters.hints, 1);
		return take_hint(balloon);
	case REPORTING:
		counter_add(&balloon->counters.reports, 1);
		take_report(balloon);
		return !balloon->chain.out_count;
	default: /* DEFLATE: the pages come back when they are touched */
		counter_add(&balloon->counters.deflates, 1);
		return !balloon->chain.in_count;
	}
}

static bool serve_stats(struct balloon *balloon)
{
	if (balloon->chain.in_count)
		return false;
	if (balloon->has_stats_buffer) /* a driver has one; should it have another it gets the older back */
		virtq_push(&balloon->device.queues[balloon->queue[STATS]], balloon->stats_head, 0);
	balloon->stats_head = balloon->chain.head;
	balloon->has_stats_buffer = true;
	read_stats(balloon);
	set_stats_timer(balloon);
	return true;
}

static void notify(struct virtio_device *device, unsigned index)
{
	struct balloon *balloon = balloon_of(device);
	struct virtq *queue = &device->queues[index];
	enum purpose purpose = balloon->purpose[index];
	unsigned budget = BUDGET;
	bool good = true;
	int got = 0;

	if (purpose == PURPOSES)
		return;
	virtq_stop_notify(queue);
	do {
		while (good && budget && (got = virtq_pop(queue, &balloon->chain)) > 0) {
			budget--;
			if (purpose == STATS) {
				good = serve_stats(balloon);
				continue;
			}
			good = serve(balloon, purpose);
			virtq_push(queue, balloon->chain.head, 0);
		}
	} while (good && budget && got == 0 && virtq_start_notify(queue));
	if (!good || got < 0) {
		virtio_fail(device, "a balloon queue is not what it must be");
		return;
	}
	virtio_publish(device, index);
	if (!budget)
		virtio_device_ring(device, index);
}

/* The queues that the driver did not ask for leave no gap. */
static int activate(struct virtio_device *device)
{
	static const unsigned feature[PURPOSES] = {
	    [STATS] = VIRTIO_BALLOON_F_STATS_VQ,
	    [HINTING] = VIRTIO_BALLOON_F_FREE_PAGE_HINT,
	    [REPORTING] = VIRTIO_BALLOON_F_REPORTING,
	};
	struct balloon *balloon = balloon_of(device);
	unsigned index = 0;

	for (enum purpose purpose = INFLATE; purpose < PURPOSES; purpose++)
		if (purpose <= DEFLATE || virtio_has(device, feature[purpose])) {
			balloon->queue[purpose] = index;
			balloon->purpose[index++] = purpose;
		}
	while (index < PURPOSES)
		balloon->purpose[index++] = PURPOSES;
	return 0;
}

static void quiesce(struct virtio_device *device)
{
	struct balloon *balloon = balloon_of(device);

	/* the driver's buffer goes back to where it was, to be taken again afterwards */
	if (balloon->has_stats_buffer)
		virtq_unpop(&device->queues[balloon->queue[STATS]]);
	balloon->has_stats_buffer = false;
}

static void reset(struct virtio_device *device)
{
	struct balloon *balloon = balloon_of(device);

	/* not virtio_config_set(): a driver that resets the device is not to be interrupted */
	pthread_mutex_lock(&device->config_lock);
	balloon->config.actual = 0;
	pthread_mutex_unlock(&device->config_lock);
	balloon->state.hint_guest_answered = false;
	balloon->state.stats = (struct balloon_stats){0};
}

static size_t save(const struct virtio_device *device, void *state, size_t room)
{
	const struct balloon *balloon = (const struct balloon *)device;
	const struct virtio_balloon_config *config = &balloon->config;

	if (room >= sizeof *config)
		memcpy(state, config, sizeof *config);
	return sizeof *config;
}

static int restore(struct virtio_device *device, const void *state, size_t bytes, struct riffle_error *error)
{
	struct balloon *balloon = balloon_of(device);

	if (bytes != sizeof balloon->config)
		return riffle_fail_expected(error, RIFFLE_ERR_FORMAT, "balloon", "its state has another size", bytes,
					    sizeof balloon->config);
	memcpy(&balloon->config, state, sizeof balloon->config);
	balloon->state.hint_host_command = balloon->config.free_page_hint_cmd_id;
	return activate(device);
}

static void destroy(struct virtio_device *device)
{
	if (device->loop)
		loop_timer_cancel(device->loop, &balloon_of(device)->stats_timer);
	free(device);
}

static const struct virtio_ops balloon_ops = {
    .id = VIRTIO_ID_BALLOON,
    .queue_count = PURPOSES,
    .activate = activate,
    .notify = notify,
    .quiesce = quiesce,
    .reset = reset,
    .save = save,
    .restore = restore,
    .destroy = destroy,
};

static int check_target(const struct balloon_config *config, uint64_t bytes, struct riffle_error *error)
{
	if (bytes % BALLOON_PAGE)
		return riffle_fail_expected(error, RIFFLE_ERR_ARGUMENT, "balloon", "is not a multiple of a page", bytes,
					    BALLOON_PAGE);
	if (bytes > config->memory_bytes || bytes / BALLOON_PAGE > UINT32_MAX)
		return riffle_fail_expected(error, RIFFLE_ERR_ARGUMENT, "balloon", "is larger than the guest's memory",
					    bytes, config->memory_bytes);
	return 0;
}

int balloon_new(struct virtio_device **device, const struct balloon_config *config, struct riffle_error *error)
{
	int status = check_target(config, config->target_bytes, error);
	struct balloon *balloon = status ? NULL : calloc(1, sizeof *balloon);

	if (!balloon)
		return status ? status : riffle_fail(error, RIFFLE_ERR_MEMORY, "balloon", "cannot be allocated");
	virtio_device_init(&balloon->device, &balloon_ops, "balloon");
	balloon->device.activate_fails = &balloon->counters.activate_fails;
	balloon->device.event_fails = &balloon->counters.event_fails;
	balloon->options = *config;
	balloon->config.num_pages = (uint32_t)(config->target_bytes / BALLOON_PAGE);
	balloon->hint_next = VIRTIO_BALLOON_CMD_ID_DONE + 1;
	balloon->stats_timer = (struct loop_timer){.expired = ask_for_stats, .opaque = balloon};
	balloon->rearm = (struct loop_task){.run = rearm, .opaque = balloon};
	balloon->device.config = &balloon->config;
	balloon->device.config_bytes = offsetof(struct virtio_balloon_config, poison_val);
	balloon->device.config_writable_from = offsetof(struct virtio_balloon_config, actual);
	balloon->device.config_writable = sizeof balloon->config.actual;
	if (config->stats_s)
		balloon->device.features |= VIRTIO_FEATURE(VIRTIO_BALLOON_F_STATS_VQ);
	if (config->deflate_on_oom)
		balloon->device.features |= VIRTIO_FEATURE(VIRTIO_BALLOON_F_DEFLATE_ON_OOM);
	if (config->hinting)
		balloon->device.features |= VIRTIO_FEATURE(VIRTIO_BALLOON_F_FREE_PAGE_HINT);
	if (config->reporting)
		balloon->device.features |= VIRTIO_FEATURE(VIRTIO_BALLOON_F_REPORTING);
	*device = &balloon->device;
	return 0;
}

/* ---- control ---- */

int balloon_set_target(struct virtio_device *device, uint64_t bytes, struct riffle_error *error)
{
	struct balloon *balloon = balloon_of(device);
	int status = check_target(&balloon->options, bytes, error);
	uint32_t pages = (uint32_t)(bytes / BALLOON_PAGE);

	if (status)
		return status;
	virtio_lock(device);
	virtio_config_set(device, offsetof(struct virtio_balloon_config, num_pages), &pages, sizeof pages);
	virtio_unlock(device);
	return 0;
}

int balloon_set_stats_interval(struct virtio_device *device, uint16_t seconds, struct riffle_error *error)
{
	struct balloon *balloon = balloon_of(device);
	int status = 0;

	virtio_lock(device);
	if (!seconds != !balloon->options.stats_s)
		status = riffle_fail_expected(error, RIFFLE_ERR_ARGUMENT, "stats",
					      "cannot be switched on or off while the guest runs", seconds,
					      balloon->options.stats_s);
	else
		balloon->options.stats_s = seconds;
	virtio_unlock(device);
	if (!status && seconds && device->loop)
		loop_post(device->loop, &balloon->rearm);
	return status;
}

const struct balloon_counters *balloon_counters(const struct virtio_device *device)
{
	return &((const struct balloon *)device)->counters;
}

void balloon_state(struct virtio_device *device, struct balloon_state *state)
{
	struct balloon *balloon = balloon_of(device);

	virtio_lock(device);
	*state = balloon->state;
	state->target_bytes = (uint64_t)balloon->config.num_pages * BALLOON_PAGE;
	state->actual_bytes = (uint64_t)balloon->config.actual * BALLOON_PAGE;
	virtio_unlock(device);
}

static int check_hinting(const struct balloon *balloon, struct riffle_error *error)
{
	return balloon->options.hinting
		   ? 0
		   : riffle_fail(error, RIFFLE_ERR_ARGUMENT, "hinting", "is not among what this balloon was made with");
}

int balloon_hint_start(struct virtio_device *device, bool acknowledge, struct riffle_error *error)
{
	struct balloon *balloon = balloon_of(device);
	int status = check_hinting(balloon, error);

	if (status)
		return status;
	virtio_lock(device);
	balloon->hint_acknowledge = acknowledge;
	balloon->state.hint_guest_answered = false;
	set_hint_command(balloon, balloon->hint_next);
	if (++balloon->hint_next <= VIRTIO_BALLOON_CMD_ID_DONE)
		balloon->hint_next = VIRTIO_BALLOON_CMD_ID_DONE + 1;
	virtio_unlock(device);
	return 0;
}

int balloon_hint_stop(struct virtio_device *device, struct riffle_error *error)
{
	struct balloon *balloon = balloon_of(device);
	int status = check_hinting(balloon, error);

	if (status)
		return status;
	virtio_lock(device);
	set_hint_command(balloon, VIRTIO_BALLOON_CMD_ID_DONE);
	virtio_unlock(device);
	return 0;
}
