/* SPDX-License-Identifier: Apache-2.0 */
/* What test_jailer.py has jailed: says in run/report, and on stdout, what it finds; "wait" as last argument: then
 * waits. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

extern char **environ;

static void report(FILE *out, int argc, char **argv)
{
	struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct data[2] = {0};
	struct rlimit files, size;
	struct stat root, parent;
	uid_t uids[3];
	gid_t gids[3];
	char cwd[256];

	for (int i = 0; i < argc; i++)
		fprintf(out, "arg %s\n", argv[i]);
	for (char **e = environ; *e; e++)
		fprintf(out, "env %s\n", *e);
	getresuid(uids, uids + 1, uids + 2);
	getresgid(gids, gids + 1, gids + 2);
	fprintf(out, "uids %u %u %u\ngids %u %u %u\ngroups %d\n", uids[0], uids[1], uids[2], gids[0], gids[1], gids[2],
		getgroups(0, NULL));
	syscall(SYS_capget, &header, data);
	fprintf(out, "caps %x %x %x %x\n", data[0].effective, data[1].effective, data[0].permitted, data[1].permitted);
	fprintf(out, "nonewprivs %d\n", prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0));
	getrlimit(RLIMIT_NOFILE, &files);
	getrlimit(RLIMIT_FSIZE, &size);
	fprintf(out, "nofile %ld %ld\nfsize %ld %ld\n", (long)files.rlim_cur, (long)files.rlim_max, (long)size.rlim_cur,
		(long)size.rlim_max);
	fprintf(out, "pid %d\nleader %d\ncwd %s\n", getpid(), getsid(0) == getpid(), getcwd(cwd, sizeof cwd));
	stat("/", &root);
	stat("/..", &parent);
	fprintf(out, "sealed %d\n", root.st_ino == parent.st_ino && root.st_dev == parent.st_dev);
	for (int fd = 0; fd < 1024; fd++) {
		struct stat st;

		if ((fd <= 2 || fd != fileno(out)) && fstat(fd, &st) == 0)
			fprintf(out, "fd %d%s\n", fd,
				S_ISCHR(st.st_mode) && st.st_rdev == makedev(1, 3) ? " null" : "");
	}
	{
		DIR *directory = opendir("/");
		struct dirent *entry;

		while ((entry = readdir(directory)))
			if (entry->d_name[0] != '.')
				fprintf(out, "entry %s\n", entry->d_name);
		closedir(directory);
	}
	static const char *const devices[] = {"/dev/kvm", "/dev/net/tun", "/dev/urandom", "/data/inside"};
	for (size_t i = 0; i < sizeof devices / sizeof *devices; i++) {
		int fd = open(devices[i], i < 2 ? O_RDWR : O_RDONLY);

		fprintf(out, "open %s %s\n", devices[i], fd < 0 ? strerror(errno) : "ok");
		if (fd >= 0)
			close(fd);
	}
	fflush(out);
}

int main(int argc, char **argv)
{
	FILE *file;

	report(stdout, argc, argv);
	file = fopen("/run/report.new", "we");
	if (file) {
		report(file, argc, argv);
		fclose(file);
		rename("/run/report.new", "/run/report");
	}
	if (!strcmp(argv[argc - 1], "wait"))
		pause();
	return 0;
}
