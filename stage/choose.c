/* SPDX-License-Identifier: Apache-2.0 */
/* Decides between the modes as a monitor does, and draws. */
#include "stage/choose.h"

#include "common/fail.h"
#include "common/slides_room.h"
#include "stage/stage.h"

bool stage_needs_all(uint64_t randomize)
{
	return randomize != RIFFLE_MODE_KASLR;
}

/*
 * The stage's own memory is in the way of the kernel when slots are counted. It is the kernel's when that runs, and
 * makes up for gaps that are not yet: the first that is reserved.
 */
static bool room_for_slides(const struct riffle_plan *plan, const struct riffle_memory *memory, enum riffle_mode mode,
			    uint64_t initrd_bytes)
{
	struct riffle_memory later = *memory;
	struct riffle_slots slots;

	later.reserved++;
	later.reserved_count--;
	return riffle_slides_have_room(plan, &later, initrd_bytes) &&
	       !riffle_layout_slots_slid(&slots, plan, memory, mode, NULL);
}

int stage_draw(struct riffle_layout *layout, bool *crowded, uint64_t randomize, const struct riffle_plan *plan,
	       const struct riffle_memory *memory, uint64_t initrd_bytes, const struct riffle_random *random,
	       struct riffle_error *error)
{
	enum riffle_mode mode = plan->chunk_count ? RIFFLE_MODE_FGKASLR : RIFFLE_MODE_KASLR;
	bool slide;

	*crowded = false;
	if (randomize == STAGE_AUTO) {
		slide = plan->block_count && room_for_slides(plan, memory, mode, initrd_bytes);
		*crowded = plan->block_count && !slide;
	} else {
		uint64_t wanted = randomize & ~(uint64_t)STAGE_SLIDE;

		slide = randomize & STAGE_SLIDE;
		mode = (enum riffle_mode)wanted;
		if (wanted != RIFFLE_MODE_KASLR && wanted != RIFFLE_MODE_FGKASLR)
			return riffle_fail_found(error, RIFFLE_ERR_FORMAT, "randomize", "is not known", randomize);
		if (slide && !plan->block_count)
			return riffle_fail(error, RIFFLE_ERR_UNSUPPORTED, "blocks",
					   "there are none in this plan, so the kernel's sections cannot slide");
	}
	layout->slide_count = slide ? plan->block_count : 0;
	return riffle_layout_draw(layout, plan, memory, mode, random, error);
}
