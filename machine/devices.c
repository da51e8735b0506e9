/* SPDX-License-Identifier: Apache-2.0 */
/* The virtio devices of a machine: made from their description, put into slots, announced to the guest. */
#include "machine/devices.h"

#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#include "common/fail.h"

#define RTC_GSI 8u /* and the one after it is RIFFLE_BOOT_SCI */

struct maker {
	struct machine_devices *devices;
	bool timed;
	struct bus *bus;
	struct loop *loop;
	struct guest_memory *memory;
	const char **blame;
};

/* 5, 6, 7, 10, ... 23: 8 is the clock's, which Linux does not share, and 9 is ACPI's, which is level-triggered. */
static uint32_t gsi_of(unsigned slot)
{
	uint32_t gsi = VIRTIO_MMIO_GSI + slot;

	return gsi < RTC_GSI ? gsi : gsi + 2;
}

static void announce(struct machine_devices *devices, unsigned slot)
{
	devices->announced[slot] = (struct riffle_boot_device){.hid = "LNRO0005",
							       .address = VIRTIO_MMIO_BASE + slot * VIRTIO_MMIO_BYTES,
							       .bytes = VIRTIO_MMIO_BYTES,
							       .gsi = gsi_of(slot)};
}

/* The device is the slot's from here on; after an error it is gone. */
static int attach(const struct maker *maker, struct virtio_device *device, struct riffle_error *error)
{
	struct machine_devices *devices = maker->devices;
	unsigned slot = devices->count;

	if (slot == VIRTIO_MMIO_SLOTS) {
		virtio_device_destroy(device);
		return riffle_fail_expected(error, RIFFLE_ERR_ARGUMENT, "devices", "are more than there are slots",
					    slot + 1, VIRTIO_MMIO_SLOTS);
	}
	announce(devices, slot);
	devices->count++;
	device->timed = maker->timed;
	return virtio_mmio_attach(&devices->slots[slot], device, devices->announced[slot].address,
				  devices->announced[slot].gsi, maker->bus, maker->loop, maker->memory, -1, error);
}

static int make_disk(const struct maker *maker, const struct machine_disk *disk, struct riffle_error *error)
{
	struct machine_devices *devices = maker->devices;
	const struct block_config config = {
	    .name = "disk",
	    .path = disk->path,
	    .has_fd = disk->has_fd,
	    .fd = disk->fd,
	    .image = {.read_only = disk->read_only, .cache = disk->cache, .raw = disk->raw, .shared = disk->shared},
	    .serial = disk->serial,
	    .engine = disk->io,
	    .limits = disk->limits,
	};
	struct block **block = &devices->disks[devices->disk_count];

	*maker->blame = disk->path;
	int status = block_new(block, &config, maker->loop, error);

	if (status)
		return status;
	status = attach(maker, block_device(*block), error);
	if (status)
		return status;
	devices->disk_ids[devices->disk_count++] = disk->id;
	*maker->blame = NULL;
	return 0;
}

/* The root disk comes first, so that it is /dev/vda whatever the order of the options. */
static int make_disks(const struct maker *maker, const struct machine_devices_config *config,
		      struct riffle_error *error)
{
	for (int root = 1; root >= 0; root--)
		for (unsigned i = 0; i < config->disk_count; i++) {
			if (config->disks[i].root != root)
				continue;
			int status = make_disk(maker, &config->disks[i], error);

			if (status)
				return status;
		}
	return 0;
}

static int make_rng(const struct maker *maker, const struct machine_rng *config, struct riffle_error *error)
{
	if (!config->wanted)
		return 0;
	int status = rng_new(&maker->devices->rng, &config->limits, maker->loop, error);

	return status ? status : attach(maker, rng_device(maker->devices->rng), error);
}

static int make_nets(const struct maker *maker, const struct machine_devices_config *config, struct riffle_error *error)
{
	struct machine_devices *devices = maker->devices;

	for (unsigned i = 0; i < config->net_count; i++) {
		struct machine_net_state *state = &devices->nets[i];
		int status;

		state->devices = devices;
		devices->net_count++;
		if ((status = machine_net_make(state, &config->nets[i], maker->blame, error)) ||
		    (status = attach(maker, state->device, error)))
			return status;
		*maker->blame = NULL;
	}
	return 0;
}

static int make_pmem(const struct maker *maker, const struct machine_pmem *config, struct riffle_error *error)
{
	struct machine_devices *devices = maker->devices;
	struct pmem **pmem = &devices->pmems[devices->pmem_count];
	const struct pmem_config options = {.path = config->path,
					    .has_fd = config->has_fd,
					    .fd = config->fd,
					    .read_only = config->read_only,
					    .limits = config->limits};
	struct riffle_ram region;

	*maker->blame = config->path;
	int status = pmem_new(pmem, &options, maker->loop, error);

	if (status)
		return status;
	pmem_place(*pmem, guest_memory_next_added(maker->memory), &region);
	status = attach(maker, pmem_device(*pmem), error);
	if (!status)
		status = guest_memory_add(maker->memory, &region, config->read_only, error);
	if (status)
		return status;
	devices->pmem_ids[devices->pmem_count++] = config->id;
	*maker->blame = NULL;
	return 0;
}

static int make_pmems(const struct maker *maker, const struct machine_devices_config *config,
		      struct riffle_error *error)
{
	int status = 0;

	for (unsigned i = 0; !status && i < config->pmem_count; i++)
		status = make_pmem(maker, &config->pmems[i], error);
	return status;
}

static int make_vsock(const struct maker *maker, const struct machine_vsock *config, struct riffle_error *error)
{
	const struct vsock_config vsock = {.cid = config->cid,
					   .path = config->path,
					   .has_listener = config->has_listener,
					   .listener = config->listener};

	if (!config->path)
		return 0;
	*maker->blame = config->path;
	int status = vsock_new(&maker->devices->vsock, &vsock, error);

	if (!status)
		*maker->blame = NULL;
	return status ? status : attach(maker, maker->devices->vsock, error);
}

static int make_balloon(const struct maker *maker, const struct machine_balloon *config, struct riffle_error *error)
{
	struct balloon_config balloon = config->balloon;

	if (!config->wanted)
		return 0;
	balloon.memory_bytes = 0;
	for (size_t i = 0; i < maker->memory->count; i++)
		balloon.memory_bytes += maker->memory->ram[i].bytes;
	int status = balloon_new(&maker->devices->balloon, &balloon, error);

	return status ? status : attach(maker, maker->devices->balloon, error);
}

/* What a guest reads most is why it was interrupted; it reads it in memory. */
static int show_registers(struct machine_devices *devices, struct guest_memory *memory, struct riffle_error *error)
{
	if (!devices->count)
		return 0;
	devices->pages = mmap(NULL, (size_t)devices->count * VIRTIO_MMIO_BYTES, PROT_READ | PROT_WRITE,
			      MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (devices->pages == MAP_FAILED) {
		devices->pages = NULL;
		return riffle_fail(error, RIFFLE_ERR_MEMORY, "devices", "have no memory for their registers");
	}
	for (unsigned i = 0; i < devices->count; i++)
		virtio_mmio_show(&devices->slots[i], (uint8_t *)devices->pages + (size_t)i * VIRTIO_MMIO_BYTES);
	memory->registers = (struct riffle_ram){
	    .address = VIRTIO_MMIO_BASE, .bytes = (uint64_t)devices->count * VIRTIO_MMIO_BYTES, .host = devices->pages};
	return 0;
}

int machine_devices_make(struct machine_devices *devices, const struct machine_devices_config *config, struct bus *bus,
			 struct loop *loop, struct guest_memory *memory, const char **blame, struct riffle_error *error)
{
	const struct maker maker = {
	    .devices = devices, .timed = config->timed, .bus = bus, .loop = loop, .memory = memory, .blame = blame};
	int status;

	if ((status = make_balloon(&maker, &config->balloon, error)) || (status = make_disks(&maker, config, error)) ||
	    (status = make_nets(&maker, config, error)) || (status = make_pmems(&maker, config, error)) ||
	    (status = make_vsock(&maker, &config->vsock, error)) || (status = make_rng(&maker, &config->rng, error)))
		return status;
	return show_registers(devices, memory, error);
}

int machine_devices_connect(struct machine_devices *devices, int vm_fd, struct riffle_error *error)
{
	int status = 0;

	for (unsigned i = 0; !status && i < devices->count; i++)
		status = virtio_mmio_connect(&devices->slots[i], vm_fd, error);
	for (unsigned i = 0; !status && i < devices->net_count; i++)
		status = machine_net_ready(&devices->nets[i], error);
	return status;
}

static bool has_parameter(const char *line, const char *name)
{
	size_t length = strlen(name);

	for (const char *at = line; (at = strstr(at, name)); at += length)
		if (at == line || (unsigned char)at[-1] <= ' ')
			return true;
	return false;
}

/* " root=... rw" of the device in a slot, if it is the root. */
static size_t add_root(const struct machine_devices_config *config, unsigned slot, char *text, size_t room)
{
	unsigned disks = config->balloon.wanted, pmems = disks + config->disk_count + config->net_count;

	/* the root disk is the first one */
	for (unsigned i = 0; i < config->disk_count; i++) {
		const struct machine_disk *disk = &config->disks[i];

		if (disk->root && slot == disks)
			return (size_t)snprintf(text, room, " root=%s%s %s", disk->partuuid ? "PARTUUID=" : "",
						disk->partuuid ? disk->partuuid : "/dev/vda",
						disk->read_only ? "ro" : "rw");
	}
	if (slot >= pmems && slot < pmems + config->pmem_count && config->pmems[slot - pmems].root)
		return (size_t)snprintf(text, room, " root=/dev/pmem%u %s", slot - pmems,
					config->pmems[slot - pmems].read_only ? "ro" : "rw");
	return 0;
}

void machine_devices_foresee(struct machine_devices *devices, const struct machine_devices_config *config)
{
	const unsigned wanted = machine_devices_wanted(config);

	for (devices->count = 0; devices->count < wanted && devices->count < VIRTIO_MMIO_SLOTS; devices->count++)
		announce(devices, devices->count);
}

bool machine_devices_command_line(const struct machine_devices *devices, const struct machine_devices_config *config,
				  const char *line, char *text, size_t room)
{
	bool in_order = config->root_in_order;
	size_t used = 0;

	if (!room)
		return false;
	text[0] = 0;
	for (unsigned i = 0; !in_order && !has_parameter(line, "root=") && !used && i < devices->count; i++)
		used = add_root(config, i, text, room);
	for (unsigned i = 0; i < devices->count && used < room; i++) {
		if (in_order)
			used += add_root(config, i, text + used, room - used);
		if (used < room)
			used += (size_t)snprintf(text + used, room - used, " virtio_mmio.device=4K@0x%llx:%u",
						 (unsigned long long)devices->announced[i].address,
						 devices->announced[i].gsi);
	}
	return used < room;
}

void machine_devices_pause(struct machine_devices *devices)
{
	for (unsigned i = 0; i < devices->count; i++)
		virtio_pause(devices->slots[i].device);
}

void machine_devices_resume(struct machine_devices *devices)
{
	for (unsigned i = 0; i < devices->count; i++)
		virtio_resume(devices->slots[i].device);
}

void machine_devices_destroy(struct machine_devices *devices)
{
	for (unsigned i = 0; i < devices->count; i++)
		virtio_mmio_detach(&devices->slots[i]);
	for (unsigned i = 0; i < devices->net_count; i++)
		machine_net_destroy(&devices->nets[i]);
	if (devices->pages)
		munmap(devices->pages, (size_t)devices->count * VIRTIO_MMIO_BYTES);
	memset(devices, 0, sizeof *devices);
}
