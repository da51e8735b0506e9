/* SPDX-License-Identifier: Apache-2.0 */
/* When a guest has enough memory for sections that slide: the same rule in a monitor and in the loader stage. */
#ifndef RIFFLE_COMMON_SLIDES_ROOM_H
#define RIFFLE_COMMON_SLIDES_ROOM_H

#include <stdbool.h>

#include <riffle/layout.h>

/* How much of a range lies in RAM. */
static inline uint64_t riffle_bytes_in_ram(const struct riffle_memory *memory, const struct riffle_range *range)
{
	uint64_t bytes = 0;

	for (size_t i = 0; i < memory->ram_count; i++) {
		const struct riffle_ram *ram = &memory->ram[i];
		uint64_t from = range->address > ram->address ? range->address : ram->address;
		uint64_t to = range->address + range->bytes < ram->address + ram->bytes ? range->address + range->bytes
											: ram->address + ram->bytes;

		if (from < to)
			bytes += to - from;
	}
	return bytes;
}

/*
 * Whether the kernel starts as well with the largest gaps, which it has only once it has unpacked its initrd: as much
 * memory as they take is left beside the kernel, what is reserved, and an initrd's contents, which are seldom more than
 * four times its size. No range wraps.
 */
static inline bool riffle_slides_have_room(const struct riffle_plan *plan, const struct riffle_memory *memory,
					   uint64_t initrd_bytes)
{
	uint64_t ram = 0, taken = plan->header->image_bytes + 2 * (uint64_t)plan->slide_max;

	for (size_t i = 0; i < memory->ram_count; i++)
		ram += memory->ram[i].bytes;
	for (size_t i = 0; i < memory->reserved_count; i++)
		taken += riffle_bytes_in_ram(memory, &memory->reserved[i]);
	return taken <= ram && initrd_bytes <= (ram - taken) / 4;
}

#endif
