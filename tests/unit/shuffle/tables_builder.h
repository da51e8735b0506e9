/* SPDX-License-Identifier: Apache-2.0 */
/* A small kernel as tables and census see it: code already decoded and cut, and data for tables. */
#ifndef TESTS_TABLES_BUILDER_H
#define TESTS_TABLES_BUILDER_H

#include <elf.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "prepare/shuffle/tables.h"

#define LINK UINT64_C(0xffffffff81000000)
#define FUNCTION 80u /* bytes of each function: 16 instructions of 5 bytes */
#define INSTRUCTION 5u
#define FUNCTIONS 400u
#define PINNED 4u /* the first ones do not move */
#define TEXT_BYTES (FUNCTION * FUNCTIONS)
#define INIT TEXT_BYTES /* .init.text: 100 functions more */
#define INIT_BYTES (FUNCTION * 100)
#define DATA 0x10000u
#define IMAGE 0x40000u
#define SECTIONS_MAX 24u
#define RELOCS_MAX 64u

struct kernel {
	struct work work;
	struct riffle_image image;
	struct image_segment segment;
	struct image_section section[SECTIONS_MAX];
	struct work_code code[2];
	struct shuffle result;
	uint32_t reloc64[RELOCS_MAX];
	struct riffle_error error;
	uint64_t seed;
};

static inline uint64_t random64(struct kernel *k)
{
	uint64_t z = k->seed += UINT64_C(0x9e3779b97f4a7c15);

	z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
	return z ^ z >> 31;
}

static inline void name_section(struct kernel *k, const char *name, uint32_t offset, uint64_t bytes, uint64_t flags)
{
	assert_true(k->image.section_count < SECTIONS_MAX);
	k->section[k->image.section_count++] =
	    (struct image_section){name, LINK + offset, bytes, flags | SHF_ALLOC, SHT_PROGBITS};
}

/* In any order: kept ascending. */
static inline void name_place(struct kernel *k, const char *name, uint32_t offset)
{
	struct work *w = &k->work;
	uint32_t at = w->symbol_count++;

	w->symbol = realloc(w->symbol, w->symbol_count * sizeof *w->symbol);
	for (; at && w->symbol[at - 1].offset > offset; at--)
		w->symbol[at] = w->symbol[at - 1];
	w->symbol[at] = (struct work_symbol){offset, 0, 'd', name};
}

static inline uint32_t function(uint32_t i)
{
	return i * FUNCTION;
}

/* The n-th instruction of .text, in a function that moves. */
static inline uint32_t instruction(uint32_t n)
{
	return function(PINNED) + n % ((FUNCTIONS - PINNED) * FUNCTION / INSTRUCTION) * INSTRUCTION;
}

static inline struct kernel *make_kernel(void)
{
	static const uint8_t nop[] = {0x0f, 0x1f, 0x44, 0, 0};
	struct kernel *k = calloc(1, sizeof *k);
	const char *given = getenv("RIFFLE_TEST_SEED");
	struct work *w = &k->work;

	k->seed = given ? strtoull(given, NULL, 0) : 4711;
	w->bytes = calloc(IMAGE, 1);
	w->start = calloc(IMAGE / 8 + 1, 1);
	w->unit = calloc(FUNCTIONS, sizeof *w->unit);
	k->result.range = calloc(FUNCTIONS, sizeof *k->result.range);
	assert_true(w->bytes && w->start && w->unit && k->result.range);
	for (uint32_t at = 0; at < TEXT_BYTES + INIT_BYTES; at += INSTRUCTION) {
		memcpy(w->bytes + at, nop, sizeof nop);
		w->start[at / 8] |= (uint8_t)(1u << at % 8);
	}
	for (uint32_t i = 0; i < FUNCTIONS; i++) {
		w->unit[i] = (struct work_unit){.offset = function(i), .bytes = FUNCTION};
		k->result.range[i] = (struct shuffle_range){function(i), FUNCTION,
							    i < PINNED ? SHUFFLE_PIN_HEAD : SHUFFLE_PIN_NONE, 1, ""};
	}
	k->result.range_count = w->unit_count = FUNCTIONS;
	k->segment = (struct image_segment){
	    .virt = LINK, .phys = 0x1000000, .file_bytes = IMAGE, .memory_bytes = IMAGE, .bytes = w->bytes};
	k->image = (struct riffle_image){.segment = &k->segment,
					 .segment_count = 1,
					 .link_phys = 0x1000000,
					 .link_virt = LINK,
					 .image_bytes = IMAGE,
					 .section = k->section};
	k->image.reloc64.offset = k->reloc64;
	k->code[0] = (struct work_code){".text", 0, TEXT_BYTES, true};
	k->code[1] = (struct work_code){".init.text", INIT, INIT_BYTES, false};
	w->image = &k->image;
	w->image_bytes = IMAGE;
	w->link_virt = LINK;
	w->code = k->code;
	w->code_count = 2;
	w->text_bytes = TEXT_BYTES;
	w->result = &k->result;
	name_section(k, ".text", 0, TEXT_BYTES, SHF_EXECINSTR);
	name_section(k, ".init.text", INIT, INIT_BYTES, SHF_EXECINSTR);
	return k;
}

/* Forgets what was found, for another try. */
static inline void forget(struct kernel *k)
{
	k->work.ref_count = k->work.tie_count = k->work.known_count = k->result.table_count = 0;
	k->result.census = (struct shuffle_census){0};
}

static inline void end_kernel(struct kernel *k)
{
	free(k->work.bytes);
	free(k->work.start);
	free(k->work.symbol);
	free(k->work.unit);
	free(k->work.tie);
	free(k->work.ref);
	free(k->result.range);
	free(k);
}

static inline void put_distance(struct kernel *k, uint32_t field, uint32_t target)
{
	riffle_put32(k->work.bytes + field, target - field);
}

static inline void good(const struct kernel *k, int status)
{
	if (status)
		fail_msg("%s %s: %llx", k->error.field, k->error.problem, (unsigned long long)k->error.found);
}

/* Refused, with this name in front and the address of this place. */
static inline void refused(const struct kernel *k, int status, const char *field, uint32_t offset)
{
	assert_int_equal(status, RIFFLE_ERR_UNSUPPORTED);
	assert_string_equal(k->error.field, field);
	assert_true(k->error.has_found);
	assert_int_equal(k->error.found, LINK + offset);
}

#endif
