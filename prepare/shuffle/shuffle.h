/* SPDX-License-Identifier: Apache-2.0 */
/* Finds what can be shuffled in a kernel: chunks of functions, every reference that must follow, sorted tables.
 */
#ifndef RIFFLE_PREPARE_SHUFFLE_H
#define RIFFLE_PREPARE_SHUFFLE_H

#include <stdbool.h>
#include <stdint.h>

#include <riffle/error.h>
#include <riffle/format.h>

#include "prepare/image/image.h"

/* All offsets are image offsets: distances from the lowest p_paddr, at link addresses. */

#define SHUFFLE_ALIGN 16u /* chunks start on multiples of it and end where the next begins, so any order fits */
#define SHUFFLE_CHUNK_MAX RIFFLE_CHUNK_BYTES_MAX /* a larger one is pinned */
#define SHUFFLE_REGIONS_MAX 1024u /* movable ranges between pinned code; beyond that, the smallest are pinned */
#define SHUFFLE_CHUNKS_MAX 65000u /* chunk numbers have 16 bits, and the highest have other meanings */

/* Why bytes of .text stay in place, as `riffle inspect --chunks` prints. */
enum shuffle_pin {
	SHUFFLE_PIN_NONE = 0,
	SHUFFLE_PIN_HEAD,        /* the first bytes of the image, and what is tied to them */
	SHUFFLE_PIN_SECTION,     /* entry code, thunks, gaps that the linker left between these */
	SHUFFLE_PIN_UNEXPLAINED, /* bytes of unknown role */
	SHUFFLE_PIN_LARGE,       /* ties would make a chunk above SHUFFLE_CHUNK_MAX */
	SHUFFLE_PIN_ALIGNED,     /* needs more alignment than SHUFFLE_ALIGN */
	SHUFFLE_PIN_PAGE,        /* written, copied or mapped by page (hypercall_page, restore_registers) */
	SHUFFLE_PIN_ISLAND,      /* among the smallest of more than SHUFFLE_REGIONS_MAX regions */
};

/* A run of bytes of .text, in address order; all of .text is covered, movable or pinned. */
struct shuffle_range {
	uint32_t offset, bytes;
	uint8_t pin;        /* enum shuffle_pin; NONE: this is a movable chunk */
	uint32_t functions; /* function symbols in it, __pfx_ and aliases not counted */
	const char *name;   /* first symbol; belongs to the shuffle */
};

/* How a field's value depends on addresses. */
enum shuffle_field {
	SHUFFLE_PC32,  /* s32, relative to the field's own address */
	SHUFFLE_ABS32, /* u32, low half of a kernel address */
	SHUFFLE_ABS64,
	SHUFFLE_INVERSE32, /* s32, percpu minus the field's address: depends only on the field */
};

/*
 * One field whose value changes when chunks move: it is in a chunk and refers to another, or to something fixed; or it
 * is in fixed code or data and refers to a chunk; or it is absolute and lies in a chunk. Fields inside sorted tables
 * are not listed. `target` is the image offset that determines which chunk the field follows (of the symbol, if known,
 * not of symbol + addend); UINT32_MAX if it follows none (a percpu or absolute target).
 */
struct shuffle_ref {
	uint32_t field;
	uint32_t target;
	uint8_t kind;     /* enum shuffle_field */
	uint8_t found_by; /* enum shuffle_source */
};

/* The sources that a reference was found in, for checking one source against another. */
enum shuffle_source {
	SHUFFLE_BY_CODE = 1,  /* a decoded instruction */
	SHUFFLE_BY_RELOC = 2, /* the kernel's absolute relocations */
	SHUFFLE_BY_RELA = 4,  /* .rela of a vmlinux */
	SHUFFLE_BY_TABLE = 8, /* an entry of a known table */
};

/* Tables that the kernel searches by binary search but does not sort itself. */
enum shuffle_table_kind {
	SHUFFLE_TABLE_EXTABLE, /* 12 bytes: s32 insn, s32 fixup, then u32 data or s32 handler */
	SHUFFLE_TABLE_ORC,     /* s32 ip at `offset`, 6 bytes of state at `second` */
	SHUFFLE_TABLE_MCOUNT,  /* u64 addresses */
};

struct shuffle_table {
	uint8_t kind;
	bool third_is_pointer; /* EXTABLE: the third word is a PC-relative handler (up to 5.15) */
	uint32_t offset, second;
	uint32_t entries;
};

/* The kernel's own symbol table, if it has one. */
struct shuffle_kallsyms {
	bool present;
	bool self_relative;   /* offsets are distances from the entry itself (7.2) */
	bool absolute_percpu; /* negative offsets count down from base - 1, others are absolute */
	uint32_t count;
	uint32_t offsets; /* s32[count] */
	uint32_t names, names_bytes;
	uint32_t markers;       /* u32[(count + 255) / 256] */
	uint32_t seqs;          /* u8[3][count] of kallsyms_seqs_of_names, or 0 */
	uint64_t relative_base; /* the link-time value; 0 when self_relative */
};

/* Results of the completeness scan, for `riffle inspect --chunks` and the documents. */
struct shuffle_census {
	uint64_t instructions, branches, rip_operands;
	uint64_t function_bytes; /* bytes of ordinary C functions: the base of the 95 % */
	uint64_t movable_bytes;
	uint64_t multi_function_bytes;     /* in chunks of more than one function, not counting __pfx_ */
	uint64_t words_scanned;            /* words outside code and known tables that were tested as PC-relative */
	uint64_t words_chance;             /* of these, apparent references taken for chance matches */
	uint64_t rela_checked, rela_agree; /* with a .rela: entries compared, entries also found without it */
};

/* A field of code that leads from one block to another by a distance of 32 bits. */
struct shuffle_cross {
	uint32_t field;
	uint32_t block; /* that it leads to */
};

/* Code that is not understood. */
struct shuffle_unread {
	uint32_t offset, bytes;
};

/* A column of a kernel's table: its fields are at `at` in each entry. */
struct shuffle_column {
	const char *table;
	uint32_t at;
};

/* What a load needs to slide the kernel's sections apart; in the terms of the format. */
struct shuffle_slides {
	char none[256]; /* why they cannot; empty if they can */
	struct riffle_block block[RIFFLE_BLOCKS_MAX];
	uint32_t block_count;        /* 0 if they cannot */
	struct shuffle_cross *cross; /* ascending */
	uint32_t cross_count, cross_room;
	struct riffle_cross_table table[RIFFLE_CROSS_TABLES_MAX];
	struct shuffle_column column[RIFFLE_CROSS_TABLES_MAX]; /* what each of these is */
	uint32_t table_count;
	struct shuffle_unread unread[128];
	uint32_t unread_count;
	uint32_t leads; /* words of data that look like distances to another block, taken for chance matches */
};

struct shuffle {
	struct shuffle_range *range;
	uint32_t range_count;
	uint32_t chunk_count;
	struct shuffle_ref *ref; /* ascending by field, one per field */
	uint32_t ref_count;
	struct shuffle_table table[8]; /* ascending by offset */
	unsigned table_count;
	struct shuffle_kallsyms kallsyms;
	struct shuffle_census census;
	struct shuffle_slides slides;
	bool has_paged;         /* a chunk starts with code that the kernel maps by page: */
	uint32_t paged_chunk;   /* its number */
	uint32_t kallsyms_mode; /* where the mode of /proc/kallsyms is; 0 if that is not certain */
	void *owned;
};

/* Symbols and relocations of a debug vmlinux of the same build; all optional. */
struct shuffle_debug;

/*
 * Determines what can move in `image`. Everything it needs is in the image itself: symbols from its kallsyms, sections
 * from the headers it kept, absolute references from its relocations, PC-relative ones from a disassembly of all its
 * text and from its known tables. `debug` (NULL: none) adds a debug vmlinux's symbols and, if it has them, .rela.*:
 * then each reference is checked against those, and they explain unknown tables. A kernel with anything unexplained is
 * refused: UNSUPPORTED, with what it is in field and problem, and its link address in found. On success the caller
 * releases *shuffle with shuffle_free().
 */
int shuffle_analyse(struct shuffle **shuffle, const struct riffle_image *image, const struct shuffle_debug *debug,
		    struct riffle_error *error);
void shuffle_free(struct shuffle *shuffle);

/*
 * Opens a debug vmlinux and checks that it belongs to `image`: the same build id, and the same bytes in every PT_LOAD.
 * Errors: FORMAT (of another build), and those of reading it.
 */
int shuffle_debug_open(struct shuffle_debug **debug, const struct riffle_image *image, int fd,
		       struct riffle_error *error);
void shuffle_debug_close(struct shuffle_debug *debug);

#endif
