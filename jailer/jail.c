/* SPDX-License-Identifier: Apache-2.0 */
/* The jail: a directory with a copy of the program, made the root of a new mount namespace, and the devices in it. */
#include "jailer/jail.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/mount.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "jailer/below.h"

#define MISC_MAJOR 10

/* from <sys/mount.h>, which conflicts with <linux/mount.h> in some C libraries */
int mount(const char *source, const char *target, const char *type, unsigned long flags, const void *data);
int umount2(const char *target, int flags);
#define DETACH 2 /* MNT_DETACH */

int jail_separate_mounts(struct failure *failure)
{
	if (unshare(CLONE_NEWNS) < 0)
		return fail_system(failure, errno, "Failed to unshare into new mount namespace");
	if (mount(NULL, "/", NULL, MS_SLAVE | MS_REC, NULL) < 0)
		return fail_system(failure, errno, "Failed to change the propagation type to slave");
	return 0;
}

int jail_make(struct jail *jail, const struct arguments *arguments, struct undo *undo, struct failure *failure)
{
	char below[PATH_MAX];
	int base;

	if (snprintf(below, sizeof below, "%s/%s/root", arguments->exec_name, arguments->id) >= PATH_MAX ||
	    snprintf(jail->path, sizeof jail->path, "%s/%s", arguments->base_path, below) >= PATH_MAX)
		return fail_system(failure, ENAMETOOLONG, "Failed to create directory %s", below);
	base = open(arguments->base_path, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (base < 0)
		return fail_system(failure, errno, "Failed to open directory %s", arguments->base_path);
	jail->root = below_make_directory(base, below, 0777, undo);
	if (jail->root < 0)
		fail_system(failure, errno, "Failed to create directory %s", jail->path);
	close(base);
	return jail->root < 0 ? -1 : 0;
}

static int copy_bytes(int from, int to)
{
	ssize_t copied;

	if (ftruncate(to, 0) < 0)
		return -1;
	do
		copied = sendfile(to, from, NULL, 1 << 30);
	while (copied > 0 || (copied < 0 && errno == EINTR));
	return copied < 0 ? -1 : 0;
}

/* Opens the copy for writing, making sure that it is a regular file without other links. */
static int open_copy(const struct jail *jail, const struct arguments *arguments, mode_t mode, struct undo *undo,
		     struct failure *failure)
{
	struct stat st;
	int to = below_open(jail->root, arguments->exec_name, O_WRONLY | O_CREAT | O_EXCL, mode & 0777);

	if (to >= 0)
		undo_file(undo, jail->root, arguments->exec_name);
	else if (errno == EEXIST)
		/* without waiting for a reader if it is a FIFO */
		to = below_open(jail->root, arguments->exec_name, O_WRONLY | O_NOFOLLOW | O_NONBLOCK, 0);
	if (to < 0) {
		fail_system(failure, errno, "Failed to open file %s/%s", jail->path, arguments->exec_name);
		return -1;
	}
	if (fstat(to, &st) < 0 || !S_ISREG(st.st_mode))
		fail(failure, "%s/%s is not a file", jail->path, arguments->exec_name);
	else if (st.st_nlink != 1)
		fail(failure, "%s/%s has another name too: a hard link is not overwritten", jail->path,
		     arguments->exec_name);
	else
		return to;
	close(to);
	return -1;
}

int jail_copy(const struct jail *jail, const struct arguments *arguments, struct undo *undo, struct failure *failure)
{
	int status = 0, to, from = open(arguments->exec_path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	struct stat st;

	if (from < 0)
		return fail_system(failure, errno, "Failed to open file %s", arguments->exec_path);
	if (fstat(from, &st) < 0 || !S_ISREG(st.st_mode)) {
		close(from);
		return fail(failure, "%s is not a file", arguments->exec_path);
	}
	/* a copy instead of a link: jails share no memory, and may be on another file system */
	to = open_copy(jail, arguments, st.st_mode, undo, failure);
	if (to < 0) {
		close(from);
		return -1;
	}
	if (fchown(to, arguments->uid, arguments->gid) < 0)
		status =
		    fail_system(failure, errno, "Failed to change owner for %s/%s", jail->path, arguments->exec_name);
	else if (copy_bytes(from, to))
		status = fail_system(failure, errno, "Failed to copy %s to %s/%s", arguments->exec_path, jail->path,
				     arguments->exec_name);
	close(from);
	if (close(to) < 0 && !status)
		status = fail_system(failure, errno, "Failed to copy %s to %s/%s", arguments->exec_path, jail->path,
				     arguments->exec_name);
	return status;
}

/*
 * The mount is cloned from the open directory and attached to it, and pivot_root() stacks the old root on the new one:
 * no name is looked up in a directory that may already belong to the jail's user.
 */
int jail_enter(struct jail *jail, struct failure *failure)
{
	int tree, old;

	tree = (int)syscall(SYS_open_tree, jail->root, "",
			    AT_EMPTY_PATH | AT_RECURSIVE | OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);
	if (tree < 0 ||
	    syscall(SYS_move_mount, tree, "", jail->root, "", MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH) < 0)
		return fail_system(failure, errno, "Failed to bind mount the jail root directory");
	old = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (old < 0 || fchdir(tree) < 0)
		return fail_system(failure, errno, "Failed to change current directory");
	if (syscall(SYS_pivot_root, ".", ".") < 0)
		return fail_system(failure, errno, "Failed to pivot root");
	if (fchdir(old) < 0 || umount2(".", DETACH) < 0)
		return fail_system(failure, errno, "Failed to unmount the old jail root");
	/* whatever the caller's root was, this process's root and directory are now the jail's, with nothing above */
	if (fchdir(tree) < 0 || chroot(".") < 0 || chdir("/") < 0)
		return fail_system(failure, errno, "Failed to chdir into chroot directory");
	close(old);
	close(jail->root);
	jail->root = tree;
	return 0;
}

/* Creates a directory in the jail, or takes the jail's root (""), accessible to its user only. */
static int own_directory(const struct jail *jail, const char *name, const struct arguments *arguments,
			 struct undo *undo, struct failure *failure)
{
	/* O_PATH descriptors cannot be chmodded */
	int made = below_make_directory(jail->root, name, 0700, undo);
	int fd = made < 0 ? -1 : openat(made, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC), status = 0;

	if (fd < 0)
		status = fail_system(failure, errno, "Failed to create directory /%s", name);
	else if (fchmod(fd, 0700) < 0)
		status = fail_system(failure, errno, "Failed to change permissions on /%s", name);
	else if (fchown(fd, arguments->uid, arguments->gid) < 0)
		status = fail_system(failure, errno, "Failed to change owner for /%s", name);
	if (fd >= 0)
		close(fd);
	if (made >= 0)
		close(made);
	return status;
}

/* Changes the owner of the node that was created, not of whatever may have replaced it under its name. */
static int own_device(int directory, const char *name, dev_t device, const struct arguments *arguments)
{
	struct stat st;
	int status = -1, fd = openat(directory, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);

	if (fd < 0)
		return -1;
	if (fstat(fd, &st) == 0) {
		errno = EEXIST;
		if (S_ISCHR(st.st_mode) && st.st_rdev == device && st.st_nlink == 1)
			status = fchownat(fd, "", arguments->uid, arguments->gid, AT_EMPTY_PATH);
	}
	close(fd);
	return status;
}

static int make_device(const struct jail *jail, const char *path, unsigned major_number, unsigned minor_number,
		       const struct arguments *arguments, struct undo *undo, struct failure *failure)
{
	const char *name = strrchr(path, '/') + 1;
	const dev_t device = makedev(major_number, minor_number);
	char parent[32];
	int directory, status = 0;

	snprintf(parent, sizeof parent, "%.*s", (int)(name - 1 - (path + 1)), path + 1);
	directory = below_open(jail->root, parent, O_PATH | O_DIRECTORY, 0);
	if (directory < 0)
		return fail_system(failure, errno, "Failed to create %s via mknod inside the jail", path);
	if (mknodat(directory, name, S_IFCHR | 0600, device) == 0) {
		undo_file(undo, directory, name);
		if (own_device(directory, name, device, arguments))
			status = fail_system(failure, errno, "Failed to change owner for %s", path);
	} else {
		const char *advice =
		    errno == EEXIST ? ": a jail of this name was left; remove it or give another --id" : "";

		status = fail_system(failure, errno, "Failed to create %s via mknod inside the jail", path);
		strncat(failure->text, advice, sizeof failure->text - strlen(failure->text) - 1);
	}
	close(directory);
	return status;
}

int jail_furnish(const struct jail *jail, const struct arguments *arguments, int userfaultfd, struct undo *undo,
		 struct failure *failure)
{
	static const char *const directories[] = {"", "dev", "dev/net", "run"};

	for (size_t i = 0; i < sizeof directories / sizeof *directories; i++)
		if (own_directory(jail, directories[i], arguments, undo, failure))
			return -1;
	if (make_device(jail, "/dev/net/tun", MISC_MAJOR, 200, arguments, undo, failure) ||
	    make_device(jail, "/dev/kvm", MISC_MAJOR, 232, arguments, undo, failure))
		return -1;
	if (make_device(jail, "/dev/urandom", 1, 9, arguments, undo, failure)) {
		printf("Warning! Could not create /dev/urandom device inside jailer: %s.\n", failure->text);
		fflush(stdout);
	}
	return userfaultfd < 0
		   ? 0
		   : make_device(jail, "/dev/userfaultfd", MISC_MAJOR, (unsigned)userfaultfd, arguments, undo, failure);
}

int userfaultfd_minor(void)
{
	FILE *misc = fopen("/proc/misc", "re");
	char line[128], name[64];
	int minor_number, found = -1;

	if (!misc)
		return -1;
	while (found < 0 && fgets(line, sizeof line, misc))
		if (sscanf(line, "%d %63s", &minor_number, name) == 2 && !strcmp(name, "userfaultfd"))
			found = minor_number;
	fclose(misc);
	return found;
}
