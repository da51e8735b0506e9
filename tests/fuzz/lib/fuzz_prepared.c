/* SPDX-License-Identifier: Apache-2.0 */
/* Fuzzes the header and plan of a prepared kernel: checking, layout and load must stay within bounds. */
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <riffle/load.h>

#include "common/checksum.h"
#include "tests/fuzz/accepted.h"

#define RAM (UINT64_C(96) << 20)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Any bytes, but for the mode of kallsyms where the header says that it is. */
static int read_padded(void *opaque, uint64_t offset, void *buffer, size_t bytes, struct riffle_error *error)
{
	static const uint8_t mode[4] = {RIFFLE_KALLSYMS_MODE_OPEN & 0xff, RIFFLE_KALLSYMS_MODE_OPEN >> 8};
	const struct riffle_header *header = opaque;
	uint64_t at = header->payload_offset + header->kallsyms_mode - offset;

	(void)error;
	memset(buffer, (int)(offset >> 12), bytes);
	for (unsigned i = 0; i < sizeof mode && header->kallsyms_mode; i++, at++)
		if (at < bytes)
			((uint8_t *)buffer)[at] = mode[i];
	return 0;
}

/* checks what the library promises about each frame it requests, and that the buffer is large enough */
static int read_any_frame(const struct riffle_source *source, const struct riffle_frame_read *frame, void *buffer,
			  struct riffle_error *error)
{
	(void)error;
	if (!frame->stored_bytes || frame->stored_bytes >= frame->bytes || frame->bytes > RIFFLE_FRAME_BYTES_MAX ||
	    frame->file_offset > source->bytes || frame->stored_bytes > source->bytes - frame->file_offset ||
	    !frame->want || frame->skip > frame->bytes || frame->want > frame->bytes - frame->skip ||
	    (frame->method != RIFFLE_COMPRESSION_LZ4 && frame->method != RIFFLE_COMPRESSION_ZSTD))
		abort();
	memset(buffer, (int)(frame->file_offset + frame->skip), frame->want);
	return 0;
}

/* Reads the input as a file with a corrected header checksum, as a plan stored in frames is read. */
static void open_plan(const uint8_t *data, size_t size)
{
	uint8_t *file = malloc(size); /* exact */
	struct riffle_header *header = (void *)file;
	struct riffle_source_memory memory;
	struct riffle_source source;
	struct riffle_error error;
	struct riffle_plan plan = RIFFLE_PLAN_INIT;

	memcpy(file, data, size);
	header->header_checksum = riffle_checksum_header(header);
	riffle_source_from_bytes(&source, &memory, file, size);
	source.read_frame = read_any_frame;
	/* a larger one only takes more memory and time */
	if (header->plan_bytes < 4 << 20 && !riffle_plan_open(&plan, &source, &error))
		riffle_plan_close(&plan);
	free(file);
}

/* A kernel that was loaded shuffled has no open kallsyms. */
static void check_mode(const struct riffle_plan *plan, const struct riffle_layout *layout, const uint8_t *host)
{
	uint32_t at = plan->header->kallsyms_mode, block = layout->slide_count, slide = 0, mode;

	while (block && plan->blocks[block - 1].image_offset > at)
		block--;
	if (block)
		slide = layout->slide[block - 1];
	memcpy(&mode, host + layout->physical_base + at + slide, sizeof mode);
	if (plan->header->features & RIFFLE_FEATURE_KALLSYMS_MODE && mode != RIFFLE_KALLSYMS_MODE_CLOSED)
		abort();
}

/* Shuffles by an accepted plan: it must load, unless a reference's field or the mode of kallsyms is out of place. */
static void shuffle(const struct riffle_plan *plan, const struct riffle_source *source,
		    const struct riffle_memory *memory, const struct riffle_random *random)
{
	size_t bytes = (riffle_load_workspace(plan) + 63) & ~(size_t)63;
	uint16_t *order = malloc(plan->chunk_count * sizeof *order);
	struct riffle_layout layout = {.order = order, .order_count = plan->chunk_count};
	void *workspace = aligned_alloc(64, bytes);
	struct riffle_loaded loaded;
	struct riffle_error error;

	if (order && workspace && !riffle_layout_draw(&layout, plan, memory, RIFFLE_MODE_FGKASLR, random, &error)) {
		for (unsigned options = 0; options <= RIFFLE_LOAD_LAZY_TABLES; options += RIFFLE_LOAD_LAZY_TABLES)
			if (!riffle_load_shuffled(&loaded, plan, source, &layout, memory, options, NULL, workspace,
						  bytes, &error))
				check_mode(plan, &layout, memory->ram->host);
			else if (error.status != RIFFLE_ERR_FORMAT)
				abort();
	}
	free(workspace);
	free(order);
}

/* The largest gaps that a plan has. */
static void slide_most(struct riffle_layout *layout, const struct riffle_plan *plan)
{
	uint32_t slide = 0;

	for (uint32_t i = 0; i < plan->block_count; i++)
		/* a gap that complements the largest is none */
		if (plan->blocks[i].gaps)
			layout->slide[i] = slide += (plan->blocks[i].gaps - 1) * plan->blocks[i].align;
		else
			layout->slide[i] = slide;
}

/*
 * Loads an accepted plan with slides, gaps as drawn and then the largest, into memory that ends where the image may: a
 * sanitizer detects what is written behind it.
 */
static void slide(const struct riffle_plan *plan, const struct riffle_source *source, uint8_t *host,
		  const struct riffle_random *random)
{
	uint64_t most = (plan->header->image_bytes + plan->slide_max + 4095) & ~UINT64_C(4095);
	struct riffle_ram ram = {0, RIFFLE_PHYSICAL_FLOOR + most, NULL};
	struct riffle_memory memory = {&ram, 1, NULL, 0};
	size_t bytes = (riffle_load_workspace(plan) + 63) & ~(size_t)63;
	uint16_t *order = malloc(plan->chunk_count * sizeof *order);
	void *workspace = aligned_alloc(64, bytes);

	if (!order || !workspace || ram.bytes > RAM)
		goto out;
	ram.host = host + RAM - ram.bytes;
	for (enum riffle_mode mode = RIFFLE_MODE_KASLR; mode <= RIFFLE_MODE_FGKASLR; mode++) {
		struct riffle_layout layout = {
		    .order = order, .order_count = plan->chunk_count, .slide_count = plan->block_count};
		struct riffle_loaded loaded;
		struct riffle_error error;
		bool failed;

		if (riffle_layout_draw(&layout, plan, &memory, mode, random, &error))
			continue;
		for (unsigned i = 0; i < 2; i++) {
			if (i)
				slide_most(&layout, plan);
			if (riffle_layout_check(&layout, plan, &memory, &error))
				abort();
			failed = riffle_load_shuffled(&loaded, plan, source, &layout, &memory,
						      i ? RIFFLE_LOAD_CLEAR : 0, NULL, workspace, bytes, &error) != 0;
			if (failed ? mode == RIFFLE_MODE_KASLR || error.status != RIFFLE_ERR_FORMAT
				   : loaded.end > ram.bytes)
				abort();
			if (!failed && mode == RIFFLE_MODE_FGKASLR)
				check_mode(plan, &layout, ram.host);
		}
	}
out:
	free(workspace);
	free(order);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static uint8_t *host;
	struct riffle_ram ram = {0, RAM, NULL};
	struct riffle_memory memory = {&ram, 1, NULL, 0};
	struct riffle_seeded seeded;
	struct riffle_random random;
	struct riffle_source source = {.read = read_padded, .read_frame = read_any_frame};
	struct riffle_layout layout = RIFFLE_LAYOUT_INIT;
	struct riffle_loaded loaded;
	struct riffle_error error;
	struct riffle_plan plan = RIFFLE_PLAN_INIT;
	struct riffle_header header;
	uint8_t *bytes;
	char text[200];

	if (!host)
		host = aligned_alloc(4096, RAM);
	if (size < sizeof header)
		return 0;
	open_plan(data, size);
	memcpy(&header, data, sizeof header);
	size -= sizeof header;
	size &= ~(size_t)7;
	bytes = malloc(size ? size : 1); /* exact, so that the sanitizer detects an overrun by one byte */
	memcpy(bytes, data + sizeof header, size);
	/* correct checksums, or nothing after their checks would ever be reached */
	header.plan_bytes = size;
	if (header.base_bytes > size || !(header.features & RIFFLE_FEATURE_SHUFFLE))
		header.base_bytes = size;
	header.base_bytes &= ~UINT64_C(7);
	header.plan_checksum = riffle_checksum(bytes, header.base_bytes);
	header.shuffle_checksum = riffle_checksum(bytes + header.base_bytes, size - header.base_bytes);
	header.header_checksum = riffle_checksum_header(&header);
	if (!riffle_plan_check(&plan, &header, bytes, size, header.file_bytes, &error)) {
		riffle_random_from_seed(&random, &seeded, (const uint8_t[32]){(uint8_t)size});
		ram.host = host;
		source.bytes = header.file_bytes;
		source.opaque = &header;
		for (enum riffle_mode mode = RIFFLE_MODE_OFF; mode <= RIFFLE_MODE_KASLR; mode++)
			if (!riffle_layout_draw(&layout, &plan, &memory, mode, &random, &error) &&
			    riffle_load(&loaded, &plan, &source, &layout, &memory, 0, NULL, &error))
				abort(); /* a layout that was drawn must load */
		fuzz_accepted++;
		if (plan.chunk_count)
			shuffle(&plan, &source, &memory, &random);
		if (plan.block_count)
			slide(&plan, &source, host, &random);
	} else {
		riffle_error_format(&error, text, sizeof text);
	}
	free(bytes);
	return 0;
}
