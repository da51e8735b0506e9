/* SPDX-License-Identifier: Apache-2.0 */
/* A file that changes or is truncated between any two reads is refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "prepare/image/image.h"
#include "tests/lib/kernels.h"

/* what to do before the chosen read */
static void (*meddle)(int fd);
static unsigned countdown;
static bool meddled;

ssize_t __real_pread64(int fd, void *buffer, size_t bytes, off_t offset);
ssize_t __wrap_pread64(int fd, void *buffer, size_t bytes, off_t offset);

ssize_t __wrap_pread64(int fd, void *buffer, size_t bytes, off_t offset)
{
	if (meddle && countdown-- == 0) {
		meddle(fd);
		meddle = NULL;
		meddled = true;
	}
	return __real_pread64(fd, buffer, bytes, offset);
}

static void cut_to_nothing(int fd)
{
	assert_int_equal(ftruncate(fd, 0), 0);
}

static void cut_last_byte(int fd)
{
	struct stat st;

	assert_int_equal(fstat(fd, &st), 0);
	assert_int_equal(ftruncate(fd, st.st_size - 1), 0);
}

static void grow(int fd)
{
	assert_int_equal(ftruncate(fd, 1 << 20), 0);
}

static void write_over(int fd)
{
	struct timespec times[2] = {{.tv_nsec = UTIME_OMIT}, {.tv_sec = 1, .tv_nsec = 1}};

	assert_int_equal(pwrite(fd, "x", 1, 200), 1);
	/* the clock that stamps writes is coarse: make the difference certain */
	assert_int_equal(futimens(fd, times), 0);
}

/* Interferes before each read in turn, until opening has fewer reads than that. */
static void check(const struct test_bytes *file, const struct test_bytes *list, void (*how)(int fd))
{
	unsigned reads;

	for (reads = 0;; reads++) {
		struct riffle_error error = {0};
		struct riffle_image *image;
		int fd = test_file_of(file), relocs_fd = list ? test_file_of(list) : -1, status;

		meddle = how;
		countdown = reads;
		meddled = false;
		status = riffle_image_open(&image, fd, relocs_fd, &error);
		meddle = NULL;
		close(fd);
		if (relocs_fd >= 0)
			close(relocs_fd);
		if (!meddled) {
			assert_int_equal(status, 0);
			riffle_image_close(image);
			break;
		}
		assert_int_not_equal(status, 0);
		assert_null(image);
		assert_non_null(error.field);
		if (how != write_over) /* bytes changed early may make a broken file, which is said instead */
			assert_int_equal(status, RIFFLE_ERR_CHANGED);
	}
	assert_true(reads > 1);
}

static void test_changing(void **state)
{
	static void (*const ways[])(int fd) = {cut_to_nothing, cut_last_byte, grow, write_over};
	struct test_bzimage_spec bzimage_spec = {.compression = RIFFLE_COMPRESSION_GZIP};
	struct test_kernel_spec spec = test_kernel_spec();
	struct test_bytes bzimage = {0};
	struct test_kernel k;
	size_t i;

	(void)state;
	spec.rela = true;
	test_kernel_build(&k, &spec);
	assert_true(test_bzimage_of(&bzimage, &bzimage_spec, &k));
	for (i = 0; i < sizeof ways / sizeof *ways; i++) {
		check(&k.elf, NULL, ways[i]);
		check(&k.elf, &k.list, ways[i]);
		check(&bzimage, NULL, ways[i]);
	}
	test_bytes_free(&bzimage);
	test_kernel_free(&k);
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_changing)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
