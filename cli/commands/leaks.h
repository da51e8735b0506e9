/* SPDX-License-Identifier: Apache-2.0 */
/* What is left to guess after one pointer has leaked, in bits, for each randomisation mode. */
#ifndef RIFFLE_CLI_COMMANDS_LEAKS_H
#define RIFFLE_CLI_COMMANDS_LEAKS_H

#include <stdbool.h>

enum leak_mode { LEAK_MODE_OFF, LEAK_MODE_KASLR, LEAK_MODE_FGKASLR, LEAK_MODES };

/* What the leaked pointer points to. */
enum leak {
	LEAK_NONE,     /* nothing is known */
	LEAK_FUNCTION, /* a function that moves when functions are shuffled */
	LEAK_FIXED,    /* code that does not move */
	LEAK_RODATA,
	LEAK_DATA,  /* data, bss */
	LEAK_READS, /* not a single leak: any memory can be read once one address is known */
	LEAKS,
};

/* What a kernel's layouts are drawn from. */
struct leak_limits {
	double base_bits; /* of the virtual base */
	bool shuffles;
	double place_bits;   /* of one function's place, base known */
	double address_bits; /* of its address, base unknown, at least */
	double other_bits;   /* of another function's place, when one is known */
	double bases_bits;   /* of the base, when one moved function's address is known */
	bool kit;            /* code at a fixed distance from the base is enough to look up a function's address */
};

struct leak_left {
	double base; /* the text base, and with it everything that does not move */
	double rodata, data;
	double function;       /* another function that moves, for an attacker who cannot reuse code */
	double function_reuse; /* the same for one who controls a stack and can run code that does not move */
};

/* false: this kernel has no such mode. */
bool leak_left(struct leak_left *left, const struct leak_limits *limits, enum leak_mode mode, enum leak leak);

const char *leak_mode_name(enum leak_mode mode);
const char *leak_name(enum leak leak);  /* for JSON */
const char *leak_words(enum leak leak); /* for people */

#endif
