/* SPDX-License-Identifier: Apache-2.0 */
/* The guest's receive buffers at hand: chains taken out of the queue ahead of the frames that will fill them. */
#include "monitor/virtio/net_window.h"

#include <string.h>

void net_window_clear(struct net_window *window)
{
	window->first_chain = window->chains = 0;
	window->first_buffer = window->buffers = 0;
	window->bytes = 0;
}

/* So that all of it can be given to a call, buffers stay in one piece: they move when the end is reached. */
static void compact(struct net_window *window)
{
	memmove(window->chain, window->chain + window->first_chain, window->chains * sizeof *window->chain);
	memmove(window->buffer, window->buffer + window->first_buffer, window->buffers * sizeof *window->buffer);
	window->first_chain = window->first_buffer = 0;
}

static bool append(struct net_window *window, const struct virtq_chain *chain)
{
	if (window->buffers + chain->in_count > NET_WINDOW_BUFFERS || window->chains == VIRTQ_SIZE_MAX)
		return false;
	if (window->first_chain + window->chains == VIRTQ_SIZE_MAX ||
	    window->first_buffer + window->buffers + chain->in_count > NET_WINDOW_BUFFERS)
		compact(window);
	unsigned at = window->first_chain + window->chains++;

	window->chain[at].head = chain->head;
	window->chain[at].buffers = (uint16_t)chain->in_count;
	window->chain[at].bytes = chain->in_bytes;
	memcpy(window->buffer + window->first_buffer + window->buffers, chain->in, chain->in_count * sizeof *chain->in);
	window->buffers += chain->in_count;
	window->bytes += chain->in_bytes;
	return true;
}

bool net_window_fill(struct net_window *window, struct virtq *queue, struct virtq_chain *scratch, uint64_t bytes,
		     unsigned chains)
{
	while (window->bytes < bytes && window->chains < chains) {
		int got = virtq_pop(queue, scratch);

		if (got < 0 || (got > 0 && (scratch->out_count || !scratch->in_count)))
			return false;
		if (got == 0)
			break;
		if (!append(window, scratch)) {
			virtq_unpop(queue);
			break;
		}
	}
	return true;
}

void net_window_return(struct net_window *window, struct virtq *queue)
{
	for (unsigned i = 0; i < window->chains; i++)
		virtq_unpop(queue);
	net_window_clear(window);
}

void net_window_write(const struct net_window *window, uint64_t offset, const void *data, size_t bytes)
{
	const uint8_t *from = data;

	for (const struct iovec *to = window->buffer + window->first_buffer; bytes; to++) {
		if (offset >= to->iov_len) {
			offset -= to->iov_len;
			continue;
		}
		size_t part = to->iov_len - offset;

		if (part > bytes)
			part = bytes;
		memcpy((uint8_t *)to->iov_base + offset, from, part);
		from += part;
		bytes -= part;
		offset = 0;
	}
}

unsigned net_window_chains(const struct net_window *window, uint64_t bytes)
{
	unsigned chains = 0;

	for (uint64_t room = 0; room < bytes; chains++)
		room += window->chain[window->first_chain + chains].bytes;
	return chains;
}

void net_window_push(struct net_window *window, struct virtq *queue, unsigned chains, uint64_t bytes)
{
	for (unsigned i = 0; i < chains; i++) {
		unsigned at = window->first_chain;
		uint64_t filled = bytes < window->chain[at].bytes ? bytes : window->chain[at].bytes;

		virtq_push(queue, window->chain[at].head, (uint32_t)filled);
		bytes -= filled;
		window->bytes -= window->chain[at].bytes;
		window->first_buffer += window->chain[at].buffers;
		window->buffers -= window->chain[at].buffers;
		window->first_chain++;
		window->chains--;
	}
}
