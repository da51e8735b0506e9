/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Symbols for a layout's kernel, from the file that the command line names, after checking that it belongs to that
 * kernel.
 */
#ifndef RIFFLE_CLI_COMMANDS_SYMBOL_SOURCE_H
#define RIFFLE_CLI_COMMANDS_SYMBOL_SOURCE_H

#include "host/layout_json.h"
#include "kernel/kernel.h"
#include "prepare/symbols/symbols.h"

enum symbol_source_kind { SYMBOLS_NONE, SYMBOLS_SYSTEM_MAP, SYMBOLS_VMLINUX, SYMBOLS_KERNEL };

struct symbol_source {
	enum symbol_source_kind kind;
	const char *name;            /* path, or fd:N */
	int fd;                      /* of the first two kinds */
	struct opened_kernel kernel; /* of the third */
};

/*
 * Opens the file given by source->kind and source->name; for a kernel, does what kernel_open() does. Afterwards nothing
 * else needs to be opened. Errors: those of input_open() and kernel_open().
 */
int symbol_source_open(struct symbol_source *source, struct riffle_error *error);

/*
 * Reads the symbols into a table that symbols_init() made for the layout's link addresses. Errors: those of the
 * readers, and ARGUMENT if the file belongs to a different kernel than the layout.
 */
int symbol_source_read(struct symbols *symbols, const struct symbol_source *source, const struct layout_file *layout,
		       struct riffle_error *error);

/*
 * Maps a kernel's image as it lies in memory when nothing is randomised, layout->image_bytes long, after checking that
 * it is the layout's kernel; the caller unmaps it. Errors: ARGUMENT (another kernel), MEMORY, and those of reading it.
 */
int symbol_source_map_kernel(uint8_t **image, const struct opened_kernel *kernel, const struct layout_file *layout,
			     struct riffle_error *error);

/* Closes what symbol_source_open() opened. */
void symbol_source_close(struct symbol_source *source);

/* The vmlinux is the layout's kernel, as far as both tell. Errors: ARGUMENT. */
int symbol_source_check_elf(const struct symbols_elf *elf, const struct layout_file *layout,
			    struct riffle_error *error);

#endif
