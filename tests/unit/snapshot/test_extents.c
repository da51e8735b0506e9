/* SPDX-License-Identifier: Apache-2.0 */
/* Where a memory file has data: recorded, used while the file is the one that was saved, and read without trust. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "monitor/snapshot/extents.h"

#define MIB (1 << 20)
#define BYTES (64u * MIB)
#define PAGE GUEST_PAGE

static struct guest_memory_extent extents[GUEST_MEMORY_EXTENTS_MAX];
static struct riffle_error error;
static struct state_writer writer;
static struct state_file file;
static size_t count;

static int make_file(void)
{
	int fd = memfd_create("memory", MFD_CLOEXEC);

	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, BYTES), 0);
	return fd;
}

static void fill(int fd, uint64_t from, uint64_t to)
{
	assert_int_equal(fallocate(fd, 0, (off_t)from, (off_t)(to - from)), 0);
	assert_int_equal(pwrite(fd, "a", 1, (off_t)from), 1);
}

static void finish(void)
{
	assert_int_equal(state_finish(&writer, &error), 0);
	assert_int_equal(state_open(&file, writer.data, writer.bytes, &error), 0);
}

static void save(int fd)
{
	state_writer_free(&writer);
	extents_save(fd, BYTES, &writer);
	finish();
}

static void load(int fd)
{
	count = 99;
	assert_int_equal(extents_load(extents, &count, fd, BYTES, &file, &error), 0);
}

static uint64_t blocks(int fd)
{
	struct stat st;

	assert_int_equal(fstat(fd, &st), 0);
	return (uint64_t)st.st_blocks * 512;
}

/* A hole of 64 KiB is filled, one of a page more is not. */
static void test_holes(void **state)
{
	int fd = make_file();

	(void)state;
	fill(fd, 0x10000, 0x11000);
	fill(fd, 0x21000, 0x22000);
	fill(fd, 0x33000, 0x34000);
	fill(fd, BYTES - PAGE, BYTES);
	save(fd);
	load(fd);
	assert_int_equal(count, 3);
	assert_int_equal(extents[0].from, 0x10000);
	assert_int_equal(extents[0].to, 0x22000);
	assert_int_equal(extents[1].from, 0x33000);
	assert_int_equal(extents[1].to, 0x34000);
	assert_int_equal(extents[2].from, BYTES - PAGE);
	assert_int_equal(extents[2].to, BYTES);
	/* and nothing else got room */
	assert_int_equal(blocks(fd), 0x12000 + 2 * PAGE);
	close(fd);
}

/* With more extents than are mapped one by one, wider holes are filled; with as many, none. */
static void test_many(void **state)
{
	(void)state;
	for (unsigned more = 0; more < 2; more++) {
		int fd = make_file();

		for (uint64_t i = 0; i < 512 + more; i++)
			fill(fd, i * 0x12000, i * 0x12000 + PAGE);
		save(fd);
		load(fd);
		assert_int_equal(count, more ? 1 : 512);
		assert_int_equal(extents[0].to, more ? 512 * 0x12000 + PAGE : PAGE);
		assert_int_equal(blocks(fd), more ? 512 * 0x12000 + PAGE : 512 * PAGE);
		close(fd);
	}
}

static void test_no_data(void **state)
{
	int fd = make_file();

	(void)state;
	save(fd);
	load(fd);
	assert_int_equal(count, 0);
	assert_int_equal(blocks(fd), 0);
	close(fd);
}

/* A start searches: the section is missing, or the file is another, or has other data than it had. */
static void test_another_file(void **state)
{
	struct timespec times[2];
	int fd = make_file(), other = make_file(), read_only;
	char name[32];
	struct stat st;

	(void)state;
	fill(fd, 0x10000, 0x11000);
	fill(other, 0x10000, 0x11000);
	save(fd);
	load(fd);
	assert_int_equal(count, 1);
	assert_int_equal(fstat(fd, &st), 0);
	times[0] = st.st_atim;
	times[1] = st.st_mtim;
	/* of the same time and blocks */
	assert_int_equal(futimens(other, times), 0);
	load(other);
	assert_int_equal(count, 0);
	load(-1);
	assert_int_equal(count, 0);
	/* of another time */
	times[1].tv_nsec ^= 1;
	assert_int_equal(futimens(fd, times), 0);
	load(fd);
	assert_int_equal(count, 0);
	times[1].tv_nsec ^= 1;
	times[1].tv_sec++;
	assert_int_equal(futimens(fd, times), 0);
	load(fd);
	assert_int_equal(count, 0);
	/* with more data, of the same time */
	times[1].tv_sec--;
	fill(fd, 0x20000, 0x21000);
	assert_int_equal(futimens(fd, times), 0);
	load(fd);
	assert_int_equal(count, 0);
	assert_int_equal(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0x20000, PAGE), 0);
	assert_int_equal(futimens(fd, times), 0);
	load(fd);
	assert_int_equal(count, 1);
	/* no section */
	state_writer_free(&writer);
	state_begin(&writer, STATE_SAVE, 0, 1);
	state_end(&writer);
	finish();
	load(fd);
	assert_int_equal(count, 0);
	/* which is what a file without room for its holes has */
	snprintf(name, sizeof name, "/proc/self/fd/%d", fd);
	read_only = open(name, O_RDONLY | O_CLOEXEC);
	assert_true(read_only >= 0);
	state_writer_free(&writer);
	extents_save(read_only, BYTES, &writer);
	assert_int_equal(writer.bytes, 0);
	close(read_only);
	close(fd);
	close(other);
}

struct edges {
	uint32_t count;
	uint64_t edge[4];
	const char *field, *problem;
	uint64_t found;
};

static void test_hostile(void **state)
{
	static const char outside[] = "overlaps another, is empty, or lies outside the memory",
			  unaligned[] = "is not a multiple of 4096";
	static const struct edges cases[] = {
	    {2, {0, PAGE, PAGE, BYTES}, NULL, NULL, 0}, /* they may touch */
	    {2, {0, 2 * PAGE, PAGE, BYTES}, "extent start", outside, PAGE},
	    {2, {PAGE, 2 * PAGE, 0, BYTES}, "extent start", outside, 0},
	    {2, {0, PAGE, PAGE, PAGE}, "extent end", outside, PAGE},
	    {2, {0, PAGE, 2 * PAGE, PAGE}, "extent end", outside, PAGE},
	    {2, {0, PAGE, PAGE, BYTES + PAGE}, "extent end", outside, BYTES + PAGE},
	    {2, {0, PAGE, BYTES, BYTES + PAGE}, "extent end", outside, BYTES + PAGE},
	    {2, {0, PAGE, UINT64_MAX, 0}, "extent start", outside, UINT64_MAX},
	    {2, {1, PAGE, PAGE, BYTES}, "extent start", unaligned, 1},
	    {2, {0, PAGE + 8, 2 * PAGE, BYTES}, "extent end", unaligned, PAGE + 8},
	    {1, {0, PAGE, PAGE, BYTES}, "section", "has bytes after its last field", 16},
	    {3, {0, PAGE, PAGE, BYTES}, "extent start", "the section ends before it", 0},
	    {513, {0, PAGE, PAGE, BYTES}, "extents", "is out of range", 513},
	};
	int fd = make_file();

	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		const struct edges *c = &cases[i];

		state_writer_free(&writer);
		state_begin(&writer, STATE_EXTENTS, 0, 1);
		state_put64(&writer, 1);
		state_put64(&writer, 2);
		state_put64(&writer, 3);
		state_put32(&writer, c->count);
		for (unsigned e = 0; e < 4; e++)
			state_put64(&writer, c->edge[e]);
		state_end(&writer);
		finish();
		memset(&error, 0, sizeof error);
		assert_int_equal(extents_load(extents, &count, fd, BYTES, &file, &error),
				 c->field ? RIFFLE_ERR_FORMAT : 0);
		assert_int_equal(count, 0);
		if (!c->field)
			continue;
		assert_string_equal(error.field, c->field);
		assert_string_equal(error.problem, c->problem);
		assert_int_equal(error.found, c->found);
	}
	state_writer_free(&writer);
	close(fd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_holes),        cmocka_unit_test(test_many),    cmocka_unit_test(test_no_data),
	    cmocka_unit_test(test_another_file), cmocka_unit_test(test_hostile),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
