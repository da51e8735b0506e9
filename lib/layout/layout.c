/* SPDX-License-Identifier: Apache-2.0 */
/* Counts the slots a kernel can take and draws from them, physical and virtual independently. */
#include "layout/random.h"

#include "common/bytes.h"
#include "common/fail.h"
#include "common/plan_shape.h"
#include "common/reserved.h"

/* A gap of RAM between reserved ranges in which at least one slot fits: slots start at `first`, `count` of them. */
struct gap {
	uint64_t first;
	uint64_t count;
};

/*
 * Finds the next gap at or after *position inside one RAM range; false if there is none. Reserved ranges come in any
 * order and may overlap, so each step examines all of them: there are only a few.
 */
static bool next_gap(struct gap *gap, const struct riffle_ram *ram, const struct riffle_memory *memory,
		     uint64_t image_bytes, uint64_t *position)
{
	uint64_t ram_end = ram->address + ram->bytes, start, end;

	for (;;) {
		bool moved = false;

		start = *position > ram->address ? *position : ram->address;
		if (start < RIFFLE_PHYSICAL_FLOOR)
			start = RIFFLE_PHYSICAL_FLOOR;
		end = ram_end;
		for (size_t i = 0; i < memory->reserved_count; i++) {
			const struct riffle_range *r = &memory->reserved[i];

			if (!r->bytes || r->address + r->bytes <= start)
				continue;
			if (r->address <= start) {
				*position = r->address + r->bytes;
				moved = true;
				break;
			}
			if (r->address < end)
				end = r->address;
		}
		if (moved)
			continue;
		if (start >= ram_end)
			return false;
		*position = end;
		if (!riffle_round_up(start, RIFFLE_SLOT_BYTES, &gap->first))
			return false;
		if (riffle_inside(gap->first, image_bytes, end)) {
			gap->count = 1 + (end - image_bytes - gap->first) / RIFFLE_SLOT_BYTES;
			return true;
		}
	}
}

static int check_memory(const struct riffle_memory *memory, struct riffle_error *error)
{
	uint64_t end;
	int status = RIFFLE_CHECK_ZERO(memory->reserved_zero, "memory", error);

	if (status)
		return status;
	for (size_t i = 0; i < memory->ram_count; i++) {
		const struct riffle_ram *a = &memory->ram[i];

		if (!a->bytes || a->address % 4096 || a->bytes % 4096 ||
		    __builtin_add_overflow(a->address, a->bytes, &end))
			return riffle_fail_found(error, RIFFLE_ERR_ARGUMENT, "ram",
						 "is empty, wraps, or is not in whole pages", a->address);
		for (size_t j = 0; j < i; j++) {
			const struct riffle_ram *b = &memory->ram[j];

			if (a->address < b->address + b->bytes && b->address < a->address + a->bytes)
				return riffle_fail_found(error, RIFFLE_ERR_ARGUMENT, "ram", "overlaps another stretch",
							 a->address);
		}
	}
	for (size_t i = 0; i < memory->reserved_count; i++)
		if (__builtin_add_overflow(memory->reserved[i].address, memory->reserved[i].bytes, &end))
			return riffle_fail_found(error, RIFFLE_ERR_ARGUMENT, "reserved", "range wraps",
						 memory->reserved[i].address);
	return RIFFLE_OK;
}

/* What a kernel needs: with slides, room for the largest gaps, so that slots and gaps are independent. */
static uint64_t span_of(const struct riffle_plan *plan, bool slid)
{
	return plan->header->image_bytes + (slid ? plan->slide_max : 0);
}

static uint64_t count_physical(uint64_t span, const struct riffle_memory *memory)
{
	uint64_t total = 0;

	for (size_t i = 0; i < memory->ram_count; i++) {
		uint64_t position = 0;
		struct gap gap;

		while (next_gap(&gap, &memory->ram[i], memory, span, &position))
			total += gap.count;
	}
	return total;
}

/* The address of physical slot `index`, counted the way count_physical() counts. */
static uint64_t physical_slot(uint64_t span, const struct riffle_memory *memory, uint64_t index)
{
	for (size_t i = 0; i < memory->ram_count; i++) {
		uint64_t position = 0;
		struct gap gap;

		while (next_gap(&gap, &memory->ram[i], memory, span, &position)) {
			if (index < gap.count)
				return gap.first + index * RIFFLE_SLOT_BYTES;
			index -= gap.count;
		}
	}
	return UINT64_MAX; /* not reached: index is below the total */
}

/* Is `address` one of the physical slots? */
static bool is_physical_slot(uint64_t span, const struct riffle_memory *memory, uint64_t address)
{
	if (address % RIFFLE_SLOT_BYTES)
		return false;
	for (size_t i = 0; i < memory->ram_count; i++) {
		uint64_t position = 0;
		struct gap gap;

		while (next_gap(&gap, &memory->ram[i], memory, span, &position))
			if (address >= gap.first && (address - gap.first) / RIFFLE_SLOT_BYTES < gap.count)
				return true;
	}
	return false;
}

/* riffle_plan_check() has checked that the image at its link address fits the window. */
static uint64_t count_virtual(const struct riffle_plan *plan, uint64_t span)
{
	const struct riffle_header *h = plan->header;

	if (span > h->window_bytes - h->link_phys)
		return 0;
	return 1 + (h->window_bytes - h->link_phys - span) / RIFFLE_SLOT_BYTES;
}

static int find_slots(struct riffle_slots *slots, const struct riffle_plan *plan, const struct riffle_memory *memory,
		      enum riffle_mode mode, bool slid, struct riffle_error *error)
{
	uint64_t span = span_of(plan, slid);
	int status = check_memory(memory, error);

	if (status)
		return status;
	if (mode < RIFFLE_MODE_OFF || mode > RIFFLE_MODE_FGKASLR)
		return riffle_fail_found(error, RIFFLE_ERR_ARGUMENT, "mode", "is not known", (uint64_t)mode);
	if (mode >= RIFFLE_MODE_KASLR && !(plan->header->flags & RIFFLE_KERNEL_RELOCATABLE))
		return riffle_fail(error, RIFFLE_ERR_UNSUPPORTED, "relocations",
				   "there are none in this kernel, so its virtual base cannot be randomised");
	if (mode >= RIFFLE_MODE_FGKASLR && !plan->chunk_count)
		return riffle_fail(error, RIFFLE_ERR_UNSUPPORTED, "chunks",
				   "there are none in this plan, so the kernel's functions cannot be shuffled");
	if (slid && mode < RIFFLE_MODE_KASLR)
		return riffle_fail_found(error, RIFFLE_ERR_ARGUMENT, "mode", "has no slides", (uint64_t)mode);
	if (slid && !plan->block_count)
		return riffle_fail(error, RIFFLE_ERR_UNSUPPORTED, "blocks",
				   "there are none in this plan, so the kernel's sections cannot slide");
	*slots = (struct riffle_slots){0};
	slots->virtual_ = mode >= RIFFLE_MODE_KASLR ? count_virtual(plan, span) : 1;
	if (!slots->virtual_)
		return riffle_fail_expected(error, RIFFLE_ERR_SPACE, "slides",
					    "make the kernel larger than its address window", span,
					    plan->header->window_bytes - plan->header->link_phys);
	if (mode >= RIFFLE_MODE_PHYSICAL)
		slots->physical = count_physical(span, memory);
	else
		slots->physical = is_physical_slot(span, memory, plan->header->link_phys);
	if (!slots->physical)
		return riffle_fail_found(
		    error, RIFFLE_ERR_SPACE, "guest memory",
		    slid   ? "has no place for the kernel (image with .bss, .brk and the largest gaps, in bytes)"
		    : mode ? "has no place for the kernel (image with .bss and .brk, in bytes)"
			   : "does not hold the kernel at its link address (image bytes)",
		    span);
	return RIFFLE_OK;
}

int riffle_layout_slots(struct riffle_slots *slots, const struct riffle_plan *plan, const struct riffle_memory *memory,
			enum riffle_mode mode, struct riffle_error *error)
{
	return find_slots(slots, plan, memory, mode, false, error);
}

int riffle_layout_slots_slid(struct riffle_slots *slots, const struct riffle_plan *plan,
			     const struct riffle_memory *memory, enum riffle_mode mode, struct riffle_error *error)
{
	return find_slots(slots, plan, memory, mode, true, error);
}

static int check_order_room(const struct riffle_layout *layout, const struct riffle_plan *plan,
			    struct riffle_error *error)
{
	if (!layout->order || layout->order_count != plan->chunk_count)
		return riffle_fail_expected(error, RIFFLE_ERR_ARGUMENT, "order",
					    "is missing or not as long as there are chunks", layout->order_count,
					    plan->chunk_count);
	return RIFFLE_OK;
}

#define PLACES_MAX 512u
#define PAGED_TRIES 256u

/* The region that has the plan's paged chunk; NULL if there is none, as in a plan opened without its shuffle's part. */
static const struct riffle_region *paged_region(const struct riffle_plan *plan)
{
	const struct riffle_region *r = plan->regions;

	if (!(plan->header->features & RIFFLE_FEATURE_PAGED) || !plan->chunk_count)
		return NULL;
	while (plan->header->paged_chunk - r->first_chunk >= r->chunk_count)
		r++;
	return r;
}

/* Places in an order of other chunks at which something starts at a page: at most the first PLACES_MAX of them. */
static uint32_t find_paged_places(uint16_t place[PLACES_MAX], const struct riffle_plan *plan,
				  const struct riffle_region *r, const uint16_t *others)
{
	uint32_t at = r->image_offset, count = 0;

	for (uint32_t k = 0; k < r->chunk_count && count < PLACES_MAX; k++) {
		if (at % RIFFLE_PAGE_BYTES == 0)
			place[count++] = (uint16_t)k;
		if (k + 1 < r->chunk_count)
			at += riffle_chunk_bytes(&plan->chunks[others[k]]);
	}
	return count;
}

/*
 * Moves the paged chunk in an order that is drawn to one of the places where it starts at a page, each as likely: one
 * in 256 of all. An order without such a place, of a region with few chunks, is drawn again; if chance does not give
 * one, that region stays as linked.
 */
static int place_paged(struct riffle_layout *layout, const struct riffle_plan *plan, const uint8_t key[32],
		       uint64_t *counter, const struct riffle_random *random, struct riffle_error *error)
{
	const struct riffle_region *r = paged_region(plan);
	uint16_t *order = layout->order + (r ? r->first_chunk : 0), place[PLACES_MAX];

	if (!r)
		return RIFFLE_OK;
	for (uint32_t i = 0; i < PAGED_TRIES; i++) {
		uint32_t k = 0, count, last = r->chunk_count - 1;
		uint64_t drawn;
		int status;

		while (order[k] != plan->header->paged_chunk)
			k++;
		for (; k < last; k++)
			order[k] = order[k + 1];
		count = find_paged_places(place, plan, r, order);
		if (!count) {
			order[last] = (uint16_t)plan->header->paged_chunk;
			riffle_permute(order, r->chunk_count, key, counter);
			continue;
		}
		status = riffle_random_below(&drawn, count, random, error);
		if (!status) {
			for (k = last; k > place[drawn]; k--)
				order[k] = order[k - 1];
			order[k] = (uint16_t)plan->header->paged_chunk;
		}
		/* the place taken can only be one of these */
		riffle_wipe(place, sizeof place);
		return status;
	}
	for (uint32_t k = 0; k < r->chunk_count; k++)
		order[k] = (uint16_t)(r->first_chunk + k);
	return RIFFLE_OK;
}

static int draw_order(struct riffle_layout *layout, const struct riffle_plan *plan, const struct riffle_random *random,
		      struct riffle_error *error)
{
	uint64_t counter = 0;
	uint8_t key[32];
	int status;

#ifndef RIFFLE_FREESTANDING
	if (!random)
		random = &riffle_random_system;
#endif
	if (!random)
		return riffle_fail(error, RIFFLE_ERR_ARGUMENT, "random", "is missing");
	if (random->fill(random->opaque, key, sizeof key))
		return riffle_fail(error, RIFFLE_ERR_RANDOM, "random", "source failed");
	for (uint32_t i = 0; i < plan->chunk_count; i++)
		layout->order[i] = (uint16_t)i;
	for (uint32_t i = 0; i < plan->region_count; i++)
		riffle_permute(layout->order + plan->regions[i].first_chunk, plan->regions[i].chunk_count, key,
			       &counter);
	status = place_paged(layout, plan, key, &counter, random, error);
	riffle_wipe(key, sizeof key);
	return status;
}

static int check_paged(const struct riffle_layout *layout, const struct riffle_plan *plan, struct riffle_error *error)
{
	const struct riffle_region *r = paged_region(plan);
	uint32_t at = r ? r->image_offset : 0;

	for (uint32_t k = r ? r->first_chunk : 0; r && layout->order[k] != plan->header->paged_chunk; k++)
		at += riffle_chunk_bytes(&plan->chunks[layout->order[k]]);
	return at % RIFFLE_PAGE_BYTES ? riffle_fail_found(error, RIFFLE_ERR_FORMAT, "order",
							  "does not have the paged chunk at a page (image offset)", at)
				      : RIFFLE_OK;
}

/* Each region's positions hold each of its chunks once, and the paged chunk starts at a page. */
int riffle_layout_check_order(const struct riffle_layout *layout, const struct riffle_plan *plan,
			      struct riffle_error *error)
{
	uint8_t seen[(RIFFLE_CHUNKS_MAX + 8) / 8] = {0};

	for (uint32_t i = 0; i < plan->region_count; i++) {
		const struct riffle_region *r = &plan->regions[i];

		for (uint32_t k = r->first_chunk; k < r->first_chunk + r->chunk_count; k++) {
			uint16_t chunk = layout->order[k];

			if (chunk < r->first_chunk || chunk - r->first_chunk >= r->chunk_count ||
			    seen[chunk / 8] & 1u << chunk % 8)
				return riffle_fail_found(error, RIFFLE_ERR_FORMAT, "order",
							 "is not a permutation of a region's chunks (place)", k);
			seen[chunk / 8] |= (uint8_t)(1u << chunk % 8);
		}
	}
	return check_paged(layout, plan, error);
}

/*
 * Each block's gap, and so its slide; the second gap of a pair is what the first lacks, that of a block which balances
 * the others what they all lack. Errors: RANDOM.
 */
static int draw_slides(struct riffle_layout *layout, const struct riffle_plan *plan, const struct riffle_random *random,
		       struct riffle_error *error)
{
	uint32_t slide = 0, lacks = 0;

	for (uint32_t i = 0; i < plan->block_count; i++) {
		const struct riffle_block *block = &plan->blocks[i];
		uint64_t gap;
		int status;

		if (riffle_block_balances(plan, i)) {
			slide = plan->slide_max;
		} else if (!block->gaps) {
			slide += lacks;
		} else {
			status = riffle_random_below(&gap, block->gaps, random, error);
			if (status)
				return status;
			slide += (uint32_t)gap * block->align;
			lacks = (block->gaps - 1 - (uint32_t)gap) * block->align;
		}
		layout->slide[i] = slide;
	}
	return RIFFLE_OK;
}

/* A layout without slides has them all 0. */
static int check_slide_count(const struct riffle_layout *layout, const struct riffle_plan *plan,
			     struct riffle_error *error)
{
	if (layout->slide_count && layout->slide_count != plan->block_count)
		return riffle_fail_expected(error, RIFFLE_ERR_ARGUMENT, "slide_count",
					    "is neither 0 nor the number of blocks", layout->slide_count,
					    plan->block_count);
	return RIFFLE_OK;
}

int riffle_layout_check_slides(const struct riffle_layout *layout, const struct riffle_plan *plan,
			       struct riffle_error *error)
{
	uint32_t before = 0, lacks = 0;
	int status = check_slide_count(layout, plan, error);

	for (uint32_t i = 0; !status && i < layout->slide_count; i++) {
		const struct riffle_block *block = &plan->blocks[i];
		uint32_t gap = layout->slide[i] - before;

		if (riffle_block_balances(plan, i)) {
			if (layout->slide[i] != plan->slide_max)
				return riffle_fail_expected(error, RIFFLE_ERR_FORMAT, "slide",
							    "is not the sum that the gaps of this kernel have",
							    layout->slide[i], plan->slide_max);
			continue;
		}
		if (layout->slide[i] >= before && !block->gaps && gap != lacks)
			return riffle_fail_found(error, RIFFLE_ERR_FORMAT, "slide",
						 "is not one that the slide before leaves to this block (block)", i);
		if (layout->slide[i] < before ||
		    (block->gaps && (gap % block->align || gap / block->align >= block->gaps)))
			return riffle_fail_found(error, RIFFLE_ERR_FORMAT, "slide",
						 "is not one that this block can have (block)", i);
		before = layout->slide[i];
		lacks = block->gaps ? (block->gaps - 1) * block->align - gap : 0;
	}
	return status;
}

int riffle_layout_draw(struct riffle_layout *layout, const struct riffle_plan *plan, const struct riffle_memory *memory,
		       enum riffle_mode mode, const struct riffle_random *random, struct riffle_error *error)
{
	const struct riffle_header *h = plan->header;
	struct riffle_slots slots;
	uint64_t slot;
	uint64_t span = span_of(plan, layout->slide_count);
	int status = check_slide_count(layout, plan, error);

	if (!status)
		status = find_slots(&slots, plan, memory, mode, layout->slide_count, error);
	if (!status)
		status = RIFFLE_CHECK_ZERO(layout->reserved_zero, "layout", error);
	if (!status && mode >= RIFFLE_MODE_FGKASLR)
		status = check_order_room(layout, plan, error);
	if (status)
		return status;
	layout->mode = mode;
	layout->physical_base = h->link_phys;
	layout->virtual_base = h->link_virt;
	if (mode >= RIFFLE_MODE_PHYSICAL) {
		status = riffle_random_below(&slot, slots.physical, random, error);
		if (status)
			return status;
		layout->physical_base = physical_slot(span, memory, slot);
	}
	if (mode >= RIFFLE_MODE_KASLR) {
		status = riffle_random_below(&slot, slots.virtual_, random, error);
		if (status)
			return status;
		layout->virtual_base = h->link_virt + slot * RIFFLE_SLOT_BYTES;
	}
	if (layout->slide_count && (status = draw_slides(layout, plan, random, error)))
		return status;
	return mode >= RIFFLE_MODE_FGKASLR ? draw_order(layout, plan, random, error) : RIFFLE_OK;
}

int riffle_layout_check(const struct riffle_layout *layout, const struct riffle_plan *plan,
			const struct riffle_memory *memory, struct riffle_error *error)
{
	const struct riffle_header *h = plan->header;
	uint64_t delta = layout->virtual_base - h->link_virt;
	struct riffle_slots slots;
	uint64_t span = span_of(plan, layout->slide_count);
	int status = riffle_layout_check_slides(layout, plan, error);

	if (!status)
		status = find_slots(&slots, plan, memory, layout->mode, layout->slide_count, error);

	if (!status)
		status = RIFFLE_CHECK_ZERO(layout->reserved_zero, "layout", error);
	if (status)
		return status;
	if (layout->mode == RIFFLE_MODE_OFF ? layout->physical_base != h->link_phys
					    : !is_physical_slot(span, memory, layout->physical_base))
		return riffle_fail_found(error, RIFFLE_ERR_SPACE, "physical_base",
					 "is not a slot of this kernel in this guest's memory", layout->physical_base);
	if (layout->virtual_base < h->link_virt || delta % RIFFLE_SLOT_BYTES ||
	    delta / RIFFLE_SLOT_BYTES >= slots.virtual_)
		return riffle_fail_found(error, RIFFLE_ERR_SPACE, "virtual_base", "is not a slot of this kernel",
					 layout->virtual_base);
	if (layout->mode < RIFFLE_MODE_FGKASLR)
		return RIFFLE_OK;
	status = check_order_room(layout, plan, error);
	return status ? status : riffle_layout_check_order(layout, plan, error);
}
