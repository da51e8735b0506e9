/* SPDX-License-Identifier: Apache-2.0 */
/* Computes what one leaked pointer leaves to guess, from what the layouts are drawn from. */
#include "cli/commands/leaks.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include <riffle/layout.h>

#include "common/fail.h"

/* Addresses and distances are counted in pages: every gap and every slot is a multiple of one. */
#define PAGE 4096u
#define SLOT_PAGES ((uint32_t)(RIFFLE_SLOT_BYTES / PAGE))

/* The probability of each number of pages. */
struct spread {
	double *chance;
	size_t count;
};

static double bits_of(double chance)
{
	return chance < 1 ? -log2(chance) : 0;
}

static double larger(double a, double b)
{
	return a > b ? a : b;
}

static double smaller(double a, double b)
{
	return a < b ? a : b;
}

/* Adds a number drawn from 0, step, 2 step, … with `count` of them equally likely. Returns false without memory. */
static bool spread_add(struct spread *s, uint64_t count, uint32_t step)
{
	size_t sum = s->count + (count - 1) * step;
	double *chance = calloc(sum, sizeof *chance);

	if (!chance)
		return false;
	for (size_t i = 0; i < s->count; i++) {
		double each = s->chance[i] / (double)count;

		for (uint64_t k = 0; each > 0 && k < count; k++)
			chance[i + k * step] += each;
	}
	free(s->chance);
	*s = (struct spread){chance, sum};
	return true;
}

/*
 * A gap that the next one complements moves its own block and no other: all that follow move by the sum of both, which
 * is no secret.
 */
static bool is_own(const struct leak_limits *limits, uint32_t i)
{
	return i + 1 + limits->balanced < limits->block_count && !limits->block[i + 1].gaps;
}

/*
 * The sum of the gaps after block `from` up to the one before block `to`, without those that only move one block; and
 * of a slot, if there is more than one.
 */
static bool spread_make(struct spread *s, const struct leak_limits *limits, uint32_t from, uint32_t to, uint64_t slots)
{
	bool ok;

	*s = (struct spread){calloc(1, sizeof *s->chance), 1};
	if (!s->chance)
		return false;
	s->chance[0] = 1;
	ok = spread_add(s, slots, SLOT_PAGES);
	for (uint32_t i = from + 1; ok && i <= to; i++)
		if (limits->block[i].gaps && !is_own(limits, i))
			ok = spread_add(s, limits->block[i].gaps, limits->block[i].align / PAGE);
	return ok;
}

/* Adds the gap that only moves this block, if it has one. */
static bool spread_add_own(struct spread *s, const struct leak_limits *limits, uint32_t block)
{
	return !is_own(limits, block) || spread_add(s, limits->block[block].gaps, limits->block[block].align / PAGE);
}

static double likeliest(const struct spread *s)
{
	double most = 0;

	for (size_t i = 0; i < s->count; i++)
		most = larger(most, s->chance[i]);
	return most;
}

/*
 * The sum of both is known: the chance to guess the first right. Each sum has a likeliest pair; the chances of these
 * pairs add up.
 */
static bool guess_addend(double *chance, const struct spread *guessed, const struct spread *added)
{
	double *best = calloc(guessed->count + added->count, sizeof *best);

	if (!best)
		return false;
	for (size_t i = 0; i < guessed->count; i++)
		for (size_t k = 0; guessed->chance[i] > 0 && k < added->count; k++) {
			double both = guessed->chance[i] * added->chance[k];

			best[i + k] = both > best[i + k] ? both : best[i + k];
		}
	*chance = 0;
	for (size_t i = 0; i < guessed->count + added->count; i++)
		*chance += best[i];
	free(best);
	return true;
}

/* How many multiples of a slot can be subtracted from one sum of gaps. */
static uint64_t count_bases(const struct spread *gaps, uint64_t slots)
{
	uint64_t most = 1;

	for (uint32_t rest = 0; rest < SLOT_PAGES; rest++) {
		uint64_t count = 0;

		for (size_t i = rest; i < gaps->count; i += SLOT_PAGES)
			count += gaps->chance[i] > 0;
		if (count > most)
			most = count;
	}
	return most < slots ? most : slots;
}

/* --- a pointer to a block --- */

/* What two addresses have in common, and what is each one's alone: a known one's, and one that is to be guessed. */
struct addresses {
	struct spread common, known, guessed;
	bool even; /* what is guessed alone is drawn evenly from equal steps */
};

/* Numbers that what is common may be if the known address is one certain sum, with the chances of both together. */
struct candidate {
	size_t at;
	double chance;
};

/* The chance of the likeliest address to guess, together with the known one. */
static double best_of(const struct candidate *c, size_t count, const struct addresses *a)
{
	double most = 0;

	/* what is drawn evenly from equal steps is a window over the candidates: the best one begins with one of them
	 */
	for (size_t k = 0; k < count; k++)
		for (size_t i = 0; i < (a->even ? 1 : a->guessed.count); i++) {
			double sum = 0;

			for (size_t n = 0; n < count; n++)
				if (c[k].at + i >= c[n].at && c[k].at + i - c[n].at < a->guessed.count)
					sum += c[n].chance * a->guessed.chance[c[k].at + i - c[n].at];
			most = larger(most, sum);
		}
	return most;
}

/* The same chance for all known addresses, where both have something of their own. */
static bool guess_apart(double *chance, const struct addresses *a)
{
	size_t *at = calloc(a->common.count, sizeof *at), ats = 0, from = 0;
	struct candidate *c = calloc(a->common.count, sizeof *c);
	double alone = likeliest(&a->guessed);

	*chance = 0;
	for (size_t i = 0; at && c && i < a->common.count; i++)
		if (a->common.chance[i] > 0)
			at[ats++] = i;
	for (size_t sum = 0; ats && sum < a->common.count + a->known.count; sum++) {
		size_t count = 0;

		while (from < ats && at[from] + a->known.count <= sum)
			from++;
		for (size_t i = from; i < ats && at[i] <= sum; i++) {
			double both = a->common.chance[at[i]] * a->known.chance[sum - at[i]];

			if (both > 0)
				c[count++] = (struct candidate){at[i], both};
		}
		*chance += count == 1 ? c->chance * alone : best_of(c, count, a);
	}
	free(at);
	free(c);
	return ats;
}

/* The address of something in block `leaked` is known: the chance to guess that of block `place`. */
static bool guess_block(double *chance, const struct leak_limits *limits, uint32_t leaked, uint32_t place,
			uint64_t slots)
{
	uint32_t first = place < leaked ? place : leaked;
	struct addresses a = {.even = place < leaked};
	bool ok;

	*chance = 1;
	if (place == leaked)
		return true;
	/* the gaps after a block have nothing to do with its address */
	ok = spread_make(&a.common, limits, 0, first, slots) && spread_make(&a.known, limits, first, leaked, 1) &&
	     spread_make(&a.guessed, limits, first, place, 1) && spread_add_own(&a.known, limits, leaked) &&
	     spread_add_own(&a.guessed, limits, place);
	if (ok && a.known.count == 1)
		*chance = likeliest(&a.guessed);
	else if (ok)
		ok = a.guessed.count == 1 ? guess_addend(chance, &a.common, &a.known) : guess_apart(chance, &a);
	free(a.common.chance);
	free(a.known.chance);
	free(a.guessed.chance);
	return ok;
}

static bool guess_unaided(double *chance, const struct leak_limits *limits, uint32_t place, uint64_t slots)
{
	struct spread address = {0};
	bool ok = spread_make(&address, limits, 0, place, slots) && spread_add_own(&address, limits, place);

	if (ok)
		*chance = likeliest(&address);
	free(address.chance);
	return ok;
}

/* --- a pointer to a function that moves --- */

/* The chance to guess a block's address from `bases` consecutive slots that are equally likely. */
static double guess_from_bases(const struct spread *slide, uint64_t bases)
{
	double most = 0, sum;

	for (size_t at = 0; at < slide->count + (bases - 1) * SLOT_PAGES; at++) {
		sum = 0;
		for (uint64_t i = 0; i < bases && i * SLOT_PAGES <= at; i++)
			if (at - i * SLOT_PAGES < slide->count)
				sum += slide->chance[at - i * SLOT_PAGES];
		most = larger(most, sum);
	}
	return most;
}

/*
 * A function may begin on any page of its region, each as likely as any other: how many bases an address leaves depends
 * on where in the region it would lie.
 */
static bool guess_by_function(double *chance, const struct leak_limits *limits, uint32_t place, uint64_t slots)
{
	uint64_t pages = (limits->region_bytes + PAGE - 1) / PAGE, all = pages + (slots - 1) * SLOT_PAGES;
	uint64_t most = (pages + SLOT_PAGES - 1) / SLOT_PAGES;
	double *from = calloc(most + 2, sizeof *from);
	struct spread slide = {0};
	bool ok = from && spread_make(&slide, limits, 0, place, 1) && spread_add_own(&slide, limits, place);

	for (uint64_t i = 1; ok && i <= most; i++)
		from[i] = guess_from_bases(&slide, i);
	*chance = 0;
	for (uint64_t at = 0; ok && at < all; at++) {
		uint64_t last = at / SLOT_PAGES, first = at < pages ? 0 : (at - pages) / SLOT_PAGES + 1;

		if (last >= slots)
			last = slots - 1;
		if (first <= last)
			*chance += from[last - first + 1] / ((double)slots * (double)pages);
	}
	free(from);
	free(slide.chance);
	return ok;
}

static uint64_t bases_of_function(const struct leak_limits *limits, uint64_t slots)
{
	uint64_t left = (limits->region_bytes + RIFFLE_SLOT_BYTES - 1) / RIFFLE_SLOT_BYTES;

	return left < slots ? left : slots;
}

/* --- the table --- */

/* The block whose place is as well known as that of this kind. */
static uint32_t block_of_kind(const struct leak_limits *limits, uint32_t kind)
{
	for (uint32_t i = 0; i < limits->block_count; i++)
		if (limits->block[i].kind == kind)
			return limits->balanced && i + 1 == limits->block_count ? 0 : i;
	return 0;
}

static uint32_t block_of_place(const struct leak_limits *limits, enum leak_place place)
{
	static const uint32_t kinds[LEAK_PLACES] = {RIFFLE_BLOCK_TEXT, RIFFLE_BLOCK_RODATA, RIFFLE_BLOCK_DATA,
						    RIFFLE_BLOCK_BSS, RIFFLE_BLOCK_BRK};

	return block_of_kind(limits, kinds[place]);
}

static uint32_t block_of_leak(const struct leak_limits *limits, enum leak leak)
{
	switch (leak) {
	case LEAK_RODATA:
		return block_of_kind(limits, RIFFLE_BLOCK_RODATA);
	case LEAK_DATA:
		return block_of_kind(limits, RIFFLE_BLOCK_DATA);
	case LEAK_BSS:
		return block_of_kind(limits, RIFFLE_BLOCK_BSS);
	case LEAK_BRK:
		return block_of_kind(limits, RIFFLE_BLOCK_BRK);
	default:
		return 0;
	}
}

static bool count_left(struct leak_left *left, const struct leak_limits *limits, enum leak leak, uint32_t leaked,
		       uint64_t slots)
{
	struct spread gaps = {0};
	bool ok = true;

	if (leak == LEAK_NONE) {
		left->bases = slots;
	} else if (leak == LEAK_FUNCTION && limits->chunks) {
		left->bases = bases_of_function(limits, slots);
	} else {
		ok = spread_make(&gaps, limits, 0, leaked, 1) && spread_add_own(&gaps, limits, leaked);
		left->bases = ok ? count_bases(&gaps, slots) : 1;
	}
	free(gaps.chance);
	return ok;
}

/*
 * A function's place is one of as many as there are chunks, by a chance of one in as many: its address is the base plus
 * the sum of the chunks before it, and a rank of its own is as likely as any. No more of the bases than its region
 * spans can give one address.
 */
static double function_left(const struct leak_limits *limits, enum leak leak, double base, uint64_t slots)
{
	double place = log2(limits->chunks), overlap = log2((double)bases_of_function(limits, slots));

	if (leak == LEAK_FUNCTION)
		return limits->chunks > 1 ? log2(limits->chunks - 1.0) : 0;
	return place + larger(0, base - overlap);
}

/* One row; limits are those of the mode. */
static bool fill_row(struct leak_left *left, const struct leak_limits *limits, enum leak leak, uint64_t slots)
{
	uint32_t leaked = block_of_leak(limits, leak);
	bool ok = true;

	*left = (struct leak_left){.bases = 1};
	if (leak == LEAK_READS) /* pointers to all of these lie in all of them */
		return true;
	for (unsigned i = 0; ok && i < LEAK_PLACES; i++) {
		uint32_t place = block_of_place(limits, i);
		double chance = 1;

		if (leak == LEAK_NONE)
			ok = guess_unaided(&chance, limits, place, slots);
		else if (leak == LEAK_FUNCTION && limits->chunks)
			ok = guess_by_function(&chance, limits, place, slots);
		else
			ok = guess_block(&chance, limits, leaked, place, slots);
		left->place[i] = bits_of(chance);
	}
	left->function = left->function_reuse = left->place[LEAK_PLACE_BASE];
	if (limits->chunks) {
		left->function = function_left(limits, leak, left->place[LEAK_PLACE_BASE], slots);
		/* with a kit the base is all that has to be guessed: the kernel's own tables tell the rest */
		left->function_reuse =
		    limits->kit ? smaller(left->place[LEAK_PLACE_BASE], left->function) : left->function;
	}
	return ok && count_left(left, limits, leak, leaked, slots);
}

bool leak_mode_shuffles(enum leak_mode mode)
{
	return mode == LEAK_MODE_FGKASLR || mode == LEAK_MODE_FGKASLR_SLIDE;
}

bool leak_mode_slides(enum leak_mode mode)
{
	return mode == LEAK_MODE_KASLR_SLIDE || mode == LEAK_MODE_FGKASLR_SLIDE;
}

int leak_table_make(struct leak_table *table, const struct leak_limits *limits, struct riffle_error *error)
{
	memset(table, 0, sizeof *table);
	for (unsigned mode = 0; mode < LEAK_MODES; mode++) {
		struct leak_limits of_mode = *limits;
		uint64_t slots = leak_mode_slides(mode) ? limits->slots_slid : limits->slots;

		if (mode == LEAK_MODE_OFF)
			slots = 1;
		if (!leak_mode_shuffles(mode))
			of_mode.chunks = 0;
		if (!leak_mode_slides(mode))
			of_mode.block_count = 0;
		table->has[mode] = slots && (!leak_mode_shuffles(mode) || limits->chunks) &&
				   (mode == LEAK_MODE_OFF || limits->slots > 1);
		for (unsigned leak = 0; table->has[mode] && leak < LEAKS; leak++)
			if (!fill_row(&table->left[mode][leak], &of_mode, leak, slots))
				return riffle_fail(error, RIFFLE_ERR_MEMORY, "leaks", "no memory for what they leave");
	}
	return RIFFLE_OK;
}

const char *leak_mode_name(enum leak_mode mode)
{
	static const char *const names[LEAK_MODES] = {"off", "kaslr", "fgkaslr", "kaslr+slide", "fgkaslr+slide"};

	return names[mode];
}

const char *leak_name(enum leak leak)
{
	static const char *const names[LEAKS] = {"none", "function", "fixed_code", "read_only_data",
						 "data", "bss",      "brk",        "reads_memory"};

	return names[leak];
}

const char *leak_words(enum leak leak)
{
	static const char *const words[LEAKS] = {
	    "nothing", "a function that moves", "code that does not move", "read-only data", "data", ".bss",
	    ".brk",    "(reads memory at will)"};

	return words[leak];
}

const char *leak_place_name(enum leak_place place)
{
	static const char *const names[LEAK_PLACES] = {"base", "read_only_data", "data", "bss", "brk"};

	return names[place];
}
