/* SPDX-License-Identifier: Apache-2.0 */
/* Puts a kernel's blocks into words and numbers. */
#include "cli/commands/inspect_slides.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>

#include "host/mode.h"

/* A block's name as a key of JSON: "read_only_data". */
static void json_block_name(char name[32], uint32_t kind)
{
	snprintf(name, 32, "%s", block_name(kind));
	for (char *c = name; *c; c++)
		if (*c == ' ' || *c == '-')
			*c = '_';
}

void print_slides_summary(const struct riffle_plan *plan)
{
	if (!plan->block_count) {
		printf("%-17s impossible: %s\n", "slides", mode_no_slides(plan->header));
		return;
	}
	printf("%-17s %" PRIu32 " blocks, with gaps up to %.1f MiB:", "slides", plan->block_count,
	       (double)plan->slide_max / 1048576);
	for (uint32_t i = 1; i < plan->block_count; i++)
		/* a gap that complements another adds nothing */
		if (plan->blocks[i].gaps)
			printf("%s %s %.1f bits", i > 1 ? "," : "", block_name(plan->blocks[i].kind),
			       log2(plan->blocks[i].gaps));
	putchar('\n');
}

json_t *slides_json(const struct riffle_plan *plan)
{
	json_t *object = json_pack("{s:b}", "possible", plan->block_count != 0), *blocks = json_array();

	if (!plan->block_count) {
		json_object_set_new(object, "reason", json_string(mode_no_slides(plan->header)));
		json_decref(blocks);
		return object;
	}
	for (uint32_t i = 0; i < plan->block_count; i++) {
		const struct riffle_block *b = &plan->blocks[i];
		char name[32];

		json_block_name(name, b->kind);
		json_array_append_new(blocks, json_pack("{s:s, s:I, s:I, s:I}", "block", name, "image_offset",
							(json_int_t)b->image_offset, "gap_align", (json_int_t)b->align,
							"gaps", (json_int_t)b->gaps));
	}
	json_object_set_new(object, "bytes_most", json_integer((json_int_t)plan->slide_max));
	json_object_set_new(object, "blocks", blocks);
	return object;
}
