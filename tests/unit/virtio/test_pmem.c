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

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_flush), cmocka_unit_test(test_limits),
					   cmocka_unit_test(test_bad_requests)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
