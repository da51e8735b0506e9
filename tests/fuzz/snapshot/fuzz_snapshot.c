/* SPDX-License-Identifier: Apache-2.0 */
/* Fuzzes the reader of a snapshot's state: the checksum is corrected, and every component restores from it. */
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "common/bytes.h"
#include "common/checksum.h"
#include "machine/description.h"
#include "monitor/snapshot/components.h"
#include "monitor/snapshot/extents.h"
#include "monitor/virtio/balloon.h"
#include "monitor/virtio/rng.h"
#include "tests/fuzz/accepted.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define MEMORY (4u << 20)

static void set_irq(void *opaque, unsigned irq, bool level)
{
	(void)opaque, (void)irq, (void)level;
}

static void ignore(void *opaque)
{
	(void)opaque;
}

static struct guest_memory memory;
static int memory_fd;
static struct loop loop;
static const struct platform platform = {.set_irq = set_irq, .input_wanted = ignore};

static void must(int status)
{
	if (status)
		abort();
}

/* Uses a restored device: notifies its queues, reads its rings. */
static bool restore_device(struct virtio_device *device, unsigned slot, const struct state_file *file)
{
	struct virtio_mmio mmio;
	struct bus bus;

	bus_init(&bus);
	must(virtio_mmio_attach(&mmio, device, VIRTIO_MMIO_BASE, 5, &bus, &loop, &memory, -1, NULL));
	bool good = !virtio_restore(&mmio, slot, file, NULL);

	if (good) {
		virtio_resume(device);
		for (unsigned i = 0; i < device->ops->queue_count; i++) {
			virtio_lock(device);
			virtio_device_notify(device, i);
			virtio_unlock(device);
		}
		virtio_pause(device);
	}
	virtio_mmio_detach(&mmio);
	bus_destroy(&bus);
	return good;
}

static bool restore_devices(const struct state_file *file)
{
	const struct limiter_config limits = {.bytes = {1000, 1000, 10}};
	const struct balloon_config config = {.memory_bytes = MEMORY, .hinting = true, .reporting = true, .stats_s = 1};
	struct virtio_device *balloon;
	struct rng *rng;

	must(rng_new(&rng, &limits, &loop, NULL));
	must(balloon_new(&balloon, &config, NULL));
	bool one = restore_device(rng_device(rng), 0, file), other = restore_device(balloon, 1, file);

	return one && other;
}

static bool restore_platform(const struct state_file *file)
{
	struct serial serial = {.platform = &platform};
	struct i8042 i8042 = {.platform = &platform};
	struct cmos cmos = {0};
	struct power power = {.platform = &platform};
	struct state_writer writer = {0};
	unsigned refused = 0;

	/* every component, even if earlier ones failed */
	refused += serial_restore(&serial, file, NULL) != 0;
	refused += i8042_restore(&i8042, file, NULL) != 0;
	refused += cmos_restore(&cmos, file, NULL) != 0;
	refused += power_restore(&power, file, NULL) != 0;

	/* accepted state can be saved again */
	serial_save(&serial, &writer);
	i8042_save(&i8042, &writer);
	cmos_save(&cmos, &writer);
	power_save(&power, &writer);
	must(state_finish(&writer, NULL));
	state_writer_free(&writer);
	return !refused;
}

static bool restore_extents(const struct state_file *file)
{
	struct guest_memory_extent extents[GUEST_MEMORY_EXTENTS_MAX];
	uint64_t end = 0;
	size_t count;

	if (extents_load(extents, &count, memory_fd, MEMORY, file, NULL))
		return false;
	for (size_t i = 0; i < count; end = extents[i++].to)
		if (extents[i].from < end || extents[i].from >= extents[i].to || extents[i].to > MEMORY ||
		    (extents[i].from | extents[i].to) % GUEST_PAGE)
			abort();
	return true;
}

static bool restore_description(const struct state_file *file)
{
	static struct machine_config config;
	struct state_reader reader;
	json_t *owner;
	size_t bytes;

	if (!state_section(file, STATE_CONFIG, 0, &reader))
		return true;
	const char *text = state_get_block_at(&reader, "description", &bytes);

	machine_config_init(&config);
	if (state_close_section(&reader, NULL) || description_read(&config, &owner, text, bytes, NULL))
		return false;
	char *again;

	if (!description_write(&again, &config, NULL))
		free(again);
	json_decref(owner);
	return true;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct state_file file;
	uint8_t *copy;

	if (!memory.count) {
		must(guest_memory_map(&memory, MEMORY, false, NULL));
		must(loop_init(&loop, NULL));
		memory_fd = memfd_create("memory", MFD_CLOEXEC);
		must(ftruncate(memory_fd, MEMORY));
	}
	copy = malloc(size + 1);
	if (!copy)
		abort();
	memcpy(copy, data, size);
	if (size >= STATE_HEADER_BYTES) {
		riffle_put32(copy + 12, (uint32_t)size);
		riffle_put64(copy + 16, riffle_checksum(copy + STATE_HEADER_BYTES, size - STATE_HEADER_BYTES));
	}
	if (!state_open(&file, copy, size, NULL)) {
		bool platform_good = restore_platform(&file), devices_good = restore_devices(&file),
		     extents_good = restore_extents(&file);

		if (restore_description(&file) && platform_good && devices_good && extents_good)
			fuzz_accepted++;
	}
	free(copy);
	return 0;
}
