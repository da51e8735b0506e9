/* SPDX-License-Identifier: Apache-2.0 */
/* Looks for unknown tables of distances from one block to another: nothing but chance may look like one. */
#include <stdlib.h>

#include "prepare/shuffle/slides.h"

/*
 * Distances to data lead to where something begins: a variable, a string, a function, or a member near the beginning of
 * a variable. So each word of the image outside code, known tables and relocated fields is tried, at every byte, as a
 * distance from where it is, and each aligned one from a few words before it (struct bug_entry of 5.10 counts from its
 * start). One that leads into another block, to such a place or to an instruction that does not move, is a lead. By
 * chance few words do. Instructions that move are the business of the other census.
 *   runs      leads a constant step apart, RUN_WORDS of them different; by chance 5 in the middle of other words,
 *             over stock kernels of 5.10, 6.1 and 6.12, and of aligned words not 4
 *   sections  a section, by its header, of which three quarters of the words are leads
 *   unread    any lead in code that is not understood
 *   objects   what lies between two symbols, of which every 1st, 2nd, 3rd or 4th word is a lead, OBJECT_WORDS of them
 *             different
 */
#define STEP_MAX 64u
#define RUN_WORDS 6u
#define ODD_RUN_WORDS 8u /* the same of words that are not aligned */
#define OBJECT_WORDS 4u
#define SECTION_WORDS 3u
#define NOPS_MIN 4u      /* fewer bytes could be part of something else */
#define MEMBER_BYTES 16u /* up to here a member of a variable is near its beginning */
#define ORIGINS 4u       /* where a distance may count from: its own place, and so many words before it, less one */

/* Words that are leads if they count from `back` bytes before them. */
struct leads {
	uint8_t *bit; /* for each byte of the image: the word here is one */
	uint32_t *at; /* all of them, ascending */
	uint32_t back, count, room;
};

struct census {
	struct work *work;
	uint8_t *known; /* a bit for each byte of the image: not tried */
	uint8_t *place; /* a bit for each byte: something begins here */
	struct leads leads[ORIGINS];
};

static bool get(const uint8_t *bits, uint64_t at)
{
	return bits[at / 8] >> at % 8 & 1;
}

static void set(uint8_t *bits, uint64_t at)
{
	bits[at / 8] |= (uint8_t)(1u << at % 8);
}

static void know(struct census *c, uint64_t from, uint64_t bytes)
{
	for (uint64_t at = from; at < from + bytes && at < c->work->image_bytes; at++)
		set(c->known, at);
}

static void know_relocs(struct census *c, const struct image_relocs *list, unsigned bytes)
{
	for (uint32_t i = 0; i < list->count; i++)
		know(c, list->offset[i], bytes);
}

/* Descriptions of types (include/uapi/linux/btf.h), which hold offsets into themselves, and no address. */
static void know_btf(struct census *c)
{
	const struct image_section *btf = work_section(c->work, ".BTF");
	uint64_t from = btf ? btf->address - c->work->link_virt : 0;
	const uint8_t *h = c->work->bytes + from;

	if (btf && btf->bytes >= 24 && image_in_file_bytes(c->work->image, from, btf->bytes) &&
	    riffle_get16(h) == 0xeb9f && h[2] == 1 && riffle_get32(h + 4) == 24 &&
	    (uint64_t)riffle_get32(h + 16) + riffle_get32(h + 20) + 24 <= btf->bytes)
		know(c, from, btf->bytes);
}

/* The length of a nop without any operand but zeros, as assemblers fill gaps with; 0 if there is none. */
static uint32_t nop_bytes(const uint8_t *code, uint32_t bytes)
{
	static const struct {
		uint8_t bytes, modrm;
	} forms[] = {{3, 0x00}, {4, 0x40}, {5, 0x44}, {7, 0x80}, {8, 0x84}};
	uint32_t at = 0;

	while (at < bytes && (code[at] == 0x66 || code[at] == 0x2e))
		at++;
	if (at < bytes && code[at] == 0x90)
		return at + 1;
	for (unsigned i = 0; i < sizeof forms / sizeof *forms; i++) {
		const uint8_t *operand = code + at + 3;
		uint32_t zeros = 0;

		if (bytes - at < forms[i].bytes || code[at] != 0x0f || code[at + 1] != 0x1f ||
		    code[at + 2] != forms[i].modrm)
			continue;
		while (zeros < forms[i].bytes - 3u && !operand[zeros])
			zeros++;
		if (zeros == forms[i].bytes - 3u)
			return at + forms[i].bytes;
	}
	return 0;
}

/*
 * Nops that fill code up to a multiple of 16 are understood wherever they are. Their operands are small numbers, which
 * would often lead to data: by their length, not by chance.
 */
static void know_nops(struct census *c, const struct shuffle_unread *unread)
{
	uint32_t end = unread->offset + unread->bytes, fill = 0, at = unread->offset;

	while (at < end) {
		uint32_t bytes = nop_bytes(c->work->bytes + at, end - at);

		fill = bytes ? fill + bytes : 0;
		at += bytes ? bytes : 1;
		if (fill >= NOPS_MIN && (at % SHUFFLE_ALIGN == 0 || at == end))
			know(c, at - fill, fill);
	}
}

static void forget(struct census *c, uint64_t from, uint64_t bytes)
{
	for (uint64_t at = from; at < from + bytes && at < c->work->image_bytes; at++)
		c->known[at / 8] &= (uint8_t) ~(1u << at % 8);
}

static unsigned width(const struct riffle_cross_table *t)
{
	return t->kind == RIFFLE_CROSS_DISTANCE64 ? 8 : 4;
}

static void forget_column(struct census *c, const struct shuffle_column *hidden)
{
	const struct shuffle_slides *s = &c->work->result->slides;

	for (uint32_t i = 0; hidden && i < s->table_count; i++) {
		const struct riffle_cross_table *t = &s->table[i];

		if (!slides_is_column(&s->column[i], hidden))
			continue;
		if (hidden->at == SLIDES_WHOLE)
			forget(c, t->image_offset - s->column[i].at, (uint64_t)t->entries * t->stride);
		for (uint32_t k = 0; k < t->entries; k++)
			forget(c, t->image_offset + (uint64_t)k * t->stride, width(t));
	}
}

/* Everything that is understood, but what is `hidden`. */
static void know_all(struct census *c, const struct shuffle_column *hidden)
{
	const struct work *work = c->work;
	const struct shuffle_slides *s = &work->result->slides;

	know_btf(c);
	for (unsigned i = 0; i < work->code_count; i++)
		know(c, work->code[i].offset, work->code[i].bytes);
	for (uint32_t i = 0; i < s->unread_count; i++)
		forget(c, s->unread[i].offset, s->unread[i].bytes);
	for (uint32_t i = 0; i < s->unread_count; i++)
		know_nops(c, &s->unread[i]);
	for (uint32_t i = 0; i < s->cross_count; i++)
		know(c, s->cross[i].field, 4);
	for (uint32_t i = 0; i < s->table_count; i++) {
		const struct riffle_cross_table *t = &s->table[i];

		for (uint32_t k = 0; k < t->entries; k++)
			know(c, t->image_offset + (uint64_t)k * t->stride, width(t));
	}
	/* of these all that is no distance has a meaning of its own */
	for (unsigned i = 0; i < work->known_count; i++)
		know(c, work->known[i].offset, work->known[i].bytes);
	forget_column(c, hidden);
	know_relocs(c, &work->image->reloc64, 8);
	know_relocs(c, &work->image->reloc32, 4);
	know_relocs(c, &work->image->reloc32_inverse, 4);
}

static bool is_text(uint8_t byte)
{
	return byte >= ' ' && byte <= '~';
}

static void find_places(struct census *c)
{
	const struct work *work = c->work;
	const struct shuffle_slides *s = &work->result->slides;

	for (uint32_t i = 0; i < work->symbol_count; i++) {
		const struct work_symbol *symbol = &work->symbol[i];
		bool data = strchr("bBdDrR", symbol->type) != NULL;
		uint32_t next = i + 1 < work->symbol_count ? symbol[1].offset : work->image_bytes;

		for (uint32_t at = 0; at <= (data ? MEMBER_BYTES : 0); at += 8)
			if (symbol->offset + at < next || !at)
				set(c->place, symbol->offset + at);
	}
	for (uint32_t at = s->block[1].image_offset; at + 2 < s->block[2].image_offset; at++)
		if (!work->bytes[at - 1] && is_text(work->bytes[at]) && is_text(work->bytes[at + 1]))
			set(c->place, at);
}

static bool is_place(const struct census *c, uint32_t target)
{
	return get(c->place, target) || get(c->place, target & ~3u) || census_is_fixed(c->work, target);
}

static int try_word(struct census *c, uint32_t at, uint64_t target, uint32_t block, struct riffle_error *error)
{
	for (unsigned i = 0; i < ORIGINS; i++) {
		struct leads *leads = &c->leads[i];
		uint64_t to = target - leads->back;
		int status;

		if ((i && at % 4) || to >= c->work->image_bytes || !is_place(c, (uint32_t)to) ||
		    slides_block(c->work, (uint32_t)to) == block)
			continue;
		set(leads->bit, at);
		status = work_grow(&leads->at, leads->count, &leads->room, sizeof *leads->at, error);
		if (status)
			return status;
		leads->at[leads->count++] = at;
	}
	return 0;
}

/* The words that lie wholly in [from, end), which is in one block. */
static int try_words(struct census *c, uint64_t from, uint64_t end, struct riffle_error *error)
{
	const struct work *work = c->work;
	const uint32_t block = slides_block(work, (uint32_t)from);
	const struct shuffle_slides *s = &work->result->slides;
	const uint64_t first = s->block[block].image_offset;
	const uint64_t past = block + 1 < s->block_count ? s->block[block + 1].image_offset : work->image_bytes;
	const uint32_t margin = 4 * (ORIGINS - 1);
	unsigned unknown = 0;
	int status = 0;

	for (uint64_t last = from; last < end && !status; last++) {
		uint64_t at = last - 3, target;
		uint32_t word;

		unknown = get(c->known, last) ? 0 : unknown + 1;
		if (unknown < 4)
			continue;
		word = riffle_get32(work->bytes + at);
		target = at + (uint64_t)(int64_t)(int32_t)word;
		/* most words are small numbers, and lead to where they are or nowhere */
		if (!word || target >= (uint64_t)work->image_bytes + margin ||
		    (target >= first + margin && target < past))
			continue;
		status = try_word(c, (uint32_t)at, target, block, error);
	}
	return status;
}

static int find_leads(struct census *c, struct riffle_error *error)
{
	const struct riffle_image *image = c->work->image;
	const struct shuffle_slides *s = &c->work->result->slides;
	int status = 0;

	for (unsigned i = 0; i < image->segment_count; i++) {
		uint64_t from = image->segment[i].phys - image->link_phys, end = from + image->segment[i].file_bytes;

		end = end < c->work->image_bytes ? end : c->work->image_bytes;
		for (uint32_t b = 0; b < s->block_count && !status; b++) {
			uint64_t low = s->block[b].image_offset;
			uint64_t high = b + 1 < s->block_count ? s->block[b + 1].image_offset : end;

			low = low > from ? low : from;
			high = high < end ? high : end;
			status = try_words(c, low, high, error);
		}
	}
	return status;
}

/* The different words of `step` apart from `at` on, as long as they are leads and before `end`; `most` are enough. */
static uint32_t count_words(const struct census *c, const struct leads *l, uint64_t at, uint64_t end, uint32_t step,
			    uint32_t most, bool all)
{
	uint32_t words[16], count = 0;

	for (; at + 4 <= end && count < most; at += step) {
		uint32_t word = riffle_get32(c->work->bytes + at), i = 0;

		if (!get(l->bit, at))
			return all ? 0 : count;
		while (i < count && words[i] != word)
			i++;
		if (i == count)
			words[count++] = word;
	}
	/* an object's words are all leads, also those behind */
	for (; all && at + 4 <= end; at += step)
		if (!get(l->bit, at))
			return 0;
	return count;
}

static void unknown(const struct census *c, const char *what, uint64_t at)
{
	slides_none(c->work, "an unknown table: %s at %llx lead to other sections", what,
		    (unsigned long long)(c->work->link_virt + at));
}

/*
 * Small numbers at multiples of 4 that are read some bytes too early: the bytes of all of these words that belong to
 * the number before are zero. Distances to so many places are not all multiples of 256.
 */
static bool are_small_numbers(const struct census *c, const struct leads *l, uint64_t at, uint32_t step)
{
	uint32_t before = (uint32_t)(-at % 4);

	if (!before || step % 4)
		return false;
	for (; get(l->bit, at); at += step)
		if (riffle_get32(c->work->bytes + at) << (32 - 8 * before))
			return false;
	return true;
}

static void judge_runs(const struct census *c, const struct leads *l)
{
	for (uint32_t i = 0; i < l->count; i++)
		for (uint32_t step = 1; step <= STEP_MAX; step++) {
			uint32_t at = l->at[i], words = (at | step) % 4 ? ODD_RUN_WORDS : RUN_WORDS;

			if (at >= step && get(l->bit, at - step))
				continue;
			if (count_words(c, l, at, c->work->image_bytes, step, words, false) == words &&
			    !are_small_numbers(c, l, at, step)) {
				unknown(c, "words in a row", at);
				return;
			}
		}
}

static void judge_objects(const struct census *c, const struct leads *l)
{
	const struct work *work = c->work;

	for (uint32_t i = 0; i + 1 < work->symbol_count; i++) {
		uint32_t from = work->symbol[i].offset, to = work->symbol[i + 1].offset;

		for (uint32_t step = 4; step <= 16; step += 4)
			for (uint32_t field = 0; field < step && from + field + 4 <= to; field += 4)
				if (get(l->bit, from + field) &&
				    count_words(c, l, from + field, to, step, OBJECT_WORDS, true) == OBJECT_WORDS)
					unknown(c, "an object's words", from + field);
	}
}

static void judge_sections(const struct census *c, const struct leads *l)
{
	const struct riffle_image *image = c->work->image;

	for (unsigned i = 0; i < image->section_count; i++) {
		const struct image_section *s = &image->section[i];
		uint64_t from = s->address - c->work->link_virt, count = 0;

		if (!s->address || !image_in_file_bytes(image, from, s->bytes))
			continue;
		for (uint64_t at = 0; at + 4 <= s->bytes; at += 4)
			count += get(l->bit, from + at);
		if (count >= SECTION_WORDS && count >= s->bytes / 4 - s->bytes / 16)
			unknown(c, "a section's words", from);
	}
}

/* Operands count from where they are. */
static void judge_unread(const struct census *c)
{
	const struct shuffle_slides *s = &c->work->result->slides;

	for (uint32_t i = 0; i < s->unread_count; i++)
		for (uint32_t at = 0; at < s->unread[i].bytes; at++)
			if (get(c->leads[0].bit, s->unread[i].offset + at))
				unknown(c, "bytes of unknown code", s->unread[i].offset + at);
}

static void judge(const struct census *c)
{
	for (unsigned i = 0; i < ORIGINS && c->work->result->slides.block_count; i++) {
		judge_runs(c, &c->leads[i]);
		judge_objects(c, &c->leads[i]);
		judge_sections(c, &c->leads[i]);
	}
	if (c->work->result->slides.block_count)
		judge_unread(c);
}

int slides_census_without(struct work *work, const struct shuffle_column *hidden, struct riffle_error *error)
{
	size_t bytes = work->image_bytes / 8 + 8;
	struct census c = {.work = work, .known = calloc(2 + ORIGINS, bytes)};
	int status;

	if (!c.known)
		return riffle_fail(error, RIFFLE_ERR_MEMORY, "analysis", "out of memory");
	c.place = c.known + bytes;
	for (unsigned i = 0; i < ORIGINS; i++)
		c.leads[i] = (struct leads){.bit = c.place + (i + 1) * bytes, .back = 4 * i};
	know_all(&c, hidden);
	find_places(&c);
	status = find_leads(&c, error);
	work->result->slides.leads = 0;
	for (unsigned i = 0; i < ORIGINS; i++)
		work->result->slides.leads += c.leads[i].count;
	if (!status)
		judge(&c);
	for (unsigned i = 0; i < ORIGINS; i++)
		free(c.leads[i].at);
	free(c.known);
	return status;
}

int slides_census(struct work *work, struct riffle_error *error)
{
	return slides_census_without(work, NULL, error);
}
