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
	if (*status == VIRTIO_BLK_S_OK)
		assert_int_equal(written, expected_written);
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
	    cmocka_unit_test_setup_teardown(test_served, set_up_inline, tear_down),
	    cmocka_unit_test(test_image),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
