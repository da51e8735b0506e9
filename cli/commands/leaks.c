/* SPDX-License-Identifier: Apache-2.0 */
/* Computes what one leaked pointer leaves to guess, from what the layouts are drawn from. */
#include "cli/commands/leaks.h"

#include <string.h>

static double least(double a, double b)
{
	return a < b ? a : b;
}

/* Bits of the base that are left; everything that does not move is known with it. */
static double base_left(const struct leak_limits *limits, enum leak_mode mode, enum leak leak)
{
	if (mode == LEAK_MODE_OFF)
		return 0;
	if (leak == LEAK_NONE)
		return limits->base_bits;
	return mode == LEAK_MODE_FGKASLR && leak == LEAK_FUNCTION ? limits->bases_bits : 0;
}

static double function_left(const struct leak_limits *limits, enum leak leak)
{
	switch (leak) {
	case LEAK_NONE:
		return limits->address_bits;
	case LEAK_FUNCTION:
		return limits->other_bits;
	case LEAK_READS:
		return 0; /* pointers to functions lie in data, symbol and unwind tables at fixed places */
	default:
		return limits->place_bits;
	}
}

bool leak_left(struct leak_left *left, const struct leak_limits *limits, enum leak_mode mode, enum leak leak)
{
	double base;

	memset(left, 0, sizeof *left);
	if (mode == LEAK_MODE_FGKASLR && !limits->shuffles)
		return false;
	base = base_left(limits, mode, leak);
	left->base = left->rodata = left->data = base;
	left->function = left->function_reuse = base;
	if (mode != LEAK_MODE_FGKASLR)
		return true;
	left->function = function_left(limits, leak);
	/* with a kit the base is all that has to be guessed: the kernel's own tables tell the rest */
	left->function_reuse = limits->kit ? least(base, left->function) : left->function;
	return true;
}

const char *leak_mode_name(enum leak_mode mode)
{
	static const char *const names[LEAK_MODES] = {"off", "kaslr", "fgkaslr"};

	return names[mode];
}

const char *leak_name(enum leak leak)
{
	static const char *const names[LEAKS] = {"none",           "function", "fixed_code",
						 "read_only_data", "data",     "reads_memory"};

	return names[leak];
}

const char *leak_words(enum leak leak)
{
	static const char *const words[LEAKS] = {
	    "nothing",   "a function that moves", "code that does not move", "read-only data",
	    "data, bss", "(reads memory at will)"};

	return words[leak];
}
