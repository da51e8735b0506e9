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
	    cmocka_unit_test(guest_addresses),
	};

	return cmocka_run_group_tests_name("monitor bus", tests, NULL, NULL);
}
