/* SPDX-License-Identifier: Apache-2.0 */
/* The metadata service on the wire: a small TCP client at the frame level that loses frames and sends invalid ones. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "api/mmds/stack.h"

#define MS UINT64_C(1000000)
#define SERVICE 0xa9fea9feu
#define GUEST 0xa9fe0002u
#define ROOM 65550u

static const uint8_t guest_mac[6] = {2, 0, 0, 0, 0, 1};
static const uint8_t service_mac[6] = {0x06, 0x01, 0x23, 0x45, 0x67, 0x01};
static uint64_t fake_now;

static uint64_t now(void)
{
	return fake_now;
}

/* ---- frames, made and read independently of the code under test ---- */

struct seen {
	uint32_t seq, ack;
	unsigned flags, window, port, mss;
	uint8_t data[ROOM];
	size_t bytes;
};

struct guest {
	struct mmds *mmds;
	const struct net_hook *hook;
	uint8_t frame[ROOM];
	size_t frame_bytes;
	struct seen seen;
};

struct client {
	struct guest *guest;
	unsigned port;
	uint32_t seq, ack;
	unsigned window;
};

static void put(uint8_t *at, unsigned bytes, uint64_t value)
{
	while (bytes--) {
		at[bytes] = (uint8_t)value;
		value >>= 8;
	}
}

static uint64_t take(const uint8_t *at, unsigned bytes)
{
	uint64_t value = 0;

	while (bytes--)
		value = value << 8 | *at++;
	return value;
}

static unsigned folded_sum(const uint8_t *bytes, size_t count, unsigned sum)
{
	for (size_t i = 0; i < count; i++)
		sum += i % 2 ? bytes[i] : (unsigned)bytes[i] << 8;
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return sum;
}

static struct guest *open_guest(const char *store)
{
	struct guest *g = calloc(1, sizeof *g);

	assert_non_null(g);
	assert_int_equal(mmds_new(&g->mmds, MMDS_SIZE_LIMIT, "vm", NULL), 0);
	g->mmds->now = now;
	if (store)
		assert_int_equal(mmds_put(g->mmds, store, strlen(store)), MMDS_OK);
	g->hook = mmds_hook(g->mmds);
	assert_non_null(g->hook);
	return g;
}

static void close_guest(struct guest *g)
{
	struct mmds_counters *c = &g->mmds->counters;

	mmds_forget_hooks(g->mmds);
	assert_int_equal(c->connections_created, c->connections_destroyed);
	mmds_destroy(g->mmds);
	free(g);
}

static bool wanted(struct guest *g, const uint8_t *frame, size_t bytes)
{
	return g->hook->wants(g->hook->opaque, frame, bytes < NET_HOOK_HEAD ? bytes : NET_HOOK_HEAD);
}

static void give(struct guest *g, const uint8_t *frame, size_t bytes)
{
	uint8_t *copy = malloc(bytes); /* so that a sanitizer detects reads beyond it */

	memcpy(copy, frame, bytes);
	assert_true(wanted(g, copy, bytes));
	g->hook->take(g->hook->opaque, copy, bytes);
	free(copy);
}

/* Makes a frame with a TCP segment from the guest. */
static size_t make(uint8_t *frame, unsigned port, unsigned to_port, uint32_t seq, uint32_t ack, unsigned flags,
		   unsigned window, const uint8_t *options, size_t option_bytes, const void *data, size_t bytes)
{
	uint8_t *ip = frame + 14, *tcp = ip + 20;
	size_t total = 40 + option_bytes + bytes;

	memset(frame, 0, 54);
	memset(frame, 0xff, 6); /* any destination will do */
	memcpy(frame + 6, guest_mac, 6);
	put(frame + 12, 2, 0x0800);
	ip[0] = 0x45;
	put(ip + 2, 2, total);
	ip[8] = 64;
	ip[9] = 6;
	put(ip + 12, 4, GUEST);
	put(ip + 16, 4, SERVICE);
	put(tcp, 2, port);
	put(tcp + 2, 2, to_port);
	put(tcp + 4, 4, seq);
	put(tcp + 8, 4, ack);
	tcp[12] = (uint8_t)((20 + option_bytes) / 4 << 4);
	tcp[13] = (uint8_t)flags;
	put(tcp + 14, 2, window);
	if (option_bytes)
		memcpy(tcp + 20, options, option_bytes);
	memcpy(tcp + 20 + option_bytes, data, bytes);
	return 14 + total;
}

/* Reads the next frame from the service, which must be a valid TCP segment. False: there is none. */
static bool next(struct guest *g)
{
	const uint8_t *ip = g->frame + 14, *tcp = ip + 20;
	struct seen *s = &g->seen;

	memset(g->frame, 0xee, sizeof g->frame);
	g->frame_bytes = g->hook->give(g->hook->opaque, g->frame, sizeof g->frame);
	if (!g->frame_bytes)
		return false;
	assert_memory_equal(g->frame, guest_mac, 6);
	assert_memory_equal(g->frame + 6, service_mac, 6);
	assert_int_equal(take(g->frame + 12, 2), 0x0800);
	assert_int_equal(ip[0], 0x45);
	assert_int_equal(take(ip + 2, 2) + 14, g->frame_bytes);
	assert_int_equal(folded_sum(ip, 20, 0), 0xffff);
	assert_int_equal(take(ip + 12, 4), SERVICE);
	assert_int_equal(take(ip + 16, 4), GUEST);
	size_t length = g->frame_bytes - 34, header = (size_t)(tcp[12] >> 4) * 4;

	assert_int_equal(folded_sum(tcp, length, folded_sum(ip + 12, 8, 6 + (unsigned)length)), 0xffff);
	assert_int_equal(take(tcp, 2), 80);
	s->port = (unsigned)take(tcp + 2, 2);
	s->seq = (uint32_t)take(tcp + 4, 4);
	s->ack = (uint32_t)take(tcp + 8, 4);
	s->flags = tcp[13];
	s->window = (unsigned)take(tcp + 14, 2);
	s->mss = header == 24 && tcp[20] == 2 && tcp[21] == 4 ? (unsigned)take(tcp + 22, 2) : 0;
	s->bytes = length - header;
	memcpy(s->data, tcp + header, s->bytes);
	return true;
}

static void expect_silence(struct guest *g)
{
	assert_false(next(g));
}

/* ---- a client ---- */

static void send_segment(struct client *c, unsigned flags, const void *data, size_t bytes)
{
	uint8_t *frame = malloc(54 + bytes);

	give(c->guest, frame, make(frame, c->port, 80, c->seq, c->ack, flags, c->window, NULL, 0, data, bytes));
	free(frame);
}

static void send_syn(struct client *c, unsigned mss)
{
	uint8_t frame[64], options[8] = {1, 1, 4, 2, 2, 4, (uint8_t)(mss >> 8), (uint8_t)mss};

	give(c->guest, frame, make(frame, c->port, 80, c->seq, 0, TCP_SYN, c->window, options, mss ? 8 : 0, "", 0));
}

static void expect(struct client *c, unsigned flags, uint32_t seq)
{
	assert_true(next(c->guest));
	assert_int_equal(c->guest->seen.port, c->port);
	assert_int_equal(c->guest->seen.flags, flags);
	assert_int_equal(c->guest->seen.seq, seq);
	if (flags & TCP_ACK)
		assert_int_equal(c->guest->seen.ack, c->seq);
}

static struct client open_client(struct guest *g, unsigned port, unsigned mss)
{
	struct client c = {.guest = g, .port = port, .seq = 0xfffffff0u + port, .window = 65535};

	send_syn(&c, mss);
	c.seq++;
	assert_true(next(g));
	assert_int_equal(g->seen.port, port);
	assert_int_equal(g->seen.flags, TCP_SYN | TCP_ACK);
	assert_int_equal(g->seen.ack, c.seq);
	assert_int_equal(g->seen.mss, 1460);
	assert_int_equal(g->seen.window, 2500);
	c.ack = g->seen.seq + 1;
	send_segment(&c, TCP_ACK, "", 0);
	expect_silence(g);
	return c;
}

static void say(struct client *c, const char *words)
{
	send_segment(c, TCP_ACK | TCP_PSH, words, strlen(words));
	c->seq += (uint32_t)strlen(words);
}

/*
 * Receives and acknowledges what is there; returns the number of segments. The text has room for `room` bytes and ends
 * with a zero.
 */
static unsigned listen_to(struct client *c, char *text, size_t room)
{
	size_t length = 0;
	unsigned segments = 0;

	while (next(c->guest)) {
		struct seen *s = &c->guest->seen;

		assert_int_equal(s->port, c->port);
		assert_int_equal(s->flags & ~TCP_PSH, TCP_ACK);
		assert_int_equal(s->ack, c->seq);
		if (!s->bytes)
			continue;
		assert_int_equal(s->seq, c->ack);
		assert_true(length + s->bytes < room);
		memcpy(text + length, s->data, s->bytes);
		length += s->bytes;
		c->ack += (uint32_t)s->bytes;
		segments++;
		send_segment(c, TCP_ACK, "", 0);
	}
	text[length] = 0;
	return segments;
}

static void expect_words(struct client *c, const char *words)
{
	char text[4096];
	const char *body;

	listen_to(c, text, sizeof text);
	body = strstr(text, "\r\n\r\n");
	assert_non_null(body);
	assert_string_equal(body + 4, words);
}

static void hang_up(struct client *c)
{
	send_segment(c, TCP_ACK | TCP_FIN, "", 0);
	c->seq++;
	expect(c, TCP_ACK | TCP_FIN, c->ack);
	c->ack++;
	send_segment(c, TCP_ACK, "", 0);
	expect_silence(c->guest);
}

static unsigned open_connections(const struct guest *g)
{
	return (unsigned)(g->mmds->counters.connections_created - g->mmds->counters.connections_destroyed);
}

#define HEAD_BYTES 115u /* of a plain text response of 10000 to 99999 bytes */
#define GET(path) "GET " path " HTTP/1.1\r\nHost: x\r\n\r\n"

/* ---- what is for the service ---- */

static size_t make_arp(uint8_t *frame, unsigned operation, uint32_t target)
{
	static const uint8_t start[] = {0, 1, 8, 0, 6, 4};

	memset(frame, 0, 42);
	memset(frame, 0xff, 6);
	memcpy(frame + 6, guest_mac, 6);
	put(frame + 12, 2, 0x0806);
	memcpy(frame + 14, start, sizeof start);
	put(frame + 20, 2, operation);
	memcpy(frame + 22, guest_mac, 6);
	put(frame + 28, 4, GUEST);
	put(frame + 38, 4, target);
	return 42;
}

static void test_arp(void **state)
{
	(void)state;
	struct guest *g = open_guest(NULL);
	uint8_t frame[64] = {0};
	size_t bytes = make_arp(frame, 1, SERVICE);

	assert_false(wanted(g, frame, bytes - 1));
	give(g, frame, bytes);
	assert_int_equal(g->hook->give(g->hook->opaque, g->frame, ROOM), 42);
	assert_memory_equal(g->frame, guest_mac, 6);
	assert_memory_equal(g->frame + 6, service_mac, 6);
	assert_memory_equal(g->frame + 12, frame + 12, 8);
	assert_int_equal(take(g->frame + 20, 2), 2);
	assert_memory_equal(g->frame + 22, service_mac, 6);
	assert_int_equal(take(g->frame + 28, 4), SERVICE);
	assert_memory_equal(g->frame + 32, guest_mac, 6);
	assert_int_equal(take(g->frame + 38, 4), GUEST);
	expect_silence(g);
	/* a reply sent by another host goes to the service as well, and is not answered; nor is nonsense */
	give(g, frame, make_arp(frame, 2, SERVICE));
	frame[18] = 8;
	give(g, frame, 42);
	expect_silence(g);
	/* others' addresses */
	assert_false(wanted(g, frame, make_arp(frame, 1, SERVICE + 1)));
	assert_false(wanted(g, frame, make_arp(frame, 1, GUEST)));
	assert_int_equal(g->mmds->counters.rx_accepted, 3);
	assert_int_equal(g->mmds->counters.rx_accepted_unusual, 1);
	assert_int_equal(g->mmds->counters.rx_accepted_err, 1);
	assert_int_equal(g->mmds->counters.tx_frames, 1);
	assert_int_equal(g->mmds->counters.tx_bytes, 42);
	close_guest(g);
}

static void test_address(void **state)
{
	(void)state;
	struct guest *g = open_guest(NULL);
	const struct mmds_config config = {.address = 0xa9fe0102u};
	uint8_t frame[64] = {0};

	mmds_configure(g->mmds, &config);
	assert_false(wanted(g, frame, make_arp(frame, 1, SERVICE)));
	give(g, frame, make_arp(frame, 1, 0xa9fe0102u));
	assert_int_equal(g->hook->give(g->hook->opaque, g->frame, ROOM), 42);
	assert_int_equal(take(g->frame + 28, 4), 0xa9fe0102u);
	close_guest(g);
}

/* All IPv4 traffic to the address is consumed; other traffic is not examined. */
static void test_swallowed(void **state)
{
	(void)state;
	struct guest *g = open_guest(NULL);
	struct mmds_counters *c = &g->mmds->counters;
	uint8_t frame[128] = {0};
	size_t bytes = make(frame, 1000, 80, 5, 0, TCP_SYN, 1000, NULL, 0, "", 0);

	frame[33]++; /* to another address */
	assert_false(wanted(g, frame, bytes));
	frame[33]--;
	put(frame + 12, 2, 0x86dd); /* IPv6 */
	assert_false(wanted(g, frame, bytes));
	put(frame + 12, 2, 0x0800);
	assert_false(wanted(g, frame, 33));
	assert_true(wanted(g, frame, 34));

	frame[23] = 17; /* UDP */
	give(g, frame, bytes);
	frame[23] = 6;
	put(frame + 20, 2, 0x2000); /* a fragment: more follow */
	give(g, frame, bytes);
	put(frame + 20, 2, 1); /* its rest */
	give(g, frame, bytes);
	put(frame + 20, 2, 0x4000);
	assert_int_equal(c->rx_accepted_unusual, 3);
	assert_int_equal(c->rx_accepted_err, 0);
	/* lengths that lie */
	for (unsigned row = 0; row < 7; row++) {
		uint8_t bad[128];

		memcpy(bad, frame, sizeof bad);
		if (row == 0)
			put(bad + 16, 2, bytes - 13);
		else if (row == 1)
			put(bad + 16, 2, 19);
		else if (row == 2)
			bad[14] = 0x44;
		else if (row == 3)
			bad[14] = 0x65;
		else if (row == 4)
			bad[46] = 0x40;
		else if (row == 5)
			bad[46] = 0x60;
		else
			put(bad + 16, 2, 39);
		give(g, bad, bytes);
		assert_int_equal(c->rx_accepted_err, row + 1);
	}
	put(frame + 36, 2, 8080); /* another port */
	give(g, frame, bytes);
	assert_int_equal(c->rx_accepted_err, 8);
	assert_int_equal(c->rx_count, 0);
	expect_silence(g);
	/* now it is valid; an Ethernet frame's padding is not data */
	put(frame + 36, 2, 80);
	give(g, frame, 60);
	assert_true(next(g));
	assert_int_equal(g->seen.flags, TCP_SYN | TCP_ACK);
	assert_int_equal(g->seen.ack, 6);
	assert_int_equal(c->rx_count, 1);
	close_guest(g);
}

/* ---- conversations ---- */

static void test_request(void **state)
{
	(void)state;
	struct guest *g = open_guest("{\"a\":\"one\",\"b\":{\"c\":\"two\"}}");
	struct client c = open_client(g, 1000, 1460);

	say(&c, GET("/a"));
	expect_words(&c, "one");
	/* kept alive; in pieces */
	say(&c, "GET /b/c HTTP/1.1\r");
	expect(&c, TCP_ACK, c.ack);
	assert_int_equal(g->seen.window, 2500 - 18);
	say(&c, "\n\r");
	say(&c, "\n");
	expect_words(&c, "two");
	hang_up(&c);
	assert_int_equal(open_connections(g), 0);
	close_guest(g);
}

/* Pipelined requests are answered in order, each after the previous response has arrived. */
static void test_pipeline(void **state)
{
	(void)state;
	struct guest *g = open_guest("{\"a\":\"one\",\"b\":\"two\"}");
	struct client c = open_client(g, 1000, 1460);
	char text[4096];

	say(&c, GET("/a") "BAD\r\n\r\n" GET("/b"));
	listen_to(&c, text, sizeof text);
	char *one = strstr(text, "\r\n\r\none"), *bad = strstr(text, "Invalid request."),
	     *two = strstr(text, "\r\n\r\ntwo");

	assert_true(one && bad && two && one < bad && bad < two);
	hang_up(&c);
	close_guest(g);
}

static void test_end_with_request(void **state)
{
	(void)state;
	struct guest *g = open_guest("{\"a\":\"one\"}");
	struct client c = open_client(g, 1000, 1460);

	send_segment(&c, TCP_ACK | TCP_FIN, GET("/a"), strlen(GET("/a")));
	c.seq += (uint32_t)strlen(GET("/a")) + 1;
	expect(&c, TCP_ACK | TCP_PSH, c.ack);
	assert_non_null(strstr((char *)g->seen.data, "\r\n\r\none"));
	c.ack += (uint32_t)g->seen.bytes;
	expect_silence(g);
	send_segment(&c, TCP_ACK, "", 0);
	expect(&c, TCP_ACK | TCP_FIN, c.ack);
	/* a repeated FIN is acknowledged again; the service's own is repeated until it is acknowledged */
	c.seq--;
	send_segment(&c, TCP_ACK | TCP_FIN, "", 0);
	c.seq++;
	expect(&c, TCP_ACK, c.ack + 1);
	fake_now += 300 * MS;
	expect(&c, TCP_ACK | TCP_FIN, c.ack);
	c.ack++;
	send_segment(&c, TCP_ACK, "", 0);
	expect_silence(g);
	assert_int_equal(open_connections(g), 0);
	close_guest(g);
}

/* A body is skipped, however it is split, and its request rejected. */
static void test_body(void **state)
{
	(void)state;
	for (unsigned piece = 1; piece <= 101; piece += 20) {
		struct guest *g = open_guest("{\"a\":\"one\"}");
		struct client c = open_client(g, 1000, 1460);
		static const char all[] =
		    "PUT / HTTP/1.1\r\nContent-Length: 24\r\n\r\nGET /x HTTP/1.1\r\n\r\n....." GET("/a");
		size_t head = strlen(all) - 24 - strlen(GET("/a"));
		char text[4096] = "", more[4096], part[128];

		for (size_t at = 0; at < strlen(all); at += piece) {
			snprintf(part, sizeof part, "%.*s", (int)piece, all + at);
			say(&c, part);
			listen_to(&c, more, sizeof more);
			strcat(text, more);
			assert_int_equal(strstr(text, "Invalid request.") != NULL, at + piece >= head);
		}
		assert_non_null(strstr(text, "\r\n\r\none"));
		assert_null(strstr(text, "not found"));
		close_guest(g);
	}
}

/* A request may have 2500 bytes, but not one more. */
static void test_long_request(void **state)
{
	(void)state;
	for (size_t bytes = 2499; bytes <= 2501; bytes++) {
		struct guest *g = open_guest("{}");
		struct client c = open_client(g, 1000, 1460);
		char *request = malloc(bytes + 1), text[8192];

		memset(request, 'x', bytes);
		memcpy(request, "GET /", 5);
		memcpy(request + bytes - 13, " HTTP/1.1\r\n\r\n", 14);
		say(&c, request);
		if (bytes <= 2500) {
			listen_to(&c, text, sizeof text);
			assert_non_null(strstr(text, "Resource not found: /xxx"));
			assert_int_equal(open_connections(g), 1);
		} else {
			c.seq -= 1; /* the last byte did not fit */
			expect(&c, TCP_RST | TCP_ACK, c.ack);
			assert_int_equal(open_connections(g), 0);
		}
		free(request);
		close_guest(g);
	}
}

/* A response in segments of the size that the guest requested. */
static void test_mss(void **state)
{
	(void)state;
	static const struct {
		unsigned said, used;
	} rows[] = {{0, 536}, {536, 536}, {1460, 1460}, {1, 28}, {9000, 9000}, {65535, 65495}};
	char store[51000], *text = malloc(60000);

	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		memset(store, 'x', sizeof store);
		memcpy(store, "{\"a\":\"", 6);
		memcpy(store + sizeof store - 3, "\"}", 3);
		struct guest *g = open_guest(store);
		struct client c = open_client(g, 1000, rows[i].said);

		say(&c, GET("/a"));
		assert_true(next(g));
		size_t whole = HEAD_BYTES + sizeof store - 9;

		assert_int_equal(g->seen.bytes, whole < rows[i].used ? whole : rows[i].used);
		c.ack += (uint32_t)g->seen.bytes;
		send_segment(&c, TCP_ACK, "", 0);
		unsigned segments = 1 + listen_to(&c, text, 60000);

		assert_int_equal(segments, (whole + rows[i].used - 1) / rows[i].used);
		close_guest(g);
	}
	free(text);
}

/* ---- loss ---- */

/* A client that drops segments at random: the data arrives complete and in order. */
static void test_loss(void **state)
{
	(void)state;
	char store[20000], *text = malloc(30000);
	unsigned seed = 0x5eed;

	printf("seed %#x\n", seed);
	for (unsigned i = 0; i < sizeof store; i++)
		store[i] = (char)('a' + i % 23);
	memcpy(store, "{\"a\":\"", 6);
	memcpy(store + sizeof store - 3, "\"}", 3);
	for (unsigned round = 0; round < 20; round++) {
		struct guest *g = open_guest(store);
		struct client c = open_client(g, 1000 + round, 1000);
		size_t length = 0;
		unsigned quiet = 0;

		say(&c, GET("/a"));
		while (quiet < 30 && length < sizeof store - 9 + HEAD_BYTES) {
			struct seen *s = &g->seen;

			if (!next(g)) {
				fake_now += 1000 * MS;
				quiet++;
				continue;
			}
			seed = seed * 1103515245 + 12345;
			if (seed >> 16 & 1)
				continue;
			quiet = 0;
			if (s->seq == c.ack) {
				memcpy(text + length, s->data, s->bytes);
				length += s->bytes;
				c.ack += (uint32_t)s->bytes;
			}
			if (seed >> 17 & 1)
				send_segment(&c, TCP_ACK, "", 0);
		}
		assert_int_equal(length, sizeof store - 9 + HEAD_BYTES);
		assert_memory_equal(text + HEAD_BYTES, store + 6, sizeof store - 9);
		close_guest(g);
	}
	free(text);
}

/* Retransmits with growing delay 15 times; then the connection is reset. */
static void test_retries(void **state)
{
	(void)state;
	struct guest *g = open_guest("{\"a\":\"one\"}");
	struct client c = open_client(g, 1000, 1460);
	uint64_t timeout = 300 * MS;

	say(&c, GET("/a"));
	expect(&c, TCP_ACK | TCP_PSH, c.ack);
	for (unsigned retry = 0; retry < 15; retry++) {
		fake_now += timeout - 1;
		expect_silence(g);
		fake_now++;
		expect(&c, TCP_ACK | TCP_PSH, c.ack);
		assert_non_null(strstr((char *)g->seen.data, "one"));
		timeout = timeout * 2 > 5000 * MS ? 5000 * MS : timeout * 2;
	}
	assert_int_equal(open_connections(g), 1);
	fake_now += timeout;
	assert_true(next(g));
	assert_int_equal(g->seen.flags, TCP_RST | TCP_ACK);
	assert_int_equal(open_connections(g), 0);
	expect_silence(g);
	close_guest(g);
}

static void test_syn_again(void **state)
{
	(void)state;
	struct guest *g = open_guest("{\"a\":\"one\"}");
	struct client c = {.guest = g, .port = 7, .seq = 99, .window = 1000};

	send_syn(&c, 1460);
	c.seq++;
	assert_true(next(g));
	uint32_t first = g->seen.seq;

	expect_silence(g);
	c.seq--;
	send_syn(&c, 1460);
	c.seq++;
	expect(&c, TCP_SYN | TCP_ACK, first);
	fake_now += 300 * MS;
	expect(&c, TCP_SYN | TCP_ACK, first);
	/* an acknowledgement of something else does not open it */
	c.ack = first + 2;
	say(&c, "");
	c.ack = first + 1;
	assert_false(((struct mmds_stack *)g->hook->opaque)->connections[0]->tcp.established);
	/* the last one may come with the request */
	say(&c, GET("/a"));
	expect_words(&c, "one");
	/* a SYN within the connection is answered with the current numbers, and does no harm */
	uint32_t seq = c.seq;

	c.seq = 12345;
	send_syn(&c, 1460);
	c.seq = seq;
	expect(&c, TCP_ACK, c.ack);
	say(&c, GET("/a"));
	expect_words(&c, "one");
	close_guest(g);
}

/* Three duplicate acknowledgements indicate a loss. */
static void test_duplicate_acks(void **state)
{
	(void)state;
	char store[4000];
	unsigned sent = 0;

	memset(store, 'x', sizeof store);
	memcpy(store, "{\"a\":\"", 6);
	memcpy(store + sizeof store - 3, "\"}", 3);
	struct guest *g = open_guest(store);
	struct client c = open_client(g, 1000, 1000);

	say(&c, GET("/a"));
	while (next(g))
		sent++;
	assert_int_equal(sent, 5);
	for (unsigned i = 0; i < 2; i++)
		send_segment(&c, TCP_ACK, "", 0);
	expect_silence(g);
	send_segment(&c, TCP_ACK, "", 0);
	expect(&c, TCP_ACK, c.ack);
	assert_int_equal(g->seen.bytes, 1000);
	while (next(g))
		;
	/* an acknowledgement of all ends it */
	c.ack += 4000 - 9 + HEAD_BYTES - 1;
	send_segment(&c, TCP_ACK, "", 0);
	fake_now += 5000 * MS;
	expect_silence(g);
	close_guest(g);
}

/* Segments out of order are dropped and requested again, old ones acknowledged; overlapping data counts once. */
static void test_order(void **state)
{
	(void)state;
	struct guest *g = open_guest("{\"a\":\"one\"}");
	struct client c = open_client(g, 1000, 1460);
	const char *request = GET("/a");
	uint32_t start = c.seq;

	c.seq = start + 5;
	send_segment(&c, TCP_ACK, request + 5, 10);
	c.seq = start;
	expect(&c, TCP_ACK, c.ack);
	send_segment(&c, TCP_ACK, request, 10);
	c.seq = start + 10;
	expect(&c, TCP_ACK, c.ack);
	c.seq = start;
	send_segment(&c, TCP_ACK, request, 10);
	c.seq = start + 10;
	expect(&c, TCP_ACK, c.ack);
	c.seq = start + 3;
	send_segment(&c, TCP_ACK, request + 3, strlen(request) - 3);
	c.seq = start + (uint32_t)strlen(request);
	expect_words(&c, "one");
	/* is anybody there? */
	c.seq--;
	send_segment(&c, TCP_ACK, "", 0);
	c.seq++;
	expect(&c, TCP_ACK, c.ack);
	close_guest(g);
}

/* ---- windows ---- */

static void test_closed_window(void **state)
{
	(void)state;
	struct guest *g = open_guest("{\"a\":\"one\"}");
	struct client c = open_client(g, 1000, 1460);

	c.window = 0;
	say(&c, GET("/a"));
	expect(&c, TCP_ACK, c.ack);
	assert_int_equal(g->seen.bytes, 0);
	/* probed by a byte, for as long as the guest is there */
	for (unsigned i = 0; i < 40; i++) {
		fake_now += 5000 * MS;
		expect(&c, TCP_ACK, c.ack);
		assert_int_equal(g->seen.bytes, 1);
		expect_silence(g);
		send_segment(&c, TCP_ACK, "", 0);
		expect_silence(g);
	}
	c.window = 10;
	send_segment(&c, TCP_ACK, "", 0);
	expect(&c, TCP_ACK, c.ack);
	assert_int_equal(g->seen.bytes, 10);
	expect_silence(g);
	c.ack += 10;
	c.window = 65535;
	send_segment(&c, TCP_ACK, "", 0);
	expect_words(&c, "one");
	close_guest(g);
}

/* Data beyond the advertised window is not accepted. */
static void test_own_window(void **state)
{
	(void)state;
	struct guest *g = open_guest("{\"a\":\"one\"}");
	struct client c = open_client(g, 1000, 1460);
	char more[3000];

	/* the answer is not acknowledged yet: what comes meanwhile waits */
	say(&c, GET("/a"));
	expect(&c, TCP_ACK | TCP_PSH, c.ack);
	uint32_t answer = (uint32_t)g->seen.bytes;

	memset(more, 'x', sizeof more);
	send_segment(&c, TCP_ACK, more, sizeof more);
	c.seq += 2500;
	expect(&c, TCP_ACK, c.ack + answer);
	assert_int_equal(g->seen.window, 0);
	send_segment(&c, TCP_ACK, "x", 1);
	expect(&c, TCP_ACK, c.ack + answer);
	assert_int_equal(open_connections(g), 1);
	/* and then it is a request that is too long */
	c.ack += answer;
	send_segment(&c, TCP_ACK, "", 0);
	expect(&c, TCP_RST | TCP_ACK, c.ack);
	close_guest(g);
}

/* ---- many, and hostile ---- */

static void test_many(void **state)
{
	(void)state;
	struct guest *g = open_guest("{\"a\":\"one\"}");
	struct client c[30], late = {.guest = g, .port = 500, .seq = 1, .window = 1000};

	for (unsigned i = 0; i < 30; i++)
		c[i] = open_client(g, 100 + i, 1460);
	for (unsigned i = 0; i < 30; i++) {
		say(&c[i], GET("/a"));
		expect_words(&c[i], "one");
	}
	send_syn(&late, 0);
	late.seq++;
	expect(&late, TCP_RST | TCP_ACK, 0);
	assert_int_equal(open_connections(g), 30);
	/* ten seconds later the least recently active one is replaced */
	fake_now += 5000 * MS;
	for (unsigned i = 0; i < 30; i++)
		if (i != 7) {
			say(&c[i], GET("/a"));
			expect_words(&c[i], "one");
		}
	fake_now += 5000 * MS;
	late.seq--;
	send_syn(&late, 0);
	late.seq++;
	expect(&late, TCP_RST | TCP_ACK, 0);
	fake_now += 1;
	late.seq--;
	send_syn(&late, 0);
	late.seq++;
	expect(&c[7], TCP_RST | TCP_ACK, c[7].ack);
	assert_true(next(g));
	assert_int_equal(g->seen.port, 500);
	assert_int_equal(g->seen.flags, TCP_SYN | TCP_ACK);
	assert_int_equal(open_connections(g), 30);
	assert_int_equal(g->mmds->counters.connections_created, 31);
	close_guest(g);
}

/*
 * Segments of unknown connections are answered by a reset, resets by nothing; the number of pending resets is limited.
 */
static void test_strangers(void **state)
{
	(void)state;
	struct guest *g = open_guest(NULL);
	struct client c = {.guest = g, .port = 9, .seq = 100, .ack = 77, .window = 1};
	unsigned resets = 0;

	say(&c, "xyz");
	expect(&c, TCP_RST, 77);
	send_segment(&c, TCP_RST | TCP_ACK, "", 0);
	send_segment(&c, TCP_RST, "", 0);
	expect_silence(g);
	send_segment(&c, TCP_FIN, "ab", 2);
	c.seq += 3;
	expect(&c, TCP_RST | TCP_ACK, 0);
	send_segment(&c, TCP_SYN | TCP_ACK, "", 0);
	expect(&c, TCP_RST, 77);
	for (unsigned i = 0; i < 1000; i++)
		say(&c, "x");
	while (next(g))
		resets++;
	assert_int_equal(resets, MMDS_RESETS);
	close_guest(g);
}

static void test_resets(void **state)
{
	(void)state;
	struct guest *g = open_guest("{\"a\":\"one\"}");
	struct client c = open_client(g, 1000, 1460);

	/* a guess within the window is challenged, one far off is ignored */
	c.seq++;
	send_segment(&c, TCP_RST, "", 0);
	c.seq--;
	expect(&c, TCP_ACK, c.ack);
	c.seq += 2500;
	send_segment(&c, TCP_RST, "", 0);
	c.seq -= 2500;
	expect_silence(g);
	/* acknowledgements of what was never sent */
	c.ack++;
	send_segment(&c, TCP_ACK, "", 0);
	c.ack--;
	expect(&c, TCP_ACK, c.ack);
	/* no ACK at all */
	send_segment(&c, 0, "GET", 3);
	expect_silence(g);
	assert_int_equal(open_connections(g), 1);
	send_segment(&c, TCP_RST, "", 0);
	assert_int_equal(open_connections(g), 0);
	expect_silence(g);
	close_guest(g);
}

static void test_bad_options(void **state)
{
	(void)state;
	static const uint8_t rows[][4] = {{2, 5, 1, 1}, {2, 0, 1, 1}, {3, 1, 0, 0}, {1, 1, 1, 2}};

	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		struct guest *g = open_guest(NULL);
		uint8_t frame[64];

		give(g, frame, make(frame, 1, 80, 1, 0, TCP_SYN, 1, rows[i], 4, "", 0));
		expect_silence(g);
		assert_int_equal(g->mmds->counters.rx_accepted_err, 1);
		close_guest(g);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_arp),
	    cmocka_unit_test(test_address),
	    cmocka_unit_test(test_swallowed),
	    cmocka_unit_test(test_request),
	    cmocka_unit_test(test_pipeline),
	    cmocka_unit_test(test_end_with_request),
	    cmocka_unit_test(test_body),
	    cmocka_unit_test(test_long_request),
	    cmocka_unit_test(test_mss),
	    cmocka_unit_test(test_loss),
	    cmocka_unit_test(test_retries),
	    cmocka_unit_test(test_syn_again),
	    cmocka_unit_test(test_duplicate_acks),
	    cmocka_unit_test(test_order),
	    cmocka_unit_test(test_closed_window),
	    cmocka_unit_test(test_own_window),
	    cmocka_unit_test(test_many),
	    cmocka_unit_test(test_strangers),
	    cmocka_unit_test(test_resets),
	    cmocka_unit_test(test_bad_options),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
