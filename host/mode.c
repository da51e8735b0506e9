/* SPDX-License-Identifier: Apache-2.0 */
/* Names of modes and of what slides, for people. */
#include "host/mode.h"

#include <string.h>

static const char *const mode_names[] = {"off", "physical", "kaslr", "fgkaslr"};

const char *mode_name(const struct riffle_layout *layout)
{
	if (layout->slide_count)
		return layout->mode == RIFFLE_MODE_FGKASLR ? "fgkaslr+slide" : "kaslr+slide";
	return mode_names[layout->mode];
}

bool mode_parse(const char *name, enum riffle_mode *mode, bool *slide)
{
	for (unsigned i = 0; i < sizeof mode_names / sizeof *mode_names; i++) {
		size_t length = strlen(mode_names[i]);

		if (strncmp(name, mode_names[i], length) != 0)
			continue;
		*slide = i >= RIFFLE_MODE_KASLR && !strcmp(name + length, "+slide");
		if (name[length] && !*slide)
			continue;
		*mode = (enum riffle_mode)i;
		return true;
	}
	return false;
}

const char *mode_no_slides(const struct riffle_header *header)
{
	if (header->no_slides[0])
		return header->no_slides;
	return header->no_shuffle[0] ? header->no_shuffle : "it was prepared without blocks";
}

const char *mode_option(const char *value, bool *automatic, enum riffle_mode *mode, bool *slide)
{
	*automatic = !strcmp(value, "auto");
	*slide = false;
	return *automatic || mode_parse(value, mode, slide)
		   ? NULL
		   : "must be off, physical, kaslr, fgkaslr, either of these with +slide, or auto";
}

const char *block_name(uint32_t kind)
{
	static const char *const names[] = {[RIFFLE_BLOCK_TEXT] = "text", [RIFFLE_BLOCK_RODATA] = "read-only data",
					    [RIFFLE_BLOCK_DATA] = "data", [RIFFLE_BLOCK_INIT] = "init",
					    [RIFFLE_BLOCK_BSS] = "bss",   [RIFFLE_BLOCK_BRK] = "brk"};

	return kind < sizeof names / sizeof *names && names[kind] ? names[kind] : "a section";
}
