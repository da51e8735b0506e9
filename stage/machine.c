/* SPDX-License-Identifier: Apache-2.0 */
/* Turns a zero page into a map of memory that the library draws a layout from, and page tables that reach it. */
#include "stage/machine.h"

#include "common/bytes.h"
#include "common/fail.h"
#include "stage/stage.h"
#include "stage/zero_page.h"

#define SETUP_RNG_SEED 9u                  /* bootparam.h */
#define SETUP_INDIRECT (UINT32_C(1) << 31) /* bootparam.h; its data is {u32 type, u32 reserved, u64 len, u64 addr} */
#define SETUP_HEAD 16u                     /* u64 next, u32 type, u32 len */
#define SETUP_NODES_MAX 32u
#define COMMAND_LINE_SIZE 2048u /* arch/x86/include/asm/setup.h: what the kernel copies, whatever the length */
#define COMMAND_LINE_MAX 65536u

static uint64_t wide(const uint8_t *zero_page, unsigned low, unsigned high)
{
	return riffle_get32(zero_page + low) | (uint64_t)riffle_get32(zero_page + high) << 32;
}

/* Whole pages of a RAM entry below the limit; false when there are none. */
static bool ram_of(struct riffle_ram *ram, const uint8_t *entry, uint64_t limit)
{
	uint64_t start = riffle_get64(entry), bytes = riffle_get64(entry + 8), end;

	if (riffle_get32(entry + 16) != E820_RAM)
		return false;
	if (__builtin_add_overflow(start, bytes, &end) || end > limit)
		end = limit;
	end &= ~(uint64_t)(STAGE_PAGE - 1);
	if (!riffle_round_up(start, STAGE_PAGE, &start) || start >= end)
		return false;
	*ram = (struct riffle_ram){.address = start, .bytes = end - start, .host = (void *)(uintptr_t)start};
	return true;
}

static unsigned e820_count(const uint8_t *zero_page)
{
	return zero_page[E820_ENTRIES];
}

int stage_machine_ram(struct stage_machine *machine, uint64_t *end, const uint8_t *zero_page, uint64_t limit,
		      struct riffle_error *error)
{
	struct riffle_ram *ram = machine->ram;
	unsigned count = 0, kept = 0;

	memset(machine, 0, sizeof *machine);
	*end = 0;
	if (e820_count(zero_page) > STAGE_E820_MAX)
		return riffle_fail_expected(error, RIFFLE_ERR_FORMAT, "e820", "has too many entries",
					    e820_count(zero_page), STAGE_E820_MAX);
	for (unsigned i = 0; i < e820_count(zero_page); i++) {
		struct riffle_ram one;
		unsigned at = count;

		if (!ram_of(&one, zero_page + E820_TABLE + i * E820_ENTRY, limit))
			continue;
		for (; at && ram[at - 1].address > one.address; at--)
			ram[at] = ram[at - 1];
		ram[at] = one;
		count++;
	}
	/* stretches that touch or overlap become one */
	for (unsigned i = 0; i < count; i++) {
		struct riffle_ram *last = &ram[kept ? kept - 1 : 0];
		uint64_t stop = ram[i].address + ram[i].bytes;

		if (!kept || ram[i].address > last->address + last->bytes)
			ram[kept++] = ram[i];
		else if (stop > last->address + last->bytes)
			last->bytes = stop - last->address;
	}
	if (kept)
		*end = ram[kept - 1].address + ram[kept - 1].bytes;
	machine->memory = (struct riffle_memory){.ram = ram, .ram_count = kept, .reserved = machine->reserved};
	return RIFFLE_OK;
}

static int reserve(struct stage_machine *machine, const char *what, uint64_t address, uint64_t bytes,
		   struct riffle_error *error)
{
	uint64_t end;

	if (!bytes)
		return RIFFLE_OK;
	if (__builtin_add_overflow(address, bytes, &end))
		return riffle_fail_found(error, RIFFLE_ERR_FORMAT, what, "wraps around", address);
	if (machine->memory.reserved_count == STAGE_RESERVED_MAX)
		return riffle_fail(error, RIFFLE_ERR_FORMAT, what, "is one range too many");
	machine->reserved[machine->memory.reserved_count++] = (struct riffle_range){address, bytes};
	return RIFFLE_OK;
}

static int reserve_e820(struct stage_machine *machine, const uint8_t *zero_page, struct riffle_error *error)
{
	for (unsigned i = 0; i < e820_count(zero_page); i++) {
		const uint8_t *entry = zero_page + E820_TABLE + i * E820_ENTRY;
		uint64_t start = riffle_get64(entry), bytes = riffle_get64(entry + 8);
		int status;

		if (riffle_get32(entry + 16) == E820_RAM)
			continue;
		if (bytes > UINT64_MAX - start)
			bytes = UINT64_MAX - start;
		status = reserve(machine, "e820", start, bytes, error);
		if (status)
			return status;
	}
	return RIFFLE_OK;
}

static int reserve_indirect(struct stage_machine *machine, uint64_t address, uint32_t bytes,
			    const struct stage_view *view, struct riffle_error *error)
{
	const uint8_t *data;

	if (bytes < 24 || !(data = view->at(view->opaque, address, 24)))
		return riffle_fail_found(error, RIFFLE_ERR_FORMAT, "setup_data", "cannot be reached", address);
	return reserve(machine, "setup_data", riffle_get64(data + 16), riffle_get64(data + 8), error);
}

static int reserve_setup_data(struct stage_machine *machine, uint64_t node, const struct stage_view *view,
			      struct riffle_error *error)
{
	for (unsigned i = 0; node; i++) {
		const uint8_t *head = view->at(view->opaque, node, SETUP_HEAD);
		uint32_t type, bytes;
		int status;

		if (i == SETUP_NODES_MAX)
			return riffle_fail_expected(error, RIFFLE_ERR_FORMAT, "setup_data", "goes round or on and on",
						    i, SETUP_NODES_MAX);
		if (!head)
			return riffle_fail_found(error, RIFFLE_ERR_FORMAT, "setup_data", "cannot be reached", node);
		type = riffle_get32(head + 8);
		bytes = riffle_get32(head + 12);
		if (!view->at(view->opaque, node, (uint64_t)SETUP_HEAD + bytes))
			return riffle_fail_found(error, RIFFLE_ERR_FORMAT, "setup_data", "cannot be reached", node);
		status = reserve(machine, "setup_data", node, (uint64_t)SETUP_HEAD + bytes, error);
		if (!status && type == SETUP_INDIRECT)
			status = reserve_indirect(machine, node + SETUP_HEAD, bytes, view, error);
		if (status)
			return status;
		if (type == SETUP_RNG_SEED)
			machine->seed = (struct riffle_range){node + SETUP_HEAD, bytes};
		node = riffle_get64(head);
	}
	return RIFFLE_OK;
}

struct riffle_range stage_command_line(const uint8_t *zero_page)
{
	uint64_t bytes = (uint64_t)riffle_get32(zero_page + CMDLINE_SIZE) + 1;

	if (bytes < COMMAND_LINE_SIZE)
		bytes = COMMAND_LINE_SIZE;
	if (bytes > COMMAND_LINE_MAX)
		bytes = COMMAND_LINE_MAX;
	return (struct riffle_range){wide(zero_page, CMD_LINE_PTR, EXT_CMD_LINE_PTR), bytes};
}

struct riffle_range stage_initrd(const uint8_t *zero_page)
{
	return (struct riffle_range){wide(zero_page, RAMDISK_IMAGE, EXT_RAMDISK_IMAGE),
				     wide(zero_page, RAMDISK_SIZE, EXT_RAMDISK_SIZE)};
}

/* Neither wraps: each was reserved. */
static bool overlap(const struct riffle_range *a, const struct riffle_range *b)
{
	return a->bytes && b->bytes && a->address < b->address + b->bytes && b->address < a->address + a->bytes;
}

/* What the kernel is going to read, in memory that is about to be written to, if it has not been. */
static int reserve_clear(struct stage_machine *machine, const char *what, const struct riffle_range *range,
			 const struct riffle_range *own, struct riffle_error *error)
{
	int status = reserve(machine, what, range->address, range->bytes, error);

	if (!status && overlap(range, own))
		return riffle_fail_found(error, RIFFLE_ERR_FORMAT, what, "lies where the loader stage works",
					 range->address);
	return status;
}

int stage_machine_reserve(struct stage_machine *machine, const uint8_t *zero_page, uint64_t zero_page_address,
			  const struct riffle_range *own, const struct stage_view *view, struct riffle_error *error)
{
	struct riffle_range line = stage_command_line(zero_page), initrd = stage_initrd(zero_page);
	int status;

	if (!line.address)
		line.bytes = 0;
	if ((status = reserve(machine, "stage", own->address, own->bytes, error)) ||
	    (status = reserve(machine, "zero page", zero_page_address, STAGE_PAGE, error)) ||
	    (status = reserve_clear(machine, "command line", &line, own, error)) ||
	    (status = reserve_clear(machine, "initrd", &initrd, own, error)) ||
	    (status = reserve_e820(machine, zero_page, error)))
		return status;
	if (riffle_get32(zero_page + EFI_SIGNATURE) &&
	    (status = reserve(machine, "EFI memory map", wide(zero_page, EFI_MEMMAP, EFI_MEMMAP_HI),
			      riffle_get32(zero_page + EFI_MEMMAP_SIZE), error)))
		return status;
	return reserve_setup_data(machine, riffle_get64(zero_page + SETUP_DATA), view, error);
}

int stage_machine_check(const struct stage_machine *machine, const uint8_t *zero_page,
			const struct riffle_range *kernel, struct riffle_error *error)
{
	const struct riffle_memory *memory = &machine->memory;
	const struct riffle_range initrd = stage_initrd(zero_page);
	bool inside = false;

	for (size_t i = 0; i < memory->ram_count; i++)
		inside |= kernel->address >= memory->ram[i].address &&
			  riffle_inside(kernel->address - memory->ram[i].address, kernel->bytes, memory->ram[i].bytes);
	if (!inside)
		return riffle_fail_found(error, RIFFLE_ERR_SPACE, "kernel",
					 "lies outside this machine's RAM: give riffle emit its size by -m",
					 kernel->address);
	if (overlap(kernel, &initrd))
		return riffle_fail_found(error, RIFFLE_ERR_SPACE, "initrd",
					 "lies where the kernel does: give riffle emit room for it by --reserve-top",
					 initrd.address);
	for (size_t i = 0; i < memory->reserved_count; i++)
		if (overlap(kernel, &machine->reserved[i]))
			return riffle_fail_found(error, RIFFLE_ERR_SPACE, "kernel",
						 "lies on something that the loader put into RAM", kernel->address);
	return RIFFLE_OK;
}

static bool blank(char c)
{
	return c == ' ' || c == '\t' || c == '\n';
}

bool stage_has_word(const char *text, uint64_t bytes, const char *word)
{
	uint64_t i = 0;

	while (i < bytes && text[i]) {
		const char *w = word;

		while (i < bytes && blank(text[i]))
			i++;
		while (i < bytes && *w && text[i] == *w)
			i++, w++;
		if (!*w && (i == bytes || !text[i] || blank(text[i])))
			return true;
		while (i < bytes && text[i] && !blank(text[i]))
			i++;
	}
	return false;
}

#define PRESENT 0x001u
#define WRITABLE 0x002u
#define LARGE 0x080u
#define GIB (UINT64_C(1) << 30)
#define ENTRIES 512u

uint64_t stage_page_tables(uint8_t *tables, uint64_t address, unsigned gibs, bool five_levels)
{
	const uint64_t pml5 = address, pml4 = address + STAGE_PAGE, pdpt = address + 2 * STAGE_PAGE;

	memset(tables, 0, 3 * STAGE_PAGE);
	riffle_put64(tables, pml4 | PRESENT | WRITABLE);
	riffle_put64(tables + STAGE_PAGE, pdpt | PRESENT | WRITABLE);
	for (unsigned i = 0; i < gibs; i++) {
		uint8_t *directory = tables + (size_t)(3 + i) * STAGE_PAGE;

		riffle_put64(tables + 2 * STAGE_PAGE + 8 * (size_t)i,
			     (address + (3 + (uint64_t)i) * STAGE_PAGE) | PRESENT | WRITABLE);
		for (unsigned j = 0; j < ENTRIES; j++)
			riffle_put64(directory + 8 * (size_t)j,
				     (i * GIB + j * (GIB / ENTRIES)) | PRESENT | WRITABLE | LARGE);
	}
	return five_levels ? pml5 : pml4;
}
