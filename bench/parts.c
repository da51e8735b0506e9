/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where a load with FGKASLR spends its processor time: each job is timed by its thread's clock, over many loads, of
 * which the minimum counts, and jobs of a kind are summed. For comparison: a load with KASLR, the floor, the host's
 * time to clear the fresh pages that a load writes to, and the parts of opening the prepared kernel.
 */
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#include <riffle/riffle.h>

#include "bench/load/file.h"
#include "common/fail.h"
#include "host/huge.h"
#include "kernel/kernel.h"

#define JOBS_MAX 4096u
#define ROUNDS 61

/* lib/load/tables.c: the first jobs; lib/load/shuffle.c: the block jobs follow, then chunks */
static const char *const tables[] = {"ORC, states",
				     "kallsyms, names and markers",
				     "kallsyms, offsets and sequence",
				     "ORC, places in code",
				     "__mcount_loc",
				     "exception table"};
#define TABLES (sizeof tables / sizeof *tables)

struct parts {
	struct opened_kernel kernel;
	struct bench_file file;
	size_t bytes, workspace_bytes, order_bytes;
	uint16_t *order;
	void *workspace;
	uint8_t *faulted, *source;
	/* of the load in progress */
	double *least;
	unsigned jobs;
};

/* Measurements of loads of one kind, each the minimum of all rounds. */
struct kind {
	bool faulted;
	double job[JOBS_MAX], draw, load, kaslr;
	unsigned jobs;
};

struct opening {
	double touch, read, check;
};

static double cpu_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
	return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

static void keep(double *least, double ms)
{
	if (!*least || ms < *least)
		*least = ms;
}

static void run_timed(void *opaque, void (*job)(void *argument, unsigned index), void *argument, unsigned jobs)
{
	struct parts *p = opaque;

	for (unsigned i = 0; i < jobs; i++) {
		double before = cpu_ms();

		job(argument, i);
		if (i < JOBS_MAX)
			keep(&p->least[i], cpu_ms() - before);
	}
	p->jobs = jobs;
}

static int load(struct parts *p, struct kind *kind, enum riffle_mode mode, struct riffle_error *error)
{
	const struct riffle_plan *plan = &p->kernel.plan;
	const struct riffle_header *h = plan->header;
	uint8_t *memory = kind->faulted ? p->faulted : map_huge(&p->bytes);
	struct riffle_ram ram = {.address = h->link_phys > RIFFLE_PHYSICAL_FLOOR ? h->link_phys : RIFFLE_PHYSICAL_FLOOR,
				 .bytes = p->bytes,
				 .host = memory};
	struct riffle_memory guest = {.ram = &ram, .ram_count = 1};
	struct riffle_layout layout = {.mode = mode, .order = p->order, .order_count = plan->chunk_count};
	const struct riffle_workers workers = {.run = run_timed, .opaque = p};
	struct riffle_loaded loaded;
	double start = cpu_ms(), drawn;
	int status;

	if (!memory)
		return riffle_fail_system(error, errno, "memory", "for a kernel cannot be had");
	p->least = kind->job;
	status = riffle_layout_draw(&layout, plan, &guest, mode, NULL, error);
	layout.physical_base = ram.address;
	drawn = cpu_ms();
	if (!status)
		status = riffle_load_shuffled(&loaded, plan, &p->kernel.source, &layout, &guest, 0,
					      mode == RIFFLE_MODE_FGKASLR ? &workers : NULL, p->workspace,
					      p->workspace_bytes, error);
	keep(mode == RIFFLE_MODE_FGKASLR ? &kind->load : &kind->kaslr, cpu_ms() - start);
	if (mode == RIFFLE_MODE_FGKASLR)
		keep(&kind->draw, drawn - start);
	kind->jobs = p->jobs;
	if (!kind->faulted)
		munmap(memory, p->bytes);
	return status;
}

/* The host's part of a load into fresh memory: touches each huge page that has bytes of an extent. */
static int touch(struct parts *p, double *least, struct riffle_error *error)
{
	const struct riffle_plan *plan = &p->kernel.plan;
	uint8_t *memory = map_huge(&p->bytes);
	double before = cpu_ms();

	if (!memory)
		return riffle_fail_system(error, errno, "memory", "for a kernel cannot be had");
	for (uint32_t i = 0; i < plan->extent_count; i++) {
		uint64_t start = plan->extents[i].image_offset, end = start + plan->extents[i].bytes;

		for (uint64_t at = start; at < end; at = (at | (RIFFLE_HUGE_PAGE - 1)) + 1)
			*(volatile uint8_t *)(memory + at) = 1;
	}
	keep(least, cpu_ms() - before);
	munmap(memory, p->bytes);
	return RIFFLE_OK;
}

/* The parts of riffle_plan_open(): touching fresh pages, reading header and plan, checking everything. */
static int open_parts(struct parts *p, struct opening *o, struct riffle_error *error)
{
	const struct riffle_source *source = &p->kernel.source;
	size_t used = RIFFLE_HEADER_BYTES + p->kernel.plan.header->plan_bytes, mapped = used;
	struct riffle_plan plan = RIFFLE_PLAN_INIT;
	uint8_t *memory = map_huge(&mapped);
	double before = cpu_ms(), touched, done;
	int status;

	if (!memory)
		return riffle_fail_system(error, errno, "memory", "for a plan cannot be had");
	for (size_t at = 0; at < used; at += RIFFLE_HUGE_PAGE)
		*(volatile uint8_t *)(memory + at) = 1;
	touched = cpu_ms();
	status = source->read(source->opaque, 0, memory, used, error);
	done = cpu_ms();
	if (!status)
		status = riffle_plan_check(&plan, memory, memory + RIFFLE_HEADER_BYTES, used - RIFFLE_HEADER_BYTES,
					   source->bytes, error);
	keep(&o->check, cpu_ms() - done);
	keep(&o->read, done - touched);
	keep(&o->touch, touched - before);
	munmap(memory, mapped);
	return status;
}

static double sum(const double *ms, unsigned from, unsigned to)
{
	double all = 0;

	for (unsigned i = from; i < to && i < JOBS_MAX; i++)
		all += ms[i];
	return all;
}

static void print_sum(const char *name, const struct kind kinds[2], unsigned from, unsigned to)
{
	printf("%-48s %8.2f %8.2f\n", name, sum(kinds[0].job, from, to), sum(kinds[1].job, from, to));
}

static void print(const struct kind kinds[2], unsigned blocks, double touched, double floor)
{
	const unsigned first_batch = TABLES + blocks;
	double rest[2];

	printf("%-48s %8s %8s\n", "ms of processor time, least of rounds", "fresh", "faulted");
	printf("%-48s %8.2f %8.2f\n", "draw", kinds[0].draw, kinds[1].draw);
	for (unsigned i = 0; i < TABLES; i++)
		print_sum(tables[i], kinds, i, i + 1);
	for (unsigned k = 0; k < 2; k++)
		rest[k] = kinds[k].load - kinds[k].draw - sum(kinds[k].job, 0, kinds[k].jobs);
	print_sum("everything that stays, sites with it", kinds, TABLES, first_batch);
	print_sum("chunks: read, patched, scattered", kinds, first_batch, kinds[0].jobs);
	printf("%-48s %8.2f %8.2f\n", "order checked, shifts; what the rest leaves", rest[0], rest[1]);
	printf("%-48s %8.2f %8.2f\n", "load, FGKASLR", kinds[0].load, kinds[1].load);
	printf("%-48s %8.2f %8.2f\n", "load, KASLR", kinds[0].kaslr, kinds[1].kaslr);
	printf("%-48s %8.2f\n", "of these: fresh huge pages cleared by the host", touched);
	printf("%-48s %8.2f %8.2f\n", "floor", floor, floor);
}

static void print_opening(const struct opening *o)
{
	printf("\n%-48s %8.2f\n%-48s %8.2f\n%-48s %8.2f\n", "opening: fresh huge pages for the plan", o->touch,
	       "opening: header and plan read", o->read, "opening: everything checked", o->check);
}

static int measure(struct parts *p, struct kind kinds[2], struct opening *opening, double *touched, double *floor,
		   struct riffle_error *error)
{
	int status = RIFFLE_OK;

	for (unsigned i = 0; !status && i < ROUNDS; i++) {
		double before = cpu_ms();

		memcpy(p->faulted, p->source, p->kernel.plan.header->load_bytes);
		keep(floor, cpu_ms() - before);
		status = touch(p, touched, error);
		if (!status && !p->kernel.plan.frame_count)
			status = open_parts(p, opening, error);
		for (unsigned k = 0; !status && k < 2; k++) {
			status = load(p, &kinds[k], RIFFLE_MODE_FGKASLR, error);
			if (!status)
				status = load(p, &kinds[k], RIFFLE_MODE_KASLR, error);
		}
	}
	return status;
}

static int set_up(struct parts *p, const char *name, struct riffle_error *error)
{
	const struct kernel_request request = {.kernel = name};
	int status = kernel_open(&p->kernel, &request, error);

	if (status)
		return status;
	if (!p->kernel.plan.chunk_count)
		return riffle_fail(error, RIFFLE_ERR_UNSUPPORTED, "kernel", "cannot be shuffled");
	bench_file_take(&p->file, &p->kernel, name);
	p->bytes = p->kernel.plan.header->image_bytes;
	p->order_bytes = p->kernel.plan.chunk_count * sizeof *p->order;
	p->workspace_bytes = riffle_load_workspace(&p->kernel.plan);
	p->faulted = map_huge(&p->bytes);
	p->source = map_huge(&p->bytes);
	p->order = map_huge(&p->order_bytes);
	p->workspace = map_huge(&p->workspace_bytes);
	if (!p->faulted || !p->source || !p->order || !p->workspace)
		return riffle_fail_system(error, errno, "memory", "for the measurement cannot be allocated");
	memset(p->faulted, 1, p->bytes);
	memset(p->source, 1, p->bytes);
	memset(p->workspace, 1, p->workspace_bytes);
	return RIFFLE_OK;
}

int main(int argc, char **argv)
{
	static struct kind kinds[2] = {{.faulted = false}, {.faulted = true}};
	static struct parts parts;
	struct riffle_error error;
	struct opening opening = {0};
	double floor = 0, touched = 0;
	char line[300];

	if (argc != 2) {
		fprintf(stderr, "usage: bench-parts KERNEL\n");
		return 2;
	}
	if (set_up(&parts, argv[1], &error) || measure(&parts, kinds, &opening, &touched, &floor, &error)) {
		riffle_error_format(&error, line, sizeof line);
		fprintf(stderr, "bench-parts: %s: %s\n", argv[1], line);
		return 1;
	}
	bench_file_print(&parts.file);
	print(kinds, (unsigned)((parts.bytes + RIFFLE_HUGE_PAGE - 1) / RIFFLE_HUGE_PAGE), touched, floor);
	if (opening.check)
		print_opening(&opening);
	return 0;
}
