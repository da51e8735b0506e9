/* SPDX-License-Identifier: Apache-2.0 */
/* What a debug vmlinux tells about an image: its symbols with their sizes, and the relocations it was linked with. */
#ifndef RIFFLE_PREPARE_SHUFFLE_DEBUG_H
#define RIFFLE_PREPARE_SHUFFLE_DEBUG_H

#include <stdbool.h>
#include <stdint.h>

#include "prepare/shuffle/shuffle.h"

/* All of .symtab, in its order. */
struct debug_symbol {
	uint64_t address, bytes; /* st_value, st_size */
	const char *name;
	uint8_t type, bind; /* STT_*, STB_* */
	uint16_t section;   /* st_shndx */
	char letter;        /* as nm has it: t T w W d D r R b B A … */
};

/* A .rela entry of a loaded section; ascending by field. */
struct debug_rela {
	uint32_t field;  /* image offset */
	uint32_t type;   /* R_X86_64_* */
	uint32_t symbol; /* index in .symtab */
	int64_t addend;
};

struct shuffle_debug {
	struct debug_symbol *symbol;
	uint32_t symbol_count;
	bool has_rela; /* for .text: a stripped vmlinux may retain those of a few small data sections */
	struct debug_rela *rela;
	uint32_t rela_count;
	uint16_t percpu_section; /* linked at 0 (up to 6.14): its symbols are not addresses; 0 if there is none */
	char *names;
	uint64_t names_bytes;
};

#endif
