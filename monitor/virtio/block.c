/* SPDX-License-Identifier: Apache-2.0 */
/* virtio-blk: a disk. Requests go to a block engine, several at a time, and come back in any order. */
#include "monitor/virtio/block.h"

#include <errno.h>
#include <linux/virtio_blk.h>
#include <linux/virtio_ids.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "common/bytes.h"
#include "common/fail.h"

#define SECTOR_BITS 9
#define SECTOR 512u
#define FEW_BUFFERS 4u
#define SEGMENTS_MAX (VIRTQ_CHAIN_MAX - 2u) /* beside header and status */
#define RANGE_SECTORS_MAX (1u << 22)        /* of a discard or write-zeroes: 2 GiB */
#define NAME_BYTES 64
/* what a vCPU's thread does itself: a few requests, of some microseconds each */
#define SERVE_REQUESTS 4u
#define SERVE_BYTES 65536u

/* Buffers of a request that has more than a few; kept for the next one. */
struct buffers {
	struct buffers *next;
	struct iovec list[VIRTQ_CHAIN_MAX];
};

struct request {
	struct block_io io;
	struct block *block;
	struct request *next; /* free */
	uint16_t head;
	uint8_t *status;   /* in guest memory */
	uint32_t written;  /* into the guest's buffers if it succeeds, the status byte included */
	uint64_t begun_us; /* of a disk that is timed */
	struct buffers *many;
	struct iovec few[FEW_BUFFERS];
	/* data that is not aligned as the image wants it passes through here */
	uint8_t *bounce;
	struct iovec bounced;
	struct iovec *guest_buffers;
	unsigned guest_count;
};

struct block {
	struct virtio_device device;
	struct virtio_blk_config config;
	struct disk_image image;
	struct disk_image_options options;
	struct block_engine *engine;
	struct loop_source engine_source;
	struct limiter limiter;
	struct block_counters counters;
	char name[NAME_BYTES];
	bool has_serial;
	char serial[BLOCK_SERIAL_BYTES];
	struct request requests[BLOCK_IO_DEPTH];
	unsigned used_requests; /* of the array; those that were used and are free are in the list */
	struct request *free_requests;
	struct buffers *free_buffers;
	struct virtq_chain chain; /* the one that is looked at */
};

static struct block *self(struct virtio_device *device)
{
	return (struct block *)device;
}

struct virtio_device *block_device(struct block *block)
{
	return &block->device;
}

static struct request *take_request(struct block *block)
{
	struct request *request = block->free_requests;

	if (request)
		block->free_requests = request->next;
	else
		request = &block->requests[block->used_requests++]; /* a queue has no more chains out than there are */
	request->block = block;
	request->many = NULL;
	request->bounce = NULL;
	return request;
}

static void free_request(struct request *request)
{
	struct block *block = request->block;

	if (request->many) {
		request->many->next = block->free_buffers;
		block->free_buffers = request->many;
	}
	request->next = block->free_requests;
	block->free_requests = request;
}

/* Room for `count` buffers; NULL: out of memory. */
static struct iovec *take_buffers(struct request *request, unsigned count)
{
	struct block *block = request->block;

	if (count <= FEW_BUFFERS)
		return request->few;
	request->many = block->free_buffers;
	if (request->many)
		block->free_buffers = request->many->next;
	else
		request->many = malloc(sizeof *request->many);
	return request->many ? request->many->list : NULL;
}

static void answer(struct request *request, uint8_t status, uint32_t written)
{
	struct virtio_device *device = &request->block->device;

	if (status != VIRTIO_BLK_S_OK)
		counter_add(&request->block->counters.execute_fails, 1);
	/* a device that failed has no rings that could be believed */
	if (device->active && !device->failure) {
		*request->status = status;
		virtq_push(&device->queues[0], request->head, written);
	}
	free_request(request);
}

static void count_io(const struct request *request)
{
	const struct block_io *io = &request->io;
	struct block_counters *counters = &request->block->counters;
	bool timed = request->block->device.timed;

	switch (io->op) {
	case BLOCK_READ:
		counter_add(&counters->reads, 1);
		counter_add(&counters->read_bytes, io->bytes);
		if (timed)
			latency_add(&counters->read_time, virtio_clock_us(&request->block->device) - request->begun_us);
		break;
	case BLOCK_WRITE:
	case BLOCK_WRITE_THROUGH:
		counter_add(&counters->writes, 1);
		counter_add(&counters->write_bytes, io->bytes);
		if (timed)
			latency_add(&counters->write_time,
				    virtio_clock_us(&request->block->device) - request->begun_us);
		break;
	case BLOCK_FLUSH:
		counter_add(&counters->flushes, 1);
		break;
	default:
		break;
	}
}

static void io_done(void *opaque, struct block_io *io)
{
	struct request *request = (struct request *)io;
	bool ok = !io->result;

	(void)opaque;
	if (ok)
		count_io(request);
	if (request->bounce) {
		if (ok && io->op == BLOCK_READ)
			for (size_t i = 0, at = 0; i < request->guest_count; at += request->guest_buffers[i++].iov_len)
				memcpy(request->guest_buffers[i].iov_base, request->bounce + at,
				       request->guest_buffers[i].iov_len);
		munmap(request->bounce, request->io.bytes);
	}
	answer(request,
	       ok                         ? VIRTIO_BLK_S_OK
	       : io->result == EOPNOTSUPP ? VIRTIO_BLK_S_UNSUPP
					  : VIRTIO_BLK_S_IOERR,
	       ok ? request->written : 1);
}

static bool are_aligned(const struct iovec *buffers, unsigned count, uint32_t alignment)
{
	for (unsigned i = 0; i < count; i++)
		if (((uintptr_t)buffers[i].iov_base | buffers[i].iov_len) & (alignment - 1))
			return false;
	return true;
}

/* O_DIRECT takes no buffers but aligned ones, and the driver is free to give any. */
static bool bounce(struct request *request)
{
	struct block_io *io = &request->io;
	uint8_t *data = mmap(NULL, io->bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (data == MAP_FAILED)
		return false;
	if (io->op != BLOCK_READ)
		for (size_t i = 0, at = 0; i < io->count; at += io->buffers[i++].iov_len)
			memcpy(data + at, io->buffers[i].iov_base, io->buffers[i].iov_len);
	request->bounce = data;
	request->guest_buffers = io->buffers;
	request->guest_count = io->count;
	request->bounced = (struct iovec){.iov_base = data, .iov_len = io->bytes};
	io->buffers = &request->bounced;
	io->count = 1;
	return true;
}

static bool in_range(const struct block *block, uint64_t sector, uint64_t bytes)
{
	return !(bytes & (SECTOR - 1)) && sector <= block->image.bytes >> SECTOR_BITS &&
	       bytes <= block->image.bytes - (sector << SECTOR_BITS);
}

static void submit(struct request *request, enum block_op op, uint64_t offset, uint64_t bytes, uint32_t written)
{
	request->io.op = op;
	request->io.offset = offset;
	request->io.bytes = bytes;
	request->written = written;
	request->begun_us = virtio_clock_us(&request->block->device);
	block_engine_submit(request->block->engine, &request->io);
}

static void transfer(struct request *request, bool write, uint64_t sector)
{
	struct block *block = request->block;
	const struct virtq_chain *chain = &block->chain;
	const uint64_t header = sizeof(struct virtio_blk_outhdr);
	uint64_t bytes = write ? chain->out_bytes - header : chain->in_bytes - 1;
	/* without FLUSH the driver takes what was answered as stored (VIRTIO 1.2, 5.2.6.2) */
	bool through = !virtio_has(&block->device, VIRTIO_BLK_F_FLUSH) && block->image.cache != DISK_CACHE_UNSAFE;
	struct iovec *buffers = take_buffers(request, write ? chain->out_count : chain->in_count);

	if (!in_range(block, sector, bytes) || !buffers || (write && block->image.read_only)) {
		answer(request, VIRTIO_BLK_S_IOERR, 1);
		return;
	}
	if (!bytes) {
		answer(request, VIRTIO_BLK_S_OK, 1);
		return;
	}
	request->io.op = !write ? BLOCK_READ : through ? BLOCK_WRITE_THROUGH : BLOCK_WRITE;
	request->io.bytes = bytes;
	request->io.buffers = buffers;
	request->io.count = write ? virtq_slice(buffers, chain->out, chain->out_count, header, bytes)
				  : virtq_slice(buffers, chain->in, chain->in_count, 0, bytes);
	if (block->image.alignment > 1 &&
	    (((sector << SECTOR_BITS | bytes) & (block->image.alignment - 1)) ||
	     (!are_aligned(buffers, request->io.count, block->image.alignment) && !bounce(request)))) {
		answer(request, VIRTIO_BLK_S_IOERR, 1);
		return;
	}
	submit(request, request->io.op, sector << SECTOR_BITS, bytes, write ? 1 : (uint32_t)bytes + 1);
}

/* A discard or write-zeroes; of one range, as the configuration space says. */
static void change_range(struct request *request, bool discard)
{
	struct block *block = request->block;
	struct virtio_blk_discard_write_zeroes range;
	const size_t header = sizeof(struct virtio_blk_outhdr);
	const uint32_t known = discard ? 0 : VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP;

	if (block->image.read_only || block->chain.out_bytes != header + sizeof range ||
	    virtq_chain_read(&block->chain, header, &range, sizeof range) != sizeof range) {
		answer(request, VIRTIO_BLK_S_IOERR, 1);
		return;
	}
	if (range.flags & ~known) {
		answer(request, VIRTIO_BLK_S_UNSUPP, 1);
		return;
	}
	uint64_t bytes = (uint64_t)range.num_sectors << SECTOR_BITS;

	if (range.num_sectors > RANGE_SECTORS_MAX || !in_range(block, range.sector, bytes)) {
		answer(request, VIRTIO_BLK_S_IOERR, 1);
		return;
	}
	if (!bytes) {
		answer(request, VIRTIO_BLK_S_OK, 1);
		return;
	}
	submit(request,
	       discard       ? BLOCK_DISCARD
	       : range.flags ? BLOCK_ZERO_UNMAP
			     : BLOCK_ZERO,
	       range.sector << SECTOR_BITS, bytes, 1);
}

static void get_id(struct request *request)
{
	struct block *block = request->block;
	uint64_t room = block->chain.in_bytes - 1;
	size_t bytes = room < BLOCK_SERIAL_BYTES ? (size_t)room : BLOCK_SERIAL_BYTES;

	virtq_chain_write(&block->chain, 0, block->serial, bytes);
	answer(request, VIRTIO_BLK_S_OK, (uint32_t)bytes + 1);
}

static void flush(struct request *request)
{
	if (request->block->image.cache == DISK_CACHE_UNSAFE)
		answer(request, VIRTIO_BLK_S_OK, 1);
	else
		submit(request, BLOCK_FLUSH, 0, 0, 1);
}

static void begin(struct block *block, const struct virtio_blk_outhdr *header)
{
	struct virtq_chain *chain = &block->chain;
	const struct iovec *last = &chain->in[chain->in_count - 1];
	struct request *request = take_request(block);

	request->head = chain->head;
	request->status = (uint8_t *)last->iov_base + last->iov_len - 1;
	switch (header->type) {
	case VIRTIO_BLK_T_IN:
	case VIRTIO_BLK_T_OUT:
		transfer(request, header->type == VIRTIO_BLK_T_OUT, header->sector);
		break;
	case VIRTIO_BLK_T_FLUSH:
		flush(request);
		break;
	case VIRTIO_BLK_T_GET_ID:
		get_id(request);
		break;
	case VIRTIO_BLK_T_DISCARD:
	case VIRTIO_BLK_T_WRITE_ZEROES:
		change_range(request, header->type == VIRTIO_BLK_T_DISCARD);
		break;
	default:
		answer(request, VIRTIO_BLK_S_UNSUPP, 1);
	}
}

enum outcome { STARTED, LATER, FAILED };

/* Without memory to be allocated, and nothing that changes the file's extents. */
static bool is_small(const struct virtq_chain *chain, uint32_t type, uint64_t bytes)
{
	return (type == VIRTIO_BLK_T_IN || type == VIRTIO_BLK_T_OUT || type == VIRTIO_BLK_T_FLUSH) &&
	       bytes <= SERVE_BYTES && chain->in_count <= FEW_BUFFERS && chain->out_count <= FEW_BUFFERS;
}

static enum outcome start(struct block *block, bool only_small)
{
	struct virtq_chain *chain = &block->chain;
	struct virtio_blk_outhdr header;

	if (!chain->in_count || virtq_chain_read(chain, 0, &header, sizeof header) != sizeof header) {
		counter_add(&block->counters.invalid, 1);
		virtio_fail(&block->device, "a block request has no header or no room for its status");
		return FAILED;
	}
	uint64_t bytes = header.type == VIRTIO_BLK_T_IN    ? chain->in_bytes - 1
			 : header.type == VIRTIO_BLK_T_OUT ? chain->out_bytes - sizeof header
							   : 0;

	if (only_small && !is_small(chain, header.type, bytes)) {
		virtq_unpop(&block->device.queues[0]);
		return LATER;
	}
	if (!limiter_take(&block->limiter, 1, bytes)) {
		virtq_unpop(&block->device.queues[0]);
		counter_add(&block->counters.limited, 1);
		return LATER;
	}
	begin(block, &header);
	return STARTED;
}

/* As much as there was when it began, and no more: a guest that goes on adding must not keep the loop from others. */
static void block_notify(struct virtio_device *device, unsigned index)
{
	struct block *block = self(device);
	struct virtq *queue = &device->queues[index];
	unsigned budget = VIRTQ_SIZE_MAX;
	int got = 0;

	counter_add(&block->counters.queue_events, 1);
	if (limiter_blocked(&block->limiter))
		return;
	do {
		virtq_stop_notify(queue);
		while (budget && (got = virtq_pop(queue, &block->chain)) > 0) {
			enum outcome outcome = start(block, false);

			if (outcome != STARTED)
				goto out;
			budget--;
		}
		if (!got && budget == VIRTQ_SIZE_MAX)
			counter_add(&block->counters.no_buffers, 1);
		if (got < 0) {
			virtio_fail(device, "the ring of a disk is not well-formed");
			goto out;
		}
		block_engine_run(block->engine);
		virtio_publish(device, index);
		if (!budget) {
			virtio_device_ring(device, index);
			return;
		}
	} while (virtq_start_notify(queue));
	return;
out:
	counter_add(&block->counters.remaining, virtq_waiting(queue));
	block_engine_run(block->engine);
	if (!device->failure)
		virtio_publish(device, index);
}

static bool serve_some(struct block *block)
{
	struct virtq *queue = &block->device.queues[0];
	unsigned budget = SERVE_REQUESTS;

	do {
		int got = 0;

		virtq_stop_notify(queue);
		while (budget && (got = virtq_pop(queue, &block->chain)) > 0) {
			if (start(block, true) != STARTED)
				return false;
			budget--;
		}
		if (got < 0)
			virtio_fail(&block->device, "the ring of a disk is not well-formed");
		if (got < 0 || !budget)
			return false;
		virtio_publish(&block->device, 0);
	} while (virtq_start_notify(queue));
	return true;
}

/* Of a file in memory: a read or write of it is a copy. */
static bool block_serve(struct virtio_device *device, unsigned index)
{
	struct block *block = self(device);

	unsigned waiting = virtq_ahead(&device->queues[index]);

	if (!block->image.in_memory || limiter_is_set(&block->limiter) || !waiting || waiting > SERVE_REQUESTS ||
	    virtq_next_is_long(&device->queues[index], 2 * FEW_BUFFERS))
		return false;
	bool done = serve_some(block);

	if (done)
		counter_add(&block->counters.queue_events, 1);
	if (!device->failure)
		virtio_publish(device, index);
	return done;
}

static void limits_allow(void *opaque)
{
	struct block *block = opaque;

	virtio_lock(&block->device);
	counter_add(&block->counters.limiter_events, 1);
	virtio_device_notify(&block->device, 0);
	virtio_unlock(&block->device);
}

static void engine_ready(void *opaque, uint32_t events)
{
	struct block *block = opaque;

	(void)events;
	virtio_lock(&block->device);
	block_engine_run(block->engine);
	if (virtio_running(&block->device))
		virtio_publish(&block->device, 0);
	virtio_unlock(&block->device);
}

static void block_quiesce(struct virtio_device *device)
{
	block_engine_drain(self(device)->engine);
	if (!device->failure && device->queues[0].ready)
		virtio_publish(device, 0);
}

static size_t block_save(const struct virtio_device *device, void *state, size_t room)
{
	struct limiter_state limits;

	limiter_save(&((const struct block *)device)->limiter, &limits);
	if (room >= sizeof limits)
		memcpy(state, &limits, sizeof limits);
	return sizeof limits;
}

static int block_restore(struct virtio_device *device, const void *state, size_t bytes, struct riffle_error *error)
{
	struct limiter_state limits;

	if (bytes != sizeof limits)
		return riffle_fail_expected(error, RIFFLE_ERR_FORMAT, "disk", "its state has another size", bytes,
					    sizeof limits);
	memcpy(&limits, state, sizeof limits);
	limiter_restore(&self(device)->limiter, &limits);
	return 0;
}

static void block_destroy(struct virtio_device *device)
{
	struct block *block = self(device);

	limiter_stop(&block->limiter);
	loop_remove(block->limiter.loop, &block->engine_source);
	block_engine_close(block->engine);
	disk_image_close(&block->image);
	while (block->free_buffers) {
		struct buffers *next = block->free_buffers->next;

		free(block->free_buffers);
		block->free_buffers = next;
	}
	virtio_free(block, sizeof *block);
}

static const struct virtio_ops block_ops = {
    .id = VIRTIO_ID_BLOCK,
    .queue_count = 1,
    .notify = block_notify,
    .serve = block_serve,
    .quiesce = block_quiesce,
    .save = block_save,
    .restore = block_restore,
    .destroy = block_destroy,
};

/*
 * What the file is, in digits, as Firecracker makes them: two disks of a guest differ in it, and the same file has the
 * same in each run.
 */
static void set_serial(struct block *block, const char *serial)
{
	char text[64];

	if (!serial) {
		snprintf(text, sizeof text, "%llu%llu%llu", (unsigned long long)block->image.identity[0],
			 (unsigned long long)block->image.identity[1], (unsigned long long)block->image.identity[2]);
		serial = text;
	}
	memset(block->serial, 0, sizeof block->serial);
	memcpy(block->serial, serial, strnlen(serial, sizeof block->serial));
}

static void describe(struct block *block)
{
	struct virtio_blk_config *config = &block->config;
	uint32_t block_sectors = block->image.block_bytes / SECTOR;

	*config = (struct virtio_blk_config){
	    .capacity = block->image.bytes >> SECTOR_BITS,
	    .seg_max = SEGMENTS_MAX,
	    .blk_size = block->image.block_bytes,
	    .num_queues = 1,
	    .max_discard_sectors = RANGE_SECTORS_MAX,
	    .max_discard_seg = 1,
	    .discard_sector_alignment = block_sectors > 8 ? block_sectors : 8,
	    .max_write_zeroes_sectors = RANGE_SECTORS_MAX,
	    .max_write_zeroes_seg = 1,
	    .write_zeroes_may_unmap = 1,
	};
	block->device.features = VIRTIO_FEATURE(VIRTIO_BLK_F_SEG_MAX) | VIRTIO_FEATURE(VIRTIO_BLK_F_BLK_SIZE);
	if (block->image.cache != DISK_CACHE_UNSAFE)
		block->device.features |= VIRTIO_FEATURE(VIRTIO_BLK_F_FLUSH);
	block->device.features |=
	    block->image.read_only ? VIRTIO_FEATURE(VIRTIO_BLK_F_RO)
				   : VIRTIO_FEATURE(VIRTIO_BLK_F_DISCARD) | VIRTIO_FEATURE(VIRTIO_BLK_F_WRITE_ZEROES);
}

static int open_all(struct block *block, const struct block_config *config, struct loop *loop,
		    struct riffle_error *error)
{
	struct disk_image_options options = config->image;

	options.patient = true; /* nothing else waits yet */
	int status = config->has_fd ? disk_image_adopt(&block->image, config->fd, &options, error)
				    : disk_image_open(&block->image, config->path, &options, error);

	if (!status)
		status = block_engine_open(&block->engine, config->engine, &block->image, io_done, block, error);
	if (status || block_engine_event(block->engine) < 0)
		return status;
	block->engine_source = (struct loop_source){.ready = engine_ready, .opaque = block};
	return loop_add(loop, &block->engine_source, block_engine_event(block->engine), EPOLLIN | EPOLLET, error);
}

int block_new(struct block **result, const struct block_config *config, struct loop *loop, struct riffle_error *error)
{
	struct block *block = virtio_allocate(sizeof *block);

	*result = NULL;
	if (!block)
		return riffle_fail(error, RIFFLE_ERR_MEMORY, "disk", "out of memory");
	block->image.fd = -1;
	block->options = config->image;
	snprintf(block->name, sizeof block->name, "%s", config->name);
	virtio_device_init(&block->device, &block_ops, block->name);
	block->device.config = &block->config;
	block->device.activate_fails = &block->counters.activate_fails;
	block->device.config_fails = &block->counters.config_fails;
	block->device.event_fails = &block->counters.event_fails;
	/* what follows is of features that are not offered */
	block->device.config_bytes = offsetof(struct virtio_blk_config, unused1);
	limiter_init(&block->limiter, &config->limits, loop, limits_allow, block);
	int status = open_all(block, config, loop, error);

	if (status) {
		virtio_device_destroy(&block->device);
		return status;
	}
	if (block_engine_kind(block->engine) == BLOCK_ENGINE_INLINE && block->image.in_memory)
		block->device.direct = 1;
	block->has_serial = config->serial != NULL;
	set_serial(block, config->serial);
	describe(block);
	*result = block;
	return 0;
}

void block_limit(struct block *block, const struct limiter_update *update)
{
	virtio_lock(&block->device);
	limiter_update(&block->limiter, update);
	counter_add(&block->counters.updates, 1);
	virtio_unlock(&block->device);
}

static void tell_capacity(struct block *block)
{
	uint64_t sectors = block->image.bytes >> SECTOR_BITS;

	virtio_config_set(&block->device, offsetof(struct virtio_blk_config, capacity), &sectors, sizeof sectors);
}

static void count_update(struct block *block, int status)
{
	counter_add(status ? &block->counters.update_fails : &block->counters.updates, 1);
}

int block_resize(struct block *block, struct riffle_error *error)
{
	virtio_lock(&block->device);
	int status = disk_image_measure(&block->image, error);

	if (!status)
		tell_capacity(block);
	count_update(block, status);
	virtio_unlock(&block->device);
	return status;
}

int block_set_file(struct block *block, const char *path, struct riffle_error *error)
{
	struct disk_image image;

	/* which a second lock of the same file would refuse */
	if (disk_image_is(&block->image, path))
		return block_resize(block, error);
	int status = disk_image_open(&image, path, &block->options, error);

	virtio_lock(&block->device);
	if (status) {
		count_update(block, status);
		virtio_unlock(&block->device);
		return status;
	}
	/* what the driver learned of the old one must hold for the new one */
	if (image.alignment > block->image.block_bytes)
		status = riffle_fail_expected(error, RIFFLE_ERR_UNSUPPORTED, "disk image",
					      "needs larger blocks than the one it replaces", image.alignment,
					      block->image.block_bytes);
	image.block_bytes = block->image.block_bytes;
	block_engine_drain(block->engine);
	if (!status)
		status = block_engine_set_image(block->engine, &image, error);
	if (!status) {
		disk_image_close(&block->image);
		block->image = image;
		if (!block->has_serial)
			set_serial(block, NULL);
		tell_capacity(block);
	}
	count_update(block, status);
	if (virtio_running(&block->device))
		virtio_publish(&block->device, 0);
	virtio_unlock(&block->device);
	if (status)
		disk_image_close(&image);
	return status;
}

const struct block_counters *block_counters(const struct block *block)
{
	return &block->counters;
}

uint64_t block_bytes(const struct block *block)
{
	return block->image.bytes;
}

bool block_is_read_only(const struct block *block)
{
	return block->image.read_only;
}

int block_sync(struct block *block)
{
	virtio_lock(&block->device);
	block_engine_drain(block->engine);
	int result = block->image.read_only || block->image.cache == DISK_CACHE_UNSAFE ? 0 : fdatasync(block->image.fd);

	virtio_unlock(&block->device);
	return result;
}
