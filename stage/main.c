/* SPDX-License-Identifier: Apache-2.0 */
/* The loader stage: draws a layout inside the guest and loads the kernel that lies behind it there. */
#include <riffle/load.h>

#include "common/bytes.h"
#include "common/fail.h"
#include "common/gaps_kept.h"
#include "stage/arrive.h"
#include "stage/choose.h"
#include "stage/cpu.h"
#include "stage/entropy.h"
#include "stage/package.h"

#define MARK_PORT 0xf4u

enum mark { MARK_ENTERED = 1, MARK_LOAD = 4, MARK_JUMP = 5 };

struct stage {
	struct stage_entered entered;
	bool marks, nokaslr, gaps_kept;
	struct stage_place place;
	struct stage_package package;
	struct riffle_plan plan;
	struct riffle_layout layout;
	struct riffle_loaded loaded;
};

static void mark(const struct stage *stage, enum mark number)
{
	if (stage->marks)
		cpu_out(MARK_PORT, (uint8_t)number);
}

/* With the loader's page tables still, which map the command line: marks must begin early. */
static void read_command_line(struct stage *stage)
{
	struct riffle_range line = stage_command_line(stage->entered.zero_page);
	const char *text = (const char *)(uintptr_t)line.address;

	if (!line.address)
		return;
	stage->marks = stage_has_word(text, line.bytes, "riffle.marks");
	stage->nokaslr = stage_has_word(text, line.bytes, "nokaslr");
	stage->gaps_kept = riffle_gaps_are_kept(text, line.bytes);
}

/* What nokaslr asks for: no chance at all. Virtual base as linked, the lowest physical place that is free from there
 * on. */
static int lowest_layout(struct stage *stage, struct riffle_error *error)
{
	struct riffle_layout *layout = &stage->layout;
	int status;

	*layout = (struct riffle_layout){.mode = RIFFLE_MODE_PHYSICAL,
					 .physical_base = stage->plan.header->link_phys,
					 .virtual_base = stage->plan.header->link_virt};
	do {
		status = riffle_layout_check(layout, &stage->plan, &stage->place.machine.memory, error);
		if (!status)
			return RIFFLE_OK;
		layout->physical_base += RIFFLE_SLOT_BYTES;
	} while (layout->physical_base < stage->place.reach);
	return status;
}

static int draw_layout(struct stage *stage, uint16_t *order, struct riffle_error *error)
{
	const struct riffle_range *loader_seed = &stage->place.machine.seed;
	struct riffle_random random;
	struct riffle_seeded seeded;
	uint64_t randomize = stage->entered.descriptor->randomize;
	uint8_t key[32];
	bool crowded;
	int status;

	if (stage->nokaslr)
		return lowest_layout(stage, error);
	status = stage_entropy(key, (const void *)(uintptr_t)loader_seed->address, loader_seed->bytes,
			       stage->entered.zero_page, error);
	if (status)
		return status;
	riffle_random_from_seed(&random, &seeded, key);
	stage->layout.order = order;
	stage->layout.order_count = stage->plan.chunk_count;
	if (randomize == STAGE_AUTO && stage->gaps_kept) {
		randomize = stage->plan.chunk_count ? RIFFLE_MODE_FGKASLR : RIFFLE_MODE_KASLR;
		if (stage->plan.block_count)
			stage_notice(
			    "this kernel's sections do not slide apart: with rodata=off it would not free the gaps");
	}
	status = stage_draw(&stage->layout, &crowded, randomize, &stage->plan, &stage->place.machine.memory,
			    stage_initrd(stage->entered.zero_page).bytes, &random, error);
	if (!status && crowded)
		stage_notice("this kernel's sections do not slide apart: the gaps leave too little of the guest's "
			     "memory to start in");
	return status;
}

static int load(struct stage *stage, struct riffle_error *error)
{
	const struct stage_descriptor *d = stage->entered.descriptor;
	uint8_t *order = stage->entered.image + d->work_offset + STAGE_STACK_BYTES, *workspace;
	uint64_t room = d->work_bytes - STAGE_STACK_BYTES, order_bytes;
	struct riffle_source source;
	int status = stage_see_memory(&stage->place, &stage->entered, error);

	if (!status)
		status = stage_package_open(&stage->package, &stage->plan, stage->entered.image + d->package_offset,
					    d->package_bytes, !stage->nokaslr && stage_needs_all(d->randomize), error);
	if (status)
		return status;
	order_bytes = ((uint64_t)stage->plan.chunk_count * 2 + 63) & ~UINT64_C(63);
	if (!riffle_inside(order_bytes, riffle_load_workspace(&stage->plan), room))
		return riffle_fail(error, RIFFLE_ERR_FORMAT, "work area", "is too small for this plan");
	workspace = order + order_bytes;
	status = draw_layout(stage, (uint16_t *)(void *)order, error);
	if (status)
		return status;
	mark(stage, MARK_LOAD);
	source = stage_package_source(&stage->package);
	return riffle_load_shuffled(&stage->loaded, &stage->plan, &source, &stage->layout, &stage->place.machine.memory,
				    RIFFLE_LOAD_CLEAR, NULL, workspace, (size_t)(room - order_bytes), error);
}

uint64_t stage_main(uint8_t *image, uint8_t *zero_page, const struct stage_descriptor *descriptor, uint64_t start_info,
		    uint64_t pvh)
{
	struct stage stage;
	struct riffle_error error;

	memset(&stage, 0, sizeof stage);
	stage.plan = (struct riffle_plan)RIFFLE_PLAN_INIT;
	stage.entered = (struct stage_entered){image, zero_page, descriptor, start_info, pvh != 0};
	if (stage_complete_zero_page(&stage.entered, &error))
		stage_give_up(&error);
	read_command_line(&stage);
	mark(&stage, MARK_ENTERED);
	if (load(&stage, &error))
		stage_give_up(&error);
	stage_set_loadflags(zero_page, stage.loaded.loadflags);
	mark(&stage, MARK_JUMP);
	return stage.loaded.entry;
}
