/* SPDX-License-Identifier: Apache-2.0 */
/* Turns chunks, references and tables into the compact streams that a load reads once, front to back. */
#include "encode.h"

#include <stdlib.h>
#include <string.h>

#include "common/bytes.h"
#include "common/fail.h"
#include "plan/areas.h"

const unsigned encoded_entry_bytes[RIFFLE_SECTION_COUNT] = {
	[RIFFLE_SECTION_SEGMENTS] = sizeof(struct riffle_segment),
	[RIFFLE_SECTION_EXTENTS] = sizeof(struct riffle_extent),
	[RIFFLE_SECTION_RELOC64] = sizeof(uint32_t),
	[RIFFLE_SECTION_RELOC32] = sizeof(uint32_t),
	[RIFFLE_SECTION_RELOC32_INVERSE] = sizeof(uint32_t),
	[RIFFLE_SECTION_REGIONS] = sizeof(struct riffle_region),
	[RIFFLE_SECTION_CHUNKS] = sizeof(struct riffle_chunk),
	[RIFFLE_SECTION_CHUNK_REFS] = sizeof(struct riffle_chunk_ref),
	[RIFFLE_SECTION_FIXED32] = sizeof(uint32_t),
	[RIFFLE_SECTION_FIXED32_TARGETS] = sizeof(uint16_t),
	[RIFFLE_SECTION_FIXED64] = sizeof(uint32_t),
	[RIFFLE_SECTION_FIXED64_TARGETS] = sizeof(uint16_t),
	[RIFFLE_SECTION_TABLES] = sizeof(struct riffle_table),
	[RIFFLE_SECTION_RUNS] = sizeof(struct riffle_run),
	[RIFFLE_SECTION_EXTABLE_TARGETS] = sizeof(uint16_t),
	[RIFFLE_SECTION_KALLSYMS] = sizeof(struct riffle_kallsyms),
	[RIFFLE_SECTION_KALLSYMS_RUNS] = sizeof(struct riffle_symbol_run),
	[RIFFLE_SECTION_FRAMES] = sizeof(struct riffle_frame),
};

struct encoder {
	struct encoded *out;
	uint32_t room[RIFFLE_SECTION_COUNT];
	const struct riffle_image *image;
	const struct shuffle *shuffle;
	struct riffle_chunk *chunk;     /* out's; stays where it is once chunks are made */
	uint32_t chunks;
	uint8_t *bytes;                 /* the image, flat */
	struct riffle_error *error;
};

/* Room for one more entry of a section, zeroed; NULL when there is no memory. */
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
	uint32_t low = 0, high = e->chunks;

	while (low < high) {
		uint32_t middle = low + (high - low) / 2;

		if (e->chunk[middle].image_offset + e->chunk[middle].bytes <= offset)
			low = middle + 1;
		else
			high = middle;
	}
	return low < e->chunks && offset >= e->chunk[low].image_offset ? low : e->chunks;
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
		chunk->bytes = range->bytes;
		region->bytes += range->bytes;
		region->chunk_count++;
		end = range->offset + range->bytes;
	}
	if (!e->out->count[RIFFLE_SECTION_CHUNKS] || e->out->count[RIFFLE_SECTION_CHUNKS] >= RIFFLE_CHUNKS_MAX)
		return riffle_fail_found(e->error, RIFFLE_ERR_UNSUPPORTED, "chunks", "are none or too many",
					 e->out->count[RIFFLE_SECTION_CHUNKS]);
	if (e->out->count[RIFFLE_SECTION_REGIONS] > PLAN_REGIONS_MAX)
		return riffle_fail_expected(e->error, RIFFLE_ERR_UNSUPPORTED, "regions",
					    "are too many: pinned code lies all over the text",
					    e->out->count[RIFFLE_SECTION_REGIONS], PLAN_REGIONS_MAX);
	e->chunk = e->out->entries[RIFFLE_SECTION_CHUNKS];
	e->chunks = e->out->count[RIFFLE_SECTION_CHUNKS];
	return 0;
}

static uint16_t *counter_of(struct riffle_chunk *chunk, unsigned kind)
{
	switch (kind) {
	case SHUFFLE_PC32:
		return &chunk->pc32;
	case SHUFFLE_ABS32:
		return &chunk->abs32;
	case SHUFFLE_ABS64:
		return &chunk->abs64;
	default:
		return &chunk->inverse32;
	}
}

static unsigned field_bytes(unsigned kind)
{
	return kind == SHUFFLE_ABS64 ? 8 : 4;
}

/* One chunk's references of one kind, in the order of their fields. */
static int add_chunk_refs(struct encoder *e, uint32_t chunk, uint32_t first, uint32_t end, unsigned kind)
{
	struct riffle_chunk *c = &e->chunk[chunk];

	for (uint32_t i = first; i < end; i++) {
		const struct shuffle_ref *ref = &e->shuffle->ref[i];
		uint32_t target = ref->target == UINT32_MAX ? e->chunks : chunk_of(e, ref->target);
		struct riffle_chunk_ref *out;

		if (ref->kind != kind || (kind == SHUFFLE_PC32 && target == chunk))
			continue;
		if (ref->field - c->image_offset + field_bytes(kind) > c->bytes)
			return refuse(e, "reference", "lies across a chunk's end", ref->field);
		out = append(e, RIFFLE_SECTION_CHUNK_REFS);
		if (!out)
			return RIFFLE_ERR_MEMORY;
		*out = (struct riffle_chunk_ref){(uint16_t)(ref->field - c->image_offset), (uint16_t)target};
		++*counter_of(c, kind);
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

/* Adds `entries` of one chunk to a table's runs; a chunk's must be neighbours, a fixed run may be cut. */
static int add_run(struct encoder *e, struct riffle_table *table, uint32_t chunk)
{
	struct riffle_run *last = e->out->entries[RIFFLE_SECTION_RUNS], *run;

	if (table->run_count) {
		last += e->out->count[RIFFLE_SECTION_RUNS] - 1;
		if (last->chunk == chunk && last->entries < UINT16_MAX) {
			last->entries++;
			return 0;
		}
	}
	run = append(e, RIFFLE_SECTION_RUNS);
	if (!run)
		return RIFFLE_ERR_MEMORY;
	*run = (struct riffle_run){(uint16_t)chunk, 1};
	table->run_count++;
	return 0;
}

/* fewer of them cost less as single references */
#define SITES_MIN 512u
/* a row of sites may have entries in between that no shuffle changes */
#define SITES_GAP_BYTES 64u

static bool has_relocs(const struct image_relocs *list, uint32_t start, uint32_t end)
{
	uint32_t low = 0, high = list->count;

	while (low < high) {
		uint32_t middle = low + (high - low) / 2;

		if (list->offset[middle] + 8 <= start)
			low = middle + 1;
		else
			high = middle;
	}
	return low < list->count && list->offset[low] < end;
}

/*
 * A row of PC-relative references in fixed places, four bytes apart, becomes a table of runs when that is smaller:
 * the kernel's lists of return, retpoline and call sites are in the order of the code, so that a chunk's are
 * neighbours. Returns how many references were used, 0 when it is no such row (which ends at *row_end), or -1 with the
 * error filled.
 */
static int32_t make_sites(struct encoder *e, uint32_t first, uint32_t *row_end)
{
	const struct shuffle_ref *ref = e->shuffle->ref;
	uint32_t end = first + 1, runs = 1, start = ref[first].field, stop;
	struct riffle_table table = {.kind = RIFFLE_TABLE_SITES, .image_offset = start}, *place;
	uint32_t next = first;

	while (end < e->shuffle->ref_count && ref[end].kind == SHUFFLE_PC32 &&
	       (ref[end].field - ref[end - 1].field) % 4 == 0 &&
	       ref[end].field - ref[end - 1].field <= SITES_GAP_BYTES && chunk_of(e, ref[end].field) == e->chunks) {
		bool gap = ref[end].field - ref[end - 1].field != 4;

		runs += gap ? 2 : chunk_of(e, ref[end].target) != chunk_of(e, ref[end - 1].target);
		end++;
	}
	*row_end = end;
	stop = ref[end - 1].field + 4;
	if (end - first < SITES_MIN || runs * sizeof(struct riffle_run) >= (size_t)(end - first) * 6 ||
	    e->out->count[RIFFLE_SECTION_TABLES] >= PLAN_TABLES_MAX - 4 || has_relocs(&e->image->reloc64, start, stop) ||
	    has_relocs(&e->image->reloc32, start, stop) || has_relocs(&e->image->reloc32_inverse, start, stop))
		return 0;
	table.first_run = e->out->count[RIFFLE_SECTION_RUNS];
	for (uint32_t at = start; at < stop; at += 4) {
		uint32_t chunk = e->chunks;

		if (ref[next].field == at)
			chunk = chunk_of(e, ref[next++].target);
		if (add_run(e, &table, chunk))
			return -1;
		table.entries++;
	}
	place = append(e, RIFFLE_SECTION_TABLES);
	if (!place)
		return -1;
	*place = table;
	return (int32_t)(end - first);
}

static int make_refs(struct encoder *e)
{
	const struct shuffle_ref *ref = e->shuffle->ref;
	uint32_t count = e->shuffle->ref_count, row_end = 0;

	for (uint32_t i = 0; i < count;) {
		uint32_t chunk = chunk_of(e, ref[i].field), end = i;
		int status = 0;

		if (chunk == e->chunks) {
			/* a row of sites that does not pay is not tried again from its second entry */
			int32_t used = ref[i].kind == SHUFFLE_PC32 && i >= row_end ? make_sites(e, i, &row_end) : 0;

			if (used < 0)
				return RIFFLE_ERR_MEMORY;
			status = used ? 0 : add_fixed_ref(e, &ref[i]);
			if (status)
				return status;
			i += used ? (uint32_t)used : 1;
			continue;
		}
		while (end < count && ref[end].field - e->chunk[chunk].image_offset < e->chunk[chunk].bytes)
			end++;
		for (unsigned kind = SHUFFLE_PC32; !status && kind <= SHUFFLE_INVERSE32; kind++)
			status = add_chunk_refs(e, chunk, i, end, kind);
		if (status)
			return status;
		i = end;
	}
	return 0;
}

/* A load takes a chunk's absolute fields from its references alone: they must be the kernel's relocations, all of them. */
static int check_relocs(struct encoder *e, const struct image_relocs *list, unsigned kind)
{
	uint32_t expected = 0, found = 0;

	for (uint32_t i = 0; i < list->count; i++)
		expected += chunk_of(e, list->offset[i]) < e->chunks;
	for (uint32_t i = 0; i < e->chunks; i++)
		found += *counter_of(&e->chunk[i], kind);
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

static int make_table(struct encoder *e, const struct shuffle_table *from)
{
	static const uint32_t kinds[] = {[SHUFFLE_TABLE_EXTABLE] = RIFFLE_TABLE_EXTABLE,
					 [SHUFFLE_TABLE_ORC] = RIFFLE_TABLE_ORC,
					 [SHUFFLE_TABLE_MCOUNT] = RIFFLE_TABLE_MCOUNT};
	struct riffle_table table = {.kind = kinds[from->kind],
				     .image_offset = from->offset,
				     .second_offset = from->kind == SHUFFLE_TABLE_ORC ? from->second : 0,
				     .entries = from->entries,
				     .first_run = e->out->count[RIFFLE_SECTION_RUNS]};
	uint32_t last = 0, *place;
	int status = 0;

	for (uint32_t i = 0; !status && i < from->entries; i++) {
		uint32_t target = entry_target(e, &table, i);
		uint32_t chunk = target == UINT32_MAX ? e->chunks : chunk_of(e, target);

		if (chunk < e->chunks && chunk < last)
			return refuse(e, "sorted table", "is not sorted", table.image_offset);
		if (chunk < e->chunks)
			last = chunk;
		status = add_run(e, &table, chunk);
		if (!status && table.kind == RIFFLE_TABLE_EXTABLE)
			status = add_exception_targets(e, from, table.image_offset + 12 * i);
	}
	place = status ? NULL : append(e, RIFFLE_SECTION_TABLES);
	if (!place)
		return status ? status : RIFFLE_ERR_MEMORY;
	memcpy(place, &table, sizeof table);
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

static int make_symbol_runs(struct encoder *e, const struct shuffle_kallsyms *k)
{
	uint32_t name = 0, last = 0;
	struct riffle_symbol_run *run = NULL;

	for (uint32_t i = 0; i < k->count; i++) {
		uint32_t offset = symbol_offset(e, k, i);
		uint32_t chunk = offset == UINT32_MAX ? e->chunks : chunk_of(e, offset);

		if (chunk < e->chunks && chunk < last)
			return refuse(e, "kallsyms", "is not sorted by address", offset);
		if (chunk < e->chunks)
			last = chunk;
		if (!run || run->chunk != chunk || run->symbols == UINT16_MAX) {
			run = append(e, RIFFLE_SECTION_KALLSYMS_RUNS);
			if (!run)
				return RIFFLE_ERR_MEMORY;
			*run = (struct riffle_symbol_run){.chunk = (uint16_t)chunk, .name_offset = name};
		}
		run->symbols++;
		name += name_length(e->bytes + k->names + name, k->names_bytes - name);
		if (name > k->names_bytes)
			return refuse(e, "kallsyms names", "lead past their end", k->names);
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
	};
	status = make_symbol_runs(e, k);
	for (uint32_t i = 0; !status && k->seqs && i < k->count; i++) {
		const uint8_t *seq = e->bytes + k->seqs + 3 * (size_t)i;
		uint32_t symbol = (uint32_t)seq[0] << 16 | (uint32_t)seq[1] << 8 | seq[2];

		if (symbol >= k->count)
			status = refuse(e, "kallsyms by-name sequence", "names a symbol that is not there",
					k->seqs + 3 * i);
	}
	return status;
}

/* Everything that is read here by offset was checked against the image by the analysis; checked once more all the same. */
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

static int encode(struct encoder *e)
{
	int status;

	if ((status = check_bounds(e)) || (status = make_chunks(e)) || (status = make_refs(e)) ||
	    (status = check_relocs(e, &e->image->reloc64, SHUFFLE_ABS64)) ||
	    (status = check_relocs(e, &e->image->reloc32, SHUFFLE_ABS32)) ||
	    (status = check_relocs(e, &e->image->reloc32_inverse, SHUFFLE_INVERSE32)))
		return status;
	for (unsigned i = 0; i < e->shuffle->table_count; i++)
		if ((status = make_table(e, &e->shuffle->table[i])))
			return status;
	return make_kallsyms(e);
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
