/* SPDX-License-Identifier: Apache-2.0 */
/* Checks that the prepared format can express an image's segments and entry. */
#include "analysis.h"

#include "common/bytes.h"
#include "common/fail.h"

#define LINK_PHYS_ALIGN (UINT64_C(2) << 20)
#define SEGMENTS_MAX 64u

static int check_base(const struct riffle_image *image, struct riffle_error *error)
{
	const uint64_t window = analysis_window(image);

	if (image->link_phys % LINK_PHYS_ALIGN)
		return riffle_fail_found(error, RIFFLE_ERR_FORMAT, "lowest p_paddr", "is not a multiple of 2 MiB",
					 image->link_phys);
	if (image->link_phys >= window)
		return riffle_fail_expected(error, RIFFLE_ERR_FORMAT, "lowest p_paddr",
					    "lies outside the kernel's address window", image->link_phys, window);
	if (image->link_virt != START_KERNEL_MAP + image->link_phys)
		return riffle_fail_expected(error, RIFFLE_ERR_FORMAT, "lowest p_vaddr",
					    "is not its physical address in the kernel's mapping", image->link_virt,
					    START_KERNEL_MAP + image->link_phys);
	if (!image->image_bytes || image->image_bytes > window - image->link_phys)
		return riffle_fail_expected(error, RIFFLE_ERR_FORMAT, "image size",
					    "does not fit the kernel's address window", image->image_bytes,
					    window - image->link_phys);
	return 0;
}

/* `end` is the image offset where the previous segment ends, and is advanced to the end of this one. */
static int check_segment(const struct riffle_image *image, const struct image_segment *segment, uint64_t *end,
			 struct riffle_error *error)
{
	uint64_t offset;

	if (segment->phys < image->link_phys)
		return riffle_fail_expected(error, RIFFLE_ERR_FORMAT, "p_paddr", "lies below the image", segment->phys,
					    image->link_phys);
	offset = analysis_segment_offset(image, segment);
	if (offset < *end)
		return riffle_fail_expected(error, RIFFLE_ERR_FORMAT, "p_paddr", "overlaps the segment before",
					    segment->phys, image->link_phys + *end);
	if (!riffle_inside(offset, segment->memory_bytes, image->image_bytes))
		return riffle_fail_expected(error, RIFFLE_ERR_FORMAT, "p_memsz", "reaches past the end of the image",
					    segment->memory_bytes, image->image_bytes);
	if (segment->file_bytes > segment->memory_bytes)
		return riffle_fail_expected(error, RIFFLE_ERR_FORMAT, "p_filesz", "is larger than p_memsz",
					    segment->file_bytes, segment->memory_bytes);
	if (analysis_is_zero_based(image, segment) && segment->virt != 0)
		return riffle_fail_expected(error, RIFFLE_ERR_FORMAT, "p_vaddr",
					    "is neither 0 nor the segment's place in the kernel's mapping",
					    segment->virt, image->link_virt + offset);
	*end = offset + segment->memory_bytes;
	return 0;
}

static int check_entry(const struct riffle_image *image, struct riffle_error *error)
{
	for (unsigned i = 0; i < image->segment_count; i++) {
		const struct image_segment *segment = &image->segment[i];
		uint64_t offset = analysis_segment_offset(image, segment);

		if (image->entry_offset >= offset && image->entry_offset - offset < segment->file_bytes)
			return 0;
	}
	return riffle_fail_found(error, RIFFLE_ERR_FORMAT, "e_entry", "lies outside every segment",
				 image->link_phys + image->entry_offset);
}

int analysis_check_geometry(const struct riffle_image *image, struct riffle_error *error)
{
	uint64_t end = 0;
	int status;

	status = check_base(image, error);
	if (status)
		return status;
	if (!image->segment_count || image->segment_count > SEGMENTS_MAX)
		return riffle_fail_expected(error, RIFFLE_ERR_FORMAT, "e_phnum", "is not a valid number of segments",
					    image->segment_count, SEGMENTS_MAX);
	for (unsigned i = 0; i < image->segment_count; i++) {
		status = check_segment(image, &image->segment[i], &end, error);
		if (status)
			return status;
	}
	if (analysis_segment_offset(image, &image->segment[0]) != 0)
		return riffle_fail_expected(error, RIFFLE_ERR_FORMAT, "p_paddr",
					    "of the first segment is not the lowest", image->segment[0].phys,
					    image->link_phys);
	return check_entry(image, error);
}
