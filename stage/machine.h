/* SPDX-License-Identifier: Apache-2.0 */
/* The machine as described by the loader's zero page: RAM, reserved ranges, the command line, a seed. */
#ifndef RIFFLE_STAGE_MACHINE_H
#define RIFFLE_STAGE_MACHINE_H

#include <stdbool.h>

#include <riffle/error.h>
#include <riffle/memory.h>

#define STAGE_E820_MAX 128u /* arch/x86/include/uapi/asm/bootparam.h, E820_MAX_ENTRIES_ZEROPAGE */
#define STAGE_RESERVED_MAX (STAGE_E820_MAX + 72u)

/* Bytes of guest memory, or NULL if they are unreachable; in a guest, the address itself. */
struct stage_view {
	const void *(*at)(void *opaque, uint64_t address, uint64_t bytes);
	void *opaque;
};

struct stage_machine {
	struct riffle_ram ram[STAGE_E820_MAX]; /* ascending, apart; `host` is the guest-physical address itself */
	struct riffle_range reserved[STAGE_RESERVED_MAX];
	struct riffle_memory memory; /* of these */
	struct riffle_range seed;    /* the loader's random seed; 0 bytes without one */
};

/*
 * Takes RAM from the e820 map in the zero page (4096 bytes), leaving out what lies at or above `limit`. *end is the
 * first address after it, 0 if there is none. Entries may overlap and come in any order. Errors: FORMAT.
 */
int stage_machine_ram(struct stage_machine *machine, uint64_t *end, const uint8_t *zero_page, uint64_t limit,
		      struct riffle_error *error);

/*
 * Then reserves what the kernel must not overlap: first `own`, which is not empty, then the zero page, command line,
 * initrd, setup_data, EFI's leftovers, and everything in e820 that is not RAM. Command line and initrd must not overlap
 * `own`. Errors: FORMAT.
 */
int stage_machine_reserve(struct stage_machine *machine, const uint8_t *zero_page, uint64_t zero_page_address,
			  const struct riffle_range *own, const struct stage_view *view, struct riffle_error *error);

/* Where the command line is, and its maximal length including the NUL; address 0 if there is none. */
struct riffle_range stage_command_line(const uint8_t *zero_page);

/* Where the initrd is; 0 bytes if there is none. */
struct riffle_range stage_initrd(const uint8_t *zero_page);

/*
 * For a kernel that is already in place: checks that its range, which does not wrap, is RAM and overlaps nothing
 * reserved. Errors: SPACE.
 */
int stage_machine_check(const struct stage_machine *machine, const uint8_t *zero_page,
			const struct riffle_range *kernel, struct riffle_error *error);

/* true if `word` stands between blanks in the text, which ends at its NUL or after `bytes` */
bool stage_has_word(const char *text, uint64_t bytes, const char *word);

/*
 * Fills `tables` (STAGE_TABLES_BYTES, to be used at guest-physical `address`) with an identity map of `gibs` GiB, 1 to
 * STAGE_GIBS_MAX, and returns the value for CR3.
 */
uint64_t stage_page_tables(uint8_t *tables, uint64_t address, unsigned gibs, bool five_levels);

#endif
