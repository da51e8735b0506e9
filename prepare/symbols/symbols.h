/* SPDX-License-Identifier: Apache-2.0 */
/* A kernel's symbols at their link addresses, from whichever place has them, and the one that an address lies in. */
#ifndef RIFFLE_PREPARE_SYMBOLS_H
#define RIFFLE_PREPARE_SYMBOLS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <riffle/error.h>

struct symbol {
	uint64_t address;
	uint32_t name;  /* offset in names */
	uint32_t order; /* how many were added before */
	uint8_t rank;   /* of symbols at one address the lowest rank is the one to show */
};

/*
 * Filled by one of the readers below, which keep only symbols in [start, end): percpu, absolute and module symbols
 * would answer for addresses that are not theirs. Ascending and unique by address. To be ended with symbols_free().
 */
struct symbols {
	uint64_t start, end;
	struct symbol *symbol;
	size_t count, room;
	char *names;
	size_t names_bytes, names_room;
};

/* Where an address lies: in `name`, `offset` bytes behind its start, of `bytes` up to the next symbol or the end. */
struct symbol_place {
	const char *name; /* the table's */
	uint64_t offset, bytes;
};

void symbols_init(struct symbols *symbols, uint64_t start, uint64_t end);
void symbols_free(struct symbols *symbols);

/* Adds one, whose name need not end with NUL. Ones out of range are left out. Errors: MEMORY, FORMAT (absurdly many).
 */
int symbols_add(struct symbols *symbols, uint64_t address, unsigned rank, const char *name, size_t name_bytes,
		struct riffle_error *error);
/* Sorts and leaves one symbol an address. Errors: FORMAT when none is in range. */
int symbols_finish(struct symbols *symbols, struct riffle_error *error);

/* false when no symbol starts at or below the address, or it is out of range */
bool symbols_find(struct symbol_place *place, const struct symbols *symbols, uint64_t address);

/* Readers: each fills a table that symbols_init() made and finishes it. */

/* The text of a System.map: `address type name` a line, as nm prints it. Errors: FORMAT (with the line), MEMORY. */
int symbols_from_system_map(struct symbols *symbols, const char *text, size_t bytes, struct riffle_error *error);

/* What a vmlinux says of itself beside its symbols. */
struct symbols_elf {
	uint8_t build_id[32];
	unsigned build_id_bytes; /* 0: none */
	uint64_t link_physical;  /* lowest p_paddr of its PT_LOADs */
	bool percpu_at_zero;     /* it has a .data..percpu linked at address 0 (kernels up to 6.14) */
};

/*
 * The symbol table of an ELF for x86-64, read by pread. `symbols` may be NULL: only *elf is filled then.
 * Errors: FORMAT, UNSUPPORTED (another machine), IO, CHANGED, MEMORY.
 */
int symbols_from_elf(struct symbols *symbols, struct symbols_elf *elf, int fd, struct riffle_error *error);

/*
 * The kallsyms tables inside a kernel's image, as it lies in memory at its link addresses: `image[0]` is at
 * symbols->start. Formats of Linux 5.10 to 7.3. Errors: FORMAT (none found), MEMORY.
 */
int symbols_from_kallsyms(struct symbols *symbols, const uint8_t *image, size_t bytes, struct riffle_error *error);

#endif
