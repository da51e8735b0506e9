/* SPDX-License-Identifier: Apache-2.0 */
/* Lets the library load a kernel straight into a mapped file, and makes an ELF of the file. */
#include "cli/commands/emit_image.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "common/bytes.h"
#include "common/fail.h"
#include "common/write_all.h"

static const uint8_t stub_bytes[] = {
#ifdef RIFFLE_HAVE_STAGE
#include "stage/stub_bytes.h"
#endif
    0};                                    /* an array cannot be empty */
#define STUB_BYTES (sizeof stub_bytes - 1) /* 0: not in this build */

/* A kernel's bytes in the order of their places, with gaps of up to `gap` bytes closed. */
struct merge {
	struct boot_elf_segment *segments; /* room for EMIT_SEGMENTS_MAX */
	unsigned count;                    /* how many there are, written or not */
	uint64_t gap, start, end;
};

static void add_bytes(struct merge *m, uint64_t from, uint64_t end)
{
	if (!m->count || from - m->end > m->gap) {
		m->start = from;
		m->count++;
	}
	m->end = end;
	if (m->count <= EMIT_SEGMENTS_MAX)
		m->segments[m->count - 1] = (struct boot_elf_segment){
		    .file_offset = EMIT_IMAGE_OFFSET + m->start, .file_bytes = end - m->start, .address = m->start};
}

/* An extent, of which each block may slide. */
static void add_extent(struct merge *m, const struct riffle_plan *plan, const struct riffle_layout *layout,
		       const struct riffle_extent *e)
{
	uint64_t from = e->image_offset, end = from + e->bytes;

	for (uint32_t i = 0; i < layout->slide_count; i++) {
		uint64_t edge = i + 1 < layout->slide_count ? plan->blocks[i + 1].image_offset : UINT64_MAX;
		uint64_t to = end < edge ? end : edge;

		if (from >= to)
			continue;
		add_bytes(m, from + layout->slide[i], to + layout->slide[i]);
		from = to;
	}
	if (!layout->slide_count)
		add_bytes(m, from, end);
}

static unsigned merge(struct boot_elf_segment segments[EMIT_SEGMENTS_MAX], const struct riffle_plan *plan,
		      const struct riffle_layout *layout, uint64_t gap)
{
	struct merge m = {.segments = segments, .gap = gap};

	for (uint32_t i = 0; i < plan->extent_count; i++)
		add_extent(&m, plan, layout, &plan->extents[i]);
	return m.count;
}

/* How long the image is in memory. */
static uint64_t span_of(const struct riffle_plan *plan, const struct riffle_layout *layout)
{
	return plan->header->image_bytes + (layout->slide_count ? layout->slide[layout->slide_count - 1] : 0);
}

unsigned emit_segments(struct boot_elf_segment segments[EMIT_SEGMENTS_MAX], const struct riffle_plan *plan,
		       const struct riffle_layout *layout)
{
	uint64_t gap = 0;
	unsigned count;

	while ((count = merge(segments, plan, layout, gap)) > EMIT_SEGMENTS_MAX)
		gap = gap ? 2 * gap : STAGE_PAGE;
	for (unsigned i = 0; i < count; i++) {
		uint64_t next = i + 1 < count ? segments[i + 1].address : span_of(plan, layout);

		segments[i].memory_bytes = next - segments[i].address;
		segments[i].address += layout->physical_base;
	}
	return count;
}

static void describe_stub(struct stage_descriptor *d)
{
	memset(d, 0, sizeof *d);
	d->zero_page_offset = stage_pages(STUB_BYTES);
	d->work_offset = d->zero_page_offset + STAGE_PAGE;
	d->work_bytes = STAGE_STACK_BYTES + STAGE_FIRST_TABLES_BYTES;
	d->tables_offset = d->work_offset + d->work_bytes;
	d->window_bytes = d->tables_offset + STAGE_TABLES_BYTES;
}

/* Headers and stub: all that comes before EMIT_IMAGE_OFFSET. */
static int write_stub(uint8_t *file, const struct boot_elf_segment *kernel, unsigned count,
		      const struct riffle_loaded *loaded, const struct riffle_plan *plan, struct riffle_error *error)
{
	struct boot_elf_segment segments[BOOT_ELF_SEGMENTS_MAX];
	uint8_t *stub = file + BOOT_ELF_HEADERS_BYTES;
	struct stage_descriptor d;
	const struct stage_stub_kernel where = {.address = loaded->physical_base,
						.bytes = loaded->end - loaded->physical_base,
						.entry = loaded->entry,
						.loadflags = loaded->loadflags};

	describe_stub(&d);
	segments[0] = (struct boot_elf_segment){.file_offset = BOOT_ELF_HEADERS_BYTES,
						.file_bytes = d.work_offset,
						.address = STAGE_ELF_BASE,
						.memory_bytes = d.window_bytes};
	memcpy(segments + 1, kernel, count * sizeof *kernel);
	boot_elf_headers(file, segments, count + 1);
	memcpy(stub, stub_bytes, STUB_BYTES);
	memcpy(stub + STAGE_DESCRIPTOR, &d, sizeof d);
	memcpy(stub + STAGE_STUB_KERNEL, &where, sizeof where);
	return boot_elf_zero_page(stub + d.zero_page_offset, plan, error);
}

/* A file under construction: the mapped file itself, or where that cannot be, memory that is written to it. */
struct target {
	uint8_t *bytes;
	uint64_t count;
	bool mapped;
};

/*
 * Blocks are taken beforehand, and only for what will be written: a disk that is full while a mapping is written to
 * would be a fatal signal.
 */
static bool take_blocks(int fd, const struct boot_elf_segment *segments, unsigned count)
{
	if (fallocate(fd, 0, 0, (off_t)(BOOT_ELF_HEADERS_BYTES + stage_pages(STUB_BYTES) + STAGE_PAGE)))
		return false;
	for (unsigned i = 0; i < count; i++)
		if (fallocate(fd, 0, (off_t)segments[i].file_offset, (off_t)segments[i].file_bytes))
			return false;
	return true;
}

static int open_target(struct target *target, int fd, const struct boot_elf_segment *segments, unsigned count,
		       struct riffle_error *error)
{
	void *bytes = MAP_FAILED;

	if (ftruncate(fd, (off_t)target->count))
		return riffle_fail_system(error, errno, "output", "cannot be written");
	if (take_blocks(fd, segments, count))
		bytes = mmap(NULL, target->count, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	else if (errno == ENOSPC || errno == EDQUOT || errno == EFBIG)
		return riffle_fail_system(error, errno, "output", "cannot be written");
	target->mapped = bytes != MAP_FAILED;
	if (!target->mapped)
		bytes = mmap(NULL, target->count, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
			     -1, 0);
	if (bytes == MAP_FAILED)
		return riffle_fail_system(error, errno, "memory", "for the kernel cannot be allocated");
	target->bytes = bytes;
	return RIFFLE_OK;
}

static int write_range(int fd, const struct target *target, uint64_t offset, uint64_t bytes, struct riffle_error *error)
{
	if (!riffle_write_at(fd, target->bytes + offset, bytes, offset))
		return riffle_fail_system(error, errno, "output", "cannot be written");
	return RIFFLE_OK;
}

static int write_target(int fd, const struct target *target, const struct boot_elf_segment *segments, unsigned count,
			struct riffle_error *error)
{
	int status = RIFFLE_OK;

	if (!target->mapped) {
		status =
		    write_range(fd, target, 0, BOOT_ELF_HEADERS_BYTES + stage_pages(STUB_BYTES) + STAGE_PAGE, error);
		for (unsigned i = 0; i < count && !status; i++)
			status = write_range(fd, target, segments[i].file_offset, segments[i].file_bytes, error);
	}
	/* .bss needs no place in the file */
	if (!status && count &&
	    ftruncate(fd, (off_t)(segments[count - 1].file_offset + segments[count - 1].file_bytes)))
		status = riffle_fail_system(error, errno, "output", "cannot be written");
	return status;
}

static int load_into(const struct target *target, const struct emit_load *load, struct riffle_loaded *loaded,
		     struct riffle_error *error)
{
	const struct riffle_ram ram = {.address = load->layout->physical_base,
				       .bytes = target->count - EMIT_IMAGE_OFFSET,
				       .host = target->bytes + EMIT_IMAGE_OFFSET};
	const struct riffle_memory memory = {.ram = &ram, .ram_count = 1};

	return riffle_load_shuffled(loaded, load->plan, load->source, load->layout, &memory, 0, load->workers,
				    load->workspace, load->workspace_bytes, error);
}

int emit_image_write(int fd, const struct emit_load *load, struct riffle_error *error)
{
	struct target target = {.count = EMIT_IMAGE_OFFSET + stage_pages(span_of(load->plan, load->layout))};
	struct boot_elf_segment segments[EMIT_SEGMENTS_MAX];
	unsigned count = emit_segments(segments, load->plan, load->layout);
	struct riffle_loaded loaded;
	int status;

	if (!STUB_BYTES)
		return riffle_fail(error, RIFFLE_ERR_UNSUPPORTED, "emit",
				   "is not in this build: sanitizers cannot run in a guest");
	status = open_target(&target, fd, segments, count, error);
	if (!status)
		status = load_into(&target, load, &loaded, error);
	if (!status)
		status = write_stub(target.bytes, segments, count, &loaded, load->plan, error);
	if (!status)
		status = write_target(fd, &target, segments, count, error);
	if (target.bytes)
		munmap(target.bytes, target.count);
	if (status && ftruncate(fd, 0)) {
		/* the error that is told came first */
	}
	return status;
}
