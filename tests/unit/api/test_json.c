// SPDX-License-Identifier: Apache-2.0
/* JSON into structs: serde_json's messages, lines and columns for errors; valid values arrive. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "api/bodies.h"
#include "api/json_words.h"

static struct json_text t;
static struct arena arena;

/* Parses into a struct that is large enough for any schema here. */
static bool reads(const struct schema *schema, const char *text, void *to)
{
	size_t bytes = strlen(text);
	char *copy = malloc(bytes ? bytes : 1); /* exact, for the sanitizers */
	bool good;

	memcpy(copy, text, bytes);
	good = schema_read(&t, copy, bytes, schema, to, &arena);
	free(copy);
	return good;
}

static void test_refused(void **state)
{
	static const struct {
		const struct schema *schema;
		const char *text, *error;
	} cases[] = {
	    {&schema_machine_put, "{\"mem_size_mib\": 128}", "missing field `vcpu_count` at line 1 column 21"},
	    {&schema_machine_put, "{\"vcpu_count\": 2}", "missing field `mem_size_mib` at line 1 column 17"},
	    {&schema_machine_put, "{\"vcpu_count\": 2", "EOF while parsing an object at line 1 column 16"},
	    {&schema_machine_put, "{\"vcpu_count\"", "EOF while parsing an object at line 1 column 13"},
	    {&schema_machine_put, "{\"vcpu_count\" 2}", "expected `:` at line 1 column 15"},
	    {&schema_machine_put, "{\"vcpu_count\":", "EOF while parsing a value at line 1 column 14"},
	    {&schema_machine_put, "{\"vcpu_count\":1,}", "trailing comma at line 1 column 17"},
	    {&schema_machine_put, "{\"vcpu_count\":1 \"", "expected `,` or `}` at line 1 column 17"},
	    {&schema_machine_put, "{vcpu_count:1}", "key must be a string at line 1 column 2"},
	    {&schema_machine_put, "{\"vcpu_count\":1,\n\"vcpu_count\":2}",
	     "duplicate field `vcpu_count` at line 2 column 12"},
	    {&schema_machine_put, "{\"vcpu_count\":\"1\"}",
	     "invalid type: string \"1\", expected u8 at line 1 column 17"},
	    {&schema_machine_put, "{\"vcpu_count\":256}",
	     "invalid value: integer `256`, expected u8 at line 1 column 17"},
	    {&schema_machine_put, "{\"vcpu_count\":-1}",
	     "invalid value: integer `-1`, expected u8 at line 1 column 16"},
	    {&schema_machine_put, "{\"vcpu_count\":2.0}",
	     "invalid type: floating point `2.0`, expected u8 at line 1 column 17"},
	    {&schema_machine_put, "{\"vcpu_count\":1e30}",
	     "invalid type: floating point `1e30`, expected u8 at line 1 column 18"},
	    {&schema_machine_put, "{\"vcpu_count\":01}", "invalid number at line 1 column 16"},
	    {&schema_machine_put, "{\"vcpu_count\":-}", "invalid number at line 1 column 16"},
	    {&schema_machine_put, "{\"vcpu_count\":1.}", "invalid number at line 1 column 17"},
	    {&schema_machine_put, "{\"vcpu_count\":[1]}", "invalid type: sequence, expected u8 at line 1 column 14"},
	    {&schema_machine_put, "{\"vcpu_count\":{}}", "invalid type: map, expected u8 at line 1 column 14"},
	    {&schema_machine_put, "{\"vcpu_count\":true}",
	     "invalid type: boolean `true`, expected u8 at line 1 column 18"},
	    {&schema_machine_put, "{\"smt\":null}", "invalid type: null, expected a boolean at line 1 column 11"},
	    {&schema_machine_put, "{\"smt\":nul}", "expected ident at line 1 column 11"},
	    {&schema_machine_put, "{\"huge_pages\":\"1G\"}",
	     "unknown variant `1G`, expected one of `None`, `Transparent`, `2M` at line 1 column 18"},
	    {&schema_machine_put, "{\"huge_pages\":1}", "expected value at line 1 column 15"},
	    {&schema_machine_put, "{\"x\" :1}",
	     "unknown field `x`, expected one of `vcpu_count`, `mem_size_mib`, `smt`, `cpu_template`, "
	     "`track_dirty_pages`, `huge_pages` at line 1 column 5"},
	    {&schema_machine_put, "", "EOF while parsing a value at line 1 column 0"},
	    {&schema_machine_put, " \n ", "EOF while parsing a value at line 2 column 1"},
	    {&schema_machine_put, "null", "invalid type: null, expected struct MachineConfig at line 1 column 4"},
	    {&schema_machine_put, "{\"vcpu_count\":1,\"mem_size_mib\":1} x", "trailing characters at line 1 column 35"},
	    {&schema_boot_source, "{\"kernel_image_path\":\"a\",\"boot_arg\":\"\"}",
	     "unknown field `boot_arg`, expected one of `kernel_image_path`, `initrd_path`, `boot_args` at line 1 "
	     "column 35"},
	    {&schema_boot_source, "{\"kernel_image_path\":\"a\n\"}",
	     "control character (\\u0000-\\u001F) found while parsing a string at line 2 column 0"},
	    {&schema_boot_source, "{\"kernel_image_path\":\"\\x\"}", "invalid escape at line 1 column 24"},
	    {&schema_boot_source, "{\"kernel_image_path\":\"\\udc00\"}",
	     "lone leading surrogate in hex escape at line 1 column 28"},
	    {&schema_boot_source, "{\"kernel_image_path\":\"\xff\"}", "invalid unicode code point at line 1 column 24"},
	    {&schema_boot_source, "{\"kernel_image_path\":\"a", "EOF while parsing a string at line 1 column 23"},
	    {&schema_vsock, "{\"guest_cid\":4294967296}",
	     "invalid value: integer `4294967296`, expected u32 at line 1 column 23"},
	    {&schema_mmds, "{\"network_interfaces\":[\"a\",]}", "trailing comma at line 1 column 28"},
	    {&schema_mmds, "{\"network_interfaces\":[\"a\" \"b\"]}", "expected `,` or `]` at line 1 column 28"},
	    {&schema_mmds, "{\"network_interfaces\":[1]}",
	     "invalid type: integer `1`, expected a string at line 1 column 24"},
	    {&schema_mmds, "{\"version\":\"V3\"}", "unknown variant `V3`, expected `V1` or `V2` at line 1 column 15"},
	    {&schema_mmds, "{\"network_interfaces\":[],\"ipv4_address\":\"1.2.3\"}",
	     "invalid IPv4 address syntax at line 1 column 47"},
	    {&schema_net, "{\"iface_id\":\"1\",\"host_dev_name\":\"t\",\"guest_mac\":\"06:00:00:00:00:0\"}",
	     "The provided MAC address is invalid. at line 1 column 67"},
	    {&schema_logger, "{\"log_path\":7}", "invalid type: integer `7`, expected path string at line 1 column 13"},
	    {&schema_hinting, "{\"acknowledge_on_stop\":1}",
	     "invalid type: integer `1`, expected a boolean at line 1 column 24"},
	};

	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		uint64_t room[200] = {0};

		assert_true(cases[i].schema->bytes <= sizeof room);
		assert_false(reads(cases[i].schema, cases[i].text, room));
		assert_string_equal(t.error, cases[i].error);
		arena_free(&arena);
	}
}

static void test_accepted(void **state)
{
	struct body_machine m = {0};
	struct body_drive d = {0};
	struct body_net n = {0};
	struct body_boot_source b = {0};
	struct body_cpu c = {0};
	const struct body_cpuid *leaf;

	(void)state;
	assert_true(reads(
	    &schema_machine_put,
	    " {\"vcpu_count\":255,\"mem_size_mib\":18446744073709551615,\"smt\":true,\"cpu_template\":null} ", &m));
	assert_int_equal(m.vcpu_count, 255);
	assert_true(m.mem_size_mib == UINT64_MAX);
	assert_true(m.smt && m.has_smt && !m.has_template && !m.has_huge);
	assert_true(reads(
	    &schema_drive,
	    "{\"drive_id\":\"\\u0061\\ud83d\\ude00\",\"is_root_device\":true,\"rate_limiter\":{\"ops\":{\"size\":1,"
	    "\"refill_time\":2,\"other\":[{}]},\"bandwidth\":null}}",
	    &d));
	assert_string_equal(d.drive_id, "a\xf0\x9f\x98\x80");
	assert_true(d.has_limiter && d.rate_limiter.has_ops && !d.rate_limiter.has_bandwidth);
	assert_true(d.rate_limiter.ops.size == 1 && d.rate_limiter.ops.refill_time == 2);
	assert_true(!d.rate_limiter.ops.has_burst && !d.has_engine && !d.path_on_host);
	assert_true(reads(
	    &schema_net,
	    "{\"iface_id\":\"1\",\"host_dev_name\":\"t\",\"guest_mac\":\"06:0a:AC:10:00:02\",\"mtu\":65535}", &n));
	assert_memory_equal(n.guest_mac, "\x06\x0a\xac\x10\x00\x02", 6);
	assert_true(n.has_mac && n.mtu == 65535);
	assert_true(
	    reads(&schema_boot_source, "{\"kernel_image_path\":\"\",\"boot_args\":\"\",\"randomize\":\"kaslr\"}", &b));
	assert_string_equal(b.boot_args, "");
	assert_true(b.has_randomize && b.randomize == RANDOMIZE_KASLR);
	assert_true(reads(&schema_cpu,
			  "{\"cpuid_modifiers\":[{\"leaf\":\"0x7\",\"subleaf\":\"0b1\",\"flags\":1,\"modifiers\":["
			  "{\"register\":\"edx\",\"bitmap\":\"0b1x0\"}]}],\"kvm_capabilities\":[\"!56\",\"171\"]}",
			  &c));
	leaf = c.cpuid_modifiers.items;
	assert_true(c.cpuid_modifiers.count == 1 && leaf->leaf == 7 && leaf->subleaf == 1);
	assert_int_equal(((const struct body_register *)leaf->modifiers.items)->reg, 3);
	assert_true(((const struct body_register *)leaf->modifiers.items)->bitmap.filter == 5);
	assert_true(((const struct body_register *)leaf->modifiers.items)->bitmap.value == 4);
	assert_int_equal(c.kvm_capabilities.count, 2);
	arena_free(&arena);
}

/* An ignored value may be nested as deep as serde allows, and no deeper. */
static void test_depth(void **state)
{
	char text[300];

	(void)state;
	for (unsigned depth = 126; depth <= 129; depth++) {
		memset(text, '[', depth);
		memset(text + depth, ']', depth);
		scan_begin(&t, text, 2 * (size_t)depth);
		assert_int_equal(scan_skip(&t) && scan_end(&t), depth < JSON_DEPTH_MAX);
		if (depth >= JSON_DEPTH_MAX)
			assert_non_null(strstr(t.error, "recursion limit exceeded at line 1 column 128"));
	}
}

static void test_floats(void **state)
{
	static const struct {
		double value;
		const char *words;
	} cases[] = {{0, "0.0"},     {-0.0, "-0.0"},       {1, "1.0"},
		     {0.1, "0.1"},   {123.456, "123.456"}, {1e15, "1000000000000000.0"},
		     {1e16, "1e16"}, {1.5e300, "1.5e300"}, {0.00001, "0.00001"},
		     {1e-6, "1e-6"}, {5e-324, "5e-324"},   {-2.5, "-2.5"}};

	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		char text[64];

		json_float_words(cases[i].value, text, sizeof text);
		assert_string_equal(text, cases[i].words);
	}
}

static void test_quoted(void **state)
{
	char *text = json_quoted("a\"\\\n\t\x01\0\x7f", 8);

	(void)state;
	assert_string_equal(text, "\"a\\\"\\\\\\n\\t\\u{1}\\0\\u{7f}\"");
	free(text);
	/* invisible characters next to visible ones; a truncated character */
	text = json_quoted("\u00a0\u00ad\xc2\x80\xc2\x9f\u200a\u200b\u202e\u202f\ufeff\u6c34\xe2\x80", 28);
	assert_string_equal(text,
			    "\"\u00a0\\u{ad}\\u{80}\\u{9f}\u200a\\u{200b}\\u{202e}\u202f\\u{feff}\u6c34\xe2\x80\"");
	free(text);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_refused), cmocka_unit_test(test_accepted), cmocka_unit_test(test_depth),
	    cmocka_unit_test(test_floats),  cmocka_unit_test(test_quoted),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
