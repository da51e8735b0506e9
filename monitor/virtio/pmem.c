/* SPDX-License-Identifier: Apache-2.0 */
/* virtio-pmem: a file mapped into the guest; the only requests are flushes, and a batch of them is one fdatasync(). */
#include "monitor/virtio/pmem.h"

#include <errno.h>
#include <linux/virtio_ids.h>
#include <linux/virtio_pmem.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "common/fail.h"
#include "monitor/virtio/block_io.h"

/* VIRTIO 1.2, 5.19.6 */
enum { RESPONSE_OK = 0, RESPONSE_EIO = 1 };

struct pmem {
	struct virtio_device device;
	struct virtio_pmem_config config;
	struct disk_image image;
	struct block_engine *engine;
	struct loop_source engine_source;
	struct limiter limiter;
	uint8_t *mapping; /* `reserved` bytes; NULL: none */
	size_t reserved;
	uint8_t *start;
	uint64_t bytes, file_bytes;
	/* the batch */
	struct block_io io;
	bool flushing;
	unsigned count;
	struct pmem_counters counters;
	struct {
		uint16_t head;
		uint8_t *response; /* in guest memory, 4 bytes */
	} waiting[VIRTQ_SIZE_MAX];
	struct virtq_chain chain;
};

static struct pmem *self(struct virtio_device *device)
{
	return (struct pmem *)device;
}

struct virtio_device *pmem_device(struct pmem *pmem)
{
	return &pmem->device;
}

uint64_t pmem_bytes(const struct pmem *pmem)
{
	return pmem->bytes;
}

void pmem_place(struct pmem *pmem, uint64_t address, struct riffle_ram *region)
{
	pmem->config.start = address;
	*region = (struct riffle_ram){.address = address, .bytes = pmem->bytes, .host = pmem->start};
}

/* ---- flushes ---- */

static void answer(struct pmem *pmem, uint32_t result)
{
	struct virtio_device *device = &pmem->device;

	for (unsigned i = 0; i < pmem->count && device->active && !device->failure; i++) {
		memcpy(pmem->waiting[i].response, &result, sizeof result);
		virtq_push(&device->queues[0], pmem->waiting[i].head, sizeof result);
	}
	pmem->count = 0;
}

static void flushed(void *opaque, struct block_io *io)
{
	struct pmem *pmem = opaque;

	pmem->flushing = false;
	answer(pmem, io->result ? RESPONSE_EIO : RESPONSE_OK);
}

/* What was popped is a flush, which joins the batch. */
static bool take(struct pmem *pmem)
{
	const struct virtq_chain *chain = &pmem->chain;
	struct virtio_pmem_req request;

	if (!chain->in_count || chain->in[0].iov_len < sizeof(struct virtio_pmem_resp) ||
	    virtq_chain_read(chain, 0, &request, sizeof request) != sizeof request) {
		virtio_fail(&pmem->device, "a pmem request has no header or no room for its answer");
		return false;
	}
	pmem->waiting[pmem->count].head = chain->head;
	pmem->waiting[pmem->count++].response = chain->in[0].iov_base;
	if (request.type != VIRTIO_PMEM_REQ_TYPE_FLUSH) {
		const uint32_t unknown = RESPONSE_EIO;

		pmem->count--;
		memcpy(chain->in[0].iov_base, &unknown, sizeof unknown);
		virtq_push(&pmem->device.queues[0], chain->head, sizeof unknown);
	}
	return true;
}

/* All that there is becomes a batch; what comes while it is under way is the next one. */
static void notify(struct virtio_device *device, unsigned index)
{
	struct pmem *pmem = self(device);
	struct virtq *queue = &device->queues[index];
	int got = 0;

	counter_add(&pmem->counters.queue_events, 1);
	if (pmem->flushing || limiter_blocked(&pmem->limiter))
		return;
	do {
		virtq_stop_notify(queue);
		while (pmem->count < VIRTQ_SIZE_MAX && (got = virtq_pop(queue, &pmem->chain)) > 0) {
			/* once a batch: the others of it cost nothing */
			if (!pmem->count && !limiter_take(&pmem->limiter, 1, pmem->file_bytes)) {
				virtq_unpop(queue);
				counter_add(&pmem->counters.limited, 1);
				virtio_publish(device, index);
				return;
			}
			if (!take(pmem))
				return;
		}
		if (got < 0) {
			virtio_fail(device, "the ring of a pmem device is not well-formed");
			return;
		}
	} while (pmem->count < VIRTQ_SIZE_MAX && virtq_start_notify(queue));
	if (pmem->count && pmem->image.read_only) {
		answer(pmem, RESPONSE_OK);
	} else if (pmem->count) {
		pmem->flushing = true;
		pmem->io = (struct block_io){.op = BLOCK_FLUSH};
		block_engine_submit(pmem->engine, &pmem->io);
		block_engine_run(pmem->engine);
	}
	virtio_publish(device, index);
	/* done at once: what was beyond a batch is not forgotten */
	if (!pmem->flushing && got > 0)
		virtio_device_ring(device, index);
}

static void engine_ready(void *opaque, uint32_t events)
{
	struct pmem *pmem = opaque;
	struct virtio_device *device = &pmem->device;

	(void)events;
	virtio_lock(device);
	block_engine_run(pmem->engine);
	virtio_device_notify(device, 0); /* publishes what was answered, too */
	virtio_unlock(device);
}

static void limits_allow(void *opaque)
{
	struct pmem *pmem = opaque;

	virtio_lock(&pmem->device);
	counter_add(&pmem->counters.limiter_events, 1);
	virtio_device_notify(&pmem->device, 0);
	virtio_unlock(&pmem->device);
}

static void quiesce(struct virtio_device *device)
{
	block_engine_drain(self(device)->engine);
	if (!device->failure && device->queues[0].ready)
		virtio_publish(device, 0);
}

static void reset(struct virtio_device *device)
{
	self(device)->count = 0;
}

static void destroy(struct virtio_device *device)
{
	struct pmem *pmem = self(device);

	limiter_stop(&pmem->limiter);
	loop_remove(pmem->limiter.loop, &pmem->engine_source);
	block_engine_close(pmem->engine);
	if (pmem->mapping)
		munmap(pmem->mapping, pmem->reserved);
	disk_image_close(&pmem->image);
	free(pmem);
}

static const struct virtio_ops pmem_ops = {
    .id = VIRTIO_ID_PMEM,
    .queue_count = 1,
    .notify = notify,
    .quiesce = quiesce,
    .reset = reset,
    .destroy = destroy,
};

/* ---- making it ---- */

/* On a 2 MiB boundary of the host, as of the guest, so that huge pages of the file can be mapped as such. */
static int map(struct pmem *pmem, struct riffle_error *error)
{
	int sharing = pmem->image.read_only ? MAP_PRIVATE | MAP_NORESERVE : MAP_SHARED;
	struct stat st;

	if (fstat(pmem->image.fd, &st) < 0)
		return riffle_fail_system(error, errno, "pmem", "cannot be examined");
	/* a block device has its size from elsewhere; a file may end within a sector */
	pmem->file_bytes = S_ISREG(st.st_mode) ? (uint64_t)st.st_size : pmem->image.bytes;
	pmem->bytes = (pmem->file_bytes + PMEM_STEP - 1) & ~(PMEM_STEP - 1);
	pmem->config.size = pmem->bytes;
	pmem->reserved = pmem->bytes + PMEM_STEP;
	uint8_t *mapping =
	    mmap(NULL, pmem->reserved, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (mapping == MAP_FAILED)
		return riffle_fail_full(error, RIFFLE_ERR_MEMORY, errno, "pmem", "cannot be mapped", 1, pmem->bytes, 0,
					0);
	pmem->mapping = mapping;
	pmem->start = mapping + (-(uintptr_t)mapping & (PMEM_STEP - 1));
	if (mmap(pmem->start, pmem->file_bytes, PROT_READ | PROT_WRITE, sharing | MAP_FIXED, pmem->image.fd, 0) ==
	    MAP_FAILED)
		return riffle_fail_system(error, errno, "pmem", "cannot be mapped");
	madvise(pmem->start, pmem->bytes, MADV_DONTDUMP);
	return 0;
}

static int open_all(struct pmem *pmem, const struct pmem_config *config, struct loop *loop, struct riffle_error *error)
{
	/* as it is: a disk image inside is the guest's business */
	const struct disk_image_options options = {.read_only = config->read_only, .raw = true, .patient = true};
	int status = config->has_fd ? disk_image_adopt(&pmem->image, config->fd, &options, error)
				    : disk_image_open(&pmem->image, config->path, &options, error);

	if (!status)
		status = map(pmem, error);
	if (!status)
		status = block_engine_open(&pmem->engine, BLOCK_ENGINE_AUTO, &pmem->image, flushed, pmem, error);
	if (status || block_engine_event(pmem->engine) < 0)
		return status;
	pmem->engine_source = (struct loop_source){.ready = engine_ready, .opaque = pmem};
	return loop_add(loop, &pmem->engine_source, block_engine_event(pmem->engine), EPOLLIN | EPOLLET, error);
}

int pmem_new(struct pmem **result, const struct pmem_config *config, struct loop *loop, struct riffle_error *error)
{
	struct pmem *pmem = calloc(1, sizeof *pmem);

	*result = NULL;
	if (!pmem)
		return riffle_fail(error, RIFFLE_ERR_MEMORY, "pmem", "out of memory");
	pmem->image.fd = -1;
	virtio_device_init(&pmem->device, &pmem_ops, "pmem");
	pmem->device.activate_fails = &pmem->counters.activate_fails;
	pmem->device.config_fails = &pmem->counters.config_fails;
	pmem->device.event_fails = &pmem->counters.event_fails;
	pmem->device.config = &pmem->config;
	pmem->device.config_bytes = sizeof pmem->config;
	limiter_init(&pmem->limiter, &config->limits, loop, limits_allow, pmem);
	int status = open_all(pmem, config, loop, error);

	if (status) {
		virtio_device_destroy(&pmem->device);
		return status;
	}
	*result = pmem;
	return 0;
}

const struct pmem_counters *pmem_counters(const struct pmem *pmem)
{
	return &pmem->counters;
}

void pmem_limit(struct pmem *pmem, const struct limiter_update *update)
{
	virtio_lock(&pmem->device);
	limiter_update(&pmem->limiter, update);
	virtio_unlock(&pmem->device);
}
