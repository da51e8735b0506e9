/* SPDX-License-Identifier: Apache-2.0 */
/* Metrics: every group and name, increments, and blocked readers. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <fcntl.h>
#include <jansson.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "api/metrics.h"
#include "api/metrics_groups.h"
#include "api/metrics_line.h"
#include "monitor/event/loop.h"

static char directory[] = "/tmp/riffle-metrics-XXXXXX", path[64];
static int reader;

/* The next line; NULL: there is none. */
static json_t *next_line(void)
{
	static char text[1 << 18];
	size_t bytes = 0;
	json_error_t error;
	json_t *line;

	while (bytes < sizeof text && read(reader, text + bytes, 1) == 1)
		if (text[bytes++] == '\n')
			break;
	if (!bytes)
		return NULL;
	assert_int_equal(text[bytes - 1], '\n');
	line = json_loadb(text, bytes, JSON_REJECT_DUPLICATES, &error);
	if (!line)
		fail_msg("%d: %s", error.position, error.text);
	return line;
}

static json_t *flushed(void)
{
	struct riffle_error error;
	json_t *line;

	assert_int_equal(metrics_flush(&error), 0);
	line = next_line();
	assert_non_null(line);
	assert_null(next_line());
	return line;
}

static json_int_t number(json_t *line, const char *group, const char *name)
{
	json_t *value = json_object_get(json_object_get(line, group), name);

	assert_true(json_is_integer(value));
	return json_integer_value(value);
}

static void nowhere(void **state)
{
	struct riffle_error error;

	(void)state;
	assert_false(metrics_configured());
	assert_int_equal(metrics_flush(&error), 0);
	metrics_flush_from_signal();
	assert_int_equal(metrics_configure("/nonexistent/metrics", NULL, NULL, 0, &error), RIFFLE_ERR_IO);
	assert_string_equal(error.field, "metrics_path");
	assert_false(metrics_configured());
}

static void configured_once(void **state)
{
	const struct metrics_property properties[] = {{"fleet", "a \"b\""}, {"host", "\n"}};
	struct riffle_error error;

	(void)state;
	assert_int_equal(mkfifo(path, 0600), 0);
	assert_int_equal(metrics_configure(path, "vm-1", properties, 2, &error), 0);
	assert_true(metrics_configured());
	assert_int_equal(metrics_configure(path, NULL, NULL, 0, &error), RIFFLE_ERR_ARGUMENT);
	reader = open(path, O_RDONLY | O_NONBLOCK);
	assert_true(reader >= 0);
	json_t *line = flushed();

	assert_string_equal(json_string_value(json_object_get(line, "id")), "vm-1");
	json_t *shown = json_object_get(line, "properties");

	assert_int_equal(json_object_size(shown), 2);
	assert_string_equal(json_string_value(json_object_get(shown, "fleet")), "a \"b\"");
	assert_string_equal(json_string_value(json_object_get(shown, "host")), "\n");
	assert_true(json_integer_value(json_object_get(line, "utc_timestamp_ms")) > 1600000000000);
	json_decref(line);
}

/* The number of members of each group, according to public monitoring code for Firecracker. */
static void every_group(void **state)
{
	static const struct {
		const char *name;
		size_t members;
	} groups[] = {
	    {"api_server", 2},
	    {"balloon", 12},
	    {"block", 20},
	    {"deprecated_api", 1},
	    {"get_api_requests", 5},
	    {"i8042", 6},
	    {"uart", 7},
	    {"latencies_us", 12},
	    {"logger", 4},
	    {"mmds", 13},
	    {"net", 26},
	    {"patch_api_requests", 12},
	    {"put_api_requests", 26},
	    {"seccomp", 1},
	    {"vcpu", 10},
	    {"vmm", 1},
	    {"signals", 7},
	    {"vsock", 20},
	    {"entropy", 7},
	    {"pmem", 6},
	    {"interrupts", 2},
	    {"memory_hotplug", 18},
	};
	json_t *line = flushed();

	(void)state;
	assert_int_equal(json_object_size(line), 3 + sizeof groups / sizeof *groups); /* timestamp, id, properties */
	for (size_t i = 0; i < sizeof groups / sizeof *groups; i++) {
		json_t *group = json_object_get(line, groups[i].name);

		if (json_object_size(group) != groups[i].members)
			fail_msg("%s has %zu members", groups[i].name, json_object_size(group));
	}
	json_t *latency = json_object_get(json_object_get(line, "block"), "read_agg");

	assert_int_equal(json_object_size(latency), 3);
	assert_non_null(json_object_get(latency, "min_us"));
	json_decref(line);
}

static void increments(void **state)
{
	json_t *line;

	(void)state;
	metrics_count(METRIC(put_api_requests, drive_count));
	metrics_add(METRIC(put_api_requests, drive_count), 2);
	metrics_store(METRIC(latencies_us, pause_vm), 40);
	metrics_count(METRIC(signals, sigpipe));
	line = flushed();
	assert_int_equal(number(line, "put_api_requests", "drive_count"), 3);
	assert_int_equal(number(line, "put_api_requests", "drive_fails"), 0);
	assert_int_equal(number(line, "patch_api_requests", "drive_count"), 0);
	assert_int_equal(number(line, "latencies_us", "pause_vm"), 40);
	assert_int_equal(number(line, "signals", "sigpipe"), 1);
	json_decref(line);
	metrics_count(METRIC(put_api_requests, drive_count));
	line = flushed();
	assert_int_equal(number(line, "put_api_requests", "drive_count"), 1);
	assert_int_equal(number(line, "latencies_us", "pause_vm"), 40); /* as it is */
	assert_int_equal(number(line, "signals", "sigpipe"), 1);
	json_decref(line);
}

/* The first and the last name of each group show the right counter. */
static void names_fit(void **state)
{
	json_t *line;

	(void)state;
	json_decref(flushed());
	for (int metric = 0; metric < METRIC_OWN_COUNT; metric++)
		if (metric < METRIC(logger, missed_metrics_count) || metric > METRIC(logger, rate_limited_log_count))
			metrics_store((enum metric)metric, metrics_get((enum metric)metric) + 1000 + (uint64_t)metric);
	line = flushed();
	assert_int_equal(number(line, "mmds", "rx_accepted"), 1000 + METRIC(mmds, rx_accepted));
	assert_int_equal(number(line, "mmds", "connections_destroyed"), 1000 + METRIC(mmds, connections_destroyed));
	assert_int_equal(number(line, "put_api_requests", "actions_count"),
			 1000 + METRIC(put_api_requests, actions_count));
	assert_int_equal(number(line, "put_api_requests", "hotplug_memory_fails"),
			 1000 + METRIC(put_api_requests, hotplug_memory_fails));
	assert_int_equal(number(line, "get_api_requests", "hotplug_memory_count"),
			 1000 + METRIC(get_api_requests, hotplug_memory_count));
	assert_int_equal(number(line, "patch_api_requests", "pmem_fails"),
			 1000 + METRIC(patch_api_requests, pmem_fails));
	assert_int_equal(number(line, "latencies_us", "vmm_resume_vm"), 1000 + METRIC(latencies_us, vmm_resume_vm));
	assert_int_equal(number(line, "vmm", "panic_count"), 1000 + METRIC(vmm, panic_count));
	assert_int_equal(number(line, "seccomp", "num_faults"), 1000 + METRIC(seccomp, num_faults));
	assert_int_equal(number(line, "signals", "sigill"), 1000 + METRIC(signals, sigill));
	assert_int_equal(number(line, "deprecated_api", "deprecated_http_api_calls"),
			 1000 + METRIC(deprecated_api, deprecated_http_api_calls));
	json_decref(line);
}

static void layout_once(void **state)
{
	const struct metrics_layout layout = {.mode = "fgkaslr",
					      .virtual_bits = 9.345,
					      .physical_bits = 10,
					      .chunks = 7,
					      .load_us = 12000,
					      .start_us = 34000};
	json_t *line, *group;

	(void)state;
	metrics_set_layout(&layout);
	line = flushed();
	group = json_object_get(line, "riffle");
	assert_int_equal(json_object_size(group), 10);
	assert_string_equal(json_string_value(json_object_get(group, "mode")), "fgkaslr");
	assert_string_equal(json_string_value(json_object_get(group, "origin")), "fresh");
	assert_int_equal(number(line, "riffle", "shared_layout_restores"), 0);
	assert_int_equal(number(line, "riffle", "stock_empty"), 0);
	assert_int_equal(number(line, "riffle", "stock_bad_items"), 0);
	assert_true(json_real_value(json_object_get(group, "virtual_bits")) > 9.33);
	assert_true(json_real_value(json_object_get(group, "virtual_bits")) < 9.36);
	assert_true(json_real_value(json_object_get(group, "physical_bits")) == 10);
	assert_int_equal(number(line, "riffle", "chunks"), 7);
	assert_int_equal(number(line, "riffle", "load_us"), 12000);
	assert_int_equal(number(line, "riffle", "start_us"), 34000);
	json_decref(line);
	line = flushed();
	assert_null(json_object_get(line, "riffle"));
	json_decref(line);
}

/* Complete lines are written until the pipe is full; later ones are counted, and their increments follow later. */
static void no_reader(void **state)
{
	json_int_t events = 0, missed = 0;
	unsigned written = 0, lost = 0;
	json_t *line;

	(void)state;
	for (unsigned i = 0; i < 40; i++) {
		struct riffle_error error;

		metrics_count(METRIC(mmds, rx_count));
		if (metrics_flush(&error)) {
			assert_string_equal(error.field, "metrics");
			lost++;
		} else {
			written++;
		}
	}
	assert_true(written >= 3);
	assert_true(lost >= 3);
	/* reading makes room for the rest of the last line, and for the next */
	static char text[1 << 20];
	unsigned seen = 0;
	size_t bytes = 0;

	for (unsigned round = 0; round < 4; round++) {
		ssize_t got;

		while ((got = read(reader, text + bytes, sizeof text - bytes)) > 0)
			bytes += (size_t)got;
		metrics_flush(NULL);
	}
	for (size_t at = 0; at < bytes;) {
		char *end = memchr(text + at, '\n', bytes - at);

		assert_non_null(end);
		line = json_loadb(text + at, (size_t)(end - text) - at, 0, NULL);
		assert_non_null(line);
		events += number(line, "mmds", "rx_count");
		missed += number(line, "logger", "missed_metrics_count");
		seen++;
		json_decref(line);
		at = (size_t)(end - text) + 1;
	}
	assert_int_equal(events, 40);
	assert_int_equal(missed, lost);
	assert_true(seen > written);
	while ((line = next_line()))
		json_decref(line);
}

static void frozen(void **state)
{
	struct loop loop;
	struct riffle_error error;
	json_t *line;

	(void)state;
	assert_int_equal(loop_init(&loop, &error), 0);
	metrics_freeze(true);
	metrics_begin(&loop);
	assert_null(next_line());
	metrics_end();
	metrics_freeze(false);
	metrics_begin(&loop);
	line = next_line();
	assert_non_null(line);
	json_decref(line);
	metrics_end();
	loop_destroy(&loop);
}

static void from_signal(void **state)
{
	json_t *line;

	(void)state;
	metrics_flush_from_signal();
	line = next_line();
	assert_non_null(line);
	json_decref(line);
	metrics_flush_from_signal(); /* once: the process is about to end */
	assert_null(next_line());
}

static void strings(void **state)
{
	char text[64];
	struct metrics_line line = {.text = text, .room = sizeof text};

	(void)state;
	metrics_line_string(&line, "a\"\\\x01\x1f");
	metrics_line_number(&line, 0);
	metrics_line_number(&line, UINT64_MAX);
	text[line.bytes] = 0;
	assert_string_equal(text, "\"a\\\"\\\\\\u0001\\u001f\"018446744073709551615");
	line = (struct metrics_line){.text = text, .room = 3};
	metrics_line_text(&line, "abc");
	assert_false(line.cut);
	metrics_line_text(&line, "d");
	assert_true(line.cut);
	assert_int_equal(line.bytes, 3);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(strings),     cmocka_unit_test(nowhere),    cmocka_unit_test(configured_once),
	    cmocka_unit_test(every_group), cmocka_unit_test(increments), cmocka_unit_test(names_fit),
	    cmocka_unit_test(layout_once), cmocka_unit_test(no_reader),  cmocka_unit_test(frozen),
	    cmocka_unit_test(from_signal),
	};
	int failed;
	char command[96];

	assert_non_null(mkdtemp(directory));
	snprintf(path, sizeof path, "%s/fifo", directory);
	failed = cmocka_run_group_tests(tests, NULL, NULL);
	snprintf(command, sizeof command, "rm -r %s", directory);
	return failed || system(command);
}
