/* SPDX-License-Identifier: Apache-2.0 */
/* Shared by the files of this component: the link-time image, the references found in it, the sorted tables. */
#ifndef RIFFLE_PREPARE_VERIFY_INTERNAL_H
#define RIFFLE_PREPARE_VERIFY_INTERNAL_H

#include "common/bytes.h"
#include "common/fail.h"
#include "prepare/verify/verify.h"

/* All offsets are image offsets at link time. In place of a target: */
#define TARGET_IMAGE 0xfffffffeu /* moves with the image as a whole, not with a chunk */
#define TARGET_STAYS 0xffffffffu /* does not move at all: percpu, numbers */

enum ref_kind {
	REF_PC8,
	REF_PC32,
	REF_ABS32,
	REF_ABS64,
};

struct ref {
	uint32_t field;
	uint32_t target; /* what determines where the target goes */
	uint32_t leads;  /* RANK_RELA…: symbol + addend, to compare with other sources */
	uint8_t kind;    /* enum ref_kind */
	uint8_t part;    /* index in verify.part */
	uint8_t rank;    /* of several for one field, the highest wins */
};

enum rank {
	RANK_RELA_SECTION, /* relative to a section symbol: an instruction tells more precisely where it leads */
	RANK_OBJDUMP,
	RANK_TABLE,
	RANK_LIST,
	RANK_RELA, /* relative to a named symbol, which the reference follows wherever symbol + addend lies */
};

#define PARTS_MAX 64u

/* The bytes of a part that is a table; 0 for references throughout the image. */
struct part {
	char name[48];
	uint64_t fields;
	uint32_t offset, bytes;
	uint32_t stride; /* of an entry, of fixed tables */
};

struct symbol {
	uint32_t offset;
	char type;
	const char *name;
};

/* kallsyms, found and decoded here; offsets are 0 if the kernel has none. */
struct names {
	bool present, self_relative, absolute_percpu;
	uint32_t count;
	uint32_t offsets, base, names, names_bytes, markers, seqs, tokens, token_index;
	uint32_t *name;    /* where each symbol's compressed name begins; count + 1 long */
	uint64_t *address; /* of each symbol at link time */
	uint64_t work;     /* names examined until these were found */
};

/* A table of entries that belong to an address: extable, ORC, mcount. Empty if absent. */
struct sorted {
	uint32_t offset, second, entries;
	bool handlers; /* extable: the third word is a distance too */
	uint8_t part;
};

struct code {
	const char *name;
	uint32_t offset, bytes;
	uint64_t address;
};

#define CODE_MAX 32u

struct verify {
	const struct riffle_image *image;
	uint8_t *bytes; /* the image as linked */
	uint32_t image_bytes;
	uint64_t link_virt;

	struct code code[CODE_MAX];
	unsigned code_count;
	struct names names;
	struct symbol *symbol; /* ascending; from kallsyms */
	uint32_t symbol_count;
	char *symbol_names;

	struct ref *ref; /* ascending by field, one per field */
	size_t ref_count, ref_room;
	uint8_t *start; /* one bit per byte: objdump found an instruction start there */
	uint8_t *stop;  /* one bit per byte: at the start of an instruction that control flow does not continue past */
	uint8_t *padding;  /* one bit per byte: at the start of a nop or int3 */
	uint32_t *restart; /* where a decoder must resynchronise, in addition to symbols: replacements */
	uint32_t restart_count;
	uint32_t no_lkgs[16]; /* bytes that look like LKGS and are part of other instructions */
	uint32_t no_lkgs_count;
	uint32_t shown[CODE_MAX]; /* where what objdump has shown of each section ends */

	struct sorted extable, orc, mcount;
	uint32_t mode; /* where the mode of /proc/kallsyms is; 0 if that is not known */
	struct part part[PARTS_MAX];
	unsigned part_count;
	struct verify_rela rela;
	uint64_t
	    data_in_code; /* what objdump decoded as jumps, but the kernel's relocations show to be something else */
};

static inline bool bit_get(const uint8_t *bits, uint32_t i)
{
	return bits[i / 8] >> i % 8 & 1;
}

static inline void bit_set(uint8_t *bits, uint32_t i)
{
	bits[i / 8] |= (uint8_t)(1u << i % 8);
}

static inline bool verify_offset(const struct verify *v, uint64_t address, uint32_t *offset)
{
	if (address - v->link_virt >= v->image_bytes)
		return false;
	*offset = (uint32_t)(address - v->link_virt);
	return true;
}

static inline bool verify_in_code(const struct verify *v, uint32_t offset)
{
	for (unsigned i = 0; i < v->code_count; i++)
		if (offset - v->code[i].offset < v->code[i].bytes)
			return true;
	return false;
}

/* A byte that lld fills gaps between input sections with. */
static inline bool verify_is_hole(uint8_t byte)
{
	return !byte || byte == 0xcc;
}

/* A character that is safe to print: names come from an untrusted file. */
static inline char verify_printable(char c)
{
	return (unsigned char)c < ' ' || c == 0x7f ? '?' : c;
}

/* parts and references: refs.c */
int verify_new_part(struct verify *v, const char *name, uint32_t offset, uint32_t bytes, uint8_t *part,
		    struct riffle_error *error);
int verify_add_ref(struct verify *v, const struct ref *ref, struct riffle_error *error);
int verify_add_list(struct verify *v, struct riffle_error *error);
int verify_merge_refs(struct verify *v, struct riffle_error *error);
bool verify_is_inverse(const struct verify *v, uint32_t field);

/* the link-time symbol at or before an offset; NULL when there is none */
const struct symbol *verify_symbol_at(const struct verify *v, uint32_t offset);
/*
 * Where a reference to an offset leads: gcc folds PFN_ALIGN(_text) to _text + 4095, which refers to _text unless there
 * is a symbol.
 */
uint32_t verify_meant(const struct verify *v, uint32_t target);
/* by name; false when there is none */
bool verify_symbol(const struct verify *v, const char *name, uint32_t *offset);

/* kallsyms: names.c finds and decodes, order.c writes */
int verify_find_names(struct verify *v, struct riffle_error *error);

/* fixed tables and the sorted ones: tables.c */
int verify_read_tables(struct verify *v, struct riffle_error *error);

/* objdump.c: its lines; disassembly.c: running it */
struct objdump_line {
	uint64_t address;
	bool branch, rip;
	uint64_t target;      /* of a direct branch, or of the %rip operand */
	int64_t displacement; /* of the %rip operand */
	bool stops, padding;  /* control flow does not continue past it; it does nothing */
};
/* false for a line that is not an instruction */
bool verify_parse_line(struct objdump_line *line, const char *text);
int verify_disassemble(struct verify *v, verify_progress *progress, void *opaque, struct riffle_error *error);

/*
 * mode.c: finds the mode that the kernel gives /proc/kallsyms, and writes the one it has to have after a shuffle: its
 * lines are in the order of the functions.
 */
struct places;
int verify_find_mode(struct verify *v, struct riffle_error *error);
void verify_write_mode(const struct verify *v, const struct places *p, uint8_t *image);

/* rela.c */
int verify_read_rela(struct verify *v, int fd, struct riffle_error *error);

/* Where everything goes under one layout: places.c */
struct places {
	const struct riffle_plan *plan;
	int32_t *shift;  /* of each chunk, followed by 0 */
	uint32_t *chunk; /* of each 16 bytes of the image: chunk number, or plan->chunk_count */
	uint64_t delta;
	uint64_t moved;
	bool shuffled;
	bool slid;
	uint32_t slide[RIFFLE_BLOCKS_MAX]; /* of each of the plan's blocks */
};
int verify_places(struct places *places, const struct verify *v, const struct riffle_plan *plan,
		  const struct riffle_layout *layout, struct riffle_error *error);
void verify_places_free(struct places *places);

static inline int32_t place_shift(const struct places *p, uint32_t offset)
{
	return p->shift[p->chunk[offset / RIFFLE_CHUNK_ALIGN]];
}

static inline uint32_t place_of(const struct places *p, uint32_t offset)
{
	return offset + (uint32_t)place_shift(p, offset);
}

/* A link address after the shuffle, without the virtual delta; addresses outside the image are unchanged. */
static inline uint64_t place_address(const struct places *p, const struct verify *v, uint64_t address)
{
	uint32_t offset;

	return verify_offset(v, address, &offset) ? address + (uint64_t)(int64_t)place_shift(p, offset) : address;
}

/* slides.c: a new image, for free(), of what `expected` becomes by slides; its bytes, and where of it a byte was */
int verify_slide(uint8_t **slid, const struct verify *v, const struct places *p, const uint8_t *expected,
		 struct riffle_error *error);
uint64_t verify_slid_bytes(const struct places *p, const struct verify *v);
uint32_t verify_slide_back(const struct places *p, uint64_t at);
/* where an offset as linked lies in such an image */
uint8_t *verify_slid_place(const struct places *p, uint8_t *image, uint32_t offset);
/* refs.c: whether a reference has that very field; whether a field lies in a sorted table */
bool verify_has_ref(const struct verify *v, uint32_t field);
bool verify_is_sorted(const struct verify *v, uint32_t field);

/* sorted tables and kallsyms into `image`, in their new order: order.c */
int verify_write_sorted(const struct verify *v, const struct places *p, uint8_t *image, struct riffle_error *error);
/* unwind.c: checks that every instruction finds the same unwind state as before; returns how many do not */
int verify_unwind(const struct verify *v, const struct places *p, const uint8_t *image, uint64_t *looked_up,
		  uint64_t *wrong, unsigned limit, FILE *report, struct riffle_error *error);

#endif
