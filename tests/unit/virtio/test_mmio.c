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
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
