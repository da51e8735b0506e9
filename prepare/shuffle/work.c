/* SPDX-License-Identifier: Apache-2.0 */
/* Lookups and growing lists of the work in hand, for all steps of the analysis. */
#include <stdlib.h>

#include "common/search.h"
#include "prepare/shuffle/internal.h"

const struct image_section *work_section(const struct work *work, const char *name)
{
	for (unsigned i = 0; i < work->image->section_count; i++) {
		const struct image_section *section = &work->image->section[i];

		if (section->name && !strcmp(section->name, name))
			return section;
	}
	return NULL;
}

const struct work_symbol *work_symbol_named(const struct work *work, const char *name)
{
	for (uint32_t i = 0; i < work->symbol_count; i++)
		if (!strcmp(work->symbol[i].name, name))
			return &work->symbol[i];
	return NULL;
}

uint32_t work_first_symbol(const struct work *work, uint32_t offset)
{
	uint32_t i;

	RIFFLE_FIRST_WHERE(i, work->symbol_count, work->symbol[i].offset >= offset);
	return i;
}

uint32_t work_meant(const struct work *work, uint32_t target)
{
	uint32_t i;

	if (target != work->text + WORK_FOLDED || !work_in_text(work, target))
		return target;
	i = work_first_symbol(work, target);
	return i < work->symbol_count && work->symbol[i].offset == target ? target : work->text;
}

uint32_t work_unit_at(const struct work *work, uint32_t offset)
{
	uint32_t next;

	RIFFLE_FIRST_WHERE(next, work->unit_count, work->unit[next].offset > offset);
	return next ? next - 1 : 0;
}

int work_grow(void *array, uint32_t count, uint32_t *room, size_t entry_bytes, struct riffle_error *error)
{
	uint32_t more = *room ? *room : 512;
	void **list = array, *grown;

	if (count < *room)
		return 0;
	if (__builtin_mul_overflow(more, 2, &more) || more > SIZE_MAX / entry_bytes)
		return riffle_fail(error, RIFFLE_ERR_MEMORY, "analysis", "needs too long a list");
	grown = realloc(*list, (size_t)more * entry_bytes);
	if (!grown)
		return riffle_fail(error, RIFFLE_ERR_MEMORY, "analysis", "out of memory");
	*list = grown;
	*room = more;
	return 0;
}

int work_add_ref(struct work *work, uint32_t field, uint32_t target, enum shuffle_field kind,
		 enum shuffle_source found_by, struct riffle_error *error)
{
	int status = work_grow(&work->ref, work->ref_count, &work->ref_room, sizeof *work->ref, error);

	if (!status)
		work->ref[work->ref_count++] = (struct shuffle_ref){field, target, (uint8_t)kind, (uint8_t)found_by};
	return status;
}

int work_add_tie(struct work *work, uint32_t a, uint32_t b, struct riffle_error *error)
{
	int status = work_grow(&work->tie, work->tie_count, &work->tie_room, sizeof *work->tie, error);

	if (!status)
		work->tie[work->tie_count++] = (struct work_tie){a, b};
	return status;
}
