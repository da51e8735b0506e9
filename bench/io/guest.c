/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The init of a guest that measures its first disk: each operation N and 2N times, so that what is done once falls out
 * of the difference. Prints a line a row: name, nanoseconds an operation. io.n=N is on the command line.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/aio_abi.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum { PAGE = 4096, MEGABYTE = 1 << 20, DISK = 64 << 20, DEPTH = 32 };

static int disk = -1;
static uint8_t *buffer;
static aio_context_t context;
static uint32_t seed;

__attribute__((noreturn)) static void die(const char *what)
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

static off_t some_page(void)
{
	seed = seed * 1103515245 + 12345;
	return (off_t)(seed >> 8) % (DISK / PAGE) * PAGE;
}

/* ---- operations, `count` of them ---- */

static void read_pages(unsigned count)
{
	while (count--)
		if (pread(disk, buffer, PAGE, some_page()) != PAGE)
			die("pread");
}

static void write_pages(unsigned count)
{
	while (count--)
		if (pwrite(disk, buffer, PAGE, some_page()) != PAGE)
			die("pwrite");
}

static void submit(struct iocb *requests, unsigned count)
{
	struct iocb *list[DEPTH];

	for (unsigned i = 0; i < count; i++) {
		requests[i].aio_offset = some_page();
		list[i] = &requests[i];
	}
	if (syscall(SYS_io_submit, context, (long)count, list) != (long)count)
		die("io_submit");
}

/* So many at once: what has ended is replaced. */
static void read_deep(unsigned count)
{
	static struct iocb requests[DEPTH];
	struct io_event events[DEPTH];
	unsigned left = count > DEPTH ? count - DEPTH : 0, flying = count < DEPTH ? count : DEPTH;

	for (unsigned i = 0; i < DEPTH; i++)
		requests[i] = (struct iocb){.aio_lio_opcode = IOCB_CMD_PREAD,
					    .aio_fildes = (uint32_t)disk,
					    .aio_buf = (uintptr_t)buffer + (uint64_t)i * PAGE,
					    .aio_nbytes = PAGE};
	submit(requests, flying);
	while (flying) {
		long ended = syscall(SYS_io_getevents, context, 1L, (long)DEPTH, events, NULL);

		if (ended < 1)
			die("io_getevents");
		flying -= (unsigned)ended;
		unsigned more = left < (unsigned)ended ? left : (unsigned)ended;

		if (more)
			submit(requests, more);
		left -= more;
		flying += more;
	}
}

static void read_megabytes(unsigned count)
{
	for (unsigned i = 0; i < count; i++)
		if (pread(disk, buffer, MEGABYTE, (off_t)(i % 64) * MEGABYTE) != MEGABYTE)
			die("pread");
}

static void write_megabytes(unsigned count)
{
	for (unsigned i = 0; i < count; i++)
		if (pwrite(disk, buffer, MEGABYTE, (off_t)(i % 64) * MEGABYTE) != MEGABYTE)
			die("pwrite");
}

static void flush(unsigned count)
{
	while (count--)
		if (fsync(disk))
			die("fsync");
}

static const struct {
	const char *name;
	void (*run)(unsigned count);
	unsigned part; /* of N */
} rows[] = {
    {"read 4K, depth 1", read_pages, 1}, {"read 4K, depth 32", read_deep, 1},  {"write 4K, depth 1", write_pages, 1},
    {"read, a MB", read_megabytes, 16},  {"write, a MB", write_megabytes, 16}, {"flush", flush, 1},
};

static uint64_t timed(void (*run)(unsigned count), unsigned count)
{
	seed = 1;
	uint64_t start = now();

	run(count);
	return now() - start;
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
	for (int i = 0; i < 100 && disk < 0; i++) {
		disk = open("/dev/vda", O_RDWR | O_DIRECT);
		if (disk < 0)
			usleep(20000);
	}
	if (disk < 0)
		die("/dev/vda");
	if (posix_memalign((void **)&buffer, PAGE, MEGABYTE) || syscall(SYS_io_setup, (long)DEPTH, &context))
		die("memory");
	memset(buffer, 1, MEGABYTE);
	unsigned n = parameter("io.n=", 1000);

	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		unsigned count = n / rows[i].part;

		timed(rows[i].run, count);
		uint64_t once = timed(rows[i].run, count), twice = timed(rows[i].run, 2 * count);

		printf("io: %s|%llu\n", rows[i].name,
		       (unsigned long long)((int64_t)(twice - once) > 0 ? (twice - once) / count : 0));
		fflush(stdout);
	}
	puts("io: end");
	fflush(stdout);
	reboot(RB_POWER_OFF);
	return 0;
}
