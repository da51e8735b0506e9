/* SPDX-License-Identifier: Apache-2.0 */
/* Looks for unknown tables of distances from one block to another: nothing but chance may look like one. */
#include <stdlib.h>

#include "prepare/shuffle/slides.h"

/*
 * Distances to data lead to where something begins: a variable, a string, a function, or a member near the beginning of
 * a variable. So each word of the image outside code, known tables and relocated fields is tried, at every byte, as a
 * distance from where it is. One that leads into another block, to such a place, is a lead. By chance few words do.
 *   runs      leads a constant step apart, RUN_WORDS of them different
 *   sections  a section, by its header, of which three quarters of the words are leads
 *   unread    any lead in code that is not understood
 *   objects   what lies between two symbols, of which every 1st, 2nd, 3rd or 4th word is a lead, OBJECT_WORDS of them
 *             different
 */
#define STEP_MAX 64u
#define RUN_WORDS 6u
#define OBJECT_WORDS 4u
#define SECTION_WORDS 3u
#define NOPS_MIN 4u /* fewer bytes could be part of something else */
#define CODE_ALIGN 16u
#define MEMBER_BYTES 16u /* up to here a member of a variable is near its beginning */

struct census {
	struct work *work;
	uint8_t *known; /* a bit for each byte of the image: not tried */
	uint8_t *place; /* a bit for each byte: something begins here */
	uint8_t *lead;  /* a bit for each byte: the word here is a lead */
	uint32_t *at;   /* all leads, ascending */
	uint32_t count, room;
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
		if (fill >= NOPS_MIN && (at % CODE_ALIGN == 0 || at == end))
			know(c, at - fill, fill);
	}
}

static void know_all(struct census *c)
{
	const struct work *work = c->work;
	const struct shuffle_slides *s = &work->result->slides;

	know_btf(c);
	for (unsigned i = 0; i < work->code_count; i++)
		know(c, work->code[i].offset, work->code[i].bytes);
	for (uint32_t i = 0; i < s->unread_count; i++)
		for (uint32_t at = 0; at < s->unread[i].bytes; at++)
			c->known[(s->unread[i].offset + at) / 8] &= (uint8_t) ~(1u << (s->unread[i].offset + at) % 8);
	for (uint32_t i = 0; i < s->unread_count; i++)
		know_nops(c, &s->unread[i]);
	for (uint32_t i = 0; i < s->cross_count; i++)
		know(c, s->cross[i].field, 4);
	for (uint32_t i = 0; i < s->table_count; i++) {
		const struct riffle_cross_table *t = &s->table[i];

		for (uint32_t k = 0; k < t->entries; k++)
			know(c, t->image_offset + (uint64_t)k * t->stride, t->kind == RIFFLE_CROSS_DISTANCE64 ? 8 : 4);
	}
	/* of these all that is no distance has a meaning of its own */
	for (unsigned i = 0; i < work->known_count; i++)
		know(c, work->known[i].offset, work->known[i].bytes);
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

static bool is_lead(const struct census *c, uint32_t at, uint32_t block)
{
	const struct work *work = c->work;
	int32_t distance = (int32_t)riffle_get32(work->bytes + at);
	int64_t target = (int64_t)at + distance;

	if (!distance || target < 0 || target >= (int64_t)work->image_bytes || get(c->known, at) ||
	    get(c->known, at + 1) || get(c->known, at + 2) || get(c->known, at + 3))
		return false;
	return slides_block(work, (uint32_t)target) != block &&
	       (get(c->place, (uint64_t)target) || get(c->place, (uint64_t)target & ~UINT64_C(3)));
}

static int find_leads(struct census *c, struct riffle_error *error)
{
	const struct riffle_image *image = c->work->image;
	int status = 0;

	for (unsigned i = 0; i < image->segment_count && !status; i++) {
		uint64_t from = image->segment[i].phys - image->link_phys, end = from + image->segment[i].file_bytes;

		for (uint64_t at = from; at + 4 <= end && at + 4 <= c->work->image_bytes && !status; at++) {
			if (!is_lead(c, (uint32_t)at, slides_block(c->work, (uint32_t)at)))
				continue;
			set(c->lead, at);
			status = work_grow(&c->at, c->count, &c->room, sizeof *c->at, error);
			if (!status)
				c->at[c->count++] = (uint32_t)at;
		}
	}
	return status;
}

/* The different words of `step` apart from `at` on, as long as they are leads and before `end`; `most` are enough. */
static uint32_t count_words(const struct census *c, uint64_t at, uint64_t end, uint32_t step, uint32_t most, bool all)
{
	uint32_t words[16], count = 0;

	for (; at + 4 <= end && count < most; at += step) {
		uint32_t word = riffle_get32(c->work->bytes + at), i = 0;

		if (!get(c->lead, at))
			return all ? 0 : count;
		while (i < count && words[i] != word)
			i++;
		if (i == count)
			words[count++] = word;
	}
	/* an object's words are all leads, also those behind */
	for (; all && at + 4 <= end; at += step)
		if (!get(c->lead, at))
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
static bool are_small_numbers(const struct census *c, uint64_t at, uint32_t step)
{
	uint32_t before = (uint32_t)(-at % 4);

	if (!before || step % 4)
		return false;
	for (; get(c->lead, at); at += step)
		if (riffle_get32(c->work->bytes + at) << (32 - 8 * before))
			return false;
	return true;
}

static void judge_runs(const struct census *c)
{
	for (uint32_t i = 0; i < c->count && c->work->result->slides.block_count; i++)
		for (uint32_t step = 1; step <= STEP_MAX; step++) {
			if (c->at[i] >= step && get(c->lead, c->at[i] - step))
				continue;
			if (count_words(c, c->at[i], c->work->image_bytes, step, RUN_WORDS, false) == RUN_WORDS &&
			    !are_small_numbers(c, c->at[i], step)) {
				unknown(c, "words in a row", c->at[i]);
				return;
			}
		}
}

static void judge_objects(const struct census *c)
{
	const struct work *work = c->work;

	for (uint32_t i = 0; i + 1 < work->symbol_count && work->result->slides.block_count; i++) {
		uint32_t from = work->symbol[i].offset, to = work->symbol[i + 1].offset;

		for (uint32_t step = 4; step <= 16; step += 4)
			for (uint32_t field = 0; field < step && from + field + 4 <= to; field += 4)
				if (get(c->lead, from + field) &&
				    count_words(c, from + field, to, step, OBJECT_WORDS, true) == OBJECT_WORDS)
					unknown(c, "an object's words", from + field);
	}
}

static void judge_sections(const struct census *c)
{
	const struct riffle_image *image = c->work->image;

	for (unsigned i = 0; i < image->section_count && c->work->result->slides.block_count; i++) {
		const struct image_section *s = &image->section[i];
		uint64_t from = s->address - c->work->link_virt, leads = 0;

		if (!s->address || !image_in_file_bytes(image, from, s->bytes))
			continue;
		for (uint64_t at = 0; at + 4 <= s->bytes; at += 4)
			leads += get(c->lead, from + at);
		if (leads >= SECTION_WORDS && leads >= s->bytes / 4 - s->bytes / 16)
			unknown(c, "a section's words", from);
	}
}

static void judge_unread(const struct census *c)
{
	const struct shuffle_slides *s = &c->work->result->slides;

	for (uint32_t i = 0; i < s->unread_count && s->block_count; i++)
		for (uint32_t at = 0; at < s->unread[i].bytes; at++)
			if (get(c->lead, s->unread[i].offset + at))
				unknown(c, "bytes of unknown code", s->unread[i].offset + at);
}

int slides_census(struct work *work, struct riffle_error *error)
{
	size_t bytes = work->image_bytes / 8 + 8;
	struct census c = {.work = work, .known = calloc(3, bytes)};
	int status;

	if (!c.known)
		return riffle_fail(error, RIFFLE_ERR_MEMORY, "analysis", "out of memory");
	c.place = c.known + bytes;
	c.lead = c.place + bytes;
	know_all(&c);
	find_places(&c);
	status = find_leads(&c, error);
	work->result->slides.leads = c.count;
	if (!status) {
		judge_runs(&c);
		judge_objects(&c);
		judge_sections(&c);
		judge_unread(&c);
	}
	free(c.known);
	free(c.at);
	return status;
}
