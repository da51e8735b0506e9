/* SPDX-License-Identifier: Apache-2.0 */
/* Finds where gadgets start: decodes .text at every byte, and counts the instructions from each to a return or jump. */
#include <elf.h>
#include <stdlib.h>
#include <string.h>

#include "common/bytes.h"
#include "common/fail.h"
#include "prepare/strength/internal.h"

enum step { STEP_NONE, STEP_ON, STEP_LAST };

/* A branch whose target is not in the instruction, or a return. */
static enum step kind_of(const ZydisDecodedInstruction *insn)
{
	switch (insn->meta.category) {
	case ZYDIS_CATEGORY_RET:
	case ZYDIS_CATEGORY_SYSRET:
		return STEP_LAST;
	case ZYDIS_CATEGORY_CALL:
	case ZYDIS_CATEGORY_UNCOND_BR:
		return insn->raw.imm[0].is_relative || insn->meta.branch_type == ZYDIS_BRANCH_TYPE_FAR ? STEP_NONE
												       : STEP_LAST;
	case ZYDIS_CATEGORY_COND_BR:
	case ZYDIS_CATEGORY_INTERRUPT:
	case ZYDIS_CATEGORY_SYSCALL:
		return STEP_NONE;
	default:
		break;
	}
	switch (insn->mnemonic) {
	case ZYDIS_MNEMONIC_HLT:
	case ZYDIS_MNEMONIC_UD0:
	case ZYDIS_MNEMONIC_UD1:
	case ZYDIS_MNEMONIC_UD2:
		return STEP_NONE;
	default:
		return STEP_ON;
	}
}

/* From the end to the start: a gadget is an instruction before a gadget. */
static void count_steps(struct gadget_text *text)
{
	ZydisDecodedInstruction insn;

	for (uint32_t at = text->bytes; at-- > 0;) {
		uint32_t left = text->bytes - at, next;
		enum step step;

		if (text->code[at] == 0xcc ||
		    !ZYAN_SUCCESS(ZydisDecoderDecodeInstruction(&text->decoder, NULL, text->code + at, left, &insn)))
			continue;
		text->length[at] = insn.length;
		step = kind_of(&insn);
		next = at + insn.length;
		if (step == STEP_LAST)
			text->steps[at] = 1;
		else if (step == STEP_ON && next < text->bytes && text->steps[next] &&
			 text->steps[next] < STRENGTH_INSTRUCTIONS)
			text->steps[at] = (uint8_t)(text->steps[next] + 1);
	}
}

static const struct image_section *find_section(const struct riffle_image *image, const char *name)
{
	for (unsigned i = 0; i < image->section_count; i++)
		if (image->section[i].name && !strcmp(image->section[i].name, name))
			return &image->section[i];
	return NULL;
}

/* The image's bytes at a link address; NULL where they are not all in one segment's file bytes. */
static const uint8_t *bytes_at(const struct riffle_image *image, uint64_t address, uint64_t bytes)
{
	for (unsigned i = 0; i < image->segment_count; i++) {
		const struct image_segment *s = &image->segment[i];
		uint64_t virt = s->phys - image->link_phys + image->link_virt;

		if (address >= virt && riffle_inside(address - virt, bytes, s->file_bytes))
			return s->bytes + (address - virt);
	}
	return NULL;
}

/* The register that a retpoline jumps to, by its code: it stores the register over its return address, or jumps. */
static int thunk_register(const struct gadget_text *text, uint32_t at)
{
	for (unsigned i = 0; i < 32 && at + i + 4 <= text->bytes; i++) {
		const uint8_t *p = text->code + at + i;

		if ((p[0] & 0xfb) == 0x48 && p[1] == 0x89 && (p[2] & 0xc7) == 0x04 && p[3] == 0x24)
			return (p[2] >> 3 & 7) | (p[0] & 4) << 1;
		if (p[0] == 0xff && (p[1] & 0xf8) == 0xe0)
			return (p[1] & 7) | (i && p[-1] == 0x41 ? 8 : 0);
	}
	return -1;
}

/* call or jmp to a retpoline becomes the indirect one that it stands for (patch_retpoline() in alternative.c). */
static void patch_retpoline(struct gadget_text *text, uint32_t at)
{
	uint8_t *p = text->code + at;
	unsigned prefix = *p == 0x2e;
	int64_t target;
	uint8_t insn[3];
	int reg;

	if (at + prefix + 5 > text->bytes || (p[prefix] != 0xe8 && p[prefix] != 0xe9))
		return;
	target = (int64_t)at + prefix + 5 + (int32_t)riffle_get32(p + prefix + 1);
	reg = target >= 0 && target < text->bytes ? thunk_register(text, (uint32_t)target) : -1;
	if (reg < 0)
		return;
	insn[0] = 0x41;
	insn[1] = 0xff;
	insn[2] = (uint8_t)((p[prefix] == 0xe8 ? 0xd0 : 0xe0) | (reg & 7));
	memset(p, p[prefix] == 0xe8 ? 0x90 : 0xcc, prefix + 5);
	if (reg & 8)
		memcpy(p, insn, 3);
	else
		memcpy(p, insn + 1, 2);
}

/* A jump to the return thunk becomes a return and int3. */
static void patch_return(struct gadget_text *text, uint32_t at)
{
	if (at + 5 > text->bytes || text->code[at] != 0xe9)
		return;
	memset(text->code + at, 0xcc, 5);
	text->code[at] = 0xc3;
}

static void patch_sites(struct gadget_text *text, const struct riffle_image *image, const char *name,
			void patch(struct gadget_text *text, uint32_t at))
{
	const struct image_section *section = find_section(image, name);
	const uint8_t *entry = section ? bytes_at(image, section->address, section->bytes) : NULL;

	for (uint64_t i = 0; entry && i + 4 <= section->bytes; i += 4) {
		uint64_t site = section->address + i + (uint64_t)(int32_t)riffle_get32(entry + i);
		uint64_t at = site - image->link_virt - text->offset;

		if (at < text->bytes)
			patch(text, (uint32_t)at);
	}
}

int gadgets_find(struct gadget_text *text, const struct riffle_image *image, struct riffle_error *error)
{
	const struct image_section *section = find_section(image, ".text");
	const uint8_t *code;

	memset(text, 0, sizeof *text);
	if (!section || section->type != SHT_PROGBITS)
		return riffle_fail(error, RIFFLE_ERR_UNSUPPORTED, "section headers", "name no .text");
	code = bytes_at(image, section->address, section->bytes);
	if (!section->bytes || section->bytes > RIFFLE_IMAGE_MAX || !code)
		return riffle_fail_found(error, RIFFLE_ERR_FORMAT, ".text", "lies outside the segments",
					 section->address);
	text->bytes = (uint32_t)section->bytes;
	text->offset = (uint32_t)(section->address - image->link_virt);
	text->code = malloc(text->bytes);
	text->length = calloc(text->bytes, 1);
	text->steps = calloc(text->bytes, 1);
	if (!text->code || !text->length || !text->steps)
		return riffle_fail(error, RIFFLE_ERR_MEMORY, "gadgets", "out of memory");
	if (!ZYAN_SUCCESS(ZydisDecoderInit(&text->decoder, ZYDIS_MACHINE_MODE_LONG_64, ZYDIS_STACK_WIDTH_64)))
		return riffle_fail(error, RIFFLE_ERR_UNSUPPORTED, "disassembler", "does not start");
	memcpy(text->code, code, text->bytes);
	/* retpolines first: their code is recognised before its own return is patched */
	patch_sites(text, image, ".retpoline_sites", patch_retpoline);
	patch_sites(text, image, ".return_sites", patch_return);
	count_steps(text);
	return 0;
}

void gadgets_free(struct gadget_text *text)
{
	free(text->code);
	free(text->length);
	free(text->steps);
}
