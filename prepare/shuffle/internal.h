/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Shared by the files of this component during the analysis of a kernel: a flat copy of the image, its decoded code,
 * its symbols.
 */
#ifndef RIFFLE_PREPARE_SHUFFLE_INTERNAL_H
#define RIFFLE_PREPARE_SHUFFLE_INTERNAL_H

#include "common/bytes.h"
#include "common/fail.h"
#include "prepare/shuffle/shuffle.h"

/* A function or label, from kallsyms or a symbol table; ascending by offset, several may share one. */
struct work_symbol {
	uint32_t offset;
	uint32_t bytes; /* st_size; 0 if the source has none (kallsyms) */
	char type;      /* as nm prints it: t T w W d D r …; or WORK_ROOM */
	const char *name;
};

/*
 * The padding before a function that the kernel may write to at boot: CONFIG_FUNCTION_PADDING_BYTES (arch/x86/Kconfig).
 */
#define WORK_ROOM_BYTES 16u
/* the type of the symbols that room_name() adds */
#define WORK_ROOM '.'

/* An executable section: .text, .init.text, .exit.text, .altinstr_aux, .altinstr_replacement … */
struct work_code {
	const char *name;
	uint32_t offset, bytes;
	bool movable; /* .text, where chunks are looked for */
};

/* A range outside code whose bytes are explained, by a table that was read or as data that cannot refer to code. */
struct work_known {
	uint32_t offset, bytes;
	const char *name;
};

#define WORK_KNOWN_MAX 160u

/* How the last instruction of a unit that is not padding ends it. */
enum work_end {
	WORK_END_FALLS, /* runs into what follows */
	WORK_END_CALLS, /* a call, which must then be to a function that never returns */
	WORK_END_STOPS, /* a jump, return or trap */
};

/*
 * A range of .text from one symbol's address to the next symbol's; chunks are made of units. Units cover all of .text.
 * A page or more of padding after code is a separate unit.
 */
#define WORK_HOLE_BYTES 4096u

struct work_unit {
	uint32_t offset, bytes;
	uint32_t code_bytes; /* up to the end of the last instruction that is not padding */
	uint32_t last;       /* where that instruction starts */
	uint8_t end;         /* enum work_end */
	bool unexplained;    /* holds bytes or branches that are not valid code */
	bool hole;           /* only padding without a symbol, left by the linker for alignment */
	bool joined;         /* must stay directly after the previous unit */
	uint8_t pin;         /* enum shuffle_pin */
};

/* Two places of .text whose distance must not change. */
struct work_tie {
	uint32_t a, b;
};

/*
 * Of a table that slides know: all of it (`column` is UINT32_MAX) or a column, how many of its fields lead from one
 * block to another, and why the census of slides would have refused the kernel had it not been known; "" if it had not.
 */
typedef void (*slides_told)(void *opaque, const char *table, uint32_t column, uint32_t across, const char *reason);

struct work {
	const struct riffle_image *image;
	const struct shuffle_debug *debug;
	uint8_t *bytes; /* image_bytes long, indexed by image offset; .bss zero */
	uint32_t image_bytes;
	uint64_t link_virt; /* of image offset 0 */

	struct work_symbol *symbol;
	uint32_t symbol_count;
	struct work_code *code;
	unsigned code_count;
	uint32_t text, text_bytes; /* the section .text */
	uint32_t copied,
	    copied_bytes; /* code within data, which is copied before it runs; tables refer to it nevertheless */

	uint8_t *start;         /* one bit per byte of the image: an instruction starts here */
	struct work_unit *unit; /* ascending */
	uint32_t unit_count;
	struct work_tie *tie;
	uint32_t tie_count, tie_room;
	struct shuffle_ref *ref;
	uint32_t ref_count, ref_room;

	struct work_known known[WORK_KNOWN_MAX]; /* by tables_read(), for the census */
	unsigned known_count;
	uint64_t tables_ignored; /* for tests: bit i makes tables_read() ignore the i-th table it knows */
	slides_told slides_tell; /* for tests: of shuffle_probe_slides() */
	void *slides_opaque;

	char *kallsyms_names;   /* what the names of its symbols point into */
	char *room_names;       /* of the symbols that room_name() adds */
	char *range_names;      /* what the ranges' names point into */
	struct shuffle *result; /* being filled */
};

static inline bool work_is_start(const struct work *work, uint32_t offset)
{
	return offset < work->image_bytes && (work->start[offset / 8] >> offset % 8 & 1);
}

/* Converts a link address to an image offset; false if it is outside the image. */
static inline bool work_offset(const struct work *work, uint64_t address, uint32_t *offset)
{
	if (address - work->link_virt >= work->image_bytes)
		return false;
	*offset = (uint32_t)(address - work->link_virt);
	return true;
}

static inline bool work_in_text(const struct work *work, uint32_t offset)
{
	return offset - work->text < work->text_bytes;
}

/* The section of that name in the image's section headers; NULL if there is none. */
const struct image_section *work_section(const struct work *work, const char *name);
/* The first symbol of that name; NULL when there is none. */
const struct work_symbol *work_symbol_named(const struct work *work, const char *name);
/* Adds a reference; references of the same field are merged later (found_by is or-ed, a contradiction is an error). */
int work_add_ref(struct work *work, uint32_t field, uint32_t target, enum shuffle_field kind,
		 enum shuffle_source found_by, struct riffle_error *error);

/*
 * Ties two places of .text whose distance must not change, because the reference between them is too short to be
 * changed or unknown. Called for tables with such fields, for example two-byte jump label sites.
 */
int work_add_tie(struct work *work, uint32_t a, uint32_t b, struct riffle_error *error);
/* The unit that contains a place of .text; only for offsets with work_in_text(). */
uint32_t work_unit_at(const struct work *work, uint32_t offset);
/*
 * Where a reference to an address of .text leads. gcc folds PFN_ALIGN(_text) to the address _text + 4095, which refers
 * to _text and not to what lies there, unless there is a symbol.
 */
#define WORK_FOLDED 4095u
uint32_t work_meant(const struct work *work, uint32_t target);
/* The first symbol at or above an offset; symbol_count when there is none. */
uint32_t work_first_symbol(const struct work *work, uint32_t offset);
/* realloc() for growing arrays: room for one more entry than count. */
int work_grow(void *array, uint32_t count, uint32_t *room, size_t entry_bytes, struct riffle_error *error);

/*
 * shuffle_analyse(), for tests: tables_read() ignores the tables whose bits are set (named by table_name()), which the
 * census must then notice.
 */
int shuffle_analyse_without(struct shuffle **shuffle, const struct riffle_image *image,
			    const struct shuffle_debug *debug, uint64_t tables, struct riffle_error *error);

/* shuffle.c: adds symbols for the padding before functions that has none; call before code_decode() */
int room_name(struct work *work, struct riffle_error *error);

/* shuffle_analyse(), for tests: tells of each table and of each column that slides know, as slides_told says. */
int shuffle_probe_slides(struct shuffle **shuffle, const struct riffle_image *image, slides_told tell, void *opaque,
			 struct riffle_error *error);

/*
 * code.c: decodes all code, marks instruction starts, makes the units, and adds every direct branch and RIP-relative
 * operand that leaves its unit as a reference (32 bits) or a tie (8 bits).
 */
int code_decode(struct work *work, struct riffle_error *error);
/*
 * tables.c: reads the known tables: sorted ones into result->table, kallsyms, and the references of all others by
 * work_add_ref().
 */
int tables_read(struct work *work, struct riffle_error *error);
/*
 * kallsyms_mode.c, after code_decode(): finds the mode in the instructions that create /proc/kallsyms, for
 * result->kallsyms_mode.
 */
int kallsyms_mode_find(struct work *work, struct riffle_error *error);
/* pins.c: whether the kernel copies the code at `offset` elsewhere as a block, and so may read it */
bool pins_is_copied(const struct work *work, uint32_t offset);
/* pins.c: where code is that the kernel maps by page, and so must start at one; UINT32_MAX if there is none */
uint32_t pins_paged(const struct work *work);
/* pins.c: the bounds of the static call trampolines; false if the kernel has none */
bool pins_static_calls(const struct work *work, uint32_t *from, uint32_t *to);
/*
 * pins.c: pins what must not move because of its name or place (`pin` of units), and ties what the kernel copies as a
 * block.
 */
int pins_set(struct work *work, struct riffle_error *error);
/* chunks.c: divides .text into movable and pinned ranges, respecting the ties; needs code and tables. */
int chunks_build(struct work *work, struct riffle_error *error);
/* refs.c: adds the absolute relocations, merges and sorts all references, and drops those that no shuffle changes. */
int refs_finish(struct work *work, struct riffle_error *error);
/*
 * census.c: counts words outside code and known tables that look like references into movable text; all but chance
 * matches must be explained.
 */
int census_take(struct work *work, struct riffle_error *error);
/* Whether an instruction starts there that does not move: of references to such ones census_take() says nothing. */
bool census_is_fixed(const struct work *work, uint32_t target);
/*
 * judge.c, with a debug vmlinux that has .rela.* (otherwise both do nothing). First, before refs_finish(): adds every
 * entry into or out of .text as a reference BY_RELA, its target the symbol's offset. Last, when references and chunks
 * are final: checks that each entry matches a reference found here, and that each reference found here is confirmed or
 * was resolved by the assembler.
 */
int judge_add_refs(struct work *work, struct riffle_error *error);
int judge_by_rela(struct work *work, struct riffle_error *error);

#endif
