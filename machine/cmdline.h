/* SPDX-License-Identifier: Apache-2.0 */
/* Parses the words of a kernel command line that concern the loader. */
#ifndef RIFFLE_MACHINE_CMDLINE_H
#define RIFFLE_MACHINE_CMDLINE_H

#include <stdbool.h>
#include <stddef.h>

#include <riffle/memory.h>

/* Whether `word` is one of the line's words, split at white space as in the kernel's own bootstrap. */
bool cmdline_has_word(const char *line, const char *word);

/*
 * Whether a reset marked as warm can only come from a panic: reboot= has the word panic_warm, and none that makes other
 * resets warm.
 */
bool cmdline_tells_panic(const char *line);

/*
 * The memory that mem= and memmap= take away from the kernel, where it must not be placed: everything above the lowest
 * limit, and each range that is reserved, ACPI or persistent memory. Limits and ranges are parsed as Linux does (a
 * number in any base with K, M, G, T, P, E; several memmap= separated by commas); what it would ignore is ignored.
 * memmap=exactmap takes all memory except what later memmap=SIZE@START words add. Fills in at most `capacity` ranges
 * and returns how many; if there are more, the last one is enlarged to cover them.
 */
size_t cmdline_reserved(const char *line, struct riffle_range *ranges, size_t capacity);

#endif
