/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Checks the bytes of a prepared kernel and turns them into a plan: nothing in it needs to be checked again afterwards.
 */
#include <riffle/plan.h>

#include "common/bytes.h"
#include "common/checksum.h"
#include "common/fail.h"
#include "common/kernel_map.h"
#include "common/search.h"
#include "plan/areas.h"
#include "plan/check.h"
#include "plan/frames.h"
#include "plan/scan.h"

#define PAGE UINT64_C(4096)
#define PLAN_SIZE_MAX 4096u
#define SLOT (UINT64_C(2) << 20)

int riffle_plan_clear(struct riffle_plan *plan, struct riffle_error *error)
{
	size_t size = plan->size;

	/* a caller built against a later header may have a longer struct: the unknown part is set to 0 */
	if (size < sizeof *plan || size > PLAN_SIZE_MAX)
		return riffle_fail_expected(error, RIFFLE_ERR_ARGUMENT, "plan size",
					    "is not that of a struct riffle_plan: start from RIFFLE_PLAN_INIT", size,
					    sizeof *plan);
	memset(plan, 0, size);
	plan->size = size;
	return RIFFLE_OK;
}

int riffle_plan_is_prepared(const void *start, size_t bytes)
{
	return bytes >= 8 && memcmp(start, RIFFLE_MAGIC, 8) == 0;
}

static int check_identity(const struct riffle_header *h, struct riffle_error *error)
{
	if (!riffle_plan_is_prepared(h, sizeof *h))
		return riffle_fail(error, RIFFLE_ERR_FORMAT, "magic", "is not that of a prepared kernel");
	if (h->version != RIFFLE_FORMAT_VERSION)
		return riffle_fail_expected(error, RIFFLE_ERR_UNSUPPORTED, "version",
					    "is not one this library reads; prepare the kernel again", h->version,
					    RIFFLE_FORMAT_VERSION);
	if (h->header_bytes != RIFFLE_HEADER_BYTES)
		return riffle_fail_expected(error, RIFFLE_ERR_FORMAT, "header_bytes", "is wrong", h->header_bytes,
					    RIFFLE_HEADER_BYTES);
	if (h->features & ~RIFFLE_FEATURES_KNOWN)
		return riffle_fail_found(error, RIFFLE_ERR_UNSUPPORTED, "features",
					 "hold bits this library does not know", h->features & ~RIFFLE_FEATURES_KNOWN);
	if (h->features & RIFFLE_FEATURE_ENTRY_MOVES && !(h->features & RIFFLE_FEATURE_SHUFFLE))
		return riffle_fail_found(error, RIFFLE_ERR_FORMAT, "features", "let the entry move without a shuffle",
					 h->features);
	if (h->features & RIFFLE_FEATURE_PAIRS && !(h->features & RIFFLE_FEATURE_SLIDES))
		return riffle_fail_found(error, RIFFLE_ERR_FORMAT, "features", "have pairs of gaps without slides",
					 h->features);
	if (h->features & RIFFLE_FEATURE_BALANCED && !(h->features & RIFFLE_FEATURE_SLIDES))
		return riffle_fail_found(error, RIFFLE_ERR_FORMAT, "features", "have a sum of gaps without slides",
					 h->features);
	if (h->features & RIFFLE_FEATURE_PAGED && !(h->features & RIFFLE_FEATURE_SHUFFLE))
		return riffle_fail_found(error, RIFFLE_ERR_FORMAT, "features", "have a chunk by page without a shuffle",
					 h->features);
	if (h->features & RIFFLE_FEATURE_KALLSYMS_MODE && !(h->features & RIFFLE_FEATURE_SHUFFLE))
		return riffle_fail_found(error, RIFFLE_ERR_FORMAT, "features",
					 "have a mode of kallsyms without a shuffle", h->features);
	if (h->features & RIFFLE_FEATURE_SLIDES && !(h->features & RIFFLE_FEATURE_SHUFFLE))
		return riffle_fail_found(error, RIFFLE_ERR_FORMAT, "features", "let blocks slide without a shuffle",
					 h->features);
	return RIFFLE_OK;
}

static int check_header_checksum(const struct riffle_header *h, struct riffle_error *error)
{
	uint64_t sum = riffle_checksum_header(h);

	if (sum != h->header_checksum)
		return riffle_fail_expected(error, RIFFLE_ERR_CHECKSUM, "header_checksum",
					    "differs from the header's bytes", sum, h->header_checksum);
	return RIFFLE_OK;
}

int riffle_plan_check_identity(const struct riffle_header *h, struct riffle_error *error)
{
	int status = check_identity(h, error);

	return status ? status : check_header_checksum(h, error);
}

static int check_places(const struct riffle_header *h, uint64_t file_bytes, struct riffle_error *error)
{
	if (h->file_bytes != file_bytes)
		return riffle_fail_expected(error, RIFFLE_ERR_FORMAT, "file_bytes",
					    "is not the size of the file (cut short?)", file_bytes, h->file_bytes);
	if (h->plan_offset != RIFFLE_HEADER_BYTES)
		return riffle_fail_expected(error, RIFFLE_ERR_FORMAT, "plan_offset", "is wrong", h->plan_offset,
					    RIFFLE_HEADER_BYTES);
	if (h->plan_bytes > RIFFLE_PLAN_MAX || h->plan_bytes % 8 ||
	    (!(h->features & RIFFLE_FEATURE_COMPRESSED) && !riffle_inside(h->plan_offset, h->plan_bytes, file_bytes)))
		return riffle_fail_found(error, RIFFLE_ERR_FORMAT, "plan_bytes", "is out of range or no multiple of 8",
					 h->plan_bytes);
	if (h->base_bytes > h->plan_bytes || h->base_bytes % 8)
		return riffle_fail_expected(error, RIFFLE_ERR_FORMAT, "base_bytes",
					    "is more than the plan or no multiple of 8", h->base_bytes, h->plan_bytes);
	if (h->features & RIFFLE_FEATURE_COMPRESSED ? !riffle_inside(h->plan_offset, h->plan_stored_bytes, file_bytes)
						    : h->plan_stored_bytes != 0)
		return riffle_fail_found(error, RIFFLE_ERR_FORMAT, "plan_stored_bytes",
					 "reaches past the end of the file, or is there without compression",
					 h->plan_stored_bytes);
	if (h->payload_offset % (h->features & RIFFLE_FEATURE_COMPRESSED ? PAGE : RIFFLE_PAYLOAD_ALIGN) ||
	    h->payload_offset > file_bytes || h->payload_offset < h->plan_offset + plan_stored_bytes(h))
		return riffle_fail_found(error, RIFFLE_ERR_FORMAT, "payload_offset",
					 "is not a multiple of 2 MiB (compressed: 4 KiB) between plan and end of file",
					 h->payload_offset);
	return RIFFLE_OK;
}

/* Text from a kernel, which users print: it must be NUL-terminated and free of control characters. */
static int check_text(const char *text, size_t bytes, const char *field, struct riffle_error *error)
{
	for (size_t i = 0; i < bytes; i++) {
		if (!text[i])
			return RIFFLE_OK;
		if (text[i] < ' ' || text[i] > '~')
			return riffle_fail_found(error, RIFFLE_ERR_FORMAT, field, "holds what is not printable ASCII",
						 (unsigned char)text[i]);
	}
	return riffle_fail(error, RIFFLE_ERR_FORMAT, field, "is not terminated");
}

static int check_kernel(const struct riffle_header *h, struct riffle_error *error)
{
	int status;

	if (!h->image_bytes || h->image_bytes > RIFFLE_IMAGE_MAX)
		return riffle_fail_expected(error, RIFFLE_ERR_FORMAT, "image_bytes", "is 0 or too large",
					    h->image_bytes, RIFFLE_IMAGE_MAX);
	if (h->link_phys % SLOT || h->link_phys > RIFFLE_IMAGE_MAX)
		return riffle_fail_found(error, RIFFLE_ERR_FORMAT, "link_phys",
					 "is not a multiple of 2 MiB below 1 GiB", h->link_phys);
	if (h->link_virt != START_KERNEL_MAP + h->link_phys)
		return riffle_fail_expected(error, RIFFLE_ERR_FORMAT, "link_virt", "does not belong to link_phys",
					    h->link_virt, START_KERNEL_MAP + h->link_phys);
	if (h->window_bytes != RIFFLE_IMAGE_MAX && h->window_bytes != RIFFLE_IMAGE_MAX / 2)
		return riffle_fail_found(error, RIFFLE_ERR_FORMAT, "window_bytes", "is neither 512 MiB nor 1 GiB",
					 h->window_bytes);
	if (!riffle_inside(h->link_phys, h->image_bytes, h->window_bytes))
		return riffle_fail_expected(error, RIFFLE_ERR_FORMAT, "image_bytes",
					    "lead past the end of the kernel's address window",
					    h->link_phys + h->image_bytes, h->window_bytes);
	if (h->entry_offset >= h->image_bytes)
		return riffle_fail_expected(error, RIFFLE_ERR_FORMAT, "entry_offset", "is outside the image",
					    h->entry_offset, h->image_bytes);
	if (h->build_id_bytes > sizeof h->build_id)
		return riffle_fail_expected(error, RIFFLE_ERR_FORMAT, "build_id_bytes", "is too large",
					    h->build_id_bytes, sizeof h->build_id);
	status = check_text(h->kernel_version, sizeof h->kernel_version, "kernel_version", error);
	if (!status)
		status = check_text(h->no_shuffle, sizeof h->no_shuffle, "no_shuffle", error);
	return status ? status : check_text(h->no_slides, sizeof h->no_slides, "no_slides", error);
}

/* Returns the address and count of one section of the plan, or an error that names it. */
static int find_section(const struct riffle_header *h, const uint8_t *plan, enum riffle_section_kind kind,
			const char *name, size_t entry_bytes, const void **entries, uint32_t *count,
			struct riffle_error *error)
{
	const struct riffle_section *s = &h->section[kind];

	if (s->offset % 8 || s->count > UINT32_MAX / entry_bytes ||
	    !riffle_inside(s->offset, s->count * entry_bytes, h->base_bytes))
		return riffle_fail_expected(error, RIFFLE_ERR_FORMAT, name,
					    "section reaches outside its part of the plan", s->offset, h->base_bytes);
	*entries = plan + s->offset;
	*count = (uint32_t)s->count;
	return RIFFLE_OK;
}

static int check_segments(const struct riffle_plan *plan, struct riffle_error *error)
{
	uint64_t end = 0;
	int entry_inside = 0;

	if (!plan->segment_count)
		return riffle_fail(error, RIFFLE_ERR_FORMAT, "segments", "there are none");
	for (uint32_t i = 0; i < plan->segment_count; i++) {
		const struct riffle_segment *s = &plan->segments[i];

		if (s->image_offset < end)
			return riffle_fail_expected(error, RIFFLE_ERR_FORMAT, "segment image_offset",
						    "overlaps the one before or is out of order", s->image_offset, end);
		if (s->file_bytes > s->memory_bytes)
			return riffle_fail_expected(error, RIFFLE_ERR_FORMAT, "segment file_bytes",
						    "is larger than its memory", s->file_bytes, s->memory_bytes);
		end = (uint64_t)s->image_offset + s->memory_bytes;
		if (end > plan->header->image_bytes)
			return riffle_fail_expected(error, RIFFLE_ERR_FORMAT, "segment", "ends outside the image", end,
						    plan->header->image_bytes);
		if (plan->header->entry_offset >= s->image_offset &&
		    plan->header->entry_offset - s->image_offset < s->file_bytes)
			entry_inside = 1;
	}
	if (!entry_inside)
		return riffle_fail_found(error, RIFFLE_ERR_FORMAT, "entry_offset", "is in no segment's file bytes",
					 plan->header->entry_offset);
	return RIFFLE_OK;
}

/*
 * Every extent must lie inside the file bytes of one segment, in order, and at the file offset that the format
 * requires.
 */
static int check_extents(const struct riffle_plan *plan, struct riffle_error *error)
{
	const struct riffle_header *h = plan->header;
	uint64_t end = 0;
	uint32_t seg = 0;

	for (uint32_t i = 0; i < plan->extent_count; i++) {
		const struct riffle_extent *e = &plan->extents[i];
		uint64_t stop = (uint64_t)e->image_offset + e->bytes;

		if (e->image_offset < end || !e->bytes)
			return riffle_fail_expected(error, RIFFLE_ERR_FORMAT, "extent image_offset",
						    "overlaps the one before, is out of order, or is empty",
						    e->image_offset, end);
		while (seg < plan->segment_count &&
		       e->image_offset >= (uint64_t)plan->segments[seg].image_offset + plan->segments[seg].file_bytes)
			seg++;
		if (seg == plan->segment_count || e->image_offset < plan->segments[seg].image_offset ||
		    stop > (uint64_t)plan->segments[seg].image_offset + plan->segments[seg].file_bytes)
			return riffle_fail_found(error, RIFFLE_ERR_FORMAT, "extent image_offset",
						 "is not inside one segment's file bytes", e->image_offset);
		if (e->image_offset % PAGE && e->image_offset != plan->segments[seg].image_offset)
			return riffle_fail_found(error, RIFFLE_ERR_FORMAT, "extent image_offset",
						 "starts neither on a page nor with its segment", e->image_offset);
		/* the offsets of compressed data are in the frames */
		if (h->features & RIFFLE_FEATURE_COMPRESSED
			? e->file_offset != 0
			: e->file_offset != h->payload_offset + e->image_offset ||
			      !riffle_inside(e->file_offset, e->bytes, h->file_bytes))
			return riffle_fail_found(error, RIFFLE_ERR_FORMAT, "extent file_offset",
						 "is wrong or past the end of the file", e->file_offset);
		end = stop;
	}
	return RIFFLE_OK;
}

int riffle_plan_check_fields(const struct riffle_plan *plan, const uint32_t *list, uint32_t count, uint32_t field_bytes,
			     const char *name, struct riffle_error *error)
{
	uint32_t descents = riffle_scan_descents(list, count), done = 0;

	if (descents)
		return riffle_fail_found(error, RIFFLE_ERR_FORMAT, name, "list is not strictly ascending", descents);

	for (uint32_t i = 0; i < plan->extent_count && done < count; i++) {
		const struct riffle_extent *e = &plan->extents[i];
		uint64_t stop = (uint64_t)e->image_offset + e->bytes;

		if (list[done] < e->image_offset)
			break;
		if (e->bytes >= field_bytes)
			done = riffle_first_at_least(list, count, stop - field_bytes + 1);
	}
	if (done < count)
		return riffle_fail_found(error, RIFFLE_ERR_FORMAT, name, "entry lies outside every extent", list[done]);
	return RIFFLE_OK;
}

bool riffle_plan_has_field(const struct riffle_plan *plan, uint32_t start, uint64_t end)
{
	return riffle_has_field(plan->reloc64, plan->reloc64_count, 8, start, end) ||
	       riffle_has_field(plan->reloc32, plan->reloc32_count, 4, start, end) ||
	       riffle_has_field(plan->reloc32_inverse, plan->reloc32_inverse_count, 4, start, end) ||
	       riffle_has_field(plan->fixed32, plan->fixed32_count, 4, start, end) ||
	       riffle_has_field(plan->fixed64, plan->fixed64_count, 8, start, end);
}

int riffle_plan_take_sections(const struct riffle_plan *plan, const uint8_t *bytes, const struct plan_place *places,
			      size_t count, struct riffle_error *error)
{
	const struct riffle_header *h = plan->header;

	for (size_t i = 0; i < count; i++) {
		const struct riffle_section *s = &h->section[places[i].kind];

		if (s->offset % 8 || s->offset < h->base_bytes || s->count > UINT32_MAX / places[i].entry_bytes ||
		    !riffle_inside(s->offset, s->count * places[i].entry_bytes, h->plan_bytes))
			return riffle_fail_expected(error, RIFFLE_ERR_FORMAT, places[i].name,
						    "section reaches outside its part of the plan", s->offset,
						    h->plan_bytes);
		*places[i].entries = bytes + s->offset;
		*places[i].count = (uint32_t)s->count;
	}
	return RIFFLE_OK;
}

int riffle_plan_check(struct riffle_plan *plan, const void *header, const void *bytes, size_t plan_bytes,
		      uint64_t file_bytes, struct riffle_error *error)
{
	const struct riffle_header *h = header;
	const void *entries;
	int status;

	if ((status = riffle_plan_clear(plan, error)))
		return status;
	if ((uintptr_t)header % 8 || (uintptr_t)bytes % 8)
		return riffle_fail(error, RIFFLE_ERR_ARGUMENT, "header", "or plan is not aligned to 8 bytes");
	if ((status = riffle_plan_check_identity(h, error)) || (status = check_places(h, file_bytes, error)) ||
	    (status = check_kernel(h, error)))
		return status;
	if (plan_bytes != h->plan_bytes && plan_bytes != h->base_bytes)
		return riffle_fail_expected(error, RIFFLE_ERR_ARGUMENT, "plan_bytes", "is not what the header says",
					    plan_bytes, h->plan_bytes);
	if (riffle_scan_checksum(bytes, h->base_bytes) != h->plan_checksum)
		return riffle_fail(error, RIFFLE_ERR_CHECKSUM, "plan_checksum", "differs from the plan's bytes");

	plan->header = h;
#define SECTION(kind, member, name)                                                                                    \
	do {                                                                                                           \
		status = find_section(h, bytes, kind, name, sizeof *plan->member##s, &entries, &plan->member##_count,  \
				      error);                                                                          \
		if (status)                                                                                            \
			goto refused;                                                                                  \
		plan->member##s = entries;                                                                             \
	} while (0)
	SECTION(RIFFLE_SECTION_SEGMENTS, segment, "segments");
	SECTION(RIFFLE_SECTION_EXTENTS, extent, "extents");
	SECTION(RIFFLE_SECTION_FRAMES, frame, "frames");
#undef SECTION
#define RELOCS(kind, member, size)                                                                                     \
	do {                                                                                                           \
		status = find_section(h, bytes, kind, #member, sizeof *plan->member, &entries, &plan->member##_count,  \
				      error);                                                                          \
		if (status)                                                                                            \
			goto refused;                                                                                  \
		plan->member = entries;                                                                                \
	} while (0)
	RELOCS(RIFFLE_SECTION_RELOC64, reloc64, 8);
	RELOCS(RIFFLE_SECTION_RELOC32, reloc32, 4);
	RELOCS(RIFFLE_SECTION_RELOC32_INVERSE, reloc32_inverse, 4);
#undef RELOCS
	if ((status = check_segments(plan, error)) || (status = check_extents(plan, error)) ||
	    (status = riffle_plan_check_frames(plan, error)) ||
	    (status = riffle_plan_check_fields(plan, plan->reloc64, plan->reloc64_count, 8, "reloc64", error)) ||
	    (status = riffle_plan_check_fields(plan, plan->reloc32, plan->reloc32_count, 4, "reloc32", error)) ||
	    (status = riffle_plan_check_fields(plan, plan->reloc32_inverse, plan->reloc32_inverse_count, 4,
					       "reloc32_inverse", error)))
		goto refused;
	if (!(h->flags & RIFFLE_KERNEL_RELOCATABLE) &&
	    (plan->reloc64_count || plan->reloc32_count || plan->reloc32_inverse_count)) {
		status = riffle_fail(error, RIFFLE_ERR_FORMAT, "flags", "deny the relocations that are there");
		goto refused;
	}
	if (plan_bytes == h->plan_bytes)
		status = riffle_plan_check_shuffle(plan, bytes, error);
	if (!status && plan_bytes == h->plan_bytes)
		status = riffle_plan_check_slides(plan, bytes, error);
	if (!status && plan_bytes == h->plan_bytes)
		status = riffle_plan_check_kallsyms_mode(plan, error);
	if (status)
		goto refused;
	return RIFFLE_OK;

refused:
	riffle_plan_clear(plan, NULL);
	return status;
}
