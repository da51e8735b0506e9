/* SPDX-License-Identifier: Apache-2.0 */
/* Says what a loaded kernel's memory must be, by other means than those that loaded it, and compares byte for byte. */
#ifndef RIFFLE_PREPARE_VERIFY_H
#define RIFFLE_PREPARE_VERIFY_H

#include <stdio.h>

#include <riffle/layout.h>
#include <riffle/plan.h>

#include "prepare/image/image.h"

/*
 * The knowledge comes from the kernel alone: what its code refers to from objdump, absolute addresses from its own list
 * of relocations, tables from a reading of their formats, all apart from prepare/shuffle, prepare/analysis and
 * lib/load. Of the plan only the chunks' and regions' link places are used, of the layout where each chunk went.
 */
struct verify;

/* Told as the work goes on; `done` and `all` are bytes of code. NULL is allowed. */
typedef void verify_progress(void *opaque, uint64_t done, uint64_t all);

/*
 * Reads `image`, which must stay open. `debug_fd` is a debug vmlinux of the same build, or -1: its .rela.* sections,
 * where it has them, say which symbol each reference is about, and win. Runs objdump (from the PATH) once. Errors:
 * UNSUPPORTED, FORMAT (a table that does not decode, with its link address), IO, MEMORY.
 */
int verify_open(struct verify **verify, const struct riffle_image *image, int debug_fd, verify_progress *progress,
		void *opaque, struct riffle_error *error);
void verify_close(struct verify *verify);

/* One table or other source of knowledge, for a report. */
struct verify_part {
	const char *name; /* what --spoil calls it */
	uint64_t fields;  /* references or entries */
};
unsigned verify_part_count(const struct verify *verify);
struct verify_part verify_part(const struct verify *verify, unsigned index);

/* Of objdump's references: how many a .rela names too, and how many it has that objdump did not see. */
struct verify_rela {
	bool present;
	uint64_t entries, agree, other_target;
	uint64_t unseen, unseen_code; /* of these, those that lead to code */
};
struct verify_rela verify_rela(const struct verify *verify);

/*
 * Checks the plan's chunks by themselves: they begin and end between instructions, nothing falls into one or out of
 * one, and no two overlap. What is wrong is printed, `limit` lines at most. Returns how many chunks are wrong.
 */
uint64_t verify_chunks(const struct verify *verify, const struct riffle_plan *plan, unsigned limit, FILE *report);

/* What came of a comparison. */
struct verify_result {
	uint64_t bytes;     /* compared: all of the image, .bss included */
	uint64_t different; /* runs of bytes that differ, at most one a field */
	uint64_t moved;     /* chunks that are not at their link place */
	uint64_t unwinds;   /* instructions whose unwind entry was looked up in both orders */
};

/*
 * Builds what a kernel loaded at `layout` must be and compares it with `loaded` (image_bytes long). Differences are
 * printed with section, symbol and what they belong to, `limit` of them at most.
 * Errors: FORMAT (an order that is none), MEMORY.
 */
int verify_compare(struct verify_result *result, const struct verify *verify, const struct riffle_plan *plan,
		   const struct riffle_layout *layout, const uint8_t *loaded, unsigned limit, FILE *report,
		   struct riffle_error *error);

/*
 * For tests: makes the part of that name in `loaded` what it would be if nobody had put it right: of a table all bytes,
 * of references (code, absolute32 …) one of those that matter. False when there is no such part, or nothing in it
 * depends on this layout.
 */
bool verify_spoil(const struct verify *verify, const struct riffle_plan *plan, const struct riffle_layout *layout,
		  const char *part, uint8_t *loaded, struct riffle_error *error);

#endif
