/* SPDX-License-Identifier: Apache-2.0 */
/* riffle bench storage: what it costs the processor to load one kernel from each way of storing it. */
#include "bench/load/storage.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <riffle/load.h>

#include "bench/load/measure.h"
#include "common/fail.h"
#include "host/huge.h"
#include "host/input.h"
#include "kernel/frame_reader.h"

static const enum riffle_compression compressions[STORAGE_BZIMAGE] = {
    [STORAGE_NONE] = RIFFLE_COMPRESSION_NONE,
    [STORAGE_LZ4] = RIFFLE_COMPRESSION_LZ4,
    [STORAGE_ZSTD] = RIFFLE_COMPRESSION_ZSTD,
};

struct work {
	const struct storage_request *request;
	struct storage_figures *figures;
	struct spawn_files files;
	int stored[STORAGE_BZIMAGE]; /* memory files */
	struct riffle_image *image;  /* of a bzImage, or NULL */
	uint64_t bytes;              /* of guest memory, a multiple of 2 MiB */
	bool relocatable;
	uint8_t *unpacked; /* the bootstrap's */
	uint64_t bzimage_bytes;
	uint16_t *order;
	void *workspace;
	size_t order_bytes, workspace_bytes;
	struct riffle_source file; /* of the stored kernel that is open, */
	uint64_t bytes_read;       /* and what was read of it */
	struct spawn_words *words;
	struct riffle_error *error;
};

static int prepare_one(struct work *w, enum storage storage)
{
	w->stored[storage] = memfd_create("riffle-bench", MFD_CLOEXEC);
	if (w->stored[storage] < 0)
		return riffle_fail_system(w->error, errno, "memory", "for the prepared kernel cannot be allocated");
	if (isatty(STDERR_FILENO))
		fprintf(stderr, "\r\033[Kpreparing, %s ", riffle_compression_name(compressions[storage]));
	w->files.out = w->stored[storage];
	w->files.storage = compressions[storage];
	return spawn_worker(w->words, &w->files, w->error);
}

static int count_read(void *opaque, uint64_t offset, void *buffer, size_t bytes, struct riffle_error *error)
{
	struct work *w = opaque;

	w->bytes_read += bytes;
	return w->file.read(w->file.opaque, offset, buffer, bytes, error);
}

/* Opens a stored kernel as riffle run does: the part of the plan that the method needs read and checked. */
static int open_stored(struct work *w, enum storage storage, enum load_method method, struct riffle_source *source,
		       struct riffle_plan *plan, struct frame_reader **frames)
{
	int status = riffle_source_from_fd(&w->file, w->stored[storage], w->error);

	*frames = NULL;
	if (status)
		return status;
	*source = (struct riffle_source){.read = count_read, .opaque = w, .bytes = w->file.bytes};
	w->bytes_read = 0;
	status = frame_reader_begin(frames, source, w->error);
	if (status)
		return status;
	return method == METHOD_KASLR ? riffle_plan_open_base(plan, source, w->error)
				      : riffle_plan_open(plan, source, w->error);
}

/* What there is to know before the first round, and the memory that the rounds share. */
static int learn(struct work *w, enum storage storage)
{
	struct storage_figures *f = w->figures;
	struct frame_reader *frames;
	struct riffle_source source;
	struct riffle_plan plan = RIFFLE_PLAN_INIT;
	int status = open_stored(w, storage, METHOD_FGKASLR, &source, &plan, &frames);

	if (status)
		return status;
	w->relocatable = plan.header->flags & RIFFLE_KERNEL_RELOCATABLE;
	for (unsigned i = 0; i < METHOD_COUNT; i++)
		if (i == METHOD_KASLR ? w->relocatable : plan.chunk_count > 0)
			f->ms[storage][i] = calloc(f->runs, sizeof(double));
	if (storage == STORAGE_NONE) {
		memcpy(f->version, plan.header->kernel_version, sizeof f->version);
		for (uint32_t i = 0; i < plan.extent_count; i++)
			f->extent_bytes += plan.extents[i].bytes;
		w->bytes = (plan.header->image_bytes + HUGE - 1) & ~(HUGE - 1);
		w->order_bytes = plan.chunk_count * sizeof *w->order + 1;
		w->workspace_bytes = riffle_load_workspace(&plan) + 1;
		w->order = map_huge(&w->order_bytes);
		w->workspace = map_huge(&w->workspace_bytes);
	}
	riffle_plan_close(&plan);
	frame_reader_end(frames);
	if (!w->order || !w->workspace || (w->relocatable && !f->ms[storage][METHOD_KASLR]))
		return riffle_fail(w->error, RIFFLE_ERR_MEMORY, "bench", "has no memory for its figures");
	return RIFFLE_OK;
}

static int set_up_bootstrap(struct work *w, uint64_t file_bytes)
{
	enum riffle_compression compression = riffle_image_peek_compression(w->files.kernel);
	int status;

	/* lzo is unpacked by an external program, which is not measured */
	if (compression == RIFFLE_COMPRESSION_NONE || compression == RIFFLE_COMPRESSION_LZO || !w->relocatable)
		return RIFFLE_OK;
	status = riffle_image_open(&w->image, w->files.kernel, -1, w->error);
	if (status)
		return status;
	w->figures->bzimage_compression = riffle_compression_name(compression);
	w->figures->read_bytes[STORAGE_BZIMAGE][METHOD_KASLR] = file_bytes;
	w->figures->ms[STORAGE_BZIMAGE][METHOD_KASLR] = calloc(w->figures->runs, sizeof(double));
	w->unpacked = map_aligned((w->image->uncompressed_bytes + HUGE) & ~(HUGE - 1), w->request->huge_pages);
	w->bzimage_bytes = file_bytes;
	if (!w->unpacked || !w->figures->ms[STORAGE_BZIMAGE][METHOD_KASLR])
		return riffle_fail(w->error, RIFFLE_ERR_MEMORY, "bench", "has no memory for a bootstrap's work");
	return RIFFLE_OK;
}

static int set_up(struct work *w)
{
	struct stat st, relocs_st;
	int status = input_open(&w->files.kernel, &st, w->request->kernel, w->error);

	if (status)
		return status;
	if (input_is_prepared(w->files.kernel))
		return riffle_fail(w->error, RIFFLE_ERR_UNSUPPORTED, "kernel",
				   "is prepared already: what it was made from is needed");
	if (w->request->relocs)
		status = input_open(&w->files.relocs, &relocs_st, w->request->relocs, w->error);
	for (enum storage i = STORAGE_NONE; !status && i < STORAGE_BZIMAGE; i++) {
		status = prepare_one(w, i);
		if (!status)
			status = learn(w, i);
	}
	return status ? status : set_up_bootstrap(w, (uint64_t)st.st_size);
}

static int load(struct work *w, struct riffle_plan *plan, const struct riffle_source *source, enum load_method method,
		uint8_t *memory)
{
	const struct riffle_header *h = plan->header;
	struct riffle_ram ram = {.address = h->link_phys > RIFFLE_PHYSICAL_FLOOR ? h->link_phys : RIFFLE_PHYSICAL_FLOOR,
				 .bytes = w->bytes,
				 .host = memory};
	struct riffle_memory guest = {.ram = &ram, .ram_count = 1};
	struct riffle_layout layout = {.order = w->order, .order_count = plan->chunk_count};
	struct riffle_loaded loaded;
	int status = riffle_layout_draw(
	    &layout, plan, &guest, method == METHOD_KASLR ? RIFFLE_MODE_KASLR : RIFFLE_MODE_FGKASLR, NULL, w->error);

	/* which slot it is makes no difference to the work, but the link address would need no relocation */
	layout.virtual_base = h->link_virt + 20 * RIFFLE_SLOT_BYTES;
	return status ? status
		      : riffle_load_shuffled(&loaded, plan, source, &layout, &guest, 0, NULL, w->workspace,
					     w->workspace_bytes, w->error);
}

/* From an open file to a kernel in fresh memory, all bytes of the file in the page cache. */
static int time_load(struct work *w, enum storage storage, enum load_method method, double *ms)
{
	uint8_t *memory = map_aligned(w->bytes, w->request->huge_pages);
	struct frame_reader *frames;
	struct riffle_source source;
	struct riffle_plan plan = RIFFLE_PLAN_INIT;
	double before = now_ms();
	uint64_t decompressed;
	int status;

	if (!memory)
		return riffle_fail_system(w->error, errno, "mmap", "failed");
	status = open_stored(w, storage, method, &source, &plan, &frames);
	decompressed = frame_reader_decompressed(frames);
	if (!status)
		status = load(w, &plan, &source, method, memory);
	*ms = now_ms() - before;
	w->figures->decompressed[storage][method] = frame_reader_decompressed(frames) - decompressed;
	w->figures->read_bytes[storage][method] = w->bytes_read;
	/* raw frames among compressed ones are copied once by their nature */
	for (uint32_t i = 0; !status && i < plan.frame_count; i++)
		if (plan.frames[i].stored_bytes == plan.frames[i].bytes)
			w->figures->decompressed[storage][method] += plan.frames[i].bytes;
	riffle_plan_close(&plan);
	frame_reader_end(frames);
	munmap(memory, w->bytes);
	return status;
}

/* The monitor reads the file into fresh memory, and the bootstrap puts the kernel into some more of it. */
static int time_bootstrap(struct work *w, double *ms)
{
	const uint64_t file_memory = (w->bzimage_bytes + HUGE - 1) & ~(HUGE - 1);
	uint8_t *file = map_aligned(file_memory, w->request->huge_pages);
	uint8_t *placed = map_aligned(w->bytes, w->request->huge_pages);
	struct frame_reader *frames;
	struct riffle_source source, bzimage;
	struct riffle_plan plan = RIFFLE_PLAN_INIT;
	double before, read_ms = 0;
	int status = open_stored(w, STORAGE_NONE, METHOD_KASLR, &source, &plan, &frames);

	if (!status)
		status = riffle_source_from_fd(&bzimage, w->files.kernel, w->error);
	if (!status && (!file || !placed))
		status = riffle_fail_system(w->error, errno, "mmap", "failed");
	if (!status) {
		before = now_ms();
		status = bzimage.read(bzimage.opaque, 0, file, w->bzimage_bytes, w->error);
		read_ms = now_ms() - before;
	}
	if (!status)
		status = bootstrap_bound(ms, w->image, &plan, w->unpacked, placed, w->error);
	*ms += read_ms;
	if (file)
		munmap(file, file_memory);
	if (placed)
		munmap(placed, w->bytes);
	riffle_plan_close(&plan);
	frame_reader_end(frames);
	return status;
}

/* A warm-up round, then all loads in rotation, each round starting with another one. */
static int measure(struct work *w)
{
	struct storage_figures *f = w->figures;
	const unsigned rows = STORAGE_COUNT * METHOD_COUNT;

	for (unsigned round = 0; round <= f->runs; round++) {
		if (isatty(STDERR_FILENO))
			fprintf(stderr, "\r\033[Kround %u of %u ", round, f->runs);
		for (unsigned i = 0; i < rows; i++) {
			unsigned row = (i + round) % rows;
			enum storage storage = (enum storage)(row / METHOD_COUNT);
			enum load_method method = (enum load_method)(row % METHOD_COUNT);
			double ms;
			int status;

			if (!f->ms[storage][method])
				continue;
			status =
			    storage == STORAGE_BZIMAGE ? time_bootstrap(w, &ms) : time_load(w, storage, method, &ms);
			if (status)
				return status;
			if (round)
				f->ms[storage][method][round - 1] = ms;
		}
	}
	return RIFFLE_OK;
}

int bench_storage(struct storage_figures *figures, const struct storage_request *request, struct spawn_words *words,
		  struct riffle_error *error)
{
	struct work w = {.request = request,
			 .figures = figures,
			 .files = {-1, -1, -1, -1, RIFFLE_COMPRESSION_NONE},
			 .stored = {-1, -1, -1},
			 .words = words,
			 .error = error};
	int status;

	*figures = (struct storage_figures){.kernel = request->kernel, .runs = request->runs};
	status = set_up(&w);
	if (!status)
		status = measure(&w);
	if (isatty(STDERR_FILENO))
		fputs("\r\033[K", stderr);
	if (w.image)
		riffle_image_close(w.image);
	for (unsigned i = 0; i < STORAGE_BZIMAGE; i++)
		if (w.stored[i] >= 0)
			close(w.stored[i]);
	if (w.files.kernel >= 0)
		close(w.files.kernel);
	if (w.files.relocs >= 0)
		close(w.files.relocs);
	return status;
}

void bench_storage_free(struct storage_figures *figures)
{
	for (unsigned i = 0; i < STORAGE_COUNT; i++)
		for (unsigned k = 0; k < METHOD_COUNT; k++)
			free(figures->ms[i][k]);
}
