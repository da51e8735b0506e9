/* SPDX-License-Identifier: Apache-2.0 */
/* Blocks that slide: where an image offset lies in a load, and how far what a value leads to has moved. */
#ifndef RIFFLE_LOAD_SLIDES_H
#define RIFFLE_LOAD_SLIDES_H

#include "load/internal.h"

/* Starts a load's slides: checks them, and takes those of the layout. Without any, all blocks stay where they are. */
int riffle_slides_begin(struct load *load, const struct riffle_layout *layout, struct riffle_error *error);
/* After everything has been loaded: changes the fields of the tables that cross blocks. */
void riffle_slides_end(const struct load *load);

/* Image offsets, and how far what lies there slides: many at once. */
#define SLIDES_BATCH 64u

struct slides_batch {
	int32_t offset[SLIDES_BATCH];
	uint32_t slide[SLIDES_BATCH];
};

void riffle_slides_of(const struct load *load, struct slides_batch *batch);

/* The number of the block that an image offset lies in. */
static inline uint32_t slides_block_at(const struct load *load, uint64_t offset)
{
	uint32_t b = load->block_count;

	while (b > 1 && offset < load->plan->blocks[b - 1].image_offset)
		b--;
	return b ? b - 1 : 0;
}

/* How far the bytes at an image offset slide. */
static inline uint32_t slides_at(const struct load *load, uint64_t offset)
{
	return load->slide[slides_block_at(load, offset)];
}

/* Offsets below this mean a place of the image. */
static inline uint32_t slides_limit(const struct load *load)
{
	return (uint32_t)(load->plan->header->image_bytes + PLAN_PAST_END);
}

/* Whether an offset that is computed from a value means a place of the image. */
static inline bool slides_is_target(const struct load *load, uint64_t offset)
{
	return offset < slides_limit(load);
}

/* The image offset that an absolute value means as linked: a virtual address, or a physical one; 0 if nothing. */
static inline uint32_t slides_offset_of(const struct load *load, uint64_t value)
{
	const struct riffle_header *h = load->plan->header;
	uint64_t offset = value - h->link_virt;

	if (!slides_is_target(load, offset))
		offset = value - h->link_phys;
	return slides_is_target(load, offset) ? (uint32_t)offset : 0;
}

/* How far what an absolute value means slides. */
static inline uint32_t slides_of_value(const struct load *load, uint64_t value)
{
	return slides_at(load, slides_offset_of(load, value));
}

/* The host address of an image offset, as long as one stays in its block. */
static inline uint8_t *load_place(const struct load *load, uint64_t offset)
{
	return load->image + offset + slides_at(load, offset);
}

/* Where the block of an image offset ends, as linked. */
static inline uint64_t slides_block_end(const struct load *load, uint64_t offset)
{
	uint32_t b = slides_block_at(load, offset) + 1;

	return b < load->block_count ? load->plan->blocks[b].image_offset : load->plan->header->image_bytes;
}

#endif
