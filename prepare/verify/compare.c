/* SPDX-License-Identifier: Apache-2.0 */
/* Builds what a loaded kernel must be under a layout, and says where memory differs from it. */
#include <stdlib.h>

#include "common/search.h"
#include "prepare/verify/internal.h"

/* By how much a target moves, delta and all. */
static uint64_t target_moves(const struct verify *v, const struct places *p, const struct ref *ref)
{
	if (ref->target == TARGET_STAYS)
		return 0;
	if (ref->target == TARGET_IMAGE)
		return p->delta;
	/* what a compiler folds stands in code, and has 32 bits; a pointer of 64 in a table means what it says */
	return p->delta +
	       (uint64_t)(int64_t)place_shift(p, ref->kind == REF_ABS64 ? ref->target : verify_meant(v, ref->target));
}

/* Writes a reference's value into the image; false when it does not fit. */
static bool write_ref(const struct verify *v, const struct places *p, const struct ref *ref, uint8_t *image)
{
	uint64_t moves = target_moves(v, p, ref);
	const uint8_t *from = v->bytes + ref->field;
	uint8_t *to = image + place_of(p, ref->field);
	int64_t value;

	if (ref->kind == REF_PC8 || ref->kind == REF_PC32)
		moves -= p->delta + (uint64_t)(int64_t)place_shift(p, ref->field);
	switch (ref->kind) {
	case REF_ABS64:
		riffle_put64(to, riffle_get64(from) + moves);
		return true;
	case REF_ABS32:
		/* sign-extended or not, the kernel itself adds without looking */
		riffle_put32(to, riffle_get32(from) + (uint32_t)moves);
		return true;
	case REF_PC8:
		value = (int8_t)*from + (int64_t)moves;
		*to = (uint8_t)value;
		return value == (int8_t)value;
	default:
		value = (int32_t)riffle_get32(from) + (int64_t)moves;
		riffle_put32(to, (uint32_t)value);
		/* what wraps at link time (symbol + 0x80000000) may wrap again */
		return value == (int32_t)value || ref->target >= TARGET_IMAGE || ref->rank == RANK_RELA;
	}
}

struct expected {
	uint8_t *image;
	uint64_t misfits;
};

static void print_misfit(const struct verify *v, const struct ref *ref, FILE *report)
{
	const struct symbol *symbol = verify_symbol_at(v, ref->field);

	fprintf(report, "reference at %s+0x%x (link address 0x%llx) is too short to follow its target\n",
		symbol ? symbol->name : "?", symbol ? ref->field - symbol->offset : 0,
		(unsigned long long)(v->link_virt + ref->field));
}

static int build(struct expected *expected, const struct verify *v, const struct places *p, unsigned limit,
		 FILE *report, struct riffle_error *error)
{
	uint8_t *image = malloc((size_t)v->image_bytes + 8); /* a field may end behind what it is moved with */
	int status;

	*expected = (struct expected){.image = image};
	if (!image)
		return riffle_fail(error, RIFFLE_ERR_MEMORY, "verify", "out of memory");
	memcpy(image, v->bytes, v->image_bytes);
	for (uint32_t i = 0; i < p->plan->chunk_count; i++) {
		const struct riffle_chunk *c = &p->plan->chunks[i];

		memcpy(image + place_of(p, c->image_offset), v->bytes + c->image_offset, riffle_chunk_bytes(c));
	}
	for (size_t i = 0; i < v->ref_count; i++)
		if (!write_ref(v, p, &v->ref[i], image) && expected->misfits++ < limit && report)
			print_misfit(v, &v->ref[i], report);
	verify_write_mode(v, p, image);
	status = verify_write_sorted(v, p, image, error);
	if (status)
		free(image);
	return status;
}

/* The chunk that was put on an offset, or chunk_count; a search, for reports only. */
static uint32_t link_offset(const struct places *p, uint32_t at)
{
	for (uint32_t i = 0; i < p->plan->chunk_count; i++) {
		const struct riffle_chunk *c = &p->plan->chunks[i];

		if (at - (c->image_offset + (uint32_t)p->shift[i]) < riffle_chunk_bytes(c))
			return at - (uint32_t)p->shift[i];
	}
	return at;
}

static const struct ref *ref_at(const struct verify *v, uint32_t offset)
{
	size_t next;

	RIFFLE_FIRST_WHERE(next, v->ref_count, v->ref[next].field > offset);
	return next && offset - v->ref[next - 1].field < 8 ? &v->ref[next - 1] : NULL;
}

static const struct part *part_at(const struct verify *v, uint32_t offset)
{
	for (unsigned i = 0; i < v->part_count; i++)
		if (offset - v->part[i].offset < v->part[i].bytes)
			return &v->part[i];
	return NULL;
}

static void print_section(const struct verify *v, uint32_t offset, FILE *report)
{
	uint64_t address = v->link_virt + offset;

	for (unsigned i = 0; i < v->image->section_count; i++) {
		const struct image_section *s = &v->image->section[i];

		if (!s->address || address - s->address >= s->bytes)
			continue;
		for (const char *c = s->name; *c; c++)
			fputc(verify_printable(*c), report);
		return;
	}
	fputs("no section", report);
}

static void print_bytes(const uint8_t *bytes, uint32_t count, FILE *report)
{
	for (uint32_t i = 0; i < count && i < 8; i++)
		fprintf(report, "%02x", bytes[i]);
	if (count > 8)
		fputs("…", report);
}

static void print_difference(const struct verify *v, const struct places *p, const uint8_t *expected,
			     const uint8_t *loaded, uint32_t at, uint32_t bytes, FILE *report)
{
	uint32_t link = link_offset(p, verify_slide_back(p, at));
	const struct symbol *symbol = verify_symbol_at(v, link);
	const struct ref *ref = ref_at(v, link);
	const struct part *part = part_at(v, link);
	const char *what = part ? part->name : ref ? v->part[ref->part].name : "no reference";

	fprintf(report, "image offset 0x%x, linked at 0x%llx: ", at, (unsigned long long)(v->link_virt + link));
	print_section(v, link, report);
	fprintf(report, ", %s+0x%x, %s: loaded ", symbol ? symbol->name : "?", symbol ? link - symbol->offset : 0,
		what);
	print_bytes(loaded + at, bytes, report);
	fputs(", expected ", report);
	print_bytes(expected + at, bytes, report);
	if (!part && ref) {
		const struct symbol *target = ref->target < TARGET_IMAGE ? verify_symbol_at(v, ref->target) : NULL;

		fprintf(report, " (refers to %s+0x%x)", target ? target->name : "what does not move",
			target ? ref->target - target->offset : 0);
	}
	fputc('\n', report);
}

/* Runs of bytes that differ; two at most three bytes apart are one. */
static void compare(struct verify_result *result, const struct verify *v, const struct places *p,
		    const uint8_t *expected, const uint8_t *loaded, unsigned limit, FILE *report)
{
	uint32_t at = 0, end, all = (uint32_t)verify_slid_bytes(p, v);

	while (at < all) {
		if (all - at >= 4096 && !memcmp(expected + at, loaded + at, 4096)) {
			at += 4096;
			continue;
		}
		if (expected[at] == loaded[at]) {
			at++;
			continue;
		}
		end = at + 1;
		for (uint32_t k = end; k < all && k < end + 4; k++)
			if (expected[k] != loaded[k])
				end = k + 1;
		if (result->different++ < limit)
			print_difference(v, p, expected, loaded, at, end - at, report);
		at = end;
	}
}

/* The kernel is entered at the instruction that its file names, wherever that is now. */
static void compare_entry(struct verify_result *result, const struct verify *v, const struct places *p, uint64_t entry,
			  FILE *report)
{
	uint64_t is = entry < verify_slid_bytes(p, v) ? link_offset(p, verify_slide_back(p, entry)) : UINT64_MAX;

	if (is == v->image->entry_offset)
		return;
	result->different++;
	fprintf(report, "entry: at image offset 0x%llx, where 0x%llx was linked, expected 0x%llx\n",
		(unsigned long long)entry, (unsigned long long)is, (unsigned long long)v->image->entry_offset);
}

int verify_compare(struct verify_result *result, const struct verify *v, const struct riffle_plan *plan,
		   const struct riffle_layout *layout, const uint8_t *loaded, uint64_t entry, unsigned limit,
		   FILE *report, struct riffle_error *error)
{
	struct expected expected;
	uint8_t *slid = NULL;
	struct places p;
	uint64_t wrong = 0;
	int status = verify_places(&p, v, plan, layout, error);

	*result = (struct verify_result){0};
	if (status)
		return status;
	result->bytes = verify_slid_bytes(&p, v);
	result->moved = p.moved;
	status = build(&expected, v, &p, limit, report, error);
	if (!status) {
		result->different = expected.misfits;
		if (p.slid)
			status = verify_slide(&slid, v, &p, expected.image, error);
		if (!status)
			compare(result, v, &p, slid ? slid : expected.image, loaded, limit, report);
		compare_entry(result, v, &p, entry, report);
		/*
		 * Of the loaded table: had it other bytes than expected, this says what they do. With slides of the
		 * expected one, in which every entry is as far from the code it describes.
		 */
		if (!status)
			status = verify_unwind(v, &p, slid ? expected.image : loaded, &result->unwinds, &wrong, limit,
					       report, error);
		result->different += wrong;
		free(slid);
		free(expected.image);
	}
	verify_places_free(&p);
	return status;
}

/* What a table would be had only the kernel's own relocations been applied to it. */
static bool spoil_table(const struct verify *v, const struct places *p, const struct part *part, uint8_t *loaded)
{
	uint8_t *stale = malloc((size_t)part->bytes + 8), *to; /* a field may reach out of a table */
	bool changed;

	if (!stale)
		return false;
	memcpy(stale, v->bytes + part->offset, (size_t)part->bytes + 8);
	for (size_t i = 0; i < v->ref_count; i++) {
		const struct ref *ref = &v->ref[i];
		uint32_t at = ref->field - part->offset;

		if (ref->kind == REF_ABS64 && at < part->bytes)
			riffle_put64(stale + at, riffle_get64(stale + at) + p->delta);
		if (ref->kind == REF_ABS32 && at < part->bytes)
			riffle_put32(stale + at, riffle_get32(stale + at) + (uint32_t)p->delta);
		if (ref->kind == REF_PC32 && ref->target == TARGET_STAYS && at < part->bytes)
			riffle_put32(stale + at, riffle_get32(stale + at) - (uint32_t)p->delta);
	}
	to = p->slid ? verify_slid_place(p, loaded, part->offset) : loaded + part->offset;
	changed = memcmp(stale, to, part->bytes) != 0;
	memcpy(to, stale, part->bytes);
	free(stale);
	return changed;
}

/* The middle one of the references of a kind that this layout changes, left as it was linked. */
static bool spoil_reference(const struct verify *v, const struct places *p, unsigned part, uint8_t *loaded)
{
	size_t count = 0, seen = 0;

	for (int pass = 0; pass < 2; pass++)
		for (size_t i = 0; i < v->ref_count; i++) {
			const struct ref *ref = &v->ref[i];
			unsigned bytes = ref->kind == REF_ABS64 ? 8 : ref->kind == REF_PC8 ? 1 : 4;
			uint8_t *to = (p->slid ? verify_slid_place(p, loaded, ref->field) : loaded + ref->field) +
				      place_shift(p, ref->field);

			if (ref->part != part || !memcmp(to, v->bytes + ref->field, bytes))
				continue;
			if (!pass)
				count++;
			else if (seen++ == count / 2) {
				memcpy(to, v->bytes + ref->field, bytes);
				return true;
			}
		}
	return false;
}

bool verify_spoil(const struct verify *v, const struct riffle_plan *plan, const struct riffle_layout *layout,
		  const char *name, uint8_t *loaded, struct riffle_error *error)
{
	struct places p;
	bool changed = false;

	if (verify_places(&p, v, plan, layout, error))
		return false;
	for (unsigned i = 0; i < v->part_count; i++)
		if (!strcmp(v->part[i].name, name))
			changed = v->part[i].bytes ? spoil_table(v, &p, &v->part[i], loaded)
						   : spoil_reference(v, &p, i, loaded);
	verify_places_free(&p);
	if (!changed)
		riffle_fail(error, RIFFLE_ERR_ARGUMENT, "spoil",
			    "changes nothing: this kernel has no such part, or the layout "
			    "leaves it as it is");
	return changed;
}
