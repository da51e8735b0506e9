/* SPDX-License-Identifier: Apache-2.0 */
/* The symbol table itself: growing, sorting, looking up. */
#include "prepare/symbols/symbols.h"

#include <stdlib.h>
#include <string.h>

#include "common/fail.h"
#include "common/search.h"

#define SYMBOLS_MAX (UINT32_C(1) << 24)
#define NAMES_MAX (UINT32_C(1) << 30)

void symbols_init(struct symbols *symbols, uint64_t start, uint64_t end)
{
	*symbols = (struct symbols){.start = start, .end = end};
}

void symbols_free(struct symbols *symbols)
{
	free(symbols->symbol);
	free(symbols->names);
	*symbols = (struct symbols){0};
}

/* Doubles an array until `needed` elements fit; false when there is no memory. */
static bool grow(void **array, size_t *room, size_t needed, size_t element)
{
	size_t wanted = *room ? *room : 4096;
	void *larger;

	if (needed <= *room)
		return true;
	while (wanted < needed)
		wanted *= 2;
	larger = realloc(*array, wanted * element);
	if (!larger)
		return false;
	*array = larger;
	*room = wanted;
	return true;
}

/* Names go to terminals: what is no plain text in them becomes a question mark. */
static void copy_plain(char *to, const char *from, size_t bytes)
{
	for (size_t i = 0; i < bytes; i++)
		to[i] = from[i] > ' ' && from[i] < 0x7f ? from[i] : '?';
	to[bytes] = 0;
}

int symbols_add(struct symbols *symbols, uint64_t address, unsigned rank, const char *name, size_t name_bytes,
		struct riffle_error *error)
{
	if (address < symbols->start || address >= symbols->end || !name_bytes)
		return RIFFLE_OK;
	if (symbols->count >= SYMBOLS_MAX || name_bytes >= NAMES_MAX - symbols->names_bytes)
		return riffle_fail_found(error, RIFFLE_ERR_FORMAT, "symbols", "are more than a kernel has",
					 symbols->count);
	if (!grow((void **)&symbols->symbol, &symbols->room, symbols->count + 1, sizeof *symbols->symbol) ||
	    !grow((void **)&symbols->names, &symbols->names_room, symbols->names_bytes + name_bytes + 1, 1))
		return riffle_fail(error, RIFFLE_ERR_MEMORY, "symbols", "need more memory than there is");
	symbols->symbol[symbols->count] = (struct symbol){
	    .address = address,
	    .name = (uint32_t)symbols->names_bytes,
	    .order = (uint32_t)symbols->count,
	    .rank = (uint8_t)(rank < UINT8_MAX ? rank : UINT8_MAX),
	};
	symbols->count++;
	copy_plain(symbols->names + symbols->names_bytes, name, name_bytes);
	symbols->names_bytes += name_bytes + 1;
	return RIFFLE_OK;
}

static int compare(const void *left, const void *right)
{
	const struct symbol *a = left, *b = right;

	if (a->address != b->address)
		return a->address < b->address ? -1 : 1;
	if (a->rank != b->rank)
		return a->rank < b->rank ? -1 : 1;
	return a->order < b->order ? -1 : a->order > b->order;
}

int symbols_finish(struct symbols *symbols, struct riffle_error *error)
{
	size_t kept = 0;

	if (!symbols->count)
		return riffle_fail_found(error, RIFFLE_ERR_FORMAT, "symbols",
					 "none lies in the kernel, which starts here", symbols->start);
	qsort(symbols->symbol, symbols->count, sizeof *symbols->symbol, compare);
	for (size_t i = 0; i < symbols->count; i++)
		if (!i || symbols->symbol[i].address != symbols->symbol[kept - 1].address)
			symbols->symbol[kept++] = symbols->symbol[i];
	symbols->count = kept;
	return RIFFLE_OK;
}

bool symbols_find(struct symbol_place *place, const struct symbols *symbols, uint64_t address)
{
	const struct symbol *s;
	size_t next;

	if (address < symbols->start || address >= symbols->end)
		return false;
	RIFFLE_FIRST_WHERE(next, symbols->count, symbols->symbol[next].address > address);
	if (!next)
		return false;
	s = &symbols->symbol[next - 1];
	place->name = symbols->names + s->name;
	place->offset = address - s->address;
	place->bytes = (next < symbols->count ? s[1].address : symbols->end) - s->address;
	return true;
}
