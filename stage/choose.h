/* SPDX-License-Identifier: Apache-2.0 */
/* How much of a kernel is randomised, given what its file asks for and what memory there is. */
#ifndef RIFFLE_STAGE_CHOOSE_H
#define RIFFLE_STAGE_CHOOSE_H

#include <stdbool.h>

#include <riffle/layout.h>

/* Whether the shuffle's part of the plan is needed: for KASLR alone the rest will do. */
bool stage_needs_all(uint64_t randomize);

/*
 * Draws a layout as stage_descriptor.randomize says; the caller has set its order and order_count. `memory` is that of
 * a struct stage_machine: what is reserved first is the stage's own. STAGE_AUTO is what riffle run makes of auto.
 * *crowded tells that sections would slide in a guest of more memory. Errors: FORMAT (randomize), those of
 * riffle_layout_draw().
 */
int stage_draw(struct riffle_layout *layout, bool *crowded, uint64_t randomize, const struct riffle_plan *plan,
	       const struct riffle_memory *memory, uint64_t initrd_bytes, const struct riffle_random *random,
	       struct riffle_error *error);

#endif
