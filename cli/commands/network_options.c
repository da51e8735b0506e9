/* SPDX-License-Identifier: Apache-2.0 */
/* The options of `riffle run` that describe a network, vsock and balloon. */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "cli/commands/device_options.h"
#include "machine/option_grammar.h"
#include "monitor/virtio/vsock.h"

#define SECOND_MS 1000u
#define BALLOON_MAX_STATS_S 65535u

static struct limiter_bucket_config rate(const struct option_value *value)
{
	return (struct limiter_bucket_config){.size = value->given ? value->number : 0, .refill_ms = SECOND_MS};
}

static bool add_forwards(struct passt_config *user, const struct option_value *value, char *problem, size_t room)
{
	for (unsigned i = 0; i < value->count; i++) {
		if (user->forwards == PASST_FORWARDS_MAX) {
			snprintf(problem, room, "--net: forward: is given too often, expected at most %u times",
				 PASST_FORWARDS_MAX);
			return false;
		}
		if (!passt_parse_forward(value->list[i], &user->forward[user->forwards++])) {
			snprintf(problem, room,
				 "--net: forward: found '%.60s', expected tcp|udp:[ADDRESS:]HOST_PORT:GUEST_PORT",
				 value->list[i]);
			return false;
		}
	}
	return true;
}

static void set_mac(struct machine_net *net, const struct option_value *value)
{
	if (!value->given)
		return;
	net->mac_kind = MACHINE_MAC_GIVEN;
	for (unsigned i = 0; i < sizeof net->mac; i++)
		net->mac[i] = (uint8_t)(value->number >> 8 * (sizeof net->mac - 1 - i));
}

bool device_options_net(struct machine_devices_config *config, const char *text, char *problem, size_t room)
{
	enum { TAP, FD, USER, FORWARD, HOST, MAC, MTU, RX_BPS, RX_PPS, TX_BPS, TX_PPS, KEYS };
	static const char bytes_a_second[] = "bytes a second, which may have a unit: K, M, G or T";
	static const struct option_key keys[KEYS] = {
	    {.name = "tap", .kind = OPTION_TEXT, .expected = "the name of a tap"},
	    {.name = "fd", .kind = OPTION_NUMBER, .max = 1u << 20, .expected = "the descriptor of a tap"},
	    {.name = "user", .kind = OPTION_FLAG},
	    {.name = "forward", .kind = OPTION_TEXT, .list = true, .expected = "tcp:HOST_PORT:GUEST_PORT"},
	    {.name = "host", .kind = OPTION_FLAG},
	    {.name = "mac", .kind = OPTION_MAC},
	    {.name = "mtu", .kind = OPTION_NUMBER, .min = 68, .max = UINT16_MAX},
	    {.name = "rx-bps", .kind = OPTION_SIZE, .min = 1, .expected = bytes_a_second},
	    {.name = "rx-pps", .kind = OPTION_NUMBER, .min = 1, .expected = "packets a second"},
	    {.name = "tx-bps", .kind = OPTION_SIZE, .min = 1, .expected = bytes_a_second},
	    {.name = "tx-pps", .kind = OPTION_NUMBER, .min = 1, .expected = "packets a second"},
	};
	static const struct option_grammar grammar = {.option = "--net", .keys = keys, .key_count = KEYS};
	struct option_value v[KEYS + 1];
	struct machine_net net = {0};
	char *storage; /* stays: the description points into it */

	if (!option_grammar_parse(&grammar, text, v, &storage, problem, room))
		return false;
	if (v[TAP].given + v[FD].given + v[USER].given != 1) {
		snprintf(problem, room, "--net: found '%.60s', expected one of tap=NAME, fd=N and user", text);
		return false;
	}
	if (!v[USER].given && (v[FORWARD].given || v[HOST].given)) {
		snprintf(problem, room, "--net: %s: is given without user, expected both",
			 v[FORWARD].given ? "forward" : "host");
		return false;
	}
	if (config->net_count == MACHINE_NETS_MAX) {
		snprintf(problem, room, "--net: is given too often, expected at most %u times", MACHINE_NETS_MAX);
		return false;
	}
	if (v[FD].given && (v[FD].number <= STDERR_FILENO || fcntl((int)v[FD].number, F_GETFD) < 0)) {
		snprintf(problem, room, "--net: fd: found %llu, expected a descriptor that riffle was given",
			 (unsigned long long)v[FD].number);
		return false;
	}
	for (unsigned i = 0; v[FD].given && i < config->net_count; i++)
		if (config->nets[i].kind == MACHINE_NET_FD && config->nets[i].fd == (int)v[FD].number) {
			snprintf(problem, room, "--net: fd: %d is given for two networks, expected one each",
				 config->nets[i].fd);
			return false;
		}
	net.kind = v[TAP].given ? MACHINE_NET_TAP : v[FD].given ? MACHINE_NET_FD : MACHINE_NET_USER;
	net.tap = v[TAP].text;
	net.fd = (int)v[FD].number;
	net.user.host_loopback = v[HOST].given;
	net.mtu = (uint16_t)(v[MTU].given ? v[MTU].number : 0);
	net.rx = (struct limiter_config){.bytes = rate(&v[RX_BPS]), .ops = rate(&v[RX_PPS])};
	net.tx = (struct limiter_config){.bytes = rate(&v[TX_BPS]), .ops = rate(&v[TX_PPS])};
	set_mac(&net, &v[MAC]);
	if (!add_forwards(&net.user, &v[FORWARD], problem, room))
		return false;
	config->nets[config->net_count++] = net;
	return true;
}

bool device_options_vsock(struct machine_devices_config *config, const char *text, char *problem, size_t room)
{
	enum { CID, PATH, KEYS };
	static const struct option_key keys[KEYS] = {
	    {.name = "cid", .kind = OPTION_NUMBER, .min = 3, .max = UINT32_MAX - 1, .required = true},
	    {.name = "path", .kind = OPTION_TEXT, .expected = "the path of a unix socket", .required = true},
	};
	static const struct option_grammar grammar = {.option = "--vsock", .keys = keys, .key_count = KEYS};
	struct option_value v[KEYS + 1];
	char *storage;

	if (!option_grammar_parse(&grammar, text, v, &storage, problem, room))
		return false;
	if (config->vsock.path) {
		snprintf(problem, room, "--vsock: is given twice, expected once");
		return false;
	}
	config->vsock = (struct machine_vsock){.path = v[PATH].text, .cid = v[CID].number};
	return true;
}

bool device_options_balloon(struct machine_devices_config *config, const char *text, char *problem, size_t room)
{
	enum { OOM, STATS, REPORTING, HINTING, KEYS };
	static const struct option_key keys[KEYS] = {
	    {.name = "deflate-on-oom", .kind = OPTION_FLAG},
	    {.name = "stats",
	     .kind = OPTION_NUMBER,
	     .min = 1,
	     .max = BALLOON_MAX_STATS_S,
	     .expected = "1 to 65535 seconds"},
	    {.name = "reporting", .kind = OPTION_FLAG},
	    {.name = "hinting", .kind = OPTION_FLAG},
	};
	static const struct option_grammar grammar = {
	    .option = "--balloon", .first = "SIZE", .keys = keys, .key_count = KEYS};
	struct option_value v[KEYS + 1];
	uint64_t size;
	char *storage;

	if (!option_grammar_parse(&grammar, text, v, &storage, problem, room))
		return false;
	if (config->balloon.wanted) {
		snprintf(problem, room, "--balloon: is given twice, expected once");
		return false;
	}
	if (!option_grammar_size(v[KEYS].text, &size) || size % BALLOON_PAGE) {
		snprintf(problem, room, "--balloon: SIZE: found '%.40s', expected a multiple of 4K, as in 64M",
			 v[KEYS].text);
		return false;
	}
	config->balloon = (struct machine_balloon){
	    .wanted = true,
	    .balloon = {.target_bytes = size,
			.deflate_on_oom = v[OOM].given,
			.stats_s = (uint16_t)(v[STATS].given ? v[STATS].number : 0),
			.reporting = v[REPORTING].given,
			.hinting = v[HINTING].given},
	};
	return true;
}
