/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Fuzzes the metadata service with frames from a guest: arbitrary bytes, and segments from clients that track the
 * connection state, so that conversations make progress; time passes, and the host changes the store.
 */
#include <stdlib.h>
#include <string.h>

#include "api/mmds/stack.h"
#include "tests/fuzz/accepted.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { CLIENTS = 40, ROOM = 65550 };

static const char *const words[] = {
    "GET / HTTP/1.1\r\n\r\n",
    "GET /a/b HTTP/1.0\r\nAccept: application/json\r\n\r\n",
    "PUT /latest/api/token HTTP/1.1\r\nX-metadata-token-ttl-seconds: 60\r\n\r\n",
    "GET //a/l/1/ HTTP/1.1\r\nX-aws-ec2-metadata-token: ",
    "AAAAAAAAAAAAAAAAbWV0YWRhdGEgdG9rZW4gb2YgcmlmZmxl\r\n\r\n",
    "GET http://x/none HTTP/1.1\r\nContent-Length: 70\r\n\r\n",
    "POST",
    " / HTTP/1.1\r\n",
    "X-Forwarded-For: x\r\n",
    "Accept: application/json\r\n",
    "\r\n",
    "\n\n",
    "Content-Length: 4000000000\r\n",
    "GET /~1~0/~ HTTP/1.1\r\n\r\n",
};
static const char *const values[] = {
    "{\"a\":{\"b\":\"text\",\"l\":[1,{\"x\":2.5}]},\"/~\":\"c\"}",
    "null",
    "\"s\"",
    "{\"a\":null}",
    "[[[[[[\"deep\"]]]]]]",
    "{\"a\":{\"b\":null,\"c\":{\"d\":null}}}",
};

static uint64_t clock_ns;

/* Stands in for the event loop and the device. */
void net_poll(struct virtio_device *device)
{
	(void)device;
}

void loop_timer_set(struct loop *loop, struct loop_timer *timer, uint64_t deadline_ns)
{
	(void)loop, (void)timer, (void)deadline_ns;
}

void loop_timer_cancel(struct loop *loop, struct loop_timer *timer)
{
	(void)loop, (void)timer;
}

uint64_t loop_now(void)
{
	return clock_ns;
}

struct input {
	const uint8_t *at, *end;
};

static uint8_t byte(struct input *in)
{
	return in->at < in->end ? *in->at++ : 0;
}

static struct {
	uint32_t seq, ack;
} clients[CLIENTS];

static void put16(uint8_t *at, unsigned value)
{
	at[0] = (uint8_t)(value >> 8);
	at[1] = (uint8_t)value;
}

static void put32(uint8_t *at, uint32_t value)
{
	put16(at, value >> 16);
	put16(at + 2, value & 0xffff);
}

static uint32_t get32(const uint8_t *at)
{
	return (uint32_t)at[0] << 24 | (uint32_t)at[1] << 16 | (uint32_t)at[2] << 8 | at[3];
}

/* Sends from memory that ends where the frame does, so that an overrun is detected. */
static void send_frame(const struct net_hook *hook, const uint8_t *frame, size_t bytes)
{
	uint8_t *copy = malloc(bytes ? bytes : 1);

	memcpy(copy, frame, bytes);
	if (hook->wants(hook->opaque, copy, bytes < NET_HOOK_HEAD ? bytes : NET_HOOK_HEAD))
		hook->take(hook->opaque, copy, bytes);
	free(copy);
}

static void send_any(const struct net_hook *hook, struct input *in)
{
	static const uint8_t start[] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 8, 0, 0x45};
	uint8_t frame[256];
	size_t bytes = byte(in);

	memcpy(frame, start, sizeof start);
	for (size_t i = bytes & 1 ? sizeof start : 12; i < bytes; i++)
		frame[i] = byte(in);
	if (bytes & 2 && bytes > 34)
		put32(frame + 30, MMDS_ADDRESS_DEFAULT);
	if (bytes & 4 && bytes > 42)
		put32(frame + 38, MMDS_ADDRESS_DEFAULT);
	send_frame(hook, frame, bytes < 12 ? 0 : bytes);
}

static size_t add_payload(struct input *in, uint8_t *to, unsigned how)
{
	size_t bytes = 0;

	if (how & 64) {
		bytes = (size_t)byte(in) * 16;
		memset(to, byte(in), bytes);
	}
	for (unsigned i = 0; i < (how >> 4 & 3); i++) {
		uint8_t what = byte(in);
		const char *word = words[what % (sizeof words / sizeof *words)];

		if (what & 128) {
			to[bytes++] = byte(in);
			continue;
		}
		memcpy(to + bytes, word, strlen(word));
		bytes += strlen(word);
	}
	return bytes;
}

/* With the client's sequence numbers, or slightly off. */
static void send_segment(const struct net_hook *hook, struct input *in)
{
	static uint8_t frame[8192];
	uint8_t *ip = frame + 14, *tcp = ip + 20;
	unsigned who = byte(in) % CLIENTS, how = byte(in), flags = byte(in);
	uint32_t seq = clients[who].seq, ack = clients[who].ack;
	size_t options = 0;

	memset(frame, 0, 54);
	put16(frame + 12, 0x0800);
	ip[0] = 0x45;
	ip[9] = 6;
	put32(ip + 12, 0xa9fe0002u);
	put32(ip + 16, MMDS_ADDRESS_DEFAULT);
	if (how & 1)
		seq += (uint32_t)(int8_t)byte(in);
	if (how & 2)
		ack -= (uint32_t)byte(in) << (flags >> 6);
	put16(tcp, 1000 + who);
	put16(tcp + 2, 80);
	put32(tcp + 4, seq);
	put32(tcp + 8, ack);
	put16(tcp + 14, how & 4 ? (unsigned)byte(in) << 4 : 65535);
	if (how & 8) {
		options = 8;
		for (size_t i = 0; i < options; i++)
			tcp[20 + i] = byte(in);
	}
	flags &= 31;
	tcp[12] = (uint8_t)((20 + options) / 4 << 4);
	tcp[13] = (uint8_t)flags;
	size_t bytes = add_payload(in, tcp + 20 + options, how);

	put16(ip + 2, (unsigned)(40 + options + bytes));
	clients[who].seq = seq + (uint32_t)bytes + !!(flags & TCP_SYN) + !!(flags & TCP_FIN);
	send_frame(hook, frame, 54 + options + bytes);
}

/* Receives frames; clients record the segments unless they are lost. */
static void drain(const struct net_hook *hook, unsigned most, bool lost)
{
	static uint8_t frame[ROOM];
	size_t bytes;

	while (most-- && (bytes = hook->give(hook->opaque, frame, ROOM))) {
		if (bytes < 42 || bytes > ROOM)
			abort();
		if (frame[12] != 8 || frame[13] != 0 || lost)
			continue;
		unsigned who = (unsigned)(frame[36] << 8 | frame[37]) - 1000;
		size_t payload = bytes - 34 - (size_t)(frame[46] >> 4) * 4;

		if (who >= CLIENTS)
			continue;
		clients[who].ack = get32(frame + 38) + (uint32_t)payload + !!(frame[47] & (TCP_SYN | TCP_FIN));
	}
}

static void change_store(struct mmds *mmds, struct input *in)
{
	uint8_t what = byte(in);
	const char *value = values[what % (sizeof values / sizeof *values)];

	if (what & 128)
		mmds_patch(mmds, value, strlen(value));
	else
		mmds_put(mmds, value, strlen(value));
}

static void check(const struct mmds *mmds)
{
	const struct mmds_counters *c = &mmds->counters;
	unsigned open = 0;

	for (unsigned i = 0; i < MMDS_CONNECTIONS; i++)
		open += mmds->stacks->connections[i] != NULL;
	if (c->connections_created - c->connections_destroyed != open)
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input in = {data, data + size};
	static struct mmds *mmds;
	uint8_t first = byte(&in);
	const struct mmds_config config = {
	    .version = first & 1 ? MMDS_V2 : MMDS_V1, .address = MMDS_ADDRESS_DEFAULT, .imds_compat = first & 2};

	memset(clients, 0, sizeof clients);
	clock_ns = 1;
	if (!mmds && mmds_new(&mmds, MMDS_SIZE_LIMIT, "fuzz", NULL))
		abort();
	mmds->store.limit = first & 4 ? 60 : MMDS_SIZE_LIMIT;
	mmds->tokens.issued = 0;
	mmds_configure(mmds, &config);
	const struct net_hook *hook = mmds_hook(mmds);
	uint64_t accepted = mmds->counters.rx_accepted;

	while (in.at < in.end) {
		uint8_t step = byte(&in);

		switch (step % 8) {
		case 0:
			send_any(hook, &in);
			break;
		case 1:
			clock_ns += UINT64_C(1000000) << (step >> 3 & 15);
			break;
		case 2:
			change_store(mmds, &in);
			break;
		case 3:
			drain(hook, 1 + (step >> 3), step & 128);
			break;
		case 4: /* a client connects */
			clients[step >> 3].seq = 7;
			{
				static const uint8_t syn[] = {0, 0, TCP_SYN}, ack[] = {0, 0, TCP_ACK};
				uint8_t bytes[3];
				struct input scripted = {bytes, bytes + 3};

				memcpy(bytes, syn, 3);
				bytes[0] = step >> 3;
				send_segment(hook, &scripted);
				drain(hook, 8, false);
				memcpy(bytes + 1, ack + 1, 2);
				scripted.at = bytes;
				send_segment(hook, &scripted);
			}
			break;
		default:
			send_segment(hook, &in);
			break;
		}
		check(mmds);
	}
	fuzz_accepted += mmds->counters.rx_accepted > accepted;
	mmds_forget_hooks(mmds);
	mmds_store_clear(&mmds->store);
	return 0;
}
