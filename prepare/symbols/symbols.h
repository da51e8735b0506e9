/* SPDX-License-Identifier: Apache-2.0 */
/* A kernel's symbols at their link addresses, from any of several sources, and lookup by address. */
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
	uint8_t rank;   /* of several symbols at one address, the one with the lowest rank is shown */
};

/*
 * Filled by one of the readers below, which keep only symbols in [start, end): percpu, absolute and module symbols
 * would match addresses that are not theirs. Ascending and unique by address. Release with symbols_free().
 */
struct symbols {
	uint64_t start, end;
	struct symbol *symbol;
	size_t count, room;
	char *names;
	size_t names_bytes, names_room;
};

/*
 * Where an address lies: in `name`, `offset` bytes after its start; `bytes` is the length up to the next symbol or the
 * end.
 */
struct symbol_place {
	const char *name; /* the table's */
	uint64_t offset, bytes;
};

void symbols_init(struct symbols *symbols, uint64_t start, uint64_t end);
void symbols_free(struct symbols *symbols);

/* Adds a symbol, whose name need not be NUL-terminated. Symbols out of range are dropped. Errors: MEMORY, FORMAT
 * (implausibly many).
 */
int symbols_add(struct symbols *symbols, uint64_t address, unsigned rank, const char *name, size_t name_bytes,
		struct riffle_error *error);
/* Sorts and keeps one symbol per address. Errors: FORMAT if none is in range. */
int symbols_finish(struct symbols *symbols, struct riffle_error *error);

/* false when no symbol starts at or below the address, or it is out of range */
bool symbols_find(struct symbol_place *place, const struct symbols *symbols, uint64_t address);

/* Readers: each fills a table made by symbols_init() and finishes it. */

/* The text of a System.map: `address type name` a line, as nm prints it. Errors: FORMAT (with the line), MEMORY. */
int symbols_from_system_map(struct symbols *symbols, const char *text, size_t bytes, struct riffle_error *error);

/* What a vmlinux tells about itself in addition to its symbols. */
struct symbols_elf {
	uint8_t build_id[32];
	unsigned build_id_bytes; /* 0: none */
	uint64_t link_physical;  /* lowest p_paddr of its PT_LOADs */
	bool percpu_at_zero;     /* it has a .data..percpu linked at address 0 (kernels up to 6.14) */
};

/*
 * The symbol table of an ELF for x86-64, read by pread. `symbols` may be NULL: then only *elf is filled in.
 * Errors: FORMAT, UNSUPPORTED (another machine), IO, CHANGED, MEMORY.
 */
int symbols_from_elf(struct symbols *symbols, struct symbols_elf *elf, int fd, struct riffle_error *error);

/*
 * The kallsyms tables inside a kernel's image, as it lies in memory at its link addresses: `image[0]` is at
 * symbols->start. Formats of Linux 5.10 to 7.3. Errors: FORMAT (none found), MEMORY.
 */
int symbols_from_kallsyms(struct symbols *symbols, const uint8_t *image, size_t bytes, struct riffle_error *error);

#endif
