/* SPDX-License-Identifier: Apache-2.0 */
/* A small kernel in which any part can be made arbitrarily large, with the symbols of a debug vmlinux. */
#ifndef TESTS_GROWN_H
#define TESTS_GROWN_H

#include <elf.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "common/bytes.h"
#include "prepare/shuffle/debug.h"

#define LINK UINT64_C(0xffffffff81000000)
#define HEAD 0x1000u /* pinned */
#define FUNCTION 48u /* a power of two would be the step of a table of code */

struct grown {
	struct riffle_image image;
	struct image_segment segment;
	uint32_t text_bytes, bytes;
	uint8_t *at;
	struct image_section *section;
	struct debug_symbol *symbol;
	uint32_t symbols, symbol_room;
	uint32_t *reloc64;
	char *names;
	size_t names_used, names_room;
};

static inline void grown_section(struct grown *g, const char *name, uint32_t offset, uint64_t bytes, uint64_t flags)
{
	g->section = realloc(g->section, (g->image.section_count + 1) * sizeof *g->section);
	assert_non_null(g->section);
	g->section[g->image.section_count++] =
	    (struct image_section){name, LINK + offset, bytes, flags | SHF_ALLOC, SHT_PROGBITS};
	g->image.section = g->section;
}

/* `name` lives as long as the kernel does. */
static inline void grown_symbol(struct grown *g, uint32_t offset, const char *name)
{
	if (g->symbols == g->symbol_room) {
		g->symbol_room = g->symbol_room ? 2 * g->symbol_room : 64;
		g->symbol = realloc(g->symbol, g->symbol_room * sizeof *g->symbol);
		assert_non_null(g->symbol);
	}
	g->symbol[g->symbols++] =
	    (struct debug_symbol){LINK + offset, 0, name, STT_FUNC, STB_LOCAL, 1, offset < g->text_bytes ? 't' : 'd'};
}

/* A name made of a word and a number; space for all names is allocated at the start. */
static inline const char *grown_name(struct grown *g, const char *word, unsigned number)
{
	char *name = g->names + g->names_used;

	assert_true(g->names_used + 64 <= g->names_room);
	g->names_used += (size_t)snprintf(name, 64, "%s_%u", word, number) + 1;
	return name;
}

/* .text of functions that only return, each with a symbol, then `data_bytes` zeros. */
static inline struct grown *grown_start(uint32_t functions, uint32_t data_bytes, uint32_t names)
{
	struct grown *g = calloc(1, sizeof *g);

	assert_non_null(g);
	g->text_bytes = HEAD + functions * FUNCTION;
	g->bytes = g->text_bytes + data_bytes;
	g->at = calloc(g->bytes, 1);
	g->names_room = (size_t)names * 64 + 64;
	g->names = malloc(g->names_room);
	assert_true(g->at && g->names);
	memset(g->at, 0xcc, g->text_bytes);
	grown_section(g, "", 0, 0, 0);
	grown_section(g, ".text", 0, g->text_bytes, SHF_EXECINSTR);
	grown_symbol(g, 0, "_text");
	g->at[0] = 0xc3;
	for (uint32_t i = 0; i < functions; i++) {
		g->at[HEAD + i * FUNCTION] = 0xc3;
		grown_symbol(g, HEAD + i * FUNCTION, "f");
	}
	g->segment = (struct image_segment){LINK, 0x1000000, g->bytes, g->bytes, 7, g->at};
	g->image.segment = &g->segment;
	g->image.segment_count = 1;
	g->image.link_phys = 0x1000000;
	g->image.link_virt = LINK;
	g->image.image_bytes = g->bytes;
	g->image.kernel_alignment = 0x200000;
	g->image.relocatable = true;
	return g;
}

static inline void grown_distance(struct grown *g, uint32_t field, uint32_t target)
{
	riffle_put32(g->at + field, target - field);
}

static inline void grown_end(struct grown *g)
{
	free(g->at);
	free(g->section);
	free(g->symbol);
	free(g->reloc64);
	free(g->names);
	free(g);
}

#endif
