/* SPDX-License-Identifier: Apache-2.0 */
/* Entries added to a packed directory or packed without one: synthetic entries, a command, files of the host. */
#include <errno.h>

#include "initramfs/command.h"
#include "pack_fixture.h"

/* ---- entries over a directory ---- */

static void test_entries_override(void **state)
{
	struct fixture *f = *state;
	const struct initramfs_entry entries[] = {
	    {.path = "/dev/null", .mode = S_IFCHR | 0666, .major = 1, .minor = 3},
	    {.path = "/etc/conf", .mode = S_IFREG | 0600, .data = "ours", .bytes = 4},
	    {.path = "/tree", .mode = S_IFREG | 0600},
	    {.path = "//new///deep/dir/", .mode = S_IFDIR | 0711},
	    {.path = "/kept", .mode = S_IFDIR | 0701},
	    {.path = "/link", .mode = S_IFLNK | 0777, .data = "target", .bytes = 6},
	};

	assert_int_equal(symlinkat("/somewhere", f->fd, "dev"), 0);
	put_file(f, "etc", "a file in the way", 17);
	assert_int_equal(mkdirat(f->fd, "tree", 0755), 0);
	assert_int_equal(mkdirat(f->fd, "tree/sub", 0755), 0);
	put_file(f, "tree/sub/file", "gone", 4);
	assert_int_equal(mkdirat(f->fd, "kept", 0755), 0);
	put_file(f, "kept/file", "stays", 5);
	assert_int_equal(collect(f), 0);
	for (size_t i = 0; i < sizeof entries / sizeof *entries; i++)
		assert_int_equal(initramfs_add(f->archive, &entries[i], &f->error), 0);
	assert_true(initramfs_has(f->archive, "/new/deep"));
	assert_false(initramfs_has(f->archive, "/tree/sub"));
	assert_int_equal(write_archive(f), 0);
	assert_int_equal(get(f, "dev")->mode, S_IFDIR | 0755);
	assert_int_equal(get(f, "dev/null")->minor, 3);
	assert_int_equal(get(f, "etc")->mode, S_IFDIR | 0755);
	assert_memory_equal(get(f, "etc/conf")->data, "ours", 4);
	assert_int_equal(get(f, "tree")->mode, S_IFREG | 0600);
	assert_int_equal(get(f, "tree")->size, 0);
	assert_null(newc_find(&f->newc, "tree/sub"));
	assert_int_equal(get(f, "new/deep")->mode, S_IFDIR | 0755);
	assert_int_equal(get(f, "new/deep/dir")->mode, S_IFDIR | 0711);
	assert_int_equal(get(f, "kept")->mode, S_IFDIR | 0701);
	assert_int_equal(get(f, "kept/file")->size, 5);
	assert_memory_equal(get(f, "link")->data, "target", 6);
	assert_int_equal(f->newc.count, 12);
}

static void test_entry_arguments(void **state)
{
	struct fixture *f = *state;

	for (const char *const *path = (const char *const[]){"", "relative", "/", "/a/../b", "/.", NULL}; *path;
	     path++) {
		const struct initramfs_entry entry = {.path = *path, .mode = S_IFREG};

		assert_int_equal(initramfs_add(f->archive, &entry, &f->error), RIFFLE_ERR_ARGUMENT);
	}
}

static void test_command(void **state)
{
	struct fixture *f = *state;
	const char *const argv[] = {"sh", "-c", "a\nb", ""}, *const environment[] = {"A=b=c"};
	const struct initramfs_command command = {.argv = argv,
						  .argc = 4,
						  .environment = environment,
						  .environment_count = 1,
						  .workdir = "/w",
						  .terminal = 3};
	static const char expected[] =
	    "riffle-init 1\0arg=sh\0arg=-c\0arg=a\nb\0arg=\0env=A=b=c\0workdir=/w\0terminal=3";
	const struct newc_file *file;

	assert_int_equal(initramfs_add_command(f->archive, &command, &f->error), 0);
	assert_int_equal(write_archive(f), 0);
	file = get(f, ".riffle/config");
	assert_int_equal(file->size, sizeof expected);
	assert_memory_equal(file->data, expected, sizeof expected);
	file = get(f, ".riffle/init");
	assert_int_equal(file->mode, S_IFREG | 0700);
	assert_memory_equal(file->data, "\177ELF\2\1", 6);
	assert_int_equal(get(f, "dev/console")->major, 5);
}

/* ---- files of the host ---- */

static void test_host_file(void **state)
{
	struct fixture *f = *state;
	char path[256], name[256];

	assert_int_equal(mkdirat(f->fd, "real", 0750), 0);
	put_file(f, "real/program-1.2", "binary", 6);
	assert_int_equal(symlinkat("program-1.2", f->fd, "real/program-1"), 0);
	snprintf(path, sizeof path, "%s/real/../real/program-1", f->path);
	assert_int_equal(symlinkat(path, f->fd, "absolute"), 0);
	assert_int_equal(symlinkat("real", f->fd, "dir"), 0);
	snprintf(path, sizeof path, "%s/absolute", f->path);
	assert_int_equal(initramfs_add_host_file(f->archive, path, &f->error), 0);
	snprintf(path, sizeof path, "%s/dir/program-1.2", f->path);
	assert_int_equal(initramfs_add_host_file(f->archive, path, &f->error), 0);
	assert_int_equal(write_archive(f), 0);
	snprintf(name, sizeof name, "%s/real/program-1.2", f->path + 1);
	assert_memory_equal(get(f, name)->data, "binary", 6);
	snprintf(name, sizeof name, "%s/real/program-1", f->path + 1);
	assert_memory_equal(get(f, name)->data, "program-1.2", 11);
	snprintf(name, sizeof name, "%s/dir", f->path + 1);
	assert_memory_equal(get(f, name)->data, "real", 4);
	snprintf(name, sizeof name, "%s/real", f->path + 1);
	assert_int_equal(get(f, name)->mode, S_IFDIR | 0750);
	snprintf(name, sizeof name, "%s/dir/program-1.2", f->path + 1);
	assert_null(newc_find(&f->newc, name));
}

static void test_host_file_errors(void **state)
{
	struct fixture *f = *state;
	char path[256];

	assert_int_equal(symlinkat("loop", f->fd, "loop"), 0);
	put_file(f, "file", "", 0);
	snprintf(path, sizeof path, "%s/loop", f->path);
	assert_int_equal(initramfs_add_host_file(f->archive, path, &f->error), RIFFLE_ERR_IO);
	assert_int_equal(f->error.sys_errno, ELOOP);
	snprintf(path, sizeof path, "%s/none", f->path);
	assert_int_equal(initramfs_add_host_file(f->archive, path, &f->error), RIFFLE_ERR_IO);
	assert_int_equal(f->error.sys_errno, ENOENT);
	assert_string_equal(initramfs_blame(f->archive), path);
	snprintf(path, sizeof path, "%s/file/below", f->path);
	assert_int_equal(initramfs_add_host_file(f->archive, path, &f->error), RIFFLE_ERR_UNSUPPORTED);
	assert_int_equal(initramfs_add_host_file(f->archive, f->path, &f->error), RIFFLE_ERR_IO);
	assert_int_equal(f->error.sys_errno, EISDIR);
	assert_int_equal(initramfs_add_host_file(f->archive, "relative", &f->error), RIFFLE_ERR_ARGUMENT);
}

int main(void)
{
	const struct CMUnitTest tests[] = {TEST(entries_override), TEST(entry_arguments), TEST(command),
					   TEST(host_file), TEST(host_file_errors)};

	umask(022);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
