/* SPDX-License-Identifier: Apache-2.0 */
/* Writes a prepared kernel: plan, extents and, last of all, the header that makes the file valid. */
#include "prepared.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include <nettle/sha2.h>

#include "analysis.h"
#include "common/bytes.h"
#include "common/checksum.h"
#include "common/fail.h"
#include "common/write_all.h"
#include "encode.h"
#include "frames.h"

/* everything that precedes the payload in the file, and a compressed payload too */
struct draft {
	struct riffle_header header;
	uint8_t *plan;
	struct riffle_extent *extents;
	uint32_t extent_count;
	struct encoded shuffle; /* empty without one */
	enum riffle_compression storage;
	struct stored_frames frames; /* empty when storage is NONE */
	uint8_t *stored_plan;        /* NULL then */
};

static int write_all(int fd, const void *bytes, uint64_t count, uint64_t offset, struct riffle_error *error)
{
	if (!riffle_write_at(fd, bytes, count, offset))
		return riffle_fail_system(error, errno, "output", "cannot be written");
	return 0;
}

/* Assigns each section its place in the plan, 8-byte aligned, and returns the plan's length. */
static uint64_t place_sections(struct riffle_section *section, const uint64_t counts[RIFFLE_SECTION_COUNT])
{
	uint64_t offset = 0;

	for (int i = 0; i < RIFFLE_SECTION_COUNT; i++) {
		section[i].offset = offset;
		section[i].count = counts[i];
		/* 32-bit counts and entries of a few bytes: no sum can wrap */
		offset = (offset + counts[i] * encoded_entry_bytes[i] + 7) & ~UINT64_C(7);
	}
	return offset;
}

static void fill_segments(struct riffle_segment *out, const struct riffle_image *image)
{
	for (unsigned i = 0; i < image->segment_count; i++) {
		const struct image_segment *segment = &image->segment[i];

		out[i] = (struct riffle_segment){
		    .link_virt = segment->virt,
		    .image_offset = (uint32_t)analysis_segment_offset(image, segment),
		    .file_bytes = (uint32_t)segment->file_bytes,
		    .memory_bytes = (uint32_t)segment->memory_bytes,
		    .flags = segment->flags,
		};
	}
}

static void fill_relocs(uint8_t *plan, const struct riffle_section *section, const struct image_relocs *list)
{
	if (list->count)
		memcpy(plan + section->offset, list->offset, (size_t)list->count * sizeof *list->offset);
}

/* A compressed plan is shorter, so the payload starts earlier; nothing in the plan depends on that. */
static int store_plan(struct draft *draft, struct riffle_error *error)
{
	struct riffle_header *header = &draft->header;
	int status = frames_store_plan(&draft->stored_plan, &header->plan_stored_bytes, draft->plan, header->plan_bytes,
				       draft->storage, error);

	riffle_round_up(header->plan_offset + header->plan_stored_bytes, PAGE_BYTES, &header->payload_offset);
	return status;
}

static int make_plan(struct draft *draft, const struct riffle_image *image, struct riffle_error *error)
{
	struct riffle_header *header = &draft->header;
	struct riffle_section *section = header->section;
	uint64_t counts[RIFFLE_SECTION_COUNT] = {
	    [RIFFLE_SECTION_SEGMENTS] = image->segment_count,
	    [RIFFLE_SECTION_EXTENTS] = draft->extent_count,
	    [RIFFLE_SECTION_RELOC64] = image->reloc64.count,
	    [RIFFLE_SECTION_RELOC32] = image->reloc32.count,
	    [RIFFLE_SECTION_RELOC32_INVERSE] = image->reloc32_inverse.count,
	};

	for (unsigned i = RIFFLE_SECTION_REGIONS; i < RIFFLE_SECTION_COUNT; i++)
		counts[i] = draft->shuffle.count[i];
	counts[RIFFLE_SECTION_FRAMES] = draft->frames.count;
	header->plan_offset = RIFFLE_HEADER_BYTES;
	header->plan_bytes = place_sections(section, counts);
	header->base_bytes = section[RIFFLE_SECTION_REGIONS].offset;
	if (header->plan_bytes > RIFFLE_PLAN_MAX)
		return riffle_fail_expected(error, RIFFLE_ERR_UNSUPPORTED, "plan_bytes", "is too large",
					    header->plan_bytes, RIFFLE_PLAN_MAX);
	riffle_round_up(header->plan_offset + header->plan_bytes, RIFFLE_PAYLOAD_ALIGN, &header->payload_offset);
	for (uint32_t i = 0; i < draft->extent_count && !draft->storage; i++)
		draft->extents[i].file_offset = header->payload_offset + draft->extents[i].image_offset;

	draft->plan = calloc(1, header->plan_bytes);
	if (!draft->plan)
		return riffle_fail(error, RIFFLE_ERR_MEMORY, "plan", "no memory for it");
	fill_segments((void *)(draft->plan + section[RIFFLE_SECTION_SEGMENTS].offset), image);
	if (draft->extent_count)
		memcpy(draft->plan + section[RIFFLE_SECTION_EXTENTS].offset, draft->extents,
		       draft->extent_count * sizeof *draft->extents);
	fill_relocs(draft->plan, &section[RIFFLE_SECTION_RELOC64], &image->reloc64);
	fill_relocs(draft->plan, &section[RIFFLE_SECTION_RELOC32], &image->reloc32);
	fill_relocs(draft->plan, &section[RIFFLE_SECTION_RELOC32_INVERSE], &image->reloc32_inverse);
	for (unsigned i = RIFFLE_SECTION_REGIONS; i < RIFFLE_SECTION_COUNT; i++)
		if (draft->shuffle.count[i])
			memcpy(draft->plan + section[i].offset, draft->shuffle.entries[i],
			       counts[i] * encoded_entry_bytes[i]);
	if (draft->frames.count)
		memcpy(draft->plan + section[RIFFLE_SECTION_FRAMES].offset, draft->frames.frame,
		       draft->frames.count * sizeof *draft->frames.frame);
	header->plan_checksum = riffle_checksum(draft->plan, header->base_bytes);
	header->shuffle_checksum =
	    riffle_checksum(draft->plan + header->base_bytes, header->plan_bytes - header->base_bytes);
	return draft->storage ? store_plan(draft, error) : 0;
}

static void describe(struct draft *draft, const struct riffle_image *image)
{
	struct riffle_header *header = &draft->header;
	uint64_t file_end = 0;

	for (unsigned i = 0; i < image->segment_count; i++) {
		const struct image_segment *segment = &image->segment[i];

		header->load_bytes += segment->file_bytes;
		file_end = analysis_segment_offset(image, segment) + segment->file_bytes;
	}
	memcpy(header->magic, RIFFLE_MAGIC, sizeof header->magic);
	header->version = RIFFLE_FORMAT_VERSION;
	header->header_bytes = RIFFLE_HEADER_BYTES;
	header->file_bytes = header->payload_offset + (draft->storage ? draft->frames.total : file_end);
	header->link_phys = image->link_phys;
	header->link_virt = image->link_virt;
	header->image_bytes = image->image_bytes;
	header->window_bytes = analysis_window(image);
	header->entry_offset = image->entry_offset;
	header->kernel_alignment = image->kernel_alignment;
	header->flags = (image->relocatable ? RIFFLE_KERNEL_RELOCATABLE : 0) |
			(image->has_setup_header ? RIFFLE_KERNEL_SETUP_HEADER : 0) |
			(image->inverse_list ? RIFFLE_KERNEL_INVERSE : 0);
	header->source_kind = image->kind;
	header->compression = image->compression;
	header->storage = draft->storage;
	header->features = draft->storage ? RIFFLE_FEATURE_COMPRESSED : 0;
	header->init_size = image->init_size;
	memcpy(header->setup_header, image->setup_header, sizeof header->setup_header);
	memcpy(header->kernel_version, image->kernel_version, sizeof header->kernel_version);
	header->kernel_version[sizeof header->kernel_version - 1] = 0;
	memcpy(header->build_id, image->build_id, sizeof header->build_id);
	header->build_id_bytes = image->build_id_bytes;
	memcpy(header->source_digest, image->source_digest, sizeof header->source_digest);
}

/* Writes the extents and hashes them on the way. Both lists are ascending and no extent crosses its segment's end. */
static int write_payload(const struct draft *draft, const struct riffle_image *image, int fd, struct sha256_ctx *digest,
			 struct riffle_error *error)
{
	const struct image_segment *segment = image->segment;

	if (draft->storage) {
		sha256_update(digest, draft->frames.total, draft->frames.bytes);
		return write_all(fd, draft->frames.bytes, draft->frames.total, draft->header.payload_offset, error);
	}
	for (uint32_t i = 0; i < draft->extent_count; i++) {
		const struct riffle_extent *extent = &draft->extents[i];
		const uint8_t *bytes;
		int status;

		while (extent->image_offset >= analysis_segment_offset(image, segment) + segment->file_bytes)
			segment++;
		bytes = segment->bytes + (extent->image_offset - analysis_segment_offset(image, segment));
		sha256_update(digest, extent->bytes, bytes);
		status = write_all(fd, bytes, extent->bytes, extent->file_offset, error);
		if (status)
			return status;
	}
	return 0;
}

static int write_file(struct draft *draft, const struct riffle_image *image, int fd, struct riffle_error *error)
{
	struct riffle_header *header = &draft->header;
	const uint8_t *plan = draft->storage ? draft->stored_plan : draft->plan;
	const uint64_t plan_bytes = draft->storage ? header->plan_stored_bytes : header->plan_bytes;
	struct sha256_ctx digest;
	int status;

	/* set the file's size first, so that unwritten parts stay holes */
	if (ftruncate(fd, (off_t)header->file_bytes) < 0)
		return riffle_fail_system(error, errno, "output", "cannot be given its size");
	sha256_init(&digest);
	sha256_update(&digest, plan_bytes, plan);
	status = write_all(fd, plan, plan_bytes, header->plan_offset, error);
	if (!status)
		status = write_payload(draft, image, fd, &digest, error);
	if (status)
		return status;
	sha256_digest(&digest, sizeof header->content_digest, header->content_digest);
	header->header_checksum = riffle_checksum_header(header);
	return write_all(fd, header, sizeof *header, 0, error);
}

/* The areas that a shuffled load writes itself, so that each of them lies in one extent. */
static void find_areas(struct plan_areas *areas, const struct encoded *shuffle)
{
	const struct riffle_plan plan = {
	    .regions = shuffle->entries[RIFFLE_SECTION_REGIONS],
	    .region_count = shuffle->count[RIFFLE_SECTION_REGIONS],
	    .tables = shuffle->entries[RIFFLE_SECTION_TABLES],
	    .table_count = shuffle->count[RIFFLE_SECTION_TABLES],
	    .kallsyms = shuffle->entries[RIFFLE_SECTION_KALLSYMS],
	};

	riffle_plan_areas_of(areas, &plan, PLAN_AREAS_ALL);
}

static uint64_t slides_features(const struct shuffle_slides *slides)
{
	uint64_t features = slides->block_count ? RIFFLE_FEATURE_SLIDES : 0;

	for (uint32_t i = 0; i < slides->block_count; i++)
		if (!slides->block[i].gaps)
			features |= i + 1 < slides->block_count ? RIFFLE_FEATURE_PAIRS : RIFFLE_FEATURE_BALANCED;
	return features;
}

static bool entry_moves(const struct riffle_image *image, const struct shuffle *shuffle)
{
	for (uint32_t i = 0; i < shuffle->range_count; i++)
		if (image->entry_offset - shuffle->range[i].offset < shuffle->range[i].bytes)
			return shuffle->range[i].pin == SHUFFLE_PIN_NONE;
	return false;
}

static int prepare(struct draft *draft, const struct riffle_image *image, const struct shuffle *shuffle, int fd,
		   struct riffle_error *error)
{
	struct plan_areas areas;
	int status;

	status = analysis_check_geometry(image, error);
	if (!status)
		status = analysis_judge_relocs(image, error);
	if (!status && shuffle)
		status = encode_shuffle(&draft->shuffle, image, shuffle, error);
	if (status)
		return status;
	find_areas(&areas, &draft->shuffle);
	status = analysis_find_extents(image, &areas, &draft->extents, &draft->extent_count, error);
	if (!status && draft->storage) {
		status =
		    frames_cut(&draft->frames, draft->extents, draft->extent_count, &areas, &draft->shuffle, error);
		if (!status)
			status = frames_compress(&draft->frames, image, draft->storage, error);
	}
	if (!status)
		status = make_plan(draft, image, error);
	if (status)
		return status;
	describe(draft, image);
	if (shuffle && shuffle->has_paged) {
		draft->header.features |= RIFFLE_FEATURE_PAGED;
		draft->header.paged_chunk = shuffle->paged_chunk;
	}
	if (shuffle && shuffle->kallsyms_mode) {
		draft->header.features |= RIFFLE_FEATURE_KALLSYMS_MODE;
		draft->header.kallsyms_mode = shuffle->kallsyms_mode;
	}
	if (shuffle)
		draft->header.features |= RIFFLE_FEATURE_SHUFFLE |
					  (entry_moves(image, shuffle) ? RIFFLE_FEATURE_ENTRY_MOVES : 0) |
					  slides_features(&shuffle->slides);
	return write_file(draft, image, fd, error);
}

int riffle_prepared_write(const struct riffle_image *image, const struct shuffle *shuffle, const char *no_shuffle,
			  enum riffle_compression storage, int out_fd, struct riffle_error *error)
{
	struct draft draft = {.storage = storage};
	int status;

	if (no_shuffle && !shuffle)
		strncpy(draft.header.no_shuffle, no_shuffle, sizeof draft.header.no_shuffle - 1);
	if (shuffle)
		memcpy(draft.header.no_slides, shuffle->slides.none, sizeof draft.header.no_slides);
	status = prepare(&draft, image, shuffle, out_fd, error);
	free(draft.plan);
	free(draft.stored_plan);
	free(draft.extents);
	encoded_free(&draft.shuffle);
	frames_free(&draft.frames);
	return status;
}
