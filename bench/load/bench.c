/* SPDX-License-Identifier: Apache-2.0 */
/* riffle bench: what loading a kernel, and starting a microVM, costs natively against a plain copy, in one run. */
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include <jansson.h>

#include <riffle/riffle.h>

#include "bench/load/file.h"
#include "bench/load/measure.h"
#include "bench/load/start.h"
#include "bench/load/storage.h"
#include "cli/commands.h"
#include "common/fail.h"
#include "host/huge.h"
#include "host/input.h"
#include "host/pool.h"
#include "host/shown.h"
#include "host/suggest.h"
#include "kernel/kernel.h"
#include "prepare/image/image.h"

#define RUNS_MAX 10001

enum row {
	ROW_FLOOR,
	ROW_OFF_FRESH,
	ROW_KASLR_FRESH,
	ROW_OFF_FAULTED,
	ROW_KASLR_FAULTED,
	ROW_KASLR_TWO_THREADS,
	ROW_SHUFFLE_FRESH,
	ROW_LAZY_FRESH,
	ROW_SHUFFLE_TWO_THREADS,
	ROW_SHUFFLE_FAULTED,
	ROW_LAZY_FAULTED,
	ROW_TEXT_FAULTED,
	ROW_KASLR_SLIDE_FRESH,
	ROW_KASLR_SLIDE_FAULTED,
	ROW_SHUFFLE_SLIDE_FRESH,
	ROW_SHUFFLE_SLIDE_FAULTED,
	ROW_BOOTSTRAP,
	ROW_COUNT,
};

static const struct {
	const char *key, *words;
} row_names[ROW_COUNT] = {
    [ROW_FLOOR] = {"floor", "floor: memcpy of all PT_LOAD bytes, pages faulted in before"},
    [ROW_OFF_FRESH] = {"load", "load, no KASLR, fresh memory"},
    [ROW_KASLR_FRESH] = {"load_kaslr", "load, KASLR, fresh memory"},
    [ROW_OFF_FAULTED] = {"load_faulted", "load, no KASLR, pages faulted in before"},
    [ROW_KASLR_FAULTED] = {"load_kaslr_faulted", "load, KASLR, pages faulted in before"},
    [ROW_KASLR_TWO_THREADS] = {"load_kaslr_two_threads", "load, KASLR, fresh memory, two threads"},
    [ROW_SHUFFLE_FRESH] = {"load_fgkaslr", "load, FGKASLR, fresh memory"},
    [ROW_LAZY_FRESH] = {"load_fgkaslr_lazy", "load, FGKASLR with lazy tables, fresh memory"},
    [ROW_SHUFFLE_TWO_THREADS] = {"load_fgkaslr_two_threads", "load, FGKASLR, fresh memory, two threads"},
    [ROW_SHUFFLE_FAULTED] = {"load_fgkaslr_faulted", "load, FGKASLR, pages faulted in before"},
    [ROW_LAZY_FAULTED] = {"load_fgkaslr_lazy_faulted", "load, FGKASLR with lazy tables, pages faulted in before"},
    [ROW_TEXT_FAULTED] = {"shuffle_text", "of these: draw the order, copy the text with its references"},
    [ROW_KASLR_SLIDE_FRESH] = {"load_kaslr_slide", "load, KASLR with slides, fresh memory"},
    [ROW_KASLR_SLIDE_FAULTED] = {"load_kaslr_slide_faulted", "load, KASLR with slides, pages faulted in before"},
    [ROW_SHUFFLE_SLIDE_FRESH] = {"load_fgkaslr_slide", "load, FGKASLR with slides, fresh memory"},
    [ROW_SHUFFLE_SLIDE_FAULTED] = {"load_fgkaslr_slide_faulted", "load, FGKASLR with slides, pages faulted in before"},
    [ROW_BOOTSTRAP] = {"bootstrap_bound", "bootstrap's bound: decompress, copy, relocate, no faults"},
};

struct bench {
	struct opened_kernel kernel;
	struct bench_file file;
	struct riffle_image *image; /* NULL unless the kernel is a bzImage */
	bool huge_pages;
	unsigned runs;
	bool json;
	bool cpu;          /* processor time, for a host that has other work; rows with one thread */
	uint64_t bytes;    /* of memory for one kernel, multiple of 2 MiB */
	uint8_t *source;   /* the floor's: load_bytes, warm */
	uint8_t *faulted;  /* memory faulted in before */
	uint8_t *unpacked; /* the bootstrap's */
	uint16_t *order;   /* a shuffle's, and where it works */
	void *workspace;
	size_t order_bytes, workspace_bytes;
	struct riffle_plan text_plan; /* the chunks alone */
	struct riffle_header text_header;
	struct riffle_extent text_extent[64];
	struct pool *pool;
	double *ms[ROW_COUNT];
	bool have[ROW_COUNT];
};

static uint8_t *map_memory(const struct bench *b, uint64_t bytes)
{
	return map_aligned(bytes, b->huge_pages);
}

static double clock_ms(const struct bench *b)
{
	struct timespec t;

	if (!b->cpu)
		return now_ms();
	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
	return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

static int load_once(struct bench *b, const struct riffle_plan *plan, uint8_t *memory, enum riffle_mode mode,
		     unsigned options, bool slides, const struct riffle_workers *workers, struct riffle_loaded *loaded,
		     struct riffle_error *error)
{
	const struct riffle_header *h = plan->header;
	struct riffle_ram ram = {.address = h->link_phys > RIFFLE_PHYSICAL_FLOOR ? h->link_phys : RIFFLE_PHYSICAL_FLOOR,
				 .bytes = b->bytes,
				 .host = memory};
	struct riffle_memory guest = {.ram = &ram, .ram_count = 1};
	/* a fixed delta: which slot it is makes no difference to the work; gaps and orders are drawn */
	struct riffle_layout layout = {.mode = mode,
				       .physical_base = ram.address,
				       .virtual_base = h->link_virt,
				       .order = b->order,
				       .order_count = plan->chunk_count,
				       .slide_count = slides ? plan->block_count : 0};

	if (mode == RIFFLE_MODE_FGKASLR || slides) {
		int status = riffle_layout_draw(&layout, plan, &guest, mode, NULL, error);

		if (status)
			return status;
		layout.physical_base = ram.address;
	}
	if (mode >= RIFFLE_MODE_KASLR)
		layout.virtual_base = h->link_virt + 20 * RIFFLE_SLOT_BYTES;
	return riffle_load_shuffled(loaded, plan, &b->kernel.source, &layout, &guest, options, workers, b->workspace,
				    b->workspace_bytes, error);
}

/* How each row that is a load loads. */
static const struct {
	enum riffle_mode mode;
	unsigned options;
	bool faulted, text_alone, threads, slides;
} loads[ROW_COUNT] = {
    [ROW_OFF_FRESH] = {.mode = RIFFLE_MODE_OFF},
    [ROW_KASLR_FRESH] = {.mode = RIFFLE_MODE_KASLR},
    [ROW_OFF_FAULTED] = {.mode = RIFFLE_MODE_OFF, .faulted = true},
    [ROW_KASLR_FAULTED] = {.mode = RIFFLE_MODE_KASLR, .faulted = true},
    [ROW_KASLR_TWO_THREADS] = {.mode = RIFFLE_MODE_KASLR, .threads = true},
    [ROW_SHUFFLE_FRESH] = {.mode = RIFFLE_MODE_FGKASLR},
    [ROW_LAZY_FRESH] = {.mode = RIFFLE_MODE_FGKASLR, .options = RIFFLE_LOAD_LAZY_TABLES},
    [ROW_SHUFFLE_TWO_THREADS] = {.mode = RIFFLE_MODE_FGKASLR, .threads = true},
    [ROW_SHUFFLE_FAULTED] = {.mode = RIFFLE_MODE_FGKASLR, .faulted = true},
    [ROW_LAZY_FAULTED] = {.mode = RIFFLE_MODE_FGKASLR, .options = RIFFLE_LOAD_LAZY_TABLES, .faulted = true},
    [ROW_TEXT_FAULTED] = {.mode = RIFFLE_MODE_FGKASLR, .faulted = true, .text_alone = true},
    [ROW_KASLR_SLIDE_FRESH] = {.mode = RIFFLE_MODE_KASLR, .slides = true},
    [ROW_KASLR_SLIDE_FAULTED] = {.mode = RIFFLE_MODE_KASLR, .faulted = true, .slides = true},
    [ROW_SHUFFLE_SLIDE_FRESH] = {.mode = RIFFLE_MODE_FGKASLR, .slides = true},
    [ROW_SHUFFLE_SLIDE_FAULTED] = {.mode = RIFFLE_MODE_FGKASLR, .faulted = true, .slides = true},
};

static int time_load(struct bench *b, enum row row, double *ms, struct riffle_error *error)
{
	uint8_t *memory = loads[row].faulted ? b->faulted : map_memory(b, b->bytes);
	struct riffle_workers workers;
	struct riffle_loaded loaded;
	double before;
	int status;

	if (!memory)
		return riffle_fail_system(error, errno, "mmap", "failed");
	pool_workers(b->pool, &workers);
	before = clock_ms(b);
	status = load_once(b, loads[row].text_alone ? &b->text_plan : &b->kernel.plan, memory, loads[row].mode,
			   loads[row].options, loads[row].slides, loads[row].threads ? &workers : NULL, &loaded, error);
	*ms = clock_ms(b) - before;
	if (!loads[row].faulted)
		munmap(memory, b->bytes);
	return status;
}

static int time_row(struct bench *b, enum row row, double *ms, struct riffle_error *error)
{
	double before;

	switch (row) {
	case ROW_FLOOR:
		before = clock_ms(b);
		memcpy(b->faulted, b->source, b->kernel.plan.header->load_bytes);
		*ms = clock_ms(b) - before;
		return RIFFLE_OK;
	case ROW_BOOTSTRAP:
		return bootstrap_bound(ms, b->image, &b->kernel.plan, b->unpacked, b->faulted, error);
	default:
		return time_load(b, row, ms, error);
	}
}

/* Median over the rounds of what one row took more than another in the same round. */
static double paired_difference(const struct bench *b, enum row row, enum row base)
{
	double *difference = malloc(b->runs * sizeof *difference), middle;

	if (!difference)
		return 0;
	for (unsigned i = 0; i < b->runs; i++)
		difference[i] = b->ms[row][i] - b->ms[base][i];
	middle = median(difference, b->runs);
	free(difference);
	return middle;
}

/* A plan with the chunks and nothing else: no other bytes, relocations or tables. Its parts were checked with the
 * whole. */
static void make_text_plan(struct bench *b)
{
	struct riffle_plan *plan = &b->text_plan;

	*plan = b->kernel.plan;
	plan->owned = NULL;
	b->text_header = *plan->header;
	b->text_header.features &= ~RIFFLE_FEATURE_KALLSYMS_MODE; /* it lies in what is not loaded */
	plan->header = &b->text_header;
	plan->reloc64_count = plan->reloc32_count = plan->reloc32_inverse_count = 0;
	plan->fixed32_count = plan->fixed64_count = plan->table_count = 0;
	plan->kallsyms = NULL;
	plan->block_count = plan->cross32_count = plan->cross_table_count = 0;
	for (uint32_t i = 0; i < plan->region_count && i < 64; i++)
		b->text_extent[i] =
		    (struct riffle_extent){plan->regions[i].image_offset, plan->regions[i].bytes,
					   plan->header->payload_offset + plan->regions[i].image_offset};
	plan->extents = b->text_extent;
	plan->extent_count = plan->region_count;
}

static int set_up_shuffle(struct bench *b, struct riffle_error *error)
{
	const struct riffle_plan *plan = &b->kernel.plan;

	b->order_bytes = plan->chunk_count * sizeof *b->order;
	b->workspace_bytes = riffle_load_workspace(plan);
	b->order = map_huge(&b->order_bytes);
	b->workspace = map_huge(&b->workspace_bytes);
	if (!b->order || !b->workspace)
		return riffle_fail_system(error, errno, "workspace", "cannot be allocated");
	memset(b->workspace, 0, b->workspace_bytes);
	make_text_plan(b);
	return RIFFLE_OK;
}

static int set_up(struct bench *b, const char *name, const char *relocs, struct riffle_error *error)
{
	const struct kernel_request request = {.kernel = name, .relocs = relocs};
	struct riffle_loaded loaded;
	struct stat st;
	int fd, status;

	status = kernel_open(&b->kernel, &request, error);
	if (status)
		return status;
	if (b->kernel.way != KERNEL_IS_PREPARED) {
		status = input_open(&fd, &st, name, error);
		if (status)
			return status;
		if (riffle_image_peek_compression(fd) != RIFFLE_COMPRESSION_NONE &&
		    riffle_image_peek_compression(fd) != RIFFLE_COMPRESSION_LZO)
			status = riffle_image_open(&b->image, fd, -1, error);
		close(fd);
		if (status)
			return status;
	}
	bench_file_take(&b->file, &b->kernel, name);
	b->bytes = (b->kernel.plan.header->image_bytes + b->kernel.plan.slide_max + HUGE - 1) & ~(HUGE - 1);
	b->source = map_memory(b, b->bytes);
	b->faulted = map_memory(b, b->bytes);
	b->unpacked = b->image ? map_memory(b, (b->image->uncompressed_bytes + HUGE) & ~(HUGE - 1)) : NULL;
	for (unsigned i = 0; i < ROW_COUNT; i++) {
		b->have[i] = i != ROW_BOOTSTRAP || b->image;
		b->ms[i] = calloc(b->runs, sizeof *b->ms[i]);
		if (!b->ms[i])
			return riffle_fail(error, RIFFLE_ERR_MEMORY, "bench", "has no memory for its figures");
	}
	if (!(b->kernel.plan.header->flags & RIFFLE_KERNEL_RELOCATABLE))
		b->have[ROW_KASLR_FRESH] = b->have[ROW_KASLR_FAULTED] = b->have[ROW_KASLR_TWO_THREADS] =
		    b->have[ROW_BOOTSTRAP] = false;
	for (unsigned i = ROW_SHUFFLE_FRESH; i <= ROW_TEXT_FAULTED; i++)
		b->have[i] = b->kernel.plan.chunk_count;
	for (unsigned i = ROW_KASLR_SLIDE_FRESH; i <= ROW_SHUFFLE_SLIDE_FAULTED; i++)
		b->have[i] = b->kernel.plan.block_count;
	if (b->cpu)
		b->have[ROW_KASLR_TWO_THREADS] = b->have[ROW_SHUFFLE_TWO_THREADS] = b->have[ROW_BOOTSTRAP] = false;
	if (b->kernel.plan.chunk_count && set_up_shuffle(b, error))
		return (int)error->status;
	b->pool = pool_start(1);
	if (!b->source || !b->faulted || (b->image && !b->unpacked) || !b->pool)
		return riffle_fail_system(error, errno, "memory", "for the measurement cannot be allocated");
	memset(b->faulted, 1, b->bytes);
	status = load_once(b, &b->kernel.plan, b->source, RIFFLE_MODE_OFF, 0, false, NULL, &loaded, error);
	/* every page of the floor's source is distinct memory, including zeros */
	for (uint64_t i = 0; i < b->bytes; i += 4096)
		*(volatile uint8_t *)(b->source + i) = b->source[i];
	return status;
}

/* A warm-up round, then the rows in rotation, each round starting with another one. */
static int measure(struct bench *b, struct riffle_error *error)
{
	bool terminal = isatty(STDERR_FILENO);

	for (unsigned round = 0; round <= b->runs; round++) {
		if (terminal)
			fprintf(stderr, "\rround %u of %u ", round, b->runs);
		for (unsigned i = 0; i < ROW_COUNT; i++) {
			enum row row = (enum row)((i + round) % ROW_COUNT);
			double ms;
			int status;

			if (!b->have[row])
				continue;
			status = time_row(b, row, &ms, error);
			if (status)
				return status;
			if (round)
				b->ms[row][round - 1] = ms;
		}
	}
	if (terminal)
		fputs("\r\033[K", stderr);
	return RIFFLE_OK;
}

static uint64_t extent_bytes(const struct riffle_plan *plan)
{
	uint64_t sum = 0;

	for (uint32_t i = 0; i < plan->extent_count; i++)
		sum += plan->extents[i].bytes;
	return sum;
}

/* What slides add to a mode: rows with them and without, into fresh memory and with pages faulted in before. */
static void print_slides(const struct bench *b, bool shuffle, double floor)
{
	double fresh_ms = shuffle ? paired_difference(b, ROW_SHUFFLE_SLIDE_FRESH, ROW_SHUFFLE_FRESH)
				  : paired_difference(b, ROW_KASLR_SLIDE_FRESH, ROW_KASLR_FRESH);
	double faulted_ms = shuffle ? paired_difference(b, ROW_SHUFFLE_SLIDE_FAULTED, ROW_SHUFFLE_FAULTED)
				    : paired_difference(b, ROW_KASLR_SLIDE_FAULTED, ROW_KASLR_FAULTED);

	printf(
	    "slides add to %s (median of paired differences, / floor): fresh %+.3f ms, %.2f; faulted %+.3f ms, %.2f\n",
	    shuffle ? "FGKASLR" : "KASLR", fresh_ms, fresh_ms / floor, faulted_ms, faulted_ms / floor);
}

static void print_text(const struct bench *b, const char *name)
{
	const struct riffle_header *h = b->kernel.plan.header;
	double floor = median(b->ms[ROW_FLOOR], b->runs);

	printf("%s\n%s: PT_LOAD %.1f MB, non-zero extents %.1f MB, %u relocations; %u rounds, medians; %s pages\n",
	       SHOWN(name), h->kernel_version, (double)h->load_bytes / 1e6, (double)extent_bytes(&b->kernel.plan) / 1e6,
	       b->kernel.plan.reloc64_count + b->kernel.plan.reloc32_count + b->kernel.plan.reloc32_inverse_count,
	       b->runs, b->huge_pages ? "huge" : "4 KiB");
	bench_file_print(&b->file);
	printf("\n%-62s %9s %9s\n", b->cpu ? "processor time" : "", "ms", "/ floor");
	for (unsigned i = 0; i < ROW_COUNT; i++)
		if (b->have[i])
			printf("%-62s %9.3f %9.2f\n", row_names[i].words, median(b->ms[i], b->runs),
			       median(b->ms[i], b->runs) / floor);
	if (b->have[ROW_KASLR_FRESH]) {
		double off = median(b->ms[ROW_OFF_FRESH], b->runs);
		double faulted = median(b->ms[ROW_OFF_FAULTED], b->runs);

		printf("\nKASLR adds (median of paired differences): fresh %+.3f ms, %+.1f %%; faulted %+.3f ms, %+.1f "
		       "%%\n",
		       paired_difference(b, ROW_KASLR_FRESH, ROW_OFF_FRESH),
		       100 * paired_difference(b, ROW_KASLR_FRESH, ROW_OFF_FRESH) / off,
		       paired_difference(b, ROW_KASLR_FAULTED, ROW_OFF_FAULTED),
		       100 * paired_difference(b, ROW_KASLR_FAULTED, ROW_OFF_FAULTED) / faulted);
	}
	if (b->have[ROW_SHUFFLE_FRESH])
		printf("FGKASLR adds to KASLR (median of paired differences, / floor): fresh %+.3f ms, %.2f; faulted "
		       "%+.3f ms, "
		       "%.2f\nFGKASLR load / KASLR load, fresh: %.2f\n",
		       paired_difference(b, ROW_SHUFFLE_FRESH, ROW_KASLR_FRESH),
		       paired_difference(b, ROW_SHUFFLE_FRESH, ROW_KASLR_FRESH) / floor,
		       paired_difference(b, ROW_SHUFFLE_FAULTED, ROW_KASLR_FAULTED),
		       paired_difference(b, ROW_SHUFFLE_FAULTED, ROW_KASLR_FAULTED) / floor,
		       median(b->ms[ROW_SHUFFLE_FRESH], b->runs) / median(b->ms[ROW_KASLR_FRESH], b->runs));
	if (b->have[ROW_SHUFFLE_TWO_THREADS])
		printf("FGKASLR adds to KASLR, two threads, fresh: %+.3f ms, %.2f of the floor\n",
		       paired_difference(b, ROW_SHUFFLE_TWO_THREADS, ROW_KASLR_TWO_THREADS),
		       paired_difference(b, ROW_SHUFFLE_TWO_THREADS, ROW_KASLR_TWO_THREADS) / floor);
	if (b->have[ROW_KASLR_SLIDE_FRESH]) {
		print_slides(b, false, floor);
		print_slides(b, true, floor);
	}
	if (b->have[ROW_BOOTSTRAP])
		printf("load with KASLR into fresh memory / bootstrap's bound: %.2f\n",
		       median(b->ms[ROW_KASLR_FRESH], b->runs) / median(b->ms[ROW_BOOTSTRAP], b->runs));
}

/* What both kinds of JSON begin with. */
static json_t *json_heading(const struct bench *b, const char *name)
{
	return json_pack("{s:s, s:s, s:i, s:b, s:I}", "kernel", name, "version", b->kernel.plan.header->kernel_version,
			 "runs", (int)b->runs, "huge_pages", b->huge_pages, "load_bytes",
			 (json_int_t)b->kernel.plan.header->load_bytes);
}

static void print_json(const struct bench *b, const char *name)
{
	json_t *root = json_heading(b, name);
	json_t *rows = json_object();

	for (unsigned i = 0; i < ROW_COUNT; i++)
		if (b->have[i]) {
			json_t *all = json_array();

			for (unsigned k = 0; k < b->runs; k++)
				json_array_append_new(all, json_real(b->ms[i][k]));
			json_object_set_new(rows, row_names[i].key,
					    json_pack("{s:f, s:o}", "median_ms", median(b->ms[i], b->runs), "ms", all));
		}
	json_object_set_new(root, "rows", rows);
	json_object_set_new(root, "file", bench_file_json(&b->file));
	if (b->have[ROW_KASLR_FRESH])
		json_object_set_new(root, "kaslr_adds_ms",
				    json_real(paired_difference(b, ROW_KASLR_FRESH, ROW_OFF_FRESH)));
	if (b->have[ROW_SHUFFLE_FRESH])
		json_object_set_new(root, "fgkaslr_adds_ms",
				    json_real(paired_difference(b, ROW_SHUFFLE_FRESH, ROW_KASLR_FRESH)));
	if (b->have[ROW_SHUFFLE_TWO_THREADS])
		json_object_set_new(root, "fgkaslr_adds_two_threads_ms",
				    json_real(paired_difference(b, ROW_SHUFFLE_TWO_THREADS, ROW_KASLR_TWO_THREADS)));
	if (b->have[ROW_KASLR_SLIDE_FRESH]) {
		json_object_set_new(root, "slides_add_to_kaslr_ms",
				    json_real(paired_difference(b, ROW_KASLR_SLIDE_FRESH, ROW_KASLR_FRESH)));
		json_object_set_new(root, "slides_add_to_fgkaslr_ms",
				    json_real(paired_difference(b, ROW_SHUFFLE_SLIDE_FRESH, ROW_SHUFFLE_FRESH)));
	}
	json_dumpf(root, stdout, JSON_INDENT(2) | JSON_REAL_PRECISION(6));
	putchar('\n');
	json_decref(root);
}

static double column(const struct start_figures *f, unsigned runs, size_t member)
{
	double *values = malloc(runs * sizeof *values), middle;

	if (!values)
		return 0;
	for (unsigned i = 0; i < runs; i++)
		memcpy(&values[i], (const char *)&f[i] + member, sizeof *values);
	middle = median(values, runs);
	free(values);
	return middle;
}

static const char *const start_modes[] = {"off", "kaslr", "fgkaslr"};
#define START_MODES 3

struct start_bench {
	struct start_figures *figures[START_MODES]; /* of each mode, a round each; NULL where the kernel lacks it */
	double *floor_ms[START_MODES];
};

static int measure_start(struct bench *b, struct start_bench *s, const char *name, const char *relocs,
			 struct riffle_error *error)
{
	const struct kernel_request kernel = {.kernel = name, .relocs = relocs};
	int status = kernel_open(&b->kernel, &kernel, error);

	for (unsigned i = 0; !status && i < START_MODES; i++) {
		const struct start_request request = {name, relocs, start_modes[i], b->huge_pages};

		if ((i && !(b->kernel.plan.header->flags & RIFFLE_KERNEL_RELOCATABLE)) ||
		    (i == 2 && !b->kernel.plan.chunk_count))
			continue;
		s->figures[i] = calloc(b->runs, sizeof *s->figures[i]);
		s->floor_ms[i] = calloc(b->runs, sizeof *s->floor_ms[i]);
		if (!s->figures[i] || !s->floor_ms[i])
			return riffle_fail(error, RIFFLE_ERR_MEMORY, "bench", "has no memory for its figures");
		status = bench_start(s->figures[i], s->floor_ms[i], b->runs, &request,
				     b->kernel.plan.header->load_bytes, error);
	}
	return status;
}

static void print_start_text(const struct bench *b, const struct start_bench *s, const char *name)
{
	printf("%s\n%s: exec of riffle run to its first KVM_RUN, 256 MiB, %u rounds each, medians; %s pages\n\n"
	       "%-12s %9s %9s %9s %9s %22s\n",
	       SHOWN(name), b->kernel.plan.header->kernel_version, b->runs, b->huge_pages ? "huge" : "4 KiB", "",
	       "floor ms", "start ms", "/ floor", "CPU ms", "CPU ms beside the load");
	for (unsigned i = 0; i < START_MODES; i++) {
		double floor, start, cpu;

		if (!s->figures[i])
			continue;
		floor = median(s->floor_ms[i], b->runs);
		start = column(s->figures[i], b->runs, offsetof(struct start_figures, start_ms));
		cpu = column(s->figures[i], b->runs, offsetof(struct start_figures, cpu_ms));
		printf("%-12s %9.3f %9.3f %9.2f %9.3f %22.3f\n", start_modes[i], floor, start, start / floor, cpu,
		       cpu - column(s->figures[i], b->runs, offsetof(struct start_figures, load_cpu_ms)));
	}
}

static void print_start_json(const struct bench *b, const struct start_bench *s, const char *name)
{
	json_t *root = json_heading(b, name);
	json_t *modes = json_object();

	for (unsigned i = 0; i < START_MODES; i++) {
		json_t *rounds = json_array();

		for (unsigned k = 0; s->figures[i] && k < b->runs; k++)
			json_array_append_new(rounds, json_pack("{s:f, s:f, s:f, s:f}", "floor_ms", s->floor_ms[i][k],
								"start_ms", s->figures[i][k].start_ms, "cpu_ms",
								s->figures[i][k].cpu_ms, "load_cpu_ms",
								s->figures[i][k].load_cpu_ms));
		if (s->figures[i])
			json_object_set_new(modes, start_modes[i], rounds);
		else
			json_decref(rounds);
	}
	json_object_set_new(root, "modes", modes);
	json_dumpf(root, stdout, JSON_INDENT(2) | JSON_REAL_PRECISION(6));
	putchar('\n');
	json_decref(root);
}

static int command_start(struct bench *b, const char *name, const char *relocs, struct riffle_error *error)
{
	struct start_bench start = {0};
	int status = measure_start(b, &start, name, relocs, error);

	if (!status && b->json)
		print_start_json(b, &start, name);
	else if (!status)
		print_start_text(b, &start, name);
	for (unsigned i = 0; i < START_MODES; i++) {
		free(start.figures[i]);
		free(start.floor_ms[i]);
	}
	return status;
}

/* jansson takes no other names than these. */
static bool is_utf8(const char *name)
{
	json_t *string = json_string(name);

	json_decref(string);
	return string != NULL;
}

static const char help[] =
    "Usage: riffle bench load [OPTIONS] KERNEL\n"
    "       riffle bench start [OPTIONS] KERNEL\n"
    "       riffle bench storage [OPTIONS] KERNEL\n"
    "       riffle bench boot [OPTIONS] KERNEL\n"
    "\n"
    "boot: whole boots to the guest's init, one way or another; from riffle's source tree only.\n"
    "`riffle bench boot --help` prints its own options.\n"
    "storage: which way to store KERNEL (not prepared yet) has it loaded soonest, as a function of how\n"
    "fast its file is read: the processor's part measured for a prepared kernel stored raw, with LZ4\n"
    "and with Zstandard, and for a bzImage; reads modelled as bytes / bandwidth.\n"
    "start: from exec of `riffle run` to its first KVM_RUN on whatever /dev/kvm opens.\n"
    "load: measures, in one run and in turn, what it costs on this machine to load KERNEL without and\n"
    "with KASLR, against a plain copy of its bytes and against the least a bootstrap loader in\n"
    "the guest would have to do, on a fresh copy of the prepared kernel, and tells how the page\n"
    "cache holds that. Prints medians and medians of paired differences.\n"
    "\n"
    "  -n, --runs N          rounds that count, at least 21 [41]\n"
    "      --relocs FILE     vmlinux.relocs that belongs to a stripped vmlinux\n"
    "      --no-huge-pages   4 KiB pages for all memory\n"
    "      --cpu             load: processor time, of what one thread does, for a host with other work\n"
    "      --json            every figure, as JSON\n"
    "      --csv             storage: every figure, as CSV\n"
    "  -h, --help            this text\n";

static int usage_error(const char *text)
{
	fprintf(stderr, "riffle bench: %s; riffle bench load --help shows more\n", text);
	return EXIT_USAGE;
}

static int command_storage(const struct bench *b, const char *name, const char *relocs, bool csv)
{
	const struct storage_request request = {name, relocs, b->runs, b->huge_pages};
	struct storage_figures figures;
	struct riffle_error error;
	struct spawn_words words;
	int status = bench_storage(&figures, &request, &words, &error);

	if (status)
		report_error(spawn_blame(&error, name, relocs, NULL), &error);
	else if (csv)
		bench_storage_csv(&figures);
	else if (b->json)
		bench_storage_json(&figures);
	else
		bench_storage_text(&figures);
	bench_storage_free(&figures);
	return status ? EXIT_FAILURE : 0;
}

/*
 * Whole boots are the work of a script, which needs the tree that this program was built from: its tools make initrds,
 * kernels and a KVM. RIFFLE_SOURCE names it when it has moved.
 */
static int command_boot(char **argv)
{
	const char *source = getenv("RIFFLE_SOURCE");
	char program[4096];

	snprintf(program, sizeof program, "%s/bench/boot/main.py", source ? source : RIFFLE_SOURCE_DIR);
	argv[0] = program;
	execv(program, argv);
	fprintf(stderr, "riffle: bench boot: %s: %s; it lies in riffle's source tree, which RIFFLE_SOURCE can name\n",
		SHOWN(program), strerror(errno));
	return EXIT_FAILURE;
}

int command_bench(int argc, char **argv)
{
	static const struct option options[] = {
	    {"runs", required_argument, NULL, 'n'},    {"relocs", required_argument, NULL, 'r'},
	    {"no-huge-pages", no_argument, NULL, 'p'}, {"json", no_argument, NULL, 'j'},
	    {"csv", no_argument, NULL, 'c'},           {"cpu", no_argument, NULL, 'u'},
	    {"help", no_argument, NULL, 'h'},          {NULL, 0, NULL, 0},
	};
	struct bench b = {.runs = 41, .huge_pages = true};
	struct riffle_error error = {0};
	const char *relocs = NULL;
	int option, status;
	bool start, storage, csv = false;

	if (argc > 1 && (!strcmp(argv[1], "--help") || !strcmp(argv[1], "-h"))) {
		fputs(help, stdout);
		return 0;
	}
	if (argc > 1 && !strcmp(argv[1], "boot"))
		return command_boot(argv + 1);
	start = argc > 1 && !strcmp(argv[1], "start");
	storage = argc > 1 && !strcmp(argv[1], "storage");
	if (argc < 2 || (!start && !storage && strcmp(argv[1], "load")))
		return usage_error("knows `load`, `start`, `storage` and `boot` only");
	argc--, argv++;
	optind = 0; /* also resets what getopt_long keeps to itself */
	opterr = 0;
	while ((option = getopt_long(argc, argv, "n:h", options, NULL)) != -1) {
		switch (option) {
		case 'n':
			b.runs = (unsigned)strtoul(optarg, NULL, 10);
			if (b.runs < 21 || b.runs > RUNS_MAX)
				return usage_error("--runs must be 21 to 10001");
			break;
		case 'r':
			relocs = optarg;
			break;
		case 'p':
			b.huge_pages = false;
			break;
		case 'j':
			b.json = true;
			break;
		case 'c':
			csv = true;
			break;
		case 'u':
			b.cpu = true;
			break;
		case 'h':
			fputs(help, stdout);
			return 0;
		default:
			say_no_option("bench", argv[optind - 1], options);
			return EXIT_USAGE;
		}
	}
	if (optind + 1 != argc)
		return usage_error("one KERNEL is needed");
	if (b.cpu && (start || storage))
		return usage_error("--cpu is for `load`");
	if (csv && (!storage || b.json))
		return usage_error("--csv is for `storage`, and without --json");
	if (b.json && !is_utf8(argv[optind])) {
		report_not_utf8(argv[optind]);
		return EXIT_FAILURE;
	}
	if (storage)
		return command_storage(&b, argv[optind], relocs, csv);
	status = start ? command_start(&b, argv[optind], relocs, &error) : set_up(&b, argv[optind], relocs, &error);
	if (!status && !start)
		status = measure(&b, &error);
	if (status)
		report_error(b.kernel.blame ? b.kernel.blame : argv[optind], &error);
	else if (start)
		;
	else if (b.json)
		print_json(&b, argv[optind]);
	else
		print_text(&b, argv[optind]);
	pool_end(b.pool);
	if (b.image)
		riffle_image_close(b.image);
	kernel_close(&b.kernel);
	for (unsigned i = 0; i < ROW_COUNT; i++)
		free(b.ms[i]);
	return status ? EXIT_FAILURE : 0;
}
