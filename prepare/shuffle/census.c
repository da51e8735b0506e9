/* SPDX-License-Identifier: Apache-2.0 */
/* Proves that no table is missing: nothing but chance may look like a distance to code outside the tables we know. */
#include <stdlib.h>

#include "common/search.h"
#include "prepare/shuffle/tables.h"

/*
 * A table that nobody knew of would fail silently, long after the boot. But distances to code do not look like other
 * data: every one of them, read in its place, leads exactly to an instruction, while other words that happen to lead
 * into .text hit an instruction once in five times, and of a thousand words few lead there at all. So each word of the
 * image is tried, at every byte, aligned or not, except
 *   - code, where the disassembly says what each byte is,
 *   - the tables that have been read,
 *   - fields of absolute relocations, which hold addresses and so no distances, and those that a .rela explains,
 *   - memory without file contents.
 * Nothing is left out as "only strings" or "only constants". A 64-bit distance is found by its lower half. What
 * remains is refused when it is no chance any more:
 *
 *   runs      words a constant step apart all of which lead to instructions, at least one of which moves. The longest
 * by chance is 4 words over four stock kernels (6.1 and 6.12, cloud and generic). objects   what lies between two
 * symbols, or between X_start and X_end (a table too short for a run), of which every 1st, 2nd, 3rd or 4th word leads
 * to an instruction. None by chance. sections  a section by its header, of which three quarters of the words lead into
 * functions, to instructions or not (operands are referred to as well). None by chance. switches  words in a row that
 * lead into functions, but not to instructions, and differ: distances from somewhere else, such as a compiler's jump
 * table relative to its start. The longest by chance is 4.
 */
#define STEP_MAX 64u
#define RUN_WORDS 8u
#define OBJECT_WORDS 3u
#define PAIR_BYTES 512u /* longer ones are found as runs */
#define SECTION_WORDS 3u
#define SWITCH_WORDS 8u

/* What the four bytes from an offset on are, read as a distance from there. */
enum kind {
	KNOWN, /* not tried; 0, so that memory without file contents is never touched */
	OTHER,
	MOVES,  /* leads to an instruction of a movable chunk */
	FIXED,  /* leads to an instruction elsewhere */
	INSIDE, /* leads into a movable chunk, but to no instruction */
};

struct census {
	struct work *work;
	uint8_t *kind;  /* of each byte of the image */
	uint32_t *lead; /* offsets of all MOVES, FIXED and INSIDE, ascending */
	uint32_t lead_count, lead_room;
	uint32_t *into[4]; /* of these MOVES and INSIDE, by their offset modulo 4; in one allocation */
	uint32_t into_count[4];
};

static int unexplained(const struct census *c, const char *problem, uint32_t offset, struct riffle_error *error)
{
	return riffle_fail_found(error, RIFFLE_ERR_UNSUPPORTED, "completeness", problem, c->work->link_virt + offset);
}

static void know(struct census *c, uint64_t offset, uint64_t bytes)
{
	if (riffle_inside(offset, bytes, c->work->image_bytes))
		memset(c->kind + offset, KNOWN, bytes);
}

static void know_relocs(struct census *c, const struct image_relocs *list, unsigned bytes)
{
	for (uint32_t i = 0; i < list->count; i++)
		know(c, list->offset[i], bytes);
}

/* Everything that is not tried; what lies in no segment's file bytes is memory only. */
static void know_all(struct census *c)
{
	const struct work *work = c->work;
	const struct riffle_image *image = work->image;

	for (unsigned i = 0; i < image->segment_count; i++) {
		const struct image_segment *s = &image->segment[i];

		if (riffle_inside(s->phys - image->link_phys, s->file_bytes, work->image_bytes))
			memset(c->kind + (s->phys - image->link_phys), OTHER, s->file_bytes);
	}
	for (unsigned i = 0; i < work->code_count; i++)
		know(c, work->code[i].offset, work->code[i].bytes);
	for (unsigned i = 0; i < work->known_count; i++)
		know(c, work->known[i].offset, work->known[i].bytes);
	know_relocs(c, &image->reloc64, 8);
	know_relocs(c, &image->reloc32, 4);
	know_relocs(c, &image->reloc32_inverse, 4);
	for (uint32_t i = 0; i < work->result->ref_count; i++)
		if (work->result->ref[i].found_by & SHUFFLE_BY_RELA)
			know(c, work->result->ref[i].field, 4);
}

static bool is_movable(const struct work *work, uint32_t offset)
{
	const struct shuffle *result = work->result;
	const struct shuffle_range *r = result->range;
	uint32_t next;

	RIFFLE_FIRST_WHERE(next, result->range_count, r[next].offset > offset);
	return next && offset - r[next - 1].offset < r[next - 1].bytes && r[next - 1].pin == SHUFFLE_PIN_NONE;
}

/* Padding is decoded as instructions, but nobody refers to it unless it has a name. */
static bool is_padding(const struct work *work, uint32_t offset)
{
	uint32_t i;

	if (work->bytes[offset] != 0x90 && work->bytes[offset] != 0xcc)
		return false;
	i = work_first_symbol(work, offset);
	return i == work->symbol_count || work->symbol[i].offset != offset;
}

static enum kind kind_of(const struct work *work, uint32_t target)
{
	bool instruction;

	if (!table_in_code(work, target, false))
		return OTHER;
	instruction = work_is_start(work, target) && !is_padding(work, target);
	if (!work_in_text(work, target) || !is_movable(work, target))
		return instruction ? FIXED : OTHER;
	return instruction ? MOVES : INSIDE;
}

bool census_is_fixed(const struct work *work, uint32_t target)
{
	return work_is_start(work, target) && kind_of(work, target) == FIXED;
}

static bool leads(const struct census *c, uint32_t offset)
{
	return c->kind[offset] == MOVES || c->kind[offset] == FIXED;
}

/* The words that start in [from, end). */
static int try_words(struct census *c, uint64_t from, uint64_t end, struct riffle_error *error)
{
	struct work *work = c->work;
	struct shuffle_census *sums = &work->result->census;
	const uint8_t *kind = c->kind;
	uint32_t target;
	int status;

	for (uint32_t at = (uint32_t)from; at < end && at + 4 <= work->image_bytes; at++) {
		if (kind[at] == KNOWN || kind[at + 1] == KNOWN || kind[at + 2] == KNOWN || kind[at + 3] == KNOWN ||
		    !riffle_get32(work->bytes + at))
			continue;
		sums->words_scanned++;
		c->kind[at] = (uint8_t)(table_target(work, at, &target) ? kind_of(work, target) : OTHER);
		if (c->kind[at] == OTHER)
			continue;
		sums->words_chance += c->kind[at] == MOVES;
		status = work_grow(&c->lead, c->lead_count, &c->lead_room, sizeof *c->lead, error);
		if (status)
			return status;
		c->lead[c->lead_count++] = at;
	}
	return 0;
}

static int try_all_words(struct census *c, struct riffle_error *error)
{
	const struct riffle_image *image = c->work->image;
	int status = 0;

	for (unsigned i = 0; i < image->segment_count && !status; i++) {
		const struct image_segment *s = &image->segment[i];
		uint64_t from = s->phys - image->link_phys;

		if (riffle_inside(from, s->file_bytes, c->work->image_bytes))
			status = try_words(c, from, from + s->file_bytes, error);
	}
	return status;
}

/* Sorts what leads into functions by the residue, for sections' words to be counted without walking them. */
static int sort_leads(struct census *c, struct riffle_error *error)
{
	uint32_t *at = malloc(((size_t)c->lead_count + 1) * sizeof *at);

	if (!at)
		return riffle_fail(error, RIFFLE_ERR_MEMORY, "analysis", "out of memory");
	for (unsigned residue = 0; residue < 4; residue++) {
		c->into[residue] = at;
		for (uint32_t i = 0; i < c->lead_count; i++)
			if (c->lead[i] % 4 == residue && c->kind[c->lead[i]] != FIXED)
				*at++ = c->lead[i];
		c->into_count[residue] = (uint32_t)(at - c->into[residue]);
	}
	return 0;
}

/*
 * The different words of a run, as far as they matter: an array of a constant, or a pattern that repeats, leads to as
 * many places as it has elements, a table never does.
 */
struct words {
	uint32_t word[RUN_WORDS > SWITCH_WORDS ? RUN_WORDS : SWITCH_WORDS];
	uint32_t count;
};

static void add_word(struct words *seen, uint32_t word)
{
	for (uint32_t i = 0; i < seen->count; i++)
		if (seen->word[i] == word)
			return;
	if (seen->count < sizeof seen->word / sizeof *seen->word)
		seen->word[seen->count++] = word;
}

/* A run of words with this step starts here that is too long for chance, one of which at least leads to a chunk. */
static bool is_run(const struct census *c, uint32_t start, uint32_t step)
{
	struct words seen = {.count = 0};
	bool moves = false;

	if (start >= step && leads(c, start - step))
		return false;
	for (uint64_t at = start; at < c->work->image_bytes && leads(c, (uint32_t)at); at += step) {
		add_word(&seen, riffle_get32(c->work->bytes + at));
		moves |= c->kind[at] == MOVES;
		if (moves && seen.count >= RUN_WORDS)
			return true;
	}
	return false;
}

static bool is_switch(const struct census *c, uint32_t start)
{
	struct words seen = {.count = 0};

	if (start % 4 || (start >= 4 && (c->kind[start - 4] == INSIDE || c->kind[start - 4] == MOVES)))
		return false;
	for (uint64_t at = start; at < c->work->image_bytes && (c->kind[at] == INSIDE || c->kind[at] == MOVES);
	     at += 4) {
		add_word(&seen, riffle_get32(c->work->bytes + at));
		if (seen.count >= SWITCH_WORDS)
			return true;
	}
	return false;
}

static int judge_runs(const struct census *c, struct riffle_error *error)
{
	for (uint32_t i = 0; i < c->lead_count; i++) {
		uint32_t at = c->lead[i];

		for (uint32_t step = 1; leads(c, at) && step <= STEP_MAX; step++)
			if (is_run(c, at, step))
				return unexplained(c, "an unknown table: words in a row lead to instructions", at,
						   error);
		if (c->kind[at] != FIXED && is_switch(c, at))
			return unexplained(c, "an unknown table: words in a row lead into functions", at, error);
	}
	return 0;
}

/* Every step-th word of [from, to), from the first on, leads to an instruction. */
static bool is_object(const struct census *c, uint32_t from, uint32_t to, uint32_t step)
{
	uint32_t words = 0;
	bool moves = false;

	for (uint64_t at = from; at + 4 <= to; at += step) {
		if (!leads(c, (uint32_t)at))
			return false;
		words++;
		moves |= c->kind[at] == MOVES;
	}
	return moves && words >= OBJECT_WORDS;
}

static int judge_object(const struct census *c, uint32_t from, uint32_t to, struct riffle_error *error)
{
	for (uint32_t step = 4; step <= 16; step += 4)
		for (uint32_t field = 0; field < step && from + field < to; field += 4)
			if (is_object(c, from + field, to, step))
				return unexplained(c, "an unknown table: an object's words lead to instructions",
						   from + field, error);
	return 0;
}

/* A name in which the first "start" is another word: the name of the end of what begins at `start`. */
struct other_name {
	const char *start, *word;
};

/* strcmp() with a name that is nowhere spelt out. */
static int compare_names(const char *name, const struct other_name *other)
{
	const char *at = strstr(other->start, "start");
	size_t before = (size_t)(at - other->start), length = strlen(other->word);
	int order = strncmp(name, other->start, before);

	if (!order)
		order = strncmp(name + before, other->word, length);
	return order ? order : strcmp(name + before + length, at + strlen("start"));
}

static int by_name(const void *a, const void *b)
{
	const struct work_symbol *x = *(const struct work_symbol *const *)a, *y = *(const struct work_symbol *const *)b;
	int order = strcmp(x->name, y->name);

	return order ? order : (x > y) - (x < y);
}

/* Symbols that can end an object, by name and place. */
struct ends {
	const struct work_symbol **symbol;
	uint32_t count;
};

static int find_ends(struct ends *ends, const struct work *work, struct riffle_error *error)
{
	uint32_t count = 0;

	for (uint32_t i = 0; i < work->symbol_count; i++)
		count += strstr(work->symbol[i].name, "end") || strstr(work->symbol[i].name, "stop");
	ends->symbol = malloc(((size_t)count + 1) * sizeof *ends->symbol);
	if (!ends->symbol)
		return riffle_fail(error, RIFFLE_ERR_MEMORY, "analysis", "out of memory");
	for (uint32_t i = 0; i < work->symbol_count; i++)
		if (strstr(work->symbol[i].name, "end") || strstr(work->symbol[i].name, "stop"))
			ends->symbol[ends->count++] = &work->symbol[i];
	qsort(ends->symbol, ends->count, sizeof *ends->symbol, by_name);
	return 0;
}

/* In the order of names, then of addresses. */
static bool is_after(const struct work_symbol *s, const struct work_symbol *start, const struct other_name *wanted)
{
	int order = compare_names(s->name, wanted);

	return order > 0 || (!order && s > start);
}

/* The first symbol of that name after `start`; NULL when there is none. */
static const struct work_symbol *find_end(const struct ends *ends, const struct work_symbol *start, const char *word)
{
	const struct other_name wanted = {start->name, word};
	uint32_t i;

	RIFFLE_FIRST_WHERE(i, ends->count, is_after(ends->symbol[i], start, &wanted));
	return i < ends->count && !compare_names(ends->symbol[i]->name, &wanted) ? ends->symbol[i] : NULL;
}

static int judge_pair(const struct census *c, const struct ends *ends, const struct work_symbol *start,
		      struct riffle_error *error)
{
	static const char *const words[] = {"end", "stop"};
	int status = 0;

	for (unsigned i = 0; i < sizeof words / sizeof *words && !status; i++) {
		const struct work_symbol *end = find_end(ends, start, words[i]);

		if (end && end->offset - start->offset <= PAIR_BYTES)
			status = judge_object(c, start->offset, end->offset, error);
	}
	return status;
}

static int judge_objects(const struct census *c, struct riffle_error *error)
{
	const struct work *work = c->work;
	struct ends ends = {0};
	int status = find_ends(&ends, work, error);

	for (uint32_t i = 0; i + 1 < work->symbol_count && !status; i++) {
		const struct work_symbol *s = &work->symbol[i];

		status = judge_object(c, s->offset, s[1].offset, error);
		if (!status && strstr(s->name, "start") && !table_in_code(work, s->offset, false))
			status = judge_pair(c, &ends, s, error);
	}
	free(ends.symbol);
	return status;
}

static int judge_sections(const struct census *c, struct riffle_error *error)
{
	const struct work *work = c->work;

	for (unsigned i = 0; i < work->image->section_count; i++) {
		const struct image_section *s = &work->image->section[i];
		uint32_t from, words = (uint32_t)(s->bytes / 4), into;

		if (!work_offset(work, s->address, &from) || !riffle_inside(from, s->bytes, work->image_bytes))
			continue;
		into = riffle_first_at_least(c->into[from % 4], c->into_count[from % 4],
					     (uint64_t)from + 4 * (uint64_t)words) -
		       riffle_first_at_least(c->into[from % 4], c->into_count[from % 4], from);
		if (into >= SECTION_WORDS && into >= words - words / 4)
			return unexplained(c, "an unknown table: a section's words lead into functions", from, error);
	}
	return 0;
}

int census_take(struct work *work, struct riffle_error *error)
{
	struct census c = {.work = work, .kind = calloc((size_t)work->image_bytes + 4, 1)};
	int status;

	if (!c.kind)
		return riffle_fail(error, RIFFLE_ERR_MEMORY, "analysis", "out of memory");
	know_all(&c);
	status = try_all_words(&c, error);
	if (!status)
		status = sort_leads(&c, error);
	if (!status)
		status = judge_runs(&c, error);
	if (!status)
		status = judge_objects(&c, error);
	if (!status)
		status = judge_sections(&c, error);
	free(c.into[0]);
	free(c.kind);
	free(c.lead);
	return status;
}
