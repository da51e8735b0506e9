/* SPDX-License-Identifier: Apache-2.0 */
/* Copies a kernel's extents into guest memory and relocates each piece while it is in cache. */
#include "load/internal.h"

#include "common/search.h"
#include "load/slides.h"
#include "load/vector.h"
#include "plan/frames.h"

#define BLOCK                                                                                                          \
	(UINT64_C(2) << 20)       /* one job: a huge page of the guest, so that no two threads fault on the same page  \
				   */
#define PIECE (UINT64_C(1) << 20) /* read, then relocated at once: fits a second-level cache */
#define KASLR_FLAG 2u             /* boot_params.hdr.loadflags, arch/x86/include/uapi/asm/bootparam.h */

/* The next entry of each relocation list. */
struct cursor {
	uint32_t next64, next32, next_inverse, fixed32, fixed64, cross32;
};

static struct cursor cursor_at(const struct riffle_plan *plan, uint64_t image_offset)
{
	return (struct cursor){
	    .next64 = riffle_first_at_least(plan->reloc64, plan->reloc64_count, image_offset),
	    .next32 = riffle_first_at_least(plan->reloc32, plan->reloc32_count, image_offset),
	    .next_inverse = riffle_first_at_least(plan->reloc32_inverse, plan->reloc32_inverse_count, image_offset),
	    .fixed32 = riffle_first_at_least(plan->fixed32, plan->fixed32_count, image_offset),
	    .fixed64 = riffle_first_at_least(plan->fixed64, plan->fixed64_count, image_offset),
	    .cross32 = riffle_first_at_least(plan->cross32, plan->cross32_count, image_offset),
	};
}

static struct cursor cursor_end(const struct riffle_plan *plan)
{
	return (struct cursor){plan->reloc64_count, plan->reloc32_count, plan->reloc32_inverse_count,
			       plan->fixed32_count, plan->fixed64_count, plan->cross32_count};
}

/*
 * Relocates every field from the cursor on, and before `end`, that ends at or before `stop`; a field that extends past
 * it waits for the following bytes. `bytes` are the image's from `start` on. A 32-bit field holds the low half of an
 * address in the top 2 GiB, so a sum modulo 2^32 is right.
 */
static void relocate(const struct load *load, uint8_t *bytes, uint64_t start, struct cursor *at,
		     const struct cursor *end, uint64_t stop)
{
	const struct riffle_plan *plan = load->plan;
	uint64_t delta = load->delta;
	uint32_t i;

	for (i = at->next64; i < end->next64 && (uint64_t)plan->reloc64[i] + 8 <= stop; i++) {
		uint8_t *field = bytes + (plan->reloc64[i] - start);
		riffle_put64(field, riffle_get64(field) + delta);
	}
	at->next64 = i;
	for (i = at->next32; i < end->next32 && (uint64_t)plan->reloc32[i] + 4 <= stop; i++) {
		uint8_t *field = bytes + (plan->reloc32[i] - start);
		riffle_put32(field, riffle_get32(field) + (uint32_t)delta);
	}
	at->next32 = i;
	for (i = at->next_inverse; i < end->next_inverse && (uint64_t)plan->reloc32_inverse[i] + 4 <= stop; i++) {
		uint8_t *field = bytes + (plan->reloc32_inverse[i] - start);
		riffle_put32(field, riffle_get32(field) - (uint32_t)delta);
	}
	at->next_inverse = i;
}

/*
 * The next absolute fields of a list that end at or before `stop`, of `width` bytes, and how far what their values lead
 * to slides. The image's bytes from `start` on are at `bytes`.
 */
HOT uint32_t slid_batch(const struct load *load, struct slides_batch *batch, const uint8_t *bytes, uint64_t start,
			const uint32_t *list, uint32_t left, uint32_t width, uint64_t stop)
{
	uint32_t count = 0, most = left < SLIDES_BATCH ? left : SLIDES_BATCH;

	for (; count < most && (uint64_t)list[count] + width <= stop; count++) {
		const uint8_t *field = bytes + (list[count] - start);

		batch->offset[count] = slides_offset_of(
		    load, width == 8 ? riffle_get64(field) : (uint64_t)(int64_t)(int32_t)riffle_get32(field));
	}
	for (uint32_t i = count; i < SLIDES_BATCH; i++)
		batch->offset[i] = 0;
	riffle_slides_of(load, batch);
	return count;
}

/*
 * The same with slides: an absolute field follows the block that its value leads to, a distance the blocks of both its
 * ends. The bytes are all of one block.
 */
static void relocate_slid(const struct load *load, uint8_t *bytes, uint64_t start, struct cursor *at,
			  const struct cursor *end, uint64_t stop)
{
	const struct riffle_plan *plan = load->plan;
	uint32_t own = slides_at(load, start), i, count;
	uint64_t delta = load->delta;
	struct slides_batch batch;

	for (i = at->next64; i < end->next64; i += count) {
		count = slid_batch(load, &batch, bytes, start, plan->reloc64 + i, end->next64 - i, 8, stop);
		for (uint32_t k = 0; k < count; k++) {
			uint8_t *field = bytes + (plan->reloc64[i + k] - start);

			riffle_put64(field, riffle_get64(field) + delta + batch.slide[k]);
		}
		if (!count)
			break;
	}
	at->next64 = i;
	for (i = at->next32; i < end->next32; i += count) {
		count = slid_batch(load, &batch, bytes, start, plan->reloc32 + i, end->next32 - i, 4, stop);
		for (uint32_t k = 0; k < count; k++) {
			uint8_t *field = bytes + (plan->reloc32[i + k] - start);

			riffle_put32(field, riffle_get32(field) + (uint32_t)delta + batch.slide[k]);
		}
		if (!count)
			break;
	}
	at->next32 = i;
	for (i = at->next_inverse; i < end->next_inverse && (uint64_t)plan->reloc32_inverse[i] + 4 <= stop; i++) {
		uint8_t *field = bytes + (plan->reloc32_inverse[i] - start);

		riffle_put32(field, riffle_get32(field) - (uint32_t)delta - own);
	}
	at->next_inverse = i;
	for (i = at->cross32; i < end->cross32 && (uint64_t)plan->cross32[i] + 4 <= stop; i++) {
		uint8_t *field = bytes + (plan->cross32[i] - start);

		riffle_put32(field, riffle_get32(field) + load->slide[plan->cross32_blocks[i]] - own);
	}
	at->cross32 = i;
}

/* `start` is where `bytes` begin. */
static void relocate_any(const struct load *load, uint8_t *bytes, uint64_t start, struct cursor *at,
			 const struct cursor *end, uint64_t stop)
{
	if (load->block_count)
		relocate_slid(load, bytes, start, at, end, stop);
	else if (load->delta)
		relocate(load, bytes, start, at, end, stop);
}

void riffle_load_relocate(const struct load *load, uint8_t *bytes, uint64_t start, uint64_t end)
{
	struct cursor at = cursor_at(load->plan, start);
	const struct cursor all = cursor_end(load->plan);

	relocate_any(load, bytes, start, &at, &all, end);
}

/* The same for fields in fixed code and data that refer to chunks: they follow their targets. */
static void follow_chunks(const struct load *load, struct cursor *at, const struct cursor *end, uint64_t stop)
{
	const struct riffle_plan *plan = load->plan;
	const int32_t *shift = load->shift;
	uint32_t i;

	/* all that is left to do here lies in one block */
	if (at->fixed32 < end->fixed32) {
		uint8_t *image = load_place(load, plan->fixed32[at->fixed32]) - plan->fixed32[at->fixed32];

		for (i = at->fixed32; i < end->fixed32 && (uint64_t)plan->fixed32[i] + 4 <= stop; i++) {
			uint8_t *field = image + plan->fixed32[i];
			riffle_put32(field, riffle_get32(field) + (uint32_t)shift[plan->fixed32_targets[i]]);
		}
		at->fixed32 = i;
	}
	if (at->fixed64 < end->fixed64) {
		uint8_t *image = load_place(load, plan->fixed64[at->fixed64]) - plan->fixed64[at->fixed64];

		for (i = at->fixed64; i < end->fixed64 && (uint64_t)plan->fixed64[i] + 8 <= stop; i++) {
			uint8_t *field = image + plan->fixed64[i];
			riffle_put64(field, riffle_get64(field) + (uint64_t)(int64_t)shift[plan->fixed64_targets[i]]);
		}
		at->fixed64 = i;
	}
}

/*
 * Sites stay in place, so each changes only by its chunk's shift: those that end in (from, stop] and do not start
 * before `start`.
 */
static void follow_sites(const struct load *load, uint64_t start, uint64_t from, uint64_t stop)
{
	const struct riffle_plan *plan = load->plan;
	const int32_t *shift = load->shift;

	for (uint32_t i = 0; i < plan->table_count; i++) {
		const struct riffle_table *t = &plan->tables[i];
		uint64_t table = t->image_offset, first = 0, end = t->entries, after_start;
		uint8_t *image;

		if (t->kind != RIFFLE_TABLE_SITES || table >= stop || table + end * 4 <= from)
			continue;
		if (from > table)
			first = (from - table) / 4;
		after_start = start > table ? (start - table + 3) / 4 : 0;
		if (after_start > first)
			first = after_start;
		if ((stop - table) / 4 < end)
			end = (stop - table) / 4;
		image = load_place(load, table) + first * 4;
		for (uint64_t k = first; k < end; k++, image += 4)
			riffle_put32(image, riffle_get32(image) + (uint32_t)shift[plan->site_targets[t->first + k]]);
	}
}

/* The image's bytes [from, stop) have been read: changes the fields that end there and start at `start` or later. */
static void patch(const struct load *load, struct cursor *at, uint64_t start, uint64_t from, uint64_t stop,
		  uint64_t *ticks)
{
	const struct cursor end = cursor_end(load->plan);
	uint64_t before = __builtin_ia32_rdtsc();

	relocate_any(load, load_place(load, from) - (from - start), start, at, &end, stop);
	if (load->shift) {
		follow_chunks(load, at, &end, stop);
		follow_sites(load, start, from, stop);
	}
	*ticks += __builtin_ia32_rdtsc() - before;
}

void riffle_load_patch(const struct load *load, uint64_t start, uint64_t stop)
{
	struct cursor at = cursor_at(load->plan, start);
	uint64_t ticks = 0;

	patch(load, &at, start, start, stop, &ticks);
}

/* First area that ends after `image_offset`; an empty one at the end if there is none. */
static struct plan_area area_at(const struct load *load, uint64_t image_offset)
{
	unsigned i;

	RIFFLE_FIRST_WHERE(i, load->areas.count, load->areas.area[i].end > image_offset);
	return i < load->areas.count ? load->areas.area[i] : (struct plan_area){UINT32_MAX, UINT32_MAX};
}

static uint64_t min64(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

/* First extent that ends after `image_offset`. */
static uint32_t extent_at(const struct riffle_plan *plan, uint64_t image_offset)
{
	const struct riffle_extent *e = plan->extents;
	uint32_t i;

	RIFFLE_FIRST_WHERE(i, plan->extent_count, (uint64_t)e[i].image_offset + e[i].bytes > image_offset);
	return i;
}

uint64_t riffle_load_plain_end(const struct load *load, uint64_t image_offset)
{
	const struct riffle_plan *plan = load->plan;
	uint32_t i = extent_at(plan, image_offset);
	const struct riffle_extent *e = &plan->extents[i];

	if (i == plan->extent_count || e->image_offset > image_offset)
		return image_offset;
	return min64(min64((uint64_t)e->image_offset + e->bytes, slides_block_end(load, image_offset)),
		     (image_offset + BLOCK) & ~(BLOCK - 1));
}

static uint64_t lower(uint64_t least, const uint32_t *list, uint32_t next, uint32_t count)
{
	return next < count ? min64(least, list[next]) : least;
}

/* The first field from the cursor on that follow_chunks() or follow_sites() changes, which start at `from` or later. */
static uint64_t first_to_follow(const struct load *load, const struct cursor *at, uint64_t from)
{
	const struct riffle_plan *plan = load->plan;
	uint64_t least = lower(lower(UINT64_MAX, plan->fixed32, at->fixed32, plan->fixed32_count), plan->fixed64,
			       at->fixed64, plan->fixed64_count);

	for (uint32_t i = 0; i < plan->table_count; i++) {
		const struct riffle_table *t = &plan->tables[i];

		if (t->kind == RIFFLE_TABLE_SITES && t->image_offset + t->entries * UINT64_C(4) > from)
			least = min64(least, t->image_offset);
	}
	return least;
}

/* Where a piece from here on ends: what has fields that change is in cache when it has been read, what has none, not.
 */
static uint64_t piece_end(const struct load *load, const struct cursor *at, uint64_t from)
{
	const struct riffle_plan *plan = load->plan;
	uint64_t first = UINT64_MAX;

	if (load->delta || load->block_count) {
		first = lower(first, plan->reloc64, at->next64, plan->reloc64_count);
		first = lower(first, plan->reloc32, at->next32, plan->reloc32_count);
		first = lower(first, plan->reloc32_inverse, at->next_inverse, plan->reloc32_inverse_count);
	}
	if (load->block_count)
		first = lower(first, plan->cross32, at->cross32, plan->cross32_count);
	if (load->shift)
		first = min64(first, first_to_follow(load, at, from));
	if (first < from)
		first = from;
	return first < UINT64_MAX - PIECE ? (first + PIECE) & ~(PIECE - 1) : UINT64_MAX;
}

/* Part of a job that does not slide apart. */
static int load_part(const struct load *load, uint64_t start, uint64_t stop, uint64_t *relocate_ticks,
		     struct riffle_error *error)
{
	const struct riffle_plan *plan = load->plan;
	uint8_t *image = load->image + slides_at(load, start);
	struct cursor at = cursor_at(plan, start);
	uint64_t position = start;

	for (uint32_t i = extent_at(plan, start); i < plan->extent_count; i++) {
		const struct riffle_extent *e = &plan->extents[i];
		uint64_t from = e->image_offset > start ? e->image_offset : start;
		uint64_t to = (uint64_t)e->image_offset + e->bytes;

		if (from >= stop)
			break;
		/* those of two segments that follow each other are read together */
		while (i + 1 < plan->extent_count && e[1].image_offset == to && to < stop) {
			to += (++e)->bytes;
			i++;
		}
		to = min64(to, stop);
		if (load->options & RIFFLE_LOAD_CLEAR)
			memset(image + position, 0, from - position);
		while (from < to) {
			struct plan_area area = area_at(load, from);
			uint64_t end = min64(min64(piece_end(load, &at, from), to), area.start);
			int status;

			if (area.start <= from) {
				from = min64(area.end, to);
				at = cursor_at(plan, from);
				continue;
			}
			if (plan->frame_count)
				end = min64(plan_frame_end(plan, from), end);
			status = load_read(load, from, image + from, end - from, error);
			if (status)
				return status;
			patch(load, &at, start, from, end, relocate_ticks);
			from = end;
		}
		position = to;
	}
	if (load->options & RIFFLE_LOAD_CLEAR)
		memset(image + position, 0, stop - position);
	return RIFFLE_OK;
}

static int load_block(const struct load *load, uint64_t start, uint64_t stop, uint64_t *relocate_ticks,
		      struct riffle_error *error)
{
	while (start < stop) {
		uint64_t edge = slides_block_end(load, start), end = min64(edge, stop);
		uint32_t slide = slides_at(load, start);
		int status = load_part(load, start, end, relocate_ticks, error);

		if (status)
			return status;
		/* the gap before the next block */
		if (load->options & RIFFLE_LOAD_CLEAR && end == edge)
			memset(load->image + slide + edge, 0, slides_at(load, edge) - slide);
		start = end;
	}
	return RIFFLE_OK;
}

unsigned riffle_load_blocks(const struct load *load)
{
	return (unsigned)((load->plan->header->image_bytes + BLOCK - 1) / BLOCK);
}

void riffle_load_fail(struct load *load, int status, const struct riffle_error *error)
{
	int none = RIFFLE_OK;

	if (__atomic_compare_exchange_n(&load->failed, &none, status, false, __ATOMIC_ACQ_REL, __ATOMIC_RELAXED) &&
	    load->error)
		*load->error = *error;
}

void riffle_load_block_job(struct load *load, unsigned index)
{
	uint64_t start = index * BLOCK;
	uint64_t stop = min64(start + BLOCK, load->plan->header->image_bytes);
	uint64_t relocate_ticks = 0, before = __builtin_ia32_rdtsc();
	struct riffle_error error;
	int status;

	if (__atomic_load_n(&load->failed, __ATOMIC_RELAXED))
		return;
	status = load_block(load, start, stop, &relocate_ticks, &error);
	__atomic_fetch_add(&load->load_ticks, __builtin_ia32_rdtsc() - before, __ATOMIC_RELAXED);
	__atomic_fetch_add(&load->relocate_ticks, relocate_ticks, __ATOMIC_RELAXED);
	if (status)
		riffle_load_fail(load, status, &error);
}

static void plain_job(void *argument, unsigned index)
{
	riffle_load_block_job(argument, index);
}

/*
 * Relocates the few fields that straddle two blocks, because no job had all their bytes. Each list is walked from the
 * first field that could to the last one that starts before the boundary; none straddles the boundary of an area
 * (riffle_plan_check()).
 */
static void relocate_across(const struct load *load)
{
	const struct riffle_plan *plan = load->plan;

	for (unsigned i = 1; i < riffle_load_blocks(load); i++) {
		uint64_t edge = i * BLOCK;
		struct plan_area area = area_at(load, edge);
		struct cursor wide = cursor_at(plan, edge - 7), at = cursor_at(plan, edge - 3),
			      behind = cursor_at(plan, edge);

		if (area.start < edge)
			continue;
		at.next64 = wide.next64;
		at.fixed64 = wide.fixed64;
		relocate_any(load, load_place(load, edge - 7), edge - 7, &at, &behind, UINT64_MAX);
		if (load->shift) {
			follow_chunks(load, &at, &behind, UINT64_MAX);
			follow_sites(load, edge - 3, edge, edge + 3);
		}
	}
}

static uint8_t *find_image(const struct riffle_memory *memory, uint64_t address, uint64_t bytes)
{
	for (size_t i = 0; i < memory->ram_count; i++) {
		const struct riffle_ram *ram = &memory->ram[i];

		if (ram->host && address >= ram->address && riffle_inside(address - ram->address, bytes, ram->bytes))
			return (uint8_t *)ram->host + (address - ram->address);
	}
	return NULL;
}

int riffle_load_begin(struct load *load, const struct riffle_plan *plan, const struct riffle_source *payload,
		      const struct riffle_layout *layout, const struct riffle_memory *memory, unsigned options,
		      struct riffle_error *error)
{
	const struct riffle_header *h = plan->header;

	int status;

	if ((status = RIFFLE_CHECK_ZERO(layout->reserved_zero, "layout", error)) ||
	    (status = RIFFLE_CHECK_ZERO(memory->reserved_zero, "memory", error)) ||
	    (status = RIFFLE_CHECK_ZERO(payload->reserved_zero, "payload", error)))
		return status;
	*load = (struct load){.plan = plan, .payload = payload, .options = options, .error = error};
	if (plan->frame_count && !payload->read_frame)
		return riffle_fail_no_frames(error);
	if (layout->physical_base % RIFFLE_SLOT_BYTES)
		return riffle_fail_found(error, RIFFLE_ERR_ARGUMENT, "physical_base", "is not a multiple of 2 MiB",
					 layout->physical_base);
	status = riffle_slides_begin(load, layout, error);
	if (status)
		return status;
	load->image = find_image(memory, layout->physical_base, load->span);
	if (!load->image)
		return riffle_fail_found(error, RIFFLE_ERR_SPACE, "physical_base",
					 "leaves part of the kernel outside guest RAM", layout->physical_base);
	load->delta = layout->virtual_base - h->link_virt;
	if (load->delta && !(h->flags & RIFFLE_KERNEL_RELOCATABLE))
		return riffle_fail_found(error, RIFFLE_ERR_UNSUPPORTED, "virtual_base",
					 "differs from the link address of a kernel without relocations",
					 layout->virtual_base);
	if (layout->virtual_base < h->link_virt || load->delta % RIFFLE_SLOT_BYTES ||
	    !riffle_inside(h->link_phys + load->delta, load->span, h->window_bytes))
		return riffle_fail_found(error, RIFFLE_ERR_SPACE, "virtual_base",
					 "puts the kernel outside its address window", layout->virtual_base);
	return RIFFLE_OK;
}

/* How far the entry moves, with its block or, in a shuffle, with its chunk; modulo 2^64. */
static uint64_t entry_shift(const struct load *load)
{
	const struct riffle_header *h = load->plan->header;

	if (!load->shift || !(h->features & RIFFLE_FEATURE_ENTRY_MOVES))
		return slides_at(load, h->entry_offset);
	return (uint64_t)(int64_t)load->shift[riffle_plan_chunk_at(load->plan, h->entry_offset)];
}

int riffle_load_end(struct riffle_loaded *loaded, struct load *load, const struct riffle_layout *layout)
{
	const struct riffle_plan *plan = load->plan;
	const struct riffle_header *h = plan->header;

	if (load->failed)
		return load->failed;
	relocate_across(load);
	riffle_slides_end(load);
	*loaded = (struct riffle_loaded){
	    .entry = layout->physical_base + h->entry_offset + entry_shift(load),
	    .physical_base = layout->physical_base,
	    .virtual_base = layout->virtual_base,
	    .end = layout->physical_base + load->span,
	    .load_ticks = load->load_ticks,
	    .relocate_ticks = load->relocate_ticks,
	    .loadflags = layout->mode >= RIFFLE_MODE_KASLR ? KASLR_FLAG : 0,
	};
	for (uint32_t i = 0; i < plan->extent_count; i++)
		loaded->bytes_copied += plan->extents[i].bytes;
	if (load->delta)
		loaded->relocations = (uint64_t)plan->reloc64_count + plan->reloc32_count + plan->reloc32_inverse_count;
	return RIFFLE_OK;
}

int riffle_load(struct riffle_loaded *loaded, const struct riffle_plan *plan, const struct riffle_source *payload,
		const struct riffle_layout *layout, const struct riffle_memory *memory, unsigned options,
		const struct riffle_workers *workers, struct riffle_error *error)
{
	struct load load;
	int status;

	if (options & ~RIFFLE_LOAD_CLEAR)
		return riffle_fail_found(error, RIFFLE_ERR_ARGUMENT, "options", "hold an unknown bit", options);
	if (layout->mode > RIFFLE_MODE_KASLR)
		return riffle_fail_found(error, RIFFLE_ERR_ARGUMENT, "mode",
					 "is a shuffle's: riffle_load_shuffled() loads it", (uint64_t)layout->mode);
	status = riffle_load_begin(&load, plan, payload, layout, memory, options, error);
	if (status)
		return status;
	if (workers && (status = RIFFLE_CHECK_ZERO(workers->reserved_zero, "workers", error)))
		return status;
	if (workers)
		workers->run(workers->opaque, plain_job, &load, riffle_load_blocks(&load));
	else
		for (unsigned i = 0; i < riffle_load_blocks(&load); i++)
			riffle_load_block_job(&load, i);
	return riffle_load_end(loaded, &load, layout);
}
