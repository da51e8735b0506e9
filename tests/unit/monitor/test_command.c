/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The command channel as a guest sees it: streams at any width, rings, statuses, and a guest that violates the
 * protocol.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "machine/cmdline.h"
#include "monitor/platform/command.h"

struct fixture {
	struct bus bus;
	struct command command;
	struct command_host host;
	uint8_t out[COMMAND_STREAMS][64];
	unsigned count[COMMAND_STREAMS];
	bool gone[COMMAND_STREAMS];
	unsigned rings, wanted, ends;
	uint32_t status;
};

static uint32_t room(void *opaque, enum command_stream stream)
{
	struct fixture *f = opaque;

	return f->gone[stream] ? 1000 : (uint32_t)(sizeof f->out[stream] - f->count[stream]);
}

static bool gone(void *opaque, enum command_stream stream)
{
	return ((struct fixture *)opaque)->gone[stream];
}

static void put(void *opaque, enum command_stream stream, const uint8_t *data, unsigned bytes)
{
	struct fixture *f = opaque;

	if (f->gone[stream])
		return;
	assert_true(bytes <= sizeof f->out[stream] - f->count[stream]);
	memcpy(f->out[stream] + f->count[stream], data, bytes);
	f->count[stream] += bytes;
}

static void ring(void *opaque)
{
	((struct fixture *)opaque)->rings++;
}

static void wanted(void *opaque)
{
	((struct fixture *)opaque)->wanted++;
}

static void ended(void *opaque, uint32_t status)
{
	struct fixture *f = opaque;

	f->ends++;
	f->status = status;
}

static int set_up(void **state)
{
	struct fixture *f = calloc(1, sizeof *f);
	struct riffle_error error;

	f->host = (struct command_host){room, gone, put, ring, wanted, ended, f};
	bus_init(&f->bus);
	assert_int_equal(command_attach(&f->command, &f->bus, &f->host, &error), 0);
	*state = f;
	return 0;
}

static int tear_down(void **state)
{
	struct fixture *f = *state;

	bus_remove(&f->bus.ports, CHANNEL_PORT);
	bus_destroy(&f->bus);
	free(f);
	return 0;
}

static uint32_t in(struct fixture *f, unsigned offset, unsigned bytes)
{
	uint32_t value = 0;

	bus_port(&f->bus, (uint16_t)(CHANNEL_PORT + offset), bytes, false, &value);
	return value;
}

static void out(struct fixture *f, unsigned offset, unsigned bytes, uint32_t value)
{
	bus_port(&f->bus, (uint16_t)(CHANNEL_PORT + offset), bytes, true, &value);
}

static void give(struct fixture *f, const char *text)
{
	assert_int_equal(command_input(&f->command, (const uint8_t *)text, (unsigned)strlen(text)), strlen(text));
}

static void test_magic(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(in(f, CHANNEL_MAGIC, 4), CHANNEL_MAGIC_VALUE);
	for (unsigned i = 0; i < 4; i++)
		assert_int_equal(in(f, CHANNEL_MAGIC + i, 1), CHANNEL_MAGIC_VALUE >> 8 * i & 0xff);
	/* neighbouring ports have no device, and an access across two registers reads nothing */
	assert_int_equal(in(f, CHANNEL_PORTS, 1), 0xff);
	assert_int_equal(in(f, CHANNEL_MAGIC + 2, 4), 0xffffffff);
}

static void test_output(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(in(f, CHANNEL_OUT, 4), 64);
	out(f, CHANNEL_OUT, 4, 0x64636261);
	out(f, CHANNEL_OUT, 2, 0x6665);
	out(f, CHANNEL_OUT, 1, 0x67);
	out(f, CHANNEL_OUT + 3, 1, 0x68);
	out(f, CHANNEL_ERR, 1, 'E');
	assert_int_equal(f->count[COMMAND_OUT], 8);
	assert_memory_equal(f->out[COMMAND_OUT], "abcdefgh", 8);
	assert_int_equal(f->count[COMMAND_ERR], 1);
	assert_int_equal(in(f, CHANNEL_OUT, 4), 56);
	assert_int_equal(in(f, CHANNEL_ERR, 4), 63);
	/* what does not fit is dropped */
	for (int i = 0; i < 20; i++)
		out(f, CHANNEL_OUT, 4, 0);
	out(f, CHANNEL_OUT, 1, 0);
	assert_int_equal(f->count[COMMAND_OUT], 64);
	for (int i = 0; i < 62; i++)
		out(f, CHANNEL_ERR, 1, 0);
	out(f, CHANNEL_ERR, 4, 0x44434241);
	assert_int_equal(f->count[COMMAND_ERR], 64);
	assert_int_equal(f->out[COMMAND_ERR][63], 0x41);
}

static void test_input(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(in(f, CHANNEL_IN_COUNT, 4), 0);
	assert_int_equal(in(f, CHANNEL_IN_DATA, 4), 0);
	give(f, "abcdefg");
	assert_int_equal(in(f, CHANNEL_IN_COUNT, 4), 7);
	assert_int_equal(in(f, CHANNEL_IN_DATA, 4), 0x64636261);
	assert_int_equal(in(f, CHANNEL_IN_DATA, 1), 'e');
	assert_int_equal(in(f, CHANNEL_IN_COUNT, 4), 2);
	assert_int_equal(in(f, CHANNEL_STATE, 4), 0);
	command_input_end(&f->command);
	assert_int_equal(in(f, CHANNEL_STATE, 4), 0);                /* not before all was read */
	assert_int_equal(in(f, CHANNEL_IN_DATA, 4), 'f' | 'g' << 8); /* zeros beyond the end */
	assert_int_equal(in(f, CHANNEL_IN_COUNT, 4), 0);
	assert_int_equal(in(f, CHANNEL_STATE, 4), CHANNEL_IN_END);
}

/* More than it holds, in pieces that wrap around: the guest gets each byte once, in order. */
static void test_input_is_a_ring(void **state)
{
	struct fixture *f = *state;
	uint8_t chunk[5000];
	uint32_t given = 0, got = 0;

	for (int round = 0; round < 60; round++) {
		for (unsigned i = 0; i < sizeof chunk; i++)
			chunk[i] = (uint8_t)((given + i) * 7 >> 3);
		given += command_input(&f->command, chunk, sizeof chunk);
		assert_true(in(f, CHANNEL_IN_COUNT, 4) <= COMMAND_INPUT_BYTES);
		for (unsigned i = 0; round > 20 && i < 6000 && got < given; i++, got++)
			assert_int_equal(in(f, CHANNEL_IN_DATA, 1), (uint8_t)(got * 7 >> 3));
	}
	assert_true(given > 3 * COMMAND_INPUT_BYTES / 2);
	assert_true(f->wanted >= 1);
	assert_int_equal(in(f, CHANNEL_IN_COUNT, 4), given - got);
}

/* A register read byte by byte is consistent, even if the value grows in between. */
static void test_bytes_of_one_moment(void **state)
{
	struct fixture *f = *state;
	char text[256];

	memset(text, 'x', 255);
	text[255] = '\0';
	give(f, text);
	assert_int_equal(in(f, CHANNEL_IN_COUNT, 1), 0xff);
	give(f, "y");
	assert_int_equal(in(f, CHANNEL_IN_COUNT + 1, 1), 0);
	assert_int_equal(in(f, CHANNEL_IN_COUNT + 2, 2), 0);
	assert_int_equal(in(f, CHANNEL_IN_COUNT, 1), 0);
	assert_int_equal(in(f, CHANNEL_IN_COUNT + 1, 1), 1);
}

static void test_rings(void **state)
{
	struct fixture *f = *state;

	give(f, "a");
	command_stream_changed(&f->command);
	assert_int_equal(f->rings, 0); /* nobody asked */
	in(f, CHANNEL_STATE, 4);
	give(f, "b");
	assert_int_equal(f->rings, 1);
	give(f, "c");
	command_input_end(&f->command);
	command_window(&f->command, 24, 80);
	assert_int_equal(f->rings, 1); /* once for each time it is asked for */
	in(f, CHANNEL_STATE, 4);
	f->gone[COMMAND_OUT] = true;
	command_stream_changed(&f->command);
	assert_int_equal(f->rings, 2);
	assert_int_equal(in(f, CHANNEL_STATE, 4), CHANNEL_OUT_GONE);
	assert_int_equal(in(f, CHANNEL_WINDOW, 4), 24 << 16 | 80);
	command_window(&f->command, 1, 2);
	assert_int_equal(f->rings, 3);
	/* at once */
	out(f, CHANNEL_WINDOW, 4, 1);
	assert_int_equal(f->rings, 4);
	for (unsigned i = 0; i < 4; i++)
		out(f, CHANNEL_WINDOW + i, 1, 1);
	assert_int_equal(f->rings, 5);
}

static void test_status(void **state)
{
	static const uint32_t wrong[] = {0,
					 1,
					 0xff,
					 CHANNEL_STATUS_EXITED << 16 | 256,
					 CHANNEL_STATUS_SIGNALED << 16,
					 CHANNEL_STATUS_SIGNALED << 16 | 65,
					 CHANNEL_STATUS_NOT_FOUND << 16 | 4096,
					 (CHANNEL_STATUS_INIT_FAILED + 1) << 16,
					 0xffffffff,
					 0x10000000 | CHANNEL_STATUS_EXITED << 16};
	struct fixture *f = *state;

	for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
		out(f, CHANNEL_STATUS, 4, wrong[i]);
	assert_int_equal(f->ends, 0);
	for (unsigned i = 0; i < 3; i++)
		out(f, CHANNEL_STATUS + i, 1, (CHANNEL_STATUS_EXITED << 16 | 255) >> 8 * i);
	assert_int_equal(f->ends, 0);
	out(f, CHANNEL_STATUS + 3, 1, 0);
	assert_int_equal(f->ends, 1);
	assert_int_equal(f->status, CHANNEL_STATUS_EXITED << 16 | 255);
	/* the first one stands */
	out(f, CHANNEL_STATUS, 4, CHANNEL_STATUS_EXITED << 16);
	assert_int_equal(f->ends, 1);
}

/* Random accesses touch nothing outside the device, checked by the sanitizers. */
static void test_anything(void **state)
{
	struct fixture *f = *state;
	unsigned seed = 20261129;

	print_message("seed %u\n", seed);
	for (int i = 0; i < 200000; i++) {
		unsigned random = (unsigned)rand_r(&seed), bytes = 1u << random % 3;
		uint16_t port = (uint16_t)(CHANNEL_PORT - 4 + random / 16 % (CHANNEL_PORTS + 8));
		uint32_t value = (uint32_t)rand_r(&seed);

		bus_port(&f->bus, port, bytes, random & 8, &value);
		if (random % 64 == 0)
			command_input(&f->command, (const uint8_t *)"0123456789", random / 64 % 11);
		if (random % 128 == 1)
			f->count[random / 128 % 2] = 0;
	}
}

static void test_tells_panic(void **state)
{
	(void)state;
	assert_true(cmdline_tells_panic("console=ttyS0 reboot=panic_warm,k panic=-1"));
	assert_true(cmdline_tells_panic("reboot=k reboot=panic_w"));
	assert_true(cmdline_tells_panic("reboot=warm,panic_warm,cold"));
	assert_false(cmdline_tells_panic(""));
	assert_false(cmdline_tells_panic("reboot=k panic=-1"));
	assert_false(cmdline_tells_panic("reboot=panic_warm,warm"));
	assert_false(cmdline_tells_panic("reboot=panic_warm reboot=w"));
	assert_false(cmdline_tells_panic("reboot=panic_warm,panic_cold"));
	assert_false(cmdline_tells_panic("xreboot=panic_warm reboot=,"));
	assert_false(cmdline_tells_panic("reboot="));
}

#define TEST(name) cmocka_unit_test_setup_teardown(test_##name, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {TEST(magic),
					   TEST(output),
					   TEST(input),
					   TEST(input_is_a_ring),
					   TEST(bytes_of_one_moment),
					   TEST(rings),
					   TEST(status),
					   TEST(anything),
					   cmocka_unit_test(test_tells_panic)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
