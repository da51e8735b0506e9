/* SPDX-License-Identifier: Apache-2.0 */
/* A disk image's size, blocks, alignment and lock, on a host whose answers are the test's own. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <linux/magic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <cmocka.h>

#include "monitor/virtio/disk_image.h"

#define BYTES 20480u

static struct {
	bool device;           /* it is a block device, of so many bytes and such sectors; 0: it does not tell */
	uint64_t device_bytes; /* UINT64_MAX: it does not tell */
	int sector;
	long file_system;
	uint32_t alignment; /* of reads with O_DIRECT */
	int read_errno;     /* of those that are aligned */
	int flags_errno, lock_errno, examine_errno;
	unsigned lock_failures, locks, naps;
	int flags; /* as set last */
	bool direct;
} host;

/* The linker's --wrap leads the calls here. */
#define WRAPPED(type, name, parameters)                                                                                \
	type __wrap_##name parameters;                                                                                 \
	type __wrap_##name parameters

static int make_device(int result, struct stat *st)
{
	if (!result && host.device && S_ISREG(st->st_mode)) {
		st->st_mode = S_IFBLK | 0600;
		st->st_rdev = makedev(7, 9);
	}
	return result;
}

WRAPPED(int, fstat64, (int fd, struct stat *st))
{
	return host.examine_errno ? (errno = host.examine_errno, -1) : make_device((int)syscall(SYS_fstat, fd, st), st);
}

WRAPPED(int, stat64, (const char *path, struct stat *st))
{
	return make_device((int)syscall(SYS_stat, path, st), st);
}

WRAPPED(int, fstatfs64, (int fd, struct statfs *fs))
{
	int result = (int)syscall(SYS_fstatfs, fd, fs);

	fs->f_type = host.file_system;
	return result;
}

WRAPPED(int, ioctl, (int fd, unsigned long request, void *data))
{
	(void)fd;
	if (request == BLKGETSIZE64 && host.device && host.device_bytes != UINT64_MAX) {
		*(uint64_t *)data = host.device_bytes;
		return 0;
	}
	if (request == BLKSSZGET && host.sector) {
		*(int *)data = host.sector;
		return 0;
	}
	return errno = ENOTTY, -1;
}

WRAPPED(int, fcntl64, (int fd, int command, long argument))
{
	if (command == F_SETFL) {
		host.flags = (int)argument;
		host.direct = argument & O_DIRECT;
		return host.flags_errno ? (errno = host.flags_errno, -1) : 0;
	}
	if (command == F_OFD_SETLK && ((struct flock *)argument)->l_type != F_UNLCK &&
	    host.locks++ < host.lock_failures)
		return errno = host.lock_errno, -1;
	return (int)syscall(SYS_fcntl, fd, command, argument);
}

WRAPPED(ssize_t, pread64, (int fd, void *to, size_t bytes, off_t at))
{
	if (host.direct && ((uintptr_t)to | bytes | (size_t)at) % host.alignment)
		return errno = EINVAL, -1;
	if (host.direct && host.read_errno)
		return errno = host.read_errno, -1;
	errno = 0;
	return syscall(SYS_pread64, fd, to, bytes, at);
}

WRAPPED(int, usleep, (useconds_t us))
{
	(void)us;
	host.naps++;
	return 0;
}

static char path[64];
static struct riffle_error error;
static struct disk_image image;
static struct disk_image_options options;

static int set_up(void **state)
{
	int fd;

	(void)state;
	memset(&host, 0, sizeof host);
	host.file_system = EXT4_SUPER_MAGIC;
	host.alignment = 1;
	options = (struct disk_image_options){0};
	strcpy(path, "/tmp/riffle-disk-XXXXXX");
	fd = mkstemp(path);
	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, BYTES), 0);
	close(fd);
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	disk_image_close(&image);
	return unlink(path);
}

static int open_again(void)
{
	disk_image_close(&image);
	host.locks = host.naps = 0;
	host.direct = false;
	return disk_image_open(&image, path, &options, &error);
}

static void test_sizes(void **state)
{
	static const struct {
		uint64_t is, shown;
	} cases[] = {{512, 512}, {513, 512}, {1023, 512}, {1024, 1024}, {4096, 4096}, {BYTES, BYTES}};

	(void)state;
	options.raw = true;
	for (int device = 0; device < 2; device++) {
		host.device = device;
		for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
			host.device_bytes = cases[i].is;
			assert_int_equal(truncate(path, (off_t)cases[i].is), 0);
			assert_int_equal(open_again(), 0);
			assert_int_equal(image.bytes, cases[i].shown);
		}
		host.device_bytes = 511;
		assert_int_equal(truncate(path, 511), 0);
		assert_int_equal(open_again(), RIFFLE_ERR_ARGUMENT);
		assert_int_equal(error.found, 511);
		assert_int_equal(error.expected, 512);
		assert_int_equal(image.fd, -1);
	}
	host.device_bytes = UINT64_MAX;
	assert_int_equal(open_again(), RIFFLE_ERR_IO);
	assert_string_equal(error.problem, "does not tell its size");
	host.examine_errno = ESTALE;
	assert_int_equal(open_again(), RIFFLE_ERR_IO);
	assert_int_equal(error.sys_errno, ESTALE);
}

/* What O_DIRECT wants is found by trying, and a disk that cannot be read at all tells that later. */
static void test_alignment(void **state)
{
	(void)state;
	options.cache = DISK_CACHE_NONE;
	for (uint32_t alignment = 512; alignment <= 8192; alignment *= 2) {
		const uint32_t found = alignment < 4096 ? alignment : 4096;

		host.alignment = alignment;
		assert_int_equal(open_again(), 0);
		assert_true(host.flags & O_DIRECT);
		assert_int_equal(image.alignment, found);
		assert_int_equal(image.block_bytes, found);
	}
	host.alignment = 1;
	host.read_errno = EIO;
	assert_int_equal(open_again(), 0);
	assert_int_equal(image.alignment, 512);
	/* nothing is tried where nothing is asked */
	for (int i = 0; i < 3; i++) {
		options.cache = i < 2 ? DISK_CACHE_NONE : DISK_CACHE_WRITEBACK;
		host.file_system = i == 0 ? TMPFS_MAGIC : i == 1 ? RAMFS_MAGIC : EXT4_SUPER_MAGIC;
		assert_int_equal(open_again(), 0);
		assert_int_equal(image.in_memory, i < 2);
		assert_int_equal(image.alignment, 1);
		assert_int_equal(image.block_bytes, 512);
		assert_false(host.flags & (O_DIRECT | O_NONBLOCK));
	}
	options.cache = DISK_CACHE_NONE;
	host.flags_errno = EINVAL;
	assert_int_equal(open_again(), RIFFLE_ERR_UNSUPPORTED);
	assert_string_equal(error.field, "cache=none");
	host.flags_errno = EPERM;
	assert_int_equal(open_again(), RIFFLE_ERR_IO);
	assert_string_equal(error.problem, "cannot be set to O_DIRECT");
}

static void test_blocks(void **state)
{
	static const struct {
		int sector;
		uint32_t blocks;
	} cases[] = {{0, 512}, {256, 512}, {512, 512}, {1024, 1024}, {4096, 4096}, {8192, 512}, {-1, 512}};

	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		host.sector = cases[i].sector;
		assert_int_equal(open_again(), 0);
		assert_int_equal(image.block_bytes, cases[i].blocks);
	}
	/* the larger of both */
	options.cache = DISK_CACHE_NONE;
	host.sector = 1024;
	host.alignment = 2048;
	assert_int_equal(open_again(), 0);
	assert_int_equal(image.block_bytes, 2048);
	host.sector = 4096;
	assert_int_equal(open_again(), 0);
	assert_int_equal(image.block_bytes, 4096);
}

static void test_locks(void **state)
{
	static const int none[] = {ENOLCK, EOPNOTSUPP, EINVAL, ENOSYS}, taken[] = {EAGAIN, EACCES};

	(void)state;
	host.lock_failures = 1000;
	for (int patient = 0; patient < 2; patient++) {
		options.patient = patient;
		for (size_t i = 0; i < sizeof none / sizeof *none; i++) {
			host.lock_errno = none[i];
			assert_int_equal(open_again(), 0);
			assert_int_equal(host.locks, 1);
		}
		host.lock_errno = EIO;
		assert_int_equal(open_again(), RIFFLE_ERR_IO);
		assert_string_equal(error.problem, "cannot be locked");
		assert_int_equal(host.locks, 1);
		for (size_t i = 0; i < 2; i++) {
			host.lock_errno = taken[i];
			assert_int_equal(open_again(), RIFFLE_ERR_ARGUMENT);
			assert_non_null(strstr(error.problem, "is in use"));
			assert_int_equal(host.naps, host.locks - 1);
			assert_int_equal(host.naps > 0, patient);
		}
	}
	/* who holds it may let go of it */
	host.lock_failures = 3;
	assert_int_equal(open_again(), 0);
	assert_int_equal(host.naps, 3);
	options.shared = true;
	assert_int_equal(open_again(), 0);
	assert_int_equal(host.locks, 0);
}

static void test_identity(void **state)
{
	char other[80];
	struct stat st;

	(void)state;
	snprintf(other, sizeof other, "%s.link", path);
	assert_int_equal(link(path, other), 0);
	for (int device = 0; device < 2; device++) {
		host.device = device;
		host.device_bytes = BYTES;
		assert_int_equal(open_again(), 0);
		assert_true(disk_image_is(&image, path) && disk_image_is(&image, other));
		assert_false(disk_image_is(&image, "/dev/null") || disk_image_is(&image, "/nowhere"));
		host.device = !device; /* the same number, but of another kind */
		assert_false(disk_image_is(&image, path));
		host.device = device;
		assert_int_equal(stat(path, &st), 0);
		assert_int_equal(image.identity[0], st.st_dev);
		assert_int_equal(image.identity[1], st.st_rdev);
		assert_int_equal(image.identity[2], st.st_ino);
		disk_image_close(&image);
		assert_false(disk_image_is(&image, path));
	}
	unlink(other);
}

static void test_descriptors(void **state)
{
	static const struct {
		int flags;
		bool read_only, good;
	} cases[] = {{O_RDWR, false, true},    {O_RDWR, true, true},     {O_RDONLY, true, true},
		     {O_RDONLY, false, false}, {O_WRONLY, false, false}, {O_WRONLY, true, false},
		     {O_PATH, true, false}};

	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		int fd = open(path, cases[i].flags | O_CLOEXEC);

		options.read_only = cases[i].read_only;
		assert_int_equal(disk_image_adopt(&image, fd, &options, &error),
				 cases[i].good ? 0 : RIFFLE_ERR_ARGUMENT);
		assert_true(cases[i].good ? image.fd > fd : image.fd == -1);
		disk_image_close(&image);
		assert_int_equal(close(fd), 0);
	}
	assert_int_equal(disk_image_adopt(&image, 9999, &options, &error), RIFFLE_ERR_IO);
	assert_string_equal(error.problem, "is no open descriptor");
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
	const struct CMUnitTest tests[] = {
	    TEST(test_sizes), TEST(test_alignment), TEST(test_blocks),
	    TEST(test_locks), TEST(test_identity),  TEST(test_descriptors),
	};

	image.fd = -1;
	return cmocka_run_group_tests_name("disk image", tests, NULL, NULL);
}
