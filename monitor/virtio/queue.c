/* SPDX-License-Identifier: Apache-2.0 */
/* A split virtqueue, as the device sees it: chains of buffers out, used elements in, nothing of the driver's trusted.
 */
#include "monitor/virtio/queue.h"

#include <linux/virtio_ring.h>
#include <stdatomic.h>
#include <string.h>

#include "common/bytes.h"

enum {
	DESCRIPTOR_BYTES = 16,
	RING_FLAGS = 0,
	RING_INDEX = 2,
	AVAIL_RING = 4, /* of 2 bytes each, then used_event */
	USED_RING = 4,  /* of 8 bytes each, then avail_event */
	USED_BYTES = 8,
};

/* The rings are shared with a driver that runs meanwhile: each access is one load or store of 16 bits. */
static uint16_t load16(const void *at)
{
	return __atomic_load_n((const uint16_t *)at, __ATOMIC_RELAXED);
}

static void store16(void *at, uint16_t value)
{
	__atomic_store_n((uint16_t *)at, value, __ATOMIC_RELAXED);
}

static bool is_aligned(uint64_t address, uint64_t to)
{
	return !(address & (to - 1));
}

static bool overlap(uint64_t a, uint64_t a_bytes, uint64_t b, uint64_t b_bytes)
{
	return a < b ? b - a < a_bytes : a - b < b_bytes;
}

bool virtq_activate(struct virtq *queue, const struct guest_memory *memory, bool event_idx, bool indirect,
		    const char **problem)
{
	const uint64_t event_bytes = event_idx ? 2 : 0;
	const uint64_t descriptor_bytes = (uint64_t)DESCRIPTOR_BYTES * queue->size;
	const uint64_t avail_bytes = AVAIL_RING + 2u * queue->size + event_bytes;
	const uint64_t used_bytes = USED_RING + (uint64_t)USED_BYTES * queue->size + event_bytes;

	if (!queue->size || queue->size > queue->size_max || (queue->size & (queue->size - 1))) {
		*problem = "the size of a queue is not a power of two within its limit";
		return false;
	}
	if (!is_aligned(queue->descriptors, 16) || !is_aligned(queue->avail, 2) || !is_aligned(queue->used, 4)) {
		*problem = "a ring is not aligned";
		return false;
	}
	queue->descriptors_at = guest_memory_at(memory, queue->descriptors, descriptor_bytes);
	queue->avail_at = guest_memory_at(memory, queue->avail, avail_bytes);
	queue->used_at = guest_memory_at(memory, queue->used, used_bytes);
	if (!queue->descriptors_at || !queue->avail_at || !queue->used_at) {
		*problem = "a ring lies outside memory";
		return false;
	}
	if (overlap(queue->descriptors, descriptor_bytes, queue->avail, avail_bytes) ||
	    overlap(queue->descriptors, descriptor_bytes, queue->used, used_bytes) ||
	    overlap(queue->avail, avail_bytes, queue->used, used_bytes)) {
		*problem = "the rings of a queue overlap";
		return false;
	}
	queue->memory = memory;
	queue->event_idx = event_idx;
	queue->indirect = indirect;
	queue->broken = false;
	queue->next_avail = queue->seen_avail = queue->next_used = queue->published_used = 0;
	return true;
}

void virtq_reset(struct virtq *queue)
{
	*queue = (struct virtq){.size = queue->size_max, .size_max = queue->size_max};
}

unsigned virtq_waiting(const struct virtq *queue)
{
	uint16_t waiting = queue->broken ? 0 : (uint16_t)(queue->seen_avail - queue->next_avail);

	return waiting <= queue->size ? waiting : 0;
}

unsigned virtq_ahead(const struct virtq *queue)
{
	return (uint16_t)(load16(queue->avail_at + RING_INDEX) - queue->next_avail);
}

unsigned virtq_outstanding(const struct virtq *queue)
{
	return (uint16_t)(queue->next_avail - queue->next_used);
}

/* 1: there is a chain; 0: none; -1: the driver's index cannot be. */
static int look(struct virtq *queue)
{
	if (queue->broken)
		return -1;
	if (queue->next_avail == queue->seen_avail) {
		queue->seen_avail = load16(queue->avail_at + RING_INDEX);
		if (queue->next_avail == queue->seen_avail)
			return 0;
		/* entries and descriptors are read after the index that covers them */
		atomic_thread_fence(memory_order_acquire);
	}
	/*
	 * The driver has `size` descriptors, each in one chain at most: what it made available and was not given back
	 * cannot be more.
	 */
	if ((uint16_t)(queue->seen_avail - queue->published_used) > queue->size)
		return -1;
	return 1;
}

struct descriptor {
	uint64_t address;
	uint32_t bytes;
	uint16_t flags, next;
};

static struct descriptor load_descriptor(const uint8_t *at)
{
	uint64_t raw[2];

	memcpy(raw, at, sizeof raw);
	/* the compiler must keep this copy, and not read guest memory again where it is used */
	__asm__ volatile("" : "+m"(raw));
	return (struct descriptor){.address = raw[0],
				   .bytes = (uint32_t)raw[1],
				   .flags = (uint16_t)(raw[1] >> 32),
				   .next = (uint16_t)(raw[1] >> 48)};
}

static bool add_buffer(const struct virtq *queue, struct virtq_chain *chain, const struct descriptor *descriptor)
{
	unsigned count = chain->out_count + chain->in_count;
	bool in = descriptor->flags & VRING_DESC_F_WRITE;

	/* what the device writes comes after what it reads */
	if (count == VIRTQ_CHAIN_MAX || !descriptor->bytes || (!in && chain->in_count))
		return false;
	void *at = guest_memory_at(queue->memory, descriptor->address, descriptor->bytes);

	if (!at)
		return false;
	if (in)
		guest_memory_mark(queue->memory, at, descriptor->bytes);
	chain->buffers[count] = (struct iovec){.iov_base = at, .iov_len = descriptor->bytes};
	if (in) {
		chain->in_count++;
		chain->in_bytes += descriptor->bytes;
	} else {
		chain->out_count++;
		chain->out_bytes += descriptor->bytes;
	}
	return chain->out_bytes + chain->in_bytes <= UINT32_MAX;
}

/* Follows a chain in a table of `count` descriptors; what ends the walk of a loop is that no entry is needed twice. */
static bool walk(const struct virtq *queue, struct virtq_chain *chain, const uint8_t *table, uint32_t count,
		 uint32_t index, bool nested)
{
	for (uint32_t steps = 0; steps < count; steps++) {
		if (index >= count)
			return false;
		struct descriptor descriptor = load_descriptor(table + (size_t)DESCRIPTOR_BYTES * index);

		if (descriptor.flags & VRING_DESC_F_INDIRECT) {
			if (nested || !queue->indirect || (descriptor.flags & VRING_DESC_F_NEXT) || !descriptor.bytes ||
			    descriptor.bytes % DESCRIPTOR_BYTES)
				return false;
			const uint8_t *indirect = guest_memory_at(queue->memory, descriptor.address, descriptor.bytes);

			return indirect && walk(queue, chain, indirect, descriptor.bytes / DESCRIPTOR_BYTES, 0, true);
		}
		if (!add_buffer(queue, chain, &descriptor))
			return false;
		if (!(descriptor.flags & VRING_DESC_F_NEXT))
			return true;
		index = descriptor.next;
	}
	return false;
}

static uint16_t next_head(const struct virtq *queue)
{
	return load16(queue->avail_at + AVAIL_RING + 2u * (queue->next_avail & (queue->size - 1u)));
}

bool virtq_next_is_long(const struct virtq *queue, unsigned most)
{
	uint16_t head = next_head(queue);

	if (head >= queue->size)
		return false;
	struct descriptor descriptor = load_descriptor(queue->descriptors_at + (size_t)DESCRIPTOR_BYTES * head);

	return (descriptor.flags & VRING_DESC_F_INDIRECT) && descriptor.bytes / DESCRIPTOR_BYTES > most;
}

int virtq_pop(struct virtq *queue, struct virtq_chain *chain)
{
	int there = look(queue);

	if (there > 0) {
		chain->head = next_head(queue);
		chain->out_count = chain->in_count = 0;
		chain->out_bytes = chain->in_bytes = 0;
		if (!walk(queue, chain, queue->descriptors_at, queue->size, chain->head, false))
			there = -1;
		chain->out = chain->buffers;
		chain->in = chain->buffers + chain->out_count;
	}
	if (there < 0)
		queue->broken = true;
	else
		queue->next_avail = (uint16_t)(queue->next_avail + there);
	return there;
}

void virtq_unpop(struct virtq *queue)
{
	queue->next_avail--;
}

void virtq_push(struct virtq *queue, uint16_t head, uint32_t written)
{
	uint8_t *element = queue->used_at + USED_RING + (size_t)USED_BYTES * (queue->next_used & (queue->size - 1u));
	const uint32_t id = head;

	memcpy(element, &id, sizeof id);
	memcpy(element + 4, &written, sizeof written);
	queue->next_used++;
}

void virtq_unpush(struct virtq *queue, uint16_t count)
{
	queue->next_used = (uint16_t)(queue->next_used - count);
}

bool virtq_publish(struct virtq *queue)
{
	uint16_t old = queue->published_used;

	if (old == queue->next_used)
		return false;
	queue->published_used = queue->next_used;
	atomic_thread_fence(memory_order_release);
	store16(queue->used_at + RING_INDEX, queue->next_used);
	/* the index must be out before the driver's wish is read: the driver does the same in the other order */
	atomic_thread_fence(memory_order_seq_cst);
	if (!queue->event_idx)
		return !(load16(queue->avail_at + RING_FLAGS) & VRING_AVAIL_F_NO_INTERRUPT);
	uint16_t event = load16(queue->avail_at + AVAIL_RING + 2u * queue->size);

	return (uint16_t)(queue->next_used - event - 1) < (uint16_t)(queue->next_used - old);
}

void virtq_stop_notify(struct virtq *queue)
{
	/* with EVENT_IDX the event index, passed once, does not ask again */
	if (!queue->event_idx)
		store16(queue->used_at + RING_FLAGS, VRING_USED_F_NO_NOTIFY);
}

bool virtq_start_notify(struct virtq *queue)
{
	if (queue->event_idx)
		store16(queue->used_at + USED_RING + (size_t)USED_BYTES * queue->size, queue->next_avail);
	else
		store16(queue->used_at + RING_FLAGS, 0);
	atomic_thread_fence(memory_order_seq_cst);
	return look(queue) != 0;
}

static size_t copy(const struct iovec *buffers, unsigned count, size_t offset, void *data, size_t bytes, bool in)
{
	size_t done = 0;

	for (unsigned i = 0; i < count && done < bytes; i++) {
		if (offset >= buffers[i].iov_len) {
			offset -= buffers[i].iov_len;
			continue;
		}
		size_t part = buffers[i].iov_len - offset;
		uint8_t *guest = (uint8_t *)buffers[i].iov_base + offset, *own = (uint8_t *)data + done;

		if (part > bytes - done)
			part = bytes - done;
		memcpy(in ? guest : own, in ? own : guest, part);
		done += part;
		offset = 0;
	}
	return done;
}

size_t virtq_chain_read(const struct virtq_chain *chain, size_t offset, void *data, size_t bytes)
{
	return copy(chain->out, chain->out_count, offset, data, bytes, false);
}

size_t virtq_chain_write(const struct virtq_chain *chain, size_t offset, const void *data, size_t bytes)
{
	return copy(chain->in, chain->in_count, offset, (void *)(uintptr_t)data, bytes, true);
}

unsigned virtq_slice(struct iovec *to, const struct iovec *from, unsigned count, size_t offset, size_t bytes)
{
	unsigned filled = 0;

	for (unsigned i = 0; i < count && bytes; i++) {
		if (offset >= from[i].iov_len) {
			offset -= from[i].iov_len;
			continue;
		}
		size_t part = from[i].iov_len - offset;

		if (part > bytes)
			part = bytes;
		to[filled++] = (struct iovec){.iov_base = (uint8_t *)from[i].iov_base + offset, .iov_len = part};
		bytes -= part;
		offset = 0;
	}
	return filled;
}

void virtq_chain_copy(struct virtq_chain *to, const struct virtq_chain *from)
{
	unsigned count = from->out_count + from->in_count;

	to->head = from->head;
	to->out_count = from->out_count;
	to->in_count = from->in_count;
	to->out_bytes = from->out_bytes;
	to->in_bytes = from->in_bytes;
	memcpy(to->buffers, from->buffers, count * sizeof *from->buffers);
	to->out = to->buffers;
	to->in = to->buffers + to->out_count;
}
