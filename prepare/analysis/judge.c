/* SPDX-License-Identifier: Apache-2.0 */
/* Checks whether a list of relocations belongs to this image, from the values of the fields it lists. */
#include "analysis.h"

#include "common/bytes.h"
#include "common/fail.h"

/*
 * Values slightly outside the image are valid too: a table whose index never starts at 0 is addressed below its first
 * entry, and _end is one past the last byte.
 */
#define SLACK_BYTES (UINT64_C(64) << 10)
/*
 * Of the 194 469 absolute fields of Debian's 6.1 cloud kernel 5 hold no address at all (unresolved weak symbols).
 * Another kernel's list hits code and data at random and finds hardly any addresses.
 */
#define WRONG_PER_MILLE_MAX 1u
/*
 * A 64-bit field of zero counts as neither: since 6.12 the build clears the entries of __mcount_loc that belong to
 * overridden weak functions (scripts/sorttable.h) and leaves their relocations, 2.8 in 1000 of Debian's 6.12 cloud
 * kernel, which the kernel's own bootstrap applies too. With a wrong list 90 in 1000 fields or more are zero.
 */
#define ZERO_PER_MILLE_MAX 10u

struct tally {
	uint64_t wrong, zero;
};

struct field_walk {
	const struct riffle_image *image;
	unsigned segment; /* where the previous field lay */
};

/* The bytes of a field, or NULL if no segment's file bytes hold all of it. Fields must come in ascending order. */
static const uint8_t *field_at(struct field_walk *walk, uint32_t offset, unsigned width)
{
	const struct riffle_image *image = walk->image;

	for (; walk->segment < image->segment_count; walk->segment++) {
		const struct image_segment *segment = &image->segment[walk->segment];
		uint64_t start = analysis_segment_offset(image, segment);

		if (offset < start)
			return NULL;
		if (riffle_inside(offset - start, width, segment->file_bytes))
			return segment->bytes + (offset - start);
		if (offset - start < segment->memory_bytes)
			return NULL;
	}
	return NULL;
}

/*
 * True if the value is a link address of the image, or one minus __START_KERNEL_map: the kernel's first page tables
 * (head_64.S) and its trampolines are linked with physical addresses, which are relocated like the others.
 */
static bool is_link_address(const struct riffle_image *image, uint64_t value)
{
	uint64_t span = image->image_bytes + 2 * SLACK_BYTES;

	return value - (image->link_virt - SLACK_BYTES) <= span || value - (image->link_phys - SLACK_BYTES) <= span;
}

static int judge_absolute(const struct riffle_image *image, const struct image_relocs *list, unsigned width,
			  const char *name, struct tally *tally, struct riffle_error *error)
{
	struct field_walk walk = {.image = image};

	for (uint32_t i = 0; i < list->count; i++) {
		const uint8_t *field;
		uint64_t value;

		if (i && list->offset[i] <= list->offset[i - 1])
			return riffle_fail_expected(error, RIFFLE_ERR_FORMAT, name, "is not in ascending order",
						    list->offset[i], list->offset[i - 1]);
		field = field_at(&walk, list->offset[i], width);
		if (!field)
			return riffle_fail_found(error, RIFFLE_ERR_FORMAT, name,
						 "names a field outside every segment's file bytes", list->offset[i]);
		if (width == 8)
			value = riffle_get64(field);
		else
			value = (uint64_t)(int32_t)riffle_get32(field);
		if (width == 8 && !value)
			tally->zero++;
		else if (!is_link_address(image, value))
			tally->wrong++;
	}
	return 0;
}

static const struct image_segment *find_percpu(const struct riffle_image *image)
{
	for (unsigned i = 0; i < image->segment_count; i++)
		if (analysis_is_zero_based(image, &image->segment[i]))
			return &image->segment[i];
	return NULL;
}

/*
 * An inverse field is PC-relative to a symbol of the zero-based percpu segment: it holds S + A - P, so adding its own
 * link address P, and 4 because the processor counts from the end of the field, must give a percpu address.
 */
static int judge_inverse(const struct riffle_image *image, struct riffle_error *error)
{
	static const char name[] = "inverse 32-bit relocation";
	const struct image_relocs *list = &image->reloc32_inverse;
	const struct image_segment *percpu = find_percpu(image);
	struct field_walk walk = {.image = image};

	if (list->count && !percpu)
		return riffle_fail_found(error, RIFFLE_ERR_FORMAT, name, "in a kernel without a percpu segment at 0",
					 list->count);
	for (uint32_t i = 0; i < list->count; i++) {
		const uint8_t *field;
		uint64_t target;

		if (i && list->offset[i] <= list->offset[i - 1])
			return riffle_fail_expected(error, RIFFLE_ERR_FORMAT, name, "is not in ascending order",
						    list->offset[i], list->offset[i - 1]);
		field = field_at(&walk, list->offset[i], 4);
		if (!field)
			return riffle_fail_found(error, RIFFLE_ERR_FORMAT, name,
						 "names a field outside every segment's file bytes", list->offset[i]);
		target = image->link_virt + list->offset[i] + 4 + (uint64_t)(int32_t)riffle_get32(field);
		if (target > percpu->memory_bytes + PAGE_BYTES)
			return riffle_fail_found(error, RIFFLE_ERR_FORMAT, name,
						 "names a field that does not reach percpu: of another kernel?",
						 list->offset[i]);
	}
	return 0;
}

/* Walks the three lists as one: two fields that share a byte would be relocated twice there. */
static int check_overlaps(const struct riffle_image *image, struct riffle_error *error)
{
	const struct image_relocs *list[3] = {&image->reloc64, &image->reloc32, &image->reloc32_inverse};
	static const unsigned width[3] = {8, 4, 4};
	uint32_t next[3] = {0};
	uint64_t end = 0;

	for (;;) {
		int lowest = -1;

		for (int k = 0; k < 3; k++)
			if (next[k] < list[k]->count &&
			    (lowest < 0 || list[k]->offset[next[k]] < list[lowest]->offset[next[lowest]]))
				lowest = k;
		if (lowest < 0)
			return 0;
		if (list[lowest]->offset[next[lowest]] < end)
			return riffle_fail_found(error, RIFFLE_ERR_FORMAT, "relocations", "two of them overlap",
						 list[lowest]->offset[next[lowest]]);
		end = (uint64_t)list[lowest]->offset[next[lowest]++] + width[lowest];
	}
}

int analysis_judge_relocs(const struct riffle_image *image, struct riffle_error *error)
{
	struct tally tally = {0};
	uint64_t total = (uint64_t)image->reloc64.count + image->reloc32.count;
	int status;

	status = judge_absolute(image, &image->reloc64, 8, "64-bit relocation", &tally, error);
	if (!status)
		status = judge_absolute(image, &image->reloc32, 4, "32-bit relocation", &tally, error);
	if (!status && tally.wrong * 1000 > total * WRONG_PER_MILLE_MAX)
		status = riffle_fail_expected(error, RIFFLE_ERR_FORMAT, "relocations",
					      "too many fields hold no address of this kernel: of another one?",
					      tally.wrong, total * WRONG_PER_MILLE_MAX / 1000);
	if (!status && tally.zero * 1000 > total * ZERO_PER_MILLE_MAX)
		status = riffle_fail_expected(error, RIFFLE_ERR_FORMAT, "relocations",
					      "too many fields are zero: of another kernel?", tally.zero,
					      total * ZERO_PER_MILLE_MAX / 1000);
	if (!status)
		status = judge_inverse(image, error);
	if (!status)
		status = check_overlaps(image, error);
	return status;
}
