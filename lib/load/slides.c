/* SPDX-License-Identifier: Apache-2.0 */
/* Slides in a load: their check, and the tables of distances that lead from one block to another. */
#include "load/slides.h"
#include "load/vector.h"

/* Blocks that there are not begin nowhere, after gaps of 0. */
static void slides_edges(struct load *load)
{
	for (uint32_t i = 0; i < RIFFLE_BLOCKS_MAX; i++) {
		bool is = i && i < load->block_count;

		load->edge[i] = is ? load->plan->blocks[i].image_offset : UINT32_MAX;
		load->gap[i] = is ? load->slide[i] - load->slide[i - 1] : 0;
	}
}

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
	slides_edges(load);
	load->span = load->plan->header->image_bytes + (load->block_count ? load->slide[load->block_count - 1] : 0);
	return RIFFLE_OK;
}

void riffle_slides_of(const struct load *load, struct slides_batch *batch)
{
	/* constant bounds, and no branch that depends on an offset: let this be vectors */
	for (uint32_t i = 0; i < SLIDES_BATCH; i++)
		batch->slide[i] = 0;
	for (uint32_t b = 1; b < load->block_count; b++) {
		uint32_t edge = load->edge[b], gap = load->gap[b];

		for (uint32_t i = 0; i < SLIDES_BATCH; i++)
			batch->slide[i] += batch->offset[i] >= edge ? gap : 0;
	}
}

/* A distance to outside the image is one to a per-CPU variable, which is among the inverse relocations. */
HOT void follow_distances(const struct load *load, uint8_t *field, uint32_t at, uint32_t count, uint32_t stride)
{
	uint32_t own = slides_at(load, at), limit = slides_limit(load);
	struct slides_batch batch;

	for (uint32_t i = 0; i < count; i++) {
		/* modulo 2^32: the image is less than 1 GiB long, so what lies before it is far after it */
		uint32_t target = at + i * stride + riffle_get32(field + (size_t)i * stride);

		batch.offset[i] = target < limit ? target : at;
	}
	for (uint32_t i = count; i < SLIDES_BATCH; i++)
		batch.offset[i] = at;
	riffle_slides_of(load, &batch);
	for (uint32_t i = 0; i < count; i++) {
		uint8_t *to = field + (size_t)i * stride;

		riffle_put32(to, riffle_get32(to) + batch.slide[i] - own);
	}
}

static void follow_wide_distances(const struct load *load, uint8_t *field, uint32_t at, uint32_t count, uint32_t stride)
{
	uint32_t own = slides_at(load, at);

	for (uint32_t i = 0; i < count; i++, field += stride, at += stride) {
		uint64_t target = at + riffle_get64(field);

		if (slides_is_target(load, target))
			riffle_put64(field, target - at + slides_at(load, target) - own);
	}
}

/* An offset from `base`; or what is before base - 1, for fields that are negative. */
static void follow_offsets(const struct load *load, uint8_t *field, uint32_t count, const struct riffle_cross_table *t)
{
	bool down = t->kind == RIFFLE_CROSS_COUNTDOWN32;
	uint32_t limit = slides_limit(load);
	struct slides_batch batch = {0};

	for (uint32_t i = 0; i < count; i++) {
		uint32_t value = riffle_get32(field + (size_t)i * t->stride);
		uint64_t target =
		    down ? (uint64_t)t->base - 1 - (uint64_t)(int64_t)(int32_t)value : (uint64_t)t->base + value;

		batch.offset[i] = target < limit && (!down || (int32_t)value < 0) ? (uint32_t)target : 0;
	}
	riffle_slides_of(load, &batch);
	for (uint32_t i = 0; i < count; i++) {
		uint8_t *to = field + (size_t)i * t->stride;

		riffle_put32(to, riffle_get32(to) + (down ? -batch.slide[i] : batch.slide[i]));
	}
}

/*
 * The tables have their final values but for slides, at their final places; a shuffle moves nothing from one block to
 * another, so values tell the blocks that they lead to. A table lies in one block.
 */
static void follow(const struct load *load, const struct riffle_cross_table *t)
{
	uint8_t *field = load_place(load, t->image_offset);
	uint32_t at = t->image_offset, count;

	for (uint32_t done = 0; done < t->entries; done += count) {
		count = t->entries - done < SLIDES_BATCH ? t->entries - done : SLIDES_BATCH;
		switch (t->kind) {
		case RIFFLE_CROSS_DISTANCE32:
			if (t->stride == 4)
				follow_distances(load, field, at, count, 4);
			else
				follow_distances(load, field, at, count, t->stride);
			break;
		case RIFFLE_CROSS_DISTANCE64:
			follow_wide_distances(load, field, at, count, t->stride);
			break;
		default:
			follow_offsets(load, field, count, t);
		}
		field += (size_t)count * t->stride;
		at += count * t->stride;
	}
}

void riffle_slides_end(const struct load *load)
{
	for (uint32_t i = 0; load->block_count && i < load->plan->cross_table_count; i++)
		follow(load, &load->plan->cross_tables[i]);
}
