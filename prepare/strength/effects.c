/* SPDX-License-Identifier: Apache-2.0 */
/* What a gadget does: follows which registers hold values from memory through its instructions, and sorts it into
 * classes. */
#include <string.h>

#include "prepare/strength/internal.h"

#define CLASS(name) (UINT32_C(1) << STRENGTH_##name)
#define RSP 4

/* The number of the general register that a register is part of; -1 for others. */
static int general(ZydisRegister reg)
{
	ZydisRegister whole = ZydisRegisterGetLargestEnclosing(ZYDIS_MACHINE_MODE_LONG_64, reg);

	return whole >= ZYDIS_REGISTER_RAX && whole <= ZYDIS_REGISTER_R15 ? (int)whole - (int)ZYDIS_REGISTER_RAX : -1;
}

static uint16_t bit(int reg)
{
	return reg < 0 ? 0 : (uint16_t)(1u << reg);
}

/* The registers that a memory operand's address is made of; 0: an address of its own, or relative to rip. */
static uint16_t address_registers(const ZydisDecodedOperand *operand)
{
	return (uint16_t)(bit(general(operand->mem.base)) | bit(general(operand->mem.index)));
}

/* Plain moves, after which the register holds what was read and nothing else. */
static bool is_load(ZydisMnemonic mnemonic)
{
	switch (mnemonic) {
	case ZYDIS_MNEMONIC_MOV:
	case ZYDIS_MNEMONIC_MOVSXD:
	case ZYDIS_MNEMONIC_MOVSX:
	case ZYDIS_MNEMONIC_MOVZX:
	case ZYDIS_MNEMONIC_POP:
	case ZYDIS_MNEMONIC_LEAVE:
	case ZYDIS_MNEMONIC_XCHG:
	case ZYDIS_MNEMONIC_LODSB:
	case ZYDIS_MNEMONIC_LODSW:
	case ZYDIS_MNEMONIC_LODSD:
	case ZYDIS_MNEMONIC_LODSQ:
		return true;
	default:
		return false;
	}
}

static bool writes_control(const ZydisDecodedInstruction *insn, const ZydisDecodedOperand *operands)
{
	switch (insn->mnemonic) {
	case ZYDIS_MNEMONIC_WRMSR:
	case ZYDIS_MNEMONIC_XSETBV:
	case ZYDIS_MNEMONIC_LGDT:
	case ZYDIS_MNEMONIC_LIDT:
	case ZYDIS_MNEMONIC_LLDT:
	case ZYDIS_MNEMONIC_LTR:
	case ZYDIS_MNEMONIC_LMSW:
		return true;
	case ZYDIS_MNEMONIC_MOV:
		return operands[0].type == ZYDIS_OPERAND_TYPE_REGISTER &&
		       ZydisRegisterGetClass(operands[0].reg.value) == ZYDIS_REGCLASS_CONTROL;
	default:
		return false;
	}
}

/* Whether an instruction that writes rsp gives it a value that does not come from rsp. */
static bool is_pivot(const ZydisDecodedInstruction *insn, const ZydisDecodedOperand *operands)
{
	switch (insn->mnemonic) {
	case ZYDIS_MNEMONIC_POP:
		return operands[0].type == ZYDIS_OPERAND_TYPE_REGISTER && general(operands[0].reg.value) == RSP;
	case ZYDIS_MNEMONIC_PUSH:
	case ZYDIS_MNEMONIC_PUSHF:
	case ZYDIS_MNEMONIC_PUSHFQ:
	case ZYDIS_MNEMONIC_POPF:
	case ZYDIS_MNEMONIC_POPFQ:
	case ZYDIS_MNEMONIC_ENTER:
		return false;
	case ZYDIS_MNEMONIC_LEA:
		return general(operands[1].mem.base) != RSP || general(operands[1].mem.index) >= 0;
	default:
		break;
	}
	/* arithmetic with a constant only moves it */
	for (unsigned i = 0; i < insn->operand_count_visible; i++)
		if (operands[i].type == ZYDIS_OPERAND_TYPE_IMMEDIATE && insn->mnemonic != ZYDIS_MNEMONIC_MOV)
			return false;
	return insn->mnemonic != ZYDIS_MNEMONIC_INC && insn->mnemonic != ZYDIS_MNEMONIC_DEC;
}

/* Which registers hold values from memory after an instruction that writes `written`; `from`: what its address is made
 * of. */
static void keep_loads(struct gadget_effect *e, const ZydisDecodedInstruction *insn, uint16_t written, uint16_t from,
		       uint16_t source)
{
	const uint16_t loaded = e->loaded, stacked = e->stacked, fetched = e->fetched;
	const bool moves = insn->mnemonic == ZYDIS_MNEMONIC_MOV, swaps = insn->mnemonic == ZYDIS_MNEMONIC_XCHG;

	if (swaps && !from)
		source = written;
	e->loaded &= (uint16_t)~written;
	e->stacked &= (uint16_t)~written;
	e->fetched &= (uint16_t)~written;
	if (from && is_load(insn->mnemonic)) {
		e->loaded |= written;
		if (from == bit(RSP)) {
			e->stacked |= written;
		} else {
			e->fetched |= written;
			e->pointers |= (uint16_t)(from & ~(stacked | bit(RSP)));
		}
	} else if (!from && (moves || swaps)) {
		e->loaded |= source & loaded ? written : 0;
		e->stacked |= source & stacked ? written : 0;
		e->fetched |= source & fetched ? written : 0;
	}
}

static void follow(struct gadget_effect *e, const ZydisDecodedInstruction *insn, const ZydisDecodedOperand *operands)
{
	uint16_t written = 0, pointers = 0, source = 0;
	bool reads = false;

	for (unsigned i = 0; i < insn->operand_count; i++) {
		const ZydisDecodedOperand *o = &operands[i];
		bool writes = o->actions & ZYDIS_OPERAND_ACTION_MASK_WRITE;

		if (o->type == ZYDIS_OPERAND_TYPE_REGISTER) {
			if (writes)
				written |= bit(general(o->reg.value));
			else if (i < insn->operand_count_visible)
				source |= bit(general(o->reg.value));
		} else if (o->type == ZYDIS_OPERAND_TYPE_MEMORY && o->mem.type != ZYDIS_MEMOP_TYPE_AGEN) {
			pointers = address_registers(o);
			if (writes && pointers & ~bit(RSP))
				e->classes |= CLASS(STORE);
			reads |= o->actions & ZYDIS_OPERAND_ACTION_MASK_READ && pointers;
			if (o->actions & ZYDIS_OPERAND_ACTION_MASK_READ && pointers & ~bit(RSP))
				e->classes |= CLASS(READ);
		}
	}
	if (written & bit(RSP) && is_pivot(insn, operands))
		e->classes |= CLASS(PIVOT);
	if (writes_control(insn, operands))
		e->classes |= CLASS(CONTROL);
	written &= (uint16_t)~bit(RSP);
	keep_loads(e, insn, written, reads ? pointers : 0, source);
}

static void finish(struct gadget_effect *e, const ZydisDecodedInstruction *insn, const ZydisDecodedOperand *operands)
{
	static const struct {
		uint8_t reg, class;
	} argument[] = {{7, STRENGTH_LOAD_RDI}, {6, STRENGTH_LOAD_RSI}, {2, STRENGTH_LOAD_RDX},
			{1, STRENGTH_LOAD_RCX}, {8, STRENGTH_LOAD_R8},  {9, STRENGTH_LOAD_R9}};

	for (unsigned i = 0; i < sizeof argument / sizeof *argument; i++)
		if (e->loaded & bit(argument[i].reg))
			e->classes |= UINT32_C(1) << argument[i].class;
	switch (insn->mnemonic) {
	case ZYDIS_MNEMONIC_IRET:
	case ZYDIS_MNEMONIC_IRETD:
	case ZYDIS_MNEMONIC_IRETQ:
	case ZYDIS_MNEMONIC_SYSRET:
	case ZYDIS_MNEMONIC_SYSEXIT:
		/* to the kernel as well, if what lies on the stack says so */
		e->classes |= CLASS(USER);
		e->returns = insn->mnemonic != ZYDIS_MNEMONIC_SYSRET && insn->mnemonic != ZYDIS_MNEMONIC_SYSEXIT;
		return;
	case ZYDIS_MNEMONIC_JMP:
	case ZYDIS_MNEMONIC_CALL:
		break;
	default:
		e->returns = true;
		return;
	}
	e->through = operands[0].type == ZYDIS_OPERAND_TYPE_REGISTER ? bit(general(operands[0].reg.value))
								     : address_registers(&operands[0]);
	e->through_memory = operands[0].type == ZYDIS_OPERAND_TYPE_MEMORY;
	if (!e->through)
		return;
	e->classes |= CLASS(CALL);
	/* memory on the stack needs no register to be loaded */
	if (!(e->through & ~(e->loaded | bit(RSP))))
		e->classes |= CLASS(CALL_LOADED);
}

void gadget_effect(struct gadget_effect *effect, const struct gadget_text *text, uint32_t at)
{
	ZydisDecodedOperand operands[ZYDIS_MAX_OPERAND_COUNT];
	ZydisDecodedInstruction insn;

	memset(effect, 0, sizeof *effect);
	for (unsigned left = text->steps[at]; left; left--) {
		if (!ZYAN_SUCCESS(
			ZydisDecoderDecodeFull(&text->decoder, text->code + at, text->bytes - at, &insn, operands)))
			return;
		if (left == 1)
			finish(effect, &insn, operands);
		else
			follow(effect, &insn, operands);
		at += insn.length;
	}
}
