/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Measures what a kernel offers to code reuse: its gadgets by class, and those whose distance from the base never
 * changes.
 */
#ifndef RIFFLE_PREPARE_STRENGTH_H
#define RIFFLE_PREPARE_STRENGTH_H

#include <stdbool.h>
#include <stdint.h>

#include <riffle/error.h>

#include "prepare/image/image.h"
#include "prepare/shuffle/shuffle.h"

/*
 * A gadget starts at any byte of .text from which one to STRENGTH_INSTRUCTIONS instructions decode, the last of them a
 * return or an indirect jump or call, the others neither branches nor traps. Return thunk and retpoline sites are
 * counted as patched for a processor that needs neither. Code that is freed after boot (.init.text) is not counted.
 */
#define STRENGTH_INSTRUCTIONS 6u

/* Chunks with fewer others to swap places with count as fixed: a few guesses are no obstacle. */
#define STRENGTH_PLACES 64u

/* What a gadget does; one may be in several classes. */
enum strength_class {
	STRENGTH_LOAD_RDI, /* the register ends up with a value from memory that a register points to, or the stack */
	STRENGTH_LOAD_RSI,
	STRENGTH_LOAD_RDX,
	STRENGTH_LOAD_RCX,
	STRENGTH_LOAD_R8,
	STRENGTH_LOAD_R9,
	STRENGTH_STORE,       /* writes to memory that a register other than rsp points to */
	STRENGTH_READ,        /* reads memory that a register other than rsp points to into a register */
	STRENGTH_PIVOT,       /* sets rsp to something not computed from rsp alone */
	STRENGTH_CALL,        /* ends in a jump or call through a register or memory that a register points to */
	STRENGTH_CALL_LOADED, /* of these: the register is loaded by the gadget, or by another fixed gadget */
	STRENGTH_CONTROL,     /* writes a control or model-specific register or a descriptor table's */
	STRENGTH_USER,        /* returns to user mode */
	STRENGTH_CLASSES,
};

const char *strength_class_name(enum strength_class class);

struct strength_counts {
	uint64_t starts;
	uint64_t class[STRENGTH_CLASSES];
};

/* A fixed gadget of a useful class, for lists. */
struct strength_gadget {
	uint32_t offset;
	uint32_t classes; /* 1 << enum strength_class */
};

struct strength {
	struct strength_counts all;
	struct strength_counts fixed; /* at a fixed distance from the base when functions are shuffled */
	uint64_t text_bytes, fixed_bytes;
	/*
	 * Whether fixed code alone lets an attacker who controls a stack read an address from a kernel table and jump
	 * to it, so that a function's place is no secret: it can load a register from the stack, load what that points
	 * to, and jump or call through the result.
	 */
	bool kit;
	/* The fixed gadgets in a class of strength_is_useful(), ascending. */
	struct strength_gadget *gadget;
	uint32_t gadget_count;
};

/*
 * Measures `image`; `shuffle` tells what moves (NULL: the kernel cannot be shuffled, everything is fixed). Errors:
 * UNSUPPORTED (no section headers that name .text), FORMAT, MEMORY. Release with strength_free() after success.
 */
int strength_measure(struct strength *strength, const struct riffle_image *image, const struct shuffle *shuffle,
		     struct riffle_error *error);
void strength_free(struct strength *strength);

/* Classes from which a chain can be built: argument loads, stores, pivots, calls through what can be loaded. */
bool strength_is_useful(uint32_t classes);

#endif
