/* SPDX-License-Identifier: Apache-2.0 */
/* What is left to guess after one pointer has leaked, in bits, for each randomisation mode. */
#ifndef RIFFLE_CLI_COMMANDS_LEAKS_H
#define RIFFLE_CLI_COMMANDS_LEAKS_H

#include <stdbool.h>
#include <stdint.h>

#include <riffle/error.h>
#include <riffle/format.h>

enum leak_mode {
	LEAK_MODE_OFF,
	LEAK_MODE_KASLR,
	LEAK_MODE_FGKASLR,
	LEAK_MODE_KASLR_SLIDE,
	LEAK_MODE_FGKASLR_SLIDE,
	LEAK_MODES,
};

/* What the leaked pointer points to. */
enum leak {
	LEAK_NONE,     /* nothing is known */
	LEAK_FUNCTION, /* a function that moves when functions are shuffled */
	LEAK_FIXED,    /* code that does not move */
	LEAK_RODATA,
	LEAK_DATA,
	LEAK_BSS,
	LEAK_BRK,
	LEAK_READS, /* not a single leak: any memory can be read once one address is known */
	LEAKS,
};

/* What has to be guessed. */
enum leak_place {
	LEAK_PLACE_BASE, /* the text base, and with it all code that does not move */
	LEAK_PLACE_RODATA,
	LEAK_PLACE_DATA,
	LEAK_PLACE_BSS,
	LEAK_PLACE_BRK,
	LEAK_PLACES,
};

/* What a kernel's layouts are drawn from. */
struct leak_limits {
	uint64_t slots;      /* for the virtual base; 1: it is not randomised */
	uint64_t slots_slid; /* the same with slides; 0: sections cannot slide, or not in a guest of this size */
	const struct riffle_block *block;
	uint32_t block_count;
	bool balanced;         /* the last block's gap makes the sum of all gaps the same: it moves with the base */
	uint32_t chunks;       /* of the largest region; 0: functions cannot be shuffled */
	uint64_t region_bytes; /* of that region */
	bool kit;              /* fixed code is enough to look up a function's address, when the text base is known */
};

struct leak_left {
	double place[LEAK_PLACES];
	double function;       /* another function that moves, for an attacker who cannot reuse code; at least */
	double function_reuse; /* the same for one who controls a stack and can run code that does not move */
	/* The most text bases that one pointer leaves possible: 1 if code that does not move is at a fixed distance. */
	uint64_t bases;
};

struct leak_table {
	bool has[LEAK_MODES]; /* what this kernel can have */
	struct leak_left left[LEAK_MODES][LEAKS];
};

/*
 * Bits are minus the binary logarithm of the chance that a single guess is right, made as well as possible by whoever
 * knows the leaked pointer and what layouts are drawn from, on average over all layouts. Errors: MEMORY.
 */
int leak_table_make(struct leak_table *table, const struct leak_limits *limits, struct riffle_error *error);

const char *leak_mode_name(enum leak_mode mode);
bool leak_mode_shuffles(enum leak_mode mode);
bool leak_mode_slides(enum leak_mode mode);
const char *leak_name(enum leak leak);              /* for JSON */
const char *leak_words(enum leak leak);             /* for people */
const char *leak_place_name(enum leak_place place); /* for JSON, without "_bits" */

#endif
