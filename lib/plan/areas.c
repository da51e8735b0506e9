/* SPDX-License-Identifier: Apache-2.0 */
/* Collects the areas that a shuffled load writes itself. */
#include "plan/areas.h"
#include "common/search.h"

#include <stdbool.h>

/* Insertion sort: regions are already sorted, and there are at most a few dozen tables. */
static void add(struct plan_areas *areas, uint32_t start, uint32_t bytes)
{
	unsigned i = areas->count++;

	for (; i && areas->area[i - 1].start > start; i--)
		areas->area[i] = areas->area[i - 1];
	areas->area[i] = (struct plan_area){start, start + bytes};
}

void riffle_plan_areas_of(struct plan_areas *areas, const struct riffle_plan *plan, unsigned which)
{
	bool lazy = which & PLAN_AREAS_LAZY;
	const struct riffle_kallsyms *k = plan->kallsyms;

	areas->count = 0;
	for (uint32_t i = 0; i < plan->region_count; i++)
		add(areas, plan->regions[i].image_offset, plan->regions[i].bytes);
	for (uint32_t i = 0; i < plan->table_count; i++) {
		const struct riffle_table *t = &plan->tables[i];

		if (!t->entries || (which & PLAN_AREAS_LOAD && t->kind == RIFFLE_TABLE_SITES) ||
		    (lazy && t->kind == RIFFLE_TABLE_ORC))
			continue;
		add(areas, t->image_offset, t->entries * plan_table_entry_bytes(t->kind));
		if (t->kind == RIFFLE_TABLE_ORC)
			add(areas, t->second_offset, t->entries * PLAN_ORC_STATE_BYTES);
	}
	if (k && k->symbols && !lazy) {
		add(areas, k->offsets, k->symbols * 4);
		add(areas, k->names, k->names_bytes);
		add(areas, k->markers, (k->symbols + 255) / 256 * 4);
		if (k->seqs)
			add(areas, k->seqs, k->symbols * 3);
	}
}

uint32_t riffle_plan_chunk_at(const struct riffle_plan *plan, uint64_t image_offset)
{
	const struct riffle_chunk *c = plan->chunks;
	uint32_t i;

	RIFFLE_FIRST_WHERE(i, plan->chunk_count,
			   (uint64_t)c[i].image_offset + riffle_chunk_bytes(&c[i]) > image_offset);
	return i < plan->chunk_count && image_offset >= c[i].image_offset ? i : plan->chunk_count;
}
