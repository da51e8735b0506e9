/* SPDX-License-Identifier: Apache-2.0 */
/* Encodes chunks, references and tables as the compact streams that a load reads once, sequentially. */
#include "encode.h"

#include <stdlib.h>
#include <string.h>

#include "common/bytes.h"
#include "common/fail.h"
#include "common/plan_shape.h"
#include "common/search.h"

const unsigned encoded_entry_bytes[RIFFLE_SECTION_COUNT] = {
    [RIFFLE_SECTION_SEGMENTS] = sizeof(struct riffle_segment),
    [RIFFLE_SECTION_EXTENTS] = sizeof(struct riffle_extent),
    [RIFFLE_SECTION_RELOC64] = sizeof(uint32_t),
    [RIFFLE_SECTION_RELOC32] = sizeof(uint32_t),
    [RIFFLE_SECTION_RELOC32_INVERSE] = sizeof(uint32_t),
    [RIFFLE_SECTION_REGIONS] = sizeof(struct riffle_region),
    [RIFFLE_SECTION_CHUNKS] = sizeof(struct riffle_chunk),
    [RIFFLE_SECTION_GROUPS] = sizeof(struct riffle_group),
    [RIFFLE_SECTION_PC_STEPS] = sizeof(uint8_t),
    [RIFFLE_SECTION_PC_TARGETS] = sizeof(uint16_t),
    [RIFFLE_SECTION_OWN_STEPS] = sizeof(uint8_t),
    [RIFFLE_SECTION_ABS32_REFS] = sizeof(struct riffle_ref),
    [RIFFLE_SECTION_ABS64_REFS] = sizeof(struct riffle_ref),
    [RIFFLE_SECTION_FIXED32] = sizeof(uint32_t),
    [RIFFLE_SECTION_FIXED32_TARGETS] = sizeof(uint16_t),
    [RIFFLE_SECTION_FIXED64] = sizeof(uint32_t),
    [RIFFLE_SECTION_FIXED64_TARGETS] = sizeof(uint16_t),
    [RIFFLE_SECTION_TABLES] = sizeof(struct riffle_table),
    [RIFFLE_SECTION_GAPS] = sizeof(uint32_t),
    [RIFFLE_SECTION_SITE_TARGETS] = sizeof(uint16_t),
    [RIFFLE_SECTION_EXTABLE_TARGETS] = sizeof(uint16_t),
    [RIFFLE_SECTION_KALLSYMS] = sizeof(struct riffle_kallsyms),
    [RIFFLE_SECTION_FRAMES] = sizeof(struct riffle_frame),
    [RIFFLE_SECTION_BLOCKS] = sizeof(struct riffle_block),
    [RIFFLE_SECTION_CROSS32] = sizeof(uint32_t),
    [RIFFLE_SECTION_CROSS32_BLOCKS] = sizeof(uint8_t),
    [RIFFLE_SECTION_CROSS_TABLES] = sizeof(struct riffle_cross_table),
};

_Static_assert(SHUFFLE_REGIONS_MAX <= PLAN_REGIONS_MAX, "the analysis keeps to what a plan can hold");
_Static_assert(SHUFFLE_CHUNKS_MAX < RIFFLE_CHUNKS_MAX, "the analysis keeps to what a plan can hold");

struct encoder {
	struct encoded *out;
	uint32_t room[RIFFLE_SECTION_COUNT];
	const struct riffle_image *image;
	const struct shuffle *shuffle;
	struct riffle_chunk *chunk; /* out's; does not move once chunks are made */
	uint32_t chunks;
	uint8_t *bytes;       /* the image, flat */
	uint32_t absolute[3]; /* fields met in chunks, by kind from SHUFFLE_ABS32 on */
	struct riffle_error *error;
};

/* Room for one more entry of a section, zeroed; NULL if there is no memory. */
static void *append(struct encoder *e, enum riffle_section_kind kind)
{
	struct encoded *out = e->out;
	unsigned size = encoded_entry_bytes[kind];
	uint8_t *entry;

	if (out->count[kind] == e->room[kind]) {
		uint32_t room = e->room[kind] ? 2 * e->room[kind] : 1024;
		void *entries = reallocarray(out->entries[kind], room, size);

		if (!entries) {
			riffle_fail(e->error, RIFFLE_ERR_MEMORY, "plan", "no memory for its sections");
			return NULL;
		}
		out->entries[kind] = entries;
		e->room[kind] = room;
	}
	entry = (uint8_t *)out->entries[kind] + (size_t)out->count[kind]++ * size;
	return memset(entry, 0, size);
}

static int append16(struct encoder *e, enum riffle_section_kind kind, uint32_t value)
{
	uint16_t *entry = append(e, kind);

	if (!entry)
		return RIFFLE_ERR_MEMORY;
	*entry = (uint16_t)value;
	return 0;
}

static int append32(struct encoder *e, enum riffle_section_kind kind, uint32_t value)
{
	uint32_t *entry = append(e, kind);

	if (!entry)
		return RIFFLE_ERR_MEMORY;
	*entry = value;
	return 0;
}

static int refuse(struct encoder *e, const char *field, const char *problem, uint32_t offset)
{
	return riffle_fail_found(e->error, RIFFLE_ERR_UNSUPPORTED, field, problem, e->image->link_virt + offset);
}

/* The chunk that an image offset lies in, or the count of chunks. */
static uint32_t chunk_of(const struct encoder *e, uint32_t offset)
{
	uint32_t i;

	RIFFLE_FIRST_WHERE(i, e->chunks, e->chunk[i].image_offset + riffle_chunk_bytes(&e->chunk[i]) > offset);
	return i < e->chunks && offset >= e->chunk[i].image_offset ? i : e->chunks;
}

static int make_chunks(struct encoder *e)
{
	struct riffle_region *region = NULL;
	uint32_t end = 0;

	for (uint32_t i = 0; i < e->shuffle->range_count; i++) {
		const struct shuffle_range *range = &e->shuffle->range[i];
		struct riffle_chunk *chunk;

		if (range->pin)
			continue;
		if (range->bytes % RIFFLE_CHUNK_ALIGN || range->bytes > RIFFLE_CHUNK_BYTES_MAX)
			return refuse(e, "chunk", "is too long or of no whole number of units", range->offset);
		if (!region || range->offset != end) {
			region = append(e, RIFFLE_SECTION_REGIONS);
			if (!region)
				return RIFFLE_ERR_MEMORY;
			region->image_offset = range->offset;
			region->first_chunk = e->out->count[RIFFLE_SECTION_CHUNKS];
		}
		chunk = append(e, RIFFLE_SECTION_CHUNKS);
		if (!chunk)
			return RIFFLE_ERR_MEMORY;
		chunk->image_offset = range->offset;
		chunk->units = (uint16_t)(range->bytes / RIFFLE_CHUNK_ALIGN);
		region->bytes += range->bytes;
		region->chunk_count++;
		end = range->offset + range->bytes;
	}
	if (!e->out->count[RIFFLE_SECTION_CHUNKS])
		return riffle_fail(e->error, RIFFLE_ERR_UNSUPPORTED, "chunks", "are none: all of .text is pinned");
	if (e->out->count[RIFFLE_SECTION_CHUNKS] >= RIFFLE_CHUNKS_MAX)
		return riffle_fail_expected(e->error, RIFFLE_ERR_UNSUPPORTED, "chunks", "are too many",
					    e->out->count[RIFFLE_SECTION_CHUNKS], RIFFLE_CHUNKS_MAX - 1);
	if (e->out->count[RIFFLE_SECTION_REGIONS] > PLAN_REGIONS_MAX)
		return riffle_fail_expected(e->error, RIFFLE_ERR_UNSUPPORTED, "regions",
					    "are too many: pinned code is scattered all over .text",
					    e->out->count[RIFFLE_SECTION_REGIONS], PLAN_REGIONS_MAX);
	e->chunk = e->out->entries[RIFFLE_SECTION_CHUNKS];
	e->chunks = e->out->count[RIFFLE_SECTION_CHUNKS];
	return 0;
}

static unsigned field_bytes(unsigned kind)
{
	return kind == SHUFFLE_ABS64 ? 8 : 4;
}

/* A group whose references come in the order of their fields. */
struct group_maker {
	struct riffle_group group;
	uint32_t start;             /* of its first chunk */
	uint32_t last_pc, last_own; /* the position its steps have reached */
};

static int add_step(struct encoder *e, enum riffle_section_kind section, uint32_t distance, uint32_t *count)
{
	for (;; distance -= RIFFLE_STEP_FAR) {
		uint8_t *step = append(e, section);

		if (!step)
			return RIFFLE_ERR_MEMORY;
		++*count;
		*step = distance < RIFFLE_STEP_FAR ? (uint8_t)distance : RIFFLE_STEP_FAR;
		if (distance < RIFFLE_STEP_FAR)
			return 0;
	}
}

static int add_absolute(struct encoder *e, struct group_maker *m, const struct shuffle_ref *ref, uint32_t target)
{
	bool wide = ref->kind == SHUFFLE_ABS64;
	struct riffle_ref *out = append(e, wide ? RIFFLE_SECTION_ABS64_REFS : RIFFLE_SECTION_ABS32_REFS);

	if (!out)
		return RIFFLE_ERR_MEMORY;
	*out = (struct riffle_ref){(uint16_t)(ref->field - m->start), (uint16_t)target};
	++*(wide ? &m->group.abs64_refs : &m->group.abs32_refs);
	return 0;
}

static int add_chunk_ref(struct encoder *e, struct group_maker *m, uint32_t chunk, const struct shuffle_ref *ref)
{
	const struct riffle_chunk *c = &e->chunk[chunk];
	uint32_t target = ref->target == UINT32_MAX ? e->chunks : chunk_of(e, ref->target);
	uint32_t field = ref->field - m->start;
	int status;

	if (ref->field - c->image_offset + field_bytes(ref->kind) > riffle_chunk_bytes(c))
		return refuse(e, "reference", "lies across a chunk's end", ref->field);
	if (ref->kind != SHUFFLE_PC32)
		e->absolute[ref->kind - SHUFFLE_ABS32]++;
	if (ref->kind == SHUFFLE_ABS32 || ref->kind == SHUFFLE_ABS64)
		return target == e->chunks ? 0 : add_absolute(e, m, ref, target);
	if (ref->kind == SHUFFLE_PC32 && target == chunk)
		return 0;
	if (ref->kind == SHUFFLE_INVERSE32 || target == e->chunks) {
		status = add_step(e, RIFFLE_SECTION_OWN_STEPS, field - m->last_own, &m->group.own_steps);
		m->last_own = field;
		return status;
	}
	status = add_step(e, RIFFLE_SECTION_PC_STEPS, field - m->last_pc, &m->group.pc_steps);
	m->last_pc = field;
	m->group.pc_targets++;
	return status ? status : append16(e, RIFFLE_SECTION_PC_TARGETS, target);
}

/* Groups adjacent chunks of a region, as many as 16-bit offsets can span. */
static int make_groups(struct encoder *e)
{
	const struct riffle_region *region = e->out->entries[RIFFLE_SECTION_REGIONS];
	uint32_t next = 0, ref = 0;

	while (next < e->chunks) {
		struct group_maker m = {.start = e->chunk[next].image_offset};
		struct riffle_group *out;
		uint32_t end;
		int status = 0;

		while (next >= region->first_chunk + region->chunk_count)
			region++;
		end = region->first_chunk + region->chunk_count;
		for (; next < end; next++, m.group.chunk_count++) {
			uint32_t stop = e->chunk[next].image_offset + riffle_chunk_bytes(&e->chunk[next]);

			if (stop - m.start > RIFFLE_GROUP_BYTES_MAX)
				break;
			while (ref < e->shuffle->ref_count && e->shuffle->ref[ref].field < e->chunk[next].image_offset)
				ref++;
			for (; !status && ref < e->shuffle->ref_count && e->shuffle->ref[ref].field < stop; ref++)
				status = add_chunk_ref(e, &m, next, &e->shuffle->ref[ref]);
			if (status)
				return status;
		}
		out = append(e, RIFFLE_SECTION_GROUPS);
		if (!out)
			return RIFFLE_ERR_MEMORY;
		*out = m.group;
	}
	return 0;
}

static int add_fixed_ref(struct encoder *e, const struct shuffle_ref *ref)
{
	uint32_t target = ref->target == UINT32_MAX ? e->chunks : chunk_of(e, ref->target);
	bool wide = ref->kind == SHUFFLE_ABS64;
	int status;

	if (target == e->chunks)
		return 0;
	status = append32(e, wide ? RIFFLE_SECTION_FIXED64 : RIFFLE_SECTION_FIXED32, ref->field);
	return status ? status
		      : append16(e, wide ? RIFFLE_SECTION_FIXED64_TARGETS : RIFFLE_SECTION_FIXED32_TARGETS, target);
}

/* fewer entries are smaller as single references */
#define SITES_MIN 512u
/* a row of sites may include entries that a shuffle does not change */
#define SITES_GAP_BYTES 64u

static bool has_relocs(const struct image_relocs *list, uint32_t start, uint32_t end)
{
	uint32_t i;

	RIFFLE_FIRST_WHERE(i, list->count, list->offset[i] + 8 > start);
	return i < list->count && list->offset[i] < end;
}

/*
 * A row of PC-relative references in fixed data, four bytes apart, becomes a table if that is smaller: the kernel's
 * lists of return, retpoline and call sites, in which the fields' offsets are implicit. Returns how many references
 * were used, 0 if there is no such row (which ends at *row_end), or -1 with the error filled in.
 */
static int32_t make_sites(struct encoder *e, uint32_t first, uint32_t *row_end)
{
	const struct shuffle_ref *ref = e->shuffle->ref;
	uint32_t end = first + 1, start = ref[first].field, stop;
	struct riffle_table table = {.kind = RIFFLE_TABLE_SITES, .image_offset = start}, *place;
	uint32_t next = first;

	while (end < e->shuffle->ref_count && ref[end].kind == SHUFFLE_PC32 &&
	       (ref[end].field - ref[end - 1].field) % 4 == 0 &&
	       ref[end].field - ref[end - 1].field <= SITES_GAP_BYTES && chunk_of(e, ref[end].field) == e->chunks)
		end++;
	*row_end = end;
	stop = ref[end - 1].field + 4;
	/* two bytes per entry, some of which may be unused, against six per single reference */
	if (end - first < SITES_MIN || (stop - start) / 4 >= (end - first) * 3 ||
	    e->out->count[RIFFLE_SECTION_TABLES] >= PLAN_TABLES_MAX - 4 ||
	    has_relocs(&e->image->reloc64, start, stop) || has_relocs(&e->image->reloc32, start, stop) ||
	    has_relocs(&e->image->reloc32_inverse, start, stop))
		return 0;
	table.first = e->out->count[RIFFLE_SECTION_SITE_TARGETS];
	for (uint32_t at = start; at < stop; at += 4) {
		uint32_t chunk = ref[next].field == at ? chunk_of(e, ref[next++].target) : e->chunks;

		if (append16(e, RIFFLE_SECTION_SITE_TARGETS, chunk))
			return -1;
		table.entries++;
	}
	place = append(e, RIFFLE_SECTION_TABLES);
	if (!place)
		return -1;
	*place = table;
	return (int32_t)(end - first);
}

/* References to chunks from what does not move. */
static int make_fixed_refs(struct encoder *e)
{
	const struct shuffle_ref *ref = e->shuffle->ref;
	uint32_t row_end = 0;

	for (uint32_t i = 0; i < e->shuffle->ref_count;) {
		/* a row of sites that is not smaller as a table is not tried again from its second entry */
		int32_t used = 0;
		int status;

		if (chunk_of(e, ref[i].field) != e->chunks) {
			i++;
			continue;
		}
		if (ref[i].kind == SHUFFLE_PC32 && i >= row_end)
			used = make_sites(e, i, &row_end);
		if (used < 0)
			return RIFFLE_ERR_MEMORY;
		status = used ? 0 : add_fixed_ref(e, &ref[i]);
		if (status)
			return status;
		i += used ? (uint32_t)used : 1;
	}
	return 0;
}

/* A load takes a chunk's absolute fields from the kernel's relocations, so these must be exactly the references. */
static int check_relocs(struct encoder *e, const struct image_relocs *list, unsigned kind)
{
	uint32_t expected = 0, found = e->absolute[kind - SHUFFLE_ABS32];

	for (uint32_t i = 0; i < list->count; i++)
		expected += chunk_of(e, list->offset[i]) < e->chunks;
	if (found != expected)
		return riffle_fail_expected(e->error, RIFFLE_ERR_UNSUPPORTED, "absolute references in chunks",
					    "are not the relocations there", found, expected);
	return 0;
}

/* Where a table's entry points: image offset, or UINT32_MAX for one that points nowhere (an emptied mcount entry). */
static uint32_t entry_target(const struct encoder *e, const struct riffle_table *table, uint32_t index)
{
	uint32_t at = table->image_offset + index * plan_table_entry_bytes(table->kind);
	uint64_t address;

	if (table->kind != RIFFLE_TABLE_MCOUNT)
		return at + riffle_get32(e->bytes + at);
	address = riffle_get64(e->bytes + at) - e->image->link_virt;
	return address < e->image->image_bytes ? (uint32_t)address : UINT32_MAX;
}

static int add_exception_targets(struct encoder *e, const struct shuffle_table *table, uint32_t at)
{
	uint32_t fixup = at + 4 + riffle_get32(e->bytes + at + 4);
	uint32_t third = at + 8 + riffle_get32(e->bytes + at + 8);
	int status = append16(e, RIFFLE_SECTION_EXTABLE_TARGETS, chunk_of(e, fixup));

	if (status)
		return status;
	return append16(e, RIFFLE_SECTION_EXTABLE_TARGETS, table->third_is_pointer ? chunk_of(e, third) : UINT16_MAX);
}

static uint16_t *count_of(struct riffle_chunk *chunk, uint32_t kind)
{
	switch (kind) {
	case RIFFLE_TABLE_EXTABLE:
		return &chunk->exceptions;
	case RIFFLE_TABLE_ORC:
		return &chunk->orc;
	default:
		return &chunk->mcount;
	}
}

/*
 * A walk along a sorted table: a chunk's entries are adjacent, in the order of the chunks, and entries that do not move
 * lie before the first region, between two, or after the last.
 */
struct rows {
	const char *name;
	uint32_t first_gap, last; /* chunk of the entry before, of those that move */
	uint32_t over;            /* number of regions whose entries are complete, because a fixed entry followed */
	bool any;
};

static int start_rows(struct encoder *e, struct rows *rows, const char *name)
{
	*rows = (struct rows){.name = name, .first_gap = e->out->count[RIFFLE_SECTION_GAPS]};
	for (uint32_t i = 0; i <= e->out->count[RIFFLE_SECTION_REGIONS]; i++)
		if (append32(e, RIFFLE_SECTION_GAPS, 0))
			return RIFFLE_ERR_MEMORY;
	return 0;
}

/* The region that a chunk is in. */
static uint32_t region_of(const struct encoder *e, uint32_t chunk)
{
	const struct riffle_region *region = e->out->entries[RIFFLE_SECTION_REGIONS];
	uint32_t i;

	RIFFLE_FIRST_WHERE(i, e->out->count[RIFFLE_SECTION_REGIONS],
			   region[i].first_chunk + region[i].chunk_count > chunk);
	return i;
}

/* Counts `amount` for the chunk of the table's next entry, or for the gap that it is in. `offset` is reported in
 * errors.
 */
static int add_to_row(struct encoder *e, struct rows *rows, uint32_t chunk, uint16_t *count, uint32_t amount,
		      uint32_t offset)
{
	uint32_t *gap = (uint32_t *)e->out->entries[RIFFLE_SECTION_GAPS] + rows->first_gap;

	if (chunk == e->chunks) {
		/* a region's addresses are all chunks, so a fixed entry comes before or after a region's entries
		 */
		rows->over = rows->any ? region_of(e, rows->last) + 1 : 0;
		gap[rows->over] += amount;
		return 0;
	}
	if ((rows->any && chunk < rows->last) || region_of(e, chunk) < rows->over)
		return refuse(e, rows->name, "is not sorted by address", offset);
	if (amount > (uint32_t)(UINT16_MAX - *count))
		return refuse(e, rows->name, "has too many entries of one chunk", offset);
	*count = (uint16_t)(*count + amount);
	rows->last = chunk;
	rows->any = true;
	return 0;
}

static int make_table(struct encoder *e, const struct shuffle_table *from)
{
	static const uint32_t kinds[] = {[SHUFFLE_TABLE_EXTABLE] = RIFFLE_TABLE_EXTABLE,
					 [SHUFFLE_TABLE_ORC] = RIFFLE_TABLE_ORC,
					 [SHUFFLE_TABLE_MCOUNT] = RIFFLE_TABLE_MCOUNT};
	struct riffle_table table = {.kind = kinds[from->kind],
				     .image_offset = from->offset,
				     .second_offset = from->kind == SHUFFLE_TABLE_ORC ? from->second : 0,
				     .entries = from->entries,
				     .first = e->out->count[RIFFLE_SECTION_GAPS]},
			    *place;
	struct rows rows;
	int status = start_rows(e, &rows, "sorted table");

	for (uint32_t i = 0; !status && i < from->entries; i++) {
		uint32_t target = entry_target(e, &table, i);
		uint32_t chunk = target == UINT32_MAX ? e->chunks : chunk_of(e, target);

		status = add_to_row(e, &rows, chunk, count_of(&e->chunk[chunk < e->chunks ? chunk : 0], table.kind), 1,
				    table.image_offset);
		if (!status && table.kind == RIFFLE_TABLE_EXTABLE)
			status = add_exception_targets(e, from, table.image_offset + 12 * i);
	}
	place = status ? NULL : append(e, RIFFLE_SECTION_TABLES);
	if (!place)
		return status ? status : RIFFLE_ERR_MEMORY;
	*place = table;
	return 0;
}

/* Image offset of a symbol, UINT32_MAX for one that is not in the image (percpu, absolute). */
static uint32_t symbol_offset(const struct encoder *e, const struct shuffle_kallsyms *k, uint32_t index)
{
	uint32_t at = k->offsets + 4 * index;
	int32_t value = (int32_t)riffle_get32(e->bytes + at);
	uint64_t offset;

	if (k->self_relative)
		offset = (uint64_t)at + (uint64_t)(int64_t)value;
	else if (k->absolute_percpu && value >= 0)
		return UINT32_MAX;
	else if (k->absolute_percpu)
		offset = k->relative_base - 1 - (uint64_t)(int64_t)value - e->image->link_virt;
	else
		offset = k->relative_base + (uint32_t)value - e->image->link_virt;
	return offset < e->image->image_bytes ? (uint32_t)offset : UINT32_MAX;
}

static uint32_t name_length(const uint8_t *name, uint32_t room)
{
	uint32_t length = room ? name[0] : 0, head = 1;

	if (length & 0x80 && room > 1) {
		length = (length & 0x7f) | (uint32_t)name[1] << 7;
		head = 2;
	}
	return head + length;
}

static int make_symbol_rows(struct encoder *e, const struct shuffle_kallsyms *k)
{
	struct rows symbols, names;
	uint32_t name = 0;
	int status;

	if ((status = start_rows(e, &symbols, "kallsyms")) || (status = start_rows(e, &names, "kallsyms names")))
		return status;
	for (uint32_t i = 0; i < k->count; i++) {
		uint32_t offset = symbol_offset(e, k, i);
		uint32_t chunk = offset == UINT32_MAX ? e->chunks : chunk_of(e, offset);
		uint32_t length = name_length(e->bytes + k->names + name, k->names_bytes - name);
		struct riffle_chunk *c = &e->chunk[chunk < e->chunks ? chunk : 0];

		if (length > k->names_bytes - name)
			return refuse(e, "kallsyms names", "lead past their end", k->names);
		name += length;
		if ((status = add_to_row(e, &symbols, chunk, &c->symbols, 1, offset)) ||
		    (status = add_to_row(e, &names, chunk, &c->name_bytes, length, offset)))
			return status;
	}
	if (name != k->names_bytes)
		return refuse(e, "kallsyms names", "are not all used", k->names + name);
	return 0;
}

static int make_kallsyms(struct encoder *e)
{
	const struct shuffle_kallsyms *k = &e->shuffle->kallsyms;
	struct riffle_kallsyms *out;
	int status;

	if (!k->present)
		return 0;
	out = append(e, RIFFLE_SECTION_KALLSYMS);
	if (!out)
		return RIFFLE_ERR_MEMORY;
	*out = (struct riffle_kallsyms){
	    .flags = (k->self_relative ? RIFFLE_KALLSYMS_SELF_RELATIVE : 0) |
		     (k->absolute_percpu ? RIFFLE_KALLSYMS_ABSOLUTE_PERCPU : 0),
	    .symbols = k->count,
	    .offsets = k->offsets,
	    .names = k->names,
	    .names_bytes = k->names_bytes,
	    .markers = k->markers,
	    .seqs = k->seqs,
	    .first_gap = e->out->count[RIFFLE_SECTION_GAPS],
	};
	status = make_symbol_rows(e, k);
	for (uint32_t i = 0; !status && k->seqs && i < k->count; i++) {
		const uint8_t *seq = e->bytes + k->seqs + 3 * (size_t)i;
		uint32_t symbol = (uint32_t)seq[0] << 16 | (uint32_t)seq[1] << 8 | seq[2];

		if (symbol >= k->count)
			status =
			    refuse(e, "kallsyms by-name sequence", "names a symbol that is not there", k->seqs + 3 * i);
	}
	return status;
}

/* The analysis has checked every offset used here against the image; this checks again.
 */
static int check_bounds(struct encoder *e)
{
	const struct shuffle_kallsyms *k = &e->shuffle->kallsyms;
	uint64_t image = e->image->image_bytes;

	for (unsigned i = 0; i < e->shuffle->table_count; i++) {
		const struct shuffle_table *t = &e->shuffle->table[i];
		uint64_t entry = t->kind == SHUFFLE_TABLE_EXTABLE ? 12 : t->kind == SHUFFLE_TABLE_ORC ? 4 : 8;

		if (!riffle_inside(t->offset, t->entries * entry, image))
			return refuse(e, "sorted table", "leads outside the image", t->offset);
	}
	if (k->present && (!riffle_inside(k->offsets, (uint64_t)k->count * 4, image) ||
			   !riffle_inside(k->names, k->names_bytes, image) ||
			   (k->seqs && !riffle_inside(k->seqs, (uint64_t)k->count * 3, image))))
		return refuse(e, "kallsyms", "leads outside the image", k->offsets);
	return 0;
}

static uint8_t *flatten(const struct riffle_image *image)
{
	uint8_t *bytes = calloc(1, image->image_bytes);

	for (unsigned i = 0; bytes && i < image->segment_count; i++)
		memcpy(bytes + (image->segment[i].phys - image->link_phys), image->segment[i].bytes,
		       image->segment[i].file_bytes);
	return bytes;
}

/* What slides is in the terms of the format already. */
static int make_slides(struct encoder *e)
{
	const struct shuffle_slides *s = &e->shuffle->slides;

	for (uint32_t i = 0; i < s->block_count; i++) {
		struct riffle_block *block = append(e, RIFFLE_SECTION_BLOCKS);

		if (!block)
			return RIFFLE_ERR_MEMORY;
		*block = s->block[i];
	}
	if (!s->block_count)
		return 0;
	for (uint32_t i = 0; i < s->cross_count; i++) {
		uint8_t *block = append(e, RIFFLE_SECTION_CROSS32_BLOCKS);

		if (!block || append32(e, RIFFLE_SECTION_CROSS32, s->cross[i].field))
			return RIFFLE_ERR_MEMORY;
		*block = (uint8_t)s->cross[i].block;
	}
	for (uint32_t i = 0; i < s->table_count; i++) {
		struct riffle_cross_table *table = append(e, RIFFLE_SECTION_CROSS_TABLES);

		if (!table)
			return RIFFLE_ERR_MEMORY;
		*table = s->table[i];
	}
	return 0;
}

static int encode(struct encoder *e)
{
	int status;

	if ((status = check_bounds(e)) || (status = make_chunks(e)) || (status = make_groups(e)) ||
	    (status = make_fixed_refs(e)) || (status = check_relocs(e, &e->image->reloc64, SHUFFLE_ABS64)) ||
	    (status = check_relocs(e, &e->image->reloc32, SHUFFLE_ABS32)) ||
	    (status = check_relocs(e, &e->image->reloc32_inverse, SHUFFLE_INVERSE32)))
		return status;
	for (unsigned i = 0; i < e->shuffle->table_count; i++)
		if ((status = make_table(e, &e->shuffle->table[i])))
			return status;
	status = make_kallsyms(e);
	return status ? status : make_slides(e);
}

int encode_shuffle(struct encoded *encoded, const struct riffle_image *image, const struct shuffle *shuffle,
		   struct riffle_error *error)
{
	struct encoder e = {.out = encoded, .image = image, .shuffle = shuffle, .error = error};
	struct riffle_error own;
	int status;

	if (!e.error)
		e.error = &own;
	memset(encoded, 0, sizeof *encoded);
	e.bytes = flatten(image);
	status = e.bytes ? encode(&e) : riffle_fail(e.error, RIFFLE_ERR_MEMORY, "plan", "no memory for the image");
	free(e.bytes);
	if (status)
		encoded_free(encoded);
	return status;
}

void encoded_free(struct encoded *encoded)
{
	for (unsigned i = 0; i < RIFFLE_SECTION_COUNT; i++)
		free(encoded->entries[i]);
	memset(encoded, 0, sizeof *encoded);
}
