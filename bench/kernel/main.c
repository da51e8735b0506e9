/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Measures the kernel it runs on: the operations that LEBench times, at its sizes. A guest's init, or an ordinary
 * process. One line an operation, the median over rounds, each round the mean of its iterations:
 *
 *   bench: NAME NANOSECONDS
 *   bench: NAME missing: REASON
 *
 * and "bench: end" behind the last.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/resource.h>
#include <termios.h>
#include <unistd.h>

#include "ops.h"

#define ROUNDS 5

static int compare(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static void measure(const struct op *op, int once)
{
	unsigned rounds = once ? 1 : ROUNDS, iterations = once ? 1 : op->iterations;
	double each[ROUNDS] = {0};
	int64_t took = 0;

	errno = 0;
	if (op->start)
		took = op->start(op->size);
	/* the round before the first is a warm-up */
	for (unsigned round = 0; took >= 0 && round <= rounds; round++) {
		errno = 0;
		took = op->run(op->size, round ? iterations : (iterations + 3) / 4);
		if (round && took >= 0)
			each[round - 1] = (double)took / iterations;
	}
	if (op->end)
		op->end(op->size);
	if (took < 0) {
		printf("bench: %s missing: %s\n", op->name, strerror((int)-took));
	} else {
		qsort(each, rounds, sizeof *each, compare);
		printf("bench: %s %.1f\n", op->name, each[rounds / 2]);
	}
	fflush(stdout);
}

static void become_init(void)
{
	int fd;

	mount("devtmpfs", "/dev", "devtmpfs", 0, NULL);
	fd = open("/dev/console", O_RDWR);
	for (int i = 0; fd >= 0 && i < 3; i++)
		dup2(fd, i);
	if (fd > 2)
		close(fd);
}

int main(int argc, char **argv)
{
	const struct op *const rooms[] = {process_ops, memory_ops, file_ops, wait_ops};
	int init = getpid() == 1, once = argc == 2 && !strcmp(argv[1], "--once");
	struct rlimit files;

	if (init) {
		become_init();
	} else if (argc > 1 && !once) {
		fprintf(stderr, "usage: kernel-bench [--once]\n");
		return 2;
	}
	if (!getrlimit(RLIMIT_NOFILE, &files)) {
		files.rlim_cur = files.rlim_max;
		setrlimit(RLIMIT_NOFILE, &files);
	}
	for (unsigned i = 0; i < sizeof rooms / sizeof *rooms; i++)
		for (const struct op *op = rooms[i]; op->name; op++)
			measure(op, once);
	printf("bench: end\n");
	fflush(stdout);
	if (init) {
		/* a restart works without ACPI, too, which a small kernel has not; what was printed has to be out by
		 * then */
		tcdrain(1);
		reboot(RB_AUTOBOOT);
		for (;;)
			pause();
	}
	return 0;
}
