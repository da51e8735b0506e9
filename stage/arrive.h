/* SPDX-License-Identifier: Apache-2.0 */
/* What stage and stub have in common: how they come to know the machine, and what they say when they cannot go on. */
#ifndef RIFFLE_STAGE_ARRIVE_H
#define RIFFLE_STAGE_ARRIVE_H

#include "stage/machine.h"
#include "stage/stage.h"

/* What entry.S hands over. */
struct stage_entered {
	uint8_t *image; /* where STAGE_ELF_BASE is meant to be, or a bzImage's protected-mode part */
	uint8_t *zero_page;
	const struct stage_descriptor *descriptor;
	uint64_t start_info; /* PVH's */
	bool pvh;            /* else zero_page is the loader's */
};

/* The machine as it was found. */
struct stage_place {
	uint64_t reach; /* first address that the page tables do not map */
	struct stage_machine machine;
};

/* Called from entry.S on a stack in the work area, which is wiped after the return. Gives the kernel's entry. */
uint64_t stage_main(uint8_t *image, uint8_t *zero_page, const struct stage_descriptor *descriptor, uint64_t start_info,
		    uint64_t pvh);

/* Completes the zero page after an entry by PVH; after another there is nothing to do. Errors: FORMAT, UNSUPPORTED. */
int stage_complete_zero_page(const struct stage_entered *entered, struct riffle_error *error);

/* Takes RAM and what in it is taken from the zero page, and page tables of our own. Errors: FORMAT, UNSUPPORTED. */
int stage_see_memory(struct stage_place *place, const struct stage_entered *entered, struct riffle_error *error);

/* The kernel is told what of the layout was random: struct riffle_loaded's loadflags. */
void stage_set_loadflags(uint8_t *zero_page, uint64_t loadflags);

/* Says what is wrong on COM1 and resets the machine. */
__attribute__((noreturn)) void stage_give_up(const struct riffle_error *error);

#endif
