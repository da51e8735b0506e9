/* SPDX-License-Identifier: Apache-2.0 */
/* Shared by stage and stub: discovery of the machine, and error reporting when they cannot continue. */
#ifndef RIFFLE_STAGE_ARRIVE_H
#define RIFFLE_STAGE_ARRIVE_H

#include "stage/machine.h"
#include "stage/stage.h"

/* Passed by entry.S. */
struct stage_entered {
	uint8_t *image; /* loaded at STAGE_ELF_BASE, or a bzImage's protected-mode part */
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

/* Called from entry.S on a stack in the work area, which is wiped after the return. Returns the kernel's entry. */
uint64_t stage_main(uint8_t *image, uint8_t *zero_page, const struct stage_descriptor *descriptor, uint64_t start_info,
		    uint64_t pvh);

/* Completes the zero page after an entry by PVH; does nothing after another entry. Errors: FORMAT, UNSUPPORTED. */
int stage_complete_zero_page(const struct stage_entered *entered, struct riffle_error *error);

/* Reads RAM and reserved ranges from the zero page, and sets up its own page tables. Errors: FORMAT, UNSUPPORTED. */
int stage_see_memory(struct stage_place *place, const struct stage_entered *entered, struct riffle_error *error);

/* Tells the kernel what is randomised: loadflags of struct riffle_loaded. */
void stage_set_loadflags(uint8_t *zero_page, uint64_t loadflags);

/* Writes a line on COM1 that starts with "riffle stage: notice: ". */
void stage_notice(const char *text);

/* Reports the error on COM1 and resets the machine. */
__attribute__((noreturn)) void stage_give_up(const struct riffle_error *error);

#endif
