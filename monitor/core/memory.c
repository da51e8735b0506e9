/* SPDX-License-Identifier: Apache-2.0 */
/* Guest RAM: one mapping, anonymous or of a file, split by the hole below 4 GiB into at most two ranges. */
#include "monitor/core/memory.h"

#include <cpuid.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <linux/mman.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <riffle/boot.h>

#include "common/fail.h"
#include "common/search.h"

#define ADDED_STEP (UINT64_C(1) << 30)

/*
 * An inaccessible reservation holds the RAM and at least one guard page on either side, so that an unchecked length
 * cannot reach another mapping. The RAM starts on a 2 MiB boundary of the host and at guest address 0 (its second range
 * at 3 GiB of the mapping and at guest address 4 GiB), so that the host can back it with huge pages and map them as
 * such in the guest.
 */
static int map_ram(struct guest_memory *memory, uint64_t bytes, uint8_t **ram, struct riffle_error *error)
{
	size_t reserve = bytes + 2 * GUEST_MEMORY_STEP;
	uint8_t *reservation = mmap(NULL, reserve, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	bool anonymous = memory->fd < 0 || memory->shared;
	/* without MAP_NORESERVE, so that too small a pool is an error here and not a SIGBUS later */
	int kind = memory->hugetlb ? MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB | MAP_HUGE_2MB
		   : anonymous     ? MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE
				   : MAP_PRIVATE | MAP_NORESERVE;

	if (reservation == MAP_FAILED)
		return riffle_fail_full(error, RIFFLE_ERR_MEMORY, errno, "guest memory", "cannot be mapped", 1, bytes,
					0, 0);
	uintptr_t start = ((uintptr_t)reservation + GUEST_MEMORY_STEP) & ~(uintptr_t)(GUEST_MEMORY_STEP - 1);

	*ram = reservation + (start - (uintptr_t)reservation);
	if (mmap(*ram, bytes, PROT_READ | PROT_WRITE, kind | MAP_FIXED, anonymous ? -1 : memory->fd, 0) == MAP_FAILED) {
		int saved = errno;

		munmap(reservation, reserve);
		if (memory->hugetlb)
			return riffle_fail_full(
			    error, RIFFLE_ERR_MEMORY, saved, "huge_pages",
			    "2M: the host's pool (/proc/sys/vm/nr_hugepages) has too few free pages of "
			    "2 MiB for the guest's memory",
			    0, 0, 0, 0);
		return riffle_fail_full(error, RIFFLE_ERR_MEMORY, saved, "guest memory", "cannot be mapped", 1, bytes,
					0, 0);
	}
	memory->reservation = reservation;
	memory->reservation_bytes = reserve;
	return 0;
}

static int check_size(uint64_t bytes, struct riffle_error *error)
{
	if (bytes < GUEST_MEMORY_STEP || bytes > GUEST_MEMORY_MAX)
		return riffle_fail_expected(error, RIFFLE_ERR_ARGUMENT, "memory_bytes",
					    bytes < GUEST_MEMORY_STEP ? "too small" : "too large", bytes,
					    bytes < GUEST_MEMORY_STEP ? GUEST_MEMORY_STEP : GUEST_MEMORY_MAX);
	if (bytes % GUEST_MEMORY_STEP)
		return riffle_fail_expected(error, RIFFLE_ERR_ARGUMENT, "memory_bytes", "not a multiple of 2 MiB",
					    bytes, GUEST_MEMORY_STEP);
	return 0;
}

static int map(struct guest_memory *memory, uint64_t bytes, uint8_t **ram, struct riffle_error *error)
{
	int status = map_ram(memory, bytes, ram, error);

	if (status)
		return status;
	/* no MADV_DONTFORK: nothing forks once there is guest memory; passt is spawned, which copies no page tables */
	madvise(*ram, bytes, MADV_DONTDUMP);
	uint64_t low = bytes < RIFFLE_BOOT_HOLE_START ? bytes : RIFFLE_BOOT_HOLE_START;

	memory->ram[0] = (struct riffle_ram){.address = 0, .bytes = low, .host = *ram};
	memory->count = 1;
	if (bytes > low) {
		memory->ram[1] =
		    (struct riffle_ram){.address = RIFFLE_BOOT_HOLE_END, .bytes = bytes - low, .host = *ram + low};
		memory->count = 2;
	}
	return 0;
}

/*
 * Only advice: the guest also runs on a host that ignores it. The first 2 MiB are left out: only a dozen of their pages
 * are written before the guest starts, which is cheaper than clearing a huge page.
 */
static void advise_huge(uint8_t *ram, uint64_t bytes)
{
	if (bytes > GUEST_MEMORY_STEP)
		madvise(ram + GUEST_MEMORY_STEP, bytes - GUEST_MEMORY_STEP, MADV_HUGEPAGE);
}

int guest_memory_map(struct guest_memory *memory, uint64_t bytes, enum guest_pages pages, struct riffle_error *error)
{
	uint8_t *ram;
	int status = check_size(bytes, error);

	*memory = (struct guest_memory){.fd = -1, .unsaved = true, .hugetlb = pages == GUEST_PAGES_HUGETLB};
	if (status || (status = map(memory, bytes, &ram, error)))
		return status;
	if (pages == GUEST_PAGES_TRANSPARENT)
		advise_huge(ram, bytes);
	return 0;
}

/* The file's next extent with data, including holes of up to `gap` bytes; false: there is none. */
static bool next_extent(int fd, uint64_t at, uint64_t end, uint64_t gap, struct guest_memory_extent *extent)
{
	off_t from = lseek(fd, (off_t)at, SEEK_DATA), to;

	if (from < 0 || (uint64_t)from >= end)
		return false;
	extent->from = (uint64_t)from & ~(uint64_t)(GUEST_PAGE - 1);
	for (extent->to = (uint64_t)from; from >= 0 && (uint64_t)from < end && (uint64_t)from - extent->to <= gap;
	     from = lseek(fd, (off_t)extent->to, SEEK_DATA)) {
		to = lseek(fd, from, SEEK_HOLE);
		extent->to =
		    to < 0 || (uint64_t)to > end ? end : ((uint64_t)to + GUEST_PAGE - 1) & ~(uint64_t)(GUEST_PAGE - 1);
		if (extent->to == end)
			break;
	}
	return true;
}

size_t guest_memory_find_extents(int fd, uint64_t end, uint64_t gap,
				 struct guest_memory_extent extents[GUEST_MEMORY_EXTENTS_MAX])
{
	size_t count = 0;

	for (uint64_t at = 0; count <= GUEST_MEMORY_EXTENTS_MAX && at < end; count++) {
		struct guest_memory_extent extent;

		if (!next_extent(fd, at, end, gap, &extent))
			break;
		if (count < GUEST_MEMORY_EXTENTS_MAX)
			extents[count] = extent;
		at = extent.to;
	}
	return count;
}

static int map_extent(struct guest_memory *memory, uint8_t *ram, const struct guest_memory_extent *extent,
		      struct riffle_error *error)
{
	uint64_t bytes = extent->to - extent->from;

	if (mmap(ram + extent->from, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, memory->fd,
		 (off_t)extent->from) == MAP_FAILED)
		return riffle_fail_full(error, RIFFLE_ERR_MEMORY, errno, "guest memory", "cannot be mapped", 1, bytes,
					0, 0);
	return 0;
}

/* Reserves space for guest writes into the gaps: on a full disk they would end the process with SIGBUS. */
static bool has_room(const struct guest_memory *memory)
{
	uint64_t needed = 0;
	struct statvfs fs;
	struct stat st;

	for (size_t i = 0; i < memory->extent_count; i++)
		needed += memory->extents[i].to - memory->extents[i].from;
	if (fstat(memory->fd, &st) < 0 || fstatvfs(memory->fd, &fs) < 0)
		return false;
	/* fail before filling the disk */
	if (fs.f_blocks && needed > (uint64_t)st.st_blocks * 512 + (uint64_t)fs.f_bavail * fs.f_frsize)
		return false;
	for (size_t i = 0; i < memory->extent_count; i++) {
		const struct guest_memory_extent *e = &memory->extents[i];

		if (fallocate(memory->fd, 0, (off_t)e->from, (off_t)(e->to - e->from)) < 0)
			return false;
	}
	return true;
}

/* Copies the file's data into anonymous memory. A private mapping would still allocate the holes of a tmpfs file. */
static int copy_extents(struct guest_memory *memory, struct riffle_error *error)
{
	for (size_t i = 0; i < memory->extent_count; i++) {
		const struct guest_memory_extent *e = &memory->extents[i];

		for (uint64_t at = e->from; at < e->to;) {
			ssize_t got = pread(memory->fd, guest_memory_start(memory) + at, e->to - at, (off_t)at);

			if (got < 0 && errno == EINTR)
				continue;
			if (got <= 0)
				return riffle_fail_system(error, got ? errno : ENODATA, "memory file",
							  "cannot be read");
			at += (uint64_t)got;
		}
	}
	close(memory->fd);
	memory->fd = -1;
	memory->shared = false;
	memory->unsaved = true;
	memory->extent_count = 0;
	return 0;
}

/* Returns the size of the holes that are among them. */
static uint64_t search_extents(struct guest_memory *memory, uint64_t bytes)
{
	uint64_t gap = 0;

	while ((memory->extent_count = guest_memory_find_extents(memory->fd, bytes, gap, memory->extents)) >
	       GUEST_MEMORY_EXTENTS_MAX)
		gap = gap ? 4 * gap : 4 * GUEST_PAGE;
	return gap;
}

/* Maps the data of a file that only this guest uses, over anonymous memory. */
static int map_extents(struct guest_memory *memory, const struct guest_memory_file *file, uint64_t bytes,
		       struct riffle_error *error)
{
	uint8_t *ram = guest_memory_start(memory);
	int status = 0;

	memory->extents = malloc(GUEST_MEMORY_EXTENTS_MAX * sizeof *memory->extents);
	if (!memory->extents)
		return riffle_fail(error, RIFFLE_ERR_MEMORY, "guest memory", "out of memory");
	if (file->extents) {
		memory->extent_count = file->extent_count;
		memcpy(memory->extents, file->extents, file->extent_count * sizeof *file->extents);
	} else if (search_extents(memory, bytes) && !has_room(memory)) {
		return copy_extents(memory, error);
	}
	for (size_t i = 0; !status && i < memory->extent_count; i++)
		status = map_extent(memory, ram, &memory->extents[i], error);
	madvise(ram, bytes, MADV_DONTDUMP);
	return status;
}

int guest_memory_map_file(struct guest_memory *memory, uint64_t bytes, const struct guest_memory_file *file,
			  struct riffle_error *error)
{
	struct stat st;
	uint8_t *ram;
	int status = check_size(bytes, error);

	*memory = (struct guest_memory){.fd = file->fd, .shared = file->shared};
	if (!status && fstat(file->fd, &st) < 0)
		status = riffle_fail_system(error, errno, "memory file", "fstat failed");
	else if (!status && !S_ISREG(st.st_mode))
		status = riffle_fail(error, RIFFLE_ERR_FORMAT, "memory file", "is not a regular file");
	else if (!status && (uint64_t)st.st_size != bytes)
		status = riffle_fail_expected(error, RIFFLE_ERR_FORMAT, "memory file",
					      "differs in size from the guest's memory", (uint64_t)st.st_size, bytes);
	if (!status)
		status = map(memory, bytes, &ram, error);
	if (!status && memory->shared) {
		if (file->huge_pages)
			advise_huge(ram, bytes);
		status = map_extents(memory, file, bytes, error);
	}
	if (status)
		guest_memory_unmap(memory);
	return status;
}

void guest_memory_unmap(struct guest_memory *memory)
{
	if (memory->reservation)
		munmap(memory->reservation, memory->reservation_bytes);
	if (memory->fd >= 0 && (memory->reservation || memory->fd > 0))
		close(memory->fd);
	free(memory->dirty);
	free(memory->extents);
	*memory = (struct guest_memory){.fd = -1};
}

uint8_t *guest_memory_start(const struct guest_memory *memory)
{
	return memory->ram[0].host;
}

uint64_t guest_memory_bytes(const struct guest_memory *memory)
{
	uint64_t bytes = 0;

	for (size_t i = 0; i < memory->count; i++)
		bytes += memory->ram[i].bytes;
	return bytes;
}

int guest_memory_track(struct guest_memory *memory, struct riffle_error *error)
{
	memory->dirty = calloc((guest_memory_bytes(memory) / GUEST_PAGE + 63) / 64, sizeof *memory->dirty);
	return memory->dirty ? 0 : riffle_fail(error, RIFFLE_ERR_MEMORY, "dirty pages", "out of memory");
}

void guest_memory_mark_pages(const struct guest_memory *memory, const void *at, size_t bytes)
{
	size_t offset = (size_t)((const uint8_t *)at - guest_memory_start(memory));

	/* memory added by devices is never saved */
	if (!bytes || offset >= guest_memory_bytes(memory))
		return;
	for (size_t page = offset / GUEST_PAGE; page <= (offset + bytes - 1) / GUEST_PAGE; page++) {
		uint64_t bit = UINT64_C(1) << page % 64;

		/* most buffers are reused: testing the bit is cheaper than a locked write */
		if (!(atomic_load_explicit(&memory->dirty[page / 64], memory_order_relaxed) & bit))
			atomic_fetch_or_explicit(&memory->dirty[page / 64], bit, memory_order_relaxed);
	}
}

/* The first extent that ends after `offset`, or the end of the array. */
static const struct guest_memory_extent *extent_after(const struct guest_memory *memory, uint64_t offset)
{
	size_t index;

	RIFFLE_FIRST_WHERE(index, memory->extent_count, memory->extents[index].to > offset);
	return memory->extents + index;
}

/* The range may be partly file-backed and partly anonymous. */
static bool discard_shared(const struct guest_memory *memory, uint64_t from, uint64_t to)
{
	const struct guest_memory_extent *end = memory->extents + memory->extent_count;
	uint8_t *start = guest_memory_start(memory);
	bool good = true;

	for (const struct guest_memory_extent *e = extent_after(memory, from); from < to;) {
		bool of_file = e < end && e->from <= from;
		uint64_t until = of_file ? e->to : e < end ? e->from : to;

		until = until < to ? until : to;
		good &= madvise(start + from, until - from, of_file ? MADV_REMOVE : MADV_DONTNEED) == 0;
		e += of_file && until == e->to;
		from = until;
	}
	return good;
}

bool guest_memory_discard(const struct guest_memory *memory, void *at, size_t bytes)
{
	guest_memory_mark(memory, at, bytes);
	if (memory->hugetlb && ((uintptr_t)at % GUEST_MEMORY_STEP || bytes % GUEST_MEMORY_STEP))
		return false;
	if (memory->fd < 0)
		return madvise(at, bytes, MADV_DONTNEED) == 0;
	if (memory->shared) {
		uint64_t from = (uint64_t)((uint8_t *)at - guest_memory_start(memory));

		return discard_shared(memory, from, from + bytes);
	}
	/* dropping the page would expose the file's content again */
	return mmap(at, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1,
		    0) != MAP_FAILED;
}

/*
 * GUEST_MEMORY_ADDED_FROM, or half the host CPU's address space if that is less: client processors have 39 bits (512
 * GiB).
 */
static uint64_t added_from(void)
{
	unsigned eax = 0, ebx, ecx, edx;
	unsigned bits = __get_cpuid(0x80000008, &eax, &ebx, &ecx, &edx) ? eax & 0xff : 0;

	return bits >= 33 && bits < 40 ? UINT64_C(1) << (bits - 1) : GUEST_MEMORY_ADDED_FROM;
}

uint64_t guest_memory_next_added(const struct guest_memory *memory)
{
	const struct riffle_ram *last =
	    memory->added_count ? &memory->added[memory->added_count - 1] : &memory->ram[memory->count - 1];
	uint64_t end = (last->address + last->bytes + ADDED_STEP - 1) & ~(ADDED_STEP - 1);

	uint64_t from = added_from();

	return end > from ? end : from;
}

int guest_memory_add(struct guest_memory *memory, const struct riffle_ram *region, bool read_only,
		     struct riffle_error *error)
{
	if (memory->added_count == GUEST_MEMORY_ADDED_MAX)
		return riffle_fail_expected(error, RIFFLE_ERR_ARGUMENT, "pmem", "has too many devices",
					    memory->added_count + 1, GUEST_MEMORY_ADDED_MAX);
	memory->added_read_only[memory->added_count] = read_only;
	memory->added[memory->added_count++] = *region;
	return 0;
}

static int register_one(int vm_fd, uint32_t slot, const struct riffle_ram *ram, uint32_t flags,
			struct riffle_error *error)
{
	struct kvm_userspace_memory_region region = {
	    .slot = slot,
	    .flags = flags,
	    .guest_phys_addr = ram->address,
	    .memory_size = ram->bytes,
	    .userspace_addr = (uintptr_t)ram->host,
	};

	if (ioctl(vm_fd, KVM_SET_USER_MEMORY_REGION, &region) < 0)
		return riffle_fail_system(error, errno, "KVM_SET_USER_MEMORY_REGION", "failed");
	return 0;
}

int guest_memory_register(const struct guest_memory *memory, int vm_fd, struct riffle_error *error)
{
	int status = 0;

	for (size_t i = 0; !status && i < memory->count; i++)
		status = register_one(vm_fd, (uint32_t)i, &memory->ram[i], memory->dirty ? KVM_MEM_LOG_DIRTY_PAGES : 0,
				      error);
	for (size_t i = 0; !status && i < memory->added_count; i++)
		status = register_one(vm_fd, (uint32_t)(memory->count + i), &memory->added[i],
				      memory->added_read_only[i] ? KVM_MEM_READONLY : 0, error);
	/* if KVM cannot (KVM_CAP_READONLY_MEM) or will not, reads cause exits */
	if (!status && memory->registers.bytes)
		register_one(vm_fd, (uint32_t)(memory->count + memory->added_count), &memory->registers,
			     KVM_MEM_READONLY, NULL);
	return status;
}

static void *find(const struct riffle_ram *list, size_t count, uint64_t gpa, uint64_t bytes)
{
	for (size_t i = 0; i < count; i++) {
		const struct riffle_ram *ram = &list[i];

		if (gpa >= ram->address && gpa - ram->address < ram->bytes)
			return bytes <= ram->bytes - (gpa - ram->address) ? (uint8_t *)ram->host + (gpa - ram->address)
									  : NULL;
	}
	return NULL;
}

void *guest_memory_at(const struct guest_memory *memory, uint64_t gpa, uint64_t bytes)
{
	if (memory->added_count && gpa >= memory->added[0].address)
		return find(memory->added, memory->added_count, gpa, bytes);
	return find(memory->ram, memory->count, gpa, bytes);
}

bool guest_memory_read(const struct guest_memory *memory, uint64_t gpa, void *data, size_t bytes)
{
	const void *at = guest_memory_at(memory, gpa, bytes);

	if (at)
		memcpy(data, at, bytes);
	return at != NULL;
}

bool guest_memory_write(const struct guest_memory *memory, uint64_t gpa, const void *data, size_t bytes)
{
	void *at = guest_memory_at(memory, gpa, bytes);

	if (!at)
		return false;
	guest_memory_mark(memory, at, bytes);
	memcpy(at, data, bytes);
	return true;
}
