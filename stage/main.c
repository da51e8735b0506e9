/* SPDX-License-Identifier: Apache-2.0 */
/* The loader stage: draws a layout inside the guest and loads the kernel that lies behind it there. */
#include <riffle/load.h>

#include "common/bytes.h"
#include "common/fail.h"
#include "stage/cpu.h"
#include "stage/entropy.h"
#include "stage/machine.h"
#include "stage/package.h"
#include "stage/stage.h"

#define COM1 0x3f8u
#define COM1_STATUS 0x3fdu
#define COM1_EMPTY 0x20u
#define MARK_PORT 0xf4u
#define LOADFLAGS 0x211u
#define KASLR_FLAG 2u
#define CR4_LA57 (1u << 12)
#define GIB (UINT64_C(1) << 30)
#define GIBS_MIN 4u /* a zero page or command line may lie anywhere below it */

enum mark { MARK_ENTERED = 1, MARK_LOAD = 4, MARK_JUMP = 5 };

struct stage {
	const struct stage_descriptor *descriptor;
	uint8_t *image, *zero_page;
	uint64_t reach; /* first address that the page tables do not map */
	bool marks, nokaslr;
	struct stage_machine machine;
	struct stage_package package;
	struct riffle_plan plan;
	struct riffle_layout layout;
	struct riffle_loaded loaded;
};

uint64_t stage_main(uint8_t *image, uint8_t *zero_page, const struct stage_descriptor *descriptor);

static void mark(const struct stage *stage, enum mark number)
{
	if (stage->marks)
		cpu_out(MARK_PORT, (uint8_t)number);
}

static void say(const char *text)
{
	for (; *text; text++) {
		/* where no UART is, the status reads 0xff, or never says that it is empty */
		for (unsigned i = 0; i < 100000 && !(cpu_in(COM1_STATUS) & COM1_EMPTY); i++)
			__builtin_ia32_pause();
		cpu_out(COM1, (uint8_t)*text);
	}
}

static __attribute__((noreturn)) void give_up(const struct riffle_error *error)
{
	say("riffle stage: ");
	say(error->field);
	say(": ");
	say(error->problem);
	say("\r\n");
	for (;;) {
		cpu_out(0x64, 0xfe); /* the keyboard controller's reset line */
		__asm__ volatile("hlt");
	}
}

static const void *identity(void *opaque, uint64_t address, uint64_t bytes)
{
	const struct stage *stage = opaque;

	return riffle_inside(address, bytes, stage->reach) ? (const void *)(uintptr_t)address : NULL;
}

/* With the loader's page tables still, which map the command line: marks must begin early. */
static void read_command_line(struct stage *stage)
{
	struct riffle_range line = stage_command_line(stage->zero_page);
	const char *text = (const char *)(uintptr_t)line.address;

	if (!line.address)
		return;
	stage->marks = stage_has_word(text, line.bytes, "riffle.marks");
	stage->nokaslr = stage_has_word(text, line.bytes, "nokaslr");
}

static int see_memory(struct stage *stage, struct riffle_error *error)
{
	const struct stage_descriptor *d = stage->descriptor;
	const struct riffle_range own = {(uintptr_t)stage->image, d->window_bytes};
	const struct stage_view view = {identity, stage};
	uint8_t *tables = stage->image + d->tables_offset;
	uint64_t end;
	unsigned gibs;
	int status = stage_machine_ram(&stage->machine, &end, stage->zero_page, STAGE_GIBS_MAX * GIB, error);

	if (status)
		return status;
	if (end < own.address + own.bytes)
		end = own.address + own.bytes;
	if (end < (uintptr_t)stage->zero_page + STAGE_PAGE)
		end = (uintptr_t)stage->zero_page + STAGE_PAGE;
	if (end > STAGE_GIBS_MAX * GIB)
		return riffle_fail(error, RIFFLE_ERR_UNSUPPORTED, "loader", "put things above 64 GiB");
	gibs = (unsigned)((end + GIB - 1) / GIB);
	if (gibs < GIBS_MIN)
		gibs = GIBS_MIN;
	cpu_set_cr3(stage_page_tables(tables, (uintptr_t)tables, gibs, cpu_cr4() & CR4_LA57));
	stage->reach = gibs * GIB;
	return stage_machine_reserve(&stage->machine, stage->zero_page, (uintptr_t)stage->zero_page, &own, &view,
				     error);
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
		status = riffle_layout_check(layout, &stage->plan, &stage->machine.memory, error);
		if (!status)
			return RIFFLE_OK;
		layout->physical_base += RIFFLE_SLOT_BYTES;
	} while (layout->physical_base < stage->reach);
	return status;
}

static int draw_layout(struct stage *stage, uint16_t *order, struct riffle_error *error)
{
	const struct riffle_range *loader_seed = &stage->machine.seed;
	enum riffle_mode mode = RIFFLE_MODE_PHYSICAL;
	struct riffle_random random;
	struct riffle_seeded seeded;
	uint8_t key[32];
	int status;

	if (stage->nokaslr)
		return lowest_layout(stage, error);
	if (stage->plan.header->flags & RIFFLE_KERNEL_RELOCATABLE)
		mode = stage->plan.chunk_count ? RIFFLE_MODE_FGKASLR : RIFFLE_MODE_KASLR;
	status = stage_entropy(key, (const void *)(uintptr_t)loader_seed->address, loader_seed->bytes, stage->zero_page,
			       error);
	if (status)
		return status;
	riffle_random_from_seed(&random, &seeded, key);
	stage->layout.order = order;
	stage->layout.order_count = stage->plan.chunk_count;
	return riffle_layout_draw(&stage->layout, &stage->plan, &stage->machine.memory, mode, &random, error);
}

static int run(struct stage *stage, struct riffle_error *error)
{
	const struct stage_descriptor *d = stage->descriptor;
	uint8_t *order = stage->image + d->work_offset + STAGE_STACK_BYTES, *workspace;
	uint64_t room = d->work_bytes - STAGE_STACK_BYTES, order_bytes;
	struct riffle_source source;
	int status = see_memory(stage, error);

	if (!status)
		status = stage_package_open(&stage->package, &stage->plan, stage->image + d->package_offset,
					    d->package_bytes, !stage->nokaslr, error);
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
	return riffle_load_shuffled(&stage->loaded, &stage->plan, &source, &stage->layout, &stage->machine.memory,
				    RIFFLE_LOAD_CLEAR, NULL, workspace, (size_t)(room - order_bytes), error);
}

/* Called from entry.S on a stack in the work area, which is wiped after the return. Gives the kernel's entry. */
uint64_t stage_main(uint8_t *image, uint8_t *zero_page, const struct stage_descriptor *descriptor)
{
	struct stage stage;
	struct riffle_error error;

	memset(&stage, 0, sizeof stage);
	stage.plan = (struct riffle_plan)RIFFLE_PLAN_INIT;
	stage.descriptor = descriptor;
	stage.image = image;
	stage.zero_page = zero_page;
	read_command_line(&stage);
	mark(&stage, MARK_ENTERED);
	if (run(&stage, &error))
		give_up(&error);
	zero_page[LOADFLAGS] = (uint8_t)((zero_page[LOADFLAGS] & ~KASLR_FLAG) | stage.loaded.loadflags);
	mark(&stage, MARK_JUMP);
	return stage.loaded.entry;
}
