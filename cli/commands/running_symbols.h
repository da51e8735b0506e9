/* SPDX-License-Identifier: Apache-2.0 */
/* A vmlinux's symbols at their addresses in one guest: as an ELF for debuggers, as a System.map for other tools. */
#ifndef RIFFLE_CLI_COMMANDS_RUNNING_SYMBOLS_H
#define RIFFLE_CLI_COMMANDS_RUNNING_SYMBOLS_H

#include "host/layout_json.h"
#include "prepare/symbols/elf_file.h"

struct running_symbols {
	struct elf_file file; /* its sections' addresses are also the guest's */
	Elf64_Sym *symbol;    /* named and defined ones only */
	uint64_t count;
	char *names;
	uint64_t names_bytes;
};

/*
 * Reads the symbols of an ELF and moves each by the layout. Symbols outside the image (zero-based percpu symbols,
 * absolute ones) are unchanged. After success release with running_symbols_free(). Errors: those of elf_file_open() and
 * elf_file_symbols().
 */
int running_symbols_read(struct running_symbols *symbols, int vmlinux, const struct layout_file *layout,
			 struct riffle_error *error);
/*
 * The same from a kernel's own kallsyms: `image` is the kernel in memory, unrelocated. The only section is the whole
 * image. Errors: those of kallsyms_find() and kallsyms_read(), MEMORY.
 */
int running_symbols_from_kallsyms(struct running_symbols *symbols, const uint8_t *image, size_t bytes,
				  const struct layout_file *layout, struct riffle_error *error);
/*
 * The common part of both: moves sections and symbols from their link addresses, and drops symbols that are useless to
 * a person.
 */
void running_symbols_move(struct running_symbols *symbols, const struct layout_file *layout);
void running_symbols_free(struct running_symbols *symbols);

/*
 * An ELF with only the symbol table and the loaded sections' headers, without their contents. It has no build id,
 * because a debugger would use it to find the vmlinux's debug information, and take its addresses for the guest's.
 * Errors: IO.
 */
int running_symbols_write_elf(const struct running_symbols *symbols, int fd, struct riffle_error *error);

/* `address type name` per line, ascending, with the symbols that a kernel build keeps in its System.map. Errors: IO,
 * MEMORY. */
int running_symbols_write_map(const struct running_symbols *symbols, int fd, struct riffle_error *error);

#endif
