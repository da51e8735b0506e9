/* SPDX-License-Identifier: Apache-2.0 */
/* Sets up what programs expect of a Linux system: pseudo file systems, a host name, loopback. */
#include <asm/errno.h>

#include "guest/init.h"
#include "guest/sys.h"

#define MS_NOSUID 2
#define MS_NODEV 4
#define MS_NOEXEC 8

#define S_IFCHR 0020000
#define O_RDONLY_DIRECTORY (0200000 | 02000000)

#define AF_INET 2
#define SOCK_DGRAM 2
#define SIOCGIFFLAGS 0x8913
#define SIOCSIFFLAGS 0x8914
#define IFF_UP 1

static long mount(const char *type, const char *path, unsigned long flags, const char *options)
{
	return SYS6(mount, type, path, type, flags, options, 0);
}

static bool is_empty(const char *path)
{
	long fd = SYS3(open, path, O_RDONLY_DIRECTORY, 0), n;
	unsigned entries = 0;
	char buffer[1024];

	if (fd < 0)
		return false;
	while ((n = SYS3(getdents64, fd, buffer, sizeof buffer)) > 0)
		for (long at = 0; at < n; at += *(uint16_t *)(void *)(buffer + at + 16))
			entries++;
	SYS1(close, fd);
	return n == 0 && entries == 2;
}

/* Mounts a tmpfs over a directory, unless that would hide files. */
static void mount_empty(const char *path, unsigned long flags, const char *options)
{
	SYS2(mkdir, path, 0755);
	if (is_empty(path))
		mount("tmpfs", path, flags, options);
}

static void make_device(const char *path, unsigned mode, unsigned major, unsigned minor)
{
	if (SYS3(mknod, path, S_IFCHR | mode, major << 8 | minor) >= 0)
		SYS2(chmod, path, mode);
}

/* For a kernel without devtmpfs. */
static void make_devices(void)
{
	make_device("/dev/null", 0666, 1, 3);
	make_device("/dev/zero", 0666, 1, 5);
	make_device("/dev/full", 0666, 1, 7);
	make_device("/dev/random", 0666, 1, 8);
	make_device("/dev/urandom", 0666, 1, 9);
	make_device("/dev/kmsg", 0600, 1, 11);
	make_device("/dev/tty", 0666, 5, 0);
	make_device("/dev/console", 0600, 5, 1);
	make_device("/dev/ptmx", 0666, 5, 2);
	make_device("/dev/ttyS0", 0600, 4, 64);
}

static void set_up_devices(void)
{
	SYS2(mkdir, "/dev", 0755);
	if (mount("devtmpfs", "/dev", MS_NOSUID, "mode=755") < 0)
		make_devices();
	SYS2(mkdir, "/dev/pts", 0755);
	mount("devpts", "/dev/pts", MS_NOSUID | MS_NOEXEC, "gid=5,mode=620,ptmxmode=666");
	SYS2(symlink, "/proc/self/fd", "/dev/fd");
	SYS2(symlink, "/proc/self/fd/0", "/dev/stdin");
	SYS2(symlink, "/proc/self/fd/1", "/dev/stdout");
	SYS2(symlink, "/proc/self/fd/2", "/dev/stderr");
	mount_empty("/dev/shm", MS_NOSUID | MS_NODEV, "mode=1777");
}

static void set_up_loopback(void)
{
	struct {
		char name[16];
		int16_t flags;
		char rest[22];
	} request = {.name = "lo"};
	long fd = SYS3(socket, AF_INET, SOCK_DGRAM, 0);

	if (fd < 0)
		return;
	if (SYS3(ioctl, fd, SIOCGIFFLAGS, &request) >= 0) {
		request.flags |= IFF_UP;
		SYS3(ioctl, fd, SIOCSIFFLAGS, &request);
	}
	SYS1(close, fd);
}

/*
 * /proc/kallsyms hides the addresses from users, but its lines are sorted by them: together with the sizes, which the
 * kernel's file tells, the order of the names is where each shuffled function lies. A shuffled kernel creates the file
 * closed to users; this is for those in which riffle does not find the mode, and of which it only says so. It holds
 * for every mount of proc in which nobody has looked at the file before, which here is every other one.
 */
static void hide_order(void)
{
	SYS2(chmod, "/proc/kallsyms", 0400);
}

void system_set_up(const struct config *config)
{
	size_t length = 0;

	SYS1(umask, 0);
	set_up_devices();
	SYS2(mkdir, "/proc", 0755);
	mount("proc", "/proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL);
	hide_order();
	SYS2(mkdir, "/sys", 0755);
	mount("sysfs", "/sys", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL);
	mount_empty("/run", MS_NOSUID | MS_NODEV, "mode=755");
	mount_empty("/tmp", MS_NOSUID | MS_NODEV, "mode=1777");
	while (config->hostname && config->hostname[length])
		length++;
	if (length)
		SYS2(sethostname, config->hostname, length);
	set_up_loopback();
	SYS1(umask, 022);
}
