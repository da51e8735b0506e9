/* SPDX-License-Identifier: Apache-2.0 */
/* All references of the kernel as one list: merged from every source, without those that no shuffle changes. */
#include <stdlib.h>

#include "prepare/shuffle/internal.h"

/*
 * Without a .rela all that is known of a reference is the address it leads to, and it follows the chunk that has that
 * address. Where symbol and address differ this is right as long as both are in one chunk; and an address that means
 * the end of a function would be wrong if another chunk begins there. On Debian's 6.1 both never happen: of all entries
 * of its .rela none has its symbol in another chunk than its address, and none is the end of the function it stands in
 * but calls and pointers to the next one. What the linker script marks the end of moves with what begins there, or
 * both are pinned (pins.c), and unwind tables are read by content.
 */

#define FIXED 0u /* in place of a chunk: what does not move */

/* Which chunk each 16 bytes of .text belong to: a chunk's number + 1, or FIXED. */
struct chunk_map {
	uint32_t *chunk;
	uint32_t first, count; /* in units of SHUFFLE_ALIGN */
};

static int make_map(struct chunk_map *map, const struct work *work, struct riffle_error *error)
{
	const struct shuffle *result = work->result;
	uint32_t chunk = FIXED;

	map->first = work->text / SHUFFLE_ALIGN;
	map->count = (work->text + work->text_bytes - 1) / SHUFFLE_ALIGN + 1 - map->first;
	map->chunk = calloc(map->count, sizeof *map->chunk);
	if (!map->chunk)
		return riffle_fail(error, RIFFLE_ERR_MEMORY, "analysis", "out of memory");
	for (uint32_t i = 0; i < result->range_count; i++) {
		const struct shuffle_range *range = &result->range[i];
		uint32_t from = range->offset / SHUFFLE_ALIGN - map->first;

		if (range->pin != SHUFFLE_PIN_NONE)
			continue;
		chunk++;
		for (uint32_t j = 0; j < range->bytes / SHUFFLE_ALIGN; j++)
			map->chunk[from + j] = chunk;
	}
	return 0;
}

static uint32_t chunk_of(const struct chunk_map *map, uint32_t offset)
{
	uint32_t i = offset / SHUFFLE_ALIGN - map->first;

	return i < map->count ? map->chunk[i] : FIXED;
}

static uint32_t field_bytes(const struct shuffle_ref *ref)
{
	return ref->kind == SHUFFLE_ABS64 ? 8 : 4;
}

/*
 * Where an address leads: a virtual one, or a physical one by the link address, which the kernel relocates just the
 * same. Only code folds PFN_ALIGN(_text), in an immediate of 32 bits; 64 bits are a table's, and may mean an
 * instruction just there.
 */
static uint32_t target_of(const struct work *work, enum shuffle_field kind, uint64_t value)
{
	uint32_t target;

	if (work_offset(work, value, &target))
		return kind == SHUFFLE_ABS64 ? target : work_meant(work, target);
	return value - work->image->link_phys < work->image_bytes ? (uint32_t)(value - work->image->link_phys)
								  : UINT32_MAX;
}

/* The kernel's own relocations say where addresses stand; what they lead to stands in the field. */
static int add_relocs(struct work *work, const struct image_relocs *list, enum shuffle_field kind,
		      struct riffle_error *error)
{
	unsigned bytes = kind == SHUFFLE_ABS64 ? 8 : 4;
	int status = 0;

	for (uint32_t i = 0; i < list->count && !status; i++) {
		uint32_t field = list->offset[i], target;
		uint64_t value;

		if (!riffle_inside(field, bytes, work->image_bytes))
			return riffle_fail_found(error, RIFFLE_ERR_FORMAT, "relocation", "lies outside the image",
						 field);
		value = bytes == 8 ? riffle_get64(work->bytes + field)
				   : (uint64_t)(int32_t)riffle_get32(work->bytes + field);
		target = kind == SHUFFLE_INVERSE32 ? UINT32_MAX : target_of(work, kind, value);
		status = work_add_ref(work, field, target, kind, SHUFFLE_BY_RELOC, error);
	}
	return status;
}

static int by_field(const void *a, const void *b)
{
	const struct shuffle_ref *x = a, *y = b;

	if (x->field != y->field)
		return x->field < y->field ? -1 : 1;
	return x->found_by < y->found_by ? -1 : x->found_by > y->found_by;
}

/* Entries of tables that are put right as a whole are no references of their own. */
static bool in_sorted_table(const struct work *work, uint32_t field)
{
	for (unsigned i = 0; i < work->result->table_count; i++) {
		const struct shuffle_table *table = &work->result->table[i];
		uint32_t entry = table->kind == SHUFFLE_TABLE_EXTABLE ? 12 : table->kind == SHUFFLE_TABLE_ORC ? 4 : 8;

		if (field >= table->offset && (field - table->offset) / entry < table->entries)
			return true;
	}
	return false;
}

/* Whether the field's value depends on the order of chunks. */
static bool depends(const struct chunk_map *map, const struct shuffle_ref *ref)
{
	uint32_t of_field = chunk_of(map, ref->field);

	switch (ref->kind) {
	case SHUFFLE_PC32:
		return of_field != chunk_of(map, ref->target);
	case SHUFFLE_INVERSE32:
		return of_field != FIXED;
	default:
		return of_field != FIXED || chunk_of(map, ref->target) != FIXED;
	}
}

/* Makes one reference of all to a field; they must mean the same. A .rela knows the symbol, so its target wins. */
static int merge(struct work *work, const struct chunk_map *map, struct riffle_error *error)
{
	uint32_t kept = 0;

	for (uint32_t i = 0; i < work->ref_count; i++) {
		struct shuffle_ref *ref = &work->ref[i], *last = kept ? &work->ref[kept - 1] : NULL;

		if (!last || last->field != ref->field) {
			work->ref[kept++] = *ref;
			continue;
		}
		if (last->kind != ref->kind || chunk_of(map, last->target) != chunk_of(map, ref->target))
			return riffle_fail_found(error, RIFFLE_ERR_UNSUPPORTED, "reference",
						 "is read in two ways that contradict each other",
						 work->link_virt + ref->field);
		if (ref->found_by == SHUFFLE_BY_RELA)
			last->target = ref->target;
		last->found_by |= ref->found_by;
	}
	work->ref_count = kept;
	return 0;
}

static int keep_dependent(struct work *work, const struct chunk_map *map, struct riffle_error *error)
{
	uint32_t kept = 0;

	for (uint32_t i = 0; i < work->ref_count; i++) {
		const struct shuffle_ref *ref = &work->ref[i], *last = kept ? &work->ref[kept - 1] : NULL;

		if (!depends(map, ref) || in_sorted_table(work, ref->field))
			continue;
		if ((last && ref->field - last->field < field_bytes(last)) ||
		    chunk_of(map, ref->field) != chunk_of(map, ref->field + field_bytes(ref) - 1))
			return riffle_fail_found(error, RIFFLE_ERR_UNSUPPORTED, "reference",
						 "overlaps another or the end of its chunk",
						 work->link_virt + ref->field);
		work->ref[kept++] = *ref;
	}
	work->ref_count = kept;
	return 0;
}

int refs_finish(struct work *work, struct riffle_error *error)
{
	struct chunk_map map = {0};
	int status;

	status = add_relocs(work, &work->image->reloc64, SHUFFLE_ABS64, error);
	if (!status)
		status = add_relocs(work, &work->image->reloc32, SHUFFLE_ABS32, error);
	if (!status)
		status = add_relocs(work, &work->image->reloc32_inverse, SHUFFLE_INVERSE32, error);
	if (!status)
		status = make_map(&map, work, error);
	if (!status) {
		if (work->ref_count)
			qsort(work->ref, work->ref_count, sizeof *work->ref, by_field);
		status = merge(work, &map, error);
	}
	if (!status)
		status = keep_dependent(work, &map, error);
	free(map.chunk);
	if (!status) {
		work->result->ref = work->ref;
		work->result->ref_count = work->ref_count;
		work->ref = NULL;
		work->ref_count = work->ref_room = 0;
	}
	return status;
}
