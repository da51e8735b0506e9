/* SPDX-License-Identifier: Apache-2.0 */
/* Fuzzes what a boot loader passes to the stage: hvm_start_info or a zero page, and everything they point to. */
#include <stdlib.h>
#include <string.h>

#include "common/bytes.h"
#include "stage/choose.h"
#include "stage/machine.h"
#include "stage/pvh.h"
#include "stage/stage.h"
#include "tests/fuzz/accepted.h"

#define VIEWS_MAX 256u
#define KERNEL_BYTES (UINT64_C(46) << 20)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Guest memory, with each range requested from it copied to its own allocation, so that an overrun is detected. */
struct guest {
	const uint8_t *bytes;
	size_t size;
	void *view[VIEWS_MAX];
	unsigned count;
};

static const void *at(void *opaque, uint64_t address, uint64_t bytes)
{
	struct guest *guest = opaque;

	if (!riffle_inside(address, bytes, guest->size) || guest->count == VIEWS_MAX)
		return NULL;
	guest->view[guest->count] = malloc(bytes ? bytes : 1);
	memcpy(guest->view[guest->count], guest->bytes + address, bytes);
	return guest->view[guest->count++];
}

static bool overlaps(const struct stage_machine *machine, uint64_t start, uint64_t end)
{
	for (size_t i = 0; i < machine->memory.reserved_count; i++)
		if (end > machine->reserved[i].address &&
		    start < machine->reserved[i].address + machine->reserved[i].bytes)
			return true;
	return false;
}

/* A kernel that slides, drawn for this machine: it lies in RAM and on nothing, its gaps included. */
static void draw(const struct stage_machine *machine, const uint8_t *zero_page)
{
	static const uint8_t key[32] = {1};
	static const struct riffle_block blocks[] = {
	    {.align = 2 << 20, .gaps = 1}, {.align = 16384, .gaps = 512}, {.align = 4096, .gaps = 2048}};
	static const struct riffle_header header = {.flags = RIFFLE_KERNEL_RELOCATABLE,
						    .image_bytes = KERNEL_BYTES,
						    .link_phys = 16 << 20,
						    .link_virt = UINT64_C(0xffffffff81000000),
						    .window_bytes = 1 << 30};
	static const struct riffle_plan plan = {
	    .header = &header, .blocks = blocks, .block_count = 3, .slide_max = 511 * 16384 + 2047 * 4096};
	struct riffle_layout layout = RIFFLE_LAYOUT_INIT;
	struct riffle_random random;
	struct riffle_seeded seeded;
	uint64_t start, end;
	bool crowded, inside = false;

	riffle_random_from_seed(&random, &seeded, key);
	if (stage_draw(&layout, &crowded, STAGE_AUTO, &plan, &machine->memory, stage_initrd(zero_page).bytes, &random,
		       NULL))
		return;
	if (crowded != !layout.slide_count)
		abort();
	start = layout.physical_base;
	end = start + KERNEL_BYTES + (layout.slide_count ? layout.slide[2] : 0);
	for (size_t i = 0; i < machine->memory.ram_count; i++)
		inside |= start >= machine->ram[i].address && end <= machine->ram[i].address + machine->ram[i].bytes;
	if (!inside || overlaps(machine, start, end))
		abort();
}

static void look(uint8_t *zero_page, const struct stage_view *view)
{
	static struct stage_machine machine;
	const struct riffle_range own = {STAGE_ELF_BASE, 40 << 20};
	struct riffle_error error;
	uint64_t end, previous = 0;

	if (stage_machine_ram(&machine, &end, zero_page, UINT64_C(64) << 30, &error))
		return;
	for (size_t i = 0; i < machine.memory.ram_count; i++) {
		/* ascending and disjoint, as the library assumes */
		if (machine.ram[i].address < previous || !machine.ram[i].bytes ||
		    machine.ram[i].address + machine.ram[i].bytes > end)
			abort();
		previous = machine.ram[i].address + machine.ram[i].bytes + 1;
	}
	if (stage_machine_reserve(&machine, zero_page, 0x7000, &own, view, &error))
		return;
	for (uint64_t address = 0; address < end; address += UINT64_C(514) << 20) {
		const struct riffle_range kernel = {address, KERNEL_BYTES};

		if (!stage_machine_check(&machine, zero_page, &kernel, &error) &&
		    overlaps(&machine, address, address + KERNEL_BYTES))
			abort();
	}
	draw(&machine, zero_page);
	fuzz_accepted++;
}

/*
 * Byte 0: bit 0 PVH or a zero page; byte 1: address of start info or zero page in units of 32 bytes; then memory from 0
 * on.
 */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct guest guest = {.bytes = data + 2};
	const struct stage_view view = {at, &guest};
	uint8_t *zero_page;
	struct riffle_error error;

	if (size < 2)
		return 0;
	guest.size = size - 2;
	zero_page = calloc(1, STAGE_PAGE);
	if (!(data[0] & 1)) {
		memcpy(zero_page, guest.bytes, guest.size < STAGE_PAGE ? guest.size : STAGE_PAGE);
		look(zero_page, &view);
	} else if (!stage_pvh_zero_page(zero_page, (uint64_t)data[1] * 32, &view, &error)) {
		look(zero_page, &view);
	}
	free(zero_page);
	while (guest.count)
		free(guest.view[--guest.count]);
	return 0;
}
