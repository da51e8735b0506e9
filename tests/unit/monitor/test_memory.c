/* SPDX-License-Identifier: Apache-2.0 */
/* Guest RAM: its sizes and ranges, what is around it, translation, dirty pages, and files with holes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include <riffle/boot.h>

#include "monitor/core/memory.h"

#define MIB (UINT64_C(1) << 20)
#define GIB (UINT64_C(1) << 30)
#define PAGE GUEST_PAGE

static struct guest_memory memory;
static struct riffle_error error;
static int probe[2]; /* a pipe: the kernel reads from memory for it, without a signal where there is none */

static int set_up(void **state)
{
	(void)state;
	return pipe(probe);
}

static int tear_down(void **state)
{
	(void)state;
	close(probe[0]);
	close(probe[1]);
	return 0;
}

static bool is_readable(const uint8_t *at)
{
	char byte;

	return write(probe[1], at, 1) == 1 && read(probe[0], &byte, 1) == 1;
}

static void map(uint64_t bytes)
{
	assert_int_equal(guest_memory_map(&memory, bytes, GUEST_PAGES_SMALL, &error), 0);
}

static void refuse_size(uint64_t bytes, uint64_t expected)
{
	assert_int_equal(guest_memory_map(&memory, bytes, GUEST_PAGES_SMALL, &error), RIFFLE_ERR_ARGUMENT);
	assert_string_equal(error.field, "memory_bytes");
	assert_int_equal(error.found, bytes);
	assert_int_equal(error.expected, expected);
	assert_null(memory.reservation);
}

static void test_sizes(void **state)
{
	(void)state;
	refuse_size(0, 2 * MIB);
	refuse_size(2 * MIB - 1, 2 * MIB);
	refuse_size(2 * MIB + PAGE, 2 * MIB);
	refuse_size(4096 * GIB + 2 * MIB, 4096 * GIB);
	map(2 * MIB);
	assert_int_equal(guest_memory_bytes(&memory), 2 * MIB);
	guest_memory_unmap(&memory);
	if (!guest_memory_map(&memory, 4096 * GIB, GUEST_PAGES_SMALL, &error))
		guest_memory_unmap(&memory);
	else
		assert_int_equal(error.status, RIFFLE_ERR_MEMORY); /* as on a host that commits no more than it has */
}

/* One range up to the hole below 4 GiB, and what is more from 4 GiB on; nothing before or behind them in the monitor.
 */
static void test_ranges(void **state)
{
	static const uint64_t sizes[] = {2 * MIB, 64 * MIB, 3 * GIB - 2 * MIB, 3 * GIB, 3 * GIB + 2 * MIB, 5 * GIB};

	(void)state;
	for (unsigned i = 0; i < sizeof sizes / sizeof *sizes; i++) {
		uint64_t bytes = sizes[i], low = bytes < 3 * GIB ? bytes : 3 * GIB;
		uint8_t *start;

		assert_int_equal(
		    guest_memory_map(&memory, bytes, i % 2 ? GUEST_PAGES_TRANSPARENT : GUEST_PAGES_SMALL, &error), 0);
		start = guest_memory_start(&memory);
		assert_int_equal((uintptr_t)start % (2 * MIB), 0);
		assert_int_equal(memory.count, bytes > 3 * GIB ? 2 : 1);
		assert_int_equal(memory.ram[0].address, 0);
		assert_int_equal(memory.ram[0].bytes, low);
		if (memory.count == 2) {
			assert_int_equal(memory.ram[1].address, 4 * GIB);
			assert_int_equal(memory.ram[1].bytes, bytes - low);
			assert_ptr_equal(memory.ram[1].host, start + low);
		}
		assert_int_equal(guest_memory_bytes(&memory), bytes);
		assert_true(is_readable(start) && is_readable(start + bytes - 1));
		assert_false(is_readable(start - 1) || is_readable(start - PAGE));
		assert_false(is_readable(start + bytes) || is_readable(start + bytes + PAGE - 1));
		assert_true(memory.unsaved);
		guest_memory_unmap(&memory);
		assert_int_equal(memory.count, 0);
		assert_false(is_readable(start));
	}
}

static void test_translation(void **state)
{
	uint8_t *start, data[4] = {1, 2, 3, 4};

	(void)state;
	map(3 * GIB + 4 * MIB);
	start = guest_memory_start(&memory);
	assert_ptr_equal(guest_memory_at(&memory, 0, 1), start);
	assert_ptr_equal(guest_memory_at(&memory, 0, 3 * GIB), start);
	assert_null(guest_memory_at(&memory, 0, 3 * GIB + 1));
	assert_ptr_equal(guest_memory_at(&memory, 3 * GIB - 1, 1), start + 3 * GIB - 1);
	assert_ptr_equal(guest_memory_at(&memory, 3 * GIB - 1, 0), start + 3 * GIB - 1);
	assert_null(guest_memory_at(&memory, 3 * GIB - 1, 2));
	assert_null(guest_memory_at(&memory, 3 * GIB, 1));
	assert_null(guest_memory_at(&memory, 3 * GIB, 0));
	assert_null(guest_memory_at(&memory, 4 * GIB - 1, 1));
	assert_ptr_equal(guest_memory_at(&memory, 4 * GIB, 4 * MIB), start + 3 * GIB);
	assert_null(guest_memory_at(&memory, 4 * GIB, 4 * MIB + 1));
	assert_ptr_equal(guest_memory_at(&memory, 4 * GIB + 4 * MIB - 1, 1), start + 3 * GIB + 4 * MIB - 1);
	assert_null(guest_memory_at(&memory, 4 * GIB + 4 * MIB, 1));
	assert_null(guest_memory_at(&memory, UINT64_MAX, 1));
	assert_null(guest_memory_at(&memory, UINT64_MAX, UINT64_MAX));
	assert_null(guest_memory_at(&memory, 1, UINT64_MAX));

	assert_true(guest_memory_write(&memory, 4 * GIB + 4 * MIB - 4, data, 4));
	memset(data, 9, 4);
	assert_false(guest_memory_write(&memory, 4 * GIB + 4 * MIB - 3, data, 4));
	assert_false(guest_memory_read(&memory, 4 * GIB + 4 * MIB - 3, data, 4));
	assert_memory_equal(data, "\11\11\11\11", 4);
	assert_true(guest_memory_read(&memory, 4 * GIB + 4 * MIB - 4, data, 4));
	assert_memory_equal(data, "\1\2\3\4", 4);
	guest_memory_unmap(&memory);
}

/* Memory of devices: at whole GiBs above all RAM, and reached like RAM. */
static void test_added(void **state)
{
	static uint8_t bytes[64];
	struct riffle_ram region;
	uint64_t from, at;

	(void)state;
	map(64 * MIB);
	from = guest_memory_next_added(&memory);
	assert_int_equal(from % GIB, 0);
	assert_in_range(from, 4 * GIB, 512 * GIB);
	region = (struct riffle_ram){from, GIB, bytes};
	assert_int_equal(guest_memory_add(&memory, &region, false, &error), 0);
	assert_int_equal(guest_memory_next_added(&memory), from + GIB);
	region = (struct riffle_ram){from + GIB, GIB + PAGE, bytes};
	assert_int_equal(guest_memory_add(&memory, &region, true, &error), 0);
	assert_int_equal(guest_memory_next_added(&memory), from + 3 * GIB);
	assert_false(memory.added_read_only[0]);
	assert_true(memory.added_read_only[1]);
	region = (struct riffle_ram){from + 3 * GIB, sizeof bytes, bytes};
	assert_int_equal(guest_memory_add(&memory, &region, false, &error), 0);
	assert_ptr_equal(guest_memory_at(&memory, from + 3 * GIB + 1, sizeof bytes - 1), bytes + 1);
	assert_null(guest_memory_at(&memory, from + 3 * GIB + 1, sizeof bytes));
	assert_null(guest_memory_at(&memory, from - 1, 1));
	assert_ptr_equal(guest_memory_at(&memory, 0, 1), guest_memory_start(&memory));
	while (memory.added_count < GUEST_MEMORY_ADDED_MAX) {
		at = guest_memory_next_added(&memory);
		region = (struct riffle_ram){at, 1, bytes};
		assert_int_equal(guest_memory_add(&memory, &region, false, &error), 0);
		assert_int_equal(guest_memory_next_added(&memory), at + GIB);
	}
	assert_int_equal(guest_memory_add(&memory, &region, false, &error), RIFFLE_ERR_ARGUMENT);
	assert_int_equal(error.found, GUEST_MEMORY_ADDED_MAX + 1);
	assert_int_equal(error.expected, GUEST_MEMORY_ADDED_MAX);
	guest_memory_unmap(&memory);

	/* above more RAM than that */
	if (guest_memory_map(&memory, 600 * GIB, GUEST_PAGES_SMALL, &error))
		return;
	assert_int_equal(guest_memory_next_added(&memory), 601 * GIB);
	guest_memory_unmap(&memory);
}

static uint64_t dirty_pages(void)
{
	uint64_t pages = 0;

	for (uint64_t i = 0; i < guest_memory_bytes(&memory) / PAGE / 64; i++)
		pages += (uint64_t)__builtin_popcountll(memory.dirty[i]);
	return pages;
}

static bool is_dirty(uint64_t page)
{
	return memory.dirty[page / 64] >> page % 64 & 1;
}

static void test_dirty_pages(void **state)
{
	uint8_t *start, other;

	(void)state;
	map(4 * MIB);
	start = guest_memory_start(&memory);
	guest_memory_mark(&memory, start, 1); /* nothing is tracked */
	assert_int_equal(guest_memory_track(&memory, &error), 0);
	assert_int_equal(dirty_pages(), 0);
	guest_memory_mark(&memory, start + 5 * PAGE, 0);
	assert_int_equal(dirty_pages(), 0);
	guest_memory_mark(&memory, start + 5 * PAGE, 1);
	assert_true(dirty_pages() == 1 && is_dirty(5));
	guest_memory_mark(&memory, start + 63 * PAGE, PAGE);
	assert_true(dirty_pages() == 2 && is_dirty(63));
	guest_memory_mark(&memory, start + 64 * PAGE - 1, 2);
	assert_true(dirty_pages() == 3 && is_dirty(64));
	guest_memory_mark(&memory, start + 100 * PAGE + 1, PAGE);
	assert_true(dirty_pages() == 5 && is_dirty(100) && is_dirty(101));
	guest_memory_mark(&memory, start + 1023 * PAGE, PAGE);
	assert_true(dirty_pages() == 6 && is_dirty(1023));
	guest_memory_mark(&memory, start + 4 * MIB, 1);
	guest_memory_mark(&memory, &other, 1);
	guest_memory_mark(&memory, start + 5 * PAGE, 1);
	assert_int_equal(dirty_pages(), 6);
	assert_true(guest_memory_write(&memory, 200 * PAGE - 2, "abcd", 4));
	assert_true(dirty_pages() == 8 && is_dirty(199) && is_dirty(200));
	assert_true(guest_memory_discard(&memory, start + 300 * PAGE, 2 * PAGE));
	assert_true(dirty_pages() == 10 && is_dirty(300) && is_dirty(301));
	guest_memory_unmap(&memory);
	/* each page by itself, from the last one to the first, whatever others are dirty */
	map(4 * MIB);
	assert_int_equal(guest_memory_track(&memory, &error), 0);
	for (unsigned page = 1024; page-- > 0;) {
		guest_memory_mark(&memory, guest_memory_start(&memory) + page * PAGE, 1);
		assert_true(is_dirty(page));
		assert_int_equal(dirty_pages(), 1024 - page);
	}
	guest_memory_unmap(&memory);
}

/* Three pages, of which the middle one is discarded, at a place of the memory. */
static void check_discard(uint64_t at)
{
	uint8_t *start = guest_memory_start(&memory) + at;

	memset(start, 1, 3 * PAGE);
	assert_true(guest_memory_discard(&memory, start + PAGE, PAGE));
	for (unsigned i = 0; i < 3 * PAGE; i++)
		assert_int_equal(start[i], i / PAGE != 1);
}

static void test_discard(void **state)
{
	(void)state;
	map(4 * MIB);
	check_discard(64 * PAGE);
	/* of pages of 2 MiB only whole ones can be discarded */
	memory.hugetlb = true;
	assert_false(guest_memory_discard(&memory, guest_memory_start(&memory) + PAGE, 2 * MIB));
	assert_false(guest_memory_discard(&memory, guest_memory_start(&memory), PAGE));
	assert_int_equal(guest_memory_start(&memory)[64 * PAGE], 1);
	assert_true(guest_memory_discard(&memory, guest_memory_start(&memory), 2 * MIB));
	assert_int_equal(guest_memory_start(&memory)[64 * PAGE], 0);
	guest_memory_unmap(&memory);
}

/* --- files --- */

/* A file of 4 MiB with 'a' in `count` pages from `first` on, `step` apart, and holes between them. */
static int make_file(unsigned first, unsigned count, unsigned step)
{
	int fd = memfd_create("memory", MFD_CLOEXEC);
	uint8_t page[PAGE];

	memset(page, 'a', sizeof page);
	assert_int_equal(ftruncate(fd, 4 * MIB), 0);
	for (unsigned i = 0; i < count; i++)
		assert_int_equal(pwrite(fd, page, PAGE, (off_t)(first + i * step) * PAGE), PAGE);
	return fd;
}

static void map_file(int fd, bool shared)
{
	const struct guest_memory_file file = {.fd = dup(fd), .shared = shared};

	assert_int_equal(guest_memory_map_file(&memory, 4 * MIB, &file, &error), 0);
}

static uint8_t in_file(int fd, uint64_t at)
{
	uint8_t byte;

	assert_int_equal(pread(fd, &byte, 1, (off_t)at), 1);
	return byte;
}

static void test_private_file(void **state)
{
	int fd = make_file(2, 4, 1);

	(void)state;
	map_file(fd, false);
	assert_false(memory.unsaved);
	assert_int_equal(guest_memory_start(&memory)[2 * PAGE], 'a');
	assert_int_equal(guest_memory_start(&memory)[6 * PAGE], 0);
	check_discard(2 * PAGE);
	for (unsigned i = 2; i < 6; i++)
		assert_int_equal(in_file(fd, i * PAGE), 'a');
	guest_memory_unmap(&memory);
	close(fd);
}

/* Data is shared with the file; its holes are the guest's own. */
static void test_shared_file(void **state)
{
	int fd = make_file(8, 4, 1);
	uint8_t *start;

	(void)state;
	map_file(fd, true);
	start = guest_memory_start(&memory);
	assert_int_equal(memory.extent_count, 1);
	assert_int_equal(memory.extents[0].from, 8 * PAGE);
	assert_int_equal(memory.extents[0].to, 12 * PAGE);
	start[8 * PAGE] = 'b';
	start[12 * PAGE - 1] = 'c';
	start[8 * PAGE - 1] = start[12 * PAGE] = 'd';
	assert_int_equal(in_file(fd, 8 * PAGE), 'b');
	assert_int_equal(in_file(fd, 12 * PAGE - 1), 'c');
	assert_int_equal(in_file(fd, 8 * PAGE - 1), 0);
	assert_int_equal(in_file(fd, 12 * PAGE), 0);
	/* discarded in the file, beside it, and over both its edges */
	check_discard(9 * PAGE);
	check_discard(2 * PAGE);
	check_discard(20 * PAGE);
	memset(start + 6 * PAGE, 1, 8 * PAGE);
	assert_true(guest_memory_discard(&memory, start + 7 * PAGE, 6 * PAGE));
	for (unsigned i = 0; i < 8 * PAGE; i++)
		assert_int_equal(start[6 * PAGE + i], i < PAGE || i >= 7 * PAGE);
	assert_int_equal(in_file(fd, 8 * PAGE), 0);
	guest_memory_unmap(&memory);
	close(fd);
}

/* Up to the end of the file, several stretches, and none. */
static void test_extents(void **state)
{
	int fd = make_file(1020, 4, 1);

	(void)state;
	map_file(fd, true);
	assert_int_equal(memory.extent_count, 1);
	assert_int_equal(memory.extents[0].to, 4 * MIB);
	guest_memory_unmap(&memory);
	close(fd);

	fd = make_file(0, 3, 300);
	map_file(fd, true);
	assert_int_equal(memory.extent_count, 3);
	for (unsigned i = 0; i < 3; i++) {
		assert_int_equal(memory.extents[i].from, i * 300 * PAGE);
		assert_int_equal(memory.extents[i].to, (i * 300 + 1) * PAGE);
	}
	/* across all of them */
	memset(guest_memory_start(&memory), 1, 4 * MIB);
	assert_true(guest_memory_discard(&memory, guest_memory_start(&memory), 4 * MIB));
	for (uint64_t at = 0; at < 4 * MIB; at += PAGE)
		assert_int_equal(guest_memory_start(&memory)[at], 0);
	guest_memory_unmap(&memory);
	close(fd);

	fd = make_file(0, 0, 1);
	map_file(fd, true);
	assert_int_equal(memory.extent_count, 0);
	check_discard(8 * PAGE);
	guest_memory_unmap(&memory);
	close(fd);
}

/* More stretches than are mapped one by one: those with small holes between them are one. */
static void test_many_extents(void **state)
{
	int fd = make_file(0, 512, 2);

	(void)state;
	map_file(fd, true);
	assert_int_equal(memory.extent_count, 512);
	guest_memory_unmap(&memory);
	close(fd);

	fd = make_file(0, 512, 2);
	assert_int_equal(ftruncate(fd, 8 * MIB), 0);
	assert_int_equal(pwrite(fd, "a", 1, 7 * MIB), 1);
	{
		const struct guest_memory_file file = {.fd = dup(fd), .shared = true};

		assert_int_equal(guest_memory_map_file(&memory, 8 * MIB, &file, &error), 0);
	}
	assert_int_equal(memory.extent_count, 2);
	assert_int_equal(memory.extents[0].from, 0);
	assert_int_equal(memory.extents[0].to, 1023 * PAGE);
	assert_int_equal(memory.extents[1].from, 7 * MIB);
	guest_memory_start(&memory)[PAGE] = 'b'; /* was a hole, and is the file's now */
	assert_int_equal(in_file(fd, PAGE), 'b');
	assert_int_equal(guest_memory_start(&memory)[2 * PAGE], 'a');
	guest_memory_unmap(&memory);
	close(fd);
}

/* What the caller knows is not searched for. */
static void test_known_extents(void **state)
{
	const struct guest_memory_extent known[2] = {{8 * PAGE, 9 * PAGE}, {11 * PAGE, 12 * PAGE}};
	int fd = make_file(8, 4, 1);
	const struct guest_memory_file file = {.fd = dup(fd), .shared = true, .extents = known, .extent_count = 2};

	(void)state;
	assert_int_equal(guest_memory_map_file(&memory, 4 * MIB, &file, &error), 0);
	assert_int_equal(memory.extent_count, 2);
	assert_int_equal(memory.extents[1].from, 11 * PAGE);
	for (unsigned i = 7; i < 13; i++) {
		assert_int_equal(guest_memory_start(&memory)[i * PAGE], i == 8 || i == 11 ? 'a' : 0);
		guest_memory_start(&memory)[i * PAGE] = 'b';
		assert_int_equal(in_file(fd, i * PAGE), i == 8 || i == 11 ? 'b' : i == 9 || i == 10 ? 'a' : 0);
	}
	guest_memory_unmap(&memory);
	close(fd);
}

static void test_wrong_files(void **state)
{
	struct guest_memory_file file = {.fd = memfd_create("memory", MFD_CLOEXEC)};

	(void)state;
	assert_int_equal(ftruncate(file.fd, 4 * MIB - 1), 0);
	assert_int_equal(guest_memory_map_file(&memory, 4 * MIB, &file, &error), RIFFLE_ERR_FORMAT);
	assert_int_equal(error.found, 4 * MIB - 1);
	assert_int_equal(error.expected, 4 * MIB);
	assert_int_equal(memory.fd, -1);
	/* it belonged to the memory */
	assert_int_equal(close(file.fd), -1);
	file.fd = dup(probe[0]);
	assert_int_equal(guest_memory_map_file(&memory, 4 * MIB, &file, &error), RIFFLE_ERR_FORMAT);
	assert_string_equal(error.problem, "is not a regular file");
	file.fd = dup(probe[0]);
	assert_int_equal(guest_memory_map_file(&memory, MIB, &file, &error), RIFFLE_ERR_ARGUMENT);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_sizes),         cmocka_unit_test(test_ranges),
	    cmocka_unit_test(test_translation),   cmocka_unit_test(test_added),
	    cmocka_unit_test(test_dirty_pages),   cmocka_unit_test(test_discard),
	    cmocka_unit_test(test_private_file),  cmocka_unit_test(test_shared_file),
	    cmocka_unit_test(test_extents),       cmocka_unit_test(test_many_extents),
	    cmocka_unit_test(test_known_extents), cmocka_unit_test(test_wrong_files),
	};
	return cmocka_run_group_tests_name("memory", tests, set_up, tear_down);
}
