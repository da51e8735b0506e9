/* SPDX-License-Identifier: Apache-2.0 */
/* io-bench's rows for /dev/vda: reads, writes and flushes, bypassing the guest's page cache. */
#include <fcntl.h>
#include <linux/aio_abi.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "io.h"

enum { PAGE = 4096, MEGABYTE = 1 << 20, HUGE_PAGE = 2 << 20, DISK = 64 << 20, DEPTH = 32 };

static int disk = -1;
static uint8_t *buffer; /* of pages that lie anywhere */
static uint8_t *huge;   /* one huge page, in which a transfer has one segment */
static aio_context_t context;
static uint32_t seed;

static off_t some_page(void)
{
	seed = seed * 1103515245 + 12345;
	return (off_t)(seed >> 8) % (DISK / PAGE) * PAGE;
}

static void read_pages(unsigned count)
{
	while (count--)
		if (pread(disk, buffer, PAGE, some_page()) != PAGE)
			die("pread");
}

static void write_pages(unsigned count)
{
	while (count--)
		if (pwrite(disk, buffer, PAGE, some_page()) != PAGE)
			die("pwrite");
}

static void submit(struct iocb *requests, unsigned count)
{
	struct iocb *list[DEPTH];

	for (unsigned i = 0; i < count; i++) {
		requests[i].aio_offset = some_page();
		list[i] = &requests[i];
	}
	if (syscall(SYS_io_submit, context, (long)count, list) != (long)count)
		die("io_submit");
}

/* Keeps `count` reads in flight. */
static void read_deep(unsigned count)
{
	static struct iocb requests[DEPTH];
	struct io_event events[DEPTH];
	unsigned left = count > DEPTH ? count - DEPTH : 0, flying = count < DEPTH ? count : DEPTH;

	for (unsigned i = 0; i < DEPTH; i++)
		requests[i] = (struct iocb){.aio_lio_opcode = IOCB_CMD_PREAD,
					    .aio_fildes = (uint32_t)disk,
					    .aio_buf = (uintptr_t)buffer + (uint64_t)i * PAGE,
					    .aio_nbytes = PAGE};
	submit(requests, flying);
	while (flying) {
		long ended = syscall(SYS_io_getevents, context, 1L, (long)DEPTH, events, NULL);

		if (ended < 1)
			die("io_getevents");
		flying -= (unsigned)ended;
		unsigned more = left < (unsigned)ended ? left : (unsigned)ended;

		if (more)
			submit(requests, more);
		left -= more;
		flying += more;
	}
}

static void read_megabytes_into(uint8_t *memory, unsigned count)
{
	for (unsigned i = 0; i < count; i++)
		if (pread(disk, memory, MEGABYTE, (off_t)(i % 64) * MEGABYTE) != MEGABYTE)
			die("pread");
}

static void write_megabytes_from(const uint8_t *memory, unsigned count)
{
	for (unsigned i = 0; i < count; i++)
		if (pwrite(disk, memory, MEGABYTE, (off_t)(i % 64) * MEGABYTE) != MEGABYTE)
			die("pwrite");
}

static void read_megabytes(unsigned count)
{
	read_megabytes_into(buffer, count);
}

static void write_megabytes(unsigned count)
{
	write_megabytes_from(buffer, count);
}

static void read_huge(unsigned count)
{
	read_megabytes_into(huge, count);
}

static void write_huge(unsigned count)
{
	write_megabytes_from(huge, count);
}

static void flush(unsigned count)
{
	while (count--)
		if (fsync(disk))
			die("fsync");
}

const struct io_row disk_rows[] = {
    {"read 4K, depth 1", read_pages, 1},
    {"read 4K, depth 32", read_deep, 1},
    {"write 4K, depth 1", write_pages, 1},
    {"read, a MB", read_megabytes, 16},
    {"write, a MB", write_megabytes, 16},
    {"read, a MB, huge page", read_huge, 16},
    {"write, a MB, huge page", write_huge, 16},
    {"flush", flush, 1},
    {0},
};

bool disk_begin(void)
{
	for (int i = 0; i < 50 && disk < 0; i++) {
		disk = open("/dev/vda", O_RDWR | O_DIRECT);
		if (disk < 0)
			pass_ms(20);
	}
	if (disk < 0)
		return false;
	if (posix_memalign((void **)&buffer, PAGE, MEGABYTE) || syscall(SYS_io_setup, (long)DEPTH, &context))
		die("memory");
	memset(buffer, 1, MEGABYTE);
	if (posix_memalign((void **)&huge, HUGE_PAGE, HUGE_PAGE) || madvise(huge, HUGE_PAGE, MADV_HUGEPAGE))
		die("huge page");
	memset(huge, 1, HUGE_PAGE);
	seed = 1;
	return true;
}
