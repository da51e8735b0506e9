/* SPDX-License-Identifier: Apache-2.0 */
/* Disassembles all code, symbol by symbol, and finds what is relative to the place of an instruction. */
#include <stdlib.h>

#include <Zydis/Zydis.h>

#include "common/search.h"
#include "prepare/shuffle/slides.h"

/*
 * A sweep from the first byte of a function to its last meets every instruction, because compilers and the kernel's
 * assembly put no data between them. Where that does not hold it shows: a byte that is no instruction, one that runs
 * across a symbol, a branch into the middle of another. Each symbol starts the sweep anew.
 */

enum use { USE_BRANCH, USE_ADDRESS /* lea */, USE_MEMORY };

/* A field that counts from the end of its instruction; kept until all instruction starts are known. */
struct branch {
	uint64_t address; /* what it refers to */
	uint32_t field;   /* image offset of the field */
	uint32_t unit;    /* of the instruction; NO_UNIT outside .text */
	uint8_t bits;     /* 8 or 32; anything else is beyond us */
	enum use use;
};

#define NO_UNIT UINT32_MAX

struct sweep {
	struct work *work;
	ZydisDecoder decoder;
	struct branch *branch;
	uint32_t count, room;
};

static void mark_start(struct work *work, uint32_t offset)
{
	work->start[offset / 8] |= (uint8_t)(1u << offset % 8);
}

/* The bytes that compilers, assemblers and the linker fill holes with, one instruction each. */
static bool is_filler(uint8_t byte)
{
	return byte == 0x90 || byte == 0xcc;
}

static enum work_end end_of(ZydisMnemonic mnemonic)
{
	switch (mnemonic) {
	case ZYDIS_MNEMONIC_JMP:
	case ZYDIS_MNEMONIC_RET:
	case ZYDIS_MNEMONIC_IRET:
	case ZYDIS_MNEMONIC_IRETD:
	case ZYDIS_MNEMONIC_IRETQ:
	case ZYDIS_MNEMONIC_SYSRET:
	case ZYDIS_MNEMONIC_SYSEXIT:
	case ZYDIS_MNEMONIC_UD0:
	case ZYDIS_MNEMONIC_UD1:
	case ZYDIS_MNEMONIC_UD2:
	case ZYDIS_MNEMONIC_HLT:
		return WORK_END_STOPS;
	case ZYDIS_MNEMONIC_CALL:
		return WORK_END_CALLS;
	default:
		return WORK_END_FALLS;
	}
}

static int note_field(struct sweep *s, uint32_t at, uint32_t unit, const ZydisDecodedInstruction *insn,
		      unsigned field_offset, unsigned bits, int64_t distance, enum use use, struct riffle_error *error)
{
	int status = work_grow(&s->branch, s->count, &s->room, sizeof *s->branch, error);

	if (status)
		return status;
	s->branch[s->count++] = (struct branch){
	    .address = s->work->link_virt + at + insn->length + (uint64_t)distance,
	    .field = at + field_offset,
	    .unit = unit,
	    .bits = (uint8_t)bits,
	    .use = use,
	};
	return 0;
}

static int note_fields(struct sweep *s, uint32_t at, uint32_t unit, const ZydisDecodedInstruction *insn,
		       struct riffle_error *error)
{
	struct shuffle_census *census = &s->work->result->census;

	for (unsigned i = 0; i < 2; i++) {
		if (!insn->raw.imm[i].is_relative || !insn->raw.imm[i].size)
			continue;
		census->branches++;
		return note_field(s, at, unit, insn, insn->raw.imm[i].offset, insn->raw.imm[i].size,
				  insn->raw.imm[i].value.s, USE_BRANCH, error);
	}
	/* ModRM mod 0, rm 5: relative to RIP in 64-bit code */
	if (!(insn->attributes & ZYDIS_ATTRIB_HAS_MODRM) || insn->raw.modrm.mod || insn->raw.modrm.rm != 5 ||
	    insn->raw.disp.size != 32)
		return 0;
	census->rip_operands++;
	/* with an address-size prefix the sum is cut to 32 bits: reported as a width that nobody can follow */
	return note_field(s, at, unit, insn, insn->raw.disp.offset, insn->address_width == 64 ? 32 : 0,
			  insn->raw.disp.value, insn->mnemonic == ZYDIS_MNEMONIC_LEA ? USE_ADDRESS : USE_MEMORY, error);
}

static void note_last(struct work_unit *unit, uint32_t at, unsigned bytes, enum work_end end)
{
	unit->last = at;
	unit->end = (uint8_t)end;
	unit->code_bytes = at + bytes - unit->offset;
}

/*
 * The length of an instruction that the disassembler may not know or would take for several; 0: none of these.
 * Hypervisors emulate what follows a ud2 and their name. Groups 6 and 7 of the opcode map (0f 00, 0f 01), to which new
 * system instructions keep being added (LKGS, ERETS …), have no immediate, and no displacement with a register operand.
 * 0xea is no instruction of 64-bit code: FineIBT's thunks jump to it for its exception.
 */
static unsigned odd_length(const uint8_t *p, uint32_t left)
{
	unsigned at = 0;

	if (*p == 0xea)
		return 1;
	if (left >= 5 && (!memcmp(p, "\x0f\x0bxen", 5) || !memcmp(p, "\x0f\x0bkvm", 5)))
		return 5;
	if (left < 5)
		return 0;
	if (p[at] == 0x66 || p[at] == 0xf2 || p[at] == 0xf3)
		at++;
	if ((p[at] & 0xf0) == 0x40)
		at++;
	return p[at] == 0x0f && p[at + 1] <= 1 && p[at + 2] >= 0xc0 ? at + 3 : 0;
}

/*
 * How many bytes of a hole between input sections lie at `at`, where control does not come to: lld makes of the
 * kernel's
 * `:text = 0xcccc` a pattern of 32 bits, two of them zero, that begins anywhere. Sections start at multiples of 16,
 * some with code that no symbol names (a weak function that was overridden), so the sweep must not fall out of step.
 * Zeros that end elsewhere are no hole, and no code that makes sense: *odd is set.
 */
static uint32_t hole_bytes(const struct work *work, uint32_t at, uint32_t end, bool *odd)
{
	uint32_t stop = at;

	while (stop < end && (!work->bytes[stop] || work->bytes[stop] == 0xcc))
		stop++;
	if (stop == end)
		return end - at;
	if (stop / 16 * 16 > at)
		return stop / 16 * 16 - at;
	*odd |= stop - at > 1;
	return 0;
}

/* Decodes [start, end); `unit` gets what is learnt of it. */
static int decode_run(struct sweep *s, uint32_t start, uint32_t end, uint32_t number, struct work_unit *unit,
		      struct riffle_error *error)
{
	struct work *work = s->work;
	ZydisDecodedInstruction insn;
	uint32_t at = start;
	int status;

	while (at < end) {
		unsigned odd = odd_length(work->bytes + at, end - at);
		ZyanStatus decoded;

		if (!work->bytes[at] && unit->end != WORK_END_FALLS) {
			uint32_t hole = hole_bytes(work, at, end, &unit->unexplained);

			at += hole;
			if (hole)
				continue;
		}
		if (is_filler(work->bytes[at]) || odd) {
			mark_start(work, at);
			at += odd ? odd : 1;
			if (odd)
				note_last(unit, at - odd, odd, WORK_END_FALLS);
			continue;
		}
		decoded = ZydisDecoderDecodeInstruction(&s->decoder, ZYAN_NULL, work->bytes + at, end - at, &insn);
		if (!ZYAN_SUCCESS(decoded)) {
			unit->unexplained = true;
			at = decoded == ZYDIS_STATUS_NO_MORE_DATA ? end : at + 1;
			continue;
		}
		mark_start(work, at);
		work->result->census.instructions++;
		status = note_fields(s, at, number, &insn, error);
		if (status)
			return status;
		if (insn.mnemonic != ZYDIS_MNEMONIC_NOP)
			note_last(unit, at, insn.length, end_of(insn.mnemonic));
		at += insn.length;
	}
	if (unit->unexplained)
		unit->end = WORK_END_FALLS;
	return 0;
}

/* Where the symbol after `*index` starts, of those above `at`; the section's end when there is none before it. */
static uint32_t next_boundary(const struct work *work, uint32_t *index, uint32_t at, uint32_t end)
{
	while (*index < work->symbol_count && work->symbol[*index].offset <= at)
		++*index;
	return *index < work->symbol_count && work->symbol[*index].offset < end ? work->symbol[*index].offset : end;
}

static uint32_t count_boundaries(const struct work *work, const struct work_code *code)
{
	uint32_t index = work_first_symbol(work, code->offset), end = code->offset + code->bytes, count = 0;

	for (uint32_t at = code->offset; at < end; at = next_boundary(work, &index, at, end))
		count++;
	return count;
}

/* Adds a unit, and the hole behind its code as another, which begins where a chunk can. */
static void add_unit(struct work *work, struct work_unit unit)
{
	uint32_t code_end = unit.offset + (unit.code_bytes ? unit.code_bytes : 1);
	uint32_t hole = (code_end + SHUFFLE_ALIGN - 1) / SHUFFLE_ALIGN * SHUFFLE_ALIGN, end = unit.offset + unit.bytes;

	if (unit.unexplained || hole >= end || end - hole < WORK_HOLE_BYTES) {
		work->unit[work->unit_count++] = unit;
		return;
	}
	unit.bytes = hole - unit.offset;
	work->unit[work->unit_count++] = unit;
	work->unit[work->unit_count++] =
	    (struct work_unit){.offset = hole, .bytes = end - hole, .last = hole, .end = WORK_END_STOPS, .hole = true};
}

static int decode_section(struct sweep *s, const struct work_code *code, struct riffle_error *error)
{
	struct work *work = s->work;
	uint32_t index = work_first_symbol(work, code->offset), end = code->offset + code->bytes, next;
	int status = 0;

	if (code->movable) {
		work->unit = calloc(2 * ((size_t)count_boundaries(work, code) + 1), sizeof *work->unit);
		if (!work->unit)
			return riffle_fail(error, RIFFLE_ERR_MEMORY, "analysis", "out of memory");
	}
	for (uint32_t at = code->offset; at < end && !status; at = next) {
		struct work_unit unit = {.offset = at, .last = at, .end = WORK_END_FALLS};

		next = next_boundary(work, &index, at, end);
		unit.bytes = next - at;
		status = decode_run(s, at, next, code->movable ? work->unit_count : NO_UNIT, &unit, error);
		if (code->movable)
			add_unit(work, unit);
		else if (unit.unexplained)
			slides_unread(work, unit.offset, unit.bytes);
	}
	return status;
}

/* Something does not look like code: nobody is to move it. */
static void doubt(struct work *work, uint32_t unit)
{
	if (unit != NO_UNIT)
		work->unit[unit].unexplained = true;
}

static bool in_code(const struct work *work, uint32_t offset)
{
	for (unsigned i = 0; i < work->code_count; i++)
		if (offset - work->code[i].offset < work->code[i].bytes)
			return true;
	return false;
}

/* The kernel's own relocations have that very field. */
static bool is_relocated(const struct image_relocs *list, const struct branch *b)
{
	uint32_t i = riffle_first_at_least(list->offset, list->count, b->field);

	return b->bits == 32 && i < list->count && list->offset[i] == b->field;
}

static int resolve(struct work *work, const struct branch *b, struct riffle_error *error)
{
	const struct work_unit *unit = b->unit == NO_UNIT ? NULL : &work->unit[b->unit];
	const struct riffle_image *image = work->image;
	uint32_t target, other;
	bool copied;
	int status;

	/* 32-bit code (the PVH entry) read as 64-bit code: an address, and not one relative to RIP */
	if (is_relocated(&image->reloc32, b)) {
		doubt(work, b->unit);
		return 0;
	}
	if (!is_relocated(&image->reloc32_inverse, b)) {
		status = slides_note(work, b->field, b->address, b->bits, error);
		if (status)
			return status;
	}
	if (!work_offset(work, b->address, &target)) {
		/* the percpu variables of a kernel whose percpu section is linked at 0 */
		if (!is_relocated(&image->reloc32_inverse, b))
			doubt(work, b->unit);
		return 0;
	}
	if (b->use != USE_BRANCH)
		target = work_meant(work, target);
	if (b->use == USE_BRANCH && !(in_code(work, target) && work_is_start(work, target)))
		doubt(work, b->unit);
	other = work_in_text(work, target) ? work_unit_at(work, target) : NO_UNIT;
	copied = b->use == USE_MEMORY && other != NO_UNIT && pins_is_copied(work, target);
	if (b->use == USE_MEMORY && !copied)
		doubt(work,
		      other); /* code that is read as data: a copy of it, or a constant that wants more alignment */
	if (unit && other == b->unit)
		return 0;
	if (other == NO_UNIT && !unit)
		return 0;
	if (b->bits == 32) {
		if (!work_is_start(work, target) && !copied)
			doubt(work, other);
		return work_add_ref(work, b->field, target, SHUFFLE_PC32, SHUFFLE_BY_CODE, error);
	}
	if (b->bits == 8 && unit && other != NO_UNIT)
		return work_add_tie(work, b->field, target, error);
	doubt(work, b->unit);
	doubt(work, other);
	return 0;
}

int code_decode(struct work *work, struct riffle_error *error)
{
	struct sweep s = {.work = work};
	int status = 0;

	if (!ZYAN_SUCCESS(ZydisDecoderInit(&s.decoder, ZYDIS_MACHINE_MODE_LONG_64, ZYDIS_STACK_WIDTH_64)))
		return riffle_fail(error, RIFFLE_ERR_UNSUPPORTED, "disassembler", "does not start");
	for (unsigned i = 0; i < work->code_count && !status; i++)
		status = decode_section(&s, &work->code[i], error);
	for (uint32_t i = 0; i < s.count && !status; i++)
		status = resolve(work, &s.branch[i], error);
	free(s.branch);
	return status;
}
