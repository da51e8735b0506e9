/* SPDX-License-Identifier: Apache-2.0 */
/* From the entry by whichever loader to a checked map of memory and page tables that reach all of it. */
#include "stage/arrive.h"

#include "common/bytes.h"
#include "common/fail.h"
#include "stage/cpu.h"
#include "stage/pvh.h"
#include "stage/zero_page.h"

#define COM1 0x3f8u
#define COM1_STATUS 0x3fdu
#define COM1_EMPTY 0x20u
#define KEYBOARD 0x64u
#define KEYBOARD_RESET 0xfeu
#define KEYBOARD_WAIT 1000000u
#define KASLR_FLAG 2u
#define CR4_LA57 (1u << 12)
#define GIB (UINT64_C(1) << 30)
#define GIBS_MIN 4u /* a zero page or command line may lie anywhere below it */

/* Not inlined: the stub should stay small. */
static __attribute__((noinline)) void say(const char *text)
{
	for (; *text; text++) {
		/* where no UART is, the status reads 0xff, or never says that it is empty */
		for (unsigned i = 0; i < 100000 && !(cpu_in(COM1_STATUS) & COM1_EMPTY); i++)
			__builtin_ia32_pause();
		cpu_out(COM1, (uint8_t)*text);
	}
}

void stage_notice(const char *text)
{
	say("riffle stage: notice: ");
	say(text);
	say("\r\n");
}

void stage_give_up(const struct riffle_error *error)
{
	say("riffle stage: ");
	say(error->field);
	say(": ");
	say(error->problem);
	say("\r\n");
	cpu_out(KEYBOARD, KEYBOARD_RESET);
	/* some monitors take a while to act on it; those without the controller understand a triple fault */
	for (unsigned i = 0; i < KEYBOARD_WAIT; i++)
		__builtin_ia32_pause();
	cpu_triple_fault();
}

/* A reach of guest memory, its addresses being their own. */
static const void *identity(void *opaque, uint64_t address, uint64_t bytes)
{
	const uint64_t *reach = opaque;

	return riffle_inside(address, bytes, *reach) ? (const void *)(uintptr_t)address : NULL;
}

int stage_complete_zero_page(const struct stage_entered *entered, struct riffle_error *error)
{
	uint64_t reach = GIBS_MIN * GIB; /* entry.S's tables */
	const struct stage_view view = {identity, &reach};

	return entered->pvh ? stage_pvh_zero_page(entered->zero_page, entered->start_info, &view, error) : RIFFLE_OK;
}

int stage_see_memory(struct stage_place *place, const struct stage_entered *entered, struct riffle_error *error)
{
	const struct stage_descriptor *d = entered->descriptor;
	const struct riffle_range own = {(uintptr_t)entered->image, d->window_bytes};
	const struct stage_view view = {identity, &place->reach};
	uint64_t zero_page = (uintptr_t)entered->zero_page, end;
	uint8_t *tables = entered->image + d->tables_offset;
	unsigned gibs;
	int status = stage_machine_ram(&place->machine, &end, entered->zero_page, STAGE_GIBS_MAX * GIB, error);

	if (status)
		return status;
	if (end < own.address + own.bytes)
		end = own.address + own.bytes;
	if (end < zero_page + STAGE_PAGE)
		end = zero_page + STAGE_PAGE;
	if (end > STAGE_GIBS_MAX * GIB)
		return riffle_fail(error, RIFFLE_ERR_UNSUPPORTED, "loader", "put things above 64 GiB");
	gibs = (unsigned)((end + GIB - 1) / GIB);
	if (gibs < GIBS_MIN)
		gibs = GIBS_MIN;
	cpu_set_cr3(stage_page_tables(tables, (uintptr_t)tables, gibs, cpu_cr4() & CR4_LA57));
	place->reach = gibs * GIB;
	return stage_machine_reserve(&place->machine, entered->zero_page, zero_page, &own, &view, error);
}

void stage_set_loadflags(uint8_t *zero_page, uint64_t loadflags)
{
	zero_page[LOADFLAGS] = (uint8_t)((zero_page[LOADFLAGS] & ~KASLR_FLAG) | (loadflags & KASLR_FLAG));
}
