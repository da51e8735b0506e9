/* SPDX-License-Identifier: Apache-2.0 */
/* Translates the kernel addresses in a guest's console log into link-time addresses and symbols. */
#ifndef RIFFLE_PREPARE_ANNOTATE_H
#define RIFFLE_PREPARE_ANNOTATE_H

#include "prepare/symbols/symbols.h"

/* room that annotate_address() needs: 0x, 16 digits, a name and two numbers */
#define ANNOTATE_ADDRESS_MAX 2048u

struct annotator {
	/* converts an address of the guest's kernel to its link address; false if it is not one */
	bool (*to_link)(const void *map, uint64_t address, uint64_t *link);
	const void *map;
	const struct symbols *symbols;                              /* at link addresses; NULL: addresses alone */
	int (*write)(void *opaque, const char *text, size_t bytes); /* 0, or what annotate() is to return */
	void *opaque;
	char word[18]; /* private from here on; zero at first */
	size_t word_bytes;
	bool word_too_long;
	enum { ANNOTATE_TEXT, ANNOTATE_ESCAPE, ANNOTATE_CONTROL } state; /* in a terminal's escape sequence, or not */
};

/*
 * Takes the log in pieces, split anywhere, and copies it unchanged except for addresses: whole words (of letters,
 * digits and _; not within a terminal's escape sequences, such as for colours) that are 16 hexadecimal digits, or 0x
 * and up to 16, and have a link-time address. They become `ADDRESS [symbol+0xoffset/0xsize]`, where ADDRESS is the
 * link-time address. Returns what write returned.
 */
int annotate(struct annotator *annotator, const char *text, size_t bytes);
/* Ends the log: the last word may still be waiting. */
int annotate_end(struct annotator *annotator);

/* The same for one address; `text` has ANNOTATE_ADDRESS_MAX bytes. False: it is not in the kernel's image. */
bool annotate_address(char *text, const struct annotator *annotator, uint64_t address);

#endif
