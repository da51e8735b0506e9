/* SPDX-License-Identifier: Apache-2.0 */
/* The relocation list as arch/x86/tools/relocs writes it (vmlinux.relocs, or the tail of a bzImage's payload). */
#include "prepare/image/internal.h"

/*
 * Little-endian words; before each list stands a zero, none ends the last. An entry is the low half of the link
 * address of a field, sign-extended. Three lists (64-bit, inverse 32-bit, 32-bit) from kernels whose percpu segment
 * may be linked at 0, two (64-bit, 32-bit) from later ones: arch/x86/boot/compressed/misc.c, handle_relocations().
 */
#define LISTS_MAX 3u

static int one_list(struct image_relocs *relocs, struct riffle_image *image, const uint8_t *list, uint32_t count,
		    unsigned field_bytes, struct riffle_error *error)
{
	uint32_t base = (uint32_t)image->link_virt, before = 0, i;
	const struct image_segment *s = image->segment, *end = s + image->segment_count;

	relocs->offset = image_alloc(image, (uint64_t)count * sizeof *relocs->offset, error);
	if (!relocs->offset)
		return RIFFLE_ERR_MEMORY;
	for (i = 0; i < count; i++) {
		uint32_t entry = riffle_get32(list + 4 * (uint64_t)i), offset = entry - base;

		if (i && entry == before)
			return riffle_fail_found(error, RIFFLE_ERR_FORMAT, "relocation list", "has an entry twice",
						 entry);
		if (i && entry < before)
			return riffle_fail_expected(error, RIFFLE_ERR_FORMAT, "relocation list", "is not sorted", entry,
						    before);
		before = entry;
		/* entries ascend, so the segment they lie in does */
		while (s < end && entry >= base && offset >= s->phys - image->link_phys + s->file_bytes)
			s++;
		if (s == end || entry < base || offset < s->phys - image->link_phys ||
		    !riffle_inside(offset - (s->phys - image->link_phys), field_bytes, s->file_bytes))
			return riffle_fail_found(error, RIFFLE_ERR_FORMAT, "relocation",
						 "lies outside every segment's file bytes",
						 (uint64_t)(int64_t)(int32_t)entry);
		relocs->offset[i] = offset;
	}
	relocs->count = count;
	return 0;
}

/* Whether a word may be an entry, the segments' gaps aside. */
static bool is_entry(const struct riffle_image *image, uint32_t word)
{
	return word >= (uint32_t)image->link_virt && word - (uint32_t)image->link_virt < image->image_bytes;
}

/* The zero word before the list that ends before `end`; `end` itself when no ascending list preceded by a zero does. */
static uint64_t list_before(const struct riffle_image *image, const uint8_t *tail, uint64_t end)
{
	uint64_t at = end;
	uint32_t after = UINT32_MAX;

	while (at >= 4) {
		uint32_t word = riffle_get32(tail + at - 4);

		at -= 4;
		if (!word)
			return at;
		if (!is_entry(image, word) || word >= after)
			return end;
		after = word;
	}
	return end;
}

uint64_t image_relocs_find(const struct riffle_image *image, const uint8_t *tail, uint64_t bytes)
{
	uint64_t last = list_before(image, tail, bytes), middle, first;

	/* a list that begins as it should is judged as a whole, not by a good part of it */
	if (last + 4 >= bytes || (!riffle_get32(tail) && riffle_get32(tail + 4)))
		return 0;
	middle = list_before(image, tail, last);
	if (middle == last)
		return 0;
	/* of three lists the first is never empty: what an empty one would begin with is padding */
	first = list_before(image, tail, middle);
	if (first + 4 < middle)
		return first;
	/* entries before two lists are a third that is broken */
	if (middle + 4 == last || (middle >= 4 && is_entry(image, riffle_get32(tail + middle - 4))))
		return 0;
	return middle;
}

int image_relocs_from_list(struct riffle_image *image, const uint8_t *list, uint64_t bytes, struct riffle_error *error)
{
	uint64_t start[LISTS_MAX + 1], words = bytes / 4, i;
	unsigned lists = 0;
	int status;

	if (bytes % 4)
		return riffle_fail_found(error, RIFFLE_ERR_FORMAT, "relocation list", "is not made of whole words",
					 bytes);
	if (bytes > RIFFLE_PLAN_MAX)
		return riffle_fail_expected(error, RIFFLE_ERR_UNSUPPORTED, "relocation list", "is too long", bytes,
					    RIFFLE_PLAN_MAX);
	if (!words || riffle_get32(list) != 0)
		return riffle_fail(error, RIFFLE_ERR_FORMAT, "relocation list",
				   "does not start with the zero that ends its first list");
	for (i = 0; i < words; i++) {
		if (riffle_get32(list + 4 * i) != 0)
			continue;
		if (lists == LISTS_MAX)
			return riffle_fail_expected(error, RIFFLE_ERR_FORMAT, "relocation list",
						    "has more zero words than lists", 4 * i, LISTS_MAX);
		start[lists++] = i + 1;
	}
	if (lists < 2)
		return riffle_fail_expected(error, RIFFLE_ERR_FORMAT, "relocation list",
					    "lacks the zero words between its lists", lists, 2);
	if (words == lists)
		return riffle_fail(error, RIFFLE_ERR_FORMAT, "relocation list", "is empty");
	start[lists] = words + 1;

	image->inverse_list = lists == 3;
	status = one_list(&image->reloc64, image, list + 4 * start[0], (uint32_t)(start[1] - 1 - start[0]), 8, error);
	if (!status && image->inverse_list)
		status = one_list(&image->reloc32_inverse, image, list + 4 * start[1],
				  (uint32_t)(start[2] - 1 - start[1]), 4, error);
	if (!status)
		status = one_list(&image->reloc32, image, list + 4 * start[lists - 1],
				  (uint32_t)(words - start[lists - 1]), 4, error);
	if (!status)
		image->relocatable = true;
	return status;
}
