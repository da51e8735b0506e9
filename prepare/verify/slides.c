/* SPDX-License-Identifier: Apache-2.0 */
/* What slides make of an image that is expected without them: blocks apart, and every reference between two followed.
 */
#include <stdlib.h>

#include "prepare/verify/internal.h"

#define WINDOW (INT64_C(1) << 30) /* of a kernel's addresses */
#define PAST_END (2u << 20)       /* less than this past the image an address is that of its end, rounded up */

static uint32_t slide_of(const struct places *p, uint64_t offset)
{
	uint32_t i = p->plan->block_count;

	while (i > 1 && offset < p->plan->blocks[i - 1].image_offset)
		i--;
	return p->slide[i - 1];
}

uint8_t *verify_slid_place(const struct places *p, uint8_t *image, uint32_t offset)
{
	return image + offset + slide_of(p, offset);
}

static void add32(uint8_t *field, uint32_t amount)
{
	riffle_put32(field, riffle_get32(field) + amount);
}

/* Whether the symbol is where a block begins, and what is meant the last byte of the block before. */
static bool is_last_byte(const struct verify *v, const struct places *p, const struct ref *ref)
{
	uint32_t value = riffle_get32(v->bytes + ref->field);

	if (ref->rank != RANK_RELA || (ref->kind != REF_ABS32 && ref->kind != REF_ABS64))
		return false;
	for (uint32_t i = 1; i < p->plan->block_count; i++)
		if (ref->target == p->plan->blocks[i].image_offset &&
		    (value + 1 == (uint32_t)v->link_virt + ref->target ||
		     value + 1 == (uint32_t)v->image->link_phys + ref->target))
			return true;
	return false;
}

/* How far the target of a reference slides; what is past the image's end goes with the last block. */
static uint32_t target_slides(const struct verify *v, const struct places *p, const struct ref *ref)
{
	uint64_t value;

	if (ref->target < TARGET_IMAGE)
		return slide_of(p, verify_meant(v, ref->target) - is_last_byte(v, p, ref));
	if (ref->target == TARGET_STAYS)
		return 0;
	switch (ref->kind) {
	case REF_ABS64:
		value = riffle_get64(v->bytes + ref->field) - v->link_virt;
		break;
	case REF_ABS32:
		value = (uint64_t)(int64_t)(int32_t)riffle_get32(v->bytes + ref->field) - v->link_virt;
		break;
	default:
		value = ref->field + 4 + (uint64_t)(int64_t)(int32_t)riffle_get32(v->bytes + ref->field);
	}
	/* it may be a physical address, which is less by __START_KERNEL_map */
	if (value - v->image_bytes >= PAST_END && (ref->kind == REF_ABS32 || ref->kind == REF_ABS64))
		value += v->link_virt - v->image->link_phys;
	return value - v->image_bytes < PAST_END ? slide_of(p, value) : 0;
}

static void follow_refs(const struct verify *v, const struct places *p, uint8_t *image)
{
	for (size_t i = 0; i < v->ref_count; i++) {
		const struct ref *ref = &v->ref[i];
		uint8_t *field = verify_slid_place(p, image, ref->field) + place_shift(p, ref->field);
		uint32_t of = target_slides(v, p, ref), own = slide_of(p, ref->field);

		/* written as a whole, or below */
		if (verify_is_sorted(v, ref->field))
			continue;
		switch (ref->kind) {
		case REF_ABS64:
			riffle_put64(field, riffle_get64(field) + of);
			break;
		case REF_ABS32:
			add32(field, of);
			break;
		case REF_PC32:
			add32(field, of - own);
			break;
		default:
			break;
		}
	}
}

/* Of a place that a table names: nothing before the image slides, and what is named after it goes with its end. */
static uint32_t place_slides(const struct places *p, int64_t place)
{
	return place >= 0 && place < WINDOW ? slide_of(p, (uint64_t)place) : 0;
}

/* A distance of 32 or 64 bits whose value tells what it leads to. */
static void follow_value(const struct places *p, uint8_t *image, uint32_t at, bool wide)
{
	uint8_t *field = verify_slid_place(p, image, at);
	int64_t value = wide ? (int64_t)riffle_get64(field) : (int32_t)riffle_get32(field);
	int64_t target = (int64_t)(at + (uint64_t)value); /* a hostile one wraps, far outside the window */
	uint32_t amount = place_slides(p, target) - slide_of(p, at);

	/* a per-CPU variable, counted from 0 */
	if (target >= WINDOW || target < -WINDOW)
		return;
	if (wide)
		riffle_put64(field, (uint64_t)value + (uint64_t)(int64_t)(int32_t)amount);
	else
		add32(field, amount);
}

static void follow_sorted(const struct verify *v, const struct places *p, uint8_t *image)
{
	for (uint32_t i = 0; i < v->orc.entries; i++)
		follow_value(p, image, v->orc.offset + 4 * i, false);
	for (uint32_t i = 0; i < v->extable.entries; i++)
		for (uint32_t at = 0; at <= (v->extable.handlers ? 8u : 4u); at += 4)
			follow_value(p, image, v->extable.offset + 12 * i + at, false);
	for (uint32_t i = 0; i < v->mcount.entries; i++) {
		uint8_t *field = verify_slid_place(p, image, v->mcount.offset + 8 * i);
		uint64_t offset = riffle_get64(field) - p->delta - v->link_virt;

		if (offset < v->image_bytes)
			riffle_put64(field, riffle_get64(field) + slide_of(p, offset));
	}
}

/* The halves of tables that lead to data: struct bug_entry's file, kernel_symbol's name space, static call keys … */
static const struct half {
	const char *part;
	uint32_t stride, at;
	bool wide;
} halves[] = {
    {"__bug_table", 12, 4, false},       {"__bug_table", 16, 4, false},           {"__bug_table", 16, 8, false},
    {"__ksymtab", 12, 8, false},         {"__ksymtab_gpl", 12, 8, false},         {"__jump_table", 16, 8, true},
    {".static_call_sites", 8, 4, false}, {".static_call_tramp_key", 8, 4, false},
};

static void follow_halves(const struct verify *v, const struct places *p, uint8_t *image)
{
	uint32_t from, to;

	for (unsigned i = 0; i < v->part_count; i++)
		for (size_t h = 0; h < sizeof halves / sizeof *halves; h++)
			for (uint32_t at = 0; !strcmp(v->part[i].name, halves[h].part) &&
					      v->part[i].stride == halves[h].stride && at < v->part[i].bytes;
			     at += halves[h].stride)
				/* with a .rela these are references like all others */
				if (halves[h].wide || !verify_has_ref(v, v->part[i].offset + at + halves[h].at))
					follow_value(p, image, v->part[i].offset + at + halves[h].at, halves[h].wide);
	if (!verify_symbol(v, "__start___tracepoints_ptrs", &from) ||
	    !verify_symbol(v, "__stop___tracepoints_ptrs", &to))
		return;
	for (; from + 4 <= to; from += 4)
		if (!verify_has_ref(v, from))
			follow_value(p, image, from, false);
}

static void follow_names(const struct verify *v, const struct places *p, uint8_t *image)
{
	const struct names *n = &v->names;
	/* where the base is that is counted from, which does not slide: it is in the first block */
	uint64_t base = n->base ? riffle_get64(v->bytes + n->base) - v->link_virt : 0;

	for (uint32_t i = 0; n->present && i < n->count; i++) {
		uint32_t at = n->offsets + 4 * i;
		uint8_t *field = verify_slid_place(p, image, at);
		uint32_t value = riffle_get32(field);

		if (n->self_relative)
			follow_value(p, image, at, false);
		else if (!n->absolute_percpu)
			add32(field, place_slides(p, (int64_t)base + value));
		else if ((int32_t)value < 0)
			add32(field, -place_slides(p, (int64_t)base - 1 - (int32_t)value));
	}
}

int verify_slide(uint8_t **slid, const struct verify *v, const struct places *p, const uint8_t *expected,
		 struct riffle_error *error)
{
	uint8_t *image = calloc(1, verify_slid_bytes(p, v) + 8);

	*slid = image;
	if (!image)
		return riffle_fail(error, RIFFLE_ERR_MEMORY, "verify", "out of memory");
	for (uint32_t i = 0; i < p->plan->block_count; i++) {
		uint32_t from = p->plan->blocks[i].image_offset;
		uint32_t to = i + 1 < p->plan->block_count ? p->plan->blocks[i + 1].image_offset : v->image_bytes;

		memcpy(image + from + p->slide[i], expected + from, to - from);
	}
	follow_refs(v, p, image);
	follow_sorted(v, p, image);
	follow_halves(v, p, image);
	follow_names(v, p, image);
	return 0;
}

uint64_t verify_slid_bytes(const struct places *p, const struct verify *v)
{
	return v->image_bytes + (p->slid ? p->slide[p->plan->block_count - 1] : 0);
}

uint32_t verify_slide_back(const struct places *p, uint64_t at)
{
	uint32_t i = p->plan->block_count;

	while (p->slid && i > 1 && at < (uint64_t)p->plan->blocks[i - 1].image_offset + p->slide[i - 1])
		i--;
	return (uint32_t)at - (p->slid ? p->slide[i - 1] : 0);
}
