/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Finds the mode that the kernel gives /proc/kallsyms. Its lines are in the order of the addresses: after a shuffle
 * nobody but root may read them.
 */
#include <Zydis/Zydis.h>

#include "common/search.h"
#include "prepare/shuffle/internal.h"

/*
 * kallsyms_init() calls proc_create("kallsyms", 0444, NULL, &kallsyms_proc_ops), which a compiler may put into another
 * function. What is looked for is therefore not a function but a call, in code that does not move, of one whose name
 * begins with proc_create and which takes the name in %rdi and the mode in %esi; both are set by the instructions just
 * before it, which run one after the other. Anything else, or a second such call, and the mode stays as it is.
 */
#define CREATOR "proc_create"
#define FILE_NAME "kallsyms" /* with the NUL behind it */
#define CALL_BYTES 5u

/* What two registers hold on the way to a call. */
struct arguments {
	uint64_t name;  /* in %rdi; 0 if that is unknown */
	uint32_t mode;  /* image offset of the immediate that is in %esi, if it is 0444; or 0 */
	uint32_t since; /* where the earlier of the two instructions is that set them */
};

struct search {
	struct work *work;
	ZydisDecoder decoder;
	uint32_t creator[32]; /* ascending */
	unsigned creators;
	unsigned found; /* calls with that name, whatever their mode */
	uint32_t mode;  /* of the last one, or 0 */
};

/* Functions of the kernel's interface; of a kernel with more than a few names like these nothing is known. */
static bool find_creators(struct search *s)
{
	const struct work *work = s->work;

	for (uint32_t i = 0; i < work->symbol_count; i++) {
		const struct work_symbol *symbol = &work->symbol[i];

		if (strncmp(symbol->name, CREATOR, sizeof CREATOR - 1) ||
		    (symbol->type != 't' && symbol->type != 'T') ||
		    (s->creators && s->creator[s->creators - 1] == symbol->offset))
			continue;
		if (s->creators == sizeof s->creator / sizeof *s->creator)
			return false;
		s->creator[s->creators++] = symbol->offset;
	}
	return s->creators > 0;
}

/* Whether the five bytes are a call or a jump to one of the functions. */
static bool leads_to_creator(const struct search *s, uint32_t at)
{
	const uint8_t *p = s->work->bytes + at;
	uint32_t target = at + CALL_BYTES + riffle_get32(p + 1);

	if (*p != 0xe8 && *p != 0xe9)
		return false;
	for (unsigned i = 0; i < s->creators; i++)
		if (s->creator[i] == target)
			return true;
	return false;
}

/* The instruction that starts there; false if there is none. */
static bool decode(const struct search *s, uint32_t at, uint32_t end, ZydisDecodedInstruction *insn,
		   ZydisDecodedOperand operand[ZYDIS_MAX_OPERAND_COUNT])
{
	return ZYAN_SUCCESS(ZydisDecoderDecodeFull(&s->decoder, s->work->bytes + at, end - at, insn, operand));
}

static bool is_register(ZydisRegister what, ZydisRegister whole)
{
	return ZydisRegisterGetLargestEnclosing(ZYDIS_MACHINE_MODE_LONG_64, what) == whole;
}

/* Whether an instruction reads or writes a register, by name or without. */
static bool concerns(const ZydisDecodedInstruction *insn, const ZydisDecodedOperand *operand, ZydisRegister whole)
{
	for (unsigned i = 0; i < insn->operand_count; i++) {
		const ZydisDecodedOperand *o = &operand[i];

		if (o->type == ZYDIS_OPERAND_TYPE_REGISTER && is_register(o->reg.value, whole))
			return true;
		if (o->type == ZYDIS_OPERAND_TYPE_MEMORY &&
		    (is_register(o->mem.base, whole) || is_register(o->mem.index, whole)))
			return true;
	}
	return false;
}

/* The address that an instruction puts into %rdi: mov $…,%rdi or lea …(%rip),%rdi; 0 for anything else. */
static uint64_t name_of(const struct work *work, uint32_t at, const ZydisDecodedInstruction *insn,
			const ZydisDecodedOperand *operand)
{
	if (operand[0].type != ZYDIS_OPERAND_TYPE_REGISTER || operand[0].reg.value != ZYDIS_REGISTER_RDI)
		return 0;
	if (insn->mnemonic == ZYDIS_MNEMONIC_MOV && operand[1].type == ZYDIS_OPERAND_TYPE_IMMEDIATE)
		return operand[1].imm.value.u;
	if (insn->mnemonic == ZYDIS_MNEMONIC_LEA && operand[1].mem.base == ZYDIS_REGISTER_RIP)
		return work->link_virt + at + insn->length + (uint64_t)operand[1].mem.disp.value;
	return 0;
}

/* Where an instruction that puts 0444 into %esi has it: mov $0444,%esi or mov $0444,%rsi; 0 for anything else. */
static uint32_t mode_of(uint32_t at, const ZydisDecodedInstruction *insn, const ZydisDecodedOperand *operand)
{
	if (insn->mnemonic != ZYDIS_MNEMONIC_MOV || operand[0].type != ZYDIS_OPERAND_TYPE_REGISTER ||
	    (operand[0].reg.value != ZYDIS_REGISTER_ESI && operand[0].reg.value != ZYDIS_REGISTER_RSI) ||
	    operand[1].type != ZYDIS_OPERAND_TYPE_IMMEDIATE || insn->raw.imm[0].size != 32 ||
	    operand[1].imm.value.u != RIFFLE_KALLSYMS_MODE_OPEN)
		return 0;
	return at + insn->raw.imm[0].offset;
}

/* What the code from a function's start to a call puts into the two registers. */
static struct arguments follow(const struct search *s, uint32_t start, uint32_t call)
{
	ZydisDecodedOperand operand[ZYDIS_MAX_OPERAND_COUNT];
	ZydisDecodedInstruction insn;
	struct arguments known = {0};

	for (uint32_t at = start; at < call; at += insn.length) {
		uint64_t name;
		uint32_t mode;

		if (!work_is_start(s->work, at) || !decode(s, at, call, &insn, operand))
			return (struct arguments){0};
		name = name_of(s->work, at, &insn, operand);
		mode = mode_of(at, &insn, operand);
		/* behind a branch they may be others, and behind a call they are */
		if (insn.meta.branch_type != ZYDIS_BRANCH_TYPE_NONE || insn.meta.category == ZYDIS_CATEGORY_CALL ||
		    insn.meta.category == ZYDIS_CATEGORY_SYSCALL)
			known = (struct arguments){0};
		if (name || mode) {
			if (!known.name && !known.mode)
				known.since = at;
		}
		if (name || concerns(&insn, operand, ZYDIS_REGISTER_RDI))
			known.name = name;
		if (mode || concerns(&insn, operand, ZYDIS_REGISTER_RSI))
			known.mode = mode;
	}
	return known;
}

/* Whether a branch of the function leads into the middle of [from, to]. */
static bool is_entered(const struct search *s, uint32_t start, uint32_t end, uint32_t from, uint32_t to)
{
	ZydisDecodedOperand operand[ZYDIS_MAX_OPERAND_COUNT];
	ZydisDecodedInstruction insn;

	for (uint32_t at = start; at < end; at += insn.length) {
		uint64_t target;

		if (!decode(s, at, end, &insn, operand))
			return true;
		if (!insn.raw.imm[0].is_relative || !insn.raw.imm[0].size)
			continue;
		target = at + insn.length + (uint64_t)insn.raw.imm[0].value.s;
		if (target > from && target <= to)
			return true;
	}
	return false;
}

static bool is_name(const struct work *work, uint64_t address)
{
	uint32_t offset;

	return work_offset(work, address, &offset) && riffle_inside(offset, sizeof FILE_NAME, work->image_bytes) &&
	       !memcmp(work->bytes + offset, FILE_NAME, sizeof FILE_NAME);
}

/* A relocation changes some of a mode's bytes. */
static bool is_relocated(const struct image_relocs *list, uint32_t mode, uint32_t bytes)
{
	return riffle_has_field(list->offset, list->count, bytes, mode, (uint64_t)mode + 4);
}

/* `call` is in a section of code: where the function begins and ends that it is part of. */
static void find_function(const struct work *work, const struct work_code *code, uint32_t call, uint32_t *start,
			  uint32_t *end)
{
	uint32_t next = work_first_symbol(work, call + 1);

	*start = code->offset;
	*end = code->offset + code->bytes;
	if (next && work->symbol[next - 1].offset > *start)
		*start = work->symbol[next - 1].offset;
	if (next < work->symbol_count && work->symbol[next].offset < *end)
		*end = work->symbol[next].offset;
}

static void examine(struct search *s, const struct work_code *code, uint32_t call)
{
	const struct riffle_image *image = s->work->image;
	struct arguments known;
	uint32_t start, end;

	find_function(s->work, code, call, &start, &end);
	known = follow(s, start, call);
	if (!is_name(s->work, known.name))
		return;
	s->found++;
	s->mode = known.mode;
	if (code->movable || is_entered(s, start, end, known.since, call) ||
	    is_relocated(&image->reloc64, s->mode, 8) || is_relocated(&image->reloc32, s->mode, 4) ||
	    is_relocated(&image->reloc32_inverse, s->mode, 4))
		s->mode = 0;
}

int kallsyms_mode_find(struct work *work, struct riffle_error *error)
{
	struct search s = {.work = work};

	if (!ZYAN_SUCCESS(ZydisDecoderInit(&s.decoder, ZYDIS_MACHINE_MODE_LONG_64, ZYDIS_STACK_WIDTH_64)))
		return riffle_fail(error, RIFFLE_ERR_UNSUPPORTED, "disassembler", "does not start");
	if (!find_creators(&s))
		return RIFFLE_OK;
	for (unsigned i = 0; i < work->code_count; i++) {
		const struct work_code *code = &work->code[i];

		for (uint32_t at = 0; at + CALL_BYTES <= code->bytes; at++)
			if (leads_to_creator(&s, code->offset + at) && work_is_start(work, code->offset + at))
				examine(&s, code, code->offset + at);
	}
	if (s.found == 1)
		work->result->kallsyms_mode = s.mode;
	return RIFFLE_OK;
}
