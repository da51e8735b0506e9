/* SPDX-License-Identifier: Apache-2.0 */
/* virtio-pmem: flushes are completed, in batches that the limiter counts once; all other requests fail. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <fcntl.h>
#include <linux/virtio_config.h>
#include <linux/virtio_pmem.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "driver.h"
#include "monitor/virtio/pmem.h"

static struct driver driver;
static struct pmem *pmem;
static char path[40];

static bool in_memory; /* where a flush is done at once */

static void begin(bool read_only, const struct limiter_config *limits, off_t bytes)
{
	struct riffle_ram region;

	strcpy(path, in_memory ? "/dev/shm/riffle-pmem-XXXXXX" : "/var/tmp/riffle-pmem-XXXXXX");
	int fd = mkstemp(path);

	assert_int_equal(ftruncate(fd, bytes), 0);
	driver_open(&driver);
	const struct pmem_config config = {.has_fd = true, .fd = fd, .read_only = read_only, .limits = *limits};

	assert_int_equal(pmem_new(&pmem, &config, &driver.loop, NULL), 0);
	close(fd);
	pmem_place(pmem, UINT64_C(512) << 30, &region);
	assert_int_equal((uintptr_t)region.host % PMEM_STEP, 0);
	driver_attach(&driver, pmem_device(pmem));
	driver_begin(&driver, UINT64_MAX, 64);
}

static void end(void)
{
	driver_close(&driver);
	unlink(path);
}

static uint32_t *add(uint32_t type)
{
	uint64_t at = driver_take(&driver, 8, 8);
	uint32_t *request = driver_at(&driver, at);
	struct driver_buffer both[] = {{at, 4, false}, {at + 4, 4, true}};

	request[0] = type;
	request[1] = 0x5a5a5a5a;
	driver_add(&driver, 0, both, 2, false);
	return request + 1;
}

static void flush_one(uint32_t type, uint32_t expected)
{
	uint32_t head, written, *response = add(type);

	driver_kick(&driver, 0);
	assert_true(driver_used(&driver, 0, &head, &written));
	assert_int_equal(written, 4);
	assert_int_equal(*response, expected);
}

static void test_flush(void **state)
{
	struct virtio_pmem_config config;
	uint32_t *response[30], head, written;

	(void)state;
	for (int kind = 0; kind < 4; kind++) {
		in_memory = kind & 2;
		begin(kind & 1, &(struct limiter_config){0}, 5000);
		driver_config(&driver, 0, &config.start, 8);
		driver_config(&driver, 8, &config.size, 8);
		assert_int_equal(config.start, UINT64_C(512) << 30);
		assert_int_equal(config.size, 2 << 20);
		flush_one(VIRTIO_PMEM_REQ_TYPE_FLUSH, 0);
		flush_one(7, 1);
		for (unsigned i = 0; i < 30; i++)
			response[i] = add(i % 8 == 3 ? 9 : VIRTIO_PMEM_REQ_TYPE_FLUSH);
		driver_kick(&driver, 0);
		for (unsigned i = 0; i < 30; i++)
			assert_true(driver_used(&driver, 0, &head, &written));
		for (unsigned i = 0; i < 30; i++)
			assert_int_equal(*response[i], i % 8 == 3);
		flush_one(VIRTIO_PMEM_REQ_TYPE_FLUSH, 0);
		end();
	}
	in_memory = false;
}

static void lift_limits(void *opaque)
{
	pmem_limit(opaque, &(struct limiter_update){.has_ops = true});
}

/* A batch is one operation of the limiter, whatever its size. */
static void test_limits(void **state)
{
	uint32_t head, written;

	(void)state;
	begin(false, &(struct limiter_config){.ops = {2, 3600000, 0}}, 4096);
	for (unsigned i = 0; i < 30; i++)
		add(VIRTIO_PMEM_REQ_TYPE_FLUSH);
	driver_kick(&driver, 0);
	for (unsigned i = 0; i < 30; i++)
		assert_true(driver_used(&driver, 0, &head, &written));
	flush_one(VIRTIO_PMEM_REQ_TYPE_FLUSH, 0);
	uint32_t *response = add(VIRTIO_PMEM_REQ_TYPE_FLUSH);

	driver_kick(&driver, 0);
	usleep(50000);
	assert_int_equal(*response, 0x5a5a5a5a);
	struct loop_task task = {.run = lift_limits, .opaque = pmem};

	loop_post(&driver.loop, &task);
	assert_true(driver_used(&driver, 0, &head, &written));
	assert_int_equal(*response, 0);
	end();
}

static void test_bad_requests(void **state)
{
	(void)state;
	for (unsigned kind = 0; kind < 3; kind++) {
		begin(false, &(struct limiter_config){0}, 4096);
		uint64_t at = driver_take(&driver, 8, 8);
		struct driver_buffer both[] = {{at, kind == 0 ? 3 : 4, false}, {at + 4, kind == 1 ? 3 : 4, true}};

		driver_add(&driver, 0, both, kind == 2 ? 1 : 2, false);
		driver_kick(&driver, 0);
		assert_true(driver_wait_status(&driver, VIRTIO_CONFIG_S_NEEDS_RESET));
		end();
	}
}

/* The size that a guest sees is that of the file in steps of 2 MiB; what is behind the file's end is zero. */
static void sizes_in_steps(void **state)
{
	static const struct {
		off_t file;
		uint64_t bytes;
	} rows[] = {{4096, 2 << 20}, {(2 << 20) - 1, 2 << 20}, {2 << 20, 2 << 20}, {(2 << 20) + 1, 4 << 20}};

	(void)state;
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		struct riffle_ram region;

		begin(false, &(struct limiter_config){0}, rows[i].file);
		pmem_place(pmem, UINT64_C(513) << 30, &region);
		assert_int_equal(pmem_bytes(pmem), rows[i].bytes);
		assert_int_equal(region.address, UINT64_C(513) << 30);
		assert_int_equal(region.bytes, rows[i].bytes);
		int fd = open(path, O_RDWR);
		uint8_t *host = region.host, byte = 0x5a;

		assert_int_equal(pwrite(fd, &byte, 1, rows[i].file - 1), 1);
		assert_int_equal(host[rows[i].file - 1], 0x5a); /* the file itself, not a copy */
		host[0] = 0x77;
		assert_int_equal(pread(fd, &byte, 1, 0), 1);
		assert_int_equal(byte, 0x77);
		assert_int_equal(host[rows[i].bytes - 1], rows[i].file == (off_t)rows[i].bytes ? 0x5a : 0);
		close(fd);
		end();
	}
	/* read-only: the guest's writes, should there be any, stay its own */
	begin(true, &(struct limiter_config){0}, 8192);
	struct riffle_ram region;
	uint8_t byte = 1;

	pmem_place(pmem, UINT64_C(512) << 30, &region);
	((uint8_t *)region.host)[100] = 0x77;
	int fd = open(path, O_RDONLY);

	assert_int_equal(pread(fd, &byte, 1, 100), 1);
	assert_int_equal(byte, 0);
	close(fd);
	end();
}

/* As many requests as the ring holds, and a ring that lies. */
static void whole_ring_and_broken_one(void **state)
{
	uint32_t *response[256], head, written;
	struct driver_hold hold;

	(void)state;
	for (unsigned kind = 0; kind < 2; kind++) {
		in_memory = kind;
		begin(false, &(struct limiter_config){0}, 4096);
		driver_begin(&driver, UINT64_MAX, 256);
		driver_hold_loop(&driver, &hold);
		for (unsigned i = 0; i < 256; i++) {
			uint64_t at = driver_take(&driver, 8, 8);
			struct driver_buffer both[] = {{at, 4, false}, {at + 4, 4, true}};

			response[i] = (uint32_t *)driver_at(&driver, at) + 1;
			*response[i] = 7;
			driver_add(&driver, 0, both, 2, true);
		}
		driver_kick(&driver, 0);
		driver_let_loop_go(&hold);
		for (unsigned i = 0; i < 256; i++)
			assert_true(driver_used(&driver, 0, &head, &written));
		for (unsigned i = 0; i < 256; i++)
			assert_int_equal(*response[i], 0);
		struct driver_buffer outside = {DRIVER_MEMORY, 4, true};

		driver_add(&driver, 0, &outside, 1, false);
		driver_kick(&driver, 0);
		assert_true(driver_wait_status(&driver, VIRTIO_CONFIG_S_NEEDS_RESET));
		assert_int_equal(pmem_counters(pmem)->event_fails, 1);
		end();
	}
	in_memory = false;
}

/* A pause completes what is under way; a reset forgets what waits. */
static void pause_and_reset(void **state)
{
	uint32_t head, written;

	(void)state;
	for (unsigned kind = 0; kind < 2; kind++) {
		in_memory = kind;
		begin(false, &(struct limiter_config){.ops = {1, 3600000, 0}}, 4096);
		flush_one(VIRTIO_PMEM_REQ_TYPE_FLUSH, 0);
		add(VIRTIO_PMEM_REQ_TYPE_FLUSH);
		driver_kick(&driver, 0);
		virtio_pause(pmem_device(pmem));
		uint16_t answered = driver.queues[0].usage->idx;

		assert_int_equal(answered, 1);
		virtio_resume(pmem_device(pmem));
		driver_begin(&driver, UINT64_MAX, 64);
		struct loop_task task = {.run = lift_limits, .opaque = pmem};

		loop_post(&driver.loop, &task);
		flush_one(VIRTIO_PMEM_REQ_TYPE_FLUSH, 0);
		assert_int_equal(driver.queues[0].usage->idx, 1);
		end();
		begin(false, &(struct limiter_config){0}, 4096);
		for (unsigned i = 0; i < 50; i++) {
			uint32_t *response = add(VIRTIO_PMEM_REQ_TYPE_FLUSH);

			driver_kick(&driver, 0);
			virtio_pause(pmem_device(pmem));
			assert_int_equal(virtq_outstanding(&pmem_device(pmem)->queues[0]), 0);
			virtio_resume(pmem_device(pmem));
			assert_true(driver_used(&driver, 0, &head, &written));
			assert_int_equal(*response, 0);
		}
		end();
	}
	in_memory = false;
}

static void refused_files(void **state)
{
	struct pmem_config config = {.path = "/no/such/file"};
	struct riffle_error error;

	(void)state;
	driver_open(&driver);
	assert_int_equal(pmem_new(&pmem, &config, &driver.loop, &error), RIFFLE_ERR_IO);
	assert_null(pmem);
	config.path = "/dev/null";
	assert_int_equal(pmem_new(&pmem, &config, &driver.loop, &error), RIFFLE_ERR_ARGUMENT);
	config = (struct pmem_config){.has_fd = true, .fd = 9999};
	assert_int_equal(pmem_new(&pmem, &config, &driver.loop, &error), RIFFLE_ERR_IO);
	loop_destroy(&driver.loop);
	bus_destroy(&driver.bus);
	guest_memory_unmap(&driver.memory);
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_flush),
					   cmocka_unit_test(test_limits),
					   cmocka_unit_test(test_bad_requests),
					   cmocka_unit_test(sizes_in_steps),
					   cmocka_unit_test(whole_ring_and_broken_one),
					   cmocka_unit_test(pause_and_reset),
					   cmocka_unit_test(refused_files)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
