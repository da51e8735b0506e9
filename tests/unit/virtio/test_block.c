/* SPDX-License-Identifier: Apache-2.0 */
/* virtio-blk on each engine: data, ranges, flush, host errors, broken requests, and changes at run time. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <errno.h>
#include <fcntl.h>
#include <linux/virtio_blk.h>
#include <linux/virtio_config.h>
#include <linux/virtio_mmio.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/bytes.h"
#include "driver.h"
#include "monitor/virtio/block.h"

#define IMAGE_BYTES (1u << 20)
#define SECTOR 512u

struct fixture {
	struct driver driver;
	struct block *block;
	struct block_config config;
	char path[64];
	unsigned seed;
};

/* On a disk of the host where there is one; /dev/shm is memory. */
static void make_image(char *path, size_t room, const char *directory, uint8_t fill)
{
	static uint8_t data[IMAGE_BYTES];

	snprintf(path, room, "%s/riffle-block-XXXXXX", directory);
	int fd = mkstemp(path);

	assert_true(fd >= 0);
	memset(data, fill, sizeof data);
	for (uint32_t i = 0; i < IMAGE_BYTES / SECTOR; i++)
		memcpy(data + i * SECTOR, &i, sizeof i);
	assert_int_equal(write(fd, data, sizeof data), sizeof data);
	close(fd);
}

static bool open_disk(struct fixture *f)
{
	struct riffle_error error;

	driver_open(&f->driver);
	f->config.name = "disk0";
	f->config.path = f->path;
	if (block_new(&f->block, &f->config, &f->driver.loop, &error)) {
		if (f->config.engine == BLOCK_ENGINE_URING && error.status == RIFFLE_ERR_UNSUPPORTED)
			return false;
		fail_msg("%s: %s", error.field, error.problem);
	}
	driver_attach(&f->driver, block_device(f->block));
	return true;
}

static struct fixture *begin(void **state, enum block_engine_kind engine)
{
	struct fixture *f = calloc(1, sizeof *f);

	make_image(f->path, sizeof f->path, engine == BLOCK_ENGINE_INLINE ? "/dev/shm" : "/var/tmp", 0x5a);
	f->config.engine = engine;
	*state = f;
	return f;
}

static int set_up_inline(void **state)
{
	open_disk(begin(state, BLOCK_ENGINE_INLINE));
	return 0;
}

static int set_up_workers(void **state)
{
	open_disk(begin(state, BLOCK_ENGINE_WORKERS));
	return 0;
}

static int set_up_uring(void **state)
{
	struct fixture *f = begin(state, BLOCK_ENGINE_URING);

	if (!open_disk(f)) {
		driver_close(&f->driver);
		f->block = NULL;
	}
	return 0;
}

static int tear_down(void **state)
{
	struct fixture *f = *state;

	if (f->block)
		driver_close(&f->driver);
	unlink(f->path);
	free(f);
	return 0;
}

static struct fixture *running(void **state, uint64_t features)
{
	struct fixture *f = *state;

	if (!f->block)
		skip(); /* no io_uring here */
	driver_begin(&f->driver, features, 128);
	assert_int_equal(driver_read(&f->driver, VIRTIO_MMIO_STATUS), 15);
	return f;
}

/* One request; where its status will be. */
static uint8_t *add(struct fixture *f, uint32_t type, uint64_t sector, struct driver_buffer *data, unsigned count,
		    bool indirect)
{
	struct driver_buffer buffers[66];
	struct virtio_blk_outhdr header = {.type = type, .sector = sector};
	uint64_t at = driver_take(&f->driver, sizeof header, 1), status = driver_take(&f->driver, 1, 1);

	memcpy(driver_at(&f->driver, at), &header, sizeof header);
	*(uint8_t *)driver_at(&f->driver, status) = 0xee;
	buffers[0] = (struct driver_buffer){at, sizeof header, false};
	if (count)
		memcpy(buffers + 1, data, count * sizeof *data);
	buffers[count + 1] = (struct driver_buffer){status, 1, true};
	driver_add(&f->driver, 0, buffers, count + 2, indirect);
	return driver_at(&f->driver, status);
}

static int request(struct fixture *f, uint32_t type, uint64_t sector, struct driver_buffer *data, unsigned count,
		   uint32_t expected_written)
{
	uint32_t head, written;
	uint8_t *status = add(f, type, sector, data, count, f->seed++ % 2);

	driver_kick(&f->driver, 0);
	assert_true(driver_used(&f->driver, 0, &head, &written));
	/* of a request that fails, the status alone */
	assert_int_equal(written, *status == VIRTIO_BLK_S_OK ? expected_written : 1);
	return *status;
}

static int simple(struct fixture *f, uint32_t type, uint64_t sector, uint64_t address, uint32_t bytes)
{
	bool in = type == VIRTIO_BLK_T_IN || type == VIRTIO_BLK_T_GET_ID;
	struct driver_buffer data = {address, bytes, in};

	return request(f, type, sector, &data, bytes != 0, in ? bytes + 1 : 1);
}

static void read_file(struct fixture *f, uint64_t offset, void *data, size_t bytes)
{
	int fd = open(f->path, O_RDONLY);

	assert_int_equal(pread(fd, data, bytes, (off_t)offset), bytes);
	close(fd);
}

static void test_data(void **state)
{
	struct fixture *f = running(state, UINT64_MAX);
	struct driver *d = &f->driver;
	uint64_t buffer = driver_take(d, 8192, 16);
	uint8_t *data = driver_at(d, buffer), file[2048];

	assert_int_equal(simple(f, VIRTIO_BLK_T_IN, 5, buffer, 1024), VIRTIO_BLK_S_OK);
	assert_int_equal(riffle_get32(data), 5);
	assert_int_equal(riffle_get32(data + 512), 6);
	assert_int_equal(data[1023], 0x5a);
	/* written from pieces of odd sizes */
	for (unsigned i = 0; i < 2048; i++)
		data[i] = (uint8_t)(i * 7);
	struct driver_buffer pieces[] = {{buffer, 3, false},
					 {buffer + 3, 509, false},
					 {buffer + 512, 1, false},
					 {buffer + 513, 1000, false},
					 {buffer + 1513, 535, false}};
	assert_int_equal(request(f, VIRTIO_BLK_T_OUT, 9, pieces, 5, 1), VIRTIO_BLK_S_OK);
	read_file(f, 9 * SECTOR, file, sizeof file);
	assert_memory_equal(file, data, sizeof file);
	/* and read back so; the status may share a buffer with data */
	memset(data + 4096, 0, 2049);
	struct driver_buffer back[] = {{buffer + 4096, 2047, true}, {buffer + 4096 + 2047, 1, true}};
	assert_int_equal(request(f, VIRTIO_BLK_T_IN, 9, back, 2, 2049), VIRTIO_BLK_S_OK);
	assert_memory_equal(data + 4096, data, 2048);
	assert_int_equal(simple(f, VIRTIO_BLK_T_FLUSH, 0, 0, 0), VIRTIO_BLK_S_OK);
	assert_int_equal(block_sync(f->block), 0);

	const struct block_counters *c = block_counters(f->block);

	assert_int_equal(c->reads, 2);
	assert_int_equal(c->read_bytes, 1024 + 2048);
	assert_int_equal(c->writes, 1);
	assert_int_equal(c->write_bytes, 2048);
	assert_int_equal(c->flushes, f->config.image.cache == DISK_CACHE_UNSAFE ? 0 : 1);
	assert_true(c->queue_events >= 4);
	assert_int_equal(c->execute_fails + c->invalid + c->limited + c->event_fails, 0);
	assert_int_equal(c->read_time.sum_us, 0); /* nobody asked for times */
}

/* Several requests in flight with many buffers each; every sector ends up in the right place. */
static void test_many(void **state)
{
	struct fixture *f = running(state, UINT64_MAX);
	struct driver *d = &f->driver;
	uint64_t buffer = driver_take(d, IMAGE_BYTES, 4096);
	uint32_t head, written;

	for (unsigned batch = 0; batch < 8; batch++) {
		uint8_t *statuses[32];

		for (unsigned i = 0; i < 32; i++) {
			struct driver_buffer data[8];
			uint64_t sector = (batch * 32 + i) * 8;

			for (unsigned j = 0; j < 8; j++)
				data[j] = (struct driver_buffer){buffer + (sector + j) * SECTOR, SECTOR, true};
			statuses[i] = add(f, VIRTIO_BLK_T_IN, sector, data, 8, true);
		}
		driver_kick(d, 0);
		for (unsigned i = 0; i < 32; i++) {
			assert_true(driver_used(d, 0, &head, &written));
			assert_int_equal(written, 8 * SECTOR + 1);
		}
		for (unsigned i = 0; i < 32; i++)
			assert_int_equal(*statuses[i], VIRTIO_BLK_S_OK);
	}
	for (uint32_t i = 0; i < IMAGE_BYTES / SECTOR; i++)
		assert_int_equal(*(uint32_t *)driver_at(d, buffer + i * SECTOR), i);
}

static void test_limits_of_the_disk(void **state)
{
	struct fixture *f = running(state, UINT64_MAX);
	uint64_t buffer = driver_take(&f->driver, 4096, 16), last = IMAGE_BYTES / SECTOR - 1;

	assert_int_equal(simple(f, VIRTIO_BLK_T_IN, last, buffer, 512), VIRTIO_BLK_S_OK);
	assert_int_equal(simple(f, VIRTIO_BLK_T_IN, last, buffer, 1024), VIRTIO_BLK_S_IOERR);
	assert_int_equal(simple(f, VIRTIO_BLK_T_OUT, last + 1, buffer, 512), VIRTIO_BLK_S_IOERR);
	assert_int_equal(simple(f, VIRTIO_BLK_T_IN, UINT64_MAX, buffer, 512), VIRTIO_BLK_S_IOERR);
	assert_int_equal(simple(f, VIRTIO_BLK_T_IN, UINT64_MAX / 512, buffer, 512), VIRTIO_BLK_S_IOERR);
	assert_int_equal(simple(f, VIRTIO_BLK_T_IN, 0, buffer, 511), VIRTIO_BLK_S_IOERR);
	assert_int_equal(simple(f, 99, 0, buffer, 512), VIRTIO_BLK_S_UNSUPP);
	assert_int_equal(block_counters(f->block)->execute_fails, 6);
	assert_int_equal(block_counters(f->block)->reads, 1);
	struct stat st;
	assert_int_equal(stat(f->path, &st), 0);
	assert_int_equal(st.st_size, IMAGE_BYTES); /* nothing was written beyond the end */
}

static int range(struct fixture *f, uint32_t type, uint64_t sector, uint32_t sectors, uint32_t flags, uint32_t bytes)
{
	struct virtio_blk_discard_write_zeroes range = {.sector = sector, .num_sectors = sectors, .flags = flags};
	uint64_t at = driver_take(&f->driver, 64, 8);
	struct driver_buffer data = {at, bytes, false};

	memcpy(driver_at(&f->driver, at), &range, sizeof range);
	return request(f, type, 0, &data, 1, 1);
}

static void test_ranges(void **state)
{
	struct fixture *f = running(state, UINT64_MAX);
	uint8_t file[3 * SECTOR], zeros[3 * SECTOR] = {0};
	struct stat before, after;

	assert_int_equal(range(f, VIRTIO_BLK_T_WRITE_ZEROES, 10, 3, 0, 16), VIRTIO_BLK_S_OK);
	read_file(f, 10 * SECTOR, file, sizeof file);
	assert_memory_equal(file, zeros, sizeof file);
	read_file(f, 13 * SECTOR, file, SECTOR);
	assert_int_equal(riffle_get32(file), 13);
	read_file(f, 9 * SECTOR, file, SECTOR);
	assert_int_equal(riffle_get32(file), 9);
	assert_int_equal(range(f, VIRTIO_BLK_T_WRITE_ZEROES, 21, 3, 1, 16), VIRTIO_BLK_S_OK);
	read_file(f, 21 * SECTOR, file, sizeof file);
	assert_memory_equal(file, zeros, sizeof file);
	assert_int_equal(block_sync(f->block), 0);
	assert_int_equal(stat(f->path, &before), 0);
	assert_int_equal(range(f, VIRTIO_BLK_T_DISCARD, 1024, 1024, 0, 16), VIRTIO_BLK_S_OK);
	assert_int_equal(stat(f->path, &after), 0);
	assert_int_equal(after.st_size, IMAGE_BYTES);
	assert_true(after.st_blocks <= before.st_blocks - 900); /* half of it is given back */
	/* refused */
	assert_int_equal(range(f, VIRTIO_BLK_T_DISCARD, IMAGE_BYTES / SECTOR - 1, 2, 0, 16), VIRTIO_BLK_S_IOERR);
	assert_int_equal(range(f, VIRTIO_BLK_T_DISCARD, UINT64_MAX, 2, 0, 16), VIRTIO_BLK_S_IOERR);
	assert_int_equal(range(f, VIRTIO_BLK_T_DISCARD, 0, UINT32_MAX, 0, 16), VIRTIO_BLK_S_IOERR);
	assert_int_equal(range(f, VIRTIO_BLK_T_DISCARD, 0, 1, 1, 16), VIRTIO_BLK_S_UNSUPP);
	assert_int_equal(range(f, VIRTIO_BLK_T_WRITE_ZEROES, 0, 1, 2, 16), VIRTIO_BLK_S_UNSUPP);
	assert_int_equal(range(f, VIRTIO_BLK_T_DISCARD, 0, 1, 0, 15), VIRTIO_BLK_S_IOERR);
	assert_int_equal(range(f, VIRTIO_BLK_T_DISCARD, 0, 1, 0, 32), VIRTIO_BLK_S_IOERR);
	read_file(f, 0, file, SECTOR);
	assert_int_equal(file[511], 0x5a);
}

/* The host's file was truncated: the guest gets errors, and continues. */
static void test_truncated(void **state)
{
	struct fixture *f = running(state, UINT64_MAX);
	uint64_t buffer = driver_take(&f->driver, 4096, 16);

	assert_int_equal(truncate(f->path, IMAGE_BYTES / 2 + 100), 0);
	assert_int_equal(simple(f, VIRTIO_BLK_T_IN, IMAGE_BYTES / 1024, buffer, 512), VIRTIO_BLK_S_IOERR);
	assert_int_equal(simple(f, VIRTIO_BLK_T_IN, IMAGE_BYTES / 1024 - 1, buffer, 512), VIRTIO_BLK_S_OK);
	assert_int_equal(block_resize(f->block, NULL), 0);
	uint64_t capacity;
	driver_config(&f->driver, 0, &capacity, sizeof capacity);
	assert_int_equal(capacity, IMAGE_BYTES / 1024);
	assert_int_equal(driver_read(&f->driver, VIRTIO_MMIO_INTERRUPT_STATUS) & VIRTIO_MMIO_INT_CONFIG,
			 VIRTIO_MMIO_INT_CONFIG);
	assert_int_equal(truncate(f->path, 2 * IMAGE_BYTES), 0);
	assert_int_equal(block_resize(f->block, NULL), 0);
	driver_config(&f->driver, 0, &capacity, sizeof capacity);
	assert_int_equal(capacity, 2 * IMAGE_BYTES / SECTOR);
	assert_int_equal(simple(f, VIRTIO_BLK_T_OUT, 2 * IMAGE_BYTES / SECTOR - 1, buffer, 512), VIRTIO_BLK_S_OK);
}

static void test_set_file(void **state)
{
	struct fixture *f = running(state, UINT64_MAX);
	uint64_t buffer = driver_take(&f->driver, 4096, 16);
	uint8_t *data = driver_at(&f->driver, buffer), first[20];
	struct riffle_error error;
	char other[64];

	assert_int_equal(simple(f, VIRTIO_BLK_T_GET_ID, 0, buffer, 20), VIRTIO_BLK_S_OK);
	memcpy(first, data, 20);
	make_image(other, sizeof other, "/var/tmp", 0xa5);
	assert_int_equal(truncate(other, IMAGE_BYTES / 2), 0);
	assert_int_equal(block_set_file(f->block, "/no/such/file", &error), RIFFLE_ERR_IO);
	assert_int_equal(block_counters(f->block)->update_fails, 1);
	assert_int_equal(simple(f, VIRTIO_BLK_T_IN, 1, buffer, 512), VIRTIO_BLK_S_OK);
	assert_int_equal(data[100], 0x5a);
	assert_int_equal(block_set_file(f->block, other, &error), 0);
	assert_int_equal(simple(f, VIRTIO_BLK_T_IN, 1, buffer, 512), VIRTIO_BLK_S_OK);
	assert_int_equal(data[100], 0xa5);
	assert_int_equal(simple(f, VIRTIO_BLK_T_IN, IMAGE_BYTES / 1024, buffer, 512), VIRTIO_BLK_S_IOERR);
	assert_int_equal(simple(f, VIRTIO_BLK_T_GET_ID, 0, buffer, 20), VIRTIO_BLK_S_OK);
	assert_memory_not_equal(first, data, 20);
	unlink(other);
}

/* A request that cannot be answered: the device needs a reset, and works again after one. */
static void test_broken_requests(void **state)
{
	struct fixture *f = running(state, UINT64_MAX);
	struct driver *d = &f->driver;
	uint64_t buffer = driver_take(d, 4096, 16);
	struct driver_buffer broken[][2] = {
	    {{buffer, 16, false}, {buffer + 16, 512, false}}, /* no room for a status */
	    {{buffer, 15, false}, {buffer + 16, 513, true}},  /* half a header */
	    {{buffer, 512, true}, {buffer + 512, 1, true}},   /* none */
	};

	for (size_t i = 0; i < sizeof broken / sizeof *broken; i++) {
		driver_add(d, 0, broken[i], 2, false);
		driver_kick(d, 0);
		assert_true(driver_wait_status(d, VIRTIO_CONFIG_S_NEEDS_RESET));
		driver_begin(d, UINT64_MAX, 128);
		assert_int_equal(driver_read(d, VIRTIO_MMIO_STATUS), 15);
		assert_int_equal(simple(f, VIRTIO_BLK_T_IN, 1, buffer, 512), VIRTIO_BLK_S_OK);
	}
}

/* A reset with requests in flight: afterwards the device touches neither rings nor buffers. */
static void test_reset(void **state)
{
	struct fixture *f = running(state, UINT64_MAX);
	struct driver *d = &f->driver;
	uint64_t buffer = driver_take(d, 65536, 16);

	for (unsigned round = 0; round < 20; round++) {
		d->next_free = buffer + 65536;
		driver_begin(d, UINT64_MAX, 128);
		for (unsigned i = 0; i < 32; i++) {
			struct driver_buffer data = {buffer, 65536, true};

			add(f, VIRTIO_BLK_T_IN, i, &data, 1, false);
		}
		driver_kick(d, 0);
		driver_write(d, VIRTIO_MMIO_STATUS, 0);
		memset(driver_at(d, buffer), 0x77, 65536);
		usleep(1000);
		for (unsigned i = 0; i < 65536; i++)
			assert_int_equal(((uint8_t *)driver_at(d, buffer))[i], 0x77);
	}
}

static void test_serial_and_size(void **state)
{
	struct fixture *f = running(state, UINT64_MAX);
	uint8_t *data = driver_at(&f->driver, driver_take(&f->driver, 64, 1));
	uint64_t at = (uint64_t)(data - (uint8_t *)driver_at(&f->driver, 0));
	struct virtio_blk_config config = {0};

	memset(data, 0xff, 64);
	assert_int_equal(simple(f, VIRTIO_BLK_T_GET_ID, 0, at, 20), VIRTIO_BLK_S_OK);
	assert_in_range(data[0], '0', '9');
	assert_int_equal(data[20], 0xff);
	assert_int_equal(simple(f, VIRTIO_BLK_T_GET_ID, 0, at, 3), VIRTIO_BLK_S_OK);
	driver_config(&f->driver, 0, &config, sizeof config);
	assert_int_equal(config.capacity, IMAGE_BYTES / SECTOR);
	assert_int_equal(config.seg_max, 254);
	assert_int_equal(config.blk_size, 512);
}

/* What has options of its own: opened anew for each. */
static void open_again(struct fixture *f)
{
	driver_close(&f->driver);
	f->block = NULL;
	assert_true(open_disk(f));
	driver_begin(&f->driver, UINT64_MAX, 128);
}

static void test_options(void **state)
{
	struct fixture *f = running(state, UINT64_MAX);
	uint64_t buffer = driver_take(&f->driver, 4096, 16);
	uint8_t *data;

	/* read-only: refused by the device, whatever the driver thinks */
	f->config.image.read_only = true;
	f->config.serial = "a serial of more than twenty bytes";
	open_again(f);
	assert_true(f->driver.mmio.device->features & VIRTIO_FEATURE(VIRTIO_BLK_F_RO));
	assert_false(f->driver.mmio.device->features & VIRTIO_FEATURE(VIRTIO_BLK_F_DISCARD));
	assert_int_equal(simple(f, VIRTIO_BLK_T_OUT, 0, buffer, 512), VIRTIO_BLK_S_IOERR);
	assert_int_equal(range(f, VIRTIO_BLK_T_DISCARD, 0, 1, 0, 16), VIRTIO_BLK_S_IOERR);
	assert_int_equal(simple(f, VIRTIO_BLK_T_IN, 1, buffer, 512), VIRTIO_BLK_S_OK);
	assert_int_equal(simple(f, VIRTIO_BLK_T_GET_ID, 0, buffer, 20), VIRTIO_BLK_S_OK);
	data = driver_at(&f->driver, buffer);
	assert_memory_equal(data, "a serial of more tha", 20);
	/* a disk that loses writes if the host crashes does not offer FLUSH */
	f->config.image.read_only = false;
	f->config.image.cache = DISK_CACHE_UNSAFE;
	open_again(f);
	assert_false(f->driver.mmio.device->features & VIRTIO_FEATURE(VIRTIO_BLK_F_FLUSH));
	assert_int_equal(simple(f, VIRTIO_BLK_T_FLUSH, 0, 0, 0), VIRTIO_BLK_S_OK);
	/* bypassing the page cache, with aligned and unaligned buffers */
	f->config.image.cache = DISK_CACHE_NONE;
	open_again(f);
	buffer = driver_take(&f->driver, 8192, 4096);
	data = driver_at(&f->driver, buffer);
	for (unsigned shift = 0; shift < 3; shift++) {
		memset(data, 0x11 * (int)(shift + 1), 8192);
		assert_int_equal(simple(f, VIRTIO_BLK_T_OUT, 8, buffer + shift, 4096), VIRTIO_BLK_S_OK);
		memset(data, 0, 8192);
		assert_int_equal(simple(f, VIRTIO_BLK_T_IN, 8, buffer + shift, 4096), VIRTIO_BLK_S_OK);
		assert_int_equal(data[shift], 0x11 * (shift + 1));
		assert_int_equal(data[shift + 4095], 0x11 * (shift + 1));
		assert_int_equal(data[shift + 4096], 0);
	}
	f->config.image.cache = DISK_CACHE_WRITEBACK;
}

/* Without FLUSH a write is on stable storage when it completes. */
static void test_write_through(void **state)
{
	struct fixture *f = running(state, ~VIRTIO_FEATURE(VIRTIO_BLK_F_FLUSH));
	uint64_t buffer = driver_take(&f->driver, 4096, 16);
	uint8_t file[SECTOR];

	memset(driver_at(&f->driver, buffer), 0x42, 512);
	assert_int_equal(simple(f, VIRTIO_BLK_T_OUT, 3, buffer, 512), VIRTIO_BLK_S_OK);
	read_file(f, 3 * SECTOR, file, SECTOR);
	assert_int_equal(file[0], 0x42);
}

static void test_limiter(void **state)
{
	struct fixture *f = running(state, UINT64_MAX);
	uint64_t buffer = driver_take(&f->driver, 4096, 16);
	uint8_t *statuses[8];
	uint32_t head, written;

	/* two at once, the others one each 20 ms; none is lost, and the order is kept */
	block_limit(f->block, &(struct limiter_update){.has_ops = true, .ops = {2, 40, 0}});
	for (unsigned i = 0; i < 8; i++) {
		struct driver_buffer data = {buffer, 512, true};

		statuses[i] = add(f, VIRTIO_BLK_T_IN, i, &data, 1, false);
	}
	uint64_t start = loop_now();

	driver_kick(&f->driver, 0);
	for (unsigned i = 0; i < 8; i++) {
		assert_true(driver_used(&f->driver, 0, &head, &written));
		assert_int_equal(*statuses[i], VIRTIO_BLK_S_OK);
	}
	assert_true(loop_now() - start >= UINT64_C(100000000)); /* never faster than the limit */
	assert_true(block_counters(f->block)->limited >= 2);
	assert_true(block_counters(f->block)->limiter_events >= 2);
	assert_int_equal(block_counters(f->block)->updates, 1);
	block_limit(f->block, &(struct limiter_update){.has_ops = true});
	assert_int_equal(simple(f, VIRTIO_BLK_T_IN, 1, buffer, 512), VIRTIO_BLK_S_OK);
}

static void test_image(void **state)
{
	static const struct {
		const char *start;
		size_t bytes, offset;
		const char *name;
	} formats[] = {
	    {"QFI\xfb\0\0\0\3", 8, 0, "qcow2"}, {"KDMV", 4, 0, "VMDK"},     {"# Disk DescriptorFile\n", 22, 0, "VMDK"},
	    {"\x7f\x10\xda\xbe", 4, 64, "VDI"}, {"vhdxfile", 8, 0, "VHDX"}, {"conectix", 8, 0, "VHD"},
	    {"conectix", 8, 8192 - 512, "VHD"}, {"QED\0", 4, 0, "QED"},     {"WithoutFreeSpace", 16, 0, "Parallels"},
	};
	struct disk_image_options options = {0};
	struct disk_image image, second;
	struct riffle_error error;
	char path[] = "/var/tmp/riffle-image-XXXXXX";
	int fd = mkstemp(path);

	(void)state;
	for (size_t i = 0; i < sizeof formats / sizeof *formats; i++) {
		assert_int_equal(ftruncate(fd, 0), 0);
		assert_int_equal(ftruncate(fd, 8192), 0);
		assert_int_equal(pwrite(fd, formats[i].start, formats[i].bytes, (off_t)formats[i].offset),
				 formats[i].bytes);
		assert_int_equal(disk_image_open(&image, path, &options, &error), RIFFLE_ERR_UNSUPPORTED);
		assert_non_null(strstr(error.problem, formats[i].name));
		assert_non_null(strstr(error.problem, "qemu-img convert"));
		options.raw = true;
		assert_int_equal(disk_image_open(&image, path, &options, &error), 0);
		disk_image_close(&image);
		options.raw = false;
	}
	/* sizes: an incomplete sector at the end is not shown */
	assert_int_equal(ftruncate(fd, 0), 0);
	assert_int_equal(disk_image_open(&image, path, &options, &error), RIFFLE_ERR_ARGUMENT);
	assert_int_equal(ftruncate(fd, 511), 0);
	assert_int_equal(disk_image_open(&image, path, &options, &error), RIFFLE_ERR_ARGUMENT);
	assert_int_equal(ftruncate(fd, 1023), 0);
	assert_int_equal(disk_image_open(&image, path, &options, &error), 0);
	assert_int_equal(image.bytes, 512);
	/* one writer, or any number of readers */
	assert_int_equal(disk_image_open(&second, path, &options, &error), RIFFLE_ERR_ARGUMENT);
	assert_non_null(strstr(error.problem, "in use"));
	options.read_only = true;
	assert_int_equal(disk_image_open(&second, path, &options, &error), RIFFLE_ERR_ARGUMENT);
	disk_image_close(&image);
	assert_int_equal(disk_image_open(&image, path, &options, &error), 0);
	assert_int_equal(disk_image_open(&second, path, &options, &error), 0);
	disk_image_close(&image);
	disk_image_close(&second);
	assert_int_equal(disk_image_open(&image, "/dev/null", &options, &error), RIFFLE_ERR_ARGUMENT);
	assert_int_equal(disk_image_open(&image, "/tmp", &options, &error), RIFFLE_ERR_ARGUMENT);
	close(fd);
	unlink(path);
}

/* What is small is there when the doorbell's write has returned; the rest, and what has limits, waits for the loop. */
static void test_served(void **state)
{
	static const struct limiter_bucket_config limit = {.size = 1000, .refill_ms = 1};
	const uint64_t features[] = {VIRTIO_FEATURE(VIRTIO_RING_F_INDIRECT_DESC),
				     VIRTIO_FEATURE(VIRTIO_RING_F_INDIRECT_DESC) |
					 VIRTIO_FEATURE(VIRTIO_RING_F_EVENT_IDX)};
	struct fixture *f = *state;
	struct driver_hold hold;
	uint32_t head, written;

	for (unsigned i = 0; i < 2; i++) {
		const struct vring_used *used;
		struct driver_buffer page = {driver_take(&f->driver, 4096, 1), 4096, true};
		struct driver_buffer many[16], large = {driver_take(&f->driver, 131072, 1), 131072, true};

		running(state, features[i]);
		used = f->driver.queues[0].usage;
		driver_interrupts(&f->driver);
		driver_hold_loop(&f->driver, &hold);
		uint8_t *read_status = add(f, VIRTIO_BLK_T_IN, 8, &page, 1, false);

		driver_kick_confined(&f->driver, 0);
		assert_int_equal(used->idx, 1);
		assert_int_equal(*read_status, VIRTIO_BLK_S_OK);
		assert_int_equal(*(uint32_t *)driver_at(&f->driver, page.address + 512), 9);
		assert_int_equal(driver_interrupts(&f->driver), 1);
		page.in = false;
		uint8_t *write_status = add(f, VIRTIO_BLK_T_OUT, 8, &page, 1, false);

		driver_kick_confined(&f->driver, 0);
		assert_int_equal(used->idx, 2);
		assert_int_equal(*write_status, VIRTIO_BLK_S_OK);
		add(f, VIRTIO_BLK_T_FLUSH, 0, NULL, 0, false);
		driver_kick_confined(&f->driver, 0);
		assert_int_equal(used->idx, 3);

		add(f, VIRTIO_BLK_T_IN, 0, &large, 1, true);
		driver_kick_confined(&f->driver, 0);
		assert_int_equal(used->idx, 3);
		driver_let_loop_go(&hold);
		for (unsigned j = 0; j < 4; j++)
			assert_true(driver_used(&f->driver, 0, &head, &written));
		assert_int_equal(written, large.bytes + 1);

		driver_hold_loop(&f->driver, &hold);
		for (unsigned j = 0; j < 16; j++)
			many[j] = (struct driver_buffer){large.address + j * SECTOR, SECTOR, true};
		add(f, VIRTIO_BLK_T_IN, 0, many, 16, true);
		driver_kick_confined(&f->driver, 0);
		assert_int_equal(used->idx, 4);
		driver_let_loop_go(&hold);
		assert_true(driver_used(&f->driver, 0, &head, &written));
		assert_int_equal(written, 16 * SECTOR + 1);
	}
	block_limit(f->block, &(struct limiter_update){.has_ops = true, .ops = limit});
	driver_hold_loop(&f->driver, &hold);
	add(f, VIRTIO_BLK_T_FLUSH, 0, NULL, 0, false);
	driver_kick_confined(&f->driver, 0);
	assert_int_equal(f->driver.queues[0].usage->idx, 5);
	driver_let_loop_go(&hold);
	assert_true(driver_used(&f->driver, 0, &head, &written));
}

/* What a driver learns before its first request, for each kind of disk. */
static void configuration_and_features(void **state)
{
	static const struct {
		bool read_only;
		enum disk_cache cache;
		unsigned features;
	} rows[] = {
	    {false, DISK_CACHE_WRITEBACK,
	     1u << VIRTIO_BLK_F_FLUSH | 1u << VIRTIO_BLK_F_DISCARD | 1u << VIRTIO_BLK_F_WRITE_ZEROES},
	    {true, DISK_CACHE_WRITEBACK, 1u << VIRTIO_BLK_F_FLUSH | 1u << VIRTIO_BLK_F_RO},
	    {false, DISK_CACHE_UNSAFE, 1u << VIRTIO_BLK_F_DISCARD | 1u << VIRTIO_BLK_F_WRITE_ZEROES},
	    {true, DISK_CACHE_UNSAFE, 1u << VIRTIO_BLK_F_RO},
	};
	struct fixture *f = running(state, UINT64_MAX);

	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		struct virtio_blk_config config = {0}, expected = {.capacity = IMAGE_BYTES / SECTOR,
								   .seg_max = 254,
								   .blk_size = 512,
								   .num_queues = 1,
								   .max_discard_sectors = 1u << 22,
								   .max_discard_seg = 1,
								   .discard_sector_alignment = 8,
								   .max_write_zeroes_sectors = 1u << 22,
								   .max_write_zeroes_seg = 1,
								   .write_zeroes_may_unmap = 1};

		f->config.image.read_only = rows[i].read_only;
		f->config.image.cache = rows[i].cache;
		open_again(f);
		assert_int_equal(block_device(f->block)->features,
				 rows[i].features | 1u << VIRTIO_BLK_F_SEG_MAX | 1u << VIRTIO_BLK_F_BLK_SIZE);
		driver_config(&f->driver, 0, &config, offsetof(struct virtio_blk_config, unused1));
		assert_memory_equal(&config, &expected, sizeof config);
		assert_int_equal(block_is_read_only(f->block), rows[i].read_only);
		assert_int_equal(block_bytes(f->block), IMAGE_BYTES);
		assert_int_equal(block_sync(f->block), 0);
	}
}

/* As many bytes of the serial as there is room for, the rest of the buffer untouched; the length tells. */
static void serial_fills_what_room_there_is(void **state)
{
	static const uint32_t rooms[] = {1, 19, 20, 21, 40};
	struct fixture *f = *state;
	uint64_t at;

	f->config.serial = "0123456789abcdefghij";
	open_again(f);
	at = driver_take(&f->driver, 64, 1);
	uint8_t *data = driver_at(&f->driver, at);

	for (size_t i = 0; i < sizeof rooms / sizeof *rooms; i++) {
		struct driver_buffer buffer = {at, rooms[i], true};
		uint32_t filled = rooms[i] < 20 ? rooms[i] : 20;

		memset(data, 0xee, 64);
		assert_int_equal(request(f, VIRTIO_BLK_T_GET_ID, 0, &buffer, 1, filled + 1), VIRTIO_BLK_S_OK);
		assert_memory_equal(data, f->config.serial, filled);
		assert_int_equal(data[filled], 0xee);
	}
	/* a shorter one is followed by zeros */
	f->config.serial = "short";
	open_again(f);
	data = driver_at(&f->driver, at);
	memset(data, 0xee, 64);
	assert_int_equal(simple(f, VIRTIO_BLK_T_GET_ID, 0, at, 20), VIRTIO_BLK_S_OK);
	assert_memory_equal(data, "short\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", 20);
	/* one that was given stays when the file changes */
	char other[64];

	make_image(other, sizeof other, "/var/tmp", 1);
	assert_int_equal(block_set_file(f->block, other, NULL), 0);
	assert_int_equal(simple(f, VIRTIO_BLK_T_GET_ID, 0, at, 20), VIRTIO_BLK_S_OK);
	assert_memory_equal(data, "short\0\0\0", 8);
	unlink(other);
}

/* Nothing to transfer is a success as far as the disk goes, its end included. */
static void empty_requests(void **state)
{
	struct fixture *f = running(state, UINT64_MAX);

	for (unsigned out = 0; out < 2; out++) {
		uint32_t type = out ? VIRTIO_BLK_T_OUT : VIRTIO_BLK_T_IN;

		assert_int_equal(request(f, type, 0, NULL, 0, 1), VIRTIO_BLK_S_OK);
		assert_int_equal(request(f, type, IMAGE_BYTES / SECTOR, NULL, 0, 1), VIRTIO_BLK_S_OK);
		assert_int_equal(request(f, type, IMAGE_BYTES / SECTOR + 1, NULL, 0, 1), VIRTIO_BLK_S_IOERR);
	}
	assert_int_equal(range(f, VIRTIO_BLK_T_DISCARD, IMAGE_BYTES / SECTOR, 0, 0, 16), VIRTIO_BLK_S_OK);
	assert_int_equal(range(f, VIRTIO_BLK_T_WRITE_ZEROES, 3, 0, 0, 16), VIRTIO_BLK_S_OK);
	assert_int_equal(block_counters(f->block)->reads + block_counters(f->block)->writes, 0);
	/* nothing of it changed the disk */
	uint8_t sector[SECTOR];

	read_file(f, 3 * SECTOR, sector, sizeof sector);
	assert_int_equal(riffle_get32(sector), 3);
	assert_int_equal(sector[SECTOR - 1], 0x5a);
}

/* A range of 2 GiB is the longest, as the configuration says. */
static void longest_range(void **state)
{
	struct fixture *f = running(state, UINT64_MAX);

	assert_int_equal(truncate(f->path, UINT64_C(3) << 30), 0);
	assert_int_equal(block_resize(f->block, NULL), 0);
	assert_int_equal(range(f, VIRTIO_BLK_T_DISCARD, 2048, 1u << 22, 0, 16), VIRTIO_BLK_S_OK);
	assert_int_equal(range(f, VIRTIO_BLK_T_DISCARD, 2048, (1u << 22) + 1, 0, 16), VIRTIO_BLK_S_IOERR);
}

/* A disk that is timed: no request took longer than all of them did. */
static void times_of_requests(void **state)
{
	struct fixture *f = running(state, UINT64_MAX);
	uint64_t buffer = driver_take(&f->driver, 4096, 16);
	const struct block_counters *c = block_counters(f->block);

	block_device(f->block)->timed = true;
	uint64_t begun = loop_now();

	for (unsigned i = 0; i < 20; i++) {
		assert_int_equal(simple(f, VIRTIO_BLK_T_IN, i, buffer, 4096), VIRTIO_BLK_S_OK);
		assert_int_equal(simple(f, VIRTIO_BLK_T_OUT, i, buffer, 4096), VIRTIO_BLK_S_OK);
	}
	uint64_t most = (loop_now() - begun) / 1000 + 1;

	assert_true(c->read_time.max_us <= c->read_time.sum_us && c->read_time.sum_us <= most);
	assert_true(c->write_time.max_us <= c->write_time.sum_us && c->write_time.sum_us <= most);
	assert_true(c->read_time.sum_us + c->write_time.sum_us > 0);
}

/* A full ring at once, and a notification with nothing behind it. */
static void whole_ring_at_once(void **state)
{
	struct fixture *f = running(state, UINT64_MAX);
	struct driver_hold hold;
	uint8_t *statuses[256];
	uint32_t head, written;

	driver_begin(&f->driver, UINT64_MAX, 256);
	driver_hold_loop(&f->driver, &hold);
	for (unsigned i = 0; i < 256; i++)
		statuses[i] = add(f, VIRTIO_BLK_T_FLUSH, 0, NULL, 0, true);
	driver_kick(&f->driver, 0);
	driver_let_loop_go(&hold);
	for (unsigned i = 0; i < 256; i++)
		assert_true(driver_used(&f->driver, 0, &head, &written));
	for (unsigned i = 0; i < 256; i++)
		assert_int_equal(*statuses[i], VIRTIO_BLK_S_OK);
	uint64_t before = counter_get(&block_counters(f->block)->no_buffers);

	driver_kick(&f->driver, 0);
	for (unsigned i = 0; i < 10000 && counter_get(&block_counters(f->block)->no_buffers) == before; i++)
		usleep(1000);
	assert_true(counter_get(&block_counters(f->block)->no_buffers) > before);
}

/* The state of a disk is that of its limits; another size is refused. */
static void state_is_saved_and_restored(void **state)
{
	struct fixture *f = running(state, UINT64_MAX);
	struct virtio_device *device = block_device(f->block);
	uint8_t saved[256], small[256];
	struct riffle_error error;

	memset(small, 0xee, sizeof small);
	size_t bytes = device->ops->save(device, saved, sizeof saved);

	assert_in_range(bytes, 1, sizeof saved);
	assert_int_equal(device->ops->save(device, small, bytes - 1), bytes);
	for (size_t i = 0; i < sizeof small; i++)
		assert_int_equal(small[i], 0xee);
	assert_int_equal(device->ops->save(device, small, bytes), bytes);
	assert_memory_equal(small, saved, bytes);
	assert_int_equal(small[bytes], 0xee);
	assert_int_equal(device->ops->restore(device, saved, bytes, &error), 0);
	assert_int_equal(device->ops->restore(device, saved, bytes - 1, &error), RIFFLE_ERR_FORMAT);
	assert_int_equal(device->ops->restore(device, saved, bytes + 1, &error), RIFFLE_ERR_FORMAT);
	assert_int_equal(error.expected, bytes);
}

/* The same file again is measured, and its successes and failures counted. */
static void updates_are_counted(void **state)
{
	struct fixture *f = running(state, UINT64_MAX);
	const struct block_counters *c = block_counters(f->block);
	struct riffle_error error;

	assert_int_equal(truncate(f->path, 4 * SECTOR), 0);
	assert_int_equal(block_set_file(f->block, f->path, &error), 0);
	assert_int_equal(block_bytes(f->block), 4 * SECTOR);
	assert_int_equal(c->updates, 1);
	assert_int_equal(truncate(f->path, SECTOR - 1), 0);
	assert_int_equal(block_resize(f->block, &error), RIFFLE_ERR_ARGUMENT);
	assert_int_equal(block_bytes(f->block), 4 * SECTOR);
	assert_int_equal(c->updates, 1);
	assert_int_equal(c->update_fails, 1);
}

static unsigned served_at_once(struct fixture *f, uint32_t type, uint32_t bytes, unsigned pieces, unsigned requests,
			       bool indirect)
{
	uint64_t buffer = driver_take(&f->driver, 131072, 512);
	struct driver_buffer data[16];
	struct driver_hold hold;
	uint32_t head, written;

	for (unsigned i = 0; i < pieces; i++)
		data[i] =
		    (struct driver_buffer){buffer + i * (bytes / pieces), bytes / pieces, type == VIRTIO_BLK_T_IN};
	driver_hold_loop(&f->driver, &hold);
	uint16_t before = f->driver.queues[0].usage->idx;

	for (unsigned i = 0; i < requests; i++)
		add(f, type, 0, data, pieces, indirect);
	driver_kick_confined(&f->driver, 0);
	unsigned served = (uint16_t)(f->driver.queues[0].usage->idx - before);

	driver_let_loop_go(&hold);
	for (unsigned i = 0; i < requests; i++)
		assert_true(driver_used(&f->driver, 0, &head, &written));
	return served;
}

/* A vCPU's own thread does a few requests, of few bytes in few pieces, and leaves all others to the loop. */
static void vcpu_serves_a_few_small_requests(void **state)
{
	static const struct {
		uint32_t type, bytes;
		unsigned pieces, requests;
		bool indirect;
		unsigned served;
	} rows[] = {
	    {VIRTIO_BLK_T_IN, 65536, 1, 1, false, 1},  {VIRTIO_BLK_T_IN, 65536 + 512, 1, 1, false, 0},
	    {VIRTIO_BLK_T_OUT, 65536, 1, 1, false, 1}, {VIRTIO_BLK_T_OUT, 65536 + 512, 1, 1, false, 0},
	    {VIRTIO_BLK_T_IN, 3072, 3, 1, false, 1}, /* and a status: 4 buffers */
	    {VIRTIO_BLK_T_IN, 4096, 4, 1, false, 0},   {VIRTIO_BLK_T_OUT, 3072, 3, 1, false, 1}, /* and a header */
	    {VIRTIO_BLK_T_OUT, 4096, 4, 1, false, 0},  {VIRTIO_BLK_T_IN, 3072, 3, 1, true, 1},
	    {VIRTIO_BLK_T_IN, 512, 1, 4, false, 4},    {VIRTIO_BLK_T_IN, 512, 1, 5, false, 0},
	    {VIRTIO_BLK_T_FLUSH, 0, 0, 1, false, 1},   {VIRTIO_BLK_T_GET_ID, 0, 0, 1, false, 0},
	};
	struct fixture *f =
	    running(state, VIRTIO_FEATURE(VIRTIO_RING_F_INDIRECT_DESC) | VIRTIO_FEATURE(VIRTIO_BLK_F_FLUSH));

	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		unsigned served =
		    served_at_once(f, rows[i].type, rows[i].bytes, rows[i].pieces, rows[i].requests, rows[i].indirect);

		if (served != rows[i].served)
			fail_msg("row %zu: %u", i, served);
	}
}

static void formats_are_known_by_their_first_bytes(void **state)
{
	static const struct {
		size_t offset, bytes;
		const char *magic, *name;
	} rows[] = {
	    {0, 4, "QFI\xfb", "qcow2"},
	    {0, 4, "QED\0", "QED"},
	    {0, 4, "KDMV", "VMDK"},
	    {0, 4, "COWD", "VMDK"},
	    {0, 21, "# Disk DescriptorFile", "VMDK"},
	    {64, 4, "\x7f\x10\xda\xbe", "VDI"},
	    {0, 8, "vhdxfile", "VHDX"},
	    {0, 8, "conectix", "VHD"},
	    {0, 16, "WithoutFreeSpace", "Parallels"},
	    {0, 16, "WithouFreSpacExt", "Parallels"},
	    {0, 22, "Bochs Virtual HD Image", "Bochs"},
	};
	uint8_t start[512], last[512] = {0};

	(void)state;
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		size_t end = rows[i].offset + rows[i].bytes;

		memset(start, 0, sizeof start);
		memcpy(start + rows[i].offset, rows[i].magic, rows[i].bytes);
		const char *problem = disk_image_format(start, end, last);

		assert_non_null(problem);
		assert_non_null(strstr(problem, rows[i].name));
		assert_null(disk_image_format(start, end - 1, last)); /* the file ends before it does */
		for (size_t at = rows[i].offset; at < end; at++) {    /* every byte counts */
			start[at] ^= 1;
			assert_null(disk_image_format(start, sizeof start, NULL));
			start[at] ^= 1;
		}
		memmove(start + 1, start, sizeof start - 1);
		start[0] = 0;
		assert_null(disk_image_format(start, sizeof start, last));
	}
	memset(start, 0, sizeof start);
	memcpy(last, "conectix", 8);
	assert_non_null(strstr(disk_image_format(start, sizeof start, last), "VHD"));
	last[7] = 0;
	assert_null(disk_image_format(start, sizeof start, last));
}

static void make_file(const char *path, off_t bytes, const char *magic, off_t at)
{
	int fd = open(path, O_RDWR | O_TRUNC);

	assert_int_equal(ftruncate(fd, bytes), 0);
	if (magic)
		assert_int_equal(pwrite(fd, magic, strlen(magic), at), strlen(magic));
	close(fd);
}

/* The last whole sector is looked at wherever it lies in its page, and nothing but it. */
static void last_sector_is_found(void **state)
{
	static const off_t sizes[] = {512, 1024, 4096, 4608, 8192, 8192 + 3584, 12288};
	struct disk_image_options options = {0};
	struct disk_image image;
	char path[] = "/var/tmp/riffle-image-XXXXXX";

	(void)state;
	close(mkstemp(path));
	for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
		for (off_t rest = 0; rest < 512; rest += 511) {
			make_file(path, sizes[i] + rest, "conectix", sizes[i] - 512);
			assert_int_equal(disk_image_open(&image, path, &options, NULL), RIFFLE_ERR_UNSUPPORTED);
			assert_int_equal(image.fd, -1);
			make_file(path, sizes[i] + rest, "conectix", sizes[i] - 504);
			assert_int_equal(disk_image_open(&image, path, &options, NULL), 0);
			assert_int_equal(image.bytes, sizes[i]);
			assert_int_equal(image.block_bytes, 512);
			assert_int_equal(image.alignment, 1);
			disk_image_close(&image);
		}
	}
	unlink(path);
}

/* A descriptor that was passed in must allow what the disk is for, and stays its owner's. */
static void adopted_descriptors(void **state)
{
	static const struct {
		int flags;
		bool read_only;
		int status;
	} rows[] = {
	    {O_RDWR, false, 0},
	    {O_RDWR, true, 0},
	    {O_RDONLY, true, 0},
	    {O_RDONLY, false, RIFFLE_ERR_ARGUMENT},
	    {O_WRONLY, false, RIFFLE_ERR_ARGUMENT},
	    {O_WRONLY, true, RIFFLE_ERR_ARGUMENT},
	    {O_PATH, true, RIFFLE_ERR_ARGUMENT},
	};
	struct disk_image image;
	struct riffle_error error;
	char path[] = "/var/tmp/riffle-image-XXXXXX";

	(void)state;
	close(mkstemp(path));
	make_file(path, 1024, NULL, 0);
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		struct disk_image_options options = {.read_only = rows[i].read_only};
		int fd = open(path, rows[i].flags);

		assert_int_equal(disk_image_adopt(&image, fd, &options, &error), rows[i].status);
		if (!rows[i].status) {
			assert_int_not_equal(image.fd, fd);
			assert_true(image.fd >= 3);
			assert_true(fcntl(image.fd, F_GETFD) & FD_CLOEXEC);
			assert_true(disk_image_is(&image, path));
			assert_false(disk_image_is(&image, "/dev/null"));
			disk_image_close(&image);
			disk_image_close(&image); /* once more does nothing */
		}
		assert_int_equal(image.fd, -1);
		assert_false(disk_image_is(&image, path));
		assert_int_equal(close(fd), 0);
	}
	struct disk_image_options options = {0};

	assert_int_equal(disk_image_adopt(&image, 9999, &options, &error), RIFFLE_ERR_IO);
	unlink(path);
}

#define ON_EACH(test)                                                                                                  \
	cmocka_unit_test_setup_teardown(test, set_up_inline, tear_down),                                               \
	    cmocka_unit_test_setup_teardown(test, set_up_workers, tear_down),                                          \
	    cmocka_unit_test_setup_teardown(test, set_up_uring, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
	    ON_EACH(test_data),
	    ON_EACH(test_many),
	    ON_EACH(test_limits_of_the_disk),
	    ON_EACH(test_ranges),
	    ON_EACH(test_truncated),
	    ON_EACH(test_set_file),
	    ON_EACH(test_broken_requests),
	    ON_EACH(test_reset),
	    ON_EACH(test_write_through),
	    ON_EACH(test_limiter),
	    ON_EACH(test_serial_and_size),
	    ON_EACH(test_options),
	    ON_EACH(empty_requests),
	    ON_EACH(whole_ring_at_once),
	    ON_EACH(times_of_requests),
	    cmocka_unit_test_setup_teardown(configuration_and_features, set_up_workers, tear_down),
	    cmocka_unit_test_setup_teardown(serial_fills_what_room_there_is, set_up_inline, tear_down),
	    cmocka_unit_test_setup_teardown(longest_range, set_up_inline, tear_down),
	    cmocka_unit_test_setup_teardown(state_is_saved_and_restored, set_up_inline, tear_down),
	    cmocka_unit_test_setup_teardown(updates_are_counted, set_up_inline, tear_down),
	    cmocka_unit_test_setup_teardown(vcpu_serves_a_few_small_requests, set_up_inline, tear_down),
	    cmocka_unit_test(formats_are_known_by_their_first_bytes),
	    cmocka_unit_test(last_sector_is_found),
	    cmocka_unit_test(adopted_descriptors),
	    cmocka_unit_test_setup_teardown(test_served, set_up_inline, tear_down),
	    cmocka_unit_test(test_image),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
