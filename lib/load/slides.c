/* SPDX-License-Identifier: Apache-2.0 */
/* Slides in a load: their check, and the tables of distances that lead from one block to another. */
#include "load/slides.h"
#include "load/vector.h"

/* the most that a kernel's addresses span (arch/x86/include/asm/page_64_types.h) */
#define WINDOW_MAX (UINT64_C(1) << 30)

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

void riffle_slides_of(const struct load *load, struct slides_batch *batch)
{
	/* constant bounds, no branch that depends on an offset, and signed numbers: let this be vectors */
	for (uint32_t i = 0; i < SLIDES_BATCH; i++)
		batch->slide[i] = 0;
	for (uint32_t b = 1; b < load->block_count; b++) {
		int32_t before = (int32_t)load->plan->blocks[b].image_offset - 1;
		uint32_t gap = load->slide[b] - load->slide[b - 1];

		for (uint32_t i = 0; i < SLIDES_BATCH; i++)
			batch->slide[i] += batch->offset[i] > before ? gap : 0;
	}
}

/*
 * The block that was found last, as offsets from `from` on that are fewer than `bytes`, and how far it slides. A column
 * of a table leads to one block, or from one to the next in long runs.
 */
struct found {
	uint64_t from;
	uint32_t bytes, slide;
};

/*
 * What an entry of a table leads to. Kernels' names include places outside the image but in their window: after its
 * end, which go with the last block (7.0 names the strings of .modinfo), and before, which stay. False if it is further
 * away: that is a per-CPU variable, which is among the inverse relocations.
 */
static bool find_block(const struct load *load, struct found *found, uint64_t target)
{
	uint32_t b;

	if (target + WINDOW_MAX >= 2 * WINDOW_MAX)
		return false;
	if (target >= WINDOW_MAX) {
		*found = (struct found){.from = -WINDOW_MAX, .bytes = WINDOW_MAX};
		return true;
	}
	b = slides_block_at(load, target);
	found->from = b ? load->plan->blocks[b].image_offset : 0;
	found->bytes =
	    (uint32_t)((b + 1 < load->block_count ? load->plan->blocks[b + 1].image_offset : WINDOW_MAX) - found->from);
	found->slide = load->slide[b];
	return true;
}

/*
 * Distances are modulo 2^32: an offset is less than 1 GiB and a distance less than 2 GiB, so places before the image
 * are above all others.
 */
HOT void follow_distances(const struct load *load, struct found *found, uint8_t *field, uint32_t at, uint32_t count,
			  uint32_t stride)
{
	uint32_t own = slides_at(load, at);

	for (uint32_t i = 0; i < count; i++, field += stride, at += stride) {
		uint32_t value = riffle_get32(field), target = at + value;

		if (target - (uint32_t)found->from < found->bytes ||
		    find_block(load, found, at + (uint64_t)(int64_t)(int32_t)value))
			riffle_put32(field, value + found->slide - own);
	}
}

#if RIFFLE_VECTORS

typedef int32_t signed_vector __attribute__((vector_size(16), aligned(1), may_alias));

#define RUN 64u /* entries */

/* Whether RUN distances that follow each other all lead to the block that was found last. */
HOT bool lead_to_found(const struct found *found, const uint8_t *field, uint32_t at)
{
	/* the offset in that block, as an unsigned number less 2^31: vectors compare signed ones */
	uint32_t bias = at - (uint32_t)found->from - INT32_MIN;
	riffle_vector add = {bias, bias + 4, bias + 8, bias + 12}, four = {16, 16, 16, 16};
	int32_t last = (int32_t)(found->bytes - 1 - INT32_MIN);
	signed_vector most = {last, last, last, last}, past = {0};
	uint64_t half[2];

	for (uint32_t i = 0; i < RUN / 4; i++) {
		past |= (signed_vector)(((const riffle_vector *)field)[i] + add) > most;
		add += four;
	}
	memcpy(half, &past, sizeof half);
	return found->bytes && !(half[0] | half[1]);
}

static void follow_list(const struct load *load, uint8_t *field, uint32_t at, uint32_t count)
{
	uint32_t own = slides_at(load, at);
	struct found found = {0};

	for (; count >= RUN; count -= RUN, field += RUN * 4, at += RUN * 4) {
		uint32_t add = found.slide - own;

		if (!lead_to_found(&found, field, at)) {
			follow_distances(load, &found, field, at, RUN, 4);
			continue;
		}
		for (uint32_t i = 0; i < RUN / 4; i++)
			((riffle_vector *)field)[i] += (riffle_vector){add, add, add, add};
	}
	follow_distances(load, &found, field, at, count, 4);
}

#else

static void follow_list(const struct load *load, uint8_t *field, uint32_t at, uint32_t count)
{
	struct found found = {0};

	follow_distances(load, &found, field, at, count, 4);
}

#endif

static void follow_columns(const struct load *load, uint8_t *field, const struct riffle_cross_table *t)
{
	struct found found = {0};

	follow_distances(load, &found, field, t->image_offset, t->entries, t->stride);
}

static void follow_wide_distances(const struct load *load, uint8_t *field, uint32_t at, uint32_t count, uint32_t stride)
{
	uint32_t own = slides_at(load, at);
	struct found found = {0};

	for (uint32_t i = 0; i < count; i++, field += stride, at += stride) {
		uint64_t target = at + riffle_get64(field);

		if (target - found.from < found.bytes || find_block(load, &found, target))
			riffle_put64(field, target - at + found.slide - own);
	}
}

static void follow_offsets(const struct load *load, uint8_t *field, const struct riffle_cross_table *t)
{
	struct found found = {0};

	for (uint32_t i = 0; i < t->entries; i++, field += t->stride) {
		uint32_t value = riffle_get32(field);
		uint64_t target = (uint64_t)t->base + value;

		if (target - found.from < found.bytes || find_block(load, &found, target))
			riffle_put32(field, value + found.slide);
	}
}

static void follow_countdowns(const struct load *load, uint8_t *field, const struct riffle_cross_table *t)
{
	struct found found = {0};

	for (uint32_t i = 0; i < t->entries; i++, field += t->stride) {
		uint32_t value = riffle_get32(field);
		uint64_t target = (uint64_t)t->base - 1 - (uint64_t)(int64_t)(int32_t)value;

		if ((int32_t)value < 0 && (target - found.from < found.bytes || find_block(load, &found, target)))
			riffle_put32(field, value - found.slide);
	}
}

/*
 * The tables have their final values but for slides, at their final places; a shuffle moves nothing from one block to
 * another, so values tell the blocks that they lead to. A table lies in one block.
 */
static void follow(const struct load *load, const struct riffle_cross_table *t)
{
	uint8_t *field = load_place(load, t->image_offset);

	switch (t->kind) {
	case RIFFLE_CROSS_DISTANCE32:
		if (t->stride == 4)
			follow_list(load, field, t->image_offset, t->entries);
		else
			follow_columns(load, field, t);
		break;
	case RIFFLE_CROSS_DISTANCE64:
		follow_wide_distances(load, field, t->image_offset, t->entries, t->stride);
		break;
	case RIFFLE_CROSS_OFFSET32:
		follow_offsets(load, field, t);
		break;
	default:
		follow_countdowns(load, field, t);
	}
}

void riffle_slides_end(const struct load *load)
{
	for (uint32_t i = 0; load->block_count && i < load->plan->cross_table_count; i++)
		follow(load, &load->plan->cross_tables[i]);
}
