/* SPDX-License-Identifier: Apache-2.0 */
/* From a kernel's name to a plan: what it trusts and caches. */
#include <dirent.h>
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "host/input.h"
#include "kernel/cache.h"
#include "tests/lib/kernels.h"
#include "tests/unit/kernel/fixture.h"

static void test_miss_then_hit(void **state)
{
	struct fixture *f = *state;
	char path[512];
	struct stat st;

	must_open(f, KERNEL_CACHE_MISS);
	assert_string_equal(f->k.notice, "");
	must_open(f, KERNEL_CACHE_HIT);
	assert_int_equal(stat(f->cache, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0700);
	assert_int_equal(entries(f->cache, path, sizeof path), 1);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0600);
}

static void test_no_cache(void **state)
{
	struct fixture *f = *state;

	f->request.no_cache = true;
	must_open(f, KERNEL_CACHE_MISS);
	must_open(f, KERNEL_CACHE_MISS);
	assert_int_equal(access(f->cache, F_OK), -1);
}

/* New content under the same name is another kernel, even with its times reset. */
static void test_kernel_changed_in_place(void **state)
{
	struct fixture *f = *state;
	struct stat st;

	must_open(f, KERNEL_CACHE_MISS);
	assert_int_equal(stat(f->kernel, &st), 0);
	write_kernel(f->kernel, 0x90);
	must_open(f, KERNEL_CACHE_MISS);
	must_open(f, KERNEL_CACHE_HIT);
	write_kernel(f->kernel, 0xf4);
	utimensat(AT_FDCWD, f->kernel, (struct timespec[2]){st.st_atim, st.st_mtim}, 0);
	must_open(f, KERNEL_CACHE_MISS);
	assert_int_equal(entries(f->cache, NULL, 0), 3);
}

/* Each of the five alone changes the name; a program that resets mtime cannot reset ctime. */
static void test_name_has_all_of_an_identity(void **state)
{
	const struct stat plain = {.st_dev = 3, .st_ino = 5, .st_size = 7, .st_mtim = {11, 13}, .st_ctim = {17, 19}};
	struct stat other[7];
	char name[CACHE_NAME_BYTES], names[15][CACHE_NAME_BYTES];

	(void)state;
	for (unsigned i = 0; i < 7; i++)
		other[i] = plain;
	other[0].st_dev++;
	other[1].st_ino++;
	other[2].st_size++;
	other[3].st_mtim.tv_sec++;
	other[4].st_mtim.tv_nsec++;
	other[5].st_ctim.tv_sec++;
	other[6].st_ctim.tv_nsec++;
	cache_entry_name(names[0], &plain, &plain);
	for (unsigned i = 0; i < 7; i++) {
		cache_entry_name(names[1 + i], &other[i], &plain);
		cache_entry_name(names[8 + i], &plain, &other[i]);
	}
	for (unsigned i = 0; i < 15; i++) {
		for (unsigned j = 0; j < i; j++)
			assert_string_not_equal(names[i], names[j]);
		assert_null(strchr(names[i], '/'));
	}
	cache_entry_name(name, &plain, &plain);
	assert_string_equal(name, names[0]);
	cache_entry_name(name, &plain, NULL);
	assert_string_not_equal(name, names[0]);
}

/* A bad entry of any kind is prepared again, and valid afterwards. */
static void test_bad_entries_are_replaced(void **state)
{
	struct fixture *f = *state;
	char path[512], aside[128], command[2048];

	must_open(f, KERNEL_CACHE_MISS);
	assert_int_equal(entries(f->cache, path, sizeof path), 1);
	snprintf(aside, sizeof aside, "%.64s/aside", f->base);
	for (int i = 0; i < 9; i++) {
		struct stat st;
		uint8_t byte = 0x55;
		int fd = open(path, O_RDWR | O_CLOEXEC);

		assert_true(fd >= 0);
		assert_int_equal(fstat(fd, &st), 0);
		switch (i) {
		case 0:
			assert_int_equal(ftruncate(fd, 0), 0);
			break;
		case 1:
			assert_int_equal(ftruncate(fd, 5000), 0);
			break;
		case 2:
			assert_int_equal(ftruncate(fd, st.st_size - 1), 0);
			break;
		case 3: /* a flag that header_checksum covers */
			assert_int_equal(pwrite(fd, &byte, 1, 200), 1);
			break;
		case 4: /* the plan */
			assert_int_equal(pwrite(fd, &byte, 1, 4096 + 3), 1);
			break;
		case 5:
			assert_int_equal(fchmod(fd, 0660), 0);
			break;
		case 6:
			if (geteuid() == 0)
				assert_int_equal(fchown(fd, 12345, 12345), 0);
			else
				assert_int_equal(ftruncate(fd, 1), 0);
			break;
		case 7: /* a link to a good one */
			snprintf(command, sizeof command, "mv %s %s && ln -s %s %s", path, aside, aside, path);
			assert_int_equal(system(command), 0);
			break;
		case 8: /* something else under its name */
			snprintf(command, sizeof command, "cp /bin/sh %s", path);
			assert_int_equal(system(command), 0);
			break;
		}
		close(fd);
		must_open(f, KERNEL_CACHE_MISS);
		assert_string_equal(f->k.notice, "");
		must_open(f, KERNEL_CACHE_HIT);
		assert_int_equal(entries(f->cache, NULL, 0), 1);
	}
}

static void test_cache_that_others_can_write(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(mkdir(f->cache, 0700), 0);
	assert_int_equal(chmod(f->cache, 0777), 0);
	must_open(f, KERNEL_CACHE_MISS);
	assert_non_null(strstr(f->k.notice, "lets its group or others change"));
	assert_int_equal(entries(f->cache, NULL, 0), 0);
	must_open(f, KERNEL_CACHE_MISS);

	f->request.cache_directory = f->kernel;
	must_open(f, KERNEL_CACHE_MISS);
	assert_non_null(strstr(f->k.notice, f->kernel));
	f->request.cache_directory = "/proc/nowhere/riffle";
	must_open(f, KERNEL_CACHE_MISS);
	assert_non_null(strstr(f->k.notice, "cannot be made"));
}

static void test_default_directory(void **state)
{
	struct fixture *f = *state;
	char expected[160], path[160];

	setenv("XDG_CACHE_HOME", "relative", 1);
	setenv("HOME", f->base, 1);
	assert_true(cache_directory(path, sizeof path, NULL));
	snprintf(expected, sizeof expected, "%s/.cache/riffle", f->base);
	assert_string_equal(path, expected);
	f->request.cache_directory = NULL;
	must_open(f, KERNEL_CACHE_MISS); /* makes .cache too */
	must_open(f, KERNEL_CACHE_HIT);
	setenv("XDG_CACHE_HOME", "/x", 1);
	assert_true(cache_directory(path, sizeof path, NULL));
	assert_string_equal(path, "/x/riffle");
	unsetenv("XDG_CACHE_HOME");
	unsetenv("HOME");
	must_open(f, KERNEL_CACHE_MISS);
	assert_non_null(strstr(f->k.notice, "neither XDG_CACHE_HOME nor HOME"));
}

static void test_two_runs_at_once(void **state)
{
	struct fixture *f = *state;
	int good = 0;

	for (int i = 0; i < 8; i++) {
		pid_t child = fork();

		assert_true(child >= 0);
		if (!child) {
			int status = kernel_open(&f->k, &f->request, &f->error);

			_exit(status || f->k.plan.segment_count != 1 || f->k.notice[0]);
		}
	}
	for (int i = 0; i < 8; i++) {
		int ended;

		assert_true(wait(&ended) > 0);
		good += WIFEXITED(ended) && WEXITSTATUS(ended) == 0;
	}
	assert_int_equal(good, 8);
	assert_int_equal(entries(f->cache, NULL, 0), 1);
	must_open(f, KERNEL_CACHE_HIT);
}

static void test_trust_of_prepared(void **state)
{
	struct fixture *f = *state;
	char path[512], name[32];
	uint8_t *bytes;
	struct stat st;
	int fd, memfd;

	must_open(f, KERNEL_CACHE_MISS);
	assert_int_equal(entries(f->cache, path, sizeof path), 1);
	f->request.kernel = path;
	must_open(f, KERNEL_IS_PREPARED);
	assert_int_equal(chmod(path, 0620), 0);
	must_fail(f, RIFFLE_ERR_TRUST, "mode", "others change it");
	assert_int_equal(chmod(path, 0602), 0);
	must_fail(f, RIFFLE_ERR_TRUST, "mode", "others change it");
	assert_int_equal(chmod(path, 0444), 0);
	must_open(f, KERNEL_IS_PREPARED);

	/* a memfd's mode allows anyone to write; only a seal prevents it */
	assert_int_equal(stat(path, &st), 0);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	bytes = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
	assert_true(bytes != MAP_FAILED);
	memfd = memfd_create("kernel", MFD_ALLOW_SEALING | MFD_CLOEXEC);
	assert_int_equal(write(memfd, bytes, (size_t)st.st_size), st.st_size);
	snprintf(name, sizeof name, "fd:%d", memfd);
	f->request.kernel = name;
	must_fail(f, RIFFLE_ERR_TRUST, "mode", "others change it");
	assert_int_equal(fcntl(memfd, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_SHRINK | F_SEAL_GROW), 0);
	must_open(f, KERNEL_IS_PREPARED);
	munmap(bytes, (size_t)st.st_size);
	close(memfd);
	close(fd);

	if (geteuid() != 0)
		return;
	f->request.kernel = path;
	assert_int_equal(chown(path, 12345, 12345), 0);
	must_fail(f, RIFFLE_ERR_TRUST, "owner", "neither root nor the user");
}

static void test_names(void **state)
{
	struct fixture *f = *state;
	char name[96];
	int fd = open(f->kernel, O_RDONLY | O_CLOEXEC);

	snprintf(name, sizeof name, "fd:%d", fd);
	f->request.kernel = name;
	must_open(f, KERNEL_CACHE_MISS);
	snprintf(name, sizeof name, "/dev/fd/%d", fd);
	must_open(f, KERNEL_CACHE_HIT);
	close(fd);
	f->request.kernel = "fd:999";
	must_fail(f, RIFFLE_ERR_IO, "file", "no open descriptor");
	f->request.kernel = "fd:-1";
	must_fail(f, RIFFLE_ERR_ARGUMENT, "fd:N", "no descriptor's number");
	f->request.kernel = "fd:4294967299";
	must_fail(f, RIFFLE_ERR_ARGUMENT, "fd:N", "no descriptor's number");
	f->request.kernel = f->base;
	must_fail(f, RIFFLE_ERR_FORMAT, "file", "directory");
	f->request.kernel = "/dev/zero";
	must_fail(f, RIFFLE_ERR_FORMAT, "file", "regular");
	f->request.kernel = f->kernel;
	f->request.relocs = "/nowhere";
	must_fail(f, RIFFLE_ERR_IO, "file", "cannot be opened");
	assert_string_equal(f->k.blame, "/nowhere");
	snprintf(name, sizeof name, "%.64s/fifo", f->base);
	assert_int_equal(mkfifo(name, 0600), 0);
	f->request.relocs = NULL;
	f->request.kernel = name;
	must_fail(f, RIFFLE_ERR_FORMAT, "file", "regular");
}

static void test_file_changes_meanwhile(void **state)
{
	struct fixture *f = *state;
	char script[256];

	snprintf(script, sizeof script, "printf x | dd of=%s bs=1 seek=5000 conv=notrunc 2>/dev/null; exit 1",
		 f->kernel);
	fake_program(f, script);
	must_fail(f, RIFFLE_ERR_CHANGED, "file", "was changed while");
	assert_string_equal(f->k.blame, f->kernel);
	assert_int_equal(entries(f->cache, NULL, 0), 0);
}

static unsigned told[2]; /* before and after the worker */
static bool prevented;

static int note_preparing(void *opaque, bool begun, struct riffle_error *error)
{
	assert_ptr_equal(opaque, told);
	assert_true(begun || told[0] == 1);
	told[!begun]++;
	if (!prevented)
		return 0;
	*error = (struct riffle_error){.status = RIFFLE_ERR_UNSUPPORTED, .field = "fd limit", .problem = "is too low"};
	return RIFFLE_ERR_UNSUPPORTED;
}

/* Who asked learns of a worker, and may prevent it, for which no file is to blame. */
static void test_preparing_is_told(void **state)
{
	struct fixture *f = *state;

	told[0] = told[1] = 0;
	f->request.preparing = note_preparing;
	f->request.opaque = told;
	prevented = true;
	must_fail(f, RIFFLE_ERR_UNSUPPORTED, "fd limit", "is too low");
	assert_null(f->k.blame);
	assert_true(told[0] == 1 && told[1] == 0);
	prevented = false;
	told[0] = 0;
	must_open(f, KERNEL_CACHE_MISS);
	assert_true(told[0] == 1 && told[1] == 1);
	must_open(f, KERNEL_CACHE_HIT);
	assert_true(told[0] == 1 && told[1] == 1);
}

/* A cache whose disk is full is not used; any other failure is the kernel's. */
static void test_cache_without_room(void **state)
{
	static const struct {
		const char *line;
		int runs;
	} cases[] = {
	    {"8 28 0 0 0 0\\toutput\\tcannot be written", 2},
	    {"8 28 0 0 0 0\\tinput\\tcannot be written", 1},
	    {"2 0 0 0 0 0\\toutput\\tcannot be written", 1},
	};
	struct fixture *f = *state;
	char script[9000], programs[sizeof test_directory], marks[96];

	snprintf(programs, sizeof programs, "%s", test_directory);
	snprintf(marks, sizeof marks, "%s/marks", f->base);
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		/* fails the first time only */
		snprintf(
		    script, sizeof script,
		    "mkdir %s 2>/dev/null && printf '%s\\n' >&5 && exit 1; : >%s/again; exec %s/riffle-prepare \"$@\"",
		    marks, cases[i].line, marks, programs);
		fake_program(f, script);
		if (cases[i].runs == 2) {
			must_open(f, KERNEL_CACHE_MISS);
			assert_non_null(strstr(f->k.notice, "output: cannot be written"));
			assert_non_null(strstr(f->k.notice, f->cache));
		} else {
			must_fail(f, (enum riffle_status)(cases[i].line[0] - '0'), f->error.field, "cannot be written");
			assert_string_equal(f->k.notice, "");
		}
		assert_int_equal(entries(marks, NULL, 0), cases[i].runs - 1);
		assert_int_equal(entries(f->cache, NULL, 0), 0);
		snprintf(script, sizeof script, "rm -r %s", marks);
		assert_int_equal(system(script), 0);
	}
}

/* The user's own prepared kernel may be compressed, what a worker has just written may not. */
static void test_compressed(void **state)
{
	struct fixture *f = *state;
	char path[128], script[4300], programs[sizeof test_directory];
	struct spawn_words words;
	struct spawn_files files = {-1, -1, -1, -1, RIFFLE_COMPRESSION_LZ4};

	snprintf(programs, sizeof programs, "%s", test_directory);
	snprintf(path, sizeof path, "%s/prepared", f->base);
	files.kernel = open(f->kernel, O_RDONLY | O_CLOEXEC);
	files.out = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	assert_int_equal(spawn_worker(&words, &files, &f->error), 0);
	close(files.kernel);
	close(files.out);
	f->request.kernel = path;
	assert_int_equal(kernel_open(&f->k, &f->request, &f->error), 0);
	assert_int_equal(f->k.way, KERNEL_IS_PREPARED);
	assert_int_equal(f->k.plan.header->storage, RIFFLE_COMPRESSION_LZ4);
	assert_non_null(f->k.frames);
	kernel_close(&f->k);
	assert_null(f->k.frames);
	f->request.relocs = f->kernel;
	must_fail(f, RIFFLE_ERR_ARGUMENT, "--relocs", "is prepared already");

	f->request.relocs = NULL;
	f->request.kernel = f->kernel;
	snprintf(script, sizeof script, "exec %s/riffle-prepare $1 $2 $3 $4 $5 $6 6", programs);
	fake_program(f, script);
	for (int i = 0; i < 2; i++) {
		f->request.no_cache = i;
		assert_int_not_equal(kernel_open(&f->k, &f->request, &f->error), 0);
		assert_string_equal(f->error.field, "storage");
		assert_int_equal(entries(f->cache, NULL, 0), 0);
	}
}

/* A unified kernel image stays open for what else is in it, whatever its descriptor. */
static void test_unified_image(void **state)
{
	const struct test_bzimage_spec spec = {.compression = RIFFLE_COMPRESSION_GZIP};
	struct test_kernel_spec kernel_spec = test_kernel_spec();
	struct fixture *f = *state;
	struct test_kernel kernel;
	struct test_bytes bzimage = {0}, file = {0};
	int fd, before = entries("/proc/self/fd", NULL, 0);

	test_kernel_build(&kernel, &kernel_spec);
	assert_true(test_bzimage_of(&bzimage, &spec, &kernel));
	const struct test_uki_part parts[] = {{".linux", bzimage.at, bzimage.count}, {".initrd", "initrd", 6}};

	test_uki_of(&file, UKI_MACHINE_X86_64, parts, 2);
	fd = open(f->kernel, O_WRONLY | O_TRUNC | O_CLOEXEC);
	assert_int_equal(write(fd, file.at, file.count), file.count);
	close(fd);
	for (int i = 0; i < 2; i++) {
		assert_int_equal(kernel_open(&f->k, &f->request, &f->error), 0);
		assert_int_equal(f->k.way, i ? KERNEL_CACHE_HIT : KERNEL_CACHE_MISS);
		assert_int_equal(f->k.uki_fd, 0); /* the first that was free */
		assert_int_equal(f->k.uki.initrd.bytes, 6);
		assert_memory_equal(file.at + f->k.uki.initrd.offset, "initrd", 6);
		assert_int_equal(fcntl(f->k.uki_fd, F_GETFD), FD_CLOEXEC);
		kernel_close(&f->k);
		assert_int_equal(f->k.uki_fd, -1);
		assert_int_equal(entries("/proc/self/fd", NULL, 0), before);
	}
	assert_int_equal(truncate(f->kernel, 0), 0);
	write_kernel(f->kernel, 0xf4);
	must_open(f, KERNEL_CACHE_MISS);
	assert_int_equal(f->k.uki_fd, -1);
	test_bytes_free(&file);
	test_bytes_free(&bzimage);
	test_kernel_free(&kernel);
}

static void make_entry(const char *directory, const char *name, time_t used, size_t bytes)
{
	char path[256];
	static char filler[65536];
	int fd;

	snprintf(path, sizeof path, "%s/%s", directory, name);
	fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	memset(filler, 1, sizeof filler);
	assert_int_equal(write(fd, filler, bytes), bytes);
	assert_int_equal(futimens(fd, (struct timespec[2]){{.tv_sec = used}, {.tv_sec = used}}), 0);
	close(fd);
}

static void test_trim(void **state)
{
	struct fixture *f = *state;
	struct cache_file file;
	char path[256];

	assert_int_equal(mkdir(f->cache, 0700), 0);
	make_entry(f->cache, "v1-new.riffle", 3000, 65536);
	make_entry(f->cache, "v1-old.riffle", 1000, 65536);
	make_entry(f->cache, "v1-oldest-but-kept.riffle", 500, 65536);
	make_entry(f->cache, "v1-middle.riffle", 2000, 65536);
	make_entry(f->cache, "somebody's notes", 100, 65536);
	make_entry(f->cache, ".new-1-2", 100, 65536);
	make_entry(f->cache, ".new-3-4", time(NULL), 65536);
	assert_int_equal(cache_create(&file, f->cache, &f->error), 0);
	cache_trim(&file, "v1-oldest-but-kept.riffle", 1 << 20);
	assert_int_equal(entries(f->cache, NULL, 0), 6); /* enough room: only the old temporary file went */
	cache_trim(&file, "v1-oldest-but-kept.riffle", 150000);
	cache_close(&file);
	assert_int_equal(entries(f->cache, NULL, 0), 4);
	snprintf(path, sizeof path, "%s/v1-new.riffle", f->cache);
	assert_int_equal(access(path, F_OK), 0);
	snprintf(path, sizeof path, "%s/v1-oldest-but-kept.riffle", f->cache);
	assert_int_equal(access(path, F_OK), 0);
}

/* Using an entry updates its time, but not at every boot. */
static void test_use_is_noted(void **state)
{
	struct fixture *f = *state;
	char path[512];
	struct stat st;

	must_open(f, KERNEL_CACHE_MISS);
	assert_int_equal(entries(f->cache, path, sizeof path), 1);
	utimensat(AT_FDCWD, path, (struct timespec[2]){{.tv_sec = 1000}, {.tv_sec = 1000}}, 0);
	must_open(f, KERNEL_CACHE_HIT);
	assert_int_equal(stat(path, &st), 0);
	assert_true(time(NULL) - st.st_mtim.tv_sec < 600);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    TEST(test_miss_then_hit),
	    TEST(test_no_cache),
	    TEST(test_name_has_all_of_an_identity),
	    TEST(test_kernel_changed_in_place),
	    TEST(test_bad_entries_are_replaced),
	    TEST(test_cache_that_others_can_write),
	    TEST(test_default_directory),
	    TEST(test_two_runs_at_once),
	    TEST(test_trust_of_prepared),
	    TEST(test_names),
	    TEST(test_file_changes_meanwhile),
	    TEST(test_trim),
	    TEST(test_use_is_noted),
	    TEST(test_preparing_is_told),
	    TEST(test_cache_without_room),
	    TEST(test_compressed),
	    TEST(test_unified_image),
	};

	umask(022);
	close(0); /* which makes it a descriptor as any other */
	return cmocka_run_group_tests_name("kernel", tests, NULL, NULL);
}
