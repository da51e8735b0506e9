/* SPDX-License-Identifier: Apache-2.0 */
/* Shared by the files of this component: the steps from an image to the sections of a plan. */
#ifndef RIFFLE_PREPARE_ANALYSIS_H
#define RIFFLE_PREPARE_ANALYSIS_H

#include <riffle/error.h>
#include <riffle/format.h>

#include "common/kernel_map.h"
#include "common/plan_shape.h"
#include "prepare/image/image.h"

#define PAGE_BYTES 4096u

static inline uint64_t analysis_segment_offset(const struct riffle_image *image, const struct image_segment *segment)
{
	return segment->phys - image->link_phys;
}

/* True for the segment that kernels up to 6.14 link at virtual address 0, the template of the per-CPU areas. */
static inline bool analysis_is_zero_based(const struct riffle_image *image, const struct image_segment *segment)
{
	return segment->virt != image->link_virt + analysis_segment_offset(image, segment);
}

/* KERNEL_IMAGE_SIZE (page_64_types.h): 1 GiB with CONFIG_RANDOMIZE_BASE, else 512 MiB. */
static inline uint64_t analysis_window(const struct riffle_image *image)
{
	return image->relocatable ? RIFFLE_IMAGE_MAX : RIFFLE_IMAGE_MAX / 2;
}

/*
 * Checks that the format can express the image's geometry: alignment of the base, order and bounds of segments, their
 * link addresses, the entry. Later steps may compute with 32-bit image offsets. Errors: FORMAT.
 */
int analysis_check_geometry(const struct riffle_image *image, struct riffle_error *error);

/* Checks that the relocations are plausible for this image. Needs checked geometry. Errors: FORMAT. */
int analysis_judge_relocs(const struct riffle_image *image, struct riffle_error *error);

/*
 * Finds the runs of pages that must be copied: those that hold a byte other than zero, part of a relocated field, or
 * part of an area that a shuffled load writes itself (`areas`, ascending; may be empty), zeros included. `file_offset`
 * stays 0. On success the caller frees *extents. Errors: MEMORY.
 */
int analysis_find_extents(const struct riffle_image *image, const struct plan_areas *areas,
			  struct riffle_extent **extents, uint32_t *count, struct riffle_error *error);

#endif
