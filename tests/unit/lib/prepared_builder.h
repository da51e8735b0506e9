/* SPDX-License-Identifier: Apache-2.0 */
/* Builds small prepared kernels in memory, valid by default and easy to corrupt. */
#ifndef TEST_PREPARED_BUILDER_H
#define TEST_PREPARED_BUILDER_H

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <riffle/error.h>
#include <riffle/format.h>

#include "common/checksum.h"

struct builder {
	struct riffle_header header;
	struct riffle_segment segment[8];
	struct riffle_extent extent[64];
	uint32_t *reloc64, *reloc32, *inverse;
	uint32_t segments, extents, count64, count32, count_inverse;
	struct {
		const void *entries; /* the test's */
		uint32_t count;
		size_t size;
	} extra[RIFFLE_SECTION_SLOTS]; /* the shuffle's sections, by kind */
	uint8_t *image;                /* header.image_bytes long: what the file's payload holds */
	uint8_t *stored;               /* with RIFFLE_FEATURE_COMPRESSED it holds this instead */
	size_t stored_bytes;
	uint64_t *plan; /* after builder_seal() */
	size_t plan_bytes;
};

/* A kernel of `image_bytes` with one segment over all of it but the last `bss` bytes, linked at 16 MiB, no extents yet.
 */
static inline void builder_start(struct builder *b, uint64_t image_bytes, uint64_t bss)
{
	memset(b, 0, sizeof *b);
	memcpy(b->header.magic, RIFFLE_MAGIC, 8);
	b->header.version = RIFFLE_FORMAT_VERSION;
	b->header.header_bytes = RIFFLE_HEADER_BYTES;
	b->header.plan_offset = RIFFLE_HEADER_BYTES;
	b->header.payload_offset = RIFFLE_PAYLOAD_ALIGN;
	b->header.link_phys = 16 << 20;
	b->header.link_virt = UINT64_C(0xffffffff81000000);
	b->header.image_bytes = image_bytes;
	b->header.load_bytes = image_bytes - bss;
	b->header.window_bytes = RIFFLE_IMAGE_MAX;
	b->header.entry_offset = 0x100;
	b->header.kernel_alignment = 2 << 20;
	b->header.flags = RIFFLE_KERNEL_RELOCATABLE;
	b->header.source_kind = RIFFLE_SOURCE_BZIMAGE;
	strcpy(b->header.kernel_version, "6.1.0-test");
	b->segment[0] = (struct riffle_segment){.link_virt = b->header.link_virt,
						.file_bytes = (uint32_t)(image_bytes - bss),
						.memory_bytes = (uint32_t)image_bytes,
						.flags = 7};
	b->segments = 1;
	b->image = calloc(1, image_bytes);
}

static inline void builder_extent(struct builder *b, uint32_t image_offset, uint32_t bytes)
{
	b->extent[b->extents++] = (struct riffle_extent){
	    .image_offset = image_offset, .bytes = bytes, .file_offset = b->header.payload_offset + image_offset};
}

static inline void builder_section(struct builder *b, unsigned kind, const void *entries, uint32_t count, size_t size,
				   size_t *at)
{
	b->header.section[kind] = (struct riffle_section){.offset = *at, .count = count};
	if (count)
		memcpy((uint8_t *)b->plan + *at, entries, count * size);
	*at = (*at + count * size + 7) & ~(size_t)7;
}

/* Lays out the plan and fills in offsets and checksums; call builder_sums() alone after a manual change. */
static inline void builder_sums(struct builder *b)
{
	b->header.plan_checksum = riffle_checksum(b->plan, b->header.base_bytes);
	b->header.shuffle_checksum =
	    riffle_checksum((uint8_t *)b->plan + b->header.base_bytes, b->plan_bytes - b->header.base_bytes);
	b->header.header_checksum = riffle_checksum_header(&b->header);
}

/* How many pieces a plan has when the kernel is stored compressed; builder_file() stores them as they are. */
static inline size_t builder_pieces(const struct builder *b)
{
	return (b->plan_bytes + RIFFLE_FRAME_BYTES_MAX - 1) / RIFFLE_FRAME_BYTES_MAX;
}

static inline void builder_seal(struct builder *b)
{
	size_t at = 0;

	free(b->plan);
	b->plan_bytes =
	    64 + b->segments * 24u + b->extents * 16u + 4u * ((size_t)b->count64 + b->count32 + b->count_inverse);
	for (unsigned i = 0; i < RIFFLE_SECTION_SLOTS; i++)
		b->plan_bytes += (b->extra[i].count * b->extra[i].size + 7) & ~(size_t)7;
	b->plan_bytes = (b->plan_bytes + 7) & ~(size_t)7;
	b->plan = calloc(1, b->plan_bytes);
	builder_section(b, RIFFLE_SECTION_SEGMENTS, b->segment, b->segments, sizeof *b->segment, &at);
	builder_section(b, RIFFLE_SECTION_EXTENTS, b->extent, b->extents, sizeof *b->extent, &at);
	builder_section(b, RIFFLE_SECTION_RELOC64, b->reloc64, b->count64, 4, &at);
	builder_section(b, RIFFLE_SECTION_RELOC32, b->reloc32, b->count32, 4, &at);
	builder_section(b, RIFFLE_SECTION_RELOC32_INVERSE, b->inverse, b->count_inverse, 4, &at);
	builder_section(b, RIFFLE_SECTION_FRAMES, b->extra[RIFFLE_SECTION_FRAMES].entries,
			b->extra[RIFFLE_SECTION_FRAMES].count, b->extra[RIFFLE_SECTION_FRAMES].size, &at);
	b->header.base_bytes = at;
	for (unsigned i = RIFFLE_SECTION_REGIONS; i < RIFFLE_SECTION_COUNT; i++)
		builder_section(b, i, b->extra[i].entries, b->extra[i].count, b->extra[i].size, &at);
	b->header.plan_bytes = b->plan_bytes;
	if (at == b->header.base_bytes)
		b->header.base_bytes = b->plan_bytes;
	b->header.plan_stored_bytes = b->stored ? builder_pieces(b) * 4 + b->plan_bytes : 0;
	b->header.payload_offset =
	    (RIFFLE_HEADER_BYTES + builder_pieces(b) * 4 + b->plan_bytes + RIFFLE_PAYLOAD_ALIGN - 1) &
	    ~(RIFFLE_PAYLOAD_ALIGN - 1);
	for (uint32_t i = 0; i < b->extents; i++)
		b->extent[i].file_offset = b->stored ? 0 : b->header.payload_offset + b->extent[i].image_offset;
	if (b->extents)
		memcpy((uint8_t *)b->plan + b->header.section[RIFFLE_SECTION_EXTENTS].offset, b->extent,
		       b->extents * sizeof *b->extent);
	b->header.file_bytes = b->header.payload_offset + (b->stored ? b->stored_bytes : b->header.image_bytes);
	builder_sums(b);
}

/* The whole file in fresh memory. */
static inline uint8_t *builder_file(const struct builder *b)
{
	uint8_t *file = calloc(1, b->header.file_bytes);
	size_t plan = b->header.plan_offset;

	memcpy(file, &b->header, sizeof b->header);
	for (size_t i = 0, left = b->plan_bytes; b->stored && i < builder_pieces(b); i++, plan += 4) {
		uint32_t n = left < RIFFLE_FRAME_BYTES_MAX ? (uint32_t)left : RIFFLE_FRAME_BYTES_MAX;

		memcpy(file + plan, &n, 4);
		left -= n;
	}
	memcpy(file + plan, b->plan, b->plan_bytes);
	memcpy(file + b->header.payload_offset, b->stored ? b->stored : b->image,
	       b->header.file_bytes - b->header.payload_offset);
	return file;
}

static inline void builder_extra(struct builder *b, unsigned kind, const void *entries, uint32_t count, size_t size)
{
	b->extra[kind].entries = entries;
	b->extra[kind].count = count;
	b->extra[kind].size = size;
}

/* The whole line that a user reads. */
static inline const char *message_of(int status, const struct riffle_error *error)
{
	static char text[256];

	if (!status)
		return "taken";
	riffle_error_format(error, text, sizeof text);
	return text;
}

static inline void builder_end(struct builder *b)
{
	free(b->reloc64);
	free(b->reloc32);
	free(b->inverse);
	free(b->image);
	free(b->plan);
	free(b->stored);
	memset(b, 0, sizeof *b);
}

#endif
