/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The init of a guest that measures its first disk and its network: each operation N and 2N times, so that one-time
 * costs cancel out in the difference. Prints one line per row: name, nanoseconds per operation. Between the runs of a
 * row it prints a mark and waits, so that exits can be counted outside. io.n=N is on the command line.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "io.h"

void die(const char *what)
{
	printf("io: %s: %s\n", what, strerror(errno));
	fflush(stdout);
	reboot(RB_POWER_OFF);
	_exit(1);
}

static uint64_t now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static uint64_t timed(const struct io_row *row, unsigned count)
{
	uint64_t start = now();

	row->run(count);
	return now() - start;
}

/* io.only=WORD on the command line: rows whose names have it. */
static bool is_wanted(const char *name)
{
	char word[64] = "";
	FILE *f = fopen("/proc/cmdline", "r");
	char line[2048] = "";

	if (f && !fgets(line, sizeof line, f))
		*line = 0;
	const char *found = strstr(line, "io.only=");

	return !found || sscanf(found, "io.only=%63s", word) != 1 || strstr(name, word);
}

void pass_ms(unsigned ms)
{
	for (uint64_t until = now() + UINT64_C(1000000) * ms; now() < until;)
		;
}

/* Causes the same exits each time, so that they cancel out. */
static void mark(void)
{
	puts("io: mark");
	fflush(stdout);
	pass_ms(5);
}

static void measure(const struct io_row *row, unsigned n)
{
	unsigned count = n / row->part ? n / row->part : 1;

	if (!is_wanted(row->name))
		return;
	row->run(count);
	mark();
	uint64_t once = timed(row, count);

	mark();
	uint64_t twice = timed(row, 2 * count);

	mark();
	printf("io: %s|%llu|%u\n", row->name,
	       (unsigned long long)((int64_t)(twice - once) > 0 ? (twice - once) / count : 0), count);
	fflush(stdout);
}

static void load_modules(void)
{
	struct dirent **entries;
	int count = scandir("/modules", &entries, NULL, alphasort);

	for (int i = 0; i < count; i++) {
		char path[300];

		snprintf(path, sizeof path, "/modules/%s", entries[i]->d_name);
		int fd = open(path, O_RDONLY);

		if (fd >= 0)
			syscall(SYS_finit_module, fd, "", 0);
		close(fd);
	}
}

static unsigned parameter(const char *name, unsigned otherwise)
{
	char line[2048] = "";
	FILE *f = fopen("/proc/cmdline", "r");

	if (f && !fgets(line, sizeof line, f))
		*line = 0;
	const char *found = strstr(line, name);

	return found ? (unsigned)atoi(found + strlen(name)) : otherwise;
}

int main(void)
{
	mount("proc", "/proc", "proc", 0, NULL);
	mount("dev", "/dev", "devtmpfs", 0, NULL);
	load_modules();
	unsigned n = parameter("io.n=", 1000);

	if (disk_begin())
		for (const struct io_row *row = disk_rows; row->name; row++)
			measure(row, n);
	if (net_begin())
		for (const struct io_row *row = net_rows; row->name; row++)
			measure(row, n);
	puts("io: end");
	fflush(stdout);
	reboot(RB_POWER_OFF);
	return 0;
}
