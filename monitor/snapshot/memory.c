/* SPDX-License-Identifier: Apache-2.0 */
/* Guest memory into a file: all that is not zero, or what changed. */
#include "monitor/snapshot/memory.h"

#include <errno.h>
#include <linux/kvm.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "common/fail.h"
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

/* Takes KVM's log, which starts anew, and the monitor's marks. */
static int add_dirty(struct page_set *set, struct vm *vm, struct riffle_error *error)
{
	struct guest_memory *memory = &vm->memory;
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
	for (uint64_t i = 0; i < set->pages / 64; i++)
		set->bits[i] |= atomic_exchange(&memory->dirty[i], 0);
	return 0;
}

static int choose_pages(struct page_set *set, struct vm *vm, struct memory_save *save, bool *whole,
			struct riffle_error *error)
{
	struct guest_memory *memory = &vm->memory;

	*whole = !save->changed || memory->unsaved;
	save->untracked = save->changed && memory->unsaved && !memory->dirty;
	if (memory->dirty) {
		int status = add_dirty(set, vm, error);

		if (status)
			return status;
	}
	if (*whole) {
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

static bool is_zero(const uint8_t *page)
{
	const uint64_t *word = (const uint64_t *)(const void *)page;

	for (unsigned i = 0; i < GUEST_PAGE / sizeof *word; i += 8)
		if (word[i] | word[i + 1] | word[i + 2] | word[i + 3] | word[i + 4] | word[i + 5] | word[i + 6] |
		    word[i + 7])
			return false;
	return true;
}

static int write_all(int fd, const uint8_t *from, uint64_t offset, size_t bytes, struct riffle_error *error)
{
	while (bytes) {
		ssize_t done = pwrite(fd, from, bytes, (off_t)offset);

		if (done < 0 && errno == EINTR)
			continue;
		if (done <= 0)
			return riffle_fail_system(error, done ? errno : ENOSPC, "memory file", "cannot be written");
		from += done;
		offset += (uint64_t)done;
		bytes -= (size_t)done;
	}
	return 0;
}

/* Runs of neighbours go in one call. Zeros stay a hole in a new file that gets all of the memory. */
static int write_pages(const struct page_set *set, const struct guest_memory *memory, struct memory_save *save,
		       bool leave_holes, struct riffle_error *error)
{
	const uint8_t *start = guest_memory_start(memory);
	int status = 0;

	for (uint64_t page = 0; !status && page < set->pages;) {
		uint64_t end = page;

		if (page % 64 == 0 && !set->bits[page / 64]) {
			page += 64;
			continue;
		}
		while (end < set->pages && end - page < WRITE_PAGES && has_page(set, end) &&
		       !(leave_holes && is_zero(start + end * GUEST_PAGE)))
			end++;
		if (end == page) {
			page++;
			continue;
		}
		status =
		    write_all(save->fd, start + page * GUEST_PAGE, page * GUEST_PAGE, (end - page) * GUEST_PAGE, error);
		save->written += (end - page) * GUEST_PAGE;
		page = end;
	}
	return status;
}

int memory_save(struct vm *vm, struct memory_save *save, struct riffle_error *error)
{
	struct guest_memory *memory = &vm->memory;
	struct page_set set = {.pages = guest_memory_bytes(memory) / GUEST_PAGE};
	bool whole;
	int status;

	save->written = 0;
	save->was_unsaved = memory->unsaved;
	save->taken = set.bits = calloc(set.pages / 64 + 1, sizeof *set.bits);
	if (!set.bits)
		return riffle_fail(error, RIFFLE_ERR_MEMORY, "pages", "out of memory");
	status = choose_pages(&set, vm, save, &whole, error);
	if (!status && ftruncate(save->fd, (off_t)guest_memory_bytes(memory)) < 0)
		status = riffle_fail_system(error, errno, "memory file", "cannot be made as large as the memory");
	if (!status && whole && !save->fresh)
		add_range(&set, 0, set.pages); /* whatever the file had goes */
	if (!status)
		status = write_pages(&set, memory, save, save->fresh, error);
	if (!status)
		memory->unsaved = false;
	return status;
}

void memory_save_end(struct vm *vm, struct memory_save *save, bool kept)
{
	struct guest_memory *memory = &vm->memory;

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
