/* SPDX-License-Identifier: Apache-2.0 */
/* Computes a loaded kernel's expected memory independently of the loader, and compares it byte by byte. */
#ifndef RIFFLE_PREPARE_VERIFY_H
#define RIFFLE_PREPARE_VERIFY_H

#include <stdio.h>

#include <riffle/layout.h>
#include <riffle/plan.h>

#include "prepare/image/image.h"

/*
 * All information comes from the kernel itself: the references in code from objdump, absolute addresses from its own
 * relocation list, tables by parsing their formats, all independent of prepare/shuffle, prepare/analysis and lib/load.
 * Of the plan only the chunks' and regions' link places are used, of the layout where each chunk went. That a shuffled
 * kernel closes /proc/kallsyms is expected of each in which its initcall is what it is in Linux, whatever the plan
 * says.
 */
struct verify;

/* Progress callback; `done` and `all` are bytes of code. May be NULL. */
typedef void verify_progress(void *opaque, uint64_t done, uint64_t all);

/*
 * Reads `image`, which must stay open. `debug_fd` is a debug vmlinux of the same build, or -1: its .rela.* sections, if
 * present, tell which symbol each reference is relative to, and take precedence. Runs objdump (from the PATH) once.
 * Errors: UNSUPPORTED, FORMAT (a table that does not decode, with its link address), IO, MEMORY.
 */
int verify_open(struct verify **verify, const struct riffle_image *image, int debug_fd, verify_progress *progress,
		void *opaque, struct riffle_error *error);
void verify_close(struct verify *verify);

/* One table or other source of knowledge, for a report. */
struct verify_part {
	const char *name; /* its name for --spoil */
	uint64_t fields;  /* references or entries */
};
unsigned verify_part_count(const struct verify *verify);
struct verify_part verify_part(const struct verify *verify, unsigned index);

/* Of objdump's references: how many a .rela has too, and how many it has that objdump did not find. */
struct verify_rela {
	bool present;
	uint64_t entries, agree, other_target;
	uint64_t unseen, unseen_code; /* of these, those that lead to code */
};
struct verify_rela verify_rela(const struct verify *verify);

/*
 * Checks only the plan's chunks: they begin and end between instructions, no code falls through into or out of one, and
 * no two overlap. Prints at most `limit` lines of faults. Returns how many chunks are wrong.
 */
uint64_t verify_chunks(const struct verify *verify, const struct riffle_plan *plan, unsigned limit, FILE *report);

/* The result of a comparison. */
struct verify_result {
	uint64_t bytes;     /* compared: all of the image, .bss included */
	uint64_t different; /* runs of bytes that differ, at most one per field */
	uint64_t moved;     /* chunks that are not at their link address */
	uint64_t unwinds;   /* instructions whose unwind entry was looked up in both orders */
};

/*
 * Builds the expected image of a kernel loaded at `layout` and compares it with `loaded` (image_bytes long), which is
 * entered at the offset `entry`. Prints at most `limit` differences, with section, symbol and part. Errors: FORMAT (an
 * invalid order), MEMORY.
 */
int verify_compare(struct verify_result *result, const struct verify *verify, const struct riffle_plan *plan,
		   const struct riffle_layout *layout, const uint8_t *loaded, uint64_t entry, unsigned limit,
		   FILE *report, struct riffle_error *error);

/*
 * For tests: undoes the fixups of the named part in `loaded`: for a table all bytes, for references (code, absolute32
 * …) one of those that matter. False if there is no such part, or nothing in it depends on this layout.
 */
bool verify_spoil(const struct verify *verify, const struct riffle_plan *plan, const struct riffle_layout *layout,
		  const char *part, uint8_t *loaded, struct riffle_error *error);

#endif
