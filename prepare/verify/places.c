/* SPDX-License-Identifier: Apache-2.0 */
/* Where each byte of the image is under a layout: from the chunks' link places and the order, and from nothing else. */
#include <stdlib.h>

#include "prepare/verify/internal.h"

void verify_places_free(struct places *places)
{
	free(places->shift);
	free(places->chunk);
	*places = (struct places){0};
}

/* Chunks follow each other from a region's start to its end, in the layout's order, each of them once. */
static int place_chunks(struct places *p, const struct riffle_plan *plan, const struct riffle_layout *layout,
			struct riffle_error *error)
{
	uint8_t *seen = calloc(plan->chunk_count / 8 + 1, 1);
	int status = seen ? 0 : riffle_fail(error, RIFFLE_ERR_MEMORY, "verify", "out of memory");

	for (uint32_t i = 0; i < plan->region_count && !status; i++) {
		const struct riffle_region *r = &plan->regions[i];
		uint32_t at = r->image_offset;

		for (uint32_t k = r->first_chunk; k < r->first_chunk + r->chunk_count && !status; k++) {
			uint16_t chunk = layout->order[k];

			if (chunk >= plan->chunk_count || bit_get(seen, chunk)) {
				status = riffle_fail_found(error, RIFFLE_ERR_FORMAT, "order", "has a chunk twice", k);
				break;
			}
			bit_set(seen, chunk);
			p->shift[chunk] = (int32_t)(at - plan->chunks[chunk].image_offset);
			p->moved += p->shift[chunk] != 0;
			at += riffle_chunk_bytes(&plan->chunks[chunk]);
		}
		if (!status && at != r->image_offset + r->bytes)
			status = riffle_fail_expected(error, RIFFLE_ERR_FORMAT, "order", "does not fill a region", at,
						      r->image_offset + r->bytes);
	}
	free(seen);
	return status;
}

int verify_places(struct places *p, const struct verify *v, const struct riffle_plan *plan,
		  const struct riffle_layout *layout, struct riffle_error *error)
{
	uint32_t cells = v->image_bytes / RIFFLE_CHUNK_ALIGN + 1;
	bool shuffled = layout->mode == RIFFLE_MODE_FGKASLR;
	int status = 0;

	*p = (struct places){.plan = plan, .delta = layout->virtual_base - v->link_virt, .shuffled = shuffled};
	if (shuffled && (!layout->order || layout->order_count != plan->chunk_count))
		return riffle_fail(error, RIFFLE_ERR_ARGUMENT, "order", "is not as long as there are chunks");
	p->slid = layout->slide_count > 0;
	memcpy(p->slide, layout->slide, sizeof p->slide);
	if (p->slid && layout->slide_count != plan->block_count)
		return riffle_fail(error, RIFFLE_ERR_ARGUMENT, "slide", "is not as long as there are blocks");
	p->shift = calloc(plan->chunk_count + 1, sizeof *p->shift);
	p->chunk = calloc(cells, sizeof *p->chunk);
	if (!p->shift || !p->chunk) {
		verify_places_free(p);
		return riffle_fail(error, RIFFLE_ERR_MEMORY, "verify", "out of memory");
	}
	for (uint32_t i = 0; i < cells; i++)
		p->chunk[i] = plan->chunk_count;
	for (uint32_t i = 0; i < plan->chunk_count; i++) {
		const struct riffle_chunk *c = &plan->chunks[i];

		if (!riffle_inside(c->image_offset, riffle_chunk_bytes(c), v->image_bytes))
			status = riffle_fail_found(error, RIFFLE_ERR_FORMAT, "chunk", "lies outside the image", i);
		for (uint32_t k = 0; k < c->units && !status; k++)
			p->chunk[c->image_offset / RIFFLE_CHUNK_ALIGN + k] = i;
	}
	if (!status && shuffled)
		status = place_chunks(p, plan, layout, error);
	if (status)
		verify_places_free(p);
	return status;
}
