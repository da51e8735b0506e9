/* SPDX-License-Identifier: Apache-2.0 */
/* Writes the seed of fuzz_snapshot: a state that every component accepts. usage: make-snapshot-seeds FILE */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "machine/description.h"
#include "monitor/snapshot/components.h"
#include "monitor/snapshot/extents.h"
#include "monitor/virtio/balloon.h"
#include "monitor/virtio/rng.h"

static void must(int status)
{
	if (status)
		abort();
}

static struct guest_memory memory;
static struct loop loop;

static void save_extents(struct state_writer *writer)
{
	int fd = memfd_create("memory", MFD_CLOEXEC);

	must(ftruncate(fd, 4 << 20) || pwrite(fd, "a", 1, 0x10000) != 1 || pwrite(fd, "b", 1, 0x200000) != 1);
	extents_save(fd, 4 << 20, writer);
	close(fd);
}

static void save_device(struct virtio_device *device, unsigned slot, struct state_writer *writer)
{
	struct virtio_mmio mmio;
	struct bus bus;

	bus_init(&bus);
	must(virtio_mmio_attach(&mmio, device, VIRTIO_MMIO_BASE, 5, &bus, &loop, &memory, -1, NULL));
	mmio.driver_features = UINT64_C(1) << 32;
	device->driver_features = mmio.driver_features;
	atomic_store(&device->status, 15);
	device->queues[0].size = 8;
	device->queues[0].descriptors = 0x10000;
	device->queues[0].avail = 0x11000;
	device->queues[0].used = 0x12000;
	device->queues[0].ready = true;
	device->active = true;
	virtio_pause(device);
	must(virtio_save(&mmio, slot, writer, NULL));
	virtio_mmio_detach(&mmio);
	bus_destroy(&bus);
}

int main(int argc, char **argv)
{
	const struct limiter_config limits = {.bytes = {1000, 1000, 10}};
	const struct balloon_config balloon_config = {
	    .memory_bytes = 4 << 20, .hinting = true, .reporting = true, .stats_s = 1};
	const struct serial serial = {.received = {.count = 2, .bytes = "ab"}};
	const struct i8042 i8042 = {.queue_count = 1};
	const struct cmos cmos = {.index = 5};
	const struct power power = {.pm = {0}};
	static struct machine_config config;
	struct state_writer writer = {0};
	struct virtio_device *balloon;
	struct rng *rng;
	char *text;

	if (argc != 2)
		return 2;
	must(guest_memory_map(&memory, 4 << 20, false, NULL));
	must(loop_init(&loop, NULL));
	serial_save(&serial, &writer);
	i8042_save(&i8042, &writer);
	cmos_save(&cmos, &writer);
	power_save(&power, &writer);
	must(rng_new(&rng, &limits, &loop, NULL));
	save_device(rng_device(rng), 0, &writer);
	must(balloon_new(&balloon, &balloon_config, NULL));
	save_device(balloon, 1, &writer);
	machine_config_init(&config);
	config.devices.disk_count = config.devices.net_count = 1;
	config.devices.disks[0] = (struct machine_disk){.path = "d"};
	config.devices.nets[0] = (struct machine_net){.tap = "t", .mac_kind = MACHINE_MAC_GIVEN};
	must(description_write(&text, &config, NULL));
	state_begin(&writer, STATE_CONFIG, 0, 1);
	state_put_block(&writer, text, strlen(text));
	state_end(&writer);
	free(text);
	save_extents(&writer);
	must(state_finish(&writer, NULL));
	FILE *file = fopen(argv[1], "wb");

	if (!file || fwrite(writer.data, 1, writer.bytes, file) != writer.bytes || fclose(file))
		return 1;
	state_writer_free(&writer);
	return 0;
}
