/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The output of `riffle inspect --strength`: the gadgets that do not move, and what is left to guess after one pointer
 * has leaked.
 */
#ifndef RIFFLE_CLI_COMMANDS_INSPECT_STRENGTH_H
#define RIFFLE_CLI_COMMANDS_INSPECT_STRENGTH_H

#include <jansson.h>

#include "cli/commands/inspect_shuffle.h"
#include "cli/commands/leaks.h"
#include "prepare/strength/strength.h"
#include "prepare/symbols/symbols.h"

struct strength_account {
	struct strength strength;
	struct symbols symbols; /* none when the kernel has no kallsyms */
	uint64_t link_virt;
	struct leak_table leaks;
	char no_slides[256]; /* why this kernel's sections cannot slide, in plain letters; "" if they can */
};

/* Measures the kernel described by `account`; `s` is zero but for `no_slides`. Release with strength_account_end(),
 * also after an error. */
int strength_account_make(struct strength_account *s, const struct riffle_image *image,
			  const struct shuffle_account *account, struct riffle_error *error);
void strength_account_end(struct strength_account *s);

void print_strength(const struct strength_account *s);
json_t *strength_json(const struct strength_account *s);

#endif
