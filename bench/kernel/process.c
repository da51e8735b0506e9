/* SPDX-License-Identifier: Apache-2.0 */
/* System call, context switch, fork and thread creation. */
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "ops.h"

static int64_t run_getpid(long size, unsigned iterations)
{
	int64_t before = now_ns();

	(void)size;
	for (unsigned i = 0; i < iterations; i++)
		syscall(SYS_getpid);
	return now_ns() - before;
}

/* Two processes on one processor pass a byte back and forth: a round trip is two switches. */
static int64_t run_switch(long size, unsigned iterations)
{
	int to[2], fro[2], status;
	int64_t before, took;
	cpu_set_t one;
	char byte = 1;
	pid_t child;

	(void)size;
	CPU_ZERO(&one);
	CPU_SET(0, &one);
	if (pipe(to) < 0)
		return -errno;
	if (pipe(fro) < 0)
		return -errno;
	child = fork();
	if (child < 0)
		return -errno;
	sched_setaffinity(0, sizeof one, &one); /* fails where there is one processor only and no SMP: as well */
	if (!child) {
		close(to[1]);
		while (read(to[0], &byte, 1) == 1 && write(fro[1], &byte, 1) == 1)
			;
		_exit(0);
	}
	close(to[0]);
	close(fro[1]);
	before = now_ns();
	for (unsigned i = 0; i < iterations; i++)
		if (write(to[1], &byte, 1) != 1 || read(fro[0], &byte, 1) != 1)
			break;
	took = (now_ns() - before) / 2;
	close(to[1]);
	close(fro[0]);
	waitpid(child, &status, 0);
	return took;
}

/* ---- fork, with more or fewer mappings to copy ---- */

#define PAGE 4096

static void **mappings;

static int start_fork(long size)
{
	mappings = calloc((size_t)size + 1, sizeof *mappings);
	if (!mappings)
		return -ENOMEM;
	for (long i = 0; i < size; i++) {
		/* alternating protections, so that the kernel does not merge the mappings */
		mappings[i] =
		    mmap(NULL, PAGE, i % 2 ? PROT_READ : PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
		if (mappings[i] == MAP_FAILED)
			return -errno;
	}
	return 0;
}

static void end_fork(long size)
{
	for (long i = 0; mappings && i < size && mappings[i] && mappings[i] != MAP_FAILED; i++)
		munmap(mappings[i], PAGE);
	free(mappings);
	mappings = NULL;
}

static int64_t run_fork(long size, unsigned iterations)
{
	int64_t took = 0;

	(void)size;
	for (unsigned i = 0; i < iterations; i++) {
		int64_t before = now_ns();
		pid_t child = fork();

		if (!child)
			_exit(0);
		took += now_ns() - before;
		if (child < 0)
			return -errno;
		waitpid(child, NULL, 0);
	}
	return took;
}

static void *nothing(void *unused)
{
	return unused;
}

static int64_t run_thread(long size, unsigned iterations)
{
	int64_t took = 0;

	(void)size;
	for (unsigned i = 0; i < iterations; i++) {
		int64_t before = now_ns();
		pthread_t thread;
		int rc = pthread_create(&thread, NULL, nothing, NULL);

		took += now_ns() - before;
		if (rc)
			return -rc;
		pthread_join(thread, NULL);
	}
	return took;
}

const struct op process_ops[] = {
    {"getpid", 0, 2000, NULL, run_getpid, NULL},      {"context-switch", 0, 200, NULL, run_switch, NULL},
    {"fork", 0, 10, start_fork, run_fork, end_fork},  {"fork-big", 6000, 1, start_fork, run_fork, end_fork},
    {"thread-create", 0, 20, NULL, run_thread, NULL}, {0},
};
