/* SPDX-License-Identifier: Apache-2.0 */
/* Slides in a load: their check, and the tables of distances that lead from one block to another. */
#include "load/slides.h"

#define WINDOW_MAX                                                                                                     \
	(UINT64_C(1) << 30) /* the most that a kernel's addresses span (arch/x86/include/asm/page_64_types.h) */

int riffle_slides_begin(struct load *load, const struct riffle_layout *layout, struct riffle_error *error)
{
	int status = riffle_layout_check_slides(layout, load->plan, error);

	if (status)
		return status;
	if (layout->slide_count && layout->mode < RIFFLE_MODE_KASLR)
		return riffle_fail_found(error, RIFFLE_ERR_ARGUMENT, "mode", "has no slides", (uint64_t)layout->mode);
	load->block_count = layout->slide_count;
	for (uint32_t i = 0; i < load->block_count; i++)
		load->slide[i] = layout->slide[i];
	load->span = load->plan->header->image_bytes + (load->block_count ? load->slide[load->block_count - 1] : 0);
	return RIFFLE_OK;
}

/*
 * What an entry of a table leads to. Kernels' names include places outside the image but in their window: after its
 * end, which go with the last block (7.0 names the strings of .modinfo), and before, which stay. What is further away
 * is a per-CPU variable, which is among the inverse relocations.
 */
static bool is_place(uint64_t target)
{
	return target + WINDOW_MAX < 2 * WINDOW_MAX;
}

static uint32_t slides_of_place(const struct load *load, uint64_t target)
{
	return target < WINDOW_MAX ? slides_at(load, target) : 0;
}

/*
 * The tables have their final values but for slides, at their final places; a shuffle moves nothing from one block to
 * another, so values tell the blocks that they lead to.
 */
static void follow(const struct load *load, const struct riffle_cross_table *t)
{
	uint8_t *field = load_place(load, t->image_offset);
	uint64_t at = t->image_offset;
	uint32_t own = slides_at(load, at);

	for (uint32_t i = 0; i < t->entries; i++, field += t->stride, at += t->stride) {
		uint32_t value = riffle_get32(field);
		uint64_t target;

		switch (t->kind) {
		case RIFFLE_CROSS_DISTANCE32:
			target = at + (uint64_t)(int64_t)(int32_t)value;
			if (is_place(target))
				value += slides_of_place(load, target) - own;
			break;
		case RIFFLE_CROSS_DISTANCE64:
			target = at + riffle_get64(field);
			if (is_place(target))
				riffle_put64(field, target - at + slides_of_place(load, target) - own);
			continue;
		case RIFFLE_CROSS_OFFSET32:
			value += slides_of_place(load, (uint64_t)t->base + value);
			break;
		default:
			if ((int32_t)value < 0)
				value -=
				    slides_of_place(load, (uint64_t)t->base - 1 - (uint64_t)(int64_t)(int32_t)value);
		}
		riffle_put32(field, value);
	}
}

void riffle_slides_end(const struct load *load)
{
	for (uint32_t i = 0; load->block_count && i < load->plan->cross_table_count; i++)
		follow(load, &load->plan->cross_tables[i]);
}
