/* SPDX-License-Identifier: Apache-2.0 */
/* What a monitor has to read in a kernel's command line: the words that are for the loader. */
#ifndef RIFFLE_MACHINE_CMDLINE_H
#define RIFFLE_MACHINE_CMDLINE_H

#include <stdbool.h>
#include <stddef.h>

#include <riffle/memory.h>

/* Whether `word` is one of the line's words, as the kernel's own bootstrap looks for it: any blanks separate words. */
bool cmdline_has_word(const char *line, const char *word);

/*
 * Whether a reset marked as warm can only come from a panic: reboot= has the word panic_warm, and none that makes other
 * resets warm.
 */
bool cmdline_tells_panic(const char *line);

/*
 * The memory that mem= and memmap= take from the kernel, which must not be placed there: what lies above the lowest
 * limit, and each range that is reserved, given to ACPI or to persistent memory. Limits and ranges are read as Linux
 * reads them (a number in any base with K, M, G, T, P, E; several memmap= separated by commas); what it would ignore is
 * ignored. memmap=exactmap takes all memory but what later memmap=SIZE@START words give back.
 * Fills at most `capacity` ranges and returns how many; what does not fit is covered by making the last one larger.
 */
size_t cmdline_reserved(const char *line, struct riffle_range *ranges, size_t capacity);

#endif
