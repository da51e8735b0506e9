/* SPDX-License-Identifier: Apache-2.0 */
/* Names of modes and of what slides, for people. */
#ifndef RIFFLE_HOST_MODE_H
#define RIFFLE_HOST_MODE_H

#include <stdbool.h>
#include <stdint.h>

#include <riffle/format.h>
#include <riffle/layout.h>

/* "off", "kaslr+slide" … */
const char *mode_name(const struct riffle_layout *layout);
/* The inverse; false if it is none of these names. */
bool mode_parse(const char *name, enum riffle_mode *mode, bool *slide);
/* Why the sections of a kernel without blocks cannot slide apart. What it returns lives as long as the header. */
const char *mode_no_slides(const struct riffle_header *header);
/* The value of --randomize: one of these names, or "auto". Returns what is wrong with it, or NULL. */
const char *mode_option(const char *value, bool *automatic, enum riffle_mode *mode, bool *slide);
/* "read-only data" …, of an enum riffle_block_kind */
const char *block_name(uint32_t kind);

#endif
