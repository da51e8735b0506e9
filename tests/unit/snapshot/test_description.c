/* SPDX-License-Identifier: Apache-2.0 */
/* A machine's description as JSON: all of it comes back, and what is not known or out of range is refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "machine/description.h"

static struct machine_config full(void)
{
	struct machine_config config;

	machine_config_init(&config);
	config.vcpus = 8;
	config.memory_bytes = UINT64_C(5) << 30;
	config.boot_timer = config.huge_2m = true;
	config.front_end = "{\"a\": \"\xc3\xa9\"}";
	strcpy(config.command_line, "console=ttyS0 a=\"b c\"");
	config.devices.disk_count = 2;
	config.devices.disks[0] = (struct machine_disk){.id = "root",
							.path = "/d",
							.root = true,
							.raw = true,
							.shared = true,
							.partuuid = "0f-01",
							.cache = DISK_CACHE_UNSAFE,
							.io = BLOCK_ENGINE_WORKERS,
							.serial = "s",
							.limits = {.bytes = {1, 2, 3}, .ops = {4, 5, UINT64_MAX}}};
	config.devices.disks[1] = (struct machine_disk){.path = "e", .read_only = true};
	config.devices.rng = (struct machine_rng){.wanted = true, .limits = {.bytes = {7, 8, 9}}};
	config.devices.net_count = 2;
	config.devices.nets[0] = (struct machine_net){.id = "n",
						      .kind = MACHINE_NET_TAP,
						      .tap = "tap0",
						      .mac_kind = MACHINE_MAC_GIVEN,
						      .mac = {2, 3, 4, 5, 6, 255},
						      .mtu = 65535,
						      .metadata = true,
						      .rx = {.ops = {1, 1, 1}}};
	config.devices.nets[1] = (struct machine_net){
	    .kind = MACHINE_NET_USER,
	    .mac_kind = MACHINE_MAC_NONE,
	    .user = {.forwards = 1,
		     .host_loopback = true,
		     .forward = {{.udp = true, .address = "::1", .host_port = 65535, .guest_port = 1}}}};
	config.devices.metadata = (struct machine_metadata){true, 2, UINT32_MAX, true};
	config.devices.vsock = (struct machine_vsock){.path = "/v", .cid = 3};
	config.devices.balloon = (struct machine_balloon){
	    .wanted = true, .balloon = {.target_bytes = 4096, .hinting = true, .stats_s = 65535}};
	config.origin = (struct machine_origin){
	    .mode = "fgkaslr",
	    .virtual_bits = 8.5,
	    .physical_bits = 7,
	    .chunks = 30000,
	    .identified = true,
	    .kernel = {.given = true, .device = 1, .inode = 2, .bytes = 3, .seconds = 4, .checksum = UINT64_MAX},
	    .cpu = 0xab,
	};
	return config;
}

__attribute__((noinline)) static char *text_of(const struct machine_config *config)
{
	char *text;

	assert_int_equal(description_write(&text, config, NULL), 0);
	return text;
}

static void test_round_trip(void **unused)
{
	const struct machine_config config = full();
	struct machine_config back;
	char *text = text_of(&config), *again;
	json_t *owner;

	(void)unused;
	machine_config_init(&back);
	assert_int_equal(description_read(&back, &owner, text, strlen(text), NULL), 0);
	again = text_of(&back);
	assert_string_equal(text, again);
	assert_int_equal(back.vcpus, 8);
	assert_string_equal(back.command_line, config.command_line);
	assert_string_equal(back.front_end, config.front_end);
	assert_string_equal(back.devices.disks[0].partuuid, "0f-01");
	assert_null(back.devices.disks[1].id);
	assert_int_equal(back.devices.disks[0].limits.ops.one_time_burst, INT64_MAX);
	assert_memory_equal(back.devices.nets[0].mac, config.devices.nets[0].mac, 6);
	assert_int_equal(back.devices.nets[1].mac_kind, MACHINE_MAC_NONE);
	assert_string_equal(back.devices.nets[1].user.forward[0].address, "::1");
	assert_int_equal(back.devices.balloon.balloon.stats_s, 65535);
	assert_true(back.devices.nets[0].metadata && !back.devices.nets[1].metadata);
	assert_true(back.devices.metadata.wanted && back.devices.metadata.imds_compat);
	assert_int_equal(back.devices.metadata.version, 2);
	assert_int_equal(back.devices.metadata.address, UINT32_MAX);
	assert_string_equal(back.origin.mode, "fgkaslr");
	assert_true(back.origin.virtual_bits == 8.5 && back.origin.identified && !back.origin.initrd.given);
	assert_true(back.origin.kernel.checksum == UINT64_MAX && back.origin.chunks == 30000);
	json_decref(owner);
	free(text);
	free(again);
}

/* A machine that was never identified, and one whose mode nobody knows. */
static void test_origins(void **unused)
{
	struct machine_config config = full(), back;
	json_t *owner;

	(void)unused;
	for (unsigned i = 0; i < 2; i++) {
		if (i)
			config.origin.mode = NULL;
		config.origin.identified = false;
		config.origin.initrd = (struct machine_file){.given = true, .made = true};
		char *text = text_of(&config);

		machine_config_init(&back);
		assert_int_equal(description_read(&back, &owner, text, strlen(text), NULL), 0);
		assert_true(!back.origin.mode == (i == 1) && !back.origin.identified && !back.origin.initrd.given);
		json_decref(owner);
		free(text);
	}
}

static bool taken(const char *text)
{
	struct machine_config config;
	json_t *owner = NULL;

	machine_config_init(&config);
	bool good = !description_read(&config, &owner, text, strlen(text), NULL);

	json_decref(owner);
	return good;
}

/* Each of these changes one value to one that is just not allowed. */
static void test_refused(void **unused)
{
	static const char *const change[][2] = {
	    {"\"vcpus\": 8", "\"vcpus\": 0"},
	    {"\"vcpus\": 8", "\"vcpus\": 33"},
	    {"\"memory\": 5", "\"memory\": -5"},
	    {"\"cache\": 2", "\"cache\": 3"},
	    {"\"cache\": 2", "\"cache\": -1"},
	    {"\"io\": 3", "\"io\": 4"},
	    {"\"mtu\": 65535", "\"mtu\": 65536"},
	    {"\"kind\": 0", "\"kind\": 3"},
	    {"\"kind\": 0", "\"kind\": -1"},
	    {"\"host\": 65535", "\"host\": 65536"},
	    {"\"guest\": 1", "\"guest\": 0"},
	    {"\"::1\"", "\"evil host\""},
	    {"\"stats\": 65535", "\"stats\": 65536"},
	    {"\"boot_timer\"", "\"boot_tinder\""},
	    {"\"boot_timer\": true", "\"boot_timer\": 1"},
	    {"     255", "     256"},
	    {"\"path\": \"/d\"", "\"path\": null"},
	    {"\"cid\": 3", "\"cid\": \"3\""},
	    {"\"version\": 2", "\"version\": 3"},
	    {"\"version\": 2", "\"version\": 0"},
	    {"\"address\": 4294967295", "\"address\": 4294967296"},
	    {"\"address\": 4294967295", "\"address\": -1"},
	    {"\"imds_compat\": true", "\"imds_compat\": 1"},
	    {"\"tap\": \"tap0\",", ""},
	    {"\"mode\": \"fgkaslr\"", "\"mode\": \"fgkaslT\""},
	    {"\"virtual_bits\": 8.5", "\"virtual_bits\": -0.5"},
	    {"\"virtual_bits\": 8.5", "\"virtual_bits\": 1e99"},
	    {"\"chunks\": 30000", "\"chunks\": 65537"},
	    {"\"kernel\": \"1-", "\"kernel\": \"1--"},
	    {"\"kernel\": \"1-2-3-4-0-ffff", "\"kernel\": \"1-2-3-4-0-fffff"},
	    {"\"initrd\": \"none\"", "\"initrd\": \"\""},
	    {"\"initrd\": \"none\",", ""},
	    {"\"cpu\": \"ab\"", "\"cpu\": \"ax\""},
	    {"\"cpu\": \"ab\"", "\"cpu\": \"\""},
	};
	const struct machine_config config = full();
	char *text = text_of(&config);

	(void)unused;
	assert_true(taken(text));
	for (size_t i = 0; i < sizeof change / sizeof *change; i++) {
		char *at = strstr(text, change[i][0]), *changed = malloc(strlen(text) + 64);

		if (!at)
			fail_msg("there is no %s in %s", change[i][0], text);
		sprintf(changed, "%.*s%s%s", (int)(at - text), text, change[i][1], at + strlen(change[i][0]));
		if (taken(changed))
			fail_msg("%s is taken", change[i][1]);
		free(changed);
	}
	assert_false(taken(""));
	assert_false(taken("[]"));
	assert_false(taken("{}"));
	free(text);
}

static void test_not_utf8(void **unused)
{
	struct machine_config config = full();
	char *text = NULL;

	(void)unused;
	config.devices.disks[1].path = "\xff";
	assert_int_equal(description_write(&text, &config, NULL), RIFFLE_ERR_UNSUPPORTED);
	assert_null(text);
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_round_trip), cmocka_unit_test(test_refused),
					   cmocka_unit_test(test_not_utf8), cmocka_unit_test(test_origins)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
