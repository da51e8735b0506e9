/* SPDX-License-Identifier: Apache-2.0 */
/* The service's end of one network device: its address, its connections, and what is to be sent to the guest. */
#include "api/mmds/stack.h"

#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

/* ---- requests ---- */

/* The length of a request's head, with the empty line after it; 0: it is not complete. */
static uint32_t head_length(const uint8_t *input, uint32_t bytes)
{
	for (const uint8_t *at = input, *end = input + bytes; (at = memchr(at, '\n', (size_t)(end - at)));) {
		at++;
		if (end - at >= 1 && at[0] == '\n')
			return (uint32_t)(at + 1 - input);
		if (end - at >= 2 && at[0] == '\r' && at[1] == '\n')
			return (uint32_t)(at + 2 - input);
	}
	return 0;
}

static void serve(struct mmds *mmds, struct tcp_connection *tcp)
{
	uint32_t head;

	while (!tcp->output && (head = head_length(tcp->input, tcp->input_bytes))) {
		struct text response = {0};
		uint32_t body;

		mmds_answer(mmds, (const char *)tcp->input, head, &response, &body);
		if (response.failed || response.length > UINT32_MAX / 2) {
			text_clear(&response);
			tcp_reset(tcp);
			return;
		}
		tcp_consume(tcp, head, body);
		tcp_send(tcp, (uint8_t *)response.bytes, (uint32_t)response.length);
	}
	if (tcp->output)
		return;
	if (tcp->input_bytes == sizeof tcp->input)
		tcp_reset(tcp); /* the request is longer than what is kept */
	else if (tcp->fin_received)
		tcp_finish(tcp);
}

/* ---- connections ---- */

static void drop(struct mmds_stack *stack, unsigned i)
{
	tcp_close(&stack->connections[i]->tcp);
	free(stack->connections[i]);
	stack->connections[i] = NULL;
	stack->mmds->counters.connections_destroyed++;
}

static struct mmds_connection *find(const struct mmds_stack *stack, const struct packet *p, unsigned *place)
{
	for (unsigned i = 0; i < MMDS_CONNECTIONS; i++) {
		struct mmds_connection *c = stack->connections[i];

		*place = i;
		if (c && c->peer.address == p->address && c->peer.port == p->port)
			return c;
	}
	return NULL;
}

static void queue_reset(struct mmds_stack *stack, const struct packet *to, const struct tcp_segment *reset)
{
	if (stack->reset_count == MMDS_RESETS)
		return;
	stack->resets[stack->reset_count] = *to;
	stack->resets[stack->reset_count++].segment = *reset;
}

static void refuse(struct mmds_stack *stack, const struct packet *p)
{
	struct tcp_segment reset;

	if (tcp_refuse(&p->segment, &reset))
		queue_reset(stack, p, &reset);
}

/* Where a new connection can be; MMDS_CONNECTIONS: nowhere. */
static unsigned find_place(struct mmds_stack *stack, uint64_t now)
{
	unsigned idlest = 0;

	for (unsigned i = 0; i < MMDS_CONNECTIONS; i++) {
		if (!stack->connections[i])
			return i;
		if (stack->connections[i]->tcp.heard < stack->connections[idlest]->tcp.heard)
			idlest = i;
	}
	struct mmds_connection *c = stack->connections[idlest];
	const struct tcp_segment reset = {.seq = c->tcp.next, .ack = c->tcp.expected, .flags = TCP_RST | TCP_ACK};

	if (now - c->tcp.heard <= MMDS_IDLE_NS)
		return MMDS_CONNECTIONS;
	queue_reset(stack, &c->peer, &reset);
	drop(stack, idlest);
	return idlest;
}

static void accept_connection(struct mmds_stack *stack, const struct packet *p, uint64_t now)
{
	uint32_t first;
	unsigned place = find_place(stack, now);
	struct mmds_connection *c = place < MMDS_CONNECTIONS ? malloc(sizeof *c) : NULL;

	if (!c || getrandom(&first, sizeof first, 0) != (ssize_t)sizeof first) {
		free(c);
		refuse(stack, p);
		return;
	}
	c->peer = *p;
	c->peer.segment = (struct tcp_segment){0};
	tcp_open(&c->tcp, &p->segment, first, now);
	stack->connections[place] = c;
	stack->mmds->counters.connections_created++;
}

static void receive_segment(struct mmds_stack *stack, const struct packet *p)
{
	struct mmds_counters *counters = &stack->mmds->counters;
	uint64_t now = stack->mmds->now();
	unsigned place;

	if (p->to_port != MMDS_PORT) {
		counters->rx_accepted_err++;
		return;
	}
	counters->rx_count++;
	struct mmds_connection *c = find(stack, p, &place);

	if (!c) {
		if (p->segment.flags == TCP_SYN)
			accept_connection(stack, p, now);
		else
			refuse(stack, p);
		return;
	}
	memcpy(c->peer.mac, p->mac, sizeof c->peer.mac);
	if (!tcp_receive(&c->tcp, &p->segment, now))
		counters->rx_accepted_unusual++;
	if (!c->tcp.gone && !c->tcp.reset_due)
		serve(stack->mmds, &c->tcp);
	if (c->tcp.gone)
		drop(stack, place);
}

/* ---- the hook ---- */

static bool wants(void *opaque, const uint8_t *head, size_t bytes)
{
	const struct mmds_stack *stack = opaque;

	return packet_is_for(head, bytes, stack->mmds->config.address);
}

static void tell_counters(const struct mmds *mmds)
{
	if (mmds->changed)
		mmds->changed(mmds->opaque, &mmds->counters);
}

static void take(void *opaque, const uint8_t *frame, size_t bytes)
{
	struct mmds_stack *stack = opaque;
	struct mmds_counters *counters = &stack->mmds->counters;
	struct packet packet;

	counters->rx_accepted++;
	switch (packet_read(frame, bytes, &packet)) {
	case PACKET_ARP:
		stack->arp = packet;
		stack->arp_due = true;
		break;
	case PACKET_TCP:
		receive_segment(stack, &packet);
		break;
	case PACKET_OTHER:
		counters->rx_accepted_unusual++;
		break;
	case PACKET_SHORT:
		counters->rx_bad_eth++;
		break;
	default:
		counters->rx_accepted_err++;
		break;
	}
	tell_counters(stack->mmds);
}

static size_t give_reset(struct mmds_stack *stack, uint8_t *frame, size_t room)
{
	struct packet packet = stack->resets[0];

	stack->reset_count--;
	memmove(stack->resets, stack->resets + 1, stack->reset_count * sizeof *stack->resets);
	return packet_write_tcp(frame, room, stack->mmds->config.address, &packet);
}

/* Connections take turns by segments. */
static size_t give_segment(struct mmds_stack *stack, uint8_t *frame, size_t room)
{
	uint64_t now = stack->mmds->now();

	for (unsigned i = 0; i < MMDS_CONNECTIONS; i++) {
		unsigned place = stack->turn;
		struct mmds_connection *c = stack->connections[place];

		stack->turn = (stack->turn + 1) % MMDS_CONNECTIONS;
		if (!c)
			continue;
		bool any = tcp_next(&c->tcp, &c->peer.segment, now);
		size_t bytes = any ? packet_write_tcp(frame, room, stack->mmds->config.address, &c->peer) : 0;

		if (c->tcp.gone)
			drop(stack, place);
		if (any) {
			stack->mmds->counters.tx_errors += !bytes;
			return bytes;
		}
	}
	return 0;
}

/* The device asks until there is nothing; then the timer tells when there is something next. */
static void set_timer(struct mmds_stack *stack)
{
	uint64_t deadline = TCP_NEVER;

	for (unsigned i = 0; i < MMDS_CONNECTIONS; i++)
		if (stack->connections[i] && stack->connections[i]->tcp.deadline < deadline)
			deadline = stack->connections[i]->tcp.deadline;
	if (!stack->device)
		return;
	if (deadline == TCP_NEVER)
		loop_timer_cancel(stack->device->loop, &stack->timer);
	else
		loop_timer_set(stack->device->loop, &stack->timer, deadline);
}

static size_t give(void *opaque, uint8_t *frame, size_t room)
{
	struct mmds_stack *stack = opaque;
	struct mmds_counters *counters = &stack->mmds->counters;
	size_t bytes;

	if (stack->arp_due) {
		stack->arp_due = false;
		bytes = packet_write_arp(frame, room, stack->mmds->config.address, &stack->arp);
	} else if (stack->reset_count) {
		bytes = give_reset(stack, frame, room);
	} else {
		bytes = give_segment(stack, frame, room);
	}
	if (bytes) {
		counters->tx_count++;
		counters->tx_frames++;
		counters->tx_bytes += bytes;
	} else {
		set_timer(stack);
	}
	tell_counters(stack->mmds);
	return bytes;
}

/* A device that does not run asks by itself when it does again. */
static void expired(void *opaque)
{
	struct mmds_stack *stack = opaque;

	net_poll(stack->device);
}

static void attached(void *opaque, struct virtio_device *device)
{
	struct mmds_stack *stack = opaque;

	stack->device = device;
}

static void detached(void *opaque)
{
	struct mmds_stack *stack = opaque;

	loop_timer_cancel(stack->device->loop, &stack->timer);
	stack->device = NULL;
}

struct mmds_stack *mmds_stack_new(struct mmds *mmds)
{
	struct mmds_stack *stack = calloc(1, sizeof *stack);

	if (!stack)
		return NULL;
	stack->mmds = mmds;
	stack->timer = (struct loop_timer){.expired = expired, .opaque = stack};
	stack->hook = (struct net_hook){
	    .attached = attached,
	    .detached = detached,
	    .wants = wants,
	    .take = take,
	    .give = give,
	    .opaque = stack,
	};
	return stack;
}

void mmds_stack_destroy(struct mmds_stack *stack)
{
	for (unsigned i = 0; i < MMDS_CONNECTIONS; i++)
		if (stack->connections[i])
			drop(stack, i);
	free(stack);
}
