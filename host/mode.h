/* SPDX-License-Identifier: Apache-2.0 */
/* Names of modes and of what slides, for people. */
#ifndef RIFFLE_HOST_MODE_H
#define RIFFLE_HOST_MODE_H

#include <stdbool.h>
#include <stdint.h>

#include <riffle/error.h>
#include <riffle/format.h>
#include <riffle/layout.h>
#include <riffle/memory.h>
#include <riffle/plan.h>

/* "off", "kaslr+slide" … */
const char *mode_name(const struct riffle_layout *layout);
/* The inverse; false if it is none of these names. */
bool mode_parse(const char *name, enum riffle_mode *mode, bool *slide);
/* Why the functions of a kernel without chunks cannot be shuffled. What it returns lives as long as the header. */
const char *mode_no_shuffle(const struct riffle_header *header);
/* Why the sections of a kernel without blocks cannot slide apart. What it returns lives as long as the header. */
const char *mode_no_slides(const struct riffle_header *header);
/*
 * Refuses a shuffle or slides that the kernel does not allow, and says what it does. The error may point into `text`.
 * Errors: UNSUPPORTED.
 */
#define MODE_REASON_BYTES 400
int mode_check(char text[MODE_REASON_BYTES], enum riffle_mode mode, bool slide, const struct riffle_plan *plan,
	       struct riffle_error *error);
/* The value of --randomize: one of these names, or "auto". Returns what is wrong with it, or NULL. */
const char *mode_option(const char *value, bool *automatic, enum riffle_mode *mode, bool *slide);
/*
 * What "auto" comes to: the strongest mode that this kernel, which has relocations, allows in a guest of this memory.
 * The gaps between blocks are not the kernel's until it has unpacked its initrd; so the sections slide only where that
 * leaves it room.
 */
void mode_automatic(enum riffle_mode *mode, bool *slide, const struct riffle_plan *plan,
		    const struct riffle_memory *memory, uint64_t initrd_bytes);
/*
 * Why "auto" did not come to more for this kernel: up to two sentences without a full stop, which `text` holds. Returns
 * their number. `no_slides` is why sections that could slide do not; NULL if the guest's memory is the reason.
 */
unsigned mode_reasons(char text[2][MODE_REASON_BYTES], enum riffle_mode mode, bool slide,
		      const struct riffle_plan *plan, const char *no_slides);
/* What users should know of a shuffled kernel whose /proc/kallsyms a load does not close; NULL if it does. */
const char *mode_kallsyms_stays_open(const struct riffle_plan *plan, enum riffle_mode mode);
/* "read-only data" …, of an enum riffle_block_kind */
const char *block_name(uint32_t kind);

#endif
