/* SPDX-License-Identifier: Apache-2.0 */
/* Dispatches a guest's port and MMIO accesses to the device that owns the range. */
#include "monitor/bus/bus.h"

#include <stdlib.h>
#include <string.h>

#include "common/bytes.h"
#include "common/fail.h"
#include "common/search.h"

void bus_init(struct bus *bus)
{
	memset(bus, 0, sizeof *bus);
	pthread_mutex_init(&bus->lock, NULL);
}

void bus_destroy(struct bus *bus)
{
	free(bus->ports.ranges);
	free(bus->mmio.ranges);
	pthread_mutex_destroy(&bus->lock);
}

/* Index of the first range that starts above `address`. */
static size_t upper_bound(const struct bus_space *space, uint64_t address)
{
	size_t index;

	RIFFLE_FIRST_WHERE(index, space->count, space->ranges[index].base > address);
	return index;
}

static bool overlaps(const struct bus_space *space, size_t at, const struct bus_range *range)
{
	if (at && range->base - space->ranges[at - 1].base < space->ranges[at - 1].bytes)
		return true;
	return at < space->count && space->ranges[at].base - range->base < range->bytes;
}

int bus_add(struct bus_space *space, const struct bus_range *range, struct riffle_error *error)
{
	size_t at = upper_bound(space, range->base);

	if (!range->bytes || range->base + (range->bytes - 1) < range->base)
		return riffle_fail_found(error, RIFFLE_ERR_ARGUMENT, "bus range", "is empty or wraps around",
					 range->base);
	if (overlaps(space, at, range))
		return riffle_fail_found(error, RIFFLE_ERR_ARGUMENT, "bus range", "overlaps another device's",
					 range->base);
	struct bus_range *ranges = realloc(space->ranges, (space->count + 1) * sizeof *ranges);

	if (!ranges)
		return riffle_fail(error, RIFFLE_ERR_MEMORY, "bus range", "out of memory");
	space->ranges = ranges;
	memmove(space->ranges + at + 1, space->ranges + at, (space->count - at) * sizeof *space->ranges);
	space->ranges[at] = *range;
	space->count++;
	return 0;
}

void bus_remove(struct bus_space *space, uint64_t base)
{
	size_t after = upper_bound(space, base);

	if (!after || space->ranges[after - 1].base != base)
		return;
	memmove(space->ranges + after - 1, space->ranges + after, (space->count - after) * sizeof *space->ranges);
	space->count--;
}

static void access_space(struct bus *bus, const struct bus_space *space, uint64_t address, unsigned bytes, bool write,
			 void *data)
{
	size_t after = upper_bound(space, address);
	const struct bus_range *range = after ? &space->ranges[after - 1] : NULL;

	if (!range || !riffle_inside(address - range->base, bytes, range->bytes)) {
		if (!write)
			memset(data, 0xff, bytes);
		return;
	}
	if (write && range->ops->write_unlocked &&
	    range->ops->write_unlocked(range->device, address - range->base, data, bytes))
		return;
	pthread_mutex_t *lock = range->lock ? range->lock : &bus->lock;

	pthread_mutex_lock(lock);
	if (write)
		range->ops->write(range->device, address - range->base, data, bytes);
	else
		range->ops->read(range->device, address - range->base, data, bytes);
	pthread_mutex_unlock(lock);
}

void bus_port(struct bus *bus, uint16_t port, unsigned bytes, bool write, void *data)
{
	access_space(bus, &bus->ports, port, bytes, write, data);
}

void bus_mmio(struct bus *bus, uint64_t address, unsigned bytes, bool write, void *data)
{
	access_space(bus, &bus->mmio, address, bytes, write, data);
}

static void byte_read(void *device, uint64_t offset, void *data, unsigned bytes)
{
	const struct bus_bytes *registers = device;

	if (bytes == 1)
		*(uint8_t *)data = registers->read(registers->device, (unsigned)offset);
	else
		memset(data, 0xff, bytes);
}

static void byte_write(void *device, uint64_t offset, const void *data, unsigned bytes)
{
	const struct bus_bytes *registers = device;

	if (bytes == 1)
		registers->write(registers->device, (unsigned)offset, *(const uint8_t *)data);
}

const struct bus_ops bus_byte_ops = {.read = byte_read, .write = byte_write};

int bus_add_byte_ports(struct bus *bus, uint16_t base, unsigned count, struct bus_bytes *registers,
		       struct riffle_error *error)
{
	const struct bus_range range = {.base = base, .bytes = count, .ops = &bus_byte_ops, .device = registers};

	return bus_add(&bus->ports, &range, error);
}
