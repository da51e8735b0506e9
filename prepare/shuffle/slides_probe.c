/* SPDX-License-Identifier: Apache-2.0 */
/* For tests: what the census of slides would say, were a table that is known not known. */
#include "prepare/shuffle/slides.h"

static bool leads_across(const struct work *work, const struct riffle_cross_table *t, uint32_t at)
{
	int32_t word = (int32_t)riffle_get32(work->bytes + at);
	uint64_t base = t->base, target;
	uint32_t from = 0;

	switch (t->kind) {
	case RIFFLE_CROSS_OFFSET32:
		target = base + (uint32_t)word;
		break;
	case RIFFLE_CROSS_COUNTDOWN32:
		target = word < 0 ? base - 1 - (uint64_t)(int64_t)word : base;
		break;
	default:
		target = at + (uint64_t)(int64_t)word;
		from = slides_block(work, at);
	}
	return target < work->image_bytes && slides_block(work, (uint32_t)target) != from;
}

static uint32_t count_across(const struct work *work, const struct riffle_cross_table *t)
{
	uint32_t count = 0;

	for (uint32_t i = 0; i < t->entries; i++)
		count += leads_across(work, t, t->image_offset + i * t->stride);
	return count;
}

static int probe(struct work *work, struct shuffle_column hidden, struct riffle_error *error)
{
	struct shuffle_slides *s = &work->result->slides;
	uint32_t blocks = s->block_count, leads = s->leads, across = 0;
	int status = slides_census_without(work, &hidden, error);

	s->block_count = blocks;
	s->leads = leads;
	for (uint32_t i = 0; i < s->table_count; i++)
		if (slides_is_column(&s->column[i], &hidden))
			across += count_across(work, &s->table[i]);
	if (!status)
		work->slides_tell(work->slides_opaque, hidden.table, hidden.at, across, s->none);
	s->none[0] = 0;
	return status;
}

static bool is_first(const struct shuffle_slides *s, uint32_t column, uint32_t at)
{
	struct shuffle_column of = {s->column[column].table, at};

	while (column--)
		if (slides_is_column(&s->column[column], &of))
			return false;
	return true;
}

int slides_probe(struct work *work, struct riffle_error *error)
{
	const struct shuffle_slides *s = &work->result->slides;
	int status = 0;

	for (uint32_t i = 0; i < s->table_count && !status; i++) {
		struct shuffle_column column = s->column[i];

		if (is_first(s, i, column.at))
			status = probe(work, column, error);
		if (!status && is_first(s, i, SLIDES_WHOLE))
			status = probe(work, (struct shuffle_column){column.table, SLIDES_WHOLE}, error);
	}
	return status;
}
