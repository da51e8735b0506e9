/* SPDX-License-Identifier: Apache-2.0 */
/* Brings a guest's port and MMIO accesses to the device that lives there. */
#include "monitor/bus.h"

#include <assert.h>
#include <string.h>

void bus_init(struct bus *bus)
{
	memset(bus, 0, sizeof *bus);
	pthread_mutex_init(&bus->lock, NULL);
}

void bus_destroy(struct bus *bus)
{
	pthread_mutex_destroy(&bus->lock);
}

void bus_add_ports(struct bus *bus, const struct bus_region *region)
{
	assert(bus->port_count < BUS_REGIONS);
	bus->ports[bus->port_count++] = *region;
}

void bus_add_mmio(struct bus *bus, const struct bus_region *region)
{
	assert(bus->mmio_count < BUS_REGIONS);
	bus->mmio[bus->mmio_count++] = *region;
}

static const struct bus_region *find(const struct bus_region *regions, unsigned count, uint64_t address)
{
	for (unsigned i = 0; i < count; i++)
		if (address >= regions[i].base && address - regions[i].base < regions[i].bytes)
			return &regions[i];
	return NULL;
}

/*
 * A wider access to a byte register would, on a PC's bus, be split over the ports that follow. That is not done here:
 * a 32-bit write to the PCI address port 0xcf8 would reach the reset register 0xcf9.
 */
static void access_region(struct bus *bus, const struct bus_region *region, uint64_t address, unsigned bytes,
			  bool write, uint8_t *data)
{
	if (!region || bytes != 1) {
		if (!write)
			memset(data, 0xff, bytes);
		return;
	}
	unsigned offset = (unsigned)(address - region->base);
	pthread_mutex_lock(&bus->lock);
	if (write)
		region->write(region->device, offset, *data);
	else
		*data = region->read(region->device, offset);
	pthread_mutex_unlock(&bus->lock);
}

void bus_port(struct bus *bus, uint16_t port, unsigned bytes, bool write, void *data)
{
	access_region(bus, find(bus->ports, bus->port_count, port), port, bytes, write, data);
}

void bus_mmio(struct bus *bus, uint64_t address, unsigned bytes, bool write, void *data)
{
	access_region(bus, find(bus->mmio, bus->mmio_count, address), address, bytes, write, data);
}
