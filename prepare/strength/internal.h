/* SPDX-License-Identifier: Apache-2.0 */
/* Shared by the files of this component: text as it runs, where gadgets start in it, and what one gadget does. */
#ifndef RIFFLE_PREPARE_STRENGTH_INTERNAL_H
#define RIFFLE_PREPARE_STRENGTH_INTERNAL_H

#include <Zydis/Zydis.h>

#include "prepare/strength/strength.h"

/* .text, patched; `steps` has for each byte the number of instructions of a gadget that starts there, 0: none. */
struct gadget_text {
	uint8_t *code;
	uint32_t offset, bytes; /* the image offset of code[0] */
	uint8_t *length;        /* of the instruction at each byte; 0 if none decodes */
	uint8_t *steps;
	ZydisDecoder decoder;
};

/* gadgets.c. Release with gadgets_free(), also after an error. */
int gadgets_find(struct gadget_text *text, const struct riffle_image *image, struct riffle_error *error);
void gadgets_free(struct gadget_text *text);

/* What one gadget does. Registers are bits, from rax 0 to r15 15, in the instruction set's numbering. */
struct gadget_effect {
	uint32_t classes;    /* without STRENGTH_CALL_LOADED, unless the gadget loads the register itself */
	uint16_t loaded;     /* registers that end up with values from memory */
	uint16_t stacked;    /* of these: from the stack */
	uint16_t fetched;    /* of these: from memory that another register points to */
	uint16_t pointers;   /* those other registers, unless the gadget loads them itself */
	uint16_t through;    /* the registers that its final jump or call uses */
	bool through_memory; /* not their values, but what they point to */
	bool returns;
};

/* effects.c. `at` counts from text->code; text->steps[at] is not 0. */
void gadget_effect(struct gadget_effect *effect, const struct gadget_text *text, uint32_t at);

#endif
