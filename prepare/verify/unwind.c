/* SPDX-License-Identifier: Apache-2.0 */
/* Every instruction must find the unwind state it had: entries that were left out for being like the one before count
 * too. */
#include <stdlib.h>

#include "prepare/verify/internal.h"

/* Of each byte of the code, the state (6 bytes) of the last ORC entry at or before it; the table must be sorted. */
static void spread(const struct verify *v, const uint8_t *image, const struct code *code, uint64_t *state)
{
	uint64_t now = UINT64_MAX;
	uint32_t at = 0;

	for (uint32_t i = 0; i <= v->orc.entries; i++) {
		uint32_t field = v->orc.offset + 4 * i, next = code->bytes;

		if (i < v->orc.entries) {
			int64_t ip = (int64_t)field + (int32_t)riffle_get32(image + field) - (int64_t)code->offset;

			next = ip < 0 ? 0 : ip > (int64_t)code->bytes ? code->bytes : (uint32_t)ip;
		}
		for (; at < next; at++)
			state[at] = now;
		if (i < v->orc.entries) {
			now = 0;
			memcpy(&now, image + v->orc.second + 6 * i, 6);
		}
	}
}

static void print_wrong(const struct verify *v, const struct places *p, uint32_t offset, FILE *report)
{
	const struct symbol *symbol = verify_symbol_at(v, offset);

	fprintf(report, "unwind: %s+0x%x (link address 0x%llx, moved by %d) finds another ORC entry than before\n",
		symbol ? symbol->name : "?", symbol ? offset - symbol->offset : 0,
		(unsigned long long)(v->link_virt + offset), place_shift(p, offset));
}

/*
 * In the 16 nops before a function that no symbol names: the room that kCFI's compilers leave before those whose
 * address is not taken. It is never run, and goes with its function.
 */
static bool is_room(const struct verify *v, uint32_t offset)
{
	uint32_t start = offset / RIFFLE_CHUNK_ALIGN * RIFFLE_CHUNK_ALIGN, end = start + RIFFLE_CHUNK_ALIGN;
	const struct symbol *function = verify_symbol_at(v, end), *before = verify_symbol_at(v, end - 1);

	if (!function || function->offset != end || (before && before->offset >= start))
		return false;
	for (uint32_t at = start; at < end; at++)
		if (v->bytes[at] != 0x90)
			return false;
	return true;
}

/* A hole that the linker left, a page or more of nothing but padding, is never run either; it stays where it is. */
#define HOLE_BYTES 4096u

/* Where the padding ends that `offset` is in; `offset` itself when it is in none. */
static uint32_t padding_end(const struct verify *v, const struct code *code, uint32_t offset)
{
	uint32_t end = code->offset + code->bytes, at = offset;

	while (at < end && (!bit_get(v->start, at) || bit_get(v->padding, at)))
		at++;
	return at;
}

/* One run of padding while a section is gone through. */
struct run {
	uint32_t start, end;
};

static bool is_hole(struct run *run, const struct verify *v, const struct places *p, const struct code *code,
		    uint32_t offset)
{
	if (offset >= run->end) {
		*run = (struct run){offset, padding_end(v, code, offset)};
		/* the run may have begun before the place that asks */
		while (run->start > code->offset &&
		       (!bit_get(v->start, run->start - 1) || bit_get(v->padding, run->start - 1)) &&
		       p->chunk[(run->start - 1) / RIFFLE_CHUNK_ALIGN] == p->plan->chunk_count)
			run->start--;
	}
	return p->chunk[offset / RIFFLE_CHUNK_ALIGN] == p->plan->chunk_count && offset >= run->start &&
	       run->end - run->start >= HOLE_BYTES;
}

int verify_unwind(const struct verify *v, const struct places *p, const uint8_t *image, uint64_t *looked_up,
		  uint64_t *wrong, unsigned limit, FILE *report, struct riffle_error *error)
{
	*looked_up = *wrong = 0;
	if (!v->orc.entries)
		return 0;
	for (unsigned i = 0; i < v->code_count; i++) {
		const struct code *code = &v->code[i];
		struct run run = {0, 0};
		uint64_t *before = calloc(code->bytes + 1, sizeof *before),
			 *after = calloc(code->bytes + 1, sizeof *after);

		if (!before || !after) {
			free(before);
			free(after);
			return riffle_fail(error, RIFFLE_ERR_MEMORY, "verify", "out of memory");
		}
		spread(v, v->bytes, code, before);
		spread(v, image, code, after);
		for (uint32_t at = 0; at < code->bytes; at++) {
			uint32_t offset = code->offset + at, there = place_of(p, offset) - code->offset;

			if (!bit_get(v->start, offset))
				continue;
			++*looked_up;
			if ((there >= code->bytes || before[at] != after[there]) && !is_room(v, offset) &&
			    !is_hole(&run, v, p, code, offset) && ++*wrong <= limit)
				print_wrong(v, p, offset, report);
		}
		free(before);
		free(after);
	}
	return 0;
}
