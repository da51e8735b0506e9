/* SPDX-License-Identifier: Apache-2.0 */
/* The mmio transport: registers, the status machine, queues, doorbells, interrupts, failure and reset. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <linux/virtio_config.h>
#include <linux/virtio_mmio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "driver.h"

#define ALL UINT64_MAX
#define STATUS(d) driver_read(d, VIRTIO_MMIO_STATUS)

/* A device that echoes: it fills the writable part of each chain. */
struct echo {
	struct virtio_device device;
	uint8_t config[8];
	unsigned activated, reset, quiesced, config_writes, notified;
	bool refuse;
};

static int echo_activate(struct virtio_device *device)
{
	struct echo *echo = (struct echo *)device;

	echo->activated++;
	return echo->refuse;
}

static void echo_notify(struct virtio_device *device, unsigned index)
{
	struct virtq *queue = &device->queues[index];
	static struct virtq_chain chain;
	int got;

	((struct echo *)device)->notified++;
	do {
		virtq_stop_notify(queue);
		while ((got = virtq_pop(queue, &chain)) > 0)
			virtq_push(queue, chain.head, (uint32_t)chain.in_bytes);
		if (got < 0) {
			virtio_fail(device, "test");
			return;
		}
		virtio_publish(device, index);
	} while (virtq_start_notify(queue));
}

static void echo_quiesce(struct virtio_device *device)
{
	((struct echo *)device)->quiesced++;
}

static void echo_reset(struct virtio_device *device)
{
	((struct echo *)device)->reset++;
}

static void echo_config_written(struct virtio_device *device, size_t offset, size_t bytes)
{
	assert_int_equal(offset, 4);
	assert_int_equal(bytes, 2);
	((struct echo *)device)->config_writes++;
}

static const struct virtio_ops echo_ops = {.id = 42,
					   .queue_count = 2,
					   .activate = echo_activate,
					   .notify = echo_notify,
					   .quiesce = echo_quiesce,
					   .reset = echo_reset,
					   .config_written = echo_config_written};

struct fixture {
	struct driver driver;
	struct echo echo;
};

static int set_up(void **state)
{
	struct fixture *f = calloc(1, sizeof *f);

	driver_open(&f->driver);
	virtio_device_init(&f->echo.device, &echo_ops, "echo");
	f->echo.device.features = VIRTIO_FEATURE(3) | VIRTIO_FEATURE(40);
	memcpy(f->echo.config, "abcdefgh", 8);
	f->echo.device.config = f->echo.config;
	f->echo.device.config_bytes = 8;
	f->echo.device.config_writable_from = 4;
	f->echo.device.config_writable = 2;
	driver_attach(&f->driver, &f->echo.device);
	*state = f;
	return 0;
}

static int tear_down(void **state)
{
	struct fixture *f = *state;

	driver_close(&f->driver);
	free(f);
	return 0;
}

static void test_identity(void **state)
{
	struct driver *d = &((struct fixture *)*state)->driver;

	assert_int_equal(driver_read(d, VIRTIO_MMIO_MAGIC_VALUE), 0x74726976);
	assert_int_equal(driver_read(d, VIRTIO_MMIO_VERSION), 2);
	assert_int_equal(driver_read(d, VIRTIO_MMIO_DEVICE_ID), 42);
	assert_int_equal(driver_read(d, VIRTIO_MMIO_VENDOR_ID), 0);
	assert_int_equal(driver_read(d, VIRTIO_MMIO_SHM_LEN_LOW), UINT32_MAX);
	driver_write(d, VIRTIO_MMIO_DEVICE_FEATURES_SEL, 0);
	assert_int_equal(driver_read(d, VIRTIO_MMIO_DEVICE_FEATURES), 1u << 3 | 1u << 28 | 1u << 29);
	driver_write(d, VIRTIO_MMIO_DEVICE_FEATURES_SEL, 1);
	assert_int_equal(driver_read(d, VIRTIO_MMIO_DEVICE_FEATURES), 1u << 0 | 1u << 8);
	driver_write(d, VIRTIO_MMIO_DEVICE_FEATURES_SEL, 2);
	assert_int_equal(driver_read(d, VIRTIO_MMIO_DEVICE_FEATURES), 0);
	driver_write(d, VIRTIO_MMIO_QUEUE_SEL, 1);
	assert_int_equal(driver_read(d, VIRTIO_MMIO_QUEUE_NUM_MAX), 256);
	driver_write(d, VIRTIO_MMIO_QUEUE_SEL, 2);
	assert_int_equal(driver_read(d, VIRTIO_MMIO_QUEUE_NUM_MAX), 0);
}

/* Registers are 32 bits wide and are accessed so; the configuration space takes any width. */
static void test_widths(void **state)
{
	struct driver *d = &((struct fixture *)*state)->driver;
	uint64_t value = UINT64_MAX;
	uint8_t one = 0xff;

	bus_mmio(&d->bus, DRIVER_ADDRESS, 1, false, &one);
	assert_int_equal(one, 0);
	bus_mmio(&d->bus, DRIVER_ADDRESS, 8, false, &value);
	assert_int_equal(value, 0);
	one = 1;
	bus_mmio(&d->bus, DRIVER_ADDRESS + VIRTIO_MMIO_STATUS, 1, true, &one);
	assert_int_equal(STATUS(d), 0);
	bus_mmio(&d->bus, DRIVER_ADDRESS + VIRTIO_MMIO_CONFIG, 8, false, &value);
	assert_memory_equal(&value, "abcdefgh", 8);
	bus_mmio(&d->bus, DRIVER_ADDRESS + VIRTIO_MMIO_CONFIG + 6, 8, false, &value);
	assert_memory_equal(&value, "gh\0\0\0\0\0\0", 8);
	bus_mmio(&d->bus, DRIVER_ADDRESS + 0xffc, 4, false, &value);
	assert_int_equal((uint32_t)value, 0);
}

static void test_config(void **state)
{
	struct fixture *f = *state;
	struct driver *d = &f->driver;
	uint32_t generation = driver_read(d, VIRTIO_MMIO_CONFIG_GENERATION);
	char text[8], new[] = "XY";

	for (uint64_t at = 0; at < 10; at++)
		bus_mmio(&d->bus, DRIVER_ADDRESS + VIRTIO_MMIO_CONFIG + at, 2, true, new);
	driver_config(d, 0, text, 8);
	assert_memory_equal(text, "abcdXYgh", 8);
	assert_int_equal(f->echo.config_writes, 1);
	driver_begin(d, ALL, 8);
	virtio_lock(&f->echo.device);
	virtio_config_set(&f->echo.device, 0, "12", 2);
	virtio_config_set(&f->echo.device, 7, "12", 2); /* past its end */
	virtio_unlock(&f->echo.device);
	driver_config(d, 0, text, 8);
	assert_memory_equal(text, "12cdXYgh", 8);
	assert_int_equal(driver_read(d, VIRTIO_MMIO_CONFIG_GENERATION), generation + 2);
	assert_int_equal(driver_read(d, VIRTIO_MMIO_INTERRUPT_STATUS), VIRTIO_MMIO_INT_CONFIG);
	driver_write(d, VIRTIO_MMIO_INTERRUPT_ACK, VIRTIO_MMIO_INT_CONFIG);
	assert_int_equal(driver_read(d, VIRTIO_MMIO_INTERRUPT_STATUS), 0);
	assert_int_equal(driver_interrupts(d), 1);
}

static void test_status(void **state)
{
	struct fixture *f = *state;
	struct driver *d = &f->driver;

	driver_write(d, VIRTIO_MMIO_STATUS, VIRTIO_CONFIG_S_DRIVER); /* before its turn */
	assert_int_equal(STATUS(d), 0);
	driver_write(d, VIRTIO_MMIO_STATUS, 1);
	driver_write(d, VIRTIO_MMIO_STATUS, 3);
	driver_write(d, VIRTIO_MMIO_STATUS, 1); /* bits do not go */
	assert_int_equal(STATUS(d), 3);
	driver_write(d, VIRTIO_MMIO_STATUS, 3 | 4 | 8); /* no features yet: VERSION_1 is not accepted */
	assert_int_equal(STATUS(d), 3);
	driver_write(d, VIRTIO_MMIO_DRIVER_FEATURES_SEL, 1);
	driver_write(d, VIRTIO_MMIO_DRIVER_FEATURES, 1 | 2); /* 33 is not offered */
	driver_write(d, VIRTIO_MMIO_STATUS, 3 | 8);
	assert_int_equal(STATUS(d), 3);
	driver_write(d, VIRTIO_MMIO_DRIVER_FEATURES, 1);
	driver_write(d, VIRTIO_MMIO_STATUS, 3 | 8);
	assert_int_equal(STATUS(d), 3 | 8);
	driver_write(d, VIRTIO_MMIO_DRIVER_FEATURES, 1 | 1u << 8); /* too late */
	driver_write(d, VIRTIO_MMIO_STATUS, 3 | 8 | 4);
	assert_int_equal(STATUS(d), 3 | 8 | 4);
	assert_int_equal(f->echo.activated, 1);
	assert_int_equal(f->echo.device.driver_features, VIRTIO_FEATURE(32));
	driver_write(d, VIRTIO_MMIO_STATUS, 128 | 15);
	assert_int_equal(STATUS(d), 128 | 15);
	driver_write(d, VIRTIO_MMIO_STATUS, 0);
	assert_int_equal(STATUS(d), 0);
	assert_int_equal(f->echo.quiesced, 1);
	assert_int_equal(f->echo.reset, 1);
}

static void round_trip(struct driver *d, unsigned queue, bool indirect)
{
	struct driver_buffer buffers[] = {{driver_take(d, 16, 1), 16, false}, {driver_take(d, 99, 1), 99, true}};
	uint16_t head = driver_add(d, queue, buffers, 2, indirect);
	uint32_t used, written;

	driver_kick(d, queue);
	assert_true(driver_used(d, queue, &used, &written));
	assert_int_equal(used, head);
	assert_int_equal(written, 99);
}

static void test_queues(void **state)
{
	struct fixture *f = *state;
	struct driver *d = &f->driver;

	driver_begin(d, ALL, 8);
	assert_int_equal(STATUS(d), 15);
	driver_write(d, VIRTIO_MMIO_QUEUE_SEL, 0);
	assert_int_equal(driver_read(d, VIRTIO_MMIO_QUEUE_READY), 1);
	driver_interrupts(d);
	for (int i = 0; i < 20; i++)
		round_trip(d, i % 2, i % 3 == 0);
	assert_int_equal(driver_read(d, VIRTIO_MMIO_INTERRUPT_STATUS), VIRTIO_MMIO_INT_VRING);
	assert_true(driver_interrupts(d) > 0);
	/* an active queue cannot be changed */
	driver_write(d, VIRTIO_MMIO_QUEUE_SEL, 0);
	driver_write(d, VIRTIO_MMIO_QUEUE_READY, 0);
	driver_write(d, VIRTIO_MMIO_QUEUE_DESC_LOW, 0x123);
	assert_int_equal(driver_read(d, VIRTIO_MMIO_QUEUE_READY), 1);
	round_trip(d, 0, false);
	driver_write(d, VIRTIO_MMIO_QUEUE_NOTIFY, 2); /* no such queue */
	driver_write(d, VIRTIO_MMIO_QUEUE_NOTIFY, UINT32_MAX);
	round_trip(d, 1, false);
}

/* Unbinding and rebinding a driver, the second time also with fewer features and other rings. */
static void test_again(void **state)
{
	struct driver *d = &((struct fixture *)*state)->driver;

	for (int i = 0; i < 5; i++) {
		driver_begin(d, i % 2 ? 0 : ALL, i % 2 ? 4 : 16);
		for (int j = 0; j < 10; j++)
			round_trip(d, 0, false);
	}
	driver_write(d, VIRTIO_MMIO_STATUS, 0);
	driver_write(d, VIRTIO_MMIO_QUEUE_SEL, 0);
	assert_int_equal(driver_read(d, VIRTIO_MMIO_QUEUE_READY), 0);
	assert_int_equal(driver_read(d, VIRTIO_MMIO_INTERRUPT_STATUS), 0);
}

static void test_bad_queue(void **state)
{
	struct fixture *f = *state;
	struct driver *d = &f->driver;

	driver_write(d, VIRTIO_MMIO_STATUS, 1);
	driver_write(d, VIRTIO_MMIO_STATUS, 3);
	driver_write(d, VIRTIO_MMIO_DRIVER_FEATURES_SEL, 1);
	driver_write(d, VIRTIO_MMIO_DRIVER_FEATURES, 1);
	driver_set_queue(d, 0, 8); /* before FEATURES_OK: nothing happens */
	assert_int_equal(driver_read(d, VIRTIO_MMIO_QUEUE_READY), 0);
	driver_write(d, VIRTIO_MMIO_STATUS, 11);
	driver_set_queue(d, 0, 8);
	assert_int_equal(driver_read(d, VIRTIO_MMIO_QUEUE_READY), 1);
	driver_write(d, VIRTIO_MMIO_QUEUE_READY, 0);
	driver_write(d, VIRTIO_MMIO_QUEUE_NUM, 8 + 65536); /* not truncated to 16 bits */
	driver_write(d, VIRTIO_MMIO_QUEUE_READY, 1);
	assert_int_equal(driver_read(d, VIRTIO_MMIO_QUEUE_READY), 0);
	assert_int_equal(STATUS(d), 11 | VIRTIO_CONFIG_S_NEEDS_RESET);
	driver_write(d, VIRTIO_MMIO_STATUS, 15);
	assert_int_equal(f->echo.activated, 0);
	driver_begin(d, ALL, 8);
	round_trip(d, 0, false);
}

static void test_lie(void **state)
{
	struct fixture *f = *state;
	struct driver *d = &f->driver;
	struct driver_buffer outside = {DRIVER_MEMORY, 1, false};

	driver_begin(d, ALL, 8);
	round_trip(d, 0, false);
	driver_write(d, VIRTIO_MMIO_INTERRUPT_ACK, 3);
	driver_interrupts(d);
	driver_add(d, 0, &outside, 1, false);
	driver_kick(d, 0);
	assert_true(driver_wait_status(d, VIRTIO_CONFIG_S_NEEDS_RESET));
	assert_int_equal(driver_read(d, VIRTIO_MMIO_INTERRUPT_STATUS), VIRTIO_MMIO_INT_CONFIG);
	assert_int_equal(driver_interrupts(d), 1);
	/* notifications to a failed device are ignored until it is reset */
	driver_kick(d, 1);
	driver_begin(d, ALL, 8);
	assert_int_equal(STATUS(d), 15);
	round_trip(d, 1, true);
}

static void test_refused(void **state)
{
	struct fixture *f = *state;

	f->echo.refuse = true;
	driver_begin(&f->driver, ALL, 8);
	assert_int_equal(STATUS(&f->driver), 15 | VIRTIO_CONFIG_S_NEEDS_RESET);
	assert_int_equal(driver_read(&f->driver, VIRTIO_MMIO_INTERRUPT_STATUS), VIRTIO_MMIO_INT_CONFIG);
	f->echo.refuse = false;
	driver_begin(&f->driver, ALL, 8);
	round_trip(&f->driver, 0, false);
}

/* Chains made available during a pause are served after it. */
static void test_pause(void **state)
{
	struct fixture *f = *state;
	struct driver *d = &f->driver;
	struct driver_buffer buffer = {driver_take(d, 16, 1), 16, true};
	uint32_t used, written;

	driver_begin(d, ALL, 8);
	round_trip(d, 0, false);
	virtio_pause(&f->echo.device);
	driver_add(d, 0, &buffer, 1, false);
	driver_kick(d, 0);
	usleep(20000);
	assert_int_equal(d->queues[0].usage->idx, 1);
	virtio_resume(&f->echo.device);
	assert_true(driver_used(d, 0, &used, &written));
	assert_int_equal(written, 16);
	/* a driver that begins while its device is paused */
	virtio_pause(&f->echo.device);
	driver_begin(d, ALL, 8);
	driver_add(d, 0, &buffer, 1, false);
	driver_kick(d, 0);
	usleep(20000);
	assert_int_equal(d->queues[0].usage->idx, 0);
	virtio_resume(&f->echo.device);
	assert_true(driver_used(d, 0, &used, &written));
}

/* What a driver accepted is forgotten at a reset; the next one begins with nothing. */
static void reset_forgets_features(void **state)
{
	struct fixture *f = *state;
	struct driver *d = &f->driver;

	driver_begin(d, ALL, 8);
	assert_true(f->echo.device.driver_features & VIRTIO_FEATURE(3));
	driver_write(d, VIRTIO_MMIO_STATUS, 0);
	assert_int_equal(f->echo.device.driver_features, 0);
	driver_write(d, VIRTIO_MMIO_STATUS, 3);
	/* which half is written is forgotten as well: the lower one, which has no VERSION_1 */
	driver_write(d, VIRTIO_MMIO_DRIVER_FEATURES, 1);
	driver_write(d, VIRTIO_MMIO_STATUS, 11);
	assert_int_equal(STATUS(d), 3);
	driver_write(d, VIRTIO_MMIO_DRIVER_FEATURES, 0);
	driver_write(d, VIRTIO_MMIO_DRIVER_FEATURES_SEL, 1);
	driver_write(d, VIRTIO_MMIO_DRIVER_FEATURES, 1);
	driver_write(d, VIRTIO_MMIO_STATUS, 15);
	assert_int_equal(STATUS(d), 15);
	assert_int_equal(f->echo.device.driver_features, VIRTIO_FEATURE(VIRTIO_F_VERSION_1));
	driver_write(d, VIRTIO_MMIO_QUEUE_SEL, 9);
	driver_write(d, VIRTIO_MMIO_DEVICE_FEATURES_SEL, 9);
	driver_write(d, VIRTIO_MMIO_STATUS, 0);
	assert_int_equal(driver_read(d, VIRTIO_MMIO_QUEUE_NUM_MAX), 256);
	assert_int_equal(driver_read(d, VIRTIO_MMIO_DEVICE_FEATURES), 1u << 3 | 1u << 28 | 1u << 29);
}

/* Each bit may be written alone when its turn comes, and again. */
static void status_bits_one_at_a_time(void **state)
{
	static const uint32_t bits[] = {1, 2, 8, 4};
	struct fixture *f = *state;
	struct driver *d = &f->driver;
	uint32_t expected = 0;

	for (unsigned i = 0; i < 4; i++) {
		for (unsigned later = i + 1; later < 4; later++) {
			driver_write(d, VIRTIO_MMIO_STATUS, bits[later]);
			assert_int_equal(STATUS(d), expected);
		}
		if (bits[i] == 8) {
			driver_write(d, VIRTIO_MMIO_DRIVER_FEATURES_SEL, 1);
			driver_write(d, VIRTIO_MMIO_DRIVER_FEATURES, 1);
		}
		expected |= bits[i];
		driver_write(d, VIRTIO_MMIO_STATUS, bits[i]);
		assert_int_equal(STATUS(d), expected);
		driver_write(d, VIRTIO_MMIO_STATUS, bits[i]);
		assert_int_equal(STATUS(d), expected);
	}
	assert_int_equal(f->echo.activated, 1);
	driver_write(d, VIRTIO_MMIO_STATUS, 128);
	assert_int_equal(STATUS(d), 128 | 15);
}

/* Features are taken between DRIVER and FEATURES_OK, in the half that is selected, of which there are two. */
static void features_are_taken_in_their_time(void **state)
{
	struct fixture *f = *state;
	struct driver *d = &f->driver;

	driver_write(d, VIRTIO_MMIO_STATUS, 1);
	driver_write(d, VIRTIO_MMIO_DRIVER_FEATURES, 1u << 3); /* too early */
	driver_write(d, VIRTIO_MMIO_STATUS, 3);
	driver_write(d, VIRTIO_MMIO_DRIVER_FEATURES, 1u << 28);
	driver_write(d, VIRTIO_MMIO_DRIVER_FEATURES_SEL, 1);
	driver_write(d, VIRTIO_MMIO_DRIVER_FEATURES, 1 | 1u << 8);
	driver_write(d, VIRTIO_MMIO_DRIVER_FEATURES_SEL, 2); /* no such half */
	driver_write(d, VIRTIO_MMIO_DRIVER_FEATURES, 2);
	driver_write(d, VIRTIO_MMIO_STATUS, 11);
	assert_int_equal(STATUS(d), 11);
	driver_write(d, VIRTIO_MMIO_DRIVER_FEATURES_SEL, 0);
	driver_write(d, VIRTIO_MMIO_DRIVER_FEATURES, 0);
	driver_write(d, VIRTIO_MMIO_STATUS, 15);
	assert_int_equal(f->echo.device.driver_features, VIRTIO_FEATURE(28) | VIRTIO_FEATURE(32) | VIRTIO_FEATURE(40));
}

/* Addresses come in halves, in any order; other queues and other registers are left alone. */
static void queue_addresses_in_halves(void **state)
{
	static const uint64_t registers[][2] = {{VIRTIO_MMIO_QUEUE_DESC_LOW, VIRTIO_MMIO_QUEUE_DESC_HIGH},
						{VIRTIO_MMIO_QUEUE_AVAIL_LOW, VIRTIO_MMIO_QUEUE_AVAIL_HIGH},
						{VIRTIO_MMIO_QUEUE_USED_LOW, VIRTIO_MMIO_QUEUE_USED_HIGH}};
	struct fixture *f = *state;
	struct driver *d = &f->driver;
	struct virtq *queue = &f->echo.device.queues[1];
	const uint64_t *addresses[] = {&queue->descriptors, &queue->avail, &queue->used};

	driver_write(d, VIRTIO_MMIO_STATUS, 3);
	driver_write(d, VIRTIO_MMIO_DRIVER_FEATURES_SEL, 1);
	driver_write(d, VIRTIO_MMIO_DRIVER_FEATURES, 1);
	driver_write(d, VIRTIO_MMIO_STATUS, 11);
	driver_write(d, VIRTIO_MMIO_QUEUE_SEL, 1);
	for (unsigned i = 0; i < 3; i++) {
		driver_write(d, registers[i][1], 0x89abcdef + i);
		driver_write(d, registers[i][0], 0x01234567 + i);
		for (unsigned j = 0; j < 3; j++)
			assert_int_equal(*addresses[j], j <= i ? 0x89abcdef01234567 + j * 0x100000001 : 0);
	}
	driver_write(d, registers[0][1], 0);
	assert_int_equal(queue->descriptors, 0x01234567);
	driver_write(d, registers[0][0], 0);
	assert_int_equal(queue->descriptors, 0);
	driver_write(d, VIRTIO_MMIO_QUEUE_NUM, 256);
	assert_int_equal(queue->size, 256);
	driver_write(d, VIRTIO_MMIO_QUEUE_NUM, 257);
	assert_int_equal(queue->size, 0);
	driver_write(d, VIRTIO_MMIO_QUEUE_NUM, 1);
	assert_int_equal(queue->size, 1);
	driver_write(d, VIRTIO_MMIO_QUEUE_SEL, 2); /* there is none */
	driver_write(d, VIRTIO_MMIO_QUEUE_NUM, 64);
	for (unsigned i = 2; i < VIRTIO_QUEUES_MAX; i++)
		assert_int_equal(f->echo.device.queues[i].size, 0);
	assert_int_equal(queue->size, 1);
	assert_int_equal(f->echo.device.queues[0].descriptors | f->echo.device.queues[0].avail, 0);
	assert_int_equal(f->echo.device.queues[0].size, 256);
	/* only bit 0 makes a queue ready, and then it stays as it is until it is made unready */
	driver_set_queue(d, 1, 8);
	driver_write(d, VIRTIO_MMIO_QUEUE_NUM, 16);
	driver_write(d, VIRTIO_MMIO_QUEUE_DESC_LOW, 0);
	assert_int_equal(queue->size, 8);
	assert_int_equal(queue->descriptors, d->queues[1].descriptors);
	driver_write(d, VIRTIO_MMIO_QUEUE_READY, 2);
	assert_int_equal(driver_read(d, VIRTIO_MMIO_QUEUE_READY), 0);
	driver_write(d, VIRTIO_MMIO_QUEUE_READY, 3);
	assert_int_equal(driver_read(d, VIRTIO_MMIO_QUEUE_READY), 1);
}

/* A register is four aligned bytes: anything else reads 0 and does nothing, the acknowledgement too. */
static void registers_by_other_widths(void **state)
{
	static const struct {
		uint64_t offset;
		unsigned bytes;
	} rows[] = {{0, 1}, {0, 2}, {0, 8}, {1, 4}, {2, 4}, {3, 4}};
	struct fixture *f = *state;
	struct driver *d = &f->driver;

	driver_begin(d, ALL, 8);
	virtio_lock(&f->echo.device);
	virtio_config_set(&f->echo.device, 0, "x", 1);
	virtio_unlock(&f->echo.device);
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		uint64_t value = UINT64_MAX, ones = UINT64_MAX;

		bus_mmio(&d->bus, DRIVER_ADDRESS + rows[i].offset, rows[i].bytes, false, &value);
		assert_int_equal(value, rows[i].bytes == 8 ? 0 : UINT64_MAX << 8 * rows[i].bytes);
		bus_mmio(&d->bus, DRIVER_ADDRESS + VIRTIO_MMIO_INTERRUPT_ACK + rows[i].offset, rows[i].bytes, true,
			 &ones);
		assert_int_equal(driver_read(d, VIRTIO_MMIO_INTERRUPT_STATUS), VIRTIO_MMIO_INT_CONFIG);
		bus_mmio(&d->bus, DRIVER_ADDRESS + VIRTIO_MMIO_QUEUE_SEL + rows[i].offset, rows[i].bytes, true, &ones);
		assert_int_equal(driver_read(d, VIRTIO_MMIO_QUEUE_NUM_MAX), 256);
	}
	driver_write(d, VIRTIO_MMIO_INTERRUPT_ACK, ~(uint32_t)VIRTIO_MMIO_INT_CONFIG);
	assert_int_equal(driver_read(d, VIRTIO_MMIO_INTERRUPT_STATUS), VIRTIO_MMIO_INT_CONFIG);
	driver_write(d, VIRTIO_MMIO_INTERRUPT_ACK, VIRTIO_MMIO_INT_CONFIG);
	assert_int_equal(driver_read(d, VIRTIO_MMIO_INTERRUPT_STATUS), 0);
	/* write-only ones read 0 */
	static const uint8_t write_only[] = {0x14, 0x20, 0x24, 0x30, 0x38, 0x50, 0x64,
					     0x80, 0x84, 0x90, 0x94, 0xa0, 0xa4};

	for (size_t i = 0; i < sizeof write_only; i++) {
		uint32_t value = UINT32_MAX;

		bus_mmio(&d->bus, DRIVER_ADDRESS + write_only[i], 4, false, &value);
		assert_int_equal(value, 0);
	}
	static const uint8_t no_memory[] = {0xb0, 0xb4, 0xb8, 0xbc};

	for (size_t i = 0; i < sizeof no_memory; i++)
		assert_int_equal(driver_read(d, no_memory[i]), UINT32_MAX);
}

/* Every place and width of the configuration space, by the bus and in the page that the guest reads. */
static void configuration_is_changed_where_it_is_said(void **state)
{
	struct fixture *f = *state;
	struct driver *d = &f->driver;
	uint8_t expected[8], got[8];
	unsigned changes = 0;

	memcpy(expected, f->echo.config, 8);
	for (size_t at = 0; at < 10; at++) {
		for (size_t bytes = 0; bytes <= 9; bytes++) {
			uint8_t data[9];

			for (size_t i = 0; i < 9; i++)
				data[i] = (uint8_t)(++changes);
			uint32_t generation = driver_read(d, VIRTIO_MMIO_CONFIG_GENERATION);

			virtio_lock(&f->echo.device);
			virtio_config_set(&f->echo.device, at, data, bytes);
			virtio_unlock(&f->echo.device);
			bool inside = at + bytes <= 8;

			if (inside)
				memcpy(expected + at, data, bytes);
			assert_int_equal(driver_read(d, VIRTIO_MMIO_CONFIG_GENERATION), generation + (inside ? 2 : 0));
			driver_config(d, 0, got, 8);
			assert_memory_equal(got, expected, 8);
		}
	}
	/* nobody is told before there is a driver */
	assert_int_equal(driver_interrupts(d), 0);
	assert_int_equal(driver_read(d, VIRTIO_MMIO_INTERRUPT_STATUS), 0);
}

/* Writes that stay in the writable part change it; all others, and reads behind the end, are counted. */
static void configuration_accesses_that_fail_are_counted(void **state)
{
	struct fixture *f = *state;
	struct driver *d = &f->driver;
	counter fails = 0;
	uint8_t data[8];
	unsigned expected = 0;

	f->echo.device.config_fails = &fails;
	for (uint64_t at = 0; at < 10; at++) {
		for (unsigned bytes = 1; bytes <= 8; bytes *= 2) {
			uint8_t before[8];

			memcpy(before, f->echo.config, 8);
			bus_mmio(&d->bus, DRIVER_ADDRESS + VIRTIO_MMIO_CONFIG + at, bytes, false, data);
			for (unsigned i = 0; i < bytes; i++)
				assert_int_equal(data[i], at + i < 8 ? before[at + i] : 0);
			expected += at >= 8;
			assert_int_equal(fails, expected);
			if (at == 4 && bytes == 2)
				continue;
			memset(data, '!', sizeof data);
			if (bytes == 1 && (at == 4 || at == 5))
				continue; /* a driver that writes less is taken at its word: the echo is not asked */
			bus_mmio(&d->bus, DRIVER_ADDRESS + VIRTIO_MMIO_CONFIG + at, bytes, true, data);
			assert_int_equal(fails, ++expected);
			assert_memory_equal(f->echo.config, before, 8);
		}
	}
	/* not further than the space itself, whatever a device says is writable */
	f->echo.device.config_writable = 100;
	bus_mmio(&d->bus, DRIVER_ADDRESS + VIRTIO_MMIO_CONFIG + 7, 2, true, data);
	assert_int_equal(fails, ++expected);
	assert_int_equal(f->echo.config_writes, 0);
	f->echo.device.config_fails = NULL;
	bus_mmio(&d->bus, DRIVER_ADDRESS + VIRTIO_MMIO_CONFIG + 8, 2, true, data);
	f->echo.device.config_writable = 2;
}

/* The first failure is the one that is kept, counted and told; each kind has its counter. */
static void failures_are_counted_once(void **state)
{
	struct fixture *f = *state;
	struct driver *d = &f->driver;
	struct virtio_device *device = &f->echo.device;
	counter events = 0, activations = 0;

	device->event_fails = &events;
	device->activate_fails = &activations;
	virtio_lock(device);
	virtio_fail(device, "first");
	virtio_fail(device, "second");
	virtio_unlock(device);
	assert_string_equal(device->failure, "first");
	assert_int_equal(events, 1);
	/* before DRIVER_OK no interrupt tells of it */
	assert_int_equal(STATUS(d), VIRTIO_CONFIG_S_NEEDS_RESET);
	assert_int_equal(driver_interrupts(d), 0);
	f->echo.refuse = true;
	driver_begin(d, ALL, 8);
	assert_int_equal(activations, 1);
	assert_int_equal(events, 1);
	assert_int_equal(driver_interrupts(d), 1);
	assert_int_equal(device->interrupts.config_updates, 1);
	assert_int_equal(device->interrupts.triggers, 0);
	f->echo.refuse = false;
	driver_begin(d, ALL, 8);
	round_trip(d, 0, false);
	assert_true(device->interrupts.triggers >= 1);
	assert_int_equal(device->interrupts.config_updates, 1);
	device->event_fails = device->activate_fails = NULL;
}

static void devices_have_a_clock_if_they_are_timed(void **state)
{
	struct virtio_device *device = &((struct fixture *)*state)->echo.device;

	assert_int_equal(virtio_clock_us(device), 0);
	device->timed = true;
	uint64_t before = loop_now() / 1000, now = virtio_clock_us(device);

	assert_in_range(now, before, loop_now() / 1000);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test_setup_teardown(test_identity, set_up, tear_down),
	    cmocka_unit_test_setup_teardown(test_widths, set_up, tear_down),
	    cmocka_unit_test_setup_teardown(test_config, set_up, tear_down),
	    cmocka_unit_test_setup_teardown(test_status, set_up, tear_down),
	    cmocka_unit_test_setup_teardown(test_queues, set_up, tear_down),
	    cmocka_unit_test_setup_teardown(test_again, set_up, tear_down),
	    cmocka_unit_test_setup_teardown(test_bad_queue, set_up, tear_down),
	    cmocka_unit_test_setup_teardown(test_lie, set_up, tear_down),
	    cmocka_unit_test_setup_teardown(test_refused, set_up, tear_down),
	    cmocka_unit_test_setup_teardown(test_pause, set_up, tear_down),
	    cmocka_unit_test_setup_teardown(reset_forgets_features, set_up, tear_down),
	    cmocka_unit_test_setup_teardown(status_bits_one_at_a_time, set_up, tear_down),
	    cmocka_unit_test_setup_teardown(features_are_taken_in_their_time, set_up, tear_down),
	    cmocka_unit_test_setup_teardown(queue_addresses_in_halves, set_up, tear_down),
	    cmocka_unit_test_setup_teardown(registers_by_other_widths, set_up, tear_down),
	    cmocka_unit_test_setup_teardown(configuration_is_changed_where_it_is_said, set_up, tear_down),
	    cmocka_unit_test_setup_teardown(configuration_accesses_that_fail_are_counted, set_up, tear_down),
	    cmocka_unit_test_setup_teardown(failures_are_counted_once, set_up, tear_down),
	    cmocka_unit_test_setup_teardown(devices_have_a_clock_if_they_are_timed, set_up, tear_down),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
