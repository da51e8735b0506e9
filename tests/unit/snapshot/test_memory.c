/* SPDX-License-Identifier: Apache-2.0 */
/* Saving guest memory to files: every non-zero page, holes for the rest, and every changed page. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cmocka.h>

#include "monitor/core/internal.h"
#include "monitor/core/kvm.h"
#include "monitor/snapshot/memory.h"
#include "tests/unit/interrupted.h"

#define BYTES (8u << 20)

static struct vm *make_vm(const struct guest_memory_file *file, bool track)
{
	const struct vm_config config = {
	    .vcpus = 1, .memory_bytes = BYTES, .can_save = true, .memory_file = file, .track_dirty = track};
	const struct vm_handlers handlers = {0};
	int fd = kvm_open(NULL);
	struct vm *vm;

	if (fd < 0)
		skip();
	assert_int_equal(vm_new(&vm, &config, &handlers, NULL), 0);
	assert_int_equal(vm_open(vm, fd, NULL), 0);
	return vm;
}

static int file(void)
{
	int fd = memfd_create("memory", MFD_CLOEXEC);

	assert_true(fd >= 0);
	return fd;
}

static int pagemap(void)
{
	int fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);

	assert_true(fd >= 0);
	return fd;
}

static void assert_file_is(int fd, const struct vm *vm)
{
	uint8_t *data = mmap(NULL, BYTES, PROT_READ, MAP_SHARED, fd, 0);
	struct stat st;

	assert_int_equal(fstat(fd, &st), 0);
	assert_int_equal(st.st_size, BYTES);
	assert_true(data != MAP_FAILED);
	assert_int_equal(memcmp(data, guest_memory_start(&vm->memory), BYTES), 0);
	munmap(data, BYTES);
}

static void put(struct vm *vm, uint64_t at, uint8_t value)
{
	assert_true(guest_memory_write(&vm->memory, at, &value, 1));
}

static int save_memory(struct vm *vm, struct memory_save *save)
{
	int status = memory_save(vm, save, NULL);

	memory_save_end(vm, save, !status);
	return status;
}

/* With and without the pagemap, or with one that says nothing: the same file. */
static void test_all(void **unused)
{
	(void)unused;
	for (unsigned i = 0; i < 3; i++) {
		struct vm *vm = make_vm(NULL, false);
		struct memory_save save = {.fd = file(),
					   .fresh = true,
					   .pagemap_fd = i == 0   ? -1
							 : i == 1 ? pagemap()
								  : file()};

		put(vm, 0, 1);
		put(vm, 4095, 2);
		put(vm, 5 * 4096, 3);
		put(vm, BYTES - 1, 4);
		put(vm, 1 << 20, 0); /* touched, and still zero */
		assert_int_equal(save_memory(vm, &save), 0);
		assert_int_equal(save.written, 3 * 4096);
		assert_file_is(save.fd, vm);
		close(save.fd);
		vm_destroy(vm);
	}
}

/* Signals that interrupt its calls, and a file that takes less than it is given at once, change nothing. */
static void test_interrupted(void **unused)
{
	struct vm *vm = make_vm(NULL, false);
	struct memory_save save = {.fd = file(), .fresh = true, .pagemap_fd = -1};

	(void)unused;
	for (unsigned i = 0; i < 100; i++)
		put(vm, i * 5000, (uint8_t)(i + 1));
	interrupt_all = true;
	int status = save_memory(vm, &save);

	interrupt_all = false;
	assert_int_equal(status, 0);
	assert_file_is(save.fd, vm);
	close(save.fd);
	vm_destroy(vm);
}

/* A page of which a single byte is not zero, whichever it is, is written; its neighbours stay holes. */
static void every_byte_of_a_page_counts(void **unused)
{
	(void)unused;
	for (unsigned i = 0; i < 2; i++) {
		struct vm *vm = make_vm(NULL, false);
		struct memory_save save = {.fd = file(), .fresh = true, .pagemap_fd = i ? pagemap() : -1};
		struct stat st;

		/* in each word of a page once, and in runs of one to three pages */
		uint64_t pages = 0;

		for (uint64_t page = 0; page < BYTES / 4096; page++)
			if (page % 4 < page / 4 % 4) {
				put(vm, page * 4096 + pages % 512 * 8 + page % 8, 1);
				pages++;
			}
		assert_true(pages >= 512);
		assert_int_equal(save_memory(vm, &save), 0);
		assert_int_equal(save.written, pages * 4096);
		assert_int_equal(fstat(save.fd, &st), 0);
		assert_int_equal((uint64_t)st.st_blocks * 512, pages * 4096);
		assert_file_is(save.fd, vm); /* which fills the holes */
		close(save.fd);
		vm_destroy(vm);
	}
}

/* Overwriting a file with other content: its old bytes are gone. */
static void test_over_another(void **unused)
{
	struct vm *vm = make_vm(NULL, false);
	struct memory_save save = {.fd = file(), .pagemap_fd = pagemap()};

	(void)unused;
	for (uint64_t at = 0; at < BYTES + 4096; at += 512)
		assert_int_equal(pwrite(save.fd, "x", 1, (off_t)at), 1);
	put(vm, 12345, 1);
	assert_int_equal(save_memory(vm, &save), 0);
	assert_file_is(save.fd, vm);
	close(save.fd);
	vm_destroy(vm);
}

static void test_tracked_changes(void **unused)
{
	struct vm *vm = make_vm(NULL, true);
	struct memory_save save = {.fd = file(), .fresh = true, .changed = true, .pagemap_fd = -1};

	(void)unused;
	put(vm, 0x200000, 1);
	/* the first: no file ever held this guest */
	assert_int_equal(save_memory(vm, &save), 0);
	assert_file_is(save.fd, vm);
	uint64_t monitors = 0x61 * 4096; /* the monitor's own pages are always written */

	save.fresh = false;
	assert_int_equal(save_memory(vm, &save), 0);
	assert_int_equal(save.written, monitors);
	put(vm, 0x200000, 0); /* back to zero is a change too */
	put(vm, 0x300fff, 7);
	uint8_t two[2] = {8, 9};

	assert_true(guest_memory_write(&vm->memory, 0x400fff, two, 2));
	assert_int_equal(save_memory(vm, &save), 0);
	assert_int_equal(save.written, monitors + 4 * 4096);
	assert_file_is(save.fd, vm);
	put(vm, 0x500000, 1);
	assert_true(guest_memory_discard(&vm->memory, guest_memory_at(&vm->memory, 0x500000, 4096), 4096));
	assert_int_equal(save_memory(vm, &save), 0);
	assert_int_equal(save.written, monitors + 4096);
	assert_file_is(save.fd, vm);
	close(save.fd);
	vm_destroy(vm);
}

/* Dirty pages taken from the log by a failed save are in the next one. */
static void test_full_disk(void **unused)
{
	struct vm *vm = make_vm(NULL, true);
	struct memory_save save = {.fd = file(), .fresh = true, .pagemap_fd = -1};
	struct rlimit limit = {.rlim_cur = 0x250000, .rlim_max = RLIM_INFINITY};

	(void)unused;
	assert_int_equal(save_memory(vm, &save), 0);
	put(vm, 0x200000, 1);
	put(vm, 0x300000, 2);
	save.changed = true;
	save.fresh = false;
	signal(SIGXFSZ, SIG_IGN);
	getrlimit(RLIMIT_FSIZE, &limit);
	limit.rlim_cur = 0x250000;
	setrlimit(RLIMIT_FSIZE, &limit);
	int status = save_memory(vm, &save);

	limit.rlim_cur = limit.rlim_max;
	setrlimit(RLIMIT_FSIZE, &limit);
	assert_int_equal(status, RIFFLE_ERR_IO);
	assert_int_equal(save_memory(vm, &save), 0);
	assert_file_is(save.fd, vm);
	close(save.fd);
	vm_destroy(vm);
}

/* Of a save that was complete and got no name in the end, the next has everything: first a whole one, then changes. */
static void test_given_back(void **unused)
{
	struct vm *vm = make_vm(NULL, true);
	struct memory_save save = {.fd = file(), .fresh = true, .changed = true, .pagemap_fd = -1};
	int lost = file();

	(void)unused;
	put(vm, 0x200000, 1);
	save.fd = lost;
	assert_int_equal(memory_save(vm, &save, NULL), 0);
	memory_save_end(vm, &save, false);
	save.fd = file();
	assert_int_equal(save_memory(vm, &save), 0);
	assert_file_is(save.fd, vm);

	int kept = save.fd;

	put(vm, 0x300000, 2);
	put(vm, BYTES - 1, 3);
	save.fresh = false;
	save.fd = lost;
	assert_int_equal(memory_save(vm, &save, NULL), 0);
	put(vm, 0x400000, 4);
	memory_save_end(vm, &save, false);
	memory_save_end(vm, &save, false); /* nothing is left to be done */
	save.fd = kept;
	assert_int_equal(save_memory(vm, &save), 0);
	assert_file_is(kept, vm);
	close(kept);
	close(lost);
	vm_destroy(vm);
}

/* Made of a file: what changed is found by the pagemap; a discarded page is zero and not the file's again. */
static void test_from_file(void **unused)
{
	struct guest_memory_file from = {.fd = file()};
	struct memory_save save = {.fd = -1, .changed = true, .pagemap_fd = pagemap()};

	(void)unused;
	assert_int_equal(ftruncate(from.fd, BYTES), 0);
	assert_int_equal(pwrite(from.fd, "abc", 3, 0x300000), 3);
	assert_int_equal(pwrite(from.fd, "def", 3, 0x400000), 3);
	save.fd = dup(from.fd); /* in place, as an update does */
	struct vm *vm = make_vm(&from, false);

	assert_memory_equal(guest_memory_at(&vm->memory, 0x300000, 3), "abc", 3);
	put(vm, 0x600000, 5);
	assert_true(guest_memory_discard(&vm->memory, guest_memory_at(&vm->memory, 0x400000, 4096), 4096));
	assert_memory_equal(guest_memory_at(&vm->memory, 0x400000, 3), "\0\0\0", 3);
	assert_int_equal(save_memory(vm, &save), 0);
	assert_true(save.written >= 4096 && save.written < BYTES / 4);
	uint8_t byte;

	assert_int_equal(pread(save.fd, &byte, 1, 0x600000), 1);
	assert_int_equal(byte, 5);
	/* all of it, the part that is only in the file included */
	int whole = file();

	save = (struct memory_save){.fd = whole, .fresh = true, .pagemap_fd = save.pagemap_fd};
	assert_int_equal(save_memory(vm, &save), 0);
	assert_file_is(whole, vm);
	vm_destroy(vm);
	close(whole);
}

/* A file used by this guest alone: its data is used in place, and the guest's additions take no space in it. */
static void test_own_file(void **unused)
{
	struct guest_memory_file from = {.fd = file(), .shared = true};
	struct memory_save save = {.fd = file(), .fresh = true, .pagemap_fd = pagemap()};
	struct stat before, after;
	int kept = dup(from.fd);
	uint8_t byte;

	(void)unused;
	assert_int_equal(ftruncate(from.fd, BYTES), 0);
	assert_int_equal(pwrite(from.fd, "abc", 3, 0x300ffd), 3);
	assert_int_equal(pwrite(from.fd, "def", 3, 0x301000), 3);
	assert_int_equal(pwrite(from.fd, "z", 1, BYTES - 1), 1);
	assert_int_equal(fstat(from.fd, &before), 0);
	struct vm *vm = make_vm(&from, false);

	assert_memory_equal(guest_memory_at(&vm->memory, 0x300ffd, 6), "abcdef", 6);
	assert_memory_equal(guest_memory_at(&vm->memory, BYTES - 1, 1), "z", 1);
	put(vm, 0, 1);
	put(vm, 0x2fffff, 2);
	put(vm, 0x302000, 3);
	put(vm, BYTES - 4097, 4);
	put(vm, 0x300000, 5);
	put(vm, 0x301fff, 6);
	assert_int_equal(fstat(kept, &after), 0);
	assert_int_equal(after.st_blocks, before.st_blocks);
	assert_int_equal(pread(kept, &byte, 1, 0x300000), 1);
	assert_int_equal(byte, 5);
	assert_int_equal(pread(kept, &byte, 1, 0x301fff), 1);
	assert_int_equal(byte, 6);
	assert_int_equal(save_memory(vm, &save), 0);
	assert_int_equal(save.written, 7 * 4096);
	assert_file_is(save.fd, vm);
	close(save.fd);
	/* across both ends of what the file has */
	assert_true(guest_memory_discard(&vm->memory, guest_memory_at(&vm->memory, 0x2ff000, 4 * 4096), 4 * 4096));
	assert_int_equal(fstat(kept, &after), 0);
	assert_int_equal(after.st_blocks, before.st_blocks - 2 * 8);
	for (unsigned at = 0x2ff000; at < 0x303000; at++)
		assert_int_equal(*(uint8_t *)guest_memory_at(&vm->memory, at, 1), 0);
	assert_memory_equal(guest_memory_at(&vm->memory, BYTES - 4097, 1), "\4", 1);
	vm_destroy(vm);
	close(kept);
	close(save.pagemap_fd);
}

/* What the code under test calls. */
static bool no_room;

int fallocate(int fd, int mode, off_t from, off_t bytes)
{
	if (no_room)
		return errno = ENOSPC, -1;
	return (int)syscall(SYS_fallocate, fd, mode, from, bytes);
}

/* What was copied before the guest stood still is copied again where a write is known, and only there. */
static void test_prepared(void **unused)
{
	struct vm *vm = make_vm(NULL, true);
	struct memory_save save = {.fd = file(), .fresh = true, .pagemap_fd = pagemap()};
	uint64_t monitors = 0x61 * 4096;
	uint8_t byte;

	(void)unused;
	put(vm, 0x200000, 1);
	put(vm, 0x300000, 2);
	assert_int_equal(save_memory(vm, &save), 0); /* takes the marks */
	close(save.fd);
	save.fd = file();
	assert_int_equal(memory_save_prepare(vm, &save, NULL), 0);
	assert_int_equal(save.written, 2 * 4096);
	assert_int_equal(pread(save.fd, &byte, 1, 0x300000), 1);
	assert_int_equal(byte, 2);
	*guest_memory_start(&vm->memory) = 6; /* in no log: stays out of the file */
	*(guest_memory_start(&vm->memory) + 0x200000) = 7;
	put(vm, 0x300000, 0);
	put(vm, 0x400000, 4);
	put(vm, 0x500000, 5);
	assert_true(guest_memory_discard(&vm->memory, guest_memory_at(&vm->memory, 0x500000, 4096), 4096));
	assert_int_equal(memory_save(vm, &save, NULL), 0);
	assert_int_equal(save.written, 4 * 4096);
	assert_int_equal(lseek(save.fd, 0, SEEK_DATA), 0x200000);
	assert_int_equal(lseek(save.fd, 0x500000, SEEK_DATA), -1); /* was never anything but zeros in the file */
	*guest_memory_start(&vm->memory) = 0;
	*(guest_memory_start(&vm->memory) + 0x200000) = 1;
	assert_file_is(save.fd, vm);

	int whole = save.fd;

	/* it got no name: what it took is in the next changes against the one before */
	memory_save_end(vm, &save, false);
	save.fd = file();
	save.changed = true;
	save.fresh = false;
	assert_int_equal(save_memory(vm, &save), 0);
	assert_int_equal(save.written, monitors + 3 * 4096);
	close(save.fd);
	close(whole);
	close(save.pagemap_fd);
	vm_destroy(vm);
}

/* Marks from before are written twice: a device may write a page after it was copied, having marked it before. */
static void test_prepared_with_marks(void **unused)
{
	struct vm *vm = make_vm(NULL, true);
	struct memory_save save = {.fd = file(), .fresh = true, .pagemap_fd = pagemap()};

	(void)unused;
	put(vm, 0x200000, 1);
	assert_int_equal(memory_save_prepare(vm, &save, NULL), 0);
	*(guest_memory_start(&vm->memory) + 0x200000) = 2;
	assert_int_equal(save_memory(vm, &save), 0);
	assert_int_equal(save.written, 2 * 4096);
	assert_file_is(save.fd, vm);
	close(save.fd);
	close(save.pagemap_fd);
	vm_destroy(vm);
}

/* Without a log a file in memory gets its pages early, for what is not zero. */
static void test_allocated_early(void **unused)
{
	struct vm *vm = make_vm(NULL, false);
	struct memory_save save = {.fd = file(), .fresh = true, .pagemap_fd = pagemap()};
	struct stat st;

	(void)unused;
	put(vm, 0x200000, 1);
	put(vm, 0x300000, 0);
	assert_int_equal(memory_save_prepare(vm, &save, NULL), 0);
	assert_int_equal(fstat(save.fd, &st), 0);
	assert_int_equal(st.st_blocks, 8);
	put(vm, 0x400000, 2);
	assert_int_equal(save_memory(vm, &save), 0);
	assert_int_equal(fstat(save.fd, &st), 0);
	assert_int_equal(st.st_blocks, 2 * 8);
	assert_file_is(save.fd, vm);
	close(save.fd);
	save.fd = file();
	no_room = true;
	assert_int_equal(memory_save_prepare(vm, &save, NULL), RIFFLE_ERR_IO);
	no_room = false;
	memory_save_end(vm, &save, false);
	close(save.fd);
	close(save.pagemap_fd);
	vm_destroy(vm);
}

/* There is no room for what the guest would write between the pieces: it runs of a copy, without the file. */
static void test_own_file_without_room(void **unused)
{
	struct guest_memory_file from = {.fd = file(), .shared = true};
	struct memory_save save = {.fd = file(), .fresh = true, .pagemap_fd = pagemap()};
	struct stat before, after;
	int kept = dup(from.fd);
	uint8_t byte;

	(void)unused;
	assert_int_equal(ftruncate(from.fd, BYTES), 0);
	for (unsigned i = 0; i < 600; i++)
		assert_int_equal(pwrite(from.fd, "x", 1, (off_t)(2 * i + 1) * 4096), 1);
	assert_int_equal(fstat(from.fd, &before), 0);
	no_room = true;
	struct vm *vm = make_vm(&from, false);

	no_room = false;
	for (unsigned i = 0; i < 600; i++) {
		assert_memory_equal(guest_memory_at(&vm->memory, (2 * i + 1) * 4096, 1), "x", 1);
		put(vm, 2 * i * 4096, 'y');
		put(vm, (2 * i + 1) * 4096, 'z');
	}
	assert_int_equal(fstat(kept, &after), 0);
	assert_int_equal(after.st_blocks, before.st_blocks);
	assert_int_equal(pread(kept, &byte, 1, 4096), 1);
	assert_int_equal(byte, 'x');
	assert_true(guest_memory_discard(&vm->memory, guest_memory_at(&vm->memory, 4096, 4096), 4096));
	assert_memory_equal(guest_memory_at(&vm->memory, 4096, 1), "\0", 1);
	assert_int_equal(save_memory(vm, &save), 0);
	assert_file_is(save.fd, vm);
	vm_destroy(vm);
	close(save.fd);
	close(save.pagemap_fd);
	close(kept);
}

/* With more extents than are mapped one by one, and with exactly as many. */
static void test_own_file_in_pieces(void **unused)
{
	(void)unused;
	for (unsigned pieces = 511; pieces <= 514; pieces++) {
		struct guest_memory_file from = {.fd = file(), .shared = true};
		struct memory_save save = {.fd = file(), .fresh = true, .pagemap_fd = pagemap()};

		assert_int_equal(ftruncate(from.fd, BYTES), 0);
		for (unsigned i = 0; i < pieces; i++)
			assert_int_equal(pwrite(from.fd, "x", 1, (off_t)(2 * i + 1) * 4096 + i), 1);
		struct vm *vm = make_vm(&from, false);

		assert_true(vm->memory.extent_count >= 1 && vm->memory.extent_count <= 512);
		if (pieces <= 512)
			assert_int_equal(vm->memory.extent_count, pieces);
		for (unsigned i = 0; i < pieces; i++) {
			const uint8_t *page = guest_memory_at(&vm->memory, (2 * i + 1) * 4096, 4096);

			for (unsigned at = 0; at < 4096; at++)
				assert_int_equal(page[at], at == i ? 'x' : 0);
			put(vm, 2 * i * 4096, 'y');
		}
		assert_int_equal(save_memory(vm, &save), 0);
		assert_file_is(save.fd, vm);
		vm_destroy(vm);
		close(save.fd);
		close(save.pagemap_fd);
	}
}

static void test_wrong_files(void **unused)
{
	struct guest_memory memory;
	struct riffle_error error;

	(void)unused;
	for (int off = -1; off <= 1; off++) {
		struct guest_memory_file from = {.fd = file()};

		assert_int_equal(ftruncate(from.fd, (off_t)BYTES + off), 0);
		assert_int_equal(!guest_memory_map_file(&memory, BYTES, &from, &error), !off);
		if (!off)
			guest_memory_unmap(&memory);
		/* the descriptor is gone either way */
		assert_int_equal(fcntl(from.fd, F_GETFD), -1);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(every_byte_of_a_page_counts),
	    cmocka_unit_test(test_all),
	    cmocka_unit_test(test_interrupted),
	    cmocka_unit_test(test_over_another),
	    cmocka_unit_test(test_tracked_changes),
	    cmocka_unit_test(test_full_disk),
	    cmocka_unit_test(test_given_back),
	    cmocka_unit_test(test_from_file),
	    cmocka_unit_test(test_own_file),
	    cmocka_unit_test(test_prepared),
	    cmocka_unit_test(test_prepared_with_marks),
	    cmocka_unit_test(test_allocated_early),
	    cmocka_unit_test(test_own_file_without_room),
	    cmocka_unit_test(test_own_file_in_pieces),
	    cmocka_unit_test(test_wrong_files),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
