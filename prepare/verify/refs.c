/* SPDX-License-Identifier: Apache-2.0 */
/* The references of a kernel, from all who know some: collected, then one left for each field. */
#include <stdio.h>
#include <stdlib.h>

#include "common/search.h"
#include "prepare/verify/internal.h"

int verify_new_part(struct verify *v, const char *name, uint32_t offset, uint32_t bytes, uint8_t *part,
		    struct riffle_error *error)
{
	if (v->part_count == PARTS_MAX)
		return riffle_fail(error, RIFFLE_ERR_UNSUPPORTED, "tables", "are too many");
	*part = (uint8_t)v->part_count;
	v->part[v->part_count] = (struct part){.offset = offset, .bytes = bytes};
	snprintf(v->part[v->part_count].name, sizeof v->part->name, "%s", name);
	for (char *c = v->part[v->part_count].name; *c; c++)
		*c = verify_printable(*c);
	v->part_count++;
	return 0;
}

int verify_add_ref(struct verify *v, const struct ref *ref, struct riffle_error *error)
{
	if (v->ref_count == v->ref_room) {
		size_t room = v->ref_room ? 2 * v->ref_room : 1u << 16;
		struct ref *more = reallocarray(v->ref, room, sizeof *more);

		if (!more)
			return riffle_fail(error, RIFFLE_ERR_MEMORY, "verify", "out of memory");
		v->ref = more;
		v->ref_room = room;
	}
	v->ref[v->ref_count++] = *ref;
	v->part[ref->part].fields++;
	return 0;
}

uint32_t verify_meant(const struct verify *v, uint32_t target)
{
	const struct symbol *symbol =
	    v->code_count && target == v->code[0].offset + 4095 ? verify_symbol_at(v, target) : NULL;

	return symbol && symbol->offset != target ? v->code[0].offset : target;
}

/* Start-up and hibernation code uses physical addresses, as if the kernel lay where it was linked to (__pa_symbol()).
 */
static bool is_physical(const struct verify *v, uint64_t value, uint32_t *target)
{
	if (value < v->image->link_phys || value - v->image->link_phys >= v->image_bytes)
		return false;
	*target = (uint32_t)(value - v->image->link_phys);
	return true;
}

static int add_list(struct verify *v, const char *name, const struct image_relocs *list, enum ref_kind kind,
		    struct riffle_error *error)
{
	unsigned bytes = kind == REF_ABS64 ? 8 : 4;
	uint8_t part;
	int status;

	if (!list->count)
		return 0;
	status = verify_new_part(v, name, 0, 0, &part, error);
	for (uint32_t i = 0; i < list->count && !status; i++) {
		struct ref ref = {.field = list->offset[i], .kind = (uint8_t)kind, .part = part, .rank = RANK_LIST};
		uint64_t value;

		if (!riffle_inside(ref.field, bytes, v->image_bytes))
			return riffle_fail_found(error, RIFFLE_ERR_FORMAT, name, "lies outside the image", ref.field);
		value = kind == REF_ABS64 ? riffle_get64(v->bytes + ref.field)
					  : (uint64_t)(int32_t)riffle_get32(v->bytes + ref.field);
		if (kind == REF_PC32)
			ref.target = TARGET_STAYS;
		else if (!verify_offset(v, value, &ref.target) && !is_physical(v, value, &ref.target))
			ref.target = TARGET_IMAGE;
		status = verify_add_ref(v, &ref, error);
	}
	return status;
}

/* The kernel's own relocations: it applies the same ones to itself, so there is no doubt of them. */
int verify_add_list(struct verify *v, struct riffle_error *error)
{
	int status = add_list(v, "absolute64", &v->image->reloc64, REF_ABS64, error);

	if (!status)
		status = add_list(v, "absolute32", &v->image->reloc32, REF_ABS32, error);
	if (!status)
		status = add_list(v, "inverse32", &v->image->reloc32_inverse, REF_PC32, error);
	return status;
}

bool verify_is_inverse(const struct verify *v, uint32_t field)
{
	const struct image_relocs *list = &v->image->reloc32_inverse;
	uint32_t i = riffle_first_at_least(list->offset, list->count, field);

	return i < list->count && list->offset[i] == field;
}

bool verify_has_ref(const struct verify *v, uint32_t field)
{
	size_t i;

	RIFFLE_FIRST_WHERE(i, v->ref_count, v->ref[i].field >= field);
	return i < v->ref_count && v->ref[i].field == field;
}

static bool is_in(const struct sorted *sorted, uint32_t field, uint32_t stride)
{
	return field >= sorted->offset && (field - sorted->offset) / stride < sorted->entries;
}

bool verify_is_sorted(const struct verify *v, uint32_t field)
{
	return is_in(&v->extable, field, 12) || is_in(&v->orc, field, 4) || is_in(&v->mcount, field, 8);
}

static int by_field(const void *a, const void *b)
{
	const struct ref *x = a, *y = b;

	if (x->field != y->field)
		return x->field < y->field ? -1 : 1;
	return (y->rank > x->rank) - (y->rank < x->rank);
}

static unsigned ref_bytes(const struct ref *ref)
{
	return ref->kind == REF_ABS64 ? 8 : ref->kind == REF_PC8 ? 1 : 4;
}

/*
 * Counts how the relocations that the linker left agree with what others read: a table's field leads to symbol +
 * addend, an instruction's to that and the bytes from the field to its end.
 */
static void count_rela(struct verify *v, const struct ref *rela, const struct ref *other)
{
	uint32_t behind = other ? other->target - rela->leads : 0;

	if (rela->kind == REF_ABS32 || rela->kind == REF_ABS64)
		return;
	v->rela.entries++;
	if (!other) {
		v->rela.unseen++;
		v->rela.unseen_code += rela->target < TARGET_IMAGE && verify_in_code(v, rela->target);
	}
	if (other &&
	    (other->rank == RANK_OBJDUMP ? behind >= 4 && behind <= 8 : !behind || other->target >= TARGET_IMAGE))
		v->rela.agree++;
	else if (other)
		v->rela.other_target++;
}

/*
 * References to one field, best first: whether they are the same thing read by several. What the kernel relocates as an
 * address is one: when objdump takes its bytes for a jump, they are data among the code.
 */
static int check_group(struct verify *v, const struct ref *group, size_t count, struct riffle_error *error)
{
	for (size_t i = 1; i < count; i++) {
		if (group[i].kind != group->kind && group[i].rank == RANK_OBJDUMP) {
			v->data_in_code++;
			continue;
		}
		if (group[i].kind != group->kind)
			return riffle_fail_found(error, RIFFLE_ERR_FORMAT, "reference",
						 "is read in two ways that contradict each other",
						 v->link_virt + group->field);
		if (group[i].target != group->target && group->rank < RANK_RELA && group[i].rank > RANK_RELA_SECTION)
			return riffle_fail_found(error, RIFFLE_ERR_FORMAT, "reference", "is read to lead to two places",
						 v->link_virt + group->field);
	}
	return 0;
}

/* Whether the next one takes the place of the last kept, or the other way round: false when neither is objdump's. */
static bool settle_overlap(struct verify *v, size_t *kept, const struct ref *next, bool *keep)
{
	const struct ref *last = *kept ? &v->ref[*kept - 1] : NULL;

	*keep = true;
	if (!last || last->field + ref_bytes(last) <= next->field)
		return true;
	if (next->rank == RANK_OBJDUMP && last->rank != RANK_OBJDUMP)
		*keep = false;
	else if (last->rank == RANK_OBJDUMP && next->rank != RANK_OBJDUMP)
		--*kept;
	else
		return false;
	v->data_in_code++;
	return true;
}

int verify_merge_refs(struct verify *v, struct riffle_error *error)
{
	size_t kept = 0;

	if (v->ref_count)
		qsort(v->ref, v->ref_count, sizeof *v->ref, by_field);
	for (size_t i = 0, next; i < v->ref_count; i = next) {
		const struct ref best = v->ref[i], *rela = NULL, *other = NULL;
		bool keep;
		int status;

		for (next = i; next < v->ref_count && v->ref[next].field == best.field; next++)
			if (v->ref[next].rank == RANK_RELA || v->ref[next].rank == RANK_RELA_SECTION)
				rela = &v->ref[next];
			else if (!other)
				other = &v->ref[next];
		status = check_group(v, &v->ref[i], next - i, error);
		if (status)
			return status;
		if (rela)
			count_rela(v, rela, other);
		/* the kernel relocates no other addresses than those of its list: notes, say, stay as linked */
		if (!other && (best.kind == REF_ABS32 || best.kind == REF_ABS64))
			continue;
		if (!settle_overlap(v, &kept, &best, &keep))
			return riffle_fail_found(error, RIFFLE_ERR_FORMAT, "reference", "overlaps another",
						 v->link_virt + best.field);
		if (keep)
			v->ref[kept++] = best;
	}
	v->ref_count = kept;
	return 0;
}
