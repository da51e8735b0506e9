/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Every allocation on the way from a kernel to a verified load fails once: each time with an error that says so, and
 * with nothing left allocated.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>
#include <zstd.h>

#include <riffle/riffle.h>

#include "prepare/analysis/prepared.h"
#include "prepare/shuffle/internal.h"
#include "prepare/strength/strength.h"
#include "prepare/verify/verify.h"
#include "tests/lib/kernels.h"

/* The linker's --wrap leads all of this program's allocations here. */
void *__real_malloc(size_t bytes);
void *__real_calloc(size_t count, size_t bytes);
void *__real_realloc(void *old, size_t bytes);
void *__real_reallocarray(void *old, size_t count, size_t bytes);
void __real_free(void *at);
void *__wrap_malloc(size_t bytes);
void *__wrap_calloc(size_t count, size_t bytes);
void *__wrap_realloc(void *old, size_t bytes);
void *__wrap_reallocarray(void *old, size_t count, size_t bytes);
void __wrap_free(void *at);

static unsigned long left; /* allocations until one fails; 0: none does */
static bool failed;

static bool fails(void)
{
	if (!left || --left)
		return false;
	failed = true;
	return true;
}

/* What is allocated by this program, and not by a library that it uses. */
static void *live[4096];
static unsigned live_count;

static void *note(void *at)
{
	if (at && live_count < sizeof live / sizeof *live)
		live[live_count++] = at;
	return at;
}

static void forget(const void *at)
{
	for (unsigned i = live_count; at && i-- > 0;)
		if (live[i] == at) {
			live[i] = live[--live_count];
			return;
		}
}

void *__wrap_malloc(size_t bytes)
{
	return fails() ? NULL : note(__real_malloc(bytes));
}

void *__wrap_calloc(size_t count, size_t bytes)
{
	return fails() ? NULL : note(__real_calloc(count, bytes));
}

/* By realloc(): without memory, `old` is still there. */
static void *replaced(void *old, void *new)
{
	if (!new)
		return NULL;
	forget(old);
	return note(new);
}

void *__wrap_realloc(void *old, size_t bytes)
{
	return fails() ? NULL : replaced(old, __real_realloc(old, bytes));
}

void *__wrap_reallocarray(void *old, size_t count, size_t bytes)
{
	return fails() ? NULL : replaced(old, __real_reallocarray(old, count, bytes));
}

void __wrap_free(void *at)
{
	forget(at);
	__real_free(at);
}

static struct riffle_error error;
static int kernel, out;
static struct riffle_image *image;
static struct shuffle *shuffle;
static struct verify *verify;
static struct riffle_plan plan = RIFFLE_PLAN_INIT;

static int open_image(void)
{
	struct riffle_image *opened = NULL;
	int status = riffle_image_open(&opened, kernel, -1, &error);

	if (!status)
		riffle_image_close(opened);
	return status;
}

static int analyse(void)
{
	struct shuffle *found = NULL;
	int status = shuffle_analyse(&found, image, NULL, &error);

	if (!status)
		shuffle_free(found);
	return status;
}

/* What is told of each table that is hidden: with memory all of it, and without, the same up to where there was none.
 */
static struct {
	char table[32], reason[256];
	uint32_t column, across;
} told[64];
static unsigned told_count, told_now;

static void tell(void *opaque, const char *table, uint32_t column, uint32_t across, const char *reason)
{
	(void)opaque;
	assert_true(told_now < sizeof told / sizeof *told);
	if (told_now == told_count) {
		snprintf(told[told_now].table, sizeof told->table, "%s", table);
		snprintf(told[told_now].reason, sizeof told->reason, "%s", reason);
		told[told_now].column = column;
		told[told_now].across = across;
		told_count++;
	}
	assert_string_equal(told[told_now].table, table);
	assert_string_equal(told[told_now].reason, reason);
	assert_int_equal(told[told_now].column, column);
	assert_int_equal(told[told_now].across, across);
	told_now++;
}

static int probe(void)
{
	struct shuffle *found = NULL;
	int status;

	told_now = 0;
	status = shuffle_probe_slides(&found, image, tell, NULL, &error);
	if (!status) {
		assert_int_equal(told_now, told_count);
		shuffle_free(found);
	}
	return status;
}

static int write_raw(void)
{
	assert_int_equal(ftruncate(out, 0), 0);
	return riffle_prepared_write(image, shuffle, NULL, RIFFLE_COMPRESSION_NONE, out, &error);
}

static int write_lz4(void)
{
	assert_int_equal(ftruncate(out, 0), 0);
	return riffle_prepared_write(image, shuffle, NULL, RIFFLE_COMPRESSION_LZ4, out, &error);
}

static int measure(void)
{
	struct strength found;
	int status = strength_measure(&found, image, shuffle, &error);

	if (!status)
		strength_free(&found);
	return status;
}

static int open_verify(void)
{
	struct verify *opened = NULL;
	int status = verify_open(&opened, image, -1, NULL, NULL, &error);

	if (!status)
		verify_close(opened);
	return status;
}

static int compare(void)
{
	const struct riffle_layout layout = {.mode = RIFFLE_MODE_KASLR,
					     .physical_base = 32 << 20,
					     .virtual_base = plan.header->link_virt + (32 << 20),
					     .slide_count = plan.block_count};
	uint8_t *nothing = mmap(NULL, image->image_bytes, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct verify_result result;
	int status = verify_compare(&result, verify, &plan, &layout, nothing, 0, 0, NULL, &error);

	munmap(nothing, image->image_bytes);
	return status;
}

/* Runs `what` until none of its allocations failed; it must have had some. */
static void each_fails(const char *name, int (*what)(void))
{
	for (unsigned long i = 1;; i++) {
		const unsigned before = live_count;
		int status;

		left = i;
		failed = false;
		status = what();
		left = 0;
		if (live_count != before)
			fail_msg("%s: allocation %lu of it failed, and %u were not freed", name, i,
				 live_count - before);
		if (!failed) {
			assert_int_equal(status, 0);
			assert_true(i > 1);
			print_message("%s: %lu allocations\n", name, i - 1);
			return;
		}
		/* a compressor without memory leaves frames as they are */
		if (!status && what == write_lz4)
			continue;
		if (status != RIFFLE_ERR_MEMORY)
			fail_msg("%s: allocation %lu of it failed, but it said %d", name, i, status);
		assert_int_equal(error.status, RIFFLE_ERR_MEMORY);
		assert_non_null(error.field);
	}
}

static void test_kernel(void (*build)(struct test_bytes *))
{
	struct test_bytes file = {0};
	struct riffle_source source;

	build(&file);
	kernel = test_file_of(&file);
	test_bytes_free(&file);
	out = memfd_create("prepared", MFD_CLOEXEC);
	each_fails("image", open_image);
	assert_int_equal(riffle_image_open(&image, kernel, -1, &error), 0);
	each_fails("analysis", analyse);
	assert_int_equal(shuffle_analyse(&shuffle, image, NULL, &error), 0);
	told_count = 0;
	assert_int_equal(probe(), 0);
	print_message("%u hidden tables and columns\n", told_count);
	assert_int_equal(told_count > 0, shuffle->slides.block_count > 0);
	each_fails("probe of slides", probe);
	each_fails("strength", measure);
	each_fails("file of lz4", write_lz4);
	each_fails("file", write_raw);
	assert_int_equal(riffle_source_from_fd(&source, out, &error), 0);
	assert_int_equal(riffle_plan_open(&plan, &source, &error), 0);
	if (system("command -v objdump >/dev/null 2>&1") == 0) {
		each_fails("verify", open_verify);
		assert_int_equal(verify_open(&verify, image, -1, NULL, NULL, &error), 0);
		each_fails("comparison", compare);
		verify_close(verify);
	}
	riffle_plan_close(&plan);
	shuffle_free(shuffle);
	riffle_image_close(image);
	close(kernel);
	close(out);
}

static void test_movable(void **state)
{
	(void)state;
	test_kernel(test_movable_kernel);
}

static void test_sliding(void **state)
{
	(void)state;
	test_kernel(test_sliding_kernel);
}

static void full_kernel(struct test_bytes *file)
{
	test_full_kernel(file, NULL, 0);
}

static void test_full(void **state)
{
	(void)state;
	test_kernel(full_kernel);
}

/* Kernels that have to be unpacked: as bzImages, and as files that were compressed afterwards. */
static void test_compressed(void **state)
{
	static const enum riffle_compression compressions[] = {
	    RIFFLE_COMPRESSION_GZIP, RIFFLE_COMPRESSION_BZIP2, RIFFLE_COMPRESSION_LZMA,
	    RIFFLE_COMPRESSION_XZ,   RIFFLE_COMPRESSION_LZ4,   RIFFLE_COMPRESSION_ZSTD,
	};
	struct test_kernel_spec kernel_spec = test_kernel_spec();
	struct test_bytes file = {0};
	struct test_kernel k;
	size_t room;

	(void)state;
	test_kernel_build(&k, &kernel_spec);
	for (unsigned i = 0; i < sizeof compressions / sizeof *compressions; i++) {
		struct test_bzimage_spec spec = {.compression = compressions[i]};

		assert_true(test_bzimage_of(&file, &spec, &k));
		kernel = test_file_of(&file);
		each_fails("bzImage", open_image);
		close(kernel);
		test_bytes_free(&file);
	}
	test_bytes_add(&k.elf, k.list.at, k.list.count);
	room = ZSTD_compressBound(k.elf.count);
	test_bytes_zero(&file, room);
	room = ZSTD_compress(file.at, room, k.elf.at, k.elf.count, 1);
	assert_false(ZSTD_isError(room));
	kernel = test_file(file.at, room);
	each_fails("compressed file", open_image);
	close(kernel);
	test_bytes_free(&file);
	test_kernel_free(&k);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_movable),
	    cmocka_unit_test(test_sliding),
	    cmocka_unit_test(test_full),
	    cmocka_unit_test(test_compressed),
	};

	return cmocka_run_group_tests_name("out-of-memory", tests, NULL, NULL);
}
