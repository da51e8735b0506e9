/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Determines which pages of an image must be copied at boot: those that are not zero, and those with a field to
 * relocate.
 */
#include "analysis.h"

#include <stdlib.h>

#include "common/bytes.h"
#include "common/fail.h"

struct extent_list {
	struct riffle_extent *item;
	uint32_t count;
	uint32_t capacity;
};

/* the rest of each relocation list; pages are queried in ascending order */
struct reloc_cursor {
	const struct image_relocs *list;
	unsigned width;
	uint32_t next;
};

static bool all_zero(const uint8_t *bytes, size_t count)
{
	size_t i = 0;

	for (; i + 64 <= count; i += 64) {
		uint64_t any = 0;

		for (size_t k = 0; k < 64; k += 8)
			any |= riffle_get64(bytes + i + k);
		if (any)
			return false;
	}
	for (; i < count; i++)
		if (bytes[i])
			return false;
	return true;
}

static bool holds_relocation(struct reloc_cursor cursor[3], uint64_t start, uint64_t end)
{
	bool found = false;

	for (int k = 0; k < 3; k++) {
		const struct image_relocs *list = cursor[k].list;

		while (cursor[k].next < list->count &&
		       (uint64_t)list->offset[cursor[k].next] + cursor[k].width <= start)
			cursor[k].next++;
		if (cursor[k].next < list->count && list->offset[cursor[k].next] < end)
			found = true;
	}
	return found;
}

/* Areas that start before the current page, and the end of the one that extends farthest. */
struct area_cursor {
	const struct plan_areas *areas;
	unsigned next;
	uint64_t reach;
};

static bool is_in_area(struct area_cursor *at, uint64_t start, uint64_t end)
{
	for (; at->next < at->areas->count && at->areas->area[at->next].start < end; at->next++)
		if (at->areas->area[at->next].end > at->reach)
			at->reach = at->areas->area[at->next].end;
	return at->reach > start;
}

/*
 * The longest run of zeros that is copied instead of splitting an extent, because each extent costs a load a system
 * call, which takes longer than copying this much. With 4 KiB pages each page of zeros also costs a fault.
 */
#define GAP_BYTES_MAX (4 * PAGE_BYTES)

/* Adds a run of bytes, merged with the previous one if the gap is small. */
static int append(struct extent_list *list, uint64_t start, uint64_t end, bool may_join, struct riffle_error *error)
{
	if (may_join && list->count) {
		struct riffle_extent *last = &list->item[list->count - 1];

		if ((uint64_t)last->image_offset + last->bytes + GAP_BYTES_MAX >= start) {
			last->bytes = (uint32_t)(end - last->image_offset);
			return 0;
		}
	}
	if (list->count == list->capacity) {
		uint32_t capacity = list->capacity ? 2 * list->capacity : 64;
		struct riffle_extent *item = reallocarray(list->item, capacity, sizeof *item);

		if (!item)
			return riffle_fail(error, RIFFLE_ERR_MEMORY, "extents", "no memory for the list");
		list->item = item;
		list->capacity = capacity;
	}
	list->item[list->count++] =
	    (struct riffle_extent){.image_offset = (uint32_t)start, .bytes = (uint32_t)(end - start)};
	return 0;
}

static int add_segment(struct extent_list *list, const struct riffle_image *image, const struct image_segment *segment,
		       struct area_cursor *area, struct reloc_cursor cursor[3], struct riffle_error *error)
{
	uint64_t start = analysis_segment_offset(image, segment);
	uint64_t limit = start + segment->file_bytes;
	bool first = true;

	for (uint64_t page = start; page < limit;) {
		uint64_t end = (page | (PAGE_BYTES - 1)) + 1;
		bool wanted;

		if (end > limit)
			end = limit;
		/* the cursors must advance with every page, so they are queried first */
		wanted = holds_relocation(cursor, page, end);
		wanted |= is_in_area(area, page, end);
		wanted = wanted || !all_zero(segment->bytes + (page - start), end - page);
		if (wanted) {
			int status = append(list, page, end, !first, error);

			if (status)
				return status;
			first = false;
		}
		page = end;
	}
	return 0;
}

int analysis_find_extents(const struct riffle_image *image, const struct plan_areas *areas,
			  struct riffle_extent **extents, uint32_t *count, struct riffle_error *error)
{
	struct reloc_cursor cursor[3] = {
	    {.list = &image->reloc64, .width = 8},
	    {.list = &image->reloc32, .width = 4},
	    {.list = &image->reloc32_inverse, .width = 4},
	};
	struct area_cursor area = {.areas = areas};
	struct extent_list list = {0};

	for (unsigned i = 0; i < image->segment_count; i++) {
		int status = add_segment(&list, image, &image->segment[i], &area, cursor, error);

		if (status) {
			free(list.item);
			return status;
		}
	}
	*extents = list.item;
	*count = list.count;
	return 0;
}
