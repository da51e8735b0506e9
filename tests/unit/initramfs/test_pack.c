/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A directory packed as an initramfs: each kind of file, links, holes, odd names, files that change, and unpacking by
 * cpio.
 */
#include <errno.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/sysmacros.h>

#include "pack_fixture.h"

static void test_empty(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(fchmod(f->fd, 01751), 0);
	pack(f);
	assert_int_equal(f->newc.count, 1);
	assert_string_equal(f->newc.file[0].name, ".");
	assert_int_equal(f->newc.file[0].mode, S_IFDIR | 01751);
	assert_int_equal(f->newc.file[0].uid, getuid());
}

static void test_kinds(void **state)
{
	struct fixture *f = *state;
	const struct newc_file *file;
	struct timespec times[2] = {{.tv_sec = 1}, {.tv_sec = 1234567890, .tv_nsec = 999999999}};

	put_file(f, "file", "content", 7);
	assert_int_equal(fchmodat(f->fd, "file", 06751, 0), 0);
	assert_int_equal(utimensat(f->fd, "file", times, 0), 0);
	assert_int_equal(mkdirat(f->fd, "sub", 0700), 0);
	put_file(f, "sub/inner", "", 0);
	assert_int_equal(symlinkat("/etc/passwd", f->fd, "link"), 0);
	assert_int_equal(symlinkat("sub", f->fd, "sub-link"), 0);
	assert_int_equal(mkfifoat(f->fd, "fifo", 0620), 0);
	pack(f);
	assert_int_equal(f->newc.count, 7);
	file = get(f, "file");
	assert_int_equal(file->mode, S_IFREG | 06751);
	assert_int_equal(file->size, 7);
	assert_memory_equal(file->data, "content", 7);
	assert_int_equal(file->mtime, 1234567890);
	assert_int_equal(file->links, 1);
	assert_int_equal(file->uid, getuid());
	assert_int_equal(file->gid, getgid());
	assert_int_equal(get(f, "sub")->mode, S_IFDIR | 0700);
	assert_int_equal(get(f, "sub/inner")->size, 0);
	file = get(f, "link");
	assert_int_equal(file->mode & S_IFMT, S_IFLNK);
	assert_int_equal(file->size, 11);
	assert_memory_equal(file->data, "/etc/passwd", 11);
	assert_int_equal(get(f, "sub-link")->size, 3);
	assert_null(newc_find(&f->newc, "sub-link/inner"));
	assert_int_equal(get(f, "fifo")->mode, S_IFIFO | (0620 & ~022));
}

static void test_devices_and_owners(void **state)
{
	struct fixture *f = *state;

	if (mknodat(f->fd, "block", S_IFBLK | 0600, makedev(259, 70000)) < 0)
		skip();
	put_file(f, "file", "x", 1);
	assert_int_equal(fchownat(f->fd, "file", 70001, 70002, 0), 0);
	pack(f);
	assert_int_equal(get(f, "block")->major, 259);
	assert_int_equal(get(f, "block")->minor, 70000);
	assert_int_equal(get(f, "block")->mode & S_IFMT, S_IFBLK);
	assert_int_equal(get(f, "file")->uid, 70001);
	assert_int_equal(get(f, "file")->gid, 70002);
}

static void test_root_owns_and_no_times(void **state)
{
	struct fixture *f = *state;
	const struct initramfs_directory directory = {.fd = f->fd, .root_owns = true, .no_times = true};

	put_file(f, "file", "x", 1);
	assert_int_equal(initramfs_add_directory(f->archive, &directory, &f->error), 0);
	assert_int_equal(write_archive(f), 0);
	for (size_t i = 0; i < f->newc.count; i++) {
		assert_int_equal(f->newc.file[i].uid | f->newc.file[i].gid, 0);
		assert_int_equal(f->newc.file[i].mtime, 0);
	}
}

static void test_hard_links(void **state)
{
	struct fixture *f = *state;
	unsigned with_data = 0;

	put_file(f, "b", "shared", 6);
	assert_int_equal(mkdirat(f->fd, "a", 0755), 0);
	assert_int_equal(linkat(f->fd, "b", f->fd, "a/first", 0), 0);
	assert_int_equal(linkat(f->fd, "b", f->fd, "c", 0), 0);
	put_file(f, "other", "other!", 6);
	assert_int_equal(linkat(f->fd, "other", f->fd, "outside", 0), 0);
	/* a hard link whose other name is not packed is an ordinary file */
	const struct initramfs_entry over = {.path = "/outside", .mode = S_IFREG | 0600};

	assert_int_equal(collect(f), 0);
	assert_int_equal(initramfs_add(f->archive, &over, &f->error), 0);
	assert_int_equal(write_archive(f), 0);
	for (const char *const *name = (const char *const[]){"a/first", "b", "c", NULL}; *name; name++) {
		assert_int_equal(get(f, *name)->ino, get(f, "b")->ino);
		assert_int_equal(get(f, *name)->links, 3);
		with_data += get(f, *name)->size != 0;
	}
	assert_int_equal(with_data, 1);
	assert_int_equal(get(f, "c")->size, 6); /* in the last one, as cpio writes it and expects it */
	assert_int_equal(get(f, "other")->links, 1);
	assert_int_equal(get(f, "other")->size, 6);
	assert_int_not_equal(get(f, "other")->ino, get(f, "b")->ino);
	assert_int_not_equal(get(f, "other")->ino, get(f, "outside")->ino);
}

static void test_sparse(void **state)
{
	struct fixture *f = *state;
	const size_t size = 3 << 20;
	const struct newc_file *file;
	int fd = openat(f->fd, "sparse", O_WRONLY | O_CREAT, 0644);
	int tail = openat(f->fd, "tail", O_WRONLY | O_CREAT, 0644);

	assert_int_equal(ftruncate(fd, (off_t)size), 0);
	assert_int_equal(pwrite(fd, "head", 4, 0), 4);
	assert_int_equal(pwrite(fd, "middle", 6, (1 << 20) - 3), 6);
	assert_int_equal(pwrite(fd, "z", 1, (off_t)size - 1), 1);
	assert_int_equal(ftruncate(tail, 1 << 20), 0);
	close(fd);
	close(tail);
	pack(f);
	file = get(f, "sparse");
	assert_int_equal(file->size, size);
	assert_memory_equal(file->data, "head", 5);
	assert_memory_equal(file->data + (1 << 20) - 4, "\0middle\0", 8);
	assert_memory_equal(file->data + size - 2, "\0z", 2);
	assert_int_equal(get(f, "tail")->size, 1 << 20);
}

static void test_names(void **state)
{
	struct fixture *f = *state;
	char longest[256];
	static const char *const odd[] = {" ", "-", "new\nline", "\x01\xff", "a b", "...", "TRAILER!!! ", NULL};

	memset(longest, 'n', 255);
	longest[255] = '\0';
	put_file(f, longest, "1", 1);
	for (size_t i = 0; odd[i]; i++)
		put_file(f, odd[i], odd[i], strlen(odd[i]));
	put_file(f, "TRAILER!!!", "not the end", 11);
	assert_int_equal(mkdirat(f->fd, "d", 0755), 0);
	put_file(f, "d/TRAILER!!!", "", 0);
	pack(f);
	assert_int_equal(get(f, longest)->size, 1);
	for (size_t i = 0; odd[i]; i++)
		assert_memory_equal(get(f, odd[i])->data, odd[i], strlen(odd[i]));
	assert_int_equal(get(f, "./TRAILER!!!")->size, 11);
	get(f, "d/TRAILER!!!");
}

/* One name more than an initramfs can hold: 4095 bytes are the most. */
static void test_path_too_long(void **state)
{
	struct fixture *f = *state;
	char name[201];
	int fd = dup(f->fd), next;

	memset(name, 'd', 200);
	name[200] = '\0';
	for (int i = 0; i < 20; i++) { /* 20 * 201 = 4020 bytes with slashes */
		assert_int_equal(mkdirat(fd, name, 0755), 0);
		next = openat(fd, name, O_RDONLY | O_DIRECTORY);
		close(fd);
		fd = next;
	}
	name[75] = '\0';
	close(openat(fd, name, O_WRONLY | O_CREAT, 0644));
	pack(f);
	assert_int_equal(f->newc.count, 22);
	assert_int_equal(strlen(f->newc.file[21].name), 4095);
	name[75] = 'd';
	name[76] = '\0';
	close(openat(fd, name, O_WRONLY | O_CREAT, 0644));
	close(fd);
	initramfs_free(f->archive);
	assert_int_equal(initramfs_new(&f->archive, &f->error), 0);
	assert_int_equal(collect(f), RIFFLE_ERR_UNSUPPORTED);
	assert_string_equal(f->error.field, "path");
	assert_int_equal(f->error.found, 4096);
	assert_int_equal(f->error.expected, 4095);
}

static void test_order(void **state)
{
	struct fixture *f = *state;
	static const char *const expected[] = {".", "A", "a", "a/b", "a/c", "a.b", "b", "\xc3\xa9"};

	for (size_t i = sizeof expected / sizeof *expected; i-- > 1;)
		if (!strcmp(expected[i], "a"))
			assert_true(mkdirat(f->fd, "a", 0755) == 0 || errno == EEXIST);
		else if (expected[i][1] == '/')
			assert_true(mkdirat(f->fd, "a", 0755) == 0 || errno == EEXIST), put_file(f, expected[i], "", 0);
		else
			put_file(f, expected[i], "", 0);
	pack(f);
	assert_int_equal(f->newc.count, sizeof expected / sizeof *expected);
	for (size_t i = 0; i < f->newc.count; i++)
		assert_string_equal(f->newc.file[i].name, expected[i]);
}

static void test_many_files(void **state)
{
	struct fixture *f = *state;
	char name[16];

	for (int i = 0; i < 400; i++) {
		snprintf(name, sizeof name, "%d", i * 7919 % 400);
		put_file(f, name, name, strlen(name));
	}
	pack(f);
	assert_int_equal(f->newc.count, 401);
	for (size_t i = 1; i + 1 < f->newc.count; i++)
		assert_true(strcmp(f->newc.file[i].name, f->newc.file[i + 1].name) < 0);
}

/* ---- what goes wrong ---- */

static void test_size_changes(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(mkdirat(f->fd, "d", 0755), 0);
	put_file(f, "d/grows", "12345", 5);
	assert_int_equal(collect(f), 0);
	put_file(f, "d/grows", "123456", 6);
	assert_int_equal(write_archive(f), RIFFLE_ERR_CHANGED);
	assert_string_equal(initramfs_blame(f->archive), "d/grows");
	assert_int_equal(f->error.found, 6);
	assert_int_equal(f->error.expected, 5);
	put_file(f, "d/grows", "1234", 4);
	assert_int_equal(write_archive(f), RIFFLE_ERR_CHANGED);
	put_file(f, "d/grows", "54321", 5);
	assert_int_equal(write_archive(f), 0);
}

static void test_replaced(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(mkdirat(f->fd, "d", 0755), 0);
	put_file(f, "d/file", "12345", 5);
	put_file(f, "victim", "54321", 5);
	assert_int_equal(collect(f), 0);
	/* by a link: not followed */
	assert_int_equal(unlinkat(f->fd, "d/file", 0), 0);
	assert_int_equal(symlinkat("../victim", f->fd, "d/file"), 0);
	assert_int_equal(write_archive(f), RIFFLE_ERR_IO);
	assert_int_equal(f->error.sys_errno, ELOOP);
	assert_string_equal(initramfs_blame(f->archive), "d/file");
	/* by a FIFO: not waited for */
	assert_int_equal(unlinkat(f->fd, "d/file", 0), 0);
	assert_int_equal(mkfifoat(f->fd, "d/file", 0644), 0);
	assert_int_equal(write_archive(f), RIFFLE_ERR_CHANGED);
	/* its directory by a link */
	assert_int_equal(renameat(f->fd, "d", f->fd, "e"), 0);
	assert_int_equal(symlinkat("e", f->fd, "d"), 0);
	assert_int_equal(write_archive(f), RIFFLE_ERR_IO);
	assert_int_equal(f->error.sys_errno, ENOTDIR);
}

static void test_vanished(void **state)
{
	struct fixture *f = *state;

	put_file(f, "file", "12345", 5);
	assert_int_equal(collect(f), 0);
	assert_int_equal(unlinkat(f->fd, "file", 0), 0);
	assert_int_equal(write_archive(f), RIFFLE_ERR_IO);
	assert_int_equal(f->error.sys_errno, ENOENT);
	assert_string_equal(initramfs_blame(f->archive), "file");
}

static void test_unreadable(void **state)
{
	struct fixture *f = *state;

	put_file(f, "secret", "12345", 5);
	assert_int_equal(fchmodat(f->fd, "secret", 0, 0), 0);
	assert_int_equal(fchmod(f->fd, 0755), 0);
	if (!getuid() && seteuid(65534))
		skip();
	int status = collect(f);
	int written = status ? 0 : write_archive(f);

	assert_int_equal(seteuid(getuid()), 0);
	assert_int_equal(status, 0);
	assert_int_equal(written, RIFFLE_ERR_IO);
	assert_int_equal(f->error.sys_errno, EACCES);
	assert_string_equal(initramfs_blame(f->archive), "secret");
}

static void test_too_large(void **state)
{
	struct fixture *f = *state;
	int fd = openat(f->fd, "huge", O_WRONLY | O_CREAT, 0644);

	assert_int_equal(ftruncate(fd, INT64_C(0xffffffff)), 0);
	assert_int_equal(collect(f), 0);
	assert_int_equal(initramfs_layout(f->archive, &f->count, &f->error), 0);
	assert_true(f->count > UINT32_MAX);
	assert_int_equal(ftruncate(fd, INT64_C(0x100000000)), 0);
	close(fd);
	initramfs_free(f->archive);
	assert_int_equal(initramfs_new(&f->archive, &f->error), 0);
	assert_int_equal(collect(f), RIFFLE_ERR_UNSUPPORTED);
	assert_string_equal(initramfs_blame(f->archive), "huge");
	assert_int_equal(f->error.found, UINT64_C(0x100000000));
}

static void test_itself_is_left_out(void **state)
{
	struct fixture *f = *state;
	struct stat st;

	put_file(f, "archive", "old", 3);
	put_file(f, "file", "x", 1);
	assert_int_equal(fstatat(f->fd, "archive", &st, 0), 0);
	const struct initramfs_directory directory = {.fd = f->fd, .skip = {{st.st_dev, st.st_ino}}, .skip_count = 1};

	assert_int_equal(initramfs_add_directory(f->archive, &directory, &f->error), 0);
	assert_int_equal(write_archive(f), 0);
	assert_int_equal(f->newc.count, 2);
	get(f, "file");
}

static void test_mounts(void **state)
{
	struct fixture *f = *state;
	char proc[80], tmp[80];

	snprintf(proc, sizeof proc, "%s/proc", f->path);
	snprintf(tmp, sizeof tmp, "%s/tmp", f->path);
	assert_int_equal(mkdir(proc, 0755) | mkdir(tmp, 0755), 0);
	if (unshare(CLONE_NEWNS) || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) ||
	    mount("proc", proc, "proc", 0, NULL) || mount("tmpfs", tmp, "tmpfs", 0, "mode=1700"))
		skip();
	/* the directory as the new mount namespace has it */
	close(f->fd);
	f->fd = open(f->path, O_RDONLY | O_DIRECTORY);
	put_file(f, "tmp/file", "x", 1);
	pack(f);
	assert_int_equal(umount(proc) | umount(tmp), 0);
	assert_int_equal(f->newc.count, 4);
	assert_int_equal(get(f, "proc")->mode & S_IFMT, S_IFDIR);
	assert_int_equal(get(f, "tmp")->mode, S_IFDIR | 01700);
	get(f, "tmp/file");
}

/* ---- others read it as well ---- */

static void test_cpio_unpacks_it(void **state)
{
	struct fixture *f = *state;
	char command[512], archive[80];
	FILE *file;

	if (system("command -v cpio diff >/dev/null 2>&1"))
		skip();
	put_file(f, "file", "content", 7);
	assert_int_equal(mkdirat(f->fd, "sub", 0755), 0);
	assert_int_equal(linkat(f->fd, "file", f->fd, "sub/linked", 0), 0);
	assert_int_equal(symlinkat("nowhere", f->fd, "dangling"), 0);
	put_file(f, "TRAILER!!!", "not the end", 11);
	put_file(f, "zzz", "after", 5);
	pack(f);
	snprintf(archive, sizeof archive, "%s.cpio", f->path);
	file = fopen(archive, "w");
	assert_int_equal(fwrite(f->bytes, 1, f->count, file), f->count);
	fclose(file);
	snprintf(command, sizeof command,
		 "set -e; mkdir %s/out; cd %s/out; cpio -id --quiet < %s; rm %s; cd ..; diff -r --no-dereference "
		 "--exclude=out . out; "
		 "test out/file -ef out/sub/linked; rm -r out",
		 f->path, f->path, archive, archive);
	assert_int_equal(system(command), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {TEST(empty),
					   TEST(kinds),
					   TEST(devices_and_owners),
					   TEST(root_owns_and_no_times),
					   TEST(hard_links),
					   TEST(sparse),
					   TEST(names),
					   TEST(path_too_long),
					   TEST(order),
					   TEST(many_files),
					   TEST(size_changes),
					   TEST(replaced),
					   TEST(vanished),
					   TEST(unreadable),
					   TEST(too_large),
					   TEST(itself_is_left_out),
					   TEST(mounts),
					   TEST(cpio_unpacks_it)};

	umask(022);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
