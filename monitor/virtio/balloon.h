/* SPDX-License-Identifier: Apache-2.0 */
/* The virtio balloon: returns memory that the guest does not need to the host. */
#ifndef RIFFLE_MONITOR_VIRTIO_BALLOON_H
#define RIFFLE_MONITOR_VIRTIO_BALLOON_H

#include "monitor/virtio/device.h"

#define BALLOON_PAGE 4096u
#define BALLOON_STATS 16u /* the known tags, from VIRTIO_BALLOON_S_SWAP_IN (0) on */

struct balloon_config {
	uint64_t memory_bytes; /* the guest's memory: the balloon's maximal size */
	uint64_t target_bytes; /* multiple of BALLOON_PAGE */
	bool deflate_on_oom;   /* the guest takes pages back rather than killing a process */
	bool reporting;        /* the guest reports pages that have been free for a while */
	bool hinting;          /* the guest lists its free pages when asked, by balloon_hint_start() */
	uint16_t stats_s;      /* seconds between two statistics, 0: none */
};

struct balloon_stats {
	uint32_t there; /* bit n: the guest gave tag n */
	uint64_t value[BALLOON_STATS];
};

struct balloon_state {
	uint64_t target_bytes, actual_bytes;                   /* requested; given according to the guest */
	uint64_t inflated_bytes, reported_bytes, hinted_bytes; /* total returned to the host so far */
	struct balloon_stats stats;
	uint32_t hint_host_command; /* the request sent to the guest, 0 or 1: none */
	bool hint_guest_answered;
	uint32_t hint_guest_command;
};

/* Errors: ARGUMENT (target), MEMORY. */
int balloon_new(struct virtio_device **device, const struct balloon_config *config, struct riffle_error *error);

/* The rest: any thread. */

/* Errors: ARGUMENT (not a multiple of a page, more than the guest's memory). */
int balloon_set_target(struct virtio_device *device, uint64_t bytes, struct riffle_error *error);
/* Takes effect after the next statistics. Errors: ARGUMENT (from or to 0: the driver negotiates statistics only at its
 * start).
 */
int balloon_set_stats_interval(struct virtio_device *device, uint16_t seconds, struct riffle_error *error);
const struct balloon_counters *balloon_counters(const struct virtio_device *device);
void balloon_state(struct virtio_device *device, struct balloon_state *state);

/*
 * Makes the guest list its free pages, which are returned to the host. `acknowledge`: the guest may use them again when
 * the list is complete, not only at balloon_hint_stop(). Errors: ARGUMENT (no hinting).
 */
int balloon_hint_start(struct virtio_device *device, bool acknowledge, struct riffle_error *error);
int balloon_hint_stop(struct virtio_device *device, struct riffle_error *error);

#endif
