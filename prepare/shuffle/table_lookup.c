/* SPDX-License-Identifier: Apache-2.0 */
/* Where a table lies, where its distances lead, and the error for one that does not decode. */
#include <elf.h>

#include "prepare/shuffle/tables.h"

int table_refuse(const struct work *work, const char *name, const char *problem, uint32_t offset,
		 struct riffle_error *error)
{
	return riffle_fail_found(error, RIFFLE_ERR_UNSUPPORTED, name, problem, work->link_virt + offset);
}

int table_known(struct work *work, const char *name, uint32_t offset, uint32_t bytes, struct riffle_error *error)
{
	if (work->known_count == WORK_KNOWN_MAX)
		return table_refuse(work, name, "is one table too many", offset, error);
	for (unsigned i = 0; i < work->known_count; i++)
		if (offset < work->known[i].offset + work->known[i].bytes && work->known[i].offset < offset + bytes)
			return table_refuse(work, name, "overlaps another table", offset, error);
	work->known[work->known_count++] = (struct work_known){offset, bytes, name};
	return 0;
}

bool table_target(const struct work *work, uint32_t field, uint32_t *target)
{
	int64_t at = (int64_t)field + (int32_t)riffle_get32(work->bytes + field);

	*target = (uint32_t)at;
	return at >= 0 && at < (int64_t)work->image_bytes;
}

bool table_in_code(const struct work *work, uint32_t offset, bool end)
{
	for (unsigned i = 0; i < work->code_count; i++)
		if (offset - work->code[i].offset < work->code[i].bytes + (end ? 1u : 0u))
			return true;
	return false;
}

bool table_in_copied(const struct work *work, uint32_t offset, bool end)
{
	return work->copied_bytes && offset - work->copied < work->copied_bytes + (end ? 1u : 0u);
}

bool table_leads_to_code(const struct work *work, uint32_t offset, bool end)
{
	return table_in_code(work, offset, end) || table_in_copied(work, offset, end);
}

bool table_is_instruction(const struct work *work, uint32_t offset)
{
	return work_is_start(work, offset) ||
	       (work_in_text(work, offset) && work->unit[work_unit_at(work, offset)].unexplained);
}

/* A table is read entry by entry: it must be bytes of the file, and not memory, of which a header can claim any amount.
 */
static int check_contents(const struct work *work, const struct table_place *place, const char *name, bool nobits,
			  struct riffle_error *error)
{
	if (place->found && (nobits || !image_in_file_bytes(work->image, place->offset, place->bytes)))
		return table_refuse(work, name, "has no contents in the file", place->offset, error);
	return 0;
}

int table_place_section(struct table_place *place, const struct work *work, const struct image_section *section,
			const char *name, struct riffle_error *error)
{
	uint32_t offset;

	if (!work_offset(work, section->address, &offset) || !riffle_inside(offset, section->bytes, work->image_bytes))
		return riffle_fail_found(error, RIFFLE_ERR_UNSUPPORTED, name, "lies outside the image",
					 section->address);
	*place = (struct table_place){section->bytes > 0, offset, (uint32_t)section->bytes};
	return check_contents(work, place, name, section->type == SHT_NOBITS, error);
}

int table_find(struct table_place *place, const struct work *work, const char *section, const char *start,
	       const char *stop, struct riffle_error *error)
{
	const struct image_section *s = section ? work_section(work, section) : NULL;
	const struct work_symbol *from, *to;

	*place = (struct table_place){0};
	if (s)
		return table_place_section(place, work, s, section, error);
	from = start ? work_symbol_named(work, start) : NULL;
	to = stop ? work_symbol_named(work, stop) : NULL;
	if (!from && !to)
		return 0;
	if (!from || !to || to->offset < from->offset)
		return table_refuse(work, start, "has no end, or one before its start",
				    from ? from->offset : to->offset, error);
	*place = (struct table_place){to->offset > from->offset, from->offset, to->offset - from->offset};
	return check_contents(work, place, start, false, error);
}
