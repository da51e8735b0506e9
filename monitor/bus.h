/* SPDX-License-Identifier: Apache-2.0 */
/* Brings a guest's port and MMIO accesses to the device that lives there. */
#ifndef RIFFLE_MONITOR_BUS_H
#define RIFFLE_MONITOR_BUS_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#define BUS_REGIONS 12

/* One device's registers. Every device here is a byte-wide one of the PC: other widths reach nothing. */
struct bus_region {
	uint64_t base;
	uint32_t bytes;
	uint8_t (*read)(void *device, unsigned offset);
	void (*write)(void *device, unsigned offset, uint8_t value);
	void *device;
};

/*
 * `lock` is held around every access, so devices need no locks of their own; whoever else changes a device (console
 * input, output that drained) takes it too. Nothing that can block happens under it.
 */
struct bus {
	pthread_mutex_t lock;
	struct bus_region ports[BUS_REGIONS];
	struct bus_region mmio[BUS_REGIONS];
	unsigned port_count, mmio_count;
};

void bus_init(struct bus *bus);
void bus_destroy(struct bus *bus);

/* Room for BUS_REGIONS of each kind; a monitor's devices are known when it is built, so one more is a bug. */
void bus_add_ports(struct bus *bus, const struct bus_region *region);
void bus_add_mmio(struct bus *bus, const struct bus_region *region);

/*
 * One access of `bytes` bytes at `data`, which a read fills; where nothing answers it reads all ones and a write is
 * lost. Any address, width and direction is safe.
 */
void bus_port(struct bus *bus, uint16_t port, unsigned bytes, bool write, void *data);
void bus_mmio(struct bus *bus, uint64_t address, unsigned bytes, bool write, void *data);

#endif
