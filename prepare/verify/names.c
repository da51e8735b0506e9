/* SPDX-License-Identifier: Apache-2.0 */
/* Finds kallsyms by its token table and decodes it: scripts/kallsyms.c of Linux 5.10 to 7.3, read for this room alone.
 */
#include <stdlib.h>

#include "common/search.h"
#include "prepare/verify/internal.h"

#define TOKENS 256u
#define NAMES_REACH (64u << 20) /* names begin no further before the tokens */
#define COUNT_MIN 64u
#define COUNT_MAX (1u << 22)
/* hostile bytes may look like names again and again; a kernel's own take some hundred thousand */
#define WORK_MAX (UINT64_C(1) << 28)

static uint32_t round_up(uint32_t x, uint32_t align)
{
	return (x + align - 1) / align * align;
}

static uint16_t token_at(const struct verify *v, uint32_t index, unsigned code)
{
	return riffle_get16(v->bytes + index + 2 * code);
}

/* The index follows its table: it ascends from 0, and agrees on where the ten digits stand. */
static bool is_index(const struct verify *v, uint32_t index, uint32_t digits, uint32_t *tokens)
{
	uint16_t before = 0;

	if (!riffle_inside(index, 2 * TOKENS, v->image_bytes) || token_at(v, index, 0) ||
	    token_at(v, index, '0') > digits)
		return false;
	*tokens = digits - token_at(v, index, '0');
	for (unsigned code = 1; code < TOKENS; code++) {
		uint16_t at = token_at(v, index, code);

		if (at <= before || *tokens + at >= index || v->bytes[*tokens + at - 1])
			return false;
		before = at;
	}
	return token_at(v, index, '9') == token_at(v, index, '0') + 18;
}

static bool find_tokens(struct verify *v, uint32_t from, uint32_t *next)
{
	static const char digits[20] = "0\0001\0002\0003\0004\0005\0006\0007\0008\0009";
	const uint8_t *hit = memmem(v->bytes + from, v->image_bytes - from, digits, sizeof digits);
	uint32_t at;

	if (!hit)
		return false;
	at = (uint32_t)(hit - v->bytes);
	*next = at + 1;
	v->names.tokens = 0;
	for (uint32_t index = round_up(at, 4); index < at + 8192; index += 4)
		if (is_index(v, index, at, &v->names.tokens)) {
			v->names.token_index = index;
			return true;
		}
	v->names.tokens = 0;
	return true;
}

/* Offset behind the name at `at`, or 0 where there is none before `end`. */
static uint32_t skip_name(const struct verify *v, uint32_t at, uint32_t end)
{
	uint32_t length;

	if (at >= end)
		return 0;
	length = v->bytes[at++];
	if (length & 0x80) {
		if (at >= end)
			return 0;
		length = (length & 0x7f) | (uint32_t)v->bytes[at++] << 7;
	}
	return length && length <= end - at ? at + length : 0;
}

/* `count` names from `at` on, then markers that say where each 256th begins. */
static bool names_fit(const struct verify *v, struct names *n, uint32_t at, uint32_t count)
{
	uint32_t end = at;

	for (uint32_t i = 0; i < count; i++)
		if (n->work++ > WORK_MAX || !(end = skip_name(v, end, n->tokens)))
			return false;
	for (unsigned align = 4; align <= 8; align += 4) {
		uint32_t markers = round_up(end, align), name = at, i;

		if (!riffle_inside(markers, (uint64_t)(count + 255) / 256 * 4, n->tokens))
			return false;
		for (i = 0; i < count && n->work++ <= WORK_MAX; i++) {
			if (i % 256 == 0 && riffle_get32(v->bytes + markers + i / 256 * 4) != name - at)
				break;
			name = skip_name(v, name, n->tokens);
		}
		if (i < count)
			continue;
		n->names = at;
		n->names_bytes = end - at;
		n->markers = markers;
		n->count = count;
		return true;
	}
	return false;
}

static bool find_names(const struct verify *v, struct names *n, uint32_t *number)
{
	uint32_t low = n->tokens > NAMES_REACH ? n->tokens - NAMES_REACH : 0;

	for (uint32_t at = n->tokens / 4 * 4; at > low + 4 && n->work++ <= WORK_MAX;) {
		uint32_t count;

		at -= 4;
		count = riffle_get32(v->bytes + at);
		if (count < COUNT_MIN || count > COUNT_MAX)
			continue;
		*number = at;
		if (names_fit(v, n, round_up(at + 4, 8), count) || names_fit(v, n, at + 4, count))
			return true;
	}
	return false;
}

static uint64_t decode_address(const struct verify *v, const struct names *n, uint64_t base, uint32_t i)
{
	int32_t value = (int32_t)riffle_get32(v->bytes + n->offsets + 4 * i);

	if (n->self_relative)
		return v->link_virt + n->offsets + 4 * i + (uint64_t)(int64_t)value;
	if (!n->absolute_percpu)
		return base + (uint32_t)value;
	return value >= 0 ? (uint64_t)value : base - 1 - (uint64_t)(int64_t)value;
}

/* All addresses ascend, and most are in the image. */
static bool addresses_fit(struct verify *v, struct names *n)
{
	uint64_t base = n->base ? riffle_get64(v->bytes + n->base) : 0, before = 0;
	uint32_t inside = 0, negative = 0, offset;

	if (!riffle_inside(n->offsets, 4 * (uint64_t)n->count, v->image_bytes) ||
	    (n->base && (base > v->link_virt + v->image_bytes || v->link_virt + v->image_bytes - base > UINT32_MAX)))
		return false;
	for (uint32_t i = 0; i < n->count; i++)
		negative += v->bytes[n->offsets + 4 * i + 3] >> 7;
	n->absolute_percpu = n->base && negative > n->count / 2;
	for (uint32_t i = 0; i < n->count; i++) {
		uint64_t address = decode_address(v, n, base, i);

		if (address < before)
			return false;
		before = address;
		inside += verify_offset(v, address, &offset);
		n->address[i] = address;
	}
	return inside > n->count / 2;
}

/* The addresses stand before the names with their base behind them (to 6.3), else behind the tokens; 7.2 needs no base.
 */
static bool find_offsets(struct verify *v, struct names *n, uint32_t number)
{
	uint32_t bytes = 4 * n->count, behind = n->token_index + 2 * TOKENS;

	if (number >= 8 + round_up(bytes, 8)) {
		n->base = number - 8;
		n->offsets = n->base - round_up(bytes, 8);
		if (n->base % 8 == 0 && addresses_fit(v, n))
			return true;
	}
	for (unsigned align = 4; align <= 8; align += 4) {
		n->offsets = round_up(behind, align);
		n->base = round_up(n->offsets + bytes, 8);
		if (riffle_inside(n->base, 8, v->image_bytes) && addresses_fit(v, n))
			return true;
		n->base = 0;
		n->self_relative = true;
		if (addresses_fit(v, n))
			return true;
		n->self_relative = false;
	}
	return false;
}

static uint32_t seq_at(const struct verify *v, uint32_t seqs, uint32_t i)
{
	const uint8_t *at = v->bytes + seqs + 3 * i;

	return (uint32_t)at[0] << 16 | (uint32_t)at[1] << 8 | at[2];
}

/* Each symbol's number once. `seen` has a bit for each. */
static bool seqs_fit(const struct verify *v, const struct names *n, uint32_t seqs, uint8_t *seen)
{
	bool fit = riffle_inside(seqs, 3 * (uint64_t)n->count, v->image_bytes);

	memset(seen, 0, n->count / 8 + 1);
	for (uint32_t i = 0; i < n->count && fit; i++) {
		uint32_t seq = seq_at(v, seqs, i);

		fit = seq < n->count && !bit_get(seen, seq);
		if (fit)
			bit_set(seen, seq);
	}
	return fit;
}

static int find_seqs(const struct verify *v, struct names *n, struct riffle_error *error)
{
	uint8_t *seen = malloc(n->count / 8 + 1);
	uint32_t markers_end = n->markers + (n->count + 255) / 256 * 4;
	uint32_t behind = n->base > n->tokens ? n->base + 8 : n->offsets + 4 * n->count;

	if (!seen)
		return riffle_fail(error, RIFFLE_ERR_MEMORY, "verify", "out of memory");
	for (unsigned align = 4; align <= 8 && !n->seqs; align += 4) {
		uint32_t at = round_up(n->offsets < n->names ? markers_end : behind, align);

		if (seqs_fit(v, n, at, seen))
			n->seqs = at;
	}
	free(seen);
	return 0;
}

/* A name in plain text, its type first. */
static size_t expand(const struct verify *v, const struct names *n, uint32_t at, char *text)
{
	uint32_t end = skip_name(v, at, n->tokens);
	size_t bytes = 0;

	at += v->bytes[at] & 0x80 ? 2 : 1;
	for (; at < end; at++) {
		const char *token = (const char *)v->bytes + n->tokens + token_at(v, n->token_index, v->bytes[at]);

		for (; *token; token++, bytes++)
			if (text)
				text[bytes] = *token;
	}
	if (text)
		text[bytes] = 0;
	return bytes + 1;
}

static int decode_names(struct verify *v, struct riffle_error *error)
{
	struct names *n = &v->names;
	size_t bytes = 0, used = 0;
	uint32_t at = n->names;

	n->name = calloc(n->count + 1, sizeof *n->name);
	v->symbol = calloc(n->count + 1, sizeof *v->symbol);
	if (!n->name || !v->symbol)
		return riffle_fail(error, RIFFLE_ERR_MEMORY, "verify", "out of memory");
	for (uint32_t i = 0; i < n->count; i++) {
		n->name[i] = at;
		bytes += expand(v, n, at, NULL);
		at = skip_name(v, at, n->tokens);
	}
	n->name[n->count] = at;
	v->symbol_names = malloc(bytes + 1);
	if (!v->symbol_names)
		return riffle_fail(error, RIFFLE_ERR_MEMORY, "verify", "out of memory");
	for (uint32_t i = 0; i < n->count; i++) {
		struct symbol *symbol = &v->symbol[v->symbol_count];
		char *text = v->symbol_names + used;

		if (!verify_offset(v, n->address[i], &symbol->offset))
			continue;
		used += expand(v, n, n->name[i], text);
		for (char *c = text; *c; c++)
			*c = verify_printable(*c);
		symbol->type = text[0];
		symbol->name = *text ? text + 1 : text;
		v->symbol_count++;
	}
	return 0;
}

static int add_parts(struct verify *v, struct riffle_error *error)
{
	const struct names *n = &v->names;
	const struct {
		const char *name;
		uint32_t offset, bytes, fields;
	} part[] = {
	    {"kallsyms-offsets", n->offsets, 4 * n->count, n->count},
	    {"kallsyms-names", n->names, n->names_bytes, n->count},
	    {"kallsyms-markers", n->markers, (n->count + 255) / 256 * 4, (n->count + 255) / 256},
	    {"kallsyms-seqs", n->seqs, n->seqs ? 3 * n->count : 0, n->count},
	};
	uint8_t index;
	int status = 0;

	for (unsigned i = 0; i < sizeof part / sizeof *part && !status; i++) {
		if (!part[i].bytes)
			continue;
		status = verify_new_part(v, part[i].name, part[i].offset, part[i].bytes, &index, error);
		if (!status)
			v->part[index].fields = part[i].fields;
	}
	return status;
}

int verify_find_names(struct verify *v, struct riffle_error *error)
{
	struct names *n = &v->names;
	uint32_t from = 0, number;

	while (!n->present && find_tokens(v, from, &from)) {
		if (!n->tokens || !find_names(v, n, &number))
			continue;
		free(n->address);
		n->address = calloc(n->count + 1, sizeof *n->address);
		if (!n->address)
			return riffle_fail(error, RIFFLE_ERR_MEMORY, "verify", "out of memory");
		n->present = find_offsets(v, n, number);
	}
	if (!n->present && n->work > WORK_MAX)
		return riffle_fail(error, RIFFLE_ERR_UNSUPPORTED, "kallsyms",
				   "was not found in reasonable time: too much in this kernel looks like it");
	if (!n->present)
		return 0;
	if (find_seqs(v, n, error) || add_parts(v, error))
		return (int)error->status;
	return decode_names(v, error);
}

const struct symbol *verify_symbol_at(const struct verify *v, uint32_t offset)
{
	uint32_t next;

	RIFFLE_FIRST_WHERE(next, v->symbol_count, v->symbol[next].offset > offset);
	return next ? &v->symbol[next - 1] : NULL;
}

bool verify_symbol(const struct verify *v, const char *name, uint32_t *offset)
{
	for (uint32_t i = 0; i < v->symbol_count; i++)
		if (!strcmp(v->symbol[i].name, name)) {
			*offset = v->symbol[i].offset;
			return true;
		}
	return false;
}
