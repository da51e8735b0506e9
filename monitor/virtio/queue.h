/* SPDX-License-Identifier: Apache-2.0 */
/* A split virtqueue, from the device's side: takes chains of buffers out, puts used elements in, and trusts nothing
 * from the driver.
 */
#ifndef RIFFLE_MONITOR_VIRTIO_QUEUE_H
#define RIFFLE_MONITOR_VIRTIO_QUEUE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "monitor/core/memory.h"

#define VIRTQ_SIZE_MAX 256u
#define VIRTQ_CHAIN_MAX 256u /* buffers of a chain, including those in an indirect table */

/*
 * A queue belongs to one thread, the event loop's, from virtq_activate() until its device is reset. The driver may
 * change the rings at any time: each descriptor is copied once, and only the copy is checked and used.
 */
struct virtq {
	/* what the driver set through the transport */
	uint16_t size; /* a power of two */
	uint16_t size_max;
	bool ready;
	uint64_t descriptors, avail, used; /* guest addresses */
	/* the rings' host addresses; valid after virtq_activate() */
	const struct guest_memory *memory;
	const uint8_t *descriptors_at;
	const uint8_t *avail_at;
	uint8_t *used_at;
	bool event_idx, indirect; /* negotiated */
	bool broken;              /* the ring is invalid: nothing more is taken */
	uint16_t next_avail;      /* index of the next chain to take */
	uint16_t seen_avail;      /* the driver's index when last read */
	uint16_t next_used;       /* index of the next element; not published beyond published_used */
	uint16_t published_used;
};

/* Buffers by host address, all of them inside guest memory and none empty; `out` is what the device may read. */
struct virtq_chain {
	uint16_t head;
	unsigned out_count, in_count;
	struct iovec *out, *in;       /* both in `buffers`: copy a chain by virtq_chain_copy() */
	uint64_t out_bytes, in_bytes; /* at most UINT32_MAX together */
	struct iovec buffers[VIRTQ_CHAIN_MAX];
};

/*
 * Checks size and addresses of the rings and keeps their host addresses; starts at index 0. False, with *problem set:
 * size, alignment, not in memory, overlapping rings.
 */
bool virtq_activate(struct virtq *queue, const struct guest_memory *memory, bool event_idx, bool indirect,
		    const char **problem);

/* Back to the state before the driver did anything; size_max is kept. */
void virtq_reset(struct virtq *queue);

/*
 * Takes the next chain that the driver made available: 1, or 0 if there is none. -1: the ring is invalid, now and at
 * further calls: call virtio_fail(). At most `size` chains are outstanding (popped and not pushed) at a time.
 */
int virtq_pop(struct virtq *queue, struct virtq_chain *chain);

/* Undoes the last virtq_pop(), before any other call; the chain is read again later, and may then differ. */
void virtq_unpop(struct virtq *queue);

/* How many of the chains known at the last look have not been popped. */
unsigned virtq_waiting(const struct virtq *queue);

/* How many chains there seem to be that have not been popped; the driver may say anything. */
unsigned virtq_ahead(const struct virtq *queue);
/*
 * Whether the next chain seems to have more than `most` buffers, by its first descriptor: only good for a choice of who
 * takes it. virtq_pop() reads the descriptors again.
 */
bool virtq_next_is_long(const struct virtq *queue, unsigned most);

/* How many chains are popped and not pushed. */
unsigned virtq_outstanding(const struct virtq *queue);

/*
 * Returns a chain, with `written` bytes of its `in` buffers filled. The driver sees it after virtq_publish(), which is
 * called once per batch and returns whether the driver wants an interrupt (virtio_publish() also raises it).
 */
void virtq_push(struct virtq *queue, uint16_t head, uint32_t written);
bool virtq_publish(struct virtq *queue);

/*
 * Takes back the last `count` virtq_push()es, not yet published, so that their chains may be pushed with other lengths
 * or popped again (virtq_unpop() once for each).
 */
void virtq_unpush(struct virtq *queue, uint16_t count);

/*
 * Asks the driver not to notify while the device is busy with the queue; or to notify again of the next chain. The
 * latter is true if there is one already, for which no notification will come: continue popping.
 *
 *	do {
 *		virtq_stop_notify(queue);
 *		while ((got = virtq_pop(queue, &chain)) > 0)
 *			...
 *	} while (got == 0 && virtq_start_notify(queue));
 */
void virtq_stop_notify(struct virtq *queue);
bool virtq_start_notify(struct virtq *queue);

/* Copies from the `out` or to the `in` buffers, from `offset` on; returns the number of bytes copied. */
size_t virtq_chain_read(const struct virtq_chain *chain, size_t offset, void *data, size_t bytes);
size_t virtq_chain_write(const struct virtq_chain *chain, size_t offset, const void *data, size_t bytes);

/*
 * Puts the part of `from` (count buffers) that starts at `offset` and is `bytes` long into `to`; returns the number of
 * buffers.
 */
unsigned virtq_slice(struct iovec *to, const struct iovec *from, unsigned count, size_t offset, size_t bytes);

void virtq_chain_copy(struct virtq_chain *to, const struct virtq_chain *from);

#endif
