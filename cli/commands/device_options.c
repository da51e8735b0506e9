/* SPDX-License-Identifier: Apache-2.0 */
/* The options of `riffle run` that describe devices. */
#include "cli/commands/device_options.h"

#include <stdio.h>
#include <string.h>

#include "machine/option_grammar.h"
#include "monitor/virtio/block.h"

#define SECOND_MS 1000u

/* What `bytes-per-second=` and the like come to: a bucket of a second, full at the start. */
static struct limiter_bucket_config bucket(const struct option_value *rate, const struct option_value *burst)
{
	return (struct limiter_bucket_config){.size = rate->given ? rate->number : 0,
					      .refill_ms = SECOND_MS,
					      .one_time_burst = burst->given ? burst->number : 0};
}

#define RATE_KEYS                                                                                                      \
	{.name = "bps",                                                                                                \
	 .kind = OPTION_SIZE,                                                                                          \
	 .min = 1,                                                                                                     \
	 .expected = "bytes a second, which may have a unit: K, M, G or T"},                                           \
	    {.name = "bps-burst", .kind = OPTION_SIZE, .min = 1},                                                      \
	    {.name = "iops", .kind = OPTION_NUMBER, .min = 1, .expected = "operations a second"},                      \
	{                                                                                                              \
		.name = "iops-burst", .kind = OPTION_NUMBER, .min = 1                                                  \
	}

static bool no_rate(const struct option_value *rate, const char *option, const char *key, char *problem, size_t room)
{
	if (!rate[1].given || rate[0].given)
		return true;
	snprintf(problem, room, "%s: %s-burst: is given without %s, expected both", option, key, key);
	return false;
}

#define ID_CHARACTERS "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ-/="

static bool is_printable(const char *text)
{
	for (; *text; text++)
		if (*text < ' ' || *text > '~')
			return false;
	return true;
}

bool device_options_disk(struct machine_devices_config *config, const char *text, char *problem, size_t room)
{
	static const char *const caches[] = {"writeback", "none", "unsafe", NULL};
	static const char *const ios[] = {"auto", "inline", "uring", "threads", NULL};
	enum { RO, ROOT, PARTUUID, CACHE, SERIAL, RAW, IO, BPS, BPS_BURST, IOPS, IOPS_BURST, KEYS };
	static const struct option_key keys[KEYS] = {
	    {.name = "ro", .kind = OPTION_FLAG},
	    {.name = "root", .kind = OPTION_FLAG},
	    {.name = "partuuid", .kind = OPTION_TEXT, .expected = "the id of the root partition"},
	    {.name = "cache", .kind = OPTION_CHOICE, .choices = caches, .expected = "writeback, none or unsafe"},
	    {.name = "serial", .kind = OPTION_TEXT, .expected = "1 to 20 characters"},
	    {.name = "raw", .kind = OPTION_FLAG},
	    {.name = "io", .kind = OPTION_CHOICE, .choices = ios, .expected = "auto, inline, uring or threads"},
	    RATE_KEYS,
	};
	static const struct option_grammar grammar = {
	    .option = "--disk", .first = "FILE", .keys = keys, .key_count = KEYS};
	struct option_value v[KEYS + 1];
	char *storage; /* stays: the description points into it */

	if (!option_grammar_parse(&grammar, text, v, &storage, problem, room))
		return false;
	if (config->disk_count == MACHINE_DISKS_MAX) {
		snprintf(problem, room, "--disk: is given too often, expected at most %u", MACHINE_DISKS_MAX);
		return false;
	}
	for (unsigned i = 0; v[ROOT].given && i < config->disk_count; i++)
		if (config->disks[i].root) {
			snprintf(problem, room, "--disk: root: is given for two disks, expected for one");
			return false;
		}
	if (v[PARTUUID].given && !v[ROOT].given) {
		snprintf(problem, room, "--disk: partuuid: is given without root, expected both");
		return false;
	}
	/* it becomes a word of the guest's command line */
	if (v[PARTUUID].given && v[PARTUUID].text[strspn(v[PARTUUID].text, ID_CHARACTERS)]) {
		snprintf(problem, room, "--disk: partuuid: found '%.60s', expected letters, digits and '-'",
			 v[PARTUUID].text);
		return false;
	}
	if (v[SERIAL].given && (strlen(v[SERIAL].text) > BLOCK_SERIAL_BYTES || !is_printable(v[SERIAL].text))) {
		snprintf(problem, room, "--disk: serial: found '%.40s', expected 1 to 20 printable characters",
			 v[SERIAL].text);
		return false;
	}
	if (!no_rate(&v[BPS], "--disk", "bps", problem, room) || !no_rate(&v[IOPS], "--disk", "iops", problem, room))
		return false;
	config->disks[config->disk_count++] = (struct machine_disk){
	    .path = v[KEYS].text,
	    .read_only = v[RO].given,
	    .root = v[ROOT].given,
	    .partuuid = v[PARTUUID].text,
	    .raw = v[RAW].given,
	    .cache = (enum disk_cache)v[CACHE].number,
	    .io = (enum block_engine_kind)v[IO].number,
	    .serial = v[SERIAL].text,
	    .limits = {.bytes = bucket(&v[BPS], &v[BPS_BURST]), .ops = bucket(&v[IOPS], &v[IOPS_BURST])},
	};
	return true;
}

bool device_options_rng(struct machine_devices_config *config, const char *text, char *problem, size_t room)
{
	enum { BPS, BPS_BURST, IOPS, IOPS_BURST, KEYS };
	static const struct option_key keys[KEYS] = {RATE_KEYS};
	static const struct option_grammar grammar = {.option = "--rng", .keys = keys, .key_count = KEYS};
	struct option_value v[KEYS + 1];
	char *storage;

	if (!option_grammar_parse(&grammar, text ? text : "", v, &storage, problem, room))
		return false;
	if (!no_rate(&v[BPS], "--rng", "bps", problem, room) || !no_rate(&v[IOPS], "--rng", "iops", problem, room))
		return false;
	if (config->rng.wanted) {
		snprintf(problem, room, "--rng: is given twice, expected once");
		return false;
	}
	config->rng = (struct machine_rng){
	    .wanted = true,
	    .limits = {.bytes = bucket(&v[BPS], &v[BPS_BURST]), .ops = bucket(&v[IOPS], &v[IOPS_BURST])},
	};
	return true;
}
