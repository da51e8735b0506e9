/* SPDX-License-Identifier: Apache-2.0 */
/* The kernel's tables about code, by their formats in Linux 5.10 to 7.3: fixed ones as references, sorted ones as such.
 */
#include <elf.h>

#include "prepare/verify/internal.h"

#define WORDS 3u

/* Entries of `stride` bytes with 32-bit distances at `at`; those in `code` lead to code without exception. */
static const struct format {
	const char *section, *start, *stop;
	uint8_t stride[3];
	uint8_t words, at[WORDS];
	uint8_t code; /* how many of the words, from the first, must lead to code or right behind it */
} formats[] = {
    /* struct alt_instr: instr, repl; then cpuid and lengths, 12 bytes up to 6.2, 13 up to 5.12, 14 with flags */
    {".altinstructions", "__alt_instructions", "__alt_instructions_end", {12, 13, 14}, 2, {0, 4}, 2},
    /* struct bug_entry: address, format (7.x), file, line and flags */
    {"__bug_table", "__start___bug_table", "__stop___bug_table", {12, 8, 16}, 1, {0}, 1},
    {".smp_locks", "__smp_locks", "__smp_locks_end", {4}, 1, {0}, 0},
    {".retpoline_sites", "__retpoline_sites", "__retpoline_sites_end", {4}, 1, {0}, 1},
    {".return_sites", "__return_sites", "__return_sites_end", {4}, 1, {0}, 1},
    {".call_sites", "__call_sites", "__call_sites_end", {4}, 1, {0}, 1},
    {".ibt_endbr_seal", "__ibt_endbr_seal", "__ibt_endbr_seal_end", {4}, 1, {0}, 1},
    {".cfi_sites", "__cfi_sites", "__cfi_sites_end", {4}, 1, {0}, 1},
    {"__kcfi_traps", "__start___kcfi_traps", "__stop___kcfi_traps", {4}, 1, {0}, 1},
    /* struct kernel_symbol: value, name, name space */
    {"__ksymtab", "__start___ksymtab", "__stop___ksymtab", {12, 8}, 2, {0, 4}, 0},
    {"__ksymtab_gpl", "__start___ksymtab_gpl", "__stop___ksymtab_gpl", {12, 8}, 2, {0, 4}, 0},
    /* struct jump_entry: code, target, then 64 bits of distance to the key, which is data */
    {"__jump_table", "__start___jump_table", "__stop___jump_table", {16}, 2, {0, 4}, 2},
    /* struct static_call_site: address, key with two flags */
    {".static_call_sites", "__start_static_call_sites", "__stop_static_call_sites", {8}, 1, {0}, 1},
    {".static_call_tramp_key", "__start_static_call_tramp_key", "__stop_static_call_tramp_key", {8}, 1, {0}, 1},
    /* struct pci_fixup: vendor, device, class, shift, hook */
    {".pci_fixup", "__start_pci_fixups_early", "__end_pci_fixups_suspend_late", {16}, 1, {12}, 1},
    {"initcalls", "__initcall_start", "__initcall_end", {4}, 1, {0}, 1},
    {"console-initcalls", "__con_initcall_start", "__con_initcall_end", {4}, 1, {0}, 1},
};

/* A section's place, or what two symbols enclose; of no bytes when there is neither. */
static int find(const struct verify *v, const char *section, const char *start, const char *stop, uint32_t *offset,
		uint32_t *bytes, struct riffle_error *error)
{
	uint32_t end;

	*offset = *bytes = 0;
	for (unsigned i = 0; i < v->image->section_count; i++) {
		const struct image_section *s = &v->image->section[i];

		if (strcmp(s->name, section) || !s->address)
			continue;
		if (!verify_offset(v, s->address, offset) || !riffle_inside(*offset, s->bytes, v->image_bytes))
			return riffle_fail_found(error, RIFFLE_ERR_FORMAT, section, "lies outside the image",
						 s->address);
		*bytes = (uint32_t)s->bytes;
		return 0;
	}
	if (start && verify_symbol(v, start, offset) && verify_symbol(v, stop, &end)) {
		if (end < *offset)
			return riffle_fail_found(error, RIFFLE_ERR_FORMAT, start, "ends before it starts",
						 v->link_virt + *offset);
		*bytes = end - *offset;
	}
	return 0;
}

/* What a distance at `field` leads to, as a target. */
static uint32_t target_of(const struct verify *v, uint32_t field)
{
	uint64_t address = v->link_virt + field + (uint64_t)(int64_t)(int32_t)riffle_get32(v->bytes + field);
	uint32_t target;

	if (verify_offset(v, address, &target))
		return target;
	return verify_is_inverse(v, field) ? TARGET_STAYS : TARGET_IMAGE;
}

/*
 * In code, or the first byte behind some: a replacement may be empty. Sections of data in which there is code, which
 * kexec copies before it runs, count as a whole.
 */
static bool leads_to_code(const struct verify *v, uint32_t field)
{
	uint32_t target = target_of(v, field);

	for (unsigned i = 0; i < v->image->section_count && target < TARGET_IMAGE; i++) {
		const struct image_section *s = &v->image->section[i];

		if (s->flags & SHF_EXECINSTR && v->link_virt + target - s->address <= s->bytes)
			return true;
	}
	return false;
}

static bool decodes(const struct verify *v, const struct format *f, uint32_t offset, uint32_t bytes, uint32_t stride)
{
	if (bytes % stride)
		return false;
	for (uint32_t at = offset; at < offset + bytes; at += stride)
		for (unsigned i = 0; i < f->code; i++)
			if (!leads_to_code(v, at + f->at[i]))
				return false;
	return true;
}

static int add_words(struct verify *v, const char *name, const struct format *f, uint32_t offset, uint32_t bytes,
		     uint32_t stride, struct riffle_error *error)
{
	uint8_t part;
	int status = verify_new_part(v, name, offset, bytes, &part, error);

	if (!status)
		v->part[part].stride = stride;
	for (uint32_t at = offset; at < offset + bytes && !status; at += stride)
		for (unsigned i = 0; i < f->words && !status; i++) {
			struct ref ref = {.field = at + f->at[i], .kind = REF_PC32, .part = part, .rank = RANK_TABLE};

			ref.target = target_of(v, ref.field);
			status = verify_add_ref(v, &ref, error);
		}
	return status;
}

static int read_fixed(struct verify *v, const struct format *f, struct riffle_error *error)
{
	uint32_t offset, bytes;
	int status = find(v, f->section, f->start, f->stop, &offset, &bytes, error);

	if (status || !bytes)
		return status;
	for (unsigned i = 0; i < 3 && f->stride[i]; i++)
		if (decodes(v, f, offset, bytes, f->stride[i]))
			return add_words(v, f->section, f, offset, bytes, f->stride[i], error);
	return riffle_fail_found(error, RIFFLE_ERR_UNSUPPORTED, f->section, "has none of the known formats",
				 v->link_virt + offset);
}

/* runtime_shift_…, runtime_ptr_…: distances to operands of instructions (6.12 and later) */
static int read_runtime(struct verify *v, struct riffle_error *error)
{
	static const struct format words = {.words = 1};
	int status = 0;

	for (unsigned i = 0; i < v->image->section_count && !status; i++) {
		const struct image_section *s = &v->image->section[i];
		uint32_t offset;

		if (strncmp(s->name, "runtime_", 8) || !s->bytes || s->bytes % 4)
			continue;
		if (!verify_offset(v, s->address, &offset) || !riffle_inside(offset, s->bytes, v->image_bytes))
			return riffle_fail_found(error, RIFFLE_ERR_FORMAT, s->name, "lies outside the image",
						 s->address);
		status = add_words(v, s->name, &words, offset, (uint32_t)s->bytes, 4, error);
	}
	return status;
}

static int read_sorted(struct verify *v, struct sorted *sorted, const char *section, const char *start,
		       const char *stop, uint32_t stride, const char *name, struct riffle_error *error)
{
	uint32_t offset, bytes;
	int status = find(v, section, start, stop, &offset, &bytes, error);

	if (status || !bytes)
		return status;
	if (bytes % stride)
		return riffle_fail_found(error, RIFFLE_ERR_FORMAT, section, "is not made of whole entries", bytes);
	sorted->offset = offset;
	sorted->entries = bytes / stride;
	status = verify_new_part(v, name, offset, bytes, &sorted->part, error);
	if (!status)
		v->part[sorted->part].fields = sorted->entries;
	return status;
}

/* Kernels up to 5.16 sort it as they start, whatever order it has by then. */
static bool is_sorted_mcount(const struct verify *v, uint32_t offset, uint32_t bytes)
{
	for (uint32_t at = 8; at + 8 <= bytes; at += 8)
		if (riffle_get64(v->bytes + offset + at) < riffle_get64(v->bytes + offset + at - 8))
			return false;
	return true;
}

/* Where the compiler or objtool left entries for replaced code, each replacement is decoded by itself. */
int verify_read_tables(struct verify *v, struct riffle_error *error)
{
	uint32_t bytes, offset;
	uint8_t part;
	int status = 0;

	for (unsigned i = 0; i < sizeof formats / sizeof *formats && !status; i++)
		status = read_fixed(v, &formats[i], error);
	if (!status)
		status = read_runtime(v, error);
	if (!status)
		status = read_sorted(v, &v->extable, "__ex_table", "__start___ex_table", "__stop___ex_table", 12,
				     "__ex_table", error);
	/* up to 5.15 all third words are distances to handlers, then none: small numbers that lead to no code */
	v->extable.handlers = v->extable.entries > 0;
	for (uint32_t i = 0; i < v->extable.entries && v->extable.handlers; i++)
		v->extable.handlers = leads_to_code(v, v->extable.offset + 12 * i + 8);
	if (!status)
		status = read_sorted(v, &v->orc, ".orc_unwind_ip", "__start_orc_unwind_ip", "__stop_orc_unwind_ip", 4,
				     ".orc_unwind_ip", error);
	if (!status && v->orc.entries) {
		status =
		    find(v, ".orc_unwind", "__start_orc_unwind", "__stop_orc_unwind", &v->orc.second, &bytes, error);
		if (!status && bytes / 6 != v->orc.entries)
			return riffle_fail_expected(error, RIFFLE_ERR_FORMAT, ".orc_unwind",
						    "is not as long as its ips", bytes / 6, v->orc.entries);
		if (!status)
			status = verify_new_part(v, ".orc_unwind", v->orc.second, bytes, &part, error);
		if (!status)
			v->part[part].fields = v->orc.entries;
	}
	if (!status)
		status = find(v, "__mcount_loc", "__start_mcount_loc", "__stop_mcount_loc", &offset, &bytes, error);
	if (!status && is_sorted_mcount(v, offset, bytes))
		status = read_sorted(v, &v->mcount, "__mcount_loc", "__start_mcount_loc", "__stop_mcount_loc", 8,
				     "__mcount_loc", error);
	return status;
}
