/* SPDX-License-Identifier: Apache-2.0 */
/* Guest memory into a file: all that is not zero, or what changed. */
#include "monitor/snapshot/memory.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <linux/magic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "common/fail.h"
#include "common/write_all.h"
#include "monitor/core/internal.h"

#define WRITE_PAGES 512u /* at most in one call */
#define PAGEMAP_ENTRIES 4096u

/* /proc/PID/pagemap: Documentation/admin-guide/mm/pagemap.rst */
#define PAGE_PRESENT (UINT64_C(1) << 63)
#define PAGE_SWAPPED (UINT64_C(1) << 62)
#define PAGE_OF_FILE (UINT64_C(1) << 61)

/* What boot tables and the monitor's own pages (VMGenID) may be in. */
#define MONITOR_PAGES_FROM 0x9f000u
#define MONITOR_PAGES_TO 0x100000u

struct page_set {
	uint64_t *bits;
	uint64_t pages;
};

static void add_page(struct page_set *set, uint64_t page)
{
	set->bits[page / 64] |= UINT64_C(1) << page % 64;
}

static bool has_page(const struct page_set *set, uint64_t page)
{
	return set->bits[page / 64] >> page % 64 & 1;
}

static void add_range(struct page_set *set, uint64_t from, uint64_t to)
{
	for (uint64_t page = from; page < to && page < set->pages; page++)
		add_page(set, page);
}

/*
 * Pages that the process has of its own. `private_alone`: without those that still are the file's. False: this host
 * does not tell.
 */
static bool add_present(struct page_set *set, const struct guest_memory *memory, int pagemap_fd, bool private_alone)
{
	uint64_t first = (uintptr_t)guest_memory_start(memory) / GUEST_PAGE, entry[PAGEMAP_ENTRIES];

	for (uint64_t page = 0; page < set->pages;) {
		uint64_t left = set->pages - page, want = left < PAGEMAP_ENTRIES ? left : PAGEMAP_ENTRIES;
		ssize_t got = pread(pagemap_fd, entry, want * sizeof *entry, (off_t)((first + page) * sizeof *entry));

		if (got <= 0 || got % (ssize_t)sizeof *entry)
			return false;
		for (uint64_t i = 0; i < (uint64_t)got / sizeof *entry; i++)
			if ((entry[i] & (PAGE_PRESENT | PAGE_SWAPPED)) && !(private_alone && (entry[i] & PAGE_OF_FILE)))
				add_page(set, page + i);
		page += (uint64_t)got / sizeof *entry;
	}
	return true;
}

/* What the memory's file has data for. */
static void add_file(struct page_set *set, const struct guest_memory *memory)
{
	off_t end = (off_t)(set->pages * GUEST_PAGE), at = 0, hole;

	while (at < end && (at = lseek(memory->fd, at, SEEK_DATA)) >= 0 && at < end) {
		hole = lseek(memory->fd, at, SEEK_HOLE);
		if (hole < 0)
			hole = end;
		add_range(set, (uint64_t)at / GUEST_PAGE, ((uint64_t)hole + GUEST_PAGE - 1) / GUEST_PAGE);
		at = hole;
	}
	if (at < 0 && errno != ENXIO)
		add_range(set, 0, set->pages);
}

static void add_touched(struct page_set *set, const struct guest_memory *memory, int pagemap_fd)
{
	if (memory->fd >= 0)
		add_file(set, memory);
	if (pagemap_fd < 0 || !add_present(set, memory, pagemap_fd, false))
		add_range(set, 0, set->pages);
}

/* Takes KVM's log, which starts anew. */
static int add_logged(struct page_set *set, const struct vm *vm, struct riffle_error *error)
{
	const struct guest_memory *memory = &vm->memory;
	uint64_t *log = calloc(set->pages / 64 + 1, sizeof *log), first = 0;

	if (!log)
		return riffle_fail(error, RIFFLE_ERR_MEMORY, "dirty pages", "out of memory");
	for (size_t slot = 0; slot < memory->count; slot++) {
		uint64_t pages = memory->ram[slot].bytes / GUEST_PAGE;
		struct kvm_dirty_log request = {.slot = (uint32_t)slot, .dirty_bitmap = log};

		if (ioctl(vm->vm_fd, KVM_GET_DIRTY_LOG, &request) < 0) {
			free(log);
			return riffle_fail_system(error, errno, "KVM_GET_DIRTY_LOG", "failed");
		}
		/* RAM is cut at multiples of 2 MiB */
		for (uint64_t i = 0; i < pages / 64; i++)
			set->bits[first / 64 + i] |= log[i];
		first += pages;
	}
	free(log);
	return 0;
}

/* Takes the monitor's marks. */
static void add_marked(struct page_set *set, const struct guest_memory *memory)
{
	for (uint64_t i = 0; i < set->pages / 64; i++)
		set->bits[i] |= atomic_exchange(&memory->dirty[i], 0);
}

static int choose_pages(struct page_set *set, struct vm *vm, struct memory_save *save, bool *whole,
			struct riffle_error *error)
{
	struct guest_memory *memory = &vm->memory;

	*whole = !save->changed || memory->unsaved;
	save->untracked = save->changed && memory->unsaved && !memory->dirty;
	if (memory->dirty) {
		int status = add_logged(set, vm, error);

		if (status)
			return status;
		add_marked(set, memory);
	}
	if (*whole && !save->copied) {
		add_touched(set, memory, save->pagemap_fd);
	} else {
		add_range(set, MONITOR_PAGES_FROM / GUEST_PAGE, MONITOR_PAGES_TO / GUEST_PAGE);
		/* without a log: what is no longer the file's that was loaded */
		save->untracked = !memory->dirty && (memory->shared || memory->fd < 0 || save->pagemap_fd < 0 ||
						     !add_present(set, memory, save->pagemap_fd, true));
		if (save->untracked)
			add_range(set, 0, set->pages);
	}
	return 0;
}

static int write_all(int fd, const uint8_t *from, uint64_t offset, size_t bytes, struct riffle_error *error)
{
	if (!riffle_write_at(fd, from, bytes, offset))
		return riffle_fail_system(error, errno, "memory file", "cannot be written");
	return 0;
}

/* Which pages of a set are written: not zeros, unless the file may hold something else in their place. */
struct writing {
	const struct page_set *set;
	const uint8_t *start;   /* of the memory */
	bool leave_holes;       /* the file is new */
	const uint64_t *copied; /* what it holds all the same; NULL: nothing */
};

static bool is_written(const struct writing *w, uint64_t page)
{
	return has_page(w->set, page) && !(w->leave_holes && !(w->copied && w->copied[page / 64] >> page % 64 & 1) &&
					   guest_page_is_zero(w->start + page * GUEST_PAGE));
}

/* The next run of such pages from `page` on; at most WRITE_PAGES. False: there is none. */
static bool next_run(const struct writing *w, uint64_t page, uint64_t *from, uint64_t *to)
{
	while (page < w->set->pages) {
		uint64_t end = page;

		if (page % 64 == 0 && !w->set->bits[page / 64]) {
			page += 64;
			continue;
		}
		while (end < w->set->pages && end - page < WRITE_PAGES && is_written(w, end))
			end++;
		if (end > page) {
			*from = page;
			*to = end;
			return true;
		}
		page++;
	}
	return false;
}

/* Runs of neighbours go in one call. `done` gets the pages that were written; NULL: not needed. */
static int write_pages(const struct writing *w, struct memory_save *save, struct page_set *done,
		       struct riffle_error *error)
{
	uint64_t from, to = 0;
	int status = 0;

	while (!status && next_run(w, to, &from, &to)) {
		uint64_t offset = from * GUEST_PAGE, bytes = (to - from) * GUEST_PAGE;

		status = write_all(save->fd, w->start + offset, offset, bytes, error);
		save->written += bytes;
		if (done)
			add_range(done, from, to);
	}
	return status;
}

static int set_size(const struct guest_memory *memory, const struct memory_save *save, struct riffle_error *error)
{
	if (ftruncate(save->fd, (off_t)guest_memory_bytes(memory)) < 0)
		return riffle_fail_system(error, errno, "memory file", "cannot be made as large as the memory");
	return 0;
}

static int make_set(struct page_set *set, uint64_t **owner, const struct guest_memory *memory,
		    struct riffle_error *error)
{
	set->pages = guest_memory_bytes(memory) / GUEST_PAGE;
	*owner = set->bits = calloc(set->pages / 64 + 1, sizeof *set->bits);
	return set->bits ? 0 : riffle_fail(error, RIFFLE_ERR_MEMORY, "pages", "out of memory");
}

/*
 * Whoever writes a page from now on, it is in KVM's log or has the monitor's mark. So this comes before the search for
 * touched pages: one that is touched later than it was looked at is in the log.
 */
static int start_log(const struct vm *vm, struct memory_save *save, struct riffle_error *error)
{
	struct page_set taken;
	int status = make_set(&taken, &save->taken, &vm->memory, error);

	return status ? status : add_logged(&taken, vm, error);
}

/*
 * A mark of the monitor is made before the page is written, which may be after it was copied here: so the marks stay,
 * and all marked pages are written again.
 */
static int copy_running(const struct vm *vm, struct memory_save *save, const struct writing *w,
			struct riffle_error *error)
{
	struct page_set copied;
	int status;

	if ((status = make_set(&copied, &save->copied, &vm->memory, error)) ||
	    (status = set_size(&vm->memory, save, error)))
		return status;
	return write_pages(w, save, &copied, error);
}

static bool is_in_memory(int fd)
{
	struct statfs fs;

	return fstatfs(fd, &fs) == 0 && fs.f_type == TMPFS_MAGIC;
}

/* Copying into pages that are there takes a third less. Elsewhere there are no pages to allocate, only blocks. */
static int allocate_pages(const struct memory_save *save, const struct writing *w, struct riffle_error *error)
{
	uint64_t from, to = 0;

	if (!is_in_memory(save->fd))
		return 0;
	while (next_run(w, to, &from, &to))
		if (fallocate(save->fd, FALLOC_FL_KEEP_SIZE, (off_t)(from * GUEST_PAGE),
			      (off_t)((to - from) * GUEST_PAGE)) < 0) {
			if (errno == EOPNOTSUPP || errno == EINTR)
				break; /* the writes allocate what is missing */
			return riffle_fail_system(error, errno, "memory file", "cannot be written");
		}
	return 0;
}

int memory_save_prepare(const struct vm *vm, struct memory_save *save, struct riffle_error *error)
{
	const struct guest_memory *memory = &vm->memory;
	struct page_set set;
	uint64_t *owner;
	int status;

	save->written = 0;
	save->was_unsaved = memory->unsaved;
	/* without a pagemap this would read, and so allocate, all of the guest's memory */
	if ((save->changed && !memory->unsaved) || !save->fresh || save->pagemap_fd < 0)
		return 0;
	if ((memory->dirty && (status = start_log(vm, save, error))) ||
	    (status = make_set(&set, &owner, memory, error)))
		return status;

	const struct writing w = {.set = &set, .start = guest_memory_start(memory), .leave_holes = true};

	add_touched(&set, memory, save->pagemap_fd);
	status = memory->dirty ? copy_running(vm, save, &w, error) : allocate_pages(save, &w, error);
	free(owner);
	return status;
}

int memory_save(struct vm *vm, struct memory_save *save, struct riffle_error *error)
{
	struct guest_memory *memory = &vm->memory;
	struct page_set set;
	uint64_t *owner;
	bool whole = false;
	int status;

	if (!save->copied)
		save->written = 0;
	save->was_unsaved = memory->unsaved;
	if ((status = make_set(&set, &owner, memory, error)))
		return status;

	const struct writing w = {
	    .set = &set, .start = guest_memory_start(memory), .leave_holes = save->fresh, .copied = save->copied};

	status = choose_pages(&set, vm, save, &whole, error);
	if (!status)
		status = set_size(memory, save, error);
	if (!status && whole && !save->fresh)
		add_range(&set, 0, set.pages); /* whatever the file had goes */
	if (!status)
		status = write_pages(&w, save, NULL, error);
	if (!status)
		memory->unsaved = false;
	if (save->taken)
		for (uint64_t i = 0; i < set.pages / 64; i++)
			set.bits[i] |= save->taken[i];
	free(save->taken);
	save->taken = owner;
	return status;
}

void memory_save_end(struct vm *vm, struct memory_save *save, bool kept)
{
	struct guest_memory *memory = &vm->memory;

	free(save->copied);
	save->copied = NULL;
	if (!save->taken)
		return;
	for (uint64_t i = 0; !kept && memory->dirty && i < guest_memory_bytes(memory) / GUEST_PAGE / 64; i++)
		atomic_fetch_or(&memory->dirty[i], save->taken[i]);
	if (!kept)
		memory->unsaved = save->was_unsaved;
	free(save->taken);
	save->taken = NULL;
}

void memory_mark_rings(const struct virtio_device *device)
{
	for (unsigned i = 0; device->active && i < device->ops->queue_count; i++) {
		const struct virtq *queue = &device->queues[i];

		/* flags and index, elements, avail_event */
		if (queue->ready && queue->used_at)
			guest_memory_mark(queue->memory, queue->used_at, 6 + 8 * (size_t)queue->size);
	}
}
