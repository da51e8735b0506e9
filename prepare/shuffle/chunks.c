/* SPDX-License-Identifier: Apache-2.0 */
/* Cuts .text into chunks: units that must keep their distance are joined, and whole groups move or are pinned. */
#include <stdlib.h>

#include "prepare/shuffle/internal.h"

static uint32_t unit_end(const struct work_unit *unit)
{
	return unit->offset + unit->bytes;
}

static void pin(struct work_unit *unit, enum shuffle_pin why)
{
	if (unit->pin == SHUFFLE_PIN_NONE)
		unit->pin = (uint8_t)why;
}

/*
 * Joins all units between two places. When they are too far apart for one chunk, both ends stay where they are. Ties
 * may be many and lie over each other: `depth` counts, for each unit, those that begin there less those that end there.
 */
static void join(struct work *work, int32_t *depth, uint32_t a, uint32_t b)
{
	uint32_t from = work_unit_at(work, a < b ? a : b), to = work_unit_at(work, a < b ? b : a);

	if (from != to && unit_end(&work->unit[to]) - work->unit[from].offset > SHUFFLE_CHUNK_MAX) {
		pin(&work->unit[from], SHUFFLE_PIN_LARGE);
		pin(&work->unit[to], SHUFFLE_PIN_LARGE);
		return;
	}
	depth[from + 1]++;
	depth[to + 1]--;
}

static int join_ties(struct work *work, struct riffle_error *error)
{
	int32_t *depth = calloc((size_t)work->unit_count + 2, sizeof *depth), now = 0;

	if (!depth)
		return riffle_fail(error, RIFFLE_ERR_MEMORY, "analysis", "out of memory");
	for (uint32_t i = 0; i < work->tie_count; i++)
		join(work, depth, work->tie[i].a, work->tie[i].b);
	for (uint32_t i = 0; i < work->unit_count; i++) {
		now += depth[i];
		work->unit[i].joined |= now > 0;
	}
	free(depth);
	return 0;
}

/* The first symbol of a unit; NULL for the bytes before the first symbol. */
static const struct work_symbol *unit_symbol(const struct work *work, const struct work_unit *unit)
{
	uint32_t i = work_first_symbol(work, unit->offset);

	return i < work->symbol_count && work->symbol[i].offset == unit->offset ? &work->symbol[i] : NULL;
}

static const char *unit_name(const struct work *work, const struct work_unit *unit)
{
	const struct work_symbol *symbol = unit_symbol(work, unit);

	return symbol ? symbol->name : "";
}

/* Padding before a function that has a name of its own: room for a prologue that the kernel may write at boot. */
static bool is_prefix(const struct work *work, const struct work_unit *unit)
{
	const char *name = unit_name(work, unit);

	return !strncmp(name, "__pfx_", 6) || !strncmp(name, "__cfi_", 6);
}

/* What the code itself says: it runs on into the next unit, starts where no chunk can, or precedes its function. */
static void join_neighbours(struct work *work)
{
	for (uint32_t i = 1; i < work->unit_count; i++) {
		struct work_unit *unit = &work->unit[i];

		/* code that runs on into a hole is not understood; a name for the end of something is no code */
		if (unit->hole && !unit[-1].code_bytes)
			continue;
		if (unit[-1].end == WORK_END_FALLS || unit->offset % SHUFFLE_ALIGN || is_prefix(work, unit - 1))
			unit->joined = true;
	}
}

/*
 * An alternative may replace the last jump of a unit by something that runs on: then the unit goes on behind it.
 * The entries of .altinstructions have been read as references to the instruction that is replaced.
 */
static void join_alternatives(struct work *work)
{
	const struct image_section *section = work_section(work, ".altinstructions");
	uint32_t start;

	if (!section || !work_offset(work, section->address, &start))
		return;
	for (uint32_t i = 0; i < work->ref_count; i++) {
		const struct shuffle_ref *ref = &work->ref[i];
		uint32_t unit;

		if (ref->field - start >= section->bytes || !work_in_text(work, ref->target))
			continue;
		unit = work_unit_at(work, ref->target);
		if (unit + 1 < work->unit_count && work->unit[unit].last == ref->target)
			work->unit[unit + 1].joined = true;
	}
}

static uint32_t orc_ip(const struct work *work, const struct shuffle_table *table, uint32_t i)
{
	uint32_t at = table->offset + i * 4;

	return at + riffle_get32(work->bytes + at);
}

/* Room before a function that no compiler named, and holes: nothing leads there, and it is never run. */
static bool is_room(const struct work *work, const struct work_unit *unit)
{
	const struct work_symbol *symbol = unit_symbol(work, unit);

	return unit->hole || (symbol && symbol->type == WORK_ROOM);
}

/*
 * objtool leaves out an unwind entry that says what the one before it says: a function without its own inherits that of
 * whatever precedes it, which therefore has to stay there. Room that is never run needs none, but its function does.
 */
static void join_unwind(struct work *work, const struct shuffle_table *table)
{
	uint32_t next = 0;

	for (uint32_t i = 1; i < work->unit_count; i++) {
		uint32_t offset = work->unit[i].offset;

		while (next < table->entries && (int32_t)(orc_ip(work, table, next) - offset) < 0)
			next++;
		if ((next < table->entries && orc_ip(work, table, next) == offset) || is_room(work, &work->unit[i]))
			continue;
		work->unit[i].joined = true;
		if (is_room(work, &work->unit[i - 1]))
			work->unit[i - 1].joined = true;
	}
}

/* Tables of places in code that the kernel patches: that one leads to a function does not mean that anyone calls it. */
static const char *const site_table[] = {".altinstructions", ".parainstructions", ".retpoline_sites", ".return_sites",
					 ".call_sites",      ".ibt_endbr_seal",   ".cfi_sites",       ".smp_locks"};

struct places {
	uint32_t start, bytes;
};

#define PLACES_MAX                                                                                                     \
	(sizeof site_table / sizeof *site_table + sizeof((struct shuffle *)0)->table / sizeof(struct shuffle_table))

static unsigned find_sites(const struct work *work, struct places *place)
{
	unsigned count = 0;

	for (unsigned i = 0; i < sizeof site_table / sizeof *site_table; i++) {
		const struct image_section *section = work_section(work, site_table[i]);

		if (section && work_offset(work, section->address, &place[count].start)) {
			place[count].bytes = (uint32_t)section->bytes;
			count++;
		}
	}
	for (unsigned i = 0; i < work->result->table_count; i++)
		if (work->result->table[i].kind == SHUFFLE_TABLE_MCOUNT)
			place[count++] =
			    (struct places){work->result->table[i].offset, work->result->table[i].entries * 8};
	return count;
}

/* Which units something else leads to, as far as is known. */
struct referred {
	const struct work *work;
	uint8_t *unit;
	struct places site[PLACES_MAX];
	unsigned sites;
};

/* A reference to the very start of a unit from elsewhere: from there on control can reach it. */
static void mark_referred(struct referred *r, uint32_t field, uint32_t target)
{
	const struct work *work = r->work;
	uint32_t unit;

	if (!work_in_text(work, target))
		return;
	unit = work_unit_at(work, target);
	if (work->unit[unit].offset != target || field - target < work->unit[unit].bytes)
		return;
	for (unsigned i = 0; i < r->sites; i++)
		if (field - r->site[i].start < r->site[i].bytes)
			return;
	r->unit[unit] = 1;
}

static void mark_absolute(struct referred *r, const struct image_relocs *list, unsigned bytes)
{
	const struct work *work = r->work;

	for (uint32_t i = 0; i < list->count; i++) {
		uint32_t field = list->offset[i], target;
		uint64_t value;

		if (!riffle_inside(field, bytes, work->image_bytes))
			continue;
		value = bytes == 8 ? riffle_get64(work->bytes + field)
				   : (uint64_t)(int32_t)riffle_get32(work->bytes + field);
		if (work_offset(work, value, &target))
			mark_referred(r, field, target);
	}
}

/* What lies between the routines of a table of code that is entered at a multiple of some power of two. */
static bool is_step(uint32_t bytes)
{
	return bytes >= 4 && bytes <= 64 && !(bytes & (bytes - 1));
}

/*
 * A unit to which nothing leads is dead, looked up by name, or reached by a computed distance from its predecessor, as
 * the steps of KVM's instruction emulator are (FASTOP in arch/x86/kvm/emulate.c). Where that could be, it stays there.
 */
static int join_orphans(struct work *work, struct riffle_error *error)
{
	struct referred r = {.work = work, .unit = calloc((size_t)work->unit_count + 2, 1)};
	uint32_t from, to;
	bool static_calls = pins_static_calls(work, &from, &to);

	if (!r.unit)
		return riffle_fail(error, RIFFLE_ERR_MEMORY, "analysis", "out of memory");
	r.sites = find_sites(work, r.site);
	for (uint32_t i = 0; i < work->ref_count; i++)
		mark_referred(&r, work->ref[i].field, work->ref[i].target);
	mark_absolute(&r, &work->image->reloc64, 8);
	mark_absolute(&r, &work->image->reloc32, 4);
	for (uint32_t i = 1; i < work->unit_count; i++) {
		struct work_unit *unit = &work->unit[i];
		bool orphan = !r.unit[i] && (!is_prefix(work, unit) || !r.unit[i + 1]);

		/* nothing computes its way from a trampoline */
		if (static_calls && unit->offset > from && unit->offset <= to)
			continue;
		if (orphan && !unit->hole && unit[-1].code_bytes && is_step(unit[-1].bytes))
			unit->joined = true;
	}
	free(r.unit);
	return 0;
}

/* One past the last unit of the group that begins at `first`. */
static uint32_t group_end(const struct work *work, uint32_t first)
{
	uint32_t end = first + 1;

	while (end < work->unit_count && work->unit[end].joined)
		end++;
	return end;
}

/* A group with a pinned unit is pinned, and so is one that would be too large. */
static void pin_groups(struct work *work)
{
	for (uint32_t first = 0, end; first < work->unit_count; first = end) {
		uint8_t why = SHUFFLE_PIN_NONE;

		end = group_end(work, first);
		for (uint32_t i = first; i < end && why == SHUFFLE_PIN_NONE; i++)
			why = work->unit[i].pin;
		if (why == SHUFFLE_PIN_NONE &&
		    unit_end(&work->unit[end - 1]) - work->unit[first].offset > SHUFFLE_CHUNK_MAX)
			why = SHUFFLE_PIN_LARGE;
		if (why == SHUFFLE_PIN_NONE &&
		    (work->unit[first].offset % SHUFFLE_ALIGN || unit_end(&work->unit[end - 1]) % SHUFFLE_ALIGN))
			why = SHUFFLE_PIN_ALIGNED;
		for (uint32_t i = first; i < end && why != SHUFFLE_PIN_NONE; i++)
			pin(&work->unit[i], why);
	}
}

/* Neighbouring movable units. */
struct region {
	uint32_t first, end; /* units */
	uint32_t chunks;
};

static int largest_first(const void *a, const void *b)
{
	const struct region *x = a, *y = b;

	if (x->chunks != y->chunks)
		return x->chunks > y->chunks ? -1 : 1;
	return x->first < y->first ? -1 : x->first > y->first;
}

static uint32_t find_regions(const struct work *work, struct region *region)
{
	uint32_t count = 0;

	for (uint32_t first = 0, end; first < work->unit_count; first = end) {
		end = group_end(work, first);
		if (work->unit[first].pin)
			continue;
		if (!first || work->unit[first - 1].pin)
			region[count++] = (struct region){first, end, 0};
		region[count - 1].end = end;
		region[count - 1].chunks++;
	}
	return count;
}

/* Pins the regions with the fewest chunks, which add least to what an attacker has to guess. */
static int limit_regions(struct work *work, uint32_t max, struct riffle_error *error)
{
	struct region *region = malloc(((size_t)work->unit_count + 1) * sizeof *region);
	uint32_t count;

	if (!region)
		return riffle_fail(error, RIFFLE_ERR_MEMORY, "analysis", "out of memory");
	count = find_regions(work, region);
	if (count > max)
		qsort(region, count, sizeof *region, largest_first);
	for (uint32_t i = max; i < count; i++)
		for (uint32_t unit = region[i].first; unit < region[i].end; unit++)
			pin(&work->unit[unit], SHUFFLE_PIN_ISLAND);
	free(region);
	return 0;
}

static uint32_t count_chunks(const struct work *work)
{
	uint32_t count = 0;

	for (uint32_t first = 0; first < work->unit_count; first = group_end(work, first))
		count += work->unit[first].pin == SHUFFLE_PIN_NONE;
	return count;
}

/* Joins neighbouring chunks, small ones first, until there are few enough. */
static void limit_chunks(struct work *work, uint32_t max)
{
	uint32_t count = count_chunks(work), paged = pins_paged(work);

	for (uint32_t bytes = 64; count > max && bytes <= SHUFFLE_CHUNK_MAX; bytes *= 2) {
		for (uint32_t first = 0, next, end; first < work->unit_count && count > max; first = next) {
			next = group_end(work, first);
			if (next == work->unit_count || work->unit[first].pin || work->unit[next].pin ||
			    work->unit[next].offset == paged)
				continue;
			end = group_end(work, next);
			if (unit_end(&work->unit[end - 1]) - work->unit[first].offset <= bytes) {
				work->unit[next].joined = true;
				count--;
				next = end;
			}
		}
	}
}

/* Bytes of C functions: not of start-up, entry and other bracketed code, nor the holes between such. */
static bool is_ordinary(const struct work_unit *unit)
{
	return unit->pin != SHUFFLE_PIN_HEAD && unit->pin != SHUFFLE_PIN_SECTION;
}

static void count_bytes(struct work *work)
{
	struct shuffle_census *census = &work->result->census;

	for (uint32_t first = 0, end; first < work->unit_count; first = end) {
		uint64_t bytes = 0, functions = 0;

		end = group_end(work, first);
		for (uint32_t i = first; i < end; i++) {
			if (is_ordinary(&work->unit[i]))
				bytes += work->unit[i].code_bytes;
			functions += !is_prefix(work, &work->unit[i]);
		}
		census->function_bytes += bytes;
		if (work->unit[first].pin == SHUFFLE_PIN_NONE) {
			census->movable_bytes += bytes;
			census->multi_function_bytes += functions > 1 ? bytes : 0;
		}
	}
}

/* Keeps the range's name, which is the symbols', for longer than they live. */
static void keep_name(struct work *work, struct shuffle_range *range, size_t *used)
{
	size_t bytes = strlen(range->name) + 1;

	memcpy(work->range_names + *used, range->name, bytes);
	range->name = work->range_names + *used;
	*used += bytes;
}

/* Ranges from groups; neighbours pinned for the same reason become one. */
static int make_ranges(struct work *work, struct riffle_error *error)
{
	struct shuffle *result = work->result;
	struct shuffle_range *range = NULL;
	size_t name_bytes = 0, used = 0;
	const uint32_t paged = pins_paged(work);

	result->range = calloc((size_t)work->unit_count + 1, sizeof *result->range);
	if (!result->range)
		return riffle_fail(error, RIFFLE_ERR_MEMORY, "analysis", "out of memory");
	for (uint32_t i = 0; i < work->unit_count; i++) {
		const struct work_unit *unit = &work->unit[i];

		if (!range || (unit->pin ? range->pin != unit->pin : !unit->joined)) {
			range = &result->range[result->range_count++];
			*range = (struct shuffle_range){unit->offset, 0, unit->pin, 0, unit_name(work, unit)};
			if (unit->offset == paged && unit->pin == SHUFFLE_PIN_NONE) {
				result->has_paged = true;
				result->paged_chunk = result->chunk_count;
			}
			result->chunk_count += unit->pin == SHUFFLE_PIN_NONE;
			name_bytes += strlen(range->name) + 1;
		}
		range->bytes += unit->bytes;
		range->functions += !is_prefix(work, unit);
	}
	work->range_names = malloc(name_bytes + 1);
	if (!work->range_names)
		return riffle_fail(error, RIFFLE_ERR_MEMORY, "analysis", "out of memory");
	for (uint32_t i = 0; i < result->range_count; i++)
		keep_name(work, &result->range[i], &used);
	return 0;
}

int chunks_build(struct work *work, struct riffle_error *error)
{
	int status = pins_set(work, error);

	if (status)
		return status;
	join_neighbours(work);
	join_alternatives(work);
	status = join_ties(work, error);
	if (status)
		return status;
	for (unsigned i = 0; i < work->result->table_count; i++)
		if (work->result->table[i].kind == SHUFFLE_TABLE_ORC)
			join_unwind(work, &work->result->table[i]);
	status = join_orphans(work, error);
	if (status)
		return status;
	pin_groups(work);
	status = limit_regions(work, SHUFFLE_REGIONS_MAX, error);
	if (status)
		return status;
	limit_chunks(work, SHUFFLE_CHUNKS_MAX);
	count_bytes(work);
	return make_ranges(work, error);
}
