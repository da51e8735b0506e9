/* SPDX-License-Identifier: Apache-2.0 */
/* Writes the tables that the kernel searches by halving in the new order: by moving runs, never by sorting. */
#include "load/shuffle.h"

/*
 * A chunk's entries are neighbours in each of these tables, because the tables are sorted by address and a chunk is one
 * stretch of addresses. In the new order they are neighbours again, in the same order among themselves. So a run moves
 * as a whole, and each of its PC-relative fields changes by one number: the chunk's shift minus the run's own.
 */

/* Small functions that run once a run, forty thousand times a table: each use is compiled for its own kind of entry. */
#define HOT static inline __attribute__((always_inline))

/* Reads a table from the source in pieces that fit a cache. */
struct feed {
	const struct shuffle_load *s;
	uint8_t *buffer;
	uint64_t next, end;     /* image offsets not yet read */
	uint32_t have, used;    /* bytes in the buffer */
};

static void feed_start(struct feed *feed, const struct shuffle_load *s, uint8_t *buffer, uint64_t offset,
		       uint64_t bytes)
{
	*feed = (struct feed){.s = s, .buffer = buffer, .next = offset, .end = offset + bytes};
}

/* The next entries, at least one and at most `want`; *got says how many. */
HOT int feed_take(struct feed *feed, uint32_t entry_bytes, uint32_t want, const uint8_t **entries, uint32_t *got,
		     struct riffle_error *error)
{
	uint32_t there = (feed->have - feed->used) / entry_bytes;

	if (!there) {
		uint64_t bytes = FEED_BYTES / entry_bytes * entry_bytes;
		int status;

		if (bytes > feed->end - feed->next)
			bytes = feed->end - feed->next;
		status = load_read(&feed->s->load, feed->next, feed->buffer, bytes, error);
		if (status)
			return status;
		feed->next += bytes;
		feed->have = (uint32_t)bytes;
		feed->used = 0;
		there = feed->have / entry_bytes;
	}
	*entries = feed->buffer + feed->used;
	*got = there < want ? there : want;
	feed->used += *got * entry_bytes;
	return RIFFLE_OK;
}

/* Walks a table's runs in link order and tells where each goes. */
struct walk {
	const struct riffle_plan *plan;
	const uint32_t *place;          /* of each chunk's first entry */
	const uint32_t *region_total;   /* entries of each region's chunks together */
	uint32_t region;                /* whose entries come next */
	bool inside;                    /* that region's entries have been counted */
	uint32_t to;                    /* place of the next fixed entry */
};

/* Where a run goes that comes next in link order. */
HOT uint32_t walk_run(struct walk *walk, uint16_t chunk, uint32_t entries)
{
	const struct riffle_region *regions = walk->plan->regions;
	uint32_t to = walk->to;

	if (chunk >= walk->plan->chunk_count) {
		walk->to += entries;
		return to;
	}
	while (chunk >= regions[walk->region].first_chunk + regions[walk->region].chunk_count) {
		walk->region++;
		walk->inside = false;
	}
	if (!walk->inside) {
		walk->to += walk->region_total[walk->region];
		walk->inside = true;
	}
	return walk->place[chunk];
}

/*
 * Turns place[chunk] from a count of entries into the place of the first: a region's entries begin where its first run
 * stood, and follow each other in the new order. `first` says, for each region, where that is.
 */
static void place_regions(const struct shuffle_load *s, uint32_t *place, const uint32_t *first)
{
	const struct riffle_plan *plan = s->load.plan;

	for (uint32_t i = 0; i < plan->region_count; i++) {
		const struct riffle_region *r = &plan->regions[i];
		uint32_t at = first[i];

		for (uint32_t k = r->first_chunk; k < r->first_chunk + r->chunk_count; k++) {
			uint16_t chunk = s->load.order[k];
			uint32_t entries = place[chunk];

			place[chunk] = at;
			at += entries;
		}
	}
}

HOT uint32_t region_of(const struct riffle_plan *plan, uint16_t chunk, uint32_t region)
{
	while (chunk >= plan->regions[region].first_chunk + plan->regions[region].chunk_count)
		region++;
	return region;
}

/* One pass over runs to count, one to find where each region begins; what a run holds is told by `amount`. */
struct run_view {
	uint16_t chunk;
	uint32_t amount;
};

HOT void place_all(const struct shuffle_load *s, uint32_t *place, uint32_t *region_total, uint32_t count,
		      struct run_view (*view)(const void *opaque, uint32_t index), const void *opaque)
{
	const struct riffle_plan *plan = s->load.plan;
	uint32_t first[PLAN_REGIONS_MAX], at = 0, region = 0, seen = 0;

	memset(place, 0, plan->chunk_count * sizeof *place);
	memset(region_total, 0, PLAN_REGIONS_MAX * sizeof *region_total);
	memset(first, 0, sizeof first);
	for (uint32_t i = 0; i < count; i++) {
		struct run_view run = view(opaque, i);

		if (run.chunk >= plan->chunk_count)
			continue;
		region = region_of(plan, run.chunk, region);
		place[run.chunk] += run.amount;
		region_total[region] += run.amount;
	}
	region = 0;
	for (uint32_t i = 0; i < count; i++) {
		struct run_view run = view(opaque, i);

		if (run.chunk >= plan->chunk_count) {
			at += run.amount;
			continue;
		}
		region = region_of(plan, run.chunk, region);
		if (region >= seen) {
			first[region] = at;
			at += region_total[region];
			seen = region + 1;
		}
	}
	place_regions(s, place, first);
}

struct table_runs {
	const struct riffle_run *run;
};

HOT struct run_view view_table_run(const void *opaque, uint32_t index)
{
	const struct table_runs *runs = opaque;

	return (struct run_view){runs->run[index].chunk, runs->run[index].entries};
}

/* Copies `n` entries, the first of which goes from place `from` to place `to`, changing what depends on either. */
struct entry_writer {
	const struct shuffle_load *s;
	uint8_t *table;                 /* the guest's */
	const uint16_t *targets;        /* EXTABLE: of the entry at place 0 */
};

HOT void write_extable(const struct entry_writer *w, const uint8_t *entries, uint32_t n, uint32_t from, uint32_t to,
			  int32_t shift)
{
	uint8_t *out = w->table + (size_t)to * 12;
	uint32_t own = (to - from) * 12;

	for (uint32_t i = 0; i < n; i++, entries += 12, out += 12) {
		const uint16_t *target = w->targets + 2 * (from + i);
		uint32_t third = riffle_get32(entries + 8);

		riffle_put32(out, riffle_get32(entries) + (uint32_t)shift - own);
		riffle_put32(out + 4, riffle_get32(entries + 4) + (uint32_t)w->s->shift[target[0]] - own);
		/* data, which no shuffle changes, or a pointer to a handler */
		if (target[1] <= w->s->load.plan->chunk_count)
			third += (uint32_t)w->s->shift[target[1]] - own;
		riffle_put32(out + 8, third);
	}
}

HOT void write_orc_ip(const struct entry_writer *w, const uint8_t *entries, uint32_t n, uint32_t from, uint32_t to,
			 int32_t shift)
{
	uint8_t *out = w->table + (size_t)to * 4;
	uint32_t add = (uint32_t)shift - (to - from) * 4;

	for (uint32_t i = 0; i < n; i++)
		riffle_put32(out + 4 * (size_t)i, riffle_get32(entries + 4 * (size_t)i) + add);
}

HOT void write_orc_state(const struct entry_writer *w, const uint8_t *entries, uint32_t n, uint32_t from,
			    uint32_t to, int32_t shift)
{
	(void)from;
	(void)shift;
	memcpy(w->table + (size_t)to * PLAN_ORC_STATE_BYTES, entries, (size_t)n * PLAN_ORC_STATE_BYTES);
}

HOT void write_mcount(const struct entry_writer *w, const uint8_t *entries, uint32_t n, uint32_t from, uint32_t to,
			 int32_t shift)
{
	uint8_t *out = w->table + (size_t)to * 8;
	uint64_t add = w->s->load.delta + (uint64_t)(int64_t)shift;

	(void)from;
	for (uint32_t i = 0; i < n; i++) {
		uint64_t address = riffle_get64(entries + 8 * (size_t)i);

		/* an entry of a weak function that was overridden is 0 in kernels from 6.15 on, and stays it */
		riffle_put64(out + 8 * (size_t)i, address ? address + add : 0);
	}
}

/* Sites stay in their places, so each follows its chunk and nothing else. */
static int write_sites(struct shuffle_load *s, const struct riffle_table *t, uint8_t *scratch,
		       struct riffle_error *error)
{
	uint8_t *out = s->load.image + t->image_offset;
	struct feed feed;

	feed_start(&feed, s, scratch, t->image_offset, (uint64_t)t->entries * 4);
	for (uint32_t k = t->first_run; k < t->first_run + t->run_count; k++) {
		const struct riffle_run *run = &s->load.plan->runs[k];
		uint32_t add = (uint32_t)s->shift[run->chunk];

		for (uint32_t left = run->entries, got; left; left -= got) {
			const uint8_t *entries;
			int status = feed_take(&feed, 4, left, &entries, &got, error);

			if (status)
				return status;
			for (uint32_t i = 0; i < got; i++, entries += 4, out += 4)
				riffle_put32(out, riffle_get32(entries) + add);
		}
	}
	return RIFFLE_OK;
}

typedef void (*write_entries)(const struct entry_writer *, const uint8_t *, uint32_t, uint32_t, uint32_t, int32_t);

HOT int move_entries(struct shuffle_load *s, const struct riffle_table *t, uint32_t offset, uint32_t entry_bytes,
			const uint32_t *place, const uint32_t *region_total, const struct entry_writer *writer,
			write_entries write, uint8_t *scratch, struct riffle_error *error)
{
	const struct riffle_plan *plan = s->load.plan;
	struct walk walk = {.plan = plan, .place = place, .region_total = region_total};
	uint32_t from = 0;
	struct feed feed;

	feed_start(&feed, s, scratch, offset, (uint64_t)t->entries * entry_bytes);
	for (uint32_t k = t->first_run; k < t->first_run + t->run_count; k++) {
		const struct riffle_run *run = &plan->runs[k];
		uint32_t to = walk_run(&walk, run->chunk, run->entries);

		for (uint32_t left = run->entries, got; left; left -= got) {
			const uint8_t *entries;
			int status = feed_take(&feed, entry_bytes, left, &entries, &got, error);

			if (status)
				return status;
			write(writer, entries, got, from, to, s->shift[run->chunk]);
			from += got;
			to += got;
		}
	}
	return RIFFLE_OK;
}

/* The first of this exception table's pairs in the plan: those of earlier ones come before. */
static const uint16_t *targets_of(const struct riffle_plan *plan, uint32_t index)
{
	const uint16_t *targets = plan->extable_targets;

	for (uint32_t i = 0; i < index; i++)
		if (plan->tables[i].kind == RIFFLE_TABLE_EXTABLE)
			targets += 2 * (size_t)plan->tables[i].entries;
	return targets;
}

int riffle_shuffle_table(struct shuffle_load *s, uint32_t index, uint8_t *scratch, struct riffle_error *error)
{
	const struct riffle_plan *plan = s->load.plan;
	const struct riffle_table *t = &plan->tables[index];
	uint32_t *place = s->place + (size_t)index * (plan->chunk_count + 1);
	const struct table_runs runs = {plan->runs + t->first_run};
	struct entry_writer writer = {.s = s, .table = s->load.image + t->image_offset};
	uint32_t region_total[PLAN_REGIONS_MAX];
	int status;

	if (t->kind == RIFFLE_TABLE_ORC && s->load.options & RIFFLE_LOAD_LAZY_TABLES)
		return RIFFLE_OK;
	if (t->kind == RIFFLE_TABLE_SITES)
		return write_sites(s, t, scratch, error);
	place_all(s, place, region_total, t->run_count, view_table_run, &runs);
	switch (t->kind) {
	case RIFFLE_TABLE_EXTABLE:
		writer.targets = targets_of(plan, index);
		return move_entries(s, t, t->image_offset, 12, place, region_total, &writer, write_extable, scratch,
				    error);
	case RIFFLE_TABLE_ORC:
		status = move_entries(s, t, t->image_offset, 4, place, region_total, &writer, write_orc_ip, scratch,
				      error);
		if (status)
			return status;
		writer.table = s->load.image + t->second_offset;
		return move_entries(s, t, t->second_offset, PLAN_ORC_STATE_BYTES, place, region_total, &writer,
				    write_orc_state, scratch, error);
	default:
		return move_entries(s, t, t->image_offset, 8, place, region_total, &writer, write_mcount, scratch,
				    error);
	}
}

/* kallsyms: the same for symbols, and for the bytes of their names. */

HOT struct run_view view_symbols(const void *opaque, uint32_t index)
{
	const struct riffle_plan *plan = opaque;
	const struct riffle_symbol_run *run = &plan->kallsyms_runs[index];

	return (struct run_view){run->chunk, run->symbols};
}

HOT uint32_t name_bytes(const struct riffle_plan *plan, uint32_t index)
{
	const struct riffle_symbol_run *run = &plan->kallsyms_runs[index];
	uint32_t end = index + 1 < plan->kallsyms_run_count ? run[1].name_offset : plan->kallsyms->names_bytes;

	return end - run->name_offset;
}

HOT struct run_view view_names(const void *opaque, uint32_t index)
{
	const struct riffle_plan *plan = opaque;

	return (struct run_view){plan->kallsyms_runs[index].chunk, name_bytes(plan, index)};
}

static int move_offsets(struct shuffle_load *s, const uint32_t *place, const uint32_t *region_total,
			uint8_t *scratch, struct riffle_error *error)
{
	const struct riffle_plan *plan = s->load.plan;
	const struct riffle_kallsyms *k = plan->kallsyms;
	struct walk walk = {.plan = plan, .place = place, .region_total = region_total};
	uint8_t *table = s->load.image + k->offsets;
	uint32_t from = 0;
	struct feed feed;

	feed_start(&feed, s, scratch, k->offsets, (uint64_t)k->symbols * 4);
	for (uint32_t i = 0; i < plan->kallsyms_run_count; i++) {
		const struct riffle_symbol_run *run = &plan->kallsyms_runs[i];
		uint32_t to = walk_run(&walk, run->chunk, run->symbols);
		uint32_t add = (uint32_t)s->shift[run->chunk];

		if (k->flags & RIFFLE_KALLSYMS_ABSOLUTE_PERCPU)
			add = -add;
		if (k->flags & RIFFLE_KALLSYMS_SELF_RELATIVE)
			add -= (to - from) * 4;
		for (uint32_t left = run->symbols, got; left; left -= got) {
			const uint8_t *entries;
			int status = feed_take(&feed, 4, left, &entries, &got, error);

			if (status)
				return status;
			for (uint32_t n = 0; n < got; n++)
				riffle_put32(table + 4 * ((size_t)to + n), riffle_get32(entries + 4 * (size_t)n) + add);
			from += got;
			to += got;
		}
	}
	return RIFFLE_OK;
}

static int move_names(struct shuffle_load *s, const uint32_t *place, const uint32_t *region_total, uint8_t *scratch,
		      struct riffle_error *error)
{
	const struct riffle_plan *plan = s->load.plan;
	const struct riffle_kallsyms *k = plan->kallsyms;
	struct walk walk = {.plan = plan, .place = place, .region_total = region_total};
	uint8_t *names = s->load.image + k->names;
	struct feed feed;

	feed_start(&feed, s, scratch, k->names, k->names_bytes);
	for (uint32_t i = 0; i < plan->kallsyms_run_count; i++) {
		uint32_t to = walk_run(&walk, plan->kallsyms_runs[i].chunk, name_bytes(plan, i));

		for (uint32_t left = name_bytes(plan, i), got; left; left -= got) {
			const uint8_t *bytes;
			int status = feed_take(&feed, 1, left, &bytes, &got, error);

			if (status)
				return status;
			memcpy(names + to, bytes, got);
			to += got;
		}
	}
	return RIFFLE_OK;
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
static int write_markers(struct shuffle_load *s, const uint32_t *symbol_place, const uint32_t *name_place,
			 struct riffle_error *error)
{
	const struct riffle_plan *plan = s->load.plan;
	const struct riffle_kallsyms *k = plan->kallsyms;
	const uint8_t *names = s->load.image + k->names;
	uint8_t *markers = s->load.image + k->markers;
	int status = load_read(&s->load, k->markers, markers, (size_t)(k->symbols + 255) / 256 * 4, error);

	if (status)
		return status;
	for (uint32_t i = 0; i < plan->kallsyms_run_count; i++) {
		const struct riffle_symbol_run *run = &plan->kallsyms_runs[i];
		uint32_t symbol, end, at;

		if (run->chunk >= plan->chunk_count)
			continue;
		symbol = symbol_place[run->chunk];
		end = symbol + run->symbols;
		if (symbol % 256 && symbol / 256 == (end - 1) / 256)
			continue;
		for (at = name_place[run->chunk]; symbol < end; symbol++) {
			if (symbol % 256 == 0)
				riffle_put32(markers + symbol / 256 * 4, at);
			at = skip_name(names, at, k->names_bytes);
		}
	}
	return RIFFLE_OK;
}

/* Each symbol's new place, by its old one. */
static void list_places(const struct shuffle_load *s, const uint32_t *place, const uint32_t *region_total)
{
	const struct riffle_plan *plan = s->load.plan;
	struct walk walk = {.plan = plan, .place = place, .region_total = region_total};
	uint32_t *out = s->symbol_place;

	for (uint32_t i = 0; i < plan->kallsyms_run_count; i++) {
		const struct riffle_symbol_run *run = &plan->kallsyms_runs[i];
		uint32_t to = walk_run(&walk, run->chunk, run->symbols);

		for (uint32_t n = 0; n < run->symbols; n++)
			*out++ = to++;
	}
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
	const struct riffle_plan *plan = s->load.plan;
	uint32_t *symbol_place = s->place + (size_t)plan->table_count * (plan->chunk_count + 1);
	uint32_t *name_place = symbol_place + plan->chunk_count + 1;
	uint32_t symbol_total[PLAN_REGIONS_MAX], name_total[PLAN_REGIONS_MAX];
	int status;

	if (!plan->kallsyms || !plan->kallsyms->symbols || s->load.options & RIFFLE_LOAD_LAZY_TABLES)
		return RIFFLE_OK;
	place_all(s, symbol_place, symbol_total, plan->kallsyms_run_count, view_symbols, plan);
	place_all(s, name_place, name_total, plan->kallsyms_run_count, view_names, plan);
	if ((status = move_offsets(s, symbol_place, symbol_total, scratch, error)) ||
	    (status = move_names(s, name_place, name_total, scratch, error)) ||
	    (status = write_markers(s, symbol_place, name_place, error)))
		return status;
	if (!plan->kallsyms->seqs)
		return RIFFLE_OK;
	list_places(s, symbol_place, symbol_total);
	return write_seqs(s, scratch, error);
}
