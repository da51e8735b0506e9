/* SPDX-License-Identifier: Apache-2.0 */
/* The chunks by themselves: what no comparison of loaded bytes would notice, because every order is wrong alike. */
#include "common/search.h"
#include "prepare/verify/internal.h"

/* The last instruction before `offset` that is not padding; false when there is none within 4 KiB. */
static bool last_before(const struct verify *v, uint32_t offset, uint32_t floor, uint32_t *at)
{
	for (uint32_t i = offset; i > floor && offset - i < 4096;)
		if (bit_get(v->start, --i) && !bit_get(v->padding, i)) {
			*at = i;
			return true;
		}
	return false;
}

/*
 * Nothing but zero and int3 lies between an instruction that control does not run past and `offset`: how lld fills the
 * holes between input sections.
 */
static bool is_behind_hole(const struct verify *v, uint32_t offset, uint32_t floor)
{
	for (uint32_t i = offset, next; i > floor && offset - i < 4096;) {
		if (!bit_get(v->start, --i))
			continue;
		if (bit_get(v->stop, i))
			return true;
		for (next = i; next < offset && verify_is_hole(v->bytes[next]); next++)
			;
		if (next < offset)
			return false;
	}
	return false;
}

static const char *judge_edge(const struct verify *v, const struct code *code, uint32_t edge)
{
	uint32_t at;

	if (edge == code->offset || edge == code->offset + code->bytes)
		return NULL;
	if (!bit_get(v->start, edge))
		return "is inside an instruction";
	if (last_before(v, edge, code->offset, &at) && !bit_get(v->stop, at) && !is_behind_hole(v, edge, code->offset))
		return "is run across";
	return NULL;
}

static const struct code *code_of(const struct verify *v, uint32_t offset)
{
	for (unsigned i = 0; i < v->code_count; i++)
		if (offset - v->code[i].offset < v->code[i].bytes)
			return &v->code[i];
	return NULL;
}

static const char *judge(const struct verify *v, const struct riffle_plan *plan, uint32_t i)
{
	const struct riffle_chunk *c = &plan->chunks[i];
	const struct code *code = code_of(v, c->image_offset);
	const char *problem;

	if (!code || riffle_chunk_bytes(c) > code->bytes - (c->image_offset - code->offset))
		return "is not in code";
	if (!c->units || c->image_offset % RIFFLE_CHUNK_ALIGN)
		return "is not made of whole units";
	if (i && plan->chunks[i - 1].image_offset + riffle_chunk_bytes(&plan->chunks[i - 1]) > c->image_offset)
		return "overlaps the one before";
	problem = judge_edge(v, code, c->image_offset);
	return problem ? problem : judge_edge(v, code, c->image_offset + riffle_chunk_bytes(c));
}

/* The chunk that an offset is in, or chunk_count. */
static uint32_t chunk_at(const struct riffle_plan *plan, uint32_t offset)
{
	const struct riffle_chunk *c = plan->chunks;
	uint32_t i;

	RIFFLE_FIRST_WHERE(i, plan->chunk_count, c[i].image_offset + riffle_chunk_bytes(&c[i]) > offset);
	return i < plan->chunk_count && offset >= c[i].image_offset ? i : plan->chunk_count;
}

static uint32_t led_to(const struct verify *v, uint32_t field)
{
	return field + riffle_get32(v->bytes + field);
}

static bool has_part(const struct verify *v, const char *name)
{
	for (unsigned i = 0; i < v->part_count; i++)
		if (!strcmp(v->part[i].name, name))
			return true;
	return false;
}

/*
 * What the kernel writes at run time must find its places together: a jump label of two bytes reaches its target by 8
 * bits (asm/jump_label.h, from 5.14 on), an alternative is written over instrlen bytes in one piece, and with kCFI the
 * 16 bytes before a function that is sealed are written to (poison_cfi() in arch/x86/kernel/alternative.c).
 */
static bool is_apart(const struct verify *v, const struct riffle_plan *plan, const struct part *part, uint32_t entry)
{
	uint32_t site = led_to(v, entry), other;

	if (site >= v->image_bytes - 16)
		return true;
	if (!strcmp(part->name, ".ibt_endbr_seal"))
		other = site - 16;
	else if (!strcmp(part->name, ".altinstructions"))
		other = site + v->bytes[entry + (part->stride == 14 ? 12 : 10)] - 1;
	else if (v->bytes[site] != 0xeb && memcmp(v->bytes + site, "\x66\x90", 2))
		return false;
	else
		other = led_to(v, entry + 4);
	return chunk_at(plan, site) != chunk_at(plan, other);
}

static uint64_t judge_sites(const struct verify *v, const struct riffle_plan *plan, unsigned limit, FILE *report)
{
	uint64_t wrong = 0;

	for (unsigned i = 0; i < v->part_count; i++) {
		const struct part *part = &v->part[i];

		if (strcmp(part->name, ".altinstructions") && strcmp(part->name, "__jump_table") &&
		    (strcmp(part->name, ".ibt_endbr_seal") || !has_part(v, ".cfi_sites")))
			continue;
		for (uint32_t at = part->offset; at < part->offset + part->bytes; at += part->stride)
			if (is_apart(v, plan, part, at) && ++wrong <= limit)
				fprintf(report, "%s: the site at 0x%llx reaches from one chunk into another\n",
					part->name, (unsigned long long)(v->link_virt + led_to(v, at)));
	}
	return wrong;
}

uint64_t verify_chunks(const struct verify *v, const struct riffle_plan *plan, unsigned limit, FILE *report)
{
	uint64_t wrong = 0;

	for (uint32_t i = 0; i < plan->chunk_count; i++) {
		const char *problem = judge(v, plan, i);
		const struct symbol *symbol;

		if (!problem || ++wrong > limit)
			continue;
		symbol = verify_symbol_at(v, plan->chunks[i].image_offset);
		fprintf(report, "chunk %u at 0x%llx, %u bytes (%s): its edge %s\n", i,
			(unsigned long long)(v->link_virt + plan->chunks[i].image_offset),
			riffle_chunk_bytes(&plan->chunks[i]), symbol ? symbol->name : "?", problem);
	}
	return wrong + judge_sites(v, plan, limit, report);
}
