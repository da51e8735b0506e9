/* SPDX-License-Identifier: Apache-2.0 */
/* Dispatches a guest's port and MMIO accesses to the device that owns the range. */
#ifndef RIFFLE_MONITOR_BUS_H
#define RIFFLE_MONITOR_BUS_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <riffle/error.h>

/*
 * A device's registers. `offset` counts from the base of its range; `bytes` is 1, 2, 4 or 8 (ports: at most 4) and the
 * access lies wholly inside the range. The device defines what an access of each width means. Called by vCPU threads
 * with the range's lock held, one call at a time; must not block.
 */
struct bus_ops {
	void (*read)(void *device, uint64_t offset, void *data, unsigned bytes);
	void (*write)(void *device, uint64_t offset, const void *data, unsigned bytes);
	/* NULL, or tried first for a write, without the range's lock; false: nothing was done, and write() is called.
	 */
	bool (*write_unlocked)(void *device, uint64_t offset, const void *data, unsigned bytes);
};

struct bus_range {
	uint64_t base, bytes;
	const struct bus_ops *ops;
	void *device;
	pthread_mutex_t *lock; /* NULL: the bus's own, which the small devices share */
};

/* One address space: ranges by base, none overlapping. */
struct bus_space {
	struct bus_range *ranges;
	size_t count;
};

/*
 * `lock` is held around accesses, so devices need no locks of their own; other code that changes a device (the event
 * loop) must take the same lock.
 */
struct bus {
	pthread_mutex_t lock;
	struct bus_space ports, mmio;
};

void bus_init(struct bus *bus);
void bus_destroy(struct bus *bus);

/*
 * Adds a range, copied, to bus->ports or bus->mmio; not while vCPUs run.
 * Errors: ARGUMENT (empty, wraps around, overlaps another), MEMORY.
 */
int bus_add(struct bus_space *space, const struct bus_range *range, struct riffle_error *error);

/* Removes the range that starts at `base`; not while vCPUs run. */
void bus_remove(struct bus_space *space, uint64_t base);

/*
 * One access of `bytes` bytes at `data`, which a read fills in. Where there is no device, reads return all ones and
 * writes are lost. Any address, width and direction is safe.
 */
void bus_port(struct bus *bus, uint16_t port, unsigned bytes, bool write, void *data);
void bus_mmio(struct bus *bus, uint64_t address, unsigned bytes, bool write, void *data);

/*
 * For PC devices with one-byte registers: `bus_byte_ops` with a struct bus_bytes as the device. Other widths read all
 * ones and write nothing: a PC's bus would split them across the following ports, and a 32-bit write to the PCI address
 * port 0xcf8 would reach the reset register 0xcf9.
 */
struct bus_bytes {
	uint8_t (*read)(void *device, unsigned offset);
	void (*write)(void *device, unsigned offset, uint8_t value);
	void *device;
};

extern const struct bus_ops bus_byte_ops;

/* bus_add() of `count` ports with byte registers. `registers` stays in use. */
int bus_add_byte_ports(struct bus *bus, uint16_t base, unsigned count, struct bus_bytes *registers,
		       struct riffle_error *error);

#endif
