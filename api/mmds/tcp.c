/* SPDX-License-Identifier: Apache-2.0 */
/* The server's end of a TCP connection: segments in, segments out; no sockets, no memory but its own. */
#include "api/mmds/tcp.h"

#include <stdlib.h>
#include <string.h>

#define DUPLICATES 3u /* acknowledgements that say that something was lost */

static bool is_after(uint32_t a, uint32_t b)
{
	return (int32_t)(a - b) > 0;
}

/* The sequence number that follows the last byte to send: a FIN's. */
static uint32_t output_end(const struct tcp_connection *c)
{
	return c->output_seq + c->output_bytes;
}

static void arm(struct tcp_connection *c, uint64_t now)
{
	uint64_t timeout = TCP_TIMEOUT_NS << (c->retries < 8 ? c->retries : 8);

	c->deadline = now + (timeout < TCP_TIMEOUT_MAX_NS ? timeout : TCP_TIMEOUT_MAX_NS);
}

static uint16_t clamp_mss(uint16_t mss)
{
	if (!mss)
		return TCP_MSS_DEFAULT;
	return mss < TCP_MSS_MIN ? TCP_MSS_MIN : mss > TCP_MSS_MAX ? TCP_MSS_MAX : mss;
}

void tcp_open(struct tcp_connection *c, const struct tcp_segment *syn, uint32_t first, uint64_t now)
{
	memset(c, 0, offsetof(struct tcp_connection, input));
	c->first = c->unacknowledged = c->next = c->highest = first;
	c->output_seq = first + 1;
	c->expected = syn->seq + 1;
	c->window = syn->window;
	c->mss = clamp_mss(syn->mss);
	c->deadline = TCP_NEVER;
	c->heard = now;
}

void tcp_close(struct tcp_connection *c)
{
	free(c->output);
	c->output = NULL;
}

void tcp_send(struct tcp_connection *c, uint8_t *output, uint32_t bytes)
{
	c->output = output;
	c->output_bytes = bytes;
}

void tcp_finish(struct tcp_connection *c)
{
	c->fin_wanted = true;
}

void tcp_reset(struct tcp_connection *c)
{
	c->reset_due = true;
}

void tcp_consume(struct tcp_connection *c, uint32_t bytes, uint32_t skip)
{
	uint32_t here = c->input_bytes - bytes < skip ? c->input_bytes - bytes : skip;

	bytes += here;
	c->skip = skip - here;
	c->input_bytes -= bytes;
	memmove(c->input, c->input + bytes, c->input_bytes);
}

/* ---- from the peer ---- */

static void acknowledge(struct tcp_connection *c, uint32_t ack, uint64_t now)
{
	c->unacknowledged = ack;
	if (is_after(ack, c->next))
		c->next = ack; /* of what is being sent again it had got some */
	c->retries = 0;
	c->duplicates = 0;
	c->probe_due = false;
	c->deadline = TCP_NEVER;
	if (c->next != ack)
		arm(c, now);
	if (c->output && !is_after(output_end(c), ack)) {
		free(c->output);
		c->output = NULL;
		c->output_seq += c->output_bytes;
		c->output_bytes = 0;
	}
	if (c->fin_wanted && c->fin_received && ack == output_end(c) + 1)
		c->gone = true;
}

static bool receive_ack(struct tcp_connection *c, const struct tcp_segment *s, uint64_t now)
{
	if (!c->established) {
		if (s->ack != c->first + 1 || c->highest == c->first)
			return false;
		c->established = true;
	}
	if (is_after(s->ack, c->highest)) {
		c->ack_due = true;
		return false;
	}
	if (is_after(c->unacknowledged, s->ack))
		return true; /* late; its data counts */
	bool is_news = s->ack != c->unacknowledged || s->bytes || s->window != c->window || s->flags & TCP_FIN;

	if (!c->window && s->window)
		c->next = c->unacknowledged; /* what probed a closed window was dropped */
	c->window = s->window;
	if (s->ack != c->unacknowledged)
		acknowledge(c, s->ack, now);
	else if (!c->window)
		c->retries = 0; /* it is there and takes nothing for now */
	if (is_news || c->next == c->unacknowledged)
		return true;
	if (++c->duplicates == DUPLICATES)
		c->next = c->unacknowledged;
	return false;
}

static bool receive_data(struct tcp_connection *c, const struct tcp_segment *s)
{
	uint32_t known = c->expected - s->seq; /* bytes at its beginning that were received before */
	size_t room = sizeof c->input - c->input_bytes;

	if (!s->bytes && !(s->flags & TCP_FIN) && !known)
		return true;
	c->ack_due = true;
	if ((int32_t)known < 0 || known > s->bytes || c->fin_received)
		return false;
	const uint8_t *data = s->data + known;
	size_t bytes = s->bytes - known, skipped = bytes < c->skip ? bytes : c->skip;

	c->skip -= (uint32_t)skipped;
	c->expected += (uint32_t)skipped;
	data += skipped;
	bytes -= skipped;
	if (bytes < room)
		room = bytes;
	memcpy(c->input + c->input_bytes, data, room);
	c->input_bytes += (uint32_t)room;
	c->expected += (uint32_t)room;
	if (room < bytes)
		return false; /* more than the window allows */
	if (s->flags & TCP_FIN) {
		c->fin_received = true;
		c->expected++;
	}
	return true;
}

bool tcp_receive(struct tcp_connection *c, const struct tcp_segment *s, uint64_t now)
{
	if (c->reset_due || c->gone)
		return false;
	c->heard = now;
	if (s->flags & TCP_RST) {
		/* one that was guessed is answered, as RFC 5961 has it */
		if (s->seq == c->expected)
			c->gone = true;
		else if (s->seq - c->expected < TCP_INPUT_BYTES)
			c->ack_due = c->established;
		return false;
	}
	if (s->flags & TCP_SYN) {
		bool again = !c->established && s->seq + 1 == c->expected && !(s->flags & TCP_ACK);

		if (again)
			c->next = c->first;
		else
			c->ack_due = c->established;
		return again;
	}
	if (!(s->flags & TCP_ACK))
		return false;
	bool as_expected = receive_ack(c, s, now);

	if (!c->established || is_after(s->ack, c->highest) || c->gone)
		return as_expected;
	return receive_data(c, s) && as_expected;
}

/* ---- to the peer ---- */

static void time_out(struct tcp_connection *c)
{
	c->deadline = TCP_NEVER;
	if (++c->retries > TCP_RETRIES) {
		c->reset_due = true;
		return;
	}
	c->next = c->unacknowledged;
	c->probe_due = c->established;
}

/* A segment at `next`, which takes `length` sequence numbers. */
static bool emit(struct tcp_connection *c, struct tcp_segment *s, unsigned flags, uint32_t length, uint64_t now)
{
	size_t room = sizeof c->input - c->input_bytes;

	s->seq = c->next;
	s->ack = c->expected;
	s->flags = (uint8_t)(flags | TCP_ACK);
	s->window = (uint16_t)room;
	c->ack_due = false;
	c->next += length;
	if (is_after(c->next, c->highest))
		c->highest = c->next;
	if (length && c->deadline == TCP_NEVER)
		arm(c, now);
	return true;
}

/* How many bytes of the output may go out now. */
static uint32_t sendable(struct tcp_connection *c, uint64_t now)
{
	uint32_t left = is_after(output_end(c), c->next) ? output_end(c) - c->next : 0;
	uint32_t sent = c->next - c->unacknowledged;
	uint32_t window = c->window > sent ? c->window - sent : 0;
	uint32_t bytes = left < c->mss ? left : c->mss;

	if (!left)
		return 0;
	if (bytes > window)
		bytes = window;
	if (!bytes && !sent && c->probe_due)
		bytes = 1; /* does the window still have no room? */
	else if (!bytes && !sent && c->deadline == TCP_NEVER)
		arm(c, now);
	c->probe_due = false;
	return bytes;
}

static bool next_reset(struct tcp_connection *c, struct tcp_segment *s, uint64_t now)
{
	c->gone = true;
	emit(c, s, TCP_RST, 0, now);
	return true;
}

bool tcp_next(struct tcp_connection *c, struct tcp_segment *s, uint64_t now)
{
	*s = (struct tcp_segment){0};
	if (c->gone)
		return false;
	if (!c->reset_due && now >= c->deadline)
		time_out(c);
	if (c->reset_due)
		return next_reset(c, s, now);
	if (!c->established) {
		if (c->next != c->first)
			return false;
		s->mss = TCP_MSS_OURS;
		return emit(c, s, TCP_SYN, 1, now);
	}
	uint32_t bytes = sendable(c, now);

	if (bytes) {
		s->data = c->output + (c->next - c->output_seq);
		s->bytes = bytes;
		return emit(c, s, c->next + bytes == output_end(c) ? TCP_PSH : 0, bytes, now);
	}
	if (c->fin_wanted && c->next == output_end(c))
		return emit(c, s, TCP_FIN, 1, now);
	return c->ack_due && emit(c, s, 0, 0, now);
}

bool tcp_refuse(const struct tcp_segment *segment, struct tcp_segment *reset)
{
	*reset = (struct tcp_segment){.flags = TCP_RST};
	if (segment->flags & TCP_RST)
		return false;
	if (segment->flags & TCP_ACK) {
		reset->seq = segment->ack;
		return true;
	}
	reset->flags |= TCP_ACK;
	reset->ack =
	    segment->seq + (uint32_t)segment->bytes + !!(segment->flags & TCP_SYN) + !!(segment->flags & TCP_FIN);
	return true;
}
