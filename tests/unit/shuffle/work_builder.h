/* SPDX-License-Identifier: Apache-2.0 */
/* Builds a small kernel in memory as the steps of the analysis see it: bytes, sections, symbols, relocations. */
#ifndef TESTS_WORK_BUILDER_H
#define TESTS_WORK_BUILDER_H

#include <elf.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "prepare/shuffle/internal.h"

#define LINK UINT64_C(0xffffffff81000000)
#define TEXT_SKIP 0x3000u   /* what is pinned as head, with room */
#define OTHER_BYTES 0x2000u /* of every section behind .text */

struct builder {
	struct work work;
	struct riffle_image image;
	struct shuffle result;
	struct image_section section[6];
	struct work_code code[2];
	uint32_t relocs[3][32];
	struct riffle_error error;
};

static inline void set_section(struct builder *b, const char *name, uint32_t offset, uint32_t bytes, uint64_t flags)
{
	b->section[b->image.section_count++] = (struct image_section){name, LINK + offset, bytes, flags, SHT_PROGBITS};
}

static inline void add_symbol(struct builder *b, uint32_t offset, const char *name)
{
	struct work *w = &b->work;

	w->symbol = realloc(w->symbol, (w->symbol_count + 1) * sizeof *w->symbol);
	w->symbol[w->symbol_count++] = (struct work_symbol){offset, 0, 't', name};
}

/* .text of int3 at offset 0, then .altinstr_replacement, .altinstructions and .data; symbols are added in order. */
static inline struct builder *build(uint32_t text_bytes)
{
	struct builder *b = calloc(1, sizeof *b);
	struct work *w = &b->work;

	b->image.section = b->section;
	b->image.reloc64.offset = b->relocs[0];
	b->image.reloc32.offset = b->relocs[1];
	b->image.reloc32_inverse.offset = b->relocs[2];
	b->image.link_virt = LINK;
	b->image.image_bytes = text_bytes + 3 * OTHER_BYTES;
	w->image = &b->image;
	w->result = &b->result;
	w->image_bytes = (uint32_t)b->image.image_bytes;
	w->link_virt = LINK;
	w->bytes = calloc(w->image_bytes, 1);
	w->start = calloc(w->image_bytes / 8 + 1, 1);
	w->text_bytes = text_bytes;
	w->code = b->code;
	w->code_count = 2;
	b->code[0] = (struct work_code){".text", 0, text_bytes, true};
	b->code[1] = (struct work_code){".altinstr_replacement", text_bytes, OTHER_BYTES, false};
	set_section(b, ".text", 0, text_bytes, SHF_ALLOC | SHF_EXECINSTR);
	set_section(b, ".altinstr_replacement", text_bytes, OTHER_BYTES, SHF_ALLOC | SHF_EXECINSTR);
	set_section(b, ".altinstructions", text_bytes + OTHER_BYTES, OTHER_BYTES, SHF_ALLOC);
	set_section(b, ".data", text_bytes + 2 * OTHER_BYTES, OTHER_BYTES, SHF_ALLOC | SHF_WRITE);
	memset(w->bytes, 0xcc, text_bytes + OTHER_BYTES);
	add_symbol(b, 0, "_text");
	b->work.bytes[0] = 0xc3;
	return b;
}

static inline void tear_down(struct builder *b)
{
	free(b->work.bytes);
	free(b->work.start);
	free(b->work.symbol);
	free(b->work.room_names);
	free(b->work.unit);
	free(b->work.tie);
	free(b->work.ref);
	free(b->work.range_names);
	free(b->result.range);
	free(b->result.ref);
	free(b);
}

static inline void put(struct builder *b, uint32_t at, const char *bytes, size_t count)
{
	memcpy(b->work.bytes + at, bytes, count);
}

#define CODE(b, at, text) put(b, at, text, sizeof(text) - 1)

/* An instruction whose last four bytes count from its end to `target`. */
static inline void put_rel32(struct builder *b, uint32_t at, const char *opcode, size_t count, uint32_t target)
{
	put(b, at, opcode, count);
	riffle_put32(b->work.bytes + at + count, target - (at + (uint32_t)count + 4));
}

#define REL32(b, at, opcode, target) put_rel32(b, at, opcode, sizeof(opcode) - 1, target)

static inline void relocate(struct builder *b, struct image_relocs *list, uint32_t field)
{
	(void)b;
	list->offset[list->count++] = field;
}

static inline void good(struct builder *b, int status)
{
	if (status)
		fail_msg("%s %s: %llx", b->error.field, b->error.problem, (unsigned long long)b->error.found);
}

static inline const struct work_unit *unit_of(const struct builder *b, uint32_t offset)
{
	return &b->work.unit[work_unit_at(&b->work, offset)];
}

static inline const struct shuffle_range *range_of(const struct builder *b, uint32_t offset)
{
	for (uint32_t i = 0; i < b->result.range_count; i++)
		if (offset - b->result.range[i].offset < b->result.range[i].bytes)
			return &b->result.range[i];
	fail_msg("no range has %x", offset);
	return NULL;
}

static inline const struct shuffle_ref *find_ref(const struct shuffle_ref *ref, uint32_t count, uint32_t field)
{
	for (uint32_t i = 0; i < count; i++)
		if (ref[i].field == field)
			return &ref[i];
	return NULL;
}

#endif
