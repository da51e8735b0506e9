/* SPDX-License-Identifier: Apache-2.0 */
/* Every instruction must find the unwind state it had: entries that were left out for being like the one before count too. */
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
 * In the 16 nops before a function that no symbol names: the room that kCFI's compilers leave before those whose address
 * is not taken. It is never run, and goes with its function.
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

int verify_unwind(const struct verify *v, const struct places *p, const uint8_t *image, uint64_t *looked_up,
		  uint64_t *wrong, unsigned limit, FILE *report, struct riffle_error *error)
{
	*looked_up = *wrong = 0;
	if (!v->orc.entries)
		return 0;
	for (unsigned i = 0; i < v->code_count; i++) {
		const struct code *code = &v->code[i];
		uint64_t *before = calloc(code->bytes + 1, sizeof *before), *after = calloc(code->bytes + 1, sizeof *after);

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
			if ((there >= code->bytes || before[at] != after[there]) && !is_room(v, offset) && ++*wrong <= limit)
				print_wrong(v, p, offset, report);
		}
		free(before);
		free(after);
	}
	return 0;
}
