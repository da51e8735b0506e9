/* SPDX-License-Identifier: Apache-2.0 */
/* Reads a prepared kernel's header and plan into private memory; sources of bytes from descriptors and memory. */
#include <errno.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <riffle/plan.h>

#include "common/bytes.h"
#include "common/fail.h"
#include "common/huge.h"
#include "common/reserved.h"
#include "common/source.h"
#include "plan/frames.h"

/*
 * Enough for an order and a workspace, even for the largest number of chunks, if the tables are staged elsewhere.
 * Unused memory is never populated.
 */
#define SPARE_BYTES ((size_t)4 << 20)
#define SPARE_ALIGN ((size_t)64)

static int read_fd(void *opaque, uint64_t offset, void *buffer, size_t bytes, struct riffle_error *error)
{
	int fd = (int)(intptr_t)opaque;
	uint8_t *to = buffer;

	while (bytes) {
		ssize_t got = pread(fd, to, bytes, (off_t)offset);

		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			return riffle_fail_system(error, errno, "read", "failed");
		if (!got)
			return riffle_fail_found(error, RIFFLE_ERR_CHANGED, "file", "became shorter while it was read",
						 offset);
		to += got;
		offset += (uint64_t)got;
		bytes -= (size_t)got;
	}
	return RIFFLE_OK;
}

void riffle_source_of_file(struct riffle_source *source, int fd, uint64_t bytes)
{
	*source = (struct riffle_source){.read = read_fd, .opaque = (void *)(intptr_t)fd, .bytes = bytes};
}

int riffle_source_from_fd(struct riffle_source *source, int fd, struct riffle_error *error)
{
	struct stat st;

	if (fstat(fd, &st))
		return riffle_fail_system(error, errno, "fstat", "failed");
	if (!S_ISREG(st.st_mode))
		return riffle_fail(error, RIFFLE_ERR_FORMAT, "file", "is not a regular file");
	riffle_source_of_file(source, fd, (uint64_t)st.st_size);
	return RIFFLE_OK;
}

static int read_bytes(void *opaque, uint64_t offset, void *buffer, size_t bytes, struct riffle_error *error)
{
	const struct riffle_source_memory *memory = opaque;

	if (!riffle_inside(offset, bytes, memory->bytes))
		return riffle_fail_expected(error, RIFFLE_ERR_CHANGED, "file", "is too short", offset, memory->bytes);
	memcpy(buffer, (const uint8_t *)memory->base + offset, bytes);
	return RIFFLE_OK;
}

void riffle_source_from_bytes(struct riffle_source *source, struct riffle_source_memory *memory, const void *base,
			      uint64_t bytes)
{
	memory->base = base;
	memory->bytes = bytes;
	*source = (struct riffle_source){.read = read_bytes, .opaque = memory, .bytes = bytes};
}

static int open_plan(struct riffle_plan *plan, const struct riffle_source *source, bool base_alone,
		     struct riffle_error *error)
{
	struct riffle_header start;
	struct riffle_huge_mapping m;
	size_t plan_bytes, total;
	int status;

	if ((status = riffle_plan_clear(plan, error)) ||
	    (status = RIFFLE_CHECK_ZERO(source->reserved_zero, "source", error)))
		return status;
	if (source->bytes < RIFFLE_HEADER_BYTES)
		return riffle_fail_expected(error, RIFFLE_ERR_FORMAT, "file", "is too short for a prepared kernel",
					    source->bytes, RIFFLE_HEADER_BYTES);
	status = source->read(source->opaque, 0, &start, sizeof start, error);
	if (status)
		return status;
	/* checked before its size is trusted for an allocation; riffle_plan_check() reports the detailed error */
	if (!riffle_plan_is_prepared(&start, sizeof start))
		return riffle_fail(error, RIFFLE_ERR_FORMAT, "magic", "is not that of a prepared kernel");
	if (start.plan_bytes > RIFFLE_PLAN_MAX ||
	    !riffle_inside(sizeof start, plan_stored_bytes(&start), source->bytes))
		return riffle_fail_expected(error, RIFFLE_ERR_FORMAT, "plan_bytes", "reaches past the end of the file",
					    start.plan_bytes, source->bytes);
	if (start.base_bytes > start.plan_bytes)
		return riffle_fail_expected(error, RIFFLE_ERR_FORMAT, "base_bytes", "is more than the plan",
					    start.base_bytes, start.plan_bytes);

	plan_bytes = (size_t)(base_alone ? start.base_bytes : start.plan_bytes);
	total = (sizeof start + plan_bytes + SPARE_ALIGN - 1) & ~(SPARE_ALIGN - 1);
	/*
	 * With small pages a plan of 800 KB would take 200 faults, which cost several times as much as reading and
	 * checking it.
	 */
	if (!riffle_huge_map(&m, total + (plan_bytes > start.base_bytes ? SPARE_BYTES : 0)))
		return riffle_fail_full(error, RIFFLE_ERR_MEMORY, errno, "plan", "cannot be held", 1, total, 0, 0);
	memcpy(m.memory, &start, sizeof start);
	status = riffle_plan_fetch(&start, source, m.memory + sizeof start, plan_bytes, error);
	if (!status)
		status = riffle_plan_check(plan, m.memory, m.memory + sizeof start, plan_bytes, source->bytes, error);
	if (status) {
		munmap(m.start, m.mapped);
		return status;
	}
	plan->owned = m.start;
	plan->owned_bytes = m.mapped;
	if (plan->chunk_count) {
		plan->spare = m.memory + total;
		plan->spare_bytes = m.bytes - total;
	}
	return RIFFLE_OK;
}

int riffle_plan_open(struct riffle_plan *plan, const struct riffle_source *source, struct riffle_error *error)
{
	return open_plan(plan, source, false, error);
}

int riffle_plan_open_base(struct riffle_plan *plan, const struct riffle_source *source, struct riffle_error *error)
{
	return open_plan(plan, source, true, error);
}

void riffle_plan_close(struct riffle_plan *plan)
{
	if (plan->owned)
		munmap(plan->owned, plan->owned_bytes);
	plan->owned = NULL;
	if (riffle_plan_clear(plan, NULL))
		memset(plan, 0, sizeof *plan);
}
