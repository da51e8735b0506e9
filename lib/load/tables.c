/* SPDX-License-Identifier: Apache-2.0 */
/* Writes the tables that the kernel searches by halving in the new order: by moving runs, never by sorting. */
#include "load/feed.h"

/*
 * A chunk's entries are neighbours in each of these tables, because the tables are sorted by address and a chunk is one
 * stretch of addresses. In the new order they are neighbours again, in the same order among themselves. So a chunk's run
 * moves as a whole, and each of its PC-relative fields changes by one number: the chunk's shift minus the run's own.
 * Entries that belong to no chunk stay in their places: the entries between two regions are as many as before.
 */

static const struct riffle_table *table_of(const struct riffle_plan *plan, uint32_t kind)
{
	for (uint32_t i = 0; i < plan->table_count; i++)
		if (plan->tables[i].kind == kind)
			return &plan->tables[i];
	return NULL;
}

/* How many entries of a table lie fixed in front of a region; 0 of one that is not there. */
static uint32_t gap_before(const struct riffle_plan *plan, const struct riffle_table *t, uint32_t region)
{
	return t ? plan->gaps[t->first + region] : 0;
}

void riffle_shuffle_places(struct shuffle_load *s)
{
	const struct riffle_plan *plan = s->load.plan;
	const struct riffle_kallsyms *k = plan->kallsyms;
	const struct riffle_table *orc = table_of(plan, RIFFLE_TABLE_ORC);
	const struct riffle_table *mcount = table_of(plan, RIFFLE_TABLE_MCOUNT);
	const struct riffle_table *exceptions = table_of(plan, RIFFLE_TABLE_EXTABLE);
	struct place next = {0};
	uint32_t next_exception = 0;

	s->shift[plan->chunk_count] = 0; /* what does not move; riffle_plan_check() let no higher number pass */
	for (uint32_t i = 0; i < plan->region_count; i++) {
		const struct riffle_region *r = &plan->regions[i];
		const uint16_t *order = s->load.order + r->first_chunk;
		uint32_t at = r->image_offset;

		next.orc += gap_before(plan, orc, i);
		next.mcount += gap_before(plan, mcount, i);
		next_exception += gap_before(plan, exceptions, i);
		if (k) {
			next.symbols += plan->gaps[k->first_gap + i];
			next.names += plan->gaps[k->first_gap + plan_gap_count(plan) + i];
		}
		for (uint32_t n = 0; n < r->chunk_count; n++) {
			const struct riffle_chunk *c = &plan->chunks[order[n]];

			if (n + 16 < r->chunk_count) {
				__builtin_prefetch(&plan->chunks[order[n + 16]]);
				__builtin_prefetch(&s->place[order[n + 16]], 1);
			}
			s->shift[order[n]] = (int32_t)(at - c->image_offset);
			s->place[order[n]] = next;
			at += riffle_chunk_bytes(c);
			next.orc += c->orc;
			next.mcount += c->mcount;
			next.symbols += c->symbols;
			next.names += c->name_bytes;
			if (c->exceptions) {
				s->exception_place[order[n]] = next_exception;
				next_exception += c->exceptions;
			}
		}
	}
}

/* What is known of a table: its number of entries in a chunk and where they go, and how a run of them is moved. */
struct walk {
	struct shuffle_load *s;
	const uint32_t *gaps;
	uint32_t (*count)(const struct riffle_chunk *chunk);
	uint32_t (*place)(const struct shuffle_load *s, uint32_t chunk);
	void (*prefetch)(void *mover, uint32_t place);  /* may be NULL */
	int (*move)(void *mover, uint32_t from, uint32_t to, uint32_t entries, uint32_t shift,
		    struct riffle_error *error);
	void *mover;
};

/* The whole table in link order, run by run; each use is compiled for its own kind of entry. */
HOT int walk_table(const struct walk *w, struct riffle_error *error)
{
	const struct riffle_plan *plan = w->s->load.plan;
	const struct riffle_chunk *chunks = plan->chunks;
	uint32_t from = 0;

	for (uint32_t i = 0; i <= plan->region_count; i++) {
		uint32_t first, end;
		int status = w->move(w->mover, from, from, w->gaps[i], 0, error);

		if (status)
			return status;
		from += w->gaps[i];
		if (i == plan->region_count)
			break;
		first = plan->regions[i].first_chunk;
		end = first + plan->regions[i].chunk_count;
		for (uint32_t c = first; c < end; c++) {
			uint32_t entries = w->count(&chunks[c]);

			if (w->prefetch && c + 8 < end)
				w->prefetch(w->mover, w->place(w->s, c + 8));
			if (!entries)
				continue;
			status = w->move(w->mover, from, w->place(w->s, c), entries, (uint32_t)w->s->shift[c], error);
			if (status)
				return status;
			from += entries;
		}
	}
	return RIFFLE_OK;
}

/* The exception table. */

struct exceptions {
	const struct shuffle_load *s;
	uint8_t *table;
	struct feed feed;
};

HOT uint32_t count_exceptions(const struct riffle_chunk *chunk)
{
	return chunk->exceptions;
}

HOT uint32_t place_exceptions(const struct shuffle_load *s, uint32_t chunk)
{
	return s->exception_place[chunk];
}

HOT int move_exceptions(void *mover, uint32_t from, uint32_t to, uint32_t entries, uint32_t shift,
			struct riffle_error *error)
{
	struct exceptions *m = mover;
	const struct riffle_plan *plan = m->s->load.plan;
	const int32_t *shifts = m->s->shift;
	uint32_t own = (to - from) * 12;

	for (; entries; entries--, from++, to++) {
		const uint16_t *target = plan->extable_targets + 2 * (size_t)from;
		uint8_t *out = m->table + (size_t)to * 12;
		const uint8_t *in;
		uint32_t got, third;
		int status = feed_take(&m->feed, 12, 1, &in, &got, error);

		if (status)
			return status;
		third = riffle_get32(in + 8);
		riffle_put32(out, riffle_get32(in) + shift - own);
		riffle_put32(out + 4, riffle_get32(in + 4) + (uint32_t)shifts[target[0]] - own);
		/* data, which no shuffle changes, or a pointer to a handler */
		if (target[1] <= plan->chunk_count)
			third += (uint32_t)shifts[target[1]] - own;
		riffle_put32(out + 8, third);
	}
	return RIFFLE_OK;
}

static int write_exceptions(struct shuffle_load *s, const struct riffle_table *t, uint8_t *scratch,
			    struct riffle_error *error)
{
	struct exceptions m = {.s = s, .table = s->load.image + t->image_offset};

	feed_start(&m.feed, s, scratch, t->image_offset, (uint64_t)t->entries * 12);
	return walk_table(&(struct walk){s, s->load.plan->gaps + t->first, count_exceptions, place_exceptions, NULL,
					 move_exceptions, &m},
			  error);
}

/* ORC: places in code, and what the unwinder does there, in two arrays. */

struct orc {
	uint8_t *ips, *states;
	struct feed ip_feed, state_feed;
};

HOT uint32_t count_orc(const struct riffle_chunk *chunk)
{
	return chunk->orc;
}

HOT uint32_t place_orc(const struct shuffle_load *s, uint32_t chunk)
{
	return s->place[chunk].orc;
}

HOT void prefetch_orc(void *mover, uint32_t place)
{
	const struct orc *m = mover;

	__builtin_prefetch(m->ips + (size_t)place * 4, 1);
	__builtin_prefetch(m->states + (size_t)place * PLAN_ORC_STATE_BYTES, 1);
}

HOT int move_orc(void *mover, uint32_t from, uint32_t to, uint32_t entries, uint32_t shift, struct riffle_error *error)
{
	struct orc *m = mover;
	uint32_t add = shift - (to - from) * 4, at = to, left, got;
	const uint8_t *in;
	int status;

	for (left = entries; left; left -= got, at += got) {
		status = feed_take(&m->ip_feed, 4, left, &in, &got, error);
		if (status)
			return status;
		riffle_copy_add32(m->ips + (size_t)at * 4, in, got, add);
	}
	for (left = entries, at = to; left; left -= got, at += got) {
		status = feed_take(&m->state_feed, PLAN_ORC_STATE_BYTES, left, &in, &got, error);
		if (status)
			return status;
		riffle_copy_short(m->states + (size_t)at * PLAN_ORC_STATE_BYTES, in,
				  (size_t)got * PLAN_ORC_STATE_BYTES);
	}
	return RIFFLE_OK;
}

static int write_orc(struct shuffle_load *s, const struct riffle_table *t, uint8_t *scratch, struct riffle_error *error)
{
	struct orc m = {.ips = s->load.image + t->image_offset, .states = s->load.image + t->second_offset};

	feed_start(&m.ip_feed, s, scratch, t->image_offset, (uint64_t)t->entries * 4);
	feed_start(&m.state_feed, s, scratch + SCRATCH_HALF, t->second_offset,
		   (uint64_t)t->entries * PLAN_ORC_STATE_BYTES);
	return walk_table(&(struct walk){s, s->load.plan->gaps + t->first, count_orc, place_orc, prefetch_orc,
					 move_orc, &m},
			  error);
}

/* __mcount_loc: addresses of calls to the function tracer. */

struct mcount {
	uint64_t delta;
	uint8_t *table;
	struct feed feed;
};

HOT uint32_t count_mcount(const struct riffle_chunk *chunk)
{
	return chunk->mcount;
}

HOT uint32_t place_mcount(const struct shuffle_load *s, uint32_t chunk)
{
	return s->place[chunk].mcount;
}

HOT void prefetch_mcount(void *mover, uint32_t place)
{
	const struct mcount *m = mover;

	__builtin_prefetch(m->table + (size_t)place * 8, 1);
}

HOT int move_mcount(void *mover, uint32_t from, uint32_t to, uint32_t entries, uint32_t shift,
		    struct riffle_error *error)
{
	struct mcount *m = mover;
	uint64_t add = m->delta + (uint64_t)(int64_t)(int32_t)shift;
	uint32_t got;

	(void)from;
	for (; entries; entries -= got) {
		const uint8_t *in;
		int status = feed_take(&m->feed, 8, entries, &in, &got, error);

		if (status)
			return status;
		for (uint32_t i = 0; i < got; i++, to++, in += 8) {
			uint64_t address = riffle_get64(in);

			/* an entry of a weak function that was overridden is 0 in kernels from 6.15 on, and stays it */
			riffle_put64(m->table + (size_t)to * 8, address ? address + add : 0);
		}
	}
	return RIFFLE_OK;
}

static int write_mcount(struct shuffle_load *s, const struct riffle_table *t, uint8_t *scratch,
			struct riffle_error *error)
{
	struct mcount m = {.delta = s->load.delta, .table = s->load.image + t->image_offset};

	feed_start(&m.feed, s, scratch, t->image_offset, (uint64_t)t->entries * 8);
	return walk_table(&(struct walk){s, s->load.plan->gaps + t->first, count_mcount, place_mcount, prefetch_mcount,
					 move_mcount, &m},
			  error);
}

/* Sites stay in their places, so each follows its chunk and nothing else. */
static int write_sites(struct shuffle_load *s, const struct riffle_table *t, uint8_t *scratch,
		       struct riffle_error *error)
{
	const uint16_t *target = s->load.plan->site_targets + t->first;
	uint8_t *out = s->load.image + t->image_offset;
	struct feed feed;

	feed_start(&feed, s, scratch, t->image_offset, (uint64_t)t->entries * 4);
	for (uint32_t left = t->entries, got; left; left -= got) {
		const uint8_t *in;
		int status = feed_take(&feed, 4, left, &in, &got, error);

		if (status)
			return status;
		for (uint32_t i = 0; i < got; i++, in += 4, out += 4)
			riffle_put32(out, riffle_get32(in) + (uint32_t)s->shift[*target++]);
	}
	return RIFFLE_OK;
}

int riffle_shuffle_table(struct shuffle_load *s, uint32_t index, uint8_t *scratch, struct riffle_error *error)
{
	const struct riffle_table *t = &s->load.plan->tables[index];

	switch (t->kind) {
	case RIFFLE_TABLE_SITES:
		return write_sites(s, t, scratch, error);
	case RIFFLE_TABLE_EXTABLE:
		return write_exceptions(s, t, scratch, error);
	case RIFFLE_TABLE_ORC:
		return s->load.options & RIFFLE_LOAD_LAZY_TABLES ? RIFFLE_OK : write_orc(s, t, scratch, error);
	default:
		return write_mcount(s, t, scratch, error);
	}
}

/* kallsyms: the same for symbols, and for the bytes of their names. */

struct symbols {
	struct shuffle_load *s;
	uint8_t *offsets;
	uint32_t flags;
	bool list;              /* each symbol's new place is wanted afterwards */
	struct feed feed;
};

HOT uint32_t count_symbols(const struct riffle_chunk *chunk)
{
	return chunk->symbols;
}

HOT uint32_t place_symbols(const struct shuffle_load *s, uint32_t chunk)
{
	return s->place[chunk].symbols;
}

HOT void prefetch_symbols(void *mover, uint32_t place)
{
	const struct symbols *m = mover;

	__builtin_prefetch(m->offsets + (size_t)place * 4, 1);
}

HOT int move_symbols(void *mover, uint32_t from, uint32_t to, uint32_t entries, uint32_t shift,
		     struct riffle_error *error)
{
	struct symbols *m = mover;
	uint32_t add = m->flags & RIFFLE_KALLSYMS_ABSOLUTE_PERCPU ? -shift : shift, got;

	if (m->flags & RIFFLE_KALLSYMS_SELF_RELATIVE)
		add -= (to - from) * 4;
	for (; entries; entries -= got) {
		const uint8_t *in;
		int status = feed_take(&m->feed, 4, entries, &in, &got, error);

		if (status)
			return status;
		if (m->list)
			for (uint32_t i = 0; i < got; i++)
				m->s->symbol_place[from + i] = to + i;
		riffle_copy_add32(m->offsets + (size_t)to * 4, in, got, add);
		from += got;
		to += got;
	}
	return RIFFLE_OK;
}

static int write_offsets(struct shuffle_load *s, uint8_t *scratch, struct riffle_error *error)
{
	const struct riffle_kallsyms *k = s->load.plan->kallsyms;
	struct symbols m = {.s = s, .offsets = s->load.image + k->offsets, .flags = k->flags, .list = k->seqs};

	feed_start(&m.feed, s, scratch, k->offsets, (uint64_t)k->symbols * 4);
	return walk_table(&(struct walk){s, s->load.plan->gaps + k->first_gap, count_symbols, place_symbols,
					 prefetch_symbols, move_symbols, &m},
			  error);
}

struct names {
	uint8_t *names;
	struct feed feed;
};

HOT uint32_t count_names(const struct riffle_chunk *chunk)
{
	return chunk->name_bytes;
}

HOT uint32_t place_names(const struct shuffle_load *s, uint32_t chunk)
{
	return s->place[chunk].names;
}

HOT void prefetch_names(void *mover, uint32_t place)
{
	const struct names *m = mover;

	__builtin_prefetch(m->names + place, 1);
}

HOT int move_names(void *mover, uint32_t from, uint32_t to, uint32_t entries, uint32_t shift,
		   struct riffle_error *error)
{
	struct names *m = mover;
	uint32_t got;

	(void)from;
	(void)shift;
	for (; entries; entries -= got, to += got) {
		const uint8_t *in;
		int status = feed_take(&m->feed, 1, entries, &in, &got, error);

		if (status)
			return status;
		riffle_copy_short(m->names + to, in, got);
	}
	return RIFFLE_OK;
}

static int write_names(struct shuffle_load *s, uint8_t *scratch, struct riffle_error *error)
{
	const struct riffle_plan *plan = s->load.plan;
	const struct riffle_kallsyms *k = plan->kallsyms;
	struct names m = {.names = s->load.image + k->names};

	feed_start(&m.feed, s, scratch, k->names, k->names_bytes);
	return walk_table(&(struct walk){s, plan->gaps + k->first_gap + plan_gap_count(plan), count_names, place_names,
					 prefetch_names, move_names, &m},
			  error);
}

/* Offset of the name behind the one at `at`; stays inside the names whatever they hold. */
static uint32_t skip_name(const uint8_t *names, uint32_t at, uint32_t end)
{
	uint32_t length = at < end ? names[at++] : 0;

	if (length & 0x80 && at < end)
		length = (length & 0x7f) | (uint32_t)names[at++] << 7;
	return length < end - at ? at + length : end;
}

/* Each 256th symbol's place in the names. Those of symbols that do not move are as they were. */
static int write_markers(struct shuffle_load *s, struct riffle_error *error)
{
	const struct riffle_plan *plan = s->load.plan;
	const struct riffle_kallsyms *k = plan->kallsyms;
	const uint8_t *names = s->load.image + k->names;
	uint8_t *markers = s->load.image + k->markers;
	int status = load_read(&s->load, k->markers, markers, (size_t)(k->symbols + 255) / 256 * 4, error);

	if (status)
		return status;
	for (uint32_t i = 0; i < plan->chunk_count; i++) {
		uint32_t symbol = s->place[i].symbols, end = symbol + plan->chunks[i].symbols, at;

		if (symbol == end || (symbol % 256 && symbol / 256 == (end - 1) / 256))
			continue;
		for (at = s->place[i].names; symbol < end; symbol++) {
			if (symbol % 256 == 0)
				riffle_put32(markers + symbol / 256 * 4, at);
			at = skip_name(names, at, k->names_bytes);
		}
	}
	return RIFFLE_OK;
}

/* The by-name sequence keeps its order; each number in it is a symbol's place, which may have changed. */
static int write_seqs(struct shuffle_load *s, uint8_t *scratch, struct riffle_error *error)
{
	const struct riffle_kallsyms *k = s->load.plan->kallsyms;
	uint8_t *out = s->load.image + k->seqs;
	struct feed feed;

	feed_start(&feed, s, scratch, k->seqs, (uint64_t)k->symbols * 3);
	for (uint32_t left = k->symbols, got; left; left -= got) {
		const uint8_t *in;
		int status = feed_take(&feed, 3, left, &in, &got, error);

		if (status)
			return status;
		for (uint32_t i = 0; i < got; i++, in += 3, out += 3) {
			uint32_t seq = (uint32_t)in[0] << 16 | (uint32_t)in[1] << 8 | in[2];

			/* the kernel's own bytes: one that names no symbol is its own affair, and not followed */
			if (seq < k->symbols)
				seq = s->symbol_place[seq];
			out[0] = (uint8_t)(seq >> 16);
			out[1] = (uint8_t)(seq >> 8);
			out[2] = (uint8_t)seq;
		}
	}
	return RIFFLE_OK;
}

int riffle_shuffle_kallsyms(struct shuffle_load *s, uint8_t *scratch, struct riffle_error *error)
{
	const struct riffle_kallsyms *k = s->load.plan->kallsyms;
	int status;

	if (!k || !k->symbols || s->load.options & RIFFLE_LOAD_LAZY_TABLES)
		return RIFFLE_OK;
	if ((status = write_offsets(s, scratch, error)) || (status = write_names(s, scratch, error)) ||
	    (status = write_markers(s, error)))
		return status;
	return k->seqs ? write_seqs(s, scratch, error) : RIFFLE_OK;
}
