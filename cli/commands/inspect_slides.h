/* SPDX-License-Identifier: Apache-2.0 */
/* The output of `riffle inspect` about the blocks of a kernel that can slide apart: a line, or an object. */
#ifndef RIFFLE_CLI_COMMANDS_INSPECT_SLIDES_H
#define RIFFLE_CLI_COMMANDS_INSPECT_SLIDES_H

#include <jansson.h>

#include <riffle/plan.h>

void print_slides_summary(const struct riffle_plan *plan);
json_t *slides_json(const struct riffle_plan *plan);

#endif
