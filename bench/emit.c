/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What emitting a kernel into a file in memory takes, compared with a load into fresh memory and one memcpy() of the
 * kernel: processor time of one thread, all taken by turns. The file is a memfd, or a nameless one in a directory, such
 * as a tmpfs with huge pages.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include <riffle/riffle.h>

#include "bench/load/file.h"
#include "cli/commands/emit_image.h"
#include "common/fail.h"
#include "host/huge.h"
#include "kernel/kernel.h"

#define ROUNDS 41

enum timed { EMIT, LOAD, COPY_WARM, COPY_FRESH, TIMED };

static const char *const names[TIMED] = {
    "emit into a fresh file",
    "load into fresh memory",
    "memcpy of the kernel, warm pages",
    "memcpy of the kernel, a fresh file's pages",
};

struct bench {
	const char *directory; /* NULL: memfd */
	struct opened_kernel kernel;
	struct bench_file file;
	struct riffle_layout layout;
	size_t bytes, workspace_bytes, order_bytes;
	void *workspace;
	uint8_t *warm;
	double ms[TIMED][ROUNDS], ratio[2][ROUNDS];
};

static double cpu_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
	return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

static int open_file(const struct bench *b, struct riffle_error *error)
{
	int fd = b->directory ? open(b->directory, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600)
			      : memfd_create("bench", MFD_CLOEXEC);

	if (fd < 0)
		riffle_fail_system(error, errno, "file", "cannot be made");
	return fd;
}

static int emit(struct bench *b, double *ms, struct riffle_error *error)
{
	const struct emit_load load = {.plan = &b->kernel.plan,
				       .source = &b->kernel.source,
				       .layout = &b->layout,
				       .workspace = b->workspace,
				       .workspace_bytes = b->workspace_bytes};
	double before = cpu_ms();
	int fd = open_file(b, error), status;

	if (fd < 0)
		return RIFFLE_ERR_IO;
	status = emit_image_write(fd, &load, error);
	*ms = cpu_ms() - before;
	close(fd);
	return status;
}

static void copy_extents(uint8_t *to, const uint8_t *from, const struct riffle_plan *plan)
{
	for (uint32_t i = 0; i < plan->extent_count; i++)
		memcpy(to + plan->extents[i].image_offset, from + plan->extents[i].image_offset,
		       plan->extents[i].bytes);
}

static int copy_fresh(struct bench *b, const uint8_t *kernel, double *ms, struct riffle_error *error)
{
	double before = cpu_ms();
	int fd = open_file(b, error);
	uint8_t *to = MAP_FAILED;

	if (fd < 0)
		return RIFFLE_ERR_IO;
	if (!ftruncate(fd, (off_t)b->bytes))
		to = mmap(NULL, b->bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (to == MAP_FAILED)
		return riffle_fail_system(error, errno, "file", "cannot be mapped");
	copy_extents(to, kernel, &b->kernel.plan);
	munmap(to, b->bytes);
	*ms = cpu_ms() - before;
	close(fd);
	return RIFFLE_OK;
}

static int load_and_copy(struct bench *b, unsigned round, struct riffle_error *error)
{
	const struct riffle_plan *plan = &b->kernel.plan;
	uint8_t *memory = map_huge(&b->bytes);
	const struct riffle_ram ram = {.address = b->layout.physical_base, .bytes = b->bytes, .host = memory};
	const struct riffle_memory guest = {.ram = &ram, .ram_count = 1};
	struct riffle_loaded loaded;
	double before = cpu_ms();
	int status;

	if (!memory)
		return riffle_fail_system(error, errno, "memory", "for a kernel cannot be had");
	status = riffle_load_shuffled(&loaded, plan, &b->kernel.source, &b->layout, &guest, 0, NULL, b->workspace,
				      b->workspace_bytes, error);
	b->ms[LOAD][round] = cpu_ms() - before;
	before = cpu_ms();
	if (!status)
		copy_extents(b->warm, memory, plan);
	b->ms[COPY_WARM][round] = cpu_ms() - before;
	if (!status)
		status = copy_fresh(b, memory, &b->ms[COPY_FRESH][round], error);
	munmap(memory, b->bytes);
	return status;
}

static int draw(struct bench *b, enum riffle_mode mode, struct riffle_error *error)
{
	const struct riffle_ram ram = {.bytes = UINT64_C(1) << 30};
	const struct riffle_memory memory = {.ram = &ram, .ram_count = 1};

	return riffle_layout_draw(&b->layout, &b->kernel.plan, &memory, mode, NULL, error);
}

static int compare(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static void print_row(const char *name, double *values)
{
	qsort(values, ROUNDS, sizeof *values, compare);
	printf("  %-60s %7.2f %7.2f %7.2f\n", name, values[0], values[ROUNDS / 2], values[ROUNDS - 1]);
}

static int measure(struct bench *b, enum riffle_mode mode, struct riffle_error *error)
{
	int status = RIFFLE_OK;

	for (unsigned i = 0; !status && i < ROUNDS; i++) {
		status = draw(b, mode, error);
		/* each first in every other round */
		if (!status && i % 2)
			status = emit(b, &b->ms[EMIT][i], error);
		if (!status)
			status = load_and_copy(b, i, error);
		if (!status && i % 2 == 0)
			status = emit(b, &b->ms[EMIT][i], error);
		for (unsigned k = 0; k < 2; k++)
			b->ratio[k][i] = b->ms[EMIT][i] / (b->ms[LOAD][i] + b->ms[COPY_WARM + k][i]);
	}
	if (status)
		return status;
	printf("%-62s %7s %7s %7s\n",
	       mode == RIFFLE_MODE_FGKASLR ? "FGKASLR, ms of processor time" : "KASLR, ms of processor time", "least",
	       "median", "most");
	for (unsigned i = 0; i < TIMED; i++)
		print_row(names[i], b->ms[i]);
	print_row("emit / (load + memcpy, warm pages), by rounds", b->ratio[0]);
	print_row("emit / (load + memcpy, a fresh file's pages), by rounds", b->ratio[1]);
	return RIFFLE_OK;
}

static int set_up(struct bench *b, const char *name, struct riffle_error *error)
{
	const struct kernel_request request = {.kernel = name};
	int status = kernel_open(&b->kernel, &request, error);

	if (status)
		return status;
	bench_file_take(&b->file, &b->kernel, name);
	b->bytes = b->kernel.plan.header->image_bytes;
	b->order_bytes = b->kernel.plan.chunk_count * sizeof *b->layout.order + 1;
	b->workspace_bytes = riffle_load_workspace(&b->kernel.plan) + 1;
	b->warm = map_huge(&b->bytes);
	b->layout.order = map_huge(&b->order_bytes);
	b->layout.order_count = b->kernel.plan.chunk_count;
	b->workspace = map_huge(&b->workspace_bytes);
	if (!b->warm || !b->layout.order || !b->workspace)
		return riffle_fail_system(error, errno, "memory", "for the measurement cannot be allocated");
	memset(b->warm, 1, b->bytes);
	memset(b->workspace, 1, b->workspace_bytes);
	return RIFFLE_OK;
}

int main(int argc, char **argv)
{
	static struct bench bench = {.layout = RIFFLE_LAYOUT_INIT};
	struct riffle_error error;
	char line[300];
	int status;

	if (argc != 2 && argc != 3) {
		fprintf(stderr, "usage: bench-emit KERNEL [DIRECTORY]\n");
		return 2;
	}
	bench.directory = argv[2];
	status = set_up(&bench, argv[1], &error);
	if (!status)
		bench_file_print(&bench.file);
	if (!status)
		status = measure(&bench, RIFFLE_MODE_KASLR, &error);
	if (!status && bench.kernel.plan.chunk_count)
		status = measure(&bench, RIFFLE_MODE_FGKASLR, &error);
	if (!status)
		return 0;
	riffle_error_format(&error, line, sizeof line);
	fprintf(stderr, "bench-emit: %s: %s\n", argv[1], line);
	return 1;
}
