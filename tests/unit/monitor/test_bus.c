/* SPDX-License-Identifier: Apache-2.0 */
/* Dispatch by range, and the translation of guest addresses: edges, widths, overlaps. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "monitor/bus/bus.h"
#include "monitor/core/memory.h"

static struct {
	uint64_t offset;
	unsigned bytes, reads, writes;
	uint8_t written[8];
} seen;

static void record_read(void *device, uint64_t offset, void *data, unsigned bytes)
{
	seen.offset = offset;
	seen.bytes = bytes;
	seen.reads++;
	memset(data, *(uint8_t *)device, bytes);
}

static void record_write(void *device, uint64_t offset, const void *data, unsigned bytes)
{
	(void)device;
	seen.offset = offset;
	seen.bytes = bytes;
	seen.writes++;
	memcpy(seen.written, data, bytes);
}

static const struct bus_ops ops = {.read = record_read, .write = record_write};

static int add(struct bus *bus, uint64_t base, uint64_t bytes, uint8_t *device)
{
	struct riffle_error error;

	return bus_add(&bus->mmio, &(struct bus_range){.base = base, .bytes = bytes, .ops = &ops, .device = device},
		       &error);
}

static uint8_t read8(struct bus *bus, uint64_t address)
{
	uint8_t value = 0x5c;

	bus_mmio(bus, address, 1, false, &value);
	return value;
}

static void edges_of_ranges(void **state)
{
	uint8_t one = 1, two = 2, data[8];
	struct bus bus;

	(void)state;
	bus_init(&bus);
	assert_int_equal(add(&bus, 0x2000, 0x1000, &two), 0);
	assert_int_equal(add(&bus, 0x1000, 0x1000, &one), 0);
	assert_int_equal(read8(&bus, 0xfff), 0xff);
	assert_int_equal(read8(&bus, 0x1000), 1);
	assert_int_equal(read8(&bus, 0x1fff), 1);
	assert_int_equal(seen.offset, 0xfff);
	assert_int_equal(read8(&bus, 0x2000), 2);
	assert_int_equal(seen.offset, 0);
	assert_int_equal(read8(&bus, 0x2fff), 2);
	assert_int_equal(read8(&bus, 0x3000), 0xff);
	/* wholly inside a range or to no device: the last 8 bytes, and one byte further */
	memset(data, 0, sizeof data);
	bus_mmio(&bus, 0x2ff8, 8, false, data);
	assert_int_equal(data[7], 2);
	assert_int_equal(seen.bytes, 8);
	bus_mmio(&bus, 0x2ff9, 8, false, data);
	assert_int_equal(data[0], 0xff);
	seen.writes = 0;
	bus_mmio(&bus, 0x1ffe, 4, true, data); /* across two devices */
	assert_int_equal(seen.writes, 0);
	memcpy(data, "wxyz", 4);
	bus_mmio(&bus, 0x1ffc, 4, true, data);
	assert_memory_equal(seen.written, "wxyz", 4);
	bus_remove(&bus.mmio, 0x1001); /* nothing starts there */
	assert_int_equal(read8(&bus, 0x1000), 1);
	bus_remove(&bus.mmio, 0x1000);
	assert_int_equal(read8(&bus, 0x1000), 0xff);
	assert_int_equal(read8(&bus, 0x2000), 2);
	bus_destroy(&bus);
}

static void overlaps_are_refused(void **state)
{
	uint8_t device = 1;
	struct bus bus;

	(void)state;
	bus_init(&bus);
	assert_int_equal(add(&bus, 0x1000, 0, &device), RIFFLE_ERR_ARGUMENT);
	assert_int_equal(add(&bus, UINT64_MAX, 2, &device), RIFFLE_ERR_ARGUMENT);
	assert_int_equal(add(&bus, UINT64_MAX, 1, &device), 0);
	assert_int_equal(add(&bus, 0x1000, 0x100, &device), 0);
	assert_int_equal(add(&bus, 0x1000, 1, &device), RIFFLE_ERR_ARGUMENT);
	assert_int_equal(add(&bus, 0x10ff, 1, &device), RIFFLE_ERR_ARGUMENT);
	assert_int_equal(add(&bus, 0xfff, 2, &device), RIFFLE_ERR_ARGUMENT);
	assert_int_equal(add(&bus, 0x0, 0x10000, &device), RIFFLE_ERR_ARGUMENT);
	assert_int_equal(add(&bus, 0xfff, 1, &device), 0);
	assert_int_equal(add(&bus, 0x1100, 1, &device), 0);
	bus_destroy(&bus);
}

/* more than any fixed table would hold, added out of order */
static void many_ranges(void **state)
{
	static uint8_t devices[251];
	struct bus bus;

	(void)state;
	bus_init(&bus);
	for (unsigned i = 0; i < 251; i++) {
		unsigned at = i * 97 % 251;

		devices[at] = (uint8_t)at;
		assert_int_equal(add(&bus, 0x10000 + 16 * (uint64_t)at, 8, &devices[at]), 0);
	}
	for (unsigned i = 0; i < 251; i++) {
		assert_int_equal(read8(&bus, 0x10000 + 16 * (uint64_t)i + 7), i);
		assert_int_equal(read8(&bus, 0x10000 + 16 * (uint64_t)i + 8), 0xff);
	}
	bus_destroy(&bus);
}

/* Whichever of several goes, the others stay, its addresses are free, and a second removal does nothing. */
static void removal_leaves_the_others(void **state)
{
	static uint8_t devices[6] = {0, 1, 2, 3, 4, 5};

	(void)state;
	for (unsigned gone = 0; gone < 5; gone++) {
		struct bus bus;

		bus_init(&bus);
		for (unsigned i = 0; i < 5; i++)
			assert_int_equal(add(&bus, 0x1000 + 16 * (uint64_t)i, 16, &devices[i]), 0);
		bus_remove(&bus.mmio, 0xfff);
		bus_remove(&bus.mmio, 0x1050);
		for (unsigned round = 0; round < 2; round++) {
			bus_remove(&bus.mmio, 0x1000 + 16 * (uint64_t)gone);
			for (unsigned i = 0; i < 5; i++)
				assert_int_equal(read8(&bus, 0x1000 + 16 * (uint64_t)i), i == gone ? 0xff : i);
			assert_int_equal(bus.mmio.count, 4);
		}
		assert_int_equal(add(&bus, 0x1000 + 16 * (uint64_t)gone, 16, &devices[5]), 0);
		for (unsigned i = 0; i < 5; i++)
			assert_int_equal(read8(&bus, 0x100f + 16 * (uint64_t)i), i == gone ? 5 : i);
		bus_destroy(&bus);
	}
}

static uint8_t byte_register_value;
static unsigned byte_register_offset;

static uint8_t byte_register_read(void *device, unsigned offset)
{
	assert_ptr_equal(device, &byte_register_value);
	byte_register_offset = offset;
	return byte_register_value;
}

static void byte_register_write(void *device, unsigned offset, uint8_t value)
{
	assert_ptr_equal(device, &byte_register_value);
	byte_register_offset = offset;
	byte_register_value = value;
}

/* Registers of one byte answer only accesses of one byte. */
static void byte_registers_take_single_bytes(void **state)
{
	struct bus_bytes registers = {
	    .read = byte_register_read, .write = byte_register_write, .device = &byte_register_value};
	struct bus bus;

	(void)state;
	bus_init(&bus);
	assert_int_equal(bus_add_byte_ports(&bus, 0x70, 4, &registers, NULL), 0);
	for (uint16_t port = 0x6f; port <= 0x74; port++) {
		for (unsigned bytes = 1; bytes <= 4; bytes *= 2) {
			bool answers = bytes == 1 && port >= 0x70 && port < 0x74;
			uint8_t written[4] = {1, 2, 3, 4}, data[5] = {9, 9, 9, 9, 9};

			byte_register_value = 0x5a;
			byte_register_offset = 99;
			bus_port(&bus, port, bytes, false, data);
			assert_int_equal(data[0], answers ? 0x5a : 0xff);
			assert_int_equal(data[bytes - 1], answers ? 0x5a : 0xff);
			assert_int_equal(data[bytes], 9);
			bus_port(&bus, port, bytes, true, written);
			assert_int_equal(byte_register_value, answers ? 1 : 0x5a);
			assert_int_equal(byte_register_offset, answers ? port - 0x70u : 99);
		}
	}
	bus_destroy(&bus);
}

static bool write_fast(void *device, uint64_t offset, const void *data, unsigned bytes)
{
	(void)device;
	seen.offset = offset;
	seen.bytes = bytes;
	return *(const uint8_t *)data == 'f';
}

/* A device may take a write without the lock; one that it does not take so arrives by the ordinary way. */
static void unlocked_writes_come_first(void **state)
{
	static const struct bus_ops both = {.read = record_read, .write = record_write, .write_unlocked = write_fast};
	pthread_mutex_t own = PTHREAD_MUTEX_INITIALIZER;
	uint8_t device = 1, fast = 'f', slow = 's';
	struct bus bus;

	(void)state;
	bus_init(&bus);
	assert_int_equal(
	    bus_add(&bus.mmio,
		    &(struct bus_range){.base = 0x1000, .bytes = 16, .ops = &both, .device = &device, .lock = &own},
		    NULL),
	    0);
	memset(&seen, 0, sizeof seen);
	/* neither lock is needed */
	pthread_mutex_lock(&own);
	pthread_mutex_lock(&bus.lock);
	bus_mmio(&bus, 0x1007, 1, true, &fast);
	pthread_mutex_unlock(&own);
	assert_int_equal(seen.offset, 7);
	assert_int_equal(seen.writes, 0);
	/* a range with a lock of its own does not wait for the bus's */
	bus_mmio(&bus, 0x1008, 1, true, &slow);
	pthread_mutex_unlock(&bus.lock);
	assert_int_equal(seen.offset, 8);
	assert_int_equal(seen.writes, 1);
	assert_int_equal(read8(&bus, 0x1000), 1);
	bus_destroy(&bus);
}

static void guest_addresses(void **state)
{
	struct guest_memory memory;
	struct riffle_error error;
	const uint64_t bytes = (3ull << 30) + (4 << 20), high = 4ull << 30;
	char text[8];

	(void)state;
	assert_int_equal(guest_memory_map(&memory, bytes, false, &error), 0);
	assert_non_null(guest_memory_at(&memory, 0, 3ull << 30));
	assert_null(guest_memory_at(&memory, 0, (3ull << 30) + 1));
	assert_null(guest_memory_at(&memory, 3ull << 30, 1));
	assert_null(guest_memory_at(&memory, (3ull << 30) - 1, 2));
	assert_non_null(guest_memory_at(&memory, (3ull << 30) - 1, 1));
	assert_null(guest_memory_at(&memory, high - 1, 1));
	assert_non_null(guest_memory_at(&memory, high, 4 << 20));
	assert_null(guest_memory_at(&memory, high, (4 << 20) + 1));
	assert_null(guest_memory_at(&memory, high + (4 << 20), 0));
	assert_null(guest_memory_at(&memory, high + 1, UINT64_MAX));
	assert_null(guest_memory_at(&memory, UINT64_MAX, 2));
	assert_ptr_equal((char *)guest_memory_at(&memory, high, 1),
			 (char *)guest_memory_at(&memory, 0, 1) + (3ull << 30));
	assert_true(guest_memory_write(&memory, high + 8, "copied!", 8));
	assert_true(guest_memory_read(&memory, high + 8, text, 8));
	assert_string_equal(text, "copied!");
	assert_false(guest_memory_write(&memory, high + (4 << 20) - 7, "copied!", 8));
	assert_false(guest_memory_read(&memory, (3ull << 30) - 4, text, 8));
	assert_string_equal(text, "copied!"); /* not touched */
	guest_memory_unmap(&memory);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(edges_of_ranges),
	    cmocka_unit_test(overlaps_are_refused),
	    cmocka_unit_test(many_ranges),
	    cmocka_unit_test(removal_leaves_the_others),
	    cmocka_unit_test(byte_registers_take_single_bytes),
	    cmocka_unit_test(unlocked_writes_come_first),
	    cmocka_unit_test(guest_addresses),
	};

	return cmocka_run_group_tests_name("monitor bus", tests, NULL, NULL);
}
