/* SPDX-License-Identifier: Apache-2.0 */
/* Holds what was found by disassembly and tables against the relocations that the linker kept in a debug vmlinux. */
#include <elf.h>

#include "prepare/shuffle/debug.h"
#include "prepare/shuffle/tables.h"

/* newer than Debian 12's elf.h knows in part */
#define REL_GOTPCREL 9u
#define REL_GOTPCRELX 41u
#define REL_REX_GOTPCRELX 42u

static bool has_rela(const struct work *work)
{
	return work->debug && work->debug->has_rela;
}

/* What a relocation says of its field. */
struct claim {
	enum shuffle_field kind;
	uint32_t target; /* what the field follows; UINT32_MAX: nothing */
	bool wide;       /* a distance of 64 bits */
};

static int refuse(const struct work *work, const char *problem, uint32_t field, struct riffle_error *error)
{
	return riffle_fail_found(error, RIFFLE_ERR_UNSUPPORTED, ".rela", problem, work->link_virt + field);
}

/* A distance's end is its field's end in code (nothing of interest has an immediate behind it), the field in data. */
static uint64_t target_of_section(const struct work *work, const struct debug_rela *r, uint64_t symbol, bool distance)
{
	uint64_t sum = symbol + (uint64_t)r->addend;

	return distance && table_in_code(work, r->field, false) ? sum + 4 : sum;
}

/*
 * The place that decides which chunk a field follows: the symbol, since compilers fold sums that reach far beyond it
 * (PFN_ALIGN(_text) is _text + 4095); with a section's symbol there is only the sum.
 */
static uint32_t target_of(const struct work *work, const struct debug_rela *r, const struct debug_symbol *symbol,
			  bool distance)
{
	uint64_t address = symbol->address;
	uint32_t offset;

	if (symbol->type == STT_SECTION)
		address = target_of_section(work, r, address, distance);
	/* symbol - __START_KERNEL_map */
	if (!distance && symbol->section != SHN_ABS && address - work->image->link_phys < work->image_bytes)
		return (uint32_t)(address - work->image->link_phys);
	return work_offset(work, address, &offset) ? offset : UINT32_MAX;
}

/* _end is an address of the kernel too, though nothing of the image is there. */
static bool is_end(const struct work *work, const struct debug_symbol *symbol)
{
	return symbol->section != SHN_ABS && symbol->address == work->link_virt + work->image_bytes;
}

static bool is_percpu(const struct work *work, const struct debug_symbol *symbol)
{
	return work->debug->percpu_section && symbol->section == work->debug->percpu_section &&
	       symbol->address < work->link_virt;
}

/* The field holds what the linker put there by this relocation; the build sorts some tables afterwards. */
static bool is_current(const struct work *work, const struct debug_rela *r, const struct debug_symbol *symbol,
		       const struct claim *claim, uint64_t place)
{
	const uint8_t *field = work->bytes + r->field;
	uint64_t sum = symbol->address + (uint64_t)r->addend;

	switch (claim->kind) {
	case SHUFFLE_ABS64:
		return riffle_get64(field) == sum;
	case SHUFFLE_ABS32:
		return riffle_get32(field) == (uint32_t)sum;
	default:
		return claim->wide ? riffle_get64(field) == sum - place
				   : riffle_get32(field) == (uint32_t)(sum - place);
	}
}

/* Reads one entry; false when it is about nothing that a shuffle could change. */
static int read_claim(bool *matters, struct claim *claim, const struct work *work, const struct debug_rela *r,
		      struct riffle_error *error)
{
	const struct debug_symbol *symbol = &work->debug->symbol[r->symbol];
	bool percpu = is_percpu(work, symbol);

	*matters = false;
	*claim = (struct claim){.target = UINT32_MAX};
	if (symbol->section == SHN_UNDEF)
		return 0;
	switch (r->type) {
	case R_X86_64_64:
	case R_X86_64_32:
	case R_X86_64_32S:
		claim->kind = r->type == R_X86_64_64 ? SHUFFLE_ABS64 : SHUFFLE_ABS32;
		claim->target = target_of(work, r, symbol, false);
		/* an offset into percpu, a number: the same wherever things are */
		*matters = !percpu && (claim->target != UINT32_MAX || is_end(work, symbol));
		return 0;
	case R_X86_64_PC64:
		claim->wide = true;
		break;
	case R_X86_64_PC32:
	case R_X86_64_PLT32:
		break;
	case REL_GOTPCREL:
	case REL_GOTPCRELX:
	case REL_REX_GOTPCRELX:
		/* made a relative operand or an immediate by the linker: which of them is for the disassembler to say
		 */
		return 0;
	default:
		return refuse(work, "has a relocation type that no kernel uses", r->field, error);
	}
	claim->kind = percpu ? SHUFFLE_INVERSE32 : SHUFFLE_PC32;
	if (!percpu)
		claim->target = target_of(work, r, symbol, true);
	*matters = true;
	return 0;
}

static bool in_table(const struct work *work, uint32_t field)
{
	for (unsigned i = 0; i < work->result->table_count; i++) {
		const struct shuffle_table *t = &work->result->table[i];
		uint32_t entry = t->kind == SHUFFLE_TABLE_EXTABLE ? 12 : t->kind == SHUFFLE_TABLE_ORC ? 4 : 8;

		if (field >= t->offset && (field - t->offset) / entry < t->entries)
			return true;
	}
	return false;
}

int judge_add_refs(struct work *work, struct riffle_error *error)
{
	const struct shuffle_debug *debug = work->debug;
	int status = 0;

	for (uint32_t i = 0; has_rela(work) && i < debug->rela_count && !status; i++) {
		const struct debug_rela *r = &debug->rela[i];
		uint64_t place = work->link_virt + r->field;
		struct claim claim;
		bool matters;

		if (in_table(work, r->field)) /* sorted after they were linked: their entries say nothing any more */
			continue;
		status = read_claim(&matters, &claim, work, r, error);
		if (status || !matters)
			continue;
		if (!work_in_text(work, r->field) && (claim.target == UINT32_MAX || !work_in_text(work, claim.target)))
			continue;
		if (!is_current(work, r, &debug->symbol[r->symbol], &claim, place))
			return refuse(work, "does not give the bytes that are there", r->field, error);
		if (claim.wide)
			return refuse(work, "has a distance of 64 bits from or to code", r->field, error);
		status = work_add_ref(work, r->field, claim.target, claim.kind, SHUFFLE_BY_RELA, error);
	}
	return status;
}

/* Both in one section of code: then the assembler may have known the distance, and left nothing for the linker. */
static bool in_one_section(const struct work *work, uint32_t a, uint32_t b)
{
	for (unsigned i = 0; i < work->code_count; i++) {
		const struct work_code *code = &work->code[i];

		if (a - code->offset < code->bytes)
			return b - code->offset < code->bytes;
	}
	return false;
}

int judge_by_rela(struct work *work, struct riffle_error *error)
{
	struct shuffle *result = work->result;

	for (uint32_t i = 0; has_rela(work) && i < result->ref_count; i++) {
		const struct shuffle_ref *ref = &result->ref[i];

		if (ref->found_by & SHUFFLE_BY_RELA) {
			result->census.rela_checked++;
			result->census.rela_agree += ref->found_by != SHUFFLE_BY_RELA;
		} else if (ref->found_by != SHUFFLE_BY_CODE || !in_one_section(work, ref->field, ref->target)) {
			return refuse(work, "knows nothing of a reference that was found", ref->field, error);
		}
	}
	return 0;
}
