/* SPDX-License-Identifier: Apache-2.0 */
/* A machine's devices: slots, interrupts and the words on the command line. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "machine/devices.h"

static struct machine_devices devices;
static struct bus bus;
static struct loop loop;
static struct guest_memory memory;

static void make(const struct machine_devices_config *config)
{
	const char *blame = NULL;

	assert_int_equal(guest_memory_map(&memory, 4 << 20, false, NULL), 0);
	assert_int_equal(loop_init(&loop, NULL), 0);
	bus_init(&bus);
	assert_int_equal(machine_devices_make(&devices, config, &bus, &loop, &memory, &blame, NULL), 0);
	assert_null(blame);
}

static void destroy(void)
{
	machine_devices_destroy(&devices);
	bus_destroy(&bus);
	loop_destroy(&loop);
	guest_memory_unmap(&memory);
}

static void add_disk(struct machine_devices_config *config, const char *path)
{
	config->disks[config->disk_count++] = (struct machine_disk){.path = path, .read_only = true};
}

/* All slots: no two share an interrupt, and none uses the clock's or ACPI's. */
static void test_slots(void **state)
{
	struct machine_devices_config config = {.rng = {.wanted = true}};
	char path[] = "/var/tmp/riffle-slots-XXXXXX", words[2048];
	int fd = mkstemp(path);

	(void)state;
	assert_int_equal(ftruncate(fd, 4096), 0);
	for (unsigned i = 0; i < VIRTIO_MMIO_SLOTS - 1; i++)
		add_disk(&config, path);
	make(&config);
	assert_int_equal(devices.count, 17);
	for (unsigned i = 0; i < devices.count; i++) {
		assert_int_equal(devices.announced[i].address, 0xc0001000u + 0x1000u * i);
		assert_in_range(devices.announced[i].gsi, i ? devices.announced[i - 1].gsi + 1 : 5, 23);
		assert_int_not_equal(devices.announced[i].gsi, 8);
		assert_int_not_equal(devices.announced[i].gsi, 9);
	}
	assert_int_equal(devices.announced[16].gsi, 23);
	assert_true(machine_devices_command_line(&devices, &config, "quiet", words, sizeof words));
	assert_non_null(strstr(words, " virtio_mmio.device=4K@0xc0001000:5 virtio_mmio.device=4K@0xc0002000:6"));
	assert_non_null(strstr(words, " virtio_mmio.device=4K@0xc0011000:23"));
	assert_null(strstr(words, "root="));
	size_t bytes = strlen(words);
	assert_true(machine_devices_command_line(&devices, &config, "", words, bytes + 1));
	assert_false(machine_devices_command_line(&devices, &config, "", words, bytes));
	destroy();
	close(fd);
	unlink(path);
}

/* The root disk is the first one, and the command line says so, unless it already names a root. */
static void test_root(void **state)
{
	struct machine_devices_config config = {0};
	char paths[2][40] = {"/var/tmp/riffle-root-XXXXXX", "/var/tmp/riffle-root-XXXXXX"}, words[400];

	(void)state;
	for (unsigned i = 0; i < 2; i++) {
		int fd = mkstemp(paths[i]);

		assert_int_equal(ftruncate(fd, 4096 * (i + 1)), 0);
		close(fd);
		add_disk(&config, paths[i]);
	}
	config.disks[1].root = true;
	make(&config);
	assert_int_equal(block_bytes(devices.disks[0]), 8192);
	assert_int_equal(block_bytes(devices.disks[1]), 4096);
	assert_true(machine_devices_command_line(&devices, &config, "quiet noroot=1", words, sizeof words));
	assert_int_equal(strncmp(words, " root=/dev/vda ro virtio_mmio", 29), 0);
	assert_true(machine_devices_command_line(&devices, &config, "a root=/dev/vdb", words, sizeof words));
	assert_null(strstr(words, "root="));
	config.disks[1].partuuid = "1234-01";
	config.disks[1].read_only = false;
	assert_true(machine_devices_command_line(&devices, &config, "", words, sizeof words));
	assert_int_equal(strncmp(words, " root=PARTUUID=1234-01 rw ", 26), 0);
	destroy();
	unlink(paths[0]);
	unlink(paths[1]);
}

/* Persistent memory lies above 512 GiB, a GiB or more apart, and devices reach it as they do RAM. */
static void test_pmem(void **state)
{
	struct machine_devices_config config = {0};
	char paths[2][40] = {"/var/tmp/riffle-pmem-XXXXXX", "/var/tmp/riffle-pmem-XXXXXX"}, words[400];
	uint64_t first, second;

	(void)state;
	for (unsigned i = 0; i < 2; i++) {
		int fd = mkstemp(paths[i]);

		assert_int_equal(ftruncate(fd, i ? 4096 : (2 << 20) + 1), 0);
		assert_int_equal(pwrite(fd, i ? "second" : "first!", 6, 0), 6);
		close(fd);
		config.pmems[config.pmem_count++] = (struct machine_pmem){.id = "a", .path = paths[i], .read_only = i};
	}
	config.pmems[1].root = true;
	make(&config);
	first = memory.added[0].address;
	second = memory.added[1].address;
	assert_in_range(first, UINT64_C(4) << 30, UINT64_C(512) << 30);
	assert_int_equal(first % (1 << 30), 0);
	assert_int_equal(second, first + (1 << 30));
	assert_int_equal(pmem_bytes(devices.pmems[0]), 4 << 20);
	assert_int_equal(pmem_bytes(devices.pmems[1]), 2 << 20);
	assert_memory_equal(guest_memory_at(&memory, first, 6), "first!", 6);
	assert_memory_equal(guest_memory_at(&memory, second, 6), "second", 6);
	assert_non_null(guest_memory_at(&memory, first, 4 << 20));
	assert_null(guest_memory_at(&memory, first, (4 << 20) + 1));
	assert_null(guest_memory_at(&memory, first + (4 << 20), 1));
	assert_null(guest_memory_at(&memory, first - 1, 1));
	assert_null(guest_memory_at(&memory, second + (2 << 20), 0));
	assert_non_null(guest_memory_at(&memory, 0, 4 << 20));
	assert_true(memory.added_read_only[1] && !memory.added_read_only[0]);
	/* writes to a read-only file go to a copy */
	assert_true(guest_memory_write(&memory, second, "SECOND", 6));
	assert_true(guest_memory_write(&memory, first, "FIRST!", 6));
	assert_true(machine_devices_command_line(&devices, &config, "quiet", words, sizeof words));
	assert_int_equal(strncmp(words, " root=/dev/pmem1 ro virtio_mmio", 31), 0);
	destroy();
	for (unsigned i = 0; i < 2; i++) {
		char text[6];
		int fd = open(paths[i], O_RDONLY);

		assert_int_equal(read(fd, text, 6), 6);
		assert_memory_equal(text, i ? "second" : "FIRST!", 6);
		close(fd);
		unlink(paths[i]);
	}
}

/* A disk given as a descriptor, and the id by which control finds it. */
static void test_descriptor(void **state)
{
	struct machine_devices_config config = {.disk_count = 1};
	char path[] = "/var/tmp/riffle-descriptor-XXXXXX";
	int fd = mkstemp(path);

	(void)state;
	assert_int_equal(ftruncate(fd, 8192), 0);
	assert_int_equal(unlink(path), 0);
	config.disks[0] = (struct machine_disk){.id = "disk", .path = "a name", .has_fd = true, .fd = fd};
	for (unsigned round = 0; round < 2; round++) {
		make(&config);
		assert_int_equal(block_bytes(devices.disks[0]), 8192);
		assert_string_equal(devices.disk_ids[0], "disk");
		destroy();
		assert_true(fcntl(fd, F_GETFD) >= 0); /* the caller's, for another try */
	}
	close(fd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_slots), cmocka_unit_test(test_root),
					   cmocka_unit_test(test_pmem), cmocka_unit_test(test_descriptor)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
