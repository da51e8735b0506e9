/* SPDX-License-Identifier: Apache-2.0 */
/* Writes the tables that the kernel searches by binary search in the new order: by moving runs, never by sorting. */
#include "load/shuffle.h"
#include "load/slides.h"

/*
 * A chunk's entries are adjacent in each of these tables, because the tables are sorted by address and a chunk is one
 * address range. In the new order they are adjacent again, in the same relative order. So a chunk's run moves as a
 * whole, and each of its PC-relative fields changes by one number: the chunk's shift minus the run's own. Entries that
 * belong to no chunk stay in place, because the number of entries between two regions does not change.
 *
 * A table is read as a whole, and written from start to end by collecting runs: reads are random, which a processor
 * overlaps, and writes are sequential, so a run may overwrite the start of the next one.
 */

/* One array of entries on its way into the new order. */
struct array {
	const struct shuffle_load *s;
	const uint32_t *gaps; /* entries that belong to no chunk: before each region, and after the last one */
	uint32_t *from;       /* find_runs() */
	uint8_t *in, *out;    /* the table as linked, followed by RUN_STEP spare bytes, and its place in the image */
	uint64_t bytes;
	/* each kind of entry uses what it needs */
	uint64_t delta;
	uint64_t first_end; /* addresses from here on are not in the first block; UINT64_MAX without slides */
	uint32_t *symbol_place;
	uint32_t flags;
	uint8_t *markers;
};

typedef uint32_t count_entries(const struct riffle_chunk *chunk);
/* Moves a run of entries whose code moves by `shift`; often the run is empty, which is cheaper to move than to test
 * for.
 */
typedef void move_run(struct array *a, uint32_t from, uint32_t to, uint32_t entries, uint32_t shift);

#define AHEAD 24u /* chunks: their entries are anywhere */

/*
 * Where each chunk's entries start in link order, with an extra entry after each region's last chunk for where they
 * end: a chunk's entries are from[c + region] up to from[c + region + 1].
 */
HOT void find_runs(struct array *a, count_entries *count)
{
	const struct riffle_plan *plan = a->s->load.plan;
	uint32_t *from = a->from, at = 0;

	for (uint32_t i = 0; i < plan->region_count; i++) {
		const struct riffle_region *r = &plan->regions[i];
		const struct riffle_chunk *chunk = &plan->chunks[r->first_chunk];

		at += a->gaps[i];
		for (uint32_t n = 0; n < r->chunk_count; n++) {
			*from++ = at;
			at += count(&chunk[n]);
		}
		*from++ = at;
	}
}

/* Each use is compiled for its own kind of entry. riffle_plan_check() has checked that runs and gaps fill the table.
 */
HOT void collect(struct array *a, count_entries *count, move_run *move, uint32_t entry_bytes)
{
	const struct riffle_plan *plan = a->s->load.plan;
	const int32_t *shift = a->s->shift;
	uint32_t at = 0;

	find_runs(a, count);
	for (uint32_t i = 0; i < plan->region_count; i++) {
		const struct riffle_region *r = &plan->regions[i];
		const uint16_t *order = a->s->load.order + r->first_chunk;
		const uint32_t *from = a->from + i;

		move(a, at, at, a->gaps[i], 0);
		at += a->gaps[i];
		for (uint32_t n = 0; n < r->chunk_count; n++) {
			uint32_t c = order[n], entries = from[c + 1] - from[c];

			if (n + AHEAD < r->chunk_count) {
				const uint8_t *soon = a->in + (size_t)from[order[n + AHEAD]] * entry_bytes;

				__builtin_prefetch(soon);
				__builtin_prefetch(soon + 63);
			}
			move(a, from[c], at, entries, (uint32_t)shift[c]);
			at += entries;
		}
	}
	move(a, at, at, a->gaps[plan->region_count], 0);
}

/* May a run that ends at `end` be written in whole steps? */
HOT bool has_spare(const struct array *a, uint64_t end)
{
	return end + RUN_STEP <= a->bytes;
}

/* The exception table. */

HOT uint32_t count_exceptions(const struct riffle_chunk *chunk)
{
	return chunk->exceptions;
}

HOT void move_exceptions(struct array *a, uint32_t from, uint32_t to, uint32_t entries, uint32_t shift)
{
	const struct riffle_plan *plan = a->s->load.plan;
	const int32_t *shifts = a->s->shift;
	uint32_t own = (to - from) * 12;

	for (; entries; entries--, from++, to++) {
		const uint16_t *target = plan->extable_targets + 2 * (size_t)from;
		const uint8_t *in = a->in + (size_t)from * 12;
		uint8_t *out = a->out + (size_t)to * 12;
		uint32_t third = riffle_get32(in + 8);

		riffle_put32(out, riffle_get32(in) + shift - own);
		riffle_put32(out + 4, riffle_get32(in + 4) + (uint32_t)shifts[target[0]] - own);
		/* data, which a shuffle does not change, or a pointer to a handler */
		if (target[1] <= plan->chunk_count)
			third += (uint32_t)shifts[target[1]] - own;
		riffle_put32(out + 8, third);
	}
}

/* ORC: code addresses, and the unwind state there, in two arrays. */

HOT uint32_t count_orc(const struct riffle_chunk *chunk)
{
	return chunk->orc;
}

HOT void move_orc_ips(struct array *a, uint32_t from, uint32_t to, uint32_t entries, uint32_t shift)
{
	uint32_t add = shift - (to - from) * 4;
	uint8_t *out = a->out + (size_t)to * 4;
	const uint8_t *in = a->in + (size_t)from * 4;

	if (has_spare(a, ((uint64_t)to + entries) * 4))
		riffle_run_add32(out, in, (size_t)entries * 4, add, 64);
	else
		riffle_copy_add32(out, in, entries, add);
}

HOT void move_orc_states(struct array *a, uint32_t from, uint32_t to, uint32_t entries, uint32_t shift)
{
	uint8_t *out = a->out + (size_t)to * PLAN_ORC_STATE_BYTES;
	const uint8_t *in = a->in + (size_t)from * PLAN_ORC_STATE_BYTES;
	size_t bytes = (size_t)entries * PLAN_ORC_STATE_BYTES;

	(void)shift;
	if (has_spare(a, (uint64_t)to * PLAN_ORC_STATE_BYTES + bytes))
		riffle_run_copy(out, in, bytes, 64);
	else
		riffle_copy_short(out, in, bytes);
}

/* __mcount_loc: addresses of calls to the function tracer. */

HOT uint32_t count_mcount(const struct riffle_chunk *chunk)
{
	return chunk->mcount;
}

/* In kernels since 6.15 the entry of an overridden weak function is 0, and stays 0. */
HOT void move_address(const struct array *a, uint32_t from, uint32_t to, uint64_t add)
{
	uint64_t address = riffle_get64(a->in + (size_t)from * 8);

	/* chunks are in the first block; code that runs only at first is not */
	if (address >= a->first_end)
		add += slides_of_value(&a->s->load, address);
	riffle_put64(a->out + (size_t)to * 8, address ? address + add : 0);
}

HOT void move_mcount(struct array *a, uint32_t from, uint32_t to, uint32_t entries, uint32_t shift)
{
	uint64_t add = a->delta + (uint64_t)(int64_t)(int32_t)shift;

	if (RIFFLE_VECTORS && has_spare(a, ((uint64_t)to + entries) * 8)) {
		move_address(a, from, to, add);
		/* one or none for nearly all chunks */
		for (uint32_t i = 1; i < entries; i++)
			move_address(a, from + i, to + i, add);
	} else
		for (uint32_t i = 0; i < entries; i++)
			move_address(a, from + i, to + i, add);
}

/* kallsyms: the same for symbols, and for the bytes of their names. */

HOT uint32_t count_symbols(const struct riffle_chunk *chunk)
{
	return chunk->symbols;
}

HOT void move_offsets(struct array *a, uint32_t from, uint32_t to, uint32_t entries, uint32_t shift)
{
	uint32_t add = a->flags & RIFFLE_KALLSYMS_ABSOLUTE_PERCPU ? -shift : shift;
	uint8_t *out = a->out + (size_t)to * 4;
	const uint8_t *in = a->in + (size_t)from * 4;

	if (a->flags & RIFFLE_KALLSYMS_SELF_RELATIVE)
		add -= (to - from) * 4;
	if (a->symbol_place)
		for (uint32_t i = 0; i < entries; i++)
			a->symbol_place[from + i] = to + i;
	if (has_spare(a, ((uint64_t)to + entries) * 4))
		riffle_run_add32(out, in, (size_t)entries * 4, add, 16);
	else
		riffle_copy_add32(out, in, entries, add);
}

HOT uint32_t count_name_bytes(const struct riffle_chunk *chunk)
{
	return chunk->name_bytes;
}

/* Offset of the name after the one at `at`; stays inside the names whatever they contain. */
static uint32_t skip_name(const uint8_t *names, uint32_t at, uint32_t end)
{
	uint32_t length = at < end ? names[at++] : 0;

	if (length & 0x80 && at < end)
		length = (length & 0x7f) | (uint32_t)names[at++] << 7;
	return length < end - at ? at + length : end;
}

/* Each 256th symbol's offset in the names. Those of symbols that do not move are unchanged. */
static __attribute__((noinline)) void mark(const struct array *a, uint32_t symbol, uint32_t end, uint32_t from,
					   uint32_t to)
{
	for (uint32_t at = from; symbol < end; symbol++) {
		if (symbol % 256 == 0)
			riffle_put32(a->markers + symbol / 256 * 4, at - from + to);
		at = skip_name(a->in, at, (uint32_t)a->bytes);
	}
}

/* `entries` are bytes: of the names of one chunk's symbols, or of symbols that do not move. */
HOT void move_names(struct array *a, uint32_t from, uint32_t to, uint32_t entries, uint32_t shift)
{
	(void)shift;
	if (has_spare(a, (uint64_t)to + entries))
		riffle_run_copy(a->out + to, a->in + from, entries, 64);
	else
		riffle_copy_short(a->out + to, a->in + from, entries);
}

/* After names: the markers, from where each chunk's symbols and names are in the new order. */
static void write_markers(struct array *a)
{
	const struct riffle_plan *plan = a->s->load.plan;
	const struct riffle_kallsyms *k = plan->kallsyms;
	const uint32_t *symbol_gaps = plan->gaps + k->first_gap;
	uint32_t symbol = 0, name = 0;

	for (uint32_t i = 0; i < plan->region_count; i++) {
		const struct riffle_region *r = &plan->regions[i];
		const uint16_t *order = a->s->load.order + r->first_chunk;

		symbol += symbol_gaps[i];
		name += a->gaps[i];
		for (uint32_t n = 0; n < r->chunk_count; n++) {
			const struct riffle_chunk *c = &plan->chunks[order[n]];
			uint32_t end = symbol + c->symbols;

			if ((symbol + 255) / 256 != (end + 255) / 256)
				mark(a, symbol, end, a->from[order[n] + i], name);
			symbol = end;
			name += c->name_bytes;
		}
	}
}

/* The by-name sequence keeps its order; each number in it is a symbol's index, which may have changed. */
static int write_seqs(struct shuffle_load *s, const uint32_t *symbol_place, struct riffle_error *error)
{
	const struct riffle_kallsyms *k = s->load.plan->kallsyms;
	uint8_t *at = load_place(&s->load, k->seqs);
	int status = load_read(&s->load, k->seqs, at, (size_t)k->symbols * 3, error);

	for (uint32_t i = 0; !status && i < k->symbols; i++, at += 3) {
		uint32_t seq = (uint32_t)at[0] << 16 | (uint32_t)at[1] << 8 | at[2];

		/* the kernel's own data: an invalid symbol number is left unchanged */
		if (seq < k->symbols)
			seq = symbol_place[seq];
		riffle_put16(at, __builtin_bswap16((uint16_t)(seq >> 8)));
		at[2] = (uint8_t)seq;
	}
	return status;
}

/* The arrays of all tables; each is a job. */

enum part {
	PART_ORC_STATES, /* the longest first */
	PART_NAMES,
	PART_OFFSETS,
	PART_ORC_IPS,
	PART_MCOUNT,
	PART_EXCEPTIONS,
	PARTS,
};
_Static_assert(PARTS == SHUFFLE_TABLE_JOBS, "a job for each");

#define TAIL_BYTES 512u /* at most: each is copied once more, which is cheaper than a system call */

/* An array as linked. */
struct part_place {
	uint64_t bytes;
	uint32_t image_offset;
	const uint32_t *gaps; /* NULL: there is no such array */
};

static uint64_t staged(uint64_t bytes)
{
	return (bytes + RUN_STEP + 63) & ~UINT64_C(63);
}

static void place_table(struct part_place *parts, const struct riffle_plan *plan, const struct riffle_table *t)
{
	static const enum part part_of[] = {[RIFFLE_TABLE_EXTABLE] = PART_EXCEPTIONS,
					    [RIFFLE_TABLE_ORC] = PART_ORC_IPS,
					    [RIFFLE_TABLE_MCOUNT] = PART_MCOUNT};
	const uint32_t *gaps = plan->gaps + t->first;

	if (t->kind == RIFFLE_TABLE_SITES)
		return;
	parts[part_of[t->kind]] = (struct part_place){.bytes = (uint64_t)t->entries * plan_table_entry_bytes(t->kind),
						      .image_offset = t->image_offset,
						      .gaps = gaps};
	if (t->kind == RIFFLE_TABLE_ORC)
		parts[PART_ORC_STATES] = (struct part_place){.bytes = (uint64_t)t->entries * PLAN_ORC_STATE_BYTES,
							     .image_offset = t->second_offset,
							     .gaps = gaps};
}

static void place_parts(struct part_place parts[PARTS], const struct riffle_plan *plan)
{
	const struct riffle_kallsyms *k = plan->kallsyms;

	for (unsigned i = 0; i < PARTS; i++)
		parts[i] = (struct part_place){0};
	for (uint32_t i = 0; i < plan->table_count; i++)
		place_table(parts, plan, &plan->tables[i]);
	if (k && k->symbols) {
		const uint32_t *gaps = plan->gaps + k->first_gap;

		parts[PART_OFFSETS] =
		    (struct part_place){.bytes = (uint64_t)k->symbols * 4, .image_offset = k->offsets, .gaps = gaps};
		parts[PART_NAMES] = (struct part_place){
		    .bytes = k->names_bytes, .image_offset = k->names, .gaps = gaps + plan_gap_count(plan)};
	}
}

static uint32_t marker_bytes(const struct riffle_kallsyms *k)
{
	return (k->symbols + 255) / 256 * 4;
}

uint64_t riffle_shuffle_stage_bytes(const struct riffle_plan *plan)
{
	const struct riffle_kallsyms *k = plan->kallsyms;
	struct part_place parts[PARTS];
	uint64_t most = 0;

	place_parts(parts, plan);
	for (unsigned i = 0; i < PARTS; i++) {
		uint64_t bytes = staged(parts[i].bytes + TAIL_BYTES + (i == PART_NAMES && k ? marker_bytes(k) : 0));

		/* each symbol's new index is computed with the offsets */
		if (i == PART_OFFSETS && k && k->seqs)
			bytes += staged(parts[i].bytes);
		most = bytes > most ? bytes : most;
	}
	return most;
}

/* A tail ends where the next area, or what can be patched at once, does. */
void riffle_shuffle_take_tails(struct shuffle_load *s)
{
	struct plan_areas *areas = &s->load.areas;
	struct part_place parts[PARTS];

	place_parts(parts, s->load.plan);
	for (unsigned i = 0; i < PARTS; i++)
		s->tail[i] = 0;
	for (unsigned k = 0; k < areas->count; k++) {
		struct plan_area *area = &areas->area[k];
		uint64_t end = riffle_load_plain_end(&s->load, area->end);
		unsigned i = 0;

		while (i < PARTS && !(parts[i].gaps && parts[i].bytes && parts[i].image_offset == area->start))
			i++;
		if (k + 1 < areas->count && areas->area[k + 1].start < end)
			end = areas->area[k + 1].start;
		if (i < PARTS && end - area->end <= TAIL_BYTES) {
			s->tail[i] = (uint32_t)(end - area->end);
			area->end = (uint32_t)end;
		}
	}
}

/* Do the markers follow the names' tail? */
static bool reads_markers(const struct shuffle_load *s, uint32_t index)
{
	const struct riffle_kallsyms *k = s->load.plan->kallsyms;

	return index == PART_NAMES && k->markers == (uint64_t)k->names + k->names_bytes + s->tail[index];
}

/* A job's table, and what follows it: the tail goes to its place. */
static int read_table(const struct shuffle_load *s, const struct array *a, uint32_t index, uint32_t image_offset,
		      struct riffle_error *error)
{
	uint64_t tail = s->tail[index], at = image_offset + a->bytes;
	uint64_t bytes = a->bytes + tail + (reads_markers(s, index) ? marker_bytes(s->load.plan->kallsyms) : 0);
	int status = load_read(&s->load, image_offset, a->in, bytes, error);

	if (!status && tail) {
		memcpy(load_place(&s->load, at), a->in + a->bytes, tail);
		riffle_load_patch(&s->load, at, at + tail);
	}
	return status;
}

static int write_names(struct array *a, struct riffle_error *error)
{
	const struct shuffle_load *s = a->s;
	const struct riffle_kallsyms *k = s->load.plan->kallsyms;
	int status = RIFFLE_OK;

	a->markers = load_place(&s->load, k->markers);
	if (reads_markers(s, PART_NAMES))
		memcpy(a->markers, a->in + a->bytes + s->tail[PART_NAMES], marker_bytes(k));
	else
		status = load_read(&s->load, k->markers, a->markers, marker_bytes(k), error);
	if (status)
		return status;
	collect(a, count_name_bytes, move_names, 1);
	write_markers(a);
	return RIFFLE_OK;
}

static int write_offsets(struct shuffle_load *s, struct array *a, struct riffle_error *error)
{
	const struct riffle_kallsyms *k = s->load.plan->kallsyms;

	a->flags = k->flags;
	a->symbol_place = k->seqs ? (uint32_t *)(void *)(a->in + staged(a->bytes)) : NULL;
	collect(a, count_symbols, move_offsets, 4);
	return k->seqs ? write_seqs(s, a->symbol_place, error) : RIFFLE_OK;
}

int riffle_shuffle_table_job(struct shuffle_load *s, uint32_t index, uint8_t *scratch, uint8_t *stage,
			     struct riffle_error *error)
{
	struct part_place parts[PARTS];
	const struct part_place *part = &parts[index];
	struct array a;
	int status;

	place_parts(parts, s->load.plan);
	a = (struct array){.s = s,
			   .gaps = part->gaps,
			   .from = (uint32_t *)(void *)scratch,
			   .in = stage,
			   .out = load_place(&s->load, part->image_offset),
			   .bytes = part->bytes,
			   .delta = s->load.delta,
			   .first_end = s->load.block_count
					    ? s->load.plan->header->link_virt + s->load.plan->blocks[1].image_offset
					    : UINT64_MAX};
	if (!part->gaps || (s->load.options & RIFFLE_LOAD_LAZY_TABLES && index <= PART_ORC_IPS))
		return RIFFLE_OK;
	status = read_table(s, &a, index, part->image_offset, error);
	if (status)
		return status;
	switch ((enum part)index) {
	case PART_ORC_STATES:
		collect(&a, count_orc, move_orc_states, PLAN_ORC_STATE_BYTES);
		return RIFFLE_OK;
	case PART_NAMES:
		return write_names(&a, error);
	case PART_OFFSETS:
		return write_offsets(s, &a, error);
	case PART_ORC_IPS:
		collect(&a, count_orc, move_orc_ips, 4);
		return RIFFLE_OK;
	case PART_MCOUNT:
		collect(&a, count_mcount, move_mcount, 8);
		return RIFFLE_OK;
	default:
		collect(&a, count_exceptions, move_exceptions, 12);
		return RIFFLE_OK;
	}
}
