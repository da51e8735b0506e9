/* SPDX-License-Identifier: Apache-2.0 */
/* Attempts to reach files outside of the jail, by their names and without. */
#include "escape.h"

#include <linux/io_uring.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

static bool reads_secret(const char *path)
{
	char byte;
	int fd = open(path, O_RDONLY);

	return fd >= 0 && read(fd, &byte, 1) == 1;
}

static bool open_absolute(void)
{
	return reads_secret(SECRET);
}

static bool open_upwards(void)
{
	return reads_secret(AWAY);
}

static bool open_in_proc(void)
{
	char path[64];

	snprintf(path, sizeof path, "/proc/%d/root" SECRET, victim);
	return reads_secret(path);
}

static bool open_by_openat2(void)
{
	const unsigned long long how[3] = {O_RDONLY, 0, 0};

	return opened(syscall(437 /* openat2 */, AT_FDCWD, SECRET, how, sizeof how));
}

static bool write_secret(void)
{
	return opened(open(SECRET, O_WRONLY | O_APPEND));
}

static bool leave_chroot(void)
{
	if (mkdir("/tmp/victim/inner", 0700) < 0 && mkdir("/inner", 0700) < 0)
		return false;
	if (chroot("/tmp/victim/inner") < 0 && chroot("/inner") < 0)
		return false;
	for (int i = 0; i < 32; i++)
		if (chdir("..") < 0)
			return false;
	return chroot(".") == 0 && reads_secret(SECRET);
}

static bool change_root(void)
{
	return permitted(syscall(SYS_pivot_root, "/nowhere", "/nowhere"));
}

static bool mount_proc(void)
{
	return permitted(mount("proc", "/nowhere", "proc", 0, NULL));
}

static bool mount_files(void)
{
	return permitted(mount("none", "/nowhere", "tmpfs", 0, NULL));
}

static bool unmount(void)
{
	return permitted(umount2("/nowhere", MNT_DETACH));
}

static bool clone_mount(void)
{
	return permitted(syscall(428 /* open_tree */, AT_FDCWD, "/", 1 /* OPEN_TREE_CLONE */));
}

static bool open_by_handle(void)
{
	struct {
		struct file_handle handle;
		char bytes[128];
	} name = {.handle.handle_bytes = 8};

	return permitted(open_by_handle_at(disk, &name.handle, O_RDONLY));
}

static bool name_handle(void)
{
	struct {
		struct file_handle handle;
		char bytes[128];
	} name = {.handle.handle_bytes = 128};
	int id;

	return done(name_to_handle_at(AT_FDCWD, SECRET, &name.handle, &id, 0));
}

static bool link_secret(void)
{
	return done(link(SECRET, NEW));
}

static bool rename_secret(void)
{
	return done(rename(SECRET, NEW));
}

static bool unlink_secret(void)
{
	return done(unlink(SECRET));
}

static bool truncate_secret(void)
{
	return done(truncate(SECRET, 0));
}

static bool chmod_secret(void)
{
	return done(chmod(SECRET, 0777));
}

static bool chown_secret(void)
{
	return done(chown(SECRET, 12345, 12345));
}

static bool make_disk(void)
{
	return done(mknod("node", S_IFBLK | 0600, makedev(7, 0)));
}

static bool stat_secret(void)
{
	struct stat st;

	return done(stat(SECRET, &st));
}

static bool statx_secret(void)
{
	char buffer[256];

	return done(syscall(SYS_statx, AT_FDCWD, SECRET, 0, 0x7ff, buffer));
}

static bool access_secret(void)
{
	return done(access(SECRET, R_OK));
}

static bool list_directory(void)
{
	char buffer[1024];
	int fd = open("/tmp/victim", O_RDONLY | O_DIRECTORY);

	return fd >= 0 && syscall(SYS_getdents64, fd, buffer, sizeof buffer) > 0;
}

/* io_uring operations bypass seccomp filters. */
static bool open_by_ring(void)
{
	struct io_uring_params parameters = {0};
	long ring = syscall(SYS_io_uring_setup, 4, &parameters);
	struct io_uring_sqe *entries;
	char *sq, *cq;

	if (ring < 0)
		return false;
	sq = mmap(NULL, parameters.sq_off.array + parameters.sq_entries * 4, PROT_READ | PROT_WRITE, MAP_SHARED,
		  (int)ring, IORING_OFF_SQ_RING);
	cq = mmap(NULL, parameters.cq_off.cqes + parameters.cq_entries * 16, PROT_READ | PROT_WRITE, MAP_SHARED,
		  (int)ring, IORING_OFF_CQ_RING);
	entries = mmap(NULL, parameters.sq_entries * sizeof *entries, PROT_READ | PROT_WRITE, MAP_SHARED, (int)ring,
		       IORING_OFF_SQES);
	if (sq == MAP_FAILED || cq == MAP_FAILED || entries == MAP_FAILED)
		return false;
	entries[0] = (struct io_uring_sqe){.opcode = IORING_OP_OPENAT, .fd = AT_FDCWD, .addr = (uintptr_t)SECRET};
	*(unsigned *)(void *)(sq + parameters.sq_off.array) = 0;
	*(unsigned *)(void *)(sq + parameters.sq_off.tail) = 1;
	if (syscall(SYS_io_uring_enter, ring, 1, 1, IORING_ENTER_GETEVENTS, NULL, 0) != 1)
		return false;
	return ((struct io_uring_cqe *)(void *)(cq + parameters.cq_off.cqes))->res >= 0;
}

static bool watch_secret(void)
{
	return opened(syscall(SYS_inotify_add_watch, syscall(SYS_inotify_init1, 0), SECRET, 0xfff));
}

static bool watch_everything(void)
{
	return permitted(syscall(SYS_fanotify_init, 0, 0));
}

const struct attempt attempts_on_files[] = {
    ATTEMPT(open_absolute),   ATTEMPT(open_upwards), ATTEMPT(open_in_proc),     ATTEMPT(open_by_openat2),
    ATTEMPT(write_secret),    ATTEMPT(leave_chroot), ATTEMPT(change_root),      ATTEMPT(mount_proc),
    ATTEMPT(mount_files),     ATTEMPT(unmount),      ATTEMPT(clone_mount),      ATTEMPT(open_by_handle),
    ATTEMPT(name_handle),     ATTEMPT(link_secret),  ATTEMPT(rename_secret),    ATTEMPT(unlink_secret),
    ATTEMPT(truncate_secret), ATTEMPT(chmod_secret), ATTEMPT(chown_secret),     ATTEMPT(make_disk),
    ATTEMPT(stat_secret),     ATTEMPT(statx_secret), ATTEMPT(access_secret),    ATTEMPT(list_directory),
    ATTEMPT(open_by_ring),    ATTEMPT(watch_secret), ATTEMPT(watch_everything), {NULL, NULL},
};
